"""The views of a study as an Interfile header has them: one start angle and one step for all heads together."""

from dataclasses import dataclass

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.types import Acquisition, Array

EVEN_DEG = 0.01
"""Views count as evenly spaced where none is further from its place: headers of cameras give steps to 0.001 deg."""


@dataclass(frozen=True)
class Sweep:
    """One even sweep of all views.

    Parameters
    ----------
    order : array (v,)
        The study's views in the order of the sweep.
    start_deg : float
        Angle of the first view.
    step_deg : float
        Angle between views, below 0 for a clockwise sweep.

    Examples
    --------
    >>> acquisition = Acquisition([180, 270, 0, 90], [150] * 4, (2, 3), (4, 4), [20] * 4, "Tc-99m", None)
    >>> even_sweep(acquisition, clockwise=True).order.tolist()
    [0, 3, 2, 1]
    """

    order: Array
    start_deg: float
    step_deg: float


def even_sweep(acquisition: Acquisition, *, clockwise: bool | None = None) -> Sweep:
    """All views, of whatever head, as one sweep of equal steps.

    A full turn begins with the study's first view, an arc at its end.

    Parameters
    ----------
    acquisition : Acquisition
        The views.
    clockwise : bool
        Sense of the sweep; None: the first head's sense of rotation.

    Returns
    -------
    Sweep
        Order of the views, start and signed step.

    Raises
    ------
    InputError
        Where the views of all heads together are not evenly spaced.

    Examples
    --------
    >>> acquisition = Acquisition([0, 180, 90, 270], [150] * 4, (2, 3), (4, 4), [20] * 4, "Tc-99m", None)
    >>> sweep = even_sweep(acquisition, clockwise=False)
    >>> sweep.order.tolist(), sweep.step_deg
    ([0, 2, 1, 3], 90.0)
    """
    angles = np.mod(acquisition.view_angles_deg, 360.0)
    views = angles.size
    if views < 2:
        raise InputError("one view is no sweep: Interfile projections need at least two")
    rising = np.argsort(angles, kind="stable")
    gaps = np.diff(angles[rising], append=angles[rising[0]] + 360.0)
    full = abs(gaps.max() - 360.0 / views) < 2 * EVEN_DEG
    if full:
        first, step = int(np.flatnonzero(rising == 0)[0]), 360.0 / views
    else:
        first, step = (int(np.argmax(gaps)) + 1) % views, float((360.0 - gaps.max()) / (views - 1))
    order = np.roll(rising, -first)
    offsets = np.mod(angles[order] - angles[order[0]] + EVEN_DEG, 360.0) - EVEN_DEG
    worst = float(np.abs(offsets - step * np.arange(views)).max())
    if step < 2 * EVEN_DEG or worst > EVEN_DEG:
        raise InputError(
            f"the header has one start angle and one step, but the {views} views of all heads together are not evenly "
            f"spaced (steps of {gaps.min():g} to {np.sort(gaps)[-1 if full else -2]:g} deg): export to pytomography, "
            "or write HDF5"
        )
    if _turns_clockwise(acquisition) if clockwise is None else clockwise:
        order = np.roll(order[::-1], 1) if full else order[::-1]
        step = -step
    return Sweep(order, float(angles[order[0]]), step)


def _turns_clockwise(acquisition: Acquisition) -> bool:
    detector = np.asarray(acquisition.detector)
    of_first_head = np.asarray(acquisition.view_angles_deg)[detector == detector[0]]
    steps = np.mod(np.diff(of_first_head) + 180.0, 360.0) - 180.0
    return bool(steps.size and np.median(steps) < 0)
