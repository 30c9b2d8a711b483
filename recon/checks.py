"""Checks of numbers from users and files. An InputError names the number, what is needed and what came."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from spectac.recon.errors import InputError


def check_finite(values: ArrayLike, name: str) -> None:
    """Check that an array holds neither NaN nor infinity.

    Parameters
    ----------
    values
        Numbers in any shape.
    name
        What they are, for the message.

    Raises
    ------
    InputError
        Some are NaN or infinite; the message counts them.

    Examples
    --------
    >>> check_finite([1.0, math.nan, math.inf], "counts")
    Traceback (most recent call last):
    spectac.recon.errors.InputError: counts holds 2 values that are NaN or infinite
    """
    wrong = int(np.sum(~np.isfinite(values)))
    if wrong:
        raise InputError(f"{name} holds {wrong} values that are NaN or infinite")


def check_above_zero(named: Mapping[str, float]) -> None:
    """Check that numbers are above 0 and finite.

    Parameters
    ----------
    named
        Numbers by the names that the message uses.

    Raises
    ------
    InputError
        Names the first number that is not.

    Examples
    --------
    >>> check_above_zero({"pixel_mm": 4.8, "radius_mm": -1.0})
    Traceback (most recent call last):
    spectac.recon.errors.InputError: radius_mm must be above 0 and finite, got -1
    """
    for name, value in named.items():
        if not 0 < value < math.inf:
            raise InputError(f"{name} must be above 0 and finite, got {value:g}")


def numbers(values: Iterable[float], axes: str, name: str, *, above_0: bool = False) -> tuple[float, ...]:
    """One finite number for each letter of `axes` ("xyz").

    Parameters
    ----------
    values
        Numbers, in the order of the axes.
    axes
        One letter for each axis.
    name
        What the numbers are, for the message.
    above_0
        Also refuse 0 and numbers below it.

    Returns
    -------
    tuple of float
        The numbers, one for each axis.

    Raises
    ------
    InputError
        There are more or fewer numbers than axes, or one cannot be.

    Examples
    --------
    >>> numbers([4, 4.8], "zu", "pixel_mm", above_0=True)
    (4.0, 4.8)
    """
    checked = tuple(float(value) for value in values)
    if len(checked) != len(axes) or not all(math.isfinite(value) and (value > 0 or not above_0) for value in checked):
        kind = "numbers above 0" if above_0 else "finite numbers"
        raise InputError(f"{name} needs {len(axes)} {kind} ({', '.join(axes)}), got {checked}")
    return checked


def sizes(values: Iterable[int], axes: str, name: str) -> tuple[int, ...]:
    """One whole number of at least 1 for each letter of `axes` ("zyx").

    Parameters
    ----------
    values
        Sizes in voxels or pixels, in the order of the axes.
    axes
        One letter for each axis.
    name
        What the sizes are, for the message.

    Returns
    -------
    tuple of int
        The sizes, one for each axis.

    Raises
    ------
    InputError
        There are more or fewer sizes than axes, or one is below 1.

    Examples
    --------
    >>> sizes([128, 0], "zu", "matrix")
    Traceback (most recent call last):
    spectac.recon.errors.InputError: matrix needs 2 sizes (z, u) of at least 1, got (128, 0)
    """
    checked = tuple(int(value) for value in values)
    if len(checked) != len(axes) or min(checked) < 1:
        raise InputError(f"{name} needs {len(axes)} sizes ({', '.join(axes)}) of at least 1, got {checked}")
    return checked
