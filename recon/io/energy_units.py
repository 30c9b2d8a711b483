"""Limits of energy windows that a file gives in eV or MeV where keV are meant."""

_HIGHEST_LOWER_KEV, _LOWEST_UPPER_KEV = 2000.0, 2.0
"""No window begins above the one or ends below the other."""


def in_kev(lower: float, upper: float, what: str, warnings: list[str]) -> tuple[float, float]:
    """Limits in keV: those that can only be eV or MeV are converted, and a warning names them and `what` they limit."""
    unit, factor = ("eV", 1e-3) if lower > _HIGHEST_LOWER_KEV else ("MeV", 1e3)
    if not 0 <= lower < upper or (unit == "MeV" and upper >= _LOWEST_UPPER_KEV):
        return lower, upper
    kev = round(lower * factor, 9), round(upper * factor, 9)
    warnings.append(
        f"the limits of {what}, {lower:.10g} to {upper:.10g} keV, are those of {unit}: read as "
        f"{kev[0]:g} to {kev[1]:g} keV"
    )
    return kev
