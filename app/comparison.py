"""What a comparison of methods is asked, and what it holds: the data between `spectac compare` and its report."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from spectac.app.measures import Reference, Row
from spectac.app.options import model_options
from spectac.app.run import Request
from spectac.recon import Image, InputError, Projections, Result, Study
from spectac.recon.attenuation_plugins import check_installed
from spectac.recon.contour import Outline
from spectac.recon.voi import TRACERS, Vois

METHODS = ("none", "chang", "uniform", "predicted", "ct", "map")
"""In the order of the report; "ct" and "map" need a CT and a map."""


@dataclass(frozen=True)
class CompareRequest:
    """What the user asked of `spectac compare`.

    `base` holds the reconstruction's settings, its attenuation is not used; `methods=None` is all that can be.
    `truth` is an image of the activity, or the folder that `spectac simulate` wrote; `labels` a label image for VOIs,
    which else come with the truth or are placed by a template; `normals` a batch of healthy subjects (app/normals.py);
    `tracer` one of voi.TRACERS, or None to find out. `anonymous` keeps patient, dates and names of files out of all
    that is written.
    Raises InputError for settings that do not fit each other and for methods that are not there.
    """

    base: Request = field(default_factory=Request)
    methods: tuple[str, ...] | None = None
    ct: Path | None = None
    extend_ct: bool = False
    assume_aligned: bool = False
    tube_voltage_kv: float | None = None
    mu_map: Path | None = None
    mu_map_kev: float | None = None
    truth: Path | None = None
    labels: Path | None = None
    normals: Path | None = None
    tracer: str | None = None
    anonymous: bool = False

    def __post_init__(self) -> None:
        if self.methods is not None and not self.methods:
            raise InputError("no method to compare: name some, e.g. --methods none,uniform,predicted")
        named = self.methods or ()
        if len(set(named)) < len(named):
            raise InputError(f"--methods names one twice: {', '.join(named)}")
        if "ct" in named and self.ct is None:
            raise InputError("method ct needs the folder of the CT series: --ct DIR")
        if "map" in named and self.mu_map is None:
            raise InputError("method map needs a mu-map: --mu-map FILE")
        for option, given, method in (
            ("--ct", self.ct is not None, "ct"),
            ("--extend-ct", self.extend_ct, "ct"),
            ("--assume-aligned", self.assume_aligned, "ct"),
            ("--tube-voltage-kv", self.tube_voltage_kv is not None, "ct"),
            ("--mu-map", self.mu_map is not None, "map"),
            ("--mu-map-kev", self.mu_map_kev is not None, "map"),
        ):
            source = self.ct if method == "ct" else self.mu_map
            if given and (method not in named if named else source is None):
                raise InputError(f"{option} belongs to method {method}, which is not among those to compare")
        if self.tracer is not None and self.tracer not in TRACERS:
            raise InputError(f"--tracer {self.tracer!r} is not one of {', '.join(TRACERS)}")
        self.base.check()
        for name in named:
            check_installed(name)

    def requests(self) -> dict[str, Request]:
        """The reconstruction of each method."""
        have = {"ct": self.ct is not None, "map": self.mu_map is not None}
        names = self.methods or tuple(name for name in METHODS if have.get(name, True))
        found = {}
        for name in names:
            of_ct = name == "ct"
            options = model_options(
                name,
                None,
                self.mu_map if name == "map" else None,
                None,
                self.ct if of_ct else None,
                self.extend_ct and of_ct,
                self.assume_aligned and of_ct,
                self.mu_map_kev if name == "map" else None,
                self.tube_voltage_kv if of_ct else None,
            )
            found[name] = replace(self.base, attenuation=name, attenuation_options=options)
        return found


@dataclass(frozen=True, eq=False)
class Made:
    """A method's result: its image in the comparison's unit, seconds, and the course of `Comparison.watched`."""

    request: Request
    result: Result
    image: Image
    seconds: float
    course: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything that the report shows.

    `study` is as the report may show it, `sources` its paths, or "study" where they are not to be known. `refused`
    gives the reason of each method that made no image, `missing_extras` the extra of spectac that some of these need;
    `vois` is None where none could be placed; `warnings` are those on the comparison itself; `calibration` says where
    the scale comes from ("" without one), which is `cps_per_kbq`; `watched` names what `Made.course` holds after each
    iteration; `inputs_sha256` has a digest for every file read, `study_sha256` those of the study alone.
    """

    study: Study
    sources: tuple[str, ...]
    request: CompareRequest
    projections: Projections
    outline: Outline | None
    made: Mapping[str, Made]
    refused: Mapping[str, str]
    missing_extras: Mapping[str, str]
    reference: Reference | None
    vois: Vois | None
    tracer: str | None
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]
    calibration: str
    cps_per_kbq: float | None
    watched: str
    study_sha256: tuple[str, ...]
    inputs_sha256: Mapping[str, str]
