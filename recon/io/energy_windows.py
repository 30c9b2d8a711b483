"""Energy windows as files have them: limits in the wrong unit, and several windows of one name."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from spectac.recon.types import EnergyWindow

HIGHEST_LOWER_KEV = 2000.0
"""No energy window begins above this."""

LOWEST_UPPER_KEV = 2.0
"""No energy window ends below this."""


def in_kev(lower: float, upper: float, what: str, warnings: list[str]) -> tuple[float, float]:
    """Limits of a window in keV, converted where they can only be eV or MeV.

    Parameters
    ----------
    lower, upper : float
        Limits as the file gives them, said to be in keV.
    what : str
        Name of the window in the warning about a conversion.
    warnings : list of str
        Gets a line about a conversion.

    Returns
    -------
    tuple of float
        Lower and upper limit in keV.

    Examples
    --------
    >>> in_kev(0.126, 0.154, "window 1", [])
    (126.0, 154.0)
    """
    unit, factor = ("eV", 1e-3) if lower > HIGHEST_LOWER_KEV else ("MeV", 1e3)
    if not 0 <= lower < upper or (unit == "MeV" and upper >= LOWEST_UPPER_KEV):
        return lower, upper
    kev = round(lower * factor, 9), round(upper * factor, 9)
    warnings.append(
        f"the limits of {what}, {lower:.10g} to {upper:.10g} keV, are those of {unit}: read as "
        f"{kev[0]:g} to {kev[1]:g} keV"
    )
    return kev


def with_own_names(windows: Sequence[EnergyWindow]) -> tuple[EnergyWindow, ...]:
    """The windows, each under a name of its own.

    Windows that share a name get their limits added to it. Those that are still alike get a number.

    Parameters
    ----------
    windows : sequence of EnergyWindow
        Windows of a study, in the order of its counts.

    Returns
    -------
    tuple of EnergyWindow
        In the same order; names that are not shared stay as they are.

    Examples
    --------
    >>> [window.name for window in with_own_names([EnergyWindow("Tc", 126, 154), EnergyWindow("Tc", 116, 126)])]
    ['Tc 126-154 keV', 'Tc 116-126 keV']
    """
    with_limits = [f"{window.name} {window.lower_kev:g}-{window.upper_kev:g} keV".strip() for window in windows]
    names = _told_apart([window.name for window in windows], with_limits)
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[_plain(name)] += 1
        numbered.append(f"{name} ({seen[_plain(name)]})")
    return tuple(replace(w, name=name) for w, name in zip(windows, _told_apart(names, numbered), strict=True))


def _told_apart(names: Sequence[str], longer: Sequence[str]) -> list[str]:
    """The names, with the longer one for each that another shares but for capitals."""
    times = Counter(map(_plain, names))
    return [long if times[_plain(name)] > 1 else name for name, long in zip(names, longer, strict=True)]


def _plain(name: str) -> str:
    return name.strip().lower()
