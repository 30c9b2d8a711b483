"""How far the outline of an estimated map lies from the one that the data show by themselves."""

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
"""Where more than this shows in the photopeak it is the air's as well: no outline that could be judged."""

FOCI_ALONE = "foci alone and no head"
"""What recon.contour says where it placed a standard head."""


def outline_distance_mm(photopeak: Image, scatter: Image | None, mu: MuMap) -> float | None:
    """Mean distance in mm of a map's outline from the one that the data show; None where the data show none.

    The surface of a map is where it reaches half of water. The data's is recon.contour.head_outline. Rows that were not
    measured do not count.
    Raises InputError as head_outline does.
    """
    look = Appearance.of(photopeak)
    if look is None or not LEAST_HEAD_ML <= look.head_ml <= MOST_HEAD_ML:
        return None
    body = np.clip(mu.per_cm / water_per_cm(mu.energy_kev), 0.0, 1.0)
    measured_rows = np.flatnonzero(photopeak.values.any(axis=(1, 2)))
    rows = slice(int(measured_rows[0]), int(measured_rows[-1]) + 1)
    outline = head_outline(photopeak, scatter)
    if any(FOCI_ALONE in warning for warning in outline.warnings):
        return None
    return mean_outline_distance_mm(body[rows], outline.mask[rows], mu.grid.voxel_mm)


def mean_outline_distance_mm(mask_a: Array, mask_b: Array, voxel_mm: tuple[float, float, float]) -> float:
    """Mean distance in mm between the outer surfaces of two heads, both ways; infinite where they share no slice.

    Masks (z, y, x) are bool, or shares from 0 to 1 whose 0.5 is the surface (between voxels: linear). The surface are
    points between neighbours along x and y, so flat ends have none; cavities are filled, loose parts left out. Only
    slices from the higher one of the two lower ends count, for where a neck ends is the field's or the simulation's
    choice; where either mask reaches the last slice, none above the lower one of the upper ends does either.
    """
    heads = [solid(np.asarray(mask, np.float64)) for mask in (mask_a, mask_b)]
    ends = [np.flatnonzero((head > 0.5).any(axis=(1, 2))) for head in heads]
    if any(end.size == 0 for end in ends):
        return math.inf
    first, lasts = max(int(end[0]) for end in ends), [int(end[-1]) for end in ends]
    last = min(lasts) if max(lasts) == len(heads[0]) - 1 else max(lasts)
    surfaces = [surface_mm(head[first : last + 1], voxel_mm) for head in heads]
    if any(len(surface) == 0 for surface in surfaces):
        return math.inf
    a, b = surfaces
    return float(0.5 * (cKDTree(b).query(a)[0].mean() + cKDTree(a).query(b)[0].mean()))


def solid(shares: Array) -> Array:
    """Shares (z, y, x) of the largest part alone, with cavities filled slice by slice, also those open by a nostril."""
    inside = largest(shares > 0.5)
    disc = np.hypot(*np.ogrid[-3:4, -3:4]) <= 3.0
    filled = np.zeros(inside.shape, bool)
    for z in np.flatnonzero(inside.any(axis=(1, 2))):
        closed = binary_closing(np.pad(inside[z], 4), disc)[4:-4, 4:-4]
        filled[z] = binary_fill_holes(inside[z] | closed)
    near = filled | (shares <= 0.5)
    return np.where(filled & ~inside, 1.0, np.where(near, shares, 0.0))


def surface_mm(shares: Array, voxel_mm: tuple[float, float, float]) -> Array:
    """Points (n, 3) in mm where shares (z, y, x) pass 0.5 between neighbours along y and x, zeros beyond the grid."""
    padded = np.pad(shares, ((0, 0), (1, 1), (1, 1)))
    found = []
    for axis in (1, 2):
        low = np.take(padded, range(padded.shape[axis] - 1), axis=axis)
        high = np.take(padded, range(1, padded.shape[axis]), axis=axis)
        at = np.argwhere((low > 0.5) != (high > 0.5))
        here, there = low[tuple(at.T)], high[tuple(at.T)]
        points = at.astype(np.float64)
        points[:, axis] += (0.5 - here) / (there - here)
        found.append(points * np.asarray(voxel_mm))
    return np.concatenate(found)
