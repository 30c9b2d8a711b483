"""Scatter from energy windows beside the photopeak: the expected scattered counts in every photopeak bin."""

import numpy as np
from scipy.ndimage import gaussian_filter

from spectac.recon.collimator import FWHM_PER_SIGMA
from spectac.recon.errors import InputError
from spectac.recon.nuclides import nuclide
from spectac.recon.types import Array, EnergyWindow, Projections, Study

METHODS = ("auto", "none", "dew", "tew")
SMOOTHING_FWHM_MM = 12.0
"""Gaussian that takes the noise off the side windows before they are scaled; scatter itself is smoother than that."""

GAP_KEV = 1.0
"""Largest gap or overlap between the photopeak and a window that still counts as its neighbour in TEW."""


def photopeak_index(study: Study, name: str | None = None) -> int:
    """Index of the photopeak: the window of that name, or else the one that holds the nuclide's main line.

    Where several hold the line the narrowest is taken. Raises InputError, listing the windows, where none fits.
    """
    windows = study.windows
    listed = ", ".join(f"{w.name} ({w.lower_kev:g}-{w.upper_kev:g} keV)" for w in windows)
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


def projections(
    study: Study,
    method: str = "auto",
    photopeak: str | None = None,
    *,
    dew_k: float | None = None,
    smoothing_fwhm_mm: float = SMOOTHING_FWHM_MM,
) -> Projections:
    """Photopeak projections of a study with the expected scatter (v, z, u) of the chosen method.

    TEW S = (C_lo/W_lo + C_hi/W_hi) * W_peak/2 (Ogawa et al., IEEE Trans Med Imaging 1991;10:408-412,
    doi:10.1109/42.97591); DEW S = k * C_lo (Jaszczak et al., J Nucl Med 1984;25:893-900). Side windows are smoothed by
    a Gaussian of `smoothing_fwhm_mm` within each view. "auto": TEW where both neighbours exist; one-sided TEW (upper
    counts taken as 0) for Tc-99m with the lower one; DEW only where `dew_k` is given; else none.
    Raises InputError where the windows that a method needs are missing.
    """
    if method not in METHODS:
        raise InputError(f"scatter method {method!r} is not one of {', '.join(METHODS)}")
    if dew_k is not None and not (np.isfinite(dew_k) and dew_k > 0):
        raise InputError(f"the DEW factor k must be above 0, not {dew_k}")
    if dew_k is not None and method not in ("auto", "dew"):
        raise InputError(f"the DEW factor k belongs to scatter methods dew and auto, not to {method}")
    peak = photopeak_index(study, photopeak)
    lower, upper = _neighbours(study.windows, peak)
    one_sided = study.acquisition.nuclide == "Tc-99m" and upper is None and lower is not None
    chosen = method
    if method == "auto":
        if lower is not None and (upper is not None or one_sided):
            chosen = "tew"
        else:
            chosen = "dew" if dew_k is not None and window_below(study, peak) is not None else "none"
    scatter, label = None, "none"
    if chosen == "tew":
        if lower is None or (upper is None and not one_sided):
            raise InputError(
                "TEW needs a window directly below and one directly above the photopeak "
                f"{_name(study.windows[peak])}; the study has {', '.join(_name(w) for w in study.windows)}: "
                "use --scatter dew with --dew-k, or --scatter none"
            )
        scatter = _smoothed(study, lower, smoothing_fwhm_mm) / study.windows[lower].width_kev
        if upper is not None:
            scatter = scatter + _smoothed(study, upper, smoothing_fwhm_mm) / study.windows[upper].width_kev
        scatter = scatter * (0.5 * study.windows[peak].width_kev)
        label = "tew" if upper is not None else "tew, lower window only"
    elif chosen == "dew":
        below = window_below(study, peak)
        if below is None:
            raise InputError("DEW needs a window below the photopeak, the study has none: use --scatter none")
        if dew_k is None:
            raise InputError("DEW needs its factor k, which depends on the windows: give --dew-k (0.5 is Jaszczak's)")
        scatter = dew_k * _smoothed(study, below, smoothing_fwhm_mm)
        label = f"dew, k = {dew_k:g}"
    if scatter is not None:
        label += f", side windows smoothed by {smoothing_fwhm_mm:g} mm"
    return Projections(
        study.acquisition,
        study.counts[peak],
        _line_kev(study, peak),
        scatter=scatter,
        scatter_method=label,
        window=study.windows[peak].name,
    )


def _line_kev(study: Study, peak: int) -> float:
    """Energy of the nuclide's first line that the photopeak window holds."""
    lines = nuclide(study.acquisition.nuclide).lines
    held = [energy_kev for energy_kev, _ in lines if study.windows[peak].holds(energy_kev)]
    if not held:
        listed = ", ".join(f"{energy_kev:g}" for energy_kev, _ in lines)
        raise InputError(
            f"window {_name(study.windows[peak])} holds no line of {study.acquisition.nuclide} ({listed} keV): "
            "name another --photopeak or the right --nuclide"
        )
    return held[0]


def _name(window: EnergyWindow) -> str:
    return f"{window.name} ({window.lower_kev:g}-{window.upper_kev:g} keV)"


def _neighbours(windows: tuple[EnergyWindow, ...], peak: int) -> tuple[int | None, int | None]:
    """Windows that end where the photopeak begins, and begin where it ends."""
    main = windows[peak]
    lower = [i for i, w in enumerate(windows) if i != peak and abs(w.upper_kev - main.lower_kev) <= GAP_KEV]
    upper = [i for i, w in enumerate(windows) if i != peak and abs(w.lower_kev - main.upper_kev) <= GAP_KEV]
    return (lower[0] if lower else None), (upper[0] if upper else None)


def windows_below(study: Study, peak: int) -> list[int]:
    """The windows below the photopeak that hold no line of the nuclide, so that they see scattered photons."""
    windows, lines = study.windows, nuclide(study.acquisition.nuclide).lines
    return [
        i
        for i, w in enumerate(windows)
        if w.upper_kev <= windows[peak].lower_kev + GAP_KEV and not any(w.holds(energy) for energy, _ in lines)
    ]


def window_below(study: Study, peak: int) -> int | None:
    """The nearest of `windows_below`, None where there is none."""
    return max(windows_below(study, peak), key=lambda i: study.windows[i].upper_kev, default=None)


def _smoothed(study: Study, window: int, fwhm_mm: float) -> Array:
    pixel_mm = study.acquisition.pixel_mm
    sigma = [0.0, *(fwhm_mm / FWHM_PER_SIGMA / length for length in pixel_mm)]
    # Zeros beyond the field would lower the edge rows, so the edge is continued.
    return gaussian_filter(study.counts[window].astype(np.float64), sigma, mode="nearest")
