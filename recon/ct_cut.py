"""Where a CT does not cover the head, and how its map is completed there.

At its sides a CT ends at its reconstruction circle, in its padding, or at its slices' borders. The limits were set on 7
virtual patients (DAT and perfusion, CTs whole and cut by circles) and 8 CTs of living heads. The outline from SPECT
data alone says little: in one whole patient it lay over 10 mm outside the CT's body on 150 cm2, about the face and
neck. It was therefore compared only where the body touches the end of the coverage. There it lay over 6 mm beyond
nowhere in whole CTs, but on 11 to 117 cm2 in 6 of 7 where 16 mm of the head had been cut away.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt

from spectac.recon import filters
from spectac.recon.errors import InputError
from spectac.recon.resample import resample
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Array, Grid, MuMap

SOFT_TISSUE_SHARE = 1.05
"""Soft tissue over water, with which a map is filled where the CT does not reach the head."""
CONTINUED_MM = 20.0
"""How far the CT's last slice is continued into the head beyond it: a scan that is slightly too short."""
BEYOND_MM = 6.0
"""Distance of the outline beyond the end of a CT that is more than the outline's own error."""
BEYOND_CM2 = 10.0
"""A CT is cut where the outline lies farther than BEYOND_MM beyond its end over more than this area."""
DENSE = 0.5
"""Times water: what is denser bounds the body, where a blurred edge is half full."""
CONTACT_CM2 = 40.0
"""A body that is cut by a circle touches it over more than this; the tips of a whole head over 9 to 60 cm2."""
CONTACT_MM = 4.0
"""Width of the rim of a circle in which the body touches it."""
TOUCH_MM = 6.0
"""The end of the coverage is a cut where it lies this near to the body's contact: a voxel and a half of 4 mm."""
ROUND = 0.97
"""Padding is that of a circle where the coverage fills this share of the smallest circle around it."""
ARC_MM = 6.0
"""Length of the arcs in which contact with a circle is counted."""
IN_PLANE = np.ones((1, 3, 3), bool)


@dataclass(frozen=True, eq=False)
class Sides:
    """Coverage of a CT in plane, and how far the head reaches beyond it.

    Parameters
    ----------
    covered
        True (z, y, x) on the grid of the CT's map where it holds data.
    end
        What the coverage ends at, in words.
    beyond_mm
        How far the head's outline exceeds the coverage where the CT's body touches its end.
    area_cm2
        Over which area it does.

    Examples
    --------
    >>> Sides(np.ones((1, 2, 2), bool), "the edge of its slices", 0.0, 0.0).cut
    False
    """

    covered: Array
    end: str
    beyond_mm: float
    area_cm2: float

    @property
    def cut(self) -> bool:
        """True where the head exceeds the coverage by more than the outline's own error."""
        return self.area_cm2 > BEYOND_CM2

    def note(self, soft_per_cm: float, *, extend: bool) -> str:
        """Note about the cut; InputError for a deep one that is not to be filled with soft tissue."""
        cut = f"the CT is cut at its sides by {self.end}: the head in the SPECT reaches {self.beyond_mm:.0f} mm beyond"
        if extend:
            return f"{cut}, which was filled with soft tissue ({soft_per_cm:.3f} /cm), as asked"
        if self.beyond_mm > CONTINUED_MM:
            raise InputError(f"{cut}: --extend-ct fills the rest of the head's outline with soft tissue")
        return f"{cut}, where air was assumed: --extend-ct fills it with soft tissue"


def sides_of(mu: MuMap, covered: Array | None, water_per_cm: float, outline: Array, grid: Grid) -> Sides:
    """Coverage of a CT at its sides, compared with the head's outline.

    Parameters
    ----------
    mu
        Map of the CT on its own grid.
    covered
        True (z, y, x) on that grid where the files hold data; None: everywhere.
    water_per_cm
        Coefficient of water in 1/cm at the map's energy.
    outline
        Share (z, y, x) of the head in the voxels of `grid`.
    grid
        Grid of the outline.

    Returns
    -------
    Sides
        Of all ends of the coverage, the one that the head exceeds over the largest area.

    Examples
    --------
    >>> grid = Grid.upright((4, 32, 32), (4.0, 4.0, 4.0), (-62.0, -62.0, 0.0))
    >>> _, y, x = np.ix_(*grid.centres_mm())
    >>> head = np.broadcast_to(np.hypot(x, y) < 40.0, grid.shape)
    >>> sides_of(MuMap(0.15 * head, grid, 140.5), None, 0.15, head, grid).cut
    False
    """
    dense = np.asarray(mu.per_cm) > DENSE * water_per_cm
    ends = [(np.ones(mu.grid.shape, bool), "the edge of its slices")]
    circle = _padding_circle(covered, mu.grid) or _touched_circle(dense, mu.grid)
    if circle is not None:
        ends.append((np.broadcast_to(circle[0], mu.grid.shape), f"a circle of {2 * circle[1]:.0f} mm"))
    sides = [Sides(where, end, *_beyond(where, dense, mu.grid, outline, grid)) for where, end in ends]
    return max(sides, key=lambda one: one.area_cm2)


def filled_sides(mu: MuMap, sides: Sides, blur_fwhm_mm: float, soft_per_cm: float, head: Array, grid: Grid) -> Array:
    """Map with soft tissue where the head lies beyond the coverage at the sides.

    The blur mixed the air beyond the cut into the tissue at the cut. It is taken out again, and the outermost voxels,
    which may be half empty, are filled as well.

    Parameters
    ----------
    mu
        Blurred map of the CT on its own grid.
    sides
        Coverage.
    blur_fwhm_mm
        FWHM in mm of the map's blur.
    soft_per_cm
        Coefficient of soft tissue in 1/cm.
    head
        Share (z, y, x) of the head in the voxels of `grid`.
    grid
        Wanted grid.

    Returns
    -------
    Array
        Coefficients (z, y, x) in 1/cm on `grid`.

    Examples
    --------
    >>> grid = Grid.upright((1, 4, 4), (4.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    >>> covered = np.zeros(grid.shape, bool)
    >>> mu, head = MuMap(np.zeros(grid.shape), grid, 140.5), np.ones(grid.shape)
    >>> float(filled_sides(mu, Sides(covered, "", 0.0, 0.0), 0.0, 0.16, head, grid).min().round(2))
    0.16
    """
    share = sides.covered.astype(np.float32)
    if blur_fwhm_mm:
        share = filters.gaussian(share, mu.grid.voxel_mm, blur_fwhm_mm)
    covered = binary_erosion(sides.covered, IN_PLANE, border_value=1).astype(np.float32)
    tissue = np.asarray(mu.per_cm) * covered / np.maximum(share, 0.4)
    there = np.clip(resample(covered, mu.grid, grid), 0.0, 1.0)
    return np.asarray(np.maximum(resample(tissue, mu.grid, grid), 0.0) + (1.0 - there) * np.float32(soft_per_cm) * head)


def continued(mu: MuMap, ct: Grid, reached: Array, head: Array, *, extend: bool) -> tuple[Array, list[str]]:
    """Map completed beyond the CT's first and last slice.

    This is decided for every column of voxels by itself, because a tilted CT ends at another height in each.

    Parameters
    ----------
    mu
        Map on the grid of the reconstruction.
    ct
        Grid of the CT's map.
    reached
        True (z, y, x) in voxels that the CT covers.
    head
        Share (z, y, x) of the head in the voxels.
    extend
        Fill more than CONTINUED_MM with soft tissue.

    Returns
    -------
    tuple
        Coefficients (z, y, x) in 1/cm, and notes.

    Raises
    ------
    InputError
        Where more than CONTINUED_MM are missing, without `extend`.

    Examples
    --------
    >>> grid = Grid.upright((3, 1, 1), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> per_cm = np.array([0.0, 0.15, 0.16]).reshape(3, 1, 1)
    >>> filled, notes = continued(
    ...     MuMap(per_cm, grid, 140.5), Grid.upright((2, 1, 1), grid.voxel_mm, (0.0, 0.0, 4.0)), per_cm > 0,
    ...     np.ones(grid.shape, np.float32), extend=False,
    ... )
    >>> [round(value, 2) for value in filled.ravel().tolist()], notes
    ([0.15, 0.15, 0.16], ['the CT ends up to 4 mm inside the head: its last slice was continued'])
    """
    per_cm = mu.per_cm.copy()
    missing = (head > 0.5) & ~reached & ~beside_slices(ct, mu.grid)
    if not missing.any():
        return per_cm, []
    length_mm = int(missing.sum(axis=0).max()) * mu.grid.voxel_mm[0]
    if length_mm <= CONTINUED_MM:
        # In plane a step costs so much that the nearest covered voxel is the one above or below.
        nearest = distance_transform_edt(
            ~reached, sampling=(1.0, 1e6, 1e6), return_distances=False, return_indices=True
        )
        per_cm[missing] = per_cm[tuple(index[missing] for index in nearest)]
        return per_cm, [f"the CT ends up to {length_mm:.0f} mm inside the head: its last slice was continued"]
    if not extend:
        raise InputError(
            f"the CT ends {length_mm:.0f} mm inside the head that the SPECT shows: --extend-ct fills the rest of the "
            "head's outline with soft tissue"
        )
    soft_per_cm = np.float32(SOFT_TISSUE_SHARE * water_per_cm(mu.energy_kev)) * head
    per_cm[missing] = soft_per_cm[missing]
    note = (
        f"the CT ends {length_mm:.0f} mm inside the head: the rest of the outline was filled with soft tissue "
        f"({soft_per_cm.max():.3f} /cm), as asked"
    )
    return per_cm, [note]


def within_slices(ct: Grid, grid: Grid) -> Array:
    """Voxels between the first and last slice of a CT, whatever their place in plane.

    Parameters
    ----------
    ct
        Grid of the CT.
    grid
        Upright grid of the voxels.

    Returns
    -------
    Array
        True (z, y, x) on `grid`.

    Examples
    --------
    >>> ct = Grid.upright((2, 1, 1), (4.0, 4.0, 4.0), (0.0, 0.0, 4.0))
    >>> within_slices(ct, Grid.upright((4, 1, 1), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))).ravel().tolist()
    [False, True, True, False]
    """
    return _between(ct, grid, 0, 0.0)


def beside_slices(ct: Grid, grid: Grid) -> Array:
    """Voxels within a CT's slices in height that stick out at the slices' borders.

    Parameters
    ----------
    ct
        Grid of the CT.
    grid
        Upright grid of the voxels.

    Returns
    -------
    Array
        True (z, y, x) on `grid`.

    Examples
    --------
    >>> ct = Grid.upright((1, 1, 2), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> beside_slices(ct, Grid.upright((1, 1, 3), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))).ravel().tolist()
    [False, False, True]
    """
    half = [0.5 * (grid.voxel_mm[axis] / ct.voxel_mm[axis] - 1.0) for axis in (1, 2)]
    inside = _between(ct, grid, 1, half[0] - 0.01) & _between(ct, grid, 2, half[1] - 0.01)
    return within_slices(ct, grid) & ~inside


def _between(ct: Grid, grid: Grid, axis: int, margin: float) -> Array:
    """True (z, y, x) where an index of the CT lies `margin` within its first and last one."""
    index = np.linalg.inv(ct.affine_lps)[axis]
    z, y, x = grid.centres_mm()
    place = index[2] * z[:, None, None] + index[1] * y[None, :, None] + index[0] * x[None, None, :] + index[3]
    return np.asarray((place >= margin) & (place <= ct.shape[axis] - 1 - margin))


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
    depths_mm = np.concatenate(depths) if depths else np.zeros(0)
    depths_mm = depths_mm[depths_mm > BEYOND_MM]
    area_cm2 = depths_mm.size * float(np.sqrt(pixel[0] * pixel[1])) * grid.voxel_mm[0] / 100.0
    return float(np.quantile(depths_mm, 0.9)) if depths_mm.size else 0.0, area_cm2


def _padding_circle(covered: Array | None, grid: Grid) -> tuple[Array, float] | None:
    """Coverage (y, x) and radius in mm of a round field of view with padding around it; None for other padding."""
    if covered is None or not covered.any():
        return None
    plane = np.asarray(covered.any(axis=0))
    points = np.argwhere(plane) * grid.voxel_mm[1:]
    inside, radius, _ = _circle(points, _smallest_circle(points), grid)
    return (plane, radius) if plane.sum() > ROUND * inside.sum() and not plane.all() else None


def _touched_circle(dense: Array, grid: Grid) -> tuple[Array, float] | None:
    """Inside (y, x) and radius in mm of a circle with nothing dense outside, which the body touches all along.

    Scanners reconstruct inside a circle about the middle of the slices. The smallest circle around all that is dense is
    tried as well, for images that were cropped or moved.
    """
    points = np.argwhere(dense.any(axis=0)) * grid.voxel_mm[1:]
    if points.size == 0:
        return None
    largest_cm2, touched = CONTACT_CM2, None
    for centre in (0.5 * (np.array(grid.shape[1:]) - 1.0) * grid.voxel_mm[1:], _smallest_circle(points)):
        inside, radius, (away, turn) = _circle(points, centre, grid)
        arcs = max(8, round(2 * np.pi * radius / ARC_MM))
        arc = np.minimum(((turn / (2 * np.pi) + 0.5) * arcs).astype(int), arcs - 1)
        rim = (away > radius - CONTACT_MM) & inside
        count = sum(int(np.unique(arc[plane & rim]).size) for plane in dense)
        contact_cm2 = count * (2 * np.pi * radius / arcs) * grid.voxel_mm[0] / 100.0
        if contact_cm2 > largest_cm2:
            largest_cm2, touched = contact_cm2, (inside, radius)
    return touched


def _circle(points: Array, centre: Array, grid: Grid) -> tuple[Array, float, tuple[Array, Array]]:
    """Pixels (y, x) of the circle about a centre that just holds all points (y, x) in mm, and its radius in mm.

    The pixels' distance (y, x) from the centre in mm and direction (y, x) in rad come with them.
    """
    radius = float(np.hypot(*(points - centre).T).max())
    y, x = (np.arange(size) * mm - at for size, mm, at in zip(grid.shape[1:], grid.voxel_mm[1:], centre, strict=True))
    away, turn = np.hypot(y[:, None], x[None, :]), np.arctan2(y[:, None], x[None, :])
    # Half a pixel more: points are the centres of pixels.
    return np.asarray(away <= radius + 0.5 * max(grid.voxel_mm[1:])), radius, (away, turn)


def _smallest_circle(points: Array) -> Array:
    """Centre (y, x) of the smallest circle around points, within half a millimetre for heads.

    Steps towards the farthest point shrink (Badoiu and Clarkson, Comput Geom 2008;40:14,
    doi:10.1016/j.comgeo.2007.04.002).
    """
    centre = points.mean(axis=0)
    for step in range(1, 500):
        farthest = points[np.hypot(*(points - centre).T).argmax()]
        centre = centre + (farthest - centre) / (step + 1)
    return np.asarray(centre)
