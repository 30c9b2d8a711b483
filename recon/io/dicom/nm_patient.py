"""Who lay in the scanner, how and when: patient, study, posture, start and injection of a DICOM NM file."""

import re
from datetime import datetime, time, timedelta, timezone

from spectac.recon.errors import InputError
from spectac.recon.io.dicom.file import Item, name_of
from spectac.recon.io.dicom.nm_frames import Notes
from spectac.recon.io.dicom.nm_header import nuclide_of
from spectac.recon.io.dicom.values import fitted
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import Injection

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
    "IssuerOfPatientID",
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
    return {keyword: text for keyword in _PATIENT if (text := _text(item, keyword))}


def _text(item: Item, keyword: str) -> str | None:
    """Text of an element, None where it cannot be decoded: the image does not depend on it."""
    try:
        return item.text(keyword)
    except InputError as error:
        item.warn(keyword, f"was left out: {error}")
        return None


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


def read_start(item: Item, given: datetime | None, notes: Notes) -> datetime | None:
    """Beginning of the acquisition, with the time zone where the file names one; None, with a warning, if unknown.

    A date without a time of day says nothing about the time: it never stands for midnight.
    """
    if given is not None:
        return given
    found = {}
    file_zone = item.text("TimezoneOffsetFromUTC")
    whole = item.text("AcquisitionDateTime")
    for name, (day, clock, zone) in (
        ("AcquisitionDateTime", _parts(whole)),
        ("AcquisitionDate and AcquisitionTime", (item.text("AcquisitionDate"), item.text("AcquisitionTime"), None)),
    ):
        start = _moment(day, clock, zone or file_zone)
        if start is not None:
            found[name] = start
        elif day and clock:
            notes.warn(f"{name} are no date with hours and minutes: not used")
    if not found:
        others = [f"{name}Date and {name}Time" for name in ("Series", "Content") if item.text(f"{name}Date")]
        hint = f" (the file has {' and '.join(others)})" if others else ""
        notes.warn(
            f"{name_of('AcquisitionDate')} and AcquisitionTime do not say when the scan began: it is unknown, --start "
            f"gives it{hint}"
        )
        return None
    start, *other = found.values()
    if other and (apart_s := _apart_s(start, other[0])) > _APART_S:
        first, second = found
        notes.warn(f"{first} and {second} lie {apart_s / 60:.0f} min apart: the first was used; --start gives another")
    return start


def _apart_s(one: datetime, other: datetime) -> float:
    """Seconds between two moments; where one lacks its zone both are taken to have the same."""
    if one.tzinfo is None or other.tzinfo is None:
        one, other = one.replace(tzinfo=None), other.replace(tzinfo=None)
    return abs((one - other).total_seconds())


_APART_S = 60.0
"""Times of one start differ by rounding; what lies further apart means something else."""


def _parts(text: str | None) -> tuple[str | None, str | None, str | None]:
    """Date, time of day and zone of a DT; None for what it does not give."""
    if text is None:
        return None, None, None
    zone = re.search(r"[+-]\d{4}$", text.strip())
    plain = text.strip()[: zone.start()] if zone else text.strip()
    return plain[:8], plain[8:] or None, zone[0] if zone else None


def _moment(day: str | None, clock: str | None, zone: str | None = None) -> datetime | None:
    """Moment of a DA and a TM that has hours and minutes at least; None for anything else."""
    if not day or not clock:
        return None
    values, _ = fitted({"AcquisitionDate": day, "AcquisitionTime": clock})
    whole, _, fraction = values.get("AcquisitionTime", "").partition(".")
    if len(whole) < 4 or "AcquisitionDate" not in values:
        return None
    try:
        start = datetime.strptime(values["AcquisitionDate"] + whole.ljust(6, "0"), "%Y%m%d%H%M%S")
    except ValueError:  # a leap second, 60
        return None
    return start.replace(microsecond=int(fraction[:6].ljust(6, "0") or 0), tzinfo=_zone(zone))


def _zone(text: str | None) -> timezone | None:
    """Time zone at the end of a text such as "+0900"; None without one."""
    found = re.search(r"([+-])(\d{2})(\d{2})$", (text or "").strip())
    if found is None or int(found[2]) > 14 or int(found[3]) > 59:
        return None
    minutes = 60 * int(found[2]) + int(found[3])
    return timezone(timedelta(minutes=minutes if found[1] == "+" else -minutes))


_MOST_MBQ, _LEAST_MBQ = 1e5, 0.1
"""Doses of SPECT agents lie between; a larger number is in Bq."""


def read_injection(item: Item, nuclide: str, start: datetime | None, notes: Notes) -> Injection | None:
    """What was injected, of the agent with this nuclide where several are named; None where the file says nothing."""
    agents = item.items("RadiopharmaceuticalInformationSequence")
    if not agents:
        return None
    symbol = nuclide_by_name(nuclide).symbol
    with_nuclide = [
        one for one in agents for code in one.items("RadionuclideCodeSequence") if nuclide_of(code) == symbol
    ]
    agent = (with_nuclide or agents)[0]
    found = Injection(
        agent.text("Radiopharmaceutical"), _dose_mbq(agent, notes), _injected_at(agent, nuclide, start, notes)
    )
    if found == Injection():
        return None
    told = [f"{found.activity_mbq:g} MBq"] if found.activity_mbq is not None else []
    told += [f"of {found.agent}"] if found.agent else []
    told += [f"at {found.at}"] if found.at else []
    notes.history.append(f"injected {' '.join(told)}")
    return found


def _dose_mbq(agent: Item, notes: Notes) -> float | None:
    """RadionuclideTotalDose in MBq (PS3.3 C.8.4.10), in Bq where only that makes a dose; else None with a warning."""
    dose = agent.optional_number("RadionuclideTotalDose")
    if not dose:
        return None
    name = name_of("RadionuclideTotalDose")
    if _LEAST_MBQ <= dose <= _MOST_MBQ:
        return dose
    if _LEAST_MBQ <= dose * 1e-6 <= _MOST_MBQ:
        notes.warn(f"{name} is {dose:g}, no dose in MBq: taken as Bq, {dose * 1e-6:g} MBq")
        return dose * 1e-6
    notes.warn(f"{name} is {dose:g}, which is a dose neither in MBq nor in Bq: left out")
    return None


def _injected_at(agent: Item, nuclide: str, start: datetime | None, notes: Notes) -> datetime | time | None:
    """When the agent was injected, in the zone of `start`.

    A time of day alone is dated by the scan, to the last such time before it, for nuclides that do not outlive a day;
    agents of longer life may have been injected days before.
    """
    day, clock, zone = _parts(agent.text("RadiopharmaceuticalStartDateTime"))
    at = _moment(day, clock, zone)
    if at is not None and start is not None:
        at = at.astimezone(start.tzinfo) if at.tzinfo and start.tzinfo else at.replace(tzinfo=start.tzinfo)
        before_s = (start - at).total_seconds()
        if not 0 <= before_s <= _LONGEST_BEFORE_S:
            notes.warn(
                f"{name_of('RadiopharmaceuticalStartDateTime')} lies {-before_s / 3600:.0f} h after the begin of the "
                "scan: left out"
                if before_s < 0
                else f"{name_of('RadiopharmaceuticalStartDateTime')} lies {before_s / 86400:.0f} days before the scan: "
                "left out"
            )
            return None
    if at is not None:
        return at
    clock = agent.text("RadiopharmaceuticalStartTime")
    alone = _moment("20000101", clock)
    if alone is None or start is None or nuclide_by_name(nuclide).half_life_s > _DAY_S:
        return None if alone is None else alone.time()
    at = datetime.combine(start.date(), alone.time(), start.tzinfo)
    return at if at <= start else at - timedelta(days=1)


_DAY_S = 86400.0
_LONGEST_BEFORE_S = 60 * _DAY_S
"""Scans of the longest-lived agents are made within weeks."""
