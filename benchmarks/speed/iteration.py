"""Seconds and memory of a reconstruction, spectac beside PyTomography on the same data in one run.

    python -m benchmarks.speed.iteration [--device cpu|cuda] [--pytomography PYTHON] [--sizes 128x128x64x120@4.4 ...]
           -o CSV

Half an hour on 2 cores. Writes speed.csv, with `--sizes 128x128x64x120@4.4 --peer-sizes 64x64x32x60@4.4 --seconds 1`
speed_values.csv. Every program runs in a process of its own on the same problem.npz, one after the other. README.md
says how to make the interpreter for --pytomography, docs/performance.md explains floor and growth. Times are never a
reason to fail.
"""

import argparse
import json
import statistics
import sys
import tempfile
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.provenance import provenance
from benchmarks.speed.problem import FIXED_FIELD, GROWING, PROBLEMS, TIGHT, Problem, write_problem
from benchmarks.speed.rows import ProgramFailedError, Row, differences, error, row_of, rows_of, run, write

STARTS = 3
BESIDE_PEER = (GROWING[0].name, GROWING[1].name, TIGHT.name)
EVEN = (GROWING[1].name,)
"""Sizes at which iterations are compared with each other, and backgrounds of 0 with subnormal ones."""
VARIANTS = {
    "whole grid": {"psf": True, "cached": True, "crop": False},
    "whole grid, factors made again": {"psf": True, "cached": False, "crop": False},
    "whole grid, no PSF": {"psf": False, "cached": True, "crop": False},
    "near the orbit": {"psf": True, "cached": True, "crop": True},
}
"""Attenuation is always on. reconstruct() computes the last; the peer is measured beside the first and the third."""
SERIES = {"series at 4.4 mm": GROWING, "series at a fixed field": FIXED_FIELD}
POINTS, TAPS = "lattice points of all views", "taps of a lattice point, both axes"


def main() -> None:
    options = _options()
    columns = provenance(options.seed)
    rows = [] if options.device == "cuda" else _starts()
    _show(rows)
    for size in options.sizes or default_sizes(options.device):
        _show(added := _times(PROBLEMS[size], options))
        rows += added
        write(options.output, columns, rows)
    _show(added := _growth(rows, options.device))
    write(options.output, columns, [*rows, *added])


def default_sizes(device: str) -> list[str]:
    """Names of all problems; on a GPU without the coarse and the fine one of the fixed field."""
    return list(PROBLEMS) if device == "cpu" else [problem.name for problem in (*GROWING, TIGHT)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--pytomography", metavar="PYTHON", help="interpreter that has PyTomography 3.4.0")
    parser.add_argument("--sizes", nargs="+", choices=PROBLEMS, help="x, y, z, views, mm (all that suit the device)")
    parser.add_argument(
        "--peer-sizes", nargs="+", choices=PROBLEMS, default=BESIDE_PEER, help="those that PyTomography runs as well"
    )
    parser.add_argument("--peer-iterations", type=int, default=2, metavar="N", help="of PyTomography's OSEM (2)")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="for each of spectac's timings (3)")
    parser.add_argument(
        "--seed", type=int, default=1, help="for the noise of the transpose's check; data have none (1)"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CSV")
    options = parser.parse_args()
    if options.peer_iterations < 2:
        parser.error("--peer-iterations must be at least 2: memory is read after the second iteration")
    if not options.output.resolve().parent.is_dir():
        parser.error(f"the folder of {options.output} does not exist")
    return options


def _starts() -> list[Row]:
    """First call with an empty cache, then with the cache of that call, each in new processes."""
    print("start: compilation in fresh cache folders ...", flush=True)
    first, again = [], []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as folder:
            for runs in (first, again):
                runs.append(run(sys.executable, "spectac", Path(folder), "start", NUMBA_CACHE_DIR=f"{folder}/cache"))
    merged = {**first[0], "rows": []}
    for state, runs in (("empty cache", first), ("cached", again)):
        for index, row in enumerate(runs[0]["rows"]):
            values = [run["rows"][index]["values"][0] for run in runs]
            merged["rows"].append({**row, "quantity": f"{row['quantity']}, {state}", "values": values})
        process = {"quantity": f"the whole process, {state}", "unit": "s", "values": [run["seconds"] for run in runs]}
        merged["rows"].append(process)
    gained = [one["seconds"] - two["seconds"] for one, two in zip(first, again, strict=True)]
    merged["rows"].append({"quantity": "compilation", "unit": "s", "values": gained})
    return rows_of(merged, "start")


def _times(problem: Problem, options: argparse.Namespace) -> list[Row]:
    """Measure times, memory and images at one size."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{problem.name}: projections of the head from pixels of half the size ...", flush=True)
        truth, brain = write_problem(problem, folder / "problem.npz", options.seed)
        common = {"device": options.device, "iterations": options.peer_iterations, "seconds": options.seconds}
        for variant, settings in VARIANTS.items():
            print(f"{problem.name}, {variant}: spectac ...", flush=True)
            even = problem.name in EVEN and settings["psf"] and settings["cached"]
            ours = run(sys.executable, "spectac", folder, "time", json.dumps({**common, **settings, "even": even}))
            ours |= {"device": options.device, "variant": variant}
            if options.device == "cuda":
                ours["engine"] += ", factors in half precision"
            rows += rows_of(ours, problem.name)
            if not any(row["quantity"] == "OSEM iteration" for row in ours["rows"]):
                continue
            image = np.load(folder / "spectac_time.npy")
            rows.append(error(ours, problem, image, truth, brain, options.peer_iterations))
            compared = settings["cached"] and not settings["crop"] and problem.name in options.peer_sizes
            if not (options.pytomography and compared):
                continue
            print(f"{problem.name}, {variant}: PyTomography ...", flush=True)
            chosen = {**common, "threads": ours["threads"], "psf": settings["psf"]}
            try:
                theirs = run(options.pytomography, "pytomography", folder, "time", json.dumps(chosen))
            except ProgramFailedError as failed:
                print(f"left out: {failed}", flush=True)
                continue
            theirs |= {"device": options.device, "variant": variant}
            rows += rows_of(theirs, problem.name)
            other = np.load(folder / "pytomography_time.npy")
            rows.append(error(theirs, problem, other, truth, brain, options.peer_iterations))
            rows += _ratios(theirs, ours, problem)
            label = f"image in the brain, {options.peer_iterations} iterations"
            between = {**theirs, "engine": f"{theirs['engine']} - {ours['engine']}"}
            rows += differences(between, problem, label, other, image, brain)
    return rows


def _ratios(theirs: dict, ours: dict, problem: Problem) -> list[Row]:
    """The peer's time over ours, of medians and of minima."""
    ratio = {**theirs, "engine": f"ratio {theirs['engine']} / {ours['engine']}"}
    rows = []
    for quantity in ("OSEM iteration", "forward", "adjoint", "peak memory, 2 iterations"):
        pair = [next(row["values"] for row in run["rows"] if row["quantity"] == quantity) for run in (theirs, ours)]
        for how, pick in (("median", statistics.median), ("min", min)):
            if len(pair[0]) > 1 or how == "median":
                value = pick(pair[0]) / pick(pair[1])
                rows.append(row_of(ratio, problem.name, value, f"{how}s' ratio", quantity, "1", len(pair[0])))
    return rows


def _growth(rows: list[Row], device: str) -> list[Row]:
    """Exponents of an OSEM iteration's time (its minimum), fitted over each series of sizes that was measured."""

    def value(problem: Problem, variant: str, quantity: str) -> float | None:
        values = [
            row.value
            for row in rows
            if (row.problem, row.variant, row.quantity) == (problem.name, variant, quantity)
            and row.engine.startswith("spectac")
            and row.statistic in ("min", "single")
        ]
        return values[0] if values else None

    fitted = {"load": float("nan"), "threads": 0, "engine": "spectac", "device": device}
    exponents = []
    for (series, problems), variant in product(SERIES.items(), VARIANTS):
        measured = []
        for problem in problems:
            voxels = problem.columns**2 * problem.rows * problem.views
            row = [value(problem, variant, name) for name in ("OSEM iteration", POINTS, TAPS)]
            if None not in row:
                measured.append([float(voxels), *row])
        if len(measured) < 3:
            continue
        voxels, seconds, points, taps = np.log(np.array(measured, float)).T
        for against, size in (("voxels x views", voxels), ("lattice points x taps", points + taps)):
            exponent = float(np.polyfit(size, seconds, 1)[0])
            quantity = f"exponent of time against {against}"
            exponents.append(
                row_of({**fitted, "variant": variant}, series, exponent, "fit", quantity, "1", len(measured))
            )
    return exponents


def _show(rows: list[Row]) -> None:
    """Print rows as a table."""
    for row in rows:
        engine = row.engine.replace("ratio ", "")
        words = f"{row.problem:19} {row.variant:31} {engine:34} {row.quantity:50} {row.statistic:14}"
        print(f"{words} {row.value:>10.5g} {row.unit}".rstrip())
    print(flush=True)


if __name__ == "__main__":
    main()
