"""Files in, files out: `open_study` finds out by content what a file is; the formats have a module each."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spectac.recon.errors import InputError

if TYPE_CHECKING:
    from spectac.recon.collimator import Collimator
    from spectac.recon.types import Acquisition, Study

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HDF5_STARTS = (0, 512)
"""Where the signature may stand: our own files begin with a user block of 512 bytes (hdf5.py)."""

_UNDERSTOOD = (
    "DICOM NM (raw TOMO), spectac's HDF5, an Interfile header (STIR, SIMIND), or a folder of DICOM NM files or of "
    "Interfile headers"
)


def open_study(
    path: str | os.PathLike[str],
    *,
    nuclide: str | None = None,
    collimator: "Collimator | str | None" = None,
    radius_mm: float | None = None,
    head_angles_deg: Sequence[float] | None = None,
    apply_cor: bool = False,
) -> "Study":
    """Study (w, v, z, u) from a file or folder, told apart by content, never by name.

    `nuclide`, `collimator` (or its name in the table), `radius_mm` (axis to collimator face) and `head_angles_deg`
    (first view of each head, in our convention) replace what the file says; the history notes it. `apply_cor` shifts
    the views by DICOM's CenterOfRotationOffset; other formats have none.
    Raises InputError, with the list of what is understood, for anything else.
    """
    source = Path(path)
    if isinstance(collimator, str):
        from spectac.recon.collimator import collimator as by_name

        collimator = by_name(collimator)
    if not source.exists():
        raise InputError(f"{path}: no such file or folder")
    kind = _kind_of_folder(source) if source.is_dir() else _kind_of_file(source)
    if apply_cor and kind != "DICOM":
        raise InputError(f"{path}: --apply-cor needs DICOM's CenterOfRotationOffset, which {kind} does not have")
    if kind == "DICOM":
        from spectac.recon.io import dicom_nm

        return dicom_nm.read_study(
            source,
            nuclide=nuclide,
            collimator=collimator,
            radius_mm=radius_mm,
            head_angles_deg=head_angles_deg,
            apply_cor=apply_cor,
        )
    if kind == "HDF5":
        from spectac.recon.io import hdf5

        return _with_overrides(hdf5.read_study(source), nuclide, collimator, radius_mm, head_angles_deg)
    from spectac.recon.io import interfile

    return interfile.read_study(
        source, nuclide=nuclide, collimator=collimator, radius_mm=radius_mm, head_angles_deg=head_angles_deg
    )


def _kind_of_file(path: Path) -> str:
    """Find out by content: "HDF5", "Interfile" or "DICOM"; InputError for anything else."""
    from spectac.recon.io.interfile_header import looks_like_interfile

    with path.open("rb") as file:
        start = file.read(4096)
    if any(start.startswith(_HDF5_SIGNATURE, place) for place in _HDF5_STARTS):
        return "HDF5"
    if looks_like_interfile(start):
        return "Interfile"
    from spectac.recon.io.dicom_file import looks_like_dicom

    if looks_like_dicom(start):
        return "DICOM"
    raise InputError(f"{path}: cannot tell what this file is. Understood are: {_UNDERSTOOD}")


def _kind_of_folder(path: Path) -> str:
    """Find out by the files in it: "Interfile" or "DICOM"; InputError where raw projections of both may be there."""
    from spectac.recon.io import dicom_nm, interfile

    headers = any(entry.is_file() and interfile.is_header(entry) for entry in path.iterdir())
    if not headers:
        return "DICOM" if dicom_nm.holds_dicom(path) else "Interfile"
    if dicom_nm.holds_dicom_nm(path):
        raise InputError(f"{path}: holds DICOM NM files and Interfile headers: name the file to read")
    return "Interfile"


def files_of(path: str | os.PathLike[str]) -> list[Path]:
    """All files that reading `path` takes numbers from: a folder's files, a header's data and orbit, a side-car."""
    source = Path(path)
    if source.is_dir():
        return sorted(file for file in source.rglob("*") if file.is_file())
    found = [source]
    with source.open("rb") as file:
        start = file.read(4096)
    from spectac.recon.io.interfile_header import beside, looks_like_interfile, read_header

    if looks_like_interfile(start):
        header = read_header(source)
        named = (header.text("name of data file"), header.text("non-uniform orbit file", comments=True))
        found += [there for name in named if name is not None and (there := beside(header, name)) is not None]
    for ending in (".nii.gz", ".nii"):
        side_car = source.with_name(source.name[: -len(ending)] + ".json")
        if source.name.lower().endswith(ending) and side_car.is_file():
            found.append(side_car)
    return found


def _with_overrides(
    study: "Study",
    nuclide: str | None,
    collimator: "Collimator | None",
    radius_mm: float | None,
    head_angles_deg: Sequence[float] | None,
) -> "Study":
    """Study with the caller's values in place of the file's, and a line of history for each."""
    acquisition, history = study.acquisition, list(study.history)
    if nuclide is not None:
        history.append(f"nuclide {acquisition.nuclide} of the file replaced by {nuclide}")
        acquisition = replace(acquisition, nuclide=nuclide)
    if collimator is not None:
        before = "unknown" if acquisition.collimator is None else acquisition.collimator.name
        history.append(f"collimator {before} of the file replaced by {collimator.name}")
        acquisition = replace(acquisition, collimator=collimator)
    if radius_mm is not None:
        history.append(f"radii of the file replaced by {radius_mm:g} mm")
        acquisition = replace(acquisition, radii_mm=np.full(acquisition.views, float(radius_mm)))
    if head_angles_deg is not None:
        acquisition = replace(acquisition, view_angles_deg=_turned_heads(acquisition, head_angles_deg))
        history.append(f"first views of the heads moved to {', '.join(f'{angle:g}' for angle in head_angles_deg)} deg")
    return (
        study if acquisition is study.acquisition else replace(study, acquisition=acquisition, history=tuple(history))
    )


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
