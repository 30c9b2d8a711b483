"""Patients of the attenuation study: the simulated study of each, and its truth on the reconstruction's grid.

A patient is a function of (seed, set, index). Its seeds carry a spawn key that no cohort has, so that training cannot
have seen one of these patients. Heads of other origins (CTs of patients, an MR, the Visible Human) need their files.
"""

import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_fill_holes

from benchmarks.images.mr_phantom import MATRIX, load
from benchmarks.images.visible_human import visible_human_head
from spectac.recon import Grid, InputError, MuMap, Study, default_grid
from spectac.recon.contour import Outline
from spectac.recon.holder import Holder, measured, write_holder
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.resample import resample
from spectac.recon.types import Array
from spectac.simulate.acquire import Expected, Patient, expected_counts
from spectac.simulate.anatomy.ranges import AS_IN_CT, OUTSIDE_TRAINING, HeadRanges
from spectac.simulate.bodies.pose import posed
from spectac.simulate.bodies.stored import bodies_in, read_body
from spectac.simulate.cameras import CAMERAS, HELD_OUT_CAMERAS, draw_held_out, with_focus
from spectac.simulate.ct_scan import ct_scan
from spectac.simulate.head import Head, draw_head
from spectac.simulate.regions import BESIDE, BONE, SIDES, labels
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
    "unseen": 0, "monte carlo": 1, "heads beyond training": 2, "other cameras": 3, "tuning": 4, "clinical matrix": 5,
    "real bodies": 6, "scatter": 7, "fan-beam": 8,
}  # fmt: skip
"""Second number of each set's spawn keys."""

HOLDER = labels("head holder", "pillow")
SKULL = labels("skull", "dense bone")
USUAL_DENSITY = float(np.mean(AS_IN_CT.bone_density))
"""Factor of the average drawn head's bone density."""
BODIES_BONE = 1.331
"""Mean density of SKULL in g/cm3 of 59 bodies (standard deviation 0.026); voxels of 4 mm hold soft tissue as well."""
TRACERS = ("dat", "perfusion")
"""Patients of the sets of one head, which serve reporting, never a choice."""


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

    Pixels, fields and views are drawn as training's where `sampling` is None.
    """

    name: str
    full: bool = False
    heads: HeadRanges = AS_IN_CT
    cameras: ScannerRanges = CAMERAS["low-energy"]
    like: str = ""
    scheme: str = ""
    counts: float = 1.0
    sampling: Sampling | None = None
    scatter: str = "auto"


SETS = {
    one.name: one
    for one in (
        PatientSet("unseen"),
        PatientSet("monte carlo", full=True),
        PatientSet("real bodies"),
        PatientSet("other cameras", cameras=HELD_OUT_CAMERAS),
        PatientSet("fan-beam", cameras=CAMERAS["fan-beam"]),
        PatientSet("clinical matrix", sampling=CLINICAL),
        PatientSet("fifth of counts", like="unseen", counts=0.2),
        PatientSet("heads beyond training", heads=OUTSIDE_TRAINING),
        PatientSet("scatter by Monte Carlo", like="unseen", scatter="montecarlo"),
        PatientSet("no scatter window", like="unseen", scheme="photopeak", scatter="montecarlo"),
        PatientSet("mr head", full=True),
        PatientSet("visible human", full=True),
        PatientSet("mr head, scatter by Monte Carlo", like="mr head", full=True, scatter="montecarlo"),
        PatientSet("visible human, scatter by Monte Carlo", like="visible human", full=True, scatter="montecarlo"),
        PatientSet("tuning"),
        PatientSet("scatter", full=True, cameras=TRAINING),
    )
}


@dataclass(frozen=True)
class Sources:
    """Files of the heads that are not drawn: the phantom's folder, the folder of bodies, the Visible Human's file."""

    phantom: Path | None = None
    bodies: Path | None = None
    visible_human: Path | None = None

    @classmethod
    def of(cls, options: Namespace) -> "Sources":
        """Those of a command line."""
        return cls(options.phantom, options.bodies, options.visible_human)

    def needed(self, name: str, what: str) -> Path:
        """A source; InputError where it was not given."""
        path: Path | None = getattr(self, name)
        if path is None:
            raise InputError(f"{what} need their files: give --{name.replace('_', '-')}")
        return path


@dataclass(frozen=True, eq=False)
class Case:
    """A study and its truth on the reconstruction's grid.

    - `primary` (v, z, u): expected counts of the photopeak without scatter
    - `activity` (z, y, x): kBq/mL
    - `mu`: true map with holder and pillow; `head_mu` without them; `simulated_mu` with them on the simulation's grid
    - `usual_bone_mu`: `mu` with bones of the average head's density; None where the density is not known
    - `holder`: holder and pillow as `spectac holder` measures them in a CT of this patient; None without a holder
    - `head`: share (z, y, x) of each voxel inside the patient; `outline` the same on the simulation's grid
    - `regions`: shares (z, y, x) by name; those of `compared` enter the means
    - `ratio`: regions (over, under) of the binding ratio or of the pattern
    - `scatter`: scatter method of every reconstruction
    - `about`: facts for the CSV
    """

    study: Study
    primary: Array
    activity: Array
    mu: MuMap
    head_mu: MuMap
    simulated_mu: MuMap
    usual_bone_mu: MuMap | None
    holder: Holder | None
    head: Array
    outline: Outline
    regions: Mapping[str, Array]
    compared: tuple[str, ...]
    ratio: tuple[tuple[str, ...], str]
    scatter: str
    cps_per_kbq: float
    about: Mapping[str, str | int | float]

    @property
    def grid(self) -> Grid:
        """Grid of the reconstruction."""
        return self.mu.grid


@contextmanager
def holder_file(case: Case) -> Iterator[Path]:
    """Value of --holder for what the patient lay in: a file, or none."""
    with tempfile.TemporaryDirectory() as folder:
        if case.holder is None:
            yield Path("none")
        else:
            write_holder(file := Path(folder, "holder.nii.gz"), case.holder)
            yield file


def _seeds(seed: int, chosen: PatientSet, index: int) -> list[np.random.SeedSequence]:
    """Seeds of patient `index`: head, uptake, scanner, photons, noise."""
    key = (BENCHMARK, SPAWN_KEY[chosen.like or chosen.name], index)
    return np.random.SeedSequence(seed, spawn_key=key).spawn(5)


def _tracer(chosen: PatientSet, index: int) -> tuple[str, str | None]:
    """Tracer and nuclide; None: drawn."""
    if chosen.name == "tuning":  # as many of each nuclide
        return (("dat", "I-123"), ("perfusion", "Tc-99m"), ("perfusion", "I-123"), ("perfusion", "Tc-99m"))[index % 4]
    if chosen.name == "scatter":
        return (("dat", "I-123"), ("perfusion", "I-123"), ("perfusion", "Tc-99m"))[index % 3]
    return ("dat", "I-123") if index % 2 == 0 else ("perfusion", None)


def draw_patient(
    seed: int, chosen: PatientSet, index: int, bodies: Path | None = None
) -> tuple[Patient, Head, Scanner, tuple[np.random.SeedSequence, ...]]:
    """Patient `index` of a set, the head with usual bones, the scanner, and seeds of the photons and of the noise.

    `bodies` is the folder of the bodies that the heads of "real bodies" are posed from, one after the other.
    """
    head_seed, uptake_seed, scanner_seed, *rest = _seeds(seed, chosen, index)
    if chosen.name == "real bodies":
        body = read_body(body_of(Sources(bodies=bodies).needed("bodies", "real bodies"), index))
        head = posed(body, np.random.default_rng(head_seed), ranges=chosen.heads)
        usual = with_usual_bones(head)
    else:
        same_density = replace(chosen.heads, bone_density=(USUAL_DENSITY, USUAL_DENSITY))
        head, usual = (
            draw_head(np.random.default_rng(head_seed), ranges=ranges) for ranges in (chosen.heads, same_density)
        )
    tracer, nuclide = _tracer(chosen, index)
    uptake = draw_uptake(tracer, head, np.random.default_rng(uptake_seed), nuclide=nuclide)
    rng = np.random.default_rng(scanner_seed)
    cameras = replace(chosen.cameras, schemes=WITH_SCATTER)
    if chosen.cameras is HELD_OUT_CAMERAS:
        scanner = draw_held_out(rng, cameras)
    else:
        scanner = with_focus(draw_scanner(rng, ranges=cameras), rng)
    scanner = replace(scanner, **({} if chosen.sampling is None else vars(chosen.sampling)))
    if chosen.scheme:
        scanner = replace(scanner, scheme=chosen.scheme)
    return Patient(head, uptake), usual, scanner.around(head), tuple(rest)


def body_of(folder: Path, index: int) -> Path:
    """File of the body of patient `index`; InputError for a folder without any."""
    files = bodies_in(folder)
    if not files:
        raise InputError(f"{folder}: no bodies: spectac cohort --bodies makes them")
    return files[index % len(files)]


def with_usual_bones(head: Head) -> Head:
    """A head from a CT of 4 mm whose bones are as dense on average as those of the other bodies."""
    bone = np.isin(head.labels, BONE)
    factor = np.float32(BODIES_BONE / head.density[np.isin(head.labels, SKULL)].mean())
    return replace(head, density=np.where(bone, factor * head.density, head.density))


def virtual_case(
    seed: int,
    chosen: PatientSet,
    index: int,
    histories: int,
    *,
    noise: bool = True,
    bodies: Path | None = None,
    changed: Callable[[Scanner], Scanner] = lambda scanner: scanner,
) -> Case:
    """Patient `index` of a set, with Poisson noise or without, on a camera that is `changed` from the one drawn.

    Raises InputError where it cannot be simulated.
    """
    patient, usual, scanner, (photons, poisson) = draw_patient(seed, chosen, index, bodies)
    scanner = changed(scanner)
    if chosen.full:
        expected = expected_counts(patient, scanner, photons, full=True, histories=histories)
    else:
        expected = expected_counts(patient, scanner, photons)
    if chosen.counts != 1.0:
        expected = expected.with_counts(chosen.counts * float(expected.counts[0].sum(dtype=np.float64)))
    study = expected.study(np.random.default_rng(poisson))
    if not noise:
        study = replace(study, counts=expected.counts)
    return labelled_case(Simulated(patient, usual, scanner, expected, study), chosen.scatter)


def labelled_case(simulated: "Simulated", scatter: str) -> Case:
    """Case of a head with labels: the regions that studies of its tracer report."""
    patient = simulated.patient
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
    reported = dict.fromkeys((*compared, *over, under, "brain"))
    regions = {name: masks[name].astype(np.float32) for name in reported if name in masks}
    return _case(simulated, regions, compared, (over, under), scatter)


def _one_head_camera() -> Scanner:
    return replace(SCANNERS["siemens-intevo-lehr"], scheme="tew+scatter", matrix=MATRIX)


def mr_case(folder: Path, tracer: str, seed: int, histories: int, scatter: str = "auto") -> Case:
    """The independent head of images/mr_phantom.py: full Monte Carlo, without noise."""
    phantom = load(folder, tracer)
    scanner = _one_head_camera()
    expected = expected_counts(phantom.patient, scanner, seed, full=True, histories=histories)
    study = Study(expected.acquisition, expected.windows, expected.counts)
    regions = dict(phantom.regions)
    regions["brain"] = np.minimum(sum(regions.values()), 1.0).astype(np.float32)
    compared = ("striata", "cortex", "white matter")
    simulated = Simulated(phantom.patient, None, scanner, expected, study)
    return _case(simulated, regions, compared, (("striata",), "cortex"), scatter)


def visible_human_patient(file: Path, tracer: str, seed: int) -> Patient:
    """The Visible Human's head (images/visible_human.py), straight and without a holder, with a drawn uptake."""
    head = visible_human_head(file)
    return Patient(head, draw_uptake(tracer, head, np.random.default_rng((seed, TRACERS.index(tracer)))))


def visible_human_case(patient: Patient, seed: int, histories: int, scatter: str = "auto") -> Case:
    """Case of `visible_human_patient`: full Monte Carlo, without noise."""
    # The neck of a head that bends forward reaches far back.
    scanner = replace(_one_head_camera(), orbit="contour")
    expected = expected_counts(patient, scanner, seed, full=True, histories=histories)
    study = Study(expected.acquisition, expected.windows, expected.counts)
    return labelled_case(Simulated(patient, None, scanner, expected, study), scatter)


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
    scatter: str,
) -> Case:
    """The study with its truth on the reconstruction's grid."""
    head, uptake, study = simulated.patient.head, simulated.patient.uptake, simulated.study
    grid = default_grid(study.acquisition)
    energy_kev = nuclide_by_name(uptake.nuclide).main_kev
    mu = head.mu(energy_kev)
    body = _body(head)
    held = bool(np.isin(head.labels, HOLDER).any())

    def on_grid(values: Array) -> Array:
        return resample(np.asarray(values, np.float32), head.grid, grid)

    def map_of(per_cm: Array) -> MuMap:
        return MuMap(np.maximum(on_grid(per_cm), 0.0), grid, energy_kev)

    shares = {name: on_grid(mask) for name, mask in regions.items()}
    kept = {name: share for name, share in shares.items() if in_field(share, grid, regions[name], head.grid)}
    return Case(
        study=study,
        primary=simulated.expected.primary[0],
        activity=on_grid(uptake.kbq_per_ml),
        mu=map_of(mu.per_cm),
        head_mu=map_of(mu.per_cm * body),
        simulated_mu=mu,
        usual_bone_mu=None if simulated.usual is None else map_of(simulated.usual.mu(energy_kev).per_cm),
        holder=measured(ct_scan(head, np.random.default_rng(1)), energy_kev) if held else None,
        head=np.clip(on_grid(body), 0.0, 1.0),
        outline=Outline(body, head.grid),
        regions={name: np.clip(share, 0.0, 1.0) for name, share in kept.items()},
        compared=tuple(name for name in compared if name in kept),
        ratio=ratio,
        scatter=scatter,
        cps_per_kbq=simulated.expected.cps_per_kbq,
        about=_about(simulated) | {"holder": int(held)},
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


def in_field(share: Array, grid: Grid, mask: Array, head_grid: Grid) -> bool:
    """True where at most MOST_CUT of a region lies beyond the field or close to its axial ends."""
    rows = round(EDGE_MM / grid.voxel_mm[0])
    seen = float(share[rows:-rows].sum(dtype=np.float64)) * grid.voxel_ml
    return seen >= (1.0 - MOST_CUT) * float(mask.sum(dtype=np.float64)) * head_grid.voxel_ml


def rebuilt(set_name: str, patient: str, seed: int, histories: int, sources: Sources) -> Case:
    """The case that a row of the CSV names."""
    if set_name not in SETS:
        raise InputError(f"set {set_name!r} is drawn no more")
    chosen = SETS[set_name]
    origin = chosen.like or chosen.name
    if origin == "mr head":
        return mr_case(sources.needed("phantom", "the mr head's cases"), patient, seed, histories, chosen.scatter)
    if origin == "visible human":
        file = sources.needed("visible_human", "the Visible Human's cases")
        return visible_human_case(visible_human_patient(file, patient, seed), seed, histories, chosen.scatter)
    number, _, body = patient.partition(" ")
    if body and body != body_of(sources.needed("bodies", "real bodies"), int(number)).stem:
        raise InputError(f"patient {patient} is another one in {sources.bodies}: its body is not there")
    return virtual_case(seed, chosen, int(number), histories, bodies=sources.bodies)
