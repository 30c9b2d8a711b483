"""DICOM NM: raw SPECT projections (TOMO) become a Study, reconstructions (RECON TOMO) an Image, and back.

What is read and how each difference between vendors is handled stands in docs/formats.md.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from spectac.recon.errors import FileError, InputError
from spectac.recon.io.content import first_bytes
from spectac.recon.io.dicom.elements import Item, looks_like_dicom, open_dicom
from spectac.recon.io.dicom.nm_energy_windows import UnfitWindowsError
from spectac.recon.io.dicom.nm_kind import kind_of
from spectac.recon.io.dicom.nm_merge import Part, merged, with_one_axis, without_copies
from spectac.recon.io.dicom.nm_nuclide import named_nuclides
from spectac.recon.io.dicom.nm_read_image import read_image
from spectac.recon.io.dicom.nm_read_projections import read_projections
from spectac.recon.io.dicom.nm_write_image import check_header, write_image
from spectac.recon.io.dicom.nm_write_projections import write_study
from spectac.recon.nuclides import NUCLIDES
from spectac.recon.settings import StudySettings
from spectac.recon.types import Study

__all__ = ["check_header", "read_image", "read_study", "write_image", "write_study"]


def read_study(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], given: StudySettings | None = None
) -> Study:
    """Study (w, v, z, u) from an NM TOMO file, from the files of one acquisition, or from a folder that holds them.

    Parameters
    ----------
    path : path-like or sequence of path-like
        Several files may hold windows or heads of one acquisition.
    given : StudySettings
        Goes before what the files say; for several files it applies to each.

    Returns
    -------
    Study
        Views in the order (detector, rotation, time); z grows to superior, u to the detector's right.

    Raises
    ------
    InputError
        Naming file, tag and keyword, for what is missing, contradictory or not supported.
    """
    notes: list[str] = []
    paths = [Path(one) for one in ([path] if isinstance(path, (str, os.PathLike)) else path)]
    if not paths:
        raise InputError("a DICOM study needs at least one file, got an empty list")
    if len(paths) == 1 and paths[0].is_dir():
        paths, notes = _raw_files_in(paths[0])
    parts = without_copies(_read_all(paths, given or StudySettings(), notes), notes)
    return merged([part.path for part in parts], with_one_axis(parts), notes)


def holds_dicom(folder: Path) -> bool:
    """Tell whether a folder holds, directly, at least one DICOM file of any kind.

    Parameters
    ----------
    folder : Path
        Folder, whose sub-folders are not looked into.

    Returns
    -------
    bool
        False for an empty folder.

    Examples
    --------
    >>> import tempfile
    >>> holds_dicom(Path(tempfile.mkdtemp()))
    False
    """
    return any(True for _ in _dicom_in(folder))


def holds_dicom_nm(folder: Path) -> bool:
    """Tell whether a folder holds, directly, at least one NM image of any kind.

    Parameters
    ----------
    folder : Path
        Folder, whose sub-folders are not looked into.

    Returns
    -------
    bool
        True for raw projections, reconstructions and other NM images.

    Examples
    --------
    >>> import tempfile
    >>> holds_dicom_nm(Path(tempfile.mkdtemp()))
    False
    """
    return any(kind_of(item) is not None for item in _dicom_in(folder))


def holds_raw(folder: Path) -> bool:
    """Tell whether a folder holds, directly, at least one file of raw projections.

    Parameters
    ----------
    folder : Path
        Folder, whose sub-folders are not looked into.

    Returns
    -------
    bool
        True for NM TOMO alone.

    Examples
    --------
    >>> import tempfile
    >>> holds_raw(Path(tempfile.mkdtemp()))
    False
    """
    return any(kind_of(item) == "TOMO" for item in _dicom_in(folder))


def _dicom_in(folder: Path) -> Iterator[Item]:
    for entry in sorted(folder.iterdir()):
        if entry.is_file() and looks_like_dicom(first_bytes(entry)):
            yield open_dicom(entry, pixels=False)


def _raw_files_in(folder: Path) -> tuple[list[Path], list[str]]:
    """Files of raw projections in a folder, by name, and a note on the DICOM files that were left out."""
    raw: list[Path] = []
    others: Counter[str] = Counter()
    for item in _dicom_in(folder):
        kind = kind_of(item)
        if kind == "TOMO":
            raw.append(item.path)
        elif kind is None:
            others[item.text("Modality") or "other"] += 1
        else:
            others[f"NM {kind or 'without ImageType'}"] += 1
    listed = ", ".join(f"{count} x {what}" for what, count in others.items())
    if not raw:
        raise FileError(folder, f"no raw projections (NM TOMO) in this folder, only {listed or 'no DICOM files'}")
    return raw, [f"left out of {folder.name}: {listed}"] if others else []


def _read_all(paths: Sequence[Path], given: StudySettings, notes: list[str]) -> list[Part]:
    """Every file by itself; of several those without a usable energy window are left out, with a note."""
    if len(paths) == 1:
        return [read_projections(paths[0], given, None)]
    nuclides = set().union(*(named_nuclides(open_dicom(path, pixels=False)) for path in paths)) & set(NUCLIDES)
    shared = nuclides.pop() if len(nuclides) == 1 else None
    parts, unfit = [], []
    for path in dict.fromkeys(paths):
        try:
            parts.append(read_projections(path, given, shared))
        except UnfitWindowsError as error:
            unfit.append(error)
            notes.append(f"{path.name} was left out: {error.args[1]}")
    if not parts:
        raise unfit[0]
    return parts
