"""The benchmark of short scans: its table on rows whose slope, error and spread are known, and what it resumes."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.attenuation.patients import Sources
from benchmarks.low_counts.bound import corners, least_spread
from benchmarks.low_counts.early_loss import SCORES, area, readings, score_of
from benchmarks.low_counts.early_loss import table as early_table
from benchmarks.low_counts.methods import FULL, MAP, RAW
from benchmarks.low_counts.patients import FAN_BEAM, MR_HEAD, patient_of, realisations, regions, subject_of
from benchmarks.low_counts.run import Resumed, box, likeness, noise_of_z, slope_of_sides, table
from benchmarks.low_counts.structure import deep_inside, even_brain, lesion_of, lesion_table, thinned
from benchmarks.provenance import write_csv
from spectac.recon import Acquisition, EnergyWindow, Grid, InputError, Study
from spectac.simulate.acquire import Patient, expected_counts
from spectac.simulate.head import draw_head
from spectac.simulate.regions import BESIDE, BRAIN, INTRACRANIAL

TRUE = {"a": (2.0, 5.0), "b": (3.0, 7.0)}


def row(method, patient, measure, true, mean, sd):
    return {
        "method": method, "patient": patient, "measure": measure, "true": str(true), "mean": str(mean), "sd": str(sd),
        "kind": "healthy",
    }  # fmt: skip


@pytest.fixture
def rows():
    """Full time: 0.8 of the truth. Another method: half of its slope, 1.5 and 6 times its spread in two measures."""
    made = []
    for patient, pair in TRUE.items():
        for measure, true, ratio in zip(("x", "y"), pair, (1.5, 6.0), strict=True):
            made.append(row("full time", patient, measure, true, 0.8 * true, 0.1))
            made.append(row("half", patient, measure, true, 0.4 * true + 1.0, 0.1 * ratio))
    return made


def test_the_table_has_the_slopes_errors_and_spreads_that_were_put_in(rows):
    full, half = table(rows)
    assert (full["method"], half["method"]) == ("full time", "half")
    assert full["slope on truth"] == pytest.approx(0.8)
    assert full["error to truth, %"] == pytest.approx(20.0)
    assert (full["slope on full"], full["error to full, %"], full["SD / full's"]) == pytest.approx((1.0, 0.0, 1.0))
    assert half["slope on truth"] == pytest.approx(0.4)
    assert half["slope on full"] == pytest.approx(0.5)
    # Opposite errors do not cancel: 0.4 t + 1 is above t for small t and below for large.
    errors = [0.4 + 1.0 / true - 1.0 for pair in TRUE.values() for true in pair]
    assert half["error to truth, %"] == pytest.approx(100.0 * np.sqrt(np.mean(np.square(errors))))
    assert half["SD / full's"] == pytest.approx(3.0)
    assert half["the same over slope"] == pytest.approx(6.0)
    # Each quarter holds one value; 7 is read as 3.8 instead of 5.6.
    assert half["bias of a quarter, %"] == pytest.approx(-100.0 * 1.8 / 5.6)


def test_one_ratio_has_no_slope():
    full, half = table([row(FULL, "0", "x", 5.0, 4.0, 0.1), row("half", "0", "x", 5.0, 2.0, 0.2)])
    assert np.isnan([full["slope on full"], half["slope on truth"], half["the same over slope"]]).all()
    assert half["SD / full's"] == pytest.approx(2.0)


def test_the_slope_of_sides_is_that_of_their_differences():
    """Halved differences whatever the sides have in common; without sides there is none."""
    means = [(5.0, 3.0), (4.0, 4.5), (6.0, 7.0)]
    rows = []
    for patient, (right, left) in enumerate(means):
        middle = 0.4 * (right + left)
        halved = middle + 0.25 * (right - left), middle - 0.25 * (right - left)
        for method, pair in ((FULL, (right, left)), (RAW, halved)):
            rows += [row(method, str(patient), f"SBR {side} putamen", 1.0, mean, 0.1)
                     for side, mean in zip(("right", "left"), pair, strict=True)]  # fmt: skip
    assert slope_of_sides(rows, RAW) == pytest.approx(0.5)
    assert np.isnan(slope_of_sides([row(FULL, "0", "x", 1.0, 1.0, 0.1)], FULL))


def test_a_run_goes_on_with_its_own_rows_and_keeps_others_until_they_are_made_again(tmp_path):
    key, path = {"seed": "1", "code": "abc"}, tmp_path / "rows.csv"
    write_csv(
        path, [{**key, "method": "raw", "mean": "5"}] + [{**key, "code": "old", "method": m} for m in ("raw", "MAP")]
    )
    resumed = Resumed(path, key, ("seed", "method"))
    assert [row["method"] for row in resumed.rows] == ["raw"]
    resumed.add([{**key, "method": "raw", "mean": 6}, {**key, "method": "network", "mean": 7}])
    again = Resumed(path, key, ("seed", "method"))
    assert {row["method"]: row["mean"] for row in again.rows} == {"raw": "6", "network": "7"}
    assert [row["method"] for row in Resumed(path, key | {"code": "old"}, ("seed", "method")).rows] == ["MAP"]
    assert Resumed(tmp_path / "none.csv", key, ("seed", "method")).rows == []


def test_a_fifth_is_taken_from_the_counts_of_the_full_time():
    """Poisson counts of the expectation, and a fifth of them: what is left is the rest's."""
    acquisition = Acquisition(
        np.arange(0.0, 360.0, 90.0), np.full(4, 140.0), (50, 100), (4.0, 4.0), np.ones(4), "Tc-99m", None
    )
    expected = Study(acquisition, (EnergyWindow("peak", 126.0, 154.0),), np.full((1, 4, 50, 100), 5.0, np.float32))
    pairs = list(realisations(expected, np.random.SeedSequence(3), 2))
    for full, short in pairs:
        # Four standard errors of 20,000 bins of 5 and of 1 expected counts.
        assert full.counts.mean() == pytest.approx(5.0, abs=4 * np.sqrt(5.0 / 20_000))
        assert short.counts.mean() == pytest.approx(1.0, abs=4 * np.sqrt(1.0 / 20_000))
        assert (short.counts <= full.counts).all()
    assert (pairs[0][0].counts != pairs[1][0].counts).any()


def test_an_independent_head_is_one_patient_and_needs_its_files():
    with pytest.raises(InputError, match="mr head: there is one patient of each tracer"):
        subject_of(MR_HEAD, 1, "dat", 1, Sources(), 1000)
    with pytest.raises(InputError, match="give --phantom"):
        subject_of(MR_HEAD, 1, "dat", 0, Sources(), 1000)


@pytest.mark.slow
@pytest.mark.parametrize("tracer", ["dat", "perfusion"])
def test_the_cameras_of_the_attenuation_benchmark_serve_the_tracer_that_is_asked_for(tracer):
    subject = subject_of(FAN_BEAM, 5, tracer, 0, Sources(), 0)
    assert subject.case.about["tracer"] == tracer
    assert subject.study.acquisition.collimator.focus is not None
    assert ("reference" if tracer == "dat" else "brain") in subject.masks
    # Noise is not in yet: expected counts are no whole numbers.
    assert (subject.study.counts % 1.0 != 0).any()


@pytest.mark.parametrize("tracer", ["dat", "perfusion"])
def test_regions_do_not_overlap(tracer):
    labels = draw_head(np.random.default_rng(7), voxel_mm=4.0).labels
    masks = regions(labels, tracer)
    assert len(masks) >= 5
    brain = masks.pop("brain", np.isin(labels, BRAIN))
    assert sum(mask.astype(int) for mask in masks.values()).max() == 1
    assert not any((mask & ~brain).any() for mask in masks.values())


def test_the_noise_of_z_is_in_deviations_between_healthy_patients_of_the_same_method():
    """Means 1, 2, 3, 4 of four patients vary by 1.29; halving contrast and noise alike gains nothing."""
    rows = []
    for patient, mean in enumerate((1.0, 2.0, 3.0, 4.0)):
        for measure, noise in (("x", 0.5), ("y", 1.0)):
            for method, contrast, factor in (("full time", 1.0, 1.0), ("short", 1.0, 2.0), ("shrunk", 0.5, 1.0)):
                rows.append(
                    row(method, str(patient), measure, 1.0, contrast * mean, contrast * factor * noise)
                    | {"kind": "normal"}
                )
    between = np.std((1.0, 2.0, 3.0, 4.0), ddof=1)
    assert noise_of_z(rows, "full time") == pytest.approx(np.sqrt((0.25 + 1.0) / 2) / between)
    assert noise_of_z(rows, "short") == pytest.approx(2.0 * noise_of_z(rows, "full time"))
    assert noise_of_z(rows, "shrunk") == pytest.approx(noise_of_z(rows, "full time"))
    assert np.isnan(noise_of_z([one for one in rows if one["patient"] != "0"], "short"))
    assert np.isnan(noise_of_z([one | {"kind": "stroke"} for one in rows], "short"))


def test_likeness_of_an_image_that_is_off_by_a_tenth_of_the_range():
    wanted = np.random.default_rng(1).random((11, 12, 13))
    wanted /= wanted.max()
    found = likeness(wanted + 0.1, wanted, "truth")
    assert found["PSNR to truth, dB"] == pytest.approx(20.0)
    assert likeness(wanted + 1e-9, wanted, "truth")["SSIM to truth"] == pytest.approx(1.0)


def test_the_box_reaches_around_the_region_and_not_beyond_the_image():
    grid = Grid.upright((20, 20, 20), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    mask = np.zeros(grid.shape)
    mask[1:3, 10, 18] = 1.0
    assert box(mask, grid) == (slice(0, 9), slice(4, 17), slice(12, 25))


def test_areas_under_the_curve():
    healthy = np.array([1.0, 2.0, 3.0])
    assert area(healthy, np.array([4.0, 5.0])) == 1.0
    assert area(healthy, np.array([2.0])) == pytest.approx(0.5)
    assert area(healthy, healthy) == pytest.approx(0.5)


def test_a_loss_in_either_putamen_raises_every_score():
    """A quarter off one putamen: ratio 0.75, asymmetry 1/7; a healthy patient has 1 and 0, whatever the side."""
    healthy = {f"SBR {side} {part}": 4.0 for side in ("right", "left") for part in ("putamen", "caudate")}
    for side in ("right", "left"):
        ill = {name: str(one) for name, one in readings(healthy | {f"SBR {side} putamen": 3.0}).items()}
        of_ill = [score_of(ill, score, side) for score in SCORES]
        assert of_ill == pytest.approx([-0.75, 1.0 / 7.0, 1.0 / 7.0])
        assert score_of(ill, "side known", "left" if side == "right" else "right") == pytest.approx(-1.0 / 7.0)
    assert readings(healthy) == {"ratio": 1.0, "asymmetry": 0.0}


def test_what_a_method_regains_of_the_area_that_the_raw_fifth_loses():
    """Ratios whose order is known: full time 1, raw a half, the prior three quarters; all patients alike."""
    ill = {FULL: (1.0, 1.0), RAW: (3.0, 1.0), MAP: (2.0, 1.0)}
    rows = []
    for patient in ("0", "1"):
        for method, values in ill.items():
            for loss, side, pair in (("0.0", "", (2.0, 2.0)), ("0.3", "left", values)):
                row = {"patient": patient, "loss": loss, "side": side, "method": method, "asymmetry": "0"}
                rows += [row | {"ratio": str(one)} for one in pair]
    lines = {line["method"]: line for line in early_table(rows, 1) if line["score"] == "ratio"}
    assert (lines[FULL]["area"], lines[RAW]["area"], lines[MAP]["area"]) == (1.0, 0.5, 0.75)
    assert (lines[MAP]["over raw"], lines[MAP]["from"], lines[MAP]["to"]) == pytest.approx((0.25, 0.25, 0.25))
    assert lines[MAP]["regained"] == pytest.approx(0.5)
    # Where the raw fifth loses nothing there is nothing to win back.
    same = [one | {"ratio": "1" if one["loss"] != "0.0" else "2"} for one in rows]
    assert all(np.isnan(line["regained"]) for line in early_table(same, 1) if line["score"] == "ratio")


def test_the_known_side_is_that_of_the_patients_own_loss():
    """Healthy images lean 0.1 to the wrong side, ill ones to the right one: nothing of |asymmetry| tells them apart."""
    rows = []
    for patient, side, sign in (("0", "left", 1.0), ("1", "right", -1.0)):
        for method in (FULL, RAW):
            for loss, of_row, lean in (("0.0", "", -0.1), ("0.3", side, 0.1)):
                row = {"patient": patient, "loss": loss, "side": of_row, "method": method, "ratio": "1"}
                rows.append(row | {"asymmetry": str(sign * lean)})
    areas = {line["score"]: line["area"] for line in early_table(rows, 1) if line["method"] == FULL}
    assert areas == {"ratio": 0.5, "asymmetry": 0.5, "side known": 1.0}


def test_contrasts_stand_beside_the_full_time_s():
    rows = [
        {"radius_mm": "8.0", "method": method, "contrast": contrast}
        for method, pair in ((FULL, ("0.4", "0.6")), (RAW, ("0.5", "0.7")))
        for contrast in pair
    ]
    full, raw = lesion_table(rows)
    assert (full["contrast"], full["to the full time's, %"]) == pytest.approx((0.5, 0.0))
    assert (raw["contrast"], raw["to the full time's, %"]) == pytest.approx((0.6, 20.0))


def test_a_study_thinned_bin_by_bin_is_a_poisson_study_of_what_is_left():
    """Mean and variance of a bin are both the share of the expected counts; nothing is added."""
    acquisition = Acquisition(
        np.arange(0.0, 360.0, 90.0), np.full(4, 140.0), (50, 100), (4.0, 4.0), np.ones(4), "Tc-99m", None
    )
    rng = np.random.default_rng(3)
    study = Study(
        acquisition, (EnergyWindow("peak", 126.0, 154.0),), rng.poisson(20.0, (1, 4, 50, 100)).astype(np.float32)
    )
    left = thinned(study, np.full(study.counts.shape, 0.75), rng).counts
    assert (left <= study.counts).all()
    # Four standard errors of 20,000 bins.
    assert left.mean() == pytest.approx(15.0, abs=4 * np.sqrt(15.0 / 20_000))
    assert left.var() == pytest.approx(15.0, rel=4 * np.sqrt(2.0 / 20_000))
    np.testing.assert_array_equal(thinned(study, np.ones(study.counts.shape), rng).counts, study.counts)


@pytest.mark.slow
def test_counts_without_a_lesion_are_those_of_the_patient_with_it():
    """In the photopeak: the share of the unscattered photons that are lost, which are computed without noise."""
    simulated, _ = patient_of(3, "perfusion", 0, "normal")
    mask, left = lesion_of(simulated, 12.0, np.random.default_rng(1))
    uptake, head = simulated.patient.uptake, simulated.patient.head
    assert mask.sum() * head.grid.voxel_ml == pytest.approx(4.0 / 3.0 * np.pi * 1.2**3, rel=0.05)
    assert left.min() >= 0.0
    assert left.max() <= 1.0
    cold = replace(uptake, kbq_per_ml=np.where(mask, np.float32(0.0), uptake.kbq_per_ml))
    with_lesion, whole = (
        expected_counts(Patient(head, one), simulated.scanner, 5).primary[0].sum(dtype=np.float64)
        for one in (cold, uptake)
    )
    lost = 1.0 - float((left[0] * simulated.expected.counts[0]).sum() / simulated.expected.counts[0].sum())
    assert lost == pytest.approx(1.0 - with_lesion / whole, rel=0.15)


@pytest.mark.slow
def test_the_uniform_brain_has_its_activity_inside_the_skull_and_none_beside_the_head():
    simulated = even_brain(3)
    head, activity = simulated.patient.head, simulated.patient.uptake.kbq_per_ml
    assert set(np.unique(activity[np.isin(head.labels, INTRACRANIAL)])) == {40.0}
    assert not activity[np.isin(head.labels, BESIDE)].any()
    # Most of the inside of a skull of 1.4 L lies deeper than 12 mm.
    inside = deep_inside(head, Grid.upright((50, 60, 50), (4.0, 4.0, 4.0), (-98.0, -118.0, -98.0)))
    assert 500.0 < inside.sum() * 0.064 < 1000.0


def test_least_spread_of_parts_that_share_no_bin_is_poisson_s():
    """A ratio of two parts: relative variance 1 / N_a + 1 / N_b; unseen bins tell nothing."""
    parts = np.array([[30.0, 0.0], [70.0, 0.0], [0.0, 25.0], [0.0, 0.0]])
    spread = least_spread(parts, parts.sum(axis=1), np.array([1.0, -1.0]))
    assert spread == pytest.approx(np.sqrt(1 / 100 + 1 / 25))


def test_least_spread_grows_with_what_is_not_known():
    """A background in the bins of a part adds its counts' noise; as a part of its own it costs more."""
    part, background = np.array([50.0, 10.0]), np.array([20.0, 40.0])
    known = least_spread(part[:, None], part + background, np.array([1.0]))
    assert known == pytest.approx(1 / np.sqrt((part**2 / (part + background)).sum()))
    assert least_spread(np.stack([part, background], axis=1), part + background, np.array([1.0, 0.0])) > 1.05 * known


def test_corners_weights_add_to_one_everywhere():
    weights = list(corners((9, 8, 7), (4.0, 5.0, 6.0), 24.0))
    np.testing.assert_allclose(np.sum(weights, axis=0), 1.0)
    assert all(one.max() <= 1.0 for one in weights)
