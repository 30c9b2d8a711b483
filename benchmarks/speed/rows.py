"""Rows of the speed benchmarks: programs in processes of their own, and the differences between their images."""

import json
import os
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.provenance import load_average, write_csv
from benchmarks.speed.problem import Problem
from spectac.recon.types import Array

PEERS = Path(__file__).parents[1] / "peers"


@dataclass(frozen=True)
class Row:
    """One line of the CSV, less the columns of provenance."""

    load: float
    threads: int
    device: str
    problem: str
    variant: str
    engine: str
    quantity: str
    statistic: str
    value: float
    unit: str
    repeats: int


class ProgramFailedError(Exception):
    """A program under test ended with an error; the message holds its error output."""


def run(python: str, program: str, folder: Path, *arguments: object, **environment: str) -> dict:
    """Run a program of peers/ on the problem in a folder; its measurements."""
    load, began = load_average(), time.perf_counter()
    command = [python, str(PEERS / f"{program}_iteration.py"), str(folder), *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProgramFailedError(f"{' '.join(command)} failed:\n{done.stderr}")
    return {
        **json.loads((folder / f"{program}.json").read_text()),
        "load": load,
        "seconds": time.perf_counter() - began,
    }


def rows_of(result: dict, problem: str) -> list[Row]:
    """Median and smallest value of everything that a program measured; a single value once."""
    rows = []
    for row in result["rows"]:
        values, shared = row["values"], (row["quantity"], row["unit"], len(row["values"]))
        if len(values) == 1:
            rows.append(row_of(result, problem, values[0], "single", *shared))
        else:
            rows.append(row_of(result, problem, statistics.median(values), "median", *shared))
            rows.append(row_of(result, problem, min(values), "min", *shared))
    return rows


def row_of(result: dict, problem: str, value: float, how: str, quantity: str, unit: str, repeats: int = 1) -> Row:
    """One number of a program, with its load, threads, device and variant."""
    program = (result.get("device", "cpu"), problem, result.get("variant", ""), result["engine"])
    return Row(result["load"], result["threads"], *program, quantity, how, float(f"{value:.5g}"), unit, repeats)


def error(result: dict, problem: Problem, image: Array, truth: Array, brain: Array, iterations: int) -> Row:
    """RMS error of an image (z, y, x) against the truth in the brain."""
    value = 100.0 * _rms(image - truth, brain) / float(truth[brain].mean())
    quantity = f"error against the truth in the brain, {iterations} iterations"
    return row_of(result, problem.name, value, "RMS", quantity, "% of mean")


def differences(result: dict, problem: Problem, quantity: str, image: Array, ours: Array, brain: Array) -> list[Row]:
    """RMS, mean and largest difference of an image (z, y, x) from ours in the brain."""
    mean, gap = float(ours[brain].mean()), image - ours
    sizes = {"RMS": _rms(gap, brain), "mean": float(gap[brain].mean()), "largest": float(np.abs(gap[brain]).max())}
    return [
        row_of(result, problem.name, 100.0 * value / mean, how, quantity, "% of mean") for how, value in sizes.items()
    ]


def _rms(values: Array, mask: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values[mask], dtype=np.float64))))


def write(path: Path, columns: dict, rows: list[Row]) -> None:
    """Write rows with the columns of provenance."""
    write_csv(path, [{**columns, **asdict(row)} for row in rows])
    print(f"{len(rows)} rows: {path}")
