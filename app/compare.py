"""`spectac compare`: every attenuation model on one study, measured against each other, with a report."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spectac.app.ancillary import Ancillary, Scale, read_ancillary
from spectac.app.anonymous import anonymised, hider, without_paths
from spectac.app.compare_files import IMAGES, write_comparison
from spectac.app.comparison import CompareRequest, Comparison, MethodResult, Refusal
from spectac.app.measures import Row, measured
from spectac.app.normals import Normals, normals_files, read_normals, z_rows
from spectac.app.options import open_given
from spectac.app.record import sha256_of
from spectac.app.reference import reference_of
from spectac.app.regions import Regions, find_regions
from spectac.app.run import solve, solver_of
from spectac.recon import InputError, Study, Update
from spectac.recon.errors import MissingExtraError
from spectac.recon.io.atomic import is_result, written_folder
from spectac.recon.pipeline import StudySolver


@dataclass(frozen=True, eq=False)
class Compared:
    """Outcome of `compare` beside its files: the comparison, all warnings, and lines for the user."""

    comparison: Comparison
    warnings: tuple[str, ...]
    lines: tuple[str, ...]


def check_packages() -> None:
    """MissingExtraError where a package that the report needs is not installed."""
    try:
        import skimage.metrics  # noqa: F401

        import spectac.app.report.page  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"the report needs {error.name}", "report") from None


def compare(path: Path | Sequence[Path], request: CompareRequest, output: Path) -> Compared:
    """Reconstruct a study with every method and write report.html, comparison.csv, images/ and record.json.

    A method that cannot be used on this study is reported with its reason; where none can, that is an InputError.
    Files appear in `output` when all are written.
    """
    check_packages()
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: give a folder for the results with -o")
    if (output / IMAGES).exists() and not is_result(output):
        raise InputError(f"{output / IMAGES} is there and no result of spectac: give another folder with -o")
    began = time.perf_counter()
    paths = (path,) if isinstance(path, Path) else tuple(path)
    study = open_given(paths, request.base.given)
    with written_folder(output) as folder:
        comparison = comparison_of(study, paths, request)
        write_comparison(folder, comparison)
    warnings = (*comparison.facts["warnings"], *comparison.warnings)
    lines = [f"note: {text}" for text in warnings]
    for name, method in comparison.methods.items():
        lines += [f"note: {name}: {note}" for note in method.result.notes if note not in warnings]
    lines += [f"note: {name} was left out: {refusal.reason}" for name, refusal in comparison.refused.items()]
    seconds = time.perf_counter() - began
    lines.append(f"{output}: report.html, comparison.csv, images ({seconds:.0f} s)")
    return Compared(comparison, warnings, tuple(lines))


def comparison_of(study: Study, paths: Sequence[Path], request: CompareRequest) -> Comparison:
    """Comparison of a study that was read from `paths`; nothing is written.

    Raises InputError for inputs that do not belong to the study, and where every method is refused.
    """
    solver = solver_of(study, request.base)
    ancillary = read_ancillary(solver, request.truth, request.labels, request.base.calibration)
    sources = _read_sources(study, paths, request, ancillary)
    hide = sources.hide
    if request.anonymous:
        # The patient stays for the comparison with the CT's; nothing below writes it.
        solver = solver_of(replace(sources.study, patient=study.patient), request.base)
    vois = None if ancillary.vois is None else replace(ancillary.vois, source=hide(ancillary.vois.source))
    regions = find_regions(solver, vois, request.tracer)
    methods, refused = _run_methods(solver, request, ancillary.scale, regions, hide)
    if not methods:
        raise InputError(f"{paths[0]}: no method could be used: {_reasons(refused)}")
    images = {name: method.image for name, method in methods.items()}
    reference, reference_warnings = reference_of(ancillary.truth, images, regions)
    rows = measured(images, {name: refusal.reason for name, refusal in refused.items()}, reference, regions)
    z = z_rows(rows, sources.normals)
    in_kbq = any(image.unit == "kBq/mL" for image in images.values())
    scale = ancillary.scale
    warnings = [
        *_scatter_warnings(solver),
        *regions.warnings,
        *_fallback_warnings(methods),
        *reference_warnings,
        *_unused_warnings(request, z, unused_scale=scale is not None and not in_kbq),
    ]
    return Comparison(
        study=sources.study,
        sources=("study",) if request.anonymous else tuple(str(path.resolve()) for path in paths),
        request=request,
        projections=solver.projections,
        regions=regions,
        methods=methods,
        refused=refused,
        reference=reference,
        rows=(*rows, *z),
        warnings=tuple(hide(line) for line in warnings),
        scale=replace(scale, source=hide(scale.source)) if scale is not None and in_kbq else None,
        study_sha256=sources.study_sha256,
        inputs_sha256=sources.inputs_sha256,
    )


@dataclass(frozen=True, eq=False)
class _Sources:
    """Study as it may be shown, values of healthy subjects, digests of all files read, and what hides their names."""

    study: Study
    normals: Normals
    study_sha256: tuple[str, ...]
    inputs_sha256: Mapping[str, str]
    hide: Callable[[str], str] = str


def _read_sources(study: Study, paths: Sequence[Path], request: CompareRequest, ancillary: Ancillary) -> _Sources:
    study_sha256 = _digests(paths)
    own = tuple(study_sha256.values())
    normals = {} if request.normals is None else read_normals(request.normals, frozenset(own))
    tables = [] if request.normals is None else normals_files(request.normals)
    given = [path for path in (request.ct, request.mu_map, *ancillary.files) if path is not None]
    inputs = study_sha256 | _digests([*given, *tables])
    if not request.anonymous:
        return _Sources(study, normals, own, inputs)
    named = {*paths, *given, *map(Path, inputs), request.truth, request.labels, request.normals} - {*tables, None}
    hide = hider([path for path in named if path is not None], study)
    return _Sources(anonymised(study, hide), normals, own, without_paths(inputs), hide)


def _digests(paths: Iterable[Path]) -> dict[str, str]:
    return {file: digest for path in paths for file, digest in sha256_of(path).items()}


def _run_methods(
    solver: StudySolver,
    request: CompareRequest,
    scale: Scale | None,
    regions: Regions,
    hide: Callable[[str], str],
) -> tuple[dict[str, MethodResult], dict[str, Refusal]]:
    """Results and refusals by method, in the order of the request."""
    requests = request.requests()
    methods: dict[str, MethodResult] = {}
    refused: dict[str, Refusal] = {}
    # Chang takes the image without correction: the method none computes it first, so that its course is seen.
    for name in sorted(requests, key=lambda name: name != "none"):
        one = requests[name]
        course: list[float] = []
        began = time.perf_counter()
        try:
            result = solve(solver, one, _course_recorder(regions, one.iterations, course))
            image = result.image if scale is None else scale.in_kbq(result, solver.study)
        except InputError as error:
            extra = error.extra if isinstance(error, MissingExtraError) else None
            refused[name] = Refusal(hide(" ".join(str(error).split())), extra)
            continue
        seconds = time.perf_counter() - began + solver.borrowed_s
        image = replace(image, history=tuple(hide(line) for line in image.history))
        result = replace(result, notes=tuple(hide(note) for note in result.notes))
        # Chang multiplies at the end: his iterations are those of no correction.
        shown = () if result.uncorrected is not None else tuple(course)
        methods[name] = MethodResult(one, result, image, seconds, shown)
    return (
        {name: methods[name] for name in requests if name in methods},
        {name: refused[name] for name in requests if name in refused},
    )


def _course_recorder(regions: Regions, iterations: int, course: list[float]) -> Callable[[Update], None] | None:
    """Function that is called after every update, and writes the watched ratio after each iteration into `course`."""
    if regions.watched is None or regions.vois is None:
        return None
    masks = [regions.vois.masks[name] for name in regions.watched]
    inside = [(np.flatnonzero(mask), mask[mask > 0]) for mask in masks]

    def record(update: Update) -> None:
        # A model may reconstruct more than once: the last run is the one shown.
        if update.done == 1:
            course.clear()
        if update.done % (update.total // iterations) == 0:
            image = update.image.get() if hasattr(update.image, "get") else update.image
            above, below = (float(image.ravel()[where] @ weights / weights.sum()) for where, weights in inside)
            course.append(above / below if below > 0 else float("nan"))

    return record


def _reasons(refused: Mapping[str, Refusal]) -> str:
    """Each reason once, after the names of the methods that it refuses."""
    names: dict[str, list[str]] = {}
    for name, refusal in refused.items():
        names.setdefault(refusal.reason, []).append(name)
    return "; ".join(f"{', '.join(of)}: {reason}" for reason, of in names.items())


def _scatter_warnings(solver: StudySolver) -> list[str]:
    if solver.scatter_corrected:
        return []
    return [
        "no scatter correction: with a narrow-beam map (predicted, ct, map) brains come out a fifth to a half too "
        "hot; do not read levels from it"
    ]


def _fallback_warnings(methods: Mapping[str, MethodResult]) -> list[str]:
    fallbacks = {name: method.result.fallback for name, method in methods.items()}
    return [
        f"{name} used the {fallback} map here, so that its numbers are those of {fallback}: see its notes"
        for name, fallback in fallbacks.items()
        if fallback is not None
    ]


def _unused_warnings(request: CompareRequest, z: Sequence[Row], *, unused_scale: bool) -> list[str]:
    warnings = []
    if unused_scale:
        warnings.append("the calibration could not be used: images are not in counts per second")
    if request.normals is not None and not z:
        warnings.append(
            f"no measure of {request.normals} is one of this comparison (method, region, unit): no z-scores"
        )
    return warnings
