"""I-123's photons above 400 keV, which fly through the septa: an approximation with one parameter, not transported.

A view sees the activity attenuated by the head at 529 keV and blurred over the whole detector. The number of counts is
Scanner.high_energy_share times the primary of the same activity in air, spread evenly over energy, so that each window
gets its width over the photopeak's.

Blur: a Gaussian of sigma 130 mm. It puts 51 % of the counts of a detector of 445 x 591 mm, to which the share refers,
into its middle 256 x 256 mm, as solid angle and slant path through lead suggest (an estimate: no published response for
parallel holes was found), and 11 % beside the detector.
Left out: the change of the blur with distance, the star along the thin septa, scatter in the head above 400 keV.
"""

import math
from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from spectac.recon import geometry
from spectac.recon.kernels.subnormal import subnormals_are_zero
from spectac.recon.nuclides import nuclide
from spectac.recon.resample import resample
from spectac.recon.system import SystemModel
from spectac.recon.types import Acquisition, Array, EnergyWindow, Grid, Image
from spectac.simulate.head import Head
from spectac.simulate.scanner import Scanner

SIGMA_MM = 130.0
BESIDE = 0.11
"""Share of the counts that falls beside the detector whose counts define high_energy_share."""

_PIXEL_MM = 10.0


@subnormals_are_zero()
def high_energy_counts(
    head: Head, cps: Image, scanner: Scanner, acquisition: Acquisition, windows: tuple[EnergyWindow, ...]
) -> Array:
    """Expected counts (w, v, z, u) of photons above 400 keV; zeros for nuclides without them.

    `cps` is the activity on the head's grid in photopeak counts per second and mL, as the projector takes it.
    """
    counts = np.zeros((len(windows), *acquisition.shape), np.float32)
    above = [kev for kev, _ in nuclide(acquisition.nuclide).lines if kev > 400.0]
    share = scanner.high_energy_share / (1.0 - BESIDE)
    if not above or share == 0:
        return counts
    wide = _wide_acquisition(acquisition, head.grid)
    grid = geometry.default_grid(wide)
    mu = head.mu(above[0])
    mu = replace(mu, per_cm=resample(mu.per_cm, mu.grid, grid), grid=grid)
    system = SystemModel(wide, grid, mu=mu, energy_kev=above[0], resolution=False)
    seen = system.forward(resample(cps.values, cps.grid, grid))
    sigma = SIGMA_MM / _PIXEL_MM
    spread = gaussian_filter(seen, (0.0, sigma, sigma), mode="constant", truncate=3.0)
    rows, columns = _places(acquisition, wide)
    area = math.prod(acquisition.pixel_mm) / _PIXEL_MM**2
    peak = windows[0].width_kev
    for view in range(acquisition.views):
        where = np.meshgrid(rows, columns[view], indexing="ij")
        on_detector = map_coordinates(spread[view], where, order=1, mode="constant")
        for index, window in enumerate(windows):
            counts[index, view] = on_detector * share * area * window.width_kev / peak
    return counts


def _wide_acquisition(acquisition: Acquisition, grid: Grid) -> Acquisition:
    """The same views with coarse pixels on a detector that sees the whole head and as much beside it as blurs in."""
    z, y, x = grid.centres_mm()
    reach = math.hypot(np.abs(x).max(), np.abs(y).max())
    field = max(acquisition.matrix[1] * acquisition.pixel_mm[1], 2.0 * reach) + 2.0 * SIGMA_MM
    columns = 2 * math.ceil(0.5 * field / _PIXEL_MM)
    first = geometry.axis_position_mm(acquisition)[2]
    last = first + (acquisition.matrix[0] - 1) * acquisition.pixel_mm[0]
    low, high = min(first, z[0]) - SIGMA_MM, max(last, z[-1]) + SIGMA_MM
    rows = math.ceil((high - low) / _PIXEL_MM) + 1
    return replace(
        acquisition,
        matrix=(rows, columns),
        pixel_mm=(_PIXEL_MM, _PIXEL_MM),
        axis_lps_mm=(*geometry.axis_position_mm(acquisition)[:2], low),
        radii_mm=np.maximum(acquisition.radii_mm, reach + _PIXEL_MM),
    )


def _places(acquisition: Acquisition, wide: Acquisition) -> tuple[Array, Array]:
    """Rows (z,) and columns (v, u) of the detector's pixels on the wide detector, in its pixels."""
    z = geometry.axis_position_mm(acquisition)[2] + np.arange(acquisition.matrix[0]) * acquisition.pixel_mm[0]
    rows = (z - geometry.axis_position_mm(wide)[2]) / _PIXEL_MM
    own = (np.arange(acquisition.matrix[1]) - 0.5 * (acquisition.matrix[1] - 1)) * acquisition.pixel_mm[1]
    # u_offset_mm belongs to both detectors: it cancels.
    columns = own / _PIXEL_MM + 0.5 * (wide.matrix[1] - 1)
    return rows, np.broadcast_to(columns, (acquisition.views, columns.size))
