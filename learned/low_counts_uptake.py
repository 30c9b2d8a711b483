"""Other uptakes for patients of a cohort, so that the low-counts network does not learn what is usual.

An estimate with the least squared error is drawn towards the training's mean: after training on the cohorts' own
uptakes alone, differences between both sides of 8 patients came out 0.72 of those in the full time's image, with
changed ones 0.82, and 0.86 with back parts of putamina among them and a greater weight of the bias (raw fifth 0.87
to 0.91).

Assumes parts with sharp edges on voxels of 4 mm: at the edge of a part the activity of its neighbours changes with it.
"""

import numpy as np

from spectac.recon.low_counts import ShortScan
from spectac.recon.resample import resample
from spectac.recon.types import Array
from spectac.simulate.cohort.patient_arrays import PatientArrays
from spectac.simulate.regions import BRAIN, SIDES, labels
from spectac.simulate.tracers.painting import front_to_back

PUTAMEN = tuple(labels(f"{side} putamen")[0] for side in SIDES)
STRIATUM = tuple(labels(f"{side} {part}")[0] for side in SIDES for part in ("caudate", "putamen"))
CORTEX = tuple(labels(f"{side} {lobe} cortex")[0] for side in SIDES for lobe in ("frontal", "parietal", "temporal"))
STRIATUM_CHANGED, STRIATUM_FACTORS = 0.5, (0.3, 1.7)
"""Share of the caudates and putamina that are changed, each for itself; range of the factors, even in logarithm."""
BACK_CHANGED, BACK_BEGINS, BACK_FACTORS = 0.25, (0.2, 0.8), (0.4, 1.3)
"""Share of the putamina whose back part is changed, for an early loss begins there; ranges of where it begins along the
putamen, and of the factors, even in logarithm."""
CORTEX_CHANGED, CORTEX_FACTORS = 0.15, (0.4, 1.3)
"""Share of the lobes that are changed, each for itself; range of the factors."""
FOCI, FOCUS_MM, FOCUS_FACTORS = 0.3, (5.0, 16.0), (0.0, 2.0)
"""Share of the patients with a ball somewhere in the brain, its radius and its factor."""


def other_uptake(patient: PatientArrays, rng: np.random.Generator) -> Array:
    """What a random change of single parts adds to a patient's activity.

    Parameters
    ----------
    patient
        Patient of a cohort.
    rng
        Generator.

    Returns
    -------
    Array
        float32 (z, y, x) in kBq/mL on the patient's grid; below 0 where uptake falls, by the activity at most.

    Examples
    --------
    >>> other_uptake(patient, np.random.default_rng(1))  # doctest: +SKIP
    """
    factors = np.ones(256, np.float32)
    for part in STRIATUM:
        if rng.random() < STRIATUM_CHANGED:
            factors[part] = np.exp(rng.uniform(*np.log(STRIATUM_FACTORS)))
    for lobe in CORTEX:
        if rng.random() < CORTEX_CHANGED:
            factors[lobe] = rng.uniform(*CORTEX_FACTORS)
    factor = factors[patient.labels]
    for part in PUTAMEN:
        putamen = patient.labels == part
        if rng.random() < BACK_CHANGED and putamen.any():
            back = front_to_back(putamen, patient.grid) > rng.uniform(*BACK_BEGINS)
            factor[putamen] *= np.where(back, np.exp(rng.uniform(*np.log(BACK_FACTORS))), 1.0)
    brain = np.argwhere(np.isin(patient.labels, BRAIN))
    if rng.random() < FOCI and len(brain):
        from_middle_mm = (brain - rng.choice(brain)) * patient.grid.voxel_mm
        inside = brain[np.linalg.norm(from_middle_mm, axis=1) < rng.uniform(*FOCUS_MM)]
        factor[tuple(inside.T)] *= rng.uniform(*FOCUS_FACTORS)
    return np.asarray((factor - 1.0) * patient.activity_kbq_per_ml, np.float32)


def with_more(scan: ShortScan, change: Array) -> tuple[Array, Array]:
    """Expected counts of a scan without noise if the activity were another one.

    Parameters
    ----------
    scan
        Scan without noise.
    change
        What is added to the activity (z, y, x) in cps/mL on the grid of the preview; may be below 0.

    Returns
    -------
    tuple of arrays
        Counts (v, z, u) and the scatter in them, which grows as all primary photons do, in the protocol's pixels.

    Examples
    --------
    >>> with_more(scan, np.zeros(scan.grid.shape))  # doctest: +SKIP
    """
    system, scatter = scan.system, np.float32(0.0) if scan.scatter is None else scan.scatter
    primary = scan.counts - scatter
    added = system.get(system.forward(system.put(resample(change.astype(np.float32), scan.grid, scan.protocol_grid))))
    more = np.maximum(primary + added, 0.0)
    scatter = scatter * np.float32(more.sum(dtype=np.float64) / primary.sum(dtype=np.float64))
    return more + scatter, np.broadcast_to(scatter, more.shape)
