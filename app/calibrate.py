"""`spectac calibrate`: counts per second per kBq from the scan of a uniform phantom of known activity."""

import math
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt

from spectac.app.run import Request, solve
from spectac.recon import Image, InputError, Outline, Study, UniformMap
from spectac.recon.calibration import calibrate, concentration_kbq_per_ml, write_calibration
from spectac.recon.contour_preview import largest
from spectac.recon.filters import gaussian
from spectac.recon.given import date_and_time
from spectac.recon.io.nifti import read_labels
from spectac.recon.quantify import coefficient_of_variation
from spectac.recon.resample import resample
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Array

EDGE_MM = 30.0
"""The VOI ends this far inside the phantom: two FWHM, so that partial volume does not reach it."""
SMOOTH_MM = 10.0
LEAST_ML = 50.0
"""Of a VOI: some hundred independent resolution elements."""


def calibrate_camera(
    study: Study,
    request: Request,
    output: Path,
    *,
    activity_mbq: float,
    volume_ml: float,
    assayed: str,
    wall_mm: float = 0.0,
    labels: Path | None = None,
) -> list[str]:
    """Reconstruct a phantom and write its calibration as JSON; lines for the user.

    `assayed` is the time of the activity, ISO 8601; `labels` a label image whose label 1 is the VOI, by default what
    lies 30 mm and more inside the phantom. A uniform map, of water where scatter is corrected and no value is given,
    fills the phantom and a wall of `wall_mm` around it: the phantom is what holds `volume_ml` of the image with the
    brightest voxels, for the outline of heads is wider, by their scalp.
    Raises InputError where the phantom cannot be measured.
    """
    if output.exists() and not output.is_file():
        raise InputError(f"{output} is no file: give a name such as calibration.json with -o")
    if not output.parent.is_dir():
        raise InputError(f"{output.parent}: no such folder: make it, or give another name with -o")
    if not (math.isfinite(wall_mm) and 0 <= wall_mm < EDGE_MM):
        raise InputError(f"--wall-mm must lie between 0 and {EDGE_MM:g} mm, not {wall_mm:g}")
    when = date_and_time("--assayed")(assayed)
    start = study.acquisition.start
    if start is None:
        raise InputError("the study does not say when it began, so that the activity then is unknown: give --start")
    notes = []
    if when.tzinfo is None and start.tzinfo is not None:
        when = when.replace(tzinfo=start.tzinfo)
        notes.append(f"--assayed names no time zone: the study's ({start:%z}) was taken")
    concentration_kbq_per_ml(activity_mbq, volume_ml, when, study.acquisition.nuclide, start)
    if labels is not None and not labels.is_file():
        raise InputError(f"{labels}: no such file")
    chosen = request.projections(study)
    if request.attenuation == "uniform" and "mu" not in request.attenuation_options and chosen.scatter is not None:
        request = request.with_option("mu", repr(water_per_cm(chosen.energy_kev)))
    result = solve(study, request)
    if request.attenuation == "uniform" and result.mu is not None:
        filled = Outline(_filled(result.image, volume_ml, wall_mm), result.image.grid)
        result = solve(study, request, model=UniformMap(float(result.mu.per_cm.max()), filled))
    voi = _labelled(labels, result.image) if labels is not None else _well_inside(result.image)
    found = calibrate(
        result,
        study,
        voi,
        activity_mbq=activity_mbq,
        volume_ml=volume_ml,
        assayed=when,
    )
    write_calibration(output, found)
    noise = coefficient_of_variation(result.image.values, voi)
    return [
        *(f"note: {note}" for note in (*notes, *result.notes)),
        f"{found.cps_per_kbq:.5g} cps per kBq of one head ({found.note}; voxels in it vary by {noise:.1%})",
        f"{output}: use it with --calibration {output}",
    ]


def _filled(image: Image, volume_ml: float, wall_mm: float) -> Array:
    """Share (z, y, x) of each voxel in the brightest connected `volume_ml` of an image, and in a wall around it.

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
    # Half a voxel on either side of the border, that lies between the centres of the voxels.
    return np.asarray(np.clip(0.5 - (away - wall_mm) / min(grid.voxel_mm), 0.0, 1.0), np.float32)


def _labelled(path: Path, image: Image) -> Array:
    """The share of each voxel that label 1 of a label image covers."""
    labels, grid, _ = read_labels(path)
    if not (labels == 1).any():
        raise InputError(f"{path}: no voxel has label 1: the VOI of the phantom must have it")
    return np.clip(resample((labels == 1).astype(np.float32), grid, image.grid), 0, 1)


def _well_inside(image: Image) -> Array:
    """Mask of what lies EDGE_MM inside of the half level of the largest thing in the image."""
    smooth = gaussian(np.maximum(image.values, 0), image.grid.voxel_mm, SMOOTH_MM)
    bright = smooth > 0.3 * smooth.max()
    level = float(np.median(smooth[bright])) if bright.any() else 0.0
    body = largest(smooth > 0.5 * level) if level > 0 else np.zeros(smooth.shape, bool)
    # Beyond the field lies no phantom that was seen: its end counts as an edge.
    padded = np.pad(body, 1)
    deep = distance_transform_edt(padded, sampling=image.grid.voxel_mm)[1:-1, 1:-1, 1:-1] > EDGE_MM
    held = float(deep.sum()) * image.grid.voxel_ml
    if held < LEAST_ML:
        raise InputError(
            f"only {held:.0f} mL lie {EDGE_MM:g} mm inside the phantom, {LEAST_ML:g} are needed: use a larger uniform "
            "phantom, or give a label image with --voi"
        )
    return deep.astype(np.float32)
