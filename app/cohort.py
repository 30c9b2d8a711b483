"""`spectac cohort`: thousands of virtual patients in a folder, with a progress bar and a line on how to go on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spectac.recon import InputError
from spectac.simulate.cohort import CohortProgress, run_cohort
from spectac.simulate.cohorts.folder import CohortSettings


@contextmanager
def counting_bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """Bar on stderr with the time left, moved by (done, total)."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        # A shard takes minutes: the speed is taken over an hour.
        *columns, console=console, transient=True, disable=not console.is_terminal, speed_estimate_period=3600.0
    ) as progress:  # fmt: skip
        task = progress.add_task(f"{text}: preparing (the first run compiles)", total=None)

        def move(done: int, total: int) -> None:
            progress.update(task, description=text, completed=done, total=total)

        yield move


def make_cohort(settings: CohortSettings, output: Path, *, scheduler: str | None, workers: int | None) -> list[str]:
    """Make or complete a cohort in `output`; lines for the user.

    Raises InputError where a shard could not be made, and OSError and KeyboardInterrupt with a line that says how much
    is there and how to go on.
    """
    latest = CohortProgress(0, 0, settings.patients)
    began = time.perf_counter()
    again = "the same command goes on with the rest"

    with counting_bar(f"cohort, seed {settings.seed}") as move:

        def show(progress: CohortProgress) -> None:
            nonlocal latest
            latest = progress
            # The bar shows the patients of this run alone: the time left follows from them.
            move(progress.done - progress.kept, progress.total - progress.kept)

        try:
            result = run_cohort(output, settings, scheduler=scheduler, workers=workers, on_progress=show)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted: {latest.done} of {latest.total} patients are in {output}; {again}"
            ) from None
        except OSError as error:
            stopped = f"{error.strerror or error}; {latest.done} of {latest.total} patients are there, {again}"
            raise OSError(error.errno, stopped, error.filename) from error
    lines = [f"note: {note}" for note in result.notes]
    lines += [f"note: patient {index} failed: {reason}" for index, reason in result.failures.items()]
    if result.missing_shards:
        lost = "; ".join(
            f"{shard} (patients {settings.indices(shard)[0]} to {settings.indices(shard)[-1]})"
            for shard in result.missing_shards
        )
        raise InputError(
            f"{output}: the workers of these shards died again and again, of too little memory or a crash: {lost}; "
            f"{result.patients} patients are there, {again}"
        )
    if result.failures and not result.patients:
        index, reason = next(iter(result.failures.items()))
        raise InputError(f"{output}: all {len(result.failures)} patients failed; patient {index}: {reason}")
    seconds = time.perf_counter() - began
    return [*lines, f"{output}: {result.patients} patients, {len(result.failures)} failed ({seconds:.1f} s)"]
