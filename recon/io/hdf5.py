"""spectac's own study file: HDF5 that holds every field of a Study without loss; layout in docs/formats.md."""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spectac.recon.collimator import Collimator
from spectac.recon.errors import InputError
from spectac.recon.io.sealed_hdf5 import flaw, sealed
from spectac.recon.types import Acquisition, Array, EnergyWindow, Injection, Study

FORMAT = "spectac-study"
VERSION = 1

_LABEL = "spectac-study"

_VIEW_FIELDS = ("view_angles_deg", "radii_mm", "view_seconds", "view_start_s", "detector", "u_offset_mm")
_COLLIMATOR_NUMBERS = ("hole_mm", "length_mm", "septa_mm", "intrinsic_fwhm_mm", "gap_mm")


def write_study(path: str | os.PathLike[str], study: Study) -> None:
    """Write a study to `path`, whole or not at all.

    Raises OSError as the file system does, InputError for text that HDF5 cannot hold (NUL characters).
    """
    with sealed(path, _LABEL) as file:
        try:
            _write(file, study)
        except ValueError as error:
            raise InputError(f"{path}: a text of the study cannot be stored: {error}") from error


def read_study(path: str | os.PathLike[str]) -> Study:
    """Study from a file that `write_study` made.

    Raises InputError naming file and dataset for files of another kind or of a newer version, and for missing, damaged
    or contradictory contents.
    Assumes: a file without user block, or with one of zeros (made or changed by other programs), is undamaged.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    fault = flaw(Path(path), _LABEL)
    if fault is not None:
        raise InputError(f"{path}: {fault}; copy it again (where it was changed on purpose, set those bytes to 0)")
    try:
        with h5py.File(path, "r") as file:
            return _read(file, _Reader(path))
    except InputError as error:
        if str(error).startswith(str(path)):
            raise
        raise InputError(f"{path}: {error}") from error
    except (OSError, RuntimeError, KeyError) as error:
        raise InputError(f"{path}: cannot be read as HDF5, it is damaged or cut short ({error})") from error


def _write(file: h5py.File, study: Study) -> None:
    acquisition = study.acquisition
    file.attrs["format"] = FORMAT
    file.attrs["version"] = VERSION
    counts = np.asarray(study.counts)
    chunks = (1, 1, *counts.shape[2:])
    file.create_dataset("counts", data=counts, chunks=chunks, compression="gzip", compression_opts=4, shuffle=True)

    group = file.create_group("windows")
    _write_texts(group, "name", [window.name for window in study.windows])
    group["lower_kev"] = [window.lower_kev for window in study.windows]
    group["upper_kev"] = [window.upper_kev for window in study.windows]

    group = file.create_group("acquisition")
    for name in _VIEW_FIELDS:
        group[name] = getattr(acquisition, name)
    group["pixel_mm"] = acquisition.pixel_mm
    group["nuclide"] = acquisition.nuclide
    _write_texts(group, "corrections", sorted(acquisition.corrections))
    if acquisition.start is not None:
        group["start"] = acquisition.start.isoformat()
    if acquisition.axis_lps_mm is not None:
        group["axis_lps_mm"] = acquisition.axis_lps_mm
    for name in ("frame_of_reference_uid", "patient_position"):
        if getattr(acquisition, name) is not None:
            group[name] = getattr(acquisition, name)
    if acquisition.collimator is not None:
        _write_collimator(group.create_group("collimator"), acquisition.collimator)

    if study.injection is not None:
        _write_injection(file.create_group("injection"), study.injection)
    _write_texts(file, "history", study.history)
    _write_texts(file, "warnings", study.warnings)
    group = file.create_group("patient")
    _write_texts(group, "key", list(study.patient))
    _write_texts(group, "value", list(study.patient.values()))


def _write_injection(group: h5py.Group, injection: Injection) -> None:
    for name in ("agent", "activity_mbq"):
        if getattr(injection, name) is not None:
            group[name] = getattr(injection, name)
    if injection.at is not None:
        group["at"] = injection.at.isoformat()


def _write_collimator(group: h5py.Group, collimator: Collimator) -> None:
    for name in ("name", "hole_shape", "source", *_COLLIMATOR_NUMBERS):
        group[name] = getattr(collimator, name)
    for name in ("line", "published_fwhm_mm"):
        if getattr(collimator, name) is not None:
            group[name] = getattr(collimator, name)


def _write_texts(group: h5py.Group, name: str, texts: Sequence[str]) -> None:
    group.create_dataset(name, data=np.array(texts, dtype=object), shape=(len(texts),), dtype=h5py.string_dtype())


class _Reader:
    """Datasets by name, with InputErrors that name the file and the dataset."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path

    def raw(self, group: h5py.Group, name: str) -> Any:
        where = f"{group.name.rstrip('/')}/{name}"
        try:
            dataset = group.get(name)
            if isinstance(dataset, h5py.Dataset):
                return dataset.asstr()[()] if h5py.check_string_dtype(dataset.dtype) else dataset[()]
        except (
            OSError,
            RuntimeError,
            KeyError,
            TypeError,
            ValueError,
        ) as error:  # whatever h5py makes of damaged bytes
            raise InputError(f"{self.path}: dataset {where} is damaged ({error})") from error
        if dataset is None:
            raise InputError(f"{self.path}: dataset {where} is missing")
        raise InputError(f"{self.path}: {where} must be a dataset, it is a {type(dataset).__name__}")

    def numbers(self, group: h5py.Group, name: str, dimensions: int) -> Array:
        values = np.asarray(self.raw(group, name))
        if values.dtype.kind not in "fiu" or values.ndim != dimensions:
            raise InputError(
                f"{self.path}: dataset {group.name.rstrip('/')}/{name} needs numbers in {dimensions} dimensions, it "
                f"holds {values.dtype} in {values.ndim}"
            )
        return values

    def number(self, group: h5py.Group, name: str) -> float:
        return float(self.numbers(group, name, 0))

    def text(self, group: h5py.Group, name: str) -> str:
        value = self.raw(group, name)
        if not isinstance(value, str):
            raise InputError(f"{self.path}: dataset {group.name.rstrip('/')}/{name} needs one text")
        return value

    def texts(self, group: h5py.Group, name: str) -> tuple[str, ...]:
        values = np.asarray(self.raw(group, name), dtype=object)
        if values.ndim != 1 or not all(isinstance(value, str) for value in values):
            raise InputError(f"{self.path}: dataset {group.name.rstrip('/')}/{name} needs a list of texts")
        return tuple(values)

    def group(self, parent: h5py.Group, name: str) -> h5py.Group:
        found = parent.get(name)
        if not isinstance(found, h5py.Group):
            raise InputError(f"{self.path}: group {parent.name.rstrip('/')}/{name} is missing")
        return found


def _read(file: h5py.File, reader: _Reader) -> Study:
    _check_version(file.attrs, reader.path)
    counts = reader.numbers(file, "counts", 4)
    group = reader.group(file, "windows")
    names = reader.texts(group, "name")
    lower, upper = reader.numbers(group, "lower_kev", 1), reader.numbers(group, "upper_kev", 1)
    if not len(names) == len(lower) == len(upper) == len(counts):
        raise InputError(
            f"{reader.path}: /windows holds {len(names)} names, {len(lower)} lower and {len(upper)} upper limits for "
            f"{len(counts)} windows of /counts"
        )
    windows = tuple(EnergyWindow(name, float(a), float(b)) for name, a, b in zip(names, lower, upper, strict=True))
    group = reader.group(file, "patient")
    keys, values = reader.texts(group, "key"), reader.texts(group, "value")
    if len(keys) != len(values):
        raise InputError(f"{reader.path}: /patient holds {len(keys)} keys and {len(values)} values")
    return Study(
        _read_acquisition(reader.group(file, "acquisition"), reader, counts.shape[2:]),
        windows,
        counts,
        patient=dict(zip(keys, values, strict=True)),
        injection=_read_injection(reader.group(file, "injection"), reader) if "injection" in file else None,
        history=reader.texts(file, "history"),
        warnings=reader.texts(file, "warnings"),
    )


def _read_injection(group: h5py.Group, reader: _Reader) -> Injection:
    said = reader.text(group, "at") if "at" in group else None
    try:
        kind = datetime if said is not None and "T" in said else time
        at = None if said is None else kind.fromisoformat(said)
    except ValueError:
        raise InputError(f"{reader.path}: dataset {group.name}/at is no ISO date and time: {said!r}") from None
    return Injection(
        reader.text(group, "agent") if "agent" in group else None,
        reader.number(group, "activity_mbq") if "activity_mbq" in group else None,
        at,
    )


def _check_version(attributes: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    try:
        kind, version = attributes.get("format"), attributes.get("version")
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: its attributes 'format' and 'version' are damaged ({error})") from error
    if not isinstance(kind, str) or kind != FORMAT or not isinstance(version, (int, np.integer)):
        raise InputError(
            f"{path}: HDF5, but not a study of spectac: its attribute 'format' is {kind!r} and 'version' {version!r}, "
            f"needed are {FORMAT!r} and 1 to {VERSION}"
        )
    if not 1 <= version <= VERSION:
        raise InputError(f"{path}: version {version} of {FORMAT}, this spectac reads up to {VERSION}: update spectac")


def _read_acquisition(group: h5py.Group, reader: _Reader, matrix: tuple[int, int]) -> Acquisition:
    of_views = {name: reader.numbers(group, name, 1) for name in _VIEW_FIELDS}
    start = reader.text(group, "start") if "start" in group else None
    try:
        begun = None if start is None else datetime.fromisoformat(start)
    except ValueError:
        raise InputError(f"{reader.path}: dataset {group.name}/start is no ISO date and time: {start!r}") from None
    axis = tuple(reader.numbers(group, "axis_lps_mm", 1).tolist()) if "axis_lps_mm" in group else None
    texts = {
        name: reader.text(group, name) if name in group else None
        for name in ("frame_of_reference_uid", "patient_position")
    }
    return Acquisition(
        of_views["view_angles_deg"],
        of_views["radii_mm"],
        matrix,
        tuple(reader.numbers(group, "pixel_mm", 1).tolist()),
        of_views["view_seconds"],
        reader.text(group, "nuclide"),
        _read_collimator(reader.group(group, "collimator"), reader) if "collimator" in group else None,
        start=begun,
        view_start_s=of_views["view_start_s"],
        detector=of_views["detector"],
        axis_lps_mm=axis,
        frame_of_reference_uid=texts["frame_of_reference_uid"],
        u_offset_mm=of_views["u_offset_mm"],
        patient_position=texts["patient_position"],
        corrections=frozenset(reader.texts(group, "corrections")),
    )


def _read_collimator(group: h5py.Group, reader: _Reader) -> Collimator:
    line = None
    if "line" in group:
        values = reader.numbers(group, "line", 1).tolist()
        if len(values) != 2:
            raise InputError(f"{reader.path}: dataset {group.name}/line needs sigma0 and slope, it holds {len(values)}")
        line = (values[0], values[1])
    return Collimator(
        name=reader.text(group, "name"),
        hole_mm=reader.number(group, "hole_mm"),
        length_mm=reader.number(group, "length_mm"),
        septa_mm=reader.number(group, "septa_mm"),
        intrinsic_fwhm_mm=reader.number(group, "intrinsic_fwhm_mm"),
        gap_mm=reader.number(group, "gap_mm"),
        hole_shape=reader.text(group, "hole_shape"),
        source=reader.text(group, "source"),
        line=line,
        published_fwhm_mm=reader.number(group, "published_fwhm_mm") if "published_fwhm_mm" in group else None,
    )
