"""How numbers agree: two methods with each other (Bland and Altman), a patient with healthy subjects (z-scores)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.types import Array

FEWEST = 3
"""Pairs or healthy subjects below which a standard deviation says nothing."""

LIMITS_SD = 1.96
"""Half-width of the limits of agreement in standard deviations: 95 % of a normal distribution."""


@dataclass(frozen=True)
class BlandAltman:
    """Differences measured - reference: their mean `bias`, `sd`, the limits of agreement, and how many pairs."""

    bias: float
    sd: float
    lower: float
    upper: float
    pairs: int


def bland_altman(
    measured: Sequence[float] | Array, reference: Sequence[float] | Array, *, percent: bool = False
) -> BlandAltman:
    """Bias and 95 % limits of agreement bias -+ 1.96 sd of paired numbers, in their unit.

    `sd` is that of a sample (n - 1). `percent`: differences in percent of the mean of each pair, 200 (m - r) / (m + r).

    Reference: Bland JM, Altman DG, Lancet 1986; 327:307-310, doi:10.1016/S0140-6736(86)90837-8.
    Assumes: pairs are independent (one of each patient), differences near to normal and their spread the same for small
    and large values; `percent` where it grows with the value.
    Raises InputError for fewer than 3 pairs, lists of different lengths, values that are not finite, and with `percent`
    for a pair whose mean is not above 0.
    """
    m, r = _numbers(measured, "measured"), _numbers(reference, "reference")
    if m.size != r.size:
        raise InputError(f"agreement needs pairs, got {m.size} measured and {r.size} reference values")
    if m.size < FEWEST:
        raise InputError(f"agreement needs at least {FEWEST} pairs, got {m.size}")
    difference = m - r
    if percent:
        mean = 0.5 * (m + r)
        if not mean.min() > 0:
            raise InputError(f"differences in percent need pairs whose mean is above 0, the smallest is {mean.min():g}")
        difference = 100.0 * difference / mean
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    return BlandAltman(bias, sd, bias - LIMITS_SD * sd, bias + LIMITS_SD * sd, int(m.size))


def z_score(value: float, normals: Sequence[float] | Array) -> float:
    """Distance of a value from healthy subjects in standard deviations: (value - mean) / sd, sd of a sample (n - 1).

    `normals` holds the same number of healthy subjects, measured alike: same camera, reconstruction and regions.
    Raises InputError for fewer than 3 of them, for normals that are all the same, and values that are not finite.
    """
    healthy = _numbers(normals, "normals")
    if healthy.size < FEWEST:
        raise InputError(f"a z-score needs at least {FEWEST} healthy subjects, got {healthy.size}")
    if not math.isfinite(value):
        raise InputError(f"a z-score needs a finite value, got {value}")
    sd = float(healthy.std(ddof=1))
    # The rounding of equal numbers leaves a deviation of the last digit.
    if not sd > 1e-12 * float(np.abs(healthy).max()):
        raise InputError(f"a z-score needs healthy subjects that differ, all {healthy.size} are {healthy[0]:g}")
    return (value - float(healthy.mean())) / sd


def z_scores(measured: Mapping[str, float], normals: Mapping[str, Sequence[float] | Array]) -> dict[str, float]:
    """Z-score of every measured region, by name; see `z_score`. Normals of further regions are not used.

    Raises InputError, naming the regions, where some have no normals, and as `z_score` with the region's name.
    """
    missing = [region for region in measured if region not in normals]
    if missing:
        known = ", ".join(normals) or "no region"
        raise InputError(f"healthy subjects' values are missing for {', '.join(missing)}; there are some for {known}")
    found = {}
    for region, value in measured.items():
        try:
            found[region] = z_score(value, normals[region])
        except InputError as error:
            raise InputError(f"{region}: {error}") from error
    return found


def _numbers(values: Sequence[float] | Array, name: str) -> Array:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1:
        raise InputError(f"{name} needs a list of numbers, got an array of shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise InputError(f"{name} holds {int((~np.isfinite(numbers)).sum())} values that are NaN or infinite")
    return numbers
