"""The demo on a small grid: the errors of every model are what attenuation physics says."""

import csv
import html
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from spectac.app.demo import SCANNER, demo_patient, run_demo
from spectac.recon import open_study
from spectac.recon.io.nifti import read_image
from spectac.recon.quantify import voi_mean
from spectac.recon.resample import resample
from spectac.simulate.uptake import vois

picture = pytest.importorskip("matplotlib.image", reason="the report needs matplotlib: pip install 'spectac[report]'")
NO_TORCH = "the predicted map needs torch: pip install 'spectac[learned]'"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "out"
    run_demo(path, seed=1, counts=3e6, scanner=replace(SCANNER, matrix=(36, 36), pixel_mm=8.0, views=60))
    return path


def errors(folder):
    with (folder / "errors.csv").open() as stream:
        return {
            row["attenuation"]: {k: float(v) for k, v in row.items() if k != "attenuation"}
            for row in csv.DictReader(stream)
        }


def test_errors_against_the_truth(folder, figure):
    rows = errors(folder)
    for name, row in rows.items():
        figure(f"demo at 8 mm, {name}: brain error %", row["brain_error_percent"], "6 % for the given map")
    assert rows["truth"]["brain_error_percent"] == pytest.approx(0.0, abs=0.01)
    assert rows["truth"]["centre_to_edge"] == pytest.approx(1.0, abs=1e-3)
    # With 8 mm voxels the brain spills some per cent into the skull; TEW leaves some per cent of scatter.
    assert abs(rows["map"]["brain_error_percent"]) < 6.0
    # exp(-0.15 * 8 cm) = 0.3: without correction two thirds are missing.
    assert -75 < rows["none"]["brain_error_percent"] < -55
    # A uniform map knows nothing of the skull, whose extra absorption is some 10 %.
    for name in ("uniform", "chang"):
        assert -25 < rows[name]["brain_error_percent"] < rows["map"]["brain_error_percent"]
    assert rows["none"]["centre_to_edge"] < 0.9 < rows["map"]["centre_to_edge"]


def test_every_model_is_compared(folder):
    pytest.importorskip("torch", reason=NO_TORCH)
    assert list(errors(folder)) == ["truth", "none", "chang", "uniform", "predicted", "ct", "map"]


def test_without_torch_only_the_predicted_map_is_left_out(tmp_path, monkeypatch):
    """Lines, record and a complete report say what to install; tables and images have the five other models."""
    monkeypatch.setitem(sys.modules, "torch", None)
    lines = run_demo(tmp_path, seed=1, counts=3e6, scanner=replace(SCANNER, matrix=(24, 24), pixel_mm=12.0, views=40))
    reason = "attenuation predicted needs torch: pip install 'spectac[learned]'"
    assert f"note: predicted was left out: {reason}" in lines
    others = ["none", "chang", "uniform", "ct", "map"]
    assert list(errors(tmp_path)) == ["truth", *others]
    assert {path.name for path in (tmp_path / "images").glob("*.nii.gz")} >= {f"{name}.nii.gz" for name in others}
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["refused"] == {"predicted": reason}
    report = (tmp_path / "report.html").read_text()
    assert reason in html.unescape(report)
    assert json.loads(report.split('id="data">', 1)[1].split("</script>", 1)[0])["names"] == [*others, "truth"]
    assert report.rstrip().endswith("</html>")
    assert picture.imread(tmp_path / "panel.png")[..., :3].std() > 0.1


def test_the_ct_comes_within_2_percent_of_the_true_map(folder, figure):
    """Read from DICOM, HU of the head's own materials with noise, blurred by 8 mm, resampled: regional means.

    The curve from HU to mu reads the head's bone 2 % low, which is 0.3 % of a path through the head.
    """
    with_ct, with_truth = (read_image(folder / "images" / f"{name}.nii.gz") for name in ("ct", "map"))
    head = demo_patient().head
    masks = vois(head.labels)
    for region in ("brain", "cortex", "right striatum", "left striatum"):
        part = resample(masks[region].astype(np.float32), head.grid, with_ct.grid)
        ratio = voi_mean(with_ct.values, part) / voi_mean(with_truth.values, part)
        figure(f"demo at 8 mm, CT over true map, {region}", ratio, "1 +- 0.02")
        assert ratio == pytest.approx(1.0, abs=0.02)


def test_the_projections_are_dicom_of_two_heads_with_scatter_windows(folder):
    study = open_study(folder / "projections.dcm")
    assert set(study.acquisition.detector) == {0, 1}
    assert study.acquisition.collimator.name == "siemens-lehr"
    assert study.acquisition.axis_lps_mm == pytest.approx((0.0, 0.0, -17.5 * 8.0))
    assert [window.name for window in study.windows] == ["photopeak", "lower", "upper"]
    assert study.patient["PatientID"] == "SPECTAC-DEMO"
    assert study.counts[0].sum() == pytest.approx(3e6, rel=0.005)


def test_files_are_there_and_the_picture_is_one(folder):
    names = {path.name for path in folder.iterdir()}
    assert {
        "projections.dcm",
        "ct",
        "truth",
        "images",
        "patient.json",
        "errors.csv",
        "panel.png",
        "report.html",
        "comparison.csv",
        "record.json",
    } <= names
    panel = picture.imread(folder / "panel.png")
    assert panel.shape[0] > 800
    assert panel[..., :3].std() > 0.1


@pytest.mark.slow
def test_at_full_size_the_network_s_map_is_used_and_serves_as_the_true_one_does(tmp_path, figure):
    """No uniform map in its place, and nearer to the true map's image than the uniform map's image is, by far."""
    pytest.importorskip("torch", reason=NO_TORCH)
    run_demo(tmp_path / "out", seed=1, counts=3e6)
    notes = json.loads((tmp_path / "out" / "record.json").read_text())["methods"]["predicted"]["notes"]
    assert notes[0].startswith("predicted map: uncertainty")
    rows = errors(tmp_path / "out")
    for name in ("uniform", "predicted"):
        off = rows[name]["brain_error_percent"] - rows["map"]["brain_error_percent"]
        figure(f"demo, {name}: brain against the true map's image, %", off, "2.5 for the predicted")
    assert abs(rows["predicted"]["brain_error_percent"] - rows["map"]["brain_error_percent"]) < 2.5
    for side in ("sbr_right", "sbr_left"):
        assert rows["predicted"][side] == pytest.approx(rows["map"][side], rel=0.05)
