"""Every attenuation method on the same noisy studies, against the true map's image and against the truth.

    python benchmarks/attenuation_methods.py -o FOLDER --tune
    python benchmarks/attenuation_methods.py -o FOLDER [--patients 100] [--full 20] [--unusual 20] [--outside 20]
           [--scanners] [--phantom FOLDER] [--methods "a; b"] [--weights FILE] [--direct-weights FILE] [--seed N]
    python benchmarks/attenuation_methods.py -o FOLDER --draw

The first fits the uniform coefficients of the tuned methods (attenuation_tuning.py). The second writes
attenuation_methods.csv, a row for each patient and method, patient by patient: killed, it goes on with those that are
missing, and makes again those whose seed, histories, coefficient, weights or code (attenuation_code.py) have changed. A
patient that could not be simulated has one row with the reason, a method that refused a patient too. The last makes
attenuation_methods.md and the figures from the CSV (give it seed, weights and phantom again: it makes the worst
patients again). Patients: attenuation_patients.py; methods: attenuation_models.py; columns: attenuation_measures.py.

Every reconstruction: OSEM 10 x 10 with resolution recovery, triple energy window. Exceptions: "no scatter window" has
no scatter correction, so that every narrow-beam map, the true one too, is above the truth; "mr head" has no noise.
"""

import argparse
import time
from pathlib import Path

from benchmarks.attenuation.code import code_digest
from benchmarks.attenuation.methods import METHODS, UNLIMITED, Choice
from benchmarks.attenuation.patients import SETS, rebuilt
from benchmarks.attenuation.rows import CSV, NO_CASE, Row, measured, read_rows, write_rows
from benchmarks.attenuation.tuning import TUNING, tune, tuned_values
from benchmarks.provenance import load_average, provenance

from spectac.recon import InputError

UNLIMITED_SETS = ("unusual heads", "other heads", "other scanners", "fifth of counts")
"""Where the network's map is also measured on patients for whom its limits give way to the uniform one."""

SCANNER_SETS = {"other scanners": 20, "clinical matrix": 6, "fifth of counts": 10, "no scatter window": 10}


def _origin(seed: int, load: float) -> Row:
    """Columns that say where a row comes from."""
    return {"load": str(load)} | {name: str(value) for name, value in provenance(seed).items()}


def run(options: argparse.Namespace) -> None:
    """Measure every patient that is asked for and not in the CSV yet."""
    path = options.output / CSV
    choice = Choice(tuned_values(options.output / TUNING, options.seed), options.weights, options.direct_weights)
    choice.check(options.methods)
    rows = read_rows(path)
    for set_name, patient in asked_for(options):
        full = set_name == "mr head" or SETS[set_name].full
        histories = options.histories if full else 0
        key = {"set": set_name, "patient": patient, "histories": str(histories), "seed": str(options.seed)}
        key["code"] = code_digest()
        others = [row for row in rows if (row["set"], row["patient"]) != (set_name, patient)]
        own = [row for row in rows if (row["set"], row["patient"]) == (set_name, patient)]
        valid = [row for row in own if is_valid(row, key, choice)]
        done = {row["method"] for row in valid} | (set() if set_name in UNLIMITED_SETS else {UNLIMITED})
        todo = [method for method in options.methods if method not in done]
        if not todo:
            continue
        began, used = time.perf_counter(), time.process_time()
        about = key | _origin(options.seed, load_average())
        what = "not simulated"
        try:
            case = rebuilt(set_name, patient, options.seed, histories, options.phantom)
            simulated, what = time.perf_counter(), "not measured"
            new = [row | about for row in measured(case, todo, choice)]
        except InputError as error:
            # Every run tries it again.
            rows = [*others, *(valid or [about | {"method": NO_CASE, "notes": f"{what}: {error}"}])]
            write_rows(path, rows)
            print(f"{set_name} {patient}: {what}: {error}", flush=True)
            continue
        rows = [*others, *valid, *new]
        write_rows(path, rows)
        print(
            f"{set_name} {patient}: simulated {simulated - began:.0f} s, measured {time.perf_counter() - simulated:.0f}"
            f" s, {time.process_time() - used:.0f} s of CPU in all; raw error "
            + ", ".join(f"{row['method']} {row.get('raw_mean_vs_ct', 'refused')}" for row in new),
            flush=True,
        )


def asked_for(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Set and name of every patient of the command line."""
    wanted = {"unseen": options.patients, "monte carlo": options.full, "unusual heads": options.unusual}
    wanted |= {"other heads": options.outside}
    wanted |= SCANNER_SETS if options.scanners else {}
    names = [(name, str(index)) for name, number in wanted.items() for index in range(number)]
    return names + ([("mr head", tracer) for tracer in ("dat", "perfusion")] if options.phantom else [])


def is_valid(row: Row, key: Row, choice: Choice) -> bool:
    """True where a row is a result of this key (seed, histories, code and the patient) and of what is chosen."""
    if row["method"] == NO_CASE or any(row.get(name) != value for name, value in key.items()):
        return False
    return choice.made(row["settings"], row["method"], row["nuclide"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--patients", type=int, default=100, help="unseen ones, by the fast simulation")
    parser.add_argument("--full", type=int, default=20, help="unseen ones, by full Monte Carlo")
    parser.add_argument("--unusual", type=int, default=20, help="with heads from training's wide ranges")
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
            from benchmarks.attenuation.figures import draw_all

            draw_all(options)
        else:
            run(options)
    except InputError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
