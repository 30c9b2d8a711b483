"""I-123's photons above 400 keV, which fly through the septa: an approximation with one parameter, not transported.

A view sees the activity attenuated by the head at 529 keV and blurred over the whole detector. The number of counts is
a share of the primary of the same activity in air. It is spread evenly over energy, so that each window gets its width
over the photopeak's.

Blur: a Gaussian of sigma 130 mm. It puts 51 % of the counts of a detector of 445 x 591 mm, to which the share refers,
into its middle 256 x 256 mm, as solid angle and slant path through lead suggest. It puts 11 % beside the detector.
This is an estimate: no published response for parallel holes was found.
Fan-beam holes are seen as parallel ones: to these photons the collimator is a plate of lead, which has no focus.
Left out: the change of the blur with distance, the star along the thin septa, scatter in the head above 400 keV.
"""

import math
from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from spectac.recon import geometry
from spectac.recon.collimator import COLLIMATORS, Collimator, lead_per_cm
from spectac.recon.errors import InputError
from spectac.recon.kernels.subnormal import subnormals_are_zero
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.photons.detector import Crystal, geometric_efficiency
from spectac.recon.resample import resample
from spectac.recon.system import SystemModel
from spectac.recon.types import Acquisition, Array, EnergyWindow, Grid, Image, MuMap

TRANSPORTED_KEV = 400.0
"""Photons above this energy are not transported; they fly through the septa of low-energy collimators."""

SIGMA_MM = 130.0
"""Standard deviation of the blur on the detector."""

BESIDE = 0.11
"""Share of the counts that falls beside the detector whose counts define `high_energy_share`."""

HIGH_ENERGY_KEV = 529.0
"""Energy of most of I-123's photons above 400 keV."""

I123_KEV = 158.97
"""I-123's imaged line."""

_ANCHOR_SHARE = 1.33
_REFERENCE_WIDTH = 0.20
_REFERENCE_CRYSTAL_MM = 9.5
_PIXEL_MM = 10.0


def high_energy_kev(nuclide: str) -> float | None:
    """Energy in keV of a nuclide's first line above 400 keV; None without one.

    Parameters
    ----------
    nuclide
        Name of the nuclide.

    Returns
    -------
    float or None
        Energy in keV.

    Examples
    --------
    >>> high_energy_kev("I-123")
    528.96
    """
    return next((kev for kev, _ in nuclide_by_name(nuclide).lines if kev > TRANSPORTED_KEV), None)


def high_energy_share(collimator: Collimator) -> float:
    """Counts of I-123's photons above 400 keV in a 20 % photopeak window over its primary counts there, in air.

    On the whole detector (445 x 591 mm), source 15 cm from it, 9.5 mm crystal. By solid angle and slant path through
    the lead 51 % of them fall into the middle 256 x 256 mm. Their spectrum is flat: in other windows they go with the
    width in keV. Their number follows the transmission of the collimator taken as homogeneous lead at 529 keV, and the
    primary follows the geometric efficiency: the share is 1.33 at the Siemens LEHR, elsewhere in proportion to
    transmission / efficiency, which gives 0.08 for the Siemens medium-energy collimator.

    Parameters
    ----------
    collimator
        Collimator with holes.

    Returns
    -------
    float
        Ratio of counts.

    References
    ----------
    Both ends are known from a SIMIND simulation of a Symbia with a 9.5 mm crystal and its photomultipliers, which send
    most of these photons back (github.com/hhonda5427/simind_study, lehr_cali, me_cali and mew20_10/cali/static;
    penetration of 159 keV photons taken off): LEHR 1.33, medium energy 0.09; 3.2 counts a second and MBq in each keV of
    the photopeak window, 3.1 in each keV above it. With a fan-beam LEHR collimator Cot et al., "Modeling of high-energy
    contamination in SPECT imaging using Monte Carlo simulation" (hdl 2072/193067), find up to 28 % of all counts of a
    head's projections.

    Examples
    --------
    >>> round(high_energy_share(COLLIMATORS["siemens-lehr"]), 2)
    1.33
    """
    return _ANCHOR_SHARE * _leak_per_primary(collimator) / _leak_per_primary(COLLIMATORS["siemens-lehr"])


def _leak_per_primary(collimator: Collimator) -> float:
    lead = 1.0 - (collimator.hole_mm / (collimator.hole_mm + collimator.septa_mm)) ** 2
    transmission = math.exp(-lead_per_cm(HIGH_ENERGY_KEV) * lead * collimator.length_mm / 10.0)
    return transmission / geometric_efficiency(collimator, I123_KEV)


def relative_share(crystal: Crystal, photopeak_width: float) -> float:
    """Factor on `high_energy_share` for another crystal and photopeak window.

    The photons above 400 keV go with the window's width and with what the crystal stops of them, the primary with its
    acceptance.

    Parameters
    ----------
    crystal
        Crystal and energy resolution.
    photopeak_width
        Width of the photopeak window over I-123's line.

    Returns
    -------
    float
        Factor; 1 for a crystal of 9.5 mm and a window of 20 %.

    Examples
    --------
    >>> relative_share(Crystal(), 0.20)
    1.0
    """
    reference = replace(crystal, thickness_mm=_REFERENCE_CRYSTAL_MM)
    more, primary = (float(crystal.efficiency(kev) / reference.efficiency(kev)) for kev in (HIGH_ENERGY_KEV, I123_KEV))
    peak, reference_peak = (
        EnergyWindow("photopeak", I123_KEV - 0.5 * width * I123_KEV, I123_KEV + 0.5 * width * I123_KEV)
        for width in (photopeak_width, _REFERENCE_WIDTH)
    )
    kept = float(crystal.window_share(peak, I123_KEV) / crystal.window_share(reference_peak, I123_KEV))
    return photopeak_width / _REFERENCE_WIDTH * more / (primary * kept)


@subnormals_are_zero()
def high_energy_counts(
    cps: Image, mu: MuMap, share: float, acquisition: Acquisition, windows: tuple[EnergyWindow, ...]
) -> Array:
    """Expected counts (w, v, z, u) of photons above 400 keV.

    Parameters
    ----------
    cps
        Activity in photopeak counts per second and mL, as the projector takes it.
    mu
        Attenuation at the photons' energy, above 400 keV.
    share
        Counts over the primary in the first window, in air.
    acquisition
        Views and detector.
    windows
        Energy windows; `share` refers to the first.

    Returns
    -------
    array
        float32 (w, v, z, u); each window gets counts in proportion to its width.

    Raises
    ------
    InputError
        For a map at 400 keV or below.
    """
    if mu.energy_kev <= TRANSPORTED_KEV:
        raise InputError(f"the map must be at the energy of photons above 400 keV, not at {mu.energy_kev:g} keV")
    wide = _wide_acquisition(acquisition, cps.grid)
    grid = geometry.default_grid(wide)
    coarse = replace(mu, per_cm=resample(mu.per_cm, mu.grid, grid), grid=grid)
    system = SystemModel(wide, grid, mu=coarse, energy_kev=mu.energy_kev, resolution=False)
    seen = system.forward(resample(cps.values, cps.grid, grid))
    sigma = SIGMA_MM / _PIXEL_MM
    spread = gaussian_filter(seen, (0.0, sigma, sigma), mode="constant", truncate=3.0)
    where = np.meshgrid(*_places(acquisition, wide), indexing="ij")
    area = math.prod(acquisition.pixel_mm) / _PIXEL_MM**2
    counts = np.zeros((len(windows), *acquisition.shape), np.float32)
    for view in range(acquisition.views):
        on_detector = map_coordinates(spread[view], where, order=1, mode="constant")
        for index, window in enumerate(windows):
            counts[index, view] = (
                on_detector * (share / (1.0 - BESIDE)) * area * window.width_kev / windows[0].width_kev
            )
    return counts


def _wide_acquisition(acquisition: Acquisition, grid: Grid) -> Acquisition:
    """The same views with coarse pixels on a detector that sees the whole grid and as much beside it as blurs in."""
    z, y, x = grid.centres_mm()
    reach = math.hypot(np.abs(x).max(), np.abs(y).max())
    field = max(acquisition.matrix[1] * acquisition.pixel_mm[1], 2.0 * reach) + 2.0 * SIGMA_MM
    columns = 2 * math.ceil(0.5 * field / _PIXEL_MM)
    x0, y0, first = geometry.axis_position_mm(acquisition)
    last = first + (acquisition.matrix[0] - 1) * acquisition.pixel_mm[0]
    low, high = min(first, z[0]) - SIGMA_MM, max(last, z[-1]) + SIGMA_MM
    return replace(
        acquisition,
        matrix=(math.ceil((high - low) / _PIXEL_MM) + 1, columns),
        pixel_mm=(_PIXEL_MM, _PIXEL_MM),
        axis_lps_mm=(x0, y0, low),
        radii_mm=np.maximum(acquisition.radii_mm, reach + _PIXEL_MM),
        collimator=None,
        foci=(),
    )


def _places(acquisition: Acquisition, wide: Acquisition) -> tuple[Array, Array]:
    """Rows (z,) and columns (u,) of the detector's pixels on the wide detector; u_offset_mm belongs to both."""
    rows, columns = acquisition.matrix
    z = geometry.axis_position_mm(acquisition)[2] + np.arange(rows) * acquisition.pixel_mm[0]
    u = (np.arange(columns) - 0.5 * (columns - 1)) * acquisition.pixel_mm[1]
    return (z - geometry.axis_position_mm(wide)[2]) / _PIXEL_MM, u / _PIXEL_MM + 0.5 * (wide.matrix[1] - 1)
