"""Shared by the programs under test: a list of measurements, memory, the check of a transpose. Needs only numpy."""

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np


class Measurements:
    """Values of one program in the order of their making, written as JSON for speed/rows.py."""

    def __init__(self, engine: str, threads: int) -> None:
        self._head = {"engine": engine, "threads": threads}
        self._rows: dict[str, dict] = {}

    def add(self, quantity: str, unit: str, *values: float) -> None:
        """Append values to a quantity."""
        row = self._rows.setdefault(quantity, {"quantity": quantity, "unit": unit, "values": []})
        row["values"].extend(float(value) for value in values)

    def write(self, path: Path) -> None:
        """Write all quantities."""
        path.write_text(json.dumps({**self._head, "rows": list(self._rows.values())}))


def peak_memory_gib() -> float:
    """Largest resident memory of this process so far.

    On Linux from VmHWM: ru_maxrss of a new process begins at the peak of the process that started it.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def adjoint_mismatch(forward: Callable, adjoint: Callable, problem: dict) -> float:
    """|<Ax, y> - <x, A'y>| / (|Ax| |y|) of one view, x (z, y, x) and y (v, z, u) signed noise; sums in float64."""
    rng = np.random.default_rng(int(problem["seed"]))
    x = rng.standard_normal(problem["mu_per_cm"].shape).astype(np.float32)
    y = rng.standard_normal((1, *problem["counts"].shape[1:])).astype(np.float32)
    ax, aty = np.asarray(forward(x), float), np.asarray(adjoint(y), float)
    return float(abs(np.vdot(ax, y) - np.vdot(x, aty)) / (np.linalg.norm(ax) * np.linalg.norm(y)))


def start_image(problem: dict, *, corners: bool = True) -> np.ndarray:
    """Image (z, y, x) of 1; without corners of 0 where not all views see a voxel and its blur's reach of 2 voxels."""
    start = np.ones(problem["mu_per_cm"].shape, np.float32)
    if not corners:
        n = start.shape[-1]
        centre = np.arange(n) - 0.5 * (n - 1)
        start[:, np.hypot(centre, centre[:, None]) > 0.5 * n - 2] = 0
    return start
