"""The last step of training: what the cohorts covered, and how large uncertainty and outline distance usually are."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from spectac.learned.coverage import Coverage
from spectac.learned.estimate import passes, uncertainty
from spectac.learned.network import VolumeNetwork
from spectac.learned.outline_distance import outline_distance_mm
from spectac.learned.patients import SIDE_WINDOWS, previews_of
from spectac.recon.errors import InputError
from spectac.recon.types import Image, MuMap
from spectac.simulate.cohort.patient_arrays import WINDOWS, PatientArrays
from spectac.simulate.cohort.shards import read_patients

QUANTILE, MARGIN, OUTLINE_MARGIN = 0.95, 1.25, 2.0
"""Limits lie so far above this quantile of the validation patients: they are few, and a fallback costs accuracy too.

Not above the most, which is one patient's, the worst that training gave, and grows with the size of the cohort. The
outline's is wider, for the one that the data show is the less certain of the two: in a virtual DAT study of 2 million
counts with a background of high energy it lay 8.5 mm from the skin, the network's 2.4 mm.
"""

LEAST_PATIENTS = 10
"""With fewer values the quantile is the most again, and says little."""


def measured_coverage(network: VolumeNetwork, training: Path, validation: Path) -> Coverage:
    """Coverage of a network that was trained with the cohort in one folder, its limits from the patients of another.

    Patients whose images show no head, which predicting refuses as well, are left out.
    Raises InputError where fewer than LEAST_PATIENTS of the validation patients give an uncertainty or a distance.
    """
    spreads: list[float] = []
    distances: list[float | None] = []
    for patient in _patients(validation):
        try:
            seen = previews_of(patient)
            found = passes(network, seen, patient.energy_kev)
            spreads.append(uncertainty(found, seen, patient.energy_kev))
            mu = MuMap(found.mean(axis=0), patient.grid, patient.energy_kev)
            distances.append(outline_distance_mm(_image(patient, "photopeak"), _side(patient), mu))
        except InputError:
            continue
    return Coverage.of(
        _patients(training),
        uncertainty=MARGIN * _usual(spreads, "an uncertainty"),
        outline_mm=OUTLINE_MARGIN * _usual(distances, "an outline's distance"),
    )


def _usual(values: Sequence[float | None], name: str) -> float:
    """The quantile of what is known and finite; InputError for too few values."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    if len(known) < LEAST_PATIENTS:
        raise InputError(
            f"{len(known)} validation patients gave {name}, limits need {LEAST_PATIENTS}: "
            "make a larger validation cohort"
        )
    return float(np.quantile(known, QUANTILE))


def _patients(folder: Path) -> Iterator[PatientArrays]:
    for path in sorted(folder.glob("shard-*.h5")):
        for _, patient in read_patients(path):
            yield patient


def _image(patient: PatientArrays, window: str) -> Image:
    return Image(patient.preview[WINDOWS.index(window)], patient.grid, "cps/mL")


def _side(patient: PatientArrays) -> Image | None:
    there = [name for name in SIDE_WINDOWS if patient.windows[WINDOWS.index(name)]]
    return _image(patient, there[0]) if there else None
