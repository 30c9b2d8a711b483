"""Errors of every attenuation model on the demo's head, for several seeds, and the README's picture.

    python benchmarks/demo_accuracy.py [--seeds N] -o FOLDER

Writes demo_accuracy.csv, and demo.png of the first seed.
"""

import argparse
import csv
import shutil
import tempfile
from pathlib import Path

from benchmarks.provenance import provenance

from spectac.app.demo import run_demo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, metavar="N")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(1, options.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            for line in run_demo(Path(folder), seed=seed, counts=3e6):
                print(line)
            if seed == 1:
                shutil.copy(Path(folder) / "panel.png", options.output / "demo.png")
            with (Path(folder) / "errors.csv").open() as stream:
                rows += [{**provenance(seed), **row} for row in csv.DictReader(stream)]
    with (options.output / "demo_accuracy.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
