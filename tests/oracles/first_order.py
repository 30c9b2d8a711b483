"""Once scattered photons of a uniformly active ball, by quadrature over points and directions, without chance.

Klein-Nishina times S(x) comes as xraylib's own differential cross-section; nothing of spectac is used.
"""

import numpy as np
import xraylib

ELECTRON_KEV = 510.99895


def first_order(compound, density, radius_cm, energy_kev, accepted, points=24, turns=24):
    """Counts in one view of parallel holes over those of all photons of the ball in air, absorbed nowhere.

    `accepted(kev)` is the response to a photon of that energy over that to `energy_kev`. A ball looks the same from all
    sides, so the detector lies along z. Places (rho, z) and directions (polar, azimuth) are Gauss-Legendre points, the
    polar ones in three parts, because Rayleigh scattering goes forward.
    """
    mu = density * xraylib.CS_Total_CP(compound, energy_kev)
    thetas, weights = (
        np.concatenate(parts)
        for parts in zip(*(_nodes(32, *part) for part in ((0, 0.15), (0.15, 0.6), (0.6, np.pi))), strict=True)
    )
    azimuths, azimuth_weights = _nodes(turns, 0.0, np.pi)
    # A photon that flies at a polar angle theta to the detector's direction is scattered by theta.
    kev = energy_kev / (1.0 + energy_kev / ELECTRON_KEV * (1.0 - np.cos(thetas)))
    compton = np.array([xraylib.DCS_Compt_CP(compound, energy_kev, float(theta)) for theta in thetas])
    compton *= density * np.array([accepted(float(one)) for one in kev])
    rayleigh = density * np.array([xraylib.DCS_Rayl_CP(compound, energy_kev, float(theta)) for theta in thetas])
    after = density * np.array([xraylib.CS_Total_CP(compound, float(one)) for one in kev])
    total = 0.0
    for z, weight in zip(*_nodes(points, -radius_cm, radius_cm), strict=True):
        for rho, rho_weight in zip(*_nodes(points, 0.0, np.sqrt(radius_cm**2 - z**2)), strict=True):
            out = np.sqrt(radius_cm**2 - rho**2) - z
            # How far back the ball reaches from (rho, 0, z) against the direction of flight.
            along = rho * np.sin(thetas)[:, None] * np.cos(azimuths) + z * np.cos(thetas)[:, None]
            back = along + np.sqrt(along**2 + radius_cm**2 - rho**2 - z**2)
            flown = 2.0 * ((1.0 - np.exp(-mu * back)) / mu * azimuth_weights).sum(axis=1)
            sent = compton * np.exp(-after * out) + rayleigh * np.exp(-mu * out)
            total += weight * rho_weight * 2.0 * np.pi * rho * float((flown * sent * np.sin(thetas) * weights).sum())
    return total / (4.0 / 3.0 * np.pi * radius_cm**3)


def _nodes(count, low, high):
    """Points and weights of the Gauss-Legendre quadrature from low to high."""
    x, w = np.polynomial.legendre.leggauss(count)
    return 0.5 * (high - low) * (x + 1) + low, 0.5 * (high - low) * w
