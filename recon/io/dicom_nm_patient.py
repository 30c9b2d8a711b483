"""Who lay in the scanner, how and when: patient, study, posture and start of a DICOM NM file."""

from datetime import datetime, timedelta, timezone

from spectac.recon.io.dicom_file import Item, name_of
from spectac.recon.io.dicom_nm_frames import Notes

_GANTRY = {"F-10470": "HF", "102540008": "HF", "F-10480": "FF", "102541007": "FF"}
_POSTURE = {
    "F-10340": "S",
    "40199007": "S",
    "F-10310": "P",
    "1240000": "P",
    "F-10317": "DR",
    "102535000": "DR",
    "F-10319": "DL",
    "102536004": "DL",
}

_PATIENT = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "InstitutionName",
    "Manufacturer",
    "ManufacturerModelName",
    "SeriesDescription",
    "SOPInstanceUID",
)


def read_patient(item: Item) -> dict[str, str]:
    """Patient and study as text by DICOM keyword, of what is there."""
    return {keyword: text for keyword in _PATIENT if (text := item.text(keyword))}


def read_posture(item: Item) -> tuple[str | None, str | None]:
    """How the patient lies: "HF" or "FF", and "S", "P", "DL" or "DR"; None for what the file does not say."""
    position = (item.text("PatientPosition") or "").upper()
    if position[:2] in ("HF", "FF") and position[2:] in ("S", "P", "DL", "DR"):
        return position[:2], position[2:]
    gantry = posture = None
    for code in item.items("PatientGantryRelationshipCodeSequence"):
        gantry = _GANTRY.get((code.text("CodeValue") or "").upper(), gantry)
    for code in item.items("PatientOrientationCodeSequence"):
        for modifier in code.items("PatientOrientationModifierCodeSequence"):
            posture = _POSTURE.get((modifier.text("CodeValue") or "").upper(), posture)
    return gantry, posture


def read_start(item: Item, notes: Notes) -> datetime | None:
    """Beginning of the acquisition, with the time zone where the file names one; None where it is not told."""
    text = item.text("AcquisitionDateTime")
    zone = item.text("TimezoneOffsetFromUTC")
    if text is None:
        day, clock = item.text("AcquisitionDate"), item.text("AcquisitionTime")
        if day is None or clock is None:
            return None
        text = day.replace(".", "") + clock.replace(":", "")
    if len(text) > 14 and text[-5] in "+-":
        text, zone = text[:-5], text[-5:]
    whole, _, fraction = text.strip().partition(".")
    try:
        start = datetime.strptime(whole.ljust(14, "0"), "%Y%m%d%H%M%S")
        start = start.replace(microsecond=int((fraction[:6] or "0").ljust(6, "0")))
        if zone:
            minutes = int(zone[:1] + "1") * (60 * int(zone[1:3]) + int(zone[3:5]))
            start = start.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    except ValueError:
        notes.warnings.append(f"{name_of('AcquisitionDate')} and Time are {text!r}: no date and time, not used")
        return None
    return start
