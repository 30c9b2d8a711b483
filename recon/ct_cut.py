"""Where a CT ends at the sides of the head: outside its reconstruction circle, in its padding, at its slices' borders.

The limits were set on 7 virtual patients (DAT and perfusion, CTs whole and cut by circles) and 8 CTs of living heads.
The outline from SPECT data alone tells little: in one whole patient it lay over 10 mm outside the CT's body on 150 cm2,
about the face and neck. Over 6 mm beyond a place where the body touches the end of the coverage it lay nowhere in whole
CTs, but on 11 to 117 cm2 in 6 of 7 where 16 mm of the head had been cut away.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt

from spectac.recon import filters
from spectac.recon.resample import resample
from spectac.recon.types import Array, Grid, MuMap

BEYOND_MM = 6.0
BEYOND_CM2 = 10.0
"""A CT is cut where the outline lies farther than BEYOND_MM beyond its end over more than this area."""
DENSE = 0.5
"""Times water: what is denser bounds the body, where a blurred edge is half full."""
CONTACT_CM2 = 40.0
"""A body that is cut by a circle touches it over more than this; the tips of a whole head over 9 to 60 cm2."""
CONTACT_MM = 4.0
TOUCH_MM = 6.0
"""The end of the coverage is a cut where it lies this near to the body's contact: a voxel and a half of 4 mm."""
ROUND = 0.97
"""Padding is that of a circle where what lies inside fills this share of the smallest circle around it."""
ARC_MM = 6.0
IN_PLANE = np.ones((1, 3, 3), bool)


@dataclass(frozen=True, eq=False)
class Sides:
    """The CT's coverage in plane: `covered` (z, y, x) on its map's grid, and how the head lies beyond it.

    The head's outline exceeds the coverage by `beyond_mm` over `area_cm2` where the CT's body touches its end; `end`
    says what ends there.
    """

    covered: Array
    end: str
    beyond_mm: float
    area_cm2: float

    @property
    def cut(self) -> bool:
        """True where that is more than the outline's own error."""
        return self.area_cm2 > BEYOND_CM2


def sides_of(mu: MuMap, covered: Array | None, water_per_cm: float, outline: Array, grid: Grid) -> Sides:
    """Compare a CT's coverage with the head's outline (z, y, x, 0 to 1 on `grid`).

    `covered` (z, y, x) on the grid of the CT's map: False where the files say that there are no data.
    """
    dense = np.asarray(mu.per_cm) > DENSE * water_per_cm
    ends = [(np.ones(mu.grid.shape, bool), "the edge of its slices")]
    circle = _padding_circle(covered, mu.grid) or _touched_circle(dense, mu.grid)
    if circle is not None:
        ends.append((np.broadcast_to(circle[0], mu.grid.shape), f"a circle of {2 * circle[1]:.0f} mm"))
    found = [Sides(where, end, *_beyond(where, dense, mu.grid, outline, grid)) for where, end in ends]
    return max(found, key=lambda one: one.area_cm2)


def filled_sides(mu: MuMap, sides: Sides, blur_fwhm_mm: float, soft_per_cm: float, head: Array, grid: Grid) -> Array:
    """Map (z, y, x) on `grid` with soft tissue where the head (0 to 1) lies beyond the coverage.

    The blur mixed what lies beyond, air, into the tissue at the cut: it is taken out again, and the outermost voxels,
    which may be half empty, are filled as well.
    """
    share = sides.covered.astype(np.float32)
    if blur_fwhm_mm:
        share = filters.gaussian(share, mu.grid.voxel_mm, blur_fwhm_mm)
    covered = binary_erosion(sides.covered, IN_PLANE, border_value=1).astype(np.float32)
    tissue = np.asarray(mu.per_cm) * covered / np.maximum(share, 0.4)
    there = np.clip(resample(covered, mu.grid, grid), 0.0, 1.0)
    return np.asarray(np.maximum(resample(tissue, mu.grid, grid), 0.0) + (1.0 - there) * np.float32(soft_per_cm) * head)


def within_slices(ct: Grid, grid: Grid) -> Array:
    """True (z, y, x) for voxels of `grid` between the first and last slice of a CT, whatever their place in plane."""
    return _between(ct, grid, 0, 0.0)


def beside_slices(ct: Grid, grid: Grid) -> Array:
    """True (z, y, x) for voxels of `grid` within a CT's slices in height that stick out at the slices' borders."""
    half = [0.5 * (grid.voxel_mm[axis] / ct.voxel_mm[axis] - 1.0) for axis in (1, 2)]
    inside = _between(ct, grid, 1, half[0] - 0.01) & _between(ct, grid, 2, half[1] - 0.01)
    return within_slices(ct, grid) & ~inside


def _between(ct: Grid, grid: Grid, axis: int, margin: float) -> Array:
    """True (z, y, x) where an index of the CT lies `margin` within its first and last one."""
    index = np.linalg.inv(ct.affine_lps)[axis]
    z, y, x = grid.centres_mm()
    place = index[2] * z[:, None, None] + index[1] * y[None, :, None] + index[0] * x[None, None, :] + index[3]
    return np.asarray((place >= margin) & (place <= ct.shape[axis] - 1 - margin))


def covered_on(covered: Array | None, grid: Grid, factors: tuple[int, ...]) -> Array | None:
    """Coverage of a CT on its mu-map's coarser `grid` (see ct.coarse_grid): True where all its voxels hold data."""
    if covered is None:
        return None
    out = np.empty(grid.shape, bool)
    for z in range(grid.shape[0]):
        plane = covered[z * factors[0] : (z + 1) * factors[0]].all(axis=0)
        pads = [(0, -size % factor) for size, factor in zip(plane.shape, factors[1:], strict=True)]
        padded = np.pad(plane, pads, mode="edge")
        out[z] = padded.reshape(grid.shape[1], factors[1], grid.shape[2], factors[2]).all(axis=(1, 3))
    return out


def _beyond(covered: Array, dense: Array, ct: Grid, outline: Array, grid: Grid) -> tuple[float, float]:
    """Depth in mm and area in cm2 of the head's surface beyond BEYOND_MM from coverage that ends in the body."""
    there = resample(covered.astype(np.float32), ct, grid) > 0.5
    # What lies at the end of the coverage in plane, within a voxel of it.
    ending = covered & ~binary_erosion(covered, IN_PLANE, border_value=0)
    contact = resample((binary_dilation(dense & covered, IN_PLANE) & ending).astype(np.float32), ct, grid) > 0.02
    head = (np.asarray(outline) > 0.5) & within_slices(ct, grid)
    depths = []
    pixel = grid.voxel_mm[1:]
    for z in np.flatnonzero((head & ~there).any(axis=(1, 2)) & contact.any(axis=(1, 2))).tolist():
        far, nearest = distance_transform_edt(~there[z], sampling=pixel, return_indices=True)
        touches = distance_transform_edt(~contact[z], sampling=pixel) < TOUCH_MM
        ends_in_body = touches[tuple(nearest)]
        edge = head[z] & ~binary_erosion(head[z]) & ~there[z] & ends_in_body
        depths.append(far[edge])
    found = np.concatenate(depths) if depths else np.zeros(0)
    found = found[found > BEYOND_MM]
    area_cm2 = found.size * float(np.sqrt(pixel[0] * pixel[1])) * grid.voxel_mm[0] / 100.0
    return float(np.quantile(found, 0.9)) if found.size else 0.0, area_cm2


def _padding_circle(covered: Array | None, grid: Grid) -> tuple[Array, float] | None:
    """Coverage (y, x) and radius in mm of a round field of view with padding around it; None for other padding."""
    if covered is None:
        return None
    plane = np.asarray(covered.any(axis=0))
    points = np.argwhere(plane) * grid.voxel_mm[1:]
    if points.size == 0:
        return None
    centre = _smallest_circle(points)
    inside, radius = _circle(points, centre, grid)
    return (plane, radius) if plane.sum() > ROUND * inside.sum() and not plane.all() else None


def _touched_circle(dense: Array, grid: Grid) -> tuple[Array, float] | None:
    """Inside (y, x) and radius in mm of a circle with nothing dense outside, which the body touches all along.

    Scanners reconstruct inside a circle about the middle of the slices; the smallest circle around all that is dense is
    tried as well, for images that were cropped or moved.
    """
    points = np.argwhere(dense.any(axis=0)) * grid.voxel_mm[1:]
    if points.size == 0:
        return None
    most, found = CONTACT_CM2, None
    for centre in _centres(points, grid):
        inside, radius = _circle(points, centre, grid)
        y, x = (np.arange(size) * mm for size, mm in zip(grid.shape[1:], grid.voxel_mm[1:], strict=True))
        away = np.hypot(y[:, None] - centre[0], x[None, :] - centre[1])
        arcs = max(8, round(2 * np.pi * radius / ARC_MM))
        turn = np.arctan2(y[:, None] - centre[0], x[None, :] - centre[1])
        arc = np.minimum(((turn / (2 * np.pi) + 0.5) * arcs).astype(int), arcs - 1)
        rim = (away > radius - CONTACT_MM) & inside
        touched = sum(int(np.unique(arc[plane & rim]).size) for plane in dense)
        touched_cm2 = touched * (2 * np.pi * radius / arcs) * grid.voxel_mm[0] / 100.0
        if touched_cm2 > most:
            most, found = touched_cm2, (inside, radius)
    return found


def _centres(points: Array, grid: Grid) -> Iterator[Array]:
    yield 0.5 * (np.array(grid.shape[1:]) - 1.0) * grid.voxel_mm[1:]
    yield _smallest_circle(points)


def _circle(points: Array, centre: Array, grid: Grid) -> tuple[Array, float]:
    """Pixels (y, x) of the circle about a centre that just holds all points (y, x) in mm, and its radius in mm."""
    radius = float(np.hypot(*(points - centre).T).max())
    y, x = (np.arange(size) * mm for size, mm in zip(grid.shape[1:], grid.voxel_mm[1:], strict=True))
    # Half a pixel more: points are the centres of pixels.
    away = np.hypot(y[:, None] - centre[0], x[None, :] - centre[1])
    return np.asarray(away <= radius + 0.5 * max(grid.voxel_mm[1:])), radius


def _smallest_circle(points: Array) -> Array:
    """Centre (y, x) of the smallest circle around points, within half a millimetre for heads.

    Badoiu and Clarkson, Comput Geom 2008;40:14, doi:10.1016/j.comgeo.2007.04.002: towards the farthest point by ever
    smaller steps.
    """
    centre = points.mean(axis=0)
    for step in range(1, 500):
        farthest = points[np.hypot(*(points - centre).T).argmax()]
        centre = centre + (farthest - centre) / (step + 1)
    return np.asarray(centre)
