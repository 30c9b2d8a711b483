"""Start of the acquisition and injection of the agent of a DICOM NM file: moments, time zones and doses."""

import re
from datetime import datetime, time, timedelta

from spectac.recon.io.dicom.allowed_values import fitted
from spectac.recon.io.dicom.elements import Item, name_of
from spectac.recon.io.dicom.nm_nuclide import nuclide_of
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import Injection

_APART_S = 60.0
"""Times of one start differ by rounding; what lies further apart means something else."""

_LEAST_MBQ, _MOST_MBQ = 0.1, 1e5
"""Doses of SPECT agents lie between; a larger number is in Bq."""

_DAY_S = 86400.0
_LONGEST_BEFORE_S = 60 * _DAY_S
"""Scans of the longest-lived agents are made within weeks."""


def read_start(item: Item, given: datetime | None) -> datetime | None:
    """Beginning of the acquisition, with the time zone where the file names one; None, with a warning, if unknown.

    A date without a time of day says nothing about the time: it never stands for midnight.

    Parameters
    ----------
    item : Item
        Dataset of the file, which gets warnings.
    given : datetime or None
        The user's.

    Returns
    -------
    datetime or None
        AcquisitionDateTime, else AcquisitionDate with AcquisitionTime.

    Examples
    --------
    >>> from pydicom import Dataset
    >>> from pathlib import Path
    >>> data = Dataset()
    >>> data.AcquisitionDate, data.AcquisitionTime = "20261102", "093000"
    >>> read_start(Item(data, Path("scan.dcm")), None)
    datetime.datetime(2026, 11, 2, 9, 30)
    """
    if given is not None:
        return given
    file_zone = item.text("TimezoneOffsetFromUTC")
    starts = {}
    for name, (day, clock, zone) in (
        ("AcquisitionDateTime", _parts(item.text("AcquisitionDateTime"))),
        ("AcquisitionDate and AcquisitionTime", (item.text("AcquisitionDate"), item.text("AcquisitionTime"), None)),
    ):
        moment = _moment(day, clock, zone or file_zone)
        if moment is not None:
            starts[name] = moment
        elif day and clock:
            item.notes.warn(f"{name} are no date with hours and minutes: not used")
    if not starts:
        others = [f"{name}Date and {name}Time" for name in ("Series", "Content") if item.text(f"{name}Date")]
        hint = f" (the file has {' and '.join(others)})" if others else ""
        item.warn(
            f"AcquisitionDate and AcquisitionTime do not say when the scan began: it is unknown, --start gives it{hint}"
        )
        return None
    (first, start), *rest = starts.items()
    for name, other in rest:
        # Where one lacks its zone both are taken to have the same.
        zoned = start.tzinfo is not None and other.tzinfo is not None
        apart = start - other if zoned else start.replace(tzinfo=None) - other.replace(tzinfo=None)
        if (apart_s := abs(apart.total_seconds())) > _APART_S:
            item.notes.warn(
                f"{first} and {name} lie {apart_s / 60:.0f} min apart: the first was used; --start gives another"
            )
    return start


def _parts(text: str | None) -> tuple[str | None, str | None, str | None]:
    """Date, time of day and zone of a DT; None for what it does not give."""
    text = (text or "").strip()
    zone = re.search(r"[+-]\d{4}$", text)
    plain = text[: zone.start()] if zone else text
    return plain[:8] or None, plain[8:] or None, zone[0] if zone else None


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
    start = start.replace(microsecond=int(fraction[:6].ljust(6, "0") or 0))
    offset = re.search(r"[+-](0\d|1[0-4])[0-5]\d$", (zone or "").strip())
    return start if offset is None else start.replace(tzinfo=datetime.strptime(offset[0], "%z").tzinfo)


def read_injection(item: Item, nuclide: str, start: datetime | None) -> Injection | None:
    """What was injected, of the agent with this nuclide where several are named; None where the file says nothing.

    Parameters
    ----------
    item : Item
        Dataset of the file, which gets a line of history.
    nuclide : str
        Name of the nuclide.
    start : datetime or None
        Start of the acquisition, which tells the day of an injection with a time alone.

    Returns
    -------
    Injection or None
        Agent, activity in MBq and time, each None where the file does not say it.
    """
    agents = item.items("RadiopharmaceuticalInformationSequence")
    if not agents:
        return None
    symbol = nuclide_by_name(nuclide).symbol
    with_nuclide = (
        one for one in agents for code in one.items("RadionuclideCodeSequence") if nuclide_of(code) == symbol
    )
    agent = next(with_nuclide, agents[0])
    injection = Injection(agent.text("Radiopharmaceutical"), _dose_mbq(agent), _injected_at(agent, nuclide, start))
    if injection == Injection():
        return None
    facts = [f"{injection.activity_mbq:g} MBq"] if injection.activity_mbq is not None else []
    facts += [f"of {injection.agent}"] if injection.agent else []
    facts += [f"at {injection.at}"] if injection.at else []
    item.record(f"injected {' '.join(facts)}")
    return injection


def _dose_mbq(agent: Item) -> float | None:
    """RadionuclideTotalDose in MBq (PS3.3 C.8.4.10), in Bq where only that makes a dose; else None with a warning."""
    dose = agent.optional_number("RadionuclideTotalDose")
    if not dose:
        return None
    name = name_of("RadionuclideTotalDose")
    if _LEAST_MBQ <= dose <= _MOST_MBQ:
        return dose
    if _LEAST_MBQ <= dose * 1e-6 <= _MOST_MBQ:
        agent.notes.warn(f"{name} is {dose:g}, no dose in MBq: taken as Bq, {dose * 1e-6:g} MBq")
        return dose * 1e-6
    agent.notes.warn(f"{name} is {dose:g}, which is a dose neither in MBq nor in Bq: left out")
    return None


def _injected_at(agent: Item, nuclide: str, start: datetime | None) -> datetime | time | None:
    """When the agent was injected, in the zone of `start`.

    A time of day alone is dated by the scan, to the last such time before it, for nuclides that do not outlive a day;
    agents of longer life may have been injected days before.
    """
    at = _moment(*_parts(agent.text("RadiopharmaceuticalStartDateTime")))
    if at is not None:
        if start is None:
            return at
        at = at.astimezone(start.tzinfo) if at.tzinfo and start.tzinfo else at.replace(tzinfo=start.tzinfo)
        before_s = (start - at).total_seconds()
        if 0 <= before_s <= _LONGEST_BEFORE_S:
            return at
        away = f"{-before_s / 3600:.0f} h after the begin of the scan"
        if before_s > 0:
            away = f"{before_s / _DAY_S:.0f} days before the scan"
        agent.notes.warn(f"{name_of('RadiopharmaceuticalStartDateTime')} lies {away}: left out")
        return None
    alone = _moment("20000101", agent.text("RadiopharmaceuticalStartTime"))
    if alone is None:
        return None
    if start is None or nuclide_by_name(nuclide).half_life_s > _DAY_S:
        return alone.time()
    at = datetime.combine(start.date(), alone.time(), start.tzinfo)
    return at if at <= start else at - timedelta(days=1)
