"""Who lay in the scanner, how and when, from the keys of an Interfile header."""

import re
from datetime import datetime
from itertools import product

from spectac.recon.io.interfile.dialect import SIMIND
from spectac.recon.io.interfile.header import Header, canonical_key
from spectac.recon.io.interfile.keys import PATIENT
from spectac.recon.settings import StudySettings

_POSITION_KEYS = ("patient orientation", "patient rotation", "patient position")
_SIDES = {"supine": "S", "prone": "P", "left": "DL", "right": "DR"}
"""Words for the side that is down, and DICOM's letters."""
_UNSAID = ("unknown", "other", "none", "n/a")

_FIRST_YEAR = 1960
"""There was no SPECT before."""

_DAYS = ("%Y:%m:%d", "%d:%m:%Y", "%m:%d:%Y", "%Y%m%d")
_CLOCKS = ("%H:%M:%S", "%H:%M:%S.%f", "%H:%M", "%H%M%S", "%H%M%S.%f", "%H%M")


def read_patient(header: Header) -> dict[str, str]:
    """Patient and study as text by DICOM keyword, of what is there.

    Parameters
    ----------
    header : Header
        Header, which gets warnings.

    Returns
    -------
    dict of str to str
        Texts in DICOM's form where they can be converted.

    Examples
    --------
    >>> from pathlib import Path
    >>> from spectac.recon.io.interfile.dialect import STIR
    >>> read_patient(Header(Path("scan.hs"), {"patient name": ("Doe^Jane",)}, {}, STIR, None, ()))
    {'PatientName': 'Doe^Jane'}
    """
    texts = {key: header.text(key, lenient=True) for key in PATIENT}
    return {PATIENT[key]: _for_dicom(key, text) for key, text in texts.items() if text}


def _for_dicom(key: str, text: str) -> str:
    """The key's text; a weight without its unit, for DICOM has it in kg; 31.12.1970 with the year first."""
    if key == "patient dob" and (day_first := re.fullmatch(r"(\d{1,2})[.:](\d{1,2})[.:](\d{4})", text)):
        return f"{day_first[3]}{int(day_first[2]):02d}{int(day_first[1]):02d}"
    return re.sub(r"\s*kg$", "", text, flags=re.IGNORECASE) if key == "patient weight" else text


def read_start(header: Header) -> datetime | None:
    """Beginning of the study, None where date or time is missing or not a date.

    Parameters
    ----------
    header : Header
        Header, which gets warnings.

    Returns
    -------
    datetime or None
        Study date and study time.

    Examples
    --------
    >>> from pathlib import Path
    >>> from spectac.recon.io.interfile.dialect import STIR
    >>> keys = {"study date": ("2026:11:02",), "study time": ("09:30:00",)}
    >>> read_start(Header(Path("scan.hs"), keys, {}, STIR, None, ()))
    datetime.datetime(2026, 11, 2, 9, 30)
    """
    date, time = (
        header.text(f"study {what}", f"study {what} ({form})", lenient=True)
        for what, form in (("date", "dd:mm:yryr"), ("time", "hh:mm:ss"))
    )
    start = _moment(date, time) if date and time else None
    if date and start is not None and start.year >= _FIRST_YEAR:
        if re.fullmatch(r"\d{1,2}/\d{1,2}/\d{4}", date) and start.day <= 12 and start.day != start.month:
            header.warn(f"'study date' {date} was read with the day first, as {start:%Y-%m-%d} (--start)")
        return start
    if date or time:
        header.warn(
            f"'study date' is {date or 'missing'}, 'study time' {time or 'missing'}: no time of a SPECT scan, so the "
            "start of the acquisition is unknown (--start)"
        )
    return None


def _moment(date: str, time: str) -> datetime | None:
    """Date and time, which may name its zone ("10:11:12+01:00"); None for what is none."""
    text = f"{re.sub(r'[-./]', ':', date)} {time}"
    for day, clock, zone in product(_DAYS, _CLOCKS, ("", "%z")):
        try:
            return datetime.strptime(text, f"{day} {clock}{zone}")
        except ValueError:
            continue
    return None


def patient_position(header: Header, given: StudySettings) -> str | None:
    """DICOM's term for the patient's position ("HFS"), None where the header does not say it whole.

    Interfile does not say whether angles are the gantry's or the patient's. SIMIND's are the phantom's, whatever its
    header says. For others, feet first or prone, the user must give the angles.

    Parameters
    ----------
    header : Header
        Header, which gets warnings.
    given : StudySettings
        Tells whether the user gave the angles.

    Returns
    -------
    str or None
        "HFS", "FFP" and the like.

    Raises
    ------
    InputError
        The patient lies feet first or not supine, and the user did not give the angles.

    Examples
    --------
    >>> from pathlib import Path
    >>> from spectac.recon.io.interfile.dialect import STIR
    >>> keys = {"patient orientation": ("head_in",), "patient rotation": ("supine",)}
    >>> patient_position(Header(Path("scan.hs"), keys, {}, STIR, None, ()), StudySettings())
    'HFS'
    """
    texts = [text for key in _POSITION_KEYS if (text := header.text(key, lenient=True))]
    words = [canonical_key(text).replace("-", " ") for text in texts]
    positions = [(_end_first(word), _side_down(word)) for word in words]
    unknown = [
        text
        for text, word, position in zip(texts, words, positions, strict=True)
        if not any(position) and word not in _UNSAID
    ]
    ends, sides = ({position[part] for position in positions} - {None} for part in (0, 1))
    if unknown or len(ends) > 1 or len(sides) > 1:
        said = ", ".join(unknown or texts)
        header.warn(f"the patient's position '{said}' is not understood: angles were taken as a supine patient's")
        return None
    end, side = next(iter(ends), None), next(iter(sides), None)
    if end == "FF" or side not in (None, "S"):
        _check_angles(header, ", ".join(texts), given, feet_first=end == "FF")
    return end + side if end and side else None


def _check_angles(header: Header, said: str, given: StudySettings, *, feet_first: bool) -> None:
    """Refuse a patient who is not head first and supine without the user's angles; a warning where they are there."""
    if header.dialect is SIMIND:
        header.warn(
            f"'{said}': SIMIND's angles and rows are those of its phantom, so nothing was turned; if they are the "
            "gantry's, give --head-angles and --rotation; check left and right, front and back"
        )
    elif given.head_angles_deg is None or (feet_first and given.rotation is None):
        asked = "--head-angles and --rotation" if feet_first else "--head-angles"
        raise header.error(
            f"'{said}': only head_in and supine are read, because Interfile does not say whether angles are the "
            f"gantry's or the patient's: give {asked} as the patient sees them (0 = at the back, growing "
            "counter-clockwise seen from the feet)"
        )
    else:
        header.warn(f"'{said}': angles are those given; file row 0 was taken as superior: check head and feet")


def _end_first(word: str) -> str | None:
    """Return "HF" or "FF" from head_in, Feet First, head_out, hfs ...; None for other words."""
    ends = ("FF", "HF") if re.search(r"\b(out|last)\b", word) else ("HF", "FF")
    if re.match(r"(head|hf(s|p|dl|dr)?\b)", word):
        return ends[0]
    return ends[1] if re.match(r"(feet|foot|ff(s|p|dl|dr)?\b)", word) else None


def _side_down(word: str) -> str | None:
    """Return "S", "P", "DL" or "DR" from supine, prone, head first prone, HFDR ...; None for other words."""
    if match := re.match(r"[hf]f(s|p|dl|dr)\b", word):
        return match[1].upper()
    return next((side for name, side in _SIDES.items() if name in word), None)
