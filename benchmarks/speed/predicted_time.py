"""Seconds of `--attenuation predicted` against the same reconstruction with a given map, as whole processes.

    python -m benchmarks.speed.predicted_time -o CSV [--weights FILE] [--repeat N] [--spectac PROGRAM]

Two minutes on 2 cores, which should be idle. Writes predicted_time.csv. The fast simulation makes one virtual DAT
patient: matrix 64 x 128 (128x128x64 voxels), 120 views, 4.4 mm, all four windows. The installed command line
reconstructs it with OSEM 10 x 10, in turn with the true map and with the predicted one. A first run of each fills the
caches and does not count. The goal for the predicted map is 1.6 times the given map's seconds and 6 more for imports,
previews and network. Runs that fell back to the uniform map are named. The imports alone (goal: 3 s) are measured too.
Times are never a reason to fail.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.provenance import load_average, provenance, write_csv
from spectac.recon import Acquisition, MuMap, default_grid
from spectac.recon.io.hdf5 import write_study
from spectac.recon.io.nifti import write_mu_map
from spectac.recon.nuclides import nuclide
from spectac.recon.resample import resample
from spectac.simulate.acquire import Patient, expected_counts
from spectac.simulate.head import draw_head
from spectac.simulate.scanner import Scanner
from spectac.simulate.uptake import draw_uptake

SETTINGS = ("--iterations", "10", "--subsets", "10")
RATIO, EXTRA_S = 1.6, 6.0
"""Goal on 2 cores: seconds with the predicted map over those with a given one, and seconds beside."""
GIVEN, PREDICTED, IMPORTS = "given map", "predicted", "imports of predicting"


def main() -> None:
    options = _options()
    columns = provenance(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        acquisition = _write_problem(folder, options.seed)
        problem = f"{acquisition.matrix[1]}x{acquisition.matrix[1]}x{acquisition.matrix[0]}x{acquisition.views}"
        commands = _commands(folder, options)
        rows: list[dict[str, object]] = []
        for repeat in range(options.repeat + 1):
            for kind, command in commands.items():
                seconds, load = _timed(command, folder / "out")
                # The uniform map, which stands in for a predicted one, has no spread.
                fell_back = kind == PREDICTED and not (folder / "out" / "mu_spread.nii.gz").exists()
                what = f"{kind}: {seconds:.2f} s, load {load:g}{', FELL BACK to the uniform map' * fell_back}"
                print(what if repeat else f"caches: {what}", flush=True)
                if repeat:
                    rows.append(
                        columns
                        | {"load": load, "problem": problem, "attenuation": kind, "repeat": repeat}
                        | {"seconds": f"{seconds:.4g}", "fell_back": int(fell_back)}
                    )
            if rows:
                write_csv(options.output, rows)
    _summarise(rows)
    print(f"{len(rows)} rows: {options.output}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CSV")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of the network, instead of the shipped ones")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="times that each is measured (3)")
    parser.add_argument("--spectac", metavar="PROGRAM", help="installed command line (the one beside this Python)")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    if options.repeat < 1:
        parser.error("--repeat must be at least 1")
    if not options.output.resolve().parent.is_dir():
        parser.error(f"the folder of {options.output} does not exist")
    beside = shutil.which("spectac", path=str(Path(sys.executable).parent))
    options.spectac = options.spectac or beside
    if options.spectac is None:
        parser.error("spectac is not installed beside this Python: give --spectac")
    return options


def _write_problem(folder: Path, seed: int) -> Acquisition:
    """Study and true map of a DAT patient, as study.h5 and map.nii.gz; its acquisition."""
    head_seed, uptake_seed, photons, noise = np.random.SeedSequence(seed).spawn(4)
    head = draw_head(np.random.default_rng(head_seed))
    uptake = draw_uptake("dat", head, np.random.default_rng(uptake_seed), nuclide="I-123")
    camera = Scanner("siemens", "siemens-lehr", matrix=(64, 128), pixel_mm=4.4, views=120, scheme="tew+scatter")
    expected = expected_counts(Patient(head, uptake), camera.around(head), photons)
    study = expected.study(np.random.default_rng(noise))
    write_study(folder / "study.h5", study)
    true, grid = head.mu(nuclide("I-123").main_kev), default_grid(study.acquisition)
    values = np.maximum(resample(true.per_cm, true.grid, grid), 0.0)
    write_mu_map(folder / "map.nii.gz", MuMap(values, grid, true.energy_kev))
    return study.acquisition


def _commands(folder: Path, options: argparse.Namespace) -> Mapping[str, Sequence[str]]:
    """Command lines by what they are called in the CSV."""
    start = (options.spectac, "reconstruct", str(folder / "study.h5"), "-o", str(folder / "out"), *SETTINGS)
    weights = ("--attenuation-option", f"weights={options.weights.resolve()}") if options.weights else ()
    return {
        GIVEN: (*start, "--attenuation", "map", "--mu-map", str(folder / "map.nii.gz")),
        PREDICTED: (*start, "--attenuation", "predicted", *weights),
        IMPORTS: (sys.executable, "-c", "import spectac.learned.predict"),
    }


def _timed(command: Sequence[str], output: Path) -> tuple[float, float]:
    """Seconds of a process and the load before it."""
    shutil.rmtree(output, ignore_errors=True)
    load, began = load_average(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return seconds, load


def _summarise(rows: Sequence[Mapping[str, object]]) -> None:
    """Print medians, their ratio, and the seconds beyond the goal's ratio."""
    seconds: dict[str, list[float]] = {}
    for row in rows:
        seconds.setdefault(str(row["attenuation"]), []).append(float(str(row["seconds"])))
    given, predicted, imports = (statistics.median(seconds[kind]) for kind in (GIVEN, PREDICTED, IMPORTS))
    print(f"\n{GIVEN}: median {given:.2f} s")
    print(f"{IMPORTS}: median {imports:.2f} s")
    print(
        f"{PREDICTED}: median {predicted:.2f} s, ratio {predicted / given:.2f}, {predicted - RATIO * given:+.2f} s "
        f"beyond {RATIO:g} times the given map's (goal: <= {EXTRA_S:g})"
    )
    if any(row["fell_back"] for row in rows):
        print("some runs fell back to the uniform map: their times say nothing about the network")


if __name__ == "__main__":
    main()
