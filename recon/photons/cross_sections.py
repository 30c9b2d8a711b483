"""Photon cross-sections of all materials as tables for the Monte Carlo's inner loops (xraylib).

Angles of Compton scattering: Klein-Nishina times the incoherent scattering function S(x). Of Rayleigh scattering:
Thomson times the squared form factor F(x)^2. x = sin(theta/2) E / (h c) in 1/Angstrom, atoms independent of each other.
Left out: Doppler broadening by the electrons' momentum, fluorescence, interference between atoms (Rayleigh in water).
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from spectac.recon.kernels.compiled import compiled
from spectac.recon.tissues import MATERIALS, cm2_per_g, mass_fractions
from spectac.recon.types import Array

ELECTRON_KEV = 510.99895
"""Rest energy of the electron."""

CLASSICAL_RADIUS2_CM2 = 7.9407877e-26
"""Square of the classical electron radius in cm2."""

HC_KEV_ANGSTROM = 12.398419843
"""Planck's constant times the speed of light in keV Angstrom."""

ENERGY_STEP_KEV = 0.5
"""Step of the tables in energy; they begin at 0, so that an index is energy / step."""

X_STEP = 0.02
"""Step of the tables in x, in 1/Angstrom; they begin at 0."""

LOWEST_KEV = 20.0
"""Below this energy the tables repeat their value at it."""

_AVOGADRO = 6.02214076e23
_QUANTILES = 257


class CrossSections(NamedTuple):
    """Tables for photons up to some energy: m materials in the order of `tissues.MATERIALS`, e energies, x transfers.

    Parameters
    ----------
    total, compton, rayleigh
        (m, e) mass cross-sections in cm2/g.
    incoherent
        (m, x) electrons per g that scatter.
    coherent
        (m, x) squared form factor per g.
    rayleigh_x2
        (m, e, q) the x^2 below which a share 1 - (1 - q/(n-1))^3 of the integral of F^2 d(x^2) up to backscatter lies.
    basis
        (2, e) mass cross-sections of water and cortical bone in cm2/g.
    shares
        (m, 2) how each material's total is made of water and cortical bone.

    Examples
    --------
    >>> tables = cross_sections(140.511)
    >>> water = [material.name for material in MATERIALS].index("water")
    >>> round(float(tables.total[water, round(140.0 / ENERGY_STEP_KEV)]), 3)
    0.154
    """

    total: Array
    compton: Array
    rayleigh: Array
    incoherent: Array
    coherent: Array
    rayleigh_x2: Array
    basis: Array
    shares: Array


@lru_cache(maxsize=4)
def cross_sections(highest_kev: float) -> CrossSections:
    """Tables for photons of at most that energy; made once for each energy.

    Parameters
    ----------
    highest_kev
        Highest photon energy in keV.

    Returns
    -------
    CrossSections
        Tables; those over energy begin at 0 keV and go in steps of ENERGY_STEP_KEV.

    Examples
    --------
    >>> tables = cross_sections(140.511)
    >>> tables.total.shape[0] == len(MATERIALS)
    True
    """
    import xraylib

    energies = np.arange(0.0, highest_kev + 2.0 * ENERGY_STEP_KEV, ENERGY_STEP_KEV)
    used = np.maximum(energies, LOWEST_KEV)
    x = np.arange(0.0, highest_kev / HC_KEV_ANGSTROM + 2.0 * X_STEP, X_STEP)
    total, compton, rayleigh = (
        np.array([[cm2_per_g(material.name, energy, process) for energy in used] for material in MATERIALS])
        for process in ("total", "compton", "rayleigh")
    )
    incoherent = np.zeros((len(MATERIALS), x.size))
    coherent = np.zeros_like(incoherent)
    for row, material in enumerate(MATERIALS):
        for number, share in mass_fractions(material.name):
            atoms = _AVOGADRO * share / xraylib.AtomicWeight(number)
            incoherent[row] += [0.0, *(atoms * xraylib.SF_Compt(number, q) for q in x[1:])]
            coherent[row] += [atoms * xraylib.FF_Rayl(number, q) ** 2 for q in x]
    basis = np.stack([[cm2_per_g(name, energy) for energy in used] for name in ("water", "cortical bone")])
    fitted = (used >= 60.0) & (used <= highest_kev)
    weights = 1.0 / total[:, fitted]
    shares = np.array([np.linalg.lstsq((basis[:, fitted] * w).T, np.ones(w.size), rcond=None)[0] for w in weights])
    quantiles = _rayleigh_quantiles(coherent, x, energies)
    return CrossSections(total, compton, rayleigh, incoherent, coherent, quantiles, basis, shares)


def _rayleigh_quantiles(coherent: Array, x: Array, energies: Array) -> Array:
    """Quantiles (m, e, q) of x^2 under F^2 d(x^2), from 0 to backscatter at each energy.

    They crowd towards 1, where x^2 rises steeply: evenly spaced, the last step alone would cover most angles.
    """
    wanted = 1.0 - np.linspace(1.0, 0.0, _QUANTILES) ** 3
    out = np.zeros((coherent.shape[0], energies.size, _QUANTILES), np.float32)
    squares = x**2
    for row, values in enumerate(coherent):
        steps = 0.5 * (values[1:] + values[:-1]) * np.diff(squares)
        cumulated = np.concatenate([[0.0], np.cumsum(steps)])
        for column, energy in enumerate(energies):
            most = np.interp((energy / HC_KEV_ANGSTROM) ** 2, squares, cumulated)
            out[row, column] = np.interp(wanted * most, cumulated, squares)
    return out


@compiled
def interpolated(row, place):  # type: ignore[no-untyped-def]
    """Value of a table's row between two steps, linearly interpolated.

    Parameters
    ----------
    row
        (n,) values at whole steps.
    place
        Place in steps, at least 0 and below n - 1.

    Examples
    --------
    >>> float(interpolated(np.array([0.0, 10.0, 40.0]), 1.5))
    25.0
    """
    i = int(place)
    f = place - i
    return (1 - f) * row[i] + f * row[i + 1]
