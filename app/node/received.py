"""What the node must know of a received file: whose it is, which study and series, and what kind."""

import io
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset

from spectac.recon.errors import InputError
from spectac.recon.io.content import first_bytes
from spectac.recon.io.dicom.elements import Item, open_dicom
from spectac.recon.io.dicom.nm_kind import kind_of
from spectac.recon.io.dicom.nm_nuclide import named_nuclides

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
LARGEST_COMPARED = 64_000_000
"""Objects are compared in memory; of larger ones it is not told that they are the same."""


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


def same_object(one: Path, other: Path) -> bool:
    """Whether two files hold the same elements and pixels, whatever their transfer syntaxes; False where in doubt."""
    if max(one.stat().st_size, other.stat().st_size) > LARGEST_COMPARED:
        return False
    try:
        with _READING:
            (elements, pixels), (other_elements, other_pixels) = (_content(path) for path in (one, other))
    except InputError:
        return False
    return elements == other_elements and np.array_equal(pixels, other_pixels)


def _content(path: Path) -> tuple[bytes, np.ndarray]:
    """Elements of a file in one encoding, and its pixels unpacked, those of an object without any empty."""
    item = open_dicom(path)
    encoded, pixels = io.BytesIO(), np.zeros(0)
    with item.reading("the file"):
        if "PixelData" in item.data:
            words = ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated")
            if np.prod([item.count(word) or 1 for word in words], dtype=float) / 8 > LARGEST_COMPARED:
                raise InputError("too many pixels")
            pixels = item.data.pixel_array
            del item.data.PixelData
        # Without what the file says of itself.
        dcmwrite(encoded, Dataset(item.data), implicit_vr=True, little_endian=True)
    return encoded.getvalue(), pixels


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
