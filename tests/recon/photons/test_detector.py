"""Holes, crystal and energy windows against closed forms and textbooks."""

import numpy as np
import pytest

from spectac.recon.collimator import COLLIMATORS, Collimator
from spectac.recon.errors import InputError
from spectac.recon.photons.detector import Crystal, geometric_efficiency
from spectac.recon.types import EnergyWindow


def test_geometric_efficiency_is_the_solid_angle_of_the_holes():
    """Far from the collimator a hexagonal hole of width d shows its area over 4 pi L^2, times the open share."""
    entry = COLLIMATORS["ge-lehr"]
    length = entry.length_mm - 20.0 / 26.89  # lead at 140.5 keV
    area = np.sqrt(3.0) / 2.0 * 1.5**2
    expected = area / (4.0 * np.pi * length**2) * (1.5 / 1.7) ** 2
    assert geometric_efficiency(entry, 140.5) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(
    ("entry", "kev", "message"),
    [
        (Collimator.from_line(1.5, 0.02), 140.5, "has no holes"),
        (Collimator("thin", 2.0, 0.5, 0.2, 3.8), 140.5, "thin: its septa are transparent at 140.5 keV"),
    ],
)
def test_a_collimator_without_holes_has_no_efficiency(entry, kev, message):
    with pytest.raises(InputError, match=message):
        geometric_efficiency(entry, kev)


def test_acceptance_is_crystal_times_gaussian():
    """In a window of one FWHM about a line lie 76.1 % of its counts; half of them above its centre.

    NaI takes 1 - exp(-mu t) of them; textbooks (Cherry, Sorenson, Phelps) have mu = 2.64 /cm at 140 keV.
    """
    crystal = Crystal(energy_resolution=0.10, thickness_mm=9.0)
    width = 0.10 * np.sqrt(140.5 * 140.0)
    whole = crystal.acceptance(EnergyWindow("all", 1.0, 900.0), 140.0)
    assert whole == pytest.approx(1.0 - np.exp(-0.9 * 2.64), rel=0.002)
    one_fwhm = crystal.acceptance(EnergyWindow("fwhm", 140.0 - width / 2, 140.0 + width / 2), 140.0)
    assert one_fwhm / whole == pytest.approx(0.7610, abs=2e-4)
    upper_half = crystal.acceptance(EnergyWindow("half", 140.0, 900.0), 140.0)
    assert upper_half / whole == pytest.approx(0.5, abs=1e-6)


def test_acceptance_of_adjoining_windows_adds_up():
    crystal = Crystal(0.099)
    lower, peak, upper = (
        EnergyWindow(str(low), low, high) for low, high in ((130.0, 143.0), (143.0, 175.0), (175.0, 186.0))
    )
    energies = np.linspace(100.0, 200.0, 41)
    parts = sum(crystal.acceptance(window, energies) for window in (peak, lower, upper))
    np.testing.assert_allclose(parts, crystal.acceptance(EnergyWindow("sum", 130.0, 186.0), energies), atol=1e-12)
    assert parts.shape == energies.shape


def test_energy_resolution_is_stated_at_technetiums_line():
    """FWHM 9.9 % at 140.5 keV is 13.9 keV; at 159 keV it is 9.9 % * sqrt(140.5/159) = 9.31 %."""
    window = EnergyWindow("above", 158.97 + 0.5 * 0.09307 * 158.97, 900.0)
    share = Crystal(0.099).acceptance(window, 158.97) / Crystal(0.099).acceptance(
        EnergyWindow("all", 1.0, 900.0), 158.97
    )
    # Half a FWHM above the mean of a Gaussian lie 11.95 %.
    assert share == pytest.approx(0.1195, abs=2e-4)
