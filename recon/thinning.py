"""A shorter study from a longer one: each count is kept by chance, which is what a shorter scan would have counted.

Of Poisson counts of mean m, a binomial selection with probability p has Poisson counts of mean p m, and they are
independent of those that it leaves. So part and rest are two scans of the same patient.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.types import Acquisition, Array, EnergyWindow, Study

TOUCH_KEV = 0.1
"""Windows may overlap by so much: limits are rounded in files."""


def parted(study: Study, share: float, rng: np.random.Generator) -> tuple[Study, Study]:
    """Two studies of a share of the counts and of the others.

    A part has its share of the time of every view, in the view's middle, so that decay is as it was and images keep
    their level. Part and study are nested: differences between their images are smaller than between two scans. Part
    and rest are independent.

    Parameters
    ----------
    study
        Raw projections (w, v, z, u).
    share
        Probability in (0, 1) with which a count is kept.
    rng
        Generator.

    Returns
    -------
    tuple of Study
        Part and rest, whose counts (w, v, z, u) add up to the study's.

    Raises
    ------
    InputError
        For another share; counts that are not whole, all multiples of a number, or corrected for decay, scatter or
        attenuation; energy windows that overlap, because they share photons.

    Examples
    --------
    >>> acquisition = Acquisition([0.0], [150.0], (2, 4), (4.0, 4.0), [20.0], "Tc-99m", None)
    >>> study = Study(acquisition, (EnergyWindow("peak", 126.0, 154.0),), np.full((1, 1, 2, 4), 1000.0))
    >>> part, rest = parted(study, 0.2, np.random.default_rng(1))
    >>> float((part.counts + rest.counts).max()), part.acquisition.view_seconds.tolist()
    (1000.0, [4.0])
    """
    if not 0.0 < share < 1.0:
        raise InputError(f"the share of the counts must lie between 0 and 1, got {share:g}")
    whole = whole_counts(study)
    _check_windows(study.windows)
    notes = _notes(study.acquisition)
    kept = rng.binomial(whole, share)
    return tuple(
        replace(
            study,
            acquisition=_shorter(study.acquisition, part),
            counts=counts.astype(np.float32),
            history=(*study.history, f"thinned: {part:g} of the counts, chosen by chance"),
            warnings=(*study.warnings, *notes),
        )
        for part, counts in ((share, kept), (1.0 - share, whole - kept))
    )  # type: ignore[return-value]


def whole_counts(study: Study) -> Array:
    """Counts as a camera counted them.

    Parameters
    ----------
    study
        Raw projections.

    Returns
    -------
    Array
        int64 (w, v, z, u).

    Raises
    ------
    InputError
        For counts that are not whole, all multiples of a number, or corrected for decay, scatter or attenuation.

    Examples
    --------
    >>> from spectac.recon import Acquisition, EnergyWindow
    >>> acquisition = Acquisition([0.0], [150.0], (2, 2), (4.0, 4.0), [20.0], "Tc-99m", None)
    >>> whole_counts(Study(acquisition, (EnergyWindow("peak", 126.0, 154.0),), np.full((1, 1, 2, 2), 5.0))).sum()
    np.int64(20)
    """
    corrected = study.acquisition.corrections & {"DECY", "SCAT", "ATTN"}
    if corrected:
        raise InputError(
            f"the projections are corrected for {' and '.join(sorted(corrected))} (CorrectedImage): counts are needed "
            "as they were measured"
        )
    whole = np.rint(study.counts).astype(np.int64)
    if not np.array_equal(whole, study.counts):
        odd = study.counts[whole != study.counts].flat[0]
        raise InputError(f"whole counts are needed, one is {odd:g}: the projections were scaled or corrected")
    factor = int(np.gcd.reduce(whole, axis=None))
    if factor > 1 and np.unique(whole).size > 2:
        raise InputError(f"all counts are multiples of {factor}: the projections were scaled, counts are needed")
    return whole


def _check_windows(windows: tuple[EnergyWindow, ...]) -> None:
    """InputError where two windows overlap."""
    ordered = sorted(windows, key=lambda window: window.lower_kev)
    for below, above in pairwise(ordered):
        if above.lower_kev < below.upper_kev - TOUCH_KEV:
            raise InputError(
                f"the windows {below.name} and {above.name} overlap: photons that both counted cannot be kept or left "
                "together"
            )


def _notes(acquisition: Acquisition) -> tuple[str, ...]:
    """What a reader should know."""
    notes: tuple[str, ...] = ()
    if "UNIF" in acquisition.corrections:
        notes += ("thinned after the camera's uniformity correction: its counts are a few per cent off Poisson",)
    if not acquisition.times_known:
        notes += ("the view times are unknown: the image of the thinned study is lower by the share",)
    return notes


def _shorter(acquisition: Acquisition, share: float) -> Acquisition:
    """The acquisition with this share of each view, in its middle; as it is where times are unknown."""
    if not acquisition.times_known:
        return acquisition
    seconds = np.asarray(acquisition.view_seconds)
    begin = np.asarray(acquisition.view_start_s) + 0.5 * (1.0 - share) * seconds
    return replace(acquisition, view_seconds=share * seconds, view_start_s=begin)
