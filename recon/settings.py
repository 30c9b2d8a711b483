"""A user's settings: of a study, its projections, a reconstruction, a map, an attenuation model, a comparison."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, InstanceOf

from spectac.recon import plugins
from spectac.recon.collimator import Collimator, FocusFrom, parse_holes, parse_psf
from spectac.recon.collimator import collimator as collimator_of_name
from spectac.recon.errors import InputError
from spectac.recon.nuclides import nuclide as nuclide_of_name
from spectac.recon.setting_fields import AtLeast1, Positive, Setting, as_options, options, settings

if TYPE_CHECKING:
    from spectac.recon.attenuation import AttenuationModel
    from spectac.recon.backprojection import RampWindow
    from spectac.recon.bsrem import RelativeDifferencePrior
    from spectac.recon.filters import PostFilter


def _text(parse: Callable[[str], Any]) -> BeforeValidator:
    """Reader of a text; a value that is none is taken as it is."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def _numbers(option: str, example: str) -> Callable[[str], tuple[float, ...]]:
    """Reader of "A,B"."""

    def parse(text: str) -> tuple[float, ...]:
        try:
            return tuple(float(part) for part in text.split(","))
        except ValueError:
            raise InputError(f"{option} needs numbers with commas, e.g. {example}, not {text!r}") from None

    return parse


def _sizes(text: str) -> tuple[float, ...]:
    sizes = _numbers("--pixel-mm", "4.8 or 4.8,4.8")(text)
    if len(sizes) > 2:
        raise InputError(f"--pixel-mm needs one size, or two for z and u, not {text!r}")
    return sizes * 2 if len(sizes) == 1 else sizes


def date_and_time(option: str) -> Callable[[str], datetime]:
    """Reader of a date with a time of day; a date alone is refused, for it does not mean midnight.

    Parameters
    ----------
    option
        Name of the option, for the message.

    Returns
    -------
    callable
        Function from a text in ISO 8601 to a datetime. It raises InputError for any other text.

    Examples
    --------
    >>> date_and_time("--start")("2026-11-02T09:30")
    datetime.datetime(2026, 11, 2, 9, 30)
    """

    def parse(text: str) -> datetime:
        try:
            if ":" in text:
                return datetime.fromisoformat(text)
        except ValueError:
            pass
        raise InputError(f"{option} needs a date and time, e.g. 2026-11-02T09:30, not {text!r}")

    return parse


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@settings
class StudySettings:
    """Values that replace or complete what a study's files say; None (False for `apply_cor`) leaves it to the files.

    Angles are in degrees of docs/conventions.md (0 = detector at the patient's back, growing counter-clockwise seen
    from the feet). `psf` takes the place of `collimator`.

    Raises
    ------
    InputError
        Names the option whose value no study can have.

    Examples
    --------
    >>> from spectac.recon import StudySettings
    >>> StudySettings(nuclide="i123", radius_mm=140).nuclide
    'I-123'
    """

    nuclide: Annotated[
        str | None,
        _text(lambda name: nuclide_of_name(name).name),
        Setting("Nuclide, e.g. I-123; one that the table lacks as NAME:KEV:HALFLIFE_H."),
    ] = None
    collimator: Annotated[
        InstanceOf[Collimator] | None,
        _text(collimator_of_name),
        Setting("Collimator, e.g. siemens-lehr; a wrong name lists them."),
    ] = None
    psf: Annotated[
        InstanceOf[Collimator] | None,
        _text(parse_psf),
        Setting("Measured resolution: sigma = SIGMA0 + SLOPE * distance.", metavar="SIGMA0_MM:SLOPE[:LENGTH_MM]"),
    ] = None
    holes: Annotated[
        InstanceOf[Collimator] | None,
        _text(parse_holes),
        Setting("Hexagonal holes of the collimator in mm.", metavar="HOLE:SEPTA:LENGTH[:INTRINSIC]"),
    ] = None
    focal_length_mm: Annotated[
        Annotated[float, Field(gt=0)] | None,
        Setting("Focal length of a fan-beam collimator; inf: parallel data.", metavar="MM", option="focal_length"),
    ] = None
    focus_from: Annotated[
        FocusFrom | None,
        _text(str.lower),
        Setting("Plane from which the focal length counts: face, back or crystal.", metavar="PLANE"),
    ] = None
    focus_offset_mm: Annotated[
        Annotated[float, Field(allow_inf_nan=False)] | None,
        Setting("Focal line from the detector's centre towards growing u.", metavar="MM", option="focus_offset"),
    ] = None
    radius_mm: Annotated[
        Positive | None, Setting("Axis to collimator face, for all views; replaces the orbit.", metavar="MM")
    ] = None
    head_angles_deg: Annotated[
        tuple[float, ...] | None,
        _text(_numbers("--head-angles", "0,180")),
        Setting("Angle of each head's first view in degrees, e.g. 0,180.", metavar="A,B", option="head_angles"),
    ] = None
    rotation: Annotated[
        Literal["cc", "cw"] | None,
        _text(str.lower),
        Setting("Sense of rotation seen from the feet: cc or cw.", metavar="cc|cw"),
    ] = None
    step_deg: Annotated[
        Annotated[float, Field(gt=0, le=180, allow_inf_nan=False)] | None,
        Setting("Angle between views in degrees; --rotation gives the sense.", metavar="DEG"),
    ] = None
    view_seconds: Annotated[Positive | None, Setting("Time of each view in seconds.", metavar="S")] = None
    start: Annotated[
        datetime | None,
        _text(date_and_time("--start")),
        Setting("When the acquisition began, e.g. 2026-11-02T09:30.", metavar="TIME"),
    ] = None
    pixel_mm: Annotated[
        tuple[Positive, Positive] | None, _text(_sizes), Setting("Pixel size in mm: one number, or Z,U.", metavar="MM")
    ] = None
    energy_resolution: Annotated[
        Annotated[float, Field(ge=0.01, le=0.3)] | None,
        Setting("FWHM over energy at 140.5 keV, for scatter montecarlo; default 0.098.", metavar="R"),
    ] = None
    crystal_mm: Annotated[
        Annotated[float, Field(ge=1, le=60)] | None,
        Setting("Thickness of the crystal, for scatter montecarlo; default 9.5.", metavar="MM"),
    ] = None
    apply_cor: Annotated[bool, Setting("Shift the views by DICOM's CenterOfRotationOffset.")] = False

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.collimator, self.psf, self.holes)) > 1:
            raise InputError("give one of --collimator, --psf and --holes")
        if self.focal_length_mm == math.inf and not (self.focus_from is None and self.focus_offset_mm is None):
            raise InputError("--focal-length inf means parallel data, which have no --focus-from and no --focus-offset")
        if self.head_angles_deg is not None and not all(abs(angle) <= 360 for angle in self.head_angles_deg):
            listed = ",".join(f"{angle:g}" for angle in self.head_angles_deg)
            raise InputError(f"--head-angles needs angles from -360 to 360 deg, not {listed}")

    @property
    def response(self) -> Collimator | None:
        """The collimator, by its name, its measured resolution or its holes."""
        return self.psf or self.holes or self.collimator

    def history(self) -> Iterator[str]:
        """Lines on what was given."""
        for one in options(StudySettings):
            value = getattr(self, one.field)
            if one.name == "apply_cor" or value is None:
                continue
            if isinstance(value, tuple):
                value = ", ".join(f"{part:g}" for part in value)
            elif isinstance(value, float):
                value = f"{value:g}"
            name = "collimator" if one.name in ("psf", "holes") else one.field
            yield f"given by the user: {name} = {getattr(value, 'name', value)}"


@settings
class ProjectionSettings:
    """Which window is the photopeak, and how its scatter is estimated (recon/scatter/).

    Raises
    ------
    InputError
        Names the option whose value cannot be, or that does not fit another.

    Examples
    --------
    >>> ProjectionSettings(scatter="tew", dew_k=0.5)
    Traceback (most recent call last):
    spectac.recon.errors.InputError: the DEW factor k belongs to scatter methods dew and auto, not to tew
    """

    photopeak: Annotated[str | None, Setting("Name of the photopeak window, as spectac info shows it.")] = None
    scatter: Annotated[
        str, _text(str.strip), Setting("auto, none, dew, tew, montecarlo[:ROUNDS], or a plug-in.", metavar="METHOD")
    ] = "auto"
    dew_k: Annotated[Positive | None, Setting("Factor of the lower window for dew.")] = None
    scatter_windows: Annotated[
        str | tuple[str, ...] | None,
        Setting("Names of the windows for tew, or of the lower one alone for dew.", metavar="LOWER,UPPER"),
    ] = None

    def __post_init__(self) -> None:
        from spectac.recon.scatter.models import scatter_model

        if self.dew_k is not None and self.scatter_name not in ("auto", "dew"):
            raise InputError(f"the DEW factor k belongs to scatter methods dew and auto, not to {self.scatter}")
        if self.scatter_windows is not None and self.scatter_name in ("none", "montecarlo"):
            raise InputError(f"--scatter-windows belongs to scatter methods auto, tew and dew, not to {self.scatter}")
        # Its name and details are checked where they are understood.
        scatter_model(self)

    @property
    def scatter_name(self) -> str:
        """Name of the scatter method in the entry-point group `spectac.scatter`."""
        return self.scatter.partition(":")[0].strip()

    @property
    def scatter_detail(self) -> str:
        """What follows the name and a colon."""
        return self.scatter.partition(":")[2].strip()


USUAL_POST_FILTER = "gaussian:8"
"""Resolution at which short scans are compared (benchmarks/low_counts)."""
LOW_COUNTS = ("none", "map")
"""Ways with short scans that need no plug-in."""

TYPICAL, FITTED = "typical", "fitted"
HOLDERS = ("none", TYPICAL, FITTED)
"""What may lie beside the head; any other text is a file."""


@settings
class ReconstructionSettings(ProjectionSettings):
    """How an image is reconstructed.

    Raises
    ------
    InputError
        Names the option whose value cannot be, or that does not fit another.

    Examples
    --------
    >>> from spectac.recon import ReconstructionSettings
    >>> ReconstructionSettings(iterations=4, post_filter="gaussian:8").subsets
    10
    """

    holder: Annotated[
        Path | None,
        Setting(
            "What lies beside the head instead of what the map has there: none, typical, fitted (typical, as dense as "
            "the counts tell), or a map of spectac holder.",
            metavar="none|typical|fitted|FILE",
        ),
    ] = None
    algorithm: Annotated[Literal["osem", "mlem", "map", "fbp"], Setting("osem, mlem, map or fbp.")] = "osem"
    iterations: Annotated[AtLeast1, Setting("Iterations.")] = 10
    subsets: Annotated[AtLeast1, Setting("Subsets.")] = 10
    prior_beta: Annotated[float | None, Setting("Weight of the relative-difference prior for map.")] = None
    fbp_filter: Annotated[
        str | None, Setting("ramp, hann:CUTOFF or butterworth:CUTOFF:ORDER, cut-off of Nyquist.", metavar="FILTER")
    ] = None
    resolution: Annotated[bool, Setting("Model the collimator's blur.")] = True
    low_counts: Annotated[
        str,
        _text(str.strip),
        Setting("Short scans: none, map (a smoothing prior), network, or a plug-in.", metavar="METHOD"),
    ] = "none"
    low_counts_weights: Annotated[
        Path | None,
        Setting("Weights of spectac train for low-counts network, in place of its own.", metavar="FILE"),
    ] = None
    post_filter: Annotated[
        str | None, Setting("gaussian:FWHM_MM or butterworth:CUTOFF_PER_CM:ORDER.", metavar="FILTER")
    ] = None
    calibration: Annotated[
        Path | None, Setting("Calibration of spectac calibrate: images in kBq/mL.", metavar="FILE")
    ] = None
    device: Annotated[Literal["auto", "cpu", "cuda"], Setting("auto (the GPU where one works), cpu or cuda.")] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.algorithm == "map") != (self.prior_beta is not None):
            raise InputError("algorithm map needs a prior (--prior-beta), and no other algorithm takes one")
        if self.fbp_filter is not None and self.algorithm != "fbp":
            raise InputError("an FBP filter belongs to algorithm fbp")
        if self.low_counts != "none" and self.algorithm not in ("osem", "mlem"):
            raise InputError(f"--low-counts {self.low_counts} needs algorithm osem or mlem, not {self.algorithm}")
        # Their texts and numbers are checked where they are understood.
        _ = self.prior, self.ramp_window, self.smoothing
        if self.low_counts == "map" and self.post_filter is not None:
            raise InputError("--low-counts map takes the place of a post-filter: leave --post-filter out")
        if self.low_counts not in LOW_COUNTS and not self.resolution:
            raise InputError(f"--low-counts {self.low_counts} recovers the resolution: leave --no-resolution out")
        if self.low_counts not in LOW_COUNTS:
            plugins.plugin(plugins.LOW_COUNTS, self.low_counts)
        elif self.low_counts_weights is not None:
            raise InputError(f"--low-counts-weights belongs to --low-counts network, not to {self.low_counts}")

    @property
    def prior(self) -> "RelativeDifferencePrior | None":
        """The prior of MAP."""
        from spectac.recon.bsrem import RelativeDifferencePrior

        return None if self.prior_beta is None else RelativeDifferencePrior(self.prior_beta)

    @property
    def ramp_window(self) -> "RampWindow":
        """The window on the ramp filter of FBP."""
        from spectac.recon.backprojection import RampWindow, parse_filter

        return RampWindow() if self.fbp_filter is None else parse_filter(self.fbp_filter)

    @property
    def smoothing(self) -> "PostFilter | None":
        """The filter of the finished image."""
        from spectac.recon.filters import parse_post_filter

        return None if self.post_filter is None else parse_post_filter(self.post_filter)

    def without_low_counts(self) -> "ReconstructionSettings":
        """The same with a post-filter in place of `low_counts`: the settings' own, or the usual one."""
        post_filter = self.post_filter or USUAL_POST_FILTER
        return dataclasses.replace(self, low_counts="none", low_counts_weights=None, post_filter=post_filter)

    def files(self) -> dict[str, Path]:
        """Files that the settings name, by field."""
        words = (None, *(Path(word) for word in HOLDERS))
        named = {
            "calibration": self.calibration,
            "holder": None if self.holder in words else self.holder,
            "low_counts_weights": self.low_counts_weights,
        }
        return {field: path for field, path in named.items() if path is not None}

    def used(self, algorithm: str | None = None) -> dict[str, Any]:
        """Values by the options' names for record.json; those that the algorithm does not use are None.

        `algorithm` is that of the image where the attenuation model chose it.
        """
        algorithm = algorithm or self.algorithm
        values = as_options(self) | {"algorithm": algorithm}
        if algorithm == "fbp":
            iterative = ("iterations", "subsets", "resolution", "prior_beta")
            values |= {**dict.fromkeys(iterative), "fbp_filter": self.ramp_window.name}
        if algorithm == "mlem":
            values["subsets"] = 1
        return values

    @property
    def unused(self) -> tuple[str, ...]:
        """Options that were given and that the algorithm does not have."""
        without = {"fbp": ("iterations", "subsets", "resolution"), "mlem": ("subsets",)}.get(self.algorithm, ())
        allowed = {option.name: {option.default} for option in options(ReconstructionSettings)}
        allowed["subsets"].add(1)
        return tuple(name for name in without if getattr(self, name) not in allowed[name])

    def described(self, algorithm: str | None = None) -> str:
        """Algorithm with its numbers in a few words, such as "osem 10 x 10"."""
        used = self.used(algorithm)
        if used["fbp_filter"] is not None:
            return f"{used['algorithm']}, {used['fbp_filter']}"
        return f"{used['algorithm']} {used['iterations']} x {used['subsets']}"


@settings
class MapSettings:
    """The mu-map or CT of a patient, and how it is read. Each setting belongs to one attenuation model.

    Raises
    ------
    InputError
        Names the option whose value cannot be.

    Examples
    --------
    >>> list(MapSettings(mu_map_kev=140.5).of_models())
    [('--mu-map-kev', 'map', 'energy_kev', '140.5')]
    """

    mu_map: Annotated[
        Path | None, Setting("NIfTI, Interfile or DICOM NM map in 1/cm.", metavar="FILE", model_option=("map", "file"))
    ] = None
    mu_map_kev: Annotated[
        Annotated[float, Field(ge=30, le=800)] | None,
        Setting(
            "Photon energy of the mu-map; default: its side-car's, else the photopeak.",
            metavar="KEV",
            model_option=("map", "energy_kev"),
        ),
    ] = None
    ct: Annotated[Path | None, Setting("Folder of the CT series.", metavar="DIR", model_option=("ct", "path"))] = None
    tube_voltage_kv: Annotated[
        float | None,
        Setting(
            "Tube voltage of the CT, 70 to 150 kV; replaces the files' KVP.",
            metavar="KV",
            model_option=("ct", "tube_voltage_kv"),
        ),
    ] = None
    extend_ct: Annotated[
        bool,
        Setting("Fill the head's outline with soft tissue where the CT ends or is cut.", model_option=("ct", "extend")),
    ] = False
    assume_aligned: Annotated[
        bool,
        Setting("Take the CT where its headers place it, without registration.", model_option=("ct", "assume_aligned")),
    ] = False

    def of_models(self) -> Iterator[tuple[str, str, str, str]]:
        """Option, attenuation model, the model's option and its text, of every setting that was given."""
        for one in options(type(self)):
            value = getattr(self, one.field)
            if one.shown.model_option is not None and value != one.default:
                yield (
                    f"--{one.name.replace('_', '-')}",
                    *one.shown.model_option,
                    "yes" if value is True else str(value),
                )

    def files(self, model: str) -> list[Path]:
        """Files and folders that an attenuation model reads."""
        named = {"map": self.mu_map, "ct": self.ct}.get(model)
        return [] if named is None else [named]


@settings
class AttenuationSettings(MapSettings):
    """Which attenuation model is used, and its options.

    Examples
    --------
    >>> from spectac.recon.settings import AttenuationSettings
    >>> AttenuationSettings(attenuation="uniform", uniform_mu=0.15).chosen_options()
    {'mu': '0.15'}
    """

    attenuation: Annotated[str, Setting("none, chang, uniform, predicted, map, ct, or a plug-in.")] = "none"
    attenuation_option: Annotated[tuple[str, ...], Setting("Option of the model; repeatable.", metavar="K=V")] = ()
    uniform_mu: Annotated[float | None, Setting("Coefficient in 1/cm for chang and uniform.")] = None

    def chosen_options(self) -> dict[str, str]:
        """Options of the model, from K=V texts and from the options of their own.

        Raises InputError for an option that belongs to another model, and for one that is given twice.
        """
        chosen: dict[str, str] = {}
        for text in self.attenuation_option:
            key, separator, value = text.partition("=")
            if not separator or not key:
                raise InputError(f"--attenuation-option needs K=V, not {text!r}")
            if key.strip() in chosen:
                raise InputError(f"--attenuation-option {key.strip()}= is given twice: give one of them")
            chosen[key.strip()] = value.strip()
        named = list(self.of_models())
        if self.uniform_mu is not None:
            if self.attenuation not in ("chang", "uniform"):
                raise InputError("--uniform-mu belongs to --attenuation chang or uniform")
            named.append(("--uniform-mu", self.attenuation, "mu", repr(self.uniform_mu)))
        for option, model, key, value in named:
            if model != self.attenuation:
                raise InputError(f"{option} belongs to --attenuation {model}")
            if key in chosen:
                raise InputError(f"{option} and --attenuation-option {key}= say the same: give one of them")
            chosen[key] = value
        return chosen

    def inputs(self) -> list[Path]:
        """Files and folders that the model reads, by an option of their own or by K=V."""
        named = {"map": "file", "ct": "path", "predicted": "weights"}.get(self.attenuation)
        return [Path(value) for key, value in self.chosen_options().items() if key == named]

    def model(self) -> "AttenuationModel":
        """The attenuation model; InputError as the model's own checks say."""
        from spectac.recon.attenuation_plugins import attenuation_model

        return attenuation_model(self.attenuation, self.chosen_options())


METHODS = ("none", "chang", "uniform", "predicted", "ct", "map")
"""Attenuation models that a comparison takes by itself; "ct" and "map" where their files are given."""


@settings
class ComparisonSettings(MapSettings):
    """Methods, ground truth, VOIs and healthy subjects of a comparison.

    `methods` None: all that can be. `truth`: an image of the activity, or the folder that `spectac simulate` wrote.

    Raises
    ------
    InputError
        Names the option whose value cannot be.

    Examples
    --------
    >>> list(ComparisonSettings(methods="none,chang").models())
    ['none', 'chang']
    """

    methods: Annotated[
        tuple[str, ...] | None,
        _text(_names),
        Setting("Methods to compare, e.g. none,chang,predicted; default: all.", metavar="A,B"),
    ] = None
    truth: Annotated[
        Path | None, Setting("NIfTI image of the true activity, or the folder truth of spectac simulate.")
    ] = None
    labels: Annotated[
        Path | None, Setting("Label image (NIfTI) for the VOIs; default: the truth's, or placed by a template.")
    ] = None
    normals: Annotated[
        Path | None, Setting("Folder of a spectac batch of healthy subjects, or a CSV like comparison.csv: z-scores.")
    ] = None
    tracer: Annotated[
        Literal["dat", "perfusion"] | None, Setting("dat or perfusion; default: by what the image shows.")
    ] = None
    anonymous: Annotated[
        bool, Setting("Leave patient, dates and names of files out of reports, tables and images.")
    ] = False

    def models(self) -> dict[str, AttenuationSettings]:
        """Settings of the attenuation model of each method, in the order of the report.

        Raises InputError for methods that are not installed, named twice or without their files, and for settings of a
        model that is not compared.
        """
        from spectac.recon import plugins

        if self.methods == ():
            raise InputError("no method to compare: name some, e.g. --methods none,uniform,predicted")
        names = self.methods or tuple(name for name in METHODS if name not in ("ct", "map") or self.files(name))
        if len(set(names)) < len(names):
            raise InputError(f"--methods names one twice: {', '.join(names)}")
        for name, needed in (("ct", "the folder of the CT series: --ct DIR"), ("map", "a mu-map: --mu-map FILE")):
            if name in names and not self.files(name):
                raise InputError(f"method {name} needs {needed}")
        for option, model, _, _ in self.of_models():
            if model not in names:
                raise InputError(f"{option} belongs to method {model}, which is not among those to compare")
        for name in names:
            plugins.plugin(plugins.ATTENUATION, name)
        return {name: AttenuationSettings(attenuation=name, **self._of(name)) for name in names}

    def _of(self, model: str) -> dict[str, Any]:
        """Values of the settings that belong to an attenuation model, by field."""
        return {
            one.field: getattr(self, one.field)
            for one in options(MapSettings)
            if one.shown.model_option is not None and one.shown.model_option[0] == model
        }

    def without(self, model: str) -> "ComparisonSettings":
        """The same with the defaults of the settings that belong to an attenuation model."""
        return dataclasses.replace(self, **{one: getattr(MapSettings(), one) for one in self._of(model)})
