"""What `spectac batch` refuses before the work: options that no study can take, results among the studies' data."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from spectac.app.batch.request import BatchRequest
from spectac.app.batch.study_list import ListedStudy
from spectac.app.normals import read_normals
from spectac.recon import InputError
from spectac.recon.calibration import read_calibration
from spectac.recon.device import select_device
from spectac.recon.given import Given
from spectac.recon.scatter import METHODS as SCATTER


def check_options(request: BatchRequest, studies: Sequence[ListedStudy]) -> None:
    """InputError for options of the whole batch that would make every study fail, or that none can use.

    A request checked its own settings when it was made. Whether a GPU works is for the workers to see.
    """
    for option, is_given, column, what in (
        ("--extend-ct", request.extend_ct, "ct", "CT"),
        ("--assume-aligned", request.assume_aligned, "ct", "CT"),
        ("--tube-voltage-kv", request.tube_voltage_kv is not None, "ct", "CT"),
        ("--mu-map-kev", request.mu_map_kev is not None, "mu_map", "mu-map"),
    ):
        if is_given and not any(column in study.files for study in studies):
            raise InputError(f"{option} needs the {what} of at least one study: give a CSV with a column {column}")
    base, normals = request.compare.base, request.compare.normals
    Given.of(base.given)
    if base.device not in ("auto", "cuda"):
        select_device(base.device)
    if base.scatter not in SCATTER:
        raise InputError(f"scatter method {base.scatter!r} is not one of {', '.join(SCATTER)}")
    if base.calibration is not None:
        read_calibration(base.calibration)
    if normals is not None:
        read_normals(normals)
    if request.methods is not None:
        # The files of each study come later: here the names count.
        ct, mu_map = (Path() if name in request.methods else None for name in ("ct", "map"))
        replace(request.compare, methods=request.methods, ct=ct, mu_map=mu_map)


def check_places(folder: Path, studies: Sequence[ListedStudy], request: BatchRequest) -> None:
    """InputError where a study's results would go among the data of one, or where no folder can be made for them."""
    data = {file.resolve() for study in studies for file in (study.path, *study.files.values())}
    if request.compare.normals is not None:
        data.add(request.compare.normals.resolve())
    above = {parent for path in data for parent in path.parents}
    for study in studies:
        target = folder / study.name
        if os.path.lexists(target) and not os.path.isdir(target):
            raise InputError(f"{target} is no folder: the results of study {study.name} go there, give another -o")
        place = target.resolve()
        # The same, around one of them, or inside.
        if place in data or place in above or not data.isdisjoint(place.parents):
            raise InputError(
                f"{target}: the results of study {study.name} would mix with the data of the list: give another -o"
            )
