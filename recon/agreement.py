"""Agreement of numbers: two methods with each other (Bland and Altman), a patient with healthy subjects (z-scores)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spectac.recon.checks import check_finite
from spectac.recon.errors import InputError
from spectac.recon.types import Array

FEWEST = 3
"""Pairs or healthy subjects below which a standard deviation says nothing."""
LIMITS_SD = 1.96
"""Half-width of the limits of agreement in standard deviations: 95 % of a normal distribution."""
EQUAL_SHARE = 1e-12
"""Standard deviation, over the largest value, that rounding leaves of equal numbers."""


@dataclass(frozen=True)
class BlandAltman:
    """Differences measured - reference.

    Parameters
    ----------
    bias
        Mean.
    sd
        Standard deviation of a sample (n - 1).
    lower, upper
        Limits of agreement.
    pairs
        Number of pairs.

    Examples
    --------
    >>> bland_altman([1.1, 2.1, 3.4], [1.0, 2.0, 3.0]).pairs
    3
    """

    bias: float
    sd: float
    lower: float
    upper: float
    pairs: int


def bland_altman(
    measured: Sequence[float] | Array, reference: Sequence[float] | Array, *, percent: bool = False
) -> BlandAltman:
    """Bias and 95 % limits of agreement, bias -+ 1.96 sd, of paired numbers [1]_.

    Assumes: pairs are independent (one of each patient); differences are nearly normal, with the same spread for small
    and large values. Where the spread grows with the value, take `percent`.

    Parameters
    ----------
    measured, reference
        Paired numbers in one unit.
    percent
        Take the differences in percent of the mean of each pair, 200 (m - r) / (m + r).

    Returns
    -------
    BlandAltman
        Bias and limits in the unit of the numbers, or in percent.

    Raises
    ------
    InputError
        For fewer than 3 pairs, lists of different lengths, values that are not finite, and with `percent` for a pair
        whose mean is not above 0.

    References
    ----------
    .. [1] Bland and Altman, Lancet 1986;327:307-310, doi:10.1016/S0140-6736(86)90837-8.

    Examples
    --------
    >>> round(bland_altman([1.1, 2.1, 3.4], [1.0, 2.0, 3.0]).bias, 3)
    0.2
    """
    m, r = _list_of_numbers(measured, "measured"), _list_of_numbers(reference, "reference")
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
    """Distance of a value from healthy subjects in standard deviations, (value - mean) / sd.

    Parameters
    ----------
    value
        Measured value.
    normals
        Values of healthy subjects, measured with the same camera, reconstruction and regions.

    Returns
    -------
    float
        Z-score, with the standard deviation of a sample (n - 1).

    Raises
    ------
    InputError
        For fewer than 3 subjects, equal values, and values that are not finite.

    Examples
    --------
    >>> z_score(5.0, [2.0, 3.0, 4.0])
    2.0
    """
    healthy = _list_of_numbers(normals, "normals")
    if healthy.size < FEWEST:
        raise InputError(f"a z-score needs at least {FEWEST} healthy subjects, got {healthy.size}")
    if not math.isfinite(value):
        raise InputError(f"a z-score needs a finite value, got {value}")
    sd = float(healthy.std(ddof=1))
    if not sd > EQUAL_SHARE * float(np.abs(healthy).max()):
        raise InputError(f"a z-score needs healthy subjects that differ, all {healthy.size} are {healthy[0]:g}")
    return (value - float(healthy.mean())) / sd


def _list_of_numbers(values: Sequence[float] | Array, name: str) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise InputError(f"{name} needs a list of numbers, got an array of shape {array.shape}")
    check_finite(array, name)
    return array
