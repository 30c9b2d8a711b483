"""record.json: everything needed to know how an image was made, and to make it again."""

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("spectac", "numpy", "scipy", "numba", "h5py", "nibabel", "xraylib")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def sha256_of(path: Path) -> dict[str, str]:
    """Digest of a file, or of every file below a folder, by path."""
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    digests = {}
    for file in files:
        with file.open("rb") as stream:
            digests[str(file)] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def record(
    inputs: list[Path], parameters: Mapping[str, Any], facts: Mapping[str, Any], warnings: list[str], seconds: float
) -> dict[str, Any]:
    """Content of record.json: inputs with their digests, every parameter, the study's facts, warnings, versions."""
    digests: dict[str, str] = {}
    for path in inputs:
        digests |= sha256_of(path)
    return {
        "inputs_sha256": digests,
        "parameters": dict(parameters),
        "study": dict(facts),
        "warnings": warnings,
        "versions": versions(),
        "seconds": round(seconds, 3),
    }
