"""Forced detection: what every birth and interaction of a history sends towards one view of the camera.

Instead of waiting for photons that happen to fly into a collimator hole, each event contributes to each view the
probability that its photon leaves along the view's direction, passes through the head and is counted in each window.
Contributions are gathered by their distance from the collimator, and blurred by its response at that distance at the
end (convolution-based forced detection: de Jong, Slijpen, Beekman, IEEE Trans Nucl Sci 2001;48:58-64).
"""

import math
from dataclasses import dataclass

import numpy as np

from spectac.recon import geometry
from spectac.recon.collimator import Collimator, pixel_kernel
from spectac.recon.kernels.compiled import compiled
from spectac.recon.types import Acquisition, Array, Grid
from spectac.simulate.photons.cross_sections import (
    CLASSICAL_RADIUS2_CM2,
    ELECTRON_KEV,
    ENERGY_STEP_KEV,
    HC_KEV_ANGSTROM,
    X_STEP,
    CrossSections,
)

_STEP = ENERGY_STEP_KEV
_ELECTRON = ELECTRON_KEV
_HC = HC_KEV_ANGSTROM
_X_STEP = X_STEP
_RADIUS2 = CLASSICAL_RADIUS2_CM2

RESPONSE_STEP_KEV = 0.25
LAYER_MM = 10.0
"""Thickness of the layers by distance from the collimator; over one, the FWHM of an LEHR collimator grows 0.45 mm."""

ORDER_CLASSES = 4
"""Births, first, second, and all further scatter."""


@dataclass(frozen=True, eq=False)
class ViewFrame:
    """One view over the head, and the part of its detector plane that the head can send photons to.

    `normal` and `right` (x, y): unit vectors from the axis to the detector and along its columns. A point lies in
    column `column0` + u_mm / pixel_mm[1] and row `row0` + z_mm / pixel_mm[0] of the detector. The part begins at
    `first_row` and `first_column`, which may lie beside the detector, and has `rows` and `columns`.
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


def view_frame(
    acquisition: Acquisition, view: int, margin: tuple[int, int], reach_mm: float, z_mm: tuple[float, float]
) -> ViewFrame:
    """Frame of a view for a head within `reach_mm` of the axis and between two heights `z_mm`.

    Photons that land up to `margin` = (rows, columns) of pixels beside the detector are kept: they may be blurred in.
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
    first_column, last_column = _kept(column0 - reach_mm / pixel_u, column0 + reach_mm / pixel_u, columns, margin[1])
    return ViewFrame(
        normal=(float(normal[0]), float(normal[1])),
        right=(float(right[0]), float(right[1])),
        radius_mm=radius,
        axis_mm=(x, y),
        column0=column0,
        row0=row0,
        pixel_mm=(pixel_z, pixel_u),
        matrix=acquisition.matrix,
        first_row=first_row,
        first_column=first_column,
        rows=last_row - first_row,
        columns=last_column - first_column,
        layers=max(1, math.ceil((radius + reach_mm) / LAYER_MM)),
    )


def _kept(low: float, high: float, size: int, margin: int) -> tuple[int, int]:
    """First pixel and the one after the last that lie between two places, not more than `margin` beside 0..size."""
    first = min(max(math.floor(low), -margin), size + margin - 1)
    return first, max(min(math.ceil(high) + 1, size + margin), first + 1)


@dataclass(frozen=True, eq=False)
class Shield:
    """Attenuation between any point and one view's detector: `mass` (d, u, z, 2), in g/cm2 of water and cortical bone.

    Node (d, u, z) lies at `origin_mm` - d along the normal + u along the right, in steps of `step_mm`.
    """

    mass: Array
    depth_mm: float
    column_mm: float
    first_z_mm: float
    step_mm: float


def shield(basis: Array, grid: Grid, frame: ViewFrame) -> Shield:
    """Shield of a view from densities (y, x, z, 2) of water and bone in g/cm3 on an upright grid of cubic voxels."""
    step = grid.voxel_mm[2]
    ny, nx, nz, _ = basis.shape
    first = grid.affine_lps[:3, 3]
    corners = np.array([[i, j] for i in (0, nx - 1) for j in (0, ny - 1)]) * step + first[:2] - frame.axis_mm
    depths, columns = corners @ frame.normal, corners @ frame.right
    nearest, leftmost = depths.max() + step, columns.min() - step
    nd = math.ceil((depths.max() - depths.min()) / step) + 3
    nu = math.ceil((columns.max() - columns.min()) / step) + 3
    mass = np.empty((nd, nu, nz, 2), np.float32)
    offset = (np.asarray(frame.axis_mm) - first[:2]) / step
    _fill_shield(
        basis, offset[0], offset[1], nearest / step, leftmost / step,
        *frame.normal, *frame.right, 0.1 * step, mass,
    )  # fmt: skip
    return Shield(mass, float(nearest), float(leftmost), float(first[2]), step)


@compiled
def _fill_shield(basis, x0, y0, nearest, leftmost, nx_, ny_, ex, ey, step_cm, mass):  # type: ignore[no-untyped-def]
    """Running sums towards the detector of `basis` (y, x, z, 2), read bilinearly; half of the own step counted."""
    ny, nx, nz, _ = basis.shape
    total = np.zeros((mass.shape[1], nz, 2), np.float32)
    own = np.zeros((nz, 2), np.float32)
    for d in range(mass.shape[0]):
        for u in range(mass.shape[1]):
            x = x0 + (nearest - d) * nx_ + (leftmost + u) * ex
            y = y0 + (nearest - d) * ny_ + (leftmost + u) * ey
            left, low = math.floor(x), math.floor(y)
            own[:] = 0.0
            for j in range(2):
                for i in range(2):
                    if 0 <= left + i < nx and 0 <= low + j < ny:
                        w = np.float32(
                            (x - left if i else 1.0 - x + left) * (y - low if j else 1.0 - y + low) * step_cm
                        )
                        for z in range(nz):
                            own[z, 0] += w * basis[low + j, left + i, z, 0]
                            own[z, 1] += w * basis[low + j, left + i, z, 1]
            for z in range(nz):
                for k in range(2):
                    mass[d, u, z, k] = total[u, z, k] + np.float32(0.5) * own[z, k]
                    total[u, z, k] += own[z, k]


def detect(events: Array, frame: ViewFrame, cover: Shield, tables: CrossSections, response: Array) -> Array:
    """Contributions (layer, column, row, class, window) of the events to a view, before the collimator's blur.

    `response` (window, e): probability that a photon of energy e * RESPONSE_STEP_KEV that reaches the crystal is
    counted in the window. A birth contributes exp(-path) * response: 4 pi times the share per steradian, so that all
    else is relative to a photon born in air.
    """
    gathered = np.zeros((frame.layers, frame.columns, frame.rows, ORDER_CLASSES, response.shape[0]), np.float32)
    _detect(
        events, *frame.normal, *frame.right, frame.radius_mm, *frame.axis_mm,
        frame.column0 - frame.first_column, frame.row0 - frame.first_row, *frame.pixel_mm,
        cover.mass, cover.depth_mm, cover.column_mm, cover.first_z_mm, cover.step_mm,
        tables.total, tables.incoherent, tables.coherent, tables.basis, response.T.copy(),
        np.maximum(response, np.roll(response, -1, axis=1)).max(axis=0) > 1e-5, gathered,
    )  # fmt: skip
    return gathered


@compiled
def _detect(  # type: ignore[no-untyped-def]
    events, nx_, ny_, ex, ey, radius_mm, axis_x, axis_y, column0, row0, pixel_z, pixel_u, mass, depth_mm, column_mm,
    first_z_mm, step_mm, total, incoherent, coherent, basis, response, counted, gathered,
):  # fmt: skip
    layers, columns, rows, classes, _ = gathered.shape
    nd, nu, nz, _ = mass.shape
    for n in range(events.size):
        event = events[n]
        px, py = event.x - axis_x, event.y - axis_y
        depth = px * nx_ + py * ny_
        u = px * ex + py * ey
        column = math.floor(column0 + u / pixel_u + 0.5)
        row = math.floor(row0 + event.z / pixel_z + 0.5)
        if column < 0 or row < 0 or column >= columns or row >= rows:
            continue
        kev = event.kev
        unchanged, changed = 0.0, 0.0
        after_kev = kev
        if event.order == 0:
            unchanged = event.weight
        else:
            cosine = event.dx * nx_ + event.dy * ny_
            away = 1.0 - cosine
            ratio = 1.0 / (1.0 + kev / _ELECTRON * away)
            after_kev = kev * ratio
            rayleigh = counted[int(kev / RESPONSE_STEP_KEV)]
            compton = counted[int(after_kev / RESPONSE_STEP_KEV)]
            if not (rayleigh or compton):
                continue
            m = event.material
            place = kev / _STEP
            e = int(place)
            f = place - e
            sigma = (1 - f) * total[m, e] + f * total[m, e + 1]
            common = 4.0 * math.pi * 0.5 * _RADIUS2 * event.weight / sigma
            place = math.sqrt(max(0.5 * away, 0.0)) * kev / _HC / _X_STEP
            i = int(place)
            f = place - i
            if compton:
                electrons = (1 - f) * incoherent[m, i] + f * incoherent[m, i + 1]
                changed = common * electrons * ratio * ratio * (ratio + 1.0 / ratio - 1.0 + cosine * cosine)
            if rayleigh:
                unchanged = common * (1.0 + cosine * cosine) * ((1 - f) * coherent[m, i] + f * coherent[m, i + 1])
        # Mass between the event and the detector: linear in depth, the nearest column and row, for a mean over columns
        # would mix what lies inside the head's edge with what lies beside it.
        d = min(max((depth_mm - depth) / step_mm, 0.0), nd - 1.001)
        j = min(max(int((u - column_mm) / step_mm + 0.5), 0), nu - 1)
        k = min(max(int((event.z - first_z_mm) / step_mm + 0.5), 0), nz - 1)
        i = int(d)
        near, far = mass[i, j, k], mass[i + 1, j, k]
        water = near[0] + (d - i) * (far[0] - near[0])
        bone = near[1] + (d - i) * (far[1] - near[1])
        layer = min(max(int((radius_mm - depth) / LAYER_MM), 0), layers - 1)
        target = gathered[layer, column, row, min(event.order, classes - 1)]
        if unchanged > 0.0:
            _add(unchanged, kev, water, bone, basis, response, target)
        if changed > 0.0:
            _add(changed, after_kev, water, bone, basis, response, target)


@compiled
def _add(share, kev, water, bone, basis, response, target):  # type: ignore[no-untyped-def]
    """Add share * transmission * response of each window to `target` (window,)."""
    place = kev / _STEP
    e = int(place)
    f = place - e
    path = water * ((1 - f) * basis[0, e] + f * basis[0, e + 1]) + bone * ((1 - f) * basis[1, e] + f * basis[1, e + 1])
    passing = share * math.exp(-path)
    place = kev / RESPONSE_STEP_KEV
    e = int(place)
    f = place - e
    for w in range(target.size):
        target[w] += passing * ((1 - f) * response[e, w] + f * response[e + 1, w])


def blurred(gathered: Array, frame: ViewFrame, collimator: Collimator, energy_kev: float) -> Array:
    """Expected counts (class, window, row, column) on the detector: every layer blurred by the collimator's response.

    An event was put into its pixel, which spreads it like a box: the kernel's own box is taken off its variance.
    Assumes: the response at `energy_kev` in all windows.
    """
    layers, columns, rows, classes, windows = gathered.shape
    sigma = np.asarray(collimator.sigma_mm((np.arange(layers) + 0.5) * LAYER_MM, energy_kev))
    (kernel_z, half_z), (kernel_u, half_u) = (_kernels(sigma, pixel_mm) for pixel_mm in frame.pixel_mm)
    inner_rows, inner_columns = frame.matrix
    total = np.zeros((inner_columns, inner_rows * classes * windows), np.float32)
    _blur(
        gathered.reshape(layers, columns, rows * classes * windows), classes * windows,
        frame.first_row, frame.first_column, kernel_z, half_z, kernel_u, half_u, total,
    )  # fmt: skip
    return total.reshape(inner_columns, inner_rows, classes, windows).transpose(2, 3, 1, 0)


def _kernels(sigma_mm: Array, pixel_mm: float) -> tuple[Array, Array]:
    """Half kernels (layer, widest + 1) float32 and their half-widths, a pixel's box taken off the variance."""
    kernel, half = pixel_kernel(np.sqrt(np.maximum(sigma_mm**2 - pixel_mm**2 / 12.0, 0.0)), pixel_mm)
    return kernel.astype(np.float32), half


@compiled
def _blur(gathered, each, first_row, first_column, kernel_z, half_z, kernel_u, half_u, total):  # type: ignore[no-untyped-def]
    """Add every layer (column, row * each) of `gathered`, blurred along both axes, to `total` of the same kind.

    `each` numbers belong to a pixel. Inner loops run over whole lines, whatever belongs to their pixels.
    """
    layers, columns, length = gathered.shape
    inner_columns, inner_length = total.shape
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
                weight, shift = kernel_z[layer, abs(d)], (first_row + d) * each
                begin, end = max(0, shift), min(inner_length, length + shift)
                for k in range(begin, end):
                    line[k] += weight * source[k - shift]
            middle = first_column + c
            for u in range(max(0, middle - half_u[layer]), min(inner_columns, middle + half_u[layer] + 1)):
                weight = kernel_u[layer, abs(u - middle)]
                target = total[u]
                for k in range(inner_length):
                    target[k] += weight * line[k]
