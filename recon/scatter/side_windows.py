"""The energy windows beside the photopeak: which of them show its scatter, and how much primary falls into them."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from spectac.recon.collimator import INTRINSIC_KEV
from spectac.recon.errors import InputError
from spectac.recon.nuclides import nuclide
from spectac.recon.photons.detector import Crystal
from spectac.recon.photopeak import GAP_KEV, with_limits
from spectac.recon.types import EnergyWindow, Study

LARGEST_GAP = 0.10
"""Share of the line's energy: a window further away than this is taken only by name."""
LARGEST_PRIMARY = 0.20
"""Primary counts of a side window over those of the photopeak, beyond which it is no scatter window."""
USUAL_CRYSTAL = Crystal()
"""Crystal of a usual camera."""
BY_RESOLUTION = f"by an energy resolution of {USUAL_CRYSTAL.energy_resolution:.1%} at {INTRINSIC_KEV:g} keV"
"""Where the primary of a window comes from, in words."""
UPPER_EMPTY = ("Tc-99m",)
"""Nuclides whose window above the photopeak may be taken as empty: none of their photons has more energy."""
SIDES = ("below", "above")


@dataclass(frozen=True)
class SideWindow:
    """Energy window beside the photopeak.

    Parameters
    ----------
    index
        Index of the window in the study.
    window
        Energy window.
    gap_kev
        Gap to the photopeak in keV, below 0 where they overlap.
    primary
        Unscattered photons in the window over those in the photopeak.
    empty
        Whether the study has no counts in the window.

    Examples
    --------
    >>> SideWindow(1, EnergyWindow("lower", 115.0, 126.0), 0.0, 0.02, False).touches
    True
    """

    index: int
    window: EnergyWindow
    gap_kev: float
    primary: float
    empty: bool

    @property
    def touches(self) -> bool:
        """True where gap or overlap are within GAP_KEV."""
        return abs(self.gap_kev) <= GAP_KEV

    @property
    def overlaps(self) -> bool:
        """True where the window overlaps the photopeak by more than GAP_KEV."""
        return self.gap_kev < -GAP_KEV


def primary_counts(name: str, window: EnergyWindow) -> float:
    """Unscattered photons of a nuclide that a camera records in a window, all of them stopped.

    Each line is a Gaussian of FWHM = 0.098 sqrt(140.5 E) in keV.

    Parameters
    ----------
    name
        Name of the nuclide.
    window
        Energy window.

    Returns
    -------
    float
        Photons per decay.

    Examples
    --------
    >>> round(primary_counts("Tc-99m", EnergyWindow("peak", 126.0, 154.0)), 3)
    0.87
    """
    return sum(
        intensity * float(USUAL_CRYSTAL.window_share(window, energy_kev))
        for energy_kev, intensity in nuclide(name).lines
    )


@dataclass(frozen=True, eq=False)
class Photopeak:
    """The photopeak of a study, and the windows beside it.

    Parameters
    ----------
    study
        Study with the windows.
    index
        Index of the photopeak.

    Examples
    --------
    >>> from spectac.recon import Acquisition
    >>> acquisition = Acquisition([0.0], [150.0], (1, 2), (4.0, 4.0), [10.0], "Tc-99m", None)
    >>> windows = (EnergyWindow("peak", 126.0, 154.0), EnergyWindow("lower", 115.0, 126.0))
    >>> peak = Photopeak(Study(acquisition, windows, [[[[5, 5]]], [[[1, 1]]]]), 0)
    >>> peak.line_kev, peak.below[0].window.name
    (140.511, 'lower')
    """

    study: Study
    index: int

    @property
    def window(self) -> EnergyWindow:
        """Energy window of the photopeak."""
        return self.study.windows[self.index]

    @property
    def upper_may_be_empty(self) -> bool:
        """True where the window above may be taken as empty for the nuclide."""
        return self.study.acquisition.nuclide in UPPER_EMPTY

    @cached_property
    def line_kev(self) -> float:
        """Energy of the nuclide's first line in the photopeak; InputError where it holds none."""
        lines = nuclide(self.study.acquisition.nuclide).lines
        held = [energy_kev for energy_kev, _ in lines if self.window.holds(energy_kev)]
        if not held:
            listed = ", ".join(f"{energy_kev:g}" for energy_kev, _ in lines)
            raise InputError(
                f"window {with_limits(self.window)} holds no line of {self.study.acquisition.nuclide} ({listed} keV): "
                "name another --photopeak or the right --nuclide"
            )
        return held[0]

    @cached_property
    def below(self) -> list[SideWindow]:
        """Windows that begin and have their middle below the photopeak's, the nearest first.

        Of those that touch it the narrowest comes first.
        """
        return self._beside(-1)

    @cached_property
    def above(self) -> list[SideWindow]:
        """Windows that end and have their middle above the photopeak's, in the order of `below`."""
        return self._beside(1)

    def _beside(self, side: int) -> list[SideWindow]:
        main, name = self.window, self.study.acquisition.nuclide
        whole = primary_counts(name, main)
        beside = []
        for index, window in enumerate(self.study.windows):
            outer_kev = window.lower_kev - main.lower_kev if side < 0 else window.upper_kev - main.upper_kev
            if index == self.index or side * outer_kev <= 0 or side * (window.centre_kev - main.centre_kev) <= 0:
                continue
            gap_kev = main.lower_kev - window.upper_kev if side < 0 else window.lower_kev - main.upper_kev
            primary = primary_counts(name, window) / whole
            beside.append(SideWindow(index, window, gap_kev, primary, not self.study.counts[index].any()))
        return sorted(beside, key=lambda one: (max(abs(one.gap_kev), GAP_KEV), one.window.width_kev))

    def sides(self) -> tuple[SideWindow, SideWindow | None]:
        """The windows of TEW below and above the photopeak; None above where it may be taken as empty.

        Raises InputError, with the ways out, where a side has none within LARGEST_GAP and LARGEST_PRIMARY. A window
        above without counts is none, unless it may be taken as empty.
        """
        largest_gap_kev = LARGEST_GAP * self.line_kev
        one_sided = self.upper_may_be_empty
        pure = [
            [side for side in sides if side.primary <= LARGEST_PRIMARY and (may_be_empty or not side.empty)]
            for sides, may_be_empty in ((self.below, True), (self.above, one_sided))
        ]
        lower, upper = (next((side for side in sides if side.gap_kev <= largest_gap_kev), None) for sides in pure)
        if lower is not None and (upper is not None or one_sided):
            return lower, upper
        reasons = [
            self._why_not(place, sides, pure_sides)
            for place, sides, pure_sides, side in zip(
                SIDES, (self.below, self.above), pure, (lower, upper), strict=True
            )
            if side is None
        ]
        if lower is not None and upper is None:
            reasons.append(f"it cannot be taken as empty for {self.study.acquisition.nuclide}")
        names = [sides[0].window.name for sides in pure if sides]
        ways = []
        if len(names) == 2 or (pure[0] and one_sided):
            ways.append(f"--scatter-windows {shlex.quote(','.join(names))} takes them all the same")
        if pure[0]:
            ways.append("--scatter dew with --dew-k needs a window below alone")
        ways.append("--scatter montecarlo needs a mu-map instead of windows")
        ways.append("--scatter none says that no correction is wanted")
        raise InputError(
            f"TEW needs a window on either side of the photopeak {with_limits(self.window)}: "
            f"{', and '.join(reasons)}; {', '.join(ways)}"
        )

    def _why_not(self, place: str, sides: Sequence[SideWindow], pure: Sequence[SideWindow]) -> str:
        """Why no window of one side will do."""
        if pure:
            return (
                f"{with_limits(pure[0].window)} lies {pure[0].gap_kev:.3g} keV {place} it, more than "
                f"{LARGEST_GAP:.0%} of {self.line_kev:.4g} keV"
            )
        if sides and sides[0].primary <= LARGEST_PRIMARY:
            return f"{with_limits(sides[0].window)} {place} it holds no counts"
        return _too_much_primary(sides[0]) if sides else f"there is none {place} it"

    def named_sides(self, indices: Sequence[int]) -> tuple[SideWindow | None, SideWindow | None]:
        """The windows of these indices below and above the photopeak, whatever their distance and order.

        Raises InputError where a window does not lie beside the photopeak or holds its primary, and where two lie on
        one side.
        """
        sides: dict[str, SideWindow] = {}
        for index in indices:
            window = self.study.windows[index]
            beside = zip(SIDES, (self.below, self.above), strict=True)
            place, side = next(
                ((place, one) for place, windows in beside for one in windows if one.index == index), ("", None)
            )
            if side is None:
                raise InputError(
                    f"scatter window {with_limits(window)} does not lie beside the photopeak "
                    f"{with_limits(self.window)}: name others with --scatter-windows LOWER,UPPER"
                )
            if side.primary > LARGEST_PRIMARY:
                raise InputError(f"{_too_much_primary(side)}: name others with --scatter-windows LOWER,UPPER")
            if place in sides:
                raise InputError(
                    f"the windows {', '.join(self.study.windows[i].name for i in indices)} of --scatter-windows lie "
                    f"{place} the photopeak: name one below and one above it"
                )
            sides[place] = side
        return sides.get("below"), sides.get("above")


def _too_much_primary(side: SideWindow) -> str:
    return (
        f"{with_limits(side.window)} holds {side.primary:.0%} as many unscattered photons as the photopeak (at most "
        f"{LARGEST_PRIMARY:.0%}, {BY_RESOLUTION})"
    )


def split_names(study: Study, names: str | Sequence[str]) -> tuple[str, ...]:
    """Names of one or two windows.

    Parameters
    ----------
    study
        Study with the windows, whose names may hold commas themselves.
    names
        "LOWER,UPPER", one name, or a sequence of names.

    Returns
    -------
    tuple of str
        One or two names.

    Raises
    ------
    InputError
        For another number of names.

    Examples
    --------
    >>> from spectac.recon import Acquisition
    >>> acquisition = Acquisition([0.0], [150.0], (1, 2), (4.0, 4.0), [10.0], "Tc-99m", None)
    >>> study = Study(acquisition, (EnergyWindow("low, wide", 90.0, 120.0),), [[[[1, 1]]]])
    >>> split_names(study, "low, wide"), split_names(study, "a,b")
    (('low, wide',), ('a', 'b'))
    """
    given = (names,) if isinstance(names, str) else tuple(names)
    of_study = {window.name.strip().lower() for window in study.windows}
    if isinstance(names, str) and names.strip().lower() not in of_study:
        parts = names.split(",")
        pairs = [(",".join(parts[:cut]), ",".join(parts[cut:])) for cut in range(1, len(parts))]
        given = next((pair for pair in pairs if {one.strip().lower() for one in pair} <= of_study), tuple(parts))
    if not 1 <= len(given) <= 2:
        raise InputError(f"--scatter-windows needs LOWER,UPPER or one name, not {len(given)} names")
    return given
