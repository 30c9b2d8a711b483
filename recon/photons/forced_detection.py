"""Forced detection: what every birth and interaction of a history sends towards one view of the camera.

Instead of waiting for photons that happen to fly into a collimator hole, each event contributes to each view the
probability that its photon leaves along the view's direction, passes through the body and is counted in each window.
Contributions are gathered by their distance from the collimator. At the end they are blurred by its response at that
distance (convolution-based forced detection: de Jong, Slijpen, Beekman, IEEE Trans Nucl Sci 2001;48:58-64).

Parallel holes accept photons along the view's normal. A fan beam accepts those along the ray from the focal line
through the event, at right angles to the axis. F is the focal line's distance from the collimator's face, Fc that from
the crystal's plane of interaction, z the event's distance from the face, tan(theta) the ray's slope to the normal:

- The photon lands at u = place + Fc tan(theta), place being the focal line's.
- Averaged over the holes' places, holes that narrow towards the focus accept a solid angle of F/(F - z) cos^3(theta)
  times that of parallel holes of the same size and pitch on the crystal's side: neighbouring holes' fields overlap in
  the plane, F/(F - z), and the detector is seen from farther and obliquely, cos^3(theta). This is the whole weight of
  an event. The magnification of its place spreads the counts of neighbouring events and adds no factor.
- Its way through body and crystal is longer by 1/cos(theta).
- The blur along u is wider by F/(F - z), that along z is as for parallel holes.
"""

import math
from typing import NamedTuple

import numpy as np

from spectac.recon import geometry
from spectac.recon.collimator import Collimator, pixel_kernel
from spectac.recon.geometry import NEAREST_TO_FOCUS
from spectac.recon.kernels.compiled import compiled
from spectac.recon.photons.cross_sections import (
    CLASSICAL_RADIUS2_CM2,
    ELECTRON_KEV,
    ENERGY_STEP_KEV,
    HC_KEV_ANGSTROM,
    X_STEP,
    interpolated,
)
from spectac.recon.photons.detector import Crystal
from spectac.recon.types import Acquisition, Array, EnergyWindow, Grid

RESPONSE_STEP_KEV = 0.25
"""Step of `Response.table` in energy."""

COUNTED = 1e-5
"""Least probability of being counted, in any window, at which a photon is followed towards the detector."""

LAYER_MM = 10.0
"""Thickness of the layers by distance from the collimator; over one, the FWHM of an LEHR collimator grows 0.45 mm."""

ORDER_CLASSES = 4
"""Births, first, second, and all further scatter."""


class Response(NamedTuple):
    """Energy response of the camera.

    Parameters
    ----------
    table
        (e, w) probability that a photon of e * RESPONSE_STEP_KEV that reaches the crystal is counted in window w.
    counted
        (e,) whether photons up to the next step are counted in any window.
    mean_free_paths
        (e,) thickness of the crystal in mean free paths.

    Examples
    --------
    >>> response = energy_response(Crystal(), (EnergyWindow("photopeak", 126.5, 154.5),), 140.511)
    >>> round(float(response.table[round(140.5 / RESPONSE_STEP_KEV), 0]), 2)
    0.9
    """

    table: Array
    counted: Array
    mean_free_paths: Array

    @property
    def lowest_kev(self) -> float:
        """Lowest energy in keV that is counted in any window."""
        return float(np.flatnonzero(self.table.max(axis=1) > COUNTED)[0] * RESPONSE_STEP_KEV)


def energy_response(crystal: Crystal, windows: tuple[EnergyWindow, ...], highest_kev: float) -> Response:
    """Response of the windows to photons of at most that energy.

    Parameters
    ----------
    crystal
        Crystal and energy resolution.
    windows
        Energy windows.
    highest_kev
        Highest photon energy in keV.

    Returns
    -------
    Response
        Response at energies from 0 keV on, in steps of RESPONSE_STEP_KEV.

    Examples
    --------
    >>> response = energy_response(Crystal(), (EnergyWindow("photopeak", 126.5, 154.5),), 140.511)
    >>> 100.0 < response.lowest_kev < 126.5
    True
    """
    energies = np.arange(0.0, highest_kev + 2 * RESPONSE_STEP_KEV, RESPONSE_STEP_KEV)
    used = np.maximum(energies, 1.0)
    table = np.stack([crystal.acceptance(window, used) for window in windows], axis=1)
    # What far energies leave in a window falls below what the sums in float32 can hold.
    table[table < np.finfo(np.float32).tiny] = 0.0
    counted = np.maximum(table, np.roll(table, -1, axis=0)).max(axis=1) > COUNTED
    return Response(table, counted, crystal.mean_free_paths(used))


class ViewFrame(NamedTuple):
    """One view over the body, and the part of its detector plane that the body can send photons to.

    Parameters
    ----------
    normal, right
        Unit vectors (x, y) from the axis to the detector and along its columns.
    radius_mm
        Distance from the axis to the collimator face.
    axis_mm
        Place (x, y) of the axis.
    column0, row0
        A point lies in column column0 + u_mm / pixel_mm[1] and row row0 + z_mm / pixel_mm[0] of the detector.
    pixel_mm, matrix
        Pixel size and number of pixels (z, u) of the detector.
    first_row, first_column
        Where the part begins, which may be beside the detector.
    rows, columns
        Size of the part in pixels.
    layers
        Number of layers of LAYER_MM in front of the collimator.
    face_mm, crystal_mm, place_mm
        Distances from the focal line to the collimator's face and to the plane of interaction, and where the line lies
        along `right` from the axis; all 0 for parallel holes.
    """

    normal: tuple[float, float]
    right: tuple[float, float]
    radius_mm: float
    axis_mm: tuple[float, float]
    column0: float
    row0: float
    pixel_mm: tuple[float, float]
    matrix: tuple[int, int]
    first_row: int
    first_column: int
    rows: int
    columns: int
    layers: int
    face_mm: float = 0.0
    crystal_mm: float = 0.0
    place_mm: float = 0.0


def view_frame(
    acquisition: Acquisition, view: int, margin: tuple[int, int], reach_mm: float, z_mm: tuple[float, float]
) -> ViewFrame:
    """Frame of a view for a body.

    Parameters
    ----------
    acquisition
        Views and detector.
    view
        Number of the view.
    margin
        (rows, columns) of pixels beside the detector whose photons are kept, because they may be blurred in.
    reach_mm
        Largest distance of the body from the axis.
    z_mm
        Lowest and highest z of the body.

    Returns
    -------
    ViewFrame
        Frame; its part of the detector plane covers the body's shadow within the detector and the margin.

    Examples
    --------
    >>> acquisition = Acquisition([0, 90], [150, 150], (8, 8), (4, 4), [20, 20], "Tc-99m", None)
    >>> frame = view_frame(acquisition, view=0, margin=(0, 0), reach_mm=10.0, z_mm=(-4.0, 4.0))
    >>> frame.radius_mm, [round(one, 6) for one in frame.normal]
    (150.0, [0.0, 1.0])
    """
    normal = geometry.view_normals(acquisition.view_angles_deg)[view]
    right = geometry.detector_rights(acquisition.view_angles_deg)[view]
    x, y, z = geometry.axis_position_mm(acquisition)
    rows, columns = acquisition.matrix
    pixel_z, pixel_u = acquisition.pixel_mm
    radius = float(acquisition.radii_mm[view])
    column0 = 0.5 * (columns - 1) + float(np.asarray(acquisition.u_offset_mm)[view]) / pixel_u
    row0 = -z / pixel_z
    first_row, last_row = _kept(row0 + z_mm[0] / pixel_z, row0 + z_mm[1] / pixel_z, rows, margin[0])
    left_mm, right_mm, farthest_mm = -reach_mm, reach_mm, radius + reach_mm
    focus = {}
    lines = geometry.focal_lines(acquisition)
    if lines is not None:
        face, crystal, place = (float(each[view]) for each in (lines.face_mm, lines.crystal_mm, lines.place_mm))
        left_mm, right_mm = _fan_shadow_mm(face - radius, crystal, place, reach_mm)
        farthest_mm = min(farthest_mm, (1.0 - NEAREST_TO_FOCUS) * face)
        focus = {"face_mm": face, "crystal_mm": crystal, "place_mm": place}
    first_column, last_column = _kept(column0 + left_mm / pixel_u, column0 + right_mm / pixel_u, columns, margin[1])
    return ViewFrame(
        normal=(float(normal[0]), float(normal[1])),
        right=(float(right[0]), float(right[1])),
        radius_mm=radius,
        axis_mm=(float(x), float(y)),
        column0=float(column0),
        row0=float(row0),
        pixel_mm=(float(pixel_z), float(pixel_u)),
        matrix=(int(rows), int(columns)),
        first_row=first_row,
        first_column=first_column,
        rows=last_row - first_row,
        columns=last_column - first_column,
        layers=max(1, math.ceil(farthest_mm / LAYER_MM)),
        **focus,
    )


def _fan_shadow_mm(axis_mm: float, crystal_mm: float, place_mm: float, reach_mm: float) -> tuple[float, float]:
    """Ends on the crystal of the shadow of a circle about the axis, which lies `axis_mm` in front of the focal line.

    Rays lie less than 80 deg from the normal: those of a wider circle meet no detector.
    """
    middle = math.atan2(-place_mm, axis_mm)
    half = math.asin(min(reach_mm / math.hypot(axis_mm, place_mm), 1.0))
    steepest = math.radians(80.0)
    left, right = (
        place_mm + crystal_mm * math.tan(max(min(a, steepest), -steepest)) for a in (middle - half, middle + half)
    )
    return left, right


def _kept(low: float, high: float, size: int, margin: int) -> tuple[int, int]:
    """First pixel and the one after the last that lie between two places, not more than `margin` beside 0..size."""
    first = min(max(math.floor(low), -margin), size + margin - 1)
    return first, max(min(math.ceil(high) + 1, size + margin), first + 1)


class Shield(NamedTuple):
    """Attenuation between any point and one view's detector.

    Node (d, u, z) lies d steps from `depth_mm` against the normal, in column u. Columns of parallel holes lie along the
    normal, those of a fan beam along its rays.

    Parameters
    ----------
    mass
        (d, u, z, 2) g/cm2 of water and cortical bone between the node and the detector.
    depth_mm, first_z_mm
        Place of node (0, 0, 0) along the normal and in z.
    step_mm
        Distance between nodes along the normal and in z.
    first_column, column_step
        Place in mm along the right of column 0, and distance of the columns. For a fan beam slopes to the normal.
    """

    mass: Array
    depth_mm: float
    first_z_mm: float
    step_mm: float
    first_column: float
    column_step: float


def shield(basis: Array, grid: Grid, frame: ViewFrame) -> Shield:
    """Shield of a view.

    Parameters
    ----------
    basis
        (y, x, z, 2) densities of water and cortical bone in g/cm3.
    grid
        Upright grid of `basis`, with cubic voxels.
    frame
        View.

    Returns
    -------
    Shield
        Attenuation in g/cm2 on nodes as far apart as the voxels. Columns of a fan beam are so on the body's near side.
    """
    step = grid.voxel_mm[2]
    ny, nx, nz, _ = basis.shape
    first = grid.affine_lps[:3, 3]
    corners = np.array([[i, j] for i in (0, nx - 1) for j in (0, ny - 1)]) * step + first[:2] - frame.axis_mm
    depths, across = corners @ frame.normal, corners @ frame.right
    nearest = depths.max() + step
    nd = math.ceil((depths.max() - depths.min()) / step) + 3
    first_column, column_step = across.min() - step, step
    nu = math.ceil((across.max() - across.min()) / step) + 3
    fan = (0.0, 0.0, 0.0, 0.0)
    if frame.face_mm > 0:
        first_column, last_column = _slopes(frame)
        ahead = frame.face_mm - frame.radius_mm + nearest
        column_step = step / (ahead - step)
        nu = math.ceil((last_column - first_column) / column_step) + 1
        fan = (float(ahead / step), float(frame.place_mm / step), float(first_column), float(column_step))
    mass = np.empty((nd, nu, nz, 2), np.float32)
    x, y = (np.asarray(frame.axis_mm) - first[:2]) / step
    start = (float(nearest / step), float(first_column / step))
    _fill_shield(basis, (float(x), float(y)), start, fan, (frame.normal, frame.right), 0.1 * step, mass)
    return Shield(mass, float(nearest), float(first[2]), step, float(first_column), float(column_step))


def _slopes(frame: ViewFrame) -> tuple[float, float]:
    """Slopes to the normal of the rays that meet the edges of the columns a fan-beam view keeps."""
    first = frame.first_column - frame.column0 - 0.5
    left_mm, right_mm = (column * frame.pixel_mm[1] for column in (first, first + frame.columns))
    return (left_mm - frame.place_mm) / frame.crystal_mm, (right_mm - frame.place_mm) / frame.crystal_mm


@compiled
def _fill_shield(basis, axis, start, fan, vectors, depth_cm, mass):  # type: ignore[no-untyped-def]
    """Running sums towards the detector of `basis`, read bilinearly; half of each voxel itself counts. In voxels.

    `fan` holds the first plane's distance from the focal line, the line's place, and first slope and step of the
    columns; its first number is 0 for parallel holes. Planes lie `depth_cm` apart.
    """
    ny, nx, nz, _ = basis.shape
    (normal_x, normal_y), (right_x, right_y) = vectors
    ahead, place, first_slope, slope_step = fan
    total = np.zeros((mass.shape[1], nz, 2), np.float32)
    layer = np.zeros((nz, 2), np.float32)
    for d in range(mass.shape[0]):
        for u in range(mass.shape[1]):
            across, step_cm = start[1] + u, depth_cm
            if ahead > 0.0:
                slope = first_slope + u * slope_step
                across, step_cm = place + (ahead - d) * slope, depth_cm * math.sqrt(1.0 + slope * slope)
            x = axis[0] + (start[0] - d) * normal_x + across * right_x
            y = axis[1] + (start[0] - d) * normal_y + across * right_y
            left, low = math.floor(x), math.floor(y)
            layer[:] = 0.0
            for j in range(2):
                for i in range(2):
                    if 0 <= left + i < nx and 0 <= low + j < ny:
                        w = np.float32(
                            (x - left if i else 1.0 - x + left) * (y - low if j else 1.0 - y + low) * step_cm
                        )
                        for z in range(nz):
                            layer[z, 0] += w * basis[low + j, left + i, z, 0]
                            layer[z, 1] += w * basis[low + j, left + i, z, 1]
            for z in range(nz):
                for k in range(2):
                    mass[d, u, z, k] = total[u, z, k] + np.float32(0.5) * layer[z, k]
                    total[u, z, k] += layer[z, k]


@compiled
def detect(events, frame, cover, tables, response):  # type: ignore[no-untyped-def]
    """Contributions (layer, column, row, class, window) of events to a view, before the collimator's blur.

    A birth contributes exp(-path) * response: 4 pi times the share per steradian, so that all else is relative to a
    photon born in air. A fan beam gives every event its sensitivity against parallel holes and a longer way through the
    crystal. Events beside its focal line are left out.

    Parameters
    ----------
    events
        (n,) of transport.EVENT.
    frame
        View.
    cover
        Shield of the view.
    tables
        Cross-sections.
    response
        Energy response of the camera.

    Returns
    -------
    array
        float32 (layer, column, row, class, window).
    """
    gathered = np.zeros((frame.layers, frame.columns, frame.rows, ORDER_CLASSES, response.table.shape[1]), np.float32)
    column0, row0 = frame.column0 - frame.first_column, frame.row0 - frame.first_row
    for n in range(events.size):
        event = events[n]
        px, py = event.x - frame.axis_mm[0], event.y - frame.axis_mm[1]
        depth = px * frame.normal[0] + py * frame.normal[1]
        u = px * frame.right[0] + py * frame.right[1]
        way, place, column_u, gain, cosine = frame.normal, u, u, 1.0, 1.0
        if frame.face_mm > 0.0:
            ahead = frame.face_mm - frame.radius_mm + depth
            if ahead < NEAREST_TO_FOCUS * frame.face_mm:
                continue
            slope = (u - frame.place_mm) / ahead
            cosine = 1.0 / math.sqrt(1.0 + slope * slope)
            gain = frame.face_mm / ahead * cosine**3
            way = (
                (frame.normal[0] + slope * frame.right[0]) * cosine,
                (frame.normal[1] + slope * frame.right[1]) * cosine,
            )
            place, column_u = frame.place_mm + slope * frame.crystal_mm, slope
        column = math.floor(column0 + place / frame.pixel_mm[1] + 0.5)
        row = math.floor(row0 + event.z / frame.pixel_mm[0] + 0.5)
        if column < 0 or row < 0 or column >= frame.columns or row >= frame.rows:
            continue
        unchanged, changed, changed_kev = _sent(event, way, tables, response.counted)
        if unchanged > 0.0 or changed > 0.0:
            if frame.face_mm > 0.0:
                unchanged *= gain * _longer(response.mean_free_paths, event.kev, cosine)
                changed *= gain * _longer(response.mean_free_paths, changed_kev, cosine)
            path = _path(cover, depth, column_u, event.z)
            layer = min(max(int((frame.radius_mm - depth) / LAYER_MM), 0), frame.layers - 1)
            target = gathered[layer, column, row, min(event.order, ORDER_CLASSES - 1)]
            if unchanged > 0.0:
                _add(unchanged, event.kev, path, tables.basis, response.table, target)
            if changed > 0.0:
                _add(changed, changed_kev, path, tables.basis, response.table, target)
    return gathered


@compiled
def _longer(mean_free_paths, kev, cosine):  # type: ignore[no-untyped-def]
    """Efficiency of the crystal for photons at an angle over that at a right angle."""
    depth = interpolated(mean_free_paths, kev / RESPONSE_STEP_KEV)
    return math.expm1(-depth / cosine) / math.expm1(-depth)


@compiled
def _sent(event, way, tables, counted):  # type: ignore[no-untyped-def]
    """Weights of photons sent along `way` (x, y) at the same and at a lower energy, and that energy in keV."""
    kev = event.kev
    if event.order == 0:
        return float(event.weight), 0.0, float(kev)
    cosine = event.dx * way[0] + event.dy * way[1]
    away = 1.0 - cosine
    ratio = 1.0 / (1.0 + kev / ELECTRON_KEV * away)
    rayleigh = counted[int(kev / RESPONSE_STEP_KEV)]
    compton = counted[int(kev * ratio / RESPONSE_STEP_KEV)]
    unchanged, changed = 0.0, 0.0
    if rayleigh or compton:
        m = event.material
        sigma = interpolated(tables.total[m], kev / ENERGY_STEP_KEV)
        common = 4.0 * math.pi * 0.5 * CLASSICAL_RADIUS2_CM2 * event.weight / sigma
        place = math.sqrt(max(0.5 * away, 0.0)) * kev / HC_KEV_ANGSTROM / X_STEP
        if compton:
            electrons = interpolated(tables.incoherent[m], place)
            changed = common * electrons * ratio * ratio * (ratio + 1.0 / ratio - 1.0 + cosine * cosine)
        if rayleigh:
            unchanged = common * (1.0 + cosine * cosine) * interpolated(tables.coherent[m], place)
    return unchanged, changed, kev * ratio


@compiled
def _path(cover, depth, place, z):  # type: ignore[no-untyped-def]
    """Mass of water and bone in g/cm2 between a point and the detector.

    `place` is in the unit of the columns. Linear in depth, the nearest column and row: a mean over columns would
    mix what lies inside the body's edge with what lies beside it.
    """
    nd, nu, nz, _ = cover.mass.shape
    d = min(max((cover.depth_mm - depth) / cover.step_mm, 0.0), nd - 1.001)
    j = min(max(int((place - cover.first_column) / cover.column_step + 0.5), 0), nu - 1)
    k = min(max(int((z - cover.first_z_mm) / cover.step_mm + 0.5), 0), nz - 1)
    i = int(d)
    near, far = cover.mass[i, j, k], cover.mass[i + 1, j, k]
    return near[0] + (d - i) * (far[0] - near[0]), near[1] + (d - i) * (far[1] - near[1])


@compiled
def _add(share, kev, path, basis, response, target):  # type: ignore[no-untyped-def]
    """Add share * transmission * response of each window to `target` (window,)."""
    place = kev / ENERGY_STEP_KEV
    passing = share * math.exp(-(path[0] * interpolated(basis[0], place) + path[1] * interpolated(basis[1], place)))
    place = kev / RESPONSE_STEP_KEV
    e = int(place)
    f = place - e
    for w in range(target.size):
        target[w] += passing * ((1 - f) * response[e, w] + f * response[e + 1, w])


def blurred(gathered: Array, frame: ViewFrame, collimator: Collimator, energy_kev: float) -> Array:
    """Expected counts (class, window, row, column) on the detector: every layer blurred by the collimator's response.

    An event was put into its pixel, which spreads it like a box: the kernel's own box is taken off its variance.
    Assumes: the response at `energy_kev` in all windows.

    Parameters
    ----------
    gathered
        Result of `detect`.
    frame
        View.
    collimator
        Collimator.
    energy_kev
        Energy in keV at which the collimator's response is taken.

    Returns
    -------
    array
        float32 (class, window, row, column) of the whole detector.
    """
    layers, columns, rows, classes, windows = gathered.shape
    distance_mm = (np.arange(layers) + 0.5) * LAYER_MM
    foci_mm = (None, frame.face_mm or None)
    kernels = tuple(
        _kernels(np.asarray(collimator.sigma_mm(distance_mm, energy_kev, focus_mm)), pixel_mm)
        for pixel_mm, focus_mm in zip(frame.pixel_mm, foci_mm, strict=True)
    )
    inner_rows, inner_columns = frame.matrix
    each = classes * windows
    total = np.zeros((inner_columns, inner_rows * each), np.float32)
    _blur(gathered.reshape(layers, columns, rows * each), each, (frame.first_row, frame.first_column), kernels, total)
    return total.reshape(inner_columns, inner_rows, classes, windows).transpose(2, 3, 1, 0)


def _kernels(sigma_mm: Array, pixel_mm: float) -> tuple[Array, Array]:
    """Half kernels (layer, widest + 1) float32 and their half-widths, a pixel's box taken off the variance."""
    kernel, half = pixel_kernel(np.sqrt(np.maximum(sigma_mm**2 - pixel_mm**2 / 12.0, 0.0)), pixel_mm)
    return kernel.astype(np.float32), half


@compiled
def _blur(gathered, each, first, kernels, total):  # type: ignore[no-untyped-def]
    """Add every layer (column, row * each) of `gathered`, blurred along both axes, to `total` of the same kind.

    `each` numbers belong to a pixel. Inner loops run over whole lines, whatever belongs to their pixels.
    """
    layers, columns, length = gathered.shape
    inner_columns, inner_length = total.shape
    (kernel_z, half_z), (kernel_u, half_u) = kernels
    line = np.empty(inner_length, np.float32)
    for layer in range(layers):
        for c in range(columns):
            source = gathered[layer, c]
            low, high = 0, length
            while low < high and source[low] == 0:
                low += 1
            if low == high:
                continue
            line[:] = 0.0
            for d in range(-half_z[layer], half_z[layer] + 1):
                # Number k of the line comes from number k - shift of the source.
                weight, shift = kernel_z[layer, abs(d)], (first[0] + d) * each
                begin, end = max(0, shift), min(inner_length, length + shift)
                for k in range(begin, end):
                    line[k] += weight * source[k - shift]
            middle = first[1] + c
            for u in range(max(0, middle - half_u[layer]), min(inner_columns, middle + half_u[layer] + 1)):
                weight = kernel_u[layer, abs(u - middle)]
                target = total[u]
                for k in range(inner_length):
                    target[k] += weight * line[k]
