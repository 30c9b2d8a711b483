"""Filtered backprojection (FBP): the closed inverse of parallel projections without attenuation, in cps/mL."""

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft

from spectac.recon import geometry
from spectac.recon.checks import check_above_zero, check_finite
from spectac.recon.device import cpu_threads
from spectac.recon.errors import InputError
from spectac.recon.fan_beam import as_parallel
from spectac.recon.filters import butterworth_gain, kind_and_numbers
from spectac.recon.kernels import cpu_loops
from spectac.recon.kernels.subnormal import flushing_threads
from spectac.recon.system import view_weights_s
from spectac.recon.types import Acquisition, Array, Grid

SAME_LINE_DEG = 0.1
"""Directions nearer than this are one: two heads never repeat an angle exactly, and no SPECT steps so finely."""
_ROWS_PER_TASK = 8
"""Image rows that a thread fills with all views before the next: 8 x 128 x 64 float32 is 256 KiB, a core's cache."""
_FILTERS = {"ramp": 0, "hann": 1, "butterworth": 2}
"""Windows of the ramp filter, and how many numbers each has in a text."""


@dataclass(frozen=True)
class RampWindow:
    """Window on the ramp filter.

    Parameters
    ----------
    window
        "ramp", "hann" or "butterworth".
    cutoff
        Cut-off as a fraction of the Nyquist frequency, above 0 and at most 1.
    order
        Order of a Butterworth window.

    Raises
    ------
    InputError
        For another window, and numbers outside these ranges.

    Examples
    --------
    >>> RampWindow("hann", 0.5).name
    'hann:0.5'
    """

    window: str = "hann"
    cutoff: float = 1.0
    order: float = 5.0

    def __post_init__(self) -> None:
        if self.window not in _FILTERS:
            raise InputError(f"window {self.window!r} is not one of {', '.join(_FILTERS)}")
        if not 0 < self.cutoff <= 1:
            raise InputError(f"the cut-off must be above 0 and at most 1 (the Nyquist frequency), got {self.cutoff}")
        check_above_zero({"the order of a Butterworth window": self.order})

    @property
    def name(self) -> str:
        """Text from which `parse_filter` makes this window."""
        if self.window == "butterworth":
            return f"butterworth:{self.cutoff:g}:{self.order:g}"
        return "ramp" if self.window == "ramp" and self.cutoff == 1 else f"{self.window}:{self.cutoff:g}"

    def gain(self, fraction: Array) -> Array:
        """Gain at frequencies, which are fractions of the Nyquist frequency; 1 at 0.

        ramp: 1 up to the cut-off, then 0. hann: (1 + cos(pi f / cutoff)) / 2 up to the cut-off, then 0. butterworth:
        1 / sqrt(1 + (f / cutoff)^(2 order)).
        """
        if self.window == "butterworth":
            return butterworth_gain(fraction, self.cutoff, self.order)
        inside = fraction <= self.cutoff * (1.0 + 1e-12)
        shape = 1.0 if self.window == "ramp" else 0.5 + 0.5 * np.cos(np.pi * fraction / self.cutoff)
        return np.where(inside, shape, 0.0)


def parse_filter(text: str) -> RampWindow:
    """Window of a text.

    Parameters
    ----------
    text
        "ramp", "hann:CUTOFF" or "butterworth:CUTOFF:ORDER", with the cut-off as a fraction of the Nyquist frequency.

    Returns
    -------
    RampWindow
        Window with that name.

    Raises
    ------
    InputError
        For any other text.

    Examples
    --------
    >>> parse_filter("butterworth:0.5:5")
    RampWindow(window='butterworth', cutoff=0.5, order=5.0)
    """
    kind, parameters = kind_and_numbers(text, _FILTERS)
    if kind is None:
        raise InputError(
            f"filter {text!r} is not ramp, hann:CUTOFF or butterworth:CUTOFF:ORDER with the cut-off as a fraction of "
            "the Nyquist frequency, for example hann:1.0 or butterworth:0.5:5"
        )
    return RampWindow(kind, *parameters)


def fbp(acquisition: Acquisition, counts: Array, grid: Grid, window: RampWindow | None = None) -> Array:
    """Image by filtered backprojection, in counts per second and mL.

    f(x) = sum_v weight_v q_v(u_v(x)). q_v is the view divided by w_v * voxel_mL, so that it is the sum of f over the
    depth planes as in SystemModel, and filtered with the windowed ramp. It is read by linear interpolation. The ramp is
    the band-limited one in space, 1/4 at 0, -1/(pi n)^2 at odd and 0 at even n [1]_, padded so that nothing wraps
    round; sampling |f| instead would lose the mean. Beyond the detector the projections count as 0 and the filtered
    ones go on, so that voxels outside the detector's circle are right as long as the object is inside.

    Views may come in any order, at any angles, more than once (`angle_weights`). `u_offset_mm` and grids off the axis
    are honoured. Without known view times the image is relative. Fan beams are first brought to parallel lines.

    Assumes: no attenuation, scatter already subtracted.

    Parameters
    ----------
    acquisition
        Geometry and times.
    counts
        Counts (v, z, u) of any sign.
    grid
        Upright grid; for parallel holes its voxels are the projections' pixels.
    window
        Window on the ramp; None: Hann up to the Nyquist frequency.

    Returns
    -------
    Array
        Image (z, y, x), float32.

    Raises
    ------
    InputError
        Where counts, grid and acquisition do not fit each other, or directions are missing.

    References
    ----------
    .. [1] Kak and Slaney, Principles of Computerized Tomographic Imaging, IEEE Press 1988, eq. 61.

    Examples
    --------
    >>> acquisition = Acquisition(
    ...     np.arange(0.0, 180.0, 6.0), np.full(30, 150.0), (1, 32), (4.0, 4.0), np.full(30, 10.0), "Tc-99m", None
    ... )
    >>> fbp(acquisition, np.zeros(acquisition.shape), geometry.default_grid(acquisition)).shape
    (1, 32, 32)
    """
    data = np.asarray(counts)
    if data.shape != acquisition.shape:
        raise InputError(f"projections (v, z, u) need shape {acquisition.shape}, got {data.shape}")
    check_finite(data, "projections (v, z, u)")
    if acquisition.foci:
        acquisition, data = as_parallel(acquisition, data, grid.voxel_mm[2])
    nz, ny, nx = grid.shape
    columns = acquisition.matrix[1]
    lattice, margin = _columns(acquisition, grid)
    length = scipy.fft.next_fast_len(2 * (columns + margin), real=True)
    transfer = _ramp(length) * (window or RampWindow()).gain(2.0 * scipy.fft.rfftfreq(length))
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
            cpu_loops.backproject_view(filtered[view], shifted[view], rows)

    with flushing_threads(cpu_threads()) as threads:
        for work, tasks in ((filter_view, range(acquisition.views)), (fill_rows, range(0, ny, _ROWS_PER_TASK))):
            for _ in threads.map(work, tasks):
                pass
    return image.transpose(2, 0, 1)


def angle_weights(view_angles_deg: Array) -> Array:
    """Weights of the views in the integral over directions.

    Opposite views see the same lines, so that directions count modulo 180 deg. Each direction stands for half the gap
    to either neighbour, and views of one direction (to SAME_LINE_DEG) share its weight. An arc of 180 deg, one of 360
    deg, the same arc twice and uneven steps all integrate to the same image.

    Parameters
    ----------
    view_angles_deg
        Angles (v,) in degrees.

    Returns
    -------
    Array
        Weights (v,) in radians, whose sum is pi.

    Raises
    ------
    InputError
        Where neighbouring directions are more than 30 deg apart: below six directions nothing is recovered.

    Examples
    --------
    >>> np.rad2deg(angle_weights(np.arange(0.0, 360.0, 30.0)))[:3].round(6).tolist()
    [15.0, 15.0, 15.0]
    """
    directions = np.mod(np.asarray(view_angles_deg, dtype=np.float64), 180.0)
    order = np.argsort(directions)
    ascending = directions[order]
    gaps = geometry.gaps_deg(directions, 180.0)
    widest = int(np.argmax(gaps))
    if gaps[widest] > geometry.LARGEST_GAP_DEG:
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
    x0, along_x, y0, along_y = geometry.camera_frames(acquisition, grid).rows[:, 0].T
    origin = -(x0 * along_x + y0 * along_y)
    _, ny, nx = grid.shape
    corners = np.stack([origin + y * along_y + x * along_x for y in (0, ny - 1) for x in (0, nx - 1)])
    beyond = max(0.0, -corners.min(), corners.max() - (acquisition.matrix[1] - 1))
    margin = math.ceil(beyond) + 2
    return np.stack([origin + margin, along_y, along_x], axis=1), margin
