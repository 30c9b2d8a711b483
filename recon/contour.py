"""The head's skin surface, which bounds the attenuator, in previews that were not corrected for attenuation.

The surface is star-shaped about a centre line and kept as the squared radius over (z, angle): for an ellipsoid that is
a parabola in z and few harmonics in the angle, it passes through 0 where the head closes, and where the head runs out
of the field it simply goes on. A low threshold finds it roughly; then what lies under the blurred edge is fitted along
the surface's normals: brain, skull without uptake, and a layer of scalp. That layer tells where the skin is: without
attenuation correction it shows at about twice its true ratio to the brain, for little lies between it and the detector.

Numbers without another source were set on simulated heads (the generator of tests/recon/test_contour.py with seeds
that it does not use) and on the SimSET cylinder, with the tests' head from an MR in view: neither is a blind check.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline
from scipy.linalg import solveh_banded
from scipy.ndimage import gaussian_filter, gaussian_filter1d, label, map_coordinates, maximum_filter1d
from scipy.sparse import csr_array
from scipy.special import ndtr

from spectac.recon.errors import InputError
from spectac.recon.types import Array, Grid, Image

HEAD_ML = 400.0
"""The head's level is what this volume exceeds: a third of a brain, and twice two striata or glands with their blur."""
SLICE_MM2 = 6000.0
"""The same in one slice: a third of a brain's section, half of a neck's, twice two blurred striata."""
FOCAL_RATIO = 0.03
"""Head level over that of the hottest 5 mL: at least 0.1 for striata of ten times the brain, about 0 for foci alone."""
LOW_THRESHOLD = 0.08
"""Share of a slice's level at the skin, to start with: 0.07-0.3 was seen for scalps of 0.07-0.37 of the brain."""
EDGE_SIGMA_MM = 5.4
"""Blur of an edge in a preview. LEHR at 14 cm (sigma 3.7), voxels of 4 mm twice (1.2 each) and the Gaussian of 6 mm
(2.5) make 4.8; the SimSET cylinder reads 5.1; 5.4 suited both best (bias 0.5 mm on heads, 0.2 on the cylinder)."""
MARGIN_MM = (11.5, 2.5)
"""Brain to skin, mean and spread: 1-3 mm of fluid, 4-6 of skull, 4-6 of scalp. A prior: what is seen overrules it."""
SCALP_MM = 5.0
LEAST_SCALP = 0.05
"""Living scalp shows at least this share of the brain's edge; without any a single edge (a phantom) fits better."""
TISSUE_RATIO = 0.5
"""Below this share of the head's level an edge is that of face or neck, which have no margin."""
HOT_RATIO = 1.8
"""Above this multiple of the level within 24 mm of z a ray passes a gland or a focus and is left to its neighbours."""
STANDARD_HEAD_MM = (76.0, 95.0, 90.0, 20.0)
"""Adult head: half-width, half-length, height of the skin above the striata, centre behind the striata (MNI atlas)."""
AGREE_MM, DISAGREE_MM = 4.0, 8.0
"""Surfaces from two windows are averaged where they lie within a voxel, else the scatter's holds; a mean difference of
8 mm, 12 % per ray, is not noise but another position or another scan."""

_ANGLES = np.deg2rad(np.arange(0.0, 360.0, 10.0))
_UNIT = np.stack([np.sin(_ANGLES), np.cos(_ANGLES)], axis=-1)
_DEPTHS_MM = np.arange(-24.0, 25.0, 2.0)
_HARMONICS = 6
_KNOT_MM = 8.0
_STIFF_Z, _STIFF_ANGLE = 20.0, 0.02
"""Cost of a bend of 1 mm per knot along z, and of 1 mm of harmonic k (times k^4), in rays that are 1 mm off; a knot has
72 rays, so the sixth harmonic is held back by 40 % and the second by 1 %."""


@dataclass(frozen=True, eq=False)
class Outline:
    """The head as `mask` (z, y, x) from 0 to 1 on `grid`, voxels on its edge by the share they cover, and warnings.

    The mask goes on to the ends of the grid where the head runs out of the measured field.
    """

    mask: Array
    grid: Grid
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        mask = np.ascontiguousarray(self.mask, dtype=np.float32).view()
        if mask.shape != self.grid.shape:
            raise InputError(f"an outline's mask needs the shape of its grid {self.grid.shape}, got {mask.shape}")
        if not (mask.min() >= 0.0 and mask.max() <= 1.0):
            raise InputError(f"an outline's mask runs from 0 to 1, got {mask.min():g} to {mask.max():g}")
        mask.flags.writeable = False
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "warnings", tuple(self.warnings))


@dataclass(frozen=True, eq=False)
class _Preview:
    """The slices first <= z < last that were measured, less the air's level; levels as in HEAD_ML and SLICE_MM2."""

    values: Array
    voxel_mm: Array
    first: int
    air: float
    head: float
    peak: float
    slices: Array

    @property
    def focal(self) -> bool:
        return self.head < FOCAL_RATIO * self.peak

    @property
    def faint(self) -> bool:
        return self.head <= self.air


@dataclass(frozen=True, eq=False)
class _Surface:
    """`squared_mm2` (z, angle) about `centre` (z, 2) in voxels (y, x), for all slices of the grid; at most 0: none."""

    squared_mm2: Array
    centre: Array


def head_outline(photopeak: Image, scatter: Image | None = None) -> Outline:
    """Outline of the head's skin on the photopeak preview's grid, from the scatter preview where that shows the head.

    Both images are `Solver.preview`s: the fit knows their blur. Where neither shows more than foci, a standard adult
    head is placed about the foci, with a warning. The result does not depend on the images' scale.

    Assumes: one head, or one convex phantom, within 12 cm of its centre line; scalp of at least 0.05 of the brain. With
    less, and no scatter window, the brain's edge is taken for the skin in part (3-8 mm inside at 0.02), unnoticed.
    Raises InputError where the photopeak holds no activity or nothing stands out from the air, and for unequal grids.
    """
    if scatter is not None and not scatter.grid.same_as(photopeak.grid):
        raise InputError(
            f"the scatter preview's grid {scatter.grid.shape} is not the photopeak's {photopeak.grid.shape}"
        )
    grid = photopeak.grid
    peak = _measured(photopeak)
    if peak is None:
        raise InputError(
            "the photopeak image holds no activity: no head outline can be found; give a map or an outline"
        )
    warnings = []
    found = None
    if not peak.focal:
        if peak.faint:
            raise InputError(
                f"no head stands out in the photopeak: its level {peak.head + peak.air:.3g} is less than twice that of "
                f"the air, {peak.air:.3g}; check the energy window, or give a map or an outline"
            )
        found = _surface(peak, grid, layered=True)
    side = None if scatter is None else _measured(scatter)
    if scatter is not None and (side is None or side.focal or side.faint):
        warnings.append("the scatter window does not show the head: the outline comes from the photopeak alone")
        side = None
    if side is not None:
        other = _surface(side, grid, layered=False)
        if found is None:
            warnings.append("the photopeak shows foci alone: the outline comes from the scatter window alone")
        else:
            other, apart_mm = _fused(found, other, grid)
            if apart_mm > DISAGREE_MM:
                warnings.append(
                    f"the outlines from the photopeak and from the scatter window lie {apart_mm:.0f} mm apart: "
                    "where they differ the latter is used; check it"
                )
        found = other
    if found is None:
        warnings.append(
            "the image shows foci alone and no head: a standard adult head was placed about them; an error of 5 mm in "
            "its outline changes the attenuation by 7.5 % per ray: give a map or an outline"
        )
        found = _standard_head(peak, grid)
    return Outline(_mask(found, grid), grid, tuple(warnings))


def _measured(image: Image) -> _Preview | None:
    """Measured part of a preview and its levels; None where it is empty."""
    if not image.grid.is_upright:
        raise InputError("the head outline needs a preview along the patient's axes")
    totals = image.values.sum(axis=(1, 2), dtype=np.float64)
    hit = np.flatnonzero(totals > 0)
    if hit.size == 0:
        return None
    first, last = int(hit[0]), int(hit[-1]) + 1
    # The field may end within a voxel, whose mean is then too low.
    if last - first > 4:
        first += int(totals[first] < 0.7 * totals[first + 1])
        last -= int(totals[last - 1] < 0.7 * totals[last - 2])
    values = image.values[first:last]
    _, y, x = image.grid.centres_mm()
    far = np.hypot((y - y.mean())[:, None], (x - x.mean())[None, :]) > 115.0
    air = float(np.median(values[:, far])) if far.any() else 0.0
    ordered = np.sort(values, axis=None)[::-1]

    def exceeded(ml: float) -> float:
        return float(ordered[int(min(ml / image.grid.voxel_ml, 0.15 * ordered.size))]) - air

    rank = min(int(SLICE_MM2 / image.grid.voxel_mm[1] ** 2), values[0].size - 1)
    slices = np.sort(values.reshape(len(values), -1), axis=1)[:, -1 - rank] - air
    voxel_mm = np.array(image.grid.voxel_mm)
    return _Preview(np.maximum(values - air, 0.0), voxel_mm, first, air, exceeded(HEAD_ML), exceeded(5.0), slices)


def _surface(preview: _Preview, grid: Grid, *, layered: bool) -> _Surface:
    """Surface by a low threshold, refined twice by the layers under the edge (`layered`: scalp may lie on brain)."""
    mm = preview.voxel_mm
    # Above the brain a slice's level falls to nothing, the scalp's does not.
    levels = np.maximum(gaussian_filter1d(preview.slices, 1.0, mode="nearest"), 0.3 * preview.head)
    smooth = gaussian_filter(np.minimum(preview.values, 2 * levels[:, None, None]), 1.0, mode="nearest")
    threshold = LOW_THRESHOLD * levels
    above = smooth > threshold[:, None, None]
    groups, _ = label(above.sum(axis=(1, 2)) * mm[1] * mm[2] > 500.0)
    runs = np.bincount(groups, minlength=2)
    runs[0] = 0
    if not runs.any():
        raise InputError("no head stands out in the preview: give a map or an outline")
    slices = np.flatnonzero(groups == np.argmax(runs))
    slices = np.arange(slices[0], slices[-1] + 1)

    weight = np.minimum(smooth, levels[:, None, None])[slices] * above[slices]
    total = gaussian_filter1d(weight.sum(axis=(1, 2)), 5.0, mode="nearest")
    axes = np.indices(weight.shape[1:])
    centre = np.stack(
        [gaussian_filter1d((weight * axis).sum(axis=(1, 2)), 5.0, mode="nearest") / total for axis in axes], axis=-1
    )
    radius_mm, met = _last_above(smooth[slices], threshold[slices], centre, mm)
    z_mm = np.broadcast_to(np.arange(len(slices))[:, None] * mm[0], radius_mm.shape)
    angles = np.broadcast_to(_ANGLES, radius_mm.shape)
    squared = _smooth_surface(z_mm, angles, radius_mm, met.astype(float), len(slices), mm[0])
    for _ in range(2):
        squared = _refined(preview, preview.values[slices], levels[slices], squared, centre, layered=layered)
    return _on_all_slices(squared, centre, preview, slices, grid)


def _last_above(smooth: Array, threshold: Array, centre: Array, mm: Array) -> tuple[Array, Array]:
    """Radius (z, angle) in mm where rays from the centre fall below the threshold for good, and where they do so."""
    steps_mm = np.arange(0.0, 124.0, 2.0)
    z = np.arange(len(smooth), dtype=float)[:, None, None]
    yx = [centre[:, i, None, None] + _UNIT[None, :, i, None] * steps_mm / mm[1] for i in (0, 1)]
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
    if z_mm.size < 2 * len(_ANGLES):
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
    z_out = np.repeat(np.arange(slices) * step_mm, len(_ANGLES))
    return (design(z_out, np.tile(_ANGLES, slices)) @ coefficients).reshape(slices, len(_ANGLES))


def _refined(preview: _Preview, values: Array, levels: Array, squared: Array, centre: Array, *, layered: bool) -> Array:
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
    offset_mm, variance = _skin_offset(profiles, level, TISSUE_RATIO * preview.head if layered else np.inf)
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
    slope_angle = (np.roll(radius, -1, axis=1) - np.roll(radius, 1, axis=1)) / (2 * (_ANGLES[1] - _ANGLES[0]))
    drift = np.gradient(centre * mm[1], mm[0], axis=0)
    tangent = np.stack([_UNIT[:, 1], -_UNIT[:, 0]], axis=-1)
    in_plane = _UNIT - (slope_angle / radius)[..., None] * tangent
    axial = -slope_z - np.einsum("zi,zai->za", drift, in_plane)
    normals = np.concatenate([axial[..., None], in_plane], axis=-1)
    z = np.broadcast_to(np.arange(len(radius))[:, None, None] * mm[0], (*radius.shape, 1))
    points = np.concatenate([z, centre[:, None] * mm[1] + radius[..., None] * _UNIT], axis=-1)
    return points, normals / np.linalg.norm(normals, axis=-1, keepdims=True)


def _skin_offset(profiles: Array, level: Array, brain_level: float) -> tuple[Array, Array]:
    """Mean and variance of the skin's position in mm along the profiles (z, angle, depth), given the data and priors.

    Every candidate (skin, margin) is two blurred layers, b E(skin - margin) + s [E(skin) - E(skin - thickness)] with
    E(x) the edge at x, b and s fitted with s >= LEAST_SCALP b >= 0; margin 0 is a single edge, and the only one where
    the profile stays below `brain_level`. Errors: 8 % of the value, for uptake is not as even as the layers, and 1 % of
    the slice's level, for noise. What lies deeper than the profile's maximum (white matter under the cortex) is no
    part of the edge and not fitted.
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
    w = 1.0 / ((0.08 * data) ** 2 + np.float32(0.01) ** 2)
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


def _on_all_slices(squared: Array, centre: Array, preview: _Preview, slices: Array, grid: Grid) -> _Surface:
    """Surface on the grid's slices: 0 where the head ended within the field, its last section where the field ended."""
    nz = grid.shape[0]
    everywhere = np.clip(np.arange(nz) - preview.first - slices[0], 0, len(slices) - 1)
    full = squared[everywhere].copy()
    if slices[0] > 0:
        full[: preview.first + slices[0]] = 0.0
    if slices[-1] < len(preview.values) - 1:
        full[preview.first + slices[-1] + 1 :] = 0.0
    return _Surface(full, centre[everywhere])


def _standard_head(preview: _Preview, grid: Grid) -> _Surface:
    """A standard head about the brightest foci: half of an ellipsoid above them, a straight neck below."""
    width, length, height, behind = STANDARD_HEAD_MM
    bright = np.where(preview.values >= 0.5 * preview.peak, preview.values, 0.0)
    z, y, x = (float((bright * axis).sum() / bright.sum()) for axis in np.indices(bright.shape))
    up_mm = np.maximum((np.arange(grid.shape[0]) - preview.first - z) * preview.voxel_mm[0], 0.0)
    section = 1.0 / ((_UNIT[:, 1] / width) ** 2 + (_UNIT[:, 0] / length) ** 2)
    centre = np.array([y + behind / preview.voxel_mm[1], x])
    squared = (1.0 - (up_mm / height) ** 2)[:, None] * section
    return _Surface(squared, np.broadcast_to(centre, (grid.shape[0], 2)))


def _fused(peak: _Surface, side: _Surface, grid: Grid) -> tuple[_Surface, float]:
    """Mean of both surfaces where they agree and the scatter's elsewhere, and their mean distance in mm."""
    mm = grid.voxel_mm[1]
    radius = np.sqrt(np.maximum(side.squared_mm2, 0.0))
    own = np.zeros_like(radius)
    for z in np.flatnonzero((peak.squared_mm2 > 0).all(axis=1)):
        points = np.sqrt(peak.squared_mm2[z])[:, None] * _UNIT + (peak.centre[z] - side.centre[z]) * mm
        around = np.arctan2(points[:, 0], points[:, 1])
        own[z] = np.interp(_ANGLES, around, np.hypot(points[:, 0], points[:, 1]), period=2 * np.pi)
    both = (radius > 30.0) & (own > 30.0)
    apart_mm = np.abs(radius - own)
    squared = np.where(both & (apart_mm <= AGREE_MM), (0.5 * (radius + own)) ** 2, side.squared_mm2)
    return _Surface(squared, side.centre), float(apart_mm[both].mean()) if both.any() else np.inf


def _mask(surface: _Surface, grid: Grid) -> Array:
    """Share (z, y, x) of every voxel inside the surface, in plane: linear across one voxel about the edge."""
    mm = grid.voxel_mm[1]
    axes = np.indices(grid.shape[1:])
    mask = np.zeros(grid.shape, np.float32)
    turn, step = 2 * np.pi, _ANGLES[1] - _ANGLES[0]
    for z, (squared, centre) in enumerate(zip(surface.squared_mm2, surface.centre, strict=True)):
        if squared.max() <= 0:
            continue
        y, x = ((axis - middle) * mm for axis, middle in zip(axes, centre, strict=True))
        around = np.mod(np.arctan2(y, x), turn)
        closed = np.append(np.maximum(squared, 0.0), max(squared[0], 0.0))
        radius = np.sqrt(np.interp(around, np.append(_ANGLES, _ANGLES[-1] + step), closed))
        mask[z] = np.where(radius > 0, np.clip(0.5 - (np.hypot(y, x) - radius) / mm, 0.0, 1.0), 0.0)
    return mask
