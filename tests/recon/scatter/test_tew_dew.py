"""Scatter estimates against hand-computed windows and spectra, and the choice of photopeak, windows and method."""

import math
import re
from itertools import permutations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from spectac.recon import Acquisition, EnergyWindow, InputError, Study
from spectac.recon.photopeak import photopeak_index
from spectac.recon.scatter.measured import projections
from spectac.recon.settings import ProjectionSettings

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


def test_tew_of_touching_windows_is_ogawas_formula_to_the_last_bit():
    """Images of studies whose windows touch, within 1 keV, must not change: the formula is written out here."""
    windows = [PEAK, EnergyWindow("lower", 117.0, 125.4), EnergyWindow("upper", 153.2, 158.0)]
    given = study(windows, [1, 1, 1])
    levels = np.array([100.0, 9.0, 3.0])[:, None, None, None]
    counts = np.random.default_rng(1).poisson(levels, given.counts.shape).astype(np.float32)
    found = projections(Study(given.acquisition, given.windows, counts))
    sigma = [0.0, *[12.0 / math.sqrt(8.0 * math.log(2.0)) / 4.0] * 2]
    lower, upper = (gaussian_filter(counts[i].astype(np.float64), sigma, mode="nearest") for i in (1, 2))
    wanted = (lower / windows[1].width_kev + upper / windows[2].width_kev) * (0.5 * 28.0)
    assert np.array_equal(found.scatter, wanted.astype(np.float32))
    assert found.scatter_method == "tew, side windows smoothed by 12 mm"
    assert found.notes == ()


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
    with pytest.raises(InputError, match=r"TEW needs .* none above it, and it cannot be taken as empty for I-123; "):
        projections(given, ProjectionSettings(scatter="tew"))
    with pytest.raises(InputError, match="names no window above"):
        projections(given, ProjectionSettings(scatter="tew", scatter_windows="lower"))


def line(window, height, slope):
    """Counts in a window of a spectrum of `height` per keV at 140 keV that changes by `slope` per keV."""
    return window.width_kev * (height + slope * (0.5 * (window.lower_kev + window.upper_kev) - 140.0))


def gaussian(window, energy_kev):
    """Share of a line that a camera of 9.8 % FWHM at 140.5 keV records in a window, by the error function."""
    sigma = 0.098 * math.sqrt(140.5 * energy_kev) / 2.3548200450309493
    upper, lower = ((limit - energy_kev) / sigma / math.sqrt(2.0) for limit in (window.upper_kev, window.lower_kev))
    return 0.5 * (math.erf(upper) - math.erf(lower))


@pytest.mark.parametrize(
    "sides",
    [
        ((110.0, 121.0), (157.0, 170.0)),
        ((124.0, 124.9), (154.5, 162.0)),
        ((90.0, 112.0), (168.0, 171.0)),
    ],
)
def test_a_linear_scatter_spectrum_is_reproduced_across_gaps(sides):
    """Scatter of 10 counts/keV at 140 keV that falls by 0.2 per keV: the line through two of its points is the line.

    The sum of counts per keV at both sides, as between touching windows, would be wrong by their unequal distances.
    """
    windows = [PEAK, *(EnergyWindow(name, *limits) for name, limits in zip(("low", "high"), sides, strict=True))]
    counts = [1000.0, *(line(window, 10.0, -0.2) for window in windows[1:])]
    found = projections(study(windows, counts))
    np.testing.assert_allclose(found.scatter, line(PEAK, 10.0, -0.2), rtol=1e-6)
    assert found.scatter_method == "tew, line through the windows' centres, side windows smoothed by 12 mm"
    assert [window.name for window in found.scatter_windows] == ["low", "high"]
    (note,) = found.notes
    assert "a gap to the photopeak peak (126-154 keV)" in note


def test_one_sided_tew_across_a_gap_lets_the_spectrum_end_with_the_photopeak():
    """Scatter of Tc-99m that falls linearly to 0 at 154 keV: 0.5 per keV and keV, 196 counts in the photopeak."""
    lower = EnergyWindow("lower", 100.0, 120.0)
    found = projections(study([PEAK, lower], [1000, 0.5 * (154.0 - 110.0) * 20.0]))
    np.testing.assert_allclose(found.scatter, 0.5 * 28.0**2 / 2, rtol=1e-6)
    assert "lower window only" in found.scatter_method
    assert "6 keV below it" in found.notes[0]


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        ((128.0, 148.0), (170.0, 189.0)),
        ((128.0, 148.0), (174.9, 189.0)),
        ((128.0, 141.0), (171.0, 189.0)),
        ((138.0, 147.0), (172.0, 180.0)),
    ],
)
def test_a_line_on_a_linear_background_is_recovered_from_overlapping_windows(lower, upper):
    """20,000 photons of I-123 on scatter of 50/keV at 140 keV that falls by 0.4 per keV; unremoved, 4 to 19 % more.

    The primary in the photopeak is what is left there, so that the estimate is one linear equation in it.
    """
    peak = EnergyWindow("peak", 143.1, 174.9)
    windows = [peak, EnergyWindow("low", *lower), EnergyWindow("high", *upper)]
    counts = [20000.0 * gaussian(window, 158.97) + line(window, 50.0, -0.4) for window in windows]
    found = projections(study(windows, counts, "I-123"))
    np.testing.assert_allclose(found.scatter, line(peak, 50.0, -0.4), rtol=1e-5)
    assert "of the primary removed" in found.scatter_method
    overlapping = [note for note in found.notes if "overlaps the photopeak" in note]
    assert len(overlapping) == sum(gap < -1 for gap in (143.1 - lower[1], upper[0] - 174.9))
    share = gaussian(windows[1], 158.97) / gaussian(peak, 158.97)
    assert (f"{share:.1%} of the photopeak's" in overlapping[0]) == (lower[1] > 144.1)


def test_an_overlap_that_holds_a_fifth_of_the_primary_is_refused():
    """A lower window up to 136 keV holds Phi((136 - 140.511) / 5.85) = 22 % of the line, the photopeak 98 %."""
    given = study([PEAK, EnergyWindow("lower", 110.0, 136.0), UPPER], [100, 50, 4])
    with pytest.raises(InputError, match=r"lower \(110-136 keV\) holds 22% as many unscattered .* --scatter none"):
        projections(given, ProjectionSettings(scatter="tew"))
    with pytest.raises(InputError, match="holds 22% as many unscattered photons"):
        projections(given, ProjectionSettings(scatter_windows="lower,upper"))
    found = projections(given)
    assert found.scatter is None
    assert found.notes[0].startswith("no scatter correction: TEW needs a window on either side of the photopeak peak")


@pytest.mark.parametrize(
    ("windows", "nuclide", "photopeak"),
    [
        # The photopeak split in two: the half without the line holds nearly as much of it.
        ([EnergyWindow("a", 126.0, 140.0), EnergyWindow("b", 140.0, 154.0)], "Tc-99m", None),
        ([PEAK, EnergyWindow("the same", 126.0, 154.0)], "Tc-99m", "peak"),
        ([PEAK, EnergyWindow("all", 50.0, 200.0)], "Tc-99m", None),
        ([PEAK, EnergyWindow("inside", 130.0, 135.0)], "Tc-99m", None),
        # 113 keV of Lu-177 touches nothing but stands where a window below 208 keV would.
        ([EnergyWindow("208", 113.5, 229.0), EnergyWindow("113", 102.0, 113.5)], "Lu-177", None),
        ([EnergyWindow("171", 154.0, 188.0), EnergyWindow("245", 188.0, 269.0)], "In-111", None),
        ([EnergyWindow("245", 221.0, 269.0), EnergyWindow("171", 154.0, 221.0)], "In-111", "245"),
    ],
)
def test_windows_that_hold_primary_are_no_scatter_windows(windows, nuclide, photopeak):
    given = study(windows, [100] * len(windows), nuclide)
    found = projections(given, ProjectionSettings(photopeak=photopeak))
    assert found.scatter is None
    assert "no scatter correction" in found.notes[0]
    assert "--scatter none" in found.notes[0]


def test_the_order_of_the_windows_in_the_file_does_not_matter():
    """Of several windows on a side the nearest is taken, of those that touch the narrowest."""
    windows = [PEAK, LOWER, UPPER, FAR, EnergyWindow("wide", 96.0, 126.0), EnergyWindow("high", 160.0, 170.0)]
    levels = [1000, 20, 4, 500, 600, 40]
    for order in permutations(range(6)):
        given = study([windows[i] for i in order], [levels[i] for i in order], shape=(1, 2, 2))
        found = projections(given)
        assert found.scatter_windows == (LOWER, UPPER)
        np.testing.assert_allclose(found.scatter, 42.0, rtol=1e-6)


def test_six_windows_of_lutetium_serve_both_peaks():
    """Windows of a GE Discovery 670: each peak has its own two neighbours, all of which touch within 1 keV."""
    limits = {
        "208": (187.2, 228.8), "113": (101.7, 124.3), "sc1": (166.4, 187.2), "sc2": (228.8, 249.6),
        "sc3": (90.4, 101.7), "sc4": (124.3, 135.6),
    }  # fmt: skip
    windows = [EnergyWindow(name, *pair) for name, pair in limits.items()]
    given = study(windows, [1000, 800, 104, 20.8, 113, 56.5], "Lu-177")
    upper = projections(given)
    assert [window.name for window in upper.scatter_windows] == ["sc1", "sc2"]
    np.testing.assert_allclose(upper.scatter, (5.0 + 1.0) * 41.6 / 2, rtol=1e-6)
    lower = projections(given, ProjectionSettings(photopeak="113"))
    assert [window.name for window in lower.scatter_windows] == ["sc3", "sc4"]
    np.testing.assert_allclose(lower.scatter, (10.0 + 5.0) * 22.6 / 2, rtol=1e-6)
    assert lower.energy_kev == pytest.approx(112.95)
    assert upper.notes == lower.notes == ()


def test_a_gap_of_more_than_a_tenth_of_the_energy_needs_the_windows_names():
    """FAR ends 16 keV below the photopeak; a name is enough, in either order, and whatever commas it holds."""
    windows = [EnergyWindow("far, Tc", 90.0, 110.0), PEAK, EnergyWindow("upper", 170.5, 180.0)]
    given = study(windows, [line(window, 10.0, -0.1) for window in windows])
    found = projections(given)
    assert found.scatter is None
    assert "--scatter-windows 'far, Tc,upper' takes them all the same" in found.notes[0]
    assert "16 keV below it, more than 10% of 140.5 keV" in found.notes[0]
    for names in ("far, Tc,upper", " UPPER ,far, tc", ("upper", "far, Tc"), ["far, Tc", "upper"]):
        by_name = projections(given, ProjectionSettings(scatter_windows=names))
        np.testing.assert_allclose(by_name.scatter, line(PEAK, 10.0, -0.1), rtol=1e-6)
        assert [window.name for window in by_name.scatter_windows] == ["far, Tc", "upper"]
    dew = projections(given, ProjectionSettings(scatter="dew", dew_k=0.5, scatter_windows="far, Tc"))
    np.testing.assert_allclose(dew.scatter, 0.5 * given.counts[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("names", "method", "message"),
    [
        ("lower,none of them", "tew", "there is no energy window 'none of them'"),
        ("lower,far", "tew", "lower, far of --scatter-windows lie below the photopeak"),
        ("lower,lower", "auto", "lie below the photopeak"),
        ("peak,upper", "auto", "peak .* does not lie beside the photopeak"),
        ("upper", "auto", "names no window below the photopeak"),
        ("lower,upper,far", "tew", "needs LOWER,UPPER or one name, not 3"),
        ("", "tew", "there is no energy window ''"),
        ("lower,upper", "dew", "DEW takes one window below"),
        ("upper", "dew", "DEW takes one window below"),
        ("lower,upper", "none", "--scatter-windows belongs to scatter methods auto, tew and dew"),
    ],
)
def test_names_that_make_no_scatter_windows_are_refused(names, method, message):
    given = study([PEAK, LOWER, UPPER, FAR], [100, 20, 4, 30])
    with pytest.raises(InputError, match=message):
        projections(
            given, ProjectionSettings(scatter=method, scatter_windows=names, dew_k=0.5 if method == "dew" else None)
        )


@pytest.mark.parametrize(
    ("windows", "nuclide", "words"),
    [
        ([PEAK], "Tc-99m", "there is none below it, and there is none above it"),
        ([PEAK, UPPER], "Tc-99m", "there is none below it"),
        ([PEAK, FAR], "Tc-99m", "--scatter-windows far takes"),
        (
            [EnergyWindow("peak", 143.0, 175.0), EnergyWindow("lower", 132.0, 143.0)],
            "I-123",
            "--scatter dew with --dew-k",
        ),
    ],
)
def test_auto_says_when_it_corrects_nothing_and_an_asked_none_does_not(windows, nuclide, words):
    given = study(windows, [100, 20][: len(windows)], nuclide)
    note, other = projections(given).notes
    assert note.startswith("no scatter correction: TEW needs a window on either side of the photopeak")
    assert words in note
    assert "--scatter none says that no correction is wanted" in note
    assert "--collimator" in other
    assert projections(given, ProjectionSettings(scatter="none")).notes == ()


@pytest.mark.parametrize(
    ("levels", "nuclide", "share"),
    [
        # (40/10 + 4/4) * 28/2 = 70 of 100 counts in every bin.
        ([100, 40, 4], "Tc-99m", "takes 70% of the photopeak counts"),
        # (60/10 + 6/4) * 28/2 = 105 of 100.
        ([100, 60, 6], "Tc-99m", "takes 105% of .* and exceeds them in 100% of the bright bins"),
    ],
)
def test_an_estimate_that_eats_the_photopeak_is_told_with_its_number(levels, nuclide, share):
    """One and a half scattered photons for each primary one are more than the middle of a large body has."""
    (note,) = projections(study([PEAK, LOWER, UPPER], levels, nuclide)).notes
    assert re.search(share, note)
    assert "--scatter none" in note
    (note,) = projections(study([PEAK, FAR], [100, 80]), ProjectionSettings(scatter="dew", dew_k=1.0)).notes
    assert "takes 80% of the photopeak counts" in note


def test_what_scatters_down_from_a_stronger_line_may_be_more():
    """171 keV of In-111 lies below a line of the same intensity: 70 % are told for Tc-99m, not here."""
    windows = [EnergyWindow("171", 157.0, 185.0), EnergyWindow("lower", 147.0, 157.0), EnergyWindow("u", 185.0, 189.0)]
    assert projections(study(windows, [100, 40, 4], "In-111")).notes == ()
    assert len(projections(study(windows, [100, 60, 6], "In-111")).notes) == 1


def test_a_lower_window_without_counts_is_told():
    (note,) = projections(study([PEAK, LOWER, UPPER], [100, 0, 4])).notes
    assert "lower (116-126 keV) holds no counts" in note


def test_an_upper_window_without_counts_is_never_taken_as_empty_for_iodine():
    """Photons of 529 keV fill the window above 159 keV: without counts it was not recorded."""
    windows = [EnergyWindow("peak", 143.0, 175.0), EnergyWindow("lo", 132.0, 143.0), EnergyWindow("hi", 175.0, 186.0)]
    given = study(windows, [100, 20, 0], "I-123")
    found = projections(given)
    assert found.scatter is None
    assert re.search(r"no scatter correction: .*hi \(175-186 keV\) above it holds no counts", found.notes[0])
    with pytest.raises(InputError, match="holds no counts"):
        projections(given, ProjectionSettings(scatter="tew"))
    named = projections(given, ProjectionSettings(scatter="tew", scatter_windows="lo,hi"))
    assert any("hi (175-186 keV) holds no counts" in note for note in named.notes)
    # No photon of Tc-99m has more energy than the photopeak's: an empty window above is no fault.
    assert projections(study([PEAK, LOWER, UPPER], [100, 20, 0])).notes == ()


def test_dew_with_an_overlapping_window_tells_the_primary_that_it_takes():
    """A window that reaches 4 keV into the photopeak counts unscattered photons: k times their share is subtracted."""
    window = EnergyWindow("over", 110.0, 130.0)
    (note,) = projections(
        study([PEAK, window], [100, 20]), ProjectionSettings(scatter="dew", dew_k=0.5, scatter_windows="over")
    ).notes
    share = 0.5 * gaussian(window, 140.511) / gaussian(PEAK, 140.511)
    assert f"by 4 keV: DEW takes some {share:.1%} of the unscattered photons" in note
    assert projections(study([PEAK, LOWER], [100, 20]), ProjectionSettings(scatter="dew", dew_k=0.5)).notes == ()


def test_a_factor_k_that_tew_has_no_use_for_is_told():
    """The user who gives k expects DEW; "auto" prefers TEW where both windows are there."""
    given = study([PEAK, LOWER, UPPER], [100, 20, 4])
    found = projections(given, ProjectionSettings(dew_k=0.5))
    assert found.notes == ("k = 0.5 was not used: TEW has its windows; DEW is --scatter dew",)
    assert np.array_equal(found.scatter, projections(given).scatter)


def test_a_narrow_photopeak_whose_side_windows_hold_primary_is_told():
    """10 % of 140.5 keV: between 1.2 and 2.4 sigma lie 11 % of the line, in the photopeak 77 %: 0.28 for both sides."""
    windows = [EnergyWindow("p", 133.5, 147.5), EnergyWindow("l", 126.5, 133.5), EnergyWindow("u", 147.5, 154.5)]
    found = projections(study(windows, [100, 3, 1]))
    assert found.scatter is not None
    assert "TEW takes some 28% of the unscattered photons" in found.notes[0]


def test_dew_takes_the_window_below_times_k():
    found = projections(study([PEAK, FAR], [100, 30]), ProjectionSettings(scatter="dew", dew_k=0.5))
    np.testing.assert_allclose(found.scatter, 15.0, rtol=1e-6)


def test_auto_uses_dew_only_with_an_explicit_k():
    given = study([PEAK, FAR], [100, 30])
    assert projections(given).scatter is None
    np.testing.assert_allclose(projections(given, ProjectionSettings(dew_k=0.5)).scatter, 15.0, rtol=1e-6)


def test_smoothing_keeps_counts_and_has_the_stated_width():
    """One hot bin of the side window becomes a Gaussian of 12 mm FWHM: variance (12/2.3548)^2 mm^2 + sampling."""
    given = study([PEAK, FAR], [0, 0], shape=(1, 41, 41))
    counts = given.counts.copy()
    counts[1, 0, 20, 20] = 1000.0
    found = projections(
        Study(given.acquisition, given.windows, counts), ProjectionSettings(scatter="dew", dew_k=1.0)
    ).scatter[0]
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
    found = projections(
        Study(given.acquisition, given.windows, counts), ProjectionSettings(scatter="dew", dew_k=1.0)
    ).scatter
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
    assert projections(given, ProjectionSettings(scatter="none", photopeak="245")).energy_kev == pytest.approx(245.35)
    assert projections(given, ProjectionSettings(scatter="none")).energy_kev == pytest.approx(171.28)


@pytest.mark.parametrize(
    ("windows", "arguments", "message"),
    [
        ([LOWER], {}, "no energy window holds the 140.511 keV line of Tc-99m"),
        ([PEAK], {"photopeak": "nope"}, "there is no energy window 'nope'"),
        ([PEAK, LOWER], {"photopeak": "lower"}, "window lower .* holds no line of Tc-99m"),
        ([PEAK], {"scatter": "tew"}, "TEW needs"),
        ([PEAK], {"scatter": "dew", "dew_k": 0.5}, "DEW needs a window below"),
        ([PEAK, LOWER], {"scatter": "dew"}, "give --dew-k"),
        ([PEAK, LOWER], {"scatter": "dew", "dew_k": -1.0}, "must be above 0"),
        (
            [PEAK],
            {"scatter": "guess"},
            "scatter method 'guess' is not installed: use one of auto, dew, montecarlo, none, tew",
        ),
    ],
)
def test_impossible_requests_say_what_to_do(windows, arguments, message):
    given = study(windows, [1] * len(windows))
    with pytest.raises(InputError, match=message):
        projections(given, ProjectionSettings(**arguments))
