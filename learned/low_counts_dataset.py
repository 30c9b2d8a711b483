"""Low-counts network's dataset: examples of a folder's cohorts or studies, which are kept once they are made."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from spectac.learned.dataset import CohortDataset, shards_of
from spectac.learned.low_counts_examples import (
    LEAST_SHARE,
    PAIRS,
    SIDE_FWHM_MM,
    WINDOW_RATIOS,
    LowCountsExample,
    example_of,
)
from spectac.learned.low_counts_input import LowCountsInput
from spectac.learned.low_counts_studies import LARGEST_PART, example_of_study, study_sha256
from spectac.recon.errors import InputError
from spectac.recon.io import open_study
from spectac.recon.io.atomic import written
from spectac.recon.low_counts import LOW_COUNTS_PROTOCOL, TARGET_ITERATIONS
from spectac.recon.preview import PREVIEW_PROTOCOL
from spectac.recon.types import Grid
from spectac.simulate.cohort.shards import read_facts, read_patients

MAKING = 3
"""Version of how examples are made: kept ones of another are made again."""
NUMBERS = ("level", "counts_per_voxel", "sigma_mm", "energy_kev", "pixel_mm", "views")
"""Fields of a `LowCountsInput` beside the image and its grid."""

Item = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Inputs (2, channel, z, y, x) of two scans, the images without noise (2, z, y, x) over their levels, and 0."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where an example comes from.

    Parameters
    ----------
    name
        For messages.
    sha256
        Digest of the patient's or study's data.
    example
        Function that makes the example with a generator.

    Examples
    --------
    >>> Source("study", "0a1b", lambda rng: rng.integers(1)).example(np.random.default_rng(1))
    np.int64(0)
    """

    name: str
    sha256: str
    example: Callable[[np.random.Generator], LowCountsExample]


def sources(folder: Path) -> list[Source]:
    """Patients of a folder's cohorts, or its studies where it holds no cohort.

    Parameters
    ----------
    folder
        Folder of a cohort, of folders of cohorts, or of studies: each file or folder in it is one.

    Returns
    -------
    list of Source
        At least one.

    Raises
    ------
    InputError
        If the folder holds nothing, or a study cannot be read.

    Examples
    --------
    >>> sources(Path("no folder"))
    Traceback (most recent call last):
    spectac.recon.errors.InputError: no folder: neither a cohort (spectac cohort -o no folder) nor studies
    """
    try:
        shards = shards_of(folder)
    except InputError:
        studies = sorted(path for path in folder.glob("*") if not path.name.startswith("."))
        if not studies:
            raise InputError(f"{folder}: neither a cohort (spectac cohort -o {folder}) nor studies") from None
        return [Source(str(path), study_sha256(path), partial(_example_of_file, path)) for path in studies]
    return [
        Source(f"{path}, patient {index}", sha256, partial(_example_in, path, index))
        for path in shards
        for index, sha256 in sorted(read_facts(path).sha256.items())
    ]


def _example_in(path: Path, index: int, rng: np.random.Generator) -> LowCountsExample:
    """Example of a patient in a shard."""
    return example_of(next(patient for _, patient in read_patients(path, only=index)), rng)


def _example_of_file(path: Path, rng: np.random.Generator) -> LowCountsExample:
    """Example of a study's file or folder."""
    return example_of_study(open_study(path), rng)


class LowCountsDataset(Dataset[Item]):
    """Examples of the patients of cohorts, or of a hospital's own studies.

    Reconstructing them takes some seconds each. They are kept in a folder, from which an interrupted run and later runs
    take them. Augmented items are mirrored at random and take any of a patient's pairs, as a function of (seed,
    epoch, patient); others take the first pair. `epoch` is set by training. `sha256` is the digest of
    `patients_sha256`. Nothing is reconstructed before `make`.

    Parameters
    ----------
    folder
        See `sources`.
    kept
        Folder for the examples.
    augmented
        True for training.
    seed
        Seed of scans and augmentation.

    Raises
    ------
    InputError
        If the folder holds nothing, or a patient twice, or a study cannot be read.

    Examples
    --------
    >>> LowCountsDataset(Path("no folder"), Path("examples"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    spectac.recon.errors.InputError: no folder: neither a cohort ...
    """

    def __init__(self, folder: Path, kept: Path, *, augmented: bool = False, seed: int = 0) -> None:
        self.augmented, self.seed, self.epoch, self._kept = augmented, seed, 0, kept
        self.examples: list[LowCountsExample] = []
        self._sources = sources(folder)
        digests = [source.sha256 for source in self._sources]
        for n, source in enumerate(self._sources):
            if source.sha256 in digests[:n]:
                raise InputError(f"{source.name} is there twice: two copies?")
        self.patients_sha256 = frozenset(digests)
        self.sha256 = hashlib.sha256("\n".join(digests).encode()).hexdigest()

    def make(
        self, on_load: Callable[[int, int], None] | None = None, device: int = 0, devices: int = 1
    ) -> "LowCountsDataset":
        """The same, with all examples; `on_load` is called with (patients done, all patients).

        A device of several makes its own share, and then, from the end, what others have not made meanwhile. Raises
        InputError, with the study's name, where a study cannot be used.
        """
        self._kept.mkdir(parents=True, exist_ok=True)
        number = len(self._sources)
        made: dict[int, LowCountsExample] = {}
        own, others = ([n for n in range(number) if (n % devices == device) == mine] for mine in (True, False))
        for n in own + others[::-1]:
            source = self._sources[n]
            try:
                made[n] = _kept_example(self._kept, source, self.seed)
            except InputError as error:
                raise InputError(f"{source.name}: {error}") from error
            if on_load is not None:
                on_load(len(made), number)
        self.examples = [made[n] for n in range(number)]
        return self

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, item: int) -> Item:
        example, first, mirrored = self.examples[item], 0, False
        if self.augmented:
            rng = np.random.default_rng([self.seed, self.epoch, item])
            first, mirrored = 2 * int(rng.integers(len(example.scans) // 2)), bool(rng.random() < 0.5)
        pair = range(first, first + 2)
        inputs = np.stack([example.scans[n].channels() for n in pair])
        target = example.targets[min(first // 2, len(example.targets) - 1)].astype(np.float32)
        targets = np.stack([target / np.float32(example.levels[n]) for n in pair])
        if mirrored:
            inputs, targets = (np.ascontiguousarray(values[..., ::-1]) for values in (inputs, targets))
        return torch.from_numpy(inputs), torch.from_numpy(targets), torch.tensor(0.0)


Examples = CohortDataset | LowCountsDataset
"""Examples of a training run."""


def _kept_example(kept: Path, source: Source, seed: int) -> LowCountsExample:
    """Example from its file in the folder, which is made if it is not there."""
    protocols = (PREVIEW_PROTOCOL, LOW_COUNTS_PROTOCOL, TARGET_ITERATIONS)
    numbers = (PAIRS, LEAST_SHARE, LARGEST_PART, WINDOW_RATIOS, SIDE_FWHM_MM)
    cache_key = f"{source.sha256} {seed} {MAKING} {protocols} {numbers}"
    path = kept / f"{hashlib.sha256(cache_key.encode()).hexdigest()[:24]}.npz"
    if not path.exists():
        example = source.example(np.random.default_rng([seed, int(source.sha256[:8], 16)]))
        grid = example.scans[0].grid
        with written(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                images=np.stack([scan.image for scan in example.scans]),
                numbers=np.array([[getattr(scan, name) for name in NUMBERS] for scan in example.scans]),
                targets=example.targets,
                levels=np.array(example.levels),
                voxel_mm=np.array(grid.voxel_mm),
                affine_lps=grid.affine_lps,
            )
        return example
    with np.load(path) as file:
        images = file["images"]
        voxel_mm = tuple(map(float, file["voxel_mm"]))
        grid = Grid(images.shape[1:], voxel_mm, file["affine_lps"])  # type: ignore[arg-type]
        scans = tuple(
            LowCountsInput(image, grid, *map(float, numbers))
            for image, numbers in zip(images, file["numbers"], strict=True)
        )
        return LowCountsExample(scans, file["targets"], tuple(map(float, file["levels"])))
