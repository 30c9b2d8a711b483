"""Limits of doubt, measured on cohorts: ranges of the training patients, and quantiles of the validation patients.

This is the last step of training. Its result is the `Coverage` in the weights.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from spectac.learned.appearance import Appearance, detail_ratio, edge_share, preview_pixel_mm
from spectac.learned.cohort_inputs import SIDE_WINDOWS, patient_input, scanner_of
from spectac.learned.coverage import Coverage
from spectac.learned.estimate import passes, uncertainty
from spectac.learned.network import VolumeNetwork
from spectac.learned.outline_distance import outline_distance_mm
from spectac.recon.errors import InputError
from spectac.recon.geometry import axis_sigma_mm, object_pixel_mm, ray_lines
from spectac.recon.types import Image, MuMap
from spectac.simulate.cohort.patient_arrays import WINDOWS, PatientArrays
from spectac.simulate.cohort.shards import read_patients

if TYPE_CHECKING:
    from spectac.simulate.head import Head

RARE = 0.01
"""Share of the patients that a range leaves out at either end. A few show foci alone, or hardly a head."""

QUANTILE = 0.95
"""Quantile of the validation patients. The maximum would be one patient's, and grow with the size of the cohort."""

MARGIN = 1.25
"""Factor from the quantile of the uncertainty to its limit."""

OUTLINE_MARGIN = 2.0
"""Factor from the quantile of the outline's distance to its limit. It is larger because the outline of the data is
uncertain: in a virtual DAT study of 2 million counts with a high-energy background it lay 8.5 mm from the skin, that of
the map 2.4 mm."""

LEAST_PATIENTS = 10
"""Least number of values for a quantile. With fewer it is close to the maximum."""

LEAST = ("least_counts", "least_side_counts", "sharper", "height_mm", "views")
"""Fields of Coverage that hold the lower end of a range."""

MOST = ("edge_share", "hottest", "pixel_mm")
"""Fields of Coverage that hold the upper end of a range."""


def measured_coverage(network: VolumeNetwork, training: Path, validation: Path) -> Coverage:
    """Coverage of a network: ranges of its training cohort, limits from its validation cohort.

    Validation patients whose images show no head are left out, as predicting refuses them too.

    Parameters
    ----------
    network
        Network of a map.
    training, validation
        Folders of the two cohorts.

    Returns
    -------
    Coverage
        Ranges and limits that belong into the weights file.

    Raises
    ------
    InputError
        If fewer than LEAST_PATIENTS validation patients give an uncertainty or a distance.

    Examples
    --------
    >>> import tempfile
    >>> from spectac.learned.estimate import TrainedNetwork, shipped_weights
    >>> network = TrainedNetwork.read(shipped_weights()).network
    >>> with tempfile.TemporaryDirectory() as empty:
    ...     measured_coverage(network, Path(empty), Path(empty))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    spectac.recon.errors.InputError: 0 validation patients gave an uncertainty, limits need 10: ...
    """
    values = [_doubt_values(network, patient) for patient in _patients(validation)]
    return coverage_of(
        _patients(training),
        uncertainty=doubt_limit([spread for spread, _ in values], MARGIN, "an uncertainty"),
        outline_mm=doubt_limit([apart_mm for _, apart_mm in values], OUTLINE_MARGIN, "an outline's distance"),
    )


def doubt_limit(values: Iterable[float], margin: float, name: str) -> float:
    """Margin times the QUANTILE of the finite values.

    Parameters
    ----------
    values
        Values of the validation patients; NaN and infinity are left out.
    margin
        Factor from the quantile to the limit.
    name
        What the values are, for the error.

    Returns
    -------
    float
        Limit in the unit of the values.

    Raises
    ------
    InputError
        If fewer than LEAST_PATIENTS values are finite.

    Examples
    --------
    >>> doubt_limit([2.0] * 10 + [math.nan], 1.25, "an uncertainty")
    2.5
    """
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < LEAST_PATIENTS:
        raise InputError(
            f"{len(finite)} validation patients gave {name}, limits need {LEAST_PATIENTS}: "
            "make a larger validation cohort"
        )
    return margin * float(np.quantile(finite, QUANTILE))


def coverage_of(patients: Iterable[PatientArrays], *, uncertainty: float, outline_mm: float) -> Coverage:
    """Coverage from the ranges of a cohort's patients and two limits.

    Assumes: the radii of a contour orbit, which a cohort does not keep, follow from the labels on the preview's grid.
    What lies above or below that grid may have held the detector farther away.

    Parameters
    ----------
    patients
        Patients of the training cohort.
    uncertainty, outline_mm
        Limits of the Coverage.

    Returns
    -------
    Coverage
        Each range leaves out the share RARE of the patients at both ends; a one-sided limit leaves it out at its own.

    Raises
    ------
    InputError
        If there is no patient, or none whose photopeak shows a head.

    Examples
    --------
    >>> coverage_of([], uncertainty=0.1, outline_mm=5.0)
    Traceback (most recent call last):
    spectac.recon.errors.InputError: coverage needs at least one patient of a cohort, got none
    """
    energies, rows = set(), []
    for patient in patients:
        energies.add(round(patient.energy_kev, 3))
        rows.append(_statistics(patient))
    if not rows:
        raise InputError("coverage needs at least one patient of a cohort, got none")
    ranges: dict[str, Any] = {}
    for name in rows[0]:
        column = sorted(row[name] for row in rows if not math.isnan(row[name]))
        if name == "head_ml" and not column:
            raise InputError("no head stands out in the photopeak of any patient: this is no cohort to train with")
        # A cohort without any scatter window sets no limit for it.
        column = column or [1.0]
        rare = int(RARE * (len(column) - 1))
        least, most = column[rare], column[-1 - rare]
        ranges[name] = least if name in LEAST else most if name in MOST else (least, most)
    return Coverage(
        energies_kev=tuple(sorted(energies)), uncertainty=float(uncertainty), outline_mm=float(outline_mm), **ranges
    )


def _statistics(patient: PatientArrays) -> dict[str, float]:
    """Values of one patient by the fields of Coverage; NaN where there is none."""
    scanner = scanner_of(patient)
    # A contour orbit needs labels and their grid alone, which a cohort's patient has as well as a head.
    acquisition = scanner.acquisition("Tc-99m", cast("Head", patient) if scanner.orbit == "contour" else None)
    photopeak, side_counts = patient.preview[0], patient.parameters["counts"]
    head = Appearance.of(_image(patient, WINDOWS[0]))
    ratios = [detail_ratio(photopeak, _image(patient, n).values, patient.grid.voxel_ml) for n in _sides(patient)]
    return {
        "least_counts": float(patient.counts.sum(dtype=np.float64)),
        "least_side_counts": next((float(side_counts[n]) for n in SIDE_WINDOWS if n in side_counts), math.nan),
        "sigma_mm": float(np.mean(axis_sigma_mm(acquisition, patient.energy_kev))),
        "edge_share": edge_share(patient.counts, ray_lines(acquisition)[1].mean(axis=0)),
        "sharper": min(ratios, default=math.nan),
        "head_ml": math.nan if head is None else head.head_ml,
        "hottest": math.nan if head is None else head.hottest,
        "height_mm": math.nan if head is None else head.height_mm,
        "pixel_mm": preview_pixel_mm(object_pixel_mm(acquisition)),
        "views": float(scanner.views),
        "peak_width": scanner.photopeak_width,
        "energy_loss": patient_input(patient).energy_loss or math.nan,
    }


def _doubt_values(network: VolumeNetwork, patient: PatientArrays) -> tuple[float, float]:
    """Uncertainty and outline distance in mm of a patient's map; NaN where there is none."""
    spread = math.nan
    try:
        seen = patient_input(patient)
        volumes = passes(network, seen, patient.energy_kev)
        spread = uncertainty(volumes, seen, patient.energy_kev)
        mu = MuMap(volumes.mean(axis=0), patient.grid, patient.energy_kev)
        scatter = next((_image(patient, name) for name in _sides(patient)), None)
        apart_mm = outline_distance_mm(_image(patient, WINDOWS[0]), scatter, mu)
    except InputError:
        return spread, math.nan
    return spread, math.nan if apart_mm is None else apart_mm


def _sides(patient: PatientArrays) -> list[str]:
    """Names of a patient's windows below the photopeak, the widest first."""
    return [name for name in SIDE_WINDOWS if patient.windows[WINDOWS.index(name)]]


def _patients(folder: Path) -> Iterator[PatientArrays]:
    for path in sorted(folder.glob("shard-*.h5")):
        for _, patient in read_patients(path):
            yield patient


def _image(patient: PatientArrays, window: str) -> Image:
    return Image(patient.preview[WINDOWS.index(window)], patient.grid, "cps/mL")
