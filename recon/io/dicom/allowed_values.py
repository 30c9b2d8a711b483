"""Values that DICOM allows in an element: text is converted where its meaning is plain, else left out."""

import math
import re
import unicodedata
from collections.abc import Mapping
from datetime import date, time

from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import generate_uid
from pydicom.valuerep import validate_value

_SEXES = {
    "m": "M", "male": "M", "man": "M", "männlich": "M", "maennlich": "M", "mann": "M", "masculin": "M", "homme": "M",
    "masculino": "M", "maschio": "M", "man.": "M", "男": "M", "男性": "M", "1": "M",
    "f": "F", "female": "F", "woman": "F", "w": "F", "weiblich": "F", "frau": "F", "féminin": "F", "feminin": "F",
    "femme": "F", "femenino": "F", "femmina": "F", "女": "F", "女性": "F", "2": "F",
    "o": "O", "other": "O", "divers": "O", "d": "O",
}  # fmt: skip
"""Words for the sexes that scanners and people write; 1 and 2 are those of ISO/IEC 5218."""

_COMMA = re.compile(r"\s*([+-]?\d*),(\d+)([eE][+-]?\d+)?\s*")

_PLAIN = ("AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI")
"""Value representations of ASCII characters alone."""


def decimal_comma(text: str) -> str | None:
    """The number with a point where the text has one decimal comma, None for any other text.

    Parameters
    ----------
    text : str
        Text of one number.

    Returns
    -------
    str or None
        Text of the number with a point.

    Examples
    --------
    >>> decimal_comma("70,5")
    '70.5'
    """
    match = _COMMA.fullmatch(text)
    return f"{match[1] or 0}.{match[2]}{match[3] or ''}" if match else None


def fitted(values: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Those values, by DICOM keyword, that DICOM allows there, and notes on what was changed or left out.

    Converted where the meaning is plain: a decimal comma, dates as 1970:01:01 or 1970-01-01, times with colons, words
    for the sexes, UIDs with leading zeros. Values of several parts are separated by a backslash.

    Parameters
    ----------
    values : mapping of str to str
        Texts by DICOM keyword. Those under other names than DICOM's are kept as they are.

    Returns
    -------
    dict of str to str
        Texts that may be written.
    list of str
        At most one note on what was converted, and one on what was left out.

    Examples
    --------
    >>> fitted({"PatientBirthDate": "1970-01-31", "PatientWeight": "unknown"})[0]
    {'PatientBirthDate': '19700131'}
    """
    fit, changed, left_out = {}, [], []
    for keyword, text in values.items():
        if tag_for_keyword(keyword) is None:
            # No element of DICOM's: never written.
            fit[keyword] = text
            continue
        vr = dictionary_VR(keyword)
        # Control characters are in no text of DICOM's; a decoder or an editor has left them.
        plain = "".join(character if character.isprintable() else " " for character in text)
        parts = [_fitted(keyword, vr, part.strip()) for part in plain.split("\\")]
        if None in parts:
            left_out.append(keyword)
            continue
        joined = "\\".join(part for part in parts if part is not None)
        fit[keyword] = joined
        if joined != text.strip():
            changed.append(keyword)
    notes = []
    if changed:
        notes.append(f"converted to the form that DICOM has for them: {', '.join(changed)}")
    if left_out:
        notes.append(f"not valid in DICOM, left out of the files that are written: {', '.join(left_out)}")
    return fit, notes


def _fitted(keyword: str, vr: str, text: str) -> str | None:
    """One value as DICOM allows it, "" for an empty one, None where none has its meaning."""
    if vr in _PLAIN:
        # Digits of full width and of other scripts have a meaning, but no place in these elements.
        text = unicodedata.normalize("NFKC", text)
    if not text:
        return ""
    if keyword == "PatientSex":
        return _SEXES.get(text.lower())
    if vr in _PLAIN and not text.isascii():
        return None
    return next((one for one in (text, _converted(vr, text)) if one is not None and _allowed(vr, one)), None)


def _converted(vr: str, text: str) -> str | None:
    """What the text plainly means in another notation."""
    if vr in ("DS", "IS"):
        return _number(vr, text)
    if vr == "UI":
        return unique_identifier(text)
    if vr in _LONGEST:
        cut = " ".join(text.split())[: _LONGEST[vr]].strip()
        return cut.upper() if vr == "CS" else cut
    match = re.fullmatch(_NOTATIONS[vr], text) if vr in _NOTATIONS else None
    if match is None:
        return None
    if vr == "AS":
        unit = match[2].upper()
        return f"{int(match[1]):03d}{'Y' if unit in 'JA' else unit}"
    numbers = "".join((part or "").zfill(2) for part in match.groups()[:3])
    return numbers + (match[4] or "") if vr == "TM" else numbers


_LONGEST = {"SH": 16, "LO": 64, "CS": 16}
"""Characters that texts may have, which are cut."""

_NOTATIONS = {
    "DA": r"(\d{4})[-:./](\d{1,2})[-:./](\d{1,2})",
    "TM": r"(\d{1,2}):(\d{1,2})(?::(\d{1,2})(\.\d{1,6})?)?",
    "AS": r"0*(\d{1,3})\s*([yYjJaAmMwWdD]?)(?:ears?|r|\.)?",
}
"""Other notations of dates, times and ages (years are also Jahre and ans)."""


def _number(vr: str, text: str) -> str | None:
    """Number in a notation of DICOM's: with a point, and of at most 16 characters."""
    try:
        number = float(decimal_comma(text) or text)
    except ValueError:
        return None
    if vr == "IS":
        return f"{number:.0f}" if number == round(number) else None
    return decimal(number, 15)


def decimal(value: float, digits: int = 14) -> str:
    """Decimal string of at most 16 characters, with at most so many digits.

    Parameters
    ----------
    value : float
        Finite number.
    digits : int
        Largest number of significant digits.

    Returns
    -------
    str
        Text of DICOM's DS.

    Examples
    --------
    >>> decimal(1 / 3)
    '0.33333333333333'
    """
    shorter = (f"{float(value):.{count}g}" for count in range(digits, 5, -1))
    return next(text for text in shorter if len(text) <= 16)


def _allowed(vr: str, text: str) -> bool:
    """True for what PS3.5 table 6.2-1 allows, and for days and times that exist."""
    try:
        validate_value(vr, text, RAISE)
        if vr == "DA":
            date.fromisoformat(text)
        if vr == "TM":
            time.fromisoformat(text.partition(".")[0])
        return vr != "DS" or math.isfinite(float(text))
    except ValueError:
        return False


def unique_identifier(text: str) -> str:
    """A valid UID that depends on the text alone: without leading zeros in its parts, else made from a digest of it.

    Parameters
    ----------
    text : str
        UID as a file has it, or any other text.

    Returns
    -------
    str
        UID of at most 64 characters.

    Examples
    --------
    >>> unique_identifier("1.02.3")
    '1.2.3'
    """
    parts = text.split(".")
    if all(part.isdecimal() for part in parts):
        plain = ".".join(str(int(part)) for part in parts)
        if len(plain) <= 64 and len(parts) > 1:
            return plain
    return str(generate_uid(prefix="2.25.", entropy_srcs=[text]))
