"""What a reconstructed image's JSON side-car says, in the words of PET-BIDS where it has one of the same meaning.

Only what the study, the result and the parameters tell is written: a key that is absent is unknown. PET-BIDS:
https://bids-specification.readthedocs.io, modality "Positron Emission Tomography"; Norgaard M et al., Sci Data 2022;
9:65, doi:10.1038/s41597-022-01164-1. docs/formats.md lists the keys, and which of them are spectac's own.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import numpy as np

from spectac.recon.backprojection import RampWindow, parse_filter
from spectac.recon.collimator import Focus
from spectac.recon.filters import GaussianFilter, parse_post_filter
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import Acquisition, EnergyWindow, Injection, LowCounts, Projections, Result, Study

_METHODS = {
    "osem": "OSEM",
    "mlem": "MLEM",
    "map": "MAP by BSREM with the relative-difference prior",
    "fbp": "filtered backprojection",
}
_NUMBERS = {"iterations": "iterations", "subsets": "subsets", "prior_beta": "beta of the prior"}
"""Numbers of an iterative method, and their labels."""


def bids_keys(study: Study, result: Result, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of the side-car of the image that `reconstruct` made of a study, ready for JSON.

    Photopeak, attenuation and scatter are those of the result.

    Parameters
    ----------
    study : Study
        Who was scanned, with what, and when.
    result : Result
        The image's attenuation and projections.
    parameters : mapping
        Those of `reconstruct` as record.json has them, filters by name: algorithm, iterations, subsets, prior_beta,
        fbp_filter, resolution, post_filter. Those left out are not written about.

    Returns
    -------
    dict of str to object
        Values by key; a key whose value is unknown is absent.

    Raises
    ------
    InputError
        For parameters that `reconstruct` would not take.

    Examples
    --------
    >>> from spectac.recon.types import Grid, Image
    >>> acquisition = Acquisition([0, 90], [200, 200], (1, 2), (4, 4), [20, 20], "I-123", None)
    >>> study = Study(acquisition, (EnergyWindow("peak", 143, 175),), np.ones((1, 2, 1, 2)))
    >>> image = Image(np.ones((1, 1, 1)), Grid.upright((1, 1, 1), (4, 4, 4), (0, 0, 0)), "cps/mL")
    >>> keys = bids_keys(study, Result(image), {"algorithm": "fbp", "post_filter": "gaussian:8"})
    >>> keys["TracerRadionuclide"], keys["ReconMethodName"], keys["ReconFilterSize"]
    ('I123', 'filtered backprojection, hann window', 8.0)
    """
    acquisition = study.acquisition
    keys = {
        "Modality": "NM",
        "Manufacturer": study.patient.get("Manufacturer") or None,
        # BIDS adds an s to the maker's model.
        "ManufacturersModelName": study.patient.get("ManufacturerModelName") or None,
        "TracerRadionuclide": nuclide_by_name(acquisition.nuclide).symbol.replace("-", ""),
        **_injected(study),
        "Collimator": acquisition.collimator and acquisition.collimator.name,
        "CollimatorFoci": [_focus(focus) for focus in acquisition.foci] or None,
        "EnergyWindowKeV": result.projections and _limits(result.projections.photopeak),
        **_times(acquisition),
        **_method(parameters, result.low_counts),
        "AttenuationCorrection": result.attenuation,
        **_scatter(result.projections),
    }
    return {key: value for key, value in keys.items() if value is not None}


def _focus(focus: Focus) -> dict[str, Any]:
    return {"LengthMm": focus.length_mm, "CountedFrom": focus.counted_from, "OffsetMm": focus.offset_mm}


def _limits(window: EnergyWindow | None) -> list[float] | None:
    return None if window is None else [window.lower_kev, window.upper_kev]


def _scatter(projections: Projections | None) -> dict[str, Any]:
    """Method and energy windows of the scatter correction."""
    if projections is None:
        return {}
    windows = [_limits(window) for window in projections.scatter_windows]
    return {"ScatterCorrectionMethod": projections.scatter_method, "ScatterWindowsKeV": windows or None}


def _injected(study: Study) -> dict[str, Any]:
    """Agent, dose and time of injection (s from TimeZero, negative before it), and the patient's weight in kg."""
    injection, start = study.injection or Injection(), study.acquisition.start
    injected_s = weight_kg = None
    if isinstance(injection.at, datetime) and start is not None:
        at = injection.at
        if at.tzinfo is None or start.tzinfo is None:  # a time without a zone is taken to be in the other's zone
            at, start = at.replace(tzinfo=None), start.replace(tzinfo=None)
        injected_s = (at - start.replace(microsecond=0)).total_seconds()
    with suppress(KeyError, ValueError):
        weight_kg = float(study.patient["PatientWeight"])
    return {
        "TracerName": injection.agent or None,
        "InjectedRadioactivity": injection.activity_mbq,
        "InjectedRadioactivityUnits": None if injection.activity_mbq is None else "MBq",
        "InjectionStart": injected_s,
        "PatientWeight": weight_kg,
    }


def _times(acquisition: Acquisition) -> dict[str, Any]:
    """When the scan was, and to which moment its decay is corrected; TimeZero is the whole second of the start."""
    start = acquisition.start
    begin_s = None if start is None else start.microsecond * 1e-6
    first = duration = None
    if acquisition.times_known:
        starts = np.asarray(acquisition.view_start_s)
        first, last = float(starts.min()), float((starts + acquisition.view_seconds).max())
        duration = [round(last - first, 6)]
    # Projections that came decay corrected do not say to which moment.
    corrected_before = "DECY" in acquisition.corrections
    return {
        "TimeZero": start and f"{start:%H:%M:%S}",
        "ScanStart": begin_s,
        "FrameTimesStart": None if begin_s is None or first is None else [round(begin_s + first, 6)],
        "FrameDuration": duration,
        "ImageDecayCorrected": corrected_before or acquisition.times_known,
        "ImageDecayCorrectionTime": begin_s if acquisition.times_known and not corrected_before else None,
    }


def _method(parameters: Mapping[str, Any], low_counts: LowCounts) -> dict[str, Any]:
    """Algorithm, its numbers and the post-filter."""
    algorithm = parameters.get("algorithm")
    name = algorithm and _METHODS.get(algorithm, algorithm)
    if low_counts.method == "map":  # which takes the place of the post-filter too
        name = _METHODS["map"]
        parameters = {**parameters, "prior_beta": low_counts.prior_beta, "post_filter": None}
    elif low_counts.method != "none":
        name = f"{name}, anchored to the image of the low-counts model {low_counts.method}"
    resolution = parameters.get("resolution")
    if algorithm == "fbp":
        chosen = parameters.get("fbp_filter")
        ramp = RampWindow() if chosen is None else parse_filter(chosen)
        name, resolution = f"{name}, {ramp.window} window", None
        numbers = [("cut-off", "fraction of the Nyquist frequency", ramp.cutoff)]
        if ramp.window == "butterworth":
            numbers.append(("order", "none", ramp.order))
    else:
        values = {label: parameters.get(key) for key, label in _NUMBERS.items()}
        numbers = [(label, "none", value) for label, value in values.items() if value is not None]
    labels, units, values_ = ([*column] for column in zip(*numbers, strict=True)) if numbers else (None, None, None)
    return {
        "ReconMethodName": name,
        "ResolutionRecovery": None if resolution is None else bool(resolution),
        "ReconMethodParameterLabels": labels,
        "ReconMethodParameterUnits": units,
        "ReconMethodParameterValues": values_,
        **(_filter(parameters["post_filter"]) if "post_filter" in parameters else {}),
    }


def _filter(post_filter: str | None) -> dict[str, Any]:
    if post_filter is None:
        return {"ReconFilterType": "none"}
    chosen = parse_post_filter(post_filter)
    if isinstance(chosen, GaussianFilter):
        return {"ReconFilterType": "Gaussian", "ReconFilterSize": chosen.fwhm_mm}
    # BIDS has a width in mm alone, which a Butterworth filter does not have.
    return {"ReconFilterType": f"Butterworth, cut-off {chosen.cutoff_per_cm:g} per cm, order {chosen.order:g}"}
