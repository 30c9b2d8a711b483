"""How the error falls with the number of patients and with the samples: a small network on voxels of 8 mm.

    python -m benchmarks.network.learning_curve --training FOLDER --validation FOLDER -o FOLDER [--patients N...]

Writes learning_curve.csv, a row for each number of patients and of samples. The training folder may hold several
cohorts; the first N patients are every n-th of all, so that each share has all kinds. Network, samples and inputs are
those of inputs.py with the shipped network's channels; 20,000 samples take five to ten minutes on 2 cores.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.network.inputs import SHIPPED, TRIALS, Inputs, errors, inputs_of, trained
from benchmarks.provenance import provenance, write_csv

SAMPLES = (20_000, 40_000)


def share_of(inputs: Inputs, patients: int) -> Inputs:
    """Every n-th patient, so many in all."""
    chosen = np.linspace(0, len(inputs.targets) - 1, patients).round().astype(int)
    return replace(
        inputs,
        channels=inputs.channels[chosen],
        targets=inputs.targets[chosen],
        water_per_voxel=inputs.water_per_voxel[chosen],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--training", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--validation", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--patients", type=int, nargs="+", default=[384, 768, 1536], metavar="N", help="(384 768 1536)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="(2)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    training, validation = (
        inputs_of(folder, options.output / "inputs", options.workers)
        for folder in (options.training, options.validation)
    )
    if max(options.patients) > len(training.targets):
        parser.exit(2, f"{options.training}: {len(training.targets)} patients, fewer than {max(options.patients)}\n")
    rows: list[dict[str, Any]] = []
    for patients in options.patients:
        for samples in SAMPLES:
            network = trained(share_of(training, patients), TRIALS["as shipped"], options.seed, samples)
            row = {**provenance(options.seed), "patients": patients, "samples": samples}
            row |= errors(network, validation, SHIPPED)
            rows.append(row)
            print(row, flush=True)
            write_csv(options.output / "learning_curve.csv", rows)


if __name__ == "__main__":
    main()
