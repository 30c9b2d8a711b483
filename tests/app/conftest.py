"""A small virtual patient and the comparison of methods on it, made once for all tests of the commands."""

import json
from dataclasses import replace
from functools import partial

import pytest

from spectac.app import demo
from spectac.app.compare import compare_study
from spectac.app.comparison import CompareRequest
from spectac.app.demo import SCANNER, simulate
from spectac.app.simulate import write_truth
from spectac.recon import ReconstructionSettings
from spectac.recon.io import hdf5
from spectac.recon.settings import ComparisonSettings


@pytest.fixture(scope="session")
def coarse_patient():
    """The demo's patient on voxels of 4 mm instead of 2: an eighth of them to draw, scan, label and write."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "draw_head", partial(demo.draw_head, voxel_mm=4.0))
        return demo.demo_patient.__wrapped__()


@pytest.fixture(scope="session")
def patient(coarse_patient):
    """A virtual patient on 9 mm pixels: the study, and its counts per second per kBq."""
    study, _, cps_per_kbq = simulate(
        coarse_patient, replace(SCANNER, matrix=(32, 32), pixel_mm=9.0, views=40), counts=3e6, seed=1
    )
    return study, cps_per_kbq


@pytest.fixture(scope="session")
def place(tmp_path_factory, patient, coarse_patient):
    """A folder as `spectac simulate` leaves it, and an empty one that is no CT."""
    folder = tmp_path_factory.mktemp("patient")
    study, cps_per_kbq = patient
    hdf5.write_study(folder / "study.h5", study)
    write_truth(folder / "truth", coarse_patient)
    (folder / "patient.json").write_text(json.dumps({"cps_per_kbq": cps_per_kbq}))
    (folder / "no_ct").mkdir()
    return folder


@pytest.fixture(scope="session")
def result(place):
    """The comparison of four methods, one of which cannot be used."""
    pytest.importorskip("skimage", reason="the report needs scikit-image: pip install 'spectac[report]'")
    request = CompareRequest(
        reconstruction=ReconstructionSettings(iterations=3, subsets=6),
        comparison=ComparisonSettings(
            methods=("none", "chang", "uniform", "ct"), ct=place / "no_ct", truth=place / "truth"
        ),
    )
    return compare_study(place / "study.h5", request, place / "out"), place / "out"
