"""Training examples of the low-counts network: scans of one patient of any length, and the image without noise.

Each example holds pairs of independent scans of equal length, because the product of two independent errors is the
square of their common part, the bias (`loss.low_counts_loss`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.utils.data import Dataset

from spectac.learned.cohort_inputs import acquisition_of
from spectac.learned.dataset import CohortDataset, digests, shards_of
from spectac.learned.low_counts_input import LowCountsInput
from spectac.recon.filters import FWHM_PER_SIGMA
from spectac.recon.io.atomic import written
from spectac.recon.low_counts import LOW_COUNTS_PROTOCOL, ShortScan
from spectac.recon.preview import placed
from spectac.recon.types import Array, MuMap, Projections
from spectac.simulate.cohort.patient_arrays import PatientArrays
from spectac.simulate.cohort.shards import read_patients

PAIRS = 3
"""Pairs of scans of each patient."""
LEAST_SHARE = 0.1
"""Shares of the patient's counts are drawn from this to 1, evenly in their logarithm."""
WINDOW_RATIOS = (1.0, 4.0)
"""Range of the factor by which counts of side windows are multiplied to give the photopeak's scatter."""
NUMBERS = ("level", "counts_per_voxel", "sigma_mm", "energy_kev", "pixel_mm", "views")
"""Fields of a `LowCountsInput` beside the image and its grid."""
SIDE_FWHM_MM = 12.0
"""Gaussian of side windows, as in TEW."""

Item = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Inputs (2, channel, z, y, x) of two scans, the images without noise (2, z, y, x) over their levels, and 0."""


@dataclass(frozen=True, eq=False)
class LowCountsExample:
    """Scans of a patient and what they have in common.

    Parameters
    ----------
    scans
        Inputs of the scans, images in half precision; neighbours are a pair.
    truth
        Image (z, y, x) without noise, in half precision, in cps/mL.
    levels
        Levels of the scans in cps/mL.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((4, 4, 4), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> scan = LowCountsInput(np.ones(grid.shape, np.float16), grid, 2.0, 30.0, 6.0, 159.0, 4.0, 60)
    >>> LowCountsExample((scan, scan), np.ones(grid.shape, np.float16), (2.0, 2.0)).levels
    (2.0, 2.0)
    """

    scans: tuple[LowCountsInput, ...]
    truth: Array
    levels: tuple[float, ...]


def example_of(patient: PatientArrays, rng: np.random.Generator, pairs: int = PAIRS) -> LowCountsExample:
    """Example of a cohort's patient, with the true map.

    Scatter is known as side windows tell it: they hold Poisson counts and are smoothed.

    Parameters
    ----------
    patient
        Patient of a cohort.
    rng
        Generator.
    pairs
        Pairs of scans.

    Returns
    -------
    LowCountsExample
        2 `pairs` scans.

    Raises
    ------
    InputError
        Where no head shows.

    Examples
    --------
    >>> example_of(patient, np.random.default_rng(1))  # doctest: +SKIP
    """
    primary, *others = patient.expected.astype(np.float64)
    scatter = np.sum(others, axis=0)
    acquisition, kev = acquisition_of(patient), patient.energy_kev
    # All scans are read as if they had taken the whole time: one system serves them, and images are lower by the share.
    whole = Projections(acquisition, (primary + scatter).astype(np.float32), kev, scatter=scatter.astype(np.float32))
    scan = ShortScan(whole, MuMap(patient.mu_per_cm, patient.grid, kev), patient.grid)
    sigma = np.array([0.0, *(SIDE_FWHM_MM / FWHM_PER_SIGMA / np.array(acquisition.pixel_mm))])
    scans, levels = [], []
    for _ in range(pairs):
        share = float(np.exp(rng.uniform(np.log(LEAST_SHARE), 0.0)))
        ratio = float(rng.uniform(*WINDOW_RATIOS))
        for _ in range(2):
            side = gaussian_filter(rng.poisson(share * scatter / ratio).astype(np.float64), sigma, mode="nearest")
            one = LowCountsInput.of(scan.with_counts(rng.poisson(share * (primary + scatter)), ratio * side))
            scans.append(replace(one, image=one.image.astype(np.float16)))
            levels.append(one.level / share)
    return LowCountsExample(tuple(scans), placed(scan.image, patient.grid).values.astype(np.float16), tuple(levels))


class LowCountsDataset(Dataset[Item]):
    """Examples of the patients of a cohort or several.

    Reconstructing them takes some seconds a patient. They are kept in a folder, from which an interrupted run and later
    runs on the same patients take them. Augmented items are mirrored at random and take any of a patient's pairs, as a
    function of (seed, epoch, patient); others take the first pair. `epoch` is set by training.

    Parameters
    ----------
    folder
        Folder of the cohort, or of folders of cohorts.
    kept
        Folder for the examples.
    augmented
        True for training.
    seed
        Seed of scans and augmentation.
    on_load
        Called with (patients read, all patients).

    Raises
    ------
    InputError
        If the folder holds no shards.

    Examples
    --------
    >>> LowCountsDataset(Path("no folder"), Path("examples"))
    Traceback (most recent call last):
    spectac.recon.errors.InputError: no folder: no shards of a cohort: make one with spectac cohort -o no folder
    """

    def __init__(
        self,
        folder: Path,
        kept: Path,
        *,
        augmented: bool = False,
        seed: int = 0,
        on_load: Callable[[int, int], None] | None = None,
    ) -> None:
        paths = shards_of(folder)
        self.sha256, self.patients_sha256 = digests(folder, paths)
        self.augmented, self.seed, self.epoch = augmented, seed, 0
        self.examples: list[LowCountsExample] = []
        kept.mkdir(parents=True, exist_ok=True)
        for path in paths:
            for index, patient in read_patients(path):
                self.examples.append(_kept_example(kept, index, patient, seed))
                if on_load is not None:
                    on_load(len(self.examples), len(self.patients_sha256))

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, item: int) -> Item:
        example, first, mirrored = self.examples[item], 0, False
        if self.augmented:
            rng = np.random.default_rng([self.seed, self.epoch, item])
            first, mirrored = 2 * int(rng.integers(len(example.scans) // 2)), bool(rng.random() < 0.5)
        pair = range(first, first + 2)
        inputs = np.stack([example.scans[n].channels() for n in pair])
        truth = np.stack([example.truth.astype(np.float32) / np.float32(example.levels[n]) for n in pair])
        if mirrored:
            inputs, truth = (np.ascontiguousarray(values[..., ::-1]) for values in (inputs, truth))
        return torch.from_numpy(inputs), torch.from_numpy(truth), torch.tensor(0.0)


Examples = CohortDataset | LowCountsDataset
"""Examples of a training run."""


def _kept_example(kept: Path, index: int, patient: PatientArrays, seed: int) -> LowCountsExample:
    """Example of a patient from its file in the folder, which is made if it is not there."""
    path = kept / f"{patient.sha256[:16]}-{seed}-protocol-{LOW_COUNTS_PROTOCOL}.npz"
    if not path.exists():
        example = example_of(patient, np.random.default_rng([seed, index]))
        with written(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                images=np.stack([scan.image for scan in example.scans]),
                numbers=np.array([[getattr(scan, name) for name in NUMBERS] for scan in example.scans]),
                truth=example.truth,
                levels=np.array(example.levels),
            )
        return example
    with np.load(path) as file:
        scans = tuple(
            LowCountsInput(image, patient.grid, *map(float, numbers))
            for image, numbers in zip(file["images"], file["numbers"], strict=True)
        )
        return LowCountsExample(scans, file["truth"], tuple(map(float, file["levels"])))
