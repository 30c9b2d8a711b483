"""Patients of the benchmarks of short scans, and realisations of their noise.

The camera has 64 x 64 pixels of 4 mm, 60 views and 2 heads. Realisation k has Poisson counts of the full time, and a
fifth of them by binomial selection (`spectac thin`): the short scan shares counts with the full one of the same k, and
is independent of the others.
"""

from collections.abc import Iterator

import numpy as np

from benchmarks.attenuation.patients import Simulated
from spectac.recon.thinning import parted
from spectac.recon.types import Study
from spectac.simulate.acquire import Expected, Patient, expected_counts
from spectac.simulate.defects import Defect, with_defect
from spectac.simulate.head import draw_head
from spectac.simulate.scanner import Scanner
from spectac.simulate.uptake import draw_uptake

LOW_COUNTS = 0x6C6F7763
"""First number of the spawn keys, which no cohort and no other benchmark has."""
CAMERA = Scanner("low counts", "siemens-lehr", matrix=(64, 64), pixel_mm=4.0, views=60, scheme="tew")
COUNTS = {"dat": 3e6, "perfusion": 6e6}
"""Photopeak counts of the full time."""
SHARE = 0.2


def patient_of(
    seed: int, tracer: str, index: int, kind: str | None = None, defect: str | None = None
) -> tuple[Simulated, np.random.SeedSequence]:
    """Patient `index` of a tracer with expected counts of the full time, and the seed of the noise.

    With a defect the patient is the same but for it, the camera's time too.
    """
    key = (LOW_COUNTS, tuple(COUNTS).index(tracer), index)
    head_seed, uptake_seed, photons, noise = np.random.SeedSequence(seed, spawn_key=key).spawn(4)
    head = draw_head(np.random.default_rng(head_seed))
    uptake = draw_uptake(tracer, head, np.random.default_rng(uptake_seed), kind=kind)
    scanner = CAMERA.around(head)
    whole = expected_counts(Patient(head, uptake), scanner, photons)
    expected = whole.with_counts(COUNTS[tracer])
    if defect is not None:
        uptake = with_defect(uptake, head, Defect.read(defect), np.random.default_rng((seed, index)))
        changed = expected_counts(Patient(head, uptake), scanner, photons)
        ratio = float(changed.counts[0].sum(dtype=np.float64) / whole.counts[0].sum(dtype=np.float64))
        expected = changed.with_counts(COUNTS[tracer] * ratio)
    study = Study(expected.acquisition, expected.windows, expected.counts)
    return Simulated(Patient(head, uptake), None, scanner, expected, study), noise


def realisations(expected: Expected, noise: np.random.SeedSequence, number: int) -> Iterator[tuple[Study, Study]]:
    """Studies of the full time and of a fifth of it, taken from the full one."""
    for one in noise.spawn(number):
        rng = np.random.default_rng(one)
        full = expected.study(rng)
        yield full, parted(full, SHARE, rng)[0]
