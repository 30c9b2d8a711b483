"""`spectac calibrate`: counts per second per kBq from the scan of a uniform phantom of known activity."""

import math
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from scipy.ndimage import distance_transform_edt

from spectac.app.options import StudyPaths, Without
from spectac.app.outputs import check_output
from spectac.app.reconstruct import with_progress
from spectac.recon import Image, InputError, Outline, ReconstructionSettings, StudySettings, UniformMap
from spectac.recon.calibration import calibrate as calibration_of
from spectac.recon.calibration import concentration_kbq_per_ml, write_calibration
from spectac.recon.contour_preview import largest
from spectac.recon.filters import gaussian
from spectac.recon.io import open_study
from spectac.recon.io.nifti import read_labels
from spectac.recon.pipeline import StudySolver
from spectac.recon.quantify import coefficient_of_variation
from spectac.recon.resample import resample
from spectac.recon.setting_fields import Setting, settings
from spectac.recon.settings import AttenuationSettings, date_and_time
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Array

EDGE_MM = 30.0
"""Distance of the VOI from the phantom's edge: two FWHM, so that partial volume does not reach it."""
SMOOTH_MM = 10.0
"""FWHM of the Gaussian after which the phantom is delineated."""
LEAST_ML = 50.0
"""Smallest volume of a VOI: some hundred independent resolution elements."""


@settings
class PhantomSettings(AttenuationSettings):
    """Attenuation of a phantom: as a patient's, but uniform by default."""

    attenuation: Annotated[Literal["uniform", "ct", "map"], Setting("uniform (of water), ct or map.")] = "uniform"


NOT_FOR_PHANTOMS = (
    "algorithm", "prior_beta", "fbp_filter", "post_filter", "calibration", "holder", "low_counts", "low_counts_weights",
)  # fmt: skip
"""Settings that a calibration does not have."""


def calibrate(
    study: StudyPaths,
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the calibration (JSON).")],
    activity_mbq: Annotated[
        float, typer.Option(help="Activity in the phantom, what stayed in the syringe subtracted.")
    ],
    volume_ml: Annotated[float, typer.Option(help="Volume that the activity is in.")],
    assayed: Annotated[str, typer.Option(metavar="TIME", help="When it was measured, e.g. 2026-11-02T09:30.")],
    given: StudySettings,
    attenuation: Annotated[PhantomSettings, Without(("attenuation_option", "assume_aligned"))],
    settings: Annotated[ReconstructionSettings, Without(NOT_FOR_PHANTOMS)],
    wall_mm: Annotated[float, typer.Option(help="Thickness of the phantom's wall, which absorbs as water does.")] = 0.0,
    voi: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Label image whose label 1 is the VOI; default: 30 mm inside.")
    ] = None,
) -> list[str]:
    """Reconstruct a phantom and write its calibration as JSON; lines for the user.

    A uniform map, of water where scatter is corrected and no value is given, fills the phantom and a wall of `wall_mm`
    around it: the phantom is what holds `volume_ml` of the image with the brightest voxels, for the outline of heads is
    wider, by their scalp.
    Raises InputError where the phantom cannot be measured.
    """
    if wall_mm and attenuation.attenuation != "uniform":
        raise InputError("--wall-mm belongs to --attenuation uniform: a CT or map shows the wall")
    check_output(output, [*study, *attenuation.inputs(), *([] if voi is None else [voi])])
    if not (math.isfinite(wall_mm) and 0 <= wall_mm < EDGE_MM):
        raise InputError(f"--wall-mm must lie between 0 and {EDGE_MM:g} mm, not {wall_mm:g}")
    if voi is not None and not voi.is_file():
        raise InputError(f"{voi}: no such file")
    opened = open_study(study, given)
    start = opened.acquisition.start
    if start is None:
        raise InputError("the study does not say when it began, so that the activity then is unknown: give --start")
    when, notes = _time_of_assay(assayed, start)
    concentration_kbq_per_ml(activity_mbq, volume_ml, when, opened.acquisition.nuclide, start)
    solver = StudySolver(opened, settings)
    if attenuation.attenuation == "uniform" and attenuation.uniform_mu is None and solver.scatter_corrected:
        attenuation = replace(attenuation, uniform_mu=water_per_cm(solver.energy_kev))
    result = with_progress(solver, attenuation.model())
    if attenuation.attenuation == "uniform" and result.mu is not None:
        filled = Outline(_filled(result.image, volume_ml, wall_mm), result.image.grid)
        result = with_progress(solver, UniformMap(float(result.mu.per_cm.max()), filled))
    region = _labelled(voi, result.image) if voi is not None else _well_inside(result.image)
    calibration = calibration_of(result, opened, region, activity_mbq=activity_mbq, volume_ml=volume_ml, assayed=when)
    write_calibration(output, calibration)
    noise = coefficient_of_variation(result.image.values, region)
    return [
        *(f"note: {note}" for note in (*notes, *result.notes)),
        f"{calibration.cps_per_kbq:.5g} cps per kBq of one head ({calibration.note}; voxels in it vary by {noise:.1%})",
        f"{output}: use it with --calibration {output}",
    ]


def _time_of_assay(text: str, start: datetime) -> tuple[datetime, list[str]]:
    """Time of the activity in the time zone of the study's start, with a note where it names none."""
    when = date_and_time("--assayed")(text)
    if when.tzinfo is None and start.tzinfo is not None:
        note = f"--assayed names no time zone: the study's ({start:%z}) was taken"
        return when.replace(tzinfo=start.tzinfo), [note]
    return when, []


def _filled(image: Image, volume_ml: float, wall_mm: float) -> Array:
    """Share (z, y, x) of each voxel in the brightest connected `volume_ml` of an image and a wall around them.

    InputError where the field ends inside the phantom: how much of the volume it shows is then unknown.
    """
    grid = image.grid
    smooth = gaussian(np.maximum(image.values, 0), grid.voxel_mm, SMOOTH_MM)
    wanted = volume_ml / grid.voxel_ml
    if wanted < 1:
        raise InputError(f"the phantom's {volume_ml:g} mL are less than a voxel of {grid.voxel_ml:.3g} mL")
    if wanted > 0.8 * smooth.size:
        raise InputError(f"the phantom's {volume_ml:g} mL do not fit into the field of view")
    level = float(np.partition(smooth, smooth.size - int(wanted), axis=None)[smooth.size - int(wanted)])
    body = largest(smooth > level)
    if body[0].any() or body[-1].any():
        raise InputError("the field of view ends inside the phantom: give its map with --attenuation ct or map")
    away = distance_transform_edt(~body, sampling=grid.voxel_mm) - distance_transform_edt(body, sampling=grid.voxel_mm)
    # The border lies between the centres of voxels: half a voxel on either side of it is partly filled.
    return np.asarray(np.clip(0.5 - (away - wall_mm) / min(grid.voxel_mm), 0.0, 1.0), np.float32)


def _labelled(path: Path, image: Image) -> Array:
    """Share (z, y, x) of each voxel that label 1 of a label image covers."""
    labels, grid, _ = read_labels(path)
    if not (labels == 1).any():
        raise InputError(f"{path}: no voxel has label 1: the VOI of the phantom must have it")
    return np.clip(resample((labels == 1).astype(np.float32), grid, image.grid), 0, 1)


def _well_inside(image: Image) -> Array:
    """Mask (z, y, x) of the voxels EDGE_MM inside the half level of the largest object in the image."""
    smooth = gaussian(np.maximum(image.values, 0), image.grid.voxel_mm, SMOOTH_MM)
    bright = smooth > 0.3 * smooth.max()
    level = float(np.median(smooth[bright])) if bright.any() else 0.0
    body = largest(smooth > 0.5 * level) if level > 0 else np.zeros(smooth.shape, bool)
    # The end of the field counts as an edge.
    padded = np.pad(body, 1)
    deep = distance_transform_edt(padded, sampling=image.grid.voxel_mm)[1:-1, 1:-1, 1:-1] > EDGE_MM
    inside_ml = float(deep.sum()) * image.grid.voxel_ml
    if inside_ml < LEAST_ML:
        raise InputError(
            f"only {inside_ml:.0f} mL lie {EDGE_MM:g} mm inside the phantom, {LEAST_ML:g} are needed: use a larger "
            "uniform phantom, or give a label image with --voi"
        )
    return deep.astype(np.float32)
