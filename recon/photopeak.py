"""Which energy window is the photopeak, and which windows see scattered photons alone."""

from spectac.recon.errors import InputError
from spectac.recon.nuclides import nuclide
from spectac.recon.types import EnergyWindow, Study

GAP_KEV = 1.0
"""Largest gap or overlap between the photopeak and a window that still touches it."""


def photopeak_index(study: Study, name: str | None = None) -> int:
    """Index of the photopeak among a study's windows.

    Parameters
    ----------
    study
        Study with the windows.
    name
        Name of the window; None: the window that holds the nuclide's main line, the narrowest of several.

    Returns
    -------
    int
        Index of the window.

    Raises
    ------
    InputError
        Where no window fits; the message lists the windows.

    Examples
    --------
    >>> from spectac.recon import Acquisition, EnergyWindow
    >>> acquisition = Acquisition([0.0], [150.0], (1, 2), (4.0, 4.0), [10.0], "Tc-99m", None)
    >>> windows = (EnergyWindow("lower", 115.0, 126.0), EnergyWindow("peak", 126.0, 154.0))
    >>> photopeak_index(Study(acquisition, windows, np.ones((2, 1, 1, 2))))
    1
    """
    windows = study.windows
    listed = ", ".join(with_limits(window) for window in windows)
    if name is not None:
        for index, window in enumerate(windows):
            if window.name.strip().lower() == name.strip().lower():
                return index
        raise InputError(f"there is no energy window {name!r}; the study has {listed}")
    line_kev = nuclide(study.acquisition.nuclide).main_kev
    holding = [index for index, window in enumerate(windows) if window.holds(line_kev)]
    if not holding:
        raise InputError(
            f"no energy window holds the {line_kev:g} keV line of {study.acquisition.nuclide}; the study has {listed}: "
            "name the photopeak with --photopeak, or the right --nuclide"
        )
    return min(holding, key=lambda index: windows[index].width_kev)


def windows_below(study: Study, peak: int) -> list[int]:
    """Windows below the photopeak that hold no line of the nuclide, so that they see scattered photons.

    Parameters
    ----------
    study
        Study with the windows.
    peak
        Index of the photopeak.

    Returns
    -------
    list of int
        Indices of the windows.

    Examples
    --------
    >>> from spectac.recon import Acquisition, EnergyWindow
    >>> acquisition = Acquisition([0.0], [150.0], (1, 2), (4.0, 4.0), [10.0], "Tc-99m", None)
    >>> windows = (EnergyWindow("peak", 126.0, 154.0), EnergyWindow("lower", 115.0, 126.0))
    >>> windows_below(Study(acquisition, windows, np.ones((2, 1, 1, 2))), 0)
    [1]
    """
    windows, lines = study.windows, nuclide(study.acquisition.nuclide).lines
    return [
        i
        for i, w in enumerate(windows)
        if w.upper_kev <= windows[peak].lower_kev + GAP_KEV and not any(w.holds(energy) for energy, _ in lines)
    ]


def window_below(study: Study, peak: int) -> int | None:
    """The nearest of `windows_below`.

    Parameters
    ----------
    study
        Study with the windows.
    peak
        Index of the photopeak.

    Returns
    -------
    int or None
        Index of the window, None where there is none.

    Examples
    --------
    >>> from spectac.recon import Acquisition, EnergyWindow
    >>> acquisition = Acquisition([0.0], [150.0], (1, 2), (4.0, 4.0), [10.0], "Tc-99m", None)
    >>> window_below(Study(acquisition, (EnergyWindow("peak", 126.0, 154.0),), np.ones((1, 1, 1, 2))), 0) is None
    True
    """
    return max(windows_below(study, peak), key=lambda i: study.windows[i].upper_kev, default=None)


def with_limits(window: EnergyWindow) -> str:
    """Name and limits of a window in words.

    Parameters
    ----------
    window
        Energy window.

    Returns
    -------
    str
        Name and limits in keV.

    Examples
    --------
    >>> with_limits(EnergyWindow("peak", 126.0, 154.0))
    'peak (126-154 keV)'
    """
    return f"{window.name} ({limits(window)})"


def limits(window: EnergyWindow) -> str:
    """Limits of a window in words.

    Parameters
    ----------
    window
        Energy window.

    Returns
    -------
    str
        Limits in keV.

    Examples
    --------
    >>> limits(EnergyWindow("peak", 126.0, 154.0))
    '126-154 keV'
    """
    return f"{window.lower_kev:g}-{window.upper_kev:g} keV"
