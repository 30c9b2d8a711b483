"""The fast simulation of virtual patients against the full Monte Carlo: scatter, noise, and seconds.

    python -m benchmarks.simulation.fast_simulation -o FOLDER [--heads N] [--histories N] [--seed N]
           [--only scatter|speed|noise]

Half an hour on 2 idle cores: seconds are wall-clock time. Writes:

- fast_scatter.csv, a row for each head and window: summed scatter, fast over full; error per view-averaged pixel
- fast_noise.csv: noise of the fast simulation over that of the counts
- scatter_fractions.csv: scatter and high-energy counts over the photopeak's primary, by tracer, nuclide and window
- simulation_speed.csv: seconds of each step for a patient at training resolution, and of one full Monte Carlo study
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.provenance import load_average, provenance, write_csv
from spectac.recon import ReconstructionSettings
from spectac.recon.pipeline import StudySolver
from spectac.recon.types import Array, Image, Study
from spectac.simulate.acquire import FULL_HISTORIES, Expected, Patient, expected_counts, projected_primary
from spectac.simulate.head import draw_head
from spectac.simulate.scanner import SCANNERS, Scanner, draw_scanner
from spectac.simulate.uptake import draw_uptake

TRACERS = (("dat", "I-123"), ("perfusion", "Tc-99m"), ("perfusion", "I-123"))
REPEATS = 3
"""Of each step's timing."""


def patient_of(seed: int, index: int) -> tuple[Patient, Scanner]:
    """Patient `index` with a random training camera that has all four windows."""
    head_rng, uptake_rng, scanner_rng = np.random.default_rng([seed, index]).spawn(3)
    tracer, nuclide = TRACERS[index % len(TRACERS)]
    head = draw_head(head_rng)
    scanner = replace(draw_scanner(scanner_rng), scheme="tew+scatter")
    return Patient(head, draw_uptake(tracer, head, uptake_rng, nuclide=nuclide)), scanner.around(head)


def compare(full: Expected, fast: Expected) -> list[dict[str, object]]:
    """For each window: summed scatter, and errors where the view-averaged scatter exceeds a tenth of its maximum."""
    rows: list[dict[str, object]] = []
    for index, window in enumerate(full.windows):
        reference, quick = full.scatter[index], fast.scatter[index]
        mean, other = reference.mean(axis=0), quick.mean(axis=0)
        seen = mean > 0.1 * mean.max()
        error = np.abs(other[seen] / mean[seen] - 1.0)
        noise = full.scatter_error
        assert noise is not None
        rows.append(
            {
                "window": window.name,
                "summed_fast_over_full": round(float(quick.sum() / reference.sum()), 5),
                "pixel_error_rms_percent": round(100 * float(np.sqrt(np.mean(error**2))), 2),
                "pixel_error_p95_percent": round(100 * float(np.percentile(error, 95)), 2),
                "pixel_error_worst_percent": round(100 * float(error.max()), 2),
                "full_noise_per_bin_percent": round(100 * _noise(reference, noise[index]), 2),
            }
        )
    return rows


def _noise(scatter: Array, error: Array) -> float:
    """Median relative standard error over bins above a tenth of the maximum."""
    seen = scatter > 0.1 * scatter.max()
    return float(np.median(error[seen] / scatter[seen]))


def scatter_tables(heads: int, histories: int, seed: int) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Rows of fast_scatter.csv and scatter_fractions.csv."""
    rows: list[dict[str, object]] = []
    fractions: dict[tuple[str, str, str], list[tuple[float, float, float]]] = defaultdict(list)
    for index in range(heads):
        patient, scanner = patient_of(seed, index)
        began = time.perf_counter()
        full = expected_counts(
            patient, scanner, np.random.SeedSequence([seed, index, 0]), full=True, histories=histories
        )
        fast = expected_counts(patient, scanner, np.random.SeedSequence([seed, index, 1]))
        uptake = patient.uptake
        about = {"head": index, "tracer": uptake.tracer, "nuclide": uptake.nuclide, "collimator": scanner.collimator}
        rows += [{**about, **row, "histories": histories, **provenance(seed)} for row in compare(full, fast)]
        primary = float(full.primary[0].sum())
        for n, window in enumerate(full.windows):
            fractions[uptake.tracer, uptake.nuclide, window.name].append(
                (
                    float(full.scatter[n].sum()) / primary,
                    float(full.high_energy[n].sum()) / primary,
                    float(full.scatter[n].sum()),
                )
            )
        print(
            f"head {index}: {time.perf_counter() - began:.0f} s",
            *(row["summed_fast_over_full"] for row in compare(full, fast)),
        )
    table: list[dict[str, object]] = []
    for (tracer, nuclide, window), values in fractions.items():
        scatter, high, _ = np.array(values).T
        table.append(
            {
                "tracer": tracer,
                "nuclide": nuclide,
                "window": window,
                "heads": len(values),
                "scatter_over_primary_mean": round(float(scatter.mean()), 4),
                "scatter_over_primary_least": round(float(scatter.min()), 4),
                "scatter_over_primary_most": round(float(scatter.max()), 4),
                "high_energy_over_primary_mean": round(float(high.mean()), 4),
                "histories": histories,
                **provenance(seed),
            }
        )
    return rows, table


def noise_table(seed: int, repeats: int = 6) -> list[dict[str, object]]:
    """Rows of fast_noise.csv: noise of the fast simulation over that of the counts, in bins and in preview images.

    Root of the mean variances' ratio over bins, or voxels, above a tenth of the maximum; 3 million photopeak counts.
    One history serves all views. Its noise is therefore common to them, and images do not average it away.
    """
    rows: list[dict[str, object]] = []
    scanner = Scanner("training", "siemens-lehr", matrix=(64, 64), pixel_mm=4.0, views=60, scheme="tew")
    for tracer, nuclide in TRACERS[:2]:
        head = draw_head(np.random.default_rng(seed))
        patient = Patient(head, draw_uptake(tracer, head, np.random.default_rng(seed), nuclide=nuclide))
        camera = scanner.around(head)
        runs = [expected_counts(patient, camera, np.random.SeedSequence([seed, n])) for n in range(repeats)]
        factor = 3e6 / float(runs[0].counts[0].sum())
        means = [factor * run.counts for run in runs]
        noisy = [np.random.default_rng([seed, n]).poisson(means[0].astype(np.float64)) for n in range(repeats)]
        for index, window in enumerate(runs[0].windows[:2]):
            bins = [np.stack([one[index] for one in many]) for many in (means, noisy)]
            images = [np.stack([_preview(runs[0], one, window.name) for one in many]) for many in (means, noisy)]
            rows.append(
                {
                    "tracer": tracer,
                    "nuclide": nuclide,
                    "window": window.name,
                    "noise_over_poisson_bin": round(_ratio(*bins), 3),
                    "noise_over_poisson_preview": round(_ratio(*images), 3),
                    "repeats": repeats,
                    **provenance(seed),
                }
            )
            print(tracer, window.name, rows[-1]["noise_over_poisson_bin"], rows[-1]["noise_over_poisson_preview"])
    return rows


def _preview(expected: Expected, counts: Array, window: str) -> Array:
    study = Study(expected.acquisition, expected.windows, counts)
    return StudySolver(study, ReconstructionSettings(scatter="none")).preview(window).values


def _ratio(fast: Array, noisy: Array) -> float:
    """Root of the ratio of both mean variances (over runs) where the mean exceeds a tenth of its maximum."""
    seen = fast.mean(axis=0) > 0.1 * fast.mean(axis=0).max()
    return float(np.sqrt(fast.var(axis=0, ddof=1)[seen].mean() / noisy.var(axis=0, ddof=1)[seen].mean()))


def speed_table(seed: int) -> list[dict[str, object]]:
    """Rows of simulation_speed.csv: steps of the fast simulation (after compilation), then one full study."""
    rows: list[dict[str, object]] = []

    def timed(step: str, work: Callable[[], object], repeats: int = REPEATS) -> object:
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            result = work()
            seconds.append(time.perf_counter() - began)
        rows.append({"step": step, "seconds_median": round(float(np.median(seconds)), 3), "repeats": repeats})
        print(f"{step}: {rows[-1]['seconds_median']} s")
        return result

    scanner = Scanner("training", "siemens-lehr", matrix=(64, 64), pixel_mm=4.0, views=60, scheme="tew")
    warm = Patient(*_head_and_uptake(seed))
    scanner = scanner.around(warm.head)
    _previews(expected_counts(warm, scanner, seed, histories=2000))

    def one() -> None:
        head, uptake = _head_and_uptake(seed)
        expected = expected_counts(Patient(head, uptake), scanner, seed)
        _previews(expected)

    head = timed("head", lambda: draw_head(np.random.default_rng(seed)))
    uptake = timed("uptake", lambda: draw_uptake("dat", warm.head, np.random.default_rng(seed)))
    del head, uptake
    cps = Image(warm.uptake.kbq_per_ml, warm.head.grid, "cps/mL")
    acquisition, windows = scanner.acquisition("I-123", warm.head), scanner.windows("I-123")
    timed("primary by projector", lambda: projected_primary(warm.head, cps, scanner, acquisition, windows))
    expected = timed("expected counts, 3 windows", lambda: expected_counts(warm, scanner, seed))
    assert isinstance(expected, Expected)
    timed("uncorrected reconstruction, 3 windows", lambda: _previews(expected))
    timed("patient: all of it, 64^3 at 4 mm, 60 views, 3 windows", one)
    camera = replace(SCANNERS["siemens-intevo-lehr"], scheme="tew+scatter").around(warm.head)
    full = timed(
        f"full Monte Carlo, 128x128, 120 views, 4 windows, {FULL_HISTORIES} histories",
        lambda: expected_counts(warm, camera, seed, full=True),
        repeats=1,
    )
    assert isinstance(full, Expected)
    assert full.scatter_error is not None
    for n, window in enumerate(full.windows):
        rows[-1][f"error_percent_{window.name}"] = round(100 * _noise(full.scatter[n], full.scatter_error[n]), 2)
    print(rows[-1])
    return [{**row, "load": load_average(), **provenance(seed)} for row in rows]


def _head_and_uptake(seed: int) -> tuple:
    head = draw_head(np.random.default_rng(seed))
    return head, draw_uptake("dat", head, np.random.default_rng(seed))


def _previews(expected: Expected) -> None:
    study = expected.with_counts(3e6).study(np.random.default_rng(1))
    solver = StudySolver(study, ReconstructionSettings(scatter="none"))
    for window in study.windows:
        solver.preview(window.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--heads", type=int, default=20)
    parser.add_argument("--histories", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("scatter", "speed", "noise"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.only in (None, "noise"):
        write_csv(options.output / "fast_noise.csv", noise_table(options.seed))
    if options.only in (None, "speed"):
        write_csv(options.output / "simulation_speed.csv", speed_table(options.seed))
    if options.only in (None, "scatter"):
        rows, table = scatter_tables(options.heads, options.histories, options.seed)
        write_csv(options.output / "fast_scatter.csv", rows)
        write_csv(options.output / "scatter_fractions.csv", table)


if __name__ == "__main__":
    main()
