"""How a method agrees with the truth or the CT over the studies of a batch: agreement.csv."""

import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from spectac.app.batch_index import AGREEMENT, StudyState
from spectac.recon.agreement import FEWEST, bland_altman
from spectac.recon.io.atomic import written

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
    if not rows:
        (folder / AGREEMENT).unlink(missing_ok=True)
        return
    with written(folder / AGREEMENT) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _pairs(folder: Path, states: Sequence[StudyState]) -> Mapping[Key, list[tuple[float, float]]]:
    """Values and reference values of the done studies; a study that the list names twice counts once."""
    found: dict[Key, list[tuple[float, float]]] = defaultdict(list)
    seen: set[Path] = set()
    for state in states:
        place = state.study.path.resolve()
        if state.status != "done" or place in seen:
            continue
        seen.add(place)
        try:
            with (folder / state.study.name / "comparison.csv").open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    if row["value"] and row["reference_value"]:
                        key = tuple(row[column] for column in COLUMNS[:5])
                        found[key].append((float(row["value"]), float(row["reference_value"])))
        except (FileNotFoundError, ValueError, KeyError, csv.Error):  # another work than `spectac compare`
            continue
    return found


def _row(key: Key, pairs: Sequence[tuple[float, float]]) -> dict[str, str] | None:
    """Row of one measure: in percent of each pair's mean where these are all positive, else in the measure's unit.

    A measure that is in percent itself (an asymmetry) stays in its points.
    """
    pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
    if len(pairs) < FEWEST:
        return None
    named = dict(zip(COLUMNS, key, strict=False))
    percent = not named["measure"].endswith("%") and all(sum(pair) > 0 for pair in pairs)
    limits = bland_altman([value for value, _ in pairs], [told for _, told in pairs], percent=percent)
    end = "_percent" if percent else ""
    numbers = {f"bias{end}": limits.bias, f"lower{end}": limits.lower, f"upper{end}": limits.upper}
    return named | {"studies": str(limits.pairs)} | {name: f"{number:.6g}" for name, number in numbers.items()}
