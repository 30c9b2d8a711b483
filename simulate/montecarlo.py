"""Monte Carlo projections of a virtual patient: primary and scattered photons in every energy window, with errors.

Histories (photons/histories.py) are traced in batches; each batch's births and interactions are detected in all views
by forced detection (photons/detection.py). Batches are independent of each other, and their spread gives the
statistical error. Random numbers belong to blocks of histories and sums run in a fixed order, so a result depends on
the seed alone, not on the number of threads.

Assumes: parallel holes whose response depends on distance alone; a crystal that absorbs a photon wholly or not at all;
no photons from beside the head's grid. Photons above 400 keV (I-123) are not transported: see penetration.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spectac.recon import geometry
from spectac.recon.device import cpu_threads
from spectac.recon.errors import InputError
from spectac.recon.kernels.subnormal import flushing_threads, subnormals_are_zero
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.system import view_weights_s
from spectac.recon.types import Acquisition, Array, EnergyWindow, Grid
from spectac.simulate.head import Head
from spectac.simulate.photons.cross_sections import CrossSections, cross_sections
from spectac.simulate.photons.detection import ORDER_CLASSES, RESPONSE_STEP_KEV, blurred, detect, shield, view_frame
from spectac.simulate.photons.histories import Body, Source, trace
from spectac.simulate.scanner import Scanner

BLOCK = 8192
"""Histories that share a stream of random numbers."""

SHIELD_MM = 2.0
"""Least voxels in which the head's mass is summed towards the detector; histories themselves run in the head's own.
With 4 mm a uniform cylinder's primary is 1.1 % high, because its edges are blurred; with 2 mm it is right to 0.1 %."""

HIGHEST_KEV = 400.0
MOST_ORDERS = 8


@dataclass(frozen=True, eq=False)
class MonteCarlo:
    """Expected counts by Monte Carlo: w windows, v views.

    `orders` (c, w, v, z, u): births (the primary), first, second and all further scatter; `scatter_error` (w, v, z, u)
    the standard error of the scatter's sum over orders, NaN for a single batch; `balance_kev` what photons were born
    with, left in the head, carried out, and had when they were dropped (see photons/histories.py).
    """

    orders: Array
    scatter_error: Array
    balance_kev: Array
    histories: int

    @property
    def primary(self) -> Array:
        """Unscattered photons (w, v, z, u)."""
        return self.orders[0]

    @property
    def scatter(self) -> Array:
        """Scattered photons (w, v, z, u), all orders."""
        return np.asarray(self.orders[1:].sum(axis=0))


def simulate(
    head: Head,
    kbq_per_ml: Array,
    scanner: Scanner,
    acquisition: Acquisition,
    windows: tuple[EnergyWindow, ...],
    *,
    histories: int,
    seed: int | np.random.SeedSequence,
    batches: int = 10,
    births: bool = True,
    threads: int | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> MonteCarlo:
    """Expected counts of an activity (z, y, x) in kBq/mL at the acquisition's start, by that many photon histories.

    Without `births` the primary is left at 0, which saves a quarter of the time. `on_batch(done, batches)` is called
    after every batch and may raise to stop.
    Raises InputError where the activity does not fit the head, holds nothing, or the histories do not fill the batches.
    """
    if kbq_per_ml.shape != head.grid.shape:
        raise InputError(f"the activity needs the head's shape {head.grid.shape}, got {kbq_per_ml.shape}")
    if not (np.isfinite(kbq_per_ml).all() and kbq_per_ml.min() >= 0 and kbq_per_ml.any()):
        raise InputError("the activity must be finite, not negative, and positive somewhere")
    if not 1 <= batches <= histories:
        raise InputError(f"{histories} histories cannot be split into {batches} batches of at least one")
    workers = cpu_threads() if threads is None else threads
    run = _Run(head, kbq_per_ml, scanner, acquisition, windows, workers, births)
    # A copy: spawning changes a SeedSequence, and the same one must give the same result again.
    if isinstance(seed, np.random.SeedSequence):
        fresh = np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key, pool_size=seed.pool_size)
    else:
        fresh = np.random.SeedSequence(seed)
    seeds = fresh.spawn(batches)
    mean = np.zeros((ORDER_CLASSES, len(windows), *acquisition.shape), np.float32)
    scatter = np.zeros((len(windows), *acquisition.shape), np.float32)
    squares = np.zeros_like(scatter)
    balance = np.zeros(4)
    size = histories // batches
    for done, own_seed in enumerate(seeds, start=1):
        counts, energies = run.batch(own_seed, size)
        balance += energies
        # Running mean and sum of squared deviations (Welford, Technometrics 1962;4:419-420): squares of the counts
        # themselves would leave nothing of a spread below 0.1 % in float32.
        with subnormals_are_zero():
            scattered = counts[1:].sum(axis=0)
            change = scattered - scatter
            scatter += change / done
            squares += change * (scattered - scatter)
            mean += (counts - mean) / done
        if on_batch is not None:
            on_batch(done, batches)
    error = np.sqrt(squares / (batches * (batches - 1))) if batches > 1 else np.full_like(scatter, np.nan)
    return MonteCarlo(mean, error, balance, size * batches)


class _Run:
    """What all batches share."""

    def __init__(
        self,
        head: Head,
        kbq_per_ml: Array,
        scanner: Scanner,
        acquisition: Acquisition,
        windows: tuple[EnergyWindow, ...],
        threads: int,
        births: bool,
    ) -> None:
        isotope = nuclide_by_name(acquisition.nuclide)
        # A line a tenth below every window is not counted in any.
        counted_kev = 0.9 * min(window.lower_kev for window in windows)
        others = [kev for kev, _ in isotope.lines[1:] if counted_kev < kev <= HIGHEST_KEV]
        if others:
            listed = ", ".join(f"{kev:g}" for kev in others)
            raise InputError(
                f"{isotope.name} has other lines ({listed} keV) that would scatter into its windows: one line is "
                "simulated; use I-123 or Tc-99m"
            )
        if acquisition.collimator is None:
            raise InputError("a simulation needs a collimator")
        self.energy_kev = isotope.main_kev
        if self.energy_kev > HIGHEST_KEV:
            raise InputError(
                f"photons of {self.energy_kev:g} keV are beyond the {HIGHEST_KEV:g} keV of this Monte Carlo"
            )
        self.acquisition, self.collimator = acquisition, acquisition.collimator
        self.threads, self.births = threads, births
        self.source = Source.of(kbq_per_ml)
        self.body = Body.of(head.grid, head.labels, head.density)
        self.tables = cross_sections(self.energy_kev)
        self.majorant = _majorant(self.body, self.tables)
        energies = np.arange(0.0, self.energy_kev + 2 * RESPONSE_STEP_KEV, RESPONSE_STEP_KEV)
        self.response = np.stack([scanner.acceptance(window, np.maximum(energies, 1.0)) for window in windows])
        # What far energies leave in a window falls below what the sums in float32 can hold.
        self.response[self.response < np.finfo(np.float32).tiny] = 0.0
        useful = np.flatnonzero(self.response.max(axis=0) > 1e-5)
        self.lowest_kev = float(energies[useful[0]])
        # cps_per_kbq refers to the scanner's own photopeak window, whatever windows are simulated.
        main = float(scanner.acceptance(scanner.windows(acquisition.nuclide)[0], self.energy_kev))
        total_kbq = float(kbq_per_ml.sum(dtype=np.float64)) * head.grid.voxel_ml
        self.scale = view_weights_s(acquisition) * scanner.cps_per_kbq(acquisition.nuclide) / main * total_kbq
        self.basis, self.basis_grid = _basis(self.body, self.tables)
        self.reach_mm, self.z_mm = _extent(head, kbq_per_ml, geometry.axis_position_mm(acquisition))
        farthest = float(acquisition.radii_mm.max()) + self.reach_mm
        widest = float(self.collimator.sigma_mm(farthest, self.energy_kev))
        pixel_z, pixel_u = acquisition.pixel_mm
        self.margin = (math.ceil(3.0 * widest / pixel_z), math.ceil(3.0 * widest / pixel_u))

    def batch(self, seed: np.random.SeedSequence, histories: int) -> tuple[Array, Array]:
        """Counts (c, w, v, z, u) of one batch scaled to the whole activity, and its energy balance."""
        starts = range(0, histories, BLOCK)
        streams = seed.spawn(len(starts))

        def block(n: int) -> tuple[Array, Array]:
            return trace(
                np.random.default_rng(streams[n]), starts[n], min(starts[n] + BLOCK, histories), histories,
                self.source, self.body, self.tables, self.majorant, self.energy_kev, self.lowest_kev, MOST_ORDERS,
            )  # fmt: skip

        counts = np.zeros((ORDER_CLASSES, self.response.shape[0], *self.acquisition.shape), np.float32)
        with flushing_threads(self.threads) as pool:
            traced = list(pool.map(block, range(len(starts))))
            events = _sorted(np.concatenate([e if self.births else e[e["order"] > 0] for e, _ in traced]))

            def view(v: int) -> None:
                frame = view_frame(self.acquisition, v, self.margin, self.reach_mm, self.z_mm)
                gathered = detect(events, frame, shield(self.basis, self.basis_grid, frame), self.tables, self.response)
                counts[:, :, v] = blurred(gathered, frame, self.collimator, self.energy_kev)
                counts[:, :, v] *= np.float32(self.scale[v] / histories)

            for _ in pool.map(view, range(self.acquisition.views)):
                pass
        return counts, np.sum([balance for _, balance in traced], axis=0)


def _sorted(events: Array) -> Array:
    """Events in the order of 8 mm cells, so that neighbours in time are neighbours in memory: a third faster."""
    key = np.zeros(events.size, np.int64)
    for axis in "zyx":
        key = 1024 * key + (events[axis] // 8.0).astype(np.int64) + 512
    return np.asarray(events[np.argsort(key, kind="stable")])


def _extent(head: Head, kbq_per_ml: Array, axis_mm: tuple[float, float, float]) -> tuple[float, tuple[float, float]]:
    """Farthest distance from the axis, and lowest and highest z, of what is denser than air or active, in mm."""
    z, y, x = head.grid.centres_mm()
    there = (head.density > 0.01) | (kbq_per_ml > 0)
    half = 0.5 * head.grid.voxel_mm[0]
    distance = np.hypot((x - axis_mm[0])[None, :], (y - axis_mm[1])[:, None])[there.any(axis=0)]
    heights = z[there.any(axis=(1, 2))]
    return float(distance.max()) + math.sqrt(2.0) * half, (float(heights.min()) - half, float(heights.max()) + half)


def _majorant(body: Body, tables: CrossSections) -> Array:
    """Largest attenuation coefficient (e,) in 1/cm of the body at each energy of the tables; in a vacuum 1e-6."""
    densest = np.zeros(tables.total.shape[0])
    np.maximum.at(densest, body.materials.ravel(), body.density.ravel())
    return np.maximum((densest[:, None] * tables.total).max(axis=0), 1e-6)


def _basis(body: Body, tables: CrossSections) -> tuple[Array, Grid]:
    """Densities (y, x, z, 2) of water and cortical bone in g/cm3, in voxels of about SHIELD_MM, and their grid."""
    factor = max(1, round(SHIELD_MM / body.grid.voxel_mm[0]))
    shares = tables.shares[body.materials].astype(np.float32) * body.density[..., None]
    padded = np.pad(shares, [(0, -size % factor) for size in body.grid.shape] + [(0, 0)])
    nz, ny, nx = (size // factor for size in padded.shape[:3])
    basis = padded.reshape(nz, factor, ny, factor, nx, factor, 2).mean(axis=(1, 3, 5))
    voxel = body.grid.voxel_mm[0] * factor
    first = body.grid.affine_lps[:3, 3] + 0.5 * (factor - 1) * body.grid.voxel_mm[0]
    return np.ascontiguousarray(basis.transpose(1, 2, 0, 3)), Grid.upright((nz, ny, nx), (voxel,) * 3, first)
