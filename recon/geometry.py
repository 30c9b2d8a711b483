"""The one home of angle conventions: view directions, and each view's camera frame laid over the voxel grid.

Angles are DICOM's: 0 deg has the detector at the patient's back and they grow counter-clockwise seen from the feet,
back -> patient's left -> front -> patient's right. In LPS coordinates (x to left, y to posterior) the unit vector from
the axis to the detector is n = (sin a, cos a), and the detector's right, seen looking at the patient, is
e = (-cos a, sin a).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectac.recon.errors import InputError
from spectac.recon.types import Acquisition, Array, Grid


def view_normals(view_angles_deg: ArrayLike) -> NDArray[np.float64]:
    """Unit vectors (v, 2) in (x, y) from the rotation axis to the detector."""
    sine, cosine = _sine_cosine(view_angles_deg)
    return np.stack([sine, cosine], axis=-1)


def detector_rights(view_angles_deg: ArrayLike) -> NDArray[np.float64]:
    """Unit vectors (v, 2) in (x, y) along which the detector's column index u grows."""
    sine, cosine = _sine_cosine(view_angles_deg)
    return np.stack([-cosine, sine], axis=-1)


def _sine_cosine(angles_deg: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sine and cosine that are exactly 0 or +-1 at multiples of 90 deg."""
    radians = np.deg2rad(np.mod(np.asarray(angles_deg, dtype=np.float64), 360.0))
    sine, cosine = np.sin(radians), np.cos(radians)
    sine[np.abs(sine) < 1e-12] = 0.0
    cosine[np.abs(cosine) < 1e-12] = 0.0
    return sine, cosine


def default_grid(acquisition: Acquisition) -> Grid:
    """Grid (z, u, u) of the projections' own pixels, centred on the rotation axis.

    Where the axis position is unknown the grid's centre is the origin.
    """
    rows, columns = acquisition.matrix
    pitch_z, pitch_u = acquisition.pixel_mm
    x, y, z = axis_position_mm(acquisition)
    half = 0.5 * (columns - 1) * pitch_u
    return Grid.upright((rows, columns, columns), (pitch_z, pitch_u, pitch_u), (x - half, y - half, z))


def axis_position_mm(acquisition: Acquisition) -> tuple[float, float, float]:
    """(x, y, z) of the axis at the centre of projection row 0; the field's centre is the origin when it is unknown."""
    if acquisition.axis_lps_mm is not None:
        return acquisition.axis_lps_mm
    return 0.0, 0.0, -0.5 * (acquisition.matrix[0] - 1) * acquisition.pixel_mm[0]


@dataclass(frozen=True, eq=False)
class CameraFrames:
    """For each view the lattice of depth planes d (0 nearest the detector) and columns u, laid over the grid.

    `lattice` (v, 6): a lattice point lies at the grid index x = l0 + l1 d + l2 u, y = l3 + l4 d + l5 u.
    `first`, `last` (v, d): columns first <= u < last whose bilinear footprint touches the grid; equal = plane empty.
    `distance_mm` (v, d): from the plane of voxel centres to the collimator face, at least 0.
    """

    lattice: Array
    first: Array
    last: Array
    distance_mm: Array

    @property
    def depths(self) -> int:
        """Number of depth planes (the most that any view needs)."""
        return int(self.first.shape[1])


def camera_frames(acquisition: Acquisition, grid: Grid) -> CameraFrames:
    """Camera frames of all views over an upright grid whose voxels are the projections' pixels.

    The lattice has the pitch of the u pixel in depth as well. It coincides with the grid at 0, 90, 180 and 270 deg when
    the grid is centred on the axis and the sizes of u, y and x are all even or all odd.
    Raises InputError where the grid does not fit the projections.
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
        inside = (start > -1) & (start < size)
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.sort(np.stack([(-1 - start) / step, (size - start) / step]), axis=0)
        ends[0] = np.where(step == 0, np.where(inside, -np.inf, np.inf), ends[0])
        ends[1] = np.where(step == 0, np.where(inside, np.inf, -np.inf), ends[1])
        low, high = np.maximum(low, ends[0]), np.minimum(high, ends[1])
    first = np.clip(np.floor(low + 1e-9) + 1, 0, columns).astype(np.int64)
    last = np.clip(np.ceil(high - 1e-9), 0, columns).astype(np.int64)
    first[d >= planes[:, None]] = 0
    last[d >= planes[:, None]] = 0
    last = np.maximum(first, last)

    distance = acquisition.radii_mm[:, None] - (nearest[:, None] - pitch * d)
    return CameraFrames(lattice, first, last, np.maximum(distance, 0.0))


def _check_fit(acquisition: Acquisition, grid: Grid) -> None:
    if not grid.is_upright:
        raise InputError("the projector needs a grid along the patient's axes (z superior, y posterior, x left)")
    if grid.shape[0] != acquisition.matrix[0]:
        raise InputError(
            f"the grid has {grid.shape[0]} slices but the projections have {acquisition.matrix[0]} rows: "
            "one slice belongs to each row"
        )
    pitch_z, pitch_u = acquisition.pixel_mm
    if not np.allclose(grid.voxel_mm, (pitch_z, pitch_u, pitch_u), rtol=1e-4):
        raise InputError(
            f"voxels of {grid.voxel_mm} mm do not fit pixels of {acquisition.pixel_mm} mm (z, u): the voxel is the "
            "pixel; rebin the projections for another sampling"
        )
    if abs(grid.affine_lps[2, 3] - axis_position_mm(acquisition)[2]) > 0.01 * pitch_z:
        raise InputError(
            f"slice 0 lies at z = {grid.affine_lps[2, 3]:g} mm but projection row 0 at "
            f"{axis_position_mm(acquisition)[2]:g} mm: start from geometry.default_grid(acquisition)"
        )
