"""The body in a CT's mu-map, without table and head-holder."""

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes

from spectac.recon.contour_preview import largest
from spectac.recon.errors import InputError
from spectac.recon.types import Array, MuMap

TISSUE = 0.6
"""Tissue is denser than this times water (-400 HU). Foam and the shells of head-holders lie below, fat far above."""
BRIDGE_MM = 4.0
"""Bridges thinner than twice this do not join two bodies: a table's shell, straps, the holder under the head."""
SKIN_MM = 3.0
"""The mask reaches this far beyond the threshold, so that the half-full voxels of the skin are kept."""


def body_mask(mu: MuMap, water_per_cm: float) -> Array:
    """Mask of the patient: the largest connected body denser than -400 HU, with its cavities.

    Bodies joined by less than 2 BRIDGE_MM are separated first. Cavities are filled slice by slice, so that sinuses and
    airways that end in the slice's plane belong to the body.

    Assumes: the first axis of the grid runs roughly head to foot.

    Parameters
    ----------
    mu
        Map of the CT.
    water_per_cm
        Coefficient of water in 1/cm at the map's energy.

    Returns
    -------
    Array
        True (z, y, x) in the patient.

    Raises
    ------
    InputError
        Where nothing in the map is as dense as tissue.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> per_cm = np.zeros((8, 32, 32))
    >>> per_cm[:, 8:24, 8:24] = 0.15
    >>> grid = Grid.upright(per_cm.shape, (4.0, 4.0, 4.0), (-62.0, -62.0, 0.0))
    >>> mask = body_mask(MuMap(per_cm, grid, 140.5), 0.15)
    >>> bool(mask[4, 16, 16]), bool(mask[4, 2, 2])
    (True, False)
    """
    tissue = np.asarray(mu.per_cm) > TISSUE * water_per_cm
    if not tissue.any():
        raise InputError("nothing in the CT is as dense as tissue (-400 HU): is it a head, and are its values HU?")
    joined = _filled(largest(tissue))
    # The borders count as tissue while eroding, so that a body cut by the field of view keeps its cut.
    core = binary_erosion(tissue, _ball(BRIDGE_MM, mu.grid.voxel_mm), border_value=1)
    if core.any():
        core = largest(core)
        apart = _filled(core | (binary_dilation(core, _ball(1.5 * BRIDGE_MM, mu.grid.voxel_mm)) & tissue))
        # A hollow thing with thin walls (a skull phantom) does not survive erosion: then nothing is separated.
        if apart.sum() > 0.5 * joined.sum():
            joined = apart
    return np.asarray(binary_dilation(joined, _ball(SKIN_MM, mu.grid.voxel_mm)))


def _filled(mask: Array) -> Array:
    """Mask with the holes of every slice filled."""
    return np.stack([binary_fill_holes(part) for part in mask])


def _ball(radius_mm: float, voxel_mm: tuple[float, float, float]) -> Array:
    """Structuring element: voxels whose centres lie within the radius."""
    half = [int(radius_mm / length) for length in voxel_mm]
    z, y, x = np.ogrid[-half[0] : half[0] + 1, -half[1] : half[1] + 1, -half[2] : half[2] + 1]
    near = (z * voxel_mm[0]) ** 2 + (y * voxel_mm[1]) ** 2 + (x * voxel_mm[2]) ** 2 <= radius_mm**2
    return np.asarray(near)
