"""The projector on the CPU: numba loops, one view at a time in every thread."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np

from spectac.recon.device import cpu_threads
from spectac.recon.kernels import cpu_loops
from spectac.recon.kernels.subnormal import FAINT, flushing_threads, subnormals_are_zero
from spectac.recon.kernels.view_tables import ViewTables
from spectac.recon.types import Array

_T = TypeVar("_T")


class CpuProjector:
    """Forward projection, its transpose and the derivative to mu of chosen views, on numpy arrays of one dtype.

    Images are (y, x, z), projections (n, u, z) of the n `views` asked for. `factors` are the attenuation factors that
    are kept, None where there are none.

    Parameters
    ----------
    tables
        Lattice and blur of every view.
    dtype
        float32 or float64.
    factor_memory_bytes
        Memory in which the attenuation factors of all views are kept; None: a quarter of the free memory.
    """

    xp: ModuleType = np

    def __init__(self, tables: ViewTables, dtype: np.dtype, factor_memory_bytes: int | None) -> None:
        self.tables, self._dtype, self._factor_memory_bytes = tables, dtype, factor_memory_bytes
        self._inside = tables.inside.astype(dtype)
        self._pixels = np.flatnonzero(tables.inside)
        self._kernel_u, self._kernel_z = tables.kernel_u.astype(dtype), tables.kernel_z.astype(dtype)
        self._workers = cpu_threads()
        self.mu: Array | None = None
        self.factors: list[Array] | None = None

    def put(self, array: Array) -> Array:
        """The array itself."""
        return array

    def get(self, array: Array) -> Array:
        """The array itself."""
        return array

    @subnormals_are_zero()
    def contiguous(self, array: Array) -> Array:
        """Array in C order and this precision; copied where it is not."""
        return np.ascontiguousarray(array, dtype=self._dtype)

    def with_mu(self, per_cm: Array) -> "CpuProjector":
        """The same projector through another map (y, x, z) in 1/cm."""
        other = copy(self)
        other.mu = self.contiguous(per_cm)
        needed = int(self.tables.points.sum()) * self.tables.shape[0] * self._dtype.itemsize
        limit = free_memory_bytes() // 4 if self._factor_memory_bytes is None else self._factor_memory_bytes
        other.factors = other._run(other._factors_of, range(self.tables.points.size)) if needed <= limit else None
        return other

    def forward(self, image: Array, views: Array) -> Array:
        """Expected counts (n, u, z)."""
        tables = self.tables
        out = np.empty((views.size, tables.matrix[1], tables.matrix[0]), self._dtype)

        def one(n: int) -> None:
            cpu_loops.forward_view(image, *self._arguments(int(views[n])), tables.weights[views[n]], out[n])

        self._run(one, range(views.size))
        return out

    def adjoint(self, counts: Array, views: Array) -> Array:
        """Transpose of `forward`: an image."""

        def one(n: int, image: Array) -> None:
            view = int(views[n])
            cpu_loops.adjoint_view(counts[n], *self._arguments(view), self.tables.weights[view], image)

        return self._summed(one, views.size)

    def gradient_mu(self, image: Array, residual: Array, views: Array) -> Array:
        """Derivative (y, x, z) of sum(residual * forward(image)) to mu, per 1/cm."""
        tables = self.tables

        def one(n: int, gradient: Array) -> None:
            view = int(views[n])
            inside, rows, rays, gain, first, last, start, factors, attenuated, *kernels = self._arguments(view)
            if not attenuated:
                factors = np.ones((int(tables.points[view]), tables.shape[0]), self._dtype)
            cpu_loops.gradient_mu_view(
                image, residual[n], inside, rows, rays, gain, tables.step_cm[view], first, last, start, factors,
                *kernels, tables.weights[view], gradient,
            )  # fmt: skip

        return self._summed(one, views.size)

    def em_backprojection(
        self, image: Array, measured: Array, scatter: Array | None, views: Array
    ) -> tuple[Array, Array]:
        """A^T(measured / (A image + scatter)), and the counts () measured where that expectation is 0."""
        lost = np.zeros(views.size)

        def one(n: int, backprojected: Array) -> None:
            arguments, weight = self._arguments(int(views[n])), self.tables.weights[views[n]]
            expected = np.empty_like(measured[n])
            cpu_loops.forward_view(image, *arguments, weight, expected)
            if scatter is not None:
                expected += scatter[n]
            lost[n] = cpu_loops.divide(measured[n], expected)
            cpu_loops.adjoint_view(expected, *arguments, weight, backprojected)

        return self._summed(one, views.size), lost.sum()

    def em_update(self, image: Array, backprojected: Array, inverse: Array) -> None:
        """Multiply an image in place by backprojected * inverse where inverse is positive; what is FAINT becomes 0."""
        faint = image.dtype.type(FAINT) * image.max()
        rows = [array.reshape(-1, image.shape[2]) for array in (image, backprojected, inverse)]
        self._by_pixels(lambda pixels: cpu_loops.em_update_pixels(*rows, faint, pixels))

    def _summed(self, add: Callable[[int, Array], None], views: int) -> Array:
        """Sum of images to which `add` adds a view, one image for every thread."""
        groups = min(views, self._workers)
        nz, ny, nx = self.tables.shape
        # One array each, so that the result does not keep the others alive.
        sums = [np.zeros((ny, nx, nz), self._dtype) for _ in range(groups)]

        def one(group: int) -> None:
            for n in range(group, views, groups):
                add(n, sums[group])

        self._run(one, range(groups))
        total, *others = (one.reshape(ny * nx, nz) for one in sums)

        def add_all(pixels: Array) -> None:
            for other in others:
                cpu_loops.add_pixels(total, other, pixels)

        self._by_pixels(add_all)
        return sums[0]

    def _by_pixels(self, work: Callable[[Array], None]) -> None:
        """Work on the pixels that count, a share of them in every thread."""
        shares = np.array_split(self._pixels, self._workers)
        self._run(lambda k: work(shares[k]), range(self._workers))

    def _run(self, work: Callable[[int], _T], tasks: range) -> list[_T]:
        return list(_threads(os.getpid(), self._workers).map(work, tasks))

    def _arguments(self, view: int) -> tuple:
        """Lattice, columns, factors and blur of a view, as the kernels take them."""
        tables, frames = self.tables, self.tables.frames
        if self.mu is None:
            factors = np.empty((0, 0), self._dtype)
        else:
            factors = self._factors_of(view) if self.factors is None else self.factors[view]
        return (
            self._inside, frames.rows[view], frames.rays[view], tables.column_weights[view], frames.first[view],
            frames.last[view], tables.starts[view], factors, self.mu is not None, self._kernel_u[view],
            tables.half_u[view], self._kernel_z[view], tables.half_z[view],
        )  # fmt: skip

    def _factors_of(self, view: int) -> Array:
        tables, frames = self.tables, self.tables.frames
        factors = np.empty((int(tables.points[view]), tables.shape[0]), self._dtype)
        cpu_loops.attenuation_paths(
            self.mu,
            self._inside,
            frames.rows[view],
            frames.rays[view],
            tables.step_cm[view],
            frames.first[view],
            frames.last[view],
            tables.starts[view],
            factors,
        )
        return np.exp(factors, out=factors)


@cache
def _threads(process: int, workers: int) -> ThreadPoolExecutor:
    """Threads that stay for the next operation; a process that was forked needs its own."""
    return flushing_threads(workers)


def free_memory_bytes() -> int:
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
