"""One reconstruction from an opened study to a folder of results."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from spectac.app.progress import progress_bar
from spectac.app.record import record
from spectac.recon import (
    AttenuationModel,
    InputError,
    Projections,
    RelativeDifferencePrior,
    Result,
    Study,
    Update,
    attenuation_model,
)
from spectac.recon.backprojection import RampWindow, parse_filter
from spectac.recon.calibration import read_calibration
from spectac.recon.filters import parse_post_filter
from spectac.recon.io.atomic import written_folder
from spectac.recon.io.dicom import nm as dicom_nm
from spectac.recon.io.nifti import write_image, write_mu_map
from spectac.recon.io.sidecar import bids_keys
from spectac.recon.pipeline import Settings, StudySolver
from spectac.recon.scatter import projections


@dataclass(frozen=True)
class Request:
    """What the user asked of `spectac reconstruct`; `given` holds options that replace what the study's files say."""

    attenuation: str = "none"
    attenuation_options: Mapping[str, str] = field(default_factory=dict)
    photopeak: str | None = None
    algorithm: str = "osem"
    iterations: int = 10
    subsets: int = 10
    prior_beta: float | None = None
    fbp_filter: str | None = None
    scatter: str = "auto"
    dew_k: float | None = None
    scatter_windows: str | None = None
    resolution: bool = True
    post_filter: str | None = None
    calibration: str | None = None
    device: str = "auto"
    given: Mapping[str, object] = field(default_factory=dict)

    def check(self) -> None:
        """InputError where settings do not fit each other, whatever the attenuation and the device."""
        prior = None if self.prior_beta is None else RelativeDifferencePrior(self.prior_beta)
        fbp_filter = None if self.fbp_filter is None else parse_filter(self.fbp_filter)
        Settings(self.algorithm, self.iterations, self.subsets, self.resolution, prior, fbp_filter, "cpu")
        if self.post_filter is not None:
            parse_post_filter(self.post_filter)

    def with_option(self, key: str, value: str) -> "Request":
        """The same with an option of the attenuation model."""
        return replace(self, attenuation_options={**self.attenuation_options, key: value})

    def projections(self, study: Study) -> Projections:
        """The photopeak projections that are reconstructed, with their scatter."""
        return projections(study, self.scatter, self.photopeak, dew_k=self.dew_k, scatter_windows=self.scatter_windows)

    def parameters(self) -> dict[str, object]:
        """Parameters for record.json: those that the algorithm does not use are None."""
        values = asdict(self)
        if self.algorithm == "fbp":
            values |= {"iterations": None, "subsets": None, "resolution": None}
            values["fbp_filter"] = RampWindow().name if self.fbp_filter is None else self.fbp_filter
        if self.algorithm == "mlem":
            values["subsets"] = 1
        return values


def solver_of(study: Study, request: Request) -> StudySolver:
    """Solver of a study with the settings of a request; it serves one attenuation model or several."""
    settings = Settings(
        request.algorithm,
        request.iterations,
        request.subsets,
        request.resolution,
        None if request.prior_beta is None else RelativeDifferencePrior(request.prior_beta),
        None if request.fbp_filter is None else parse_filter(request.fbp_filter),
        request.device,
    )
    return StudySolver(study, request.projections(study), settings)


def solve(
    solver: StudySolver,
    request: Request,
    also: Callable[[Update], None] | None = None,
    *,
    model: AttenuationModel | None = None,
) -> Result:
    """Result of a request, with a progress bar; `also` is called after every subset's update.

    `solver` has the settings of the request; `model` replaces the attenuation model that the request names.
    """
    if model is None:
        model = attenuation_model(request.attenuation, request.attenuation_options)
    post_filter = None if request.post_filter is None else parse_post_filter(request.post_filter)
    with progress_bar(f"{request.algorithm}, attenuation {request.attenuation}") as move:

        def on_update(update: Update) -> None:
            move(update)
            if also is not None:
                also(update)

        return solver.corrected(model, post_filter, on_update)


def _corrected(study: Study, result: Result) -> list[str]:
    """DICOM's terms (CorrectedImage) for what the reconstruction corrected."""
    scattered = result.projections is not None and result.projections.scatter is not None
    done = {"ATTN": result.mu is not None, "SCAT": scattered, "DECY": study.acquisition.times_known}
    return [term for term, corrected in done.items() if corrected]


def run(study: Study, request: Request, output: Path, inputs: list[Path]) -> list[str]:
    """Reconstruct and write image.nii.gz, image.dcm, mu_map.nii.gz (where a map was used), record.json into `output`.

    Where a map was estimated mu_spread.nii.gz is there as well. They appear when all are written, record.json last.
    Returns lines for the user.
    """
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: give a folder for the results with -o")
    calibration = None if request.calibration is None else read_calibration(request.calibration)
    if calibration is not None:
        calibration.check(study, request.photopeak)
        calibration.check_corrections(request.projections(study).scatter_method, request.attenuation)
    dicom_nm.check_header(study)
    # The folder is made first: a place that cannot be written to is found before the long work.
    with written_folder(output) as folder:
        began = time.perf_counter()
        result = solve(solver_of(study, request), request)
        seconds = time.perf_counter() - began
        if calibration is not None:
            result = replace(result, image=calibration.applied(result, study))
        content = record(inputs, request.parameters(), study, result, seconds)
        about = bids_keys(study, result, request.parameters())
        write_image(folder / "image.nii.gz", result.image, about)
        described = f"spectac {request.algorithm}, attenuation {request.attenuation}"
        dicom_nm.write_image(
            folder / "image.dcm",
            result.image,
            study=study,
            description=described,
            corrected=_corrected(study, result),
            photopeak=None if result.projections is None else result.projections.photopeak,
        )
        if result.mu is not None:
            write_mu_map(folder / "mu_map.nii.gz", result.mu)
        if result.mu_spread is not None:
            write_mu_map(folder / "mu_spread.nii.gz", result.mu_spread)
        (folder / "record.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        names = sorted(path.name for path in folder.iterdir())
    # The map of an earlier run would pass for this image's.
    for stale in {f"{map_}{end}" for map_ in ("mu_map", "mu_spread") for end in (".nii.gz", ".json")} - set(names):
        (output / stale).unlink(missing_ok=True)
    lines = [f"note: {note}" for note in result.notes]
    return [*lines, f"{output}: {', '.join(names)} ({seconds:.1f} s)"]
