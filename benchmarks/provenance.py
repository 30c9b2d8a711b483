"""Where a number came from: commit, machine and load, the same columns in every benchmark's CSV."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path


def provenance(seed: int) -> dict[str, str | int]:
    """Columns commit ("+" marks uncommitted changes), date (UTC), machine, cores and seed."""
    return {
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": _machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "seed": seed,
    }


def load_average() -> float:
    """Mean number of processes that ran in the last minute, before a measurement adds its own; NaN where unknown."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else float("nan")


def _commit() -> str:
    def git(*arguments: str) -> str:
        root = Path(__file__).parent
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _machine() -> str:
    """Name, family and model number of the processor: makers' names alone may cover several generations."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = facts.get("model name", platform.machine())
    return f"{name} (family {facts.get('cpu family', '?')} model {facts.get('model', '?')})"
