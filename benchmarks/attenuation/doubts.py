"""What the limit of the predicted map's uncertainty costs and saves, from the rows of the attenuation benchmark.

    python -m benchmarks.attenuation.doubts [--rows FILE] -o FOLDER

Writes doubts.csv, a row a limit, in a second: that of the shipped weights, which training set on its validation
patients, and the limit that `weighed_limit` chooses on these patients. The gain of a patient is the error of
the regional means with the network's map, limits ignored, minus that with the uniform map that was tuned on other
patients. For 80 % of those that fall back it should be positive, and of those with more than 5 % at least 70 % should
fall back. Patients whom another limit sends away are left out. The notes of the rows give uncertainties to 0.01 %.
"""

import argparse
import csv
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.provenance import provenance, write_csv
from spectac.learned.doubt_limits import HARM, WeighedLimit, weighed_limit
from spectac.learned.estimate import TrainedNetwork
from spectac.learned.weights_file import shipped_weights

ROWS = Path(__file__).parents[1] / "results" / "attenuation_methods.csv"
OTHERS = re.compile("mL show|times the detail")
"""In the notes of patients whom other limits send to the uniform map."""
UNCERTAINTY = re.compile(r"uncertainty ([\d.]+) %")
"""In the notes of a row."""


def patients(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Uncertainty and gain (n,) of the patients whose map this limit decides about."""
    methods: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            methods[row["set"], row["patient"]][row["method"]] = row
    found = []
    for rows in methods.values():
        row = rows.get("predicted, limits ignored", rows["predicted"])
        noted = UNCERTAINTY.search(row["notes"])
        errors = [one["raw_mean_vs_ct"] for one in (row, rows["uniform tuned, data outline"])]
        if noted and all(errors) and not OTHERS.search(rows["predicted"]["notes"]):
            found.append((0.01 * float(noted[1]), 0.01 * (float(errors[0]) - float(errors[1]))))
    uncertainty, gain = np.array(found).T
    return uncertainty, gain


def at(limit: float, uncertainty: np.ndarray, gain: np.ndarray) -> WeighedLimit:
    """What a given limit does."""
    above, harmful = uncertainty > limit, gain > HARM
    shares = (float(part.mean()) if part.size else float("nan") for part in (gain[above] > 0, above[harmful]))
    return WeighedLimit(limit, int(above.sum()), *shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, default=ROWS, metavar="FILE", help="(attenuation_methods.csv)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    uncertainty, gain = patients(options.rows)
    shipped = TrainedNetwork.read(shipped_weights()).coverage.uncertainty
    written = []
    for name, one in (
        ("shipped", at(shipped, uncertainty, gain)),
        ("weighed", weighed_limit(uncertainty, gain, shipped)),
    ):
        written.append(
            {
                **provenance(0),
                "limit": name,
                "uncertainty_percent": round(100.0 * one.limit, 3),
                "patients": len(gain),
                "harmed": int((gain > HARM).sum()),
                "fall_back": one.fall_back,
                "better_off": round(one.better_off, 3),
                "caught": round(one.caught, 3),
            }
        )
        print(*(f"{column} {value}" for column, value in list(written[-1].items())[5:]))
    write_csv(options.output / "doubts.csv", written)


if __name__ == "__main__":
    main()
