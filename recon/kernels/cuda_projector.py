"""The projector on a GPU: the kernels of spect.cu, all views of a batch at once, on CuPy arrays of one dtype.

Inside an operation nothing is copied from or to the host but the indices of views at their first use. One projector
sums in one order and so gives the same bits every time, except for lost counts. How many views and planes a sum takes
at once depends on the device and its free memory.
"""

import math
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from spectac.recon.errors import DeviceError
from spectac.recon.geometry import CameraFrames
from spectac.recon.kernels.subnormal import FAINT
from spectac.recon.kernels.view_tables import ViewTables
from spectac.recon.types import Array

LANES, ROWS = 32, 8
TILES = ((32, 64), (16, 32), (8, 32))
"""Columns and rows of the detector that a block makes: the first whose shared memory suffices."""

BLOCKS_PER_PROCESSOR = 8
FEWEST_PLANES = 4
"""A block projects at least this many depth planes, and fewer than all where that gives every processor blocks."""

_SCALARS = {int: np.int32, float: np.float64}


@dataclass(frozen=True, eq=False)
class _Batch:
    """Views that are projected at once: their `rows` of what was asked for, indices on the host and on the device.

    `place` (n, d) says where their planes begin in scratch of `points` rows, `start` (n, d) where they do in factors
    that are kept; a block projects `chunk` planes.
    """

    rows: slice
    views: Array
    index: Any
    place: Any
    start: Any
    points: int
    chunk: int


class CudaProjector:
    """As CpuProjector, with arrays on a GPU.

    The scratch of a batch of views takes at most a quarter of the free memory.

    Parameters
    ----------
    tables
        Lattice and blur of every view.
    dtype
        float32 or float64.
    factor_memory_bytes
        Memory in which the attenuation factors of all views are kept; None: half of the free memory. Larger ones are
        computed for every batch.
    half_factors
        Keep the factors of float32 in half precision.
    engine
        What runs the kernels.

    Raises
    ------
    DeviceError
        Where the blur is too wide for the device, or one view does not fit.
    """

    def __init__(
        self,
        tables: ViewTables,
        dtype: np.dtype,
        factor_memory_bytes: int | None,
        *,
        half_factors: bool = False,
        engine: "CupyEngine",
    ) -> None:
        self.engine, self._dtype = engine, dtype
        self.xp = engine.xp
        self.tables, self._factor_memory_bytes = tables, factor_memory_bytes
        self._depths = tables.frames.depths
        self._taps = max(tables.kernel_u.shape[2], tables.kernel_z.shape[2])
        self._half = half_factors and dtype == np.float32
        self._tile = self._smallest_enough()
        self._module = engine.module(definitions(dtype, self._half, self._tile))
        self._put_tables()
        self.mu: Any = None
        self.factors: Any = None
        self._plan()

    def put(self, array: Any) -> Any:
        """A numpy array on the device, as it is."""
        return self.engine.xp.asarray(array)

    def get(self, array: Any) -> Any:
        """An array of the device as numpy's."""
        return self.engine.get(array)

    def contiguous(self, array: Any) -> Any:
        """Array in C order and this precision; copied where it is not."""
        return self.engine.xp.ascontiguousarray(array, dtype=self._dtype)

    def with_mu(self, per_cm: Any) -> "CudaProjector":
        """The same projector through another map (y, x, z) in 1/cm."""
        other = copy(self)
        other.mu, other.factors = self.contiguous(per_cm), None
        other._plan()
        needed = int(self.tables.points.sum()) * self.tables.shape[0] * self._factor_type.itemsize
        limit = self.engine.free_bytes() // 2 if self._factor_memory_bytes is None else self._factor_memory_bytes
        if needed <= limit:
            index = self._indices(np.arange(self.tables.points.size))
            other.factors = other._factors_of(index, int(self.tables.points.sum()), self._start)
            other._plan()
        return other

    def forward(self, image: Any, views: Array) -> Any:
        """Expected counts (n, u, z)."""
        out = self._empty((views.size, *self._bins))
        for batch in self.batches(views):
            self._project(image, batch, out[batch.rows], None, None, None)
        return out

    def adjoint(self, counts: Any, views: Array) -> Any:
        """Transpose of `forward`: an image."""
        image = self.engine.xp.zeros(self._image_shape, self._dtype)
        for batch in self.batches(views):
            turned = self._spread(counts[batch.rows], batch, attenuated=self.mu is not None)
            self._gather(turned, batch, self._gain, image)
        return image

    def gradient_mu(self, image: Any, residual: Any, views: Array) -> Any:
        """Derivative (y, x, z) of sum(residual * forward(image)) to mu, per 1/cm."""
        gradient = self.engine.xp.zeros(self._image_shape, self._dtype)
        nz, ny, nx = self.tables.shape
        for batch in self.batches(views):
            turned = self._spread(residual[batch.rows], batch, attenuated=False)
            start, factors = self._kept_or_made(batch)
            self._launch(
                "gradient_columns", self._column_grid(batch.views.size), 0,
                image, self._inside, self._lattice, self._rays, self._gain, self._step_cm, self._first, self._last,
                start, factors, int(factors is not None), batch.index, batch.place, self._depths, self._bins[0], ny,
                nx, nz, turned,
            )  # fmt: skip
            self._gather(turned, batch, None, gradient)
        return gradient

    def em_backprojection(self, image: Any, measured: Any, scatter: Any, views: Array) -> tuple[Any, Any]:
        """A^T(measured / (A image + scatter)), and the counts () measured where that expectation is 0."""
        lost = self.engine.xp.zeros(1, np.float64)
        ratio = self._empty((views.size, *self._bins))
        for batch in self.batches(views):
            extra = None if scatter is None else scatter[batch.rows]
            self._project(image, batch, ratio[batch.rows], measured[batch.rows], extra, lost)
        return self.adjoint(ratio, views), lost[0]

    def em_update(self, image: Any, backprojected: Any, inverse: Any) -> None:
        """Multiply an image in place by backprojected * inverse where inverse is positive; what is FAINT becomes 0."""
        # The largest value stays on the device: nothing waits for it.
        faint = image.max().reshape(1) * self._dtype.type(FAINT)
        self._launch(
            "em_update", (-(-image.size // (LANES * ROWS)), 1, 1), 0,
            image, backprojected, inverse, faint, np.int64(image.size),
        )  # fmt: skip

    @property
    def _bins(self) -> tuple[int, int]:
        """Columns and rows of a projection."""
        return self.tables.matrix[1], self.tables.matrix[0]

    @property
    def _image_shape(self) -> tuple[int, int, int]:
        nz, ny, nx = self.tables.shape
        return ny, nx, nz

    @property
    def _factor_type(self) -> np.dtype:
        return np.dtype(np.uint16) if self._half else self._dtype

    def _put_tables(self) -> None:
        """Copy the tables to the device, once."""
        tables, xp = self.tables, self.engine.xp
        frames = tables.frames
        rows = np.cumsum(tables.points) - tables.points
        self._start = self._rows(tables.starts + rows[:, None])
        self._inside = xp.asarray(tables.inside.astype(self._dtype))
        self._pixels = xp.asarray(np.flatnonzero(tables.inside).astype(np.int32))
        self._lattice = xp.asarray(np.ascontiguousarray(frames.rows, np.float64))
        self._rays = xp.asarray(frames.rays.astype(np.int32))
        self._gain = xp.asarray(tables.column_weights.astype(self._dtype))
        self._step_cm = xp.asarray(tables.step_cm.astype(self._dtype))
        self._across = _columns_within_reach(frames)
        self._first, self._last = (xp.asarray(edge.astype(np.int32)) for edge in (frames.first, frames.last))
        self._half_u, self._half_z = (xp.asarray(half.astype(np.int32)) for half in (tables.half_u, tables.half_z))
        self._kernel_u, self._kernel_z = (
            xp.asarray(
                np.pad(kernel, ((0, 0), (0, 0), (0, self._taps - kernel.shape[2]))).astype(self._dtype, order="C")
            )
            for kernel in (tables.kernel_u, tables.kernel_z)
        )
        self._weights = xp.asarray(tables.weights.astype(self._dtype))

    def _rows(self, rows: Array) -> Any:
        return self.engine.xp.asarray(rows.astype(np.int64))

    def _indices(self, views: Array) -> Any:
        return self.engine.xp.asarray(views.astype(np.int32))

    def _empty(self, shape: tuple[int, ...]) -> Any:
        return self.engine.xp.empty(shape, self._dtype)

    def _smallest_enough(self) -> tuple[int, int]:
        """The largest tile whose shared memory the device has."""
        for tile in TILES:
            if self._shared_bytes(tile) <= self.engine.shared_bytes:
                return tile
        raise DeviceError(
            f"a blur of {self._taps - 1} pixels to either side is too wide for this GPU: use --device cpu, or rebin "
            "the projections"
        )

    def _shared_bytes(self, tile: tuple[int, int]) -> int:
        """Size of the struct Tile's arrays."""
        u, z = tile
        reach = self._taps - 1
        reals = (u + 2 * reach) * (((z + 2 * reach) | 1) + z + 1)
        return reals * self._dtype.itemsize + (u + 2 * reach) * (16 + 4 * self._dtype.itemsize)

    def _plan(self) -> None:
        """Forget the batches of views; from now on their scratch takes at most a quarter of what is free now."""
        self._scratch_bytes = self.engine.free_bytes() // 4
        self._plans: dict[bytes, list[_Batch]] = {}

    def batches(self, views: Array) -> list[_Batch]:
        """The views in batches, made once."""
        key = views.tobytes()
        if key not in self._plans:
            self._plans[key] = list(self._split(views))
        return self._plans[key]

    def _split(self, views: Array) -> Iterator[_Batch]:
        points, rows = self.tables.points[views], self.tables.shape[0]
        again = self.mu is not None and self.factors is None
        bytes_of = points * rows * (self._dtype.itemsize + (self._factor_type.itemsize if again else 0))
        if bytes_of.max() > self._scratch_bytes:
            raise DeviceError(
                f"one view needs {bytes_of.max() / 2**30:.1f} GiB of device memory, more than a quarter of what is "
                "free: use --device cpu, or rebin the projections"
            )
        begin = 0
        while begin < views.size:
            end = begin + max(1, int(np.searchsorted(np.cumsum(bytes_of[begin:]), self._scratch_bytes, side="right")))
            part = views[begin:end]
            before = np.cumsum(points[begin:end]) - points[begin:end]
            yield _Batch(
                rows=slice(begin, end),
                views=part,
                index=self._indices(part),
                place=self._rows(self.tables.starts[part] + before[:, None]),
                start=self._start[self._indices(part)],
                points=int(points[begin:end].sum()),
                chunk=self._chunk(part.size),
            )
            begin = end

    def _column_grid(self, views: int) -> tuple[int, int, int]:
        columns, rows = self._bins
        return -(-columns // ROWS), -(-rows // LANES), views

    def _kept_or_made(self, batch: _Batch) -> tuple[Any, Any]:
        """Where each plane's factors begin (n, d), and the factors: all that are kept, or those of a batch."""
        if self.mu is None or self.factors is not None:
            return batch.start, self.factors
        return batch.place, self._factors_of(batch.index, batch.points, batch.place)

    def _factors_of(self, index: Any, points: int, start: Any) -> Any:
        nz, ny, nx = self.tables.shape
        factors = self.engine.xp.empty((points, nz), self._factor_type)
        self._launch(
            "attenuation_factors", self._column_grid(index.size), 0,
            self.mu, self._inside, self._lattice, self._rays, self._step_cm, self._first, self._last, start, index,
            self._depths, self._bins[0], ny, nx, nz, factors,
        )  # fmt: skip
        return factors

    def _tiles(self) -> int:
        columns, rows = self._bins
        return -(-columns // self._tile[0]) * -(-rows // self._tile[1])

    def _chunk(self, views: int) -> int:
        """Depth planes for one block, so that every processor has blocks enough."""
        wanted = self.engine.processors * BLOCKS_PER_PROCESSOR
        return max(FEWEST_PLANES, -(-self._depths * self._tiles() * views // wanted))

    def _project(self, image: Any, batch: _Batch, out: Any, measured: Any, scatter: Any, lost: Any) -> None:
        """Expected counts of a batch into `out`, or with `measured` their ratio to what is expected."""
        nz, ny, nx = self.tables.shape
        columns, rows = self._bins
        views, chunks = batch.views.size, -(-self._depths // batch.chunk)
        parts = self._empty((chunks, views, columns, rows))
        start, factors = self._kept_or_made(batch)
        self._launch(
            "forward", (self._tiles(), chunks, views), self._shared_bytes(self._tile),
            image, self._inside, self._lattice, self._rays, self._gain, self._first, self._last, start, factors,
            int(factors is not None), self._kernel_u, self._half_u, self._kernel_z, self._half_z, self._taps,
            batch.index, views, self._depths, batch.chunk, columns, ny, nx, nz, parts,
        )  # fmt: skip
        bins = columns * rows
        self._launch(
            "finish", (-(-bins // (LANES * ROWS)), views, 1), 0,
            parts, self._weights, batch.index, views, chunks, bins, measured, scatter, out, lost,
        )  # fmt: skip

    def _spread(self, counts: Any, batch: _Batch, *, attenuated: bool) -> Any:
        """Weighted counts blurred onto the lattice points of the views (points, z), times the factors if asked."""
        columns, rows = self._bins
        turned = self._empty((batch.points, rows))
        start, factors = self._kept_or_made(batch) if attenuated else (batch.start, None)
        self._launch(
            "spread", (self._tiles(), -(-self._depths // batch.chunk), batch.views.size),
            self._shared_bytes(self._tile),
            counts, self._weights, self._first, self._last, start, factors, int(attenuated), self._kernel_u,
            self._half_u, self._kernel_z, self._half_z, self._taps, batch.index, batch.place, self._depths,
            batch.chunk, columns, rows, turned,
        )  # fmt: skip
        return turned

    def _gather(self, turned: Any, batch: _Batch, gain: Any, image: Any) -> None:
        """Add to the image what the rotation's transpose makes of a batch's lattice points; gain None: all weigh 1."""
        nz, _, nx = self.tables.shape
        tile_u, tile_z = self._tile
        shared = 3 * self._across * tile_u * (self._dtype.itemsize + 8)
        self._launch(
            "gather", (-(-self._pixels.size // tile_u), -(-nz // tile_z), 1), shared,
            turned, self._lattice, self._rays, gain, self._first, self._last, batch.index, batch.place,
            batch.views.size, self._pixels, self._pixels.size, self._depths, self._bins[0], self._across, nx, nz, image,
        )  # fmt: skip

    def _launch(self, name: str, grid: tuple[int, int, int], shared: int, *arguments: Any) -> None:
        typed = tuple(_SCALARS.get(type(one), lambda same: same)(one) for one in arguments)
        self.engine.launch(self._module, name, grid, shared, typed)


class CupyEngine:
    """The current CUDA device through CuPy, which compiles kernels at the first use and keeps them in its cache.

    Tests run the same source on the CPU through an engine with the same methods.
    """

    def __init__(self) -> None:
        import cupy

        self.xp = cupy
        attributes = cupy.cuda.Device().attributes
        self.processors = int(attributes["MultiProcessorCount"])
        self.shared_bytes = int(attributes["MaxSharedMemoryPerBlockOptin"])
        self._kernels: dict[tuple[int, str], Any] = {}

    def free_bytes(self) -> int:
        """Device memory that is free, CuPy's own pool included."""
        free, _ = self.xp.cuda.runtime.memGetInfo()
        return int(free) + int(self.xp.get_default_memory_pool().free_bytes())

    def get(self, array: Any) -> Any:
        """An array of the device as numpy's."""
        return array.get()

    def module(self, options: tuple[str, ...]) -> Any:
        """Source compiled for the current device."""
        return _compiled(self.xp.cuda.Device().id, options)

    def launch(
        self, module: Any, name: str, grid: tuple[int, int, int], shared: int, arguments: tuple[Any, ...]
    ) -> None:
        """Run a kernel on the current stream by blocks of LANES x ROWS threads; None stands for a null pointer."""
        kernel = self._kernels.get((id(module), name))
        if kernel is None:
            kernel = self._kernels[id(module), name] = module.get_function(name)
            # The limit belongs to the function, which all projectors of a kind share: it is the same for all of them.
            kernel.max_dynamic_shared_size_bytes = self.shared_bytes
        kernel(
            grid, (LANES, ROWS, 1), tuple(np.uintp(0) if one is None else one for one in arguments), shared_mem=shared
        )


def _columns_within_reach(frames: CameraFrames) -> int:
    """Most columns of a plane, an odd number, whose bilinear footprint may hold a voxel: it reaches sqrt(2) voxels."""
    full = frames.first < frames.last
    apart = np.hypot(frames.rows[..., 1], frames.rows[..., 3])[full]
    reach = math.sqrt(2.0) / apart + 0.5 * (1.0 - 1.0 / frames.rays[full])
    return 2 * math.ceil(reach.max(initial=1.0) - 0.5) + 1


def definitions(dtype: np.dtype, half: bool, tile: tuple[int, int]) -> tuple[str, ...]:
    """Compiler options that spect.cu asks for."""
    return (
        "-std=c++17",
        "-ftz=true",
        f"-DREAL={'float' if dtype == np.float32 else 'double'}",
        f"-DFACTOR_HALF={int(half)}",
        f"-DLANES={LANES}",
        f"-DROWS={ROWS}",
        f"-DTILE_U={tile[0]}",
        f"-DTILE_Z={tile[1]}",
    )


def source() -> str:
    """Text of the kernels."""
    return Path(__file__).with_name("spect.cu").read_text(encoding="utf-8")


@cache
def _compiled(device: int, options: tuple[str, ...]) -> Any:
    import cupy

    with cupy.cuda.Device(device):
        return cupy.RawModule(code=source(), options=options, backend="nvrtc")
