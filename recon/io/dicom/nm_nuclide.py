"""Nuclide of a DICOM NM file: from its code or meaning, else from the names of energy windows and agents."""

from collections.abc import Iterable, Sequence

from spectac.recon.io.dicom.elements import Item, name_of
from spectac.recon.nuclides import NUCLIDES, how_to_describe, nuclide_in, spelled_symbol
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import EnergyWindow

NUCLIDE_CODES = {
    "Tc-99m": ("72454006", "C-163A8"),
    "I-123": ("21572004", "C-114A4"),
    "In-111": ("56609000", "C-145A4"),
    "Tl-201": ("60057003", "C-138A9"),
    "I-131": ("1368003", "C-114B1"),
    "Lu-177": ("447553000", "C-101ED"),
    "Xe-133": ("80751004", "C-172A8"),
    "Ga-67": ("2008008", "C-131A2"),
    "Sm-153": ("419804008", "C-B1134"),
}
"""SNOMED CT and SNOMED RT code of DICOM CID 18, as listed in PS3.16; SNM3, SRT and 99SDM are the same codes."""

_NUCLIDE_OF = {code: name for name, codes in NUCLIDE_CODES.items() for code in codes}
_AGENTS = "RadiopharmaceuticalInformationSequence"


def named_nuclides(item: Item) -> set[str]:
    """Symbols of the nuclides that a file names.

    Parameters
    ----------
    item : Item
        Dataset of the file.

    Returns
    -------
    set of str
        Symbols such as "I-123"; not all need be in the table of nuclides.
    """
    codes = [code for agent in item.items(_AGENTS) for code in agent.items("RadionuclideCodeSequence")]
    return {symbol for code in codes if (symbol := nuclide_of(code)) is not None}


def nuclide_of(code: Item) -> str | None:
    """Symbol of a nuclide, of the table or not, by its code or its meaning; None for none.

    Parameters
    ----------
    code : Item
        Item of a code sequence; it gets a warning where code and meaning differ.

    Returns
    -------
    str or None
        Symbol such as "I-123".

    Examples
    --------
    >>> from pydicom import Dataset
    >>> from pathlib import Path
    >>> data = Dataset()
    >>> data.CodeMeaning = "^123^Iodine"
    >>> nuclide_of(Item(data, Path("scan.dcm")))
    'I-123'
    """
    meaning = code.text("CodeMeaning") or ""
    named = nuclide_in(meaning)
    by_meaning = spelled_symbol(meaning) or (None if named is None else named.name)
    by_code = _NUCLIDE_OF.get((code.text("CodeValue") or "").upper())
    if by_code is not None and by_meaning is not None and by_code != by_meaning:
        code.warn(f"CodeMeaning says {by_meaning}, its CodeValue {by_code}: the code was used (--nuclide)")
    return by_code or by_meaning


def read_nuclide(item: Item, given: str | None, shared: str | None, windows: Sequence[EnergyWindow]) -> str:
    """Nuclide: the user's, else that of RadionuclideCodeSequence, else that which a window is called after.

    Parameters
    ----------
    item : Item
        Dataset of the file, which gets warnings.
    given : str or None
        The user's.
    shared : str or None
        What the other files of the acquisition name, for a file that names none.
    windows : sequence of EnergyWindow
        Windows of the file.

    Returns
    -------
    str
        Name of the nuclide.

    Raises
    ------
    InputError
        There is none, one that is not known, or several.
    """
    symbols = named_nuclides(item)
    in_table, unknown = sorted(symbols & set(NUCLIDES)), sorted(symbols - set(NUCLIDES))
    if given is not None:
        if symbols and symbols != {nuclide_by_name(given).symbol}:
            item.notes.warn(f"the file's nuclide {', '.join(in_table + unknown)} was replaced by {given}")
        return given
    if len(in_table) > 1:
        raise item.error(
            f"{_AGENTS} names {' and '.join(in_table)}: two nuclides at once are not modelled; choose with --nuclide"
        )
    if in_table:
        return in_table[0]
    if unknown:
        way = how_to_describe(unknown[0])
        raise item.error(f"{_AGENTS} names {', '.join(unknown)}, which is not in the table of nuclides: {way}")
    if shared is not None:
        item.notes.warn(f"{item.path.name} names no nuclide: {shared} was taken from the other files")
        return shared
    agents = [text for agent in item.items(_AGENTS) if (text := agent.text("Radiopharmaceutical"))]
    what = "names no nuclide" + (f" (only the radiopharmaceutical {', '.join(agents)})" if agents else "")
    by_name = _by_name(windows, agents)
    if len(by_name) == 1:
        ((name, reason),) = by_name.items()
        item.notes.warn(f"{name_of(_AGENTS)} {what}: {name} was taken, for {reason}; --nuclide gives another")
        return name
    fitting = _fitting(windows)
    hint = f"the windows hold the line of {' or '.join(fitting)}" if fitting else f"one of {', '.join(NUCLIDES)}"
    raise item.error(f"{_AGENTS} {what}: give --nuclide ({hint})")


def _fitting(windows: Sequence[EnergyWindow]) -> list[str]:
    """Nuclides whose main line lies in the middle of a window, else anywhere in one."""
    in_middle, inside = [], []
    for one in NUCLIDES.values():
        held = [window for window in windows if window.holds(one.main_kev)]
        middles = [abs(0.5 * (w.lower_kev + w.upper_kev) - one.main_kev) <= 0.1 * w.width_kev for w in held]
        in_middle += [one.name] if any(middles) else []
        inside += [one.name] if held else []
    return in_middle or inside


def _by_name(windows: Sequence[EnergyWindow], agents: Iterable[str]) -> dict[str, str]:
    """Nuclides that a window or the agent is called after and whose line that window holds, and the reason."""
    reasons = {}
    for window in windows:
        limits = f"{window.lower_kev:g}-{window.upper_kev:g} keV"
        named = nuclide_in(window.name)
        if named is not None and any(window.holds(energy_kev) for energy_kev, _ in named.lines):
            reasons[named.name] = f"the window {window.name} ({limits}) is called after it and holds its line"
        for agent in agents:
            named = nuclide_in(agent)
            if named is not None and window.holds(named.main_kev):
                reasons[named.name] = f"the radiopharmaceutical is {agent} and the window of {limits} holds its line"
    return reasons
