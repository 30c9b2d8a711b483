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
_UNDERSTOOD = "spectac's HDF5, an Interfile header (STIR, SIMIND), or a folder of Interfile headers"


def open_study(
    path: str | os.PathLike[str],
    *,
    nuclide: str | None = None,
    collimator: "Collimator | None" = None,
    radius_mm: float | None = None,
    head_angles_deg: Sequence[float] | None = None,
) -> "Study":
    """Study (w, v, z, u) from a file or folder, told apart by content, never by name.

    `nuclide`, `collimator`, `radius_mm` (axis to collimator face) and `head_angles_deg` (first view of each head, in
    our convention) replace what the file says; the history notes it.
    Raises InputError, with the list of what is understood, for anything else.
    """
    source = Path(path)
    if source.is_dir():
        from spectac.recon.io import interfile

        return interfile.read_study(
            source, nuclide=nuclide, collimator=collimator, radius_mm=radius_mm, head_angles_deg=head_angles_deg
        )
    if not source.is_file():
        raise InputError(f"{path}: no such file or folder")
    with source.open("rb") as file:
        start = file.read(4096)
    if start.startswith(_HDF5_SIGNATURE):
        from spectac.recon.io import hdf5

        return _with_overrides(hdf5.read_study(source), nuclide, collimator, radius_mm, head_angles_deg)
    if start[128:132] == b"DICM":
        raise InputError(f"{path}: a DICOM file; DICOM NM comes with the next version. Understood now: {_UNDERSTOOD}")
    from spectac.recon.io.interfile_header import looks_like_interfile

    if looks_like_interfile(start):
        from spectac.recon.io import interfile

        return interfile.read_study(
            source, nuclide=nuclide, collimator=collimator, radius_mm=radius_mm, head_angles_deg=head_angles_deg
        )
    raise InputError(f"{path}: cannot tell what this file is. Understood are: {_UNDERSTOOD}")


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
