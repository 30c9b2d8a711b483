"""Runs spectac on a problem written by speed.py, in a process of its own; see speed.py for what goes in and out.

python spectac_iteration.py FOLDER start        import, then one OSEM on a tiny problem: what compilation costs
python spectac_iteration.py FOLDER time N       OSEM iterations, projections, set-up, memory, an image after N
python spectac_iteration.py FOLDER images       image and projections for every case of FOLDER/cases.json
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from measure import Measurements, adjoint_mismatch, peak_memory_gib, start_image

from spectac.recon.collimator import Collimator
from spectac.recon.device import cpu_threads
from spectac.recon.geometry import default_grid
from spectac.recon.osem import Update, osem
from spectac.recon.system import SystemModel
from spectac.recon.types import Acquisition, MuMap

OFTENER = 4
"""Each part is timed this many times as often as asked for: it takes a second where the peer takes half a minute."""


def main(folder: Path, what: str, repeats: int) -> None:
    results = Measurements(f"spectac {version('spectac')}", cpu_threads())
    if what == "start":
        _start(results)
    else:
        problem = dict(np.load(folder / "problem.npz"))
        _time(results, folder, problem, repeats) if what == "time" else _images(folder, problem)
    results.write(folder / f"spectac_{what}.json")


def _system(problem: dict, *, angles_deg: np.ndarray | None = None, psf: bool = True) -> SystemModel:
    angles = problem["angles_deg"] if angles_deg is None else angles_deg
    pixel = float(problem["pixel_mm"])
    acquisition = Acquisition(
        view_angles_deg=angles,
        radii_mm=np.full(len(angles), float(problem["radius_mm"])),
        matrix=problem["counts"].shape[1:],
        pixel_mm=(pixel, pixel),
        view_seconds=np.full(len(angles), 1000.0 / pixel**3),
        nuclide="Tc-99m",
        collimator=Collimator.from_line(float(problem["sigma0_mm"]), float(problem["slope"])),
        corrections=frozenset({"DECY"}),
    )
    grid = default_grid(acquisition)
    return SystemModel(
        acquisition, grid, mu=MuMap(problem["mu_per_cm"], grid, float(problem["energy_kev"])), resolution=psf
    )


def _start(results: Measurements) -> None:
    """Run every kernel once on so little that only its compilation, or its reading from the cache, takes time."""
    problem = {
        "counts": np.ones((8, 4, 8), np.float32),
        "mu_per_cm": np.full((4, 8, 8), 0.1, np.float32),
        "angles_deg": np.arange(8) * 45.0,
        "radius_mm": 150.0,
        "pixel_mm": 4.4,
        "sigma0_mm": 1.5,
        "slope": 0.02,
        "energy_kev": 140.511,
    }
    began = time.perf_counter()
    system = _system(problem)
    osem(system, problem["counts"], iterations=1, subsets=2)
    iterated = time.perf_counter()
    system.gradient_mu(np.ones(system.image_shape, np.float32), problem["counts"])
    results.add("first OSEM, tiny problem", "s", iterated - began)
    results.add("first gradient to mu, tiny problem", "s", time.perf_counter() - iterated)


def _time(results: Measurements, folder: Path, problem: dict, repeats: int) -> None:
    measured = OFTENER * repeats
    began = time.perf_counter()
    system = _system(problem)
    results.add("set-up: system and attenuation factors", "s", time.perf_counter() - began)

    subsets = int(problem["subset_of_view"].max()) + 1
    ends: list[float] = []
    memory: list[float] = []

    def note(update: Update) -> None:
        if update.done % subsets == 0:
            ends.append(time.perf_counter())
            if len(ends) == 2:
                memory.append(peak_memory_gib())

    # One more iteration than is timed: the first also holds the sensitivities, which are given as set-up.
    began = time.perf_counter()
    start = start_image(problem)
    osem(system, problem["counts"], iterations=measured + 1, subsets=subsets, start=start, on_update=note)
    iterations = np.diff(ends)
    results.add("OSEM iteration", "s", *iterations)
    results.add("set-up: sensitivities", "s", ends[0] - began - float(np.median(iterations)))
    results.add("peak memory, 2 iterations", "GiB", *memory)
    image = osem(system, problem["counts"], iterations=repeats, subsets=subsets, start=start)
    np.save(folder / "spectac_time.npy", image)

    for _ in range(measured):
        began = time.perf_counter()
        expected = system.forward(image)
        middle = time.perf_counter()
        system.adjoint(expected)
        results.add("forward", "s", middle - began)
        results.add("adjoint", "s", time.perf_counter() - middle)
    for _ in range(repeats - 1):
        began = time.perf_counter()
        _system(problem)
        results.add("set-up: system and attenuation factors", "s", time.perf_counter() - began)
    one = _system(problem, angles_deg=np.array([17.0]))
    results.add("adjoint mismatch at 17 deg", "1", adjoint_mismatch(one.forward, one.adjoint, problem))


def _images(folder: Path, problem: dict) -> None:
    made: dict[tuple, tuple[np.ndarray, np.ndarray]] = {}
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        key = case["psf"], case["corners"], case["subsets"], case["iterations"]
        if key not in made:
            system = _system(problem, psf=case["psf"])
            start = start_image(problem, corners=case["corners"])
            settings = {"iterations": case["iterations"], "subsets": case["subsets"], "start": start}
            made[key] = osem(system, problem["counts"], **settings), system.forward(problem["object"])
        np.save(folder / f"spectac_image_{name}.npy", made[key][0])
        np.save(folder / f"spectac_forward_{name}.npy", made[key][1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1)
