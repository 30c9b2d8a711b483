"""`spectac predict`: a study's attenuation map from its projections alone."""

from pathlib import Path
from typing import Annotated, Any

import typer

from spectac.app.options import Only, StudyPaths
from spectac.app.outputs import check_output
from spectac.recon import InputError, ReconstructionSettings
from spectac.recon.io import open_study
from spectac.recon.io.nifti import write_mu_map
from spectac.recon.pipeline import StudySolver
from spectac.recon.settings import StudySettings


def predict(
    study: StudyPaths,
    output: Annotated[Path, typer.Option("--output", "-o", help="NIfTI file for the map.")],
    given: StudySettings,
    chosen: Annotated[ReconstructionSettings, Only(("photopeak", "holder"))],
    weights: Annotated[Path | None, typer.Option(help="Weights from spectac train; default: the shipped ones.")] = None,
    fallback: Annotated[
        bool, typer.Option("--fallback/--no-fallback", help="Give a uniform map where none can be predicted, or fail.")
    ] = True,
) -> list[str]:
    """Write the map that `predicted` estimates for a study as NIfTI, its spread beside it; lines for the user."""
    from spectac.learned.plugin import build

    if not output.name.endswith((".nii", ".nii.gz")) or output.name.count(".nii") > 1:
        raise InputError(f"{output}: the map is written as NIfTI: give a name that ends in .nii.gz")
    stem, ending = output.name.split(".nii")
    beside = output.with_name(f"{stem}_spread.nii{ending}")
    inputs = [*study, *chosen.files().values(), *([] if weights is None else [weights])]
    for file in (output, beside):
        check_output(file, inputs)
    options = {"fallback": "yes" if fallback else "no"} | ({} if weights is None else {"weights": str(weights)})
    opened = open_study(study, given)
    model: Any = build(options)
    solver = StudySolver(opened, chosen)
    mu, spread, model_notes = model.estimate(solver)
    notes = tuple(dict.fromkeys((*opened.warnings, *solver.notes, *model_notes)))
    # An earlier study's spread would pass for this map's.
    for stale in (beside, output.with_name(f"{stem}_spread.json")):
        stale.unlink(missing_ok=True)
    write_mu_map(output, mu, notes)
    if spread is not None:
        write_mu_map(beside, spread.mu)
    written = f"{output} and {beside.name}" if spread is not None else str(output)
    return [*(f"note: {note}" for note in notes), f"{written}: in 1/cm at {mu.energy_kev:g} keV"]
