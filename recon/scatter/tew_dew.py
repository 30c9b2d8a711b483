"""Scatter from energy windows beside the photopeak: the expected scattered counts in every photopeak bin."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from spectac.recon.collimator import FWHM_PER_SIGMA
from spectac.recon.errors import InputError
from spectac.recon.nuclides import nuclide
from spectac.recon.photopeak import GAP_KEV, photopeak_index, window_below, with_limits
from spectac.recon.scatter.models import ScatterContext, ScatterEstimate
from spectac.recon.scatter.side_windows import (
    BY_RESOLUTION,
    SIDES,
    UPPER_EMPTY,
    Photopeak,
    SideWindow,
    split_names,
)
from spectac.recon.settings import ProjectionSettings
from spectac.recon.types import Array, Image, MuMap, Study

SMOOTHING_FWHM_MM = 12.0
"""Gaussian that takes the noise off the side windows before they are scaled; scatter itself is smoother than that."""
MOST_REMOVED = 0.5
"""Share of the primary in the estimate of overlapping windows. Removing a share q raises the noise by 1/(1 - q)."""
NOTED_PRIMARY = 0.2
"""Share of the primary that TEW without overlap may take for scatter without a note."""
MOST_SCATTER = 0.60
"""Largest share of scatter in the counts inside the object.

Virtual heads have 0.20-0.22 (docs/validation.md), measured heads 0.2-0.4, the middle of a large body some 0.4 at 140
keV. 0.60 is one and a half scattered photons for each unscattered one.
"""
MOST_SCATTER_BELOW_A_LINE = 0.75
"""The same where photons of a line above the imaged one reach the photopeak.

In low-energy collimators those of 529 keV bring virtual I-123 heads to 0.47.
"""
INSIDE_LEVEL = 0.1
"""Share of the largest smoothed photopeak bin above which a bin lies inside the object."""
BRIGHT_LEVEL = 0.5
"""Share of the largest smoothed photopeak bin above which a bin is bright."""
MOST_EXCEEDED = 0.05
"""Share of the bright bins in which noise may lift the scatter above all counts."""


def _photopeak(context: ScatterContext) -> Photopeak:
    """The context's photopeak and the windows beside it."""
    return Photopeak(context.study, context.study.windows.index(context.photopeak))


@dataclass(frozen=True)
class WindowScatter:
    """Scatter from the windows beside the photopeak, or none.

    TEW: S = (C_lo/W_lo + C_hi/W_hi) * W_peak/2 where both windows touch the photopeak within 1 keV [1]_, else by the
    line through the windows' centres, S = W_peak [(E_hi - E_peak) C_lo/W_lo + (E_peak - E_lo) C_hi/W_hi]/(E_hi - E_lo).
    Where a window overlaps the photopeak the primary is removed: an estimate T with the share q of the primary gives
    S = (T - q C_peak)/(1 - q). DEW: S = k * C_lo [2]_.

    "auto" is TEW where there is a window on either side, at most 10 % of the line's energy away. For Tc-99m it is TEW
    with the lower window alone, because the scatter's spectrum ends with the photopeak. It is DEW only where `dew_k` is
    given, else none here (`measured.chosen_model` has Monte Carlo then), and the estimate's notes say why.

    Parameters
    ----------
    settings
        Photopeak, method (auto, none, dew or tew), factor k of DEW and names of the windows. Named windows are taken
        whatever their distance. One name is the lower window of DEW, or of TEW for Tc-99m.
    also
        Notes for studies that are not corrected.

    References
    ----------
    .. [1] Ogawa et al., IEEE Trans Med Imaging 1991;10:408-412, doi:10.1109/42.97591.
    .. [2] Jaszczak et al., J Nucl Med 1984;25:893-900.

    Examples
    --------
    >>> WindowScatter(ProjectionSettings(scatter="tew")).name
    'tew'
    """

    settings: ProjectionSettings
    also: tuple[str, ...] = ()

    @classmethod
    def build(cls, settings: ProjectionSettings) -> "WindowScatter":
        """Model of the settings; InputError for a detail, which no window method has."""
        if ":" in settings.scatter:
            raise InputError(
                f"scatter method {settings.scatter_name} takes no detail: use --scatter {settings.scatter_name}"
            )
        return cls(settings)

    @property
    def name(self) -> str:
        """Name of the method."""
        return self.settings.scatter

    def rounds(self, context: ScatterContext) -> int:
        """0: no image is needed."""
        return 0

    def without(self, context: ScatterContext) -> tuple[str, ...] | None:
        """Why "auto" corrects nothing; None where it does."""
        estimate, notes = self._chosen(context)
        return tuple(notes) if estimate is None else None

    def _chosen(self, context: ScatterContext) -> "tuple[_Tew | _Dew | None, list[str]]":
        chosen, peak = self.settings, _photopeak(context)
        names = None if chosen.scatter_windows is None else split_names(context.study, chosen.scatter_windows)
        return _estimate(peak, chosen.scatter, names, chosen.dew_k)

    def expected(self, context: ScatterContext, image: Image | None, mu: MuMap | None) -> ScatterEstimate:
        """Scatter (v, z, u) from the study's windows.

        Raises InputError where a method lacks its windows, and for named windows that do not lie beside the photopeak
        or hold more than 20 % of its primary (FWHM 9.8 % at 140.5 keV).
        """
        peak, (estimate, notes) = _photopeak(context), self._chosen(context)
        smoothed = f"side windows smoothed by {SMOOTHING_FWHM_MM:g} mm"
        if estimate is None:
            return ScatterEstimate(None, "none", notes=(*notes, *self.also))
        scatter = estimate.expected(peak)
        notes += [*_empty(peak, estimate.sides), *estimate.notes(peak), *_implausible(peak, scatter)]
        windows = tuple(side.window for side in estimate.sides)
        return ScatterEstimate(scatter, f"{estimate.label}, {smoothed}", windows, tuple(notes))


@dataclass(frozen=True)
class _Dew:
    """Scatter as k times the counts of a window below the photopeak."""

    sides: tuple[SideWindow]
    k: float

    @property
    def label(self) -> str:
        return f"dew, k = {self.k:g}"

    def expected(self, peak: Photopeak) -> Array:
        return self.k * _smoothed(peak.study, self.sides[0].index)

    def notes(self, peak: Photopeak) -> list[str]:
        return [
            f"scatter window {with_limits(side.window)} overlaps the photopeak {with_limits(peak.window)} by "
            f"{-side.gap_kev:.3g} keV: DEW takes some {self.k * side.primary:.1%} of the unscattered photons for "
            f"scatter, {BY_RESOLUTION}"
            for side in self.sides
            if side.overlaps
        ]


@dataclass(frozen=True)
class _Tew:
    """Scatter from the counts per keV of a window below the photopeak and one above, or none above for an empty one.

    `weights` of the counts per keV add up to 1 for two windows; `primary` is the share of the photopeak's primary in
    the estimate.
    """

    sides: tuple[SideWindow, ...]
    weights: tuple[float, ...]
    primary: float

    @classmethod
    def of(cls, peak: Photopeak, lower: SideWindow, upper: SideWindow | None) -> "_Tew":
        """Estimate from two windows; InputError where their overlap leaves little but primary in it."""
        main = peak.window
        sides = (lower,) if upper is None else (lower, upper)
        weights: tuple[float, ...] = (0.5, 0.5)
        if not all(side.touches for side in sides):
            # An empty upper window is a point of height 0 at the photopeak's limit.
            lower_kev = lower.window.centre_kev
            upper_kev = main.upper_kev if upper is None else upper.window.centre_kev
            apart_kev = upper_kev - lower_kev
            weights = ((upper_kev - main.centre_kev) / apart_kev, (main.centre_kev - lower_kev) / apart_kev)
        primary = main.width_kev * sum(
            weight * side.primary / side.window.width_kev for weight, side in zip(weights, sides, strict=False)
        )
        estimate = cls(sides, weights[: len(sides)], primary)
        if estimate.overlapping and primary > MOST_REMOVED:
            raise InputError(
                f"{' and '.join(with_limits(side.window) for side in estimate.overlapping)} overlap the photopeak "
                f"{with_limits(main)} so far that TEW would take {primary:.0%} of the unscattered photons: name other "
                "windows with --scatter-windows LOWER,UPPER, or --scatter none"
            )
        return estimate

    @property
    def overlapping(self) -> list[SideWindow]:
        return [side for side in self.sides if side.overlaps]

    @property
    def label(self) -> str:
        words = ["tew"]
        if not all(side.touches for side in self.sides):
            words.append("line through the windows' centres")
        if self.overlapping:
            words.append(f"{self.primary:.3g} of the primary removed")
        if len(self.sides) == 1:
            words.append("lower window only")
        return ", ".join(words)

    def expected(self, peak: Photopeak) -> Array:
        per_kev = [
            weight * (_smoothed(peak.study, side.index) / side.window.width_kev)
            for weight, side in zip(self.weights, self.sides, strict=True)
        ]
        scatter = sum(per_kev[1:], start=per_kev[0]) * peak.window.width_kev
        if self.overlapping:
            scatter = (scatter - self.primary * _smoothed(peak.study, peak.index)) / (1.0 - self.primary)
        return np.maximum(scatter, 0.0)

    def notes(self, peak: Photopeak) -> list[str]:
        notes, main = [], with_limits(peak.window)
        gaps = [
            f"{with_limits(side.window)} lies {side.gap_kev:.3g} keV {place} it"
            for side, place in zip(self.sides, SIDES, strict=False)
            if side.gap_kev > GAP_KEV
        ]
        if gaps:
            notes.append(
                f"TEW scatter windows with a gap to the photopeak {main}: {', '.join(gaps)}; scatter is taken from the "
                "line through the windows' centres"
            )
        notes += [
            f"scatter window {with_limits(side.window)} overlaps the photopeak {main} by {-side.gap_kev:.3g} keV: "
            f"unscattered photons in it, {side.primary:.1%} of the photopeak's {BY_RESOLUTION}, were removed"
            for side in self.overlapping
        ]
        if not self.overlapping and self.primary > NOTED_PRIMARY:
            notes.append(
                f"TEW takes some {self.primary:.0%} of the unscattered photons for scatter, {BY_RESOLUTION}: the "
                f"photopeak {main} is narrow"
            )
        return notes


def _estimate(
    peak: Photopeak, method: str, names: Sequence[str] | None, dew_k: float | None
) -> tuple[_Tew | _Dew | None, list[str]]:
    """Estimate of a method, None for no correction, and why "auto" corrects nothing."""
    if method == "none":
        return None, []
    if method == "dew":
        return _dew(peak, names, dew_k), []
    try:
        tew = _tew(peak, names)
        return tew, [] if dew_k is None else [f"k = {dew_k:g} was not used: TEW has its windows; DEW is --scatter dew"]
    except InputError as error:
        if method == "tew":
            raise
        one_below = window_below(peak.study, peak.index) is not None if names is None else len(names) == 1
        if dew_k is not None and one_below:
            return _dew(peak, names, dew_k), []
        if names is not None:
            raise
        return None, [f"no scatter correction: {error}"]


def _tew(peak: Photopeak, names: Sequence[str] | None) -> _Tew:
    if names is None:
        return _Tew.of(peak, *peak.sides())
    lower, upper = peak.named_sides([photopeak_index(peak.study, name) for name in names])
    if lower is None or (upper is None and not peak.upper_may_be_empty):
        raise InputError(
            f"--scatter-windows names no window {'below' if lower is None else 'above'} the photopeak "
            f"{with_limits(peak.window)}: TEW needs LOWER,UPPER (the lower one alone for "
            f"{', '.join(UPPER_EMPTY)}), DEW the lower one and --dew-k"
        )
    return _Tew.of(peak, lower, upper)


def _dew(peak: Photopeak, names: Sequence[str] | None, k: float | None) -> _Dew:
    if k is None:
        raise InputError("DEW needs its factor k, which depends on the windows: give --dew-k (0.5 is Jaszczak's)")
    if names is None:
        below = window_below(peak.study, peak.index)
        if below is None:
            raise InputError(
                "DEW needs a window below the photopeak, the study has none: use --scatter none, or name a window with "
                "--scatter-windows"
            )
        names = [peak.study.windows[below].name]
    lower, upper = peak.named_sides([photopeak_index(peak.study, name) for name in names])
    if lower is None or upper is not None:
        raise InputError("DEW takes one window below the photopeak: give its name alone with --scatter-windows")
    return _Dew((lower,), k)


def _empty(peak: Photopeak, sides: Sequence[SideWindow]) -> list[str]:
    """Notes on windows without counts, but for one above that may be taken as empty."""
    return [
        f"the scatter window {with_limits(side.window)} holds no counts: little or no scatter is corrected"
        for side in (sides[:1] if peak.upper_may_be_empty else sides)
        if side.empty
    ]


def _implausible(peak: Photopeak, scatter: Array) -> list[str]:
    """A note where the estimate takes more of the photopeak than scatter can be."""
    counts = _smoothed(peak.study, peak.index)
    top = float(counts.max())
    if not top > 0:
        return []
    inside, bright = (counts > level * top for level in (INSIDE_LEVEL, BRIGHT_LEVEL))
    share = float(scatter[inside].sum() / counts[inside].sum())
    exceeded = float((scatter[bright] > counts[bright]).mean())
    line_above = any(energy_kev > peak.line_kev for energy_kev, _ in nuclide(peak.study.acquisition.nuclide).lines)
    most = MOST_SCATTER_BELOW_A_LINE if line_above else MOST_SCATTER
    if share <= most and exceeded <= MOST_EXCEEDED:
        return []
    return [
        f"the scatter estimate takes {share:.0%} of the photopeak counts inside the object and exceeds them in "
        f"{exceeded:.0%} of the bright bins; 20 to 50 % are usual for heads, more than {most:.0%} are "
        "not to be expected: check the energy windows and their counts (--photopeak, --scatter-windows), or use "
        "--scatter none"
    ]


def _smoothed(study: Study, window: int) -> Array:
    sigma = [0.0, *(SMOOTHING_FWHM_MM / FWHM_PER_SIGMA / length for length in study.acquisition.pixel_mm)]
    # Zeros beyond the field would lower the edge rows, so the edge is continued.
    return gaussian_filter(study.counts[window].astype(np.float64), sigma, mode="nearest")
