"""`spectac cohort`: thousands of virtual patients in a folder."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from spectac.app.options import Scheduler
from spectac.app.queue_bar import RESUME, queue_bar
from spectac.recon import InputError
from spectac.simulate.bodies.folder import cts_in, make_bodies
from spectac.simulate.cohort.folder import CohortSettings
from spectac.simulate.cohort.run import run_cohort


def cohort(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the shards and manifest.json.")],
    settings: CohortSettings,
    scheduler: Scheduler = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes on this machine (default: its cores); 0: without Dask.")
    ] = None,
) -> list[str]:
    """Make or complete a cohort in `output`; lines for the user.

    Raises InputError where a shard could not be made, and OSError, MemoryError and KeyboardInterrupt with a line that
    says how many patients are there and how to go on.
    """
    if scheduler is not None and workers is not None:
        raise InputError("give --scheduler or --workers, not both")
    began = time.perf_counter()
    if settings.bodies is not None:
        made = output / "bodies"
        number = len(cts_in(settings.bodies))
        with queue_bar("bodies", "bodies", number, made) as show:
            make_bodies(settings.bodies, made, scheduler=scheduler, workers=workers, on_progress=show)
        settings = replace(settings, bodies=made.resolve())
    with queue_bar(f"cohort, seed {settings.seed}", "patients", settings.patients, output) as show:
        result = run_cohort(output, settings, scheduler=scheduler, workers=workers, on_progress=show)
    if result.missing_shards:
        lost = "; ".join(
            f"{shard} (patients {settings.indices(shard)[0]} to {settings.indices(shard)[-1]})"
            for shard in result.missing_shards
        )
        raise InputError(
            f"{output}: the workers of these shards died again and again, of too little memory or a crash: {lost}; "
            f"{result.patients} patients are there, {RESUME}"
        )
    if result.failures and not result.patients:
        index, reason = next(iter(result.failures.items()))
        raise InputError(f"{output}: all {len(result.failures)} patients failed; patient {index}: {reason}")
    lines = [*result.notes, *(f"patient {index} failed: {reason}" for index, reason in result.failures.items())]
    finished = f"{output}: {result.patients} patients, {len(result.failures)} failed"
    return [*(f"note: {line}" for line in lines), f"{finished} ({time.perf_counter() - began:.1f} s)"]
