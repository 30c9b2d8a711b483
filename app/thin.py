"""`spectac thin`: a shorter scan from a longer one."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from spectac.app.options import StudyPaths
from spectac.app.outputs import check_output
from spectac.recon import InputError, StudySettings
from spectac.recon.io import open_study
from spectac.recon.io.hdf5 import write_study
from spectac.recon.thinning import parted


def thin(
    study: StudyPaths,
    output: Annotated[Path, typer.Option("--output", "-o", help="HDF5 file for the thinned study.")],
    share: Annotated[float, typer.Option(help="Share of the counts that are kept, between 0 and 1.")],
    given: StudySettings,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice.")] = 1,
    rest: Annotated[Path | None, typer.Option(help="HDF5 file for the other counts, an independent scan.")] = None,
) -> list[str]:
    """Write a share of a study's counts, and the rest where it is asked for; lines for the user."""
    if rest is not None and rest.resolve() == output.resolve():
        raise InputError(f"--rest {rest} is the file of --output: give two")
    for file in (one for one in (output, rest) if one is not None):
        check_output(file, study)
        if file.suffix.lower() not in (".h5", ".hdf5"):
            raise InputError(f"{file}: a thinned study is written as HDF5: give a name that ends in .h5")
    whole = open_study(study, given)
    parts = parted(whole, share, np.random.default_rng(seed))
    lines = [f"note: {warning}" for warning in parts[0].warnings]
    for path, part in zip((output, rest), parts, strict=True):
        if path is not None:
            write_study(path, part)
            total = float(part.counts.sum(dtype=np.float64))
            lines.append(f"{path}: {total:.4g} of {float(whole.counts.sum(dtype=np.float64)):.4g} counts, seed {seed}")
    return lines
