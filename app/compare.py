"""`spectac compare`: every attenuation model on one study, measured against each other, with a report."""

import csv
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spectac.app.anonymous import anonymised, hidden, hider, without_paths
from spectac.app.comparison import CompareRequest, Comparison, Made
from spectac.app.describe import describe
from spectac.app.known import Known, known
from spectac.app.measures import Reference, Row, measured
from spectac.app.normals import normals_files, read_normals, z_rows
from spectac.app.options import open_given
from spectac.app.record import sha256_of, versions
from spectac.app.run import Request, solve
from spectac.recon import Image, InputError, Result, Study, Update
from spectac.recon.attenuation import uniform_map
from spectac.recon.contour import Outline
from spectac.recon.errors import MissingExtraError
from spectac.recon.io.atomic import is_result, written_folder
from spectac.recon.io.nifti import write_image, write_labels, write_mu_map
from spectac.recon.io.sidecar import bids_keys
from spectac.recon.pipeline import Settings, StudySolver
from spectac.recon.quantify import voi_mean
from spectac.recon.resample import resample
from spectac.recon.types import Array
from spectac.recon.voi import GROUPS, Vois, place

IMAGES = "images"
CLOSE = 0.01
"""Between the correlations of both templates: of 24 virtual patients one comes as close, with VOIs 9 mm off."""
FOCAL = 1.25
"""Striata over cortex above which an image with VOIs from labels is taken as a DAT scan; perfusion shows about 1."""


@dataclass(frozen=True, eq=False)
class Compared:
    """What `compare` leaves besides its files: all it knows, rows of comparison.csv, warnings, lines for the user."""

    comparison: Comparison
    rows: tuple[dict[str, str], ...]
    warnings: tuple[str, ...]
    lines: tuple[str, ...]


def compare(path: Path | Sequence[Path], request: CompareRequest, output: Path) -> Compared:
    """Reconstruct a study with every method and write report.html, comparison.csv, images/ and record.json.

    A method that cannot be used on this study is reported with its reason; where none can, that is an InputError.
    Files appear in `output` when all are written.
    """
    try:
        import skimage.metrics  # noqa: F401 - needed after the long work

        from spectac.app.report.page import render
    except ImportError as error:
        raise InputError(f"the report needs {error.name}: pip install 'spectac[report]'") from None
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: give a folder for the results with -o")
    if (output / IMAGES).exists() and not is_result(output):
        raise InputError(f"{output / IMAGES} is there and no result of spectac: give another folder with -o")
    began = time.perf_counter()
    paths = (path,) if isinstance(path, Path) else tuple(path)
    study = open_given(paths, request.base.given)
    with written_folder(output) as folder:
        comparison = comparison_of(study, paths, request)
        _write_images(folder / IMAGES, comparison)
        rows = tuple(row.as_text() for row in comparison.rows)
        with (folder / "comparison.csv").open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
            writer = csv.DictWriter(stream, Row.COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        (folder / "report.html").write_text(render(comparison), encoding="utf-8")
        (folder / "record.json").write_text(json.dumps(_record(comparison), indent=2) + "\n", encoding="utf-8")
    facts = describe(comparison.study, comparison.projections)
    warnings = (*facts["warnings"], *comparison.warnings)
    lines = [f"note: {text}" for text in warnings]
    for name, made in comparison.made.items():
        lines += [f"note: {name}: {note}" for note in made.result.notes if note not in warnings]
    lines += [f"note: {name} was left out: {reason}" for name, reason in comparison.refused.items()]
    seconds = time.perf_counter() - began
    lines.append(f"{output}: report.html, comparison.csv, images ({seconds:.0f} s)")
    return Compared(comparison, rows, warnings, tuple(lines))


def comparison_of(study: Study, paths: Sequence[Path], request: CompareRequest) -> Comparison:
    """The comparison of a study that was read from `paths`; nothing is written.

    Raises InputError for inputs that do not belong to the study, and where every method is refused.
    """
    base = request.base
    projections = base.projections(study)
    solver = StudySolver(study, projections, Settings(device=base.device))
    beside = known(request, study, projections, solver.grid)
    own = {file: digest for path in paths for file, digest in sha256_of(path).items()}
    normals = {} if request.normals is None else read_normals(request.normals, frozenset(own.values()))
    tables = [] if request.normals is None else normals_files(request.normals)
    sources = [one for one in (request.ct, request.mu_map, *beside.files, *tables) if one is not None]
    inputs = own | {file: digest for one in sources for file, digest in sha256_of(one).items()}
    hide: Callable[[str], str] = str
    told = study
    if request.anonymous:
        named = (*paths, *sources, *map(Path, inputs), request.truth, request.labels, request.normals)
        hide = hider([one for one in named if one is not None and one not in tables], study)
        told, inputs = anonymised(study, hide), without_paths(inputs)
        # Who it is stays for the comparison with the CT's patient; nothing below writes it.
        study = replace(told, patient=study.patient)
    warnings: list[str] = []
    if not solver.scatter_corrected:
        warnings.append(
            "no scatter correction: with a narrow-beam map (predicted, ct, map) brains come out a fifth to a half too "
            "hot; do not read levels from it"
        )
    outline, quick = _quick_look(solver, warnings)
    vois = beside.vois if beside.vois is not None or quick is None else _placed(quick, request.tracer, solver, warnings)
    if vois is not None:
        vois = replace(vois, source=hide(vois.source))
    if vois is not None and request.tracer is None and len(vois.fits) > 1 and np.ptp(list(vois.fits.values())) < CLOSE:
        warnings.append(f"the templates of both tracers fit alike, {vois.tracer} was taken: --tracer says which it is")
    if vois is not None and vois.cut:
        warnings.append(f"the field ends inside of these VOIs: {', '.join(vois.cut)}")
    tracer = request.tracer or (None if vois is None else vois.tracer) or _tracer_of(quick, vois)
    watched, watch = _watching(vois, tracer)

    made: dict[str, Made] = {}
    refused: dict[str, str] = {}
    missing_extras: dict[str, str] = {}
    for name, one in request.requests().items():
        course: list[float] = []
        began = time.perf_counter()
        try:
            result = _solved(study, one, watch, course)
            image = beside.in_kbq(result, study)
        except InputError as error:
            refused[name] = hide(" ".join(str(error).split()))
            if isinstance(error, MissingExtraError):
                missing_extras[name] = error.extra
            continue
        image = replace(image, history=tuple(hide(line) for line in image.history))
        result = replace(result, notes=tuple(hide(note) for note in result.notes))
        # Chang multiplies at the end: his iterations are those of no correction.
        shown = () if result.uncorrected is not None else tuple(course)
        made[name] = Made(one, result, image, time.perf_counter() - began, shown)
    if not made:
        by_reason: dict[str, list[str]] = {}
        for name, reason in refused.items():
            by_reason.setdefault(reason, []).append(name)
        reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())
        raise InputError(f"{paths[0]}: no method could be used: {reasons}")
    uniform = made["uniform"].result.mu if "uniform" in made else None
    for name, one_made in made.items():
        mu = one_made.result.mu
        given = name in ("uniform", "chang", "ct", "map")
        if not given and mu and uniform and np.array_equal(mu.per_cm, uniform.per_cm):
            warnings.append(
                f"{name} used the uniform map here, so that its numbers are those of uniform: see its notes"
            )
    reference = _reference(beside, made, vois, warnings)
    images = {name: one.image for name, one in made.items()}
    in_kbq = any(image.unit == "kBq/mL" for image in images.values())
    if beside.cps_per_kbq is not None and not in_kbq:
        warnings.append("the calibration could not be used: images are not in counts per second")
    rows = measured(images, refused, reference, vois, tracer, outline)
    z = z_rows(rows, normals)
    if normals and not z:
        warnings.append(
            f"no measure of {request.normals} is one of this comparison (method, region, unit): no z-scores"
        )
    return Comparison(
        study=told,
        sources=("study",) if request.anonymous else tuple(str(path.resolve()) for path in paths),
        request=request,
        projections=projections,
        outline=outline,
        made=made,
        refused=refused,
        missing_extras=missing_extras,
        reference=reference,
        vois=vois,
        tracer=tracer,
        rows=(*rows, *z),
        warnings=tuple(hide(line) for line in warnings),
        calibration=hide(f"{beside.cps_per_kbq:.4g} cps per kBq, {beside.scale}") if in_kbq else "",
        cps_per_kbq=beside.cps_per_kbq if in_kbq else None,
        watched=watched,
        study_sha256=tuple(own.values()),
        inputs_sha256=inputs,
    )


def _solved(study: Study, request: Request, watch: Mapping[str, Array], course: list[float]) -> Result:
    """Result of a method; `course` gets the ratio of the two watched VOIs after each iteration."""
    inside = [(np.flatnonzero(voi), voi[voi > 0]) for voi in watch.values()]

    def look(update: Update) -> None:
        # FBP has no updates; a model may reconstruct more than once: the last run is the one shown.
        if update.done == 1:
            course.clear()
        if update.done % (update.total // request.iterations) == 0:
            image = update.image.get() if hasattr(update.image, "get") else update.image
            above, below = (float(image.ravel()[where] @ weights / weights.sum()) for where, weights in inside)
            course.append(above / below if below > 0 else float("nan"))

    return solve(study, request, look if watch else None)


def _watching(vois: Vois | None, tracer: str | None) -> tuple[str, Mapping[str, Array]]:
    """The ratio whose course over the iterations is shown, in words, and its two VOIs; nothing without VOIs."""
    wanted = ("striata", "reference") if tracer == "dat" else ("cortex", "white matter")
    if vois is None or not set(wanted) <= set(vois.masks):
        return "", {}
    return f"{wanted[0]} over {wanted[1]}", {name: vois.masks[name] for name in wanted}


def _quick_look(solver: StudySolver, warnings: list[str]) -> tuple[Outline | None, Image | None]:
    """The head's outline as the uniform map has it, and a quick image with that map; None where they fail."""
    try:
        mu, _ = uniform_map(solver, None, None)
        inside = (mu.per_cm / mu.per_cm.max()).astype(np.float32)
        return Outline(inside, mu.grid), solver.preview(mu=mu)
    except InputError as error:
        warnings.append(f"the head's outline was not found, and no VOI placed without labels: {error}")
        return None, None


def _placed(quick: Image, tracer: str | None, solver: StudySolver, warnings: list[str]) -> Vois | None:
    try:
        return place(quick, tracer, solver.grid)
    except InputError as error:
        warnings.append(str(error))
        return None


def _tracer_of(image: Image | None, vois: Vois | None) -> str | None:
    """What an image with VOIs from labels shows; None where that cannot be told."""
    if image is None or vois is None or not {"striata", "cortex"} <= set(vois.masks):
        return None
    values = resample(image.values, image.grid, vois.grid)
    focal = voi_mean(values, vois.masks["striata"]) > FOCAL * voi_mean(values, vois.masks["cortex"])
    return "dat" if focal else "perfusion"


def _reference(beside: Known, made: Mapping[str, Made], vois: Vois | None, warnings: list[str]) -> Reference | None:
    """What differences are taken to: the truth, else the CT's image."""
    ct = Reference("ct", made["ct"].image) if "ct" in made else None
    truth, unit = beside.truth, next(iter(made.values())).image.unit
    if truth is None:
        return ct
    if truth.unit == unit:
        return Reference("truth", truth, own=beside.own_truth, own_vois=beside.own_vois)
    brain = None if vois is None else vois.masks.get("brain")
    if brain is None or not voi_mean(truth.values, brain) > 0:
        warnings.append(f"the truth is in {truth.unit}, the images in {unit}, and no VOI tells the scale: not compared")
        return ct
    # Their levels cannot be compared, but their shapes can: the truth is brought to a corrected image's level.
    by = next((name for name in ("ct", "map", "predicted", "uniform", "chang") if name in made), next(iter(made)))
    scale = voi_mean(made[by].image.values, brain) / voi_mean(truth.values, brain)
    warnings.append(
        f"the truth is in {truth.unit}, the images in {unit}: it was scaled to the brain's mean of {by}, "
        "so that levels say nothing about it; --calibration compares them"
    )
    return Reference("truth", replace(truth, values=truth.values * np.float32(scale), unit=unit), scaled=True)


def _write_images(folder: Path, comparison: Comparison) -> None:
    """METHOD.nii.gz, METHOD_mu.nii.gz and vois.nii.gz."""
    folder.mkdir()
    for name, made in comparison.made.items():
        about = bids_keys(comparison.study, made.result, made.request.parameters())
        write_image(folder / f"{name}.nii.gz", made.image, about)
        if made.result.mu is not None:
            write_mu_map(folder / f"{name}_mu.nii.gz", made.result.mu)
    if comparison.vois is not None:
        _write_vois(folder / "vois.nii.gz", comparison.vois)


def _write_vois(path: Path, vois: Vois) -> None:
    """The VOIs that are no union of others as labels, each voxel with the one that has most of it."""
    parts = [name for name, of in GROUPS.items() if of == (name,) and name in vois.masks]
    names = parts or [name for name in vois.masks if not name.endswith(" box")]
    most = np.full(vois.grid.shape, 0.25, np.float32)
    labels = np.zeros(vois.grid.shape, np.uint8)
    for label, name in enumerate(names, 1):
        share = vois.masks[name]
        labels[share > most] = label
        most = np.maximum(most, share)
    write_labels(path, labels, vois.grid, dict(enumerate(names, 1)))


def _record(comparison: Comparison) -> dict[str, Any]:
    """Content of record.json."""
    anonymous = comparison.request.anonymous
    shown: Callable[[Mapping[str, Any]], Mapping[str, Any]] = hidden if anonymous else dict
    request = asdict(comparison.request)
    paths = {name: "given" if anonymous else str(path) for name, path in request.items() if isinstance(path, Path)}
    return {
        "inputs_sha256": dict(comparison.inputs_sha256),
        "study_sha256": list(comparison.study_sha256),
        "request": request | paths | {"base": shown(request["base"])},
        "study": describe(comparison.study, comparison.projections),
        "tracer": comparison.tracer,
        "vois": None if comparison.vois is None else comparison.vois.source,
        "reference": None if comparison.reference is None else comparison.reference.name,
        "methods": {
            name: {
                "parameters": shown(made.request.parameters()),
                "device": made.result.device,
                "seconds": round(made.seconds, 3),
                "notes": list(made.result.notes),
            }
            for name, made in comparison.made.items()
        },
        "refused": dict(comparison.refused),
        "missing_extras": dict(comparison.missing_extras),
        "calibration": comparison.calibration,
        "warnings": list(comparison.warnings),
        "versions": versions(),
    }
