"""Causes of the difference between spectac's and PyTomography's images: one effect switched off at a time.

    python -m benchmarks.speed.agreement --pytomography PYTHON -o CSV

Four minutes on 2 cores. Writes agreement.csv.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.provenance import provenance
from benchmarks.speed.problem import Problem, write_problem
from benchmarks.speed.rows import Row, differences, error, row_of, rows_of, run, write

PROBLEM = Problem(48, 56, 30, subsets=5)
"""Just large enough for the head: PyTomography needs seconds per iteration, and there are a dozen cases."""


@dataclass(frozen=True)
class Case:
    """One comparison of images. Kernel, transpose and order are PyTomography's, the rest applies to both programs.

    Without `corners` both start from 0 outside the circle that the detector sees in every view.
    """

    psf: bool = True
    kernel: str = "sampled"
    transpose: bool = False
    order: str = "its own"
    corners: bool = True
    subsets: int = 5
    iterations: int = 4


# One thing changed at a time, then together; then the same question without blur and without subsets.
_ALL = {"order": "spectac's", "kernel": "integrated", "transpose": True}
CASES = {
    "as delivered": Case(),
    "subsets in spectac's order": Case(order="spectac's"),
    "PSF integrated over pixels": Case(kernel="integrated"),
    "rotation transposed": Case(transpose=True),
    "order, integrated PSF": Case(order="spectac's", kernel="integrated"),
    "order, integrated PSF, transpose": Case(**_ALL),
    "these three, PSF cut at 3.5 sigma": Case(**{**_ALL, "kernel": "integrated, cut"}),
    "these three, cut, corners empty": Case(**{**_ALL, "kernel": "integrated, cut"}, corners=False),
    "no PSF": Case(psf=False),
    "no PSF, order, transpose": Case(psf=False, order="spectac's", transpose=True),
    "1 subset": Case(subsets=1, iterations=10),
    "1 subset, integrated PSF, transpose": Case(**_ALL, subsets=1, iterations=10),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--pytomography", metavar="PYTHON", required=True, help="interpreter that has PyTomography 3.4.0"
    )
    parser.add_argument("--seed", type=int, default=1, help="for the noise of the transpose's check (1)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CSV")
    options = parser.parse_args()
    write(options.output, provenance(options.seed), _causes(options.pytomography, options.seed))


def _causes(pytomography: str, seed: int) -> list[Row]:
    """Differences of images and projections in every case."""
    problem = PROBLEM
    print(f"{problem.name}: causes of the images' difference, {len(CASES)} cases ...", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth, brain = write_problem(problem, folder / "problem.npz", seed)
        (folder / "cases.json").write_text(json.dumps({case: asdict(CASES[case]) for case in CASES}))
        ours = run(sys.executable, "spectac", folder, "images")
        theirs = run(
            pytomography, "pytomography", folder, "images", json.dumps({"threads": ours["threads"], "device": "cpu"})
        )
        rows += rows_of(theirs, problem.name)
        difference = {**theirs, "engine": f"{theirs['engine']} - {ours['engine']}"}
        for case, changes in CASES.items():
            image, other = (np.load(folder / f"{who}_image_{case}.npy") for who in ("spectac", "pytomography"))
            rows += differences(difference, problem, f"image in the brain: {case}", other, image, brain)
            here, there = (np.load(folder / f"{who}_forward_{case}.npy") for who in ("spectac", "pytomography"))
            if changes.order == "its own" and not changes.transpose and changes.subsets > 1:
                value = 100.0 * float(np.linalg.norm(there - here) / np.linalg.norm(here))
                quantity = f"projections of the truth: {case}"
                rows.append(row_of(difference, problem.name, value, "RMS", quantity, "% of RMS"))
            if case == "as delivered":
                rows.append(error(ours, problem, image, truth, brain, changes.iterations))
                rows.append(error(theirs, problem, other, truth, brain, changes.iterations))
    return rows


if __name__ == "__main__":
    main()
