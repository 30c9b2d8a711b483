"""From raw projections in DICOM to an image in DICOM: latency of one study, and studies per minute of a queue.

    python -m benchmarks.speed.clinic [--device cpu|cuda] [--queue N] [--in-flight K] [--pytomography PYTHON] -o CSV

Nine minutes on 2 cores. Writes clinic.csv. The study has 128x128x64 voxels and 120 views (problem.py), attenuation by
a given map and resolution recovery, OSEM 10 x 10. `command` is `spectac reconstruct` from the start of the process to
its end, without scatter correction and with Monte Carlo's. Beside it stands PyTomography's script of the same work
(peers/pytomography_dicom.py) on the same counts and map.
`queue` is one process that reads, reconstructs and writes N studies, K of them at a time.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.provenance import load_average, provenance, write_csv
from benchmarks.speed.problem import KEV, SIGMA0_MM, SLOPE, Problem, head
from benchmarks.speed.rows import PEERS
from spectac.recon import GivenMap, MuMap, ReconstructionSettings, StudySettings, SystemModel, default_grid, reconstruct
from spectac.recon.collimator import Collimator
from spectac.recon.device import cpu_threads
from spectac.recon.io import open_study
from spectac.recon.io.dicom import nm as dicom_nm
from spectac.recon.io.dicom.nm_write_pytomography import write_for_pytomography, write_mu_array
from spectac.recon.io.nifti import read_image, read_mu_map, write_mu_map
from spectac.recon.types import Acquisition, EnergyWindow, Study

PROBLEM = Problem(128, 64, 120)
COUNTS, VIEW_SECONDS = 5e6, 20.0
COMMANDS = 3
"""Runs of the command."""


def main() -> None:
    options = _options()
    columns = {**provenance(options.seed), "device": options.device, "load": load_average()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_study(folder, options.seed)
        seconds = [_command(folder, options.device) for _ in range(COMMANDS)]
        rows = [("one study", "command, start to end", one, "s") for one in seconds]
        for _ in range(COMMANDS):
            scattered = _command(folder, options.device, "--scatter", "montecarlo")
            rows.append(("one study", "command with Monte Carlo scatter", scattered, "s"))
        if options.pytomography:
            theirs, gap = _pytomography(folder, options.pytomography, options.device)
            rows.append(("one study", "PyTomography's script, start to end", theirs, "s"))
            rows.append(("one study", "PyTomography over command, median", theirs / float(np.median(seconds)), "1"))
            rows.append(("one study", "PyTomography's image less ours, brain, RMS", gap, "% of mean"))
        rows += _queue(folder, options)
    table = []
    for what, quantity, value, unit in rows:
        in_flight = options.in_flight if what.startswith("queue") else 1
        number = {"what": what, "quantity": quantity, "value": f"{value:.4g}", "unit": unit}
        table.append({**columns, "in_flight": in_flight, **number})
        print(f"{what:14} {quantity:42} {value:8.3g} {unit}")
    write_csv(options.output, table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--queue", type=int, default=20, metavar="N", help="studies of the queue (20)")
    parser.add_argument("--in-flight", type=int, default=1, metavar="K", help="studies at a time (1)")
    parser.add_argument("--pytomography", metavar="PYTHON", help="interpreter that has PyTomography 3.4.0")
    parser.add_argument("--seed", type=int, default=1, help="for the noise of the counts (1)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CSV")
    return parser.parse_args()


def _write_study(folder: Path, seed: int) -> None:
    """study.dcm with Poisson noise, and its map mu.nii.gz; both once more as PyTomography reads them."""
    acquisition = Acquisition(
        view_angles_deg=np.arange(PROBLEM.views) * (360.0 / PROBLEM.views),
        radii_mm=np.full(PROBLEM.views, PROBLEM.radius_mm),
        matrix=(PROBLEM.rows, PROBLEM.columns),
        pixel_mm=(PROBLEM.pixel_mm, PROBLEM.pixel_mm),
        view_seconds=np.full(PROBLEM.views, VIEW_SECONDS),
        nuclide="Tc-99m",
        collimator=Collimator.from_line(SIGMA0_MM, SLOPE),
    )
    grid = default_grid(acquisition)
    activity, mu = head(grid, subsamples=2)
    expected = SystemModel(acquisition, grid, mu=mu).forward(activity)
    counts = np.random.default_rng(seed).poisson(expected * (COUNTS / expected.sum())).astype(np.float32)
    study = Study(acquisition, (EnergyWindow("peak", 126.0, 154.0),), counts[None])
    dicom_nm.write_study(folder / "study.dcm", study)
    write_for_pytomography(folder / "projections.dcm", study)
    write_mu_map(folder / "mu.nii.gz", MuMap(mu.per_cm, grid, KEV))
    write_mu_array(folder / "mu.npy", mu)


def _command(folder: Path, device: str, *more: str) -> float:
    """Seconds of the command from start to end, the interpreter's included."""
    command = [sys.executable, "-m", "spectac.app.cli", "reconstruct", "study.dcm", "-o", "out"]
    settings = ["--attenuation", "map", "--mu-map", "mu.nii.gz", "--psf", f"{SIGMA0_MM}:{SLOPE}", "--device", device]
    return _seconds([*command, *settings, *more], folder)


def _pytomography(folder: Path, python: str, device: str) -> tuple[float, float]:
    """Seconds of PyTomography's script from start to end, and the RMS difference of its image from ours.

    In % of the mean of what is brighter than 0.3 of the largest, both scaled to the same mean. Where both did the same
    work these are a few per cent: noise follows the order of the subsets.
    """
    script = [python, str(PEERS / "pytomography_dicom.py"), ".", device, str(cpu_threads())]
    seconds = _seconds([*script, str(SIGMA0_MM), str(SLOPE)], folder)
    theirs = np.load(folder / "pytomography.npy").transpose(2, 1, 0)
    ours = read_image(folder / "out" / "image.nii.gz").values
    bright = ours > 0.3 * ours.max()
    gap = theirs[bright] / theirs[bright].mean() - ours[bright] / ours[bright].mean()
    return seconds, 100.0 * float(np.sqrt(np.mean(gap**2)))


def _seconds(command: list[str], folder: Path) -> float:
    """Seconds of a process in a folder."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - began


def _queue(folder: Path, options: argparse.Namespace) -> list[tuple[str, str, float, str]]:
    """Median latency of a study and studies per minute, after one study that is not counted."""

    def one(number: int) -> float:
        began = time.perf_counter()
        study = open_study(folder / "study.dcm", StudySettings(collimator=Collimator.from_line(SIGMA0_MM, SLOPE)))
        model = GivenMap(read_mu_map(folder / "mu.nii.gz", KEV))
        result = reconstruct(study, model, ReconstructionSettings(device=options.device))
        dicom_nm.write_image(folder / f"{number}.dcm", result.image, study=study, description="queue", corrected=[])
        return time.perf_counter() - began

    one(0)
    began = time.perf_counter()
    with ThreadPoolExecutor(options.in_flight) as threads:
        latencies = list(threads.map(one, range(options.queue)))
    seconds = time.perf_counter() - began
    what = f"queue of {options.queue}"
    return [
        (what, "median latency of a study", float(np.median(latencies)), "s"),
        (what, "studies per minute", 60.0 * options.queue / seconds, "1/min"),
    ]


if __name__ == "__main__":
    main()
