"""Nuclide and energy windows, from the keys of an Interfile header."""

from spectac.recon.errors import InputError
from spectac.recon.io.energy_windows import with_own_names
from spectac.recon.io.interfile_header import Header
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
        [header.as_number(key, text, "kev") for text in header.texts(key, comments=comments)]
        for key in ("energy window lower level", "energy window upper level")
    ]
    for text in texts:
        entry = nuclide_in(text)
        if entry is not None and any(
            lower <= line <= upper for line, _ in entry.lines for lower, upper in zip(*ends, strict=False)
        ):
            return entry.name, text
    return None


def read_windows(
    header: Header, dialect: str, held: int, nuclide: str, warnings: list[str]
) -> tuple[tuple[EnergyWindow, ...], list[int]]:
    """Energy windows in the order of the data, and their numbers there from 0.

    Without limits, or with impossible ones, the only window is taken as +-10 % around the nuclide's main line; one of
    several is left out. Raises InputError where several windows have no limits.
    """
    windows, kept = [], []
    comments = dialect == "SIMIND"
    for number in range(1, held + 1):
        ending = [f"[{number}]", ""] if held == 1 else [f"[{number}]"]
        lower, upper = (
            header.number(*(f"energy window {side} level{end}" for end in ending), comments=comments, unit="kev")
            for side in ("lower", "upper")
        )
        name = header.text(*(f"energy window{end}" for end in ending), comments=True, needed=False)
        told = "gives no energy window"
        if lower is not None and upper is not None:
            if 0 <= lower < upper:
                windows.append(EnergyWindow(name or f"{lower:g}-{upper:g} keV", lower, upper))
                kept.append(number - 1)
                continue
            told = f"gives {lower:g} to {upper:g} keV, which is no energy window"
        elif held > 1:
            raise header.error(f"key 'energy window lower level[{number}]' or its upper level is missing or empty")
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
