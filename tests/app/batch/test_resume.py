"""A study is done again when anything changed that its results follow from, and only then."""

import errno
import json
import os
from contextlib import contextmanager
from dataclasses import replace

import pytest

from spectac.app.batch import resume
from spectac.app.batch.request import BatchRequest
from spectac.app.batch.resume import asked_of, earlier_failure, seconds_of_done, write_done, write_failure
from spectac.app.batch.study_list import ListedStudy
from spectac.app.compare import CompareRequest
from spectac.recon import ReconstructionSettings
from spectac.recon.code_digest import imported_modules
from spectac.recon.settings import ComparisonSettings


def test_every_input_and_option_shows_in_what_was_asked(tmp_path):
    """A virtual patient's calibration and labels are read with its truth; where a study lies does not matter."""
    (tmp_path / "truth").mkdir()
    files = {name: tmp_path / name for name in ("a.h5", "ct", "truth/activity.nii.gz", "truth/labels.nii.gz")}
    files["patient.json"] = tmp_path / "patient.json"
    files["calibration"] = tmp_path / "calibration.json"
    for path in files.values():
        path.write_text("x")
    study = ListedStudy("a", files["a.h5"], None, {"ct": files["ct"], "truth": tmp_path / "truth"})

    def asked(compare: CompareRequest) -> str:
        return json.dumps(asked_of(study, BatchRequest(compare)))

    compare = CompareRequest(reconstruction=ReconstructionSettings(calibration=str(files["calibration"])))
    seen = {
        asked(compare),
        asked(replace(compare, reconstruction=replace(compare.reconstruction, iterations=3))),
        asked(replace(compare, comparison=ComparisonSettings(tracer="dat"))),
        json.dumps(asked_of(study, BatchRequest(compare, work="json:dumps"))),
    }
    for path in files.values():
        path.write_text("y")
        seen.add(asked(compare))
    assert len(seen) == 10
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "a.h5").write_text("y")
    last = asked(compare)
    study = replace(study, path=moved / "a.h5")
    assert asked(compare) == last


def test_results_of_other_code_or_weights_are_not_those_asked_for(tmp_path, monkeypatch):
    (tmp_path / "a.h5").write_text("x")
    study, request = ListedStudy("a", tmp_path / "a.h5"), BatchRequest(CompareRequest())
    now = asked_of(study, request)
    modules = imported_modules(*resume._NAMED_AT_RUN_TIME, request.work.partition(":")[0])
    for name in (
        "recon.system",
        "recon.io.hdf5",
        "recon.io.interfile.study",
        "recon.geometry",
        "learned.predict",
        "app.measures",
    ):
        assert f"spectac.{name}" in modules
    monkeypatch.setattr(resume, "code_digest", lambda *_: "other")
    assert asked_of(study, request) != now
    monkeypatch.undo()
    assert len(now["files"]) == 3  # two networks' weights and the CUDA source
    monkeypatch.setattr(resume, "_own_files", lambda: ["other"])
    assert asked_of(study, request) != now


def test_of_healthy_subjects_only_the_measures_are_read(tmp_path):
    for name in ("a/comparison.csv", "a/images/none.nii.gz", "b/comparison.csv"):
        (tmp_path / "normals" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "normals" / name).write_text("x")
    (tmp_path / "study").write_text("1")
    request = BatchRequest(CompareRequest(comparison=ComparisonSettings(normals=tmp_path / "normals")))
    asked = asked_of(ListedStudy("s", tmp_path / "study"), request)
    assert sorted(asked["inputs_sha256"]["normals"]) == ["a/comparison.csv", "b/comparison.csv"]


def test_a_study_is_done_as_long_as_batch_json_says_what_is_asked(tmp_path):
    study, request = ListedStudy("s", tmp_path / "study"), BatchRequest()
    target = tmp_path / "out"
    target.mkdir()
    (tmp_path / "study").write_text("1")
    (target / "record.json").write_text("{}")
    (target / "report.html").write_text("report")
    assert seconds_of_done(target, study, request) is None
    write_failure(target, "the disk", 2.0)
    assert earlier_failure(target).reason == "the disk"
    write_done(target, asked_of(study, request), {"report.html": 6}, 1.5)
    assert seconds_of_done(target, study, request) == 1.5
    assert earlier_failure(target) is None
    assert (
        seconds_of_done(target, study, BatchRequest(CompareRequest(comparison=ComparisonSettings(methods=("none",)))))
        is None
    )
    for path, other in (
        (target / "report.html", "cut"),
        (target / "record.json", '{"other": 1}'),
        (target / "batch.json", "[]"),
        (tmp_path / "study", "2"),
    ):
        before = path.read_text()
        path.write_text(other)
        assert seconds_of_done(target, study, request) is None, path
        path.write_text(before)
    assert seconds_of_done(target, study, request) == 1.5


def test_a_failure_of_the_code_tells_from_where(tmp_path):
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        failure = write_failure(tmp_path, "a defect", 0.12345, error)
    assert (failure.reason, failure.seconds, failure.stored) == ("a defect", 0.123, True)
    content = json.loads((tmp_path / "failure.json").read_text())
    assert (content["reason"], content["seconds"]) == ("a defect", 0.123)
    assert "1 / 0" in "".join(content["traceback"])


def test_a_failure_that_cannot_be_stored_is_still_one(tmp_path, monkeypatch):
    (tmp_path / "failure.json").mkdir()
    assert not write_failure(tmp_path, "reason", 1.0).stored

    @contextmanager
    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield

    monkeypatch.setattr(resume, "written", full)
    with pytest.raises(OSError, match="No space left") as failed:
        write_failure(tmp_path, "reason", 1.0)
    assert failed.value.filename == str(tmp_path / "failure.json")
