"""`spectac cohort`: thousands of virtual patients in a folder, with a progress bar and a line on how to go on."""

import time
from pathlib import Path
from typing import Annotated

import typer

from spectac.app.options import Scheduler
from spectac.app.progress import counting_bar
from spectac.recon import InputError
from spectac.simulate.cohort.folder import CohortSettings
from spectac.simulate.cohort.run import CohortProgress, run_cohort


def cohort(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the shards and manifest.json.")],
    settings: CohortSettings,
    scheduler: Scheduler = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes on this machine (default: its cores); 0: without Dask.")
    ] = None,
) -> list[str]:
    """Make or complete a cohort in `output`; lines for the user.

    Raises InputError where a shard could not be made, and OSError and KeyboardInterrupt with a line that says how much
    is there and how to go on.
    """
    if scheduler is not None and workers is not None:
        raise InputError("give --scheduler or --workers, not both")
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
