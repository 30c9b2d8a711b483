"""The least spread that an unbiased estimate of binding ratios can have, by the information in the counts.

    python -m benchmarks.low_counts.bound -o FOLDER [--patients N] [--seed N]

Ten minutes on 2 cores for 8 patients. Writes low_counts_bound.csv and prints its means. No image is made: the patient's
activity is a sum of parts of known shape and unknown height, and the counts' Fisher information gives the least
covariance of the heights (Cramer and Rao). The four striatal regions are a part each. What is around them is one part,
or, if it is not known, one for each corner of a grid of 40 or 24 mm, between which its height is linear. Scatter is
known. An estimate that does not know shapes, or the scatter, spreads more.

Images are blurred, so that what is read in them is no true ratio: a region's mean holds some of its neighbours, which
lessens its spread. Ratios are therefore also those of the activity after a Gaussian of 9 mm, which leaves of them what
the full time's images do. Where FOLDER has a low_counts.csv with such images of a patient, the least relative spread at
a fifth is printed over theirs (root mean squares).
"""

import argparse
import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.attenuation.patients import labelled_case
from benchmarks.low_counts.methods import FULL
from benchmarks.low_counts.patients import SHARE, patient_of, regions
from benchmarks.provenance import provenance, write_csv
from spectac.recon import SystemModel, filters
from spectac.recon.resample import resample
from spectac.recon.types import Array

AROUND_MM = {"known": None, "40 mm": 40.0, "24 mm": 24.0}
"""What is known of the activity around the striata, and the distance of its corners."""
BLURS_MM = (0.0, 9.0)
"""Gaussians on the activity in which ratios are read."""
FAINT = 1e-3
"""Corners that hold less than this share of the activity around the striata, or that no view sees, are left out."""


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

    weights = {
        (name, blur_mm): filters.gaussian(mask.astype(np.float32), head.grid.voxel_mm, blur_mm) / mask.sum()
        for name, mask in masks.items()
        for blur_mm in BLURS_MM
    }

    def read(part: Array) -> list[float]:
        """Means of a part in the regions of `weights`: a blurred mask weighs what a blurred image holds in a mask."""
        return [float((part * weight).sum(dtype=np.float64)) for weight in weights.values()]

    of_striata = [activity * mask for mask in striata.values()]
    known_counts, known_means = [seen(part) for part in of_striata], [read(part) for part in of_striata]
    for name, distance_mm in AROUND_MM.items():
        expected_counts, means = list(known_counts), list(known_means)
        whole = [np.ones(activity.shape)]
        for corner in whole if distance_mm is None else corners(activity.shape, head.grid.voxel_mm, distance_mm):
            part = corner * around
            if part.sum() > FAINT * around.sum() and (counted := seen(part)).any():
                expected_counts.append(counted)
                means.append(read(part))
        columns, by_region = np.stack(expected_counts, axis=1), dict(zip(weights, np.array(means).T, strict=True))
        for region in striata:
            for blur_mm in BLURS_MM:
                of_region, of_reference = by_region[region, blur_mm], by_region["reference", blur_mm]
                ratio = of_region.sum() / of_reference.sum()
                gradient = (of_region - ratio * of_reference) / of_reference.sum()
                spread = least_spread(columns, counts, gradient)
                values = {"ratio": ratio - 1.0, "full time": spread, "fifth": spread / np.sqrt(SHARE)}
                about = {"patient": index, "around": name, "blur_mm": blur_mm, "parts": columns.shape[1]}
                yield {**about, "measure": f"SBR {region}"} | {key: f"{value:.5g}" for key, value in values.items()}


def table(rows: Sequence[Mapping[str, object]], images: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Means over patients and regions for each knowledge and blur; `images` are rows of low_counts.csv."""
    full = {(row["patient"], row["measure"]): row for row in images if row["method"] == FULL}
    for name in AROUND_MM:
        for blur_mm in BLURS_MM:
            chosen = [row for row in rows if (row["around"], row["blur_mm"]) == (name, blur_mm)]
            spread = np.array([float(str(row["fifth"])) / float(str(row["ratio"])) for row in chosen])
            line = f"around the striata {name}, blur {blur_mm:g} mm: spread of a fifth {100.0 * spread.mean():.2f} %"
            shown = [full.get((str(row["patient"]), str(row["measure"]))) for row in chosen]
            pairs = [(one, seen) for one, seen in zip(chosen, shown, strict=True) if seen is not None]
            if pairs:
                over = root_mean_square(float(str(one["fifth"])) / float(str(one["ratio"])) for one, _ in pairs)
                over /= root_mean_square(float(seen["sd"]) / float(seen["mean"]) for _, seen in pairs)
                left = np.mean([float(str(one["ratio"])) / float(seen["mean"]) for one, seen in pairs])
                line += f", {over:.2f} times that of the full time's images, whose ratios are {1.0 / left:.2f} of these"
            yield line


def root_mean_square(values: Iterable[float]) -> float:
    """Root mean square; of sample standard deviations it is the one without bias."""
    return float(np.sqrt(np.mean(np.square(list(values)))))


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
    images: list[dict[str, str]] = []
    if (path := options.output / "low_counts.csv").is_file():
        with path.open(encoding="utf-8", newline="") as file:
            images = [
                row for row in csv.DictReader(file) if row["tracer"] == "dat" and row["seed"] == str(options.seed)
            ]
    for line in table(rows, images):
        print(line)


if __name__ == "__main__":
    main()
