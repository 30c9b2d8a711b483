"""SimpleITK, which registers images: an optional package, and spectac's volumes as its images."""

from typing import Any

import numpy as np

from spectac.recon.errors import MissingExtraError
from spectac.recon.types import Array, Grid


def simpleitk(purpose: str) -> Any:
    """The package SimpleITK.

    Parameters
    ----------
    purpose
        What needs it, for the message.

    Returns
    -------
    module
        SimpleITK.

    Raises
    ------
    MissingExtraError
        Where it is not installed.

    Examples
    --------
    >>> simpleitk("registering a CT").__name__  # doctest: +SKIP
    'SimpleITK'
    """
    try:
        import SimpleITK
    except ImportError:
        raise MissingExtraError(f"{purpose} needs SimpleITK", "ct") from None
    return SimpleITK


def itk_image(sitk: Any, values: Array, grid: Grid) -> Any:
    """Values (z, y, x) on a grid, which may be tilted, as an image of SimpleITK; masks as bytes.

    Parameters
    ----------
    sitk
        The package.
    values
        Values; floating point becomes float32.
    grid
        Their grid.

    Returns
    -------
    image
        SimpleITK's, in LPS mm.

    Examples
    --------
    >>> itk_image(sitk, values, grid)  # doctest: +SKIP
    """
    kind = np.float32 if values.dtype.kind == "f" else np.uint8
    image = sitk.GetImageFromArray(np.ascontiguousarray(values, dtype=kind))
    along = grid.affine_lps[:3, [2, 1, 0]] / np.array(grid.voxel_mm[::-1])
    image.SetOrigin(grid.affine_lps[:3, 3].tolist())
    image.SetSpacing(grid.voxel_mm[::-1])
    image.SetDirection(along.ravel().tolist())
    return image
