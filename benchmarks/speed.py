"""Seconds and memory of a reconstruction, spectac beside PyTomography on the same data in one run, and do they agree.

    python benchmarks/speed.py [--pytomography PYTHON] [--sizes 128x128x64x120 ...] [--repeat N] -o CSV

Every program runs in a process of its own on the same problem.npz, one after the other. README.md says how to make the
interpreter for --pytomography, and what the quantities mean. Times are never a reason to fail.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from provenance import load_average, provenance
from speed_problem import PROBLEMS, Problem, write_problem

from spectac.recon.types import Array

PEERS = Path(__file__).parent / "peers"
CAUSES_ON = Problem(48, 56, 30, subsets=5)
"""Holds the head and no more: PyTomography needs seconds per iteration here, and there are a dozen cases."""
STARTS = 3
# What issue 2 asks for at 128x128x64x120 on 2 cores; printed beside the value, never enforced.
WANTED = {
    ("128x128x64x120", "spectac", "OSEM iteration"): "<= 0.5",
    ("128x128x64x120", "spectac", "peak memory, 2 iterations"): "<= 1.5",
    ("128x128x64x120", "ratio", "OSEM iteration"): ">= 50",
    ("start", "spectac", "compilation"): "<= 15",
}


@dataclass(frozen=True)
class Row:
    """One line of the CSV, less the columns of provenance."""

    load: float
    threads: int
    problem: str
    engine: str
    quantity: str
    statistic: str
    value: float
    unit: str
    repeats: int


@dataclass(frozen=True)
class Case:
    """One comparison of images: what is changed in PyTomography's kernel, transpose and order, and in both otherwise.

    Without `corners` both start from 0 outside the circle that the detector sees in every view.
    """

    psf: bool = True
    kernel: str = "sampled"
    transpose: bool = False
    order: str = "its own"
    corners: bool = True
    subsets: int = 5
    iterations: int = 4


# One thing changed at a time, then together; then the same question without blur and without subsets.
_ALL = {"order": "spectac's", "kernel": "integrated", "transpose": True}
CASES = {
    "as delivered": Case(),
    "subsets in spectac's order": Case(order="spectac's"),
    "PSF integrated over pixels": Case(kernel="integrated"),
    "rotation transposed": Case(transpose=True),
    "order, integrated PSF": Case(order="spectac's", kernel="integrated"),
    "order, integrated PSF, transpose": Case(**_ALL),
    "these three, PSF cut at 3.5 sigma": Case(**{**_ALL, "kernel": "integrated, cut"}),
    "these three, cut, corners empty": Case(**{**_ALL, "kernel": "integrated, cut"}, corners=False),
    "no PSF": Case(psf=False),
    "no PSF, order, transpose": Case(psf=False, order="spectac's", transpose=True),
    "1 subset": Case(subsets=1, iterations=10),
    "1 subset, integrated PSF, transpose": Case(**_ALL, subsets=1, iterations=10),
}


def main() -> None:
    options = _options()
    columns = provenance(options.seed)
    rows = _starts()
    _show(rows)
    for size in options.sizes:
        _show(added := _times(PROBLEMS[size], options))
        rows += added
    if options.pytomography:
        _show(added := _causes(CAUSES_ON, options))
        rows += added
    with options.output.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*columns, *asdict(rows[0])], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**columns, **asdict(row)} for row in rows)
    print(f"{len(rows)} rows: {options.output}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pytomography", metavar="PYTHON", help="interpreter that has PyTomography 3.4.0")
    parser.add_argument("--sizes", nargs="+", choices=PROBLEMS, default=["128x128x64x120"], help="x, y, z, views")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="times that each part is measured (5)")
    parser.add_argument(
        "--seed", type=int, default=1, help="for the noise of the transpose's check; data have none (1)"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CSV")
    options = parser.parse_args()
    if options.repeat < 2:
        parser.error("--repeat must be at least 2: memory is read after the second iteration")
    if not options.output.resolve().parent.is_dir():
        parser.error(f"the folder of {options.output} does not exist")
    return options


def _run(python: str, program: str, folder: Path, *arguments: object, **environment: str) -> dict:
    """Run a program of peers/; its measurements."""
    load, began = load_average(), time.perf_counter()
    command = [python, str(PEERS / f"{program}_iteration.py"), str(folder), *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    what = next(str(argument) for argument in arguments if not str(argument).isdigit())
    seconds = time.perf_counter() - began
    return {**json.loads((folder / f"{program}_{what}.json").read_text()), "load": load, "seconds": seconds}


def _rows(result: dict, problem: str) -> list[Row]:
    """Median and smallest value of everything that a program measured; a single value once."""
    rows = []
    for row in result["rows"]:
        values = row["values"]
        found = {"median": statistics.median(values), "min": min(values)} if len(values) > 1 else {"single": values[0]}
        rows += [_row(result, problem, row["quantity"], how, x, row["unit"], len(values)) for how, x in found.items()]
    return rows


def _row(result: dict, problem: str, quantity: str, how: str, value: float, unit: str, repeats: int) -> Row:
    value = float(f"{value:.5g}")
    return Row(result["load"], result["threads"], problem, result["engine"], quantity, how, value, unit, repeats)


def _starts() -> list[Row]:
    """First call with an empty cache, then with the cache that it left, each in new processes."""
    print("start: compilation in fresh cache folders ...", flush=True)
    first, again = [], []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as folder:
            for runs in (first, again):
                runs.append(_run(sys.executable, "spectac", Path(folder), "start", NUMBA_CACHE_DIR=f"{folder}/cache"))
    merged = {**first[0], "rows": []}
    for state, runs in (("empty cache", first), ("cached", again)):
        for index, row in enumerate(runs[0]["rows"]):
            values = [run["rows"][index]["values"][0] for run in runs]
            merged["rows"].append({**row, "quantity": f"{row['quantity']}, {state}", "values": values})
        process = {"quantity": f"the whole process, {state}", "unit": "s", "values": [run["seconds"] for run in runs]}
        merged["rows"].append(process)
    gained = [one["seconds"] - two["seconds"] for one, two in zip(first, again, strict=True)]
    merged["rows"].append({"quantity": "compilation", "unit": "s", "values": gained})
    return _rows(merged, "start")


def _times(problem: Problem, options: argparse.Namespace) -> list[Row]:
    """Measure times, memory and images at one size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{problem.name}: projections of the head from pixels of half the size ...", flush=True)
        truth, brain = write_problem(problem, folder / "problem.npz", options.seed)
        print(f"{problem.name}: spectac ...", flush=True)
        ours = _run(sys.executable, "spectac", folder, "time", options.repeat)
        rows = _rows(ours, problem.name)
        image = np.load(folder / "spectac_time.npy")
        rows.append(_error(ours, problem, image, truth, brain, options.repeat))
        if not options.pytomography:
            return rows
        print(f"{problem.name}: PyTomography ...", flush=True)
        theirs = _run(options.pytomography, "pytomography", folder, ours["threads"], "time", options.repeat)
        rows += _rows(theirs, problem.name)
        other = np.load(folder / "pytomography_time.npy")
        rows.append(_error(theirs, problem, other, truth, brain, options.repeat))
    ratio = {**theirs, "engine": f"ratio {theirs['engine']} / {ours['engine']}"}
    for quantity in ("OSEM iteration", "forward", "adjoint", "peak memory, 2 iterations"):
        pair = [next(row["values"] for row in run["rows"] if row["quantity"] == quantity) for run in (theirs, ours)]
        for how, pick in (("median", statistics.median), ("min", min)):
            if len(pair[0]) > 1 or how == "median":
                value = pick(pair[0]) / pick(pair[1])
                rows.append(_row(ratio, problem.name, quantity, f"{how}s' ratio", value, "1", len(pair[0])))
    difference = {**theirs, "engine": f"{theirs['engine']} - {ours['engine']}"}
    label = f"image in the brain, {options.repeat} iterations"
    return [*rows, *_differences(difference, problem, label, other, image, brain)]


def _error(result: dict, problem: Problem, image: Array, truth: Array, brain: Array, iterations: int) -> Row:
    value = 100.0 * _rms(image - truth, brain) / float(truth[brain].mean())
    quantity = f"error against the truth in the brain, {iterations} iterations"
    return _row(result, problem.name, quantity, "RMS", value, "% of mean", 1)


def _differences(result: dict, problem: Problem, what: str, image: Array, ours: Array, brain: Array) -> list[Row]:
    mean = float(ours[brain].mean())
    gap = image - ours
    found = {"RMS": _rms(gap, brain), "mean": float(gap[brain].mean()), "largest": float(np.abs(gap[brain]).max())}
    return [_row(result, problem.name, what, how, 100.0 * value / mean, "% of mean", 1) for how, value in found.items()]


def _rms(values: Array, mask: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values[mask], dtype=np.float64))))


def _causes(problem: Problem, options: argparse.Namespace) -> list[Row]:
    """Where the images' difference comes from: effects switched off in PyTomography, one at a time and together."""
    print(f"{problem.name}: causes of the images' difference, {len(CASES)} cases ...", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth, brain = write_problem(problem, folder / "problem.npz", options.seed)
        (folder / "cases.json").write_text(json.dumps({case: asdict(CASES[case]) for case in CASES}))
        ours = _run(sys.executable, "spectac", folder, "images")
        theirs = _run(options.pytomography, "pytomography", folder, ours["threads"], "images")
        rows += _rows(theirs, problem.name)
        difference = {**theirs, "engine": f"{theirs['engine']} - {ours['engine']}"}
        for case, changes in CASES.items():
            image, other = (np.load(folder / f"{who}_image_{case}.npy") for who in ("spectac", "pytomography"))
            rows += _differences(difference, problem, f"image in the brain: {case}", other, image, brain)
            here, there = (np.load(folder / f"{who}_forward_{case}.npy") for who in ("spectac", "pytomography"))
            if changes.order == "its own" and not changes.transpose and changes.subsets > 1:
                value = 100.0 * float(np.linalg.norm(there - here) / np.linalg.norm(here))
                rows.append(
                    _row(difference, problem.name, f"projections of the truth: {case}", "RMS", value, "% of RMS", 1)
                )
            if case == "as delivered":
                rows.append(_error(ours, problem, image, truth, brain, changes.iterations))
                rows.append(_error(theirs, problem, other, truth, brain, changes.iterations))
    return rows


def _show(rows: list[Row]) -> None:
    """Print rows as a table, what the issue asks for at the end of the line."""
    for row in rows:
        wanted = next(
            (limit for (problem, engine, quantity), limit in WANTED.items()
             if row.problem == problem and row.engine.startswith(engine) and row.quantity == quantity),
            "",
        )  # fmt: skip
        engine = row.engine.replace("ratio ", "")
        words = f"{row.problem:15} {engine:34} {row.quantity:58} {row.statistic:14}"
        print(f"{words} {row.value:>10.5g} {row.unit:9} {wanted}".rstrip())
    print(flush=True)


if __name__ == "__main__":
    main()
