"""Training examples from cohorts of virtual patients (simulate/cohort/): network inputs and true volumes."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from spectac.learned.cohort_inputs import patient_input
from spectac.learned.inputs import NetworkInput
from spectac.recon.errors import InputError
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Array
from spectac.simulate.cohort.patient_arrays import PatientArrays
from spectac.simulate.cohort.shards import read_facts, read_patients

NO_SCATTER = 0.3
"""Share of the augmented examples without their scatter window."""

MOST_SHIFT = 2
"""Largest shift of an augmented example along each axis, in voxels."""

Item = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Input (channel, z, y, x), target (z, y, x), and attenuation of a voxel of water."""


@dataclass(frozen=True, eq=False)
class Example:
    """One patient in half precision.

    Parameters
    ----------
    index
        Number of the patient in its cohort.
    seen
        Network input.
    target
        True volume (z, y, x): the head's mu over that of water, or correction factors.
    water_per_voxel
        Attenuation of a voxel of water: mu times the voxel's length.

    Examples
    --------
    >>> Example(0, NetworkInput(np.zeros((8, 8, 8)), 140.5), np.zeros((8, 8, 8)), 0.06).water_per_voxel
    0.06
    """

    index: int
    seen: NetworkInput
    target: Array
    water_per_voxel: float


class CohortDataset(Dataset[Item]):
    """Examples of a cohort or several, held in memory in half precision: 2 MB each.

    Augmented items are mirrored, shifted and lose their scatter window at random, as a function of (seed, epoch,
    patient). The attribute `epoch` is set by training. `sha256` is the digest of the patients' digests,
    `patients_sha256`.

    Parameters
    ----------
    folder
        Folder of the cohort, or of folders of cohorts.
    target
        "map" or "correction".
    augmented
        True for training.
    seed
        Seed of the augmentation.
    on_load
        Called with (patients read, all patients).

    Raises
    ------
    InputError
        If the folder holds no shards, or a patient twice.

    Examples
    --------
    >>> CohortDataset(Path("no folder"))
    Traceback (most recent call last):
    spectac.recon.errors.InputError: no folder: no shards of a cohort: make one with spectac cohort -o no folder
    """

    def __init__(
        self,
        folder: Path,
        *,
        target: str = "map",
        augmented: bool = False,
        seed: int = 0,
        on_load: Callable[[int, int], None] | None = None,
    ) -> None:
        paths = shards_of(folder)
        digests = [read_facts(path).sha256 for path in paths]
        lines = [f"{index} {sha256}\n" for shard in digests for index, sha256 in sorted(shard.items())]
        self.sha256 = hashlib.sha256("".join(lines).encode()).hexdigest()
        self.patients_sha256 = frozenset(sha256 for shard in digests for sha256 in shard.values())
        if len(self.patients_sha256) < len(lines):
            twice = len(lines) - len(self.patients_sha256)
            raise InputError(f"{folder}: {twice} patients are there twice: two copies of a cohort?")
        self.augmented, self.seed, self.epoch = augmented, seed, 0
        self.examples: list[Example] = []
        for path in paths:
            for index, patient in read_patients(path):
                self.examples.append(_example(index, patient, target))
                if on_load is not None:
                    on_load(len(self.examples), len(lines))

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, item: int) -> Item:
        example = self.examples[item]
        seen, target = example.seen, example.target
        if self.augmented:
            rng = np.random.default_rng([self.seed, self.epoch, example.index])
            scatter = None if rng.random() < NO_SCATTER else seen.scatter
            shift = rng.integers(-MOST_SHIFT, MOST_SHIFT + 1, 3)
            mirrored = bool(rng.random() < 0.5)
            photopeak, target = (_moved(values, shift, mirrored) for values in (seen.photopeak, target))
            scatter, recovered = (
                None if values is None else _moved(values, shift, mirrored) for values in (scatter, seen.recovered)
            )
            seen = replace(seen, photopeak=photopeak, scatter=scatter, recovered=recovered)
        inputs = torch.from_numpy(seen.channels())
        return inputs, torch.from_numpy(target.astype(np.float32)), torch.tensor(example.water_per_voxel)


def shards_of(folder: Path) -> list[Path]:
    """Shards of a cohort, or of all cohorts in a folder, in their order.

    Parameters
    ----------
    folder
        Folder of the cohort, or of folders of cohorts.

    Returns
    -------
    list of Path
        Their files, at least one.

    Raises
    ------
    InputError
        If there is none.

    Examples
    --------
    >>> shards_of(Path("no folder"))
    Traceback (most recent call last):
    spectac.recon.errors.InputError: no folder: no shards of a cohort: make one with spectac cohort -o no folder
    """
    places = [Path(place) for place, _, _ in os.walk(folder, followlinks=True)]
    paths = sorted(path for place in places for path in place.glob("shard-*.h5"))
    if not paths:
        raise InputError(f"{folder}: no shards of a cohort: make one with spectac cohort -o {folder}")
    return paths


def _example(index: int, patient: PatientArrays, target: str) -> Example:
    seen = patient_input(patient)
    scatter, recovered = (
        None if values is None else values.astype(np.float16) for values in (seen.scatter, seen.recovered)
    )
    halved = replace(seen, photopeak=seen.photopeak.astype(np.float16), scatter=scatter, recovered=recovered)
    water = water_per_cm(patient.energy_kev)
    truth = patient.correction if target == "correction" else patient.head_mu_per_cm / np.float32(water)
    # Voxels of previews are cubes.
    return Example(index, halved, truth.astype(np.float16), 0.1 * patient.grid.voxel_mm[2] * water)


def _moved(values: Array, shift: Array, mirrored: bool) -> Array:
    """Values shifted by whole voxels, with the edge values beyond the edges, and mirrored left to right."""
    padded = np.pad(values, MOST_SHIFT, mode="edge")
    where = tuple(slice(MOST_SHIFT - s, MOST_SHIFT - s + n) for s, n in zip(shift, values.shape, strict=True))
    out = padded[where]
    return np.ascontiguousarray(out[:, :, ::-1] if mirrored else out)
