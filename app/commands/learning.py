"""Virtual patients and the map that a network learns from them: simulate, cohort, train, predict."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from spectac.app.commands import Interrupted
from spectac.app.options import (
    Config,
    Photopeak,
    Scheduler,
    StudyPaths,
    open_given,
    reading,
)
from spectac.recon.errors import InputError


@reading
def predict(
    study: StudyPaths,
    output: Annotated[Path, typer.Option("--output", "-o", help="NIfTI file for the map.")],
    given: Mapping[str, object],
    weights: Annotated[Path | None, typer.Option(help="Weights from spectac train; default: the shipped ones.")] = None,
    fallback: Annotated[
        bool, typer.Option("--fallback/--no-fallback", help="Give a uniform map where none can be predicted, or fail.")
    ] = True,
    photopeak: Photopeak = None,
) -> None:
    """Estimate a study's attenuation map in 1/cm from its projections alone."""
    from spectac.app.learned import predict_map

    opened = open_given(study, given)
    options = {"fallback": "yes" if fallback else "no"}
    if weights is not None:
        options["weights"] = str(weights)
    for line in predict_map(opened, output, options, photopeak):
        print(line)


def simulate(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the study and its truth.")],
    config: Config = None,
    tracer: Annotated[str, typer.Option(help="dat, perfusion or randomised.")] = "dat",
    nuclide: Annotated[str | None, typer.Option(help="Nuclide, where not the tracer's own.")] = None,
    scanner: Annotated[str, typer.Option(help="Camera; a wrong name lists them.")] = "siemens-intevo-lehr",
    counts: Annotated[float | None, typer.Option(help="Counts in the photopeak, by longer or shorter views.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of patient and noise.")] = 1,
    monte_carlo: Annotated[
        bool, typer.Option("--monte-carlo/--fast", help="All photons by Monte Carlo, or only the scattered ones.")
    ] = False,
    histories: Annotated[int | None, typer.Option(min=1000, help="Photon histories of the Monte Carlo.")] = None,
    format: Annotated[str, typer.Option(help="dicom or hdf5.")] = "dicom",  # noqa: A002 - the option's name
) -> None:
    """Simulate one virtual patient: DIR/projections.dcm or study.h5, patient.json, and the truth in DIR/truth."""
    from spectac.app.virtual import VirtualRequest
    from spectac.app.virtual import simulate as simulate_study

    request = VirtualRequest(tracer, nuclide, scanner, counts, seed, monte_carlo, histories, format)
    for line in simulate_study(request, output):
        print(line)


def cohort(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the shards and manifest.json.")],
    patients: Annotated[int, typer.Option("--patients", "-n", help="Number of patients.")],
    config: Config = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the cohort.")] = 1,
    tracer: Annotated[str, typer.Option(help="mixed, dat, perfusion or randomised.")] = "mixed",
    shard_patients: Annotated[int, typer.Option(help="Patients in a file.")] = 16,
    scheduler: Scheduler = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes on this machine (default: its cores); 0: without Dask.")
    ] = None,
    simulation: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION", help="Another simulation of a patient.")
    ] = None,
) -> None:
    """Simulate many virtual patients into sharded HDF5; after a stop the same command goes on with the rest."""
    from spectac.app.cohort import make_cohort
    from spectac.simulate.cohort.folder import SIMULATION, CohortSettings

    if scheduler is not None and workers is not None:
        raise InputError("give --scheduler or --workers, not both")
    settings = CohortSettings(patients, seed, tracer, shard_patients, SIMULATION if simulation is None else simulation)
    try:
        lines = make_cohort(settings, output, scheduler=scheduler, workers=workers)
    except KeyboardInterrupt as stopped:
        raise Interrupted(str(stopped)) from None
    for line in lines:
        print(line)


def train(
    config: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="TOML file: cohorts, network, steps.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for weights, checkpoint and logs.")],
) -> None:
    """Train the network that estimates attenuation maps; after a stop the same command goes on."""
    from spectac.app.learned import train_network

    try:
        lines = train_network(config, output)
    except KeyboardInterrupt as stopped:
        raise Interrupted(str(stopped)) from None
    for line in lines:
        print(line)
