"""Energy windows as files have them: limits in eV and MeV, names that several windows share."""

import pytest

from spectac.recon.io.energy_windows import in_kev, with_own_names
from spectac.recon.types import EnergyWindow


@pytest.mark.parametrize(("unit", "factor"), [("eV", 1e3), ("MeV", 1e-3)])
def test_limits_that_can_only_be_of_another_unit_are_converted_with_a_warning(unit, factor):
    warnings = []
    assert in_kev(126.45 * factor, 154.55 * factor, "photopeak", warnings) == pytest.approx((126.45, 154.55))
    (warning,) = warnings
    assert unit in warning
    assert "photopeak" in warning


@pytest.mark.parametrize("limits", [(126.45, 154.55), (0.0, 500.0), (154.0, 126.0), (-1.0, 1.0), (1.5, 2.0)])
def test_other_limits_stay(limits):
    """A window from 0 keV upwards is one; limits in the wrong order are the caller's to refuse."""
    warnings = []
    assert in_kev(*limits, "photopeak", warnings) == limits
    assert warnings == []


def test_names_are_told_apart_by_limits_then_by_number():
    windows = [
        EnergyWindow("Tc", 126, 154),
        EnergyWindow("tc ", 116, 126),
        EnergyWindow("peak", 126, 154),
        EnergyWindow("Tc", 126, 154),
    ]
    names = [window.name for window in with_own_names(windows)]
    assert names == ["Tc 126-154 keV (1)", "tc  116-126 keV", "peak", "Tc 126-154 keV (2)"]
