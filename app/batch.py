"""`spectac batch`: a queue of studies, each compared by all chosen methods, which any stop leaves ready to go on.

Each study is one task, and writes its own folder (batch_study.py). What is there decides what is left to do: killing
anything at any moment costs the studies in work and nothing else. Failed studies are tried again by the next run.
"""

import math
import re
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from spectac.app.batch_agreement import write_agreement
from spectac.app.batch_check import check_options, check_places
from spectac.app.batch_index import AGREEMENT, INDEX, SUMMARY, StudyState, index_template, state_done, write_results
from spectac.app.batch_list import ListedStudy, read_list
from spectac.app.batch_study import (
    DONE,
    FAILURE,
    WORK,
    Outcome,
    Share,
    can_go_on,
    done_before,
    failed_before,
    make_study,
    write_failure,
)
from spectac.app.progress import counting_bar
from spectac.recon import InputError
from spectac.recon.device import cpu_threads
from spectac.recon.workers import finished, locked, named_function, visible_gpus

if TYPE_CHECKING:
    from spectac.app.comparison import CompareRequest

_STALE = re.compile(rf"\.[0-9a-f]{{12}}-({'|'.join(map(re.escape, (SUMMARY, INDEX, AGREEMENT)))})")
_SECONDS_BETWEEN_SUMMARIES = 5.0
"""The summary is of all studies: writing it after each one of thousands would take longer than they do."""
_AGAIN = "the same command goes on with the rest"


@dataclass(frozen=True)
class BatchProgress:
    """Studies that an earlier run left done (`kept`), that are done with these, that failed in this run, and of all.

    While `checked` is below `total` the results of earlier runs are looked at, and the others are not known.
    """

    kept: int
    done: int
    failed: int
    total: int
    checked: int


def run_batch(
    studies: Sequence[ListedStudy],
    request: "CompareRequest",
    folder: Path,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    work: str = WORK,
    on_progress: Callable[[BatchProgress], None] | None = None,
) -> tuple[StudyState, ...]:
    """Compare the studies that are not done in `folder` yet; where each stands, in the order of the list.

    `scheduler` is the address of a Dask scheduler whose workers see studies and folder; without one `workers` processes
    of this machine work (None: one for each GPU, else one for two cores), 0 means this process alone. `work` names the
    function (study, request, output) as "package.module:function". A study that raises, or whose worker dies again and
    again, fails with its reason; summary.csv and index.html tell of all, agreement.csv of the methods when all is done.
    OSError of the disk, MemoryError of the writing and KeyboardInterrupt end the run; the same call goes on with the
    rest. Raises InputError where another run has the folder, where results would go among the data of a study, and
    where the scheduler does not answer.
    Assumes: a script that calls it with processes guards its start with `if __name__ == "__main__"`.
    """
    named_function("work", work)
    template = index_template()
    folder = folder.resolve()
    check_places(folder, studies, request)
    with locked(folder, "batch"):
        _remove_stale(folder)
        states: dict[str, StudyState] = {}
        for checked, study in enumerate(studies):
            if on_progress is not None:
                on_progress(BatchProgress(0, 0, 0, len(studies), checked))
            states[study.name] = _state_before(folder, study, request, work)
        kept = sum(state.status == "done" for state in states.values())
        todo = [study for study in studies if states[study.name].status != "done"]
        failed, latest = 0, -math.inf

        def tell() -> None:
            nonlocal latest
            if on_progress is not None:
                done = sum(state.status == "done" for state in states.values())
                on_progress(BatchProgress(kept, done, failed, len(states), len(states)))
            if time.monotonic() - latest > _SECONDS_BETWEEN_SUMMARIES:
                write_results(folder, tuple(states.values()), template)
                latest = time.monotonic()

        if todo:  # that of fewer studies would pass for the one of all
            (folder / AGREEMENT).unlink(missing_ok=True)
        tell()
        try:
            # Closed before the summary is written: what the workers finish until then is in it.
            with closing(_made(folder, todo, request, work, scheduler, workers)) as made:
                for name, outcome in made:
                    if outcome is None:
                        reason = "its worker died again and again, of too little memory or a crash"
                        outcome = write_failure(folder / name, reason, None, 0.0)
                    states[name] = _state_after(folder, states[name].study, outcome)
                    failed += outcome.reason is not None
                    tell()
        except BaseException:
            with suppress(OSError):  # a full disk: what ended the run is the better message
                _remove_stale(folder)
                waiting = [state.study for state in states.values() if state.status == "waiting"]
                states |= {study.name: _state_before(folder, study, request, work) for study in waiting}
                latest = -math.inf
                tell()
            raise
        write_agreement(folder, tuple(states.values()))
        write_results(folder, tuple(states.values()), template)
    return tuple(states.values())


def _made(
    folder: Path,
    todo: Sequence[ListedStudy],
    request: "CompareRequest",
    work: str,
    scheduler: str | None,
    workers: int | None,
) -> Generator[tuple[str, Outcome | None], None, None]:
    """Names of studies with what became of them, as they are finished; None where the workers died."""
    if not todo:
        return
    share, processes = Share(), 0
    if scheduler is None:
        gpus = () if request.base.device == "cpu" else visible_gpus()
        usual = len(gpus) or max(1, cpu_threads() // 2)
        processes = min(usual if workers is None else workers, len(todo))
        share = Share(max(1, processes), gpus)
    tasks = {study.name: (str(folder), study, request, work, share) for study in todo}
    threads = 1 if share.workers is None else max(1, cpu_threads() // share.workers)
    yield from finished(make_study, tasks, scheduler=scheduler, workers=processes, threads=threads)


def _state_before(folder: Path, study: ListedStudy, request: "CompareRequest", work: str) -> StudyState:
    seconds = done_before(folder, study, request, work)
    if seconds is not None:
        return state_done(folder, study, seconds)
    reason = failed_before(folder, study)
    return StudyState(study) if reason is None else StudyState(study, "failed", reason)


def _state_after(folder: Path, study: ListedStudy, outcome: Outcome) -> StudyState:
    there = folder / study.name / (DONE if outcome.reason is None else FAILURE)
    if outcome.stored and not there.is_file():
        raise InputError(f"{folder}: the workers write to another disk: give a folder that all see")
    if outcome.reason is None:
        return state_done(folder, study, outcome.seconds)
    return StudyState(study, "failed", outcome.reason, outcome.seconds)


def _remove_stale(folder: Path) -> None:
    """Remove the temporary files of a run that was killed."""
    for path in folder.iterdir():
        if _STALE.fullmatch(path.name):
            path.unlink(missing_ok=True)


def make_batch(
    listed: Path,
    request: "CompareRequest",
    methods: tuple[str, ...] | None,
    output: Path,
    *,
    scheduler: str | None,
    workers: int | None,
    extend_ct: bool = False,
    assume_aligned: bool = False,
    tube_voltage_kv: float | None = None,
    mu_map_kev: float | None = None,
    work: str = WORK,
) -> list[str]:
    """Read the list and run or complete the batch in `output`; lines for the user.

    `methods` are those of studies that name none; `extend_ct`, `assume_aligned` and `tube_voltage_kv` are for studies
    with a CT, `mu_map_kev` for those with a map.
    Raises InputError where the list or an option is wrong or every study failed, and OSError, MemoryError and
    KeyboardInterrupt with a line that says how many are done, and how to go on where that is possible.
    """
    studies, notes = read_list(listed.absolute(), output)
    studies = tuple(
        replace(
            study,
            methods=study.methods or methods,
            extend_ct=extend_ct,
            assume_aligned=assume_aligned,
            tube_voltage_kv=tube_voltage_kv,
            mu_map_kev=mu_map_kev,
        )
        for study in studies
    )
    for option, asked, column in (
        ("--extend-ct", extend_ct, "ct"),
        ("--assume-aligned", assume_aligned, "ct"),
        ("--tube-voltage-kv", tube_voltage_kv is not None, "ct"),
        ("--mu-map-kev", mu_map_kev is not None, "mu_map"),
    ):
        if asked and not any(column in study.files for study in studies):
            what = "CT" if column == "ct" else "mu-map"
            raise InputError(f"{option} needs the {what} of at least one study: give a CSV with a column {column}")
    # Whole paths: workers on other machines were not started in this folder.
    if request.base.calibration is not None:
        base = replace(request.base, calibration=str(Path(request.base.calibration).absolute()))
        request = replace(request, base=base)
    if request.normals is not None:
        request = replace(request, normals=request.normals.absolute())
    check_options(request, methods)
    latest = BatchProgress(0, 0, 0, len(studies), 0)
    began = time.perf_counter()

    with ExitStack() as bars:
        move = bars.enter_context(counting_bar("earlier results"))
        move(0, len(studies))

        def show(progress: BatchProgress) -> None:
            nonlocal latest, move
            if latest.checked < latest.total == progress.checked:
                bars.close()
                move = bars.enter_context(counting_bar(f"batch of {len(studies)} studies"))
            latest = progress
            if progress.checked < progress.total:
                move(progress.checked, progress.total)
            else:
                # The bar shows the studies of this run alone: the time left follows from them.
                move(progress.done + progress.failed - progress.kept, progress.total - progress.kept)

        def standing() -> str:
            if latest.checked < latest.total:
                return f"the results of earlier runs in {output} were being checked"
            return f"{latest.done} of {latest.total} studies are done in {output}"

        try:
            states = run_batch(
                studies, request, output, scheduler=scheduler, workers=workers, work=work, on_progress=show
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted: {standing()}, {_AGAIN}") from None
        except OSError as error:
            again = f", {_AGAIN}" if can_go_on(error) else ""
            raise OSError(error.errno, f"{error.strerror or error}; {standing()}{again}", error.filename) from error
        except MemoryError as error:
            raise MemoryError(f"{str(error) or 'the results do not fit'}; {standing()}, {_AGAIN}") from error
    failures = {state.study.name: state.reason for state in states if state.status == "failed"}
    if len(failures) == len(states):
        name, reason = next(iter(failures.items()))
        raise InputError(f"{output}: all {len(failures)} studies failed; {name}: {reason}")
    lines = [f"note: {note}" for note in notes]
    lines += [f"note: {name} failed: {reason}" for name, reason in failures.items()]
    lines += _told(states)
    seconds = time.perf_counter() - began
    done = len(states) - len(failures)
    return [*lines, f"{output / INDEX}: {done} studies done, {len(failures)} failed ({seconds:.1f} s)"]


def _told(states: Sequence[StudyState]) -> list[str]:
    """What the reports say besides numbers, counted."""
    lines = []
    warned = sum(bool(state.warnings) for state in states)
    if warned:
        lines.append(f"note: {warned} of {len(states)} studies have warnings: see {INDEX}")
    lacking = [len(state.refused) for state in states if state.refused]
    if lacking:
        lines.append(f"note: methods were left out {sum(lacking)} times, in {len(lacking)} studies: see {INDEX}")
    return lines
