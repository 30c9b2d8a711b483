"""Training examples of the low-counts network: scans of one patient of any length, and their target.

Each example holds pairs of independent scans of equal length, because the product of two independent errors is the
square of their common part, the bias (`loss.low_counts_errors`).
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter

from spectac.learned.cohort_inputs import acquisition_of
from spectac.learned.low_counts_input import LowCountsInput
from spectac.learned.low_counts_uptake import other_uptake, with_more
from spectac.recon.filters import FWHM_PER_SIGMA
from spectac.recon.low_counts import TARGET_ITERATIONS, ShortScan
from spectac.recon.types import Array, MuMap, Projections
from spectac.simulate.cohort.patient_arrays import PatientArrays

PAIRS = 2
"""Pairs of scans of each patient."""
LEAST_SHARE = 0.1
"""Shares of the patient's counts are drawn from this to 1, evenly in their logarithm."""
WINDOW_RATIOS = (1.0, 4.0)
"""Range of the factor by which counts of side windows are multiplied to give the photopeak's scatter."""
SIDE_FWHM_MM = 12.0
"""Gaussian of side windows, as in TEW."""


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
