"""Files in, files out: `open_study` finds out by content what a file is; the formats have a module each."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.given import Given
from spectac.recon.io.packed import refuse_packed

if TYPE_CHECKING:
    from datetime import datetime

    from spectac.recon.collimator import Collimator
    from spectac.recon.types import Acquisition, Study

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HDF5_STARTS = (0, 512)
"""Where the signature may stand: our own files begin with a user block of 512 bytes (hdf5.py)."""

_MOST_FOLDERS = 10_000
"""Sub-folders that are looked into: a medium has a few hundred."""

_UNDERSTOOD = (
    "DICOM NM (raw TOMO), spectac's HDF5, an Interfile header (STIR, SIMIND), or a folder of DICOM NM files or of "
    "Interfile headers"
)


def open_study(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    nuclide: str | None = None,
    collimator: "Collimator | str | None" = None,
    radius_mm: float | None = None,
    head_angles_deg: Sequence[float] | None = None,
    rotation: str | None = None,
    step_deg: float | None = None,
    view_seconds: float | None = None,
    start: "datetime | None" = None,
    pixel_mm: tuple[float, float] | None = None,
    apply_cor: bool = False,
) -> "Study":
    """Study (w, v, z, u) from a file, the files of one acquisition or their folder, told apart by content, not name.

    The keywords replace or complete what the files say (see given.Given); the history notes it.
    Raises InputError, with the list of what is understood, for anything else.
    """
    if isinstance(collimator, str):
        from spectac.recon.collimator import collimator as by_name

        collimator = by_name(collimator)
    given = Given(
        nuclide=nuclide,
        collimator=collimator,
        radius_mm=radius_mm,
        head_angles_deg=None if head_angles_deg is None else tuple(head_angles_deg),
        rotation=rotation,
        step_deg=step_deg,
        view_seconds=view_seconds,
        start=start,
        pixel_mm=pixel_mm,
        apply_cor=apply_cor,
    )
    return read_study([path] if isinstance(path, (str, os.PathLike)) else path, given)


def read_study(paths: Sequence[str | os.PathLike[str]], given: Given) -> "Study":
    """As `open_study`, with what the user says in one object."""
    sources = [Path(path) for path in paths]
    if not sources:
        raise InputError("a study needs at least one file, got an empty list")
    for source in sources:
        if not source.exists():
            raise InputError(f"{source}: no such file or folder")
        if len(sources) > 1 and source.is_dir():
            raise InputError(
                f"{source}: a folder among several paths: give one folder, or the files of one acquisition"
            )
    notes: list[str] = []
    if len(sources) == 1:
        sources = [_where_it_lies(sources[0], notes)]
    kinds = {path: _kind_of_folder(path) if path.is_dir() else _kind_of_file(path) for path in sources}
    kind = kinds[sources[0]]
    if other := next((path for path, one in kinds.items() if one != kind), None):
        raise InputError(f"{other}: is {kinds[other]}, {sources[0].name} is {kind}: files of one acquisition are alike")
    if given.apply_cor and kind != "DICOM":
        raise InputError(f"{sources[0]}: --apply-cor needs DICOM's CenterOfRotationOffset, which {kind} does not have")
    if kind == "HDF5" and len(sources) > 1:
        raise InputError(f"{sources[1]}: an HDF5 study holds a whole acquisition: give one file")
    if kind == "DICOM":
        from spectac.recon.io.dicom import nm as dicom_nm

        study = dicom_nm.read_study(sources, given)
    elif kind == "HDF5":
        from spectac.recon.io import hdf5

        study = _with_overrides(hdf5.read_study(sources[0]), given)
    else:
        from spectac.recon.io.interfile import study as interfile

        study = interfile.read_study(sources, given)
    from spectac.recon.io.dicom.allowed_values import fitted

    patient, changed = fitted(study.patient)
    return replace(
        study,
        patient=patient,
        history=tuple(_encodable(line) for line in study.history),
        warnings=tuple(_encodable(line) for line in (*study.warnings, *notes, *changed)),
    )


def _encodable(text: str) -> str:
    """Text that every file can hold: bytes of a file's name that are no UTF-8 become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _where_it_lies(path: Path, notes: list[str]) -> Path:
    """The same path; for a DICOMDIR or a folder of folders the one sub-folder that holds raw projections, with a note.

    Raises InputError, listing them, where several sub-folders hold some.
    """
    top = path
    if path.is_file():
        from spectac.recon.io.dicom.elements import is_dicomdir

        if not is_dicomdir(path):
            return path
        top = path.parent
    if _holds_raw(top):
        return top
    found = [folder for folder in _folders_below(top) if _holds_raw(folder)]
    if len(found) > 1:
        listed = ", ".join(str(folder.relative_to(top)) for folder in found[:8])
        more = f" and {len(found) - 8} more" if len(found) > 8 else ""
        raise InputError(
            f"{path}: raw projections lie in several sub-folders ({listed}{more}): give one of them, or the files of "
            "one acquisition"
        )
    if not found and path != top:
        raise InputError(f"{path}: the medium of this DICOMDIR holds no raw projections (NM TOMO)")
    if not found:
        return top
    notes.append(f"read from the sub-folder {found[0].relative_to(top)} of {top.name}")
    return found[0]


def _folders_below(top: Path) -> Iterator[Path]:
    """Sub-folders at any depth, by name, the first _MOST_FOLDERS of them."""
    walked = (Path(place) for place, names, _ in os.walk(top) if names.sort() is None)
    return (folder for folder in islice(walked, _MOST_FOLDERS) if folder != top)


def _holds_raw(folder: Path) -> bool:
    """Tell whether a folder holds, directly, raw projections in DICOM or an Interfile header."""
    from spectac.recon.io.dicom import nm as dicom_nm
    from spectac.recon.io.interfile import study as interfile

    return dicom_nm.holds_raw(folder) or any(one.is_file() and interfile.is_header(one) for one in folder.iterdir())


def _kind_of_file(path: Path) -> str:
    """Find out by content: "HDF5", "Interfile" or "DICOM"; InputError for anything else."""
    from spectac.recon.io.interfile.header import looks_like_interfile

    with path.open("rb") as file:
        start = file.read(4096)
    if any(start.startswith(_HDF5_SIGNATURE, place) for place in _HDF5_STARTS):
        return "HDF5"
    if looks_like_interfile(start):
        return "Interfile"
    from spectac.recon.io.dicom.elements import looks_like_dicom

    if looks_like_dicom(start):
        return "DICOM"
    refuse_packed(path)
    raise InputError(f"{path}: cannot tell what this file is. Understood are: {_UNDERSTOOD}")


def _kind_of_folder(path: Path) -> str:
    """Find out by the files in it: "Interfile" or "DICOM"; InputError where raw projections of both may be there."""
    from spectac.recon.io.dicom import nm as dicom_nm
    from spectac.recon.io.interfile import study as interfile

    files = [entry for entry in sorted(path.iterdir()) if entry.is_file()]
    if not any(interfile.is_header(entry) for entry in files):
        if dicom_nm.holds_dicom(path):
            return "DICOM"
        for entry in files:
            if entry.suffix.lower() in (".gz", ".zip", ".7z", ".bz2", ".xz", ".rar", ".zst", ".h5", ".hdf5"):
                raise InputError(f"{path}: no raw projections in this folder but {entry.name}: unpack it, or name it")
        raise InputError(f"{path}: no raw projections in this folder; understood are: {_UNDERSTOOD}")
    if dicom_nm.holds_dicom_nm(path):
        raise InputError(f"{path}: holds DICOM NM files and Interfile headers: name the file to read")
    return "Interfile"


def files_of(path: str | os.PathLike[str]) -> list[Path]:
    """All files that reading `path` takes numbers from: a folder's files, a header's data and orbit, a side-car."""
    source = Path(path)
    if source.is_file():
        from spectac.recon.io.dicom.elements import is_dicomdir

        source = source.parent if is_dicomdir(source) else source
    if source.is_dir():
        return sorted(file for file in source.rglob("*") if file.is_file())
    found = [source]
    with source.open("rb") as file:
        start = file.read(4096)
    from spectac.recon.io.interfile.header import beside, looks_like_interfile, read_header

    if looks_like_interfile(start):
        header = read_header(source)
        named = (header.text("name of data file"), header.text("non-uniform orbit file", comments=True))
        found += [there for name in named if name is not None and (there := beside(header, name)) is not None]
    for ending in (".nii.gz", ".nii"):
        side_car = source.with_name(source.name[: -len(ending)] + ".json")
        if source.name.lower().endswith(ending) and side_car.is_file():
            found.append(side_car)
    return found


def _with_overrides(study: "Study", given: Given) -> "Study":
    """Study with the user's values in place of the file's, and a line of history for each."""
    acquisition, views = study.acquisition, study.acquisition.views
    for name, refused in (("rotation", given.rotation), ("step_deg", given.step_deg)):
        if refused is not None:
            raise InputError(
                f"--{name.replace('_', '-')} cannot change a study in HDF5, which has an angle for each view"
            )
    changes: dict[str, Any] = {
        "nuclide": given.nuclide,
        "collimator": given.collimator,
        "radii_mm": None if given.radius_mm is None else np.full(views, given.radius_mm),
        "view_angles_deg": None if given.head_angles_deg is None else _turned_heads(acquisition, given.head_angles_deg),
        "start": given.start,
        "pixel_mm": given.pixel_mm,
    }
    changed = {name: value for name, value in changes.items() if value is not None}
    if given.view_seconds is not None:
        # The views of each head are taken to follow one another.
        changed |= {"view_seconds": np.full(views, given.view_seconds), "view_start_s": None}
    if not changed:
        return study
    return replace(study, acquisition=replace(acquisition, **changed), history=(*study.history, *given.history()))


def _turned_heads(acquisition: "Acquisition", head_angles_deg: Sequence[float]) -> np.ndarray:
    """View angles (v,) after each head was turned as a whole so that its first view lies at the angle given for it."""
    detector = np.asarray(acquisition.detector)
    heads = np.unique(detector)
    if len(heads) != len(head_angles_deg):
        raise InputError(
            f"--head-angles needs one angle for each of the {len(heads)} heads, got {len(head_angles_deg)}"
        )
    angles = np.array(acquisition.view_angles_deg)
    for head, wanted in zip(heads, head_angles_deg, strict=True):
        own = detector == head
        angles[own] += wanted - angles[own][0]
    return np.mod(angles, 360.0)
