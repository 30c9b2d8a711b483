"""Limits of doubt, measured on cohorts: ranges of the training patients, cost and saving of the fallback on others.

This is the last step of training. Its result is the `Coverage` in the weights. The limit of the uncertainty weighs what
the uniform map that takes over costs against what it saves, on patients whose true map is known. Maps are compared as
`predicted` uses them: after the check by the counts, in a fitted holder.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spectac.learned.appearance import Appearance, detail_ratio, edge_share, preview_pixel_mm
from spectac.learned.cohort_inputs import SIDE_WINDOWS, acquisition_of, patient_input, scanner_of
from spectac.learned.coverage import Coverage
from spectac.learned.dataset import shards_of
from spectac.learned.doubts import CONFIRMED_FACTOR, head_doubts
from spectac.learned.estimate import passes, uncertainty
from spectac.learned.loss import factor_error
from spectac.learned.network import VolumeNetwork
from spectac.learned.outline_distance import outline_distance_mm
from spectac.learned.predict import USUAL_HOLDER, without_specks
from spectac.learned.spread import SpreadErrors, SpreadScale, measured_scale, spread_errors
from spectac.recon.attenuation import default_mu_per_cm
from spectac.recon.contour import head_outline
from spectac.recon.errors import InputError
from spectac.recon.geometry import axis_sigma_mm, object_pixel_mm, ray_lines
from spectac.recon.held_head import HeadHolding, HeldHead
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Array, Image, MuMap, Projections, Study
from spectac.simulate.cohort.patient_arrays import WINDOWS, PatientArrays
from spectac.simulate.cohort.shards import read_patients
from spectac.simulate.uptake import vois

RARE = 0.01
"""Share of the patients that a range leaves out at either end. A few show foci alone, or hardly a head."""

QUANTILE = 0.95
"""Quantile of the validation patients. The maximum would be one patient's, and grow with the size of the cohort."""

MARGIN = 1.25
"""Factor from the quantile of the uncertainty to its limit."""

OUTLINE_MARGIN = 3.5
"""Factor from the quantile of the outline's distance to the least limit where no patient gains by the fallback.

It is large because a great distance means that the outline of the data is wrong, and the uniform map has that outline:
of two validation patients at 1.5 and 2.0 times the quantile it would be 12 and 14 % worse. A misplaced map also
leaves activity outside of it, which has a limit of its own (doubts.MISSING_SHARE).
"""

LEAST_PATIENTS = 10
"""Least number of values for a quantile. With fewer it is close to the maximum."""

LEAST = ("least_counts", "least_side_counts", "sharper", "height_mm", "views")
"""Fields of Coverage that hold the lower end of a range."""

MOST = ("edge_share", "hottest", "pixel_mm")
"""Fields of Coverage that hold the upper end of a range."""


NO_REGIONS = ("ventricles", "inside the skull")
"""Groups of labels that no study reports the uptake of."""

MOST_CUT = 0.05
"""A region of which a larger share lies in rows that were not measured does not count."""

HARM = 0.05
"""A map that leaves this much larger an error than the uniform one does harm."""

CHECKED_ANGLES_DEG = (0.0, 45.0)
"""Rotations at which maps are compared by `loss.factor_error`."""


@dataclass(frozen=True)
class WeighedLimit:
    """Limit of a value above which the uniform map takes over, and what that means for the patients it was set on.

    Parameters
    ----------
    limit
        The limit.
    fall_back
        Number of the patients above it.
    better_off
        Share of these whose uniform map is better; NaN without any.
    caught
        Share of the patients above it among those whose map does harm; NaN without any.

    Examples
    --------
    >>> weighed_limit([1.0, 2.0, 3.0, 4.0], [-0.1, -0.1, 0.1, 0.2], 5.0)
    WeighedLimit(limit=2.5, fall_back=2, better_off=1.0, caught=1.0)
    """

    limit: float
    fall_back: int
    better_off: float
    caught: float


@dataclass(frozen=True, eq=False)
class Judged:
    """What is found on one patient, whose true map is known; NaN where there is none.

    Parameters
    ----------
    spread
        Uncertainty of the map.
    apart_mm
        Distance of its outline from that of the data.
    gain
        Error of the attenuation factors by the map less that by the uniform one. NaN as well for a map that the counts
        contradict, which is not used whatever the limits.
    errors
        Errors of map and factors with their spreads.
    wider
        Factor on both limits: CONFIRMED_FACTOR for a map that the counts confirm.
    beyond
        Whether the patient lies beyond training's ranges.

    Examples
    --------
    >>> Judged(spread=0.02).wider
    1.0
    """

    spread: float = math.nan
    apart_mm: float = math.nan
    gain: float = math.nan
    errors: SpreadErrors | None = None
    wider: float = 1.0
    beyond: bool = False


def weighed_limit(values: Iterable[float], gains: Iterable[float], guard: float) -> WeighedLimit:
    """Limit with the largest summed gain of the patients above it.

    Parameters
    ----------
    values
        Doubt of each patient, such as its uncertainty.
    gains
        Error of the network's map minus that of the uniform one; NaN for patients that do not count, because there can
        be no uniform map or because another limit decides.
    guard
        Least limit where no patient should fall back.

    Returns
    -------
    WeighedLimit
        Midway between two patients' doubts; the highest of those that are equally good.

    Examples
    --------
    >>> weighed_limit([1.0, 2.0], [-0.1, -0.2], 1.5).limit
    2.0
    """
    doubts, better = (np.array(list(column), np.float64) for column in (values, gains))
    counted = np.isfinite(doubts) & np.isfinite(better)
    doubts, better = doubts[counted], better[counted]
    levels = np.unique(doubts)
    most = levels[-1] if levels.size else guard
    limits = np.append(0.5 * (levels[1:] + levels[:-1]), max(guard, most))
    saved = np.array([better[doubts > limit].sum() for limit in limits])
    limit = float(limits[saved == saved.max()].max())
    above, harmful = doubts > limit, better > HARM
    shares = (
        float(chosen[of].mean()) if of.any() else math.nan for chosen, of in ((better > 0, above), (above, harmful))
    )
    return WeighedLimit(limit, int(above.sum()), *shares)


def measured_coverage(
    network: VolumeNetwork, training: Path, validation: Path, beyond: Path | None = None
) -> tuple[Coverage, WeighedLimit, SpreadScale]:
    """Coverage of a network: ranges of its training cohort, limits from patients that it was not trained on.

    Patients whose images show no head are left out, as predicting refuses them too.

    Parameters
    ----------
    network
        Network of a map.
    training, validation
        Folders of the two cohorts, or of several.
    beyond
        The same with patients beyond training's ranges, whose maps may do harm; heads that fall back by their
        size or shape do not count. None: the limits are set on the validation patients alone.

    Returns
    -------
    Coverage
        Ranges and limits that belong into the weights file.
    WeighedLimit
        What the limit of the uncertainty costs and saves.
    SpreadScale
        What the spread of the passes says about errors, from the validation patients.

    Raises
    ------
    InputError
        If fewer than LEAST_PATIENTS validation patients give an uncertainty or a distance.

    Examples
    --------
    >>> import tempfile
    >>> from spectac.learned.estimate import TrainedNetwork
    >>> from spectac.learned.weights_file import shipped_weights
    >>> network = TrainedNetwork.read(shipped_weights()).network
    >>> with tempfile.TemporaryDirectory() as empty:
    ...     measured_coverage(network, Path(empty), Path(empty))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    spectac.recon.errors.InputError: ...: no shards of a cohort: make one with spectac cohort -o ...
    """
    ranges = coverage_of(_patients(training), uncertainty=math.inf, outline_mm=math.inf)
    coverage, weighed, judged = measured_limits(network, ranges, validation, beyond)
    errors = [one.errors for one in judged if one.errors is not None and not one.beyond]
    return coverage, weighed, measured_scale(errors)


def measured_limits(
    network: VolumeNetwork, coverage: Coverage, validation: Path, beyond: Path | None = None
) -> tuple[Coverage, WeighedLimit, tuple["Judged", ...]]:
    """Limits of uncertainty and outline of a network, from patients that it was not trained on.

    Parameters
    ----------
    network
        Network of a map.
    coverage
        Ranges of its training.
    validation, beyond
        See `measured_coverage`.

    Returns
    -------
    Coverage
        The same ranges with limits.
    WeighedLimit
        What the limit of the uncertainty costs and saves.
    tuple[Judged, ...]
        The patients.

    Raises
    ------
    InputError
        As `measured_coverage`.

    Examples
    --------
    >>> measured_limits(network, coverage, Path("cohorts/validation"))  # doctest: +SKIP
    """
    judged = [_judged(network, patient) for patient in _patients(validation)]
    guard = doubt_limit([one.spread for one in judged], MARGIN, "an uncertainty")
    outline_guard_mm = doubt_limit([one.apart_mm for one in judged], OUTLINE_MARGIN, "an outline's distance")
    if beyond is not None:
        others = [patient for patient in _patients(beyond) if not head_doubts(_image(patient, WINDOWS[0]), coverage)]
        judged += [replace(_judged(network, patient), beyond=True) for patient in others]
    gains = [one.gain for one in judged]
    weighed = weighed_limit([one.spread / one.wider for one in judged], gains, guard)
    outline_mm = weighed_limit([one.apart_mm / one.wider for one in judged], gains, outline_guard_mm).limit
    return replace(coverage, uncertainty=weighed.limit, outline_mm=outline_mm), weighed, tuple(judged)


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
    scanner, acquisition = scanner_of(patient), acquisition_of(patient)
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


def _judged(network: VolumeNetwork, patient: PatientArrays) -> Judged:
    found = Judged()
    try:
        seen = patient_input(patient)
        volumes = passes(network, seen, patient.energy_kev)
        found = replace(
            found,
            spread=uncertainty(volumes, seen, patient.energy_kev),
            errors=_spread_errors(volumes, patient, np.asarray(seen.photopeak.any(axis=(1, 2)))),
        )
        mu = MuMap(volumes.mean(axis=0), patient.grid, patient.energy_kev)
        photopeak = _image(patient, WINDOWS[0])
        scatter = next((_image(patient, name) for name in _sides(patient)), None)
        apart_mm = outline_distance_mm(photopeak, scatter, mu)
        found = found if apart_mm is None else replace(found, apart_mm=apart_mm)
        value = default_mu_per_cm(patient.energy_kev, scatter_corrected=True, with_skull=True)
        uniform = value * head_outline(photopeak, scatter).mask
        held = _as_used(mu, patient)
        if held.skull is not None and held.skull.confirmed:
            found = replace(found, wider=CONFIRMED_FACTOR)
        if held.skull is None or not held.skull.contradicted:
            found = replace(found, gain=_error(patient, held.mu.per_cm) - _error(patient, uniform))
    except InputError:
        pass
    return found


def _as_used(mu: MuMap, patient: PatientArrays) -> HeldHead:
    """A map as `predicted` uses it: its skull checked by the counts, or unchecked where they cannot tell, in a holder.

    The study is the patient's photopeak alone, so that its scatter is that of a transport.
    """
    scanner, nuclide = scanner_of(patient), str(patient.parameters["nuclide"])
    acquisition, counts = acquisition_of(patient), patient.counts
    peak = next(window for window in scanner.windows(nuclide) if window.name == WINDOWS[0])
    scatter = patient.expected[1:].sum(axis=0, dtype=np.float32)
    photopeak = Projections(acquisition, counts, patient.energy_kev, scatter=scatter, photopeak=peak)
    heads = HeadHolding(Study(acquisition, (peak,), counts[None]), photopeak, True, None)
    head = without_specks(mu)
    try:
        return heads.checked(head, USUAL_HOLDER)
    except InputError:
        return heads.held(head, USUAL_HOLDER, head_alone=True)


def _spread_errors(volumes: Array, patient: PatientArrays, measured: Array) -> SpreadErrors:
    """Spreads and errors in measured rows (z,) bool, of regions that lie in them."""
    water = water_per_cm(patient.energy_kev)
    masks = {
        name: mask
        for name, mask in vois(patient.labels).items()
        if name not in NO_REGIONS and mask[measured].sum() >= (1.0 - MOST_CUT) * mask.sum()
    }
    truth = patient.head_mu_per_cm / water
    volumes, truth = (np.where(measured[:, None, None], values, np.float32(0.0)) for values in (volumes, truth))
    one_voxel = 0.1 * patient.grid.voxel_mm[2] * water
    seed = int(patient.parameters.get("index", 0))
    return spread_errors(volumes / water, truth, one_voxel, masks or {"head": truth > 0.5}, seed)


def _error(patient: PatientArrays, per_cm: Array) -> float:
    """Mean error of a map's attenuation factors, which to first order is that of the activity; the holder included."""
    water = water_per_cm(patient.energy_kev)
    estimate, truth = (torch.from_numpy(values / np.float32(water))[None] for values in (per_cm, patient.mu_per_cm))
    one_voxel = torch.tensor([0.1 * patient.grid.voxel_mm[2] * water])
    return float(np.mean([float(factor_error(estimate, truth, one_voxel, angle)) for angle in CHECKED_ANGLES_DEG]))


def _sides(patient: PatientArrays) -> list[str]:
    """Names of a patient's windows below the photopeak, the widest first."""
    return [name for name in SIDE_WINDOWS if patient.windows[WINDOWS.index(name)]]


def _patients(folder: Path) -> Iterator[PatientArrays]:
    for path in shards_of(folder):
        for _, patient in read_patients(path):
            yield patient


def _image(patient: PatientArrays, window: str) -> Image:
    return Image(patient.preview[WINDOWS.index(window)], patient.grid, "cps/mL")
