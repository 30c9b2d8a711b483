"""What a virtual patient is made of: compositions, typical densities, and photon cross-sections from xraylib.

Elemental compositions are those of NIST's compounds (ICRP, ICRU) as xraylib stores them, or mixtures of two of them by
mass. Densities: ICRU Report 44 (1989) and 46 (1992).
"""

from dataclasses import dataclass
from functools import lru_cache

from spectac.recon.errors import InputError


@dataclass(frozen=True)
class Material:
    """A tissue: `parts` are NIST compounds with their shares of the mass, `density_g_per_cm3` its typical density."""

    name: str
    density_g_per_cm3: float
    parts: tuple[tuple[str, float], ...]


_CORTICAL, _ADIPOSE, _SOFT = "Bone, Cortical (ICRP)", "Adipose Tissue (ICRP)", "Tissue, Soft (ICRP)"

MATERIALS = (
    Material("air", 0.0012, (("Air, Dry (near sea level)", 1.0),)),
    Material("adipose", 0.95, ((_ADIPOSE, 1.0),)),
    Material("soft tissue", 1.06, ((_SOFT, 1.0),)),
    Material("muscle", 1.05, (("Muscle, Skeletal", 1.0),)),
    Material("brain", 1.04, (("Brain (ICRP)", 1.0),)),
    Material("csf", 1.007, (("Water, Liquid", 1.0),)),
    # Diploe: ICRU 46's spongiosa (1.18 g/cm3, 7.4 % Ca) is cortical bone and marrow in nearly these shares.
    Material("spongiosa", 1.25, ((_CORTICAL, 0.40), (_ADIPOSE, 0.35), (_SOFT, 0.25))),
    Material("cranium", 1.61, ((_CORTICAL, 0.84), (_SOFT, 0.16))),
    Material("cortical bone", 1.92, ((_CORTICAL, 1.0),)),
    Material("plastic", 1.19, (("Polymethyl Methacralate (Lucite, Perspex)", 1.0),)),
    Material("foam", 0.05, (("Polyethylene", 1.0),)),
)
"""Ordered: a material's index stands for it in arrays."""

INDEX = {material.name: index for index, material in enumerate(MATERIALS)}


def material(name: str) -> Material:
    """Material of that name; InputError lists the names that there are."""
    if name not in INDEX:
        raise InputError(f"material {name!r} is not one of {', '.join(INDEX)}")
    return MATERIALS[INDEX[name]]


@lru_cache
def mass_fractions(name: str) -> tuple[tuple[int, float], ...]:
    """(atomic number, share of the mass) of every element of a material."""
    import xraylib

    shares: dict[int, float] = {}
    for compound, part in material(name).parts:
        data = xraylib.GetCompoundDataNISTByName(compound)
        for number, share in zip(data["Elements"], data["massFractions"], strict=True):
            shares[number] = shares.get(number, 0.0) + part * share
    total = sum(shares.values())
    return tuple((number, share / total) for number, share in sorted(shares.items()))


@lru_cache(maxsize=4096)
def cm2_per_g(name: str, energy_kev: float, process: str = "total") -> float:
    """Mass cross-section of a material in cm2/g: "total", "photoelectric", "compton" or "rayleigh" (xraylib)."""
    import xraylib

    functions = {
        "total": xraylib.CS_Total,
        "photoelectric": xraylib.CS_Photo,
        "compton": xraylib.CS_Compt,
        "rayleigh": xraylib.CS_Rayl,
    }
    return float(sum(share * functions[process](number, energy_kev) for number, share in mass_fractions(name)))


def mu_per_cm(name: str, energy_kev: float, density_g_per_cm3: float | None = None) -> float:
    """Narrow-beam attenuation coefficient in 1/cm of a material at its typical density or the given one."""
    density = material(name).density_g_per_cm3 if density_g_per_cm3 is None else density_g_per_cm3
    return density * cm2_per_g(name, energy_kev)
