"""`spectac train`: networks of attenuation maps and of short scans, from virtual patients or a hospital's studies."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from spectac.app.progress import counting_bar
from spectac.recon.errors import MissingExtraError
from spectac.recon.io.atomic import check_folder


def train(
    config: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="TOML file: cohorts, network, steps.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for weights, checkpoint and logs.")],
) -> list[str]:
    """Train as a TOML file says, its folders relative to the working directory; lines for the user.

    Raises InputError for a bad configuration, and KeyboardInterrupt with a line on how to go on.
    """
    from spectac.learned.training_settings import TrainingSettings

    check_folder(output, "the weights")
    settings = TrainingSettings.read(config)
    try:
        from lightning.fabric.utilities.rank_zero import rank_zero_only

        from spectac.learned.train import train as train_network
    except ImportError as error:
        raise MissingExtraError(f"training needs {error.name}", "train") from None
    with counting_bar(f"training a {settings.target}, seed {settings.seed}") as move:

        def show(done: int, total: int, measured: Mapping[str, float]) -> None:
            move(done, total)

        try:
            weights = train_network(settings, Path(), output, on_step=show, on_load=move)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted: the same command goes on from the last checkpoint in {output}, if there is one"
            ) from None
    if getattr(rank_zero_only, "rank", 0) != 0:  # a process that the first one started
        return []
    used = {
        "map": f"use it with --attenuation predicted --attenuation-option weights={weights}",
        "low-counts": f"use it with --low-counts network --low-counts-weights {weights}",
        "correction": "image-to-image, for benchmarks",
    }
    return [f"{weights}: {used[settings.target]}"]
