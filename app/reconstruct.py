"""`spectac reconstruct`: one study into a folder of results."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spectac.app.options import Output, StudyPaths
from spectac.app.outputs import check_results
from spectac.app.progress import progress_bar
from spectac.app.record import parameters_of, record, sha256_of
from spectac.recon import AttenuationModel, InputError, ReconstructionSettings, Result, Study, StudySettings, Update
from spectac.recon.io import open_study
from spectac.recon.io.atomic import written_folder
from spectac.recon.io.dicom import nm as dicom_nm
from spectac.recon.io.nifti import write_image, write_mu_map
from spectac.recon.io.sidecar import bids_keys
from spectac.recon.low_counts import noise_spread
from spectac.recon.pipeline import StudySolver
from spectac.recon.settings import LOW_COUNTS, AttenuationSettings

MAPS = ("mu_map", "mu_spread", "image_spread", "noise_spread")
"""Images that only some results have. Those of an earlier run would pass for this image's."""
FILES = (
    "image.dcm", "record.json", *(f"{name}{end}" for name in ("image", *MAPS) for end in (".nii.gz", ".json")),
)  # fmt: skip


def reconstruct(
    study: StudyPaths,
    output: Output,
    given: StudySettings,
    attenuation: AttenuationSettings,
    settings: ReconstructionSettings,
) -> list[str]:
    """Reconstruct and write image.nii.gz, image.dcm, mu_map.nii.gz (where a map was used), record.json into `output`.

    Where a map was estimated mu_spread.nii.gz and image_spread.nii.gz are there as well, noise_spread.nii.gz where the
    noise is known. They appear when all are written.
    Returns lines for the user.
    """
    model = attenuation.model()
    inputs = [*study, *attenuation.inputs(), *settings.files().values()]
    check_results(output, "the results", FILES, inputs)
    if settings.holder is not None and attenuation.attenuation == "none":
        raise InputError("--holder belongs to attenuation models with a map: give another --attenuation than none")
    if settings.low_counts not in LOW_COUNTS and attenuation.attenuation in ("none", "chang"):
        raise InputError(
            f"--low-counts {settings.low_counts} belongs to attenuation models with a map, not to "
            f"{attenuation.attenuation}: give another --attenuation, or --low-counts map"
        )
    opened = open_study(study, given)
    dicom_nm.check_header(opened)
    solver = StudySolver(opened, settings)
    digests = sha256_of(inputs)
    # The folder is made first: a place that cannot be written to is found before the long work.
    with written_folder(output, stale=FILES) as folder:
        began = time.perf_counter()
        result = with_progress(solver, model)
        seconds = time.perf_counter() - began
        parameters = parameters_of(given, attenuation, settings, result)
        _write(folder, opened, result, parameters)
        content = record(digests, parameters, opened, result, seconds)
        (folder / "record.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        names = sorted(path.name for path in folder.iterdir())
    lines = [f"note: {note}" for note in result.notes]
    return [*lines, f"{output}: {', '.join(names)} ({seconds:.1f} s)"]


def _write(folder: Path, study: Study, result: Result, parameters: Mapping[str, Any]) -> None:
    """The image as NIfTI and DICOM, and the maps."""
    write_image(folder / "image.nii.gz", result.image, bids_keys(study, result, parameters))
    dicom_nm.write_image(
        folder / "image.dcm",
        result.image,
        study=study,
        description=described(parameters["attenuation"], result),
        corrected=corrected_terms(study, result),
        photopeak=None if result.projections is None else result.projections.photopeak,
    )
    for name, mu in (("mu_map", result.mu), ("mu_spread", result.mu_spread)):
        if mu is not None:
            write_mu_map(folder / f"{name}.nii.gz", mu)
    spreads = {"image_spread": result.spread, "noise_spread": noise_spread(result.repeats) if result.repeats else None}
    for name, spread in spreads.items():
        if spread is not None:
            write_image(folder / f"{name}.nii.gz", spread)


def described(attenuation: str, result: Result) -> str:
    """How an image was made, in the 64 letters of DICOM."""
    way = result.low_counts.method
    return f"spectac {result.algorithm}, attenuation {attenuation}" + ("" if way == "none" else f", low counts {way}")


def with_progress(solver: StudySolver, model: AttenuationModel, also: Callable[[Update], None] | None = None) -> Result:
    """Result of a model with a progress bar; `also` is called after every subset's update."""
    with progress_bar(f"{solver.settings.algorithm}, attenuation {model.name}") as move:

        def on_update(update: Update) -> None:
            move(update)
            if also is not None:
                also(update)

        return solver.corrected(model, on_update)


def corrected_terms(study: Study, result: Result) -> list[str]:
    """DICOM's terms (CorrectedImage) for what the reconstruction corrected."""
    scattered = result.projections is not None and result.projections.scatter is not None
    done = {"ATTN": result.mu is not None, "SCAT": scattered, "DECY": study.acquisition.times_known}
    return [term for term, corrected in done.items() if corrected]
