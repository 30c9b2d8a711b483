"""Patients of the benchmarks of short scans, and realisations of their noise.

The usual camera has 64 x 64 pixels of 4 mm, 60 views and 2 heads; the other cameras and the independent heads
are those of the attenuation benchmark, with their counts. Realisation k has Poisson counts of the full time, and a
fifth of them by binomial selection (`spectac thin`): the short scan shares counts with the full one of the same k, and
is independent of the others.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.attenuation.patients import (
    SETS,
    TRACERS,
    Case,
    Simulated,
    Sources,
    draw_patient,
    in_field,
    labelled_case,
    mr_case,
    visible_human_case,
    visible_human_patient,
)
from benchmarks.images.mr_phantom import load
from spectac.recon import Grid, InputError
from spectac.recon.resample import resample
from spectac.recon.thinning import parted
from spectac.recon.types import Array, Study
from spectac.simulate.acquire import Patient, expected_counts
from spectac.simulate.defects import Defect, with_defect
from spectac.simulate.head import draw_head
from spectac.simulate.regions import SIDES
from spectac.simulate.scanner import Scanner
from spectac.simulate.uptake import draw_uptake, vois

LOW_COUNTS = 0x6C6F7763
"""First number of the spawn keys, which no cohort and no other benchmark has."""
CAMERA = Scanner("low counts", "siemens-lehr", matrix=(64, 64), pixel_mm=4.0, views=60, scheme="tew")
CLINICAL = Scanner("low counts, clinical", "siemens-lehr", matrix=(64, 128), pixel_mm=3.3, views=120, scheme="tew")
COUNTS = {"dat": 3e6, "perfusion": 6e6}
"""Photopeak counts of the full time with these two cameras."""
SHARE = 0.2
USUAL, LARGE, CAMERAS, FAN_BEAM = "usual", "128 x 128 x 64", "other cameras", "fan-beam"
MR_HEAD, VISIBLE_HUMAN = "mr head", "visible human"
SET_NAMES = (USUAL, LARGE, CAMERAS, FAN_BEAM, MR_HEAD, VISIBLE_HUMAN)
PREDICTED = (CAMERAS, FAN_BEAM, MR_HEAD, VISIBLE_HUMAN)
"""Sets whose images have the map that `predicted` takes for each scan (uniform where it falls back); others have the
true one."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A patient with what is measured.

    - `study`: expected counts of the full time
    - `case`: truth on the reconstruction's grid
    - `grid`, `masks`, `kbq_per_ml`: the head's own grid, regions (z, y, x) there that do not overlap but for the
      brain's, and the activity
    - `noise`: seed of the realisations
    """

    study: Study
    case: Case
    grid: Grid
    masks: Mapping[str, Array]
    kbq_per_ml: Array
    noise: np.random.SeedSequence


def subject_of(set_name: str, seed: int, tracer: str, index: int, sources: Sources, histories: int) -> Subject:
    """Patient `index` of a set and tracer; InputError where it cannot be simulated or there is none.

    `histories` are those of a full Monte Carlo, which the independent heads have.
    """
    if set_name in (USUAL, LARGE):
        camera = CAMERA if set_name == USUAL else CLINICAL
        simulated, noise = patient_of(seed, tracer, index, camera=camera)
        return _drawn(simulated, tracer, noise)
    if set_name in (CAMERAS, FAN_BEAM):
        # Even patients of these sets are of dopamine transporters, odd ones of perfusion.
        chosen = SETS[set_name]
        patient, usual, scanner, (photons, noise) = draw_patient(seed, chosen, 2 * index + TRACERS.index(tracer))
        expected = expected_counts(patient, scanner, photons)
        study = Study(expected.acquisition, expected.windows, expected.counts)
        return _drawn(Simulated(patient, usual, scanner, expected, study), tracer, noise)
    if index:
        raise InputError(f"{set_name}: there is one patient of each tracer")
    noise = np.random.SeedSequence(seed, spawn_key=(LOW_COUNTS, SET_NAMES.index(set_name), TRACERS.index(tracer)))
    if set_name == MR_HEAD:
        folder = sources.needed("phantom", "the mr head's cases")
        case, phantom = mr_case(folder, tracer, seed, histories, "tew"), load(folder, tracer)
        parts = {name: mask > 0 for name, mask in phantom.regions.items()}
        masks = {"brain": np.logical_or.reduce(list(parts.values())), **parts}
        if tracer == "dat":
            masks = {"reference": parts["cortex"], "striata": parts["striata"]}
        head, kbq_per_ml = phantom.patient.head, phantom.patient.uptake.kbq_per_ml
    else:
        file = sources.needed("visible_human", "the Visible Human's cases")
        patient = visible_human_patient(file, tracer, seed)
        case = visible_human_case(patient, seed, histories, "tew")
        head, masks, kbq_per_ml = patient.head, regions(patient.head.labels, tracer), patient.uptake.kbq_per_ml
    return _subject(case, head.grid, masks, kbq_per_ml, noise, case.study)


def _drawn(simulated: Simulated, tracer: str, noise: np.random.SeedSequence) -> Subject:
    """Subject of a virtual patient."""
    head, uptake = simulated.patient.head, simulated.patient.uptake
    case, masks = labelled_case(simulated, "tew"), regions(head.labels, tracer)
    return _subject(case, head.grid, masks, uptake.kbq_per_ml, noise, simulated.study)


def _subject(
    case: Case, grid: Grid, masks: Mapping[str, Array], kbq_per_ml: Array, noise: np.random.SeedSequence, study: Study
) -> Subject:
    """Subject with the regions that the axial field holds; InputError where it does not hold what others refer to."""
    held = {
        name: mask
        for name, mask in masks.items()
        if in_field(resample(mask.astype(np.float32), grid, case.grid), case.grid, mask, grid)
    }
    reference = "reference" if "reference" in masks else "brain"
    if reference not in held or len(held) < 2:
        raise InputError("the brain reaches beyond the axial field")
    return Subject(study, case, grid, held, kbq_per_ml, noise)


def regions(labels: Array, tracer: str) -> dict[str, Array]:
    """Masks (z, y, x) of the regions that are read: those of a tracer do not overlap, but for the brain's."""
    masks = vois(labels)
    lobes = [f"{side} {lobe} cortex" for lobe in ("frontal", "parietal", "temporal", "occipital") for side in SIDES]
    deep = [f"{side} {part}" for part in ("caudate", "putamen") for side in SIDES]
    wanted = ["reference", *deep] if tracer == "dat" else ["brain", *deep, *lobes, "white matter", "cerebellum"]
    return {name: masks[name] for name in wanted if name in masks}


def patient_of(
    seed: int, tracer: str, index: int, kind: str | None = None, defect: str | None = None, camera: Scanner = CAMERA
) -> tuple[Simulated, np.random.SeedSequence]:
    """Patient `index` of a tracer with expected counts of the full time, and the seed of the noise.

    With a defect the patient is the same but for it, the camera's time too.
    """
    key = (LOW_COUNTS, tuple(COUNTS).index(tracer), index)
    head_seed, uptake_seed, photons, noise = np.random.SeedSequence(seed, spawn_key=key).spawn(4)
    head = draw_head(np.random.default_rng(head_seed))
    uptake = draw_uptake(tracer, head, np.random.default_rng(uptake_seed), kind=kind)
    scanner = camera.around(head)
    whole = expected_counts(Patient(head, uptake), scanner, photons)
    expected = whole.with_counts(COUNTS[tracer])
    if defect is not None:
        uptake = with_defect(uptake, head, Defect.read(defect), np.random.default_rng((seed, index)))
        changed = expected_counts(Patient(head, uptake), scanner, photons)
        ratio = float(changed.counts[0].sum(dtype=np.float64) / whole.counts[0].sum(dtype=np.float64))
        expected = changed.with_counts(COUNTS[tracer] * ratio)
    study = Study(expected.acquisition, expected.windows, expected.counts)
    return Simulated(Patient(head, uptake), None, scanner, expected, study), noise


def realisations(expected: Study, noise: np.random.SeedSequence, number: int) -> Iterator[tuple[Study, Study]]:
    """Studies of the full time, whose expected counts are given, and of a fifth of it, taken from the full one."""
    for one in noise.spawn(number):
        rng = np.random.default_rng(one)
        full = replace(expected, counts=rng.poisson(expected.counts.astype(np.float64)).astype(np.float32))
        yield full, parted(full, SHARE, rng)[0]
