"""The command line. Everything heavy is imported inside the commands, so that --help answers at once."""

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from spectac.app.options import (
    ApplyCor,
    CollimatorName,
    Config,
    HeadAngles,
    Nuclide,
    Output,
    Psf,
    Radius,
    StudyPath,
    model_options,
    open_given,
)
from spectac.recon.errors import InputError

app = typer.Typer(
    name="spectac",
    help="Quantitative SPECT images from raw projections, with pluggable attenuation models. Research use only.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_INTERRUPTED = 130
"""Exit code of a program that was stopped by the user, by the shells' convention."""


class _Interrupted(Exception):  # noqa: N818 - not an error
    """Stopped by the user, with a line of its own on what is there."""


def main() -> None:
    """Run the command line; bad input gives one line and exit code 2."""
    # A scheduler's SIGTERM ends a run as Ctrl-C does: nothing half-written stays.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted; nothing was written", _INTERRUPTED)
    except _Interrupted as error:
        _fail(str(error), _INTERRUPTED)
    except (typer.TyperException, InputError) as error:
        _fail(error.format_message() if isinstance(error, typer.TyperException) else str(error))
    except MemoryError as error:
        _fail(f"not enough memory: {error or 'the data do not fit'}")
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}")
    else:
        if code == _INTERRUPTED:
            _fail("interrupted; nothing was written", _INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int = 2) -> None:
    print("spectac: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)


@app.command()
def info(
    study: StudyPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    nuclide: Nuclide = None,
    collimator: CollimatorName = None,
    psf: Psf = None,
    radius_mm: Radius = None,
    head_angles: HeadAngles = None,
    apply_cor: ApplyCor = False,
) -> None:
    """Show windows, views, orbit and counts of a study, and what looks wrong."""
    opened = open_given(study, nuclide, collimator, psf, radius_mm, head_angles, apply_cor)
    from spectac.app.describe import describe, in_words

    facts = describe(opened)
    print(json.dumps(facts, indent=2) if as_json else "\n".join(in_words(facts)))


@app.command()
def reconstruct(
    study: StudyPath,
    output: Output,
    config: Config = None,
    attenuation: Annotated[str, typer.Option(help="none, chang, uniform, predicted, map, ct, or a plug-in.")] = "none",
    attenuation_option: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Option of the model; repeatable.")
    ] = None,
    mu_map: Annotated[Path | None, typer.Option(help="NIfTI map in 1/cm for --attenuation map.")] = None,
    ct: Annotated[Path | None, typer.Option(help="Folder of the CT series for --attenuation ct.")] = None,
    extend_ct: Annotated[
        bool, typer.Option("--extend-ct", help="Fill the head's outline with soft tissue where the CT ends.")
    ] = False,
    assume_aligned: Annotated[
        bool, typer.Option("--assume-aligned", help="Take the CT where its headers place it, without registration.")
    ] = False,
    uniform_mu: Annotated[float | None, typer.Option(help="Coefficient in 1/cm for chang and uniform.")] = None,
    photopeak: Annotated[str | None, typer.Option(help="Name of the photopeak window.")] = None,
    algorithm: Annotated[str, typer.Option(help="osem, mlem, map or fbp.")] = "osem",
    iterations: Annotated[int, typer.Option(min=1, help="Iterations.")] = 10,
    subsets: Annotated[int, typer.Option(min=1, help="Subsets.")] = 10,
    prior_beta: Annotated[float | None, typer.Option(help="Weight of the relative-difference prior for map.")] = None,
    fbp_filter: Annotated[
        str | None, typer.Option(help="ramp, hann:CUTOFF or butterworth:CUTOFF:ORDER, cut-off of Nyquist.")
    ] = None,
    scatter: Annotated[str, typer.Option(help="auto, none, dew or tew.")] = "auto",
    dew_k: Annotated[float | None, typer.Option(help="Factor of the lower window for dew.")] = None,
    resolution: Annotated[
        bool, typer.Option("--resolution/--no-resolution", help="Model the collimator's blur.")
    ] = True,
    collimator: CollimatorName = None,
    psf: Psf = None,
    radius_mm: Radius = None,
    head_angles: HeadAngles = None,
    apply_cor: ApplyCor = False,
    nuclide: Nuclide = None,
    post_filter: Annotated[
        str | None, typer.Option(help="gaussian:FWHM_MM or butterworth:CUTOFF_PER_CM:ORDER.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto (the GPU where one works), cpu or cuda.")] = "auto",
) -> None:
    """Reconstruct raw projections into DIR/image.nii.gz, image.dcm, mu_map.nii.gz and record.json."""
    from spectac.app.run import Request, run

    options = model_options(attenuation, attenuation_option, mu_map, uniform_mu, ct, extend_ct, assume_aligned)
    request = Request(
        attenuation=attenuation,
        attenuation_options=options,
        photopeak=photopeak,
        algorithm=algorithm,
        iterations=iterations,
        subsets=subsets,
        prior_beta=prior_beta,
        fbp_filter=fbp_filter,
        scatter=scatter,
        dew_k=dew_k,
        resolution=resolution,
        post_filter=post_filter,
        device=device,
        given={
            key: value
            for key, value in {
                "nuclide": nuclide,
                "collimator": collimator,
                "psf": psf,
                "radius_mm": radius_mm,
                "head_angles": head_angles,
                "apply_cor": apply_cor or None,
            }.items()
            if value is not None
        },
    )
    opened = open_given(study, nuclide, collimator, psf, radius_mm, head_angles, apply_cor)
    maps = [
        Path(options[key])
        for model, key in (("map", "file"), ("ct", "path"))
        if attenuation == model and key in options
    ]
    for line in run(opened, request, output, [study, *maps]):
        print(line)


@app.command()
def simulate(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the study and its truth.")],
    config: Config = None,
    tracer: Annotated[str, typer.Option(help="dat, perfusion or randomised.")] = "dat",
    nuclide: Annotated[str | None, typer.Option(help="Nuclide, where not the tracer's own.")] = None,
    scanner: Annotated[str, typer.Option(help="Preset of simulate/scanner.py.")] = "siemens-intevo-lehr",
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


@app.command()
def cohort(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the shards and manifest.json.")],
    patients: Annotated[int, typer.Option("--patients", "-n", help="Number of patients.")],
    config: Config = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the cohort.")] = 1,
    tracer: Annotated[str, typer.Option(help="mixed, dat, perfusion or randomised.")] = "mixed",
    shard_patients: Annotated[int, typer.Option(help="Patients in a file.")] = 16,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Dask scheduler to use, e.g. tcp://host:8786.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes on this machine (default: its cores); 0: without Dask.")
    ] = None,
    simulation: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION", help="Another simulation of a patient.")
    ] = None,
) -> None:
    """Simulate many virtual patients into sharded HDF5; after a stop the same command goes on with the rest."""
    from spectac.app.cohort import make_cohort
    from spectac.simulate.cohorts.folder import SIMULATION, CohortSettings

    if scheduler is not None and workers is not None:
        raise InputError("give --scheduler or --workers, not both")
    settings = CohortSettings(patients, seed, tracer, shard_patients, SIMULATION if simulation is None else simulation)
    try:
        lines = make_cohort(settings, output, scheduler=scheduler, workers=workers)
    except KeyboardInterrupt as stopped:
        raise _Interrupted(str(stopped)) from None
    for line in lines:
        print(line)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="TOML file: cohorts, network, steps.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for weights, checkpoint and logs.")],
) -> None:
    """Train the network that estimates attenuation maps; after a stop the same command goes on."""
    from spectac.app.learned import train_network

    try:
        lines = train_network(config, output)
    except KeyboardInterrupt as stopped:
        raise _Interrupted(str(stopped)) from None
    for line in lines:
        print(line)


@app.command()
def predict(
    study: StudyPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="NIfTI file for the map.")],
    weights: Annotated[Path | None, typer.Option(help="Weights from spectac train; default: the shipped ones.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the second sees the image that the first corrects.")] = 1,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine",
            help="Fit scale, skull and outline to the projections; made most maps worse where it was measured.",
        ),
    ] = False,
    fallback: Annotated[
        bool, typer.Option("--fallback/--no-fallback", help="Give a uniform map where none can be predicted, or fail.")
    ] = True,
    photopeak: Annotated[str | None, typer.Option(help="Name of the photopeak window.")] = None,
    nuclide: Nuclide = None,
    collimator: CollimatorName = None,
    psf: Psf = None,
    radius_mm: Radius = None,
    head_angles: HeadAngles = None,
    apply_cor: ApplyCor = False,
) -> None:
    """Estimate a study's attenuation map in 1/cm from its projections alone."""
    from spectac.app.learned import predict_map

    opened = open_given(study, nuclide, collimator, psf, radius_mm, head_angles, apply_cor)
    options = {"rounds": str(rounds), "refine": "yes" if refine else "no", "fallback": "yes" if fallback else "no"}
    if weights is not None:
        options["weights"] = str(weights)
    for line in predict_map(opened, output, options, photopeak):
        print(line)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 1,
    counts: Annotated[float, typer.Option(min=1e3, max=1e10, help="Counts of the acquisition.")] = 3e6,
) -> None:
    """Simulate a head's noisy projections, reconstruct with every attenuation model, show pictures and errors."""
    from spectac.app.demo import run_demo

    for line in run_demo(output, seed=seed, counts=counts):
        print(line)


if __name__ == "__main__":
    main()
