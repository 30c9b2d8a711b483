"""Runs spectac on a problem of speed/problem.py, in a process of its own.

    python spectac_iteration.py FOLDER start            import, then one OSEM on a tiny problem: time of compilation
    python spectac_iteration.py FOLDER time SETTINGS    OSEM iterations, projections, set-up, memory, floor, an image
    python spectac_iteration.py FOLDER images           image and projections for every case of FOLDER/cases.json

SETTINGS is JSON: device, psf, cached (attenuation factors), crop (as reconstruct() leaves voxels out), seconds (of each
part), iterations (of the image that is written), even (whether times are compared between images).
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ceilings import cpu_ceilings, cuda_ceilings
from measure import Measurements, adjoint_mismatch, peak_memory_gib, start_image

from spectac.recon.collimator import Collimator
from spectac.recon.device import cpu_threads
from spectac.recon.em import Update, osem
from spectac.recon.geometry import default_grid
from spectac.recon.system import SystemModel
from spectac.recon.types import Acquisition, Array, MuMap

FEWEST, MOST = 3, 40
"""Each part is measured at least and at most this many times."""
RUNS = 5
"""OSEM runs whose iterations are compared."""
COMPARED = 12
"""Iterations of a run that are compared with each other."""


def main(folder: Path, what: str, settings: dict) -> None:
    results = Measurements(f"spectac {version('spectac')}", cpu_threads())
    if what == "start":
        _start(results)
    else:
        problem = dict(np.load(folder / "problem.npz"))
        _time(results, folder, problem, settings) if what == "time" else _images(folder, problem)
    results.write(folder / "spectac.json")


def _system(
    problem: dict,
    *,
    angles_deg: np.ndarray | None = None,
    psf: bool = True,
    device: str = "cpu",
    cached: bool = True,
    crop: bool = False,
    half: bool = False,
) -> SystemModel:
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
        acquisition,
        grid,
        mu=MuMap(problem["mu_per_cm"], grid, float(problem["energy_kev"])),
        resolution=psf,
        device=device,
        crop_to_orbit=crop,
        factor_memory_bytes=None if cached else 0,
        half_factors=half,
    )


def _start(results: Measurements) -> None:
    """Run every kernel once on a tiny problem: only compilation, or reading from the cache, takes time."""
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


def _time(results: Measurements, folder: Path, problem: dict, settings: dict) -> None:
    chosen = {name: settings[name] for name in ("psf", "device", "cached", "crop")}
    # A GPU keeps its factors as reconstruct() does.
    chosen["half"] = settings["device"] == "cuda"
    # Compilation and reading from the cache are timed by "start".
    few = {**problem, "counts": problem["counts"][:8], "angles_deg": problem["angles_deg"][:8]}
    warm = _system(few, **chosen)
    osem(warm, warm.put(few["counts"]), iterations=1, subsets=1)
    began = time.perf_counter()
    system = _system(problem, **chosen)
    wait = _waiting(system)
    wait()
    results.add("set-up: system and attenuation factors", "s", time.perf_counter() - began)
    if (system.projector.factors is not None) != settings["cached"]:
        results.add("attenuation factors do not fit into memory", "1", 1.0)
        return

    subsets = int(problem["subset_of_view"].max()) + 1
    image, fastest_s = _iterations(results, system, problem, settings, wait)
    np.save(folder / "spectac_time.npy", system.get(image))
    _projections(results, system, image, wait, settings["seconds"])
    if settings["even"]:
        _evenness(results, system, problem, wait)
    _floor(results, system, subsets, fastest_s)
    one = _system(problem, angles_deg=np.array([17.0]), **{**chosen, "half": False})
    mismatch = adjoint_mismatch(
        lambda x: one.get(one.forward(one.put(x))), lambda y: one.get(one.adjoint(one.put(y))), problem
    )
    results.add("adjoint mismatch at 17 deg", "1", mismatch)


def _iterations(
    results: Measurements, system: SystemModel, problem: dict, settings: dict, wait: Callable[[], None]
) -> tuple[Array, float]:
    """Time OSEM iterations; the image that the settings ask for, and seconds of the fastest iteration."""
    counts, start = system.put(problem["counts"]), system.put(start_image(problem))
    subsets = int(problem["subset_of_view"].max()) + 1
    ends: list[float] = []
    memory: list[float] = []

    class EnoughError(Exception):
        pass

    def note(update: Update) -> None:
        if update.done % subsets == 0:
            wait()
            ends.append(time.perf_counter())
            if len(ends) == 2:
                memory.append(_memory_gib(system))
            if len(ends) > FEWEST and ends[-1] - ends[0] > settings["seconds"]:
                raise EnoughError

    # One more iteration than is timed: the first also holds the sensitivities, which are given as set-up.
    began = time.perf_counter()
    with suppress(EnoughError):
        osem(system, counts, iterations=MOST + 1, subsets=subsets, start=start, on_update=note)
    iterations = np.diff(ends)
    results.add("OSEM iteration", "s", *iterations)
    results.add("set-up: sensitivities", "s", ends[0] - began - float(np.median(iterations)))
    results.add("peak memory, 2 iterations", "GiB", *memory)
    image = osem(system, counts, iterations=settings["iterations"], subsets=subsets, start=start)
    return image, float(np.min(iterations))


def _projections(
    results: Measurements, system: SystemModel, image: Array, wait: Callable[[], None], seconds: float
) -> None:
    """Time forward and adjoint of an image for these seconds each, FEWEST to MOST times."""
    expected = system.forward(image)
    for name, work in (("forward", lambda: system.forward(image)), ("adjoint", lambda: system.adjoint(expected))):
        began = time.perf_counter()
        measured = 0
        while measured < FEWEST or (measured < MOST and time.perf_counter() - began < seconds):
            wait()
            before = time.perf_counter()
            work()
            wait()
            results.add(name, "s", time.perf_counter() - before)
            measured += 1


def _evenness(results: Measurements, system: SystemModel, problem: dict, wait: Callable[[], None]) -> None:
    """Ratios that show whether times depend on values, which decay from iteration to iteration or are subnormal.

    On a CPU the processor's time of all threads is compared, because other processes mostly cost waiting time. Another
    process slows down one run, values the same iteration of every run: the fastest of RUNS counts of each iteration.
    Projections of the two backgrounds take turns.
    """
    clock = time.process_time if system.device == "cpu" else time.perf_counter
    counts, start = system.put(problem["counts"]), system.put(start_image(problem))
    subsets = int(problem["subset_of_view"].max()) + 1
    runs = []
    for _ in range(RUNS):
        ends: list[float] = []

        def note(update: Update, ends: list[float] = ends) -> None:
            if update.done % subsets == 0:
                wait()
                ends.append(clock())

        # The first is not compared: it holds the sensitivities.
        osem(system, counts, iterations=COMPARED + 1, subsets=subsets, start=start, on_update=note)
        runs.append(np.diff(ends))
    fastest = np.min(runs, axis=0)
    ratio = float(fastest.max() / fastest.min())
    results.add(f"slowest over fastest of {COMPARED} iterations, each the fastest of {RUNS}", "1", ratio)

    activity = problem["object"]
    images = [system.put(np.where(activity > 0, activity, np.float32(level))) for level in (0.0, 1e-39)]
    seconds: list[list[float]] = [[], []]
    for turn in range(2 * MOST):
        wait()
        before = clock()
        system.forward(images[turn % 2])
        wait()
        seconds[turn % 2].append(clock() - before)
    ratio = min(seconds[1]) / min(seconds[0])
    results.add(f"forward, background of 1e-39 over one of 0, fastest of {MOST} each", "1", ratio)


def _waiting(system: SystemModel) -> Callable[[], None]:
    """Function that returns when the device has done all its work."""
    if system.device == "cpu":
        return lambda: None
    return lambda: system.xp.cuda.Device().synchronize()


def _memory_gib(system: SystemModel) -> float:
    """Largest memory of the process, or what the GPU's pool has taken so far."""
    if system.device == "cpu":
        return peak_memory_gib()
    return system.xp.get_default_memory_pool().total_bytes() / 2**30


def _floor(results: Measurements, system: SystemModel, subsets: int, fastest_s: float) -> None:
    """Shortest time of one OSEM iteration that the device's ceilings allow (docs/performance.md)."""
    tables, rows = system.projector.tables, system.grid.shape[0]
    widths = tables.frames.last - tables.frames.first
    points = int(widths.sum()) * rows
    taps = (2 * tables.half_u + 1) + (2 * tables.half_z + 1)
    operations = 2 * rows * int((widths * (5 + taps)).sum())
    factors = system.projector.factors
    kept = (
        0
        if factors is None
        else 2 * points * (factors[0].dtype if isinstance(factors, list) else factors.dtype).itemsize
    )
    bytes_moved = kept + subsets * 6 * int(tables.inside.sum()) * rows * 4
    per_second, fused_per_second = cuda_ceilings() if system.device == "cuda" else cpu_ceilings(cpu_threads())
    results.add("lattice points of all views", "1e6", points / 1e6)
    results.add("taps of a lattice point, both axes", "1", float((widths * taps).sum() / widths.sum()))
    results.add("ceiling: bytes", "GB/s", per_second / 1e9)
    results.add("ceiling: multiply-adds", "1e9/s", fused_per_second / 1e9)
    floor_s = max(bytes_moved / per_second, operations / fused_per_second)
    results.add("floor of an OSEM iteration: bytes", "s", bytes_moved / per_second)
    results.add("floor of an OSEM iteration: operations", "s", operations / fused_per_second)
    # The floor does not hold the time of making the factors again.
    if kept:
        results.add("fraction of the floor reached", "1", floor_s / fastest_s)


def _images(folder: Path, problem: dict) -> None:
    results: dict[tuple, tuple[np.ndarray, np.ndarray]] = {}
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        key = case["psf"], case["corners"], case["subsets"], case["iterations"]
        if key not in results:
            system = _system(problem, psf=case["psf"])
            start = start_image(problem, corners=case["corners"])
            settings = {"iterations": case["iterations"], "subsets": case["subsets"], "start": start}
            results[key] = osem(system, problem["counts"], **settings), system.forward(problem["object"])
        np.save(folder / f"spectac_image_{name}.npy", results[key][0])
        np.save(folder / f"spectac_forward_{name}.npy", results[key][1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]) if len(sys.argv) > 3 else {})
