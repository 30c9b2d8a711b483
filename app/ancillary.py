"""Ancillary data of a comparison: the true activity, labels for the VOIs and a calibration, where they are given."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from spectac.recon import Image, InputError, Result, Study
from spectac.recon.calibration import Calibration, read_calibration
from spectac.recon.io.nifti import placement_notes, read_image, read_labels
from spectac.recon.pipeline import StudySolver
from spectac.recon.resample import resample
from spectac.recon.types import Grid
from spectac.recon.voi import Vois, from_labels


@dataclass(frozen=True, eq=False)
class Scale:
    """The factor from cps/mL to kBq/mL; `source` says where it comes from.

    `calibration` is None for the factor of a virtual patient.
    """

    cps_per_kbq: float
    source: str
    calibration: Calibration | None = None

    @property
    def text(self) -> str:
        """The factor and its source."""
        return f"{self.cps_per_kbq:.4g} cps per kBq, {self.source}"

    def in_kbq(self, result: Result, study: Study) -> Image:
        """Image of a result in kBq/mL; an image in relative units stays as it is.

        An image without attenuation correction is divided as well, for the sake of the comparison. Its history says so.
        """
        image = result.image
        if image.unit != "cps/mL":
            return image
        if self.calibration is not None and result.attenuation != "none":
            return self.calibration.applied(result, study)
        line = f"divided by {self.cps_per_kbq:.6g} cps per kBq, {self.source}"
        return replace(image, values=image.values / self.cps_per_kbq, unit="kBq/mL", history=(*image.history, line))


@dataclass(frozen=True, eq=False)
class Truth:
    """The true activity: `image` on the grid of the reconstruction, `original` and its VOIs on the grid of its file."""

    image: Image
    original: Image
    original_vois: Vois | None = None


@dataclass(frozen=True, eq=False)
class Ancillary:
    """Ancillary data of a comparison, None where not given; `vois` are from labels, `files` all that were read."""

    truth: Truth | None
    vois: Vois | None
    scale: Scale | None
    files: tuple[Path, ...]


def read_ancillary(
    solver: StudySolver, truth_path: Path | None, labels: Path | None, calibration: Path | None
) -> Ancillary:
    """Ancillary data from files, on the grid of a solver; None for a file that is not given.

    The folder `truth_path` of a virtual patient brings its labels and its factor (patient.json) along.
    Raises InputError where the data do not belong to the study: another collimator, another scatter correction, another
    position.
    """
    files: list[Path] = []
    scale = truth = vois = None
    if calibration is not None:
        files.append(Path(calibration))
        scale = _read_scale(files[-1], solver)
    if truth_path is not None:
        of_virtual = truth_path.is_dir()
        files.append(truth_path / "activity.nii.gz" if of_virtual else truth_path)
        truth = _read_truth(files[-1], solver.grid)
        if of_virtual and labels is None and (truth_path / "labels.nii.gz").is_file():
            labels = truth_path / "labels.nii.gz"
        record = virtual_record(truth_path)
        if record is not None and scale is None and truth.image.unit == "kBq/mL":
            scale = Scale(_factor_in(record), f"from the virtual patient's {record.name}")
            files.append(record)
    if labels is not None:
        vois, original_vois = _read_vois(labels, solver.grid, truth)
        files.append(labels)
        if truth is not None:
            truth = replace(truth, original_vois=original_vois)
    return Ancillary(truth, vois, scale, tuple(files))


def _read_scale(file: Path, solver: StudySolver) -> Scale:
    calibration = read_calibration(file)
    calibration.check(solver.study, solver.projections.window)
    calibration.check_corrections(solver.projections.scatter_method, None)
    return Scale(calibration.cps_per_kbq, f"from {file.name}", calibration)


def _read_truth(file: Path, grid: Grid) -> Truth:
    original = read_image(file)
    image = replace(original, values=resample(original.values, original.grid, grid), grid=grid)
    if not image.values.max() > 0:
        raise InputError(f"{file}: holds no activity in the study's field: it belongs to another position")
    return Truth(image, original)


def _read_vois(file: Path, grid: Grid, truth: Truth | None) -> tuple[Vois, Vois | None]:
    """VOIs of a label image on a grid, and on the label image's own grid where that is the truth's."""
    values, label_grid, names = read_labels(file)
    source = "; ".join((f"labels of {file.name}", *placement_notes(file)))
    vois = from_labels(values, label_grid, names, grid, source)
    if truth is None or not truth.original.grid.same_as(label_grid):
        return vois, None
    return vois, from_labels(values, label_grid, names, label_grid, "labels of the truth")


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
