"""What the node must know of a received file: whose it is, which study and series, and what kind."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spectac.recon.errors import InputError
from spectac.recon.io.content import first_bytes
from spectac.recon.io.dicom.elements import Item, open_dicom
from spectac.recon.io.dicom.nm_kind import kind_of
from spectac.recon.io.dicom.nm_nuclide import named_nuclides
from spectac.recon.io.dicom.same_object import same_object

Kind = Literal["raw", "ct", "other"]
PERSON = ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
"""What must be equal in two files of one person."""


@dataclass(frozen=True)
class Received:
    """Facts of a DICOM file.

    `person` are the values of PERSON, `frame` the frame of reference; `facts` are what rules match, by their keys.
    """

    sop: str
    study: str
    series: str
    kind: Kind
    person: tuple[str, ...]
    frame: str
    facts: dict[str, str]


_READING = threading.Lock()
"""pydicom's and Python's settings for warnings are those of the process: one header is read at a time."""
LARGEST_DEFLATED = 16_000_000
"""A deflated object is unfolded in memory; larger ones are refused."""
DEFLATED = "1.2.840.10008.1.2.1.99"


def header_of(path: Path) -> Item:
    """Header of a file, its large elements left on the disk; InputError where it is damaged, or deflated and large."""
    with _READING:
        if path.stat().st_size > LARGEST_DEFLATED and DEFLATED.encode() in first_bytes(path):
            raise InputError(f"a deflated object of more than {LARGEST_DEFLATED / 1e6:g} MB")
        return open_dicom(path, pixels=False, large_values=False)


def received(path: Path, sender: str) -> Received:
    """Facts of a file; InputError where it is damaged or has no UIDs."""
    item = header_of(path)
    with _READING:
        return _facts(item, sender)


def is_same(one: Path, other: Path) -> bool:
    """Whether two files hold the same object, whatever their transfer syntaxes; False where in doubt."""
    with _READING:
        return same_object(one, other)


def _facts(item: Item, sender: str) -> Received:
    uids = [item.text(name) for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")]
    if not all(uids):
        raise InputError("SOPInstanceUID, StudyInstanceUID or SeriesInstanceUID is missing")
    sop, study, series = (str(uid) for uid in uids)
    return Received(
        sop,
        study,
        series,
        _kind(item),
        tuple(_text(item, name) for name in PERSON),
        _text(item, "FrameOfReferenceUID"),
        {
            "ae": sender,
            "station": _text(item, "StationName"),
            "protocol": _text(item, "ProtocolName") or _text(item, "SeriesDescription"),
            "nuclide": "/".join(sorted(named_nuclides(item))),
            "body_part": _text(item, "BodyPartExamined"),
        },
    )


def _kind(item: Item) -> Kind:
    if kind_of(item) == "TOMO":
        return "raw"
    return "ct" if (_text(item, "Modality")).upper() == "CT" else "other"


def _text(item: Item, keyword: str) -> str:
    return item.optional_text(keyword) or ""
