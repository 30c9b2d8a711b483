"""info and record.json say which photopeak, scatter and attenuation were used, whatever the parameters asked for."""

import json
import sys
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from spectac.app.cli import main
from spectac.app.describe import describe, in_words
from spectac.app.reconstruct import reconstruct
from spectac.app.record import record
from spectac.recon import (
    COLLIMATORS,
    EnergyWindow,
    Image,
    ReconstructionSettings,
    Result,
    Study,
    StudySettings,
    default_grid,
)
from spectac.recon.collimator import Focus
from spectac.recon.io import hdf5
from spectac.recon.io.sidecar import bids_keys
from spectac.recon.scatter.measured import projections
from spectac.recon.settings import AttenuationSettings, ProjectionSettings

QUICK = ReconstructionSettings(iterations=1, subsets=2, resolution=False, device="cpu")
LUTETIUM = {
    "low peak": (101.7, 124.3),
    "low below": (90.4, 101.7),
    "low above": (124.3, 135.6),
    "below": (166.4, 187.2),
    "above": (228.8, 249.6),
    "peak": (187.2, 228.8),
}


@pytest.fixture
def study(make_acquisition):
    """Lu-177 with both peaks and their scatter windows, a blob of counts in 12 views; the main peak stands last."""
    acquisition = make_acquisition(
        np.arange(12) * 30.0, (4, 8), 20.0, nuclide="Lu-177", view_seconds=np.full(12, 10.0), corrections=frozenset()
    )
    u = np.arange(8) - 3.5
    blob = np.broadcast_to(np.exp(-0.5 * u**2), (12, 4, 8))
    levels = np.array([900.0, 100.0, 60.0, 90.0, 30.0, 1000.0])[:, None, None, None]
    windows = tuple(EnergyWindow(name, *limits) for name, limits in LUTETIUM.items())
    return Study(acquisition, windows, np.rint(levels * blob))


@pytest.fixture
def made(tmp_path):
    """Function (study, settings, attenuation) -> record.json, the image's side-car, image.dcm, lines for the user."""

    def make(study, settings, attenuation="none"):
        hdf5.write_study(tmp_path / "study.h5", study)
        model = AttenuationSettings(attenuation=attenuation)
        lines = reconstruct([tmp_path / "study.h5"], tmp_path / "out", StudySettings(), model, settings)
        record, beside = (json.loads((tmp_path / "out" / name).read_text()) for name in ("record.json", "image.json"))
        return record, beside, pydicom.dcmread(tmp_path / "out" / "image.dcm"), lines

    return make


def marked(record, mark):
    return [window["name"] for window in record["study"]["windows"] if window[mark]]


def test_scatter_none_is_recorded_as_none_and_not_as_what_auto_would_do(study, made):
    record, beside, dicom, lines = made(study, replace(QUICK, scatter="none"))
    assert record["study"]["scatter"] == "none"
    assert record["used"]["scatter_method"] == "none"
    assert record["used"]["scatter_windows"] == []
    assert record["used"]["attenuation"] == "none"
    assert marked(record, "scatter") == []
    assert beside["ScatterCorrectionMethod"] == "none"
    assert "SCAT" not in dicom.CorrectedImage
    assert not any("scatter" in line for line in lines if line.startswith("note: "))


def test_tew_is_recorded_with_its_windows(study, made):
    record, beside, dicom, _ = made(study, QUICK)
    method = "tew, side windows smoothed by 12 mm"
    assert record["study"]["scatter"] == record["used"]["scatter_method"] == method
    assert marked(record, "photopeak") == ["peak"]
    assert marked(record, "scatter") == ["below", "above"]
    assert record["used"]["photopeak"] == {"name": "peak", "lower_kev": 187.2, "upper_kev": 228.8}
    assert record["used"]["line_kev"] == pytest.approx(208.366)
    assert beside["ScatterWindowsKeV"] == [[166.4, 187.2], [228.8, 249.6]]
    assert "SCAT" in dicom.CorrectedImage


def test_another_photopeak_is_recorded_as_the_one_that_was_used(study, made):
    """113 keV instead of 208 keV: window, line and scatter windows are those of the lower peak everywhere."""
    record, beside, dicom, _ = made(study, replace(QUICK, photopeak="Low Peak"))
    (window,) = dicom.EnergyWindowInformationSequence
    assert (window.EnergyWindowName, dicom.NumberOfEnergyWindows) == ("low peak", 1)
    assert window.EnergyWindowRangeSequence[0].EnergyWindowLowerLimit == pytest.approx(101.7)
    assert marked(record, "photopeak") == ["low peak"]
    assert marked(record, "scatter") == ["low below", "low above"]
    assert record["used"]["photopeak"]["name"] == "low peak"
    assert record["used"]["line_kev"] == pytest.approx(112.95)
    assert beside["EnergyWindowKeV"] == [101.7, 124.3]


def test_a_named_photopeak_leaves_no_warning_that_none_holds_the_main_line(study, made):
    """Without the 208 keV window info asks for --photopeak; with it nothing is wrong."""
    low = Study(study.acquisition, study.windows[:3], study.counts[:3])
    assert any("--photopeak" in line for line in describe(low)["warnings"])
    assert describe(low)["scatter"] == "unknown: no photopeak"
    record, _, _, lines = made(low, replace(QUICK, photopeak="low peak"))
    said = [*record["study"]["warnings"], *record["warnings"], *lines]
    assert not any("no energy window holds" in line for line in said)
    assert marked(record, "photopeak") == ["low peak"]


def test_auto_without_scatter_windows_is_a_warning_of_info_and_record_and_a_note(study, made):
    bare = Study(study.acquisition, study.windows[-1:], study.counts[-1:])
    assert any(line.startswith("warning     no scatter correction: TEW needs") for line in in_words(describe(bare)))
    record, beside, dicom, lines = made(bare, QUICK)
    assert any(line.startswith("note: no scatter correction: TEW needs") for line in lines)
    for warnings in (record["warnings"], record["study"]["warnings"]):
        assert sum(line.startswith("no scatter correction") for line in warnings) == 1
    assert record["study"]["scatter"] == beside["ScatterCorrectionMethod"] == "none"
    assert "SCAT" not in dicom.CorrectedImage


def test_info_shows_windows_that_auto_refuses_in_words(study):
    """The lower window reaches to 203 keV: it holds a quarter of the line."""
    windows = (EnergyWindow("below", 166.4, 203.0), *study.windows[-2:])
    facts = describe(Study(study.acquisition, windows, study.counts[-3:]))
    assert facts["scatter"] == '"auto" means none'
    assert any("unscattered photons as the photopeak" in line for line in facts["warnings"])


@pytest.fixture
def info(capsys, monkeypatch):
    """Function that runs spectac info: exit code and what it printed."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["spectac", "info", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, said.out + said.err

    return call


def test_info_takes_the_options_that_its_warnings_name(study, tmp_path, info):
    hdf5.write_study(tmp_path / "study.h5", study)
    code, said = info(tmp_path / "study.h5", "--photopeak", "low peak", "--scatter-windows", "low above,low below")
    assert code == 0
    assert "imaged 112.95 keV" in said
    assert "scatter     tew, side windows smoothed by 12 mm" in said
    assert said.count("<- scatter") == 2
    code, said = info(tmp_path / "study.h5")
    assert code == 0
    assert 'scatter     "auto" means tew, side windows smoothed by 12 mm' in said
    code, said = info(tmp_path / "study.h5", "--scatter-windows", "below,low peak")
    assert code == 2
    assert len(said.strip().splitlines()) == 1


def test_described_projections_keep_their_own_window(study):
    facts = describe(
        study,
        projections(study, ProjectionSettings(scatter="dew", photopeak="peak", dew_k=0.5, scatter_windows="low below")),
    )
    assert facts["scatter"].startswith("dew, k = 0.5")
    assert [window["name"] for window in facts["windows"] if window["scatter"]] == ["low below"]


def test_info_shows_the_focus_of_every_detector(study):
    parallel = describe(study)
    assert parallel["foci"] == []
    assert not any(line.startswith("focus") for line in in_words(parallel))
    views = study.acquisition.views
    heads = {"detector": np.repeat([0, 1], views // 2), "collimator": None}
    foci = (Focus(350.0, "crystal", 2.0), Focus(351.0))
    fan = replace(study, acquisition=replace(study.acquisition, **heads, foci=foci))
    facts = json.loads(json.dumps(describe(fan)))
    assert facts["foci"] == [
        {"length_mm": 350.0, "counted_from": "crystal", "offset_mm": 2.0},
        {"length_mm": 351.0, "counted_from": "face", "offset_mm": 0.0},
    ]
    line = next(line for line in in_words(facts) if line.startswith("focus"))
    assert line.split(maxsplit=1)[1] == (
        "detector 1: 350 mm from the crystal, offset 2 mm; detector 2: 351 mm from the face, offset 0 mm"
    )
    assert any("needs the length of the collimator's holes" in warning for warning in facts["warnings"])


def test_record_and_side_car_hold_the_focus(study):
    fan = replace(study.acquisition, collimator=COLLIMATORS["prism-lehr-fan"])
    grid = default_grid(study.acquisition)
    result = Result(Image(np.ones(grid.shape), grid, "cps/mL"))
    written = record([], {"device": "cpu"}, replace(study, acquisition=fan), result, 1.0)
    focus = {"length_mm": 500.0, "counted_from": "face", "offset_mm": 0.0}
    assert written["acquisition"]["foci"] == [focus]
    assert written["acquisition"]["collimator"]["focus"] == focus
    beside = bids_keys(replace(study, acquisition=fan), result, {})
    assert beside["CollimatorFoci"] == [{"LengthMm": 500.0, "CountedFrom": "face", "OffsetMm": 0.0}]
    assert "CollimatorFoci" not in bids_keys(study, result, {})
