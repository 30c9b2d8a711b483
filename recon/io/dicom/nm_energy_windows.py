"""Energy windows of a DICOM NM file, and which of them holds the photopeak."""

from collections.abc import Mapping
from itertools import pairwise

from spectac.recon.errors import FileError
from spectac.recon.io.dicom.elements import Item, name_of
from spectac.recon.io.energy_windows import in_kev, with_own_names
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import EnergyWindow


class UnfitWindowsError(FileError):
    """A file none of whose energy windows can be used."""


def read_windows(item: Item, used: list[int]) -> dict[int, EnergyWindow]:
    """Energy windows by their number (from 0) for those that have frames, each with a name of its own.

    Ranges of one window that touch are joined. A window that no energy describes (several peaks counted into one frame,
    no limits, 0 to 0 keV) is left out with a warning.

    Parameters
    ----------
    item : Item
        Dataset of the file.
    used : list of int
        Numbers of the windows that have frames, from 0.

    Returns
    -------
    dict of int to EnergyWindow
        Windows with limits in keV.

    Raises
    ------
    UnfitWindowsError
        No window is left.
    """
    sequence = item.items("EnergyWindowInformationSequence")
    windows: dict[int, EnergyWindow] = {}
    unfit: list[FileError] = []
    for index in used:
        try:
            if index >= len(sequence):
                raise item.error(
                    f"EnergyWindowInformationSequence has {len(sequence)} items, but {name_of('EnergyWindowVector')} "
                    f"names window {index + 1}"
                )
            windows[index] = _window(sequence[index], index)
        except FileError as error:
            unfit.append(error)
            item.notes.warn(f"window {index + 1} was left out: {error.args[1]}")
    if not windows:
        raise UnfitWindowsError(*unfit[0].args)
    named = with_own_names(list(windows.values()))
    renamed = [new.name for old, new in zip(windows.values(), named, strict=True) if old.name != new.name]
    if renamed:
        item.record(f"energy windows of one name were told apart by their limits: {', '.join(renamed)}")
    return dict(zip(windows, named, strict=True))


def _window(window: Item, index: int) -> EnergyWindow:
    """One energy window; FileError where no single energy range describes it."""
    name = window.text("EnergyWindowName") or f"window {index + 1}"
    ranges = sorted(_limits_kev(one, name) for one in window.items("EnergyWindowRangeSequence"))
    if not ranges:
        raise window.error(f"EnergyWindowRangeSequence of {name} is missing or empty: its energies are unknown")
    listed = ", ".join(f"{lower:g}-{upper:g}" for lower, upper in ranges)
    if any(after[0] - before[1] > 1.0 for before, after in pairwise(ranges)):
        raise window.error(
            f"EnergyWindowRangeSequence of {name} counts {listed} keV into one frame: several peaks in one window "
            "cannot be modelled"
        )
    if len(ranges) > 1:
        window.record(f"{name}: its ranges {listed} keV touch and were joined")
    return EnergyWindow(name, ranges[0][0], max(upper for _, upper in ranges))


def _limits_kev(item: Item, name: str) -> tuple[float, float]:
    """Lower and upper limit of one range of the window called `name`."""
    limits = lower, upper = item.number("EnergyWindowLowerLimit"), item.number("EnergyWindowUpperLimit")
    if lower is not None and upper is not None:
        if lower > upper >= 0:
            item.notes.warn(f"the limits of {name}, {lower:g} and {upper:g} keV, were exchanged")
            lower, upper = upper, lower
        limits = lower, upper = in_kev(lower, upper, name, item.notes.warnings)
        if 0 <= lower < upper:
            return lower, upper
    shown = " to ".join("missing" if limit is None else f"{limit:g}" for limit in limits)
    raise item.error(f"EnergyWindowLowerLimit and UpperLimit of {name} are {shown} keV, they must rise")


def photopeak(item: Item, windows: Mapping[int, EnergyWindow], nuclide: str) -> int:
    """Number of the window that holds the nuclide's main line (the narrowest of several), else the first one.

    Parameters
    ----------
    item : Item
        Dataset of the file, which gets a line of history.
    windows : mapping of int to EnergyWindow
        Windows by their numbers.
    nuclide : str
        Name of the nuclide.

    Returns
    -------
    int
        A key of `windows`.

    Examples
    --------
    >>> from pydicom import Dataset
    >>> from pathlib import Path
    >>> windows = {0: EnergyWindow("low", 120, 140), 1: EnergyWindow("peak", 143, 175)}
    >>> photopeak(Item(Dataset(), Path("scan.dcm")), windows, "I-123")
    1
    """
    line_kev = nuclide_by_name(nuclide).main_kev
    holding = [number for number, window in windows.items() if window.holds(line_kev)]
    if not holding:
        return min(windows)
    peak = min(holding, key=lambda number: windows[number].width_kev)
    window = windows[peak]
    item.record(
        f"photopeak: {window.name} ({window.lower_kev:g}-{window.upper_kev:g} keV) holds the {line_kev:g} keV line of "
        f"{nuclide}"
    )
    return peak
