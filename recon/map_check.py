"""Plausibility of mu-maps by their soft tissue: the unit, the photon energy, and whether a CT's numbers are HU.

Soft tissue is the narrow peak of a map's values. In 20 CTs of living heads, two templates and 8 virtual heads it lies
at 1.025 to 1.05 of water and holds at least 0.44 of the body's voxels within 5 %; in a dry skull 0.09 to 0.21.
"""

import math

import numpy as np
from scipy.ndimage import gaussian_filter1d

from spectac.recon.errors import InputError
from spectac.recon.nuclides import HIGHEST_KEV, LOWEST_KEV, NUCLIDES
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Array, MuMap

NARROW_BEAM_RATIO = (0.95, 1.07)
"""Soft tissue over water in narrow-beam maps: uniform ones in use have 0.976, heads up to 1.05."""
BROAD_BEAM_RATIO = (0.70, 0.88)
"""The same in maps for reconstruction without scatter correction: 0.78 is usual, 0.11-0.12 /cm for Tc-99m."""
CT_RATIO = (0.88, 1.12)
"""The same in a CT's map: -120 to 120 HU, from fat to acrylic glass."""
BRAIN_RATIO = 1.04
"""Brain over water, 80 to 511 keV."""
UNIT_RATIO = (0.3, 4.0)
"""Median tissue over water beyond which a map is in another unit."""
NO_AIR = 0.4
"""Times water: denser than any air, however far a CT's numbers are shifted by what leaves soft tissue below DENSE."""
DENSE = 1.5
"""Times water: bone."""
MOST_BONE_ML = 1500.0
"""Largest volume denser than DENSE in a head and neck: skull and spine together have under a litre."""
PEAK_SHARE = 0.3
"""Smallest share of the body's voxels within 5 % of a value that is soft tissue."""
SOURCES_KEV = (100.0, 122.06, 511.0, 661.66)
"""Photons of maps besides the nuclides' lines: Gd-153 and Co-57 transmission, PET, Cs-137 transmission."""
STEP = 0.005
"""Bins of the values' logarithm."""


def check_values(mu: MuMap) -> None:
    """Check that a map is in 1/cm.

    Parameters
    ----------
    mu
        Map.

    Raises
    ------
    InputError
        For an empty map, and for one whose median tissue is far from water.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((1, 4, 4), (4.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    >>> check_values(MuMap(np.full(grid.shape, 0.15), grid, 140.5))
    """
    tissue = _tissue(mu.per_cm)
    if tissue.size == 0:
        raise InputError("the mu-map is empty: choose --attenuation none to reconstruct without one")
    typical, water = float(np.median(tissue)), water_per_cm(mu.energy_kev)
    if not UNIT_RATIO[0] * water < typical < UNIT_RATIO[1] * water:
        raise InputError(
            f"the mu-map's tissue has {typical:.3g}, but water has {water:.3g} /cm at {mu.energy_kev:g} keV: "
            "the map must be in 1/cm (not 1/mm, 1/m or HU)"
        )


def soft_tissue_per_cm(mu: MuMap) -> float | None:
    """Coefficient of a map's soft tissue: the commonest value in the body.

    Parameters
    ----------
    mu
        Map.

    Returns
    -------
    float or None
        Coefficient in 1/cm; None where no value is common.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((1, 4, 4), (4.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    >>> round(soft_tissue_per_cm(MuMap(np.full(grid.shape, 0.15), grid, 140.5)), 3)
    0.15
    """
    tissue = _tissue(mu.per_cm)
    if tissue.size == 0:
        return None
    typical = float(np.median(tissue))
    logarithms = np.log(tissue[(tissue > 0.5 * typical) & (tissue < 2.0 * typical)] / typical)
    many, edges = np.histogram(logarithms, bins=np.arange(-0.7, 0.7 + STEP, STEP))
    index = int(gaussian_filter1d(many.astype(float), 2.0).argmax())
    # The mean about the peak: exact where all tissue has one value.
    middle = 0.5 * (edges[index] + edges[index + 1])
    soft = typical * math.exp(float(logarithms[np.abs(logarithms - middle) < 4.0 * STEP].mean()))
    body = tissue[tissue > 0.5 * soft]
    share = float(((body > 0.95 * soft) & (body < 1.05 * soft)).sum() / body.size)
    return soft if share >= PEAK_SHARE else None


def is_narrow_beam(mu: MuMap) -> bool:
    """Whether a map is one of primary photons alone.

    Parameters
    ----------
    mu
        Map.

    Returns
    -------
    bool
        True also for a map without soft tissue.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((1, 4, 4), (4.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    >>> is_narrow_beam(MuMap(np.full(grid.shape, 0.12), grid, 140.5))
    False
    """
    soft = soft_tissue_per_cm(mu)
    return soft is None or soft > BROAD_BEAM_RATIO[1] * water_per_cm(mu.energy_kev)


def energy_notes(mu: MuMap, scatter_corrected: bool) -> list[str]:
    """Note where a map's soft tissue is not that of water at its energy, with the possible readings.

    Parameters
    ----------
    mu
        Map.
    scatter_corrected
        Whether scatter is corrected: without, a broad-beam map is right.

    Returns
    -------
    list of str
        One note, or none.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((1, 4, 4), (4.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    >>> energy_notes(MuMap(np.full(grid.shape, 0.15), grid, 140.5), scatter_corrected=True)
    []
    """
    soft = soft_tissue_per_cm(mu)
    if soft is None:
        return []
    ratio = soft / water_per_cm(mu.energy_kev)
    broad = BROAD_BEAM_RATIO[0] <= ratio <= BROAD_BEAM_RATIO[1]
    if NARROW_BEAM_RATIO[0] <= ratio <= NARROW_BEAM_RATIO[1] or (broad and not scatter_corrected):
        return []
    readings = []
    if broad:
        readings.append("a broad-beam map, which belongs to reconstruction without scatter correction (--scatter none)")
    as_water, as_brain = _energy_kev(soft), _energy_kev(soft / BRAIN_RATIO)
    if as_water is not None and as_brain is not None:
        likely = [f"{kev:g}" for kev in _lines() if 0.97 * as_water <= kev <= 1.03 * as_brain]
        option = f"--mu-map-kev {likely[-1]}" if likely else "--mu-map-kev"
        lines = f", e.g. {' or '.join(likely)} keV" if likely else ""
        readings.append(
            f"a map of another photon energy ({as_water:.0f} keV if that is water, {as_brain:.0f} keV if brain"
            f"{lines}): {option} converts it"
        )
    else:
        readings.append("no map of soft tissue in 1/cm at any energy from 50 to 800 keV: check its unit")
    return [
        f"the mu-map's soft tissue has {soft:.4f} /cm, {ratio:.2f} of water at {mu.energy_kev:g} keV: it was used as "
        f"it is, but looks like {', or '.join(readings)}"
    ]


def ct_notes(mu: MuMap) -> list[str]:
    """Note where the numbers of a CT cannot be HU.

    Parameters
    ----------
    mu
        Map of the CT.

    Returns
    -------
    list of str
        One note, or none.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((1, 4, 4), (4.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    >>> ct_notes(MuMap(np.full(grid.shape, 0.16), grid, 140.5))
    []
    """
    water = water_per_cm(mu.energy_kev)
    values = np.asarray(mu.per_cm)
    dense_ml = float((values > DENSE * water).sum()) * mu.grid.voxel_ml
    about = "its numbers are not HU: look at (0028,1052) RescaleIntercept, usually -1024, and (0028,1053) RescaleSlope"
    if dense_ml > MOST_BONE_ML:
        return [f"{dense_ml / 1000:.1f} litres of the CT are as dense as bone, more than a head has: {about}"]
    # Air whose numbers are too high must not pass for tissue.
    soft = soft_tissue_per_cm(MuMap(np.where(values > NO_AIR * water, values, 0), mu.grid, mu.energy_kev))
    if soft is None or CT_RATIO[0] <= soft / water <= CT_RATIO[1]:
        return []
    fat = "unless this is mostly fat " if soft < water else ""
    return [
        f"the CT's soft tissue has about {1000 * (soft / water - 1):.0f} HU, water has 0 and brain 35: {fat}{about}"
    ]


def _tissue(per_cm: Array) -> Array:
    """Values of what is no air, whatever the unit: above a tenth of the densest."""
    values = np.asarray(per_cm)
    values = values[values > 0]
    # Single voxels of metal do not count.
    return values[values > 0.1 * np.percentile(values, 99.5)] if values.size else values


def _energy_kev(per_cm: float) -> float | None:
    """Energy at which water has this coefficient, None beyond the table."""
    low, high = LOWEST_KEV, HIGHEST_KEV
    if not water_per_cm(high) <= per_cm <= water_per_cm(low):
        return None
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if water_per_cm(middle) > per_cm else (low, middle)
    return 0.5 * (low + high)


def _lines() -> list[float]:
    return sorted({*SOURCES_KEV, *(one.main_kev for one in NUCLIDES.values())})
