"""Options that several commands share: their types, the TOML file that may hold them, and what they come to."""

import functools
import inspect
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spectac.recon.errors import InputError
from spectac.recon.given import OPTIONS, Given

if TYPE_CHECKING:
    from spectac.recon import Study

StudyPaths = Annotated[
    list[Path],
    typer.Argument(
        metavar="STUDY...", help="DICOM NM files or their folder, Interfile headers, or an HDF5 study: one acquisition."
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
Photopeak = Annotated[str | None, typer.Option(help="Name of the photopeak window, as spectac info shows it.")]
Algorithm = Annotated[str, typer.Option(help="osem, mlem, map or fbp.")]
Iterations = Annotated[int, typer.Option(min=1, help="Iterations.")]
Subsets = Annotated[int, typer.Option(min=1, help="Subsets.")]
PriorBeta = Annotated[float | None, typer.Option(help="Weight of the relative-difference prior for map.")]
FbpFilter = Annotated[
    str | None, typer.Option(help="ramp, hann:CUTOFF or butterworth:CUTOFF:ORDER, cut-off of Nyquist.")
]
Scatter = Annotated[str, typer.Option(help="auto, none, dew or tew.")]
DewK = Annotated[float | None, typer.Option(help="Factor of the lower window for dew.")]
ScatterWindows = Annotated[
    str | None,
    typer.Option(metavar="LOWER,UPPER", help="Names of the windows for tew, or of the lower one alone for dew."),
]
Resolution = Annotated[bool, typer.Option("--resolution/--no-resolution", help="Model the collimator's blur.")]
PostFilter = Annotated[str | None, typer.Option(help="gaussian:FWHM_MM or butterworth:CUTOFF_PER_CM:ORDER.")]
Calibration = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Calibration of spectac calibrate: images in kBq/mL.")
]
Device = Annotated[str, typer.Option(help="auto (the GPU where one works), cpu or cuda.")]
MuMapFile = Annotated[Path | None, typer.Option(metavar="FILE", help="NIfTI, Interfile or DICOM NM map in 1/cm.")]
MuMapKev = Annotated[
    float | None,
    typer.Option(
        min=30, max=800, metavar="KEV", help="Photon energy of the mu-map; default: its side-car's, else the photopeak."
    ),
]
UniformMu = Annotated[float | None, typer.Option(help="Coefficient in 1/cm for chang and uniform.")]
CtFolder = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the CT series.")]
TubeVoltage = Annotated[
    float | None, typer.Option(metavar="KV", help="Tube voltage of the CT, 70 to 150 kV; replaces the files' KVP.")
]
ExtendCt = Annotated[
    bool, typer.Option("--extend-ct", help="Fill the head's outline with soft tissue where the CT ends or is cut.")
]
AssumeAligned = Annotated[
    bool, typer.Option("--assume-aligned", help="Take the CT where its headers place it, without registration.")
]
Methods = Annotated[
    str | None, typer.Option(metavar="A,B", help="Methods to compare, e.g. none,chang,predicted; default: all.")
]
Anonymous = Annotated[
    bool, typer.Option("--anonymous", help="Leave patient, dates and names of files out of reports, tables and images.")
]
Scheduler = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Dask scheduler to use, e.g. tcp://host:8786.")]

_SWITCHES = ("resolution", "extend_ct", "assume_aligned", "apply_cor", "monte_carlo", "anonymous")


def _load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take defaults for every option of the command from a TOML file; the command line wins."""
    if path is None or context.resilient_parsing:
        return path
    try:
        # Editors of Windows put a byte-order mark before UTF-8.
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file: {error}") from None
    known = {parameter.name for parameter in context.command.params} - {"config", "study"}
    plain = {key.replace("-", "_"): value for key, value in values.items()}
    if "no_resolution" in plain:
        plain["resolution"] = not plain.pop("no_resolution")
    for key, value in plain.items():
        if isinstance(value, list) and key in ("head_angles", "methods", "pixel_mm", "scatter_windows"):
            plain[key] = ",".join(str(part) for part in value)
        elif isinstance(value, (date, time)):
            plain[key] = value.isoformat()
    for key, value in plain.items():
        if isinstance(value, bool) is not (key in _SWITCHES):
            raise InputError(f"{path}: {key} = {value!r} has the wrong type")
    unknown = sorted(set(plain) - known)
    if unknown:
        listed = ", ".join(sorted(str(name) for name in known))
        raise InputError(f"{path}: unknown key {', '.join(unknown)}; known keys: {listed}")
    context.default_map = {**(context.default_map or {}), **plain}
    return path


Config = Annotated[
    Path | None,
    typer.Option(
        callback=_load_config, is_eager=True, exists=True, dir_okay=False, help="TOML file with any of these options."
    ),
]


def reading(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of recon.given.Given in place of its parameter `given`.

    The parameter gets those that were given, by the options' names.
    """
    signature = inspect.signature(command)
    options = []
    for name, about in ((name, one.metadata) for name, one in OPTIONS.items()):
        kind: Any = bool if about["kind"] is bool else about["kind"] | None
        shown = typer.Option(f"--{name.replace('_', '-')}", metavar=about["metavar"], help=about["help"])
        options.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=False if kind is bool else None,
                annotation=Annotated[kind, shown],
            )
        )

    @functools.wraps(command)
    def flattened(**values: Any) -> None:
        taken = {option.name: values.pop(option.name) for option in options}
        command(
            given={name: value for name, value in taken.items() if value is not None and value is not False}, **values
        )

    kept = [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in signature.parameters.values() if one.name != "given"
    ]
    flattened.__signature__ = signature.replace(parameters=[*kept, *options])  # type: ignore[attr-defined]
    flattened.__annotations__ = {one.name: one.annotation for one in (*kept, *options)} | {"return": None}
    del flattened.__wrapped__  # typer would read the signature from there
    return flattened


def named_methods(text: str | None) -> tuple[str, ...] | None:
    """Names from "a,b"; None for no text."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def open_given(paths: Sequence[Path], options: Mapping[str, object]) -> "Study":
    """Study read with the options that replace or complete what its files say."""
    from spectac.recon.io import read_study

    return read_study(paths, Given.of(options))


def model_options(
    model: str,
    given: list[str] | None,
    mu_map: Path | None,
    uniform_mu: float | None,
    ct: Path | None,
    extend_ct: bool = False,
    assume_aligned: bool = False,
    mu_map_kev: float | None = None,
    tube_voltage_kv: float | None = None,
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
    for wanted, key, value, shortcut, of in (
        (mu_map_kev is not None, "energy_kev", repr(mu_map_kev), "--mu-map-kev", "map"),
        (ct is not None, "path", str(ct), "--ct", "ct"),
        (extend_ct, "extend", "yes", "--extend-ct", "ct"),
        (assume_aligned, "assume_aligned", "yes", "--assume-aligned", "ct"),
        (tube_voltage_kv is not None, "tube_voltage_kv", repr(tube_voltage_kv), "--tube-voltage-kv", "ct"),
    ):
        if wanted:
            if model != of:
                raise InputError(f"{shortcut} belongs to --attenuation {of}")
            _once(options, key, value, shortcut)
    return options


def _once(options: dict[str, str], key: str, value: str, shortcut: str) -> None:
    if key in options:
        raise InputError(f"{shortcut} and --attenuation-option {key}= say the same: give one of them")
    options[key] = value
