"""NIfTI images and mu-maps. NIfTI's world is RAS+; ours is LPS: the one place where the two meet is here."""

import gzip
import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from spectac.recon.errors import InputError
from spectac.recon.io.atomic import written
from spectac.recon.types import Array, Grid, Image, MuMap

_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_ZYX = [2, 1, 0, 3]
"""Columns of the affine: ours belong to (z, y, x, 1), NIfTI's to (x, y, z, 1)."""

_MM_PER = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""By the lowest three bits of xyzt_units: unknown, metres, millimetres, microns."""


def write_image(path: str | os.PathLike[str], image: Image, about: Mapping[str, object] | None = None) -> None:
    """Write an image as .nii or .nii.gz (float32), with unit and history in a JSON side-car of the same name.

    `about`: further keys of the side-car, ready for JSON (see sidecar.bids_keys); Units and History are the image's.
    The affine is exact to NIfTI-1's float32. Raises InputError for another ending, OSError as the file system does.
    """
    notes = {**(about or {}), "Units": image.unit, "History": list(image.history)}
    _write(path, image.values, image.grid, notes, image.unit)


def write_mu_map(path: str | os.PathLike[str], mu: MuMap, notes: Sequence[str] = ()) -> None:
    """Write a mu-map in 1/cm as .nii or .nii.gz (float32), with its energy in a JSON side-car of the same name.

    `notes` on where it came from go into the side-car.
    """
    about = f"mu 1/cm at {mu.energy_kev:g} keV"
    more = {"Notes": list(notes)} if notes else {}
    _write(path, mu.per_cm, mu.grid, {"Units": "1/cm", "EnergyKeV": mu.energy_kev, **more}, about)


def write_labels(path: str | os.PathLike[str], labels: Array, grid: Grid, names: Mapping[int, str]) -> None:
    """Write labels (z, y, x), 0 to 255, as .nii or .nii.gz (uint8), with the regions' names in a JSON side-car."""
    notes = {"Units": "label", "Names": {str(label): name for label, name in names.items()}}
    _write(path, labels, grid, notes, "labels", np.uint8)


def read_mu_map(path: str | os.PathLike[str], energy_kev: float) -> MuMap:
    """Mu-map in 1/cm, at `energy_kev` unless the side-car's "EnergyKeV" says otherwise.

    Raises InputError for what is not a 3-D NIfTI with a position, for NaN and negative values, and for another unit.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused where it is used
        values, grid, notes = _read(path)
    unit = notes.get("Units", "1/cm")
    if unit not in ("1/cm", "cm-1", "cm^-1"):
        raise InputError(f"{_side_car(Path(path))}: 'Units' is {unit!r}: a mu-map must be in 1/cm")
    energy = notes.get("EnergyKeV", energy_kev)
    if isinstance(energy, bool) or not isinstance(energy, (int, float)):
        raise InputError(f"{_side_car(Path(path))}: 'EnergyKeV' must be a number, got {energy!r}")
    try:
        return MuMap(values, grid, float(energy))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_image(path: str | os.PathLike[str], unit: str = "relative") -> Image:
    """Image in `unit` unless the side-car's "Units" says otherwise; its "History" is kept.

    Raises InputError for what is not a 3-D NIfTI with a position, and for NaN.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused where it is used
        values, grid, notes = _read(path)
    history = notes.get("History", [])
    if not isinstance(history, list) or not all(isinstance(line, str) for line in history):
        raise InputError(f"{_side_car(Path(path))}: 'History' must be a list of texts")
    try:
        return Image(values, grid, notes.get("Units", unit), history=tuple(history))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_labels(path: str | os.PathLike[str]) -> tuple[Array, Grid, dict[int, str]]:
    """Labels (z, y, x) int64, their grid, and the names that the side-car gives them.

    Raises InputError for what is not a 3-D NIfTI with a position, and for values that are no labels.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        values, grid, notes = _read(path)
    if not (np.isfinite(values).all() and values.min(initial=0) >= 0 and (values == np.rint(values)).all()):
        raise InputError(f"{path}: labels must be whole numbers of at least 0")
    names = notes.get("Names", {})
    if not isinstance(names, dict) or not all(str(label).isdigit() for label in names):
        raise InputError(f"{_side_car(Path(path))}: 'Names' must give a name to each label's number")
    return values.astype(np.int64), grid, {int(label): str(name) for label, name in names.items()}


def _side_car(path: Path) -> Path:
    """Name of the JSON file that belongs to a NIfTI file; InputError for another ending."""
    for ending in (".nii.gz", ".nii"):
        if path.name.lower().endswith(ending) and len(path.name) > len(ending):
            return path.with_name(path.name[: -len(ending)] + ".json")
    raise InputError(f"{path}: a NIfTI file must end in .nii or .nii.gz")


def _write(
    path: str | os.PathLike[str], values: Array, grid: Grid, notes: dict[str, Any], about: str, dtype: type = np.float32
) -> None:
    target = Path(path)
    side_car = _side_car(target)
    affine_ras = _LPS_FROM_RAS @ grid.affine_lps[:, _ZYX]
    file = nibabel.Nifti1Image(np.ascontiguousarray(values.transpose(2, 1, 0), dtype=dtype), affine_ras)
    file.set_sform(affine_ras, code="scanner")
    file.set_qform(affine_ras, code="scanner")
    file.header.set_xyzt_units("mm", "sec")
    file.header["descrip"] = about.encode("ascii", "replace")[:79]
    with written(target) as temporary, written(side_car) as temporary_notes:
        nibabel.save(file, temporary)
        temporary_notes.write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")


def _read(path: str | os.PathLike[str]) -> tuple[Array, Grid, dict[str, Any]]:
    """Values (z, y, x) float32 turned so that z is nearest to superior, y to posterior, x to left; grid; side-car."""
    source = Path(path)
    if not source.is_file():
        raise InputError(f"{path}: no such file")
    notes = _read_side_car(_side_car(source))
    try:
        file = nibabel.load(source)
        if not isinstance(file, nibabel.Nifti1Image):
            raise InputError(f"{path}: {type(file).__name__}, not a NIfTI file")
        _check_length(file, source)
        data = np.asanyarray(file.dataobj)
    except (ImageFileError, HeaderDataError, OSError, EOFError, OverflowError, zlib.error, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a NIfTI file, damaged or cut short ({' '.join(str(error).split())})") from error
    shape = data.shape
    if len(shape) > 3 and all(length == 1 for length in shape[3:]):
        data = data.reshape(shape[:3])
    if data.ndim != 3:
        raise InputError(f"{path}: one 3-D image is needed, it holds an array of shape {shape}")
    if data.dtype.kind not in "fiu":
        raise InputError(f"{path}: real numbers are needed, it holds {data.dtype}")
    affine = _affine_ras(file, path)
    nearest = nibabel.orientations.io_orientation(affine)
    turn = nibabel.orientations.ornt_transform(nearest, nibabel.orientations.axcodes2ornt("LPS"))
    turned = nibabel.orientations.apply_orientation(data, turn).transpose(2, 1, 0)
    affine_lps = _LPS_FROM_RAS @ (affine @ nibabel.orientations.inv_ornt_aff(turn, data.shape))[:, _ZYX]
    lengths = np.linalg.norm(affine_lps[:3, :3], axis=0)
    grid = Grid(turned.shape, tuple(lengths.tolist()), affine_lps)
    return np.ascontiguousarray(turned, dtype=np.float32), grid, notes


def _check_length(file: nibabel.Nifti1Image, path: Path) -> None:
    """InputError where the file holds less than its header promises: nibabel reserves memory for it beforehand."""
    promised = int(file.header.get_data_offset()) + math.prod(file.shape) * int(file.header.get_data_dtype().itemsize)
    if min(file.shape, default=0) < 1:
        raise InputError(f"{path}: its header gives an array of shape {file.shape}: it is damaged or holds no image")
    held = 0
    if path.name.lower().endswith(".gz"):
        with gzip.open(path) as content:
            while held < promised and (piece := content.read(min(1 << 20, promised - held))):
                held += len(piece)
    else:
        held = path.stat().st_size
    if held < promised:
        raise InputError(
            f"{path}: holds {held} bytes, its header promises {promised} for shape {file.shape}: damaged or cut short"
        )


def _affine_ras(file: nibabel.Nifti1Image, path: str | os.PathLike[str]) -> Array:
    """Affine in mm from the sform, else the qform; InputError where neither is set, or it is singular or sheared."""
    if not (int(file.header["sform_code"]) or int(file.header["qform_code"])):
        raise InputError(f"{path}: neither sform nor qform is set, so where the image lies is unknown: set one")
    affine = np.array(file.affine, dtype=np.float64)
    unit = int(file.header["xyzt_units"]) & 7
    if unit not in _MM_PER:
        raise InputError(f"{path}: xyzt_units holds {unit} as unit of length; NIfTI knows 0 to 3")
    affine[:3] *= _MM_PER[unit]
    if not np.isfinite(affine).all():
        raise InputError(f"{path}: its affine holds NaN or infinity")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() <= 0:
        raise InputError(f"{path}: its affine has an axis of length 0")
    cosines = affine[:3, :3] / lengths
    # 1e-3 is a shear of a tenth of a millimetre across a voxel row of 10 cm; float32 affines are good to 1e-6.
    if np.abs(cosines.T @ cosines - np.eye(3)).max() > 1e-3:
        raise InputError(f"{path}: its axes are not at right angles (shear): resample it to a plain grid first")
    return affine


def _read_side_car(path: Path) -> dict[str, Any]:
    """Contents of the JSON side-car, empty without one."""
    if not path.is_file():
        return {}
    try:
        notes = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(notes, dict):
        raise InputError(f"{path}: a JSON object is needed, it holds a {type(notes).__name__}")
    return notes
