"""The command line. Everything heavy is imported inside the commands, so that --help answers at once."""

import json
import math
import signal
import sys
import threading
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectac.recon.errors import InputError

if TYPE_CHECKING:
    from spectac.recon import Study

app = typer.Typer(
    name="spectac",
    help="Quantitative SPECT images from raw projections, with pluggable attenuation models. Research use only.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_StudyPath = Annotated[
    Path, typer.Argument(metavar="STUDY", help="DICOM NM file or folder, Interfile header, or HDF5 study.")
]
_Out = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
_ApplyCor = Annotated[bool, typer.Option("--apply-cor", help="Shift the views by DICOM's CenterOfRotationOffset.")]
_Nuclide = Annotated[str | None, typer.Option(help="Nuclide, e.g. I-123, where the file does not say it.")]
_CollimatorName = Annotated[str | None, typer.Option(help="Collimator from the table, e.g. siemens-lehr.")]
_Psf = Annotated[
    str | None, typer.Option(metavar="SIGMA0_MM:SLOPE", help="Measured resolution: sigma = SIGMA0 + SLOPE * distance.")
]
_Radius = Annotated[float | None, typer.Option(help="Radius of the orbit, axis to collimator face.")]
_HeadAngles = Annotated[
    str | None, typer.Option(metavar="A,B", help="Start angle of each head in degrees, e.g. 0,180.")
]


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


_SWITCHES = ("resolution", "extend_ct", "assume_aligned", "apply_cor", "monte_carlo")


def _load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take defaults for every option of the command from a TOML file; the command line wins."""
    if path is None or context.resilient_parsing:
        return path
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file: {error}") from None
    known = {parameter.name for parameter in context.command.params} - {"config", "study"}
    plain = {key.replace("-", "_"): value for key, value in values.items()}
    if "no_resolution" in plain:
        plain["resolution"] = not plain.pop("no_resolution")
    if isinstance(plain.get("head_angles"), list):
        plain["head_angles"] = ",".join(str(angle) for angle in plain["head_angles"])
    for key, value in plain.items():
        if isinstance(value, bool) is not (key in _SWITCHES):
            raise InputError(f"{path}: {key} = {value!r} has the wrong type")
    unknown = sorted(set(plain) - known)
    if unknown:
        listed = ", ".join(sorted(str(name) for name in known))
        raise InputError(f"{path}: unknown key {', '.join(unknown)}; known keys: {listed}")
    context.default_map = {**(context.default_map or {}), **plain}
    return path


_Config = Annotated[
    Path | None,
    typer.Option(
        callback=_load_config, is_eager=True, exists=True, dir_okay=False, help="TOML file with any of these options."
    ),
]


def _open(
    path: Path,
    nuclide: str | None,
    collimator: str | None,
    psf: str | None,
    radius_mm: float | None,
    head_angles: str | None,
    apply_cor: bool,
) -> "Study":
    from spectac.recon import open_study
    from spectac.recon.collimator import collimator as by_name
    from spectac.recon.collimator import parse_psf

    if collimator is not None and psf is not None:
        raise InputError("give --collimator or --psf, not both")
    if radius_mm is not None and not (math.isfinite(radius_mm) and radius_mm > 0):
        raise InputError(f"--radius-mm must be above 0, not {radius_mm:g}")
    chosen = by_name(collimator) if collimator is not None else None if psf is None else parse_psf(psf)
    angles = None
    if head_angles is not None:
        try:
            angles = tuple(float(part) for part in head_angles.split(","))
        except ValueError:
            raise InputError(f"--head-angles needs numbers with commas, e.g. 0,180, not {head_angles!r}") from None
        if not all(abs(angle) <= 360 for angle in angles):
            raise InputError(f"--head-angles needs angles from -360 to 360 deg, not {head_angles}")
    return open_study(
        path,
        nuclide=nuclide,
        collimator=chosen,
        radius_mm=radius_mm,
        head_angles_deg=angles,
        apply_cor=apply_cor,
    )


@app.command()
def info(
    study: _StudyPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    nuclide: _Nuclide = None,
    collimator: _CollimatorName = None,
    psf: _Psf = None,
    radius_mm: _Radius = None,
    head_angles: _HeadAngles = None,
    apply_cor: _ApplyCor = False,
) -> None:
    """Show windows, views, orbit and counts of a study, and what looks wrong."""
    opened = _open(study, nuclide, collimator, psf, radius_mm, head_angles, apply_cor)
    from spectac.app.describe import describe, in_words

    facts = describe(opened)
    print(json.dumps(facts, indent=2) if as_json else "\n".join(in_words(facts)))


@app.command()
def reconstruct(
    study: _StudyPath,
    output: _Out,
    config: _Config = None,
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
    collimator: _CollimatorName = None,
    psf: _Psf = None,
    radius_mm: _Radius = None,
    head_angles: _HeadAngles = None,
    apply_cor: _ApplyCor = False,
    nuclide: _Nuclide = None,
    post_filter: Annotated[
        str | None, typer.Option(help="gaussian:FWHM_MM or butterworth:CUTOFF_PER_CM:ORDER.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto (the GPU where one works), cpu or cuda.")] = "auto",
) -> None:
    """Reconstruct raw projections into DIR/image.nii.gz, image.dcm, mu_map.nii.gz and record.json."""
    from spectac.app.run import Request, run

    options = _model_options(attenuation, attenuation_option, mu_map, uniform_mu, ct, extend_ct, assume_aligned)
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
    opened = _open(study, nuclide, collimator, psf, radius_mm, head_angles, apply_cor)
    maps = [
        Path(options[key])
        for model, key in (("map", "file"), ("ct", "path"))
        if attenuation == model and key in options
    ]
    for line in run(opened, request, output, [study, *maps]):
        print(line)


def _model_options(
    model: str,
    given: list[str] | None,
    mu_map: Path | None,
    uniform_mu: float | None,
    ct: Path | None,
    extend_ct: bool,
    assume_aligned: bool,
) -> Mapping[str, str]:
    """Options of the attenuation model from K=V texts and from the named shortcuts."""
    options: dict[str, str] = {}
    for text in given or []:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise InputError(f"--attenuation-option needs K=V, not {text!r}")
        options[key.strip()] = value.strip()
    if mu_map is not None:
        if model != "map":
            raise InputError("--mu-map belongs to --attenuation map")
        _once(options, "file", str(mu_map), "--mu-map")
    if uniform_mu is not None:
        if model not in ("chang", "uniform"):
            raise InputError("--uniform-mu belongs to --attenuation chang or uniform")
        _once(options, "mu", repr(uniform_mu), "--uniform-mu")
    for wanted, key, value, shortcut in (
        (ct is not None, "path", str(ct), "--ct"),
        (extend_ct, "extend", "yes", "--extend-ct"),
        (assume_aligned, "assume_aligned", "yes", "--assume-aligned"),
    ):
        if wanted:
            if model != "ct":
                raise InputError(f"{shortcut} belongs to --attenuation ct")
            _once(options, key, value, shortcut)
    return options


def _once(options: dict[str, str], key: str, value: str, shortcut: str) -> None:
    if key in options:
        raise InputError(f"{shortcut} and --attenuation-option {key}= say the same: give one of them")
    options[key] = value


@app.command()
def simulate(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the study and its truth.")],
    config: _Config = None,
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
    config: _Config = None,
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
    study: _StudyPath,
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
    nuclide: _Nuclide = None,
    collimator: _CollimatorName = None,
    psf: _Psf = None,
    radius_mm: _Radius = None,
    head_angles: _HeadAngles = None,
    apply_cor: _ApplyCor = False,
) -> None:
    """Estimate a study's attenuation map in 1/cm from its projections alone."""
    from spectac.app.learned import predict_map

    opened = _open(study, nuclide, collimator, psf, radius_mm, head_angles, apply_cor)
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
