"""The least spread that an unbiased estimate of binding ratios can have, by the information in the counts.

    python -m benchmarks.low_counts.bound -o FOLDER [--patients N] [--seed N]

Ten minutes on 2 cores for 8 patients. Writes low_counts_bound.csv and prints its means. No image is made: the patient's
activity is a sum of parts, each known but for its height, and the counts' Fisher information gives the least covariance
of the heights (Cramer and Rao). The four striatal regions are a part each. What is around them is one part, or, if it
is not known, one for each corner of a grid of 40 or 24 mm, between which its height is linear. Scatter is known. An
estimate that does not know shapes, or the scatter, spreads more. Spreads are those of the full time's counts and of a
fifth of them, in the unit of a true binding ratio: images whose slope on the truth is below 1 compare after division by
it.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.attenuation.patients import labelled_case
from benchmarks.low_counts.patients import SHARE, patient_of
from benchmarks.low_counts.run import measures, regions
from benchmarks.provenance import provenance, write_csv
from spectac.recon import SystemModel
from spectac.recon.resample import resample
from spectac.recon.types import Array

AROUND_MM = {"known": None, "40 mm": 40.0, "24 mm": 24.0}
"""What is known of the activity around the striata, and the distance of its corners."""
FAINT = 1e-3
"""Corners that hold less than this share of the activity around the striata are left out, as those never seen."""


def least_spread(parts: Array, counts: Array, gradient: Array) -> float:
    """Least standard deviation of an unbiased estimate of a function of the parts' heights.

    `parts` are expected counts (bin, part) of each part at its true height, `counts` (bin,) all expected counts, and
    `gradient` (part,) the derivatives of the function by the relative heights.
    """
    seen = counts > 0
    information = parts[seen].T @ (parts[seen] / counts[seen, None])
    return float(np.sqrt(gradient @ np.linalg.solve(information, gradient)))


def corners(shape: Sequence[int], voxel_mm: Sequence[float], distance_mm: float) -> Iterator[Array]:
    """Weights (z, y, x) from 0 to 1 of the corners of a grid, linear between them: their sum is 1."""
    hats = []
    for size, length in zip(shape, voxel_mm, strict=True):
        at = np.arange(size) * length / distance_mm
        hats.append([np.clip(1.0 - np.abs(at - corner), 0.0, 1.0) for corner in range(int(at[-1]) + 2)])
    for of_z in hats[0]:
        for of_y in hats[1]:
            for of_x in hats[2]:
                yield of_z[:, None, None] * of_y[None, :, None] * of_x[None, None, :]


def rows_of(seed: int, index: int) -> Iterator[dict[str, object]]:
    """Rows of one patient."""
    simulated, _ = patient_of(seed, "dat", index)
    case, head = labelled_case(simulated, "tew"), simulated.patient.head
    activity = simulated.patient.uptake.kbq_per_ml.astype(np.float64)
    masks = regions(head.labels, "dat")
    truth = measures(activity, masks, "dat")
    striata = {name: mask for name, mask in masks.items() if name != "reference"}
    around = np.where(np.any(list(striata.values()), axis=0), 0.0, activity)
    expected = simulated.expected
    counts = expected.counts[0].astype(np.float64).ravel()
    energy_kev = case.mu.energy_kev
    system = SystemModel(
        expected.acquisition, case.grid, mu=case.mu, energy_kev=energy_kev, crop_to_orbit=True, half_factors=True
    )
    per_kbq = case.cps_per_kbq

    def seen(values: Array) -> Array:
        on_grid = resample((values * per_kbq).astype(np.float32), head.grid, case.grid)
        return np.asarray(system.forward(on_grid), np.float64).ravel()

    of_striata = [seen(activity * mask) for mask in striata.values()]
    reference = masks["reference"]
    for name, distance_mm in AROUND_MM.items():
        whole = [np.ones(activity.shape)]
        parts, of_reference = [], []
        for weights in whole if distance_mm is None else corners(activity.shape, head.grid.voxel_mm, distance_mm):
            part = weights * around
            if part.sum() > FAINT * around.sum() and (counted := seen(part)).any():
                parts.append(counted)
                of_reference.append((weights * activity)[reference].sum() / activity[reference].sum())
        columns = np.stack([*of_striata, *parts], axis=1)
        for n, region in enumerate(striata):
            measure = f"SBR {region}"
            # SBR + 1 = height / reference: relative derivatives are 1 and minus the reference's shares.
            gradient = np.concatenate([np.zeros(len(of_striata)), -np.array(of_reference)])
            gradient[n] = 1.0
            spread = (truth[measure] + 1.0) * least_spread(columns, counts, gradient)
            values = {"true": truth[measure], "full time": spread, "fifth": spread / np.sqrt(SHARE)}
            yield {"patient": index, "around": name, "parts": columns.shape[1], "measure": measure} | {
                key: f"{value:.5g}" for key, value in values.items()
            }


def table(rows: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """Mean of the fifth's least spread over the true ratio, in %, for each knowledge and kind of region."""
    for name in AROUND_MM:
        for kind in ("caudate", "putamen"):
            shares = [
                100.0 * float(str(row["fifth"])) / float(str(row["true"]))
                for row in rows
                if row["around"] == name and str(row["measure"]).endswith(kind)
            ]
            yield f"around the striata {name}: {kind} {np.mean(shares):.2f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--patients", type=int, default=8, metavar="N", help="(8)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.patients < 1:
        parser.error("it takes a patient")
    options.output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for index in range(options.patients):
        rows += [{**provenance(options.seed), **row} for row in rows_of(options.seed, index)]
        write_csv(options.output / "low_counts_bound.csv", rows)
        print(f"patient {index}", flush=True)
    for line in table(rows):
        print(line)


if __name__ == "__main__":
    main()
