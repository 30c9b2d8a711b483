"""Every attenuation method on the same noisy studies, against the true map's image and against the truth.

    python benchmarks/attenuation_methods.py -o FOLDER --tune
    python benchmarks/attenuation_methods.py -o FOLDER [--patients 100] [--full 20] [--outside 20] [--scanners]
           [--phantom FOLDER] [--methods a,b] [--weights FILE] [--direct-weights FILE] [--seed N]
    python benchmarks/attenuation_methods.py -o FOLDER --draw

The first fits the uniform coefficients of the tuned methods on patients of their own (attenuation_tuning.csv). The
second writes attenuation_methods.csv, a row for each patient and method, patient by patient: killed, it goes on with
those that are missing, and makes again those whose seed, histories, coefficient, weights or code of spectac.simulate
and spectac.recon have changed. A patient
that could not be simulated has one row with the reason, a method that refused a patient too. The last makes
attenuation_methods.md and the figures from the CSV (give it the weights and the phantom again: it makes the worst
patients again). Patients: attenuation_patients.py; columns: attenuation_measures.py.

Every reconstruction: OSEM 10 x 10 with resolution recovery, triple energy window. Exceptions: "no scatter window" has
no scatter correction, so that every narrow-beam map, the true one too, is above the truth; "mr head" has no noise.
"""

import argparse
import csv
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from attenuation_measures import IMAGE_MEASURES, MAP_MEASURES, image_measures, map_measures, means
from attenuation_oracle import TrueFactors
from attenuation_patients import SETS, Case, mr_case, virtual_case
from provenance import load_average, provenance

from spectac.recon import AttenuationModel, Chang, GivenMap, Image, InputError, MuMap, NoAttenuation, UniformMap
from spectac.recon.pipeline import Settings, StudySolver
from spectac.recon.scatter import projections
from spectac.recon.types import Array
from spectac.simulate.cohorts.folder import code_digest

CSV, TUNING = "attenuation_methods.csv", "attenuation_tuning.csv"
VALUES_PER_CM = (0.138, 0.144, 0.150, 0.156, 0.162, 0.168, 0.174, 0.180, 0.186)
SCANNER_SETS = {"other scanners": 20, "clinical matrix": 6, "fifth of counts": 10, "no scatter window": 10}
TUNED = ("chang best, true outline", "uniform tuned, data outline", "uniform tuned, true outline")
LEARNED = ("predicted", "predicted 2 rounds", "predicted refined")
ORACLE = "direct, true factors"
METHODS = ("none", "chang", TUNED[0], "uniform", *TUNED[1:], "ct", *LEARNED, "direct", ORACLE)
NO_CASE = "(no case)"
"""In the column method: the row of a patient that could not be simulated."""
AGAINST = ("ct", "truth")
ABOUT = (
    "tracer", "nuclide", "kind", "counts", "windows", "views", "collimator", "heads", "orbit", "radius_mm",
    "photopeak_width", "scatter",
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
    *(f"mean_{name.replace(' ', '_')}" for name in MEANS), "seconds", "fell_back", "uncertainty", "notes",
    "load", "code", "commit", "date", "machine", "cores", "seed",
)  # fmt: skip
Row = dict[str, str]


class SharingSolver(StudySolver):
    """The solver of one study for all methods: the uncorrected image and previews without a map are made once.

    `borrowed_s` sums the seconds that making them took where a method uses what another one made, each once a method.
    """

    def __init__(self, case: Case) -> None:
        super().__init__(case.study, projections(case.study, "auto"), Settings())
        self._kept: dict[str, tuple[Image, float]] = {}
        self._charged: set[str] = set()
        self.borrowed_s = 0.0

    def begin_method(self) -> None:
        """Charge the next method anew."""
        self._charged.clear()
        self.borrowed_s = 0.0

    def __call__(self, mu: MuMap | None) -> Image:
        """As of StudySolver."""
        ask = super().__call__
        return ask(mu) if mu is not None else self._once("uncorrected", lambda: ask(None))

    def preview(self, window: str | None = None, mu: MuMap | None = None) -> Image:
        """As of StudySolver."""
        ask = super().preview
        return ask(window, mu) if mu is not None else self._once(f"preview {window}", lambda: ask(window))

    def _once(self, name: str, make: Callable[[], Image]) -> Image:
        if name not in self._kept:
            began = time.perf_counter()
            image = make()
            self._kept[name] = image, time.perf_counter() - began
        elif name not in self._charged:
            self.borrowed_s += self._kept[name][1]
        self._charged.add(name)
        return self._kept[name][0]


@dataclass(frozen=True)
class Choice:
    """What was chosen on the command line or by tuning: coefficients by (method, nuclide), weights."""

    tuned: Mapping[tuple[str, str], float]
    weights: str | None = None
    direct_weights: str | None = None

    def settings(self, method: str, nuclide: str) -> str:
        """What a row depends on beside patient and code."""
        if method in TUNED:
            return f"{self.tuned[method, nuclide]:g} /cm"
        if method in LEARNED:
            from spectac.learned.estimate import shipped_weights

            return _digest(Path(self.weights) if self.weights else shipped_weights())
        return _digest(Path(self.direct_weights)) if method == "direct" and self.direct_weights else ""


def _digest(path: Path) -> str:
    return f"weights {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def model_of(method: str, case: Case, choice: Choice) -> AttenuationModel:
    """The attenuation model of a method for a case."""
    nuclide = str(case.about["nuclide"])
    if method in TUNED:
        value = choice.tuned[method, nuclide]
        outline = case.outline if "true outline" in method else None
        return Chang(value, outline) if method.startswith("chang") else UniformMap(value, outline)
    if method in LEARNED:
        from spectac.learned.predict import PredictedMap

        return PredictedMap(choice.weights, rounds=2 if "2 rounds" in method else 1, refine="refined" in method)
    if method == "direct":
        from spectac.learned.direct import DirectCorrection

        return DirectCorrection(str(choice.direct_weights))
    if method == ORACLE:
        return TrueFactors(case)
    plain = {"none": NoAttenuation, "chang": Chang, "uniform": UniformMap}
    return GivenMap(case.mu) if method == "ct" else plain[method]()


def measured(case: Case, methods: Iterable[str], choice: Choice) -> Iterator[Row]:
    """One row of measures for each method on a case, without the columns that name the patient."""
    solver = SharingSolver(case)
    scale = np.float32(1.0 / case.cps_per_kbq)
    reference = GivenMap(case.mu).correct(solver).image.values * scale
    for method in methods:
        model = model_of(method, case, choice)
        solver.begin_method()
        began = time.perf_counter()
        row: dict[str, object] = {"method": method, "settings": choice.settings(method, str(case.about["nuclide"]))}
        row |= {**case.about, "scatter": solver.projections.scatter_method, "compared": len(case.compared)}
        try:
            result = model.correct(solver)
        except InputError as error:
            yield _texts(row | {"notes": f"refused: {error}"})
            continue
        seconds = time.perf_counter() - began + solver.borrowed_s
        values: Array = result.image.values * scale
        for name, other in zip(AGAINST, (reference, case.activity), strict=True):
            row |= {f"{key}_vs_{name}": value for key, value in image_measures(values, other, case).items()}
        if result.mu is not None:
            row |= map_measures(result.mu, case)
        row |= {f"mean_{name.replace(' ', '_')}": value for name, value in means(values, case).items()}
        row |= {"seconds": seconds, "notes": " | ".join(result.notes)}
        if method in LEARNED:
            row |= learned_facts(result.notes)
        yield _texts(row)


def learned_facts(notes: Iterable[str]) -> dict[str, object]:
    """Whether the uniform map stood in for a predicted one, and the uncertainty in %, read from the result's notes."""
    found = [re.match(r"predicted map: uncertainty ([0-9.]+) %", note) for note in notes]
    uncertainty = next((float(match.group(1)) for match in found if match), float("nan"))
    return {"fell_back": int(any(note.startswith("no map could be predicted") for note in notes))} | {
        "uncertainty": uncertainty
    }


def _texts(row: Mapping[str, object]) -> Row:
    """Row as it stands in the CSV."""
    return {
        name: ("" if np.isnan(value) else f"{value:.5g}") if isinstance(value, float) else str(value)
        for name, value in row.items()
    }


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV, none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_rows(path: Path, rows: list[Row], columns: tuple[str, ...] = COLUMNS) -> None:
    """Write all rows, or leave the file as it was."""
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(part, path)


def rebuilt(set_name: str, patient: str, seed: int, histories: int, phantom: Path | None) -> Case:
    """The case that a row of the CSV names."""
    if set_name != "mr head":
        return virtual_case(seed, SETS[set_name], int(patient), histories)
    if phantom is None:
        raise InputError("the mr head needs its files: give --phantom FOLDER")
    return mr_case(phantom, patient, seed, histories)


def _origin(seed: int, load: float) -> Row:
    """Columns that say where a row comes from."""
    return {"load": str(load)} | {name: str(value) for name, value in provenance(seed).items()}


def run(options: argparse.Namespace) -> None:
    """Measure every patient that is asked for and not in the CSV yet."""
    path = options.output / CSV
    wanted = {"unseen": options.patients, "monte carlo": options.full, "other heads": options.outside}
    wanted |= SCANNER_SETS if options.scanners else {}
    names = [(name, str(index)) for name, number in wanted.items() for index in range(number)]
    names += [("mr head", tracer) for tracer in ("dat", "perfusion")] if options.phantom else []
    choice = Choice(tuned_values(options.output / TUNING), options.weights, options.direct_weights)
    rows = read_rows(path)
    for set_name, patient in names:
        full = set_name == "mr head" or SETS[set_name].full
        histories = options.histories if full else 0
        key = {"set": set_name, "patient": patient, "histories": str(histories), "seed": str(options.seed)}
        key["code"] = code_digest()
        own = {row["method"]: row for row in rows if row["set"] == set_name and row["patient"] == patient}
        valid = [
            method
            for method, row in own.items()
            if all(row.get(name) == value for name, value in key.items())
            and row["settings"] == choice.settings(method, row["nuclide"])
        ]
        todo = [method for method in options.methods if method not in valid]
        if not todo:
            continue
        began, used, load = time.perf_counter(), time.process_time(), load_average()
        try:
            case = rebuilt(set_name, patient, options.seed, histories, options.phantom)
        except InputError as error:
            # Every run tries it again: it ends early, and the code may have changed.
            rows = [row for row in rows if row not in own.values()]
            rows.append(key | _origin(options.seed, load) | {"method": NO_CASE, "notes": f"not simulated: {error}"})
            write_rows(path, rows)
            print(f"{set_name} {patient}: not simulated: {error}", flush=True)
            continue
        simulated = time.perf_counter()
        about = key | _origin(options.seed, load)
        new = [row | about for row in measured(case, todo, choice)]
        made_again = (*todo, NO_CASE)
        rows = [row for row in rows if row not in own.values() or row["method"] not in made_again] + new
        write_rows(path, rows)
        print(
            f"{set_name} {patient}: simulated {simulated - began:.0f} s, measured {time.perf_counter() - simulated:.0f}"
            f" s, {time.process_time() - used:.0f} s of CPU in all; raw error "
            + ", ".join(f"{row['method']} {row.get('raw_mean_vs_ct', 'refused')}" for row in new),
            flush=True,
        )


TUNING_COLUMNS = (
    "patient", "method", "nuclide", "tracer", "mu_per_cm", *IMAGE_MEASURES, "code", "commit", "date",
    "machine", "cores", "seed",
)  # fmt: skip


def tune(options: argparse.Namespace) -> None:
    """Try every coefficient on patients of their own; a row for each patient, method and value."""
    path = options.output / TUNING
    rows = [row for row in read_rows(path) if (row["seed"], row.get("code")) == (str(options.seed), code_digest())]
    for index in range(options.tuning):
        if any(row["patient"] == str(index) for row in rows):
            continue
        case = virtual_case(options.seed, SETS["tuning"], index, 0)
        solver = SharingSolver(case)
        scale = np.float32(1.0 / case.cps_per_kbq)
        reference = solver(case.mu).values * scale
        nuclide = str(case.about["nuclide"])
        for method in TUNED:
            for value in VALUES_PER_CM:
                model = model_of(method, case, Choice({(method, nuclide): value}))
                try:
                    found = image_measures(model.correct(solver).image.values * scale, reference, case)
                except InputError:  # an outline that reaches beyond the detector
                    found = {}
                about: dict[str, object] = {"patient": index, "method": method, "mu_per_cm": value}
                about |= {"code": code_digest(), **provenance(options.seed)}
                rows.append(_texts(about | {name: case.about[name] for name in ("nuclide", "tracer")} | found))
        write_rows(path, rows, TUNING_COLUMNS)
        print(f"tuning patient {index} of {options.tuning}", flush=True)
    for (method, nuclide), value in tuned_values(path).items():
        print(f"{method:30} {nuclide:8} {value:g} /cm")


def tuned_values(path: Path) -> dict[tuple[str, str], float]:
    """Coefficient in 1/cm with the least median raw error over patients, for every tuned method and nuclide.

    The median, for where the outline is grossly wrong the coefficient would make up for it at the others' cost.
    """
    rows = read_rows(path)
    if not rows:
        raise InputError(f"{path} is missing: run with --tune first")
    errors: dict[tuple[str, str], dict[float, list[float]]] = {}
    for row in rows:
        own = errors.setdefault((row["method"], row["nuclide"]), {})
        if row["raw_mean"]:
            own.setdefault(float(row["mu_per_cm"]), []).append(float(row["raw_mean"]))
    return {key: min(own, key=lambda value: float(np.median(own[value]))) for key, own in errors.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--patients", type=int, default=100, help="unseen ones, by the fast simulation")
    parser.add_argument("--full", type=int, default=20, help="unseen ones, by full Monte Carlo")
    parser.add_argument("--outside", type=int, default=20, help="with heads outside the training ranges")
    parser.add_argument(
        "--scanners",
        action="store_true",
        help="other scanners, a clinical matrix, a fifth of the counts, no scatter window",
    )
    parser.add_argument("--phantom", type=Path, metavar="FOLDER")
    parser.add_argument("--methods", help=f"separated by semicolons: {'; '.join(METHODS)}")
    parser.add_argument("--weights", metavar="FILE", help="of the network, instead of the shipped ones")
    parser.add_argument("--direct-weights", metavar="FILE")
    parser.add_argument("--histories", type=int, default=1_500_000, help="of a full Monte Carlo")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--tuning", type=int, default=20, metavar="N", help="patients for --tune")
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()
    methods = METHODS if options.methods is None else tuple(name.strip() for name in options.methods.split(";"))
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        parser.error(f"unknown method {', '.join(unknown)}; known: {'; '.join(METHODS)}")
    options.methods = [name for name in methods if name != "direct" or options.direct_weights]
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        if options.tune:
            tune(options)
        elif options.draw:
            from attenuation_figures import draw_all

            draw_all(options)
        else:
            run(options)
    except InputError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
