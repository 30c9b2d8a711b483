"""Z-scores of a patient's ratios against those of healthy subjects, read from the results of a batch."""

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

Normals = Mapping[Key, Sequence[float]]
"""Values of healthy subjects."""

RATIOS = frozenset(
    {"SBR", "SBR (Southampton)", "SBR asymmetry %", "caudate over putamen (SBR)", "over cerebellum", "asymmetry %"}
)
"""Measures that get a z-score. Means depend on the injected activity; errors are no property of a patient."""


def normals_files(path: Path) -> list[Path]:
    """Tables from which `read_normals` takes its values."""
    return sorted(path.glob("*/comparison.csv")) if path.is_dir() else [path]


def read_normals(path: Path, patient_sha256: frozenset[str] = frozenset()) -> Normals:
    """Values of healthy subjects by method, measure, region and unit.

    `path` is the folder of a `spectac batch` of them, or one CSV with the columns of comparison.csv, a row a subject.
    Each subject of a folder counts once; the patient, whose files have the digests `patient_sha256`, does not count.
    Raises InputError where `path` holds no values of at least FEWEST subjects.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    files = normals_files(path)
    if not files:
        raise InputError(f"{path}: no comparison.csv in its folders: give the folder of a spectac batch, or a CSV")
    values: dict[Key, list[float]] = defaultdict(list)
    seen = set(patient_sha256)
    for file in files:
        digests = _study_digests(file.with_name("record.json")) if path.is_dir() else frozenset()
        if digests & seen:
            continue
        seen |= digests
        try:
            with file.open(newline="", encoding="utf-8-sig") as stream:
                for row in csv.DictReader(stream):
                    if row.get("value") and row["measure"] in RATIOS:
                        values[row["method"], row["measure"], row["region"], row["unit"]].append(float(row["value"]))
        except (KeyError, ValueError, csv.Error) as error:
            raise InputError(f"{file}: not a comparison.csv: {error}") from None
    enough = {key: of_subjects for key, of_subjects in values.items() if len(of_subjects) >= FEWEST}
    if not enough:
        raise InputError(f"{path}: ratios of fewer than {FEWEST} subjects: z-scores need at least as many")
    return enough


def _study_digests(record: Path) -> frozenset[str]:
    """Digests of the study of a comparison; none where its record does not hold them."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        return frozenset(content["study_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()


def z_rows(rows: Sequence[Row], normals: Normals) -> list[Row]:
    """Rows "z of MEASURE" for every ratio that the normals have and that varies among them."""
    scores = []
    for row in rows:
        healthy = normals.get((row.method, row.measure, row.region, row.unit))
        if healthy is not None:
            with suppress(InputError):  # normals that are all the same, as of a ratio to itself
                scores.append(Row(row.method, f"z of {row.measure}", row.region, z_score(row.value, healthy)))
    return scores
