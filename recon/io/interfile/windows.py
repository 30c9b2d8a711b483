"""Nuclide and energy windows, from the keys of an Interfile header."""

import math

from spectac.recon.errors import InputError
from spectac.recon.io.energy_units import in_kev
from spectac.recon.io.energy_windows import with_own_names
from spectac.recon.io.interfile.header import Header
from spectac.recon.nuclides import Nuclide, how_to_describe, nuclide_in, spelled_symbol
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import EnergyWindow


def read_nuclide(header: Header, dialect: str, wanted: str | None, warnings: list[str]) -> str:
    """Nuclide: the caller's, else the header's, else the one that the name of its window says."""
    comments = dialect == "SIMIND"
    named = [text for key in ("isotope name", "radionuclide") for text in header.texts(key, comments=comments)]
    found = {entry.name for text in named if (entry := _in_table(text)) is not None}
    if wanted is not None:
        name = nuclide_by_name(wanted).name
        if named and found != {name}:
            warnings.append(f"the header's nuclide {' and '.join(dict.fromkeys(named))} was replaced by {name}")
        return name
    if len(found) > 1:
        raise header.error(f"names several nuclides, {' and '.join(dict.fromkeys(named))}: give --nuclide")
    if found:
        return found.pop()
    if symbol := next((symbol for text in named if (symbol := spelled_symbol(text)) is not None), None):
        raise header.error(f"its nuclide '{named[0]}' is not in the table: {how_to_describe(symbol)}")
    implied = _implied_nuclide(header, comments)
    if implied is not None:
        name, text = implied
        warnings.append(f"the header names no nuclide: {name} was taken, as '{text}' says (--nuclide)")
        return name
    if named:
        raise header.error(f"its nuclide '{named[0]}' is not understood: name it with --nuclide")
    raise header.error("the header names no nuclide: name it with --nuclide")


def _in_table(text: str) -> Nuclide | None:
    """Nuclide of the table that a text is, or names as the only one ("i123_brain")."""
    try:
        return nuclide_by_name(text)
    except InputError:
        return nuclide_in(text) if spelled_symbol(text) is None else None


def _implied_nuclide(header: Header, comments: bool) -> tuple[str, str] | None:
    """Nuclide of the table, and the words, of a window or agent that names it and a window around one of its lines."""
    texts = [text for key in ("energy window", "radiopharmaceutical") for text in header.texts(key, comments=True)]
    ends = [
        [_kev(header, text) for text in header.texts(f"energy window {side} level", comments=comments)]
        for side in ("lower", "upper")
    ]
    for text in texts:
        entry = nuclide_in(text)
        if entry is not None and any(
            lower <= line <= upper
            for line, _ in entry.lines
            for lower, upper in (in_kev(low, high, "", []) for low, high in zip(*ends, strict=False))
        ):
            return entry.name, text
    return None


def read_windows(
    header: Header, dialect: str, held: int, nuclide: str, warnings: list[str]
) -> tuple[tuple[EnergyWindow, ...], list[int]]:
    """Energy windows in the order of the data, and their numbers there from 0.

    Without limits, or with impossible ones, the only window is taken as +-10 % around the nuclide's main line; one of
    several is left out. Raises InputError where none of several has any.
    """
    windows, kept = [], []
    comments = dialect == "SIMIND"
    for number in range(1, held + 1):
        ending = [f"[{number}]", ""] if held == 1 else [f"[{number}]"]
        lower, upper = (
            _kev(header, _limit(header, f"energy window {side} level", number, held, comments))
            for side in ("lower", "upper")
        )
        name = header.text(*(f"energy window{end}" for end in ending), comments=True, needed=False)
        told = "gives no energy window"
        if not (math.isnan(lower) or math.isnan(upper)):
            lower, upper = in_kev(lower, upper, name or f"window {number}", warnings)
            if 0 <= lower < upper:
                windows.append(EnergyWindow(name or f"{lower:g}-{upper:g} keV", lower, upper))
                kept.append(number - 1)
                continue
            told = f"gives {lower:g} to {upper:g} keV, which is no energy window"
        if held > 1:
            warnings.append(f"window {number} was left out: the header {told}")
            continue
        energy = nuclide_by_name(nuclide).main_kev
        lower, upper = 0.9 * energy, 1.1 * energy
        warnings.append(f"the header {told}: {lower:.1f} to {upper:.1f} keV was assumed ({nuclide} +-10 %)")
        windows.append(EnergyWindow(name or f"{lower:g}-{upper:g} keV", lower, upper))
        kept.append(0)
    if not windows:
        raise header.error("none of its energy windows has an upper limit above the lower one")
    return with_own_names(windows), kept


def _limit(header: Header, key: str, number: int, held: int, comments: bool) -> str | None:
    """Text of a window's limit: of the key with its number, else of the key's repetition without one."""
    text = header.text(*(f"{key}[{number}]", *([key] if held == 1 else [])), comments=comments)
    repeated = [
        one for keys in ((header.keys, header.comments) if comments else (header.keys,)) for one in keys.get(key, ())
    ]
    return repeated[number - 1] if text is None and len(repeated) == held else text


def _kev(header: Header, text: str | None) -> float:
    """Energy in keV, NaN for what is none."""
    try:
        return math.nan if text is None else header.as_number("energy window level", text, "kev")
    except InputError:
        return math.nan
