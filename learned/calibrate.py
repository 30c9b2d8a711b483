"""The last step of training: what the cohorts covered, and how large uncertainty and outline distance usually are."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spectac.learned.coverage import Coverage
from spectac.learned.estimate import passes, uncertainty
from spectac.learned.network import VolumeNetwork
from spectac.learned.outline_distance import outline_distance_mm
from spectac.learned.patients import SIDE_WINDOWS, previews_of
from spectac.recon.types import Image, MuMap
from spectac.simulate.cohorts.patient_arrays import WINDOWS, PatientArrays
from spectac.simulate.cohorts.shards import read_patients

MARGIN = 1.25
"""Limits lie so far above the most of the validation patients: they are few, and a fallback costs accuracy too."""


def measured_coverage(network: VolumeNetwork, training: Path, validation: Path) -> Coverage:
    """Coverage of a network that was trained with the cohort in one folder, its limits from the patients of another."""
    spreads, distances = [], []
    for patient in _patients(validation):
        found = passes(network, previews_of(patient), patient.energy_kev)
        mean, spread = found.mean(axis=0), found.std(axis=0)
        spreads.append(uncertainty(mean, spread, patient.energy_kev))
        apart_mm = outline_distance_mm(
            _image(patient, "photopeak"), _side(patient), MuMap(mean, patient.grid, patient.energy_kev)
        )
        if apart_mm is not None:
            distances.append(apart_mm)
    return Coverage.of(
        _patients(training), uncertainty=MARGIN * float(np.max(spreads)), outline_mm=MARGIN * float(np.max(distances))
    )


def _patients(folder: Path) -> Iterator[PatientArrays]:
    for path in sorted(folder.glob("shard-*.h5")):
        for _, patient in read_patients(path):
            yield patient


def _image(patient: PatientArrays, window: str) -> Image:
    return Image(patient.preview[WINDOWS.index(window)], patient.grid, "cps/mL")


def _side(patient: PatientArrays) -> Image | None:
    there = [name for name in SIDE_WINDOWS if patient.windows[WINDOWS.index(name)]]
    return _image(patient, there[0]) if there else None
