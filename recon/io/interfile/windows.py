"""Nuclide and energy windows, from the keys of an Interfile header."""

import math

from spectac.recon.errors import InputError
from spectac.recon.io.energy_windows import in_kev, with_own_names
from spectac.recon.io.interfile.header import Header
from spectac.recon.nuclides import Nuclide, how_to_describe, nuclide_in, spelled_symbol
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import EnergyWindow

_LIMIT_KEYS = ("energy window lower level", "energy window upper level")


def read_nuclide(header: Header, wanted: str | None) -> str:
    """Nuclide: the caller's, else the header's, else the one that the name of its window says.

    Parameters
    ----------
    header : Header
        Header, which gets warnings.
    wanted : str or None
        The caller's.

    Returns
    -------
    str
        Name of the nuclide.

    Raises
    ------
    InputError
        The header names none, several, or one that is not in the table.

    Examples
    --------
    >>> from pathlib import Path
    >>> from spectac.recon.io.interfile.dialect import STIR
    >>> read_nuclide(Header(Path("scan.hs"), {"isotope name": ("i123",)}, {}, STIR, None, ()), None)
    'I-123'
    """
    texts = [text for key in ("isotope name", "radionuclide") for text in header.texts(key, header.dialect.comments)]
    in_table = {entry.name for text in texts if (entry := _in_table(text)) is not None}
    said = " and ".join(dict.fromkeys(texts))
    if wanted is not None:
        name = nuclide_by_name(wanted).name
        if texts and in_table != {name}:
            header.warn(f"the header's nuclide {said} was replaced by {name}")
        return name
    if len(in_table) > 1:
        raise header.error(f"names several nuclides, {said}: give --nuclide")
    if in_table:
        return in_table.pop()
    if symbol := next((symbol for text in texts if (symbol := spelled_symbol(text)) is not None), None):
        raise header.error(f"its nuclide '{texts[0]}' is not in the table: {how_to_describe(symbol)}")
    if (implied := _implied_nuclide(header)) is not None:
        name, text = implied
        header.warn(f"the header names no nuclide: {name} was taken, as '{text}' says (--nuclide)")
        return name
    if texts:
        raise header.error(f"its nuclide '{texts[0]}' is not understood: name it with --nuclide")
    raise header.error("the header names no nuclide: name it with --nuclide")


def _in_table(text: str) -> Nuclide | None:
    """Nuclide of the table that a text is, or names as the only one ("i123_brain")."""
    try:
        return nuclide_by_name(text)
    except InputError:
        return nuclide_in(text) if spelled_symbol(text) is None else None


def _implied_nuclide(header: Header) -> tuple[str, str] | None:
    """Nuclide of the table, and the words, of a window or agent that names it and a window around one of its lines."""
    lower, upper = ([_kev(header, text) for text in header.texts(key, header.dialect.comments)] for key in _LIMIT_KEYS)
    windows = [in_kev(low, high, "", []) for low, high in zip(lower, upper, strict=False)]
    for text in [text for key in ("energy window", "radiopharmaceutical") for text in header.texts(key, True)]:
        entry = nuclide_in(text)
        if entry is not None and any(low <= line <= high for line, _ in entry.lines for low, high in windows):
            return entry.name, text
    return None


def read_windows(header: Header, held: int, nuclide: str) -> dict[int, EnergyWindow]:
    """Energy windows, by their places in the data from 0.

    Without limits, or with impossible ones, the only window is taken as +-10 % around the nuclide's main line; one of
    several is left out.

    Parameters
    ----------
    header : Header
        Header, which gets warnings.
    held : int
        Windows in the data.
    nuclide : str
        Name of the nuclide.

    Returns
    -------
    dict of int to EnergyWindow
        Windows with limits in keV, each with a name of its own.

    Raises
    ------
    InputError
        None of several windows has limits.

    Examples
    --------
    >>> from pathlib import Path
    >>> from spectac.recon.io.interfile.dialect import STIR
    >>> window = read_windows(Header(Path("scan.hs"), {}, {}, STIR, None, ()), held=1, nuclide="Tc-99m")[0]
    >>> round(window.lower_kev, 1), round(window.upper_kev, 1)
    (126.5, 154.6)
    """
    windows = {}
    for number in range(1, held + 1):
        endings = [f"[{number}]", ""] if held == 1 else [f"[{number}]"]
        name = header.text(*(f"energy window{end}" for end in endings), comments=True, lenient=True)
        lower, upper = (_kev(header, _limit(header, key, endings, number, held)) for key in _LIMIT_KEYS)
        fault = "gives no energy window"
        if not (math.isnan(lower) or math.isnan(upper)):
            lower, upper = in_kev(lower, upper, name or f"window {number}", header.warnings)
            fault = f"gives {lower:g} to {upper:g} keV, which is no energy window"
        if not 0 <= lower < upper:
            if held > 1:
                header.warn(f"window {number} was left out: the header {fault}")
                continue
            energy = nuclide_by_name(nuclide).main_kev
            lower, upper = 0.9 * energy, 1.1 * energy
            header.warn(f"the header {fault}: {lower:.1f} to {upper:.1f} keV was assumed ({nuclide} +-10 %)")
        windows[number - 1] = EnergyWindow(name or f"{lower:g}-{upper:g} keV", lower, upper)
    if not windows:
        raise header.error("none of its energy windows has an upper limit above the lower one")
    return dict(zip(windows, with_own_names([*windows.values()]), strict=True))


def _limit(header: Header, key: str, endings: list[str], number: int, held: int) -> str | None:
    """Text of a window's limit: of the key with its number, else of the key's repetition without one."""
    comments = header.dialect.comments
    text = header.text(*(f"{key}{end}" for end in endings), comments=comments)
    repeated = [*header.keys.get(key, ()), *(header.comments.get(key, ()) if comments else ())]
    return repeated[number - 1] if text is None and len(repeated) == held else text


def _kev(header: Header, text: str | None) -> float:
    """Energy in keV, NaN for what is none."""
    try:
        return math.nan if text is None else header.as_number("energy window level", text, "kev")
    except InputError:
        return math.nan
