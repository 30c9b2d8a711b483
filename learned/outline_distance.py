"""Distance between the outline of an estimated map and the outline that the data show."""

import math

import numpy as np
from scipy.ndimage import binary_closing, binary_fill_holes
from scipy.spatial import cKDTree

from spectac.learned.appearance import LEAST_HEAD_ML, Appearance
from spectac.recon.contour import head_outline
from spectac.recon.contour_preview import largest
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Array, Image, MuMap

MOST_HEAD_ML = 6000.0
"""Largest volume in the photopeak whose outline can be judged. Larger ones contain air."""


def outline_distance_mm(photopeak: Image, scatter: Image | None, mu: MuMap) -> float | None:
    """Mean distance in mm between the outline of a map and that of the data, None where the data show none.

    The surface of a map is at half of water, that of the data comes from recon.contour. Rows that were not measured do
    not count.

    Parameters
    ----------
    photopeak
        Preview of the photopeak.
    scatter
        Preview of a window below the photopeak; None without one.
    mu
        Map on the grid of the previews.

    Returns
    -------
    float | None
        Distance in mm. None too where the photopeak's preview shows no head of LEAST_HEAD_ML to MOST_HEAD_ML.

    Raises
    ------
    InputError
        If `recon.contour.head_outline` raises it.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((8, 8, 8), (4.0, 4.0, 4.0), (-14.0, -14.0, -14.0))
    >>> air, water = Image(np.zeros(grid.shape), grid, "cps/mL"), MuMap(np.full(grid.shape, 0.15), grid, 140.5)
    >>> outline_distance_mm(air, None, water)
    """
    look = Appearance.of(photopeak)
    if look is None or not LEAST_HEAD_ML <= look.head_ml <= MOST_HEAD_ML:
        return None
    body = np.clip(mu.per_cm / water_per_cm(mu.energy_kev), 0.0, 1.0)
    measured_rows = np.flatnonzero(photopeak.values.any(axis=(1, 2)))
    rows = slice(int(measured_rows[0]), int(measured_rows[-1]) + 1)
    outline = head_outline(photopeak, scatter)
    if outline.kind == "standard head":
        return None
    return mean_outline_distance_mm(body[rows], outline.mask[rows], mu.grid.voxel_mm)


def mean_outline_distance_mm(mask_a: Array, mask_b: Array, voxel_mm: tuple[float, float, float]) -> float:
    """Mean distance in mm between the outer surfaces of two heads, in both directions.

    A surface consists of points between neighbours along x and y, so that flat ends have none. Cavities are filled,
    smaller parts left out. Slices below the higher one of the two lower ends do not count, because the end of a neck is
    arbitrary. Where either mask reaches the last slice, none above the lower one of the two upper ends counts.

    Parameters
    ----------
    mask_a, mask_b
        Masks (z, y, x): bool, or shares from 0 to 1 with the surface at 0.5, linear between voxels.
    voxel_mm
        Voxel (z, y, x) in mm.

    Returns
    -------
    float
        Distance in mm; infinite where the heads share no slice.

    Examples
    --------
    >>> small, large = np.zeros((6, 16, 16)), np.zeros((6, 16, 16))
    >>> small[:, 5:11, 5:11] = 1.0
    >>> large[:, 4:12, 4:12] = 1.0
    >>> mean_outline_distance_mm(small, large, (4.0, 4.0, 4.0)) < 5.0
    True
    """
    heads = [solid(np.asarray(mask, np.float64)) for mask in (mask_a, mask_b)]
    ends = [np.flatnonzero((head > 0.5).any(axis=(1, 2))) for head in heads]
    if any(end.size == 0 for end in ends):
        return math.inf
    first, lasts = max(int(end[0]) for end in ends), [int(end[-1]) for end in ends]
    last = min(lasts) if max(lasts) == len(heads[0]) - 1 else max(lasts)
    surfaces = [surface_mm(head[first : last + 1], voxel_mm) for head in heads]
    return mean_distance_mm(*surfaces)


def mean_distance_mm(a: Array, b: Array) -> float:
    """Mean of the mean distances from points to the nearest of others, and back.

    Parameters
    ----------
    a, b
        Points (n, 3) and (m, 3) in mm, none below 0.

    Returns
    -------
    float
        Distance in mm; infinite without points.

    Examples
    --------
    >>> mean_distance_mm(np.zeros((1, 3)), np.array([[0.0, 3.0, 4.0]]))
    5.0
    """
    if not (len(a) and len(b)):
        return math.inf
    # Away from 0: where subnormal numbers count as 0, cKDTree may seek the number after 0 until the stack ends.
    a, b = a + 1.0, b + 1.0
    return float(0.5 * (cKDTree(b).query(a)[0].mean() + cKDTree(a).query(b)[0].mean()))


def solid(shares: Array) -> Array:
    """Largest part of a head with its cavities filled slice by slice, also those open by a nostril.

    Parameters
    ----------
    shares
        Shares (z, y, x) from 0 to 1, the surface at 0.5.

    Returns
    -------
    Array
        Shares (z, y, x).

    Examples
    --------
    >>> ring = np.zeros((1, 8, 8))
    >>> ring[0, 1:7, 1:7] = 1.0
    >>> ring[0, 3:5, 3:5] = 0.0
    >>> float(solid(ring).sum())
    36.0
    """
    inside = largest(shares > 0.5)
    disc = np.hypot(*np.ogrid[-3:4, -3:4]) <= 3.0
    filled = np.zeros(inside.shape, bool)
    for z in np.flatnonzero(inside.any(axis=(1, 2))):
        closed = binary_closing(np.pad(inside[z], 4), disc)[4:-4, 4:-4]
        filled[z] = binary_fill_holes(inside[z] | closed)
    near = filled | (shares <= 0.5)
    return np.where(filled & ~inside, 1.0, np.where(near, shares, 0.0))


def surface_mm(shares: Array, voxel_mm: tuple[float, float, float]) -> Array:
    """Points (n, 3) in mm at which shares pass 0.5 between neighbours along y and x; beyond the grid they are 0.

    Parameters
    ----------
    shares
        Shares (z, y, x) from 0 to 1.
    voxel_mm
        Voxel (z, y, x) in mm.

    Returns
    -------
    Array
        float64 (n, 3): (z, y, x) in mm from the corner voxel of a grid that is padded by one voxel along y and x.

    Examples
    --------
    >>> surface_mm(np.ones((1, 1, 1)), (4.0, 4.0, 4.0)).shape
    (4, 3)
    """
    padded = np.pad(shares, ((0, 0), (1, 1), (1, 1)))
    points = []
    for axis in (1, 2):
        low = np.take(padded, range(padded.shape[axis] - 1), axis=axis)
        high = np.take(padded, range(1, padded.shape[axis]), axis=axis)
        at = np.argwhere((low > 0.5) != (high > 0.5))
        here, there = low[tuple(at.T)], high[tuple(at.T)]
        crossings = at.astype(np.float64)
        crossings[:, axis] += (0.5 - here) / (there - here)
        points.append(crossings * np.asarray(voxel_mm))
    return np.concatenate(points)
