"""One study of a batch, as a worker compares it."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

from spectac.app.batch.overview import AGREEMENT, INDEX, SUMMARY, StudyState, state_done
from spectac.app.batch.request import BatchRequest
from spectac.app.batch.resume import (
    DONE,
    FAILURE,
    OBSTACLES,
    StudyFailure,
    asked_of,
    earlier_failure,
    seconds_of_done,
    sizes_and_times,
    write_done,
    write_failure,
)
from spectac.app.batch.study_list import ListedStudy
from spectac.app.comparison import CompareRequest
from spectac.recon import InputError
from spectac.recon.queue.store import MACHINE_ERRORS, check_visible, named_error, remove_leftovers
from spectac.recon.queue.work_queue import DIED, Failure, Work
from spectac.recon.queue.workers import named_function, one_line


def compare_one(study: Path, request: CompareRequest, output: Path) -> None:
    """Compare the methods on one study; the usual work of a batch."""
    from spectac.app.compare import compare_study

    compare_study(study, request, output)


@dataclass(frozen=True)
class StudyWork(Work[ListedStudy, StudyState]):
    """Comparing the studies of a batch; `quiet` where the bars of single reconstructions would spoil the batch's."""

    folder: Path
    request: BatchRequest
    quiet: bool

    command = "batch"
    leftovers = rf"-({'|'.join(map(re.escape, (SUMMARY, INDEX, AGREEMENT)))})"

    def before(self, study: ListedStudy) -> StudyState | StudyFailure | None:
        """State of a study that is done, or its failure in an earlier run."""
        target = self.folder / study.name
        seconds = seconds_of_done(target, study, self.request)
        if seconds is None:
            return earlier_failure(target)
        (target / FAILURE).unlink(missing_ok=True)  # of the run before the one that did it
        return state_done(self.folder, study, seconds)

    def do(self, study: ListedStudy) -> StudyState | StudyFailure:
        """Compare a study and write batch.json, or failure.json with the reason.

        Raises OSError where the disk or the machine is at fault and not the study, and MemoryError of the writing.
        """
        target = self.folder / study.name
        began = time.perf_counter()
        try:
            target.mkdir(exist_ok=True)
            remove_leftovers(target, r"|-(batch|failure)\.json")
            (target / DONE).unlink(missing_ok=True)
            before = sizes_and_times(target)
            with _no_stderr() if self.quiet else nullcontext():
                asked = asked_of(study, self.request)
                compare = named_function("work", self.request.work)
                compare(study.path, self.request.of_study(study), target)
            # A file that is as it was before is not of this work: the user's own notes.
            results = {name: stat[0] for name, stat in sizes_and_times(target).items() if before.get(name) != stat}
        except Exception as error:
            if isinstance(error, OSError) and _ends_the_run(error, target):
                raise named_error(error, target) from error
            return write_failure(target, _reason(error), time.perf_counter() - began, error)
        seconds = round(time.perf_counter() - began, 3)
        write_done(target, asked, results, seconds)
        return state_done(self.folder, study, seconds)

    def arrived(self, study: ListedStudy, outcome: StudyState | Failure) -> None:
        """Check that this process sees the file that tells of the study."""
        if not isinstance(outcome, StudyFailure):
            check_visible(self.folder, self.folder / study.name / DONE)
        elif outcome.stored:
            check_visible(self.folder, self.folder / study.name / FAILURE)

    def lost(self, study: ListedStudy) -> StudyFailure:
        """Failure of a study whose workers died."""
        return write_failure(self.folder / study.name, DIED, 0.0)


def _reason(error: Exception) -> str:
    """What failure.json says of an exception, in one line."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"not enough memory: {str(error) or 'the data do not fit'}"
    return " ".join(str(error).split()) if isinstance(error, InputError) else one_line(error)


def _ends_the_run(error: OSError, target: Path) -> bool:
    """True for a full disk and for errors where results are written; all others are faults of the study."""
    if error.errno in OBSTACLES:
        return False
    inside = error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(target)
    return inside or error.errno in MACHINE_ERRORS


@contextmanager
def _no_stderr() -> Iterator[None]:
    with open(os.devnull, "w", encoding="utf-8") as nothing, redirect_stderr(nothing):
        yield
