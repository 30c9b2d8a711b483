"""Direction cosines, and volumes turned so that their axes run nearest to superior, posterior and left."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from spectac.recon.types import Array, Grid


def upright(affine_lps: Array, voxel_mm: Sequence[float], *volumes: Array) -> tuple[Grid, list[Array]]:
    """Grid and volumes of one shape with their axes swapped and reversed; a tilt stays.

    Parameters
    ----------
    affine_lps : ndarray
        (4, 4), from the index (axis 0, 1, 2, 1) to LPS mm.
    voxel_mm : sequence of float
        Lengths along the axes.
    *volumes : ndarray
        At least one.

    Returns
    -------
    Grid
        Grid (z, y, x) of the result.
    list of array
        Volumes in the same order, views of the given ones.

    Examples
    --------
    >>> import numpy as np
    >>> grid, _ = upright(np.eye(4), (1.0, 1.0, 1.0), np.zeros((4, 3, 2)))
    >>> grid.shape
    (2, 3, 4)
    """
    order: list[int] = []
    for world in (2, 1, 0):
        free = [axis for axis in range(3) if axis not in order]
        order.append(max(free, key=lambda axis: abs(affine_lps[world, axis]) / voxel_mm[axis]))
    affine = affine_lps[:, [*order, 3]].copy()
    turned = [volume.transpose(order) for volume in volumes]
    shape = turned[0].shape
    for axis, world in enumerate((2, 1, 0)):
        if affine[world, axis] < 0:
            affine[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
            affine[:3, axis] *= -1
            turned = [np.flip(volume, axis) for volume in turned]
    z, y, x = order
    return Grid((shape[0], shape[1], shape[2]), (voxel_mm[z], voxel_mm[y], voxel_mm[x]), affine), turned


def directions(cosines: ArrayLike, tolerance: float) -> Array | None:
    """Unit vectors (2, 3) at right angles of six direction cosines; None where they are not so within the tolerance.

    Parameters
    ----------
    cosines : array-like
        Six numbers, those of ImageOrientationPatient.
    tolerance : float
        Largest error of the squared lengths and of the product of the two vectors.

    Returns
    -------
    array or None
        float64 (2, 3): the directions of growing columns and of growing rows.

    Examples
    --------
    >>> directions((1.0, 0.0, 0.0, 0.0, 2.0, 0.0), 0.01) is None
    True
    """
    first, second = np.array(cosines).reshape(2, 3)
    with np.errstate(over="ignore", invalid="ignore"):
        products = np.array([first @ first - 1.0, second @ second - 1.0, first @ second])
    if not (np.abs(products) <= tolerance).all():
        return None
    first = first / np.linalg.norm(first)
    second = second - first * (second @ first)
    return np.array([first, second / np.linalg.norm(second)])
