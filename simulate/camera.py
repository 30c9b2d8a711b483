"""What a gamma camera counts of the photons that reach it: collimator, crystal and energy window, without an image."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from spectac.recon.collimator import COLLIMATORS, FWHM_PER_SIGMA, INTRINSIC_KEV, Collimator, lead_per_cm
from spectac.recon.errors import InputError
from spectac.recon.types import EnergyWindow

SODIUM_IODIDE_G_PER_CM3 = 3.67

_HOLE_FACTOR = {"hexagonal": 0.2625, "round": 0.2382, "square": 0.2821}
"""K of Anger's formula for holes in their densest array: sqrt(hole area / cell area * hole area / (4 pi)) at d = 1,
with the flat-to-flat width (round: diameter) d. Anger himself rounds them to 0.26, 0.24 and 0.28."""

HIGH_ENERGY_KEV = 529.0
I123_KEV = 158.97
_ANCHOR_SHARE = 1.33


def geometric_efficiency(collimator: Collimator, energy_kev: float) -> float:
    """Share of the photons emitted into all directions that pass the holes of a parallel-hole collimator.

    g = [K d^2 / (L_eff (d + t))]^2 with L_eff = length - 2/mu_lead(E); the same at every distance in air.
    Reference: H. O. Anger, in Instrumentation in Nuclear Medicine vol. 1, Academic Press 1967, ch. 19.
    Raises InputError for a collimator that is only a measured line, or whose septa are transparent.
    Assumes: no photon passes a septum.
    """
    if collimator.line is not None:
        raise InputError(f"collimator {collimator.name!r} has no holes: its sensitivity cannot be computed")
    length_mm = collimator.length_mm - 20.0 / lead_per_cm(energy_kev)
    if length_mm <= 0:
        raise InputError(f"collimator {collimator.name}: its septa are transparent at {energy_kev:g} keV")
    hole, pitch = collimator.hole_mm, collimator.hole_mm + collimator.septa_mm
    return float((_HOLE_FACTOR[collimator.hole_shape] * hole**2 / (length_mm * pitch)) ** 2)


@lru_cache(maxsize=4096)
def sodium_iodide_per_cm(energy_kev: float) -> float:
    """Attenuation coefficient of the crystal in 1/cm (xraylib, NIST's sodium iodide at 3.67 g/cm3)."""
    import xraylib

    return float(xraylib.CS_Total_CP("Sodium Iodide", energy_kev) * SODIUM_IODIDE_G_PER_CM3)


def crystal_efficiency(energies_kev: ArrayLike, crystal_mm: float) -> NDArray[np.float64]:
    """Share of photons of each energy that interact in the crystal when they hit it at a right angle."""
    energies = np.asarray(energies_kev, dtype=np.float64)
    mu = np.array([sodium_iodide_per_cm(float(energy)) for energy in energies.ravel()]).reshape(energies.shape)
    return -np.expm1(-mu * crystal_mm / 10.0)


def fwhm_kev(energies_kev: ArrayLike, energy_resolution: float) -> NDArray[np.float64]:
    """Width of the energy signal: FWHM/E is `energy_resolution` at 140.5 keV and falls as 1/sqrt(E)."""
    return energy_resolution * np.sqrt(INTRINSIC_KEV * np.asarray(energies_kev, dtype=np.float64))


def window_share(window: EnergyWindow, energies_kev: ArrayLike, energy_resolution: float) -> NDArray[np.float64]:
    """Share of photons that gave their whole energy to the crystal whose signal falls into the window."""
    energies = np.asarray(energies_kev, dtype=np.float64)
    sigma = fwhm_kev(energies, energy_resolution) / FWHM_PER_SIGMA
    return ndtr((window.upper_kev - energies) / sigma) - ndtr((window.lower_kev - energies) / sigma)


def high_energy_share(collimator: Collimator) -> float:
    """Counts of I-123's photons above 400 keV in a 20 % photopeak window over its primary counts there, in air.

    On the whole detector (445 x 591 mm), source 15 cm from it. By solid angle and slant path through the lead 51 % of
    them fall into the middle 256 x 256 mm. Their spectrum is flat: in other windows they go with the width in keV.
    These photons fly through the septa, so their number follows the transmission of the collimator taken as homogeneous
    lead at 529 keV, and the primary follows the geometric efficiency: the share is 1.33 at the Siemens LEHR, elsewhere
    in proportion to transmission / efficiency, which gives 0.08 for the Siemens medium-energy collimator.
    Both ends are known from a SIMIND simulation of a Symbia with a 9.5 mm crystal and its photomultipliers, which send
    most of these photons back (results stored in github.com/hhonda5427/simind_study, lehr_cali, me_cali and
    mew20_10/cali/static; penetration of 159 keV photons taken off): LEHR 1.33, medium energy 0.09; 3.2 counts a second
    and MBq in each keV of the photopeak window, 3.1 in each keV above it. With a fan-beam LEHR collimator Cot et al.,
    "Modeling of high-energy contamination in SPECT imaging using Monte Carlo simulation" (hdl 2072/193067), find up to
    28 % of all counts of a head's projections.
    """
    return _ANCHOR_SHARE * _leak_per_primary(collimator) / _leak_per_primary(COLLIMATORS["siemens-lehr"])


def _leak_per_primary(collimator: Collimator) -> float:
    efficiency = geometric_efficiency(collimator, I123_KEV)
    lead = 1.0 - (collimator.hole_mm / (collimator.hole_mm + collimator.septa_mm)) ** 2
    return math.exp(-lead_per_cm(HIGH_ENERGY_KEV) * lead * collimator.length_mm / 10.0) / efficiency
