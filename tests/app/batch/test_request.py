"""What the list says of a study comes before the options of the batch."""

from dataclasses import replace
from pathlib import Path

from spectac.app.batch.request import BatchRequest
from spectac.app.batch.study_list import ListedStudy
from spectac.app.compare import CompareRequest
from spectac.app.run import Request


def test_a_study_has_its_own_options_on_top_of_the_batchs(tmp_path):
    base = Request(iterations=3, given={"nuclide": "I-123", "psf": "1:0.02"})
    request = BatchRequest(CompareRequest(base, tracer="dat"), ("none",))
    study = ListedStudy("a", tmp_path, ("none", "ct"), {"ct": tmp_path}, {"collimator": "siemens-lehr"}, "perfusion")
    asked = request.of_study(study)
    assert (asked.methods, asked.ct, asked.base.iterations, asked.tracer) == (("none", "ct"), tmp_path, 3, "perfusion")
    # A study's own collimator takes the place of the batch's measured line: both together would be refused.
    assert asked.base.given == {"nuclide": "I-123", "collimator": "siemens-lehr"}
    plain = request.of_study(ListedStudy("b", tmp_path))
    assert (plain.methods, plain.base.given, plain.tracer) == (("none",), base.given, "dat")


def test_options_for_a_ct_or_a_map_are_for_studies_that_have_one_and_use_it():
    request = BatchRequest(extend_ct=True, assume_aligned=True, tube_voltage_kv=80.0, mu_map_kev=511.0)
    both = ListedStudy("a", Path("a"), None, {"ct": Path("ct"), "mu_map": Path("map")})

    def asked(study: ListedStudy) -> tuple[object, ...]:
        one = request.of_study(study)
        return one.ct, one.extend_ct, one.assume_aligned, one.tube_voltage_kv, one.mu_map, one.mu_map_kev

    of_ct, of_map = (Path("ct"), True, True, 80.0), (Path("map"), 511.0)
    assert asked(both) == (*of_ct, *of_map)
    assert asked(replace(both, methods=("none", "map"))) == (None, False, False, None, *of_map)
    assert asked(replace(both, methods=("ct",))) == (*of_ct, None, None)
    assert asked(replace(both, files={})) == (None, False, False, None, None, None)


def test_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compare = CompareRequest(Request(calibration="calibration.json"), normals=Path("normals"))
    request = BatchRequest(compare).with_absolute_paths()
    assert request.compare.base.calibration == str(tmp_path / "calibration.json")
    assert request.compare.normals == tmp_path / "normals"
    assert BatchRequest().with_absolute_paths() == BatchRequest()
