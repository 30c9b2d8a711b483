"""Patients of the attenuation study: the simulated study of each, and its truth on the reconstruction's grid.

A patient is a function of (seed, set, index). Its seeds carry a spawn key that no cohort has, so that training cannot
have seen one of these patients.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_fill_holes

from benchmarks.images.mr_phantom import MATRIX, load
from spectac.recon import Grid, InputError, MuMap, Study, default_grid
from spectac.recon.contour import Outline
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.resample import resample
from spectac.recon.types import Array
from spectac.simulate.acquire import Expected, Patient, expected_counts
from spectac.simulate.anatomy.ranges import ADULT_AND_CHILD, OUTSIDE_TRAINING, HeadRanges, draw_shape
from spectac.simulate.head import Head, draw_head
from spectac.simulate.regions import BESIDE, SIDES
from spectac.simulate.scanner import OUTSIDE_TRAINING as OTHER_SCANNERS
from spectac.simulate.scanner import SCANNERS, TRAINING, Scanner, ScannerRanges, draw_scanner
from spectac.simulate.uptake import draw_uptake, vois

BENCHMARK = 0x61747465
"""First number of the spawn keys; those of cohorts are (index,)."""

WITH_SCATTER = (("tew", 0.6), ("tew+scatter", 0.4))
"""Window schemes of all sets but one, about in training's proportion. Other schemes allow a scatter correction only
with a guessed factor; a narrow-beam map, the true one too, is then wrong by 20-30 %."""

EDGE_MM = 12.0
"""Part of the axial field, at each end, in which a region loses counts whatever the attenuation."""

MOST_CUT = 0.05
"""A region is left out where a larger share of it lies beyond the axial field or within EDGE_MM of its end."""

SPAWN_KEY = {
    "unseen": 0, "monte carlo": 1, "other heads": 2, "other scanners": 3, "tuning": 4, "clinical matrix": 5,
    "unusual heads": 6, "scatter": 7,
}  # fmt: skip
"""Second number of each set's spawn keys."""


@dataclass(frozen=True)
class Sampling:
    """Matrix (z, u), pixel and number of views of a protocol."""

    matrix: tuple[int, int]
    pixel_mm: float
    views: int


CLINICAL = Sampling((128, 128), 3.3, 120)
"""Usual protocol of a head scan. Its axial field of 422 mm is longer than a preview, so that the vertex is searched."""


@dataclass(frozen=True)
class PatientSet:
    """Kind of patients; `like` names the set that lends its patients, with one thing changed.

    Pixels, fields and views are drawn as training's where `sampling` is None. Heads are drawn from the general
    population; the unusual heads that training adds have a set of their own.
    """

    name: str
    full: bool = False
    heads: HeadRanges = ADULT_AND_CHILD
    scanners: ScannerRanges = TRAINING
    like: str = ""
    scheme: str = ""
    counts: float = 1.0
    sampling: Sampling | None = None


SETS = {
    one.name: one
    for one in (
        PatientSet("unseen"),
        PatientSet("monte carlo", full=True),
        PatientSet("unusual heads", heads=replace(ADULT_AND_CHILD, unusual_probability=1.0)),
        PatientSet("other heads", heads=OUTSIDE_TRAINING),
        PatientSet("other scanners", scanners=OTHER_SCANNERS),
        PatientSet("clinical matrix", sampling=CLINICAL),
        PatientSet("fifth of counts", like="unseen", counts=0.2),
        PatientSet("no scatter window", like="unseen", scheme="photopeak"),
        PatientSet("tuning"),
        PatientSet("scatter", full=True),
    )
}


@dataclass(frozen=True, eq=False)
class Case:
    """A study and its truth on the reconstruction's grid.

    - `primary` (v, z, u): expected counts of the photopeak without scatter
    - `activity` (z, y, x): kBq/mL
    - `mu`: true map with holder and pillow; `head_mu` without them; `simulated_mu` with them on the simulation's grid
    - `usual_bone_mu`: `mu` with bones of the average head's density; None where the density is not known
    - `head`: share (z, y, x) of each voxel inside the patient; `outline` the same on the simulation's grid
    - `regions`: shares (z, y, x) by name; those of `compared` enter the means
    - `ratio`: regions (over, under) of the binding ratio or of the pattern
    - `about`: facts for the CSV
    """

    study: Study
    primary: Array
    activity: Array
    mu: MuMap
    head_mu: MuMap
    simulated_mu: MuMap
    usual_bone_mu: MuMap | None
    head: Array
    outline: Outline
    regions: Mapping[str, Array]
    compared: tuple[str, ...]
    ratio: tuple[tuple[str, ...], str]
    cps_per_kbq: float
    about: Mapping[str, str | int | float]

    @property
    def grid(self) -> Grid:
        """Grid of the reconstruction."""
        return self.mu.grid


def _seeds(seed: int, chosen: PatientSet, index: int) -> list[np.random.SeedSequence]:
    """Seeds of patient `index`: head, uptake, scanner, photons, noise."""
    key = (BENCHMARK, SPAWN_KEY[chosen.like or chosen.name], index)
    return np.random.SeedSequence(seed, spawn_key=key).spawn(5)


def has_holder(seed: int, chosen: PatientSet, index: int) -> bool:
    """Whether the head of patient `index` lies in a head-holder."""
    return draw_shape(np.random.default_rng(_seeds(seed, chosen, index)[0]), chosen.heads).holder


def draw_patient(
    seed: int, chosen: PatientSet, index: int
) -> tuple[Patient, Head, Scanner, tuple[np.random.SeedSequence, ...]]:
    """Patient `index` of a set, the head with usual bones, the scanner, and seeds of the photons and of the noise."""
    head_seed, uptake_seed, scanner_seed, *rest = _seeds(seed, chosen, index)
    usual_bone = replace(chosen.heads, bone_density=(1.0, 1.0))
    head, usual = (draw_head(np.random.default_rng(head_seed), ranges=ranges) for ranges in (chosen.heads, usual_bone))
    tracer, nuclide = ("dat", "I-123") if index % 2 == 0 else ("perfusion", None)
    if chosen.name == "tuning":  # as many of each nuclide
        tracer, nuclide = (("dat", "I-123"), ("perfusion", "Tc-99m"), ("perfusion", "I-123"), ("perfusion", "Tc-99m"))[
            index % 4
        ]
    if chosen.name == "scatter":
        tracer, nuclide = (("dat", "I-123"), ("perfusion", "I-123"), ("perfusion", "Tc-99m"))[index % 3]
    uptake = draw_uptake(tracer, head, np.random.default_rng(uptake_seed), nuclide=nuclide)
    ranges = replace(chosen.scanners, schemes=WITH_SCATTER)
    fixed = {} if chosen.sampling is None else vars(chosen.sampling)
    scanner = replace(draw_scanner(np.random.default_rng(scanner_seed), ranges=ranges), **fixed)
    if chosen.scheme:
        scanner = replace(scanner, scheme=chosen.scheme)
    return Patient(head, uptake), usual, scanner.around(head), tuple(rest)


def virtual_case(
    seed: int,
    chosen: PatientSet,
    index: int,
    histories: int,
    *,
    noise: bool = True,
    changed: Callable[[Scanner], Scanner] = lambda scanner: scanner,
) -> Case:
    """Patient `index` of a set, with Poisson noise or without, on a camera that is `changed` from the one drawn.

    Raises InputError where it cannot be simulated.
    """
    patient, usual, scanner, (photons, poisson) = draw_patient(seed, chosen, index)
    scanner = changed(scanner)
    if chosen.full:
        expected = expected_counts(patient, scanner, photons, full=True, histories=histories)
    else:
        expected = expected_counts(patient, scanner, photons)
    if chosen.counts != 1.0:
        expected = expected.with_counts(chosen.counts * float(expected.counts[0].sum(dtype=np.float64)))
    masks = vois(patient.head.labels)
    deep = [masks[name] for name in ("caudate", "putamen", "thalamus") if name in masks]
    if deep:
        masks["deep grey"] = np.logical_or.reduce(deep)
    lobes = ("frontal", "parietal", "temporal")
    cortex = (*(f"{side} {lobe} cortex" for lobe in lobes for side in SIDES), "cingulate cortex")
    over: tuple[str, ...]
    if patient.uptake.tracer == "dat":
        over, under = ("right striatum", "left striatum"), "reference"
        compared = (*over, under, *cortex, "white matter", "cerebellum")
    else:
        over, under = ("deep grey",), "cortex"
        occipital = tuple(f"{side} occipital cortex" for side in SIDES)
        compared = (*cortex, *occipital, "deep grey", "white matter", "cerebellum")
    measured = dict.fromkeys((*compared, *over, under, "brain"))
    regions = {name: masks[name].astype(np.float32) for name in measured if name in masks}
    study = expected.study(np.random.default_rng(poisson))
    if not noise:
        study = replace(study, counts=expected.counts)
    return _case(Simulated(patient, usual, scanner, expected, study), regions, compared, (over, under))


def mr_case(folder: Path, tracer: str, seed: int, histories: int) -> Case:
    """The independent head of images/mr_phantom.py: full Monte Carlo, without noise."""
    phantom = load(folder, tracer)
    scanner = replace(SCANNERS["siemens-intevo-lehr"], scheme="tew+scatter", matrix=MATRIX)
    expected = expected_counts(phantom.patient, scanner, seed, full=True, histories=histories)
    study = Study(expected.acquisition, expected.windows, expected.counts)
    regions = dict(phantom.regions)
    regions["brain"] = np.minimum(sum(regions.values()), 1.0).astype(np.float32)
    compared = ("striata", "cortex", "white matter")
    return _case(
        Simulated(phantom.patient, None, scanner, expected, study), regions, compared, (("striata",), "cortex")
    )


@dataclass(frozen=True, eq=False)
class Simulated:
    """A patient, the same head with bones of usual density (None: not known), the camera, and the study."""

    patient: Patient
    usual: Head | None
    scanner: Scanner
    expected: Expected
    study: Study


def _case(
    simulated: Simulated,
    regions: Mapping[str, Array],
    compared: tuple[str, ...],
    ratio: tuple[tuple[str, ...], str],
) -> Case:
    """The study with its truth on the reconstruction's grid."""
    head, uptake, study = simulated.patient.head, simulated.patient.uptake, simulated.study
    grid = default_grid(study.acquisition)
    energy_kev = nuclide_by_name(uptake.nuclide).main_kev
    mu = head.mu(energy_kev)
    body = _body(head)

    def on_grid(values: Array) -> Array:
        return resample(np.asarray(values, np.float32), head.grid, grid)

    def map_of(per_cm: Array) -> MuMap:
        return MuMap(np.maximum(on_grid(per_cm), 0.0), grid, energy_kev)

    shares = {name: on_grid(mask) for name, mask in regions.items()}
    kept = {name: share for name, share in shares.items() if _in_field(share, grid, regions[name], head.grid)}
    return Case(
        study=study,
        primary=simulated.expected.primary[0],
        activity=on_grid(uptake.kbq_per_ml),
        mu=map_of(mu.per_cm),
        head_mu=map_of(mu.per_cm * body),
        simulated_mu=mu,
        usual_bone_mu=None if simulated.usual is None else map_of(simulated.usual.mu(energy_kev).per_cm),
        head=np.clip(on_grid(body), 0.0, 1.0),
        outline=Outline(body, head.grid),
        regions={name: np.clip(share, 0.0, 1.0) for name, share in kept.items()},
        compared=tuple(name for name in compared if name in kept),
        ratio=ratio,
        cps_per_kbq=simulated.expected.cps_per_kbq,
        about=_about(simulated),
    )


def _about(simulated: Simulated) -> dict[str, str | int | float]:
    """Facts of the patient and the camera for the CSV."""
    uptake, scanner, study = simulated.patient.uptake, simulated.scanner, simulated.study
    acquisition = study.acquisition
    return {
        "tracer": uptake.tracer,
        "nuclide": uptake.nuclide,
        "kind": str(uptake.parameters.get("kind", "")),
        "counts": round(float(study.counts[0].sum(dtype=np.float64))),
        "windows": len(study.windows),
        "views": acquisition.views,
        "pixel_mm": round(acquisition.pixel_mm[1], 3),
        "rows": acquisition.matrix[0],
        "columns": acquisition.matrix[1],
        "radius_mm": round(float(np.mean(acquisition.radii_mm)), 1),
        "collimator": scanner.collimator,
        "heads": scanner.heads,
        "orbit": scanner.orbit,
        "photopeak_width": round(scanner.photopeak_width, 3),
    }


def _body(head: Head) -> Array:
    """The patient (z, y, x) as 0 and 1, air cavities filled."""
    solid = ~np.isin(head.labels, BESIDE)
    return np.stack([binary_fill_holes(level) for level in solid]).astype(np.float32)


def _in_field(share: Array, grid: Grid, mask: Array, head_grid: Grid) -> bool:
    """True where at most MOST_CUT of a region lies beyond the field or close to its axial ends."""
    rows = round(EDGE_MM / grid.voxel_mm[0])
    seen = float(share[rows:-rows].sum(dtype=np.float64)) * grid.voxel_ml
    return seen >= (1.0 - MOST_CUT) * float(mask.sum(dtype=np.float64)) * head_grid.voxel_ml


def rebuilt(set_name: str, patient: str, seed: int, histories: int, phantom: Path | None) -> Case:
    """The case that a row of the CSV names."""
    if set_name not in (*SETS, "mr head"):
        raise InputError(f"set {set_name!r} is drawn no more")
    if set_name != "mr head":
        return virtual_case(seed, SETS[set_name], int(patient), histories)
    if phantom is None:
        raise InputError("the mr head needs its files: give --phantom FOLDER")
    return mr_case(phantom, patient, seed, histories)
