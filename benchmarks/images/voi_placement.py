"""VOIs placed by the template head against those of the truth, on virtual patients: distances, ratios, seconds.

    python -m benchmarks.images.voi_placement -o FOLDER [--patients N] [--seed N]

Four minutes on 2 cores. Writes voi_placement.csv, one row a patient. As in `spectac compare`, the template is fitted to
a quick image with the uniform map. Ratios are measured in an image with the true map (OSEM 10 x 10), in both sets of
VOIs.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.provenance import provenance, write_csv
from spectac.recon import GivenMap, InputError, default_grid, reconstruct
from spectac.recon.attenuation import uniform_map
from spectac.recon.pipeline import StudySolver
from spectac.recon.quantify import voi_mean
from spectac.recon.types import Array, Grid
from spectac.recon.voi import from_labels, place
from spectac.simulate.acquire import Patient, expected_counts
from spectac.simulate.head import draw_head
from spectac.simulate.regions import LABEL
from spectac.simulate.scanner import draw_scanner
from spectac.simulate.uptake import draw_uptake

NAMES = {label: name for name, label in LABEL.items()}
PARTS = ("right caudate", "left caudate", "right putamen", "left putamen")


def centre_mm(weights: Array, grid: Grid) -> Array:
    """Centre of mass (x, y, z) of a mask (z, y, x)."""
    z, y, x = grid.centres_mm()
    sums = (weights.sum(axis=(0, 1)), weights.sum(axis=(0, 2)), weights.sum(axis=(1, 2)))
    return np.array([axis @ part / weights.sum() for axis, part in zip((x, y, z), sums, strict=True)])


def ratio(values: Array, masks: dict[str, Array], tracer: str) -> float:
    """Striatal binding ratio for DAT, cortex over white matter for perfusion."""
    over, under = ("striata", "reference") if tracer == "dat" else ("cortex", "white matter")
    return voi_mean(values, masks[over]) / voi_mean(values, masks[under]) - (tracer == "dat")


def row_of(seed: int, index: int) -> dict[str, object]:
    """One patient with a random training camera."""
    head_rng, uptake_rng, scanner_rng, noise_rng = np.random.default_rng([seed, index]).spawn(4)
    tracer = ("dat", "perfusion")[index % 2]
    head = draw_head(head_rng)
    uptake = draw_uptake(tracer, head, uptake_rng)
    patient = Patient(head, uptake)
    study = expected_counts(patient, draw_scanner(scanner_rng).around(head), index).study(noise_rng)
    grid = default_grid(study.acquisition)
    row: dict[str, object] = {"patient": index, "tracer": tracer, "kind": uptake.parameters["kind"]}
    solver = StudySolver(study)
    began = time.perf_counter()
    try:
        quick = solver.preview(mu=uniform_map(solver, None, None)[0])
        placed = place(quick, None, grid)
    except InputError as error:
        return row | {"placed": "no", "reason": str(error), "seconds": round(time.perf_counter() - began, 1)}
    seconds = time.perf_counter() - began
    true = from_labels(head.labels, head.grid, NAMES, grid, "truth")
    off = [float(np.linalg.norm(centre_mm(placed.masks[p], grid) - centre_mm(true.masks[p], grid))) for p in PARTS]
    image = reconstruct(study, GivenMap(head.mu(solver.energy_kev))).image.values
    ratio_placed, ratio_true = (ratio(image, dict(vois.masks), tracer) for vois in (placed, true))
    return row | {
        "placed": "yes",
        "reason": placed.source,
        "tracer_found": placed.tracer,
        "striata_off_mm": round(float(np.mean(off)), 2),
        "worst_off_mm": round(max(off), 2),
        "ratio_placed": round(ratio_placed, 4),
        "ratio_true_voi": round(ratio_true, 4),
        "ratio_error_percent": round(100 * (ratio_placed / ratio_true - 1), 2),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--patients", type=int, default=24, metavar="N")
    parser.add_argument("--seed", type=int, default=60, metavar="N")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    # Read first: the result is an uncommitted change.
    about = provenance(options.seed)
    rows = []
    for index in range(options.patients):
        rows.append({**about, **row_of(options.seed, index)})
        print(rows[-1], flush=True)
    write_csv(options.output / "voi_placement.csv", rows)


if __name__ == "__main__":
    main()
