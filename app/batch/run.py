"""Running a batch: its studies are the items of a queue."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from spectac.app.batch.agreement import write_agreement
from spectac.app.batch.checks import check_options, check_places
from spectac.app.batch.overview import AGREEMENT, INDEX, StudyState, index_template, state_of, write_overview
from spectac.app.batch.request import WORK, BatchRequest
from spectac.app.batch.study import StudyWork
from spectac.app.batch.study_list import FILE_COLUMNS, ListedStudy, read_list
from spectac.app.comparison import CompareRequest
from spectac.app.options import Output, Scheduler, Without
from spectac.app.queue_bar import queue_bar
from spectac.recon import InputError, ReconstructionSettings, StudySettings
from spectac.recon.device import cpu_threads
from spectac.recon.queue.shares import visible_gpus
from spectac.recon.queue.work_queue import Progress, open_queue
from spectac.recon.queue.workers import Workers, named_function
from spectac.recon.settings import ComparisonSettings


def run_batch(
    studies: Sequence[ListedStudy],
    request: BatchRequest,
    folder: Path,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[StudyState, ...]:
    """Compare the studies that are not done in `folder` yet; state of every study, in the order of the list.

    `scheduler` is the address of a Dask scheduler whose workers see studies and folder. Without one `workers` processes
    of this machine work (None: one for each GPU, else one for two cores; 0: this process alone). A study that raises,
    or whose workers die, fails with its reason. summary.csv and index.html list all studies; agreement.csv is written
    when all are finished.
    OSError of the disk, MemoryError of the writing and KeyboardInterrupt end the run; the same call goes on with the
    rest. Raises InputError where another run has the folder, where results would go among the data of a study, and
    where the scheduler does not answer.
    Assumes: a script that starts processes guards its own start with `if __name__ == "__main__"`.
    """
    named_function("work", request.work)
    template = index_template()
    folder = folder.resolve()
    check_places(folder, studies, request)
    gpus = () if scheduler is not None or request.compare.reconstruction.device == "cpu" else visible_gpus()
    usual = len(gpus) or max(1, cpu_threads() // 2)
    places = Workers(scheduler, usual if workers is None else workers, gpus)
    work = StudyWork(folder, request, quiet=scheduler is None)
    with open_queue(work, places, on_progress, len(studies)) as queue:
        entries = [queue.add(study.name, study) for study in studies]
        queue.close()

        def states() -> tuple[StudyState, ...]:
            return tuple(map(state_of, queue.entries.values()))

        if any(entry.state == "waiting" for entry in entries):  # that of fewer studies would pass for the one of all
            (folder / AGREEMENT).unlink(missing_ok=True)
        queue.run(lambda: write_overview(folder, states(), template))
        write_agreement(folder, states())
        write_overview(folder, states(), template)
        return states()


def batch(
    listed: Annotated[Path, typer.Argument(metavar="LIST", help="Folder of studies, or CSV with a column study.")],
    output: Output,
    given: StudySettings,
    comparison: Annotated[ComparisonSettings, Without(FILE_COLUMNS)],
    settings: ReconstructionSettings,
    scheduler: Scheduler = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes on this machine (default: one a GPU, or for two cores); 0: without Dask."),
    ] = None,
    work: Annotated[str, typer.Option(hidden=True, metavar="MODULE:FUNCTION")] = WORK,
) -> list[str]:
    """Compare the methods on many studies (see make_batch); lines for the user."""
    if scheduler is not None and workers is not None:
        raise InputError("give --scheduler or --workers, not both")
    request = BatchRequest(CompareRequest(given, settings, comparison), work)
    return make_batch(listed, request, output, scheduler=scheduler, workers=workers)


def make_batch(
    listed: Path, request: BatchRequest, output: Path, *, scheduler: str | None, workers: int | None
) -> list[str]:
    """Read the list and run or complete the batch in `output`; lines for the user.

    Raises InputError where the list or an option is wrong or every study failed, and OSError, MemoryError and
    KeyboardInterrupt with a line that says how many are done, and how to go on where that is possible.
    """
    began = time.perf_counter()
    studies, notes = read_list(listed.absolute(), output)
    request = request.with_absolute_paths()
    check_options(request, studies)
    with queue_bar(f"batch of {len(studies)} studies", "studies", len(studies), output) as show:
        states = run_batch(studies, request, output, scheduler=scheduler, workers=workers, on_progress=show)
    failures = {state.study.name: state.reason for state in states if state.status == "failed"}
    if len(failures) == len(states):
        name, reason = next(iter(failures.items()))
        raise InputError(f"{output}: all {len(failures)} studies failed; {name}: {reason}")
    lines = [*notes, *(f"{name} failed: {reason}" for name, reason in failures.items())]
    warned = sum(bool(state.warnings) for state in states)
    if warned:
        lines.append(f"{warned} of {len(states)} studies have warnings: see {INDEX}")
    refused = [len(state.refused) for state in states if state.refused]
    if refused:
        lines.append(f"methods were left out {sum(refused)} times, in {len(refused)} studies: see {INDEX}")
    done, seconds = len(states) - len(failures), time.perf_counter() - began
    finished = f"{output / INDEX}: {done} studies done, {len(failures)} failed ({seconds:.1f} s)"
    return [*(f"note: {line}" for line in lines), finished]
