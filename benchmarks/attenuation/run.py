"""Every attenuation method on the same noisy studies, against the true map's image and against the truth.

    python -m benchmarks.attenuation.run -o FOLDER --tune [--tuning 20]
    python -m benchmarks.attenuation.run -o FOLDER --bodies FOLDER --phantom FOLDER --visible-human FILE
           [--sets "a; b"] [--patients N] [--methods "a; b"] [--weights FILE] [--direct-weights FILE] [--seed N]
    python -m benchmarks.attenuation.run -o FOLDER --draw

Hours: about a minute a patient, and two more with full Monte Carlo, on 2 cores. Without the files of real bodies, of
the MR head and of the Visible Human their sets are left out. Writes attenuation_tuning.csv (--tune);
attenuation_methods.csv; attenuation_methods.md and the attenuation_*.png (--draw).

Stages: patients.py (simulated studies and their truth), methods.py (attenuation models), measures.py (of an image and a
map), rows.py (a method on a patient), tuning.py (coefficients of the tuned methods), carry.py (rows of
older code that stay alike), table.py, figures.py.

A run that was killed continues with the rows that are missing. Rows whose seed, histories, coefficient, weights or code
(files.row_code) have changed are made again. A patient that could not be simulated has one row with the reason, and so
has a method that refused a patient. --draw needs seed, weights and the heads' files again, because it makes the worst
patients again.

Every reconstruction: OSEM 10 x 10 with resolution recovery, triple energy window; Monte Carlo scatter, for the true map
as for the others, where the set says so and where there is no scatter window. The MR head and the Visible Human have no
noise. The reference is the image of the true map with the holder that the patient lay in, whatever holder a method was
given.
"""

import argparse
import time
from pathlib import Path

from benchmarks.attenuation.files import (
    METHODS_COLUMNS,
    METHODS_CSV,
    NO_CASE,
    TUNING_CSV,
    Row,
    read_rows,
    row_code,
    texts,
)
from benchmarks.attenuation.methods import DIRECT, METHODS, TUNED, USUAL_BONE, Choice
from benchmarks.attenuation.patients import SETS, TRACERS, Sources, body_of, rebuilt
from benchmarks.attenuation.rows import measured
from benchmarks.attenuation.tuning import tune, tuned_values
from benchmarks.provenance import load_average, provenance, write_csv
from spectac.recon import InputError

PATIENTS = {
    "unseen": 60, "monte carlo": 20, "real bodies": 12, "other cameras": 12, "fan-beam": 8, "clinical matrix": 6,
    "fifth of counts": 10, "heads beyond training": 20, "scatter by Monte Carlo": 12, "no scatter window": 10,
}  # fmt: skip
"""Number of patients of each set that is drawn; the sets of one head have a patient a tracer."""

HISTORIES = 1_500_000
"""Histories of a full Monte Carlo."""

NOT_MEASURED = ("tuning", "scatter")
"""Sets of other parts of the benchmark."""

MAPPED = ("ct", USUAL_BONE, *TUNED[1:], "predicted", "predicted, holder file")
"""Methods where the scatter is that of a map, by half a minute of Monte Carlo each."""


def run(options: argparse.Namespace) -> None:
    """Measure every patient that is asked for and not in the CSV yet."""
    path = options.output / METHODS_CSV
    choice = Choice(tuned_values(options.output / TUNING_CSV, options.seed), options.weights, options.direct_weights)
    choice.check(options.methods)
    rows = read_rows(path)
    for set_name, patient in asked_for(options):
        histories = histories_of(set_name, options.histories)
        key = {"set": set_name, "patient": patient, "histories": str(histories), "seed": str(options.seed)}
        key["code"] = row_code()
        others = [row for row in rows if (row["set"], row["patient"]) != (set_name, patient)]
        present = [row for row in rows if (row["set"], row["patient"]) == (set_name, patient)]
        valid = [row for row in present if is_valid(row, key, choice)]
        done = {row["method"] for row in valid}
        asked = MAPPED if SETS[set_name].scatter == "montecarlo" else METHODS
        todo = [method for method in options.methods if method in asked and method not in done]
        if not todo:
            continue
        began, used = time.perf_counter(), time.process_time()
        origin = {"load": load_average(), **provenance(options.seed)}
        about = key | {name: str(value) for name, value in origin.items()}
        stage = "not simulated"
        try:
            case = rebuilt(set_name, patient, options.seed, histories, Sources.of(options))
            simulated, stage = time.perf_counter(), "not measured"
            new = [texts(row) | about for row in measured(case, todo, choice)]
        except InputError as error:
            # Every run tries it again.
            rows = [*others, *(valid or [about | {"method": NO_CASE, "notes": f"{stage}: {error}"}])]
            write_csv(path, rows, METHODS_COLUMNS)
            print(f"{set_name} {patient}: {stage}: {error}", flush=True)
            continue
        rows = [*others, *valid, *new]
        write_csv(path, rows, METHODS_COLUMNS)
        print(
            f"{set_name} {patient}: simulated {simulated - began:.0f} s, measured {time.perf_counter() - simulated:.0f}"
            f" s, {time.process_time() - used:.0f} s of CPU in all; raw error "
            + ", ".join(f"{row['method']} {row.get('raw_mean_vs_ct', 'refused')}" for row in new),
            flush=True,
        )


def histories_of(set_name: str, histories: int) -> int:
    """Histories of a set's Monte Carlo; 0 where the fast simulation takes its place."""
    return histories if SETS[set_name].full else 0


def asked_for(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Set and name of every patient of the command line."""
    sources = Sources.of(options)
    missing = {"real bodies": sources.bodies, "mr head": sources.phantom, "visible human": sources.visible_human}
    pairs = []
    for name, chosen in SETS.items():
        if name in NOT_MEASURED or missing.get(chosen.like or name, "") is None or name not in options.sets:
            continue
        number = min(PATIENTS.get(name, 0), options.patients)
        patients = list(map(str, range(number))) if name in PATIENTS else list(TRACERS)
        if name == "real bodies" and sources.bodies is not None:
            patients = [f"{patient} {body_of(sources.bodies, int(patient)).stem}" for patient in patients]
        pairs += [(name, patient) for patient in patients]
    return pairs


def is_valid(row: Row, key: Row, choice: Choice) -> bool:
    """True where a row is a result of this key (seed, histories, code and the patient) and of this choice."""
    if row["method"] == NO_CASE or any(row.get(name) != value for name, value in key.items()):
        return False
    return choice.fits(row["settings"], row["method"], row["nuclide"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--sets", help=f"separated by semicolons: {'; '.join(SETS)}")
    parser.add_argument("--patients", type=int, default=100, metavar="N", help="at most of each set")
    parser.add_argument("--bodies", type=Path, metavar="FOLDER", help="bodies of spectac cohort, of test heads")
    parser.add_argument("--phantom", type=Path, metavar="FOLDER", help="of the MR head")
    parser.add_argument("--visible-human", type=Path, metavar="FILE", help="vis_male.nrrd")
    parser.add_argument("--methods", help=f"separated by semicolons: {'; '.join(METHODS)}")
    parser.add_argument("--weights", metavar="FILE", help="of the network, instead of the shipped ones")
    parser.add_argument("--direct-weights", metavar="FILE")
    parser.add_argument("--histories", type=int, default=HISTORIES, help="of a full Monte Carlo")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--tuning", type=int, default=20, metavar="N", help="patients for --tune")
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()
    named = {"sets": tuple(SETS), "methods": METHODS}
    for option, known in named.items():
        given = getattr(options, option)
        names = known if given is None else tuple(name.strip() for name in given.split(";"))
        unknown = [name for name in names if name not in known]
        if unknown:
            parser.error(f"unknown {option} {', '.join(unknown)}; known: {'; '.join(known)}")
        setattr(options, option, names)
    methods = options.methods
    options.methods = [name for name in methods if name != DIRECT or options.direct_weights]
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
