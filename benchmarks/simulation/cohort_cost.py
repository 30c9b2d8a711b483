"""What a cohort costs: seconds and bytes a patient for each kind of camera.

    python -m benchmarks.simulation.cohort_cost [--patients N] -o FOLDER

Writes cohort_cost.csv, a row a patient and kind; six kinds with 2 patients each take 6 minutes on one thread, as a
worker of a cohort has. Bytes are those of a shard with this patient alone; `expected_bytes` of them are the expected
counts.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np

from benchmarks.provenance import load_average, provenance, write_csv
from spectac.simulate.cameras import KINDS
from spectac.simulate.cohort.folder import CohortSettings
from spectac.simulate.cohort.patient import simulate_patient
from spectac.simulate.cohort.shards import write_shard

SEED = 23


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=4, metavar="N", help="(4)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    numba.set_num_threads(1)
    simulate_patient(SEED, 0, CohortSettings(1))  # compiles
    rows: list[dict[str, Any]] = []
    for kind in KINDS:
        for index in range(options.patients):
            load, begun = load_average(), time.perf_counter()
            patient = simulate_patient(SEED, index, CohortSettings(1, seed=SEED, cameras=kind))
            seconds = time.perf_counter() - begun
            without = replace(patient, expected=np.zeros_like(patient.expected))
            with tempfile.TemporaryDirectory() as folder:
                sizes = []
                for one in (patient, without):
                    path = Path(folder, "shard.h5")
                    write_shard(path, {}, 1, [(0, one)])
                    sizes.append(path.stat().st_size)
            rows.append(
                {
                    **provenance(SEED),
                    "cameras": kind,
                    "patient": index,
                    "views": patient.counts.shape[0],
                    "rows": patient.counts.shape[1],
                    "columns": patient.counts.shape[2],
                    "windows": int(patient.windows.sum()),
                    "seconds": round(seconds, 2),
                    "bytes": sizes[0],
                    "expected_bytes": sizes[0] - sizes[1],
                    "load": load,
                }
            )
            print(*(f"{name} {value}" for name, value in list(rows[-1].items())[5:]), flush=True)
    write_csv(options.output / "cohort_cost.csv", rows)


if __name__ == "__main__":
    main()
