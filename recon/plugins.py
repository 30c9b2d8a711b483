"""Plug-ins by name: the entry points of a group that the installed packages declare."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from spectac.recon.errors import InputError

ATTENUATION, SCATTER, LOW_COUNTS = "spectac.attenuation", "spectac.scatter", "spectac.low_counts"
"""Groups of entry points; a plug-in registers its build function in one of them."""

_CALLED = {ATTENUATION: "attenuation model", SCATTER: "scatter method", LOW_COUNTS: "low-counts model"}


def plugin(group: str, name: str) -> EntryPoint:
    """Entry point of that name; nothing is loaded.

    Parameters
    ----------
    group
        ATTENUATION, SCATTER or LOW_COUNTS.
    name
        Name in the group, e.g. "uniform".

    Returns
    -------
    EntryPoint
        Its `load()` gives the build function.

    Raises
    ------
    InputError
        No plug-in has this name. The message lists those that are installed.

    Examples
    --------
    >>> plugin(ATTENUATION, "chang").name
    'chang'
    """
    found = _found(group)
    if name not in found:
        raise InputError(f"{_CALLED[group]} {name!r} is not installed: use one of {', '.join(sorted(found))}")
    return found[name]


@cache
def _found(group: str) -> Mapping[str, EntryPoint]:
    """Read once: that takes the packages of the whole environment."""
    return {entry.name: entry for entry in entry_points(group=group)}
