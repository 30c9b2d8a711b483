"""Angles of views where a file leaves a doubt: the step from an arc, and the heads' starts that the user gives."""

import math
from collections.abc import Sequence

from spectac.recon.errors import InputError

_FITS_DEG = 0.05
"""A step divides the full turn where so many whole steps miss 360 deg by no more: headers round arcs to 0.01 deg."""

_FEWEST_VIEWS = 16
"""A round step proves little where views are fewer, and no camera takes fewer."""

_CAMERA_VIEWS = (32, 36, 40, 48, 60, 64, 72, 80, 90, 96, 100, 120, 128, 144, 180, 192, 240, 256, 360)
"""Views on a full turn that cameras offer."""


def head_starts_deg(given_deg: Sequence[float], heads: int) -> list[float]:
    """The angles that --head-angles gives for the first view of each head.

    Parameters
    ----------
    given_deg : sequence of float
        Angles in degrees.
    heads : int
        Number of heads of the acquisition.

    Returns
    -------
    list of float
        Angle of each head's first view in degrees, unchanged.

    Raises
    ------
    InputError
        There are more or fewer angles than heads.

    Examples
    --------
    >>> head_starts_deg((0.0, 180.0), heads=2)
    [0.0, 180.0]
    """
    if len(given_deg) != heads:
        raise InputError(f"--head-angles needs one angle for each of the {heads} heads, got {len(given_deg)}")
    return list(given_deg)


def step_from_arc(arc_deg: float, views: int) -> tuple[float, str | None]:
    """Angle between views in degrees, and where the arc can be read in two ways a sentence with both.

    An arc is the step times the views (Interfile, DICOM); some programs write the way from the first view to the last,
    which is a step less: 354 deg for 60 views of 6 deg, 174 deg for 30. Steps of cameras divide the full turn, so the
    reading whose step does is taken if the other's does not: 360 is 60 x 6 deg, but 61.017 x 5.9 deg. Otherwise the arc
    is the step times the views. A doubt stays, and is told, where only the other step is a round number (61 views,
    360 deg) and where an almost full turn would leave one gap that differs from the step.

    Parameters
    ----------
    arc_deg : float
        Arc of one head in degrees, above 0.
    views : int
        Views on that arc, at least 1.

    Returns
    -------
    float
        Step in degrees.
    str or None
        Sentence with both readings where there is a doubt.

    Examples
    --------
    >>> step_from_arc(360.0, 60)
    (6.0, None)
    >>> step_from_arc(354.0, 60)[0]
    6.0
    """
    step = arc_deg / views
    if views < 3 or arc_deg < 1.0:
        return step, None
    other = arc_deg / (views - 1)
    miss, other_miss = _miss_deg(step), _miss_deg(other)
    if miss > 1e-6 and views >= _FEWEST_VIEWS and _camera_step(arc_deg, views) is None:
        # Rounded to 0.1 or 1 deg the arc gives a step that divides the full turn no longer: 177 deg for 63 of 2.8125.
        camera = _camera_step(arc_deg, views - 1)
        other, other_miss = (other, other_miss) if camera is None else (camera, 0.0)
    if other_miss <= _FITS_DEG and other_miss < 0.25 * miss:
        return other, (
            f"an arc of {arc_deg:g} deg for {views} views was read as that from the first view to the last: {other:g} "
            f"deg a step, which divides the full turn; as step times views it would be {step:.5g} deg (--step-deg)"
        )
    gap = 360.0 - arc_deg + step
    odd_gap = step < 0.999 * gap < 3.0 * step and not miss <= _FITS_DEG
    odd_step = views >= _FEWEST_VIEWS and _is_round(other) and not _is_round(step)
    if odd_step or odd_gap:
        return step, (
            f"an arc of {arc_deg:g} deg for {views} views was read as step times views: {step:.5g} deg a step; as the "
            f"arc from the first view to the last it would be {other:.5g} deg (--step-deg)"
        )
    return step, None


def _camera_step(arc_deg: float, steps: int) -> float | None:
    """Step of a camera of which so many make the arc, to half a unit of its last printed digit; None for none."""
    step = min((360.0 / parts for parts in _CAMERA_VIEWS), key=lambda one: abs(one * steps - arc_deg))
    digits = len(f"{arc_deg:.10g}".partition(".")[2])
    return step if abs(step * steps - arc_deg) <= 0.5 * 10.0**-digits + 1e-9 else None


def _miss_deg(step_deg: float) -> float:
    """How far the whole number of steps nearest to a full turn misses it, in degrees."""
    return abs(max(1, round(360.0 / step_deg)) * step_deg - 360.0)


def _is_round(step_deg: float) -> bool:
    """True for multiples of half a degree and for a power of two's share of the full turn (5.625, 2.8125 deg)."""
    share = math.log2(360.0 / step_deg)
    return abs(step_deg * 2 - round(step_deg * 2)) < 1e-6 or abs(share - round(share)) < 1e-6
