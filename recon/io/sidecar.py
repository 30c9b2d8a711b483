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
from spectac.recon.filters import GaussianFilter, parse_post_filter
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import Acquisition, EnergyWindow, Injection, Result, Study

_METHODS = {
    "osem": "OSEM",
    "mlem": "MLEM",
    "map": "MAP by BSREM with the relative-difference prior",
    "fbp": "filtered backprojection",
}
_FROM_PATIENT = {
    "Manufacturer": "Manufacturer",
    "ManufacturersModelName": "ManufacturerModelName",
}
"""BIDS key to the DICOM keyword of `Study.patient`; BIDS adds an s to the maker's model."""


def bids_keys(study: Study, result: Result, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of the side-car of the image that `reconstruct` made of a study, ready for JSON.

    `parameters` are those of `reconstruct` as record.json has them, filters by name: algorithm, iterations, subsets,
    prior_beta, fbp_filter, resolution, post_filter; those left out are not written about. Photopeak, attenuation and
    scatter are those of the result.
    Raises InputError for parameters that `reconstruct` would not take.
    """
    acquisition = study.acquisition
    keys: dict[str, Any] = {"Modality": "NM"}
    keys |= {key: study.patient[word] for key, word in _FROM_PATIENT.items() if study.patient.get(word)}
    keys["TracerRadionuclide"] = nuclide_by_name(acquisition.nuclide).symbol.replace("-", "")
    keys |= _injected(study)
    if acquisition.collimator is not None:
        keys["Collimator"] = acquisition.collimator.name
    used = result.projections
    if used is not None and used.photopeak is not None:
        keys["EnergyWindowKeV"] = _limits(used.photopeak)
    keys |= _times(acquisition)
    keys |= _method(parameters)
    if result.attenuation is not None:
        keys["AttenuationCorrection"] = result.attenuation
    if used is not None:
        keys["ScatterCorrectionMethod"] = used.scatter_method
        if used.scatter_windows:
            keys["ScatterWindowsKeV"] = [_limits(window) for window in used.scatter_windows]
    return keys


def _limits(window: EnergyWindow) -> list[float]:
    return [window.lower_kev, window.upper_kev]


def _injected(study: Study) -> dict[str, Any]:
    """Agent, dose and time of injection (s from TimeZero, negative before it), and the patient's weight in kg."""
    keys: dict[str, Any] = {}
    injection, start = study.injection or Injection(), study.acquisition.start
    if injection.agent:
        keys["TracerName"] = injection.agent
    if injection.activity_mbq is not None:
        keys |= {"InjectedRadioactivity": injection.activity_mbq, "InjectedRadioactivityUnits": "MBq"}
    if isinstance(injection.at, datetime) and start is not None:
        zero = start.replace(microsecond=0, tzinfo=injection.at.tzinfo)
        keys["InjectionStart"] = (injection.at - zero).total_seconds()
    with suppress(ValueError):
        keys["PatientWeight"] = float(study.patient["PatientWeight"]) if "PatientWeight" in study.patient else None
    return {key: value for key, value in keys.items() if value is not None}


def _times(acquisition: Acquisition) -> dict[str, Any]:
    """When the scan was, and to which moment its decay is corrected; TimeZero is the whole second of the start."""
    keys: dict[str, Any] = {}
    begin_s = None
    if acquisition.start is not None:
        begin_s = acquisition.start.microsecond * 1e-6
        keys |= {"TimeZero": f"{acquisition.start:%H:%M:%S}", "ScanStart": begin_s}
    if acquisition.times_known:
        starts = np.asarray(acquisition.view_start_s)
        first, last = float(starts.min()), float((starts + acquisition.view_seconds).max())
        if begin_s is not None:
            keys["FrameTimesStart"] = [round(begin_s + first, 6)]
        keys["FrameDuration"] = [round(last - first, 6)]
    # Projections that came decay corrected do not say to which moment.
    before = "DECY" in acquisition.corrections
    keys["ImageDecayCorrected"] = before or acquisition.times_known
    if begin_s is not None and acquisition.times_known and not before:
        keys["ImageDecayCorrectionTime"] = begin_s
    return keys


def _method(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Algorithm, its numbers and the post-filter."""
    keys: dict[str, Any] = {}
    algorithm = parameters.get("algorithm")
    numbers: list[tuple[str, str, float]] = []
    if algorithm is not None:
        keys["ReconMethodName"] = _METHODS.get(algorithm, algorithm)
    if algorithm == "fbp":
        chosen = parameters.get("fbp_filter")
        ramp = RampWindow() if chosen is None else parse_filter(chosen)
        keys["ReconMethodName"] += f", {ramp.window} window"
        numbers.append(("cut-off", "fraction of the Nyquist frequency", ramp.cutoff))
        if ramp.window == "butterworth":
            numbers.append(("order", "none", ramp.order))
    else:
        asked = (("iterations", "iterations"), ("subsets", "subsets"), ("beta of the prior", "prior_beta"))
        numbers += [(label, "none", parameters[name]) for label, name in asked if parameters.get(name) is not None]
        if parameters.get("resolution") is not None:
            keys["ResolutionRecovery"] = bool(parameters["resolution"])
    if numbers:
        labels, units, values = (list(column) for column in zip(*numbers, strict=True))
        keys |= {
            "ReconMethodParameterLabels": labels,
            "ReconMethodParameterUnits": units,
            "ReconMethodParameterValues": values,
        }
    if "post_filter" in parameters:
        keys |= _filter(parameters["post_filter"])
    return keys


def _filter(post_filter: str | None) -> dict[str, Any]:
    if post_filter is None:
        return {"ReconFilterType": "none"}
    chosen = parse_post_filter(post_filter)
    if isinstance(chosen, GaussianFilter):
        return {"ReconFilterType": "Gaussian", "ReconFilterSize": chosen.fwhm_mm}
    # BIDS has a width in mm alone, which a Butterworth filter does not have.
    return {"ReconFilterType": f"Butterworth, cut-off {chosen.cutoff_per_cm:g} per cm, order {chosen.order:g}"}
