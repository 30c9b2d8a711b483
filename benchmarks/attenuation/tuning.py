"""Coefficients of the tuned methods: coarse steps on patients of their own, then fine steps around the best.

attenuation_tuning.csv has a row for each patient, method and value. Rows that are there are not made again.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.attenuation.files import TUNING_COLUMNS, TUNING_CSV, Row, read_rows, row_code, texts
from benchmarks.attenuation.methods import NUCLIDES, TUNED
from benchmarks.attenuation.patients import SETS, virtual_case
from benchmarks.attenuation.rows import tried
from benchmarks.provenance import provenance, write_csv
from spectac.recon import InputError

COARSE_PER_CM = (0.138, 0.144, 0.150, 0.156, 0.162, 0.168, 0.174, 0.180, 0.186)
FINE_STEPS_PER_CM = (-0.004, -0.002, 0.002, 0.004)
"""Around the best coarse value; 0.002 /cm is about 1 % of raw error."""

Key = tuple[str, str]
"""Method and nuclide."""


@dataclass(frozen=True)
class Tuned:
    """Chosen coefficient, its median raw error in %, and how many patients every value was compared on."""

    mu_per_cm: float
    raw_percent: float
    patients: int


def tune(options: argparse.Namespace) -> None:
    """Try the coarse values on every patient, then the fine ones around the best for its nuclide."""
    path = options.output / TUNING_CSV
    coarse = {(method, nuclide): COARSE_PER_CM for method in TUNED for nuclide in NUCLIDES}
    try_values(path, options.seed, range(options.tuning), coarse)
    best = chosen([row for row in current_rows(path, options.seed) if float(row["mu_per_cm"]) in COARSE_PER_CM])
    fine = {key: tuple(round(one.mu_per_cm + step, 4) for step in FINE_STEPS_PER_CM) for key, one in best.items()}
    simulated = {int(row["patient"]) for row in current_rows(path, options.seed)}
    try_values(path, options.seed, sorted(simulated), fine)
    rows = current_rows(path, options.seed)
    best = chosen(rows)
    for nuclide in NUCLIDES:
        patients = len({row["patient"] for row in rows if row["nuclide"] == nuclide})
        for method in TUNED:
            one = best.get((method, nuclide))
            result = (
                f"{one.mu_per_cm:g} /cm, raw error {one.raw_percent:.2f} %, median of {one.patients} patients"
                if one
                else "no patient gave a result"
            )
            print(f"{method:30} {nuclide:8} {result} ({patients} simulated)")


def try_values(path: Path, seed: int, patients: Iterable[int], values_per_cm: Mapping[Key, Sequence[float]]) -> None:
    """Add the rows that are missing for these values; a patient that cannot be simulated is skipped with a line."""
    current = current_rows(path, seed)
    others = [row for row in read_rows(path, TUNING_COLUMNS) if row not in current]
    for index in patients:
        rows = [row for row in current if row["patient"] == str(index)]
        if rows and not _missing(rows, rows[0]["nuclide"], values_per_cm):
            continue
        try:
            case = virtual_case(seed, SETS["tuning"], index, 0)
            missing = _missing(rows, str(case.about["nuclide"]), values_per_cm)
            new = [texts(row) for row in tried(case, missing)]
        except InputError as error:
            print(f"tuning patient {index}: skipped, not simulated: {error}", flush=True)
            continue
        about = {"patient": str(index), "code": row_code()}
        about |= {name: str(value) for name, value in provenance(seed).items()}
        current += [about | row for row in new]
        write_csv(path, [*others, *current], TUNING_COLUMNS)
        print(f"tuning patient {index}: {len(new)} results", flush=True)


def _missing(
    rows: Sequence[Row], nuclide: str, values_per_cm: Mapping[Key, Sequence[float]]
) -> dict[str, tuple[float, ...]]:
    """Values by method that a patient of this nuclide has no row for."""
    there = {(row["method"], float(row["mu_per_cm"])) for row in rows}
    missing = {
        method: tuple(value for value in values if (method, value) not in there)
        for (method, of), values in values_per_cm.items()
        if of == nuclide
    }
    return {method: values for method, values in missing.items() if values}


def current_rows(path: Path, seed: int) -> list[Row]:
    """Rows of the current code and this seed."""
    wanted = (str(seed), row_code())
    return [row for row in read_rows(path, TUNING_COLUMNS) if (row["seed"], row["code"]) == wanted]


def tuned_values(path: Path, seed: int) -> dict[Key, float]:
    """Coefficient in 1/cm of every method and nuclide that was tuned with the current code and this seed."""
    return {key: one.mu_per_cm for key, one in chosen(current_rows(path, seed)).items()}


def chosen(rows: Sequence[Row]) -> dict[Key, Tuned]:
    """Value with the least median raw error over patients, for every method and nuclide with a result.

    The median keeps single patients with a grossly wrong outline from choosing. Values with fewer patients than others
    do not count. The values that count are compared on the patients that all of them have.
    """
    errors: dict[Key, dict[float, dict[str, float]]] = {}
    for row in rows:
        if row.get("raw_mean"):
            of_value = errors.setdefault((row["method"], row["nuclide"]), {}).setdefault(float(row["mu_per_cm"]), {})
            of_value[row["patient"]] = float(row["raw_mean"])
    best_of = {}
    for key, by_value in errors.items():
        most = max(map(len, by_value.values()))
        counting = {value: by_patient for value, by_patient in by_value.items() if len(by_patient) == most}
        shared = set.intersection(*map(set, counting.values()))
        if shared:
            medians = {
                value: float(np.median([by_patient[patient] for patient in shared]))
                for value, by_patient in counting.items()
            }
            best = min(medians, key=lambda value: medians[value])
            best_of[key] = Tuned(best, medians[best], len(shared))
    return best_of
