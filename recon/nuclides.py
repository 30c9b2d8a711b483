"""Photon lines and half-lives of the nuclides used in SPECT.

Energies, intensities and half-lives: Decay Data Evaluation Project (LNHB), https://www.lnhb.fr/nuclear-data/.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

from spectac.recon.errors import InputError


@dataclass(frozen=True)
class Nuclide:
    """A radionuclide: half-life and the photon lines that a gamma camera sees.

    `lines` holds (energy_kev, photons per decay) and begins with the line that is imaged.
    """

    name: str
    half_life_s: float
    lines: tuple[tuple[float, float], ...]

    @property
    def main_kev(self) -> float:
        """Energy of the imaged line in keV."""
        return self.lines[0][0]


_HOUR_S = 3600.0
_DAY_S = 86400.0

_TABLE = (
    Nuclide("Tc-99m", 6.0067 * _HOUR_S, ((140.511, 0.885),)),
    Nuclide("I-123", 13.2234 * _HOUR_S, ((158.97, 0.8325), (528.96, 0.0128))),
    Nuclide("In-111", 2.8049 * _DAY_S, ((171.28, 0.9061), (245.35, 0.9412))),
    # The imaged peak of Tl-201 is the group of mercury K X-rays at 68.9-82.5 keV, given by its mean energy.
    Nuclide("Tl-201", 3.0421 * _DAY_S, ((72.4, 0.940), (135.312, 0.0260), (167.45, 0.1000))),
    Nuclide("I-131", 8.0233 * _DAY_S, ((364.489, 0.812), (284.305, 0.0614), (636.989, 0.0712), (80.185, 0.0261))),
    Nuclide("Lu-177", 6.6443 * _DAY_S, ((208.366, 0.1043), (112.95, 0.0622))),
    Nuclide("Xe-133", 5.2474 * _DAY_S, ((80.998, 0.370),)),
    Nuclide("Ga-67", 3.2613 * _DAY_S, ((93.307, 0.381), (184.577, 0.2096), (300.232, 0.1660))),
    Nuclide("Sm-153", 1.92855 * _DAY_S, ((103.18, 0.2919),)),
)

# Energy in keV and narrow-beam coefficient in 1/cm, with coherent scattering: NIST XCOM.
_WATER = (
    (50.0, 0.2269), (60.0, 0.2059), (80.0, 0.1837), (100.0, 0.1707), (150.0, 0.1505), (200.0, 0.1370),
    (300.0, 0.1186), (400.0, 0.1061), (500.0, 0.09687), (600.0, 0.08956), (800.0, 0.07865),
)  # fmt: skip

NUCLIDES = MappingProxyType({nuclide.name: nuclide for nuclide in _TABLE})


def water_per_cm(energy_kev: float) -> float:
    """Narrow-beam attenuation coefficient of water in 1/cm, interpolated in the logarithms between 50 and 800 keV.

    Raises InputError outside of that range.
    """
    for (low_kev, low), (high_kev, high) in pairwise(_WATER):
        if low_kev <= energy_kev <= high_kev:
            share = math.log(energy_kev / low_kev) / math.log(high_kev / low_kev)
            return low ** (1 - share) * high**share
    raise InputError(f"the attenuation of water is tabulated from 50 to 800 keV, not at {energy_kev:g} keV")


def nuclide(name: str) -> Nuclide:
    """Nuclide of that name; spellings such as "tc99m", "99mTc" or "I123" are understood.

    Raises InputError with the known names for any other.
    """
    wanted = _letters_and_digits(name)
    for entry in _TABLE:
        if wanted == _letters_and_digits(entry.name):
            return entry
    known = ", ".join(NUCLIDES)
    raise InputError(f"nuclide {name!r} is not known: use one of {known}")


def _letters_and_digits(name: str) -> tuple[str, str]:
    """("tc", "99m") from "Tc-99m", "99mTc", "TC99M" and the like."""
    text = "".join(character for character in name.lower() if character.isalnum())
    digits = "".join(character for character in text if character.isdigit())
    before, _, after = text.partition(digits) if digits else (text, "", "")
    if digits and not before:
        # mass number first: "99mtc"
        return (after[1:], digits + "m") if after.startswith("m") and len(after) > 2 else (after, digits)
    return before, digits + after
