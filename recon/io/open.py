"""A study from files of any format: the format is picked by content, never by name, and refused where it is unsure."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from spectac.recon.errors import FileError, InputError
from spectac.recon.io.atomic import results_in
from spectac.recon.io.content import first_bytes, nifti_side_car, refuse_packed
from spectac.recon.io.dicom import nm as dicom_nm
from spectac.recon.io.dicom.allowed_values import fitted
from spectac.recon.io.dicom.elements import is_dicomdir, looks_like_dicom
from spectac.recon.io.interfile.data import beside
from spectac.recon.io.interfile.header import is_header, looks_like_interfile, read_header
from spectac.recon.settings import StudySettings

if TYPE_CHECKING:
    from spectac.recon.types import Study

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HDF5_STARTS = (0, 512)
"""Where the signature may stand: our own files begin with a user block of 512 bytes (hdf5.py)."""

_READERS = {"DICOM": "dicom.nm", "HDF5": "hdf5", "Interfile": "interfile.study"}
"""Module of each format's read_study."""

_MOST_FOLDERS = 10_000
"""Sub-folders that are looked into: a medium has a few hundred."""

_MOST_LISTED = 8
"""Folders that an error names."""

_PACKED_ENDINGS = (".gz", ".zip", ".7z", ".bz2", ".xz", ".rar", ".zst", ".h5", ".hdf5")
"""Files of a folder that may hold the study but are not read as part of a folder."""

_UNDERSTOOD = (
    "DICOM NM (raw TOMO), spectac's HDF5, an Interfile header (STIR, SIMIND), or a folder of DICOM NM files or of "
    "Interfile headers"
)


def open_study(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], settings: StudySettings | None = None
) -> "Study":
    """Study from a file, the files of one acquisition or their folder, told apart by content, not by name.

    Parameters
    ----------
    path
        DICOM NM (raw TOMO), spectac's HDF5, Interfile headers of STIR or SIMIND, or one folder; several paths are the
        files of one acquisition.
    settings
        Values that replace or complete what the files say; a line of the study's history names each.

    Returns
    -------
    Study
        Counts (w, v, z, u), acquisition and energy windows.

    Raises
    ------
    InputError
        For anything else, with the list of what is understood; names the file and what to do.

    Examples
    --------
    >>> import tempfile
    >>> from spectac.recon import Acquisition, EnergyWindow, Study, StudySettings
    >>> from spectac.recon.io.hdf5 import write_study
    >>> acquisition = Acquisition([0, 90], [200, 200], (1, 2), (4, 4), [20, 20], "I-123", None)
    >>> file = tempfile.mkdtemp() + "/study.h5"
    >>> write_study(file, Study(acquisition, (EnergyWindow("peak", 143, 175),), [[[[1, 2]], [[3, 4]]]]))
    >>> open_study(file, StudySettings(radius_mm=150.0)).acquisition.radii_mm
    array([150., 150.])
    """
    given = StudySettings() if settings is None else settings
    sources = [Path(path)] if isinstance(path, (str, os.PathLike)) else [Path(one) for one in path]
    if not sources:
        raise InputError("a study needs at least one file, got an empty list")
    for source in sources:
        if not source.exists():
            raise FileError(source, "no such file or folder")
        if len(sources) > 1 and source.is_dir():
            raise FileError(source, "a folder among several paths: give one folder, or the files of one acquisition")
    notes: list[str] = []
    if len(sources) == 1:
        sources = [_where_it_lies(sources[0], notes)]
    kinds = [_kind_of_folder(path) if path.is_dir() else _kind_of_file(path) for path in sources]
    for path, kind in zip(sources, kinds, strict=True):
        if kind != kinds[0]:
            raise FileError(path, f"is {kind}, {sources[0].name} is {kinds[0]}: files of one acquisition are alike")
    if given.apply_cor and kinds[0] != "DICOM":
        raise FileError(sources[0], f"--apply-cor needs DICOM's CenterOfRotationOffset, which {kinds[0]} does not have")
    study = import_module(f"spectac.recon.io.{_READERS[kinds[0]]}").read_study(sources, given)
    patient, changed = fitted(study.patient)
    camera = {name: getattr(given, name) for name in ("energy_resolution", "crystal_mm")}
    told = {name: value for name, value in camera.items() if value is not None}
    return replace(
        study,
        acquisition=replace(study.acquisition, **told) if told else study.acquisition,
        patient=patient,
        history=tuple(map(_encodable, study.history)),
        warnings=tuple(map(_encodable, (*study.warnings, *notes, *changed))),
    )


def _encodable(text: str) -> str:
    """Text that every file can hold: bytes of a file's name that are no UTF-8 become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _where_it_lies(path: Path, notes: list[str]) -> Path:
    """The same path; for a DICOMDIR or a folder of folders the one sub-folder that holds raw projections, with a note.

    Raises InputError, listing them, where several sub-folders hold some.
    """
    if path.is_file() and not is_dicomdir(path):
        return path
    top = path.parent if path.is_file() else path
    if _holds_raw(top):
        return top
    folders = [folder for folder in _folders_below(top) if _holds_raw(folder)]
    if len(folders) > 1:
        names = ", ".join(str(folder.relative_to(top)) for folder in folders[:_MOST_LISTED])
        more = f" and {len(folders) - _MOST_LISTED} more" if len(folders) > _MOST_LISTED else ""
        raise FileError(
            path,
            f"raw projections lie in several sub-folders ({names}{more}): give one of them, or the files of one "
            "acquisition",
        )
    if folders:
        notes.append(f"read from the sub-folder {folders[0].relative_to(top)} of {top.name}")
        return folders[0]
    if path != top:
        raise FileError(path, "the medium of this DICOMDIR holds no raw projections (NM TOMO)")
    return top


def _folders_below(top: Path) -> Iterator[Path]:
    """Sub-folders at any depth, by name, the first _MOST_FOLDERS of them."""
    walked = (Path(place) for place, names, _ in os.walk(top) if names.sort() is None)
    return (folder for folder in islice(walked, _MOST_FOLDERS) if folder != top)


def _holds_raw(folder: Path) -> bool:
    """Tell whether a folder holds, directly, raw projections in DICOM or an Interfile header."""
    return dicom_nm.holds_raw(folder) or any(is_header(entry) for entry in _files_in(folder))


def _files_in(folder: Path) -> list[Path]:
    return [entry for entry in sorted(folder.iterdir()) if entry.is_file()]


def format_of(path: Path) -> str | None:
    """Format that the first bytes of a file show: "HDF5", "Interfile", "DICOM", or None.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str or None
        None for a file of another format.

    Raises
    ------
    OSError
        As the file system does.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "projections.txt")
    >>> _ = file.write_text("!INTERFILE :=")
    >>> format_of(file)
    'Interfile'
    """
    start = first_bytes(path)
    if any(start.startswith(_HDF5_SIGNATURE, place) for place in _HDF5_STARTS):
        return "HDF5"
    if looks_like_interfile(start):
        return "Interfile"
    return "DICOM" if looks_like_dicom(start) else None


def _kind_of_file(path: Path) -> str:
    """Format of a file; InputError where it is none of a study."""
    kind = format_of(path)
    if kind is None:
        refuse_packed(path)
        raise FileError(path, f"cannot tell what this file is. Understood are: {_UNDERSTOOD}")
    return kind


def _kind_of_folder(path: Path) -> str:
    """Format of the files in a folder; InputError where raw projections of two may be there."""
    files = _files_in(path)
    if any(map(is_header, files)):
        if dicom_nm.holds_dicom_nm(path):
            raise FileError(path, "holds DICOM NM files and Interfile headers: name the file to read")
        return "Interfile"
    if dicom_nm.holds_dicom(path):
        return "DICOM"
    for entry in files:
        if entry.suffix.lower() in _PACKED_ENDINGS:
            raise FileError(path, f"no raw projections in this folder but {entry.name}: unpack it, or name it")
    raise FileError(path, f"no raw projections in this folder; understood are: {_UNDERSTOOD}")


def files_of(path: str | os.PathLike[str]) -> list[Path]:
    """All files that reading `path` takes numbers from.

    Parameters
    ----------
    path : path-like
        A folder (its files), an Interfile header (with data and orbit file), a NIfTI file (with its side-car), or any
        other file.

    Returns
    -------
    list of Path
        Files that exist. Those of a folder are sorted, with those of its sub-folders; results that `reconstruct` and
        `compare` wrote there are left out.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("mu.nii", "mu.json", "other.json"):
    ...     (folder / name).touch()
    >>> [file.name for file in files_of(folder / "mu.nii")]
    ['mu.nii', 'mu.json']
    """
    source = Path(path)
    if source.is_file() and is_dicomdir(source):
        source = source.parent
    if source.is_dir():
        return sorted(_files_below(source))
    files: list[Path | None] = [source]
    if is_header(source):
        header = read_header(source)
        names = (header.text("name of data file"), header.text("non-uniform orbit file", comments=True))
        files += [beside(header, name) for name in names if name is not None]
    files.append(nifti_side_car(source))
    return [file for file in files if file is not None and file.is_file()]


def _files_below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        results = results_in(Path(place), ("record.json",))
        folders[:] = [name for name in folders if name not in results]
        yield from (file for name in files if name not in results and (file := Path(place, name)).is_file())
