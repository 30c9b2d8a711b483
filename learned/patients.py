"""A cohort's patient as the network sees it: previews, and the camera that its parameters describe."""

from dataclasses import replace

from spectac.learned.inputs import Previews, energy_loss, normalised
from spectac.recon.types import Acquisition
from spectac.simulate.cohort.patient_arrays import WINDOWS, PatientArrays
from spectac.simulate.scanner import Scanner

SIDE_WINDOWS = ("scatter", "lower")
"""Windows that can fill the scatter channel, the wider one first, as inputs.side_windows has them."""

FAR_MM = 400.0


def scanner_of(patient: PatientArrays) -> Scanner:
    """The camera that the patient's parameters describe."""
    fields = dict(patient.parameters["scanner"])
    return Scanner(**{**fields, "matrix": tuple(fields["matrix"])})


def acquisition_of(patient: PatientArrays) -> Acquisition:
    """How `counts` were taken, but on a circle far away: radii that followed the head are not kept, and not needed.

    Previews know no blur, and a map may reach beyond an orbit while a network is learning.
    """
    circle = replace(scanner_of(patient), orbit="circular", radius_mm=FAR_MM)
    return circle.acquisition(str(patient.parameters["nuclide"]))


def previews_of(patient: PatientArrays) -> Previews:
    """What the network sees of a patient before any round."""
    voxel_ml = patient.grid.voxel_ml
    scatter, loss = None, 0.0
    there = {w.name: w for w in scanner_of(patient).windows(str(patient.parameters["nuclide"]))}
    for name in SIDE_WINDOWS:
        image = patient.preview[WINDOWS.index(name)]
        if name in there and image.max() > 0:
            scatter, loss = normalised(image, voxel_ml), energy_loss(there["photopeak"], there[name])
            break
    return Previews(normalised(patient.preview[0], voxel_ml), patient.energy_kev, scatter, loss)
