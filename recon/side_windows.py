"""The energy windows beside the photopeak: which of them show its scatter, and how much primary falls into them."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import ndtr

from spectac.recon.collimator import FWHM_PER_SIGMA
from spectac.recon.errors import InputError
from spectac.recon.nuclides import nuclide
from spectac.recon.types import EnergyWindow, Study

GAP_KEV = 1.0
"""Largest gap or overlap between the photopeak and a window that still touches it."""

LARGEST_GAP = 0.10
"""Of the line's energy: a window further away than this is taken only by name."""

LARGEST_PRIMARY = 0.20
"""Primary counts of a side window over those of the photopeak, beyond which it is no scatter window."""

ENERGY_RESOLUTION = 0.098
RESOLUTION_KEV = 140.5
"""FWHM over energy of a usual camera, and the energy that it belongs to; the FWHM grows with the energy's root."""

UPPER_EMPTY = ("Tc-99m",)
"""Nuclides whose window above the photopeak may be taken as empty: no photon of theirs has more energy."""


@dataclass(frozen=True)
class SideWindow:
    """A window beside the photopeak: `gap_kev` to it, below 0 where they overlap; `primary` over the photopeak's."""

    index: int
    window: EnergyWindow
    gap_kev: float
    primary: float

    @property
    def touches(self) -> bool:
        """True where gap or overlap are within GAP_KEV."""
        return abs(self.gap_kev) <= GAP_KEV

    def has_counts(self, study: Study) -> bool:
        """True where the study's counts in the window are not all 0."""
        return bool(study.counts[self.index].any())

    @property
    def centre_kev(self) -> float:
        """Middle of the window."""
        return centre_kev(self.window)


def centre_kev(window: EnergyWindow) -> float:
    """Middle of a window."""
    return 0.5 * (window.lower_kev + window.upper_kev)


def limits(window: EnergyWindow) -> str:
    """Limits of a window."""
    return f"{window.lower_kev:g}-{window.upper_kev:g} keV"


def with_limits(window: EnergyWindow) -> str:
    """Name and limits of a window."""
    return f"{window.name} ({limits(window)})"


def line_kev(study: Study, peak: int) -> float:
    """Energy of the nuclide's first line that the photopeak window holds; InputError where it holds none."""
    lines = nuclide(study.acquisition.nuclide).lines
    held = [energy_kev for energy_kev, _ in lines if study.windows[peak].holds(energy_kev)]
    if not held:
        listed = ", ".join(f"{energy_kev:g}" for energy_kev, _ in lines)
        raise InputError(
            f"window {with_limits(study.windows[peak])} holds no line of {study.acquisition.nuclide} ({listed} keV): "
            "name another --photopeak or the right --nuclide"
        )
    return held[0]


def primary_counts(name: str, window: EnergyWindow) -> float:
    """Photons of a nuclide per decay that a camera records in a window unscattered, all of them stopped.

    Each line is a Gaussian of FWHM = 0.098 sqrt(140.5 E) in keV.
    """
    total = 0.0
    for energy_kev, intensity in nuclide(name).lines:
        sigma_kev = ENERGY_RESOLUTION * math.sqrt(RESOLUTION_KEV * energy_kev) / FWHM_PER_SIGMA
        upper, lower = ((limit - energy_kev) / sigma_kev for limit in (window.upper_kev, window.lower_kev))
        total += intensity * float(ndtr(upper) - ndtr(lower))
    return total


def beside(study: Study, peak: int) -> tuple[list[SideWindow], list[SideWindow]]:
    """The windows below and above the photopeak, the nearest first; those that touch it, the narrowest first.

    A window lies below where it begins below the photopeak and has its middle below the photopeak's.
    """
    main, name = study.windows[peak], study.acquisition.nuclide
    whole = primary_counts(name, main)
    below, above = [], []
    for index, window in enumerate(study.windows):
        if index == peak:
            continue
        primary = primary_counts(name, window) / whole
        if window.lower_kev < main.lower_kev and centre_kev(window) < centre_kev(main):
            below.append(SideWindow(index, window, main.lower_kev - window.upper_kev, primary))
        elif window.upper_kev > main.upper_kev and centre_kev(window) > centre_kev(main):
            above.append(SideWindow(index, window, window.lower_kev - main.upper_kev, primary))

    def nearness(side: SideWindow) -> tuple[float, float]:
        return max(abs(side.gap_kev), GAP_KEV), side.window.width_kev

    return sorted(below, key=nearness), sorted(above, key=nearness)


def chosen(study: Study, peak: int) -> tuple[SideWindow, SideWindow | None]:
    """The windows of TEW below and above the photopeak; None above where the nuclide allows to take it as empty.

    InputError, with the ways out, where there is none on a side within LARGEST_GAP and LARGEST_PRIMARY. A window above
    without counts is none, unless the nuclide allows to take it as empty.
    """
    below, above = beside(study, peak)
    largest_gap_kev = LARGEST_GAP * line_kev(study, peak)
    one_sided = study.acquisition.nuclide in UPPER_EMPTY
    pure = [
        [side for side in sides if side.primary <= LARGEST_PRIMARY and (may_be_empty or side.has_counts(study))]
        for sides, may_be_empty in ((below, True), (above, one_sided))
    ]
    near = [next((side for side in sides if side.gap_kev <= largest_gap_kev), None) for sides in pure]
    lower, upper = near
    if lower is not None and (upper is not None or one_sided):
        return lower, upper
    reasons = [
        _why_not(sides, of_side, where, study, peak)
        for sides, of_side, side, where in zip((below, above), pure, near, ("below", "above"), strict=True)
        if side is None
    ]
    if lower is not None and upper is None:
        reasons.append(f"it cannot be taken as empty for {study.acquisition.nuclide}")
    names = [sides[0].window.name for sides in pure if sides]
    ways = []
    if len(names) == 2 or (pure[0] and one_sided):
        ways.append(f"--scatter-windows {shlex.quote(','.join(names))} takes them all the same")
    if pure[0]:
        ways.append("--scatter dew with --dew-k needs a window below alone")
    ways.append("--scatter none says that no correction is wanted")
    raise InputError(
        f"TEW needs a window on either side of the photopeak {with_limits(study.windows[peak])}: "
        f"{', and '.join(reasons)}; {', '.join(ways)}"
    )


def _why_not(sides: Sequence[SideWindow], pure: Sequence[SideWindow], where: str, study: Study, peak: int) -> str:
    """Why no window of one side will do."""
    if pure:
        return (
            f"{with_limits(pure[0].window)} lies {pure[0].gap_kev:.3g} keV {where} it, more than {LARGEST_GAP:.0%} of "
            f"{line_kev(study, peak):.4g} keV"
        )
    if sides and sides[0].primary <= LARGEST_PRIMARY:
        return f"{with_limits(sides[0].window)} {where} it holds no counts"
    if sides:
        return too_much_primary(sides[0])
    return f"there is none {where} it"


def too_much_primary(side: SideWindow) -> str:
    """Why a window is no scatter window, in words."""
    return (
        f"{with_limits(side.window)} holds {side.primary:.0%} as many unscattered photons as the photopeak (at most "
        f"{LARGEST_PRIMARY:.0%}, by an energy resolution of {ENERGY_RESOLUTION:.1%} at {RESOLUTION_KEV:g} keV)"
    )


def named(study: Study, peak: int, indices: Sequence[int]) -> tuple[SideWindow | None, SideWindow | None]:
    """The windows of these indices as the ones below and above the photopeak, whatever their distance and order.

    InputError where one does not lie beside the photopeak or holds its primary, and where two lie on one side.
    """
    below, above = beside(study, peak)
    found: list[SideWindow | None] = [None, None]
    for index in indices:
        window = study.windows[index]
        place = [next((side for side in sides if side.index == index), None) for sides in (below, above)]
        side = place[0] or place[1]
        if side is None:
            raise InputError(
                f"scatter window {with_limits(window)} does not lie beside the photopeak "
                f"{with_limits(study.windows[peak])}: name others with --scatter-windows LOWER,UPPER"
            )
        if side.primary > LARGEST_PRIMARY:
            raise InputError(f"{too_much_primary(side)}: name others with --scatter-windows LOWER,UPPER")
        of_side = 0 if place[0] else 1
        if found[of_side] is not None:
            raise InputError(
                f"the windows {', '.join(study.windows[i].name for i in indices)} of --scatter-windows lie "
                f"{('below', 'above')[of_side]} the photopeak: name one below and one above it"
            )
        found[of_side] = side
    return found[0], found[1]


def split_names(study: Study, names: str | Sequence[str]) -> tuple[str, ...]:
    """One or two names from "LOWER,UPPER" or a sequence; names of the study's windows may hold commas themselves."""
    given = (names,) if isinstance(names, str) else tuple(names)
    known = {window.name.strip().lower() for window in study.windows}
    if isinstance(names, str) and names.strip().lower() not in known:
        parts = names.split(",")
        pairs = [(",".join(parts[:cut]), ",".join(parts[cut:])) for cut in range(1, len(parts))]
        given = next((pair for pair in pairs if {one.strip().lower() for one in pair} <= known), tuple(parts))
    if not 1 <= len(given) <= 2:
        raise InputError(f"--scatter-windows needs LOWER,UPPER or one name, not {len(given)} names")
    return given
