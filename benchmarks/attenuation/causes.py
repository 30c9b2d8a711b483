"""Which part of the predicted map the error comes from: maps in which one part at a time is the true one.

    python -m benchmarks.attenuation.causes [--sets "a; b"] [--bodies FOLDER] [--phantom FOLDER]
           [--visible-human FILE] [--patients N] [--weights FILE] -o FOLDER

Writes causes.csv, a row a patient and map; a minute and a half a patient on 2 cores, three with full Monte Carlo. Sets
and patients are those of the attenuation study. Errors in %, against the image of the true map with its holder, as
there. Maps:

- predicted: the network's, limits ignored, not checked by the counts, with the true holder
- holder: the same in the fitted holder; its difference from "predicted" is what not knowing the holder costs
- true outline: soft tissue where the map is air inside the patient, air outside
- true skull: the true bones with the density of the average head, soft tissue where the map has bone and there is
  none. Of the MR head and the Visible Human that density is not known: "true bones" have their own
- true density: the map's bones as much denser than the average head's as the true ones
- without noise: the network's map of the expected counts; not of sets by full Monte Carlo
- true: the true map of the head with the true holder, 0 by definition
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attenuation.counts import network_head
from benchmarks.attenuation.measures import BONE, SOFT_TISSUE, image_measures
from benchmarks.attenuation.patients import SETS, Case, Sources, rebuilt, virtual_case
from benchmarks.attenuation.run import HISTORIES, asked_for, histories_of
from benchmarks.provenance import provenance, write_csv
from spectac.learned.estimate import TrainedNetwork
from spectac.learned.predict import USUAL_HOLDER
from spectac.learned.weights_file import shipped_weights
from spectac.recon import GivenMap, InputError, ReconstructionSettings
from spectac.recon.pipeline import StudySolver
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Array, MuMap

KEPT = (
    "raw_mean", "raw_worst", "scaled_mean", "uptake_error", "sbr_error", "sbr_signed", "pattern_error",
    "pattern_signed",
)  # fmt: skip


def solver_of(case: Case) -> StudySolver:
    """Solver of a case's study with the scatter correction of its set."""
    return StudySolver(case.study, ReconstructionSettings(scatter=case.scatter))


def parts(case: Case, per_cm: Array) -> dict[str, Array]:
    """Maps (z, y, x) of the head in 1/cm in which a part of the estimate is the true one."""
    water = water_per_cm(case.mu.energy_kev)
    soft = SOFT_TISSUE * water
    true, inside = case.head_mu.per_cm, case.head > 0.5
    usual_mu = case.usual_bone_mu
    usual = true if usual_mu is None else usual_mu.per_cm
    missing = inside & (per_cm < 0.5 * water) & (true >= 0.5 * water)
    outline = np.where(missing, soft, per_cm)
    # Voxels of the skin are partly air.
    outline = np.where((case.head > 0.0) & (case.head < 0.999), true, np.where(case.head > 0.0, outline, 0.0))
    bone, true_bone = (inside & (values > BONE * soft) for values in (per_cm, true))
    skull = np.where(true_bone, usual, np.where(bone, np.minimum(per_cm, soft), per_cm))
    if usual_mu is None:
        return {"true outline": outline, "true bones": skull}
    ratio = float(true[true_bone].sum() / usual[true_bone].sum())
    return {"true outline": outline, "true skull": skull, "true density": np.where(bone, ratio * per_cm, per_cm)}


def maps(
    case: Case, noiseless: Case | None, solver: StudySolver, trained: TrainedNetwork
) -> Iterator[tuple[str, MuMap]]:
    """Every map of a patient, with what lies beside the head."""
    estimate = network_head(solver, trained)
    beside = np.maximum(case.mu.per_cm - case.head_mu.per_cm, np.float32(0.0))

    def held(per_cm: Array) -> MuMap:
        return replace(estimate, per_cm=np.maximum(per_cm, beside).astype(np.float32))

    yield "predicted", held(estimate.per_cm)
    yield "holder", solver.beside(estimate, USUAL_HOLDER, head_alone=True)
    for name, per_cm in parts(case, estimate.per_cm).items():
        yield name, held(per_cm)
    if noiseless is not None:
        yield "without noise", held(network_head(solver_of(noiseless), trained).per_cm)
    yield "true", case.mu


def measured(case: Case, noiseless: Case | None, trained: TrainedNetwork) -> Iterator[dict[str, Any]]:
    """Facts and errors of every map of a patient."""
    solver = solver_of(case)
    wanted = solver.corrected(GivenMap(case.mu)).image.values / case.cps_per_kbq
    about = {name: case.about[name] for name in ("tracer", "holder")}
    for name, mu in maps(case, noiseless, solver, trained):
        image = solver.corrected(GivenMap(mu)).image.values / case.cps_per_kbq
        found = image_measures(image, wanted, case)
        yield about | {"map": name} | {key: round(found[key], 3) for key in KEPT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default="unseen", help="separated by semicolons (unseen)")
    parser.add_argument("--patients", type=int, default=20, metavar="N", help="at most of each set (20)")
    parser.add_argument("--bodies", type=Path, metavar="FOLDER", help="bodies of spectac cohort, of test heads")
    parser.add_argument("--phantom", type=Path, metavar="FOLDER", help="of the MR head")
    parser.add_argument("--visible-human", type=Path, metavar="FILE", help="vis_male.nrrd")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of the network, instead of the shipped ones")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    options.sets = [name.strip() for name in options.sets.split(";")]
    if unknown := [name for name in options.sets if name not in SETS]:
        parser.error(f"unknown sets {', '.join(unknown)}; known: {'; '.join(SETS)}")
    patients = asked_for(options)
    if missing := sorted(set(options.sets) - {name for name, _ in patients}):
        parser.error(f"{', '.join(missing)}: give the files of these heads, or leave the sets out")
    trained = TrainedNetwork.read(shipped_weights() if options.weights is None else options.weights)
    rows: list[dict[str, Any]] = []
    for name, patient in patients:
        try:
            case = rebuilt(name, patient, options.seed, histories_of(name, HISTORIES), Sources.of(options))
            noiseless = None
            if not SETS[name].full:
                index = int(patient.partition(" ")[0])
                noiseless = virtual_case(options.seed, SETS[name], index, 0, noise=False, bodies=options.bodies)
            for row in measured(case, noiseless, trained):
                rows.append({**provenance(options.seed), "set": name, "patient": patient, **row})
                print(rows[-1], flush=True)
        except InputError as error:
            print(f"{name} {patient}: {error}", flush=True)
        write_csv(options.output / "causes.csv", rows)


if __name__ == "__main__":
    main()
