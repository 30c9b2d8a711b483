"""Expected counts of primary and scattered photons in every view and energy window, with their statistical error.

Histories (transport.py) are traced in batches; each batch's births and interactions are detected in all views by
forced detection (forced_detection.py). Batches are independent of each other, and their spread gives the error. Random
numbers belong to blocks of histories and sums run in a fixed order, so a result depends on the seed alone, not on the
number of threads.

Assumes: parallel or fan-beam holes whose response depends on distance alone, but for the sensitivity of a fan's oblique
rays; a crystal that absorbs a photon wholly or not at all, in its plane of interaction; no photons from beside the
body's grid. Photons above 400 keV (I-123) are not transported: see penetration.py.
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
from spectac.recon.photons.cross_sections import CrossSections, cross_sections
from spectac.recon.photons.detector import Crystal
from spectac.recon.photons.forced_detection import (
    ORDER_CLASSES,
    blurred,
    detect,
    energy_response,
    shield,
    view_frame,
)
from spectac.recon.photons.penetration import TRANSPORTED_KEV
from spectac.recon.photons.transport import Block, Body, Limits, Source, trace
from spectac.recon.system import view_weights_s
from spectac.recon.types import Acquisition, Array, EnergyWindow, Grid

BLOCK = 8192
"""Histories that share a stream of random numbers."""

SHIELD_MM = 2.0
"""Least voxels in which the body's mass is summed towards the detector; histories run in the body's own voxels.
With 4 mm a uniform cylinder's primary is 1.1 % high, because its edges are blurred; with 2 mm it is right to 0.1 %."""

MOST_ORDERS = 8
"""Interactions after which a history ends."""


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera with its protocol and calibration.

    Parameters
    ----------
    acquisition
        Views, detector, nuclide and collimator.
    windows
        (w) energy windows to count in.
    crystal
        Crystal and energy resolution.
    photopeak
        Window that `cps_per_unit` refers to; it need not be among `windows`.
    cps_per_unit
        Counts per second in one view's photopeak window that one unit of activity (activity per mL times mL) gives in
        air: 1 for an image in cps/mL.

    Examples
    --------
    >>> acquisition = Acquisition([0, 90], [150, 150], (8, 8), (4, 4), [20, 20], "Tc-99m", None)
    >>> peak = EnergyWindow("photopeak", 126.5, 154.5)
    >>> Camera(acquisition, (peak,), Crystal(), peak).line_kev()
    140.511
    """

    acquisition: Acquisition
    windows: tuple[EnergyWindow, ...]
    crystal: Crystal
    photopeak: EnergyWindow
    cps_per_unit: float = 1.0

    def line_kev(self) -> float:
        """Energy in keV of the nuclide's line that is transported.

        Raises InputError where another line would scatter into the windows, or the main one is above 400 keV.
        """
        isotope = nuclide_by_name(self.acquisition.nuclide)
        # A line a tenth below every window is not counted in any.
        counted_kev = 0.9 * min(window.lower_kev for window in self.windows)
        others = [kev for kev, _ in isotope.lines[1:] if counted_kev < kev <= TRANSPORTED_KEV]
        if others:
            listed = ", ".join(f"{kev:g}" for kev in others)
            raise InputError(
                f"{isotope.name} has other lines ({listed} keV) that would scatter into its windows: one line is "
                "simulated; use I-123 or Tc-99m"
            )
        if isotope.main_kev > TRANSPORTED_KEV:
            raise InputError(
                f"photons of {isotope.main_kev:g} keV are beyond the {TRANSPORTED_KEV:g} keV of this Monte Carlo"
            )
        return isotope.main_kev


@dataclass(frozen=True)
class MonteCarloRun:
    """How many histories are traced, and how.

    Parameters
    ----------
    histories
        Number of photon histories.
    seed
        Seed of all random numbers.
    batches
        Independent parts of the histories; their spread is the error. What does not fill a batch is left out.
    births
        False leaves the primary at 0, which saves a quarter of the time.
    orders
        Interactions after which a history ends.
    threads
        Threads; None for one a core. The result does not depend on it.
    on_batch
        Called as on_batch(done, batches) after every batch; may raise to stop.

    Raises
    ------
    InputError
        Where the histories do not fill the batches.

    Examples
    --------
    >>> MonteCarloRun(histories=200_000, seed=1, batches=1).births
    True
    """

    histories: int
    seed: int | np.random.SeedSequence
    batches: int = 10
    births: bool = True
    orders: int = MOST_ORDERS
    threads: int | None = None
    on_batch: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.batches <= self.histories:
            raise InputError(f"{self.histories} histories cannot be split into {self.batches} batches of at least one")

    def batch_seeds(self) -> list[np.random.SeedSequence]:
        """One seed for each batch, the same at every call: spawning changes a SeedSequence, so a copy is used."""
        seed = self.seed if isinstance(self.seed, np.random.SeedSequence) else np.random.SeedSequence(self.seed)
        copy = np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key, pool_size=seed.pool_size)
        return copy.spawn(self.batches)


@dataclass(frozen=True, eq=False)
class PhotonCounts:
    """Expected counts by Monte Carlo: w windows, v views.

    Parameters
    ----------
    orders
        (c, w, v, z, u): births (the primary), first, second and all further scatter.
    scatter_error
        (w, v, z, u) standard error of the scatter's sum over orders, NaN for a single batch.
    balance_kev
        (4,) energy that photons were born with, left in the body, carried out, and had when they were dropped.
    histories
        Number of histories traced.
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


def photon_counts(body: Body, activity: Array, camera: Camera, run: MonteCarloRun) -> PhotonCounts:
    """Expected counts of an activity in a body on a camera, by Monte Carlo.

    Parameters
    ----------
    body
        Materials and densities.
    activity
        (z, y, x) activity per mL at the acquisition's start on the body's grid, in any unit: see
        `Camera.cps_per_unit`.
    camera
        Acquisition, windows, crystal and calibration.
    run
        Number of histories and seed.

    Returns
    -------
    PhotonCounts
        Expected counts by order of scatter, the scatter's error, and the energy balance.

    Raises
    ------
    InputError
        Where the activity does not fit the body or holds nothing, without a collimator, and for nuclides whose other
        lines would scatter into the windows.

    References
    ----------
    B. P. Welford, Technometrics 1962;4:419-420 (running mean and spread of the batches).

    Examples
    --------
    A ball of water of 4 mm voxels that holds 1 count per second and mL:

    >>> from spectac.recon import COLLIMATORS
    >>> from spectac.recon.tissues import INDEX
    >>> grid = Grid.upright((16, 16, 16), (4.0, 4.0, 4.0), (-30.0, -30.0, -30.0))
    >>> water = Body(grid, np.full(grid.shape, INDEX["water"]), np.ones(grid.shape))
    >>> acquisition = Acquisition(
    ...     view_angles_deg=np.array([0.0, 90.0]), radii_mm=np.full(2, 100.0), matrix=(16, 16), pixel_mm=(8.0, 8.0),
    ...     view_seconds=np.full(2, 10.0), nuclide="Tc-99m", collimator=COLLIMATORS["siemens-lehr"],
    ...     axis_lps_mm=(0.0, 0.0, -60.0))
    >>> peak = EnergyWindow("photopeak", 126.5, 154.5)
    >>> camera = Camera(acquisition, (peak,), Crystal(), peak)
    >>> counts = photon_counts(water, np.ones(grid.shape), camera, MonteCarloRun(2000, seed=1, batches=2))
    >>> counts.scatter.shape
    (1, 2, 16, 16)
    """
    if activity.shape != body.grid.shape:
        raise InputError(f"the activity needs the shape of the body's grid {body.grid.shape}, got {activity.shape}")
    if not (np.isfinite(activity).all() and activity.min() >= 0 and activity.any()):
        raise InputError("the activity must be finite, not negative, and positive somewhere")
    prepared = _Prepared(body, activity, camera, run)
    mean = np.zeros((ORDER_CLASSES, len(camera.windows), *camera.acquisition.shape), np.float32)
    scatter = np.zeros(mean.shape[1:], np.float32)
    squares = np.zeros_like(scatter)
    balance = np.zeros(4)
    for done, seed in enumerate(run.batch_seeds(), start=1):
        counts, energies = prepared.batch(seed)
        balance += energies
        # Squares of the counts themselves would leave nothing of a spread below 0.1 % in float32: Welford's sums.
        with subnormals_are_zero():
            scattered = counts[1:].sum(axis=0)
            change = scattered - scatter
            scatter += change / done
            squares += change * (scattered - scatter)
            mean += (counts - mean) / done
        if run.on_batch is not None:
            run.on_batch(done, run.batches)
    batches = run.batches
    error = np.sqrt(squares / (batches * (batches - 1))) if batches > 1 else np.full_like(scatter, np.nan)
    return PhotonCounts(mean, error, balance, run.histories // batches * batches)


class _Prepared:
    """Everything that the batches of a run share."""

    def __init__(self, body: Body, activity: Array, camera: Camera, run: MonteCarloRun) -> None:
        self.energy_kev = camera.line_kev()
        self.acquisition = acquisition = camera.acquisition
        if acquisition.collimator is None:
            raise InputError("a simulation needs a collimator")
        self.collimator, self.run = acquisition.collimator, run
        self.threads = cpu_threads() if run.threads is None else run.threads
        self.histories = run.histories // run.batches
        self.source = Source.of(activity)
        self.tables = cross_sections(self.energy_kev)
        self.medium = body.medium(self.tables)
        self.response = energy_response(camera.crystal, camera.windows, self.energy_kev)
        main = float(camera.crystal.acceptance(camera.photopeak, self.energy_kev))
        total = float(activity.sum(dtype=np.float64)) * body.grid.voxel_ml
        self.scale = view_weights_s(acquisition) * camera.cps_per_unit / main * total
        self.basis, self.basis_grid = water_and_bone(body, self.tables)
        self.reach_mm, self.z_mm = _extent(body, activity, geometry.axis_position_mm(acquisition))
        farthest = float(acquisition.radii_mm.max()) + self.reach_mm
        axial = transaxial = float(self.collimator.sigma_mm(farthest, self.energy_kev))
        lines = geometry.focal_lines(acquisition)
        if lines is not None:
            face = float(lines.face_mm.min())
            farthest = min(farthest, (1.0 - geometry.NEAREST_TO_FOCUS) * face)
            transaxial = float(self.collimator.sigma_mm(farthest, self.energy_kev, focus_mm=face))
        pixel_z, pixel_u = acquisition.pixel_mm
        self.margin = (math.ceil(3.0 * axial / pixel_z), math.ceil(3.0 * transaxial / pixel_u))

    def batch(self, seed: np.random.SeedSequence) -> tuple[Array, Array]:
        """Counts (c, w, v, z, u) of one batch scaled to the whole activity, and its energy balance."""
        starts = range(0, self.histories, BLOCK)
        streams = seed.spawn(len(starts))
        limits = Limits(self.energy_kev, self.response.lowest_kev, self.run.orders)

        def traced(n: int) -> tuple[Array, Array]:
            block = Block(starts[n], min(starts[n] + BLOCK, self.histories), self.histories)
            events, balance = trace(
                np.random.default_rng(streams[n]), block, self.source, self.medium, self.tables, limits
            )
            return events if self.run.births else events[events["order"] > 0], balance

        windows = self.response.table.shape[1]
        counts = np.zeros((ORDER_CLASSES, windows, *self.acquisition.shape), np.float32)
        with flushing_threads(self.threads) as pool:
            blocks = list(pool.map(traced, range(len(starts))))
            events = _sorted(np.concatenate([events for events, _ in blocks]))

            def view(v: int) -> None:
                frame = view_frame(self.acquisition, v, self.margin, self.reach_mm, self.z_mm)
                cover = shield(self.basis, self.basis_grid, frame)
                gathered = detect(events, frame, cover, self.tables, self.response)
                counts[:, :, v] = blurred(gathered, frame, self.collimator, self.energy_kev)
                counts[:, :, v] *= np.float32(self.scale[v] / self.histories)

            for _ in pool.map(view, range(self.acquisition.views)):
                pass
        return counts, np.sum([balance for _, balance in blocks], axis=0)


def _sorted(events: Array) -> Array:
    """Events in the order of 8 mm cells, so that neighbours in time are neighbours in memory: a third faster."""
    key = np.zeros(events.size, np.int64)
    for axis in "zyx":
        key = 1024 * key + (events[axis] // 8.0).astype(np.int64) + 512
    return np.asarray(events[np.argsort(key, kind="stable")])


def _extent(body: Body, activity: Array, axis_mm: tuple[float, float, float]) -> tuple[float, tuple[float, float]]:
    """Farthest distance from the axis, and lowest and highest z, of what is denser than air or active, in mm."""
    z, y, x = body.grid.centres_mm()
    there = (body.density > 0.01) | (activity > 0)
    half = 0.5 * body.grid.voxel_mm[0]
    distance = np.hypot((x - axis_mm[0])[None, :], (y - axis_mm[1])[:, None])[there.any(axis=0)]
    heights = z[there.any(axis=(1, 2))]
    return float(distance.max()) + math.sqrt(2.0) * half, (float(heights.min()) - half, float(heights.max()) + half)


def water_and_bone(body: Body, tables: CrossSections) -> tuple[Array, Grid]:
    """Densities (y, x, z, 2) of water and cortical bone in g/cm3, in voxels of about SHIELD_MM, and their grid.

    Parameters
    ----------
    body
        Materials and densities.
    tables
        Cross-sections, which say how each material's attenuation is made of the two.

    Returns
    -------
    array
        float32 (y, x, z, 2) in g/cm3.
    Grid
        Grid (z, y, x) of these voxels.

    Examples
    --------
    >>> from spectac.recon.photons.cross_sections import cross_sections
    >>> from spectac.recon.tissues import INDEX
    >>> grid = Grid.upright((4, 4, 4), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> water = Body(grid, np.full(grid.shape, INDEX["water"]), np.ones(grid.shape))
    >>> (np.abs(water_and_bone(water, cross_sections(140.511))[0][0, 0, 0]).round(3)).tolist()
    [1.0, 0.0]
    """
    voxel_mm = body.grid.voxel_mm[0]
    factor = max(1, round(SHIELD_MM / voxel_mm))
    shares = tables.shares[body.materials].astype(np.float32) * body.density[..., None]
    padded = np.pad(shares, [(0, -size % factor) for size in body.grid.shape] + [(0, 0)])
    nz, ny, nx = (size // factor for size in padded.shape[:3])
    basis = padded.reshape(nz, factor, ny, factor, nx, factor, 2).mean(axis=(1, 3, 5))
    first = body.grid.affine_lps[:3, 3] + 0.5 * (factor - 1) * voxel_mm
    grid = Grid.upright((nz, ny, nx), (voxel_mm * factor,) * 3, first)
    return np.ascontiguousarray(basis.transpose(1, 2, 0, 3)), grid
