"""Resampling: images on another grid, projections in larger pixels."""

import math
from dataclasses import replace

import numpy as np
from scipy.ndimage import affine_transform

from spectac.recon import geometry
from spectac.recon.device import cpu_threads
from spectac.recon.errors import InputError
from spectac.recon.kernels.compiled import compiled
from spectac.recon.kernels.subnormal import flushing_threads
from spectac.recon.types import Acquisition, Array, Grid, MuMap

_EDGE_VOXELS = 1e-6
"""Tolerance of the half-voxel border, so that a point on it does not fall outside by rounding."""


def resample(values: Array, from_grid: Grid, to_grid: Grid, *, outside: float = 0.0) -> Array:
    """Image on another grid, trilinear in patient space through both affines.

    The affines may be turned, tilted and mirrored. Where a target voxel is longer than the source voxels that it
    crosses, it gets the mean of points spread evenly in it, ceil(target / source) of them along each of its axes: fine
    detail is averaged, not aliased. Sums times voxel volume are kept for images that are smooth over a source voxel,
    and for all images where the points coincide with source voxels or halve them. At other ratios of the voxels a lone
    bright voxel may lose or win up to 12.5 % along each axis, depending on where the points fall, and 0 on average.

    The source ends half a voxel beyond its outermost centres. Within that border the nearest centre's value holds.
    Beyond it every point counts as `outside`, also in the mean of a target voxel that is partly outside.

    Assumes: values are densities (activity per mL, 1/cm, HU), not counts per voxel, and no labels.

    Parameters
    ----------
    values
        Image (z, y, x).
    from_grid
        Its grid.
    to_grid
        Wanted grid. One that is equal to a thousandth of a millimetre returns the same values.
    outside
        Value beyond the image.

    Returns
    -------
    Array
        Image (z, y, x), float32, on `to_grid`.

    Raises
    ------
    InputError
        Where the values do not fit `from_grid`, or its affine cannot be inverted.

    Examples
    --------
    >>> fine = Grid.upright((1, 1, 4), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    >>> shifted = Grid.upright((1, 1, 3), (2.0, 2.0, 2.0), (1.0, 0.0, 0.0))
    >>> resample(np.array([[[0.0, 2.0, 4.0, 6.0]]]), fine, shifted).tolist()
    [[[1.0, 3.0, 5.0]]]
    """
    source = np.ascontiguousarray(values, dtype=np.float32)
    if source.shape != from_grid.shape:
        raise InputError(f"values (z, y, x) need the shape of their grid {from_grid.shape}, got {source.shape}")
    if from_grid.same_as(to_grid):
        return source.copy()
    if abs(np.linalg.det(from_grid.affine_lps[:3, :3])) < 1e-6 * np.prod(from_grid.voxel_mm):
        raise InputError("the affine of the image to resample has axes in one plane: it cannot be inverted")
    # Rounded to 1e-9 voxels, so that lattices that coincide do so exactly.
    index = np.round(np.linalg.solve(from_grid.affine_lps, to_grid.affine_lps)[:3], 9)
    points = np.maximum(1, np.ceil(np.linalg.norm(index[:, :3], axis=0) - 1e-6)).astype(np.int64)
    offsets = _offsets(index, points)
    target = np.empty(to_grid.shape, np.float32)

    def fill(z: int) -> None:
        _fill_slice(source, index, offsets, z, float(outside), target[z])

    with flushing_threads(cpu_threads()) as threads:
        for _ in threads.map(fill, range(to_grid.shape[0])):
            pass
    return target


def resample_by_splines(values: Array, from_grid: Grid, to_grid: Grid) -> Array:
    """Image on another upright grid by cubic splines, which widen small structures less than `resample`.

    The source ends as there; beyond it is 0. Assumes: an image that is smooth over a voxel, for splines ring at steps.

    Parameters
    ----------
    values
        Image (z, y, x).
    from_grid
        Its upright grid.
    to_grid
        Wanted upright grid, with voxels that are hardly longer.

    Returns
    -------
    Array
        Image (z, y, x), float32, on `to_grid`.

    Examples
    --------
    >>> grid = Grid.upright((1, 1, 5), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    >>> shifted = Grid.upright((1, 1, 3), (2.0, 2.0, 2.0), (2.0, 0.0, 0.0))
    >>> resample_by_splines(np.array([[[1.0, 2.0, 3.0, 2.0, 1.0]]]), grid, shifted).round(3).ravel().tolist()
    [2.0, 3.0, 2.0]
    """
    source = np.asarray(values, np.float32)
    if from_grid.same_as(to_grid):
        return source.copy()
    own, wanted = from_grid.centres_mm(), to_grid.centres_mm()
    first = [(there[0] - here[0]) / length for here, there, length in zip(own, wanted, from_grid.voxel_mm, strict=True)]
    steps = np.array(to_grid.voxel_mm) / from_grid.voxel_mm
    target = np.asarray(affine_transform(source, steps, first, to_grid.shape, mode="nearest"))
    for axis, (start, step, size) in enumerate(zip(first, steps, source.shape, strict=True)):
        index = start + step * np.arange(target.shape[axis])
        beyond = (index < -0.5 - _EDGE_VOXELS) | (index > size - 0.5 + _EDGE_VOXELS)
        target[(slice(None),) * axis + (beyond,)] = 0.0
    return target


def map_on_grid(mu: MuMap, grid: Grid) -> MuMap:
    """Map averaged over the voxels of a grid.

    Parameters
    ----------
    mu
        Map on any grid.
    grid
        Wanted grid.

    Returns
    -------
    MuMap
        Map on `grid`; the same map where it lies there already.

    Examples
    --------
    >>> grid = Grid.upright((2, 4, 4), (4.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    >>> mu = MuMap(np.full(grid.shape, 0.15), grid, 140.5)
    >>> map_on_grid(mu, grid) is mu
    True
    """
    if mu.grid.same_as(grid):
        return mu
    return MuMap(np.maximum(resample(mu.per_cm, mu.grid, grid), 0.0), grid, mu.energy_kev)


def on_field(values: Array, preview: Grid, grid: Grid) -> Array:
    """Values of a preview on a study's grid.

    Below a preview that ends within the field its last row goes on: a field longer than a preview is cut at the neck
    (`preview.preview_grid`). Beyond its other sides there is air, 0.

    Parameters
    ----------
    values
        Values (z, y, x) on the preview's grid.
    preview
        Upright grid of the preview.
    grid
        Upright grid of the study.

    Returns
    -------
    Array
        Values (z, y, x), float32, on `grid`.

    Examples
    --------
    >>> preview = Grid.upright((1, 1, 1), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> field = Grid.upright((2, 1, 1), (4.0, 4.0, 4.0), (0.0, 0.0, -4.0))
    >>> on_field(np.ones((1, 1, 1)), preview, field).ravel().tolist()
    [1.0, 1.0]
    """
    longer = down_to(preview, grid)
    rows = longer.shape[0] - preview.shape[0]
    return resample(np.pad(values, ((rows, 0), (0, 0), (0, 0)), mode="edge"), longer, grid)


def down_to(preview: Grid, grid: Grid) -> Grid:
    """Upright grid continued at its lower end to that of another.

    Parameters
    ----------
    preview
        Upright grid.
    grid
        Upright grid whose lower end is reached.

    Returns
    -------
    Grid
        Grid with as many more rows as that takes.

    Examples
    --------
    >>> preview = Grid.upright((1, 1, 1), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> down_to(preview, Grid.upright((2, 1, 1), (4.0, 4.0, 4.0), (0.0, 0.0, -4.0))).shape
    (2, 1, 1)
    """
    length = preview.voxel_mm[0]
    bottom, lowest = (one.centres_mm()[0][0] - 0.5 * one.voxel_mm[0] for one in (preview, grid))
    rows = max(0, math.ceil((bottom - lowest) / length))
    z, y, x = (axis[0] for axis in preview.centres_mm())
    nz, ny, nx = preview.shape
    return Grid.upright((nz + rows, ny, nx), preview.voxel_mm, (x, y, z - rows * length))


def rebin(counts: Array, factor_z: int, factor_u: int) -> Array:
    """Counts summed over blocks of pixels; none are lost.

    Sizes that the factors do not divide are padded with zeros first, half at either end and the odd one at the end.
    `rebin_acquisition` gives the geometry that belongs to it.

    Parameters
    ----------
    counts
        Counts (..., z, u).
    factor_z, factor_u
        Rows and columns of a block.

    Returns
    -------
    Array
        Counts (..., z, u) of the larger pixels.

    Raises
    ------
    InputError
        For factors below 1, and arrays without rows and columns.

    Examples
    --------
    >>> rebin(np.ones((2, 4, 4)), 2, 4).tolist()
    [[[8.0], [8.0]], [[8.0], [8.0]]]
    """
    data = np.asarray(counts)
    if data.ndim < 2:
        raise InputError(f"counts need rows and columns (..., z, u), got shape {data.shape}")
    rows, columns = data.shape[-2:]
    (low_z, high_z), (low_u, high_u) = _padding(rows, factor_z), _padding(columns, factor_u)
    padded = np.pad(data, [(0, 0)] * (data.ndim - 2) + [(low_z, high_z), (low_u, high_u)])
    blocks = (padded.shape[-2] // factor_z, factor_z, padded.shape[-1] // factor_u, factor_u)
    return np.asarray(padded.reshape(*data.shape[:-2], *blocks).sum(axis=(-3, -1), dtype=data.dtype))


def rebin_acquisition(acquisition: Acquisition, factor_z: int, factor_u: int) -> Acquisition:
    """Acquisition of the projections that `rebin` returns; every point of space keeps its millimetres.

    Columns: u_offset_mm and foci make up for an uneven padding, which moves the centre of the matrix. Rows:
    axis_lps_mm moves to the centre of the new row 0. Where it is unknown it stays unknown (the field's centre is z =
    0), except after an uneven padding of rows, which moves that centre: then the position that was assumed is written
    down.

    Parameters
    ----------
    acquisition
        Acquisition of the projections before.
    factor_z, factor_u
        Rows and columns of a block.

    Returns
    -------
    Acquisition
        Acquisition with larger pixels.

    Raises
    ------
    InputError
        For factors below 1.

    Examples
    --------
    >>> acquisition = Acquisition([0.0], [150.0], (4, 8), (2.0, 2.0), [10.0], "Tc-99m", None)
    >>> rebin_acquisition(acquisition, 2, 2).pixel_mm
    (4.0, 4.0)
    """
    rows, columns = acquisition.matrix
    pixel_z, pixel_u = acquisition.pixel_mm
    (low_z, high_z), (low_u, high_u) = _padding(rows, factor_z), _padding(columns, factor_u)
    axis = acquisition.axis_lps_mm
    if axis is not None or low_z != high_z:
        x, y, z = geometry.axis_position_mm(acquisition)
        axis = (x, y, z + (0.5 * (factor_z - 1) - low_z) * pixel_z)
    moved_mm = 0.5 * (high_u - low_u) * pixel_u
    return replace(
        acquisition,
        matrix=((rows + low_z + high_z) // factor_z, (columns + low_u + high_u) // factor_u),
        pixel_mm=(pixel_z * factor_z, pixel_u * factor_u),
        axis_lps_mm=axis,
        u_offset_mm=np.asarray(acquisition.u_offset_mm) - moved_mm,
        foci=tuple(replace(focus, offset_mm=focus.offset_mm - moved_mm) for focus in acquisition.foci),
    )


def _padding(size: int, factor: int) -> tuple[int, int]:
    """Zeros before and after, so that the factor divides the size."""
    if factor != int(factor) or factor < 1:
        raise InputError(f"projections are rebinned by whole factors of at least 1, got {factor}")
    missing = -size % int(factor)
    return missing // 2, missing - missing // 2


def _offsets(index: Array, points: Array) -> Array:
    """Source-index offsets (n, 3) of the points spread over a target voxel, from its centre."""
    steps = [(np.arange(k) + 0.5) / k - 0.5 for k in points]
    spread = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.ascontiguousarray(spread @ index[:, :3].T)


@compiled
def _fill_slice(source, index, offsets, z, outside, target):  # type: ignore[no-untyped-def]
    """Fill slice z of the target (y, x) with the mean over `offsets` of the source read at index @ (z, y, x, 1)."""
    nz, ny, nx = source.shape
    for y in range(target.shape[0]):
        for x in range(target.shape[1]):
            total = 0.0
            for n in range(offsets.shape[0]):
                cz = index[0, 0] * z + index[0, 1] * y + index[0, 2] * x + index[0, 3] + offsets[n, 0]
                cy = index[1, 0] * z + index[1, 1] * y + index[1, 2] * x + index[1, 3] + offsets[n, 1]
                cx = index[2, 0] * z + index[2, 1] * y + index[2, 2] * x + index[2, 3] + offsets[n, 2]
                border = -0.5 - _EDGE_VOXELS
                if min(cz, cy, cx) < border or cz > nz - 1 - border or cy > ny - 1 - border or cx > nx - 1 - border:
                    total += outside
                    continue
                cz, cy, cx = min(max(cz, 0.0), nz - 1.0), min(max(cy, 0.0), ny - 1.0), min(max(cx, 0.0), nx - 1.0)
                z0, y0, x0 = math.floor(cz), math.floor(cy), math.floor(cx)
                z1, y1, x1 = min(z0 + 1, nz - 1), min(y0 + 1, ny - 1), min(x0 + 1, nx - 1)
                fz, fy, fx = cz - z0, cy - y0, cx - x0
                low = (1 - fy) * ((1 - fx) * source[z0, y0, x0] + fx * source[z0, y0, x1])
                low += fy * ((1 - fx) * source[z0, y1, x0] + fx * source[z0, y1, x1])
                high = (1 - fy) * ((1 - fx) * source[z1, y0, x0] + fx * source[z1, y0, x1])
                high += fy * ((1 - fx) * source[z1, y1, x0] + fx * source[z1, y1, x1])
                total += (1 - fz) * low + fz * high
            target[y, x] = total / offsets.shape[0]


def upright_around(grid: Grid, voxel_mm: float) -> Grid:
    """Upright grid with cubic voxels over all voxels of another, which may be tilted.

    Parameters
    ----------
    grid
        Any grid.
    voxel_mm
        Edge of a voxel.

    Returns
    -------
    Grid
        Smallest such grid that begins with the other's lowest corner.

    Examples
    --------
    >>> upright_around(Grid.upright((2, 4, 4), (4.0, 1.0, 1.0), (0.0, 0.0, 0.0)), 2.0).shape
    (4, 2, 2)
    """
    ends = [(-0.5, size - 0.5) for size in grid.shape]
    corners = np.array([(z, y, x, 1.0) for z in ends[0] for y in ends[1] for x in ends[2]]) @ grid.affine_lps.T
    low, high = corners[:, :3].min(axis=0), corners[:, :3].max(axis=0)
    nx, ny, nz = (math.ceil((end - begin) / voxel_mm - 1e-6) for begin, end in zip(low, high, strict=True))
    return Grid.upright((nz, ny, nx), (voxel_mm,) * 3, low + 0.5 * voxel_mm)
