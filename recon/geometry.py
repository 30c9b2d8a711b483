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


WIDEST_STEP = 1.25
"""Largest distance in voxels between the rays that sample a plane of a fan beam; wider columns take several rays.

With 1, columns near the axis, which lie a voxel apart, would be averages of two rays: exact projections of a head are
then missed by 1.53 % instead of 1.46 % (tests/recon/test_fan_beam.py); with 1.5 by 1.48 %.
"""
NEAREST_TO_FOCUS = 0.15
"""Share of a focal length, from the focal line on, where a fan beam's projector has no points.

The blur grows without limit there, and no patient is: the far side of the orbit lies nearer to the detector.
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


@dataclass(frozen=True, eq=False)
class FocalLines:
    """Focal line of every view of a fan-beam study.

    A ray that meets the plane of interaction at u crosses the plane at distance z from the collimator's face at
    x = (u - place) (face - z) / crystal from the focal line.

    Parameters
    ----------
    face_mm, crystal_mm
        Distances (v,) from the focal line to the collimator's face and to the plane of interaction.
    place_mm
        Where the focal line lies across the view (v,), from the rotation axis towards growing u.

    Examples
    --------
    >>> from spectac.recon import Collimator, Focus
    >>> fan = Collimator("fan", 1.5, 40.0, 0.2, 3.8, 5.0, focus=Focus(350.0))
    >>> acquisition = Acquisition([0.0], [140.0], (1, 4), (4.0, 4.0), [10.0], "Tc-99m", fan)
    >>> focal_lines(acquisition).crystal_mm.tolist()
    [395.0]
    """

    face_mm: Array
    crystal_mm: Array
    place_mm: Array


def focal_lines(acquisition: Acquisition) -> FocalLines | None:
    """Focal lines of all views.

    Parameters
    ----------
    acquisition
        Acquisition with the foci of its detectors.

    Returns
    -------
    FocalLines or None
        None for parallel holes.

    Raises
    ------
    InputError
        Where the collimator's length is unknown, or the rotation axis lies beyond a focal line or within
        NEAREST_TO_FOCUS of it.

    Examples
    --------
    >>> focal_lines(Acquisition([0.0], [140.0], (1, 4), (4.0, 4.0), [10.0], "Tc-99m", None)) is None
    True
    """
    if not acquisition.foci:
        return None
    distances = np.array([focus.distances_mm(acquisition.collimator) for focus in acquisition.foci])
    offsets = np.array([focus.offset_mm for focus in acquisition.foci])
    head = np.unique(np.asarray(acquisition.detector), return_inverse=True)[1]
    face_mm, crystal_mm = distances[head].T
    radii_mm = np.asarray(acquisition.radii_mm)
    reach_mm = (1.0 - NEAREST_TO_FOCUS) * face_mm
    if (radii_mm >= reach_mm).any():
        view = int(np.argmax(radii_mm - reach_mm))
        raise InputError(
            f"the focal line of view {view} lies {face_mm[view]:g} mm from the collimator's face, before the rotation "
            f"axis at {radii_mm[view]:g} mm or too near to it: check --focal-length, --focus-from and --radius-mm"
        )
    return FocalLines(face_mm, crystal_mm, offsets[head] - np.asarray(acquisition.u_offset_mm))


def ray_tables(acquisition: Acquisition) -> tuple[Array, Array]:
    """Cosine and weight of the rays that meet each column of the detector.

    With theta the ray's angle to the detector's normal, tan(theta) = (u - place)/Fc, the sensitivity of a point at
    distance z from the face is F/(F - z) cos^3(theta) times that of parallel holes of the same size on the crystal's
    side. F/(F - z) is the lattice's own: columns lie nearer to each other there, by (F - z)/Fc.

    Parameters
    ----------
    acquisition
        Acquisition with the foci of its detectors.

    Returns
    -------
    tuple of arrays
        cos(theta) (v, u), and F/Fc cos^3(theta) (v, u); both 1 for parallel holes.

    Examples
    --------
    >>> from spectac.recon import Collimator, Focus
    >>> fan = Collimator("fan", 1.5, 40.0, 0.2, 3.8, 10.0, focus=Focus(350.0))
    >>> cosine, gain = ray_tables(Acquisition([0.0], [140.0], (1, 1), (4.0, 4.0), [10.0], "Tc-99m", fan))
    >>> float(cosine[0, 0]), float(gain[0, 0])
    (1.0, 0.875)
    """
    lines = focal_lines(acquisition)
    if lines is None:
        ones = np.ones((acquisition.views, acquisition.matrix[1]))
        return ones, ones
    place = columns_mm(acquisition) - lines.place_mm[:, None]
    cosine = 1.0 / np.hypot(1.0, place / lines.crystal_mm[:, None])
    return cosine, (lines.face_mm / lines.crystal_mm)[:, None] * cosine**3


def columns_mm(acquisition: Acquisition) -> Array:
    """Places of the detector's columns.

    Parameters
    ----------
    acquisition
        Acquisition with the detector.

    Returns
    -------
    Array
        Places (v, u) in mm from the normal through the rotation axis.

    Examples
    --------
    >>> columns_mm(Acquisition([0.0], [140.0], (1, 3), (4.0, 4.0), [10.0], "Tc-99m", None)).tolist()
    [[-4.0, 0.0, 4.0]]
    """
    columns = acquisition.matrix[1]
    place = (np.arange(columns) - 0.5 * (columns - 1)) * acquisition.pixel_mm[1]
    return np.asarray(place - np.asarray(acquisition.u_offset_mm)[:, None])


def ray_lines(acquisition: Acquisition) -> tuple[Array, Array]:
    """Line of every ray, as the view of parallel holes that would see it and its place there.

    With theta the ray's angle to the normal, the view is at the angle of the detector less theta, and the place is
    (F - R) sin(theta) + place cos(theta), with `place` that of the focal line.

    Parameters
    ----------
    acquisition
        Acquisition with the views.

    Returns
    -------
    tuple of arrays
        Angles (v, u) in degrees, and signed distances (v, u) in mm from the rotation axis to the lines.

    Examples
    --------
    >>> acquisition = Acquisition([90.0], [140.0], (1, 2), (4.0, 4.0), [10.0], "Tc-99m", None)
    >>> [array.tolist() for array in ray_lines(acquisition)]
    [[[90.0, 90.0]], [[-2.0, 2.0]]]
    """
    place, lines = columns_mm(acquisition), focal_lines(acquisition)
    angles_deg = np.broadcast_to(np.asarray(acquisition.view_angles_deg)[:, None], place.shape)
    if lines is None:
        return angles_deg, place
    theta = np.arctan((place - lines.place_mm[:, None]) / lines.crystal_mm[:, None])
    ahead = (lines.face_mm - acquisition.radii_mm)[:, None]
    return angles_deg - np.rad2deg(theta), ahead * np.sin(theta) + lines.place_mm[:, None] * np.cos(theta)


def object_pixel_mm(acquisition: Acquisition) -> tuple[float, float]:
    """Pixel sizes (z, u) in mm at the rotation axis; for parallel holes the detector's.

    Parameters
    ----------
    acquisition
        Acquisition with the pixels.

    Returns
    -------
    tuple of floats
        Sizes; that of u is pixel_u (F - R) / Fc for a fan beam, averaged over the views.

    Examples
    --------
    >>> from spectac.recon import Collimator, Focus
    >>> fan = Collimator("fan", 1.5, 40.0, 0.2, 3.8, 10.0, focus=Focus(340.0))
    >>> object_pixel_mm(Acquisition([0.0], [145.0], (1, 4), (4.0, 4.0), [10.0], "Tc-99m", fan))
    (4.0, 2.0)
    """
    pixel_z, pixel_u = acquisition.pixel_mm
    lines = focal_lines(acquisition)
    if lines is None:
        return pixel_z, pixel_u
    return pixel_z, pixel_u * float(np.mean((lines.face_mm - acquisition.radii_mm) / lines.crystal_mm))


def axis_sigma_mm(acquisition: Acquisition, energy_kev: float) -> Array:
    """Standard deviations of the transaxial point response at the rotation axis, in mm of the object.

    Parameters
    ----------
    acquisition
        Acquisition with a collimator.
    energy_kev
        Energy of the photons in keV.

    Returns
    -------
    Array
        Standard deviations (v,) in mm; a fan beam's is that on the crystal times (F - R)/Fc.

    Examples
    --------
    >>> from spectac.recon import COLLIMATORS
    >>> acquisition = Acquisition([0.0], [100.0], (1, 4), (4.0, 4.0), [10.0], "Tc-99m", COLLIMATORS["ge-lehr"])
    >>> axis_sigma_mm(acquisition, 140.5).round(2).tolist()
    [3.19]
    """
    if acquisition.collimator is None:
        raise InputError("the collimator is unknown: name it with --collimator, or give --psf SIGMA0_MM:SLOPE")
    lines, radii_mm = focal_lines(acquisition), np.asarray(acquisition.radii_mm)
    if lines is None:
        return acquisition.collimator.sigma_mm(radii_mm, energy_kev)
    sigma_mm = [
        float(acquisition.collimator.sigma_mm(radius, energy_kev, focus_mm=face))
        for radius, face in zip(radii_mm.tolist(), lines.face_mm.tolist(), strict=True)
    ]
    return np.array(sigma_mm) * (lines.face_mm - radii_mm) / lines.crystal_mm


def default_grid(acquisition: Acquisition) -> Grid:
    """Grid of the projections' own pixels, centred on the rotation axis.

    The transaxial voxel of a fan beam is the pixel at the axis, and the grid reaches to the orbit.

    Parameters
    ----------
    acquisition
        Acquisition whose pixels become voxels.

    Returns
    -------
    Grid
        Grid of shape (z, u, u), for a fan beam with more than u columns where the orbit is wider. Its centre is the
        origin where the position of the axis is unknown.

    Examples
    --------
    >>> acquisition = Acquisition([0.0], [150.0], (2, 16), (5.0, 4.0), [10.0], "Tc-99m", None)
    >>> default_grid(acquisition).shape
    (2, 16, 16)
    """
    rows, columns = acquisition.matrix
    pitch_z, pitch = object_pixel_mm(acquisition)
    if acquisition.foci:
        missing = 2.0 * float(np.max(acquisition.radii_mm)) / pitch - columns
        columns += 2 * max(0, math.ceil(0.5 * missing))
    x, y, z = axis_position_mm(acquisition)
    half = 0.5 * (columns - 1) * pitch
    return Grid.upright((rows, columns, columns), (pitch_z, pitch, pitch), (x - half, y - half, z))


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
    rows
        Numbers r (v, d, 4): column u of a plane lies at the grid index x = r0 + r1 u, y = r2 + r3 u.
    first, last
        Columns first <= u < last (v, d) whose bilinear footprint touches the grid; equal for an empty plane.
    distance_mm
        Distances (v, d) from the plane of voxel centres to the collimator face, at least 0.
    rays
        Number (v, d) of sub-rays over which a column is averaged: 1 where columns are at most WIDEST_STEP voxels apart.

    Examples
    --------
    >>> acquisition = Acquisition([0.0], [150.0], (1, 4), (4.0, 4.0), [10.0], "Tc-99m", None)
    >>> camera_frames(acquisition, default_grid(acquisition)).distance_mm[0].tolist()
    [144.0, 148.0, 152.0, 156.0]
    """

    rows: Array
    first: Array
    last: Array
    distance_mm: Array
    rays: Array

    @property
    def depths(self) -> int:
        """Number of depth planes (the most that any view needs)."""
        return int(self.first.shape[1])


def camera_frames(acquisition: Acquisition, grid: Grid, inside: NDArray[np.bool_] | None = None) -> CameraFrames:
    """Camera frames of all views.

    Planes lie one transaxial voxel apart. Columns lie one pixel apart, which for parallel holes is the voxel as well:
    the lattice then coincides with the grid at 0, 90, 180 and 270 deg when the grid is centred on the axis and the
    sizes of u, y and x are all even or all odd. Columns of a fan beam follow its rays.

    Parameters
    ----------
    acquisition
        Acquisition with the views.
    grid
        Upright grid; for parallel holes its voxels are the projections' pixels.
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
    pitch = grid.voxel_mm[2]
    axis = np.array(axis_position_mm(acquisition)[:2])
    first_voxel = grid.affine_lps[:2, 3] - axis
    centre = first_voxel + 0.5 * pitch * np.array([nx - 1, ny - 1])

    normals = view_normals(acquisition.view_angles_deg)
    sine, cosine = np.abs(normals[:, 0]), np.abs(normals[:, 1])
    reach = 0.5 * ((nx + 1) * sine + (ny + 1) * cosine) - 1e-9
    even = np.where(cosine >= sine, ny, nx) % 2 == 0
    planes = np.where(even, 2 * np.ceil(reach - 0.5), 2 * np.ceil(reach) - 1).astype(np.int64)
    depths = int(planes.max())

    nearest = normals @ centre + 0.5 * (planes - 1) * pitch
    distance = np.asarray(acquisition.radii_mm)[:, None] - (nearest[:, None] - pitch * np.arange(depths))
    exists = np.arange(depths) < planes[:, None]
    rows, magnified = _rows(acquisition, nearest, distance, first_voxel, pitch)
    lines = focal_lines(acquisition)
    if lines is not None:
        exists &= distance <= (1.0 - NEAREST_TO_FOCUS) * lines.face_mm[:, None]

    low, high = np.full(exists.shape, -np.inf), np.full(exists.shape, np.inf)
    for axis_of_grid, size in ((0, nx), (2, ny)):
        start, step = rows[..., axis_of_grid], rows[..., axis_of_grid + 1]
        within = (start > -1) & (start < size)
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.sort(np.stack([(-1 - start) / step, (size - start) / step]), axis=0)
        ends[0] = np.where(step == 0, np.where(within, -np.inf, np.inf), ends[0])
        ends[1] = np.where(step == 0, np.where(within, np.inf, -np.inf), ends[1])
        low, high = np.maximum(low, ends[0]), np.minimum(high, ends[1])
    columns = acquisition.matrix[1]
    rays = np.maximum(1, np.ceil(np.where(exists, magnified, 1.0) / WIDEST_STEP - 1e-6)).astype(np.int64)
    beside = 0.5 * (rays - 1) / rays
    first = np.clip(np.floor(low - beside + 1e-9) + 1, 0, columns).astype(np.int64) * exists
    last = np.clip(np.ceil(high + beside - 1e-9), 0, columns).astype(np.int64) * exists
    last = np.maximum(first, last)

    if inside is not None and not inside.all():
        first, last = _tightened(first, last, rows, beside, inside)
    frames = CameraFrames(rows, first, last, np.maximum(distance, 0.0), rays)
    if inside is not None:
        frames = _without_empty_planes(frames)
    if not acquisition.foci:
        # To the last bit as a kernel's fused multiply-add has them: the product is not rounded before the sum.
        steps = np.arange(frames.depths)[:, None] * normals[:, None].astype(np.longdouble)
        frames.rows[..., 0::2] = frames.rows[:, :1, 0::2] - steps
    return frames


def _rows(
    acquisition: Acquisition, nearest_mm: Array, distance_mm: Array, first_voxel_mm: Array, pitch_mm: float
) -> tuple[Array, Array]:
    """Places (v, d, 4) of the planes' columns on the grid, and how many voxels two columns lie apart (v, d).

    `nearest_mm` (v,) is the place of the first plane along the view's normal.
    """
    normals, rights = view_normals(acquisition.view_angles_deg), detector_rights(acquisition.view_angles_deg)
    leftmost = -0.5 * (acquisition.matrix[1] - 1) * acquisition.pixel_mm[1] - np.asarray(acquisition.u_offset_mm)
    lines = focal_lines(acquisition)
    depth = np.arange(distance_mm.shape[1])
    rows = np.empty((*distance_mm.shape, 4))
    if lines is None:
        origin = nearest_mm[:, None] * normals + leftmost[:, None] * rights - first_voxel_mm
        # Rounded, so that a lattice point that should lie on a voxel does, and no weight of 1e-16 spills over the edge.
        origin = np.round(origin / pitch_mm, 9)
        rows[..., 0::2] = origin[:, None] - normals[:, None] * depth[:, None]
        rows[..., 1::2] = rights[:, None]
        return rows, np.ones(distance_mm.shape)
    place = lines.place_mm[:, None]
    scale = (lines.face_mm[:, None] - distance_mm) / lines.crystal_mm[:, None]
    left = place + scale * (leftmost[:, None] - place)
    plane = nearest_mm[:, None] - pitch_mm * depth
    origin = plane[..., None] * normals[:, None] + left[..., None] * rights[:, None] - first_voxel_mm
    step = scale * acquisition.pixel_mm[1] / pitch_mm
    rows[..., 0::2] = np.round(origin / pitch_mm, 9)
    rows[..., 1::2] = step[..., None] * rights[:, None]
    return rows, step


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


def _tightened(
    first: Array, last: Array, rows: Array, beside: Array, support: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """Columns of each plane among those given that hold every lattice point within reach of the support.

    `beside` (v, d) is how far, in columns, sub-rays lie from their column.
    """
    y, x = np.nonzero(support)
    depths = first.shape[1]
    tight_first, tight_last = np.zeros_like(first), np.zeros_like(last)
    for view, ((x0, along_x, y0, along_y), *_) in enumerate(rows):
        # Planes lie a voxel apart at right angles to their columns; a footprint reaches sqrt(2) in each direction.
        depth = along_x * (y - y0) - along_y * (x - x0)
        depth = np.rint(depth / math.hypot(along_x, along_y)).astype(np.int64)
        low, high = np.full(depths, np.inf), np.full(depths, -np.inf)
        for step in (-1, 0, 1):
            plane = depth + step
            exists = (plane >= 0) & (plane < depths)
            exists[exists] = first[view, plane[exists]] < last[view, plane[exists]]
            plane = plane[exists]
            r = rows[view, plane]
            column = (r[:, 1] * (x[exists] - r[:, 0]) + r[:, 3] * (y[exists] - r[:, 2])) / (r[:, 1] ** 2 + r[:, 3] ** 2)
            np.minimum.at(low, plane, column)
            np.maximum.at(high, plane, column)
        touched = np.isfinite(low)
        footprint = math.sqrt(2.0) / np.hypot(rows[view, touched, 1], rows[view, touched, 3]) + beside[view, touched]
        tight_first[view, touched] = np.ceil(low[touched] - footprint)
        tight_last[view, touched] = np.floor(high[touched] + footprint) + 1
    tight_first = np.clip(tight_first, first, last)
    return tight_first, np.clip(tight_last, tight_first, last)


def _without_empty_planes(frames: CameraFrames) -> CameraFrames:
    """Frames whose first plane is each view's first that has columns, and which end where no view has any."""
    full = frames.first < frames.last
    begin = np.argmax(full, axis=1)
    depths = int((full.shape[1] - np.argmax(full[:, ::-1], axis=1) - begin)[full.any(axis=1)].max(initial=1))
    planes = begin[:, None] + np.arange(depths)
    exists = planes < full.shape[1]
    planes = np.minimum(planes, full.shape[1] - 1)
    first, last, distance, rays = (
        np.take_along_axis(array, planes, axis=1)
        for array in (frames.first, frames.last, frames.distance_mm, frames.rays)
    )
    rows = np.take_along_axis(frames.rows, planes[..., None], axis=1)
    return CameraFrames(rows, first * exists, last * exists, distance, rays)


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
    voxel_u = grid.voxel_mm[2] if acquisition.foci else pitch_u
    if not np.allclose(grid.voxel_mm, (pitch_z, voxel_u, voxel_u), rtol=1e-4):
        raise InputError(
            f"voxels of {grid.voxel_mm} mm do not fit pixels of {acquisition.pixel_mm} mm (z, u): the voxel is the "
            "pixel; rebin the projections for another sampling"
        )
    if abs(grid.affine_lps[2, 3] - row_0_mm) > 0.01 * pitch_z:
        raise InputError(
            f"slice 0 lies at z = {grid.affine_lps[2, 3]:g} mm but projection row 0 at {row_0_mm:g} mm: start from "
            "geometry.default_grid(acquisition)"
        )
