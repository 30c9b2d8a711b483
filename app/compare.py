"""`spectac compare`: every attenuation model on one study, measured against each other, with a report."""

import csv
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from spectac.app.describe import describe
from spectac.app.measures import Reference, Row, measured
from spectac.app.normals import read_normals, z_rows
from spectac.app.options import model_options, open_given
from spectac.app.record import sha256_of, versions
from spectac.app.run import Request, solve
from spectac.recon import Image, InputError, Result, Study, Update, default_grid, head_outline
from spectac.recon import scatter as scatter_windows
from spectac.recon.attenuation import uniform_map
from spectac.recon.calibration import read_calibration
from spectac.recon.contour import Outline
from spectac.recon.io.atomic import written_folder
from spectac.recon.io.nifti import read_image, read_labels, write_image, write_labels, write_mu_map
from spectac.recon.io.sidecar import bids_keys
from spectac.recon.pipeline import Settings, StudySolver
from spectac.recon.quantify import voi_mean
from spectac.recon.resample import resample
from spectac.recon.types import Array, Grid
from spectac.recon.voi import GROUPS, TRACERS, Vois, from_labels, place

METHODS = ("none", "chang", "uniform", "predicted", "ct", "map")
"""In the order of the report; "ct" and "map" need a CT and a map."""
GIVEN = ("nuclide", "collimator", "psf", "radius_mm", "head_angles", "apply_cor")
"""Options that replace what a study's files say (app/options.py)."""


@dataclass(frozen=True)
class CompareRequest:
    """What the user asked of `spectac compare`.

    `base` holds the reconstruction's settings, its attenuation is not used; `methods=None` is all that can be.
    `truth` is an image of the activity, or the folder that `spectac simulate` wrote; `labels` a label image for VOIs,
    which else come with the truth or are placed by a template; `normals` a batch of healthy subjects (app/normals.py);
    `tracer` one of voi.TRACERS, or None to find out.
    `anonymous` keeps the patient's name and numbers out of all that is written.
    """

    base: Request = field(default_factory=Request)
    methods: tuple[str, ...] | None = None
    ct: Path | None = None
    extend_ct: bool = False
    assume_aligned: bool = False
    mu_map: Path | None = None
    truth: Path | None = None
    labels: Path | None = None
    normals: Path | None = None
    tracer: str | None = None
    anonymous: bool = False

    def __post_init__(self) -> None:
        if self.methods is not None and not self.methods:
            raise InputError("no method to compare: name some, e.g. --methods none,uniform,predicted")
        for name in self.methods or ():
            if (name == "ct") > (self.ct is not None):
                raise InputError("method ct needs the folder of the CT series: --ct DIR")
            if (name == "map") > (self.mu_map is not None):
                raise InputError("method map needs a mu-map: --mu-map FILE")
        if len(set(self.methods or ())) < len(self.methods or ()):
            raise InputError(f"--methods names one twice: {', '.join(self.methods or ())}")
        if self.tracer is not None and self.tracer not in TRACERS:
            raise InputError(f"--tracer {self.tracer!r} is not one of {', '.join(TRACERS)}")

    def requests(self) -> dict[str, Request]:
        """The reconstruction of each method."""
        have = {"ct": self.ct is not None, "map": self.mu_map is not None}
        names = self.methods or tuple(name for name in METHODS if have.get(name, True))
        found = {}
        for name in names:
            options = model_options(
                name,
                None,
                self.mu_map if name == "map" else None,
                None,
                self.ct if name == "ct" else None,
                self.extend_ct and name == "ct",
                self.assume_aligned and name == "ct",
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

    `refused` gives the reason of each method that made no image; `vois` is None where none could be placed; `warnings`
    are those on the comparison itself, `calibration` says where the scale comes from ("" without one); `watched` names
    what `Made.course` holds after each iteration.
    """

    study: Study
    source: Path
    request: CompareRequest
    grid: Grid
    outline: Outline | None
    made: Mapping[str, Made]
    refused: Mapping[str, str]
    reference: Reference | None
    vois: Vois | None
    tracer: str | None
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]
    calibration: str
    watched: str
    inputs_sha256: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, eq=False)
class Compared:
    """What `compare` leaves besides its files: all it knows, rows of comparison.csv, warnings, lines for the user."""

    comparison: Comparison
    rows: tuple[dict[str, str], ...]
    warnings: tuple[str, ...]
    lines: tuple[str, ...]


def compare(path: Path, request: CompareRequest, output: Path) -> Compared:
    """Reconstruct a study with every method and write report.html, comparison.csv, images/ and record.json.

    A method that cannot be used on this study is reported with its reason; where none can, that is an InputError.
    Files appear in `output` when all are written.
    """
    try:
        from spectac.app.report.page import render
    except ImportError:
        raise InputError("the report needs jinja2: pip install 'spectac[report]'") from None
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: give a folder for the results with -o")
    began = time.perf_counter()
    given = dict.fromkeys(GIVEN) | {"apply_cor": False} | dict(request.base.given)
    study = open_given(path, **given)  # type: ignore[arg-type]
    if request.anonymous:
        study = replace(study, patient={})
    with written_folder(output) as folder:
        comparison = compared(study, path, request)
        images = folder / "images"
        images.mkdir()
        for name, made in comparison.made.items():
            write_image(images / f"{name}.nii.gz", made.image, bids_keys(study, made.image, made.request.parameters()))
            if made.result.mu is not None:
                write_mu_map(images / f"{name}_mu.nii.gz", made.result.mu)
        if comparison.vois is not None:
            _write_vois(images / "vois.nii.gz", comparison.vois)
        rows = tuple(row.as_text() for row in comparison.rows)
        with (folder / "comparison.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, Row.COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        (folder / "report.html").write_text(render(comparison), encoding="utf-8")
        (folder / "record.json").write_text(json.dumps(_record(comparison), indent=2) + "\n", encoding="utf-8")
    seconds = time.perf_counter() - began
    warnings = (*describe(study)["warnings"], *comparison.warnings)
    lines = [f"note: {text}" for text in warnings]
    lines += [f"note: {name} was left out: {reason}" for name, reason in comparison.refused.items()]
    lines.append(f"{output}: report.html, comparison.csv, images ({seconds:.0f} s)")
    return Compared(comparison, rows, warnings, tuple(lines))


def compared(study: Study, path: Path, request: CompareRequest) -> Comparison:
    """The comparison of an opened study; nothing is written.

    Raises InputError for bad settings, and where every method is refused.
    """
    requests = request.requests()
    sources = (path, request.ct, request.mu_map, request.labels, request.normals)
    inputs = {str(source): sha256_of(source) for source in sources if source is not None}
    base = request.base
    projections = scatter_windows.projections(study, base.scatter, base.photopeak, dew_k=base.dew_k)
    solver = StudySolver(study, projections, Settings(device=base.device))
    normals = {} if request.normals is None else read_normals(request.normals)
    warnings: list[str] = []
    if not solver.scatter_corrected:
        warnings.append(
            f"no scatter correction ({projections.scatter_method}): with a narrow-beam map (predicted, ct, map) "
            "brains come out a fifth to a half too hot; do not read levels from it"
        )
    grid = default_grid(study.acquisition)
    truth, vois, factor, calibration = _known(request, study, grid)
    outline, quick = _quick_look(solver, warnings)
    if vois is None and quick is not None:
        vois = _placed(quick, request.tracer, grid, warnings)
    tracer = request.tracer or (None if vois is None else vois.tracer)
    if tracer is None and vois is not None and quick is not None:
        tracer = _tracer_of(quick, vois)
    watched, watch = _watching(vois, tracer)

    made: dict[str, Made] = {}
    refused: dict[str, str] = {}
    for name, one in requests.items():
        course: list[float] = []
        began = time.perf_counter()
        try:
            result = _solved(study, one, watch, course)
        except InputError as error:
            refused[name] = " ".join(str(error).split())
            continue
        image = result.image
        if factor is not None and image.unit == "cps/mL":
            image = replace(image, values=image.values / np.float32(factor), unit="kBq/mL")
        # Chang multiplies at the end: his iterations are those of no correction.
        shown = () if result.uncorrected is not None else tuple(course)
        made[name] = Made(one, result, image, time.perf_counter() - began, shown)
    if not made:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise InputError(f"{path}: no method could be used: {reasons}")
    reference = _reference(truth, made, vois, warnings)
    images = {name: one.image for name, one in made.items()}
    rows = measured(images, refused, reference, vois, tracer, outline)
    z = z_rows(rows, normals)
    if normals and not z:
        warnings.append(
            f"no measure of {request.normals} fits this comparison's methods, regions and units: no z-scores"
        )
    rows += z
    return Comparison(
        study, path, request, grid, outline, made, refused, reference, vois, tracer, tuple(rows), tuple(warnings),
        calibration, watched, inputs,
    )  # fmt: skip


def _solved(study: Study, request: Request, watch: Mapping[str, Array], course: list[float]) -> Result:
    """Result of a method; `course` gets the watched ratio after each iteration."""
    iterations_done = 0

    def look(update: Update) -> None:
        nonlocal iterations_done
        # FBP has no updates; a model may reconstruct more than once: the last run is the one shown.
        if update.done == 1:
            course.clear()
            iterations_done = 0
        each = update.total // request.iterations
        if update.done % each == 0:
            iterations_done += 1
            image = update.image.get() if hasattr(update.image, "get") else update.image
            above, below = (float(image[voi > 0] @ voi[voi > 0] / voi.sum()) for voi in watch.values())
            course.append(above / below if below > 0 else float("nan"))

    return solve(study, request, look if watch else None)


def _watching(vois: Vois | None, tracer: str | None) -> tuple[str, Mapping[str, Array]]:
    """The ratio whose course over the iterations is shown, in words, and its two VOIs; nothing without VOIs."""
    wanted = ("striata", "reference") if tracer == "dat" else ("cortex", "white matter")
    if vois is None or not set(wanted) <= set(vois.masks):
        return "", {}
    return f"{wanted[0]} over {wanted[1]}", {name: vois.masks[name] for name in wanted}


def _quick_look(solver: StudySolver, warnings: list[str]) -> tuple[Outline | None, Image | None]:
    """The head's outline, and a quick image with the uniform map in it to place VOIs on; None where they fail."""
    try:
        mu, _ = uniform_map(solver, None, None)
        outline = head_outline(solver.preview())
        return outline, solver.preview(mu=mu)
    except InputError as error:
        warnings.append(f"the head's outline was not found, so no VOI was placed: {error}")
        return None, None


def _placed(quick: Image, tracer: str | None, grid: Grid, warnings: list[str]) -> Vois | None:
    try:
        return place(quick, tracer, grid)
    except InputError as error:
        warnings.append(str(error))
        return None


FOCAL = 1.25
"""Striata over cortex above which an image with VOIs from labels is taken as a DAT scan; perfusion shows about 1."""


def _tracer_of(image: Image, vois: Vois) -> str | None:
    if not {"striata", "cortex"} <= set(vois.masks):
        return None
    values = resample(image.values, image.grid, vois.grid)
    return (
        "dat"
        if voi_mean(values, vois.masks["striata"]) > FOCAL * voi_mean(values, vois.masks["cortex"])
        else "perfusion"
    )


def _known(request: CompareRequest, study: Study, grid: Grid) -> tuple[Image | None, Vois | None, float | None, str]:
    """Truth on the grid, VOIs from labels, cps per kBq and its origin, as far as the request has or leads to them."""
    factor, truth, labels = None, None, request.labels
    calibration, file = "", request.base.calibration
    if file is not None:
        known = read_calibration(file)
        known.check(study, request.base.photopeak)
        factor, calibration = known.cps_per_kbq, f"{known.cps_per_kbq:.4g} cps per kBq, from {Path(file).name}"
    if request.truth is not None:
        folder = request.truth if request.truth.is_dir() else request.truth.parent
        image = read_image(folder / "activity.nii.gz" if request.truth.is_dir() else request.truth)
        truth = replace(image, values=resample(image.values, image.grid, grid), grid=grid)
        beside = folder / "labels.nii.gz"
        if labels is None and beside.is_file():
            labels = beside
        told = folder.parent / "patient.json"
        if factor is None and truth.unit == "kBq/mL" and told.is_file():
            factor = _factor_in(told)
            calibration = f"{factor:.4g} cps per kBq, from the virtual patient's {told.name}"
    if labels is None:
        return truth, None, factor, calibration
    values, label_grid, names = read_labels(labels)
    return truth, from_labels(values, label_grid, names, grid, f"labels of {labels.name}"), factor, calibration


def _factor_in(path: Path) -> float:
    """Key cps_per_kbq of a virtual patient's record; InputError without."""
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["cps_per_kbq"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no cps_per_kbq in it ({error})") from None


def _reference(
    truth: Image | None, made: Mapping[str, Made], vois: Vois | None, warnings: list[str]
) -> Reference | None:
    """What differences are taken to: the truth, else the CT's image."""
    if truth is None:
        return Reference("ct", made["ct"].image, scaled=False) if "ct" in made else None
    unit = next(iter(made.values())).image.unit
    if truth.unit == unit:
        return Reference("truth", truth, scaled=False)
    if vois is None or "brain" not in vois.masks:
        warnings.append(
            f"the truth is in {truth.unit}, the images in {unit}, and no VOI tells the scale: give --calibration"
        )
        return None
    # Their levels cannot be compared, but their shapes can: the truth is brought to the first corrected image's level.
    scale_by = next((name for name in ("ct", "map", "predicted", "uniform", "chang") if name in made), next(iter(made)))
    brain = vois.masks["brain"]
    scale = voi_mean(made[scale_by].image.values, brain) / voi_mean(truth.values, brain)
    warnings.append(
        f"the truth is in {truth.unit}, the images in {unit}: it was scaled to the brain's mean of {scale_by}, "
        "so that levels say nothing about it; --calibration compares them"
    )
    return Reference("truth", replace(truth, values=truth.values * np.float32(scale), unit=unit), scaled=True)


def _write_vois(path: Path, vois: Vois) -> None:
    """The VOIs that hold no other as labels, each voxel with the one that has most of it."""
    names = [name for name, parts in GROUPS.items() if len(parts) == 1 and name in vois.masks]
    names = names or list(vois.masks)
    shares = np.stack([np.full(vois.grid.shape, 0.5, np.float32), *(vois.masks[name] for name in names)])
    write_labels(path, shares.argmax(axis=0), vois.grid, dict(enumerate(names, 1)))


def _record(comparison: Comparison) -> dict[str, Any]:
    """Content of record.json."""
    request = comparison.request
    return {
        "inputs_sha256": {
            file: digest for files in comparison.inputs_sha256.values() for file, digest in files.items()
        },
        "request": json.loads(json.dumps(asdict(request), default=str)),
        "study": describe(comparison.study),
        "tracer": comparison.tracer,
        "vois": None if comparison.vois is None else comparison.vois.source,
        "reference": None if comparison.reference is None else comparison.reference.name,
        "methods": {
            name: {
                "parameters": made.request.parameters(),
                "device": made.result.device,
                "seconds": round(made.seconds, 3),
                "notes": list(made.result.notes),
            }
            for name, made in comparison.made.items()
        },
        "refused": dict(comparison.refused),
        "calibration": comparison.calibration,
        "warnings": list(comparison.warnings),
        "versions": versions(),
    }
