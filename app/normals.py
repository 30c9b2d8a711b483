"""Healthy subjects to compare a patient with: the measures that a batch of them left."""

import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from spectac.app.measures import Row
from spectac.recon import InputError
from spectac.recon.agreement import FEWEST, z_score

Key = tuple[str, str, str, str]
"""Method, measure, region and unit."""


RATIOS = frozenset(
    {"SBR", "SBR (Southampton)", "SBR asymmetry %", "caudate over putamen (SBR)", "over cerebellum", "asymmetry %"}
)
"""Measures that get a z-score. Means change with the injected activity, and errors are no property of a patient."""


def normals_files(path: Path) -> list[Path]:
    """The tables that `read_normals` takes its values from."""
    return sorted(path.glob("*/comparison.csv")) if path.is_dir() else [path]


def read_normals(path: Path, own: frozenset[str] = frozenset()) -> Mapping[Key, Sequence[float]]:
    """Values of healthy subjects by method, measure, region and unit.

    `path` is the folder of a `spectac batch` of them, or one CSV with the columns of comparison.csv, a row a subject.
    Of a folder each subject counts once, and not the one whose files have the digests `own`.
    Raises InputError where it holds no values of at least FEWEST subjects.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    files = normals_files(path)
    if not files:
        raise InputError(f"{path}: no comparison.csv in its folders: give the folder of a spectac batch, or a CSV")
    values: dict[Key, list[float]] = defaultdict(list)
    seen: list[frozenset[str]] = [own] if own else []
    for file in files:
        inputs = _inputs(file.with_name("record.json")) if path.is_dir() else frozenset()
        if inputs and any(inputs & known for known in seen):
            continue
        seen += [inputs] if inputs else []
        try:
            with file.open(newline="", encoding="utf-8-sig") as stream:
                for row in csv.DictReader(stream):
                    if row.get("value") and row["measure"] in RATIOS:
                        values[row["method"], row["measure"], row["region"], row["unit"]].append(float(row["value"]))
        except (KeyError, ValueError, csv.Error) as error:
            raise InputError(f"{file}: not a comparison.csv: {error}") from None
    known_values = {key: found for key, found in values.items() if len(found) >= FEWEST}
    if not known_values:
        raise InputError(f"{path}: ratios of fewer than {FEWEST} subjects: z-scores need at least as many")
    return known_values


def _inputs(record: Path) -> frozenset[str]:
    """Digests of the study that a comparison was made of; none where its record does not tell."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        return frozenset(content["study_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()


def z_rows(rows: Sequence[Row], normals: Mapping[Key, Sequence[float]]) -> list[Row]:
    """A row "z of MEASURE" for every ratio that the normals have and that varies among them."""
    found = []
    for row in rows:
        healthy = normals.get((row.method, row.measure, row.region, row.unit))
        if healthy is not None:
            with suppress(InputError):  # normals that are all the same, as of a ratio to itself
                z = z_score(row.value, healthy)
                found.append(Row(row.method, "done", "", f"z of {row.measure}", row.region, z))
    return found
