"""Z-scores of a patient's ratios against those of healthy subjects, read from the results of a batch."""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from spectac.app.measures import Row
from spectac.recon import InputError, ReconstructionSettings
from spectac.recon.agreement import FEWEST, z_score
from spectac.recon.setting_fields import as_options

Key = tuple[str, str, str, str]
"""Method, measure, region and unit."""

Normals = Mapping[Key, Sequence[float]]
"""Values of healthy subjects."""

RATIOS = frozenset(
    {"SBR", "SBR (Southampton)", "SBR asymmetry %", "caudate over putamen (SBR)", "over cerebellum", "asymmetry %"}
)
"""Measures that get a z-score. Means depend on the injected activity; errors are no property of a patient."""


_ALIKE = frozenset({"device", "calibration"})
"""Options of a reconstruction that change no ratio."""


def normals_files(path: Path) -> list[Path]:
    """Tables from which `read_normals` takes its values."""
    return sorted(path.glob("*/comparison.csv")) if path.is_dir() else [path]


def read_normals(
    path: Path, patient_sha256: str = "", settings: ReconstructionSettings | None = None
) -> tuple[Normals, list[str]]:
    """Values of healthy subjects by method, measure, region and unit, and warnings.

    `path` is the folder of a `spectac batch` of them, or one CSV with the columns of comparison.csv, a row a subject.
    Each subject of a folder counts once; the patient, whose counts have the digest `patient_sha256`, does not count,
    nor does a method that used another's map. A warning names the options of the patient's reconstruction that the
    subjects did not have.
    Raises InputError where `path` holds no values of at least FEWEST subjects.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    files = normals_files(path)
    if not files:
        raise InputError(f"{path}: no comparison.csv in its folders: give the folder of a spectac batch, or a CSV")
    values: dict[Key, list[float]] = defaultdict(list)
    seen: set[str | None] = {patient_sha256}
    differ: set[str] = set()
    replaced: Counter[str] = Counter()
    options = {} if settings is None else as_options(settings)
    for file in files:
        record = _record(file.with_name("record.json")) if path.is_dir() else {}
        digest = record["study_sha256"] if record else None
        if digest in seen:
            continue
        seen |= {digest} - {None}
        of_subject = record["request"]["reconstruction"] if record else options
        differ |= {name for name, value in options.items() if name not in _ALIKE and of_subject.get(name) != value}
        fell_back = {name for name, one in record["methods"].items() if one["used"]["fallback"]} if record else set()
        replaced.update(fell_back)
        try:
            with file.open(newline="", encoding="utf-8-sig") as stream:
                for row in csv.DictReader(stream):
                    if row.get("value") and row["measure"] in RATIOS and row["method"] not in fell_back:
                        values[row["method"], row["measure"], row["region"], row["unit"]].append(float(row["value"]))
        except (KeyError, ValueError, csv.Error) as error:
            raise InputError(f"{file}: not a comparison.csv: {error}") from None
    enough = {key: of_subjects for key, of_subjects in values.items() if len(of_subjects) >= FEWEST}
    if not enough:
        raise InputError(f"{path}: ratios of fewer than {FEWEST} subjects: z-scores need at least as many")
    warnings = []
    if differ:
        named = ", ".join(sorted(name.replace("_", "-") for name in differ))
        warnings.append(f"the healthy subjects were reconstructed with other options ({named}): z-scores mix both")
    for method, number in replaced.items():
        warnings.append(f"{method} fell back to another map in {number} healthy subjects, whose values were left out")
    return enough, warnings


def _record(path: Path) -> dict[str, Any]:
    """Content of a comparison's record.json; nothing where there is none. InputError for that of an older spectac."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    try:
        _ = content["study_sha256"].lower(), dict(content["request"]["reconstruction"])
        _ = [one["used"]["fallback"] for one in content["methods"].values()]
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: not of this version of spectac: run the batch of healthy subjects again") from None
    return dict(content)


def z_rows(rows: Sequence[Row], normals: Normals) -> list[Row]:
    """Rows "z of MEASURE" for every ratio that the normals have and that varies among them."""
    scores = []
    for row in rows:
        healthy = normals.get((row.method, row.measure, row.region, row.unit))
        if healthy is not None:
            with suppress(InputError):  # normals that are all the same, as of a ratio to itself
                scores.append(Row(row.method, f"z of {row.measure}", row.region, z_score(row.value, healthy)))
    return scores
