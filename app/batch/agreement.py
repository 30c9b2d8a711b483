"""agreement.csv: limits of agreement of each method with the truth or the CT over the studies of a batch."""

import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from spectac.app.batch.overview import AGREEMENT, StudyState, write_table
from spectac.recon.agreement import FEWEST, bland_altman

COLUMNS = (
    "method", "measure", "region", "unit", "reference", "studies", "bias_percent", "lower_percent", "upper_percent",
    "bias", "lower", "upper",
)  # fmt: skip

Key = tuple[str, ...]
"""Values of the columns method to reference."""


def write_agreement(folder: Path, states: Sequence[StudyState]) -> None:
    """Write agreement.csv; none, and none of an earlier run, where no measure has a reference in FEWEST done studies.

    Raises OSError as the file system does.
    """
    rows = [row for key, pairs in _pairs(folder, states).items() if (row := _row(key, pairs)) is not None]
    if rows:
        write_table(folder / AGREEMENT, COLUMNS, rows)
    else:
        (folder / AGREEMENT).unlink(missing_ok=True)


def _pairs(folder: Path, states: Sequence[StudyState]) -> Mapping[Key, list[tuple[float, float]]]:
    """Values and reference values of the done studies; a study that the list names twice counts once."""
    pairs: dict[Key, list[tuple[float, float]]] = defaultdict(list)
    names: dict[Path, str] = {}
    for state in states:
        if state.status == "done":
            names.setdefault(state.study.path.resolve(), state.study.name)
    for name in names.values():
        with (
            suppress(FileNotFoundError, ValueError, KeyError, csv.Error),  # another work than `spectac compare`
            (folder / name / "comparison.csv").open(newline="", encoding="utf-8") as stream,
        ):
            for row in csv.DictReader(stream):
                if row["value"] and row["reference_value"]:
                    key = tuple(row[column] for column in COLUMNS[:5])
                    pairs[key].append((float(row["value"]), float(row["reference_value"])))
    return pairs


def _row(key: Key, pairs: Sequence[tuple[float, float]]) -> dict[str, str] | None:
    """Row of one measure: in percent of each pair's mean where these are all positive, else in the measure's unit.

    A measure that is in percent itself (an asymmetry) stays in percentage points.
    """
    pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
    if len(pairs) < FEWEST:
        return None
    named = dict(zip(COLUMNS, key, strict=False))
    percent = not named["measure"].endswith("%") and all(sum(pair) > 0 for pair in pairs)
    limits = bland_altman([value for value, _ in pairs], [reference for _, reference in pairs], percent=percent)
    end = "_percent" if percent else ""
    numbers = {f"bias{end}": limits.bias, f"lower{end}": limits.lower, f"upper{end}": limits.upper}
    return named | {"studies": str(limits.pairs)} | {name: f"{number:.6g}" for name, number in numbers.items()}
