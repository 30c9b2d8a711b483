"""Training examples of the low-counts network: scans of one patient of any length, and their target.

Each example holds pairs of independent scans of equal length, because the product of two independent errors is the
square of their common part, the bias (`loss.low_counts_errors`).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.utils.data import Dataset

from spectac.learned.cohort_inputs import acquisition_of
from spectac.learned.dataset import CohortDataset, shards_of
from spectac.learned.low_counts_input import LowCountsInput
from spectac.learned.low_counts_uptake import other_uptake, with_more
from spectac.learned.predict import PredictedMap
from spectac.learned.weights_file import shipped_weights
from spectac.recon.errors import InputError
from spectac.recon.filters import FWHM_PER_SIGMA
from spectac.recon.io import open_study
from spectac.recon.io.atomic import written
from spectac.recon.low_counts import LOW_COUNTS_PROTOCOL, TARGET_ITERATIONS, ShortScan
from spectac.recon.pipeline import StudySolver
from spectac.recon.preview import PREVIEW_PROTOCOL
from spectac.recon.thinning import parted
from spectac.recon.types import Array, Grid, MuMap, Projections, Study
from spectac.simulate.cohort.patient_arrays import PatientArrays
from spectac.simulate.cohort.shards import read_facts, read_patients

MAKING = 3
"""Version of how examples are made: kept ones of another are made again."""
PAIRS = 2
"""Pairs of scans of each patient."""
LEAST_SHARE = 0.1
"""Shares of the patient's counts are drawn from this to 1, evenly in their logarithm."""
LARGEST_PART = 0.33
"""Largest share of a study's counts in a part: as many are left for the target."""
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
    targets
        Images (1 or pairs, z, y, x) in half precision, in cps/mL: one without noise, or one for each pair, with noise
        that is independent of the pair's.
    levels
        Levels of the scans in cps/mL.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((4, 4, 4), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> scan = LowCountsInput(np.ones(grid.shape, np.float16), grid, 2.0, 30.0, 6.0, 159.0, 4.0, 60)
    >>> LowCountsExample((scan, scan), np.ones((1, *grid.shape), np.float16), (2.0, 2.0)).levels
    (2.0, 2.0)
    """

    scans: tuple[LowCountsInput, ...]
    targets: Array
    levels: tuple[float, ...]


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


def example_of(patient: PatientArrays, rng: np.random.Generator, pairs: int = PAIRS) -> LowCountsExample:
    """Example of a cohort's patient, with the true map and another uptake (`low_counts_uptake`).

    The primary photons of the change are projected; scatter grows as the primary does. The scatter that is subtracted
    has the noise of side windows: Poisson counts, smoothed by 12 mm.

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
    expected, scatter = with_more(scan, float(patient.parameters["cps_per_kbq"]) * other_uptake(patient, rng))
    sigma = np.array([0.0, *(SIDE_FWHM_MM / FWHM_PER_SIGMA / np.array(scan.acquisition.pixel_mm))])
    scans, levels = [], []
    for _ in range(pairs):
        share = float(np.exp(rng.uniform(np.log(LEAST_SHARE), 0.0)))
        ratio = float(rng.uniform(*WINDOW_RATIOS))
        for _ in range(2):
            side = gaussian_filter(rng.poisson(share * scatter / ratio).astype(np.float64), sigma, mode="nearest")
            one = LowCountsInput.of(scan.with_counts(rng.poisson(share * expected), ratio * side))
            scans.append(replace(one, image=one.image.astype(np.float16)))
            levels.append(one.level / share)
    target = scan.with_counts(expected, scatter).seen(TARGET_ITERATIONS)[None]
    return LowCountsExample(tuple(scans), target.astype(np.float16), tuple(levels))


def study_source(path: Path) -> Source:
    """Source of an example from a study: two short parts of its counts, and the rest as their target.

    The three are independent, so that the target's noise moves no mean (Noise2Noise [1]_). The map is predicted.

    Parameters
    ----------
    path
        Study that `open_study` reads.

    Returns
    -------
    Source
        Its example needs whole counts (`recon.thinning`) and view times.

    Raises
    ------
    InputError
        If the study cannot be read.

    References
    ----------
    .. [1] Lehtinen et al., ICML 2018, arXiv:1803.04189.

    Examples
    --------
    >>> study_source(Path("no file"))
    Traceback (most recent call last):
    spectac.recon.errors.FileError: no file: no such file or folder
    """
    study = open_study(path)
    digest = hashlib.sha256(np.ascontiguousarray(study.counts).tobytes())
    digest.update(shipped_weights().read_bytes())  # which predict the map
    acquisition = study.acquisition
    for value in (*(getattr(acquisition, field.name) for field in fields(acquisition)), study.windows):
        if isinstance(value, frozenset):  # whose order is another one in each process
            value = sorted(value)
        digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return Source(str(path), digest.hexdigest(), lambda rng: example_of_study(open_study(path), rng))


def example_of_study(study: Study, rng: np.random.Generator, pairs: int = PAIRS) -> LowCountsExample:
    """Example of a study, see `study_source`.

    Parameters
    ----------
    study
        Raw projections.
    rng
        Generator.
    pairs
        Pairs of parts.

    Returns
    -------
    LowCountsExample
        2 `pairs` scans and `pairs` targets.

    Raises
    ------
    InputError
        For counts that are not whole or corrected, unknown view times, overlapping windows, an unknown collimator, and
        where no map can be made.

    Examples
    --------
    >>> example_of_study(study, np.random.default_rng(1))  # doctest: +SKIP
    """
    if not study.acquisition.times_known:
        raise InputError("the view times are unknown: parts of the counts have no common level")
    if study.acquisition.collimator is None:
        raise InputError("the collimator is unknown: the study's file must name it (docs/formats.md)")
    whole = StudySolver(study)
    mu, _, _ = PredictedMap().estimate(whole)
    grid, modelled = whole.preview().grid, whole.scatter(mu)

    def scan(part: Study, of_counts: float) -> ShortScan:
        projections = StudySolver(part).projections
        if projections.scatter is None and modelled is not None:
            # By Monte Carlo, which takes long and hardly has noise of its own: that of all counts serves the parts.
            projections = replace(projections, scatter=np.float32(of_counts) * modelled)
        return ShortScan(projections, mu, grid)

    scans, levels, targets = [], [], []
    for _ in range(pairs):
        share = float(np.exp(rng.uniform(np.log(LEAST_SHARE), np.log(LARGEST_PART))))
        first, others = parted(study, share, rng)
        second, rest = parted(others, share / (1.0 - share), rng)
        for part in (first, second):
            one = LowCountsInput.of(scan(part, share))
            scans.append(replace(one, image=one.image.astype(np.float16)))
            levels.append(one.level)
        targets.append(scan(rest, 1.0 - 2.0 * share).seen(TARGET_ITERATIONS))
    return LowCountsExample(tuple(scans), np.stack(targets).astype(np.float16), tuple(levels))


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
        return [study_source(path) for path in studies]
    return [
        Source(f"{path}, patient {index}", sha256, partial(_example_in, path, index))
        for path in shards
        for index, sha256 in sorted(read_facts(path).sha256.items())
    ]


def _example_in(path: Path, index: int, rng: np.random.Generator) -> LowCountsExample:
    """Example of a patient in a shard."""
    return example_of(next(patient for number, patient in read_patients(path) if number == index), rng)


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

    def make(self, on_load: Callable[[int, int], None] | None = None) -> "LowCountsDataset":
        """The same, with all examples; `on_load` is called with (patients done, all patients).

        Raises InputError, with the study's name, where a study cannot be used.
        """
        self._kept.mkdir(parents=True, exist_ok=True)
        self.examples = []
        for source in self._sources:
            try:
                self.examples.append(_kept_example(self._kept, source, self.seed))
            except InputError as error:
                raise InputError(f"{source.name}: {error}") from error
            if on_load is not None:
                on_load(len(self.examples), len(self._sources))
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
