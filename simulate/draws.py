"""Random numbers and choices from a generator, as plain Python values."""

from collections.abc import Iterable
from typing import TypeVar

import numpy as np

Choice = TypeVar("Choice")


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """Uniform number.

    Parameters
    ----------
    rng
        Generator.
    low, high
        Limits.

    Returns
    -------
    float
        Number from `low` on and below `high`.

    Examples
    --------
    >>> 2.0 <= between(np.random.default_rng(1), 2.0, 3.0) < 3.0
    True
    """
    return float(rng.uniform(low, high))


def around(rng: np.random.Generator, mean: float, sd: float, low: float, high: float) -> float:
    """Normal number, cut to [low, high].

    Parameters
    ----------
    rng
        Generator.
    mean, sd
        Mean and standard deviation.
    low, high
        Limits.

    Returns
    -------
    float
        Number; what lies beyond a limit becomes that limit.

    Examples
    --------
    >>> around(np.random.default_rng(1), 0.0, 100.0, -1.0, 1.0)
    1.0
    """
    return float(np.clip(rng.normal(mean, sd), low, high))


def one_of(rng: np.random.Generator, choices: Iterable[tuple[Choice, float]]) -> Choice:
    """One of the values, drawn with their shares.

    Parameters
    ----------
    rng
        Generator.
    choices
        (value, share) pairs; the shares need not add up to 1.

    Returns
    -------
    value
        The value of a pair.

    Examples
    --------
    >>> one_of(np.random.default_rng(1), [("always", 1.0), ("never", 0.0)])
    'always'
    """
    values, shares = zip(*choices, strict=True)
    weights = np.array(shares)
    chosen: Choice = values[int(rng.choice(len(values), p=weights / weights.sum()))]
    return chosen
