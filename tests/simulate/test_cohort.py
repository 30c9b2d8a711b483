"""A cohort is the same whatever happened while it was made: kills, full disks, other shards, workers, core counts."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from spectac.recon import Acquisition, Collimator, EnergyWindow, InputError, MuMap, Study, SystemModel
from spectac.recon.code_digest import digest_of, imported_modules
from spectac.recon.device import cpu_threads
from spectac.recon.geometry import default_grid
from spectac.recon.io import sealed_hdf5
from spectac.recon.queue.store import locked
from spectac.recon.types import Grid
from spectac.simulate import head as heads
from spectac.simulate.anatomy.ranges import OUTSIDE_TRAINING, TRAINING
from spectac.simulate.cohort.folder import MANIFEST, CohortSettings, shard_path
from spectac.simulate.cohort.patient import seeds, simulate_patient
from spectac.simulate.cohort.patient_arrays import WINDOWS, nearest, previewed
from spectac.simulate.cohort.run import ShardWork, run_cohort
from spectac.simulate.cohort.shards import DamagedShard, read_facts, read_patients

FAKE = '''
import os, signal, time
import numpy as np
from spectac.recon.device import cpu_threads
from spectac.recon.types import Grid
from spectac.simulate.cohort.patient_arrays import PatientArrays

def at(name):
    return [int(index) for index in os.environ.get(name, "").split(",") if index]

def simulate(seed, index, settings):
    """Eight voxels of noise from (seed, index); the environment makes patients slow, bad, or deadly to their worker."""
    time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
    if index in at("FAKE_BAD"):
        raise ValueError(f"no head for {index}")
    if index in at("FAKE_DEADLY"):
        os.kill(os.getpid(), signal.SIGKILL)
    if index in at("FAKE_INTERRUPT"):
        raise KeyboardInterrupt
    if index in at("FAKE_NO_MEMORY"):
        raise MemoryError("no memory")
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
    noise = lambda *shape: random.random(shape, dtype=np.float32)
    return PatientArrays(
        Grid.upright((2, 2, 2), (4.0, 4.0, 4.0), (index, 0.0, 0.0)),
        noise(4, 2, 2, 2),
        np.array([True, index % 2 == 0, False, True]),
        noise(2, 2, 2),
        noise(2, 2, 2),
        noise(2, 2, 2),
        np.full((2, 2, 2), cpu_threads(), np.float32),
        random.integers(0, 9, (2, 2, 2)).astype(np.uint8),
        noise(2, 2, 2),
        noise(3, 2, 2),
        noise(3, 3, 2, 2).astype(np.float16),
        140.5,
        {"index": index},
    )
'''


@pytest.fixture(scope="module")
def fake_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fake")
    (folder / "fake_patients.py").write_text(FAKE)
    return folder


@pytest.fixture(autouse=True)
def importable(fake_folder, monkeypatch) -> None:
    """The module of fake patients can be imported here, and in every process that a test starts."""
    monkeypatch.syspath_prepend(fake_folder)
    monkeypatch.setenv("PYTHONPATH", str(fake_folder), prepend=os.pathsep)


def settings(patients: int = 20, **other: object) -> CohortSettings:
    values: dict[str, object] = {"seed": 5, "shard_patients": 4, "simulation": "fake_patients:simulate"}
    return CohortSettings(patients, **{**values, **other})


def digests(folder: Path) -> dict[int, str]:
    """Digests by index, of the arrays that lie in the shards; the manifest must list just these."""
    listed = json.loads((folder / MANIFEST).read_text())["arrays"]
    stored = [(index, patient.sha256) for path in sorted(folder.glob("*.h5")) for index, patient in read_patients(path)]
    assert [(entry["index"], entry["sha256"]) for entry in listed] == stored
    assert len(dict(stored)) == len(stored), "a patient is there twice"
    return dict(stored)


@pytest.fixture(scope="module")
def undisturbed(fake_folder, tmp_path_factory) -> dict[int, str]:
    """Digests of 40 patients that were made in one go, in this process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(fake_folder)
        run_cohort(folder, settings(40), workers=0)
    made = digests(folder)
    assert sorted(made) == list(range(40))
    assert len(set(made.values())) == 40
    return made


def first(digests_of: dict[int, str], patients: int) -> dict[int, str]:
    return {index: digests_of[index] for index in range(patients)}


def test_seeds_are_numpys_spawned_ones():
    """Literal spawn keys: another derivation would silently make other patients of every cohort."""
    streams = seeds(7, 3)
    assert list(streams) == ["tracer", "head", "uptake", "scanner", "photons", "noise", "bend"]
    for step, name in enumerate(streams):
        expected = np.random.SeedSequence(7, spawn_key=(3, step))
        np.testing.assert_array_equal(streams[name].generate_state(4), expected.generate_state(4))


def test_the_code_of_the_simulation_is_part_of_a_cohort(fake_folder):
    """Not that of the queue, the shards or the commands: they change no patient."""
    files = imported_modules("fake_patients")
    assert files["fake_patients"] == fake_folder / "fake_patients.py"
    assert "spectac.simulate.cohort.patient_arrays" in files
    assert settings().identity()["code"] == digest_of(files)
    real = imported_modules(CohortSettings(1).simulation.partition(":")[0])
    assert {"spectac.simulate.head", "spectac.simulate.scanner", "spectac.recon.system"} <= set(real)
    assert not [name for name in real if "queue" in name or name.startswith("spectac.app")]
    assert not {"spectac.simulate.cohort.run", "spectac.simulate.cohort.shards"} & set(real)


def test_the_same_patients_in_shards_of_any_size(tmp_path, undisturbed):
    for size in (1, 7, 64):
        run_cohort(tmp_path / str(size), settings(shard_patients=size), workers=0)
        assert digests(tmp_path / str(size)) == first(undisturbed, 20)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot keep a thread on one core")
def test_a_patient_sees_one_core_on_any_machine(tmp_path):
    """SystemModel.adjoint sums in as many parts as there are cores: their number would show in the last digits."""
    before = cpu_threads()
    run_cohort(tmp_path, settings(1), workers=0)
    ((_, patient),) = read_patients(shard_path(tmp_path, 0))
    assert (patient.activity_kbq_per_ml == 1).all()
    assert cpu_threads() == before


def test_what_is_stored_comes_back(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_BAD", "2")
    import fake_patients

    ShardWork(tmp_path, settings()).do(0)
    found = dict(read_patients(shard_path(tmp_path, 0)))
    assert list(found) == [0, 1, 3]
    for index, patient in found.items():
        wanted = fake_patients.simulate(5, index, None)
        for name in ("preview", "windows", "mu_per_cm", "head_mu_per_cm", "labels"):
            stored, given = getattr(patient, name), getattr(wanted, name)
            assert stored.dtype == given.dtype
            np.testing.assert_array_equal(stored, given)
        assert patient.grid.same_as(wanted.grid)
        assert (patient.energy_kev, patient.parameters) == (140.5, {"index": index})


def test_every_array_shows_in_the_digest():
    import fake_patients

    patient = fake_patients.simulate(5, 0, None)
    moved = Grid.upright((2, 2, 2), (4.0, 4.0, 4.0), (0.5, 0.0, 0.0))
    others = [replace(patient, grid=moved), replace(patient, energy_kev=159.0)]
    for name in ("preview", "recovered", "windows", "mu_per_cm", "head_mu_per_cm", "activity_kbq_per_ml", "labels"):
        changed = getattr(patient, name).copy()
        changed.flat[-1] = not changed.flat[-1] if name == "windows" else changed.flat[-1] + 1
        others.append(replace(patient, **{name: changed}))
    assert len({patient.sha256, *(other.sha256 for other in others)}) == 10
    assert replace(patient, parameters={}).sha256 == patient.sha256


def test_arrays_that_cannot_be_are_refused():
    import fake_patients

    patient = fake_patients.simulate(5, 0, None)
    hole = patient.mu_per_cm.copy()
    hole[0, 0, 0] = np.nan
    for change, message in (
        ({"mu_per_cm": hole}, "mu_per_cm holds 1 values that are NaN"),
        ({"labels": patient.labels.astype(np.int64)}, "labels must be uint8"),
        ({"preview": patient.preview[:3]}, r"preview must be float32 of shape \(4, 2, 2, 2\)"),
        ({"windows": np.zeros(4, bool)}, "photopeak"),
        ({"parameters": {"mean": np.float32(1)}}, "JSON"),
    ):
        with pytest.raises(InputError, match=message):
            replace(patient, **change)


def test_a_bad_patient_is_reported_and_the_others_are_there(tmp_path, undisturbed, monkeypatch):
    monkeypatch.setenv("FAKE_BAD", "5,16,17,18,19")
    result = run_cohort(tmp_path, settings(), workers=0)
    assert sorted(result.failures) == [5, 16, 17, 18, 19]
    assert result.failures[5].startswith("ValueError: no head for 5 (fake_patients.py:")
    assert digests(tmp_path) == {i: d for i, d in first(undisturbed, 16).items() if i != 5}
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert manifest["complete"]
    assert [failure["index"] for failure in manifest["failures"]] == [5, 16, 17, 18, 19]
    monkeypatch.delenv("FAKE_BAD")
    assert run_cohort(tmp_path, settings(), workers=0).failures == result.failures


@pytest.mark.parametrize(
    ("variable", "error"), [("FAKE_INTERRUPT", KeyboardInterrupt), ("FAKE_NO_MEMORY", MemoryError)]
)
def test_what_is_no_fault_of_the_patient_stops_the_run_and_the_next_goes_on(
    tmp_path, undisturbed, monkeypatch, variable, error
):
    monkeypatch.setenv(variable, "9")
    with pytest.raises(error):
        run_cohort(tmp_path, settings(), workers=0)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert not manifest["complete"]
    assert manifest["missing_shards"] == ["shard-00002.h5", "shard-00003.h5", "shard-00004.h5"]
    assert digests(tmp_path) == first(undisturbed, 8)
    monkeypatch.delenv(variable)
    seen = []
    run_cohort(tmp_path, settings(), workers=0, on_progress=seen.append)
    assert (seen[-1].kept, seen[-1].done, seen[-1].total) == (8, 20, 20)
    assert digests(tmp_path) == first(undisturbed, 20)


def test_a_full_disk_ends_the_run_and_the_next_goes_on(tmp_path, undisturbed, monkeypatch):
    whole = sealed_hdf5.written
    written = []

    @contextmanager
    def full(path):
        with whole(path) as temporary:
            yield temporary
            written.append(path)
            if len(written) == 3:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sealed_hdf5, "written", full)
    with pytest.raises(OSError, match="No space left") as failed:
        run_cohort(tmp_path, settings(), workers=0)
    assert failed.value.filename == str(shard_path(tmp_path, 2))
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".lock"]
    monkeypatch.setattr(sealed_hdf5, "written", whole)
    run_cohort(tmp_path, settings(), workers=0)
    assert digests(tmp_path) == first(undisturbed, 20)


def test_shards_with_previews_of_another_protocol_are_refused(tmp_path, monkeypatch):
    run_cohort(tmp_path, settings(), workers=0)
    monkeypatch.setattr("spectac.simulate.cohort.shards.PREVIEW_PROTOCOL", 99)
    with pytest.raises(InputError, match="previews of protocol 2, this spectac makes those of protocol 99"):
        read_facts(shard_path(tmp_path, 0))


def test_damaged_shards_are_made_again(tmp_path, undisturbed):
    run_cohort(tmp_path, settings(), workers=0)
    length = shard_path(tmp_path, 0).stat().st_size
    for shard, place in ((0, 0), (1, 600), (2, length - 1)):
        content = bytearray(shard_path(tmp_path, shard).read_bytes())
        content[place] ^= 1
        shard_path(tmp_path, shard).write_bytes(content)
        with pytest.raises(DamagedShard, match=f"shard-0000{shard}.h5"):
            read_facts(shard_path(tmp_path, shard))
    os.truncate(shard_path(tmp_path, 3), length // 2)
    shard_path(tmp_path, 4).write_bytes(b"")
    result = run_cohort(tmp_path, settings(), workers=0)
    assert len(result.notes) == 5
    assert digests(tmp_path) == first(undisturbed, 20)


def test_only_what_is_missing_is_made(tmp_path, undisturbed):
    run_cohort(tmp_path, settings(), workers=0)
    shard_path(tmp_path, 3).unlink()
    (tmp_path / MANIFEST).unlink()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.h5")}
    run_cohort(tmp_path, settings(), workers=0)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert digests(tmp_path) == first(undisturbed, 20)


def test_a_cohort_can_grow_but_not_shrink(tmp_path, undisturbed):
    run_cohort(tmp_path, settings(10), workers=0)
    run_cohort(tmp_path, settings(25), workers=0)
    assert digests(tmp_path) == first(undisturbed, 25)
    with pytest.raises(InputError, match="25 patients, -n 24 would lose some"):
        run_cohort(tmp_path, settings(24), workers=0)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(InputError, match=r"shard-00006\.h5: lies beyond the 24 patients"):
        run_cohort(tmp_path, settings(24), workers=0)


@pytest.mark.parametrize("manifest", [True, False])
def test_another_cohorts_folder_is_refused(tmp_path, monkeypatch, manifest):
    run_cohort(tmp_path, settings(4), workers=0)
    if not manifest:
        (tmp_path / MANIFEST).unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for other in ({"seed": 6}, {"tracer": "dat"}, {"shard_patients": 2}):
        ((name, value),) = other.items()
        with pytest.raises(InputError, match=rf"{name} .*, not {value!r}"):
            run_cohort(tmp_path, settings(4, **other), workers=0)
    monkeypatch.setattr("spectac.simulate.cohort.folder.code_digest", lambda *_: "changed")
    with pytest.raises(InputError, match=r"code .*, not 'changed'"):
        run_cohort(tmp_path, settings(4), workers=0)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    stale = [tmp_path / ".0123456789ab-shard-00000.h5", tmp_path / ".0123456789ab-manifest.json"]
    other = [tmp_path / "notes.txt", tmp_path / ".hidden-shard-00000.h5"]
    for path in (*stale, *other):
        path.write_text("x")
    run_cohort(tmp_path, settings(4), workers=0)
    assert not any(path.exists() for path in stale)
    assert all(path.read_text() == "x" for path in other)


def test_two_runs_in_one_folder_are_refused(tmp_path):
    pytest.importorskip("fcntl", reason="this system has no locks on files")
    with locked(tmp_path, "cohort"), pytest.raises(InputError, match="another spectac cohort is running"):
        run_cohort(tmp_path, settings(4), workers=0)


def test_settings_are_checked():
    for change, message in (
        ({"patients": 0}, "--patients must be at least 1"),
        ({"seed": -1}, "seed"),
        ({"tracer": "fdg"}, "--tracer must be one of mixed, dat, perfusion, randomised, not 'fdg'"),
        ({"shard_patients": 65}, "--shard-patients must be at most 64"),
        ({"heads": "beyond", "bodies": Path("cts")}, "no meaning with --bodies"),
    ):
        with pytest.raises(InputError, match=message):
            settings(**change)


def test_an_unknown_simulation_is_refused_before_anything_is_written(tmp_path):
    for name in ("fake_patients:nothing", "no_such_module:simulate", ""):
        with pytest.raises(InputError, match="cannot be imported"):
            run_cohort(tmp_path / "new", settings(simulation=name), workers=0)
    assert not (tmp_path / "new").exists()


def test_labels_are_taken_from_the_nearest_voxel():
    fine = Grid.upright((6, 6, 6), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    labels = np.arange(1, 217, dtype=np.uint8).reshape(6, 6, 6)
    # Centres at 0.5, 4.5, 8.5 mm lie nearest to fine voxels 0, 2, 4; -3.5 and 12.5 mm lie outside (-1 to 11 mm).
    coarse = Grid.upright((5, 5, 5), (4.0, 4.0, 4.0), (-3.5, -3.5, -3.5))
    found = nearest(labels, fine, coarse)
    np.testing.assert_array_equal(found[1:4, 1:4, 1:4], labels[::2, ::2, ::2])
    found[1:4, 1:4, 1:4] = 0
    assert not found.any()
    assert labels[0, 0, 0] == 1


def test_truth_lies_where_the_preview_shows_it(figure):
    """A warm ball beside the axis: its preview and its truth share a centre, and absent windows are zero."""
    acquisition = Acquisition(
        np.arange(24) * 15.0, np.full(24, 150.0), (32, 32), (8.0, 8.0), np.full(24, 10.0), "Tc-99m",
        Collimator.from_line(1.5, 0.016), axis_lps_mm=(0.0, 0.0, -124.0),
    )  # fmt: skip
    centre = (20.0, -30.0, 40.0)  # z, y, x in mm

    def ball(grid: Grid) -> np.ndarray:
        z, y, x = grid.centres_mm()
        apart = (z[:, None, None] - centre[0], y[:, None] - centre[1], x - centre[2])
        return np.exp(-0.5 * sum(d**2 for d in apart) / 15.0**2).astype(np.float32)

    coarse = default_grid(acquisition)
    counts = SystemModel(acquisition, coarse).forward(ball(coarse))
    windows = (EnergyWindow("photopeak", 126.0, 154.0), EnergyWindow("scatter", 92.0, 125.0))
    study = Study(acquisition, windows, np.stack([counts, 0.5 * counts]))
    grid = Grid.upright((90, 90, 90), (2.0, 2.0, 2.0), (-89.3, -88.6, -89.0))
    warm = (ball(grid) > 0.5).astype(np.uint8)
    head = SimpleNamespace(
        grid=grid,
        labels=7 * warm,
        parameters={},
        mu=lambda energy: MuMap(warm * np.float32(energy / 1e3), grid, energy),
    )
    uptake = SimpleNamespace(kbq_per_ml=ball(grid), tracer="dat", nuclide="Tc-99m", parameters={})
    nothing = np.zeros((2, *counts.shape), np.float32)
    expected = SimpleNamespace(
        primary=np.stack([counts, 0.5 * counts]), scatter=nothing + 1.0, high_energy=nothing, study=lambda noise: study
    )
    patient = previewed(SimpleNamespace(head=head, uptake=uptake), expected, np.random.default_rng(1), {"seed": 1})
    assert dict(zip(WINDOWS, patient.windows.tolist(), strict=True)) == {
        "photopeak": True, "lower": False, "upper": False, "scatter": True,
    }  # fmt: skip
    assert not patient.preview[1:3].any()
    np.testing.assert_array_equal(patient.counts, study.counts[0])
    np.testing.assert_allclose(patient.expected, [counts, 1.0 + 0.0 * counts, 0.0 * counts], rtol=5e-4, atol=1e-7)
    # The counts were projected without attenuation: with a map they are taken for those of a hotter ball, little at its
    # edge and most in its middle, exp(mu r) = 1.3 for 0.14 /cm and 18 mm; in the air nothing can be said.
    bright = patient.preview[0] > 0.5 * patient.preview[0].max()
    assert 1.0 < patient.correction[bright].min() < 1.2 < patient.correction[bright].max() < 1.4
    assert not patient.correction[0].any()

    def middle(values):
        weights = np.where(values > 0.3 * values.max(), values, 0).astype(np.float64)
        return [
            float((weights.sum(axis=tuple({0, 1, 2} - {axis})) * centres).sum() / weights.sum())
            for axis, centres in enumerate(patient.grid.centres_mm())
        ]

    # An eighth of a pixel of the projections. Labels are read at the centres of 4 mm voxels from voxels of 2 mm, so the
    # error is up to 1 mm along each axis, and the same for all voxels.
    for name, values, limit in (
        ("photopeak", patient.preview[0], 1.0),
        ("activity", patient.activity_kbq_per_ml, 1.0),
        ("labels", patient.labels, 3**0.5),
    ):
        miss = float(np.linalg.norm(np.subtract(middle(values), centre)))
        figure(f"cohort: {name} of a ball, mm from its centre", miss, f"{limit:.2f}")
        assert miss < limit
    np.testing.assert_allclose(patient.preview[3], 0.5 * patient.preview[0], rtol=1e-4, atol=1e-6)
    assert patient.energy_kev == pytest.approx(140.511)
    assert patient.mu_per_cm.max() == pytest.approx(0.140511)
    assert set(np.unique(patient.labels)) == {0, 7}
    assert patient.parameters["counts"]["scatter"] == pytest.approx(0.5 * patient.parameters["counts"]["photopeak"])


# What follows starts processes: Dask's workers, and main processes to be killed.


def start(folder: Path, patients: int = 40, **environment: object) -> subprocess.Popen[str]:
    """`spectac cohort` on two workers, in a process group of its own as from a terminal."""
    pytest.importorskip("distributed", reason="needs the extra cluster")
    command = [
        sys.executable, "-m", "spectac.app.cli", "cohort", "-o", str(folder), "-n", str(patients), "--seed", "5",
        "--shard-patients", "4", "--workers", "2", "--simulation", "fake_patients:simulate",
    ]  # fmt: skip
    variables = {**os.environ, **{name: str(value) for name, value in environment.items()}}
    # A shell in the background hands on that SIGINT is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            command, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    finally:
        signal.signal(signal.SIGINT, before)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def until_shards(folder: Path, count: int) -> None:
    """Wait until that many shards are there."""
    for _ in range(600):
        if len(list(folder.glob("shard-*.h5"))) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"no {count} shards after 30 s")


@pytest.mark.slow
def test_dask_makes_the_same_patients(tmp_path, undisturbed):
    code, out, err = ended(start(tmp_path))
    assert (code, err) == (0, "")
    assert "40 patients, 0 failed" in out
    assert digests(tmp_path) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [True, False], ids=["with its workers", "main process alone"])
def test_killed_again_and_again_and_resumed(tmp_path, undisturbed, whole_group, figure):
    """SIGKILL at random moments, from start-up to the last shard, and a run to the end."""
    random = np.random.default_rng(11)
    kills = 0
    for _ in range(8):
        process = start(tmp_path, FAKE_SECONDS=0.05)
        time.sleep(random.uniform(0.5, 4.0))
        if process.poll() is None:
            kills += 1
            (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        for path in tmp_path.glob("shard-*.h5"):
            read_facts(path)  # whole, or it raises
    figure("cohort: kills before the last run", kills, "at least 4")
    assert kills >= 4
    code, _, err = ended(start(tmp_path))
    assert (code, err) == (0, "")
    assert digests(tmp_path) == undisturbed
    assert {path.name for path in tmp_path.glob(".*")} == {".lock"}


@pytest.mark.slow
def test_a_worker_is_killed_and_nothing_is_lost(tmp_path, undisturbed):
    psutil = pytest.importorskip("psutil")
    process = start(tmp_path, FAKE_SECONDS=0.1)
    for count in (2, 4):
        until_shards(tmp_path, count)
        workers = [
            child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())
        ]
        assert len(workers) >= 1
        workers[0].kill()
    code, _, err = ended(process)
    assert (code, err) == (0, "")
    assert digests(tmp_path) == undisturbed


@pytest.mark.slow
def test_a_patient_that_kills_its_workers_is_named_and_the_other_shards_are_there(tmp_path, undisturbed):
    code, _, err = ended(start(tmp_path, FAKE_DEADLY=13))
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "3 (patients 12 to 15)" in err
    assert digests(tmp_path) == {i: d for i, d in undisturbed.items() if not 12 <= i <= 15}
    code, _, _ = ended(start(tmp_path))
    assert code == 0
    assert digests(tmp_path) == undisturbed


@pytest.mark.slow
def test_ctrl_c_gives_one_line_and_the_next_run_goes_on(tmp_path, undisturbed):
    process = start(tmp_path, FAKE_SECONDS=0.2)
    until_shards(tmp_path, 2)
    os.killpg(process.pid, signal.SIGINT)
    code, _, err = ended(process)
    assert code == 130
    assert len(err.splitlines()) == 1, err
    assert "of 40 patients are done in" in err
    assert ended(start(tmp_path))[0] == 0
    assert digests(tmp_path) == undisturbed


@pytest.mark.slow
def test_a_disk_that_fills_up(tmp_path, undisturbed):
    """A disk of 96 kB takes two or three of the ten shards of 30 kB; a larger one takes the rest."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        code, _, err = ended(start(disk / "cohort"))
        assert code == 2
        assert len(err.splitlines()) == 1, err
        assert "No space left on device" in err
        assert "of 40 patients are done in" in err
        before = len(list((disk / "cohort").glob("shard-*.h5")))
        assert 1 <= before <= 3
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        assert ended(start(disk / "cohort"))[0] == 0
        assert digests(disk / "cohort") == undisturbed
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
def test_an_existing_scheduler_with_threads_in_one_worker(tmp_path, undisturbed):
    """Threads of one process write shards at the same time, and each patient still sees one core."""
    pytest.importorskip("distributed", reason="needs the extra cluster")
    address = "tcp://127.0.0.1:18791"
    parts = [
        ["scheduler", "--host", "127.0.0.1", "--port", "18791", "--no-dashboard"],
        ["worker", address, "--nthreads", "3", "--no-dashboard"],
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *part], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for part in parts
    ]
    try:
        run_cohort(tmp_path / "cohort", settings(40), scheduler=address)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert digests(tmp_path / "cohort") == undisturbed


@pytest.mark.parametrize(("kind", "ranges"), [("training", TRAINING), ("beyond", OUTSIDE_TRAINING)])
def test_heads_are_of_the_kind_that_is_asked_for(monkeypatch, kind, ranges):
    def drawn(_rng, *, ranges):
        raise InputError(str(hash(ranges)))

    monkeypatch.setattr(heads, "draw_head", drawn)
    with pytest.raises(InputError, match=f"^{hash(ranges)}$"):
        simulate_patient(1, 0, CohortSettings(1, heads=kind))


@pytest.mark.slow
def test_a_real_patient_is_the_same_in_a_worker_as_here(tmp_path):
    """The whole simulation of one patient, with numba's threads and without, on one core and on all."""
    pytest.importorskip("distributed", reason="needs the extra cluster")
    one = CohortSettings(1, 3)
    run_cohort(tmp_path / "here", one, workers=0)
    run_cohort(tmp_path / "worker", one, workers=1)
    assert digests(tmp_path / "here") == digests(tmp_path / "worker")
    assert list(digests(tmp_path / "here")) == [0]
