"""Checks of numbers from users and files. An InputError names the number, what is needed and what came."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from spectac.recon.errors import InputError


def check_finite(values: ArrayLike, name: str) -> None:
    """Raise InputError where an array holds NaN or infinity."""
    wrong = int(np.sum(~np.isfinite(values)))
    if wrong:
        raise InputError(f"{name} holds {wrong} values that are NaN or infinite")


def check_above_zero(named: Mapping[str, float]) -> None:
    """Raise InputError for the first number, by name, that is not above 0 and finite."""
    for name, value in named.items():
        if not 0 < value < math.inf:
            raise InputError(f"{name} must be above 0 and finite, got {value:g}")


def numbers(values: Iterable[float], axes: str, name: str, *, above_0: bool = False) -> tuple[float, ...]:
    """One finite number for each letter of `axes` ("xyz"); InputError for anything else."""
    checked = tuple(float(value) for value in values)
    if len(checked) != len(axes) or not all(math.isfinite(value) and (value > 0 or not above_0) for value in checked):
        kind = "numbers above 0" if above_0 else "finite numbers"
        raise InputError(f"{name} needs {len(axes)} {kind} ({', '.join(axes)}), got {checked}")
    return checked


def sizes(values: Iterable[int], axes: str, name: str) -> tuple[int, ...]:
    """One whole number of at least 1 for each letter of `axes` ("zyx"); InputError for anything else."""
    checked = tuple(int(value) for value in values)
    if len(checked) != len(axes) or min(checked) < 1:
        raise InputError(f"{name} needs {len(axes)} sizes ({', '.join(axes)}) of at least 1, got {checked}")
    return checked
