"""Whether the stated uncertainty of the predicted map holds, for voxels and for regions.

    python -m benchmarks.attenuation.uncertainty --weights FILE [--patients N] [--bodies FOLDER] -o FOLDER

Writes uncertainty.csv, a row for each set, kind (voxels, regions) and level (68, 95 %), and uncertainty.png; a minute a
patient on 2 cores. `within`: share of errors below what is stated, of all patients together. `width_ratio`: the mean
stated half-width over the smallest one constant half-width that holds as many errors; both goals: the level, and at
most 1.3. Voxels are those of the study's grid inside the head; regions are those of the attenuation study, errors
those of the image's regional means against the true map's image, both with the true holder, which no uncertainty
contains. Limits are ignored.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.attenuation.counts import network_head
from benchmarks.attenuation.measures import means
from benchmarks.attenuation.patients import SETS, Case, holder_file, virtual_case
from benchmarks.provenance import provenance, write_csv
from spectac.learned.estimate import TrainedNetwork
from spectac.learned.predict import PredictedMap
from spectac.learned.spread import SpreadScale
from spectac.learned.weights_file import shipped_weights
from spectac.recon import GivenMap, InputError
from spectac.recon.pipeline import StudySolver
from spectac.recon.quantify import voi_mean
from spectac.recon.types import Array

PATIENTS_OF = {"unseen": 20, "real bodies": 12}
EVERY = 50
"""One voxel of so many counts."""


def errors(case: Case, weights: str) -> dict[str, Array]:
    """Stated 68 % half-widths and sizes of errors (n, 2) of one patient, by kind."""
    solver, trained = StudySolver(case.study), TrainedNetwork.read(Path(weights))
    with holder_file(case) as file:
        in_holder = solver.with_holder(file)
        _, spread, _ = PredictedMap(weights, heed_limits=False, fallback=False).estimate(in_holder)
        skull = in_holder.checked(network_head(in_holder, trained)).skull
    assert spread is not None
    assert skull is not None
    mu = skull.head
    inside = np.flatnonzero(case.head > 0.5)[::EVERY]
    wrong = np.abs(mu.per_cm - case.head_mu.per_cm)
    voxels = np.stack([spread.mu.per_cm.ravel()[inside], wrong.ravel()[inside]], axis=1)
    beside = np.maximum(case.mu.per_cm - case.head_mu.per_cm, 0.0)
    held = np.maximum(mu.per_cm, beside).astype(np.float32)
    wanted, found = (
        means(solver.corrected(GivenMap(one)).image.values, case)
        for one in (case.mu, type(mu)(held, mu.grid, mu.energy_kev))
    )
    regions = [
        (voi_mean(spread.relative, case.regions[name]), abs(found[name] / wanted[name] - 1.0)) for name in case.compared
    ]
    return {"voxels": voxels, "regions": np.array(regions)}


def rows_of(name: str, kind: str, pairs: Array, scale: SpreadScale) -> list[dict[str, Any]]:
    """A row a level."""
    to_95 = scale.voxels_95 if kind == "voxels" else scale.regions_95 / scale.regions
    rows = []
    for level, factor in ((0.68, 1.0), (0.95, to_95)):
        stated = factor * pairs[:, 0]
        within = float((pairs[:, 1] < stated).mean())
        constant = float(np.quantile(pairs[:, 1], within))
        rows.append(
            {
                "set": name,
                "kind": kind,
                "errors": len(pairs),
                "level": level,
                "within": round(within, 4),
                "mean_half_width": round(float(stated.mean()), 5),
                "width_ratio": round(float(stated.mean()) / constant, 3),
            }
        )
    return rows


def draw(path: Path, found: dict[tuple[str, str], Array]) -> None:
    """Calibration: the share of errors within k times what is stated, beside the share of a normal distribution."""
    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    steps = np.linspace(0.0, 4.0, 81)
    for axis, kind in zip(figure.subplots(1, 2), ("voxels", "regions"), strict=True):
        for (name, of), pairs in found.items():
            if of == kind:
                ratio = pairs[:, 1] / np.maximum(pairs[:, 0], 1e-9)
                axis.plot(steps, [(ratio < step).mean() for step in steps], label=name)
        axis.axvline(1.0, color="k", linestyle=":", linewidth=1)
        axis.axhline(0.68, color="k", linestyle=":", linewidth=1)
        axis.set_xlabel("error over the stated 68 % half-width")
        axis.set_ylabel("share of errors below")
        axis.set_title(kind)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default=str(shipped_weights()), metavar="FILE", help="(the shipped ones)")
    parser.add_argument("--patients", type=int, default=100, metavar="N", help="at most of each set")
    parser.add_argument("--bodies", type=Path, metavar="FOLDER", help="bodies of spectac cohort, of test heads")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    scale = TrainedNetwork.read(Path(options.weights)).spread
    found: dict[tuple[str, str], Array] = {}
    rows: list[dict[str, Any]] = []
    for name, number in PATIENTS_OF.items():
        if name == "real bodies" and options.bodies is None:
            continue
        parts = []
        for index in range(min(number, options.patients)):
            try:
                case = virtual_case(options.seed, SETS[name], index, 0, bodies=options.bodies)
                parts.append(errors(case, options.weights))
            except InputError as error:
                print(f"{name} {index}: {error}", flush=True)
        for kind in ("voxels", "regions") if parts else ():
            found[name, kind] = np.concatenate([part[kind] for part in parts])
            rows += [{**provenance(options.seed), **row} for row in rows_of(name, kind, found[name, kind], scale)]
            print(*rows[-2:], sep="\n", flush=True)
        write_csv(options.output / "uncertainty.csv", rows)
    draw(options.output / "uncertainty.png", found)


if __name__ == "__main__":
    main()
