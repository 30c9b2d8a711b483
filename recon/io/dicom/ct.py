"""CT series from DICOM files: which series, which files, and the volume in patient space."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from spectac.recon.ct import CTVolume, check_kvp
from spectac.recon.errors import FileError, InputError
from spectac.recon.io.content import first_bytes, refuse_packed
from spectac.recon.io.dicom.ct_slice import Slice
from spectac.recon.io.dicom.ct_stack import stack
from spectac.recon.io.dicom.ct_write import write_series
from spectac.recon.io.dicom.elements import Item, Notes, is_dicomdir, looks_like_dicom, name_of, open_dicom, shown
from spectac.recon.io.dicom.patient_elements import PERSON, STUDY

__all__ = ["read_series", "write_series"]

_SAYS_CT = re.compile(
    rb"(?:\x02\0\x02\0|\x08\0\x16\0)(?:UI..|....)" + re.escape(CTImageStorage).encode() + rb"[^.\d]", re.S
)
"""The bytes of MediaStorageSOPClassUID or SOPClassUID of a CT slice, little endian."""

_ARCHIVES = (".zip", ".gz", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz")
_MULTI_FRAME: dict[str, str] = {
    EnhancedCTImageStorage: "Enhanced CT",
    LegacyConvertedEnhancedCTImageStorage: "Legacy Converted Enhanced CT",
}
_DIGITS = re.compile(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?", re.I)

_FEWEST_SLICES = 3
"""A series is chosen by itself only with at least this many axial slices."""

_AXIAL = 0.7
"""Slices whose normal lies within 45 deg of the patient's axis are axial; gantries tilt by 30 deg at most."""

_PATIENT = (*PERSON, "PatientPosition", *STUDY, "SeriesInstanceUID")
"""What CTVolume.patient carries."""

_SAME_PERSON = ("PatientID", "PatientBirthDate")
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
        return len(axes) == 6 and abs(float(np.cross(axes[:3], axes[3:])[2])) >= _AXIAL


def read_series(
    path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    series: str | int | None = None,
    tube_voltage_kv: float | None = None,
) -> CTVolume:
    """CT volume of a folder (with what lies below it) or of a list of files, in any order and under any name.

    A DICOMDIR stands for its folder. Localizers and what is not CT are left aside. Slices are ordered by their
    positions; tilt, uneven steps and repeated slices are put right (see ct_stack.stack) and the volume's history says
    so. Values below -1000 HU and padding become -1000; `covered` tells where no slice holds data. The axes are those
    nearest to z superior, y posterior, x left; a tilted series has a tilted grid.

    Parameters
    ----------
    path : path-like or iterable of path-like
        A folder, a DICOMDIR, or the files.
    series : str or int
        SeriesNumber or SeriesInstanceUID; by default the only axial CT of at least 3 slices is taken.
    tube_voltage_kv : float
        Replaces the files' KVP.

    Returns
    -------
    CTVolume
        CT numbers (z, y, x) float32 in HU, at least -1000.

    Raises
    ------
    InputError
        With file, tag and keyword where the series is damaged, cannot be placed or is of several people; with the list
        of series where none or several fit.
    """
    all_series, label = _all_series(path)
    chosen = _chosen(all_series, series, label)
    _check_person(chosen.headers)
    slices = [Slice.from_header(header) for header in chosen.headers]
    voltages = sorted({one.kvp for one in slices if one.kvp is not None})
    kvp = voltages[0] if voltages else None
    frame = next((one.frame_of_reference_uid for one in slices if one.frame_of_reference_uid is not None), None)
    notes = Notes([f"CT series {chosen.described}"])
    if tube_voltage_kv is not None:
        check_kvp(tube_voltage_kv, "--tube-voltage-kv")
        said = f"{' and '.join(f'{one:g}' for one in voltages)} kV" if voltages else "nothing"
        notes.history.append(f"tube voltage {tube_voltage_kv:g} kV as given; the files say {said} (KVP)")
        kvp = tube_voltage_kv
        # Slices that say different voltages are all of the given one.
        slices = [replace(one, kvp=kvp) for one in slices]
    if chosen.scouts:
        notes.history.append(f"{chosen.scouts} localizers left out")
    volume = stack(slices, notes)
    first = chosen.headers[0]
    return CTVolume(
        volume.hu,
        volume.grid,
        kvp,
        frame,
        covered=volume.covered,
        patient={keyword: value for keyword in _PATIENT if (value := _text(first, keyword)) is not None},
        history=tuple(notes.history),
        warnings=(*_warnings(chosen.headers), *notes.warnings),
    )


def _text(item: Item, keyword: str) -> str | None:
    """Text of an element of no bearing on the image: None where it cannot be read."""
    try:
        return item.text(keyword)
    except InputError:
        return None


def _warnings(headers: Sequence[Item]) -> list[str]:
    """Warnings of all slices, one of those that differ in numbers alone: with the slices' number where they differ."""
    alike: dict[str, dict[Path, str]] = {}
    for header in headers:
        for line in header.notes.warnings:
            text = _without_file(line, header.path)
            alike.setdefault(_DIGITS.sub("0", text), {}).setdefault(header.path, line)
    merged = []
    for of_slices in alike.values():
        (path, first), *_ = of_slices.items()
        same = len(set(of_slices.values())) == 1
        merged.append(first if same else f"{_without_file(first, path)} ({len(of_slices)} slices)")
    return merged


def _without_file(text: str, path: Path) -> str:
    return text.removeprefix(f"{path.name}: ")


def _check_person(headers: Sequence[Item]) -> None:
    """InputError where slices of one series are of different people; what a slice leaves out is no difference."""
    for keyword in _SAME_PERSON:
        first: dict[str, Item] = {}
        for header in headers:
            first.setdefault("".join((_text(header, keyword) or "").casefold().split()), header)
        first.pop("", None)
        if len(first) > 1:
            one, other, *_ = first.values()
            raise FileError(
                other.path,
                f"{name_of(keyword)} is not that of {one.path.name} in the same series: slices of {len(first)} people "
                "cannot be one CT; give the files of one of them only",
            )


def _files(path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[list[Path], bool, str]:
    """The files, True where the user lists them by name, and a name of the place for messages."""
    if not isinstance(path, (str, os.PathLike)):
        files = [Path(one) for one in path]
        return files, True, str(files[0].parent) if files else "the list of files"
    place = Path(path)
    if not place.exists():
        raise FileError(place, "no such file or folder")
    if place.is_file() and not is_dicomdir(place):
        refuse_packed(place)
        return [place], True, str(place)
    folder = place.parent if place.is_file() else place
    return sorted(file for file in folder.rglob("*") if file.is_file()), False, str(folder)


def _all_series(path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[list[_Series], str]:
    """All CT series among the files, and a name of the place for messages."""
    files, listed, label = _files(path)
    groups: dict[str, list[Item]] = {}
    scouts: Counter[str] = Counter()
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
            scouts[uid] += 1
        else:
            groups.setdefault(uid, []).append(header)
    if not groups and foreign:
        raise foreign[0]
    if not groups:
        aside = f", {scouts.total()} localizers left aside" if scouts else ""
        packed = [file.name for file in files if file.name.lower().endswith(_ARCHIVES)]
        if packed:
            aside += f"; {packed[0]} is packed: unpack it and give the folder of its slices"
        raise FileError(label, f"no CT slice (DICOM CT Image Storage) among {len(files)} files{aside}")
    _join_nameless(groups)
    if foreign:
        # A series has no warnings of its own: its first slice carries them.
        for group in groups.values():
            group[0].notes.warn(f"CT: {len(foreign)} files of the folder were left aside: {foreign[0]}")
    return [_Series(uid, tuple(group), scouts[uid]) for uid, group in groups.items()], label


def _join_nameless(groups: dict[str, list[Item]]) -> None:
    """Put slices without SeriesInstanceUID into the only series there is, or take them for one."""
    if "" not in groups or len(groups) > 2:
        return
    nameless = groups.pop("")
    for header in nameless:
        header.notes.warn(f"CT: {name_of('SeriesInstanceUID')} is missing: taken for slices of one series")
    if groups:
        next(iter(groups.values())).extend(nameless)
    else:
        groups[""] = nameless


def _says_ct(file: Path) -> bool:
    """Tell from its bytes whether a file that cannot be used is a CT slice."""
    return _SAYS_CT.search(first_bytes(file)) is not None


def _header(file: Path, listed: bool) -> Item | None:
    """Header of a CT slice; None for files that are something else. A file listed by name must be DICOM."""
    if not listed and not looks_like_dicom(first_bytes(file)):
        return None
    header = open_dicom(file, pixels=False)
    kind = header.text("SOPClassUID")
    if kind is None:
        # A DICOMDIR names its class in the meta information only.
        with header.reading("(0002,0002) MediaStorageSOPClassUID"):
            kind = str(getattr(header.data, "file_meta", {}).get("MediaStorageSOPClassUID", CTImageStorage))
        if kind == CTImageStorage:
            raise header.error("SOPClassUID is missing: the file is cut short or damaged")
    if kind in _MULTI_FRAME:
        raise header.error(
            f"SOPClassUID is {_MULTI_FRAME[kind]}, many slices in one file, which is not read yet: export the series "
            "as classic CT, one file a slice (e.g. with dcm4che's emf2sf)"
        )
    if kind != CTImageStorage:
        if CTImageStorage.startswith(kind):
            raise header.error(f"SOPClassUID is {kind}: the file is cut short or damaged")
        return None
    if header.value("Rows") is None:
        raise header.error("Rows is missing: the file is cut short or damaged")
    return header


def _chosen(all_series: Sequence[_Series], wanted: str | int | None, label: str) -> _Series:
    """The series of that number or UID, else the only one that is axial."""
    listed = "; ".join(f"{one.described}, {shown(one.uid)}" for one in all_series)
    if wanted is not None:
        fits = [one for one in all_series if str(wanted).strip() in (one.uid, one.number)]
        problem = f"{'several CT series have' if fits else 'no CT series has'} the number or UID {wanted}"
    else:
        fits = [one for one in all_series if len(one.headers) >= _FEWEST_SLICES and one.axial]
        problem = _not_one(all_series, fits)
    if len(fits) == 1:
        return fits[0]
    raise FileError(label, f"{problem}; there are: {listed}")


def _not_one(all_series: Sequence[_Series], fits: Sequence[_Series]) -> str:
    """Why no series or none of several is taken, and what to do."""
    if fits:
        people = {_text(one.headers[0], "PatientID") for one in fits} - {None}
        apart = f" of {len(people)} people (PatientID)" if len(people) > 1 else ""
        return (
            f"{len(fits)} CT series{apart} would do: give the folder of one of them, or its number or UID (in spectac "
            "reconstruct --attenuation-option series=NUMBER)"
        )
    hint = ""
    if sum(len(one.headers) for one in all_series) == 1:
        hint = ": give the folder of all slices"
    elif unplaced := [one for one in all_series if not one.headers[0].numbers("ImageOrientationPatient")]:
        hint = f" ({name_of('ImageOrientationPatient')} is missing in {unplaced[0].headers[0].path.name})"
    return f"no axial CT of at least {_FEWEST_SLICES} slices{hint}"
