"""Angles and camera frames: the one home of the sign and the zero of the view angle.

Angles are DICOM's. At 0 deg the detector is at the patient's back. Angles grow counter-clockwise seen from the feet:
back, patient's left, front, patient's right. In LPS coordinates (x to left, y to posterior) the unit vector from the
axis to the detector is n = (sin a, cos a). The detector's right, seen looking at the patient, is e = (-cos a, sin a).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectac.recon.errors import InputError
from spectac.recon.types import Acquisition, Array, Grid

LARGEST_GAP_DEG = 30.0
"""Largest arc without views; a larger one distorts images."""
ORBIT_MARGIN_MM = 60.0
"""How far beyond the collimator's face voxels are kept, although no activity can be there.

They take up counts that no energy window explains, such as septal penetration. Without them these counts come nearer to
the head, and a region of the brain reads up to 0.3 % more. With 60 mm regions keep their value to 0.1 %
(benchmarks/images/crop_to_orbit.py).
"""


def view_normals(view_angles_deg: ArrayLike) -> NDArray[np.float64]:
    """Directions from the rotation axis to the detector.

    Parameters
    ----------
    view_angles_deg
        Angles (v,) in degrees.

    Returns
    -------
    Array
        Unit vectors (v, 2) in LPS (x, y).

    Examples
    --------
    >>> view_normals([0.0, 90.0]).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    sine, cosine = _sine_cosine(view_angles_deg)
    return np.stack([sine, cosine], axis=-1)


def detector_rights(view_angles_deg: ArrayLike) -> NDArray[np.float64]:
    """Directions in which the detector's column index u grows.

    Parameters
    ----------
    view_angles_deg
        Angles (v,) in degrees.

    Returns
    -------
    Array
        Unit vectors (v, 2) in LPS (x, y).

    Examples
    --------
    >>> detector_rights([0.0, 90.0]).tolist()
    [[-1.0, 0.0], [-0.0, 1.0]]
    """
    sine, cosine = _sine_cosine(view_angles_deg)
    return np.stack([-cosine, sine], axis=-1)


def _sine_cosine(angles_deg: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sine and cosine that are exactly 0 or +-1 at multiples of 90 deg."""
    radians = np.deg2rad(np.mod(np.asarray(angles_deg, dtype=np.float64), 360.0))
    sine, cosine = np.sin(radians), np.cos(radians)
    sine[np.abs(sine) < 1e-12] = 0.0
    cosine[np.abs(cosine) < 1e-12] = 0.0
    return sine, cosine


def signed_deg(angles_deg: ArrayLike) -> NDArray[np.float64]:
    """The same angles between -180 and 180 deg.

    Parameters
    ----------
    angles_deg
        Angles, or differences of angles, in degrees.

    Returns
    -------
    Array
        Angles from -180 up to but not including 180 deg.

    Examples
    --------
    >>> float(signed_deg(350.0))
    -10.0
    """
    return np.mod(np.asarray(angles_deg, np.float64) + 180.0, 360.0) - 180.0


def gaps_deg(angles_deg: ArrayLike, period_deg: float = 360.0) -> NDArray[np.float64]:
    """Gaps between neighbouring angles.

    Parameters
    ----------
    angles_deg
        Angles (v,) in degrees, in any order.
    period_deg
        Angle after which directions repeat; 180 for lines.

    Returns
    -------
    Array
        Gaps (v,) in degrees by ascending angle, from the last angle to the first at the end.

    Examples
    --------
    >>> gaps_deg([270.0, 0.0, 90.0]).tolist()
    [90.0, 180.0, 90.0]
    """
    ascending = np.sort(np.mod(np.asarray(angles_deg, np.float64), period_deg))
    return np.diff(ascending, append=ascending[0] + period_deg)


def default_grid(acquisition: Acquisition) -> Grid:
    """Grid of the projections' own pixels, centred on the rotation axis.

    Parameters
    ----------
    acquisition
        Acquisition whose pixels become voxels.

    Returns
    -------
    Grid
        Grid of shape (z, u, u). Its centre is the origin where the position of the axis is unknown.

    Examples
    --------
    >>> acquisition = Acquisition([0.0], [150.0], (2, 16), (5.0, 4.0), [10.0], "Tc-99m", None)
    >>> default_grid(acquisition).shape
    (2, 16, 16)
    """
    rows, columns = acquisition.matrix
    pitch_z, pitch_u = acquisition.pixel_mm
    x, y, z = axis_position_mm(acquisition)
    half = 0.5 * (columns - 1) * pitch_u
    return Grid.upright((rows, columns, columns), (pitch_z, pitch_u, pitch_u), (x - half, y - half, z))


def coverage_doubt(acquisition: Acquisition) -> str | None:
    """What looks wrong with the angles of the views.

    Two things are looked for: more than 30 deg without a view, and evenly spaced views with one larger gap. The latter
    happens where an arc was read as step times views although it goes from the first view to the last.

    Parameters
    ----------
    acquisition
        Acquisition with the angles.

    Returns
    -------
    str or None
        A sentence for the user, None where nothing looks wrong.

    Examples
    --------
    >>> acquisition = Acquisition([0.0, 10.0, 20.0], [150.0] * 3, (1, 4), (4.0, 4.0), [10.0] * 3, "Tc-99m", None)
    >>> coverage_doubt(acquisition).split(":")[0]
    'the views leave 340 deg uncovered'
    """
    angles = np.unique(np.round(np.mod(acquisition.view_angles_deg, 360.0), 2))
    if angles.size < 3:
        return None
    gaps = np.sort(gaps_deg(angles))
    usual, second, largest = float(np.median(gaps)), float(gaps[-2]), float(gaps[-1])
    if largest > LARGEST_GAP_DEG:
        return (
            f"the views leave {largest:.0f} deg uncovered: attenuation and resolution are not averaged over opposite "
            "views, expect distortions"
        )
    if largest > 1.5 * usual and second < 1.1 * usual:
        return (
            f"the views are {usual:.5g} deg apart but for one gap of {largest:.5g} deg: check the arc and the step "
            "(--step-deg)"
        )
    return None


def axis_position_mm(acquisition: Acquisition) -> tuple[float, float, float]:
    """Position of the rotation axis at the centre of projection row 0.

    Parameters
    ----------
    acquisition
        Acquisition with the axis.

    Returns
    -------
    tuple of floats
        LPS (x, y, z) in mm. The field's centre is the origin where the position is unknown.

    Examples
    --------
    >>> acquisition = Acquisition([0.0], [150.0], (3, 4), (5.0, 4.0), [10.0], "Tc-99m", None)
    >>> axis_position_mm(acquisition)
    (0.0, 0.0, -5.0)
    """
    if acquisition.axis_lps_mm is not None:
        return acquisition.axis_lps_mm
    return 0.0, 0.0, -0.5 * (acquisition.matrix[0] - 1) * acquisition.pixel_mm[0]


@dataclass(frozen=True, eq=False)
class CameraFrames:
    """For each view the lattice of depth planes d (0 nearest the detector) and columns u over the grid.

    Parameters
    ----------
    lattice
        Numbers l (v, 6): a lattice point lies at the grid index x = l0 + l1 d + l2 u, y = l3 + l4 d + l5 u.
    first, last
        Columns first <= u < last (v, d) whose bilinear footprint touches the grid; equal for an empty plane.
    distance_mm
        Distances (v, d) from the plane of voxel centres to the collimator face, at least 0.

    Examples
    --------
    >>> acquisition = Acquisition([0.0], [150.0], (1, 4), (4.0, 4.0), [10.0], "Tc-99m", None)
    >>> camera_frames(acquisition, default_grid(acquisition)).distance_mm[0].tolist()
    [144.0, 148.0, 152.0, 156.0]
    """

    lattice: Array
    first: Array
    last: Array
    distance_mm: Array

    @property
    def depths(self) -> int:
        """Number of depth planes (the most that any view needs)."""
        return int(self.first.shape[1])


def camera_frames(acquisition: Acquisition, grid: Grid, inside: NDArray[np.bool_] | None = None) -> CameraFrames:
    """Camera frames of all views.

    The lattice has the pitch of the u pixel in depth as well. It coincides with the grid at 0, 90, 180 and 270 deg when
    the grid is centred on the axis and the sizes of u, y and x are all even or all odd.

    Parameters
    ----------
    acquisition
        Acquisition with the views.
    grid
        Upright grid whose voxels are the projections' pixels.
    inside
        Voxels (y, x) that count; None: all. Lattice points that touch none of them are left out, but for a few.

    Returns
    -------
    CameraFrames
        Lattice, columns and distances of every view.

    Raises
    ------
    InputError
        Where the grid does not fit the projections.

    Examples
    --------
    >>> acquisition = Acquisition([0.0], [150.0], (1, 4), (4.0, 4.0), [10.0], "Tc-99m", None)
    >>> camera_frames(acquisition, default_grid(acquisition)).depths
    4
    """
    _check_fit(acquisition, grid)
    _, ny, nx = grid.shape
    columns = acquisition.matrix[1]
    pitch = grid.voxel_mm[2]
    axis = np.array(axis_position_mm(acquisition)[:2])
    first_voxel = grid.affine_lps[:2, 3] - axis
    centre = first_voxel + 0.5 * pitch * np.array([nx - 1, ny - 1])

    normals, rights = view_normals(acquisition.view_angles_deg), detector_rights(acquisition.view_angles_deg)
    sine, cosine = np.abs(normals[:, 0]), np.abs(normals[:, 1])
    reach = 0.5 * ((nx + 1) * sine + (ny + 1) * cosine) - 1e-9
    even = np.where(cosine >= sine, ny, nx) % 2 == 0
    planes = np.where(even, 2 * np.ceil(reach - 0.5), 2 * np.ceil(reach) - 1).astype(np.int64)
    depths = int(planes.max())

    nearest = normals @ centre + 0.5 * (planes - 1) * pitch
    leftmost = -0.5 * (columns - 1) * pitch - np.asarray(acquisition.u_offset_mm)
    origin = nearest[:, None] * normals + leftmost[:, None] * rights - first_voxel
    lattice = np.empty((acquisition.views, 6))
    # Rounded, so that a lattice point that should lie on a voxel does, and no weight of 1e-16 spills over the edge.
    lattice[:, 0::3] = np.round(origin / pitch, 9)
    lattice[:, 1::3] = -normals
    lattice[:, 2::3] = rights

    d = np.arange(depths)
    low, high = np.full((acquisition.views, depths), -np.inf), np.full((acquisition.views, depths), np.inf)
    for offset, size in ((0, nx), (3, ny)):
        start = lattice[:, offset, None] + lattice[:, offset + 1, None] * d
        step = np.broadcast_to(lattice[:, offset + 2, None], start.shape)
        within = (start > -1) & (start < size)
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.sort(np.stack([(-1 - start) / step, (size - start) / step]), axis=0)
        ends[0] = np.where(step == 0, np.where(within, -np.inf, np.inf), ends[0])
        ends[1] = np.where(step == 0, np.where(within, np.inf, -np.inf), ends[1])
        low, high = np.maximum(low, ends[0]), np.minimum(high, ends[1])
    first = np.clip(np.floor(low + 1e-9) + 1, 0, columns).astype(np.int64)
    last = np.clip(np.ceil(high - 1e-9), 0, columns).astype(np.int64)
    first[d >= planes[:, None]] = 0
    last[d >= planes[:, None]] = 0
    last = np.maximum(first, last)

    if inside is not None and not inside.all():
        first, last = _tightened(first, last, lattice, inside)
    distance = acquisition.radii_mm[:, None] - (nearest[:, None] - pitch * d)
    frames = CameraFrames(lattice, first, last, np.maximum(distance, 0.0))
    return frames if inside is None else _without_empty_planes(frames)


def orbit_support(acquisition: Acquisition, grid: Grid) -> NDArray[np.bool_]:
    """Voxels that a reconstruction computes.

    Parameters
    ----------
    acquisition
        Acquisition with the orbit.
    grid
        Upright voxel grid.

    Returns
    -------
    Array
        True (y, x) where the centre lies at most ORBIT_MARGIN_MM beyond the collimator's face in every view.

    Examples
    --------
    >>> acquisition = Acquisition([0.0], [10.0], (1, 64), (4.0, 4.0), [10.0], "Tc-99m", None)
    >>> int(orbit_support(acquisition, default_grid(acquisition)).any(axis=1).sum())
    50
    """
    _, y, x = grid.centres_mm()
    axis = axis_position_mm(acquisition)
    inside = np.ones((y.size, x.size), bool)
    for normal, radius_mm in zip(view_normals(acquisition.view_angles_deg), acquisition.radii_mm, strict=True):
        inside &= normal[0] * (x - axis[0]) + normal[1] * (y - axis[1])[:, None] <= radius_mm + ORBIT_MARGIN_MM
    return inside


def _tightened(first: Array, last: Array, lattice: Array, support: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Columns of each plane among those given that hold every lattice point within reach of the support."""
    y, x = np.nonzero(support)
    depths = first.shape[1]
    tight_first, tight_last = np.zeros_like(first), np.zeros_like(last)
    for view, (l0, l1, l2, l3, l4, l5) in enumerate(lattice):
        # The lattice's steps are unit vectors at right angles; a footprint reaches sqrt(2) in each of its directions.
        depth = l1 * (x - l0) + l4 * (y - l3)
        column = l2 * (x - l0) + l5 * (y - l3)
        low, high = np.full(depths, np.inf), np.full(depths, -np.inf)
        for step in (-1, 0, 1):
            plane = np.rint(depth).astype(np.int64) + step
            exists = (plane >= 0) & (plane < depths)
            np.minimum.at(low, plane[exists], column[exists])
            np.maximum.at(high, plane[exists], column[exists])
        touched = np.isfinite(low)
        tight_first[view, touched] = np.ceil(low[touched] - math.sqrt(2.0))
        tight_last[view, touched] = np.floor(high[touched] + math.sqrt(2.0)) + 1
    tight_first = np.clip(tight_first, first, last)
    return tight_first, np.clip(tight_last, tight_first, last)


def _without_empty_planes(frames: CameraFrames) -> CameraFrames:
    """Frames whose first plane is each view's first that has columns, and which end where no view has any."""
    full = frames.first < frames.last
    begin = np.argmax(full, axis=1)
    depths = int((full.shape[1] - np.argmax(full[:, ::-1], axis=1) - begin)[full.any(axis=1)].max(initial=1))
    lattice = frames.lattice.copy()
    for offset in (0, 3):
        lattice[:, offset] += begin * lattice[:, offset + 1]
    planes = begin[:, None] + np.arange(depths)
    exists = planes < full.shape[1]
    planes = np.minimum(planes, full.shape[1] - 1)
    first, last, distance = (
        np.take_along_axis(array, planes, axis=1) for array in (frames.first, frames.last, frames.distance_mm)
    )
    return CameraFrames(lattice, first * exists, last * exists, distance)


def _check_fit(acquisition: Acquisition, grid: Grid) -> None:
    if not grid.is_upright:
        raise InputError("the projector needs a grid along the patient's axes (z superior, y posterior, x left)")
    if grid.shape[0] != acquisition.matrix[0]:
        raise InputError(
            f"the grid has {grid.shape[0]} slices but the projections have {acquisition.matrix[0]} rows: "
            "one slice belongs to each row"
        )
    pitch_z, pitch_u = acquisition.pixel_mm
    row_0_mm = axis_position_mm(acquisition)[2]
    if not np.allclose(grid.voxel_mm, (pitch_z, pitch_u, pitch_u), rtol=1e-4):
        raise InputError(
            f"voxels of {grid.voxel_mm} mm do not fit pixels of {acquisition.pixel_mm} mm (z, u): the voxel is the "
            "pixel; rebin the projections for another sampling"
        )
    if abs(grid.affine_lps[2, 3] - row_0_mm) > 0.01 * pitch_z:
        raise InputError(
            f"slice 0 lies at z = {grid.affine_lps[2, 3]:g} mm but projection row 0 at {row_0_mm:g} mm: start from "
            "geometry.default_grid(acquisition)"
        )
