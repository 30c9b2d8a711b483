"""Examples for training from cohorts of virtual patients (simulate/cohort/): network inputs and true volumes."""

import hashlib
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from spectac.learned.inputs import Previews
from spectac.learned.patients import previews_of
from spectac.recon.errors import InputError
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Array
from spectac.simulate.cohort.patient_arrays import PatientArrays
from spectac.simulate.cohort.shards import read_facts, read_patients

NO_SCATTER, NO_CORRECTED = 0.3, 0.5
"""Shares of the examples that training robs of their scatter window, and of an earlier round's image."""

MOST_SHIFT = 2
"""Voxels by which training moves a patient along each axis."""

Item = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Example:
    """One patient in half precision: what the network sees and should give, and water's mu times the voxel's length."""

    index: int
    seen: Previews
    target: Array
    water_per_voxel: float


class Cohort(Dataset[Item]):
    """Examples of a cohort's folder, held in memory in half precision: 2 MB each.

    Item i is (input (6, z, y, x), target (z, y, x), water's mu times the voxel's length); with `augmented`, an epoch's
    items are mirrored, shifted and robbed of channels as (seed, epoch, i) say. `target` is "map", the true mu over
    water's, or "correction". `corrected` gives the image of an earlier round from a patient and the previews without
    it. `on_load` is called with (patients read, all patients). `sha256` is the digest of the patients' digests,
    `patients_sha256`.
    Raises InputError for a folder without shards.
    """

    def __init__(
        self,
        folder: Path,
        *,
        target: str = "map",
        augmented: bool = False,
        seed: int = 0,
        corrected: Callable[[PatientArrays, Previews], Array] | None = None,
        on_load: Callable[[int, int], None] | None = None,
    ) -> None:
        paths = sorted(folder.glob("shard-*.h5"))
        if not paths:
            raise InputError(f"{folder}: no shards of a cohort: make one with spectac cohort -o {folder}")
        known = [read_facts(path).sha256 for path in paths]
        digest = hashlib.sha256()
        for index, sha256 in (one for digests in known for one in sorted(digests.items())):
            digest.update(f"{index} {sha256}\n".encode())
        patients = sum(map(len, known))
        self.examples: list[Example] = []
        for path in paths:
            for index, patient in read_patients(path):
                self.examples.append(_example(index, patient, target, corrected))
                if on_load is not None:
                    on_load(len(self.examples), patients)
        self.sha256 = digest.hexdigest()
        self.patients_sha256 = frozenset(sha256 for digests in known for sha256 in digests.values())
        self.augmented, self.seed, self.epoch = augmented, seed, 0

    def without_corrected(self) -> "Cohort":
        """The same examples, which share their arrays, as a first round sees them."""
        other = copy(self)
        other.examples = [replace(one, seen=replace(one.seen, corrected=None)) for one in self.examples]
        return other

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, item: int) -> Item:
        example = self.examples[item]
        seen, target = example.seen, example.target
        if self.augmented:
            rng = np.random.default_rng([self.seed, self.epoch, example.index])
            no_scatter, no_corrected = rng.random(2) < (NO_SCATTER, NO_CORRECTED)
            if no_scatter and seen.scatter is not None:
                # The earlier round saw the scatter window: its image would show what the window shows.
                seen = replace(seen, scatter=None, corrected=None)
            elif no_corrected:
                seen = replace(seen, corrected=None)
            shift = rng.integers(-MOST_SHIFT, MOST_SHIFT + 1, 3)
            mirrored = bool(rng.random() < 0.5)
            moved: dict[str, Any] = {
                name: _moved(values, shift, mirrored)
                for name in ("photopeak", "scatter", "corrected")
                if (values := getattr(seen, name)) is not None
            }
            seen, target = replace(seen, **moved), _moved(target, shift, mirrored)
        given = torch.from_numpy(seen.channels())
        return given, torch.from_numpy(target.astype(np.float32)), torch.tensor(example.water_per_voxel)


def _example(
    index: int, patient: PatientArrays, target: str, corrected: Callable[[PatientArrays, Previews], Array] | None
) -> Example:
    seen = previews_of(patient)
    if corrected is not None:
        seen = replace(seen, corrected=corrected(patient, seen))
    images: dict[str, Any] = {
        name: values.astype(np.float16)
        for name in ("photopeak", "scatter", "corrected")
        if (values := getattr(seen, name)) is not None
    }
    water = water_per_cm(patient.energy_kev)
    wanted = patient.correction if target == "correction" else patient.mu_per_cm / np.float32(water)
    # Voxels of previews are cubes.
    water_per_voxel = 0.1 * patient.grid.voxel_mm[2] * water
    return Example(index, replace(seen, **images), wanted.astype(np.float16), water_per_voxel)


def _moved(values: Array, shift: Array, mirrored: bool) -> Array:
    """Values shifted by whole voxels, the edge going on, and mirrored left to right."""
    padded = np.pad(values, MOST_SHIFT, mode="edge")
    where = tuple(slice(MOST_SHIFT - s, MOST_SHIFT - s + n) for s, n in zip(shift, values.shape, strict=True))
    out = padded[where]
    return np.ascontiguousarray(out[:, :, ::-1] if mirrored else out)
