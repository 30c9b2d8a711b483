"""A virtual patient in front of a camera: expected counts in every window, then a study with Poisson noise.

Two ways to the expected counts. The fast one projects the primary with recon's system model on pixels finer than the
camera's, and takes the scatter from a short Monte Carlo: no bias, and noise of 9 to 17 % of the counts' own in a bin
(3 million counts), 18 to 34 % in a preview image, for one history serves all views. The full Monte Carlo takes
everything from photon histories; with the projector that later reconstructs it shares the angles, the collimator's
width and the view times, but neither attenuation nor sums.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from spectac.recon import geometry
from spectac.recon.errors import InputError
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.photons.montecarlo import MonteCarloRun, photon_counts
from spectac.recon.photons.penetration import high_energy_counts, high_energy_kev
from spectac.recon.resample import rebin, resample
from spectac.recon.system import SystemModel, view_weights_s
from spectac.recon.types import Acquisition, Array, EnergyWindow, Image, MuMap, Study
from spectac.simulate.head import Head
from spectac.simulate.regions import LABEL
from spectac.simulate.scanner import Scanner
from spectac.simulate.uptake import Uptake

FINE_MM = 2.5
"""The fast way's primary is projected with pixels of at most this size."""

BESIDE_MM = 20.0
"""How far beside the detector's field activity is projected, because it is blurred in: 3 sigma and more."""

FAST_HISTORIES = 200_000
"""Histories of the fast way's scatter."""

FULL_HISTORIES = 4_000_000
"""Histories of the full Monte Carlo."""


@dataclass(frozen=True, eq=False)
class Patient:
    """A virtual patient.

    Parameters
    ----------
    head
        Labels, densities and attenuation.
    uptake
        Activity on the head's grid.

    Examples
    --------
    >>> from spectac.simulate.head import draw_head
    >>> from spectac.simulate.uptake import draw_uptake
    >>> head = draw_head(np.random.default_rng(7), voxel_mm=4.0)
    >>> Patient(head, draw_uptake("dat", head, np.random.default_rng(8))).uptake.tracer
    'dat'
    """

    head: Head
    uptake: Uptake


@dataclass(frozen=True, eq=False)
class Expected:
    """Expected counts of a patient, before noise: w windows, v views.

    Parameters
    ----------
    acquisition, windows
        Views and energy windows.
    primary, scatter, high_energy
        (w, v, z, u) counts of unscattered photons, of scattered ones, and of photons above 400 keV.
    cps_per_kbq
        Calibration: an image in cps/mL divided by it is in kBq/mL.
    scatter_error
        (w, v, z, u) standard error of a full Monte Carlo's scatter, None otherwise.
    described
        How the counts were made, for people.
    """

    acquisition: Acquisition
    windows: tuple[EnergyWindow, ...]
    primary: Array
    scatter: Array
    high_energy: Array
    cps_per_kbq: float
    scatter_error: Array | None = None
    described: str = ""

    @property
    def counts(self) -> Array:
        """Sum (w, v, z, u) of all contributions."""
        return np.asarray(self.primary + self.scatter + self.high_energy)

    def with_counts(self, counts: float) -> "Expected":
        """The same with view times such that the photopeak window holds that many counts, decay during them included.

        Parameters
        ----------
        counts
            Wanted sum of the photopeak window over all views.

        Raises
        ------
        InputError
            For a number that is not above 0, and for one that the nuclide does not last for.
        """
        if not (math.isfinite(counts) and counts > 0):
            raise InputError(f"the number of counts must be above 0, not {counts:g}")
        rates = self.counts[0].sum(axis=(1, 2), dtype=np.float64) / view_weights_s(self.acquisition)
        # Decay makes longer views less than proportional: steps that would be exact without it come closer each time.
        longer, reached = self.acquisition, float(rates @ view_weights_s(self.acquisition))
        for _ in range(100):
            if abs(reached - counts) <= 1e-6 * counts:
                break
            factor = min(counts / reached, 100.0)
            start_s = np.asarray(longer.view_start_s) * factor
            longer = replace(longer, view_seconds=longer.view_seconds * factor, view_start_s=start_s)
            reached = float(rates @ view_weights_s(longer))
        else:
            raise InputError(
                f"{counts:g} counts need views so long that the activity decays before: "
                f"at most {reached:.3g} can be had; ask for fewer, or a more sensitive collimator"
            )
        change = (view_weights_s(longer) / view_weights_s(self.acquisition)).astype(np.float32)[:, None, None]
        parts = {name: getattr(self, name) * change for name in ("primary", "scatter", "high_energy")}
        error = None if self.scatter_error is None else self.scatter_error * change
        return replace(self, acquisition=longer, scatter_error=error, **parts)

    def study(self, rng: np.random.Generator, *, patient: dict[str, str] | None = None) -> Study:
        """Study with Poisson noise.

        Parameters
        ----------
        rng
            Generator of the noise.
        patient
            DICOM keywords and their text; None for a virtual name.
        """
        noisy = rng.poisson(self.counts.astype(np.float64)).astype(np.float32)
        return Study(
            self.acquisition,
            self.windows,
            noisy,
            patient={"PatientName": "Head^Virtual", "PatientID": "SPECTAC-VIRTUAL"} if patient is None else patient,
            history=(f"simulated: {self.described}",),
        )


def expected_counts(
    patient: Patient,
    scanner: Scanner,
    seed: int | np.random.SeedSequence,
    *,
    full: bool = False,
    histories: int | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> Expected:
    """Expected counts of a patient on a scanner, by the fast way or by the full Monte Carlo.

    Parameters
    ----------
    patient
        Head and uptake.
    scanner
        Camera and protocol.
    seed
        Seed of the Monte Carlo.
    full
        The primary by Monte Carlo too, with statistical errors.
    histories
        Photon histories; None for FAST_HISTORIES or FULL_HISTORIES.
    on_batch
        Called as on_batch(done, batches) during the Monte Carlo; may raise to stop.

    Returns
    -------
    Expected
        Counts of every window before noise, for the scanner's view times.

    Raises
    ------
    InputError
        Where the orbit hits the head or the activity is empty.

    Examples
    --------
    >>> from spectac.simulate.head import draw_head
    >>> from spectac.simulate.uptake import draw_uptake
    >>> head = draw_head(np.random.default_rng(7), voxel_mm=4.0)
    >>> patient = Patient(head, draw_uptake("dat", head, np.random.default_rng(8)))
    >>> scanner = Scanner("mine", "ge-lehr", views=4, matrix=(24, 24), pixel_mm=12.0).around(head)
    >>> expected = expected_counts(patient, scanner, seed=1, histories=1000)
    >>> expected.study(np.random.default_rng(2)).counts.shape
    (3, 4, 24, 24)
    """
    head, uptake = patient.head, patient.uptake
    acquisition = scanner.acquisition(uptake.nuclide, head)
    camera = scanner.camera(acquisition)
    chosen = histories if histories is not None else FULL_HISTORIES if full else FAST_HISTORIES
    run = MonteCarloRun(chosen, seed, batches=10 if full else 1, births=full, on_batch=on_batch)
    result = photon_counts(head.body, uptake.kbq_per_ml, camera, run)
    cps = Image(uptake.kbq_per_ml * np.float32(camera.cps_per_unit), head.grid, "cps/mL")
    way = "Monte Carlo" if full else "projected primary, Monte Carlo scatter"
    return Expected(
        acquisition,
        camera.windows,
        result.primary if full else projected_primary(head, cps, scanner, acquisition, camera.windows),
        result.scatter,
        _high_energy(head, cps, scanner, acquisition, camera.windows),
        camera.cps_per_unit,
        result.scatter_error if full else None,
        f"{way}, {chosen} histories, {uptake.tracer}, {uptake.nuclide}, {scanner.name}",
    )


def _high_energy(
    head: Head, cps: Image, scanner: Scanner, acquisition: Acquisition, windows: tuple[EnergyWindow, ...]
) -> Array:
    """Counts (w, v, z, u) of photons above 400 keV; zeros for nuclides without them and where the scanner has none."""
    kev = high_energy_kev(acquisition.nuclide)
    if kev is None or scanner.high_energy_share == 0:
        return np.zeros((len(windows), *acquisition.shape), np.float32)
    return high_energy_counts(cps, head.mu(kev), scanner.high_energy_share, acquisition, windows)


def projected_primary(
    head: Head, cps: Image, scanner: Scanner, acquisition: Acquisition, windows: tuple[EnergyWindow, ...]
) -> Array:
    """Primary counts (w, v, z, u) by recon's system model on finer pixels, summed to the camera's.

    Other windows than the photopeak get the main line's share that the energy resolution puts there. Oblique rays of a
    fan beam have a longer way through the crystal.

    Parameters
    ----------
    head
        Attenuation, and what lies beside the activity.
    cps
        Activity on the head's grid in photopeak counts per second and mL.
    scanner
        Crystal and energy resolution.
    acquisition
        Views and detector.
    windows
        Energy windows, the photopeak first.

    Returns
    -------
    Array
        Counts (w, v, z, u).

    Raises
    ------
    InputError
        Where the activity lies above or below the camera's field.
    """
    factors = tuple(max(1, math.ceil(mm / FINE_MM)) for mm in geometry.object_pixel_mm(acquisition))
    low, high, half = _seen(head, cps, acquisition)
    rows, columns = acquisition.matrix
    fine = _finer(acquisition, factors, low, high, half)
    grid = geometry.default_grid(fine)
    energy_kev = nuclide_by_name(acquisition.nuclide).main_kev
    mu = head.mu(energy_kev)
    through = MuMap(resample(mu.per_cm, mu.grid, grid), grid, energy_kev)
    system = SystemModel(fine, grid, mu=through)
    part = rebin(system.forward(resample(cps.values, cps.grid, grid)), *factors)
    peak = np.zeros(acquisition.shape, np.float32)
    first = max(columns // 2 - half, 0)
    beside = first - (columns // 2 - half)
    width = min(columns - first, part.shape[2] - beside)
    on_rows = slice(max(low, 0), min(high, rows))
    peak[:, on_rows, first : first + width] = part[:, on_rows.start - low : on_rows.stop - low, beside : beside + width]
    if acquisition.foci:
        depth, (cosine, _) = scanner.crystal.mean_free_paths(energy_kev), geometry.ray_tables(acquisition)
        peak *= (np.expm1(-depth / cosine) / np.expm1(-depth)).astype(np.float32)[:, None]
    accepted = np.array([float(scanner.crystal.acceptance(window, energy_kev)) for window in windows])
    shares = (accepted / accepted[0]).astype(np.float32)
    return np.asarray(shares[:, None, None, None] * peak)


def _seen(head: Head, cps: Image, acquisition: Acquisition) -> tuple[int, int, int]:
    """Rows low <= row < high, and columns to either side of the matrix's middle, that hold activity, its blur or head.

    Rows end BESIDE_MM beside the matrix. Columns do not, for what lies beside the matrix in one view lies behind it in
    another. They reach to the edge of the head and its holder, for these attenuate without having any activity.
    Those of a fan beam end as far beside the matrix, for its grid reaches to the orbit.
    """
    z, y, x = cps.grid.centres_mm()
    active = cps.values > 0
    x0, y0, z0 = geometry.axis_position_mm(acquisition)
    heights = z[active.any(axis=(1, 2))] - z0
    across = active.any(axis=0)
    distance = np.hypot((x - x0)[None, :], (y - y0)[:, None]) + cps.grid.voxel_mm[0]
    solid = (head.labels != LABEL["outside"]).any(axis=0)
    pixel_z, pixel_u = acquisition.pixel_mm
    rows = acquisition.matrix[0]
    low = max(math.floor((heights.min() - BESIDE_MM) / pixel_z), -math.ceil(BESIDE_MM / pixel_z))
    high = min(math.ceil((heights.max() + BESIDE_MM) / pixel_z) + 1, rows + math.ceil(BESIDE_MM / pixel_z))
    if high <= low:
        raise InputError("the activity lies above or below the camera's field: move the table")
    shift = float(np.abs(np.asarray(acquisition.u_offset_mm)).max())
    reach = max(float(distance[across].max()) + BESIDE_MM, float(distance[solid].max(initial=0.0)))
    half = math.ceil((reach + shift) / pixel_u)
    if acquisition.foci:
        half = math.ceil(0.5 * acquisition.matrix[1] + BESIDE_MM / geometry.object_pixel_mm(acquisition)[1])
    return low, high, half


def _finer(acquisition: Acquisition, factors: tuple[int, ...], low: int, high: int, half: int) -> Acquisition:
    """Rows low <= row < high and `half` columns to either side, each pixel divided by factors (z, u).

    An odd matrix keeps its middle column: the part then has one column more on the right.
    """
    pixel_z, pixel_u = (length / factor for length, factor in zip(acquisition.pixel_mm, factors, strict=True))
    x, y, z = geometry.axis_position_mm(acquisition)
    return replace(
        acquisition,
        matrix=((high - low) * factors[0], (2 * half + acquisition.matrix[1] % 2) * factors[1]),
        pixel_mm=(pixel_z, pixel_u),
        axis_lps_mm=(x, y, z + low * acquisition.pixel_mm[0] - 0.5 * (factors[0] - 1) * pixel_z),
    )
