"""Rows of the speed benchmarks: programs run in processes of their own, and what their images say of each other."""

import csv
import json
import os
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from benchmarks.provenance import load_average
from benchmarks.speed.problem import Problem

from spectac.recon.types import Array

PEERS = Path(__file__).parent / "peers"


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
    """A program under test ended with an error; the message holds what it said."""


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
        values = row["values"]
        found = {"median": statistics.median(values), "min": min(values)} if len(values) > 1 else {"single": values[0]}
        rows += [row_of(result, problem, row["quantity"], how, x, row["unit"], len(values)) for how, x in found.items()]
    return rows


def row_of(result: dict, problem: str, quantity: str, how: str, value: float, unit: str, repeats: int) -> Row:
    own = (result.get("device", "cpu"), problem, result.get("variant", ""), result["engine"])
    return Row(result["load"], result["threads"], *own, quantity, how, float(f"{value:.5g}"), unit, repeats)


def error(result: dict, problem: Problem, image: Array, truth: Array, brain: Array, iterations: int) -> Row:
    value = 100.0 * _rms(image - truth, brain) / float(truth[brain].mean())
    quantity = f"error against the truth in the brain, {iterations} iterations"
    return row_of(result, problem.name, quantity, "RMS", value, "% of mean", 1)


def differences(result: dict, problem: Problem, what: str, image: Array, ours: Array, brain: Array) -> list[Row]:
    mean = float(ours[brain].mean())
    gap = image - ours
    found = {"RMS": _rms(gap, brain), "mean": float(gap[brain].mean()), "largest": float(np.abs(gap[brain]).max())}
    return [
        row_of(result, problem.name, what, how, 100.0 * value / mean, "% of mean", 1) for how, value in found.items()
    ]


def _rms(values: Array, mask: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values[mask], dtype=np.float64))))


def write(path: Path, columns: dict, rows: list[Row]) -> None:
    """Write rows with the columns of provenance."""
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*columns, *asdict(rows[0])], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**columns, **asdict(row)} for row in rows)
    print(f"{len(rows)} rows: {path}")
