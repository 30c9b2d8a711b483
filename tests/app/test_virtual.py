"""`spectac simulate` and `spectac cohort` as a user meets them: readable studies, true truth, one line on bad input."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from spectac.app import simulate as virtual
from spectac.app.cli import main
from spectac.recon import open_study
from spectac.recon.io.nifti import read_image, read_labels, read_mu_map
from spectac.recon.system import view_weights_s
from spectac.simulate import acquire
from spectac.simulate.cohort.patient import seeds
from spectac.simulate.uptake import draw_uptake

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def here(capsys, monkeypatch) -> Callable[..., Done]:
    """Function that runs the command line in this process, which saves its start."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["spectac", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, ended.value.code, said.out, said.err)

    return run


def refused(done: Done, text: str, code: int = 2) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert text in done.stderr


@pytest.fixture
def coarse(monkeypatch) -> Callable[..., tuple[object, ...]]:
    """Function that completes a `spectac simulate` of a head of 4 mm voxels on a camera of 8 mm pixels: saves time."""
    small = replace(
        virtual.SCANNERS["siemens-intevo-lehr"], name="small", matrix=(32, 32), pixel_mm=8.0, views=24, radius_mm=160.0
    )
    monkeypatch.setattr(virtual, "SCANNERS", {"small": small})
    monkeypatch.setattr(acquire, "FINE_MM", 8.0)
    monkeypatch.setattr(virtual, "draw_head", partial(virtual.draw_head, voxel_mm=4.0))

    def arguments(output: object, *more: object) -> tuple[object, ...]:
        return ("simulate", "-o", output, "--scanner", "small", "--histories", "2000", *more)

    return arguments


def test_the_study_and_its_truth_agree(here, coarse, tmp_path, figure):
    tracer = ("--tracer", "perfusion", "--nuclide", "Tc-99m")
    done = here(*coarse(tmp_path / "out", *tracer, "--counts", "2e5", "--seed", "3"))
    assert done.returncode == 0, done.stderr
    study = open_study(tmp_path / "out" / "projections.dcm")
    assert [window.name for window in study.windows] == ["photopeak", "lower", "upper"]
    photopeak = float(study.counts[0].sum())
    # Poisson: five standard deviations of 2e5 counts are 1.1 %; decay in longer views some parts in a thousand.
    assert photopeak == pytest.approx(2e5, rel=0.015)

    about = json.loads((tmp_path / "out" / "patient.json").read_text())
    assert about["parameters"]["seed"] == 3
    assert about["view_seconds"] == pytest.approx(study.acquisition.view_seconds[0], rel=1e-3)
    activity = read_image(tmp_path / "out" / "truth" / "activity.nii.gz")
    assert activity.unit == "kBq/mL"
    total_kbq = float(activity.values.sum(dtype=np.float64)) * activity.grid.voxel_ml
    in_air = total_kbq * about["cps_per_kbq"] * float(view_weights_s(study.acquisition).sum())
    figure("spectac simulate: Tc-99m photopeak counts over those in air", photopeak / in_air, "0.3 to 0.6")
    # exp(-0.154/cm * 8 cm) = 0.29 from the middle, more from the rim; scatter adds a third; the matrix holds all.
    assert 0.3 < photopeak / in_air < 0.6

    mu = read_mu_map(tmp_path / "out" / "truth" / "mu_map.nii.gz", 0.1)
    assert mu.energy_kev == pytest.approx(140.511)
    labels, _, names = read_labels(tmp_path / "out" / "truth" / "labels.nii.gz")
    assert set(np.unique(labels).tolist()) <= set(names)
    of = {name: int(label) for label, name in names.items()}
    # Blood flows through grey matter more than through liquor, bone absorbs more than brain, and air next to nothing.
    assert activity.values[labels == of["left caudate"]].mean() > 2.0 * activity.values[labels == of["csf"]].mean()
    assert mu.per_cm[labels == of["skull"]].mean() > 1.2 * mu.per_cm[labels == of["left white matter"]].mean()
    assert mu.per_cm[labels == of["outside"]].max() < 1e-3


def test_head_and_uptake_follow_from_the_seed_each_by_itself(here, coarse, tmp_path):
    assert here(*coarse(tmp_path / "out", "--seed", "4", "--tracer", "perfusion")).returncode == 0
    own = {name: np.random.default_rng(seed) for name, seed in seeds(4, 0).items()}
    head = virtual.draw_head(own["head"])
    wanted = draw_uptake("perfusion", head, own["uptake"])
    written = read_image(tmp_path / "out" / "truth" / "activity.nii.gz")
    np.testing.assert_array_equal(written.values, wanted.kbq_per_ml)
    assert written.grid.same_as(head.grid)


def test_a_defect_is_put_into_the_same_patient(here, coarse, tmp_path):
    activity, about, counts = [], [], []
    for name, more in (("plain", ()), ("early", ("--defect", "early:1"))):
        assert here(*coarse(tmp_path / name, "--seed", "4", "--kind", "healthy", *more)).returncode == 0
        activity.append(read_image(tmp_path / name / "truth" / "activity.nii.gz").values)
        about.append(json.loads((tmp_path / name / "patient.json").read_text())["uptake"])
        counts.append(open_study(tmp_path / name / "projections.dcm").acquisition.view_seconds[0])
    lesion, _, names = read_labels(tmp_path / "early" / "truth" / "lesion.nii.gz")
    assert not (tmp_path / "plain" / "truth" / "lesion.nii.gz").exists()
    np.testing.assert_array_equal(activity[0] != activity[1], lesion == 1)
    assert (activity[1] < activity[0])[lesion == 1].mean() > 0.9
    assert list(names.values()) == ["lesion"]
    assert counts[0] == counts[1]
    assert (about[1]["defect"], about[1]["defect_size"], "defect" in about[0]) == ("early", 1.0, False)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("--defect", "warm"), "use one of cold, early, striatum, glands"),
        (("--defect", "early", "--tracer", "perfusion"), "early is for the tracer dat"),
        (("--defect", "early", "--kind", "absent"), "use the kind healthy"),
        (("--kind", "normal"), "--kind must be one of healthy, unilateral, bilateral, absent, infarct"),
    ],
)
def test_a_defect_or_kind_that_cannot_be_is_refused(here, coarse, tmp_path, more, text):
    refused(here(*coarse(tmp_path / "out", *more)), text)
    assert not (tmp_path / "out").exists()


def test_both_formats_hold_the_same_counts_and_one_replaces_the_other(here, coarse, tmp_path):
    assert here(*coarse(tmp_path / "out", "--seed", "3")).returncode == 0
    dicom = open_study(tmp_path / "out" / "projections.dcm")
    config = tmp_path / "run.toml"
    config.write_text('scanner = "small"\nhistories = 2000\nformat = "hdf5"\nmonte_carlo = false\nseed = 3\n')
    assert here("simulate", "-o", tmp_path / "out", "--config", config).returncode == 0
    np.testing.assert_array_equal(open_study(tmp_path / "out" / "study.h5").counts, dicom.counts)
    assert not (tmp_path / "out" / "projections.dcm").exists()


def test_a_fan_beam_camera_by_its_name(here, coarse, tmp_path, monkeypatch):
    """--camera and --scanner are one; the focus stands in the file and in the record."""
    fan = replace(virtual.SCANNERS["small"], name="fan", collimator="prism-lehr-fan", heads=3)
    monkeypatch.setattr(virtual, "SCANNERS", {"small": virtual.SCANNERS["small"], "fan": fan})
    arguments = coarse(tmp_path / "out")
    done = here(*arguments[:3], "--camera", "fan", *arguments[5:])
    assert done.returncode == 0, done.stderr
    study = open_study(tmp_path / "out" / "projections.dcm")
    assert [focus.length_mm for focus in study.acquisition.foci] == [500.0] * 3
    about = json.loads((tmp_path / "out" / "patient.json").read_text())
    assert about["scanner"]["focus"] == {"length_mm": 500.0, "counted_from": "face", "offset_mm": 0.0}
    assert about["parameters"]["scanner"] == "fan"


@pytest.mark.slow
def test_full_monte_carlo_counts_what_the_fast_way_counts(here, coarse, tmp_path, figure):
    """Two ways to the photopeak, sharing no projector: their sums differ by the noise of 20,000 histories."""
    sums = []
    for way, described in (("--fast", "projected primary"), ("--monte-carlo", "simulated: Monte Carlo, 20000")):
        done = here(*coarse(tmp_path / way, way, "--histories", "20000", "--format", "hdf5"))
        assert done.returncode == 0, done.stderr
        study = open_study(tmp_path / way / "study.h5")
        assert described in study.history[0]
        sums.append(study.counts[0].sum(dtype=np.float64))
    figure("spectac simulate: Monte Carlo over fast way - 1, photopeak counts", sums[1] / sums[0] - 1.0, "0.03")
    # 1/sqrt(20000) is 0.7 %, times the spread of the photons' chances to come out, and the camera's own noise.
    assert sums[1] / sums[0] == pytest.approx(1.0, abs=0.03)


def test_a_full_disk_leaves_nothing(here, coarse, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "activity.nii.gz")

    monkeypatch.setattr(virtual, "write_image", full)
    refused(here(*coarse(tmp_path / "out")), "activity.nii.gz: No space left on device")
    assert not (tmp_path / "out").exists()


def test_bad_requests_are_refused_in_one_line(here, coarse, tmp_path):
    out = tmp_path / "out"
    for more, text in (
        (("--tracer", "fdg"), "--tracer must be one of dat, perfusion, randomised, not 'fdg'"),
        (("--tracer", "mixed"), "must be one of dat"),
        (("--scanner", "none"), "--scanner must be one of small, not 'none'"),
        (("--format", "nifti"), "--format must be one of dicom, hdf5, not 'nifti'"),
        (("--nuclide", "F-18"), "F-18"),
        (("--counts", "0"), "--counts must be above 0"),
        (("--counts", "nan"), "--counts must be a finite number"),
        (("--seed", "-1"), "--seed"),
        (("--histories", "5"), "--histories"),
    ):
        refused(here(*coarse(out, *more)), text)
    refused(here(*coarse(out, "--counts", "1e12")), "decays before")
    assert not out.exists()
    out.write_text("x")
    refused(here(*coarse(out)), "is a file")


FAKE = """
import os
import numpy as np
from spectac.recon.types import Grid
from spectac.simulate.cohort.patient_arrays import PatientArrays

def simulate(seed, index, settings):
    if os.environ.get("FAKE_INTERRUPT") == str(index):
        raise KeyboardInterrupt
    if os.environ.get("FAKE_FULL") == str(index):
        raise OSError(28, "No space left on device", "cache.nbi")
    if index == 2:
        raise ValueError("the orbit\\nhits the head")
    noise = np.random.default_rng([seed, index]).random((4, 2, 2, 2), dtype=np.float32)
    labels = np.zeros((2, 2, 2), np.uint8)
    grid = Grid.upright((2, 2, 2), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    return PatientArrays(grid, noise, np.ones(4, bool), noise[0], noise[0], noise[0], noise[1], labels, noise[2],
                         noise[3], np.stack([noise[0]] * 3).astype(np.float16), 140.5, {})
"""


@pytest.fixture
def cohort(here, tmp_path, monkeypatch) -> Callable[..., Done]:
    """Function that runs `spectac cohort` with fake patients, 2 in a shard, in this process."""
    (tmp_path / "fakes_of_the_command.py").write_text(FAKE)
    monkeypatch.syspath_prepend(tmp_path)
    fixed = ("--workers", "0", "--shard-patients", "2", "--simulation", "fakes_of_the_command:simulate")
    return lambda *more: here("cohort", "-o", tmp_path / "out", "-n", "7", *fixed, *more)


def test_a_cohort_names_its_failures(cohort, tmp_path):
    done = cohort("--seed", "3")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("note: patient 2 failed: ValueError: the orbit hits the head (fakes_of_the_command.py:")
    assert "6 patients, 1 failed" in lines[1]
    assert len(lines) == 2
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [entry["index"] for entry in manifest["arrays"]] == [0, 1, 3, 4, 5, 6]
    refused(cohort("--seed", "4"), "holds a cohort with seed 3, not 4")


def test_a_stopped_cohort_says_how_to_go_on(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_INTERRUPT", "5")
    refused(
        cohort(), f"interrupted: 4 of 7 patients are done in {tmp_path / 'out'}, the same command goes on", code=130
    )
    monkeypatch.delenv("FAKE_INTERRUPT")
    monkeypatch.setenv("FAKE_FULL", "6")
    refused(cohort(), f"cache.nbi: No space left on device; 6 of 7 patients are done in {tmp_path / 'out'}, the same")
    monkeypatch.delenv("FAKE_FULL")
    assert cohort().returncode == 0


def test_bad_cohorts_are_refused_in_one_line(cohort, tmp_path):
    for more, text in (
        (("--tracer", "fdg"), "must be one of mixed, dat, perfusion, randomised"),
        (("-n", "0"), "--patients must be at least 1"),
        (("--shard-patients", "100"), "--shard-patients must be at most 64"),
        (("--simulation", "nowhere:simulate"), "cannot be imported"),
        (("--scheduler", "tcp://127.0.0.1:1"), "--scheduler or --workers"),
    ):
        refused(cohort(*more), text)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").write_text("x")
    refused(cohort(), "is a file")
