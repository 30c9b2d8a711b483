"""Healthy subjects to compare a patient with: the measures that a batch of them left."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from spectac.app.measures import Row
from spectac.recon import InputError
from spectac.recon.agreement import FEWEST, z_score

Key = tuple[str, str, str, str]
"""Method, measure, region and unit."""


def read_normals(path: Path) -> Mapping[Key, Sequence[float]]:
    """Values of healthy subjects by method, measure, region and unit.

    `path` is the folder of a `spectac batch` of them, or one CSV with the columns of comparison.csv, a row a subject.
    Raises InputError where it holds no values of at least FEWEST subjects.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    files = sorted(path.glob("*/comparison.csv")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: no comparison.csv in its folders: give the folder of a spectac batch, or a CSV")
    values: dict[Key, list[float]] = defaultdict(list)
    for file in files:
        try:
            with file.open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    if row.get("value"):
                        values[row["method"], row["measure"], row["region"], row["unit"]].append(float(row["value"]))
        except (KeyError, ValueError, csv.Error) as error:
            raise InputError(f"{file}: not a comparison.csv: {error}") from None
    known = {key: found for key, found in values.items() if len(found) >= FEWEST}
    if not known:
        raise InputError(f"{path}: values of fewer than {FEWEST} subjects: z-scores need at least as many")
    return known


def z_rows(rows: Sequence[Row], normals: Mapping[Key, Sequence[float]]) -> list[Row]:
    """A row "z of MEASURE" for every measure that the normals have and that varies among them."""
    found = []
    for row in rows:
        healthy = normals.get((row.method, row.measure, row.region, row.unit))
        if healthy is not None:
            with suppress(InputError):  # normals that are all the same, as of a ratio to itself
                z = z_score(row.value, healthy)
                found.append(Row(row.method, "done", "", f"z of {row.measure}", row.region, z))
    return found
