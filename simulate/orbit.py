"""Where the detector goes: distance from the rotation axis to the collimator face, view by view, around a head."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectac.recon.errors import InputError
from spectac.recon.geometry import view_normals
from spectac.recon.types import Array
from spectac.simulate.regions import LABEL

if TYPE_CHECKING:
    from spectac.simulate.head import Head


def elliptical_radii_mm(view_angles_deg: ArrayLike, lateral_mm: float, front_back_mm: float) -> NDArray[np.float64]:
    """Distances (v,) from the axis to a face whose middle moves on an ellipse with these semi-axes along x and y.

    Equal semi-axes make a circle.

    Parameters
    ----------
    view_angles_deg
        (v,) angles of the views in degrees.
    lateral_mm
        Semi-axis along x.
    front_back_mm
        Semi-axis along y.

    Returns
    -------
    array
        float64 (v,) in mm.

    Examples
    --------
    >>> elliptical_radii_mm([0.0, 90.0], 140.0, 160.0).round(6).tolist()
    [160.0, 140.0]
    """
    normals = view_normals(view_angles_deg)
    return 1.0 / np.hypot(normals[:, 0] / lateral_mm, normals[:, 1] / front_back_mm)


def reach_mm(head: "Head", view_angles_deg: ArrayLike) -> NDArray[np.float64]:
    """How far (v,) the patient, holder and pillow reach from the axis towards each view's detector, in mm.

    The whole grid counts and not the field of view alone, because a detector's housing is larger than its field.

    Parameters
    ----------
    head
        Virtual head.
    view_angles_deg
        (v,) angles of the views in degrees.

    Returns
    -------
    array
        float64 (v,) in mm; minus infinity for a head without a voxel.

    Examples
    --------
    >>> from spectac.recon.types import Grid
    >>> from spectac.simulate.head import Head
    >>> grid = Grid.upright((1, 2, 2), (10.0, 10.0, 10.0), (-5.0, -5.0, 0.0))
    >>> cube = Head(grid, np.full(grid.shape, LABEL["skin"], np.uint8), np.ones(grid.shape, np.float32), {})
    >>> reach_mm(cube, [0.0, 45.0]).round(2).tolist()
    [10.0, 14.14]
    """
    _, y, x = head.grid.centres_mm()
    rows, columns = _edge(np.any(head.labels != LABEL["outside"], axis=0))
    normals = view_normals(view_angles_deg)
    if rows.size == 0:
        return np.full(len(normals), -np.inf)
    half = 0.5 * head.grid.voxel_mm[2] * np.abs(normals).sum(axis=1)
    return (normals @ np.stack([x[columns], y[rows]])).max(axis=1) + half


def _edge(mask: Array) -> tuple[Array, Array]:
    """Rows and columns of each row's first and last voxel in a mask (y, x): its convex hull is that of the mask."""
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    return np.concatenate([rows, rows]), np.concatenate([first, last])


def contour_radii_mm(
    head: "Head", view_angles_deg: ArrayLike, clearance_mm: float, lowest_mm: float
) -> NDArray[np.float64]:
    """Distances (v,) of a body-contour orbit: `clearance_mm` from the head, but never closer to the axis than `lowest`.

    The lowest radius stands for the shoulders, which a head's grid does not hold.

    Parameters
    ----------
    head
        Virtual head.
    view_angles_deg
        (v,) angles of the views in degrees.
    clearance_mm
        Distance from the head.
    lowest_mm
        Least distance from the axis.

    Returns
    -------
    array
        float64 (v,) in mm.

    Examples
    --------
    >>> from spectac.recon.types import Grid
    >>> from spectac.simulate.head import Head
    >>> grid = Grid.upright((1, 2, 2), (10.0, 10.0, 10.0), (-5.0, -5.0, 0.0))
    >>> cube = Head(grid, np.full(grid.shape, LABEL["skin"], np.uint8), np.ones(grid.shape, np.float32), {})
    >>> contour_radii_mm(cube, [0.0, 45.0], clearance_mm=8.0, lowest_mm=20.0).round(2).tolist()
    [20.0, 22.14]
    """
    return np.maximum(reach_mm(head, view_angles_deg) + clearance_mm, lowest_mm)


def check_clear(head: "Head", view_angles_deg: ArrayLike, radii_mm: ArrayLike) -> None:
    """Check that the collimator does not touch the head in any view.

    Parameters
    ----------
    head
        Virtual head.
    view_angles_deg
        (v,) angles of the views in degrees.
    radii_mm
        (v,) distances from the axis to the collimator face.

    Raises
    ------
    InputError
        Where the collimator would touch the head; the message names the worst view.

    Examples
    --------
    >>> from spectac.recon.types import Grid
    >>> from spectac.simulate.head import Head
    >>> grid = Grid.upright((1, 2, 2), (10.0, 10.0, 10.0), (-5.0, -5.0, 0.0))
    >>> cube = Head(grid, np.full(grid.shape, LABEL["skin"], np.uint8), np.ones(grid.shape, np.float32), {})
    >>> check_clear(cube, [0.0, 45.0], [12.0, 12.0])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    spectac.recon.errors.InputError: the detector at 45 deg would hit the head: ...
    """
    angles, radii = np.asarray(view_angles_deg, dtype=np.float64), np.asarray(radii_mm, dtype=np.float64)
    overlap = reach_mm(head, angles) - radii
    worst = int(overlap.argmax())
    if overlap[worst] > 0:
        raise InputError(
            f"the detector at {angles[worst]:g} deg would hit the head: its face is {radii[worst]:.0f} mm from the "
            f"axis but the head or its holder reaches {radii[worst] + overlap[worst]:.0f} mm: use a larger radius, a "
            "contour orbit, or Scanner.around(head)"
        )
