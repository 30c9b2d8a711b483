"""Patient `index` of a cohort, a function of the seed, the index and the cohort's tracer, heads, bodies and cameras."""

from typing import TYPE_CHECKING

import numpy as np

from spectac.simulate.cohort.patient_arrays import PatientArrays, previewed

if TYPE_CHECKING:
    from spectac.simulate.cohort.folder import CohortSettings

TRACERS = ("dat", "perfusion", "randomised")
"""Tracers of a mixed cohort, each as likely as the others."""

_STREAMS = ("tracer", "head", "uptake", "scanner", "photons", "noise", "bend")


def seeds(seed: int, index: int) -> dict[str, np.random.SeedSequence]:
    """Independent seeds of a patient, one for each step of the simulation.

    A step that draws more numbers than it used to leaves those of the other steps as they were.

    Parameters
    ----------
    seed
        Seed of the cohort.
    index
        Number of the patient.

    Returns
    -------
    dict of str to numpy.random.SeedSequence
        Seeds of the steps tracer, head, uptake, scanner, photons, noise and bend.

    Examples
    --------
    >>> from spectac.simulate.cohort.patient import seeds
    >>> seeds(7, 3)["head"].spawn_key
    (3, 1)
    """
    children = np.random.SeedSequence(entropy=seed, spawn_key=(index,)).spawn(len(_STREAMS))
    return dict(zip(_STREAMS, children, strict=True))


def simulate_patient(seed: int, index: int, settings: "CohortSettings") -> PatientArrays:
    """Arrays of a patient whose head, uptake and scanner are drawn and whose study is projected by the fast way.

    A head from the cohort's bodies is bent (`bodies.bend`).

    Parameters
    ----------
    seed
        Seed of the cohort.
    index
        Number of the patient.
    settings
        The cohort; its tracer, heads, bodies and cameras count.

    Returns
    -------
    PatientArrays
        Previews of the study and the truth on their grid.

    Examples
    --------
    >>> from spectac.simulate.cohort.folder import CohortSettings
    >>> from spectac.simulate.cohort.patient import simulate_patient
    >>> patient = simulate_patient(100, 0, CohortSettings(1, tracer="dat"))  # doctest: +SKIP
    """
    # Here, so that neither the main process nor another simulation loads the Monte Carlo.
    from spectac.simulate.acquire import Patient, expected_counts
    from spectac.simulate.anatomy.ranges import OUTSIDE_TRAINING, TRAINING
    from spectac.simulate.bodies.bend import Bend
    from spectac.simulate.bodies.pose import posed
    from spectac.simulate.bodies.stored import bodies_in, read_body
    from spectac.simulate.cameras import draw_camera
    from spectac.simulate.head import draw_head
    from spectac.simulate.uptake import draw_uptake

    streams = seeds(seed, index)
    random = {name: np.random.default_rng(stream) for name, stream in streams.items() if name != "photons"}
    tracer = TRACERS[int(random["tracer"].integers(len(TRACERS)))] if settings.tracer == "mixed" else settings.tracer
    ranges = TRAINING if settings.heads == "training" else OUTSIDE_TRAINING
    if settings.bodies is None:
        head = draw_head(random["head"], ranges=ranges)
    else:
        bodies = bodies_in(settings.bodies)
        body, bend = read_body(bodies[index % len(bodies)]), Bend.drawn(random["bend"])
        head = posed(body, random["head"], ranges=ranges, bend=bend)
    patient = Patient(head, draw_uptake(tracer, head, random["uptake"]))
    scanner = draw_camera(settings.cameras, random["scanner"]).around(head)
    expected = expected_counts(patient, scanner, streams["photons"])
    about = {"seed": seed, "index": index, "scanner": scanner.record(), "cps_per_kbq": expected.cps_per_kbq}
    return previewed(patient, expected, random["noise"], about)
