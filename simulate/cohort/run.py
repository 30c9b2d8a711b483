"""Cohorts of virtual patients: each a function of (seed, index) alone, made in shards on Dask, resumable after a kill.

Only shard numbers go to the workers and only digests come back; the arrays go from the worker to the disk. A shard is
written whole or not at all (cohort/shards.py), and a run makes those that are not there (cohort/folder.py): killing
anything at any moment costs the shards in work and nothing else.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np

from spectac.recon.device import cpu_threads
from spectac.recon.errors import InputError
from spectac.recon.workers import finished, named_function, one_line, worker_number
from spectac.simulate.cohort.folder import (
    MANIFEST,
    CohortSettings,
    check_cohort,
    check_settings,
    locked,
    remove_stale,
    shard_path,
    whole_shards,
    write_manifest,
)
from spectac.simulate.cohort.patient_arrays import PatientArrays, previewed
from spectac.simulate.cohort.shards import ShardFacts, write_shard

Simulation = Callable[[int, int, CohortSettings], PatientArrays]

TRACERS = ("dat", "perfusion", "randomised")
"""A mixed cohort draws one of these for each patient."""

_STREAMS = ("tracer", "head", "uptake", "scanner", "photons", "noise")


def seeds(seed: int, index: int) -> dict[str, np.random.SeedSequence]:
    """Independent seeds of patient `index` of the cohort `seed`, one for each step of the simulation.

    A step that draws more numbers than it used to leaves those of the other steps as they were.
    """
    children = np.random.SeedSequence(entropy=seed, spawn_key=(index,)).spawn(len(_STREAMS))
    return dict(zip(_STREAMS, children, strict=True))


def simulate_patient(seed: int, index: int, settings: CohortSettings) -> PatientArrays:
    """Arrays of patient `index` of the cohort `seed`: head, uptake and scanner drawn, projected by the fast way.

    In a "mixed" cohort every tracer is as likely.
    """
    # Here, so that neither the main process nor another `simulation` loads the Monte Carlo.
    from spectac.simulate.acquire import Patient, expected_counts
    from spectac.simulate.anatomy.ranges import TRAINING
    from spectac.simulate.head import draw_head
    from spectac.simulate.scanner import draw_scanner
    from spectac.simulate.uptake import draw_uptake

    own = seeds(seed, index)
    random = {name: np.random.default_rng(child) for name, child in own.items() if name != "photons"}
    tracer = TRACERS[int(random["tracer"].integers(len(TRACERS)))] if settings.tracer == "mixed" else settings.tracer
    head = draw_head(random["head"], ranges=TRAINING)
    patient = Patient(head, draw_uptake(tracer, head, random["uptake"]))
    scanner = draw_scanner(random["scanner"]).around(head)
    expected = expected_counts(patient, scanner, own["photons"])
    about = {"seed": seed, "index": index, "scanner": asdict(scanner), "cps_per_kbq": expected.cps_per_kbq}
    return previewed(patient, expected.study(random["noise"]), expected.primary[0], about)


@dataclass(frozen=True)
class CohortProgress:
    """Patients that an earlier run left (`kept`), that are there now (`done`, with the kept ones), and of all."""

    kept: int
    done: int
    total: int


@dataclass(frozen=True)
class CohortResult:
    """What a run left: patients that are there, reasons of those that failed, shards without a result, notes."""

    settings: CohortSettings
    patients: int
    failures: Mapping[int, str]
    missing_shards: tuple[int, ...]
    notes: tuple[str, ...]


def run_cohort(
    folder: Path,
    settings: CohortSettings,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    on_progress: Callable[[CohortProgress], None] | None = None,
) -> CohortResult:
    """Make the shards of a cohort that are not in `folder` yet, and the manifest of all.

    `scheduler` is the address of a Dask scheduler whose workers see the folder; without one `workers` processes of this
    machine work (None: as many as cores), 0 means this process alone. `on_progress` is called shard by shard. A patient
    whose simulation raises is reported in its shard; a shard whose worker dies again and again is left out and named.
    OSError and MemoryError, also of a worker, and KeyboardInterrupt end the run: the manifest then lists what is there,
    and the same call goes on with the rest.
    Raises InputError for settings that differ from those of the folder, and where the scheduler does not answer.
    Assumes: a script that calls it with processes guards its start with `if __name__ == "__main__"`.
    """
    _simulation(settings.simulation)
    folder = folder.resolve()
    with locked(folder):
        check_settings(folder, settings)
        remove_stale(folder)
        kept = done = 0

        def tell() -> None:
            if on_progress is not None:
                on_progress(CohortProgress(kept, done, settings.patients))

        def found(patients: int) -> None:
            nonlocal kept, done
            kept, done = kept + patients, done + patients
            tell()

        shards, notes = whole_shards(folder, settings, found)
        tell()
        todo = [shard for shard in settings.shards if shard not in shards]
        try:
            write_manifest(folder, settings, shards)
            if todo:
                tasks = {shard: (str(folder), settings, shard) for shard in todo}
                processes = cpu_threads() if workers is None else workers
                for shard, facts in finished(make_shard, tasks, scheduler=scheduler, workers=processes):
                    if facts is None:  # its workers died: it is left out
                        continue
                    if not shard_path(folder, shard).is_file():
                        raise InputError(f"{folder}: the workers write to another disk: give a folder that all see")
                    check_cohort(shard_path(folder, shard), facts.cohort, settings)
                    shards[shard] = facts
                    done += len(facts.indices)
                    tell()
        finally:
            with suppress(OSError):  # a full disk: what ended the run is the better message
                remove_stale(folder)
                if shards:
                    write_manifest(folder, settings, shards)
                else:  # nothing was made: the folder belongs to no cohort yet
                    (folder / MANIFEST).unlink(missing_ok=True)
        write_manifest(folder, settings, shards)
    failures = {index: reason for facts in shards.values() for index, reason in facts.failures.items()}
    missing = tuple(shard for shard in settings.shards if shard not in shards)
    patients = sum(len(facts.sha256) for facts in shards.values())
    return CohortResult(settings, patients, dict(sorted(failures.items())), missing, tuple(notes))


def make_shard(folder: str, settings: CohortSettings, shard: int) -> ShardFacts:
    """Simulate the patients of one shard and write it; what a worker runs.

    Raises OSError and MemoryError: the machine's fault and no property of a patient, they must not be kept as one.
    """
    simulation = _simulation(settings.simulation)

    def outcomes() -> Iterator[tuple[int, PatientArrays | str]]:
        for index in settings.indices(shard):
            try:
                with _one_core():
                    outcome: PatientArrays | str = simulation(settings.seed, index, settings)
            except (OSError, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001 - whatever a patient runs into must not stop the others
                outcome = one_line(error)
            yield index, outcome

    path = shard_path(Path(folder), shard)
    try:
        return write_shard(path, settings.identity(), len(settings.indices(shard)), outcomes())
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise


def _simulation(name: str) -> Simulation:
    """The function of that dotted name "package.module:function"; InputError where there is none."""
    return cast(Simulation, named_function("simulation", name))


@contextmanager
def _one_core() -> Iterator[None]:
    """Let this thread, and those that it starts, use one core.

    SystemModel.adjoint sums the views in as many parts as there are cores, so that the last digits of an image depend
    on their number. On one core a patient is the same on every machine. Where the system cannot do it (macOS, Windows)
    digests can be compared between machines of equal core counts only.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    number = worker_number()
    if number is None:
        fields = Path("/proc/thread-self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        core = int(fields[36])  # field 39, "processor" of proc(5), counted from behind the name
        core = core if core in allowed else min(allowed)
    else:  # two workers that happen to run on one core would stay there for good
        core = sorted(allowed)[number % len(allowed)]
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
