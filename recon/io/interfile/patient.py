"""Who lay in the scanner, how and when, from the keys of an Interfile header."""

import re
from datetime import datetime
from types import MappingProxyType

from spectac.recon.given import NOTHING_GIVEN, Given
from spectac.recon.io.interfile.header import Header, canonical_key

PATIENT_KEYS = MappingProxyType(
    {
        "patient name": "PatientName",
        "patient id": "PatientID",
        "patient sex": "PatientSex",
        "patient dob": "PatientBirthDate",
        "patient weight": "PatientWeight",
        "patient age": "PatientAge",
        "study id": "StudyID",
        "original institution": "InstitutionName",
    }
)
"""Keys on patient and study, and DICOM's keywords for them."""


def read_patient(header: Header) -> dict[str, str]:
    """Patient and study as text by DICOM keyword, of what is there."""
    return {
        tag: _of_patient(key, text) for key, tag in PATIENT_KEYS.items() if (text := header.text(key, needed=False))
    }


def _of_patient(key: str, text: str) -> str:
    """The key's text; a weight without its unit, for DICOM has it in kg; 31.12.1970 with the year first."""
    if day_first := re.fullmatch(r"(\d{1,2})[.:](\d{1,2})[.:](\d{4})", text) if key == "patient dob" else None:
        return f"{day_first[3]}{int(day_first[2]):02d}{int(day_first[1]):02d}"
    found = re.fullmatch(r"([\d.,]+)\s*kg", text, re.IGNORECASE) if key == "patient weight" else None
    return found[1] if found else text


def read_start(header: Header, warnings: list[str]) -> datetime | None:
    """Beginning of the study, None where date or time is missing or not a date."""
    date, time = (
        header.text(f"study {what}", f"study {what} ({form})", needed=False)
        for what, form in (("date", "dd:mm:yryr"), ("time", "hh:mm:ss"))
    )
    if date is None and time is None:
        return None
    start = None if date is None or time is None else _moment(date, time)
    if date is None:
        told = "'study date' is missing"
    elif time is None:
        told = "'study time' is missing"
    elif start is None:
        told = f"'study time' and date are {time!r} and {date!r}, which is no time"
    elif start.year < _FIRST_YEAR:
        told = f"'study date' is {date}, before there was SPECT"
    else:
        if re.fullmatch(r"\d{1,2}/\d{1,2}/\d{4}", date) and start.day <= 12 and start.day != start.month:
            warnings.append(f"'study date' {date} was read with the day first, as {start:%Y-%m-%d} (--start)")
        return start
    warnings.append(f"{told}: the start of the acquisition is unknown (--start)")
    return None


_FIRST_YEAR = 1960
_DAYS = ("%Y:%m:%d", "%d:%m:%Y", "%m:%d:%Y", "%Y%m%d")
_CLOCKS = ("%H:%M:%S", "%H:%M:%S.%f", "%H:%M", "%H%M%S", "%H%M%S.%f", "%H%M")


def _moment(date: str, time: str) -> datetime | None:
    """Date and time, which may name its zone ("10:11:12+01:00"); None for what is none."""
    for day in _DAYS:
        for clock in _CLOCKS:
            for zone in ("", "%z"):
                try:
                    return datetime.strptime(f"{re.sub(r'[-./]', ':', date)} {time}", f"{day} {clock}{zone}")
                except ValueError:
                    continue
    return None


def patient_position(header: Header, dialect: str, warnings: list[str], given: Given = NOTHING_GIVEN) -> str | None:
    """How the patient lies, "HFS" for example; None where the header does not tell.

    Interfile does not say whether angles are the gantry's or the patient's. SIMIND's are the phantom's, whatever its
    header says; for others, feet first or prone, the user must give the angles.
    """
    keys = ("patient orientation", "patient rotation", "patient position")
    texts = [text for key in keys if (text := header.text(key, needed=False))]
    words = [canonical_key(text).replace("-", " ") for text in texts]
    ends = {end for word in words if (end := _end_first(word))}
    lies = {side for word in words if (side := _side_down(word))}
    unknown = [
        text
        for text, word in zip(texts, words, strict=True)
        if not (_end_first(word) or _side_down(word) or word in ("unknown", "other", "none", "n/a"))
    ]
    if unknown or len(ends) > 1 or len(lies) > 1:
        listed = ", ".join(unknown or texts)
        warnings.append(f"the patient's position '{listed}' is not understood: angles were taken as a supine patient's")
        return None
    end, side = next(iter(ends), None), next(iter(lies), None)
    if end == "FF" or side not in (None, "S"):
        told = f"'{', '.join(texts)}'"
        if dialect == "SIMIND":
            warnings.append(
                f"{told}: SIMIND's angles and rows are those of its phantom, so nothing was turned; if they are the "
                "gantry's, give --head-angles and --rotation; check left and right, front and back"
            )
        else:
            asked = ["--head-angles", "--rotation"] if end == "FF" else ["--head-angles"]
            if given.head_angles_deg is None or (end == "FF" and given.rotation is None):
                raise header.error(
                    f"{told}: only head_in and supine are read, because Interfile does not say whether angles are the "
                    f"gantry's or the patient's: give {' and '.join(asked)} as the patient sees them (0 = at the back, "
                    "growing counter-clockwise seen from the feet)"
                )
            warnings.append(f"{told}: angles are those given; file row 0 was taken as superior: check head and feet")
    return end + side if end and side else None


def _end_first(word: str) -> str | None:
    """Return "HF" or "FF" from head_in, Feet First, head_out, hfs ...; None for other words."""
    ends = ("FF", "HF") if re.search(r"\b(out|last)\b", word) else ("HF", "FF")
    if re.match(r"(head|hf(s|p|dl|dr)?\b)", word):
        return ends[0]
    return ends[1] if re.match(r"(feet|foot|ff(s|p|dl|dr)?\b)", word) else None


def _side_down(word: str) -> str | None:
    """Return "S", "P", "DL" or "DR" from supine, prone, head first prone, HFDR ...; None for other words."""
    if found := re.match(r"[hf]f(s|p|dl|dr)\b", word):
        return found[1].upper()
    for name, side in (("supine", "S"), ("prone", "P"), ("left", "DL"), ("right", "DR")):
        if name in word:
            return side
    return None
