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
from spectac.recon.low_counts import low_counts_model
from spectac.recon.settings import HOLDERS, LOW_COUNTS


def check_options(request: BatchRequest, studies: Sequence[ListedStudy]) -> None:
    """InputError for options of the whole batch that would make every study fail, or that none can use.

    Settings were checked when they were made. Whether a GPU works is for the workers to see.
    """
    comparison, reconstruction = request.compare.comparison, request.compare.reconstruction
    for option, model, _, _ in comparison.of_models():
        column, file = {"ct": ("ct", "CT"), "map": ("mu_map", "mu-map")}.get(model, ("study", "study"))
        if column != "study" and not any(column in study.files for study in studies):
            raise InputError(f"{option} needs the {file} of at least one study: give a CSV with a column {column}")
    for name, column, file in (("ct", "ct", "CT"), ("map", "mu_map", "mu-map")):
        if name not in (comparison.methods or ()):
            continue
        if not any(study.methods is not None or column in study.files for study in studies):
            raise InputError(f"method {name} needs the {file} of each study: give a CSV with a column {column}")
    if reconstruction.calibration is not None:
        read_calibration(reconstruction.calibration)
    for name, path in reconstruction.files().items():
        if not path.exists():
            words = f"; it is {', '.join(HOLDERS)} or a map" if name == "holder" else ""
            raise InputError(f"--{name.replace('_', '-')} {path}: no such file{words}")
    if reconstruction.low_counts not in LOW_COUNTS:
        low_counts_model(reconstruction.low_counts, reconstruction.low_counts_weights)
    if comparison.normals is not None:
        read_normals(comparison.normals)
    if comparison.methods is not None:
        # The files of each study come later: here the names count.
        ct, mu_map = (Path() if name in comparison.methods else None for name in ("ct", "map"))
        replace(comparison.without("ct").without("map"), ct=ct, mu_map=mu_map).models()


def check_places(folder: Path, studies: Sequence[ListedStudy], request: BatchRequest) -> None:
    """InputError where a study's results would go among the data of one, or where no folder can be made for them."""
    data = {file.resolve() for study in studies for file in (study.path, *study.files.values())}
    if (normals := request.compare.comparison.normals) is not None:
        data.add(normals.resolve())
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
