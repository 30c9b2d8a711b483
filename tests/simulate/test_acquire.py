"""From a patient to a study: both ways to the primary, noise, counts, decay, and the files that come out."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from spectac.recon.errors import InputError
from spectac.recon.io import hdf5, open_study
from spectac.recon.io.dicom.nm_write_projections import write_study
from spectac.recon.system import view_weights_s
from spectac.recon.types import Grid
from spectac.simulate.acquire import Patient, expected_counts
from spectac.simulate.head import Head, draw_head
from spectac.simulate.regions import LABEL
from spectac.simulate.scanner import Scanner
from spectac.simulate.uptake import Uptake, draw_uptake

CAMERA = Scanner(
    "test", "siemens-lehr", heads=2, matrix=(28, 32), pixel_mm=8.0, views=8, radius_mm=140.0, scheme="tew",
    view_seconds=20.0,
)  # fmt: skip


def water_patient(nuclide="I-123", voxel_mm=4.0, hot=True):
    """An ellipsoid of water with a skull and a hot spot off the axis, all of it above row 4 and below the last."""
    n = np.array((52, 50, 44)) * 4 // round(voxel_mm)
    grid = Grid.upright(tuple(int(k) for k in n), (voxel_mm,) * 3, tuple(-0.5 * voxel_mm * (n[::-1] - 1)))
    z, y, x = grid.centres_mm()
    level = np.sqrt((x / 78.0) ** 2 + (y[:, None] / 92.0) ** 2 + (z[:, None, None] / 98.0) ** 2)
    labels = np.where(level <= 1.0, LABEL["muscle"], LABEL["outside"]).astype(np.uint8)
    labels[level <= 0.95], labels[level <= 0.88] = LABEL["skull"], LABEL["csf"]
    values = {"outside": 0.0012, "muscle": 1.05, "skull": 1.7, "csf": 1.0}
    table = np.zeros(len(LABEL), np.float32)
    for name, density in values.items():
        table[LABEL[name]] = density
    activity = (level <= 0.85).astype(np.float32)
    if hot:
        activity[(x - 28.0) ** 2 + (y[:, None] + 12.0) ** 2 + (z[:, None, None] - 16.0) ** 2 < 14.0**2] = 6.0
    return Patient(Head(grid, labels, table[labels], {}), Uptake(activity, nuclide, "dat", {}))


@pytest.fixture(scope="module")
def quick():
    """Expected counts by the fast way, from a few histories."""
    patient = water_patient()
    return SimpleNamespace(patient=patient, expected=expected_counts(patient, CAMERA, 1, histories=20_000))


def test_projected_primary_is_the_monte_carlos(quick, figure):
    """The fast way's primary against births by forced detection: other grid, other code, within 1 %.

    In every window each view's sum; and the profiles over columns, which a half pixel's shift would change by 10 %,
    within 2.5 % RMS above a tenth of their maximum (100,000 births: 1.3 %).
    """
    full = expected_counts(quick.patient, CAMERA, 2, full=True, histories=100_000)
    for window, slow, fast in zip(full.windows, full.primary, quick.expected.primary, strict=True):
        ratio = fast.sum(axis=(1, 2), dtype=np.float64) / slow.sum(axis=(1, 2), dtype=np.float64)
        figure(f"projected primary / Monte Carlo's, {window.name}, worst view", np.abs(ratio - 1).max(), "0.01")
        np.testing.assert_allclose(ratio, 1.0, atol=0.01)
    a, b = quick.expected.primary[0].sum(axis=1), full.primary[0].sum(axis=1)
    bright = b > 0.1 * b.max()
    error = float(np.sqrt(np.mean((a[bright] / b[bright] - 1.0) ** 2)))
    figure("projected primary against Monte Carlo's, profiles, RMS", error, "0.025")
    assert error < 0.025
    scatter = [part.scatter.sum(axis=(1, 2, 3)) for part in (quick.expected, full)]
    # 20,000 histories: 1 % in the photopeak, where a sixth of the events count.
    np.testing.assert_allclose(scatter[0], scatter[1], rtol=0.06)
    assert full.scatter_error is not None
    assert quick.expected.scatter_error is None


def test_a_fan_beams_projected_primary_is_the_monte_carlos(figure):
    """As for parallel holes, with a field that cuts the head and a crystal that stops more of the oblique photons.

    8 mm pixels are 4.6 mm wide at the axis, and an odd number of them shows 60 mm to either side.
    """
    patient = water_patient()
    scanner = replace(CAMERA, collimator="ge-vg-leuhr-fan", heads=1, views=6, matrix=(28, 27), radius_mm=120.0)
    full = expected_counts(patient, scanner, 2, full=True, histories=100_000)
    fast = expected_counts(patient, scanner, 1, histories=20_000)
    ratio = fast.primary.sum(axis=(2, 3), dtype=np.float64) / full.primary.sum(axis=(2, 3), dtype=np.float64)
    a, b = fast.primary[0].sum(axis=1), full.primary[0].sum(axis=1)
    bright = b > 0.1 * b.max()
    error = float(np.sqrt(np.mean((a[bright] / b[bright] - 1.0) ** 2)))
    scatter = fast.scatter.sum(axis=(1, 2, 3)) / full.scatter.sum(axis=(1, 2, 3))
    figure("fan, projected primary / Monte Carlo's, worst view and window", np.abs(ratio - 1).max(), "0.01")
    figure("fan, projected primary against Monte Carlo's, profiles, RMS", error, "0.025")
    assert b[:, [0, -1]].max() > 0.1 * b.max()
    np.testing.assert_allclose(ratio, 1.0, atol=0.01)
    assert error < 0.025
    assert abs(scatter[0] - 1.0) < 0.06
    assert full.high_energy.sum() > 0


@pytest.mark.parametrize("matrix", [(29, 33), (16, 18)])
def test_projected_primary_sees_the_whole_head(matrix, figure):
    """A focus alone in the head: tissue and bone around it attenuate though they hold no activity, within 1 %.

    An odd matrix, and a field that cuts the head on all sides; leaving out what lies beside the activity's own
    columns counts up to 27 % too many.
    """
    patient = water_patient()
    z, y, x = patient.head.grid.centres_mm()
    focus = (x - 28.0) ** 2 + (y[:, None] + 12.0) ** 2 + (z[:, None, None] - 16.0) ** 2 < 14.0**2
    patient = Patient(patient.head, replace(patient.uptake, kbq_per_ml=focus.astype(np.float32)))
    scanner = replace(CAMERA, matrix=matrix, views=6)
    fast = expected_counts(patient, scanner, 1, histories=1000).primary[0]
    slow = expected_counts(patient, scanner, 2, full=True, histories=20_000).primary[0]
    sums = [part.sum(axis=(1, 2), dtype=np.float64) for part in (fast, slow)]
    columns = [(part.sum(axis=1) * np.arange(matrix[1])).sum(axis=1) / part.sum(axis=(1, 2)) for part in (fast, slow)]
    rows = [(part.sum(axis=2) * np.arange(matrix[0])).sum(axis=1) / part.sum(axis=(1, 2)) for part in (fast, slow)]
    worst = float(np.abs(sums[0] / sums[1] - 1.0).max())
    figure(f"focus in a head, projected primary / Monte Carlo's, {matrix[0]} x {matrix[1]}, worst view", worst, "0.01")
    assert worst < 0.01
    # 8 mm pixels: 0.03 of one is 0.24 mm.
    np.testing.assert_allclose(columns[0], columns[1], atol=0.03)
    np.testing.assert_allclose(rows[0], rows[1], atol=0.03)


@pytest.mark.slow
def test_projected_primary_of_a_drawn_patient(figure):
    """A random head at the resolution of training data, 12 views: each view's sum and the mean over views per pixel.

    1 % for sums; per pixel of the mean view above a tenth of its maximum 2 % RMS, with 1 % noise of the births
    (3 million in 60 views gave 0.19 %).
    """
    head_rng, uptake_rng = np.random.default_rng(5).spawn(2)
    head = draw_head(head_rng)
    patient = Patient(head, draw_uptake("perfusion", head, uptake_rng, nuclide="Tc-99m"))
    scanner = Scanner("test", "siemens-lehr", matrix=(64, 64), pixel_mm=4.0, views=12, radius_mm=150.0)
    scanner = scanner.around(patient.head)
    fast = expected_counts(patient, scanner, 1, histories=2000).primary[0]
    slow = expected_counts(patient, scanner, 2, full=True, histories=300_000).primary[0]
    ratio = fast.sum(axis=(1, 2), dtype=np.float64) / slow.sum(axis=(1, 2), dtype=np.float64)
    figure("drawn patient: projected primary / Monte Carlo's, worst view", np.abs(ratio - 1).max(), "0.01")
    a, b = fast.mean(axis=0), slow.mean(axis=0)
    bright = b > 0.1 * b.max()
    error = float(np.sqrt(np.mean((a[bright] / b[bright] - 1.0) ** 2)))
    figure("drawn patient: mean view of the primary, RMS over pixels", error, "0.02")
    np.testing.assert_allclose(ratio, 1.0, atol=0.01)
    assert error < 0.02


def test_noise_is_poisson_with_its_own_seed(quick, figure):
    """Sum of (n - expected)^2 / expected is chi^2: its mean is 1 and its error sqrt(2 / bins), 4 of these allowed."""
    expected = quick.expected.with_counts(2e6)
    mean = expected.counts.astype(np.float64)
    one, again, other = (expected.study(np.random.default_rng(seed)).counts for seed in (3, 3, 4))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    bright = mean > 5.0
    chi2 = float((((one - mean) ** 2 / np.where(bright, mean, 1.0))[bright]).mean())
    figure("variance of the noise over its mean", chi2, f"1 +- {4 * np.sqrt(2 / bright.sum()):.2g}")
    assert chi2 == pytest.approx(1.0, abs=4.0 * np.sqrt(2.0 / bright.sum()))
    assert (one == np.round(one)).all()
    residual = (
        ((one - mean) / np.sqrt(np.maximum(mean, 1e-9)))[bright],
        ((other - mean) / np.sqrt(np.maximum(mean, 1e-9)))[bright],
    )
    assert abs(np.corrcoef(*residual)[0, 1]) < 4.5 / np.sqrt(bright.sum())
    assert expected.counts is not mean
    np.testing.assert_array_equal(expected.counts, mean.astype(np.float32))


def test_counts_of_the_photopeak_can_be_chosen(quick):
    """By the view times, with decay: 3e6 counts take this weak source two hours a head, a ninth of which decays.

    The mixture of primary, scatter and high energies stays as in each view; its weights over the views shift, and views
    differ by a tenth in it: 0.5 %.
    """
    for wanted in (1e5, 3e6):
        found = quick.expected.with_counts(wanted)
        assert found.counts[0].sum() == pytest.approx(wanted, rel=1e-5)
        factor = found.acquisition.view_seconds / quick.expected.acquisition.view_seconds
        np.testing.assert_allclose(factor, factor[0])
        np.testing.assert_allclose(found.acquisition.view_start_s, factor[0] * quick.expected.acquisition.view_start_s)
        for part in ("primary", "scatter", "high_energy"):
            share = [getattr(e, part).sum() / e.counts.sum() for e in (found, quick.expected)]
            assert share[0] == pytest.approx(share[1], rel=5e-3)
        assert found.cps_per_kbq == quick.expected.cps_per_kbq
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="number of counts must be above 0"):
            quick.expected.with_counts(bad)
    # A source that decays gives at most activity / lambda, whatever the time.
    with pytest.raises(InputError, match="the activity decays before"):
        quick.expected.with_counts(1e9)


def test_views_decay_as_the_nuclide_does(figure):
    """Views of 2,000 s on a body of revolution: every part follows the integral of exp(-lambda t), heads in parallel.

    Views n and n + 4 belong to two heads and the same time; lambda from I-123's 13.2234 h, written out here.
    """
    patient = water_patient(hot=False)
    z, y, x = patient.head.grid.centres_mm()
    inside = np.broadcast_to(x**2 + y[:, None] ** 2 < 60.0**2, patient.head.grid.shape)
    labels = np.where(inside, LABEL["csf"], LABEL["outside"]).astype(np.uint8)
    head = Head(patient.head.grid, labels, np.where(inside, 1.0, 0.0012).astype(np.float32), {})
    round_one = Patient(head, replace(patient.uptake, kbq_per_ml=inside.astype(np.float32)))
    found = expected_counts(round_one, replace(CAMERA, view_seconds=2000.0), 1, histories=20_000)
    rate = np.log(2.0) / (13.2234 * 3600.0)
    start = np.tile(np.arange(4) * 2000.0, 2)
    expected = (np.exp(-rate * start) - np.exp(-rate * (start + 2000.0))) / rate
    np.testing.assert_allclose(view_weights_s(found.acquisition), expected, rtol=1e-9)
    for name, limit in (("primary", 0.01), ("high_energy", 0.02), ("scatter", 0.06)):
        sums = getattr(found, name)[0].sum(axis=(1, 2), dtype=np.float64) / expected
        worst = float(np.abs(sums / sums.mean() - 1.0).max())
        figure(f"decay over 8 views, {name}, worst view", worst, f"{limit}")
        assert worst < limit


def test_calibration_takes_counts_back_to_activity():
    """In air the photopeak's primary is cps_per_kbq times the activity times the seconds, by both ways."""
    patient = water_patient("Tc-99m")
    empty = np.zeros(patient.head.grid.shape, np.float32)
    head = Head(patient.head.grid, np.zeros(empty.shape, np.uint8), empty + np.float32(1e-4), {})
    kbq = float(patient.uptake.kbq_per_ml.sum(dtype=np.float64)) * head.grid.voxel_ml
    for full in (False, True):
        found = expected_counts(Patient(head, patient.uptake), replace(CAMERA, views=2), 1, full=full, histories=20_000)
        per_second = found.primary[0].sum(axis=(1, 2), dtype=np.float64) / view_weights_s(found.acquisition)
        np.testing.assert_allclose(per_second, found.cps_per_kbq * kbq, rtol=0.01)
        assert not found.high_energy.any()


def test_the_same_seed_gives_the_same_patient_and_counts():
    """Another seed changes the scatter but not the projected primary."""
    patient, scanner = water_patient(), replace(CAMERA, views=4)
    first, again, other = (expected_counts(patient, scanner, seed, histories=3000) for seed in (1, 1, 2))
    assert np.array_equal(first.counts, again.counts)
    assert np.array_equal(first.primary, other.primary)
    assert not np.array_equal(first.scatter, other.scatter)


@pytest.mark.parametrize("scheme", ["photopeak", "tew+scatter"])
def test_dicom_holds_the_same_counts_and_windows(scheme, tmp_path, quick):
    """Written as NM TOMO and read by open_study: counts bit for bit, windows, angles, radii, times, axis, nuclide."""
    scanner = replace(CAMERA, scheme=scheme, views=4)
    study = expected_counts(quick.patient, scanner, 1, histories=2000).with_counts(3e5).study(np.random.default_rng(1))
    path = tmp_path / "study.dcm"
    write_study(path, study)
    found = open_study(path)
    assert np.array_equal(found.counts, study.counts)
    for own, want in zip(found.windows, study.windows, strict=True):
        assert (own.lower_kev, own.upper_kev) == pytest.approx((want.lower_kev, want.upper_kev), abs=1e-3)
    a, b = found.acquisition, study.acquisition
    assert (a.nuclide, a.matrix, a.patient_position) == (b.nuclide, b.matrix, b.patient_position)
    np.testing.assert_allclose(a.view_angles_deg, b.view_angles_deg, atol=1e-6)
    np.testing.assert_allclose(a.radii_mm, b.radii_mm, atol=1e-3)
    np.testing.assert_allclose(a.axis_lps_mm, b.axis_lps_mm, atol=1e-3)
    # DICOM has whole milliseconds.
    np.testing.assert_allclose(a.view_seconds, b.view_seconds, atol=6e-4)
    assert np.array_equal(a.detector, b.detector)


def test_hdf5_holds_the_same_study(tmp_path, quick):
    study = quick.expected.study(np.random.default_rng(1))
    hdf5.write_study(tmp_path / "study.h5", study)
    found = open_study(tmp_path / "study.h5")
    assert np.array_equal(found.counts, study.counts)
    assert [window.name for window in found.windows] == ["photopeak", "lower", "upper"]
    assert "20000 histories" in found.history[0]


def test_an_orbit_through_the_head_is_refused(quick):
    with pytest.raises(InputError, match="would hit the head"):
        expected_counts(quick.patient, replace(CAMERA, radius_mm=70.0), 1)


def test_progress_of_the_full_way_is_told(quick):
    told = []
    expected_counts(
        quick.patient,
        replace(CAMERA, views=2),
        1,
        full=True,
        histories=200,
        on_batch=lambda done, of: told.append((done, of)),
    )
    assert told == [(n, 10) for n in range(1, 11)]


@pytest.mark.parametrize("nuclide", ["In-111", "I-131", "Tl-201"])
def test_nuclides_with_other_lines_are_refused(nuclide):
    """In-111's 245 keV photons would scatter into its 171 keV window: one line alone would be wrong without a word."""
    patient = water_patient(nuclide)
    with pytest.raises(InputError, match="has other lines"):
        expected_counts(patient, CAMERA, 1, histories=100)
