"""Scatter estimates against hand-computed windows, and the choice of photopeak and method."""

import numpy as np
import pytest

from spectac.recon import Acquisition, EnergyWindow, InputError, Study
from spectac.recon.scatter import photopeak_index, projections

PEAK = EnergyWindow("peak", 126.0, 154.0)
LOWER = EnergyWindow("lower", 116.0, 126.0)
UPPER = EnergyWindow("upper", 154.0, 158.0)
FAR = EnergyWindow("far", 90.0, 110.0)


def study(windows, levels, nuclide="Tc-99m", shape=(4, 8, 8)):
    acquisition = Acquisition(
        np.arange(shape[0]) * 90.0, np.full(shape[0], 150.0), shape[1:], (4.0, 4.0), np.ones(shape[0]), nuclide, None
    )
    counts = np.stack([np.full(shape, level, np.float32) for level in levels])
    return Study(acquisition, tuple(windows), counts)


def test_tew_is_the_trapezium_between_the_side_windows():
    """(20/10 + 4/4) * 28/2 = 42 counts in every bin; smoothing leaves a constant alone, up to the edge."""
    found = projections(study([PEAK, LOWER, UPPER], [100, 20, 4]))
    np.testing.assert_allclose(found.scatter, 42.0, rtol=1e-6)
    assert found.scatter_method == "tew, side windows smoothed by 12 mm"
    assert found.counts.max() == 100


def test_one_sided_tew_for_technetium_takes_the_upper_window_as_empty():
    """(20/10) * 28/2 = 28."""
    found = projections(study([LOWER, PEAK], [20, 100]))
    np.testing.assert_allclose(found.scatter, 28.0, rtol=1e-6)
    assert found.scatter_method.startswith("tew, lower window only")


def test_one_sided_tew_is_refused_for_iodine():
    """The down-scatter of I-123's 529 keV photons fills the upper window: it must be measured."""
    windows = [EnergyWindow("peak", 143.0, 175.0), EnergyWindow("lower", 132.0, 143.0)]
    given = study(windows, [100, 20], "I-123")
    assert projections(given).scatter is None
    with pytest.raises(InputError, match="TEW needs a window directly below and one directly above"):
        projections(given, "tew")


def test_dew_takes_the_window_below_times_k():
    found = projections(study([PEAK, FAR], [100, 30]), "dew", dew_k=0.5)
    np.testing.assert_allclose(found.scatter, 15.0, rtol=1e-6)


def test_auto_uses_dew_only_with_an_explicit_k():
    given = study([PEAK, FAR], [100, 30])
    assert projections(given).scatter is None
    np.testing.assert_allclose(projections(given, dew_k=0.5).scatter, 15.0, rtol=1e-6)


def test_smoothing_keeps_counts_and_has_the_stated_width():
    """One hot bin of the side window becomes a Gaussian of 12 mm FWHM: variance (12/2.3548)^2 mm^2 + sampling."""
    given = study([PEAK, FAR], [0, 0], shape=(1, 41, 41))
    counts = given.counts.copy()
    counts[1, 0, 20, 20] = 1000.0
    found = projections(Study(given.acquisition, given.windows, counts), "dew", dew_k=1.0).scatter[0]
    assert found.sum() == pytest.approx(1000.0, rel=1e-5)
    place = (np.arange(41) - 20) * 4.0
    for profile in (found.sum(axis=0), found.sum(axis=1)):
        variance = (profile * place**2).sum() / profile.sum()
        # A Gaussian cut off at 4 sigma, as scipy's is, has 0.11 % less variance.
        assert variance == pytest.approx((12.0 / 2.354820) ** 2, rel=0.005)


def test_views_do_not_mix():
    given = study([PEAK, FAR], [0, 0], shape=(3, 8, 8))
    counts = given.counts.copy()
    counts[1, 1] = 7.0
    found = projections(Study(given.acquisition, given.windows, counts), "dew", dew_k=1.0).scatter
    np.testing.assert_allclose(found.max(axis=(1, 2)), [0, 7, 0], atol=1e-5)


def test_photopeak_is_the_window_that_holds_the_line_even_when_asymmetric():
    """The centre of 139-160 keV is nearer to the middle of an upper window, but it holds 140.5 keV."""
    windows = [EnergyWindow("odd", 139.0, 160.0), EnergyWindow("centre 140 misses", 120.0, 138.0)]
    assert photopeak_index(study(windows, [1, 1])) == 0


def test_photopeak_is_the_narrowest_window_that_holds_the_line():
    assert photopeak_index(study([EnergyWindow("wide", 90.0, 200.0), PEAK], [1, 1])) == 1


def test_photopeak_by_name_ignores_case():
    assert photopeak_index(study([LOWER, PEAK], [1, 1]), " PEAK ") == 1


def test_a_named_window_sets_the_energy_of_the_line_that_it_holds():
    windows = [EnergyWindow("171", 154.0, 188.0), EnergyWindow("245", 221.0, 269.0)]
    given = study(windows, [1, 2], "In-111")
    assert projections(given, "none", "245").energy_kev == pytest.approx(245.35)
    assert projections(given, "none").energy_kev == pytest.approx(171.28)


@pytest.mark.parametrize(
    ("windows", "arguments", "message"),
    [
        ([LOWER], {}, "no energy window holds the 140.511 keV line of Tc-99m"),
        ([PEAK], {"photopeak": "nope"}, "there is no energy window 'nope'"),
        ([PEAK, LOWER], {"photopeak": "lower"}, "window lower .* holds no line of Tc-99m"),
        ([PEAK], {"method": "tew"}, "TEW needs"),
        ([PEAK], {"method": "dew", "dew_k": 0.5}, "DEW needs a window below"),
        ([PEAK, LOWER], {"method": "dew"}, "give --dew-k"),
        ([PEAK, LOWER], {"method": "dew", "dew_k": -1.0}, "must be above 0"),
        ([PEAK], {"method": "guess"}, "is not one of auto, none, dew, tew"),
    ],
)
def test_impossible_requests_say_what_to_do(windows, arguments, message):
    given = study(windows, [1] * len(windows))
    with pytest.raises(InputError, match=message):
        projections(given, **arguments)
