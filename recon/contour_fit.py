"""The surface of a head in a preview, star-shaped about a centre line: a squared radius over (z, angle).

Numbers without another source were set as described in contour.py.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline
from scipy.linalg import solveh_banded
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates, maximum_filter1d
from scipy.sparse import csr_array
from scipy.special import ndtr

from spectac.recon.contour_preview import Preview, largest
from spectac.recon.errors import InputError
from spectac.recon.types import Array, Grid

LOW_THRESHOLD = 0.08
"""Share of a slice's level at the skin, to start with: 0.07-0.3 was seen for scalps of 0.07-0.37 of the brain."""
NOISE_SIGMAS = 3.0
"""Standard deviations of the air by which the threshold lies above its level at least."""
SINGLE_EDGE_NOISE = 0.3
"""Share of the air's noise that the fit of a single edge allows for.

Scatter rises inwards. With all of the noise the fit follows that rise and lies 1 mm deeper; without any it takes noise
for the foot of the edge (virtual heads).
"""
EDGE_SIGMA_MM = 5.4
"""Blur of an edge in a preview.

LEHR at 14 cm (sigma 3.7), voxels of 4 mm twice (1.2 each) and the Gaussian of 6 mm (2.5) make 4.8. The SimSET cylinder
has 5.1. 5.4 suited both best: bias 0.5 mm on heads, 0.2 mm on the cylinder.
"""
MARGIN_MM = (11.5, 2.5)
"""Mean and spread of the distance from brain to skin, a prior: 1-3 mm of fluid, 4-6 of skull, 4-6 of scalp."""
SCALP_MM = 5.0
"""Thickness of the scalp."""
LEAST_SCALP = 0.05
"""Share of the brain's edge that living scalp shows at least; a phantom without any is fitted by a single edge."""
TISSUE_RATIO = 0.5
"""Below this share of the head's level an edge is that of face or neck, which have no margin."""
LEAST_SECTION_MM2 = 500.0
"""Section of a slice that belongs to the head."""
HOT_RATIO = 1.8
"""Multiple of the level within 24 mm of z above which a ray passes a gland or a focus; its neighbours decide there."""

ANGLES = np.deg2rad(np.arange(0.0, 360.0, 10.0))
UNIT = np.stack([np.sin(ANGLES), np.cos(ANGLES)], axis=-1)
_DEPTHS_MM = np.arange(-24.0, 25.0, 2.0)
"""Depths of the profiles across the skin."""
_HARMONICS = 6
"""Harmonics of the surface in the angle."""
_KNOT_MM = 8.0
"""Distance of the surface's knots along z."""
_STIFF_Z = 20.0
"""Cost of a bend of 1 mm per knot along z, in rays that are 1 mm off."""
_STIFF_ANGLE = 0.02
"""Cost of 1 mm of harmonic k (times k^4), in rays that are 1 mm off.

A knot has 72 rays, so that the sixth harmonic is held back by 40 % and the second by 1 %.
"""


@dataclass(frozen=True, eq=False)
class Surface:
    """Surface of a head on all slices of a grid.

    Parameters
    ----------
    squared_mm2
        Squared radius (z, angle) in mm2; at most 0 where there is no head.
    centre
        Centre line (z, 2) in voxels (y, x).

    Examples
    --------
    >>> Surface(np.full((2, 36), 80.0**2), np.zeros((2, 2))).squared_mm2.max()
    np.float64(6400.0)
    """

    squared_mm2: Array
    centre: Array


def surface(preview: Preview, grid: Grid, *, layered: bool) -> Surface:
    """Surface by a low threshold, refined twice by the layers under the edge.

    Parameters
    ----------
    preview
        Measured slices.
    grid
        Grid of the preview.
    layered
        Whether scalp may lie on brain, as in the photopeak.

    Returns
    -------
    Surface
        Surface on all slices of the grid.

    Raises
    ------
    InputError
        Where no head stands out.

    Examples
    --------
    >>> from spectac.recon import Image
    >>> from spectac.recon.contour_preview import measured
    >>> grid = Grid.upright((64, 64, 64), (4.0, 4.0, 4.0), (-126.0, -126.0, -126.0))
    >>> z, y, x = np.ix_(*grid.centres_mm())
    >>> ball = Image((x**2 + y**2 + z**2 < 90.0**2).astype(np.float32), grid, "cps/mL")
    >>> surface(measured(ball), grid, layered=False).squared_mm2.shape
    (64, 36)
    """
    mm = preview.voxel_mm
    # Above the brain a slice's level falls to nothing, the scalp's does not.
    levels = np.maximum(gaussian_filter1d(preview.slices, 1.0, mode="nearest"), 0.3 * preview.head)
    capped = np.minimum(preview.values, 2 * levels[:, None, None])
    # Noise asks for more smoothing, and that for a threshold farther up the flatter edge.
    smooth = gaussian_filter(capped, min(1.0 / preview.trust, 2.0), mode="nearest")
    noise = float(smooth[preview.outside].std()) if preview.outside.any() else 0.0
    threshold = np.maximum(min(LOW_THRESHOLD / preview.trust, 0.3) * levels, NOISE_SIGMAS * noise)
    over = smooth > threshold[:, None, None]
    above = largest(over)
    smooth = np.where(over & ~above, np.float32(0), smooth)
    slices = np.flatnonzero(largest(above.sum(axis=(1, 2)) * mm[1] * mm[2] > LEAST_SECTION_MM2))
    if slices.size == 0:
        raise InputError("no head stands out in the preview: give a map or an outline")
    lowest, whole = _hidden_neck(preview, smooth, above, levels, int(slices[0]))
    above[lowest:whole] = above[whole]
    slices = np.arange(lowest, slices[-1] + 1)

    weight = np.clip(smooth, 0.0, levels[:, None, None])[slices] * above[slices]
    total = gaussian_filter1d(weight.sum(axis=(1, 2)), 5.0, mode="nearest")
    axes = np.indices(weight.shape[1:])
    centre = np.stack(
        [gaussian_filter1d((weight * axis).sum(axis=(1, 2)), 5.0, mode="nearest") / total for axis in axes], axis=-1
    )
    radius_mm, met = _last_above(smooth[slices], threshold[slices], centre, mm)
    hidden = whole - lowest
    radius_mm[:hidden], met[:hidden] = radius_mm[hidden], met[hidden]
    z_mm = np.broadcast_to(np.arange(len(slices))[:, None] * mm[0], radius_mm.shape)
    angles = np.broadcast_to(ANGLES, radius_mm.shape)
    squared = _smooth_surface(z_mm, angles, radius_mm, met.astype(float), len(slices), mm[0])
    for _ in range(2):
        squared = _refined(preview, preview.values[slices], levels[slices], squared, centre, layered=layered)
    return _on_all_slices(squared, centre, preview, slices, grid)


def _hidden_neck(preview: Preview, smooth: Array, above: Array, levels: Array, first: int) -> tuple[int, int]:
    """First slice of a neck that noise hides voxel by voxel, and the first slice above it that is seen whole.

    A slice belongs to the neck while the mean over the whole section's place is above the noise of a voxel and the
    threshold. Both are `first` where the head goes on to the field's end or no noise is known.
    """
    if first == 0 or preview.noise == 0:
        return first, first
    areas = above.sum(axis=(1, 2))
    whole = int(np.argmax(areas > 0.4 * areas.max()))
    mean = gaussian_filter1d(smooth[:, above[whole]].mean(axis=1), 1.0, mode="nearest")
    dark = np.flatnonzero(mean[:whole] <= np.maximum(LOW_THRESHOLD * levels, preview.noise)[:whole])
    lowest = int(dark[-1]) + 1 if dark.size else 0
    return (lowest, whole) if lowest < first else (first, first)


def _last_above(smooth: Array, threshold: Array, centre: Array, mm: Array) -> tuple[Array, Array]:
    """Radius (z, angle) in mm where rays from the centre fall below the threshold for good, and where they do so."""
    steps_mm = np.arange(0.0, 124.0, 2.0)
    z = np.arange(len(smooth), dtype=float)[:, None, None]
    yx = [centre[:, i, None, None] + UNIT[None, :, i, None] * steps_mm / mm[1] for i in (0, 1)]
    rays = map_coordinates(smooth, np.stack(np.broadcast_arrays(z, *yx)), order=1)
    over = rays > threshold[:, None, None]
    last = over.shape[2] - 1 - np.argmax(over[..., ::-1], axis=2)
    met = over.any(axis=2) & (last < over.shape[2] - 1)
    last = np.minimum(last, over.shape[2] - 2)[..., None]
    inner, outer = np.take_along_axis(rays, last, 2)[..., 0], np.take_along_axis(rays, last + 1, 2)[..., 0]
    share = np.clip((inner - threshold[:, None]) / np.maximum(inner - outer, 1e-30), 0.0, 1.0)
    return (last[..., 0] + share) * 2.0, met


def _smooth_surface(z_mm: Array, angles: Array, radius_mm: Array, weights: Array, slices: int, step_mm: float) -> Array:
    """Squared radius (slices, angle) by weighted penalised least squares: B-splines in z times harmonics in the angle.

    Points more than 3 mm off lose weight (Cauchy), so that what remains of a gland does not pull the surface.
    """
    used = weights.ravel() > 0
    z_mm, angles, radius_mm, weights = (a.ravel()[used] for a in (z_mm, angles, radius_mm, weights))
    if z_mm.size < 2 * len(ANGLES):
        raise InputError("too little of a head is visible for an outline: give a map or an outline")
    count = int(np.ceil((slices - 1) * step_mm / _KNOT_MM)) + 5
    knots = (np.arange(count + 4) - 4) * _KNOT_MM
    order = np.r_[0, np.repeat(np.arange(1, _HARMONICS + 1), 2)]

    def design(z: Array, angle: Array) -> csr_array:
        along = BSpline.design_matrix(np.clip(z, knots[3], knots[-4] - 1e-6), knots, 3)
        columns, values = along.indices.reshape(-1, 4), along.data.reshape(-1, 4)
        phase = order * angle[:, None] + np.where(np.arange(order.size) % 2 == 0, 0.0, np.pi / 2)
        data = values[:, :, None] * np.cos(phase)[:, None, :]
        index = columns[:, :, None] * order.size + np.arange(order.size)
        rows = np.arange(len(z) + 1) * 4 * order.size
        return csr_array((data.ravel(), index.ravel(), rows), shape=(len(z), count * order.size))

    matrix = design(z_mm, angles)
    bend = np.diff(np.eye(count), 2, axis=0)
    penalty = np.kron(_STIFF_Z * bend.T @ bend, np.eye(order.size))
    penalty += np.kron(np.eye(count), np.diag(_STIFF_ANGLE * order.astype(float) ** 4))
    # A millimetre of radius R is 2 R of its square; the penalties are in mm at 80 mm.
    penalty = (penalty + 1e-9 * np.eye(len(penalty))) / 160.0**2
    per_mm = 2 * np.maximum(radius_mm, 15.0)
    target, robust = radius_mm**2, np.ones_like(radius_mm)
    for _ in range(4):
        weighted = (matrix * (robust * weights / per_mm**2)[:, None]).T.tocsr()
        normal = (weighted @ matrix).toarray() + penalty
        bands = np.stack([np.pad(np.diagonal(normal, -k), (0, k)) for k in range(4 * order.size)])
        coefficients = solveh_banded(bands, weighted @ target, lower=True)
        robust = 1.0 / (1.0 + ((target - matrix @ coefficients) / per_mm / 3.0) ** 2)
    z_out = np.repeat(np.arange(slices) * step_mm, len(ANGLES))
    return (design(z_out, np.tile(ANGLES, slices)) @ coefficients).reshape(slices, len(ANGLES))


def _refined(preview: Preview, values: Array, levels: Array, squared: Array, centre: Array, *, layered: bool) -> Array:
    """Squared radius (z, angle) after moving every point along its normal to where the layers' fit puts the skin."""
    mm = preview.voxel_mm
    points, normals = _points_and_normals(squared, centre, mm)
    lines = np.moveaxis(points[..., None, :] + _DEPTHS_MM[:, None] * normals[..., None, :], -1, 0)
    profiles = map_coordinates(values, lines / mm[:, None, None, None], order=1, mode="nearest")

    wrap = ("nearest", "wrap")
    inner = gaussian_filter(profiles[..., _DEPTHS_MM <= 0].max(axis=-1), 1.0, mode=wrap)
    hot = inner > HOT_RATIO * maximum_filter1d(levels, int(48.0 / mm[0]) + 1, mode="nearest")[:, None]
    # Near the poles a small step along z is a large one in the radius: the surface is extrapolated there.
    steep = (np.hypot(normals[..., 1], normals[..., 2]) < 0.4) | (squared < 25.0**2)
    weights = (~hot & ~steep).astype(float)
    width = (8.0 / mm[0], 1.5)
    share = gaussian_filter(weights, width, mode=wrap)
    profiles = gaussian_filter(profiles * weights[..., None], (*width, 0.0), mode=(*wrap, "nearest"))
    profiles /= np.maximum(share, 1e-6)[..., None]
    profiles -= profiles[..., -2:].mean(axis=-1, keepdims=True)

    level = gaussian_filter1d(levels, 2.0, mode="nearest")
    offset_mm, variance = _skin_offset(
        profiles,
        level,
        preview.noise if layered else SINGLE_EDGE_NOISE * preview.noise,
        TISSUE_RATIO * preview.head if layered else np.inf,
    )
    moved = points + offset_mm[..., None] * normals
    z = moved[..., 0] / mm[0]
    middle = [np.interp(z, np.arange(len(centre)), centre[:, i]) * mm[1] for i in (0, 1)]
    y, x = moved[..., 1] - middle[0], moved[..., 2] - middle[1]
    weights = weights * (share > 0.05) / (1.0 + variance / 4.0)
    return _smooth_surface(moved[..., 0], np.arctan2(y, x), np.hypot(y, x), weights, len(squared), mm[0])


def _points_and_normals(squared: Array, centre: Array, mm: Array) -> tuple[Array, Array]:
    """Points (z, angle, 3) on the surface in mm (z, y, x) and its outward unit normals."""
    radius = np.sqrt(np.maximum(squared, 1.0))
    slope_z = np.gradient(radius, mm[0], axis=0)
    slope_angle = (np.roll(radius, -1, axis=1) - np.roll(radius, 1, axis=1)) / (2 * (ANGLES[1] - ANGLES[0]))
    drift = np.gradient(centre * mm[1], mm[0], axis=0)
    tangent = np.stack([UNIT[:, 1], -UNIT[:, 0]], axis=-1)
    in_plane = UNIT - (slope_angle / radius)[..., None] * tangent
    axial = -slope_z - np.einsum("zi,zai->za", drift, in_plane)
    normals = np.concatenate([axial[..., None], in_plane], axis=-1)
    z = np.broadcast_to(np.arange(len(radius))[:, None, None] * mm[0], (*radius.shape, 1))
    points = np.concatenate([z, centre[:, None] * mm[1] + radius[..., None] * UNIT], axis=-1)
    return points, normals / np.linalg.norm(normals, axis=-1, keepdims=True)


def _skin_offset(profiles: Array, level: Array, noise: float, brain_level: float) -> tuple[Array, Array]:
    """Mean and variance of the skin's position in mm along the profiles (z, angle, depth), given the data and priors.

    Every candidate (skin, margin) is two blurred layers, b E(skin - margin) + s [E(skin) - E(skin - thickness)] with
    E(x) the edge at x, b and s fitted with s >= LEAST_SCALP b >= 0; margin 0 is a single edge, and the only one where
    the profile stays below `brain_level`. Errors: 8 % of the value, for uptake is not as even as the layers, 1 % of the
    slice's level, and the air's `noise`. What lies deeper than the profile's maximum (white matter under the cortex) is
    no part of the edge and not fitted.
    """
    skin, margin = (
        a.ravel() for a in np.meshgrid(np.arange(-12.0, 13.0), np.r_[0.0, np.arange(7.0, 30.1, 1.5)], indexing="ij")
    )
    # Beyond 14 mm it is muscle or fat that is thicker, not the skull.
    thickness = np.where(margin > 14.0, margin - 8.0, SCALP_MM)

    def edge(at: Array) -> Array:
        return ndtr((at - _DEPTHS_MM[:, None]) / EDGE_SIGMA_MM).astype(np.float32)

    brain, scalp = edge(skin - margin), np.where(margin > 0, edge(skin) - edge(skin - thickness), np.float32(0))
    usual = np.exp(-0.5 * ((margin - MARGIN_MM[0]) / MARGIN_MM[1]) ** 2)
    # One edge 0.3, and 0.1 for any other margin: both are far from rare (phantoms; temples, cheeks, neck).
    prior = np.log(np.where(margin == 0, 0.3, usual + 0.1)).astype(np.float32)

    data = profiles.reshape(-1, len(_DEPTHS_MM)) / np.repeat(level, profiles.shape[1])[:, None]
    data = data.astype(np.float32)
    noise_variance = np.repeat(0.01**2 + (noise / level) ** 2, profiles.shape[1])[:, None].astype(np.float32)
    w = 1.0 / ((0.08 * data) ** 2 + noise_variance)
    w *= np.arange(data.shape[1]) >= np.argmax(data, axis=1)[:, None]
    bb, ss, bs = w @ brain**2, w @ scalp**2, w @ (brain * scalp)
    by, sy = (w * data) @ brain, (w * data) @ scalp
    determinant = np.maximum(bb * ss - bs**2, 1e-6 * bb * ss + np.float32(1e-6))
    b, s = (ss * by - bs * sy) / determinant, (bb * sy - bs * by) / determinant
    free = (margin > 0) & (b > 0) & (s > LEAST_SCALP * b)
    least = np.where(margin > 0, np.float32(LEAST_SCALP), np.float32(0))
    held = np.maximum(by + least * sy, 0) ** 2 / np.maximum(bb + 2 * least * bs + least**2 * ss, 1e-12)
    score = 0.5 * np.where(free, b * by + s * sy, held) + prior
    bright = (data[:, _DEPTHS_MM <= 0].max(axis=1) * np.repeat(level, profiles.shape[1])) >= brain_level
    score = np.where((margin > 0) & ~bright[:, None], -np.inf, score)
    chance = np.exp(score - score.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    mean = chance @ skin
    variance = np.maximum(chance @ skin**2 - mean**2, 0.0)
    return mean.reshape(profiles.shape[:2]), variance.reshape(profiles.shape[:2])


def _on_all_slices(squared: Array, centre: Array, preview: Preview, slices: Array, grid: Grid) -> Surface:
    """Surface on the grid's slices: 0 where the head ended within the field, its last section where the field ended."""
    nz = grid.shape[0]
    everywhere = np.clip(np.arange(nz) - preview.first - slices[0], 0, len(slices) - 1)
    full = squared[everywhere].copy()
    if slices[0] > 0:
        full[: preview.first + slices[0]] = 0.0
    if slices[-1] < len(preview.values) - 1:
        full[preview.first + slices[-1] + 1 :] = 0.0
    return Surface(full, centre[everywhere])
