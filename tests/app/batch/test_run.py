"""A batch names every bad study, loses and doubles none, and does again just what is missing or has changed."""

import csv
import errno
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import pytest

from spectac.app.batch import overview, resume
from spectac.app.batch.request import BatchRequest
from spectac.app.batch.resume import DONE, FAILURE
from spectac.app.batch.run import make_batch, run_batch
from spectac.app.batch.study_list import ListedStudy, read_list
from spectac.app.cli import main
from spectac.app.compare import CompareRequest
from spectac.recon import EnergyWindow, InputError, ReconstructionSettings
from spectac.recon.calibration import Calibration, write_calibration
from spectac.recon.queue.store import locked
from spectac.recon.queue.work_queue import Progress

pytest.importorskip("jinja2", reason="the index page needs jinja2")

BAD = {"case-03": "corrupt", "case-07": "defect", "case-13": "huge"}


@pytest.fixture(autouse=True)
def importable(monkeypatch, tmp_path) -> None:
    """The stand-in work can be imported here, and every study that it works on stands in a log."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))


@pytest.fixture
def listed(tmp_path) -> Path:
    """20 studies, three of them bad; the number in a good one is its place."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for place in range(20):
        name = f"case-{place:02d}"
        (folder / f"{name}").write_text(BAD.get(name, str(place)))
    return folder


@pytest.fixture
def here(capsys, monkeypatch, listed, tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Function that runs `spectac batch` with the stand-in work in this process."""

    def run(*more: object, studies: Path = listed) -> subprocess.CompletedProcess[str]:
        arguments = ("batch", studies, "-o", tmp_path / "out", "--work", "fake_batch:work", "--workers", "0", *more)
        monkeypatch.setattr(sys, "argv", ["spectac", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, ended.value.code, said.out, said.err)

    return run


def refused(done: subprocess.CompletedProcess[str], text: str, code: int = 2) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert text in done.stderr


def summary(folder: Path) -> list[dict[str, str]]:
    with (folder / "summary.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def run_here(studies, folder: Path, **options):
    """States after a run with the stand-in work in this process."""
    return run_batch(studies, BatchRequest(work="fake_batch:work"), folder, workers=0, **options)


def worked_on(tmp_path: Path) -> list[str]:
    """Studies that were worked on since the last call."""
    log = tmp_path / "log"
    names = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return names


def test_good_studies_are_done_and_bad_ones_named(here, tmp_path):
    done = here()
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("note: case-03 failed: ")
    assert lines[0].endswith("case-03: cannot tell what this file is")
    assert lines[1].startswith("note: case-07 failed: ZeroDivisionError: a defect of the code (fake_batch.py:")
    assert lines[2] == "note: case-13 failed: not enough memory: the data do not fit"
    assert lines[3] == "note: methods were left out 17 times, in 17 studies: see index.html"
    assert "17 studies done, 3 failed" in lines[4]
    assert worked_on(tmp_path) == [f"case-{place:02d}" for place in range(20)]
    rows = summary(tmp_path / "out")
    whole = [row for row in rows if row["method"] in ("", "none")]
    assert [row["name"] for row in whole] == [f"case-{place:02d}" for place in range(20)]
    assert {row["name"] for row in whole if row["status"] == "failed"} == set(BAD)
    for place, row in enumerate(whole):
        if row["name"] not in BAD:
            assert (row["mean brain"], row["unit"], row["SBR left striatum"]) == (str(place), "cps/mL", "2.5")
            assert (row["status"], row["seconds"], row["folder"]) == ("done", "0.25", row["name"])
    refusals = [row for row in rows if row["method"] == "ct"]
    assert len(refusals) == 17
    assert {row["reason"] for row in refusals} == {"the CT <ends> below the chin"}
    failure = json.loads((tmp_path / "out" / "case-07" / FAILURE).read_text())
    assert "in work" in "".join(failure["traceback"])


def test_the_next_run_tries_failed_studies_again_and_keeps_the_others(here, listed, tmp_path):
    here()
    worked_on(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/record.json")}
    (listed / "case-03").write_text("3")
    done = here()
    assert worked_on(tmp_path) == [f"{name}" for name in BAD]
    assert "18 studies done, 2 failed" in done.stdout
    assert not (tmp_path / "out" / "case-03" / FAILURE).exists()
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_has_changed_is_done_again(here, listed, tmp_path):
    """Another content, a record that is not the one written last, other options; a new time of a file is no change."""
    for name in BAD:
        (listed / f"{name}").unlink()
    here()
    worked_on(tmp_path)
    os.utime(listed / "case-00", (0, 0))
    here()
    assert worked_on(tmp_path) == []
    (listed / "case-01").write_text("100")
    (tmp_path / "out" / "case-02" / "record.json").write_text("{}")
    (tmp_path / "out" / "case-04" / DONE).unlink()
    (tmp_path / "out" / "case-05" / DONE).write_text("[]")
    assert here().returncode == 0
    assert worked_on(tmp_path) == ["case-01", "case-02", "case-04", "case-05"]
    (changed,) = [row for row in summary(tmp_path / "out") if (row["name"], row["method"]) == ("case-01", "none")]
    assert changed["mean brain"] == "100"
    here("--iterations", "3")
    assert len(worked_on(tmp_path)) == 17
    # Back again: the results of the first options are gone.
    here()
    assert len(worked_on(tmp_path)) == 17


def test_a_study_that_fails_after_it_was_done_is_not_done(here, listed, tmp_path):
    here()
    (listed / "case-00").write_text("corrupt")
    assert "16 studies done, 4 failed" in here().stdout
    assert not (tmp_path / "out" / "case-00" / DONE).exists()
    (listed / "case-00").write_text("0")
    assert "17 studies done, 3 failed" in here().stdout


def test_a_study_that_is_missing_or_unreadable_stops_no_other(tmp_path, monkeypatch):
    """Its file cannot be opened: an OSError, but not of the disk that is written to."""
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("1")
    (tmp_path / "b").write_text("closed")
    (tmp_path / "list.csv").write_text("study,truth\na,\nmissing,\nb,\nc,no_truth\n")
    monkeypatch.setenv("FAKE_UNREADABLE", "closed")
    studies, _ = read_list(tmp_path / "list.csv", tmp_path / "out")
    states = run_here(studies, tmp_path / "out")
    assert [(state.study.name, state.status) for state in states] == [
        ("a", "done"), ("missing", "failed"), ("b", "failed"), ("c", "failed"),
    ]  # fmt: skip
    assert states[1].reason == f"{tmp_path / 'missing'}: no such file or folder"
    assert states[2].reason == f"{tmp_path / 'b'}: Permission denied"
    assert states[3].reason == f"{tmp_path / 'no_truth'}: no such file or folder"


def test_a_stopped_batch_says_how_to_go_on(here, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_INTERRUPT", "10")
    refused(here(), f"interrupted: 8 of 20 studies are done in {tmp_path / 'out'}, the same command goes on", code=130)
    states = Counter(row["status"] for row in summary(tmp_path / "out") if row["method"] in ("", "none"))
    assert states == {"done": 8, "failed": 2, "waiting": 10}
    monkeypatch.delenv("FAKE_INTERRUPT")
    worked_on(tmp_path)
    assert here().returncode == 0
    assert worked_on(tmp_path) == [f"case-{place:02d}" for place in (3, 7, *range(10, 20))]


def test_progress_counts_the_earlier_results_first(listed, tmp_path):
    studies, _ = read_list(listed, tmp_path / "out")
    seen: list[Progress] = []
    for _ in range(2):
        seen.clear()
        run_here(studies, tmp_path / "out", on_progress=seen.append)
    assert [progress.checked for progress in seen] == [*range(21), 20, 20, 20]
    assert {progress.total for progress in seen} == {20}
    assert [(progress.kept, progress.done, progress.failed) for progress in seen[20:]] == [
        (17, 17, failed) for failed in range(4)
    ]


def test_something_else_in_the_place_of_one_studys_results_stops_no_other(here, listed, tmp_path, monkeypatch):
    """A folder of the user, and a folder called as a file of ours."""
    monkeypatch.setenv("FAKE_IN_THE_WAY", "5")
    (tmp_path / "out" / "case-06" / DONE).mkdir(parents=True)
    done = here()
    assert done.returncode == 0, done.stderr
    assert "15 studies done, 5 failed" in done.stdout
    reasons = {row["name"]: row["reason"] for row in summary(tmp_path / "out") if row["status"] == "failed"}
    place = tmp_path / "out"
    assert reasons["case-05"] == f"{place / 'case-05' / 'images'}: this folder was not made by spectac"
    assert reasons["case-06"].startswith(f"{place / 'case-06' / DONE}: ")


def test_a_file_that_takes_the_place_of_a_study_during_the_run_stops_no_other(listed, tmp_path):
    """It comes after the places were checked."""
    studies, _ = read_list(listed, tmp_path / "out")
    target = tmp_path / "out" / "case-08"

    def put_there(progress: Progress) -> None:
        if progress.checked == 20 and not target.exists():
            target.write_text("x")

    states = run_here(studies, tmp_path / "out", on_progress=put_there)
    reasons = {state.study.name: state.reason for state in states if state.status == "failed"}
    assert sorted(reasons) == sorted({*BAD, "case-08"})
    assert reasons["case-08"] == f"{target}: File exists"


def test_a_name_that_a_file_system_refuses_stops_no_other(tmp_path):
    (tmp_path / "study").write_text("1")
    names = ("a", "x" * 300, "b")
    states = run_here([ListedStudy(name, tmp_path / "study") for name in names], tmp_path / "out")
    assert [state.status for state in states] == ["done", "failed", "done"]
    assert "name too long" in states[1].reason


def test_results_that_are_gone_or_cut_short_are_made_again(here, listed, tmp_path):
    for name in BAD:
        (listed / name).unlink()
    here()
    worked_on(tmp_path)
    out = tmp_path / "out"
    (out / "case-00" / "notes.txt").write_text("the user's own")
    assert here().returncode == 0
    assert worked_on(tmp_path) == []
    (out / "case-00" / "notes.txt").unlink()
    (out / "case-01" / "report.html").unlink()
    (out / "case-02" / "comparison.csv").write_text("method,status")
    (out / "case-04" / "images" / "none.nii.gz").unlink()
    assert here().returncode == 0
    assert worked_on(tmp_path) == ["case-01", "case-02", "case-04"]


def test_a_method_refused_for_want_of_an_extra_is_tried_when_it_is_installed(here, listed, tmp_path, monkeypatch):
    for path in listed.iterdir():
        path.unlink()
    for name, extras in (("learned", {"predicted": "learned"}), ("registered", {"ct": "ct"}), ("chin", {})):
        (listed / name).write_text(json.dumps({"brain": 1.0, "missing_extras": extras}))
    installed: set[str] = set()
    monkeypatch.setattr(resume, "find_spec", lambda name: name if name in installed else None)
    for now, again in (
        ((), ["chin", "learned", "registered"]),
        ((), []),
        (("torch",), []),
        (("safetensors",), ["learned"]),
        (("SimpleITK",), ["learned", "registered"]),  # refused still: the stand-in never heard of it
    ):
        installed |= set(now)
        here()
        assert worked_on(tmp_path) == again


def test_warnings_are_counted_and_shown(here, listed, tmp_path):
    for path in listed.iterdir():
        path.unlink()
    facts = {"brain": 1.0, "warnings": ["no <scatter> correction", "the orbit"], "notes": ["narrow beam", "the orbit"]}
    (listed / "a").write_text(json.dumps(facts))
    (listed / "b").write_text(json.dumps({"brain": 2.0, "refused": {}, "notes": ["uniform mu"]}))
    done = here()
    assert done.stdout.splitlines()[:2] == [
        "note: 1 of 2 studies have warnings: see index.html",
        "note: methods were left out 1 times, in 1 studies: see index.html",
    ]
    rows = {(row["name"], row["method"]): row["warnings"] for row in summary(tmp_path / "out")}
    assert rows == {("a", "none"): "2", ("a", "ct"): "2", ("b", "none"): "0"}
    page = read_page(tmp_path / "out" / "index.html")
    assert [tag for tag, _ in page.tags].count("details") == 3
    # A method's note may be plain information; what the warnings say already is no note as well.
    assert [text for text in page.texts if re.fullmatch(r"\d (warning|note)s?", text)] == [
        "2 warnings",
        "1 note",
        "1 note",
    ]
    assert {"no <scatter> correction", "the orbit", "none: narrow beam"} <= set(page.texts)


def test_options_for_all_studies_reach_each_comparison(here, listed, tmp_path):
    """The CT's are for studies that have one; a study's own tracer comes before the batch's."""
    for path in listed.iterdir():
        path.unlink()
    for name in ("a", "b", "ct"):
        (listed / name).write_text("1")
    normals = tmp_path / "normals.csv"
    normals.write_text("method,measure,region,unit,value\n" + "none,SBR,left putamen,,2\n" * 3)
    (listed / "list.csv").write_text("study,ct,tracer,methods\na,ct,,\nb,,perfusion,\nct,ct,,none\n")
    given = ("--tracer", "dat", "--extend-ct", "--assume-aligned", "--normals", normals)
    assert here(*given, studies=listed / "list.csv").returncode == 0
    asked = {
        name: json.loads((tmp_path / "out" / name / "record.json").read_text())["asked"] for name in ("a", "b", "ct")
    }
    assert "extend_ct=True, assume_aligned=True" in asked["a"]
    assert "extend_ct=False, assume_aligned=False" in asked["b"]
    assert all(f"normals={normals!r}" in request for request in asked.values())
    assert "tracer='dat'" in asked["a"]
    assert "tracer='perfusion'" in asked["b"]
    # Its methods do not use the CT that the list gives.
    assert "ct=None" in asked["ct"]
    worked_on(tmp_path)
    normals.write_text(normals.read_text() + "none,SBR,left putamen,,3\n")
    here(*given, studies=listed / "list.csv")
    assert worked_on(tmp_path) == ["a", "b", "ct"]


def test_the_summary_shows_plain_paths(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "study").write_text("1")
    (tmp_path / "here" / "list.csv").write_text("study\n../study\n")
    studies, _ = read_list(tmp_path / "here" / "list.csv", tmp_path / "out")
    run_here(studies, tmp_path / "out")
    assert summary(tmp_path / "out")[0]["study"] == str((tmp_path / "study").resolve())


def test_a_full_disk_ends_the_run_and_the_next_goes_on(here, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_FULL", "10")
    place = tmp_path / "out" / "case-10"
    refused(here(), f"{place}: No space left on device; 8 of 20 studies are done in {tmp_path / 'out'}, the same")
    assert list(place.iterdir()) == []
    monkeypatch.delenv("FAKE_FULL")
    assert "17 studies done" in here().stdout


@pytest.mark.parametrize("place", [DONE, FAILURE, "summary.csv"])
def test_a_disk_that_fills_up_while_the_batch_writes(here, tmp_path, monkeypatch, place):
    whole = resume.written

    @contextmanager
    def full(path):
        with whole(path) as temporary:
            yield temporary
            if path.name == place:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for module in (resume, overview):
        monkeypatch.setattr(module, "written", full)
    refused(here(), "No space left on device; ")
    monkeypatch.undo()
    assert not [path for path in (tmp_path / "out").rglob(".*") if path.name != ".lock"]


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(here, tmp_path):
    study = tmp_path / "out" / "case-00"
    (study / ".0123456789ab").mkdir(parents=True)
    (study / ".0123456789ab" / "report.html").write_text("x")
    stale = [study / ".0123456789ab-batch.json", tmp_path / "out" / ".0123456789ab-summary.csv"]
    other = [study / ".0123456789ab-own.txt", study / "notes.txt", tmp_path / "out" / ".hidden-summary.csv"]
    for path in (*stale, *other):
        path.write_text("x")
    here()
    assert not any(path.exists() for path in (*stale, study / ".0123456789ab"))
    assert all(path.read_text() == "x" for path in other)


def test_two_runs_in_one_folder_are_refused(here, tmp_path):
    pytest.importorskip("fcntl", reason="this system has no locks on files")
    with locked(tmp_path / "out", "batch"):
        refused(here(), "another spectac batch is running in this folder")
    assert worked_on(tmp_path) == []


def test_bad_requests_are_refused_in_one_line(here, tmp_path):
    for more, text in (
        (("--scheduler", "tcp://127.0.0.1:1"), "--scheduler or --workers"),
        (("--work", "nowhere:work"), "work 'nowhere:work' cannot be imported"),
        (("--collimator", "siemens-lehr", "--psf", "1:2"), "--collimator, --psf and --holes"),
    ):
        refused(here(*more), text)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").write_text("x")
    refused(here(), "is a file: give a folder for the batch with -o")


def test_a_scheduler_that_does_not_answer(tmp_path, listed, monkeypatch):
    pytest.importorskip("distributed", reason="needs the extra cluster")
    monkeypatch.setattr("spectac.recon.queue.workers.SECONDS_TO_CONNECT", 0.2)
    studies, _ = read_list(listed, tmp_path / "out")
    request = BatchRequest(work="fake_batch:work")
    with pytest.raises(InputError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1: "):
        run_batch(studies, request, tmp_path / "out", scheduler="tcp://127.0.0.1:1")
    assert len(summary(tmp_path / "out")) == 20


def test_workers_in_other_folders_get_whole_paths(tmp_path, monkeypatch):
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "a").write_text("1")
    calibration = Calibration(80.0, "Tc-99m", "siemens-lehr", EnergyWindow("peak", 126.0, 154.0), "none")
    write_calibration(tmp_path / "calibration.json", calibration)
    monkeypatch.chdir(tmp_path)
    request = BatchRequest(
        CompareRequest(reconstruction=ReconstructionSettings(calibration="calibration.json")), work="fake_batch:work"
    )
    make_batch(Path("studies"), request, Path("out"), scheduler=None, workers=0)
    asked = json.loads((tmp_path / "out" / "a" / "record.json").read_text())["asked"]
    assert str(tmp_path / "calibration.json") in asked
    assert summary(tmp_path / "out")[0]["study"] == str(tmp_path / "studies" / "a")


def test_when_all_fail_the_run_fails(here, listed, tmp_path):
    for path in listed.iterdir():
        path.write_text("corrupt")
    refused(here(), "all 20 studies failed; case-00: ")
    assert len(summary(tmp_path / "out")) == 20


class Page(HTMLParser):
    """Tags with their attributes, and the texts of an HTML page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def read_page(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def test_the_index_shows_bad_studies_first_and_links_reports_that_are_there(here, listed, tmp_path):
    (listed / "ü b+c").write_text("1")
    here()
    page = read_page(tmp_path / "out" / "index.html")
    heads = [attributes.get("scope") for tag, attributes in page.tags if tag == "th"]
    assert Counter(heads) == {"col": 5, "row": 21}
    assert [tag for tag, _ in page.tags].count("caption") == 1
    order = [text for text in page.texts if re.fullmatch(r"case-\d\d|ü b\+c", text)]
    good = [f"case-{place:02d}" for place in range(20) if f"case-{place:02d}" not in BAD]
    assert order == [*BAD, *good, "ü b+c"]
    links = [str(attributes["href"]) for tag, attributes in page.tags if tag == "a"]
    assert links == ["summary.csv", *(f"{name}/report.html" for name in good), "%C3%BC%20b%2Bc/report.html"]
    assert "3 failed" in page.texts
    assert any("18 done, 0 waiting" in text for text in page.texts)
    # Everything is in the page itself.
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "img")]


def test_the_index_escapes_what_comes_from_files(tmp_path):
    nasty = "<script>alert('&')</script>"
    states = (
        overview.StudyState(ListedStudy("a", Path(f"/{nasty}")), "failed", nasty),
        overview.StudyState(
            ListedStudy("b", Path("b")), "done", "", None, ({"method": nasty, "status": "done"},), (nasty,), (nasty,)
        ),
    )
    text = overview.page(tmp_path, states, overview.index_template())
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(&#39;&amp;&#39;)") == 5
