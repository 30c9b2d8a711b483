"""Rows of the attenuation study: a method measured on a patient, and a uniform coefficient tried on one.

The digest of the code that rows follow from begins here (files.row_code): what this module imports, a row depends on.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks.attenuation.measures import image_measures, map_measures, means
from benchmarks.attenuation.methods import CT, LEARNED, UNLIMITED, Choice, holder_of, model_of
from benchmarks.attenuation.patients import Case, holder_file
from spectac.recon import InputError, ReconstructionSettings, Result
from spectac.recon.pipeline import StudySolver
from spectac.recon.types import Array

Timed = tuple[Result, float]
"""Result of a method and its seconds."""


def measured(case: Case, methods: Iterable[str], choice: Choice) -> Iterator[dict[str, object]]:
    """One row of measures for each method on a patient, without the columns that name the patient."""
    with holder_file(case) as file:
        yield from _measured(case, methods, choice, file)


def _measured(case: Case, methods: Iterable[str], choice: Choice, file: Path) -> Iterator[dict[str, object]]:
    """The same; `file` is the holder's, or none."""
    as_it_is = StudySolver(case.study, ReconstructionSettings(scatter=case.scatter))
    scale = np.float32(1.0 / case.cps_per_kbq)
    results = {CT: _timed(as_it_is, CT, case, choice, file)}
    reference = results[CT][0].image.values * scale
    for method in methods:
        row: dict[str, object] = {"method": method, "settings": choice.settings(method, str(case.about["nuclide"]))}
        row |= {**case.about, "compared": len(case.compared)}
        try:
            result, seconds = same(method, results) or _timed(as_it_is, method, case, choice, file)
        except InputError as error:
            yield row | {"notes": f"refused: {error}"}
            continue
        results[method] = result, seconds
        assert result.projections is not None
        row["scatter"] = result.projections.scatter_method
        values: Array = result.image.values * scale
        for name, other in (("ct", reference), ("truth", case.activity)):
            row |= {f"{key}_vs_{name}": value for key, value in image_measures(values, other, case).items()}
        if result.mu is not None:
            row |= map_measures(result.mu, case)
        for kind, image in (("mean", values), ("true", case.activity)):
            row |= {f"{kind}_{name.replace(' ', '_')}": value for name, value in means(image, case).items()}
        row |= {"seconds": seconds, "notes": " | ".join(result.notes)}
        if method in LEARNED:
            # The uniform map, which stands in for a predicted one, has no standard deviation.
            row["fell_back"] = int(result.mu_spread is None)
        yield row


def same(method: str, results: Mapping[str, Timed]) -> Timed | None:
    """What an earlier method found that must have the same image; None: there is none.

    Limits matter where one was passed.
    """
    if method == CT:
        return results[CT]
    limited = results.get("predicted, holder file") if method == UNLIMITED else None
    return limited if limited is not None and limited[0].fallback is None else None


def _timed(as_it_is: StudySolver, method: str, case: Case, choice: Choice, file: Path) -> Timed:
    """Result of a method and its seconds; an image that an earlier method had computed is charged to each method."""
    began, holder = time.perf_counter(), holder_of(method)
    solver = as_it_is if holder is None else as_it_is.with_holder(file if holder == "file" else Path(holder))
    result = solver.corrected(model_of(method, case, choice))
    return result, time.perf_counter() - began + solver.borrowed_s


def tried(case: Case, values_per_cm: Mapping[str, Iterable[float]]) -> Iterator[dict[str, object]]:
    """One row of measures for each coefficient of each tuned method; without measures where a method refuses it."""
    solver = StudySolver(case.study)
    scale = np.float32(1.0 / case.cps_per_kbq)
    reference = solver(case.mu).values * scale
    nuclide = str(case.about["nuclide"])
    for method, values in values_per_cm.items():
        for value in values:
            row: dict[str, object] = {"method": method, "mu_per_cm": value}
            row |= {name: case.about[name] for name in ("nuclide", "tracer")}
            try:  # an outline may reach beyond the detector
                result = solver.corrected(model_of(method, case, Choice({(method, nuclide): value})))
            except InputError as error:
                yield row | {"notes": f"refused: {error}"}
                continue
            yield row | image_measures(result.image.values * scale, reference, case)
