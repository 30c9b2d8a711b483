"""Network inputs of the patients of a cohort, and the camera that their parameters describe."""

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from spectac.learned.inputs import NetworkInput, energy_loss, normalised
from spectac.recon.types import Acquisition
from spectac.simulate.cohort.patient_arrays import WINDOWS, PatientArrays
from spectac.simulate.scanner import Scanner

if TYPE_CHECKING:
    from spectac.simulate.head import Head

SIDE_WINDOWS = ("scatter", "lower")
"""Windows that can fill the scatter channel, the widest first, as in `inputs.side_windows`."""


def scanner_of(patient: PatientArrays) -> Scanner:
    """Camera and protocol of a cohort's patient.

    Parameters
    ----------
    patient
        Patient of a cohort.

    Returns
    -------
    Scanner
        With the numbers that were drawn for this patient.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> patient = SimpleNamespace(parameters={"scanner": Scanner("tiny", "siemens-lehr", views=64).record()})
    >>> scanner_of(patient).views
    64
    """
    return Scanner.of_record(patient.parameters["scanner"])


def acquisition_of(patient: PatientArrays) -> Acquisition:
    """Acquisition of a cohort's patient.

    Parameters
    ----------
    patient
        Patient of a cohort.

    Returns
    -------
    Acquisition
        Views of its camera. Radii of a contour orbit follow from the labels on the preview's grid.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> parameters = {"scanner": Scanner("tiny", "siemens-lehr", views=64).record(), "nuclide": "I-123"}
    >>> acquisition_of(SimpleNamespace(parameters=parameters)).views
    64
    """
    scanner = scanner_of(patient)
    # A contour orbit needs labels and their grid alone, which a cohort's patient has as well as a head.
    head = cast("Head", patient) if scanner.orbit == "contour" else None
    return scanner.acquisition(str(patient.parameters["nuclide"]), head)


def patient_input(patient: PatientArrays) -> NetworkInput:
    """Network input of a cohort's patient: that of a study of the same patient.

    Parameters
    ----------
    patient
        Patient of a cohort.

    Returns
    -------
    NetworkInput
        Images on the patient's grid. Scatter is that of the first of SIDE_WINDOWS whose preview holds activity.

    Raises
    ------
    InputError
        If a preview shows no head.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> grid, preview = SimpleNamespace(voxel_ml=8.0), np.ones((4, 8, 8, 8))
    >>> parameters = {"nuclide": "I-123", "scanner": Scanner("tiny", "siemens-lehr", scheme="tew").record()}
    >>> patient = SimpleNamespace(
    ...     grid=grid, preview=preview, recovered=preview[0], energy_kev=158.97, parameters=parameters
    ... )
    >>> round(patient_input(patient).energy_loss, 3)
    0.135
    """
    voxel_ml = patient.grid.voxel_ml
    seen = NetworkInput(
        normalised(patient.preview[0], voxel_ml),
        patient.energy_kev,
        recovered=normalised(patient.recovered, voxel_ml),
    )
    windows = {window.name: window for window in scanner_of(patient).windows(str(patient.parameters["nuclide"]))}
    for name in SIDE_WINDOWS:
        image = patient.preview[WINDOWS.index(name)]
        if name in windows and image.max() > 0:
            loss = energy_loss(windows["photopeak"], windows[name])
            return replace(seen, scatter=normalised(image, voxel_ml), energy_loss=loss)
    return seen
