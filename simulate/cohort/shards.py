"""Shards of a cohort: HDF5 files of some virtual patients each, whole or absent, that hold their own digests.

A shard begins as a study file does, with the digest of all that follows (recon/io/sealed_hdf5.py). The layout is in
docs/formats.md.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.io.sealed_hdf5 import flaw, sealed
from spectac.recon.types import Grid
from spectac.simulate.cohort.patient_arrays import ARRAYS, WINDOWS, PatientArrays

FORMAT = "spectac-cohort-shard"
VERSION = 2

_LABEL = "spectac-cohort"
_GZIP = 4


class DamagedShard(InputError):  # noqa: N818 - named after what it is about
    """The bytes of a shard are not those that were written."""


@dataclass(frozen=True)
class ShardFacts:
    """What the manifest needs to know of a shard: digests and reasons of failure by the patients' indices, in order."""

    cohort: Mapping[str, Any]
    sha256: Mapping[int, str]
    failures: Mapping[int, str]

    @property
    def indices(self) -> tuple[int, ...]:
        """Indices of all patients of the shard, failed ones included, in rising order."""
        return tuple(sorted((*self.sha256, *self.failures)))


def write_shard(
    path: Path, cohort: Mapping[str, Any], patients: int, outcomes: Iterable[tuple[int, PatientArrays | str]]
) -> ShardFacts:
    """Write up to `patients` outcomes (index, arrays or the reason of a failure), one after the other, to `path`.

    `cohort` are the settings that the patients follow from, kept as JSON. Only one patient's arrays are held at a time,
    beside the compressed file, which is put together in memory.
    Raises OSError as the file system does; nothing half-written stays.
    """
    digests: dict[int, str] = {}
    failures: dict[int, str] = {}
    with sealed(path, _LABEL) as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        file.attrs["cohort"] = json.dumps(dict(cohort), sort_keys=True)
        file.attrs["windows"] = list(WINDOWS)
        parameters = []
        for index, outcome in outcomes:
            if isinstance(outcome, str):
                failures[index] = outcome.replace("\0", " ")
                continue
            _put(file, len(digests), patients, outcome)
            digests[index] = outcome.sha256
            parameters.append(json.dumps(dict(outcome.parameters), sort_keys=True))
        for name, dataset in file.items():
            if name != "counts":
                dataset.resize(len(digests), axis=0)
        file["index"] = np.asarray(list(digests), np.int64)
        file["failed_index"] = np.asarray(list(failures), np.int64)
        for name, texts in (
            ("sha256", digests.values()),
            ("parameters", parameters),
            ("failed_reason", failures.values()),
        ):
            file.create_dataset(name, data=list(texts), dtype=h5py.string_dtype())
    return ShardFacts(dict(cohort), digests, failures)


def _put(file: h5py.File, row: int, rows: int, patient: PatientArrays) -> None:
    """Store one patient's arrays as row `row` of every dataset; the datasets are made for the first patient."""
    # Every camera has another matrix: one dataset a patient.
    file.create_dataset(f"counts/{row}", data=patient.counts, compression="gzip", compression_opts=_GZIP, shuffle=True)
    values = {name: getattr(patient, name) for name in ARRAYS if name != "counts"}
    values |= {"affine_lps": patient.grid.affine_lps, "energy_kev": np.float64(patient.energy_kev)}
    for name, value in values.items():
        array = np.asarray(value)
        if row == 0:
            volume = array.shape[-3:] if array.ndim > 2 else array.shape
            file.create_dataset(
                name,
                shape=(rows, *array.shape),
                dtype=array.dtype,
                chunks=(1,) * (1 + array.ndim - len(volume)) + volume,
                maxshape=(rows, *array.shape),
                compression="gzip" if array.ndim > 2 else None,
                compression_opts=_GZIP if array.ndim > 2 else None,
                shuffle=array.ndim > 2,
            )
        if file[name].shape[1:] != array.shape:
            raise InputError(
                f"{name} has shape {array.shape}, that of the shard's first patient {file[name].shape[1:]}"
            )
        file[name][row] = array


def read_facts(path: Path) -> ShardFacts:
    """Facts of a shard whose bytes are what `write_shard` wrote.

    Raises DamagedShard for a file that is damaged, cut short or something else, InputError for another version of the
    format, OSError as the file system does.
    """
    with _opened(path) as file:
        return ShardFacts(
            json.loads(file.attrs["cohort"]),
            dict(zip(file["index"][:].tolist(), file["sha256"].asstr()[:].tolist(), strict=True)),
            dict(zip(file["failed_index"][:].tolist(), file["failed_reason"].asstr()[:].tolist(), strict=True)),
        )


def read_patients(path: Path) -> Iterator[tuple[int, PatientArrays]]:
    """Index and arrays of each patient of a shard, one after the other; failed patients are not among them.

    Raises InputError as `read_facts` does.
    """
    with _opened(path) as file:
        for row, index in enumerate(file["index"][:].tolist()):
            affine = file["affine_lps"][row]
            lengths = np.linalg.norm(affine[:3, :3], axis=0)
            yield (
                index,
                PatientArrays(
                    Grid(file["labels"].shape[1:], tuple(lengths.tolist()), affine),
                    **{name: file[name][row] for name in ARRAYS if name != "counts"},
                    counts=file[f"counts/{row}"][:],
                    energy_kev=float(file["energy_kev"][row]),
                    parameters=json.loads(file["parameters"].asstr()[row]),
                ),
            )


def _opened(path: Path) -> h5py.File:
    """A shard opened for reading after its digest was compared."""
    fault = flaw(path, _LABEL, seal_needed=True)
    if fault is not None:
        raise DamagedShard(f"{path}: {fault}")
    file = h5py.File(path, "r")
    kind, version = file.attrs.get("format"), file.attrs.get("version")
    if kind != FORMAT or version != VERSION:
        file.close()
        raise InputError(
            f"{path}: format {kind!r} version {version!r}, this spectac reads {FORMAT!r} version {VERSION}"
        )
    return file
