"""Rows of the attenuation study that new code leaves unchanged: a sample of each set is made again and compared.

    python -m benchmarks.attenuation.carry_over -o FOLDER [--phantom FOLDER] [--direct-weights FILE] [--sample 3]

15 to 25 minutes on 2 idle cores (estimated from CPU seconds of one patient; --sample 2 takes two thirds). Adds to
attenuation_carried.csv one row for each set and method, and gives the rows that carry over the digest of the new code,
in attenuation_methods.csv and attenuation_tuning.csv.

The sample of a set are its first patients; of each tuned method it has the lowest, the chosen and the highest value.
Rows of one set, method, seed and older code carry over together, where all numbers of the sample agree in every digit
of the CSV: facts of the patient, measures and regional means, not seconds and texts. They keep commit, date and machine
of the run that made them. All other rows stay as they are, and run.py makes them again. Rows of the MR head need the
phantom, rows of `direct` the weights that they were made with.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.attenuation.files import (
    ABOUT,
    MEASURES,
    METHODS_COLUMNS,
    METHODS_CSV,
    NO_CASE,
    TUNING_COLUMNS,
    TUNING_CSV,
    Row,
    read_rows,
    row_code,
    rows_of,
    texts,
)
from benchmarks.attenuation.measures import IMAGE_MEASURES
from benchmarks.attenuation.methods import DIRECT, TUNED, Choice
from benchmarks.attenuation.patients import SETS, rebuilt, virtual_case
from benchmarks.attenuation.rows import measured, tried
from benchmarks.attenuation.tuning import chosen
from benchmarks.provenance import provenance, write_csv
from spectac.recon import InputError

CARRIED_CSV = "attenuation_carried.csv"
METHODS_NUMBERS = (*ABOUT, "compared", *MEASURES, "fell_back")
TUNING_NUMBERS = ("nuclide", "tracer", *IMAGE_MEASURES)
Pair = tuple[Row, Row]
"""A row as it stands in the CSV, and the same row made again."""


@dataclass(frozen=True)
class Sample:
    """Rows made again of rows that carry over together, or the reason why some could not be made."""

    pairs: Sequence[Pair]
    numbers: Sequence[str]
    failure: str = ""

    def differences(self) -> list[tuple[Row, str, str]]:
        """Row, column and new value of every number that has changed."""
        return [
            (old, name, new.get(name, ""))
            for old, new in self.pairs
            for name in self.numbers
            if old[name] != new.get(name, "")
        ]

    @property
    def identical(self) -> bool:
        """True where there is a sample and no number of it has changed."""
        return bool(self.pairs) and not self.failure and not self.differences()

    def record(self, file: str, set_name: str, rows: Sequence[Row]) -> dict[str, object]:
        """Row of attenuation_carried.csv for these rows of a file."""
        changed = self.differences()
        reason = self.failure
        if changed and not reason:
            old, name, value = changed[0]
            reason = f"patient {old['patient']}: {name} was {old[name] or 'empty'}, is {value or 'empty'}"
        if not self.pairs and not reason:
            reason = "not made again: its weights are not given"
        sizes = [_percent(old[name], value) for old, name, value in changed]
        return {
            "file": file,
            "set": set_name,
            "method": rows[0]["method"],
            "old_code": rows[0]["code"],
            "new_code": row_code(),
            "sample": " ".join(dict.fromkeys(old["patient"] for old, _ in self.pairs)),
            "numbers": len(self.pairs) * len(self.numbers),
            "changed": len(changed),
            "largest_change_percent": f"{max(sizes, default=0.0):.2g}",
            "first_change": reason,
            "carried_rows": len(rows) if self.identical else 0,
            **provenance(int(rows[0]["seed"])),
        }


def _percent(old: str, new: str) -> float:
    """Size of a change in % of the old number; infinite where one of both is no number."""
    try:
        return 100.0 * abs(float(new) - float(old)) / max(abs(float(old)), 1e-12)
    except ValueError:
        return math.inf


def carry_methods(rows: Sequence[Row], options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Give the rows of attenuation_methods.csv that carry over the new digest; the record of every set and method."""
    choice = Choice({}, options.weights, options.direct_weights)
    stale = [row for row in rows if row["code"] != row_code() and row["method"] != NO_CASE]
    for code, seed, set_name in dict.fromkeys((row["code"], row["seed"], row["set"]) for row in stale):
        group = rows_of(stale, code=code, seed=seed, set=set_name)
        patients = list(dict.fromkeys(row["patient"] for row in group))[: options.sample]
        pairs: list[Pair] = []
        failure = ""
        try:
            for patient in patients:
                pairs += methods_again(rows_of(group, patient=patient), options)
        except InputError as error:
            failure = f"patient {patient} could not be made: {error}"
        for method in dict.fromkeys(row["method"] for row in group):
            sample = Sample([pair for pair in pairs if pair[0]["method"] == method], METHODS_NUMBERS, failure)
            of_method = rows_of(group, method=method)
            record = sample.record(METHODS_CSV, set_name, of_method)
            for row in of_method if sample.identical else ():
                row["code"] = row_code()
                if method not in TUNED:
                    row["settings"] = choice.settings(method, row["nuclide"])
            yield record


def methods_again(rows: Sequence[Row], options: argparse.Namespace) -> list[Pair]:
    """Rows of one patient with the same rows made again; those of `direct` only where its weights are given."""
    first = rows[0]
    tuned = {
        (row["method"], row["nuclide"]): float(row["settings"].split()[0]) for row in rows if row["method"] in TUNED
    }
    choice = Choice(tuned, options.weights, options.direct_weights)
    able = [row for row in rows if row["method"] != DIRECT or options.direct_weights]
    case = rebuilt(first["set"], first["patient"], int(first["seed"]), int(first["histories"]), options.phantom)
    again = measured(case, [row["method"] for row in able], choice)
    return [(row, texts(new)) for row, new in zip(able, again, strict=True)]


def carry_tuning(rows: Sequence[Row], options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Give the rows of attenuation_tuning.csv that carry over the new digest; the record of every method."""
    stale = [row for row in rows if row["code"] != row_code()]
    for code, seed in dict.fromkeys((row["code"], row["seed"]) for row in stale):
        group = rows_of(stale, code=code, seed=seed)
        patients = list(dict.fromkeys(row["patient"] for row in group))[: options.sample]
        pairs: list[Pair] = []
        failure = ""
        try:
            for patient in patients:
                pairs += tuning_again(group, patient)
        except InputError as error:
            failure = f"patient {patient} could not be made: {error}"
        for method in dict.fromkeys(row["method"] for row in group):
            sample = Sample([pair for pair in pairs if pair[0]["method"] == method], TUNING_NUMBERS, failure)
            of_method = rows_of(group, method=method)
            record = sample.record(TUNING_CSV, "tuning", of_method)
            for row in of_method if sample.identical else ():
                row["code"] = row_code()
            yield record


def tuning_again(rows: Sequence[Row], patient: str) -> list[Pair]:
    """Rows of one patient with the same rows made again: lowest, chosen and highest value of each method."""
    best = chosen(rows)
    sample: dict[str, list[Row]] = {}
    for method in dict.fromkeys(row["method"] for row in rows_of(rows, patient=patient)):
        by_value = {float(row["mu_per_cm"]): row for row in rows_of(rows, patient=patient, method=method)}
        nuclide = next(iter(by_value.values()))["nuclide"]
        middle = {best[method, nuclide].mu_per_cm} if (method, nuclide) in best else set()
        values = sorted(({min(by_value), max(by_value)} | middle) & by_value.keys())
        sample[method] = [by_value[value] for value in values]
    case = virtual_case(int(rows[0]["seed"]), SETS["tuning"], int(patient), 0)
    again = tried(case, {method: [float(row["mu_per_cm"]) for row in of] for method, of in sample.items()})
    return [(row, texts(new)) for row, new in zip([row for of in sample.values() for row in of], again, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="of the CSV files")
    parser.add_argument("--phantom", type=Path, metavar="FOLDER", help="of the MR head")
    parser.add_argument("--weights", metavar="FILE", help="of the network, instead of the shipped ones")
    parser.add_argument("--direct-weights", metavar="FILE")
    parser.add_argument("--sample", type=int, default=3, metavar="N", help="patients of a set that are compared (3)")
    options = parser.parse_args()
    # Earlier comparisons stay: a row may have been carried over more than once.
    records: list[dict[str, object]] = list(read_rows(options.output / CARRIED_CSV, None))
    for name, columns, carry in (
        (TUNING_CSV, TUNING_COLUMNS, carry_tuning),
        (METHODS_CSV, METHODS_COLUMNS, carry_methods),
    ):
        path = options.output / name
        rows = read_rows(path, columns)
        if not rows:
            print(f"{path}: " + ("its columns are those of other code, it stays" if path.exists() else "no such file"))
            continue
        for record in carry(rows, options):
            records.append(record)
            print(
                f"{record['set']:18} {record['method']:28} {record['changed']} of {record['numbers']} numbers changed, "
                f"{record['carried_rows']} rows carry over {record['first_change']}",
                flush=True,
            )
            write_csv(path, rows, columns)
            write_csv(options.output / CARRIED_CSV, records)


if __name__ == "__main__":
    main()
