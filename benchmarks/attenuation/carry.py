"""Rows of older code that present code would make alike: a few patients are made again, and their rows compared.

    python -m benchmarks.attenuation.carry -o FOLDER [--sample 3] [--bodies FOLDER] [--phantom FOLDER]
           [--visible-human FILE] [--weights FILE] [--direct-weights FILE]

A minute for each patient that is made again, on 2 cores; of each set in attenuation_methods.csv, and of
attenuation_tuning.csv, the first ones (--sample). Where all their rows are alike to the last text but seconds, load and
origin, the set's rows count as made by the present code, and the column made_by names that which made them. Else they
stay as they are, for run.py to make again. Writes both files.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.attenuation.files import (
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
from benchmarks.attenuation.methods import TUNED, Choice
from benchmarks.attenuation.patients import SETS, Sources, rebuilt
from benchmarks.attenuation.rows import measured, tried
from benchmarks.attenuation.tuning import tuned_values
from benchmarks.provenance import write_csv
from spectac.recon import InputError

Remade = Callable[[Sequence[Row]], Iterable[dict[str, object]]]
"""Rows of a patient by the present code, of the rows that there are; without the columns that name the patient."""
SECONDS = "seconds"


def carried(rows: Sequence[Row], sample: int, remade: Remade) -> list[Row]:
    """The rows of one set, with the present code's digest where those of the first patients come out alike."""
    code = row_code()
    old = [row for row in rows if row["code"] != code and row["method"] != NO_CASE]
    patients = list(dict.fromkeys(row["patient"] for row in old))[:sample]
    if not patients:
        return list(rows)
    for patient in patients:
        before = [row for row in old if row["patient"] == patient]
        try:
            again = [texts(row) for row in remade(before)]
        except InputError as error:
            print(f"{patient}: not made again: {error}", flush=True)
            return list(rows)
        if len(again) != len(before):
            return list(rows)
        for one, row in zip(again, before, strict=True):
            unlike = [name for name, text in one.items() if name != SECONDS and row.get(name, "") != text]
            if unlike:
                print(f"{patient}, {row['method']}: {unlike[0]} {row.get(unlike[0])}, now {one[unlike[0]]}", flush=True)
                return list(rows)
    return [row | {"code": code, "made_by": row.get("made_by") or row["code"]} if row in old else row for row in rows]


def carry_methods(options: argparse.Namespace) -> None:
    """Carry the rows of every set in attenuation_methods.csv, apart for each code and histories."""
    path = options.output / METHODS_CSV
    choice = Choice(tuned_values(options.output / TUNING_CSV, options.seed), options.weights, options.direct_weights)

    def remade(before: Sequence[Row]) -> Iterable[dict[str, object]]:
        first = before[0]
        case = rebuilt(first["set"], first["patient"], options.seed, int(first["histories"]), Sources.of(options))
        return measured(case, [row["method"] for row in before], choice)

    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in read_rows(path, None):
        ours = row["set"] in SETS and row["seed"] == str(options.seed)
        ours = ours and choice.fits(row["settings"], row["method"], row["nuclide"])
        groups.setdefault((row["set"], row["code"], row["histories"]) if ours else (), []).append(row)
    kept = groups.pop((), [])
    for (name, *_), rows in groups.items():
        kept += carried(rows, options.sample, remade)
        print(
            f"{name}: {sum(row['code'] == row_code() for row in kept[-len(rows) :])} of {len(rows)} rows count",
            flush=True,
        )
    write_csv(path, kept, METHODS_COLUMNS)


def carry_tuning(options: argparse.Namespace) -> None:
    """Carry the rows of attenuation_tuning.csv, apart for each code."""
    path = options.output / TUNING_CSV

    def remade(before: Sequence[Row]) -> Iterable[dict[str, object]]:
        case = rebuilt("tuning", before[0]["patient"], options.seed, 0, Sources())
        values = {method: [float(row["mu_per_cm"]) for row in before if row["method"] == method] for method in TUNED}
        return tried(case, values)

    groups: dict[str, list[Row]] = {}
    for row in read_rows(path, None):
        groups.setdefault(row["code"] if row["seed"] == str(options.seed) else "", []).append(row)
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
