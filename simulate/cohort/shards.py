"""Shards of a cohort: HDF5 files with some virtual patients each.

A shard is written whole or not at all. It begins with the digest of all that follows, as a study file does
(recon/io/sealed_hdf5.py). The layout is in docs/formats.md.
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
from spectac.recon.preview import PREVIEW_PROTOCOL
from spectac.recon.types import Grid
from spectac.simulate.cohort.patient_arrays import ARRAYS, OF_THE_CAMERA, WINDOWS, PatientArrays

FORMAT = "spectac-cohort-shard"
VERSION = 5

_LABEL = "spectac-cohort"
_GZIP = 4


class DamagedShard(InputError):  # noqa: N818 - named after the thing
    """The bytes of a shard are not those that were written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spectac.simulate.cohort.shards import read_facts
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "shard-00000.h5").touch()
    ...     read_facts(Path(folder, "shard-00000.h5"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    spectac.simulate.cohort.shards.DamagedShard: ...
    """


@dataclass(frozen=True)
class ShardFacts:
    """Content of a shard without its arrays, as the manifest lists it.

    Parameters
    ----------
    cohort
        Settings that the patients follow from.
    sha256
        Digest of each patient's arrays by its index, in the order of the rows.
    failures
        Reason by the index of each patient whose simulation failed.

    Examples
    --------
    >>> from spectac.simulate.cohort.shards import ShardFacts
    >>> ShardFacts({"seed": 1}, {0: "9f2c", 2: "77ab"}, {1: "the head does not fit the field"}).indices
    (0, 1, 2)
    """

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
    """Write the patients of a shard one after the other; facts of the shard.

    Only one patient's arrays are held at a time, beside the compressed file, which is put together in memory.

    Parameters
    ----------
    path
        File of the shard.
    cohort
        Settings that the patients follow from, kept as JSON.
    patients
        Largest number of outcomes.
    outcomes
        Index and arrays of each patient, or the reason why its simulation failed.

    Returns
    -------
    ShardFacts
        As `read_facts` gives them.

    Raises
    ------
    OSError
        As the file system does; nothing half-written stays.
    InputError
        The arrays of two patients have different shapes.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spectac.simulate.cohort.shards import read_facts, write_shard
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "shard-00000.h5")
    ...     facts = write_shard(path, {"seed": 1}, 1, [(0, "the head does not fit the field")])
    ...     read_facts(path).failures
    {0: 'the head does not fit the field'}
    """
    digests: dict[int, str] = {}
    failures: dict[int, str] = {}
    with sealed(path, _LABEL) as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        file.attrs["cohort"] = json.dumps(dict(cohort), sort_keys=True)
        file.attrs["windows"] = list(WINDOWS)
        file.attrs["preview_protocol"] = PREVIEW_PROTOCOL
        parameters = []
        for index, outcome in outcomes:
            if isinstance(outcome, str):
                failures[index] = outcome.replace("\0", " ")
                continue
            _put(file, len(digests), patients, outcome)
            digests[index] = outcome.sha256
            parameters.append(json.dumps(dict(outcome.parameters), sort_keys=True))
        for name, dataset in file.items():
            if name not in OF_THE_CAMERA:
                dataset.resize(len(digests), axis=0)
        file["index"] = np.asarray(list(digests), np.int64)
        file["failed_index"] = np.asarray(list(failures), np.int64)
        texts = {"sha256": digests.values(), "parameters": parameters, "failed_reason": failures.values()}
        for name, values in texts.items():
            file.create_dataset(name, data=list(values), dtype=h5py.string_dtype())
    return ShardFacts(dict(cohort), digests, failures)


def _put(file: h5py.File, row: int, rows: int, patient: PatientArrays) -> None:
    """Store one patient's arrays as row `row` of every dataset; the datasets are made for the first patient."""
    packed = {"compression": "gzip", "compression_opts": _GZIP, "shuffle": True}
    # Every camera has another matrix: one dataset a patient.
    for name in OF_THE_CAMERA:
        file.create_dataset(f"{name}/{row}", data=getattr(patient, name), **packed)
    values = {name: getattr(patient, name) for name in ARRAYS if name not in OF_THE_CAMERA}
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
                **(packed if array.ndim > 2 else {}),
            )
        if file[name].shape[1:] != array.shape:
            raise InputError(
                f"{name} has shape {array.shape}, that of the shard's first patient {file[name].shape[1:]}"
            )
        file[name][row] = array


def read_facts(path: Path) -> ShardFacts:
    """Facts of a shard.

    Parameters
    ----------
    path
        File of the shard.

    Returns
    -------
    ShardFacts
        Facts that `write_shard` returned.

    Raises
    ------
    DamagedShard
        The file is damaged, cut short or no shard.
    InputError
        The file has another version of the format, or previews of another protocol.
    OSError
        As the file system does.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spectac.simulate.cohort.shards import read_facts, write_shard
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "shard-00000.h5")
    ...     facts = write_shard(path, {"seed": 1}, 1, [(0, "the head does not fit the field")])
    ...     read_facts(path) == facts
    True
    """
    with _opened(path) as file:
        return ShardFacts(
            json.loads(file.attrs["cohort"]),
            dict(zip(file["index"][:].tolist(), file["sha256"].asstr()[:].tolist(), strict=True)),
            dict(zip(file["failed_index"][:].tolist(), file["failed_reason"].asstr()[:].tolist(), strict=True)),
        )


def read_patients(path: Path, only: int | None = None) -> Iterator[tuple[int, PatientArrays]]:
    """Index and arrays of each patient of a shard whose simulation did not fail, one after the other.

    Parameters
    ----------
    path
        File of the shard.
    only
        Index of the one patient that is read; None: all.

    Yields
    ------
    tuple of int and PatientArrays
        Index and arrays.

    Raises
    ------
    InputError
        As `read_facts` does.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spectac.simulate.cohort.shards import read_patients, write_shard
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "shard-00000.h5")
    ...     facts = write_shard(path, {"seed": 1}, 1, [(0, "the head does not fit the field")])
    ...     list(read_patients(path))
    []
    """
    with _opened(path) as file:
        for row, index in enumerate(file["index"][:].tolist()):
            if only not in (None, index):
                continue
            affine = file["affine_lps"][row]
            lengths = np.linalg.norm(affine[:3, :3], axis=0)
            yield (
                index,
                PatientArrays(
                    Grid(file["labels"].shape[1:], tuple(lengths.tolist()), affine),
                    **{name: file[f"{name}/{row}"][:] if name in OF_THE_CAMERA else file[name][row] for name in ARRAYS},
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
    # Shards without it are older than the number.
    protocol = int(file.attrs.get("preview_protocol", 1))
    if kind == FORMAT and version == VERSION and protocol == PREVIEW_PROTOCOL:
        return file
    file.close()
    if kind != FORMAT or version != VERSION:
        raise InputError(
            f"{path}: format {kind!r} version {version!r}, this spectac reads {FORMAT!r} version {VERSION}"
        )
    raise InputError(
        f"{path}: previews of protocol {protocol}, this spectac makes those of protocol {PREVIEW_PROTOCOL}: make the "
        "cohort again in another folder"
    )
