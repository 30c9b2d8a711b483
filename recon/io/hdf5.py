"""spectac's own study file: HDF5 that holds every field of a Study without loss; layout in docs/formats.md."""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spectac.recon.collimator import Collimator, Focus
from spectac.recon.errors import FileError, InputError, naming
from spectac.recon.io.arcs import head_starts_deg
from spectac.recon.io.foci import StatedFocus, settled_foci
from spectac.recon.io.sealed_hdf5 import flaw, sealed
from spectac.recon.settings import StudySettings
from spectac.recon.types import Acquisition, Array, EnergyWindow, Injection, Study

FORMAT = "spectac-study"
VERSION = 2
"""Version 2 added focal lines of fan-beam collimators, energy resolution and crystal; files of version 1 are read."""

_FIELDS: dict[type, dict[str, Any]] = {
    Focus: {"length_mm": 0, "counted_from": str, "offset_mm": 0},
    Collimator: {
        **dict.fromkeys(("name", "hole_shape", "source"), str),
        **dict.fromkeys(("hole_mm", "length_mm", "septa_mm", "intrinsic_fwhm_mm", "gap_mm", "published_fwhm_mm"), 0),
        "line": 1,
        "focus": Focus,
    },
    Acquisition: {
        **dict.fromkeys(("view_angles_deg", "radii_mm", "view_seconds", "view_start_s", "detector", "u_offset_mm"), 1),
        **dict.fromkeys(("pixel_mm", "axis_lps_mm"), 1),
        **dict.fromkeys(("nuclide", "frame_of_reference_uid", "patient_position"), str),
        "corrections": list,
        "start": datetime,
        "collimator": Collimator,
        "foci": tuple,
        **dict.fromkeys(("energy_resolution", "crystal_mm"), 0),
    },
    Injection: {"agent": str, "activity_mbq": 0, "at": datetime},
}
"""Fields by the type that holds them: dimensions of numbers, or the type of what is no number."""

_OPTIONAL = frozenset(
    {"published_fwhm_mm", "line", "focus", "axis_lps_mm", "frame_of_reference_uid", "patient_position", "start",
     "collimator", "energy_resolution", "crystal_mm", "injection", *_FIELDS[Injection]}
)  # fmt: skip
"""Fields that are None where the file does not hold them."""


def write_study(path: str | os.PathLike[str], study: Study) -> None:
    """Write a study, whole or not at all.

    Parameters
    ----------
    path : path-like
        The file, which is replaced where it exists.
    study : Study
        What is written, every field without loss.

    Raises
    ------
    InputError
        For text that HDF5 cannot hold (NUL characters).
    OSError
        As the file system does.

    Examples
    --------
    >>> import tempfile
    >>> acquisition = Acquisition([0, 90], [200, 200], (1, 2), (4, 4), [20, 20], "I-123", None)
    >>> file = tempfile.mkdtemp() + "/study.h5"
    >>> write_study(file, Study(acquisition, (EnergyWindow("peak", 143, 175),), np.ones((1, 2, 1, 2))))
    >>> read_study(file).acquisition.nuclide
    'I-123'
    """
    with sealed(path, FORMAT) as file:
        try:
            _write(file, study)
        except ValueError as error:
            raise FileError(path, f"a text of the study cannot be stored: {error}") from error


def read_study(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], given: StudySettings | None = None
) -> Study:
    """Study from a file that `write_study` made.

    Assumes: a file without user block, or with one of zeros (made or changed by other programs), is undamaged.

    Parameters
    ----------
    path : path-like, or a list with one
        The file.
    given : StudySettings
        Replaces what the file says, with a line of history for each.

    Returns
    -------
    Study
        What the file holds, with the user's values in place of its own.

    Raises
    ------
    InputError
        Names file and dataset of what is missing, damaged or contradictory, and for files of another kind or of a newer
        version.

    Examples
    --------
    >>> import tempfile
    >>> acquisition = Acquisition([0, 90], [200, 200], (1, 2), (4, 4), [20, 20], "I-123", None)
    >>> file = tempfile.mkdtemp() + "/study.h5"
    >>> write_study(file, Study(acquisition, (EnergyWindow("peak", 143, 175),), np.ones((1, 2, 1, 2))))
    >>> read_study(file, StudySettings(radius_mm=150)).history
    ('given by the user: radius_mm = 150',)
    """
    paths = [Path(one) for one in ([path] if isinstance(path, (str, os.PathLike)) else path)]
    if len(paths) > 1:
        raise FileError(paths[1], "an HDF5 study holds a whole acquisition: give one file")
    source = paths[0]
    if not source.is_file():
        raise FileError(source, "no such file")
    if (fault := flaw(source, FORMAT)) is not None:
        raise FileError(source, f"{fault}; copy it again (where it was changed on purpose, set those bytes to 0)")
    with naming(source):
        try:
            with h5py.File(source, "r") as file:
                study = _read(file)
        except (OSError, RuntimeError, KeyError) as error:
            raise InputError(f"cannot be read as HDF5, it is damaged or cut short ({error})") from error
    return study if given is None else _with_given(study, given)


def _write(file: h5py.File, study: Study) -> None:
    file.attrs["format"] = FORMAT
    file.attrs["version"] = VERSION
    counts = np.asarray(study.counts)
    chunks = (1, 1, *counts.shape[2:])
    file.create_dataset("counts", data=counts, chunks=chunks, compression="gzip", compression_opts=4, shuffle=True)
    windows = file.create_group("windows")
    for name in ("name", "lower_kev", "upper_kev"):
        _put(windows, name, [getattr(window, name) for window in study.windows])
    for name in ("acquisition", "injection", "history", "warnings"):
        _put(file, name, getattr(study, name))
    patient = file.create_group("patient")
    _put(patient, "key", list(study.patient))
    _put(patient, "value", list(study.patient.values()))


def _put(group: h5py.Group, name: str, value: Any) -> None:
    """Write one value: None not at all, a time as text, an object of _FIELDS as a group."""
    if value is None or (name == "foci" and not value):
        return
    if name == "foci":
        inside = group.create_group(name)
        for field in _FIELDS[Focus]:
            _put(inside, field, [getattr(focus, field) for focus in value])
    elif type(value) in _FIELDS:
        inside = group.create_group(name)
        for field in _FIELDS[type(value)]:
            _put(inside, field, getattr(value, field))
    elif isinstance(value, (list, tuple, frozenset)) and all(isinstance(one, str) for one in value):
        texts = np.array(sorted(value) if isinstance(value, frozenset) else value, dtype=object)
        group.create_dataset(name, data=texts, shape=texts.shape, dtype=h5py.string_dtype())
    else:
        group[name] = value.isoformat() if isinstance(value, time | datetime) else value


def _read(file: h5py.File) -> Study:
    _check_version(file)
    counts = _get(file, "counts", 4)
    group = _group(file, "windows")
    names, lower, upper = (_get(group, *one) for one in (("name", list), ("lower_kev", 1), ("upper_kev", 1)))
    if not len(names) == len(lower) == len(upper) == len(counts):
        raise InputError(
            f"/windows holds {len(names)} names, {len(lower)} lower and {len(upper)} upper limits for {len(counts)} "
            "windows of /counts"
        )
    windows = tuple(EnergyWindow(name, float(a), float(b)) for name, a, b in zip(names, lower, upper, strict=True))
    group = _group(file, "patient")
    keys, values = _get(group, "key", list), _get(group, "value", list)
    if len(keys) != len(values):
        raise InputError(f"/patient holds {len(keys)} keys and {len(values)} values")
    return Study(
        _value(file, "acquisition", Acquisition, matrix=counts.shape[2:]),
        windows,
        counts,
        patient=dict(zip(keys, values, strict=True)),
        injection=_value(file, "injection", Injection),
        history=tuple(_get(file, "history", list)),
        warnings=tuple(_get(file, "warnings", list)),
    )


def _check_version(file: h5py.File) -> None:
    try:
        kind, version = file.attrs.get("format"), file.attrs.get("version")
    except (TypeError, ValueError) as error:
        raise InputError(f"its attributes 'format' and 'version' are damaged ({error})") from error
    if not isinstance(kind, str) or kind != FORMAT or not isinstance(version, (int, np.integer)):
        raise InputError(
            f"HDF5, but not a study of spectac: its attribute 'format' is {kind!r} and 'version' {version!r}, needed "
            f"are {FORMAT!r} and 1 to {VERSION}"
        )
    if not 1 <= version <= VERSION:
        raise InputError(f"version {version} of {FORMAT}, this spectac reads up to {VERSION}: update spectac")


def _value(group: h5py.Group, name: str, kind: Any, **more: Any) -> Any:
    """One value of a kind that _FIELDS names; None for an optional one that is not there."""
    if name in _OPTIONAL and name not in group:
        return None
    if name == "foci":
        return _foci(_group(group, name)) if name in group else ()
    if kind in _FIELDS:
        inside = _group(group, name)
        return kind(**{field: _value(inside, field, of) for field, of in _FIELDS[kind].items()}, **more)
    value = _get(group, name, str if kind is datetime else kind)
    if name == "line" and len(value) != 2:
        raise InputError(f"dataset {_where(group, name)} needs sigma0 and slope, it holds {len(value)}")
    if kind is datetime:
        try:
            # An injection may have a time of day alone.
            return datetime.fromisoformat(value) if "T" in value or name == "start" else time.fromisoformat(value)
        except ValueError:
            raise InputError(f"dataset {_where(group, name)} is no ISO date and time: {value!r}") from None
    if kind == 0:
        return float(value)
    return tuple(value.tolist()) if kind == 1 else value


def _foci(group: h5py.Group) -> tuple[Focus, ...]:
    """Focal lines of the detectors."""
    kinds = {"length_mm": 1, "counted_from": list, "offset_mm": 1}
    columns = [list(_get(group, name, kind)) for name, kind in kinds.items()]
    if len({len(column) for column in columns}) > 1:
        raise InputError(f"{group.name} holds {', '.join(str(len(column)) for column in columns)} values of its fields")
    return tuple(Focus(float(length), plane, float(offset)) for length, plane, offset in zip(*columns, strict=True))


def _where(group: h5py.Group, name: str) -> str:
    return f"{group.name.rstrip('/')}/{name}"


def _raw(group: h5py.Group, name: str) -> Any:
    """Contents of a dataset; InputError naming it where it is missing or damaged."""
    where = _where(group, name)
    try:
        dataset = group.get(name)
        if isinstance(dataset, h5py.Dataset):
            return dataset.asstr()[()] if h5py.check_string_dtype(dataset.dtype) else dataset[()]
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:  # whatever h5py makes of damaged bytes
        raise InputError(f"dataset {where} is damaged ({error})") from error
    if dataset is None:
        raise InputError(f"dataset {where} is missing")
    raise InputError(f"{where} must be a dataset, it is a {type(dataset).__name__}")


def _get(group: h5py.Group, name: str, kind: Any) -> Any:
    """Contents of a dataset: a text (str), a list of texts (list), or numbers in so many dimensions."""
    value = _raw(group, name)
    if kind is str:
        fits, needed = isinstance(value, str), "one text"
    elif kind is list:
        value = np.asarray(value, dtype=object)
        fits, needed = value.ndim == 1 and all(isinstance(one, str) for one in value), "a list of texts"
    else:
        value = np.asarray(value)
        fits, needed = value.ndim == kind and value.dtype.kind in "fiu", f"numbers in {kind} dimensions"
    if not fits:
        holds = np.asarray(value)
        raise InputError(f"dataset {_where(group, name)} needs {needed}, it holds {holds.dtype} in {holds.ndim}")
    return value


def _group(parent: h5py.Group, name: str) -> h5py.Group:
    group = parent.get(name)
    if not isinstance(group, h5py.Group):
        raise InputError(f"group {_where(parent, name)} is missing")
    return group


def _with_given(study: Study, given: StudySettings) -> Study:
    """Study with the user's values in place of the file's, and a line of history for each."""
    acquisition, views = study.acquisition, study.acquisition.views
    for name in ("rotation", "step_deg"):
        if getattr(given, name) is not None:
            raise InputError(
                f"--{name.replace('_', '-')} cannot change a study in HDF5, which has an angle for each view"
            )
    named = ("nuclide", "start", "pixel_mm", "energy_resolution", "crystal_mm")
    changes: dict[str, Any] = {name: getattr(given, name) for name in named}
    stated = [StatedFocus(focus.length_mm, focus.counted_from, focus.offset_mm) for focus in acquisition.foci]
    detectors = int(np.unique(np.asarray(acquisition.detector)).size)
    settled = settled_foci(stated, detectors, given.response or acquisition.collimator, given, "")
    if given.response is not None or settled.foci != acquisition.foci:
        changes |= {"collimator": settled.collimator, "foci": settled.foci}
    if given.radius_mm is not None:
        changes["radii_mm"] = np.full(views, given.radius_mm)
    if given.head_angles_deg is not None:
        changes["view_angles_deg"] = _turned_heads(acquisition, given.head_angles_deg)
    changes = {name: value for name, value in changes.items() if value is not None}
    if given.view_seconds is not None:
        # The views of each head are taken to follow one another.
        changes |= {"view_seconds": np.full(views, given.view_seconds), "view_start_s": None}
    if not changes:
        return study
    history = (*given.history(), *(settled.history if settled.foci != acquisition.foci else ()))
    return replace(study, acquisition=replace(acquisition, **changes), history=(*study.history, *history))


def _turned_heads(acquisition: Acquisition, head_angles_deg: Sequence[float]) -> Array:
    """View angles (v,) after each head was turned as a whole so that its first view lies at the angle given for it."""
    detector = np.asarray(acquisition.detector)
    heads = np.unique(detector)
    angles = np.array(acquisition.view_angles_deg)
    for head, start in zip(heads, head_starts_deg(head_angles_deg, len(heads)), strict=True):
        of_head = detector == head
        angles[of_head] += start - angles[of_head][0]
    return np.mod(angles, 360.0)
