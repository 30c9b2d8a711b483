"""Keep rows of older code where the present code gives the same numbers for a sample of the patients.

    python -m benchmarks.attenuation.carry -o FOLDER [--sample 3] [--bodies FOLDER] [--phantom FOLDER]
           [--visible-human FILE] [--weights FILE] [--direct-weights FILE]

A minute for each patient of the sample, on 2 cores. Of each set in attenuation_methods.csv, and of
attenuation_tuning.csv, the first patients (--sample) are computed again. A method whose rows of the sample have the
same numbers, but for rounding, keeps its other rows too: they get the digest of the present code, and the column
made_by that of the code which computed them. Rows of other methods stay as they are, for run.py to compute again. A
sample shows only what happens in it: fallbacks and refusals of other patients are not tested. Writes both files.
"""

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.attenuation.files import (
    MEASURES,
    METHODS_COLUMNS,
    METHODS_CSV,
    NO_CASE,
    TUNING_COLUMNS,
    TUNING_CSV,
    Row,
    read_rows,
    row_code,
    texts,
)
from benchmarks.attenuation.measures import IMAGE_MEASURES
from benchmarks.attenuation.methods import TUNED, Choice
from benchmarks.attenuation.patients import SETS, Sources, rebuilt
from benchmarks.attenuation.rows import measured, tried
from benchmarks.attenuation.tuning import tuned_values
from benchmarks.provenance import write_csv
from spectac.recon import InputError

Remade = Callable[[Sequence[Row]], Iterable[dict[str, object]]]
"""Rows of a patient by the present code, of the rows that there are; without the columns that name the patient."""
COMPARED = (*MEASURES, *IMAGE_MEASURES, "scatter", "compared", "fell_back", "mu_per_cm")
"""Columns that must be the same."""
ROUNDING = 2e-4
"""Largest difference by rounding, relative, or in % where less than 1. Processors differ in the fifth digit."""


def alike(new: str, old: str) -> bool:
    """True for the same text, and for numbers that differ by rounding alone, as those of other processors do."""
    try:
        return new == old or math.isclose(float(new), float(old), rel_tol=ROUNDING, abs_tol=ROUNDING)
    except ValueError:
        return False


def carried(rows: Sequence[Row], sample: int, remade: Remade) -> list[Row]:
    """The rows of one set; those of methods with the same numbers in the sample have the present code's digest."""
    code = row_code()
    old = [row for row in rows if row["code"] != code and row["method"] != NO_CASE]
    same: dict[str, bool] = {}
    for patient in list(dict.fromkeys(row["patient"] for row in old))[:sample]:
        before = [row for row in old if row["patient"] == patient]
        try:
            again = [texts(row) for row in remade(before)]
        except InputError as error:
            print(f"{patient}: not computed: {error}", flush=True)
            again = []
        if [row["method"] for row in again] != [row["method"] for row in before]:
            return list(rows)
        for new, row in zip(again, before, strict=True):
            unlike = [name for name in COMPARED if not alike(new.get(name, ""), row.get(name, ""))]
            same[row["method"]] = same.get(row["method"], True) and not unlike
            for name in unlike[:1]:
                print(f"{patient}, {row['method']}: {name} {row.get(name)}, now {new.get(name)}", flush=True)
    return [
        row | {"code": code, "made_by": row.get("made_by") or row["code"]}
        if row in old and same.get(row["method"])
        else row
        for row in rows
    ]


def carry_methods(options: argparse.Namespace) -> None:
    """Keep rows of every set in attenuation_methods.csv, apart for each code and number of histories."""
    path = options.output / METHODS_CSV
    choice = Choice(tuned_values(options.output / TUNING_CSV, options.seed), options.weights, options.direct_weights)

    def remade(before: Sequence[Row]) -> Iterable[dict[str, object]]:
        first = before[0]
        case = rebuilt(first["set"], first["patient"], options.seed, int(first["histories"]), Sources.of(options))
        return measured(case, [row["method"] for row in before], choice)

    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in read_rows(path, None):
        valid = row["set"] in SETS and row["seed"] == str(options.seed)
        valid = valid and choice.fits(row["settings"], row["method"], row["nuclide"])
        groups.setdefault((row["set"], row["code"], row["histories"]) if valid else (), []).append(row)
    kept = groups.pop((), [])
    for (name, *_), rows in groups.items():
        kept += carried(rows, options.sample, remade)
        print(
            f"{name}: {sum(row['code'] == row_code() for row in kept[-len(rows) :])} of {len(rows)} rows count",
            flush=True,
        )
    write_csv(path, kept, METHODS_COLUMNS)


def carry_tuning(options: argparse.Namespace) -> None:
    """Keep rows of attenuation_tuning.csv, apart for each code."""
    path = options.output / TUNING_CSV

    def remade(before: Sequence[Row]) -> Iterable[dict[str, object]]:
        case = rebuilt("tuning", before[0]["patient"], options.seed, 0, Sources())
        values = {method: [float(row["mu_per_cm"]) for row in before if row["method"] == method] for method in TUNED}
        return tried(case, values)

    groups: dict[str, list[Row]] = {}
    for row in read_rows(path, None):
        valid = row["seed"] == str(options.seed) and row["method"] in TUNED
        groups.setdefault(row["code"] if valid else "", []).append(row)
    kept = groups.pop("", [])
    for rows in groups.values():
        ordered = sorted(rows, key=lambda row: TUNED.index(row["method"]))
        kept += carried(ordered, options.sample, remade)
    print(f"tuning: {sum(row['code'] == row_code() for row in kept)} of {len(kept)} rows count", flush=True)
    write_csv(path, kept, TUNING_COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--sample", type=int, default=3, metavar="N", help="patients of each set (3)")
    parser.add_argument("--bodies", type=Path, metavar="FOLDER", help="bodies of spectac cohort, of test heads")
    parser.add_argument("--phantom", type=Path, metavar="FOLDER", help="of the MR head")
    parser.add_argument("--visible-human", type=Path, metavar="FILE", help="vis_male.nrrd")
    parser.add_argument("--weights", metavar="FILE", help="of the network, instead of the shipped ones")
    parser.add_argument("--direct-weights", metavar="FILE")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    try:
        carry_tuning(options)
        carry_methods(options)
    except InputError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
