"""The one table of materials: composition, typical density and photon attenuation of tissues, water, air and holders.

CT (`recon.ct`), the scatter Monte Carlo (`recon.photons`) and the virtual patients read their materials here.
Cross-sections come from xraylib. The attenuation of water is also tabulated, because it is needed without xraylib.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from spectac.recon.errors import InputError


@dataclass(frozen=True)
class Material:
    """A material of the table.

    Parameters
    ----------
    name
        Name by which `material` finds it.
    density_g_per_cm3
        Typical density in g/cm3.
    source
        Where composition and density come from.
    compounds
        (NIST's name of a compound, share of the mass) of its parts.
    percent
        (atomic number, percent of the mass) of its elements, where no compound describes it.

    Examples
    --------
    >>> Material("gelatine", 1.01, "assumed", (("Water, Liquid", 1.0),)).density_g_per_cm3
    1.01
    """

    name: str
    density_g_per_cm3: float
    source: str
    compounds: tuple[tuple[str, float], ...] = ()
    percent: tuple[tuple[int, float], ...] = ()


_CORTICAL, _ADIPOSE, _SOFT = "Bone, Cortical (ICRP)", "Adipose Tissue (ICRP)", "Tissue, Soft (ICRP)"
_ICRP = "composition ICRP (NIST compound), density ICRU 44"
_ICRU_44 = "ICRU Report 44 (1989)"
_NIST = "NIST compound"

MATERIALS = (
    Material("air", 0.0012, _NIST, (("Air, Dry (near sea level)", 1.0),)),
    Material("adipose", 0.95, _ICRP, ((_ADIPOSE, 1.0),)),
    Material("soft tissue", 1.06, _ICRP, ((_SOFT, 1.0),)),
    Material("muscle", 1.05, _ICRP, (("Muscle, Skeletal", 1.0),)),
    Material("brain", 1.04, _ICRP, (("Brain (ICRP)", 1.0),)),
    Material("csf", 1.007, "water; density ICRU 46", (("Water, Liquid", 1.0),)),
    # ICRU 46's spongiosa (1.18 g/cm3, 7.4 % Ca) is cortical bone and marrow in nearly these shares.
    Material("spongiosa", 1.25, "mixture after ICRU 46", ((_CORTICAL, 0.40), (_ADIPOSE, 0.35), (_SOFT, 0.25))),
    Material("cranium", 1.61, "mixture with ICRU 44's density", ((_CORTICAL, 0.84), (_SOFT, 0.16))),
    Material("cortical bone", 1.92, _ICRP, ((_CORTICAL, 1.0),)),
    Material("plastic", 1.19, _NIST, (("Polymethyl Methacralate (Lucite, Perspex)", 1.0),)),
    Material("foam", 0.05, _NIST, (("Polyethylene", 1.0),)),
    Material("water", 1.0, _NIST, (("Water, Liquid", 1.0),)),
    Material("lung", 0.26, _ICRP, (("Lung (ICRP)", 1.0),)),
    Material(
        "cranium (ICRU 44)", 1.61, _ICRU_44,
        percent=((1, 5.0), (6, 21.2), (7, 4.0), (8, 43.5), (11, 0.1), (12, 0.2), (15, 8.1), (16, 0.3), (20, 17.6)),
    ),
    Material(
        "cortical bone (ICRU 44)", 1.92, _ICRU_44,
        percent=((1, 3.4), (6, 15.5), (7, 4.2), (8, 43.5), (11, 0.1), (12, 0.2), (15, 10.3), (16, 0.3), (20, 22.5)),
    ),
)  # fmt: skip
"""All materials. Arrays hold a material as its index in this tuple: new materials go to the end."""

INDEX = {material.name: index for index, material in enumerate(MATERIALS)}
"""Index in MATERIALS by name."""

_WATER_PER_CM = (
    (50.0, 0.2269), (60.0, 0.2059), (80.0, 0.1837), (100.0, 0.1707), (150.0, 0.1505), (200.0, 0.1370),
    (300.0, 0.1186), (400.0, 0.1061), (500.0, 0.09687), (600.0, 0.08956), (800.0, 0.07865),
)  # fmt: skip
"""Energy in keV and narrow-beam coefficient of water in 1/cm, coherent scattering included (NIST XCOM)."""


def material(name: str) -> Material:
    """Material of the table by its name.

    Parameters
    ----------
    name
        Name in MATERIALS.

    Returns
    -------
    Material
        Composition, density and source.

    Raises
    ------
    InputError
        For an unknown name; the message lists the known ones.

    Examples
    --------
    >>> material("brain").density_g_per_cm3
    1.04
    """
    if name not in INDEX:
        raise InputError(f"material {name!r} is not one of {', '.join(INDEX)}")
    return MATERIALS[INDEX[name]]


@lru_cache
def elements(name: str) -> tuple[tuple[int, float], ...]:
    """(atomic number, share of the mass) of a material's elements, as its source states them.

    NIST's shares may add up to 0.999999 (air); `mass_fractions` scales them to 1.

    Parameters
    ----------
    name
        Name in MATERIALS.

    Returns
    -------
    tuple of (int, float)
        Elements in rising order of the atomic number.

    Examples
    --------
    >>> elements("water")
    ((1, 0.111894), (8, 0.888106))
    """
    import xraylib

    entry = material(name)
    total = sum(percent for _, percent in entry.percent)
    shares = {number: percent / total for number, percent in entry.percent}
    for compound, part in entry.compounds:
        data = xraylib.GetCompoundDataNISTByName(compound)
        for number, share in zip(data["Elements"], data["massFractions"], strict=True):
            shares[number] = shares.get(number, 0.0) + part * share
    return tuple(sorted(shares.items()))


@lru_cache
def mass_fractions(name: str) -> tuple[tuple[int, float], ...]:
    """(atomic number, share of the mass) of a material's elements, adding up to 1.

    Parameters
    ----------
    name
        Name in MATERIALS.

    Returns
    -------
    tuple of (int, float)
        Elements in rising order of the atomic number.

    Examples
    --------
    >>> round(sum(share for _, share in mass_fractions("air")), 9)
    1.0
    """
    shares = elements(name)
    total = sum(share for _, share in shares)
    return tuple((number, share / total) for number, share in shares)


@lru_cache(maxsize=4096)
def cm2_per_g(name: str, energy_kev: float, process: str = "total") -> float:
    """Mass cross-section of a material in cm2/g.

    Parameters
    ----------
    name
        Name in MATERIALS.
    energy_kev
        Photon energy in keV.
    process
        "total" (coherent scattering included), "photoelectric", "compton" or "rayleigh".

    Returns
    -------
    float
        Mass cross-section in cm2/g.

    Examples
    --------
    >>> round(cm2_per_g("water", 140.5), 4)
    0.1537
    """
    import xraylib

    functions = {
        "total": xraylib.CS_Total,
        "photoelectric": xraylib.CS_Photo,
        "compton": xraylib.CS_Compt,
        "rayleigh": xraylib.CS_Rayl,
    }
    return float(sum(share * functions[process](number, energy_kev) for number, share in mass_fractions(name)))


def mu_per_cm(name: str, energy_kev: float) -> float:
    """Narrow-beam attenuation coefficient in 1/cm of a material at its typical density.

    Parameters
    ----------
    name
        Name in MATERIALS.
    energy_kev
        Photon energy in keV.

    Returns
    -------
    float
        Attenuation coefficient in 1/cm.

    Examples
    --------
    >>> round(mu_per_cm("brain", 159.0), 3)
    0.153
    """
    return material(name).density_g_per_cm3 * cm2_per_g(name, energy_kev)


def water_per_cm(energy_kev: float) -> float:
    """Narrow-beam attenuation coefficient of water in 1/cm, from NIST's table, without xraylib.

    The table is interpolated in the logarithms of energy and coefficient.

    Parameters
    ----------
    energy_kev
        Photon energy, 50 to 800 keV.

    Returns
    -------
    float
        Attenuation coefficient in 1/cm.

    Raises
    ------
    InputError
        Outside of that range.

    Examples
    --------
    >>> round(water_per_cm(140.5), 4)
    0.1536
    """
    for (low_kev, low), (high_kev, high) in pairwise(_WATER_PER_CM):
        if low_kev <= energy_kev <= high_kev:
            share = math.log(energy_kev / low_kev) / math.log(high_kev / low_kev)
            return low ** (1 - share) * high**share
    raise InputError(f"the attenuation of water is tabulated from 50 to 800 keV, not at {energy_kev:g} keV")
