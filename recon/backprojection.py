"""Filtered backprojection: the closed inverse of parallel projections without attenuation, quantitative in cps/mL."""

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft

from spectac.recon import geometry
from spectac.recon.device import cpu_threads
from spectac.recon.errors import InputError
from spectac.recon.filters import butterworth_gain
from spectac.recon.kernels import cpu
from spectac.recon.kernels.subnormal import flushing_threads
from spectac.recon.system import view_weights_s
from spectac.recon.types import Acquisition, Array, Grid

SAME_LINE_DEG = 0.1
"""Directions closer than this are one: two heads never repeat an angle exactly, and no SPECT steps so finely."""

WIDEST_GAP_DEG = 30.0
"""Directions further apart than this are refused: 30 deg leaves six directions, below which nothing is recovered."""

_ROWS_PER_TASK = 8
"""Image rows that a thread fills with all views before the next: 8 x 128 x 64 float32 is 256 KiB, a core's cache."""


@dataclass(frozen=True)
class RampWindow:
    """Window on the ramp filter: `cutoff` as a fraction of the Nyquist frequency, `order` for Butterworth alone."""

    window: str = "hann"
    cutoff: float = 1.0
    order: float = 5.0

    def __post_init__(self) -> None:
        if self.window not in ("ramp", "hann", "butterworth"):
            raise InputError(f"window {self.window!r} is not one of ramp, hann, butterworth")
        if not 0 < self.cutoff <= 1:
            raise InputError(f"the cut-off must be above 0 and at most 1 (the Nyquist frequency), got {self.cutoff}")
        if not (math.isfinite(self.order) and self.order > 0):
            raise InputError(f"a Butterworth window needs an order above 0, got {self.order}")

    @property
    def name(self) -> str:
        """The text that makes this window again."""
        if self.window == "butterworth":
            return f"butterworth:{self.cutoff:g}:{self.order:g}"
        return "ramp" if self.window == "ramp" and self.cutoff == 1 else f"{self.window}:{self.cutoff:g}"

    def gain(self, fraction: Array) -> Array:
        """Gain at frequencies given as fractions of the Nyquist frequency; 1 at 0.

        ramp: 1 up to the cut-off, then 0. hann: (1 + cos(pi f / cutoff)) / 2 up to the cut-off, then 0. butterworth:
        1 / sqrt(1 + (f / cutoff)^(2 order)).
        """
        if self.window == "butterworth":
            return butterworth_gain(fraction, self.cutoff, self.order)
        inside = fraction <= self.cutoff * (1.0 + 1e-12)
        shape = 1.0 if self.window == "ramp" else 0.5 + 0.5 * np.cos(np.pi * fraction / self.cutoff)
        return np.where(inside, shape, 0.0)


def parse_filter(text: str) -> RampWindow:
    """Window named by "ramp", "hann:CUTOFF" or "butterworth:CUTOFF:ORDER", cut-off as a fraction of Nyquist.

    Raises InputError for any other text.
    """
    kind, *numbers = text.strip().lower().split(":")
    try:
        parameters = tuple(float(number) for number in numbers)
        known = len(parameters) == {"ramp": 0, "hann": 1, "butterworth": 2}.get(kind)
    except ValueError:
        known = False
    if not known:
        raise InputError(
            f"filter {text!r} is not ramp, hann:CUTOFF or butterworth:CUTOFF:ORDER with the cut-off as a fraction of "
            "the Nyquist frequency, for example hann:1.0 or butterworth:0.5:5"
        )
    return RampWindow(kind, *parameters)


def fbp(
    acquisition: Acquisition,
    counts: Array,
    grid: Grid,
    *,
    window: str = "hann",
    cutoff: float = 1.0,
    order: float = 5.0,
) -> Array:
    """Image (z, y, x), float32, in counts per second and mL, from counts (v, z, u) of any sign.

    f(x) = sum_v weight_v q_v(u_v(x)), where q_v is the view divided by w_v * voxel_mL (so that it is the sum of f over
    the depth planes, as SystemModel has it) and filtered with the windowed ramp, read by linear interpolation. The ramp
    is the band-limited one in space, 1/4 at 0, -1/(pi n)^2 at odd and 0 at even n (Kak and Slaney 1988, eq. 61), padded
    so that nothing wraps round: sampling |f| instead would lose the mean. Beyond the detector the projections count as
    0 and the filtered ones go on, so voxels outside the detector's circle are right as long as the object is inside.

    The views may come in any order, at any angles, more than once: `angle_weights`. `u_offset_mm` and grids off the
    axis are honoured. Without known view times the image is relative.

    Assumes: parallel holes, no attenuation, scatter already subtracted.
    Raises InputError where counts, grid and acquisition do not fit each other, or directions are missing.
    """
    data = np.asarray(counts)
    if data.shape != acquisition.shape:
        raise InputError(f"projections (v, z, u) need shape {acquisition.shape}, got {data.shape}")
    if not np.isfinite(data).all():
        raise InputError(f"projections hold {int((~np.isfinite(data)).sum())} values that are NaN or infinite")
    ramp_window = RampWindow(window, cutoff, order)
    nz, ny, nx = grid.shape
    columns = acquisition.matrix[1]
    lattice, margin = _columns(acquisition, grid)
    length = scipy.fft.next_fast_len(2 * (columns + margin), real=True)
    transfer = _ramp(length) * ramp_window.gain(2.0 * scipy.fft.rfftfreq(length))
    scale = angle_weights(acquisition.view_angles_deg) / (view_weights_s(acquisition) * grid.voxel_ml)
    filtered = np.empty((acquisition.views, columns + 2 * margin, nz), np.float32)
    image = np.zeros((ny, nx, nz), np.float32)

    def filter_view(view: int) -> None:
        spectrum = scipy.fft.rfft(data[view].T.astype(np.float64), length, axis=0) * transfer[:, None]
        q = scipy.fft.irfft(spectrum, length, axis=0)
        filtered[view, :margin] = scale[view] * q[length - margin :]
        filtered[view, margin:] = scale[view] * q[: columns + margin]

    def fill_rows(first: int) -> None:
        shifted = lattice + np.outer(lattice[:, 1] * first, (1.0, 0.0, 0.0))
        rows = image[first : first + _ROWS_PER_TASK]
        for view in range(acquisition.views):
            cpu.backproject_view(filtered[view], shifted[view], rows)

    with flushing_threads(cpu_threads()) as threads:
        for work, tasks in ((filter_view, range(acquisition.views)), (fill_rows, range(0, ny, _ROWS_PER_TASK))):
            for _ in threads.map(work, tasks):
                pass
    return image.transpose(2, 0, 1)


def angle_weights(view_angles_deg: Array) -> Array:
    """Weight (v,) of each view in the integral over directions, in radians; they sum to pi.

    Opposite views see the same lines, so directions count modulo 180 deg: each direction stands for half the gap to
    either neighbour, and views of one direction (to SAME_LINE_DEG) share its weight equally. An arc of 180 deg, one of
    360 deg, the same arc twice and uneven steps all integrate to the same image.

    Raises InputError where two neighbouring directions are more than WIDEST_GAP_DEG apart.
    """
    directions = np.mod(np.asarray(view_angles_deg, dtype=np.float64), 180.0)
    order = np.argsort(directions)
    ascending = directions[order]
    gaps = np.diff(ascending, append=ascending[0] + 180.0)
    widest = int(np.argmax(gaps))
    if gaps[widest] > WIDEST_GAP_DEG:
        raise InputError(
            f"filtered backprojection needs views all around, over 180 or 360 deg: no view looks along "
            f"{ascending[widest]:.0f} to {ascending[widest] + gaps[widest]:.0f} deg (modulo 180); use OSEM"
        )
    order, gaps = np.roll(order, -widest - 1), np.roll(gaps, -widest - 1)
    member = np.concatenate([[0], np.cumsum(gaps[:-1] > SAME_LINE_DEG)])
    sizes = np.bincount(member)
    shares = np.bincount(member, weights=0.5 * (gaps + np.roll(gaps, 1))) / sizes
    weights = np.empty(directions.size)
    weights[order] = np.deg2rad(shares[member])
    return weights


def _ramp(length: int) -> Array:
    """Transfer function (length // 2 + 1,) of the band-limited ramp at pixel pitch 1, made in space."""
    n = np.minimum(np.arange(length), length - np.arange(length))
    kernel = np.zeros(length)
    kernel[0] = 0.25
    odd = n % 2 == 1
    kernel[odd] = -1.0 / (np.pi * n[odd]) ** 2
    return np.asarray(scipy.fft.rfft(kernel).real)


def _columns(acquisition: Acquisition, grid: Grid) -> tuple[Array, int]:
    """Column of voxel (y, x) in every view as l0 + l1 y + l2 x, (v, 3), with l0 counted in columns padded by a margin.

    The margin is as many columns as the voxels farthest outside the detector need. The camera lattice of geometry.py
    is orthonormal, so the column is the voxel's component along the lattice's u.
    """
    frames = geometry.camera_frames(acquisition, grid).lattice
    along_x, along_y = frames[:, 2], frames[:, 5]
    origin = -(frames[:, 0] * along_x + frames[:, 3] * along_y)
    _, ny, nx = grid.shape
    corners = np.stack([origin + y * along_y + x * along_x for y in (0, ny - 1) for x in (0, nx - 1)])
    beyond = max(0.0, -corners.min(), corners.max() - (acquisition.matrix[1] - 1))
    margin = math.ceil(beyond) + 2
    return np.stack([origin + margin, along_y, along_x], axis=1), margin
