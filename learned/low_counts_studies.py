"""Training examples of the low-counts network from a hospital's own studies, whose truth nobody knows."""

import hashlib
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from spectac.learned.low_counts_examples import LEAST_SHARE, PAIRS, LowCountsExample
from spectac.learned.low_counts_input import LowCountsInput
from spectac.learned.predict import PredictedMap
from spectac.learned.weights_file import shipped_weights
from spectac.recon.errors import InputError
from spectac.recon.io import open_study
from spectac.recon.low_counts import TARGET_ITERATIONS, ShortScan
from spectac.recon.pipeline import StudySolver
from spectac.recon.thinning import parted
from spectac.recon.types import Study

LARGEST_PART = 0.33
"""Largest share of a study's counts in a part: as many are left for the target."""


def study_sha256(path: Path) -> str:
    """Digest of what an example is made of: a study and the weights that predict its map.

    Parameters
    ----------
    path
        Study that `open_study` reads.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    InputError
        If the study cannot be read.

    Examples
    --------
    >>> study_sha256(Path("no file"))
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
    return digest.hexdigest()


def example_of_study(study: Study, rng: np.random.Generator, pairs: int = PAIRS) -> LowCountsExample:
    """Example of a study: two short parts of its counts, and the rest as their target, for each pair.

    The three are independent, so that the target's noise moves no mean (Noise2Noise [1]_). The map is predicted.

    Parameters
    ----------
    study
        Raw projections with whole counts (`recon.thinning`) and view times.
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

    References
    ----------
    .. [1] Lehtinen et al., ICML 2018, arXiv:1803.04189.

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
