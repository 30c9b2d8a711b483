"""Names of energy windows: each window of a study needs its own."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from spectac.recon.types import EnergyWindow


def with_own_names(windows: Sequence[EnergyWindow]) -> tuple[EnergyWindow, ...]:
    """The windows, where some share a name with their limits added to it, and a number where these are alike too."""
    named = _numbered(windows, lambda window, _: f"{window.name} {window.lower_kev:g}-{window.upper_kev:g} keV".strip())
    return _numbered(named, lambda window, number: f"{window.name} ({number})")


def _numbered(windows: Sequence[EnergyWindow], name_of: Callable[[EnergyWindow, int], str]) -> tuple[EnergyWindow, ...]:
    """Those whose name is another's too get the name that `name_of` makes, also of their number among the alike."""
    times = Counter(_plain(window) for window in windows)
    seen: Counter[str] = Counter()
    renamed = []
    for window in windows:
        plain = _plain(window)
        seen[plain] += 1
        renamed.append(replace(window, name=name_of(window, seen[plain])) if times[plain] > 1 else window)
    return tuple(renamed)


def _plain(window: EnergyWindow) -> str:
    return window.name.strip().lower()
