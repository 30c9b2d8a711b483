"""What fine-tuning of the map's network on heads of one's own brings for other heads: threefold cross-validation.

    python -m benchmarks.network.fine_tuning --cts FOLDER --work FOLDER -o benchmarks/results

An hour on 2 cores. CTS holds CTs of heads that the shipped weights were not trained on. Every head gets a cohort of its
own. In each of three folds every third head is tested; of the others every fourth validates and the rest train, from
the shipped weights on, by the commands of docs/learned.md. Cohorts and runs lie in WORK; one that was stopped goes on.

Writes fine_tuning.csv, a row for each patient, weights and method of the attenuation study: its sets "real bodies"
(tested heads alone) and "unseen" (drawn heads, by the weights of the first fold: what the network forgets), errors in %
against the true map's image. Reporting only: nothing is chosen by it.
"""

import argparse
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.attenuation.methods import UNLIMITED, Choice
from benchmarks.attenuation.patients import SETS, virtual_case
from benchmarks.attenuation.rows import measured
from benchmarks.provenance import provenance, write_csv
from spectac.recon import InputError
from spectac.simulate.bodies.stored import bodies_in

FOLDS = 3
VALIDATES = 4
"""One of so many heads that are not tested validates."""
PATIENTS = 12
"""Virtual patients of each head."""
UNSEEN = 12
METHODS = ("predicted", UNLIMITED)
KEPT = ("raw_mean", "raw_worst", "scaled_mean", "sbr_error", "pattern_error", "uptake_error", "nmse_head")
SETTINGS = """\
training = "{fold}/training"
validation = "{fold}/validation"
begin_with = "shipped"
widths = [24, 48, 96, 128]
epochs = 30
learning_rate = 3e-4
"""


def spectac(*arguments: object) -> None:
    """Run a command of the product; CalledProcessError where it fails."""
    subprocess.run([sys.executable, "-m", "spectac.app.cli", *map(str, arguments)], check=True)


def cohort_of(ct: Path, work: Path, seed: int) -> Path:
    """Folder of the cohort of one head."""
    alone = work / "cts" / ct.name.split(".")[0]
    alone.mkdir(parents=True, exist_ok=True)
    if not (alone / ct.name).exists():
        (alone / ct.name).symlink_to(ct.resolve())
    folder = work / "heads" / alone.name
    spectac("cohort", "-o", folder, "-n", PATIENTS, "--seed", seed, "--bodies", alone, "--shard-patients", 4)
    return folder


def fine_tuned(fold: Path, cohorts: Sequence[Path]) -> Path:
    """Weights trained with these cohorts, of which every VALIDATES-th validates."""
    for position, cohort in enumerate(cohorts):
        part = fold / ("validation" if position % VALIDATES == 0 else "training")
        part.mkdir(parents=True, exist_ok=True)
        if not (part / cohort.name).exists():
            (part / cohort.name).symlink_to(cohort.resolve())
    settings = fold / "fine_tuning.toml"
    settings.write_text(SETTINGS.format(fold=fold), encoding="utf-8")
    spectac("train", settings, "-o", fold / "run")
    return fold / "run" / "weights.safetensors"


def rows_of(set_name: str, index: int, weights: Path | None, bodies: Path, seed: int) -> list[dict[str, Any]]:
    """A row a method of one patient; none where it could not be simulated."""
    about = {
        **provenance(seed),
        "set": set_name,
        "patient": index,
        "weights": "shipped" if weights is None else "tuned",
    }
    rows = []
    try:
        case = virtual_case(seed, SETS[set_name], index, 0, bodies=bodies)
        for row in measured(case, METHODS, Choice({}, None if weights is None else str(weights))):
            values = {name: float(str(row.get(f"{name}_vs_ct", "nan"))) for name in KEPT}
            errors = {name: "" if math.isnan(value) else f"{value:.3f}" for name, value in values.items()}
            rows.append(about | {"method": row["method"], "fell_back": row.get("fell_back", ""), **errors})
    except InputError as error:
        print(f"{set_name} {index}: {error}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cts", type=Path, required=True, metavar="FOLDER", help="NIfTI files, a head each")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="of cohorts and runs")
    parser.add_argument("--seed", type=int, default=5, help="of the attenuation study's patients")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    cohorts = [cohort_of(ct, options.work, 9000 + index) for index, ct in enumerate(sorted(options.cts.glob("*.nii*")))]
    if len(cohorts) < 2 * FOLDS:
        parser.exit(2, f"{options.cts}: {len(cohorts)} CTs, at least {2 * FOLDS} are needed\n")
    bodies = options.work / "bodies"
    bodies.mkdir(exist_ok=True)
    for body in (body for cohort in cohorts for body in bodies_in(cohort / "bodies")):
        if not (bodies / body.name).exists():
            (bodies / body.name).symlink_to(body.resolve())
    rows: list[dict[str, Any]] = []
    for number in range(FOLDS):
        others = [cohort for index, cohort in enumerate(cohorts) if index % FOLDS != number]
        weights = fine_tuned(options.work / f"fold{number}", others)
        tested = [("real bodies", index) for index in range(number, len(cohorts), FOLDS)]
        tested += [("unseen", index) for index in range(UNSEEN)] if number == 0 else []
        for set_name, index in tested:
            for one in (None, weights):
                new = rows_of(set_name, index, one, bodies, options.seed)
                rows += new
                print(*new, sep="\n", flush=True)
                write_csv(options.output / "fine_tuning.csv", rows)


if __name__ == "__main__":
    main()
