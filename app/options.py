"""Options that several commands share: their types, the TOML file that may hold them, and what they come to."""

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectac.recon.errors import InputError

if TYPE_CHECKING:
    from spectac.recon import Study

StudyPath = Annotated[
    Path, typer.Argument(metavar="STUDY", help="DICOM NM file or folder, Interfile header, or HDF5 study.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
ApplyCor = Annotated[bool, typer.Option("--apply-cor", help="Shift the views by DICOM's CenterOfRotationOffset.")]
Nuclide = Annotated[str | None, typer.Option(help="Nuclide, e.g. I-123; replaces what the file says.")]
CollimatorName = Annotated[str | None, typer.Option(help="Collimator, e.g. siemens-lehr; a wrong name lists them.")]
Psf = Annotated[
    str | None, typer.Option(metavar="SIGMA0_MM:SLOPE", help="Measured resolution: sigma = SIGMA0 + SLOPE * distance.")
]
Radius = Annotated[
    float | None,
    typer.Option(metavar="MM", help="Axis to collimator face in mm, for all views; replaces the file's orbit."),
]
HeadAngles = Annotated[str | None, typer.Option(metavar="A,B", help="Start angle of each head in degrees, e.g. 0,180.")]
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
Resolution = Annotated[bool, typer.Option("--resolution/--no-resolution", help="Model the collimator's blur.")]
PostFilter = Annotated[str | None, typer.Option(help="gaussian:FWHM_MM or butterworth:CUTOFF_PER_CM:ORDER.")]
Calibration = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Calibration of spectac calibrate: images in kBq/mL.")
]
Device = Annotated[str, typer.Option(help="auto (the GPU where one works), cpu or cuda.")]
MuMapFile = Annotated[Path | None, typer.Option(metavar="FILE", help="NIfTI or Interfile map in 1/cm.")]
UniformMu = Annotated[float | None, typer.Option(help="Coefficient in 1/cm for chang and uniform.")]
CtFolder = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the CT series.")]
ExtendCt = Annotated[
    bool, typer.Option("--extend-ct", help="Fill the head's outline with soft tissue where the CT ends.")
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
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file: {error}") from None
    known = {parameter.name for parameter in context.command.params} - {"config", "study"}
    plain = {key.replace("-", "_"): value for key, value in values.items()}
    if "no_resolution" in plain:
        plain["resolution"] = not plain.pop("no_resolution")
    for key in ("head_angles", "methods"):
        if isinstance(plain.get(key), list):
            plain[key] = ",".join(str(part) for part in plain[key])
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


def replaced(
    nuclide: str | None,
    collimator: str | None,
    psf: str | None,
    radius_mm: float | None,
    head_angles: str | None,
    apply_cor: bool,
) -> dict[str, object]:
    """Those options that replace what a study's files say and were given, by their names."""
    named = {
        "nuclide": nuclide,
        "collimator": collimator,
        "psf": psf,
        "radius_mm": radius_mm,
        "head_angles": head_angles,
        "apply_cor": apply_cor or None,
    }
    return {name: value for name, value in named.items() if value is not None}


def named_methods(text: str | None) -> tuple[str, ...] | None:
    """Names from "a,b"; None for no text."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def open_given(
    path: Path,
    nuclide: str | None,
    collimator: str | None,
    psf: str | None,
    radius_mm: float | None,
    head_angles: str | None,
    apply_cor: bool,
) -> "Study":
    """Study read with the options that replace or complete what its files say."""
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


def model_options(
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
