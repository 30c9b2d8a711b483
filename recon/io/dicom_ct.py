"""CT series from DICOM files: which series, which files, and the volume in patient space."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spectac.recon.ct import CTVolume
from spectac.recon.errors import InputError
from spectac.recon.io.dicom_ct_slice import Slice, shown
from spectac.recon.io.dicom_ct_stack import stack
from spectac.recon.io.dicom_ct_write import write_series
from spectac.recon.io.dicom_file import Item, looks_like_dicom, open_dicom

__all__ = ["read_series", "write_series"]

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
MULTI_FRAME = {
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT",
}
FEWEST_SLICES = 3
"""A series is chosen by itself only with at least this many axial slices."""
AXIAL = 0.7
"""Slices whose normal lies within 45 deg of the patient's axis are axial; gantries tilt by 30 deg at most."""

PATIENT = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientPosition",
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "SeriesInstanceUID",
)
"""What CTVolume.patient carries."""


@dataclass(frozen=True, eq=False)
class _Series:
    """The headers of one SeriesInstanceUID; `scouts` are localizers, counted only."""

    uid: str
    headers: tuple[Item, ...]
    scouts: int

    @property
    def number(self) -> str:
        return shown(self.headers[0].text("SeriesNumber") or "")

    @property
    def described(self) -> str:
        title = shown(self.headers[0].text("SeriesDescription") or "")
        return f"{self.number or 'without number'} {title!r}, {len(self.headers)} slices"

    @property
    def axial(self) -> bool:
        axes = self.headers[0].numbers("ImageOrientationPatient")
        return len(axes) == 6 and abs(float(np.cross(axes[:3], axes[3:])[2])) >= AXIAL


def read_series(
    path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, series: str | int | None = None
) -> CTVolume:
    """CT volume of a folder (with what lies below it) or of a list of files, in any order and under any name.

    `series` picks one by SeriesNumber or SeriesInstanceUID; without it the only axial CT of at least 3 slices is taken.
    Localizers and what is not CT are left aside. Slices are ordered by their positions; tilt, uneven steps and
    repeated slices are put right (see dicom_ct_stack.stack) and the volume's history says so. Values below -1000 HU
    and padding become -1000. The axes are those nearest to z superior, y posterior, x left; a tilted series has a
    tilted grid.
    Raises InputError with file, tag and keyword where the series is damaged or cannot be placed, and with the list of
    series where none or several fit.
    """
    found, label = _series(path)
    chosen = _chosen(found, series, label)
    slices = [Slice.from_header(header) for header in chosen.headers]
    volume = stack(slices)
    history = [f"CT series {chosen.described}"]
    if chosen.scouts:
        history.append(f"{chosen.scouts} localizers left out")
    first = chosen.headers[0]
    patient = {keyword: value for keyword in PATIENT if (value := first.text(keyword)) is not None}
    return CTVolume(
        volume.hu,
        volume.grid,
        slices[0].kvp,
        slices[0].frame_of_reference_uid,
        patient=patient,
        history=(*history, *volume.history),
        warnings=(*dict.fromkeys(line for header in chosen.headers for line in header.warnings), *volume.warnings),
    )


def _series(path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[list[_Series], str]:
    """All CT series among the files, and a name of the place for messages."""
    if isinstance(path, (str, os.PathLike)):
        place = Path(path)
        if not place.exists():
            raise InputError(f"{place}: no such file or folder")
        listed = place.is_file()
        files = [place] if listed else sorted(file for file in place.rglob("*") if file.is_file())
        label = str(place)
    else:
        files, listed = [Path(one) for one in path], True
        label = str(files[0].parent) if files else "the list of files"
    groups: dict[str, list[Item]] = {}
    scouts: dict[str, int] = {}
    for file in files:
        header = _header(file, listed)
        if header is None:
            continue
        uid = header.text("SeriesInstanceUID")
        if uid is None:
            raise header.error("SeriesInstanceUID", "is missing: which series it belongs to is unknown")
        if "LOCALIZER" in [value.upper() for value in header.texts("ImageType")]:
            scouts[uid] = scouts.get(uid, 0) + 1
        else:
            groups.setdefault(uid, []).append(header)
    if not groups:
        aside = f", {sum(scouts.values())} localizers left aside" if scouts else ""
        raise InputError(f"{label}: no CT slice (DICOM CT Image Storage) among {len(files)} files{aside}")
    return [_Series(uid, tuple(group), scouts.get(uid, 0)) for uid, group in groups.items()], label


def _header(file: Path, listed: bool) -> Item | None:
    """Header of a CT slice; None for files that are something else. A file listed by name must be DICOM."""
    if not listed:
        with file.open("rb") as stream:
            if not looks_like_dicom(stream.read(4096)):
                return None
    header = open_dicom(file, pixels=False)
    kind = header.text("SOPClassUID")
    if kind is None:
        # A DICOMDIR names its class in the meta information only.
        with header.reading("(0002,0002) MediaStorageSOPClassUID"):
            kind = str(getattr(header.data, "file_meta", {}).get("MediaStorageSOPClassUID", CT_IMAGE))
        if kind == CT_IMAGE:
            raise header.error("SOPClassUID", "is missing: the file is cut short or damaged")
    if kind != CT_IMAGE and CT_IMAGE.startswith(kind):
        raise header.error("SOPClassUID", f"is {kind}: the file is cut short or damaged")
    if kind == CT_IMAGE and header.value("Rows") is None:
        raise header.error("Rows", "is missing: the file is cut short or damaged")
    if kind in MULTI_FRAME:
        raise header.error(
            "SOPClassUID",
            f"is {MULTI_FRAME[kind]}, many slices in one file, which is not read yet: export the series as classic CT, "
            "one file a slice (e.g. with dcm4che's emf2sf)",
        )
    return header if kind == CT_IMAGE else None


def _chosen(found: Sequence[_Series], wanted: str | int | None, label: str) -> _Series:
    listed = "; ".join(f"{one.described}, {shown(one.uid)}" for one in found)
    if wanted is not None:
        fits = [one for one in found if str(wanted).strip() in (one.uid, one.number)]
        if len(fits) == 1:
            return fits[0]
        problem = "no CT series has" if not fits else "several CT series have"
        raise InputError(f"{label}: {problem} the number or UID {wanted}; there are: {listed}")
    fits = [one for one in found if len(one.headers) >= FEWEST_SLICES and one.axial]
    if len(fits) == 1:
        return fits[0]
    if not fits:
        raise InputError(f"{label}: no axial CT of at least {FEWEST_SLICES} slices; there are: {listed}")
    raise InputError(f"{label}: {len(fits)} CT series would do: say which by its number or UID; there are: {listed}")
