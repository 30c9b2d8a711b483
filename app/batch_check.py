"""What `spectac batch` refuses before the work: options that no study can take, results among the studies' data."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from spectac.app.batch_list import FILE_COLUMNS, ListedStudy
from spectac.app.normals import read_normals
from spectac.recon import InputError
from spectac.recon.calibration import read_calibration
from spectac.recon.device import select_device
from spectac.recon.given import Given
from spectac.recon.scatter import METHODS as SCATTER

if TYPE_CHECKING:
    from spectac.app.comparison import CompareRequest


def check_options(request: "CompareRequest", methods: tuple[str, ...] | None) -> None:
    """InputError for options of the whole batch that would make every study fail; `methods` None: all that can be.

    A request has checked its own settings when it was made. Whether a GPU works is for the workers to see.
    """
    Given.of(request.base.given)
    if request.base.device not in ("auto", "cuda"):
        select_device(request.base.device)
    if request.base.scatter not in SCATTER:
        raise InputError(f"scatter method {request.base.scatter!r} is not one of {', '.join(SCATTER)}")
    if request.base.calibration is not None:
        read_calibration(request.base.calibration)
    if request.normals is not None:
        read_normals(request.normals)
    if methods is not None:
        # Those of each study come later: here the names count.
        ct, mu_map = (Path() if name in methods else None for name in ("ct", "map"))
        replace(request, methods=methods, ct=ct, mu_map=mu_map)


def check_places(folder: Path, studies: Sequence[ListedStudy], request: "CompareRequest") -> None:
    """InputError where a study's results would go among the data of one, or where no folder can be made for them."""
    shared = (request.ct, request.mu_map, request.truth, request.labels, request.normals)
    listed = {path.resolve() for path in shared if path is not None}
    for study in studies:
        listed |= {study.path.resolve(), *(study.files[name].resolve() for name in FILE_COLUMNS if name in study.files)}
    above = {parent for path in listed for parent in path.parents}
    for study in studies:
        target = folder / study.name
        if os.path.lexists(target) and not os.path.isdir(target):
            raise InputError(f"{target} is no folder: the results of study {study.name} go there, give another -o")
        place = target.resolve()
        # The same, around one of them, or inside.
        if place in listed or place in above or not listed.isdisjoint(place.parents):
            raise InputError(
                f"{target}: the results of study {study.name} would mix with the data of the list: give another -o"
            )
