"""What the list says of a study comes before the options of the batch."""

from dataclasses import replace
from pathlib import Path

from spectac.app.batch.request import BatchRequest
from spectac.app.batch.study_list import ListedStudy
from spectac.app.compare import CompareRequest
from spectac.recon import ReconstructionSettings, StudySettings
from spectac.recon.settings import ComparisonSettings


def test_a_study_has_its_own_options_on_top_of_the_batchs(tmp_path):
    general = StudySettings(nuclide="I-123", psf="1:0.02")
    comparison = ComparisonSettings(tracer="dat", methods=("none",))
    request = BatchRequest(CompareRequest(general, ReconstructionSettings(iterations=3), comparison))
    listed = StudySettings(collimator="siemens-lehr")
    asked = request.of_study(ListedStudy("a", tmp_path, ("none", "ct"), {"ct": tmp_path}, listed, "perfusion"))
    assert asked.comparison == ComparisonSettings(methods=("none", "ct"), ct=tmp_path, tracer="perfusion")
    assert asked.reconstruction.iterations == 3
    # A study's own collimator takes the place of the batch's measured line: both together would be refused.
    assert asked.study == StudySettings(nuclide="I-123", collimator="siemens-lehr")
    assert request.of_study(ListedStudy("b", tmp_path)) == request.compare


def test_a_study_of_parallel_data_has_nothing_of_the_batchs_focus(tmp_path):
    def asked(general: StudySettings, listed: StudySettings) -> StudySettings:
        return BatchRequest(CompareRequest(general)).of_study(ListedStudy("a", tmp_path, given=listed)).study

    fan, parallel = StudySettings(focus_from="crystal"), StudySettings(focal_length_mm=float("inf"))
    assert asked(fan, parallel) == parallel
    assert asked(parallel, fan) == fan
    assert asked(parallel, StudySettings()) == parallel
    both = StudySettings(focus_from="crystal", focal_length_mm=400)
    assert asked(fan, StudySettings(focal_length_mm=400)) == both
    # A study's holes take the place of the batch's collimator.
    holes = StudySettings(holes="1.5:0.2:35")
    assert asked(StudySettings(collimator="ge-lehr"), holes) == holes


def test_options_for_a_ct_or_a_map_are_for_studies_that_have_one_and_use_it():
    maps = ComparisonSettings(extend_ct=True, assume_aligned=True, tube_voltage_kv=80.0, mu_map_kev=511.0)
    request = BatchRequest(CompareRequest(comparison=maps))
    both = ListedStudy("a", Path("a"), None, {"ct": Path("ct"), "mu_map": Path("map")})

    def asked(study: ListedStudy) -> tuple[object, ...]:
        one = request.of_study(study).comparison
        return one.ct, one.extend_ct, one.assume_aligned, one.tube_voltage_kv, one.mu_map, one.mu_map_kev

    of_ct, of_map = (Path("ct"), True, True, 80.0), (Path("map"), 511.0)
    assert asked(both) == (*of_ct, *of_map)
    assert asked(replace(both, methods=("none", "map"))) == (None, False, False, None, *of_map)
    assert asked(replace(both, methods=("ct",))) == (*of_ct, None, None)
    assert asked(replace(both, files={})) == (None, False, False, None, None, None)


def test_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compare = CompareRequest(
        reconstruction=ReconstructionSettings(calibration="calibration.json"),
        comparison=ComparisonSettings(normals=Path("normals")),
    )
    request = BatchRequest(compare).with_absolute_paths()
    assert request.compare.reconstruction.calibration == tmp_path / "calibration.json"
    assert request.compare.comparison.normals == tmp_path / "normals"
    assert BatchRequest().with_absolute_paths() == BatchRequest()
