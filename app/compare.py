"""`spectac compare`: every attenuation model on one study, measured against each other, with a report."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spectac.app.ancillary import Scale, read_ancillary
from spectac.app.anonymous import anonymous_comparison, hider_of
from spectac.app.compare_files import FILES, write_comparison
from spectac.app.comparison import CompareRequest, Comparison, MethodResult, Refusal
from spectac.app.measures import measured, noise_rows, reference_of, uncertainty_rows
from spectac.app.normals import normals_files, read_normals, z_rows
from spectac.app.options import Output, StudyPaths
from spectac.app.outputs import check_results
from spectac.app.reconstruct import with_progress
from spectac.app.record import sha256_of, sha256_of_study
from spectac.app.regions import Regions, find_regions
from spectac.recon import Image, InputError, ReconstructionSettings, Study, StudySettings, Update
from spectac.recon.errors import MissingExtraError
from spectac.recon.io import open_study
from spectac.recon.io.atomic import written_folder
from spectac.recon.pipeline import StudySolver
from spectac.recon.settings import ComparisonSettings

NO_SCATTER = (
    "no scatter correction: with a narrow-beam map (predicted, ct, map) brains come out a fifth to a half too hot; do "
    "not read levels from it, or correct with --scatter montecarlo"
)


@dataclass(frozen=True, eq=False)
class Compared:
    """Outcome of `compare` beside its files: the comparison, and lines for the user."""

    comparison: Comparison
    lines: tuple[str, ...]


def check_packages() -> None:
    """MissingExtraError where a package that the report needs is not installed."""
    try:
        import skimage.metrics  # noqa: F401

        import spectac.app.report.page  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"the report needs {error.name}", "report") from None


def compare(
    study: StudyPaths,
    output: Output,
    given: StudySettings,
    comparison: ComparisonSettings,
    settings: ReconstructionSettings,
) -> tuple[str, ...]:
    """Compare the methods on one study (see compare_study); lines for the user."""
    return compare_study(study, CompareRequest(given, settings, comparison), output).lines


def compare_study(
    path: Path | Sequence[Path], request: CompareRequest, output: Path, *, notes: Iterable[str] = ()
) -> Compared:
    """Reconstruct a study with every method and write report.html, comparison.csv, images/ and record.json.

    A method that cannot be used on this study is reported with its reason; where none can, that is an InputError.
    `notes` are warnings that stand with those of the study. Files appear in `output` when all are written.
    """
    check_packages()
    request.comparison.models()
    paths = (path,) if isinstance(path, Path) else tuple(path)
    check_results(output, "the results", FILES, [*paths, *request.files()])
    began = time.perf_counter()
    study = open_study(paths, request.study)
    study = replace(study, warnings=(*study.warnings, *notes))
    with written_folder(output) as folder:
        comparison = comparison_of(study, paths, request)
        write_comparison(folder, comparison)
    lines = [f"note: {text}" for text in comparison.all_warnings]
    for name, method in comparison.methods.items():
        lines += [f"note: {name}: {note}" for note in method.result.notes if note not in comparison.all_warnings]
    lines += [f"note: {name} was left out: {refusal.reason}" for name, refusal in comparison.refused.items()]
    seconds = time.perf_counter() - began
    return Compared(comparison, (*lines, f"{output}: report.html, comparison.csv, images ({seconds:.0f} s)"))


def comparison_of(study: Study, paths: Sequence[Path], request: CompareRequest) -> Comparison:
    """Comparison of a study that was read from `paths`; nothing is written.

    Raises InputError for inputs that do not belong to the study, and where every method is refused.
    """
    # The calibration divides all images alike, also those that a reconstruction would refuse to divide.
    asked = request.comparison
    solver = StudySolver(study, replace(request.reconstruction, calibration=None))
    ancillary = read_ancillary(solver, asked.truth, asked.labels, request.reconstruction.calibration)
    study_sha256 = sha256_of_study(study)
    normals, unlike = (
        ({}, []) if asked.normals is None else read_normals(asked.normals, study_sha256, request.reconstruction)
    )
    tables = [] if asked.normals is None else normals_files(asked.normals)
    settings = request.reconstruction.files()
    named = (asked.ct, asked.mu_map, settings.get("holder"), settings.get("low_counts_weights"), *ancillary.files)
    files = [path for path in named if path is not None]
    hide = hider_of(request, [*paths, *files], study) if asked.anonymous else str
    regions = find_regions(solver, ancillary.vois, asked.tracer)
    methods, refused = _run_methods(solver, request, ancillary.scale, regions)
    if not methods:
        raise InputError(f"{paths[0]}: no method could be used: {hide(_reasons(refused))}")
    images = {name: method.image for name, method in methods.items()}
    reference, reference_warnings = reference_of(ancillary.truth, images, regions)
    rows = measured(images, {name: refusal.reason for name, refusal in refused.items()}, reference, regions)
    spreads = {name: one.result.spread for name, one in methods.items() if one.result.spread is not None}
    rows += uncertainty_rows(spreads, regions.vois)
    rows += noise_rows({name: _repeats(one, ancillary.scale) for name, one in methods.items()}, regions)
    z = z_rows(rows, normals)
    beside, without = _as_counted(solver, request, methods, ancillary.scale)
    # With noise of another kind it is compared with no reference.
    rows += measured({name: one.image for name, one in beside.items()}, {}, None, regions)
    warnings = [] if solver.scatter_corrected else [NO_SCATTER]
    warnings += [*regions.warnings, *_fallback_warnings(methods), *_low_counts_warnings(methods), *reference_warnings]
    warnings += [*without, *unlike]
    scale = ancillary.scale if any(image.unit == "kBq/mL" for image in images.values()) else None
    if ancillary.scale is not None and scale is None:
        warnings.append("the calibration could not be used: images are not in counts per second")
    if normals and not z:
        warnings.append(f"no measure of {asked.normals} is one of this comparison (method, region, unit): no z-scores")
    comparison = Comparison(
        study=study,
        sources=tuple(str(path.resolve()) for path in paths),
        request=request,
        projections=solver.photopeak,
        regions=regions,
        methods=methods | beside,
        refused=refused,
        reference=reference,
        rows=(*rows, *z),
        warnings=tuple(warnings),
        scale=scale,
        study_sha256=study_sha256,
        inputs_sha256=sha256_of([*paths, *files, *tables]),
    )
    return anonymous_comparison(comparison, hide) if asked.anonymous else comparison


def _run_methods(
    solver: StudySolver, request: CompareRequest, scale: Scale | None, regions: Regions
) -> tuple[dict[str, MethodResult], dict[str, Refusal]]:
    """Results and refusals by method, in the order of the request."""
    models = request.comparison.models()
    iterations = request.reconstruction.iterations
    methods: dict[str, MethodResult] = {}
    refused: dict[str, Refusal] = {}
    # Chang takes the image without correction: the method none computes it first, so that its course is seen.
    for name in sorted(models, key=lambda name: name != "none"):
        course: list[float] = []
        began = time.perf_counter()
        try:
            result = with_progress(solver, models[name].model(), _course_recorder(regions, iterations, course))
            image = result.image if scale is None else scale.in_kbq(result, solver.study)
        except InputError as error:
            extra = error.extra if isinstance(error, MissingExtraError) else None
            refused[name] = Refusal(" ".join(str(error).split()), extra)
            continue
        seconds = time.perf_counter() - began + solver.borrowed_s
        # Chang multiplies at the end: his iterations are those of no correction.
        shown = () if result.uncorrected is not None else tuple(course)
        methods[name] = MethodResult(models[name], request.reconstruction, result, image, seconds, shown)
    return (
        {name: methods[name] for name in models if name in methods},
        {name: refused[name] for name in models if name in refused},
    )


def _as_counted(
    solver: StudySolver, request: CompareRequest, methods: Mapping[str, MethodResult], scale: Scale | None
) -> tuple[dict[str, MethodResult], list[str]]:
    """The predicted map, else the last method with a map, once more with a filter instead of `low_counts`.

    Nothing where `low_counts` treated none; a warning alone where the model refuses.
    """
    treated = [name for name, one in methods.items() if one.result.low_counts.method != "none"]
    if not treated:
        return {}, []
    mapped = [name for name in treated if methods[name].result.mu is not None]
    name = "predicted" if "predicted" in mapped else (mapped or treated)[-1]
    like, plain, settings = methods[name], solver.without_low_counts(), request.reconstruction.without_low_counts()
    began = time.perf_counter()
    try:
        result = with_progress(plain, like.attenuation.model(), None)
    except InputError as error:
        return {}, [f"{name} was not reconstructed without low counts, to compare with: {error}"]
    text = f"to compare with {name}: --low-counts none --post-filter {settings.post_filter}"
    result = replace(result, notes=(*result.notes, text))
    image = result.image if scale is None else scale.in_kbq(result, solver.study)
    seconds = time.perf_counter() - began + plain.borrowed_s
    beside = MethodResult(like.attenuation, settings, result, image, seconds, (), beside=name)
    return {f"{name}-as-counted": beside}, []


def _course_recorder(regions: Regions, iterations: int, course: list[float]) -> Callable[[Update], None] | None:
    """Function that is called after every update, and writes the watched ratio after each iteration into `course`."""
    masks = [mask for name in regions.watched if (mask := regions.voi(name)) is not None]
    inside = [(np.flatnonzero(mask), mask[mask > 0]) for mask in masks]

    def record(update: Update) -> None:
        if update.purpose == "scatter":
            return
        # A model may reconstruct more than once: the last run is the one shown.
        if update.done == 1:
            course.clear()
        if update.done % (update.total // iterations) == 0:
            image = update.image.get() if hasattr(update.image, "get") else update.image
            above, below = (float(image.ravel()[where] @ weights / weights.sum()) for where, weights in inside)
            course.append(above / below if below > 0 else float("nan"))

    return record if inside else None


def _reasons(refused: Mapping[str, Refusal]) -> str:
    """Each reason once, after the names of the methods that it refuses."""
    names: dict[str, list[str]] = {}
    for name, refusal in refused.items():
        names.setdefault(refusal.reason, []).append(name)
    return "; ".join(f"{', '.join(of)}: {reason}" for reason, of in names.items())


def _repeats(method: MethodResult, scale: Scale | None) -> list[Image]:
    """Images of a method's repeated scans in the unit of its image."""
    per_kbq = 1.0 if scale is None or method.image.unit != "kBq/mL" else scale.cps_per_kbq
    return [replace(one, values=one.values / per_kbq, unit=method.image.unit) for one in method.result.repeats]


def _low_counts_warnings(methods: Mapping[str, MethodResult]) -> list[str]:
    ways: dict[str, list[str]] = {}
    for name, method in methods.items():
        ways.setdefault(method.result.low_counts.method, []).append(name)
    if len(ways) < 2:
        return []
    listed = "; ".join(f"{way}: {', '.join(names)}" for way, names in ways.items())
    return [f"the noise was not treated alike, so that resolutions differ as well as attenuation (low counts {listed})"]


def _fallback_warnings(methods: Mapping[str, MethodResult]) -> list[str]:
    return [
        f"{name} used the {method.result.fallback} map here, so that its numbers are those of "
        f"{method.result.fallback}: see its notes"
        for name, method in methods.items()
        if method.result.fallback is not None
    ]
