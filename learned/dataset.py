"""Examples for training from cohorts of virtual patients (simulate/cohort.py): network inputs and true maps."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from spectac.learned.inputs import network_input
from spectac.recon.errors import InputError
from spectac.recon.types import Array
from spectac.simulate.cohorts.patient_arrays import WINDOWS, PatientArrays
from spectac.simulate.cohorts.shards import read_facts, read_patients

SIDE_WINDOWS = ("scatter", "lower")
"""Windows that can fill the scatter channel, the better one first."""


@dataclass(frozen=True, eq=False)
class Example:
    """One patient: preview images in half precision, the true map, energy, and what the reports need."""

    index: int
    photopeak: Array
    scatter: Array | None
    mu_per_cm: Array
    energy_kev: float
    voxel_ml: float


def scatter_of(patient: PatientArrays) -> Array | None:
    """Preview of the window that fills the scatter channel, None where the camera has none."""
    for name in SIDE_WINDOWS:
        row = WINDOWS.index(name)
        if patient.windows[row]:
            return np.asarray(patient.preview[row])
    return None


class Cohort(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Examples of a cohort's folder, held in memory in half precision: 1.5 MB each.

    Item i is (input (4, z, y, x), map (z, y, x)); with `augmented`, an epoch's items are mirrored, shifted and robbed of
    their scatter channel as (seed, epoch, i) say. `sha256` is the digest of the patients' digests.
    Raises InputError for a folder without shards.
    """

    def __init__(self, folder: Path, *, augmented: bool = False, seed: int = 0, indices: range | None = None) -> None:
        paths = sorted(folder.glob("shard-*.h5"))
        if not paths:
            raise InputError(f"{folder}: no shards of a cohort: make one with spectac cohort -o {folder}")
        digest = hashlib.sha256()
        self.examples: list[Example] = []
        for path in paths:
            for index, sha256 in sorted(read_facts(path).sha256.items()):
                digest.update(f"{index} {sha256}\n".encode())
            for index, patient in read_patients(path):
                if indices is None or index in indices:
                    self.examples.append(_example(index, patient))
        self.sha256 = digest.hexdigest()
        self.augmented, self.seed, self.epoch = augmented, seed, 0

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, item: int) -> tuple[torch.Tensor, torch.Tensor]:
        example = self.examples[item]
        photopeak, scatter, mu = (
            None if values is None else values.astype(np.float32)
            for values in (example.photopeak, example.scatter, example.mu_per_cm)
        )
        assert photopeak is not None and mu is not None
        if self.augmented:
            rng = np.random.default_rng([self.seed, self.epoch, example.index])
            if rng.random() < 0.3:
                scatter = None
            shift = tuple(int(n) for n in rng.integers(-2, 3, 3))
            mirrored = bool(rng.random() < 0.5)
            photopeak, mu = (_moved(values, shift, mirrored) for values in (photopeak, mu))
            scatter = None if scatter is None else _moved(scatter, shift, mirrored)
        given = network_input(photopeak, scatter, example.voxel_ml, example.energy_kev)
        return torch.from_numpy(given), torch.from_numpy(np.ascontiguousarray(mu))


def _example(index: int, patient: PatientArrays) -> Example:
    # Half precision covers 6e-8 to 65504: images are scaled to their own maximum first; their level does not matter.
    scatter = scatter_of(patient)
    photopeak = patient.preview[0]
    return Example(
        index,
        (photopeak / photopeak.max()).astype(np.float16),
        None if scatter is None or scatter.max() <= 0 else (scatter / scatter.max()).astype(np.float16),
        patient.mu_per_cm.astype(np.float16),
        patient.energy_kev,
        patient.grid.voxel_ml,
    )


def _moved(values: Array, shift: tuple[int, int, int], mirrored: bool) -> Array:
    """Values shifted by whole voxels, zeros coming in, and mirrored left to right."""
    out = np.zeros_like(values)
    here, there = zip(*((slice(max(s, 0), n + min(s, 0)), slice(max(-s, 0), n + min(-s, 0))) for s, n in zip(shift, values.shape, strict=True)), strict=True)
    out[here] = values[there]
    return out[:, :, ::-1] if mirrored else out
