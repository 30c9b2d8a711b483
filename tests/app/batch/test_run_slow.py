"""A batch in processes of its own: killed, interrupted, out of disk, and the same results in the end."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spectac.app.batch.request import BatchRequest
from spectac.app.batch.run import run_batch
from spectac.app.batch.study_list import read_list
from spectac.recon import Acquisition, Collimator, EnergyWindow, Study, SystemModel, default_grid
from spectac.recon.io.hdf5 import write_study

pytest.importorskip("jinja2", reason="the index page needs jinja2")
pytest.importorskip("distributed", reason="needs the extra cluster")
pytestmark = pytest.mark.slow

BAD = {"case-03": "corrupt", "case-07": "defect", "case-13": "corrupt"}
NAMES = [f"case-{place:02d}" for place in range(20)]


@pytest.fixture(autouse=True)
def importable(monkeypatch, tmp_path) -> None:
    """The stand-in work can be imported in every process that a test starts, and logs what it works on."""
    here = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))


@pytest.fixture
def listed(tmp_path) -> Path:
    """20 studies, three of them bad; the number in a good one is its place."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for place, name in enumerate(NAMES):
        (folder / f"{name}").write_text(BAD.get(name, str(place)))
    return folder


def start(listed: Path, output: Path, *more: object, **environment: object) -> subprocess.Popen[str]:
    """`spectac batch` on two workers, in a process group of its own as from a terminal."""
    command = [
        sys.executable, "-m", "spectac.app.cli", "batch", listed, "-o", output, "--work", "fake_batch:work",
        "--workers", "2", *more,
    ]  # fmt: skip
    variables = {**os.environ, **{name: str(value) for name, value in environment.items()}}
    # A shell in the background hands on that SIGINT is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [str(part) for part in command],
            env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def done(output: Path) -> set[str]:
    return {path.parent.name for path in output.glob("*/batch.json")}


def until_done(output: Path, count: int) -> None:
    """Wait until that many studies are done."""
    until(lambda: len(done(output)) >= count, f"{count} studies done")


def until(there: Callable[[], object], what: str) -> None:
    """Look again and again, for a minute."""
    ends = time.monotonic() + 60
    while not there():
        assert time.monotonic() < ends, f"not after 60 s: {what}"
        time.sleep(0.02)


def worked_on(tmp_path: Path) -> Counter[str]:
    """How often each study was worked on since the last call."""
    log = tmp_path / "log"
    names = Counter(log.read_text().split()) if log.exists() else Counter()
    log.unlink(missing_ok=True)
    return names


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "summary.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def check_complete(output: Path, bad: set[str]) -> None:
    """Every study once, in the order of the list, with its own number or its reason; nothing else is left behind."""
    whole = [row for row in rows(output) if row["method"] in ("", "none")]
    assert [row["name"] for row in whole] == NAMES
    for place, row in enumerate(whole):
        if row["name"] in bad:
            assert row["status"] == "failed"
            assert row["reason"] == json.loads((output / row["name"] / "failure.json").read_text())["reason"]
        else:
            assert (row["status"], row["mean brain"]) == ("done", str(place))
            assert json.loads((output / row["name"] / "record.json").read_text())["text"] == str(place)
    assert done(output) == set(NAMES) - bad
    assert {path.name for path in output.rglob(".*")} == {".lock"}


def test_killed_again_and_again_and_resumed(listed, tmp_path, figure):
    """SIGKILL at start-up, early and late, of the whole group and of the main process alone, and a run to the end."""
    psutil = pytest.importorskip("psutil")
    output = tmp_path / "out"
    again = 0
    for finished, whole_group in ((0, True), (3, False), (9, True)):
        process = start(listed, output, FAKE_SECONDS=0.3)
        # The run has begun where all studies stand in its summary, after the kill before.
        (output / "summary.csv").unlink(missing_ok=True)
        until((output / "summary.csv").exists, "the summary")
        until_done(output, finished)
        assert process.poll() is None, "it ended before it was killed"
        workers = psutil.Process(process.pid).children(recursive=True)
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        # The workers end by themselves when the main process is gone.
        assert not psutil.wait_procs(workers, timeout=60)[1]
        kept = done(output)
        again += sum(number for name, number in worked_on(tmp_path).items() if name not in kept and name not in BAD)
        if (output / "summary.csv").exists():
            assert [row["name"] for row in rows(output) if row["method"] in ("", "none")] == NAMES
    code, out, err = ended(start(listed, output, FAKE_SECONDS=0.05))
    assert (code, err) == (0, "")
    assert "17 studies done, 3 failed" in out
    # What was done when the last kill came is not done again, everything else is, once.
    assert worked_on(tmp_path) == Counter(set(NAMES) - kept)
    figure("batch: studies begun in vain by three kills with two workers", again, "at most 6")
    assert again <= 6
    check_complete(output, set(BAD))


def test_a_worker_is_killed_and_nothing_is_lost(listed, tmp_path):
    psutil = pytest.importorskip("psutil")
    output = tmp_path / "out"
    process = start(listed, output, FAKE_SECONDS=0.2)
    until_done(output, 2)
    workers = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(workers) == 2
    workers[0].kill()
    code, _, err = ended(process)
    assert (code, err) == (0, "")
    check_complete(output, set(BAD))
    times = worked_on(tmp_path)
    assert set(times) == set(NAMES)
    # The study in work is done again; a failed one as well, where its worker died before the reason was fetched.
    assert sum(number for name, number in times.items() if name not in BAD) <= 18
    assert sum(times.values()) <= 22


def test_a_study_that_kills_its_workers_is_named_and_the_others_are_done(listed, tmp_path):
    (listed / "case-10").write_text("deadly")
    output = tmp_path / "out"
    code, out, err = ended(start(listed, output))
    assert (code, err) == (0, "")
    assert "note: case-10 failed: its worker died again and again, of too little memory or a crash" in out.splitlines()
    check_complete(output, {*BAD, "case-10"})
    (listed / "case-10").write_text("10")
    assert ended(start(listed, output))[0] == 0
    check_complete(output, set(BAD))


def test_ctrl_c_gives_one_line_and_the_next_run_goes_on(listed, tmp_path):
    output = tmp_path / "out"
    process = start(listed, output, FAKE_SECONDS=0.3)
    until_done(output, 3)
    os.killpg(process.pid, signal.SIGINT)
    code, _, err = ended(process)
    assert code == 130
    assert len(err.splitlines()) == 1, err
    kept = done(output)
    states = Counter(row["status"] for row in rows(output) if row["method"] in ("", "none"))
    assert sum(states.values()) == 20
    assert states["done"] == len(kept)
    assert f"interrupted: {len(kept)} of 20 studies are done in" in err
    worked_on(tmp_path)
    assert ended(start(listed, output))[0] == 0
    assert worked_on(tmp_path) == Counter(set(NAMES) - kept)
    check_complete(output, set(BAD))


def test_a_disk_that_fills_up(listed, tmp_path):
    """A disk of 512 kB takes some of the 17 reports of 64 kB; a larger one takes the rest."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    output = disk / "out"
    try:
        code, _, err = ended(start(listed, output, FAKE_BYTES=64_000))
        assert code == 2
        assert len(err.splitlines()) == 1, err
        assert "No space left on device; " in err
        assert "of 20 studies are done in" in err
        kept = done(output)
        assert 2 <= len(kept) <= 8
        worked_on(tmp_path)
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        assert ended(start(listed, output, FAKE_BYTES=64_000))[0] == 0
        assert worked_on(tmp_path) == Counter(set(NAMES) - kept)
        check_complete(output, set(BAD))
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_existing_scheduler_with_threads_in_one_worker(listed, tmp_path):
    """On a free port: the scheduler writes its address into a file when it listens."""
    told = tmp_path / "scheduler.json"
    processes = []

    def dask(*part: str) -> None:
        command = [sys.executable, "-m", "dask", *part, "--scheduler-file", str(told), "--no-dashboard"]
        processes.append(subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    try:
        dask("scheduler", "--host", "127.0.0.1", "--port", "0")
        until(lambda: told.is_file() and told.read_text().rstrip().endswith("}"), "the scheduler's address")
        address = json.loads(told.read_text())["address"]
        dask("worker", "--nthreads", "2")
        studies, _ = read_list(listed, tmp_path / "out")
        run_batch(studies, BatchRequest(work="fake_batch:work"), tmp_path / "out", scheduler=address)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    check_complete(tmp_path / "out", set(BAD))
    assert worked_on(tmp_path) == Counter(NAMES)


def write_tiny_study(path: Path, seed: int, radius_mm: float) -> None:
    """A disc of that radius in 24 views at 8 mm, with noise, as spectac's HDF5."""
    acquisition = Acquisition(
        np.arange(24) * 15.0, np.full(24, 130.0), (16, 32), (8.0, 8.0), np.full(24, 10.0), "Tc-99m",
        Collimator.from_line(1.5, 0.016),
    )  # fmt: skip
    grid = default_grid(acquisition)
    z, y, x = grid.centres_mm()
    disc = (np.hypot(x, y[:, None]) < radius_mm) & (np.abs(z[:, None, None] - z.mean()) < 56)
    counts = np.random.default_rng(seed).poisson(5.0 * SystemModel(acquisition, grid).forward(disc.astype(np.float32)))
    write_study(path, Study(acquisition, (EnergyWindow("peak", 126, 154),), counts[None]))


def test_real_comparisons(tmp_path):
    """Three studies, each by two methods on two workers; then one changes, and it alone is compared again."""
    studies = tmp_path / "studies"
    studies.mkdir()
    for seed, name in enumerate(("a", "b", "c")):
        write_tiny_study(studies / f"{name}.h5", seed, 70.0)
    (studies / "d.h5").write_bytes((studies / "a.h5").read_bytes()[:3000])
    output = tmp_path / "out"
    options = ("--methods", "none,uniform", "--iterations", "2", "--subsets", "4", "--scatter", "none")
    command = [sys.executable, "-m", "spectac.app.cli", "batch", studies, "-o", output, "--workers", "2", *options]

    def run() -> str:
        finished = subprocess.run([str(part) for part in command], text=True, capture_output=True, check=False)
        assert (finished.returncode, finished.stderr) == (0, "")
        return finished.stdout

    out = run()
    assert "note: d.h5 failed: " in out
    assert "3 studies done, 1 failed" in out
    found = {(row["name"], row["method"]): row for row in rows(output)}
    names = ("a.h5", "b.h5", "c.h5")
    assert list(found) == [(name, method) for name in names for method in ("none", "uniform")] + [("d.h5", "")]
    assert all(row["status"] == "done" for (name, _), row in found.items() if name != "d.h5")
    assert all((output / name / "report.html").is_file() for name in names)
    before = {name: (output / name / "record.json").stat().st_mtime_ns for name in names}
    write_tiny_study(studies / "b.h5", 9, 60.0)
    run()
    after = {name: (output / name / "record.json").stat().st_mtime_ns for name in names}
    assert {name for name in names if before[name] != after[name]} == {"b.h5"}
