"""What the counts say of true and predicted skulls, and how dense they find a holder.

    python -m benchmarks.attenuation.counts --sets "unseen; heads beyond training" [--patients N] [--bodies FOLDER]
           -o FILE.csv

Writes counts_check.csv, two rows a patient; half a minute a patient on one core. The holder's file is given, limits are
ignored. `more` and `sd` are those of the last fit, `added` is what was put into the skull before, in % of the head's
attenuation. `factors` is the error of Chang's factors of the map, against those of the true one: the mean in the brain,
%, before and after. `share_windows` and `share_transport` are the densities of a typical holder that fits to the true
head, with scatter by windows and by photon transport; with `true_share` factors are right in the mean.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attenuation.patients import SETS, Case, holder_file, virtual_case
from benchmarks.provenance import provenance, write_csv
from spectac.learned.estimate import TrainedNetwork, estimate_map
from spectac.learned.predict import without_specks
from spectac.learned.weights_file import shipped_weights
from spectac.recon import GivenMap, InputError, ReconstructionSettings
from spectac.recon.attenuation import chang_factors
from spectac.recon.holder import typical
from spectac.recon.holder_fit import holder_share
from spectac.recon.pipeline import StudySolver
from spectac.recon.resample import on_field
from spectac.recon.types import Array, MuMap

SEED = 6
FASTEST = ReconstructionSettings(iterations=1)


def network_head(solver: StudySolver, trained: TrainedNetwork) -> MuMap:
    """The network's map of the head alone on the solver's grid, neither limited nor checked by the counts."""
    mu = estimate_map(solver, trained).mu
    return without_specks(MuMap(on_field(mu.per_cm, mu.grid, solver.grid), solver.grid, mu.energy_kev))


def brain_factors(case: Case, per_cm: Array) -> Array:
    """Chang's factors in the brain of a map (z, y, x) in 1/cm on the case's grid."""
    return chang_factors(case.study.acquisition, replace(case.mu, per_cm=per_cm))[case.regions["brain"] > 0.5]


def shares(case: Case, solver: StudySolver) -> dict[str, float]:
    """Shares of a typical holder under the true head; none where the patient lies in none."""
    held, _ = typical(case.mu.energy_kev).beside(case.head_mu, case.study.acquisition)
    wanted, none, whole = (
        float(brain_factors(case, mu.per_cm).mean()) for mu in (case.mu, case.head_mu, held)
    )  # fmt: skip
    by_transport = solver.with_holder(Path("fitted")).corrected(GivenMap(case.head_mu)).holder_share
    return {
        "share_windows": holder_share(solver.photopeak, case.head_mu, held).share,
        "share_transport": np.nan if by_transport is None else by_transport.share,
        "true_share": (wanted - none) / (whole - none),
    }


def checks(case: Case, trained: TrainedNetwork) -> list[dict[str, Any]]:
    """A row for the true head and one for the network's."""
    solver = StudySolver(case.study, FASTEST)
    network = network_head(solver, trained)
    true, rows = brain_factors(case, case.head_mu.per_cm), []
    of_holder = shares(case, solver)
    with holder_file(case) as file:
        solver = solver.with_holder(file)
        for name, head in (("true", case.head_mu), ("predicted", network)):
            skull = solver.checked(head).skull
            assert skull is not None
            before, after = (
                100.0 * float((brain_factors(case, mu.per_cm) / true).mean() - 1.0) for mu in (head, skull.head)
            )
            fit = skull.fit
            numbers = {"more": 100.0 * fit.more, "sd": 100.0 * fit.sd, "added": 100.0 * fit.added}
            numbers |= {"factors_before": before, "factors_after": after, **of_holder}
            rows.append({"map": name} | {key: round(value, 3) for key, value in numbers.items()})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", required=True, metavar="SETS", help="names between semicolons")
    parser.add_argument("--patients", type=int, default=10, metavar="N", help="of each set (10)")
    parser.add_argument("--bodies", type=Path, metavar="FOLDER", help="bodies of spectac cohort, of test heads")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.csv")
    options = parser.parse_args()
    origin, trained = provenance(SEED), TrainedNetwork.read(shipped_weights())
    rows: list[dict[str, Any]] = []
    for name in (one.strip() for one in options.sets.split(";")):
        for index in range(options.patients):
            case = virtual_case(SEED, SETS[name], index, 0, bodies=options.bodies)
            about = {key: case.about[key] for key in ("nuclide", "tracer", "counts", "collimator")}
            try:
                found = checks(case, trained) if "brain" in case.regions else []
            except InputError as error:
                print(f"{name} {index}: {error}", flush=True)
                continue
            rows += [{**origin, "set": name, "patient": index, **about, **row} for row in found]
            write_csv(options.output, rows)
            print(*found, sep="\n", flush=True)


if __name__ == "__main__":
    main()
