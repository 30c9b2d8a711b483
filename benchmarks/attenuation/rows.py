"""Rows of the attenuation benchmark: what is written of a method on a patient, and of a coefficient that is tried."""

import csv
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from benchmarks.attenuation.measures import IMAGE_MEASURES, MAP_MEASURES, image_measures, map_measures, means
from benchmarks.attenuation.methods import LEARNED, Choice, SharingSolver, model_of
from benchmarks.attenuation.patients import Case

from spectac.recon import GivenMap, InputError
from spectac.recon.types import Array

CSV = "attenuation_methods.csv"
NO_CASE = "(no case)"
"""In the column method: the row of a patient that could not be simulated."""
AGAINST = ("ct", "truth")
ABOUT = (
    "tracer", "nuclide", "kind", "counts", "windows", "views", "pixel_mm", "rows", "columns", "collimator", "heads",
    "orbit", "radius_mm", "photopeak_width", "scatter",
)  # fmt: skip
MEANS = (
    "right striatum", "left striatum", "striata", "reference", "right frontal cortex", "left frontal cortex",
    "right parietal cortex", "left parietal cortex", "right temporal cortex", "left temporal cortex",
    "right occipital cortex", "left occipital cortex", "cingulate cortex", "cortex", "deep grey", "white matter",
    "cerebellum", "brain",
)  # fmt: skip
COLUMNS = (
    "set", "patient", "method", "settings", "histories", *ABOUT, "compared",
    *(f"{name}_vs_{other}" for other in AGAINST for name in IMAGE_MEASURES), *MAP_MEASURES,
    *(f"{kind}_{name.replace(' ', '_')}" for kind in ("mean", "true") for name in MEANS), "seconds",
    "fell_back", "uncertainty", "notes", "load", "code", "commit", "date", "machine", "cores", "seed",
)  # fmt: skip
Row = dict[str, str]


def measured(case: Case, methods: Iterable[str], choice: Choice) -> Iterator[Row]:
    """One row of measures for each method on a case, without the columns that name the patient."""
    solver = SharingSolver(case)
    scale = np.float32(1.0 / case.cps_per_kbq)
    reference = GivenMap(case.mu).correct(solver).image.values * scale
    for method in methods:
        solver.begin_method()
        began = time.perf_counter()
        row: dict[str, object] = {"method": method, "settings": choice.settings(method, str(case.about["nuclide"]))}
        row |= {**case.about, "scatter": solver.projections.scatter_method, "compared": len(case.compared)}
        try:
            result = model_of(method, case, choice).correct(solver)
        except InputError as error:
            yield texts(row | {"notes": f"refused: {error}"})
            continue
        seconds = time.perf_counter() - began + solver.borrowed_s
        values: Array = result.image.values * scale
        for name, other in zip(AGAINST, (reference, case.activity), strict=True):
            row |= {f"{key}_vs_{name}": value for key, value in image_measures(values, other, case).items()}
        if result.mu is not None:
            row |= map_measures(result.mu, case)
        for kind, image in (("mean", values), ("true", case.activity)):
            row |= {f"{kind}_{name.replace(' ', '_')}": value for name, value in means(image, case).items()}
        row |= {"seconds": seconds, "notes": " | ".join(result.notes)}
        if method in LEARNED:
            row |= learned_facts(result.notes)
        yield texts(row)


def learned_facts(notes: Iterable[str]) -> dict[str, object]:
    """Whether the uniform map stood in for a predicted one, and the uncertainty in %, read from the result's notes."""
    found = [re.match(r"predicted map: uncertainty ([0-9.]+) %", note) for note in notes]
    uncertainty = next((float(match.group(1)) for match in found if match), float("nan"))
    return {"fell_back": int(any(note.startswith("no map could be predicted") for note in notes))} | {
        "uncertainty": uncertainty
    }


def tried(case: Case, values_per_cm: Mapping[str, Iterable[float]]) -> Iterator[Row]:
    """One row of measures for each coefficient of each tuned method on a case; without measures where it is refused."""
    solver = SharingSolver(case)
    scale = np.float32(1.0 / case.cps_per_kbq)
    reference = solver(case.mu).values * scale
    nuclide = str(case.about["nuclide"])
    for method, values in values_per_cm.items():
        for value in values:
            row: dict[str, object] = {"method": method, "mu_per_cm": value}
            row |= {name: case.about[name] for name in ("nuclide", "tracer")}
            try:  # an outline may reach beyond the detector
                result = model_of(method, case, Choice({(method, nuclide): value})).correct(solver)
            except InputError as error:
                yield texts(row | {"notes": f"refused: {error}"})
                continue
            yield texts(row | image_measures(result.image.values * scale, reference, case))


def texts(row: Mapping[str, object]) -> Row:
    """Row as it stands in the CSV."""
    return {
        name: ("" if np.isnan(value) else f"{value:.5g}") if isinstance(value, float) else str(value)
        for name, value in row.items()
    }


def read_rows(path: Path, columns: tuple[str, ...] = COLUMNS) -> list[Row]:
    """Rows of a CSV, none where there is no file, or one of other columns: such rows are of other code."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        return list(reader) if tuple(reader.fieldnames or ()) == columns else []


def write_rows(path: Path, rows: list[Row], columns: tuple[str, ...] = COLUMNS) -> None:
    """Write all rows, or leave the file as it was."""
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(part, path)
