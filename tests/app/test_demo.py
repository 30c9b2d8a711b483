"""The demo on a small grid: the errors of every model are what attenuation physics says."""

import csv

import matplotlib.image
import pytest

from spectac.app.demo import fine_acquisition, run_demo


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "out"
    run_demo(path, seed=1, counts=2e6, acquisition=fine_acquisition(views=60, rows=36, columns=36, pixel_mm=8.0))
    return path


def test_errors_against_the_truth(folder, figure):
    with (folder / "errors.csv").open() as stream:
        rows = {
            row["attenuation"]: {k: float(v) for k, v in row.items() if k != "attenuation"}
            for row in csv.DictReader(stream)
        }
    assert list(rows) == ["truth", "none", "chang", "uniform", "map"]
    for name, row in rows.items():
        figure(f"demo at 8 mm, {name}: brain error %", row["brain_error_percent"], "3 % for the given map")
    assert rows["truth"]["brain_error_percent"] == pytest.approx(0.0, abs=0.01)
    # With 8 mm voxels the brain spills some per cent into the skull; the given map leaves nothing else.
    assert abs(rows["map"]["brain_error_percent"]) < 3.0
    # exp(-0.15 * 8 cm) = 0.3: without correction two thirds are missing.
    assert -75 < rows["none"]["brain_error_percent"] < -55
    # A uniform map knows nothing of the skull, whose extra absorption is some 10 %.
    for name in ("uniform", "chang"):
        assert -25 < rows[name]["brain_error_percent"] < rows["map"]["brain_error_percent"]
    assert rows["none"]["centre_to_edge"] < 0.9 < rows["map"]["centre_to_edge"]


def test_files_are_there_and_the_picture_is_one(folder):
    names = {path.name for path in folder.iterdir()}
    assert {
        "study.h5",
        "errors.csv",
        "panel.png",
        "truth.nii.gz",
        "none.nii.gz",
        "map_mu.nii.gz",
        "record.json",
    } <= names
    picture = matplotlib.image.imread(folder / "panel.png")
    assert picture.shape[0] > 800
    assert picture[..., :3].std() > 0.1
