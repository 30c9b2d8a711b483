"""One head scanned with parallel and with fan-beam holes by full Monte Carlo, and the time of an OSEM iteration.

    python -m benchmarks.images.fan_beam [--histories N] -o FOLDER

6 minutes on 2 cores. Writes fan_beam.csv. A virtual head with ioflupane is scanned by the same camera and the same
holes with and without a focus, for the same time. OSEM 10 x 10 with resolution recovery, the true map and the scatter
that the Monte Carlo counted gives the images; counts have no Poisson noise. Regional means are compared with those of
parallel holes, as they are and after both images are blurred to one resolution. Iterations are timed in turns on a
problem of 120 views and 128 x 128 x 64 voxels.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from benchmarks.provenance import provenance, write_csv
from spectac.recon import Acquisition, Focus, MuMap, SystemModel, default_grid
from spectac.recon.collimator import FWHM_PER_SIGMA, collimator
from spectac.recon.em import osem
from spectac.recon.resample import resample
from spectac.recon.types import Array, Grid
from spectac.simulate.acquire import Patient, expected_counts
from spectac.simulate.head import draw_head
from spectac.simulate.regions import LABEL
from spectac.simulate.scanner import Scanner
from spectac.simulate.uptake import draw_uptake

FOCI_MM = (None, 650.0, 500.0, 350.0)
"""Focal lengths; None: parallel holes."""
SCANNER = Scanner("fan-beam benchmark", "siemens-lehr", matrix=(64, 128), pixel_mm=3.3, radius_mm=135.0)
HISTORIES = 1_000_000
COMMON_FWHM_MM = 16.0
"""Blur that brings images of different resolution together."""
DEEP_MM = 15.0
"""Distance of the deep regions from the brain's edge and from the striata."""
TIMED = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--histories", type=int, default=HISTORIES, metavar="N", help=f"({HISTORIES})")
    parser.add_argument("--seed", type=int, default=7, help="of the head and of the Monte Carlo (7)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = [*seconds(), *means(options.seed, options.histories)]
    origin = provenance(options.seed)
    write_csv(options.output / "fan_beam.csv", [{**origin, **row} for row in rows])
    for row in rows:
        print(row)


def seconds() -> list[dict[str, object]]:
    """Processor seconds of the backprojected ratio, the costly part of an iteration, over that of parallel holes."""
    rng = np.random.default_rng(0)
    lehr = collimator("siemens-lehr")
    updates = {}
    for focus_mm in FOCI_MM:
        acquisition = Acquisition(
            np.arange(120) * 3.0, np.full(120, 140.0), (64, 128), (4.4, 400 / 128), np.full(120, 10.0), "Tc-99m", lehr,
            foci=() if focus_mm is None else (Focus(focus_mm),),
        )  # fmt: skip
        middle = default_grid(acquisition)
        shape = (64, 128, 128)
        first = np.subtract(0.0, 0.5 * (np.array(shape[::-1]) - 1) * middle.voxel_mm[::-1])
        first[2] = middle.affine_lps[2, 3]
        grid = Grid.upright(shape, middle.voxel_mm, first)
        _, y, x = grid.centres_mm()
        disk = np.hypot(x, y[:, None]) < 90.0
        mu = MuMap((0.15 * disk * np.ones(shape)).astype(np.float32), grid, 140.511)
        system = SystemModel(acquisition, grid, mu=mu, crop_to_orbit=True)
        updates[focus_mm] = (system, rng.random(shape, np.float32), rng.random(acquisition.shape, np.float32))
    spent: dict[float | None, list[float]] = {focus_mm: [] for focus_mm in FOCI_MM}
    for _ in range(TIMED + 1):
        for focus_mm, (system, image, counts) in updates.items():
            began = time.process_time()
            system.em_backprojection(image, counts)
            spent[focus_mm].append(time.process_time() - began)
    # The first of each compiles.
    least = {focus_mm: min(times[1:]) for focus_mm, times in spent.items()}
    return [
        row
        for focus_mm in FOCI_MM
        for row in (
            _row(focus_mm, "iteration, 128x128x64, 120 views", "processor seconds", least[focus_mm]),
            _row(focus_mm, "iteration, 128x128x64, 120 views", "times parallel", least[focus_mm] / least[None]),
        )
    ]


def means(seed: int, histories: int) -> list[dict[str, object]]:
    """Regional means over those of parallel holes, and the striata's recovery, in percent."""
    head = draw_head(np.random.default_rng(seed), voxel_mm=2.0)
    uptake = draw_uptake("dat", head, np.random.default_rng(seed + 1))
    truth = uptake.kbq_per_ml
    regions = _regions(head.labels)
    rows: list[dict[str, object]] = []
    parallel: dict[tuple[str, str], float] = {}
    for focus_mm in FOCI_MM:
        scanner = replace(SCANNER, focus=None if focus_mm is None else Focus(focus_mm)).around(head)
        began = time.perf_counter()
        expected = expected_counts(Patient(head, uptake), scanner, seed, full=True, histories=histories)
        grid = default_grid(expected.acquisition)
        line_kev = scanner.camera(expected.acquisition).line_kev()
        mu = head.mu(line_kev)
        on_grid = MuMap(np.maximum(resample(mu.per_cm, mu.grid, grid), 0.0), grid, line_kev)
        system = SystemModel(expected.acquisition, grid, mu=on_grid, crop_to_orbit=True)
        scatter = (expected.scatter + expected.high_energy)[0]
        image = osem(system, expected.counts[0], iterations=10, subsets=10, scatter=scatter)
        kbq = resample(image, grid, head.grid) / expected.cps_per_kbq
        sigma = COMMON_FWHM_MM / FWHM_PER_SIGMA / head.grid.voxel_mm[0]
        blurred = gaussian_filter(kbq, sigma)
        rows.append(_row(focus_mm, "photopeak", "counts per second", float(expected.counts[0].sum() / scanner.views)))
        for name, mask in regions.items():
            rows.append(_row(focus_mm, name, "recovery %", 100.0 * float(kbq[mask].mean() / truth[mask].mean())))
            for values, how in ((kbq, "as they are"), (blurred, "at one resolution")):
                mean = float(values[mask].mean())
                compared = parallel.setdefault((name, how), mean)
                if focus_mm is not None:
                    change = 100.0 * (mean / compared - 1.0)
                    rows.append(_row(focus_mm, name, f"difference from parallel %, {how}", change))
        print(f"focal length {focus_mm}: {time.perf_counter() - began:.0f} s", flush=True)
    return rows


def _regions(labels: Array) -> dict[str, Array]:
    """Masks on the head's grid; "deep" ones lie DEEP_MM from the brain's edge and the striata."""

    def of(*words: str) -> Array:
        return np.isin(labels, [LABEL[name] for name in LABEL if any(word in name for word in words)])

    brain = of("white matter", "cortex", "caudate", "putamen", "thalamus", "csf", "ventricles", "brainstem")
    white = of("left white matter", "right white matter")
    striata = of("caudate", "putamen")
    depth = distance_transform_edt(brain & ~striata, sampling=2.0)
    regions = {"brain without striata, deep": depth > DEEP_MM, "white matter, deep": white & (depth > DEEP_MM)}
    small = {name: of(name) for name in ("caudate", "putamen", "thalamus", "occipital cortex", "cerebellar cortex")}
    return regions | small


def _row(focus_mm: float | None, what: str, quantity: str, value: float) -> dict[str, object]:
    holes = "parallel" if focus_mm is None else f"fan, F = {focus_mm:g} mm"
    return {"holes": holes, "what": what, "quantity": quantity, "value": float(f"{value:.5g}")}


if __name__ == "__main__":
    main()
