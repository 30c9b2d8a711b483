"""SystemModel: the expected projections of an image, the exact transpose, and the derivative to the mu-map."""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spectac.recon import geometry
from spectac.recon.collimator import pixel_kernel
from spectac.recon.device import cpu_threads, select_device
from spectac.recon.errors import InputError
from spectac.recon.kernels import cpu
from spectac.recon.nuclides import nuclide
from spectac.recon.types import Acquisition, Array, Grid, MuMap


def view_weights_s(acquisition: Acquisition) -> Array:
    """Weights w (v,) in seconds: the integral of exp(-lambda t) over each view, t from the start of the acquisition.

    Without decay when CorrectedImage holds DECY; all 1 when the view times are unknown (images are then "relative").
    """
    if not acquisition.times_known:
        return np.ones(acquisition.views)
    seconds = np.asarray(acquisition.view_seconds)
    if "DECY" in acquisition.corrections:
        return seconds.copy()
    rate = math.log(2.0) / nuclide(acquisition.nuclide).half_life_s
    return np.exp(-rate * np.asarray(acquisition.view_start_s)) * -np.expm1(-rate * seconds) / rate


@dataclass(frozen=True, eq=False)
class _Settings:
    """Arguments of a system that can not be read off its public attributes."""

    mu: MuMap | None
    resolution: bool
    factor_memory_bytes: int | None


@dataclass(eq=False)
class _Tables:
    """What all views share; subsets of a system refer to the same tables. `factors` are filled in once, if at all."""

    frames: geometry.CameraFrames
    starts: Array
    points: Array
    kernel_u: Array
    half_u: Array
    kernel_z: Array
    half_z: Array
    weights: Array
    mu: Array | None
    factors: tuple[Array, ...] | None
    workers: int


class SystemModel:
    """Linear model of a SPECT acquisition: p = w * voxel_mL * sum_d B_d[T_d * (R f)_d] for every view.

    R turns the grid into the camera frame by bilinear interpolation, T attenuates (half of the own voxel counted), B
    blurs by the collimator's Gaussian integrated over the pixels; see docs/physics.md. Arrays go in and come out as
    plain numpy of `dtype`: images (z, y, x) in counts per second and mL, projections (v, z, u) in counts. Results are
    stored z fastest, as the kernels want them, so feeding them back copies nothing.

    `energy_kev=None` is the nuclide's main line. Attenuation factors of all views are kept in memory when they fit into
    `factor_memory_bytes` (default: a quarter of the memory that is free), else computed again for each use.

    Assumes: parallel holes; a point response that depends on distance alone; no activity beside the detector's edge
    (its blur into the detector is left out).
    Raises InputError where grid, map and acquisition do not fit each other.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        grid: Grid,
        *,
        mu: MuMap | None = None,
        energy_kev: float | None = None,
        resolution: bool = True,
        device: str = "auto",
        dtype: str = "float32",
        factor_memory_bytes: int | None = None,
    ) -> None:
        if np.dtype(dtype) not in (np.dtype("float32"), np.dtype("float64")):
            raise InputError(f"dtype must be float32 or float64, not {dtype}")
        self.acquisition = acquisition
        self.grid = grid
        self.dtype = np.dtype(dtype)
        self.device = select_device(device)
        self.energy_kev = nuclide(acquisition.nuclide).main_kev if energy_kev is None else float(energy_kev)
        self._settings = _Settings(mu, resolution, factor_memory_bytes)
        self._twins: dict[np.dtype, SystemModel] = {}
        frames = geometry.camera_frames(acquisition, grid)
        if mu is not None:
            self._check_map(mu, frames)
        sigma_mm = self._sigma_mm(frames.distance_mm, resolution)
        kernel_z, half_z = pixel_kernel(sigma_mm, acquisition.pixel_mm[0])
        kernel_u, half_u = pixel_kernel(sigma_mm, acquisition.pixel_mm[1])
        widths = frames.last - frames.first
        starts = np.cumsum(widths, axis=1) - widths
        workers = cpu_threads()
        tables = _Tables(
            frames=frames,
            starts=starts,
            points=widths.sum(axis=1),
            kernel_u=kernel_u.astype(self.dtype),
            half_u=half_u,
            kernel_z=kernel_z.astype(self.dtype),
            half_z=half_z,
            weights=view_weights_s(acquisition) * grid.voxel_ml,
            mu=None if mu is None else np.ascontiguousarray(mu.per_cm.transpose(1, 2, 0), dtype=self.dtype),
            factors=None,
            workers=workers,
        )
        self._tables = tables
        self._views = np.arange(acquisition.views)
        self._keep_factors()

    def _keep_factors(self) -> None:
        """Compute the attenuation factors of all views where there is a map and they fit into the memory for them."""
        tables, limit = self._tables, self._settings.factor_memory_bytes
        if tables.mu is None:
            return
        needed = int(tables.points.sum()) * self.grid.shape[0] * self.dtype.itemsize
        if needed <= (_free_memory_bytes() // 4 if limit is None else limit):
            with ThreadPoolExecutor(tables.workers) as threads:
                tables.factors = tuple(threads.map(self._factors_of, range(self.acquisition.views)))

    @property
    def views(self) -> int:
        """Number of views of this system (of the subset, for a subset)."""
        return int(self._views.size)

    @property
    def view_indices(self) -> Array:
        """Indices (v,) of this system's views in the acquisition."""
        return self._views

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) of images."""
        return self.grid.shape

    @property
    def projections_shape(self) -> tuple[int, int, int]:
        """Shape (v, z, u) of projections."""
        return (self.views, *self.acquisition.matrix)

    def subset(self, views: Sequence[int] | Array) -> "SystemModel":
        """System of those views only (indices into this system's views); it shares all tables with this one."""
        chosen = np.asarray(views, dtype=np.int64)
        if chosen.ndim != 1 or chosen.size == 0 or chosen.min() < 0 or chosen.max() >= self.views:
            raise InputError(f"a subset needs view indices from 0 to {self.views - 1}, got {views}")
        part = object.__new__(SystemModel)
        part.__dict__.update(self.__dict__)
        part._views = self._views[chosen]
        return part

    def astype(self, dtype: str | np.dtype) -> "SystemModel":
        """System with the same settings and views that computes in `dtype`, its tables made in that precision.

        It is built at the first request and then kept, one for this system and all subsets made of it.
        """
        wanted = np.dtype(dtype)
        if wanted == self.dtype:
            return self
        whole = self._twins.get(wanted)
        if whole is None:
            whole = SystemModel(
                self.acquisition,
                self.grid,
                mu=self._settings.mu,
                energy_kev=self.energy_kev,
                resolution=self._settings.resolution,
                device=self.device,
                dtype=wanted.name,
                factor_memory_bytes=self._settings.factor_memory_bytes,
            )
            self._twins[wanted] = whole
        return whole.subset(self._views)

    def with_mu(self, per_cm: Array) -> "SystemModel":
        """System with another map (z, y, x) in 1/cm, kept in this system's precision; all else is shared.

        Cheaper than a new system, and a float64 system sees every bit of the map: for derivatives and training.
        Raises InputError for another shape, and for values that are negative or not finite.
        """
        volume = self._native(per_cm, self.image_shape, "mu (z, y, x)", (1, 2, 0))
        if not (np.isfinite(volume).all() and volume.min() >= 0):
            raise InputError("a mu-map must be finite and nowhere negative")
        other = object.__new__(SystemModel)
        other.__dict__.update(self.__dict__)
        other._tables = replace(self._tables, mu=volume, factors=None)
        other._settings = replace(self._settings, mu=MuMap(per_cm, self.grid, self.energy_kev))
        other._twins = {}
        other._keep_factors()
        return other

    def forward(self, image: Array) -> Array:
        """Expected counts (v, z, u) of an image (z, y, x) in counts per second and mL, without scatter."""
        volume = self._native(image, self.image_shape, "image (z, y, x)", (1, 2, 0))
        rows, columns = self.acquisition.matrix
        out = np.zeros((self.views, columns, rows), self.dtype)

        def one(n: int) -> None:
            view = int(self._views[n])
            cpu.forward_view(volume, *self._view_arguments(view), *self._kernels(view), out[n])
            out[n] *= self.dtype.type(self._tables.weights[view])

        self._run(one, range(self.views))
        return out.transpose(0, 2, 1)

    def adjoint(self, counts: Array) -> Array:
        """Transpose of `forward`: projections (v, z, u) back to an image (z, y, x)."""
        data = self._native(counts, self.projections_shape, "projections (v, z, u)", (0, 2, 1))
        nz, ny, nx = self.image_shape
        groups = min(self.views, self._tables.workers)
        sums = np.zeros((groups, ny, nx, nz), self.dtype)

        def one(group: int) -> None:
            for n in range(group, self.views, groups):
                view = int(self._views[n])
                weighted = data[n] * self.dtype.type(self._tables.weights[view])
                cpu.adjoint_view(weighted, *self._view_arguments(view), *self._kernels(view), sums[group])

        self._run(one, range(groups))
        return sums.sum(axis=0).transpose(2, 0, 1)

    def gradient_mu(self, image: Array, residual: Array) -> Array:
        """Derivative (z, y, x) of sum(residual * forward(image)) to the mu-map, per 1/cm.

        With residual = dL/dp it is the gradient of a function L of the projections. Without a map it is the derivative
        at mu = 0.
        """
        volume = self._native(image, self.image_shape, "image (z, y, x)", (1, 2, 0))
        data = self._native(residual, self.projections_shape, "residual (v, z, u)", (0, 2, 1))
        nz, ny, nx = self.image_shape
        voxel_cm = self.grid.voxel_mm[2] / 10.0
        groups = min(self.views, self._tables.workers)
        sums = np.zeros((groups, ny, nx, nz), self.dtype)

        def one(group: int) -> None:
            for n in range(group, self.views, groups):
                view = int(self._views[n])
                lattice, first, last, start, factors, attenuated = self._view_arguments(view)
                if not attenuated:
                    factors = np.ones((int(self._tables.points[view]), nz), self.dtype)
                scale = -voxel_cm * self._tables.weights[view]
                cpu.gradient_mu_view(
                    volume, data[n], lattice, first, last, start, factors, *self._kernels(view), scale, sums[group]
                )

        self._run(one, range(groups))
        return sums.sum(axis=0).transpose(2, 0, 1)

    def _run(self, work: Callable[..., None], tasks: Sequence[object] | range) -> None:
        # Threads live for one call: nothing to leak, and nothing that a fork would tear apart.
        with ThreadPoolExecutor(self._tables.workers) as threads:
            for _ in threads.map(work, tasks):
                pass

    def _native(self, array: Array, shape: tuple[int, ...], name: str, axes: tuple[int, ...]) -> Array:
        """Array checked and stored z fastest; free for arrays that came from this system."""
        if not isinstance(array, np.ndarray):
            raise InputError(f"{name} must be a numpy array for device {self.device!r}, got {type(array).__name__}")
        if array.shape != shape:
            raise InputError(f"{name} needs shape {shape}, got {array.shape}")
        return np.ascontiguousarray(array.transpose(axes), dtype=self.dtype)

    def _view_arguments(self, view: int) -> tuple[Array, Array, Array, Array, Array, bool]:
        tables = self._tables
        if tables.mu is None:
            factors = np.empty((0, 0), self.dtype)
        elif tables.factors is not None:
            factors = tables.factors[view]
        else:
            factors = self._factors_of(view)
        frames = tables.frames
        attenuated = tables.mu is not None
        return frames.lattice[view], frames.first[view], frames.last[view], tables.starts[view], factors, attenuated

    def _kernels(self, view: int) -> tuple[Array, Array, Array, Array]:
        tables = self._tables
        return tables.kernel_u[view], tables.half_u[view], tables.kernel_z[view], tables.half_z[view]

    def _factors_of(self, view: int) -> Array:
        tables, frames = self._tables, self._tables.frames
        factors = np.empty((int(tables.points[view]), self.grid.shape[0]), self.dtype)
        voxel_cm = self.grid.voxel_mm[2] / 10.0
        cpu.attenuation_paths(
            tables.mu,
            frames.lattice[view],
            frames.first[view],
            frames.last[view],
            tables.starts[view],
            voxel_cm,
            factors,
        )
        return np.exp(factors, out=factors)

    def _sigma_mm(self, distance_mm: Array, resolution: bool) -> Array:
        if not resolution:
            return np.zeros_like(distance_mm)
        if self.acquisition.collimator is None:
            raise InputError(
                "the collimator is unknown: name it with --collimator, give --psf SIGMA0_MM:SLOPE, "
                "or switch resolution recovery off with --no-resolution"
            )
        sigma_mm = np.asarray(self.acquisition.collimator.sigma_mm(distance_mm, self.energy_kev))
        widest = max(
            size * pitch for size, pitch in zip(self.acquisition.matrix, self.acquisition.pixel_mm, strict=True)
        )
        if sigma_mm.max() > widest:
            raise InputError(
                f"a blur of sigma {sigma_mm.max():.3g} mm is wider than the detector ({widest:g} mm): check --psf, "
                "the collimator and --radius-mm"
            )
        return sigma_mm

    def _check_map(self, mu: MuMap, frames: geometry.CameraFrames) -> None:
        if not mu.grid.same_as(self.grid):
            raise InputError(
                f"the mu-map's grid {mu.grid.shape} is not the system's {self.grid.shape} or lies elsewhere: "
                "resample it with spectac.recon.resample"
            )
        if abs(mu.energy_kev - self.energy_kev) > 1.0:
            raise InputError(
                f"the mu-map is at {mu.energy_kev:g} keV but the photopeak of {self.acquisition.nuclide} is "
                f"{self.energy_kev:g} keV: give a map at that energy"
            )
        check_radius(self.acquisition, self.grid, mu.per_cm > 0.05, "the mu-map")


def check_radius(acquisition: Acquisition, grid: Grid, inside: Array, what: str) -> None:
    """Raise InputError where a mask (z, y, x) reaches more than a voxel through the collimator face of some view."""
    _, y, x = grid.centres_mm()
    iy, ix = np.nonzero(inside.any(axis=0))
    if iy.size == 0:
        return
    axis = geometry.axis_position_mm(acquisition)
    points = np.stack([x[ix] - axis[0], y[iy] - axis[1]])
    reach = (geometry.view_normals(acquisition.view_angles_deg) @ points).max(axis=1)
    excess = reach - np.asarray(acquisition.radii_mm)
    worst = int(np.argmax(excess))
    if excess[worst] > grid.voxel_mm[2]:
        raise InputError(
            f"the collimator face of view {worst} lies {acquisition.radii_mm[worst]:g} mm from the axis, but {what} "
            f"reaches {reach[worst]:.0f} mm towards it: check the radius (--radius-mm) and the map's position"
        )


def _free_memory_bytes() -> int:
    """Memory that can be taken without swapping, where the system tells; else 2 GiB."""
    try:
        # Linux counts the memory that its file cache would give back; sysconf does not.
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 2 << 30
