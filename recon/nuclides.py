"""Photon lines and half-lives of the nuclides used in SPECT.

Energies, intensities and half-lives: Decay Data Evaluation Project (LNHB), https://www.lnhb.fr/nuclear-data/.
"""

import math
import re
from dataclasses import dataclass
from types import MappingProxyType

from spectac.recon.errors import InputError


@dataclass(frozen=True)
class Nuclide:
    """Radionuclide with the photon lines that a gamma camera sees.

    Parameters
    ----------
    name
        Element and mass number, e.g. "Tc-99m". For a nuclide that the table lacks it is "SYMBOL:KEV:HALFLIFE_H", e.g.
        "Ho-166:80.574:26.8", from which `nuclide` makes it again.
    half_life_s
        Half-life in seconds.
    lines
        Photon lines (energy_kev, photons per decay), the imaged one first.

    Examples
    --------
    >>> NUCLIDES["I-123"].main_kev
    158.97
    """

    name: str
    half_life_s: float
    lines: tuple[tuple[float, float], ...]

    @property
    def main_kev(self) -> float:
        """Energy of the imaged line in keV."""
        return self.lines[0][0]

    @property
    def symbol(self) -> str:
        """Element and mass number, e.g. "Tc-99m"."""
        return self.name.partition(":")[0]


LOWEST_KEV, HIGHEST_KEV = 50.0, 800.0
"""Range of photon energies that a gamma camera images and for which the attenuation of water is tabulated."""

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

_ELEMENTS = (
    "hydrogen H, helium He, lithium Li, beryllium Be, boron B, carbon C, nitrogen N, oxygen O, fluorine F, neon Ne, "
    "sodium Na, magnesium Mg, aluminium Al, silicon Si, phosphorus P, sulfur S, chlorine Cl, argon Ar, potassium K, "
    "calcium Ca, scandium Sc, titanium Ti, vanadium V, chromium Cr, manganese Mn, iron Fe, cobalt Co, nickel Ni, "
    "copper Cu, zinc Zn, gallium Ga, germanium Ge, arsenic As, selenium Se, bromine Br, krypton Kr, rubidium Rb, "
    "strontium Sr, yttrium Y, zirconium Zr, niobium Nb, molybdenum Mo, technetium Tc, ruthenium Ru, rhodium Rh, "
    "palladium Pd, silver Ag, cadmium Cd, indium In, tin Sn, antimony Sb, tellurium Te, iodine I, xenon Xe, "
    "caesium Cs, barium Ba, lanthanum La, cerium Ce, praseodymium Pr, neodymium Nd, promethium Pm, samarium Sm, "
    "europium Eu, gadolinium Gd, terbium Tb, dysprosium Dy, holmium Ho, erbium Er, thulium Tm, ytterbium Yb, "
    "lutetium Lu, hafnium Hf, tantalum Ta, tungsten W, rhenium Re, osmium Os, iridium Ir, platinum Pt, gold Au, "
    "mercury Hg, thallium Tl, lead Pb, bismuth Bi, polonium Po, astatine At, radon Rn, francium Fr, radium Ra, "
    "actinium Ac, thorium Th, protactinium Pa, uranium U, neptunium Np, plutonium Pu, americium Am"
)
"""Names of the elements, as DICOM and Interfile spell them out, and their symbols."""

_SYMBOLS = MappingProxyType(
    {word.lower(): pair.split()[1] for pair in _ELEMENTS.split(", ") for word in pair.split()}
    | {"cesium": "Cs", "sulphur": "S", "aluminum": "Al"}
)

_NUMBER_LAST = re.compile(r"(?P<letters>\D+)(?P<mass>[1-9]\d{0,2}m?)")
"""Spellings such as "tc99m"."""
_NUMBER_FIRST = re.compile(r"(?P<mass>[1-9]\d{0,2}(m(?=\D{2}))?)(?P<letters>\D+)")
"""Spellings such as "99mtc"; the m of "99mo" belongs to the symbol."""

NUCLIDES = MappingProxyType({nuclide.name: nuclide for nuclide in _TABLE})


def nuclide(name: str) -> Nuclide:
    """Nuclide of a name.

    Parameters
    ----------
    name
        Name in any spelling: "tc99m", "99mTc", "^99m^Technetium", "I123". A nuclide that the table lacks is given as
        NAME:KEV:HALFLIFE_H, its imaged line in keV and its half-life in hours.

    Returns
    -------
    Nuclide
        Row of NUCLIDES, or the nuclide that was described.

    Raises
    ------
    InputError
        For any other name; the message says how to describe a nuclide that the table lacks.

    Examples
    --------
    >>> nuclide("99mTc").name
    'Tc-99m'
    >>> nuclide("Ho-166:80.574:26.8").main_kev
    80.574
    """
    symbol, *numbers = name.split(":")
    entry = _in_table(symbol)
    if numbers:
        return _described(name, symbol, numbers, entry)
    if entry is not None:
        return entry
    spelled = spelled_symbol(symbol)
    if spelled is None:
        raise InputError(f"nuclide {name!r} is not known: use one of {', '.join(NUCLIDES)}, or NAME:KEV:HALFLIFE_H")
    raise InputError(f"{spelled} is not in the table of nuclides: {how_to_describe(spelled)}")


def how_to_describe(symbol: str) -> str:
    """Advice on the option for a nuclide that the table lacks.

    Parameters
    ----------
    symbol
        Element and mass number.

    Returns
    -------
    str
        Second half of a sentence.

    Examples
    --------
    >>> how_to_describe("Ho-166").split(" with")[0]
    'give --nuclide Ho-166:KEV:HALFLIFE_H'
    """
    return (
        f"give --nuclide {symbol}:KEV:HALFLIFE_H with the energy in keV of the photons that the window holds and the "
        "half-life in hours"
    )


def spelled_symbol(text: str) -> str | None:
    """Symbol of a nuclide.

    Parameters
    ----------
    text
        Name such as "166Ho", "Ho166" or "^166^Holmium".

    Returns
    -------
    str or None
        Element and mass number; None where the text is not the name of a nuclide.

    Examples
    --------
    >>> spelled_symbol("^166^Holmium")
    'Ho-166'
    """
    plain = "".join(character for character in text.lower() if character.isalnum())
    match = _NUMBER_LAST.fullmatch(plain) or _NUMBER_FIRST.fullmatch(plain)
    symbol = None if match is None else _SYMBOLS.get(match["letters"])
    return None if match is None or symbol is None else f"{symbol}-{match['mass']}"


def nuclide_in(text: str) -> Nuclide | None:
    """Nuclide of the table that a longer text names.

    Parameters
    ----------
    text
        Text such as the name of an energy window.

    Returns
    -------
    Nuclide or None
        Row of NUCLIDES; None where the text names none, or several.

    Examples
    --------
    >>> nuclide_in("Lu177_EM").name
    'Lu-177'
    """
    words = re.findall(r"[A-Za-z]+[-_ ^]*\d+m?(?![A-Za-z\d])|\d+m?[-_ ^]*[A-Za-z]+", text.replace("^", " "))
    named = {entry.name: entry for word in words if (entry := _in_table(word)) is not None}
    return next(iter(named.values())) if len(named) == 1 else None


def _in_table(text: str) -> Nuclide | None:
    symbol = spelled_symbol(text)
    return None if symbol is None else NUCLIDES.get(symbol)


def _described(name: str, symbol: str, numbers: list[str], entry: Nuclide | None) -> Nuclide:
    """Nuclide from the parts of NAME:KEV:HALFLIFE_H."""
    spelled = spelled_symbol(symbol)
    try:
        energy_kev, half_life_h = (float(number) for number in numbers)
    except ValueError:
        energy_kev = half_life_h = math.nan
    if spelled is None or not (LOWEST_KEV <= energy_kev <= HIGHEST_KEV and 0 < half_life_h < math.inf):
        raise InputError(
            f"nuclide {name!r}: NAME:KEV:HALFLIFE_H is needed, e.g. Ho-166:80.574:26.8, with {LOWEST_KEV:g} to "
            f"{HIGHEST_KEV:g} keV and a half-life above 0 h"
        )
    if entry is not None:
        raise InputError(f"nuclide {name!r}: {entry.name} is in the table: give its name alone")
    full = f"{spelled}:{energy_kev:.10g}:{half_life_h:.10g}"
    return Nuclide(full, half_life_h * _HOUR_S, ((energy_kev, 1.0),))
