"""`spectac train` and `spectac predict`: the commands of the learned map."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spectac.app.progress import counting_bar
from spectac.recon import InputError, Study
from spectac.recon import scatter as scatter_windows
from spectac.recon.io.nifti import write_mu_map
from spectac.recon.pipeline import Settings, StudySolver


def train_network(config: Path, output: Path) -> list[str]:
    """Train as a TOML file says, its folders relative to the working directory; lines for the user.

    Raises InputError for a bad configuration, and KeyboardInterrupt with a line on how to go on.
    """
    from spectac.learned.training_settings import TrainingSettings

    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: give a folder for the weights with -o")
    settings = TrainingSettings.read(config)
    try:
        from spectac.learned.train import train
    except ImportError as error:
        raise InputError(f"training needs {error.name}: pip install 'spectac[train]'") from None
    with counting_bar(f"training a {settings.target}, seed {settings.seed}") as move:

        def show(done: int, total: int, measured: Mapping[str, float]) -> None:
            move(done, total)

        try:
            weights = train(settings, Path(), output, on_step=show, on_load=move)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted: the same command goes on from the last checkpoint in {output}, if there is one"
            ) from None
    return [f"{weights}: use it with --attenuation predicted --attenuation-option weights={weights}"]


def predict_map(study: Study, output: Path, options: Mapping[str, str], photopeak: str | None) -> list[str]:
    """Write the map that `predicted` estimates for a study as NIfTI, its spread beside it; lines for the user."""
    from spectac.learned.plugin import build

    if not output.name.endswith((".nii", ".nii.gz")) or output.name.count(".nii") > 1:
        raise InputError(f"{output}: the map is written as NIfTI: give a name that ends in .nii.gz")
    if not output.parent.is_dir():
        raise InputError(f"{output.parent}: no such folder: make it, or give another name with -o")
    model: Any = build(options)
    projections = scatter_windows.projections(study, "auto", photopeak)
    solver = StudySolver(study, projections, Settings())
    mu, spread, found = model.estimate(solver)
    notes = tuple(dict.fromkeys((*study.warnings, *solver.notes, *found)))
    stem, ending = output.name.split(".nii")
    beside = output.with_name(f"{stem}_spread.nii{ending}")
    # An earlier study's spread would pass for this map's.
    for stale in (beside, output.with_name(f"{stem}_spread.json")):
        stale.unlink(missing_ok=True)
    write_mu_map(output, mu, notes)
    if spread is not None:
        write_mu_map(beside, spread)
    written = f"{output} and {beside.name}" if spread is not None else str(output)
    return [*(f"note: {note}" for note in notes), f"{written}: in 1/cm at {mu.energy_kev:g} keV"]
