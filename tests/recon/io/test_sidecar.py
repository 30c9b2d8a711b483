"""The side-car's keys against dictionaries written by hand: what is known is there, and nothing else."""

import json
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from spectac.recon import (
    EnergyWindow,
    GivenMap,
    Grid,
    Image,
    Injection,
    MuMap,
    Projections,
    ReconstructionSettings,
    Result,
    Study,
    default_grid,
    reconstruct,
)
from spectac.recon.collimator import Collimator, collimator
from spectac.recon.io.nifti import read_image, write_image
from spectac.recon.io.sidecar import bids_keys

GRID = Grid.upright((2, 4, 4), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
WINDOWS = (EnergyWindow("peak", 143.1, 174.9), EnergyWindow("wide", 135.0, 183.0))


def study_of(make_acquisition, **other):
    """Two heads, each of three views of 20 s that begin 25 s apart: from 0 to 70 s."""
    values = {
        "nuclide": "I-123",
        "view_seconds": np.full(6, 20.0),
        "view_start_s": np.tile([0.0, 25.0, 50.0], 2),
        "detector": np.repeat([0, 1], 3),
        "corrections": frozenset(),
        **other,
    }
    acquisition = make_acquisition(np.arange(6) * 60.0, (2, 4), 5.0, **values)
    patient = {"PatientName": "Doe^Jane", "Manufacturer": "SIEMENS", "ManufacturerModelName": "Symbia", "StudyID": "7"}
    return Study(acquisition, WINDOWS, np.ones((2, 6, 2, 4)), patient=patient)


def result_of(*history, **facts):
    return Result(Image(np.ones(GRID.shape), GRID, "cps/mL", history=history), **facts)


def used(study, peak, scatter_method="none", scatter_windows=()):
    """Projections of a window with a scatter correction."""
    return Projections(
        study.acquisition,
        study.counts[peak],
        158.97,
        scatter=None if scatter_method == "none" else np.zeros(study.acquisition.shape),
        scatter_method=scatter_method,
        photopeak=study.windows[peak],
        scatter_windows=scatter_windows,
    )


OSEM = {
    "algorithm": "osem",
    "iterations": 8,
    "subsets": 10,
    "prior_beta": None,
    "fbp_filter": None,
    "resolution": True,
    "post_filter": "gaussian:6.5",
}


def test_everything_that_is_known_by_hand(make_acquisition, tmp_path):
    """Begun at half past a second: TimeZero is the whole second, and all else is counted from there."""
    start = datetime(2026, 3, 5, 14, 7, 9, 500000)
    study = study_of(make_acquisition, start=start, collimator=collimator("siemens-lehr"))
    sides = (EnergyWindow("low", 133.0, 143.1), EnergyWindow("high", 174.9, 185.0))
    result = result_of(
        "history is for people: scatter: dew, attenuation: chang",
        attenuation="ct",
        projections=used(study, 0, "tew, side windows smoothed by 12 mm", sides),
    )
    image = result.image
    write_image(tmp_path / "a.nii.gz", image, bids_keys(study, result, OSEM))
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "Modality": "NM",
        "Manufacturer": "SIEMENS",
        "ManufacturersModelName": "Symbia",
        "TracerRadionuclide": "I123",
        "Collimator": "siemens-lehr",
        "EnergyWindowKeV": [143.1, 174.9],
        "TimeZero": "14:07:09",
        "ScanStart": 0.5,
        "FrameTimesStart": [0.5],
        "FrameDuration": [70.0],
        "ImageDecayCorrected": True,
        "ImageDecayCorrectionTime": 0.5,
        "ReconMethodName": "OSEM",
        "ReconMethodParameterLabels": ["iterations", "subsets"],
        "ReconMethodParameterUnits": ["none", "none"],
        "ReconMethodParameterValues": [8, 10],
        "ResolutionRecovery": True,
        "ReconFilterType": "Gaussian",
        "ReconFilterSize": 6.5,
        "AttenuationCorrection": "ct",
        "ScatterCorrectionMethod": "tew, side windows smoothed by 12 mm",
        "ScatterWindowsKeV": [[133.0, 143.1], [174.9, 185.0]],
        "Units": "cps/mL",
        "History": list(image.history),
    }
    back = read_image(tmp_path / "a.nii.gz")
    assert (back.unit, back.history) == ("cps/mL", image.history)


def test_nothing_is_written_that_is_not_known(make_acquisition):
    """Neither camera nor collimator, start, view times or parameters, nor what was corrected."""
    study = study_of(make_acquisition, view_seconds=np.full(6, np.nan))
    bare = Study(study.acquisition, study.windows, study.counts)
    known = {"Modality": "NM", "TracerRadionuclide": "I123", "ImageDecayCorrected": False}
    assert bids_keys(bare, result_of("scatter: tew", "attenuation: ct"), {}) == known


def test_the_photopeak_is_the_one_that_was_used(make_acquisition):
    """Of two windows that hold the line the narrow one is the default; the image was made from the wide one."""
    study = study_of(make_acquisition)
    keys = bids_keys(study, result_of(projections=used(study, 1)), {"photopeak": None})
    assert keys["EnergyWindowKeV"] == [135.0, 183.0]
    assert keys["ScatterCorrectionMethod"] == "none"
    assert not keys.keys() & {"ScatterWindowsKeV", "AttenuationCorrection"}


def test_projections_that_came_decay_corrected_do_not_say_to_when(make_acquisition):
    study = study_of(make_acquisition, start=datetime(2026, 3, 5, 14, 7, 9), corrections=frozenset({"DECY"}))
    keys = bids_keys(study, result_of(), {})
    assert keys["ImageDecayCorrected"] is True
    assert "ImageDecayCorrectionTime" not in keys
    assert (keys["ScanStart"], keys["FrameTimesStart"], keys["FrameDuration"]) == (0.0, [0.0], [70.0])


def test_without_a_start_frames_have_a_length_and_no_place_in_time(make_acquisition):
    keys = bids_keys(study_of(make_acquisition), result_of(), {})
    assert keys["FrameDuration"] == [70.0]
    assert not keys.keys() & {"TimeZero", "ScanStart", "FrameTimesStart", "ImageDecayCorrectionTime"}
    assert keys["ImageDecayCorrected"] is True


@pytest.mark.parametrize(
    ("parameters", "name", "labels", "units", "values"),
    [
        (
            {"algorithm": "mlem", "iterations": 40, "subsets": 1},
            "MLEM",
            ["iterations", "subsets"],
            ["none"] * 2,
            [40, 1],
        ),
        (
            {"algorithm": "map", "iterations": 9, "subsets": 6, "prior_beta": 0.03},
            "MAP by BSREM with the relative-difference prior",
            ["iterations", "subsets", "beta of the prior"],
            ["none"] * 3,
            [9, 6, 0.03],
        ),
        (
            {"algorithm": "fbp", "fbp_filter": "butterworth:0.4:5", "resolution": None},
            "filtered backprojection, butterworth window",
            ["cut-off", "order"],
            ["fraction of the Nyquist frequency", "none"],
            [0.4, 5.0],
        ),
        (
            {"algorithm": "fbp", "fbp_filter": None},
            "filtered backprojection, hann window",
            ["cut-off"],
            ["fraction of the Nyquist frequency"],
            [1.0],
        ),
    ],
)
def test_algorithms_and_their_numbers(make_acquisition, parameters, name, labels, units, values):
    keys = bids_keys(study_of(make_acquisition), result_of(), parameters)
    assert keys["ReconMethodName"] == name
    assert keys["ReconMethodParameterLabels"] == labels
    assert keys["ReconMethodParameterUnits"] == units
    assert keys["ReconMethodParameterValues"] == values
    assert not keys.keys() & {"ResolutionRecovery", "ReconFilterType", "ReconFilterSize"}


def test_a_butterworth_filter_has_no_width(make_acquisition):
    keys = bids_keys(study_of(make_acquisition), result_of(), {"post_filter": "butterworth:0.5:10"})
    assert keys["ReconFilterType"] == "Butterworth, cut-off 0.5 per cm, order 10"
    assert "ReconFilterSize" not in keys
    assert bids_keys(study_of(make_acquisition), result_of(), {"post_filter": None})["ReconFilterType"] == "none"


def test_attenuation_and_scatter_are_those_of_the_reconstruction(make_acquisition):
    """`reconstruct` fills the result's fields in, the post-filter leaves them."""
    study = study_of(make_acquisition, nuclide="Tc-99m", collimator=Collimator.from_line(1.0, 0.02))
    windows = (
        EnergyWindow("low", 120.0, 126.5),
        EnergyWindow("peak", 126.5, 154.5),
        EnergyWindow("high", 154.5, 161.0),
    )
    counts = np.random.default_rng(4).poisson(50.0, (3, *study.acquisition.shape))
    study = Study(study.acquisition, windows, counts)
    grid = default_grid(study.acquisition)
    model = GivenMap(MuMap(np.full(grid.shape, 0.1), grid, 140.511))
    result = reconstruct(
        study, model, ReconstructionSettings(iterations=1, subsets=1, scatter="tew", post_filter="gaussian:8")
    )
    keys = bids_keys(study, result, {"algorithm": "osem", "iterations": 1, "subsets": 1})
    assert keys["TracerRadionuclide"] == "Tc99m"
    assert keys["AttenuationCorrection"] == "map"
    assert keys["ScatterCorrectionMethod"] == "tew, side windows smoothed by 12 mm"
    assert keys["EnergyWindowKeV"] == [126.5, 154.5]
    assert keys["ScatterWindowsKeV"] == [[120.0, 126.5], [154.5, 161.0]]
    json.dumps(keys)


def test_what_was_injected_and_the_patients_weight(make_acquisition):
    """185 MBq at 06:15, four hours before a scan that began at 10:15:12.5; TimeZero is the whole second."""
    start = datetime(2026, 2, 3, 10, 15, 12, 500000)
    injection = Injection("Ioflupane", 185.0, datetime(2026, 2, 3, 6, 15))
    study = study_of(make_acquisition, start=start)
    study = replace(study, injection=injection, patient={**study.patient, "PatientWeight": "70.5"})
    keys = bids_keys(study, result_of(), {})
    wanted = {
        "TracerName": "Ioflupane",
        "InjectedRadioactivity": 185.0,
        "InjectedRadioactivityUnits": "MBq",
        "InjectionStart": -4 * 3600 - 12,
        "PatientWeight": 70.5,
    }
    assert {key: keys[key] for key in wanted} == wanted
    for start, at, hours in (
        ("2026-02-03T03:00+00:00", "2026-02-03T09:00+09:00", -3),
        ("2026-02-03T12:00", "2026-02-03T09:00+09:00", -3),
        ("2026-02-03T12:00+09:00", "2026-02-03T09:00", -3),
    ):
        zoned = study_of(make_acquisition, start=datetime.fromisoformat(start))
        zoned = replace(zoned, injection=replace(injection, at=datetime.fromisoformat(at)))
        assert bids_keys(zoned, result_of(), {})["InjectionStart"] == hours * 3600
    without = bids_keys(study_of(make_acquisition), result_of(), {})
    assert not set(wanted) & set(without)
