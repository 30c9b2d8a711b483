"""What is known beside a study's projections: a truth, labels for VOIs, a calibration."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from spectac.app.comparison import CompareRequest
from spectac.recon import Image, InputError, Projections, Result, Study
from spectac.recon.calibration import Calibration, read_calibration
from spectac.recon.io.nifti import placement_notes, read_image, read_labels
from spectac.recon.resample import resample
from spectac.recon.types import Grid
from spectac.recon.voi import Vois, from_labels


@dataclass(frozen=True, eq=False)
class Known:
    """What a request leads to, as far as it does.

    `truth` on the reconstruction's grid, `own_truth` and `own_vois` on the truth's; `vois` from labels;
    `calibration` for the images, or the factor `cps_per_kbq` of a virtual patient; `scale` says where it is from;
    `files` are all that were read.
    """

    truth: Image | None
    own_truth: Image | None
    vois: Vois | None
    own_vois: Vois | None
    calibration: Calibration | None
    cps_per_kbq: float | None
    scale: str
    files: tuple[Path, ...]

    def in_kbq(self, result: Result, study: Study) -> Image:
        """A result's image in kBq/mL where there is a calibration for cps/mL, the same image else.

        One without attenuation correction is divided as well, for comparison's sake, and its history says so.
        """
        image = result.image
        if self.cps_per_kbq is None or image.unit != "cps/mL":
            return image
        if self.calibration is not None and result.attenuation != "none":
            return self.calibration.applied(result, study)
        line = f"divided by {self.cps_per_kbq:.6g} cps per kBq, {self.scale}"
        return replace(image, values=image.values / self.cps_per_kbq, unit="kBq/mL", history=(*image.history, line))


def known(request: CompareRequest, study: Study, projections: Projections, grid: Grid) -> Known:
    """What the request leads to for a study, on the grid of its reconstruction.

    With the folder `truth` of a virtual patient its labels and calibration (patient.json) are taken along.
    Raises InputError where they do not belong to the study: another collimator, another scatter correction, another
    place.
    """
    files: list[Path] = []
    calibration, factor, scale = None, None, ""
    if request.base.calibration is not None:
        file = Path(request.base.calibration)
        calibration = read_calibration(file)
        calibration.check(study, projections.window)
        calibration.check_corrections(projections.scatter_method, None)
        factor, scale = calibration.cps_per_kbq, f"from {file.name}"
        files.append(file)
    truth = own_truth = None
    labels = request.labels
    if request.truth is not None:
        of_virtual = request.truth.is_dir()
        file = request.truth / "activity.nii.gz" if of_virtual else request.truth
        own_truth = read_image(file)
        truth = replace(own_truth, values=resample(own_truth.values, own_truth.grid, grid), grid=grid)
        if not truth.values.max() > 0:
            raise InputError(f"{file}: holds no activity in the study's field: it belongs to another position")
        files.append(file)
        beside, record = request.truth / "labels.nii.gz", virtual_record(request.truth)
        if of_virtual and labels is None and beside.is_file():
            labels = beside
        if record is not None and factor is None and truth.unit == "kBq/mL":
            factor, scale = _factor_in(record), f"from the virtual patient's {record.name}"
            files.append(record)
    vois = own_vois = None
    if labels is not None:
        values, label_grid, names = read_labels(labels)
        vois = from_labels(
            values, label_grid, names, grid, "; ".join((f"labels of {labels.name}", *placement_notes(labels)))
        )
        files.append(labels)
        if own_truth is not None and own_truth.grid.same_as(label_grid):
            own_vois = from_labels(values, label_grid, names, label_grid, "labels of the truth")
    return Known(truth, own_truth, vois, own_vois, calibration, factor, scale, tuple(files))


def virtual_record(truth: Path) -> Path | None:
    """The patient.json beside a virtual patient's folder of truth; None where there is none, or the truth is a file."""
    record = truth.parent / "patient.json"
    return record if truth.is_dir() and record.is_file() else None


def _factor_in(path: Path) -> float:
    """Key cps_per_kbq of a virtual patient's record; InputError without."""
    try:
        factor = float(json.loads(path.read_text(encoding="utf-8-sig"))["cps_per_kbq"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no cps_per_kbq in it ({error})") from None
    if not (math.isfinite(factor) and factor > 0):
        raise InputError(f"{path}: cps_per_kbq must be above 0, not {factor}")
    return factor
