"""The one home of angle conventions: view directions, and each view's camera frame laid over the voxel grid.

Angles are DICOM's: 0 deg has the detector at the patient's back and they grow counter-clockwise seen from the feet,
back -> patient's left -> front -> patient's right. In LPS coordinates (x to left, y to posterior) the unit vector from
the axis to the detector is n = (sin a, cos a), and the detector's right, seen looking at the patient, is
e = (-cos a, sin a).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectac.recon.errors import InputError
from spectac.recon.types import Acquisition, Array, Grid

LARGEST_GAP_DEG = 30.0
"""Arcs without views beyond which images are distorted."""


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


def coverage_doubt(acquisition: Acquisition) -> str | None:
    """What looks wrong with the angles of the views, in a sentence; None where nothing does.

    More than 30 deg without a view, or a nearly full turn whose views are evenly spaced but for one gap: then an arc
    may have been read as step times views though it goes from the first view to the last.
    """
    angles = np.unique(np.round(np.mod(acquisition.view_angles_deg, 360.0), 2))
    if angles.size < 3:
        return None
    gaps = np.sort(np.diff(angles, append=angles[0] + 360.0))
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


def camera_frames(acquisition: Acquisition, grid: Grid, inside: NDArray[np.bool_] | None = None) -> CameraFrames:
    """Camera frames of all views over an upright grid whose voxels are the projections' pixels.

    Lattice points that touch no voxel of `inside` (y, x; None: all) are left out, and some that touch none may stay.

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


ORBIT_MARGIN_MM = 60.0
"""How far beyond the collimator's face voxels are kept, where nothing can be.

They hold what no energy window explains, septal penetration above all. Without them that comes nearer to the head, so
that a region of the brain reads up to 0.3 % more; with 60 mm regions keep their value to 0.1 %
(benchmarks/crop_to_orbit.py).
"""


def orbit_support(acquisition: Acquisition, grid: Grid) -> NDArray[np.bool_]:
    """Voxels (y, x) whose centre lies at most ORBIT_MARGIN_MM beyond the collimator's face in every view."""
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
            known = (plane >= 0) & (plane < depths)
            np.minimum.at(low, plane[known], column[known])
            np.maximum.at(high, plane[known], column[known])
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
    planes = np.minimum(begin[:, None] + np.arange(depths), full.shape[1] - 1)
    known = begin[:, None] + np.arange(depths) < full.shape[1]
    first, last, distance = (
        np.take_along_axis(array, planes, axis=1) for array in (frames.first, frames.last, frames.distance_mm)
    )
    return CameraFrames(lattice, first * known, last * known, distance)


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
