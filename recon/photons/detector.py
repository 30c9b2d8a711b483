"""Response of a gamma camera to photons: holes of the collimator, crystal, and energy window."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from spectac.recon.collimator import FWHM_PER_SIGMA, INTRINSIC_KEV, Collimator, lead_per_cm
from spectac.recon.errors import InputError
from spectac.recon.types import EnergyWindow

SODIUM_IODIDE_G_PER_CM3 = 3.67
"""Density of the crystal."""

_HOLE_FACTOR = {"hexagonal": 0.2625, "round": 0.2382, "square": 0.2821}
"""K of Anger's formula for holes in their densest array: sqrt(hole area / cell area * hole area / (4 pi)) at d = 1,
with the flat-to-flat width (round: diameter) d. Anger himself rounds them to 0.26, 0.24 and 0.28."""


@dataclass(frozen=True)
class Crystal:
    """A sodium iodide crystal with its electronics.

    Assumes: each interaction gives its whole energy. Left out: Compton and iodine X-rays that leave the crystal, the
    aluminium cover, and photons sent back from behind it; together they take about a tenth of the photopeak.

    Parameters
    ----------
    energy_resolution
        FWHM/E at 140.5 keV; it falls as 1/sqrt(E).
    thickness_mm
        Thickness in mm.

    Examples
    --------
    >>> round(float(Crystal(thickness_mm=9.5).efficiency(140.5)), 2)
    0.92
    """

    energy_resolution: float = 0.098
    thickness_mm: float = 9.5

    def efficiency(self, energies_kev: ArrayLike) -> NDArray[np.float64]:
        """Share of photons of each energy that interact in the crystal when they hit it at a right angle.

        Parameters
        ----------
        energies_kev
            Photon energies in keV, any shape.

        Returns
        -------
        array
            float64 in the shape of the energies, from 0 to 1.
        """
        return -np.expm1(-self.mean_free_paths(energies_kev))

    def mean_free_paths(self, energies_kev: ArrayLike) -> NDArray[np.float64]:
        """Thickness in mean free paths of photons of each energy.

        Parameters
        ----------
        energies_kev
            Photon energies in keV, any shape.

        Returns
        -------
        array
            float64 in the shape of the energies.
        """
        energies = np.asarray(energies_kev, dtype=np.float64)
        mu = np.array([_sodium_iodide_per_cm(float(energy)) for energy in energies.ravel()]).reshape(energies.shape)
        return mu * self.thickness_mm / 10.0

    def window_share(self, window: EnergyWindow, energies_kev: ArrayLike) -> NDArray[np.float64]:
        """Share of the photons of each energy that interact whose signal falls into the window.

        Parameters
        ----------
        window
            Energy window.
        energies_kev
            Photon energies in keV, any shape.

        Returns
        -------
        array
            float64 in the shape of the energies, from 0 to 1.
        """
        energies = np.asarray(energies_kev, dtype=np.float64)
        fwhm_kev = self.energy_resolution * np.sqrt(INTRINSIC_KEV * energies)
        sigma = fwhm_kev / FWHM_PER_SIGMA
        return ndtr((window.upper_kev - energies) / sigma) - ndtr((window.lower_kev - energies) / sigma)

    def acceptance(self, window: EnergyWindow, energies_kev: ArrayLike) -> NDArray[np.float64]:
        """Probability that a photon that has passed a hole is counted in the window.

        [1 - exp(-mu_NaI(E) thickness)] * [Phi((upper - E)/s) - Phi((lower - E)/s)], s = FWHM(E)/2.3548. It is absolute:
        the main line in the photopeak has about 0.9 for Tc-99m in 20 %.

        Parameters
        ----------
        window
            Energy window.
        energies_kev
            Photon energies in keV, any shape; the result has the same.

        Returns
        -------
        array
            float64 in the shape of the energies, from 0 to 1.

        Examples
        --------
        >>> round(float(Crystal(0.1, 9.0).acceptance(EnergyWindow("photopeak", 126.5, 154.5), 140.5)), 2)
        0.89
        """
        return self.efficiency(energies_kev) * self.window_share(window, energies_kev)


def geometric_efficiency(collimator: Collimator, energy_kev: float) -> float:
    """Share of the photons emitted into all directions that pass the holes of a parallel-hole collimator.

    g = [K d^2 / (L_eff (d + t))]^2 with L_eff = length - 2/mu_lead(E); the same at every distance in air.
    Assumes: no photon passes a septum.

    Parameters
    ----------
    collimator
        Collimator with holes.
    energy_kev
        Photon energy in keV.

    Returns
    -------
    float
        Share, from 0 to 1.

    Raises
    ------
    InputError
        For a collimator that is only a measured line, or whose septa are transparent.

    References
    ----------
    H. O. Anger, in Instrumentation in Nuclear Medicine vol. 1, Academic Press 1967, ch. 19.

    Examples
    --------
    >>> from spectac.recon import COLLIMATORS
    >>> f"{geometric_efficiency(COLLIMATORS['siemens-lehr'], 140.5):.1e}"
    '1.2e-04'
    """
    if collimator.line is not None:
        raise InputError(f"collimator {collimator.name!r} has no holes: its sensitivity cannot be computed")
    length_mm = collimator.length_mm - 20.0 / lead_per_cm(energy_kev)
    if length_mm <= 0:
        raise InputError(f"collimator {collimator.name}: its septa are transparent at {energy_kev:g} keV")
    hole, pitch = collimator.hole_mm, collimator.hole_mm + collimator.septa_mm
    return float((_HOLE_FACTOR[collimator.hole_shape] * hole**2 / (length_mm * pitch)) ** 2)


@lru_cache(maxsize=4096)
def _sodium_iodide_per_cm(energy_kev: float) -> float:
    """Attenuation coefficient of the crystal in 1/cm (NIST's sodium iodide)."""
    import xraylib

    return float(xraylib.CS_Total_CP("Sodium Iodide", energy_kev) * SODIUM_IODIDE_G_PER_CM3)
