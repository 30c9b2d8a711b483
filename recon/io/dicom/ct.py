"""CT series from DICOM files: which series, which files, and the volume in patient space."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spectac.recon.ct import CTVolume, check_kvp
from spectac.recon.errors import InputError
from spectac.recon.io.content import refuse_packed
from spectac.recon.io.dicom.ct_slice import Slice, shown
from spectac.recon.io.dicom.ct_stack import stack
from spectac.recon.io.dicom.ct_write import write_series
from spectac.recon.io.dicom.file import Item, looks_like_dicom, name_of, open_dicom

__all__ = ["read_series", "write_series"]

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_SAYS_CT = re.compile(rb"(?:\x02\0\x02\0|\x08\0\x16\0)(?:UI..|....)" + re.escape(CT_IMAGE).encode() + rb"[^.\d]", re.S)
"""The bytes of MediaStorageSOPClassUID or SOPClassUID of a CT slice, little endian."""
DIRECTORY = "1.2.840.10008.1.3.10"
"""A DICOMDIR: the list of the files beside and below it."""
ARCHIVES = (".zip", ".gz", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz")
MULTI_FRAME = {
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT",
}
_DIGITS = re.compile(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?", re.I)
FEWEST_SLICES = 3
"""A series is chosen by itself only with at least this many axial slices."""
AXIAL = 0.7
"""Slices whose normal lies within 45 deg of the patient's axis are axial; gantries tilt by 30 deg at most."""

PATIENT = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
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
PERSON = ("PatientID", "PatientBirthDate")
"""Slices of one series that differ in these are of different people; names and sexes are spelled in many ways."""


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
    path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    series: str | int | None = None,
    tube_voltage_kv: float | None = None,
) -> CTVolume:
    """CT volume of a folder (with what lies below it) or of a list of files, in any order and under any name.

    A DICOMDIR stands for its folder. `series` picks one by SeriesNumber or SeriesInstanceUID; without it the only axial
    CT of at least 3 slices is taken. `tube_voltage_kv` replaces the files' KVP.
    Localizers and what is not CT are left aside. Slices are ordered by their positions; tilt, uneven steps and
    repeated slices are put right (see dicom_ct_stack.stack) and the volume's history says so. Values below -1000 HU
    and padding become -1000; `covered` tells where no slice holds data. The axes are those nearest to z superior, y
    posterior, x left; a tilted series has a tilted grid.
    Raises InputError with file, tag and keyword where the series is damaged, cannot be placed or is of several people,
    and with the list of series where none or several fit.
    """
    found, label = _series(path)
    chosen = _chosen(found, series, label)
    _check_person(chosen.headers)
    slices = [Slice.from_header(header) for header in chosen.headers]
    voltages = sorted({one.kvp for one in slices if one.kvp is not None})
    kvp = voltages[0] if voltages else None
    frames = [one.frame_of_reference_uid for one in slices if one.frame_of_reference_uid is not None]
    if tube_voltage_kv is not None:
        check_kvp(tube_voltage_kv, "--tube-voltage-kv")
        # Slices that say different voltages are all of the given one.
        slices = [replace(one, kvp=tube_voltage_kv) for one in slices]
    volume = stack(slices)
    history = [f"CT series {chosen.described}"]
    if tube_voltage_kv is not None:
        said = f"{' and '.join(f'{one:g}' for one in voltages)} kV" if voltages else "nothing"
        history.append(f"tube voltage {tube_voltage_kv:g} kV as given; the files say {said} (KVP)")
        kvp = tube_voltage_kv
    if chosen.scouts:
        history.append(f"{chosen.scouts} localizers left out")
    first = chosen.headers[0]
    return CTVolume(
        volume.hu,
        volume.grid,
        kvp,
        frames[0] if frames else None,
        covered=volume.covered,
        patient={keyword: value for keyword in PATIENT if (value := _text(first, keyword)) is not None},
        history=(*history, *volume.history),
        warnings=(*_warnings(chosen.headers), *volume.warnings),
    )


def _text(item: Item, keyword: str) -> str | None:
    """Text of an element of no bearing on the image: None where it cannot be read."""
    try:
        return item.text(keyword)
    except InputError:
        return None


def _warnings(headers: Sequence[Item]) -> list[str]:
    """Warnings of all slices, one of those that differ in numbers alone: with the slices' number where they differ."""
    said: dict[str, dict[Path, str]] = {}
    for header in headers:
        for line in header.warnings:
            text = line.removeprefix(f"{header.path.name}: ")
            said.setdefault(_DIGITS.sub("0", text), {}).setdefault(header.path, line)
    merged = []
    for of_slices in said.values():
        (path, first), *_ = of_slices.items()
        alike = len(set(of_slices.values())) == 1
        merged.append(first if alike else f"{first.removeprefix(f'{path.name}: ')} ({len(of_slices)} slices)")
    return merged


def _check_person(headers: Sequence[Item]) -> None:
    """InputError where slices of one series are of different people; what a slice leaves out is no difference."""
    for keyword in PERSON:
        first: dict[str, Item] = {}
        for header in headers:
            first.setdefault("".join((_text(header, keyword) or "").casefold().split()), header)
        first.pop("", None)
        if len(first) > 1:
            one, other, *_ = first.values()
            raise InputError(
                f"{other.path}: {name_of(keyword)} is not that of {one.path.name} in the same series: slices of "
                f"{len(first)} people cannot be one CT; give the files of one of them only"
            )


def _series(path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[list[_Series], str]:
    """All CT series among the files, and a name of the place for messages."""
    if isinstance(path, (str, os.PathLike)):
        place = Path(path)
        if not place.exists():
            raise InputError(f"{place}: no such file or folder")
        if place.is_file() and _is_directory(place):
            place = place.parent
        listed = place.is_file()
        if listed:
            refuse_packed(place)
        files = [place] if listed else sorted(file for file in place.rglob("*") if file.is_file())
        label = str(place)
    else:
        files, listed = [Path(one) for one in path], True
        label = str(files[0].parent) if files else "the list of files"
    groups: dict[str, list[Item]] = {}
    scouts: dict[str, int] = {}
    foreign: list[InputError] = []
    for file in files:
        try:
            header = _header(file, listed)
        except InputError as error:
            if listed or _says_ct(file):
                raise
            foreign.append(error)
            continue
        if header is None:
            continue
        uid = header.text("SeriesInstanceUID") or ""
        if "LOCALIZER" in [value.upper() for value in header.texts("ImageType")]:
            scouts[uid] = scouts.get(uid, 0) + 1
        else:
            groups.setdefault(uid, []).append(header)
    if not groups and foreign:
        raise foreign[0]
    if not groups:
        aside = f", {sum(scouts.values())} localizers left aside" if scouts else ""
        packed = [file.name for file in files if file.name.lower().endswith(ARCHIVES)]
        if packed:
            aside += f"; {packed[0]} is packed: unpack it and give the folder of its slices"
        raise InputError(f"{label}: no CT slice (DICOM CT Image Storage) among {len(files)} files{aside}")
    _join_nameless(groups)
    if foreign:
        # A series has no warnings of its own: its first slice carries them.
        for group in groups.values():
            group[0].warnings.append(f"CT: {len(foreign)} files of the folder were left aside: {foreign[0]}")
    return [_Series(uid, tuple(group), scouts.get(uid, 0)) for uid, group in groups.items()], label


def _join_nameless(groups: dict[str, list[Item]]) -> None:
    """Put slices without SeriesInstanceUID into the only series there is, or take them for one."""
    if "" not in groups or len(groups) > 2:
        return
    nameless = groups[""]
    note = f"CT: {name_of('SeriesInstanceUID')} is missing: taken for slices of one series"
    for header in nameless:
        header.warnings.append(note)
    if len(groups) == 2:
        del groups[""]
        next(iter(groups.values())).extend(nameless)


def _is_directory(file: Path) -> bool:
    """Tell whether a file is a DICOMDIR."""
    with file.open("rb") as stream:
        if not looks_like_dicom(stream.read(4096)):
            return False
    header = open_dicom(file, pixels=False)
    with header.reading("(0002,0002) MediaStorageSOPClassUID"):
        return str(getattr(header.data, "file_meta", {}).get("MediaStorageSOPClassUID", "")) == DIRECTORY


def _says_ct(file: Path) -> bool:
    """Tell from its bytes whether a file that cannot be used is a CT slice."""
    with file.open("rb") as stream:
        return _SAYS_CT.search(stream.read(4096)) is not None


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
        hint = ": give the folder of all slices" if sum(len(one.headers) for one in found) == 1 else ""
        unplaced = [one for one in found if not one.headers[0].numbers("ImageOrientationPatient")]
        if unplaced and not hint:
            hint = f" ({name_of('ImageOrientationPatient')} is missing in {unplaced[0].headers[0].path.name})"
        raise InputError(f"{label}: no axial CT of at least {FEWEST_SLICES} slices{hint}; there are: {listed}")
    people = {_text(one.headers[0], "PatientID") for one in fits} - {None}
    apart = f" of {len(people)} people (PatientID)" if len(people) > 1 else ""
    raise InputError(
        f"{label}: {len(fits)} CT series{apart} would do: give the folder of one of them, or its number or UID (in "
        f"spectac reconstruct --attenuation-option series=NUMBER); there are: {listed}"
    )
