"""Previews: images by a fixed protocol, whatever the user's settings. Networks and the head outline read them.

The protocol: projections cut to a field of 300 mm (`preview_columns`) and rebinned to the pixel nearest 4 mm, OSEM of 4
iterations with 10 subsets without resolution recovery or scatter, a Gaussian of 6 mm, and 64^3 voxels of 4 mm placed on
the head (`preview_grid`). Of the photopeak there is also one with resolution recovery, near the orbit. A change of
anything here changes the input of trained networks and needs another PREVIEW_PROTOCOL.

Without the cut the image would follow the field's width: photons of I-123 above 400 keV cross the septa everywhere, and
the wider the field, the less of them the reconstruction puts into the head.
"""

from dataclasses import replace

import numpy as np

from spectac.recon import filters
from spectac.recon.contour_preview import AIR_MM, HEAD_ML, exceeded, largest
from spectac.recon.em import FEWEST_VIEWS, osem
from spectac.recon.geometry import default_grid, object_pixel_mm, ray_lines
from spectac.recon.resample import map_on_grid, rebin, rebin_acquisition, resample
from spectac.recon.system import SystemModel
from spectac.recon.types import Acquisition, Array, Grid, Image, MuMap

PREVIEW_PROTOCOL = 2
"""Version of the protocol. Cohorts and weights keep that of their previews; another one's are refused."""
PREVIEW_VOXEL_MM = 4.0
"""Voxel size of previews; projections are rebinned to the pixel nearest to it."""
PREVIEW_SIZE = 64
"""Voxels along each axis of a preview."""
FIELD_MM = 300.0
"""Width to which a wider field is cut, that of the widest usual cameras of training."""
AIR_SHARE = 0.2
"""Least share of a view's columns that see air in a field that may be cut. What they hold lies over all columns."""
SEEN_SHARE = 0.3
"""A column sees the head where its sum over the rows, less the air's, exceeds this share of the view's largest."""
FIELD_MARGIN_MM = 45.0
"""Least distance of the field's edge from such columns: skull, scalp and blur."""
PREVIEW_ITERATIONS = 4
"""Iterations of OSEM."""
PREVIEW_SUBSETS = 10
"""Subsets of OSEM; fewer where a subset would have fewer than 4 views."""
PREVIEW_FWHM_MM = 6.0
"""Gaussian after the reconstruction."""
ABOVE_VERTEX_MM = 24.0
"""How far a preview of a long field reaches above the top of the head."""
TOP_MM2 = 500.0
"""Section of the head in its highest slice."""
HEAD_SHARE = 0.3
"""Share of the level that 400 mL exceed, above which a voxel is head."""
FOCUS_SHARE = 0.05
"""Share of the level that 5 mL exceed, below which nothing is head: there may be foci alone."""


def preview_image(
    acquisition: Acquisition,
    counts: Array,
    mu: MuMap | None = None,
    *,
    head_counts: Array | None = None,
    recovered_kev: float | None = None,
    device: str = "cpu",
) -> Image:
    """Image of counts by the protocol of previews, before it is placed on the grid of 64^3 voxels.

    Parameters
    ----------
    acquisition
        Geometry and times.
    counts
        Counts (v, z, u).
    mu
        Map; None: no attenuation correction.
    head_counts
        Counts (v, z, u) that show where the head lies; None: `counts`.
    recovered_kev
        Energy in keV at which the collimator's blur is modelled; None: it is not.
    device
        "cpu" or "cuda".

    Returns
    -------
    Image
        Image on the grid of the projections rebinned to about 4 mm.

    Raises
    ------
    InputError
        With resolution recovery, where the collimator is unknown.

    Examples
    --------
    >>> acquisition = Acquisition(
    ...     np.arange(0.0, 360.0, 30.0), np.full(12, 140.0), (4, 32), (2.0, 2.0), np.full(12, 10.0), "Tc-99m", None
    ... )
    >>> preview_image(acquisition, np.ones(acquisition.shape)).grid.shape
    (2, 16, 16)
    """
    columns = preview_columns(acquisition, counts if head_counts is None else head_counts)
    cut = replace(acquisition, matrix=(acquisition.matrix[0], columns.stop - columns.start))
    factors = preview_factors(object_pixel_mm(acquisition))
    coarse = rebin_acquisition(cut, *factors)
    grid = default_grid(coarse)
    system = SystemModel(
        coarse,
        grid,
        mu=None if mu is None else map_on_grid(mu, grid),
        energy_kev=recovered_kev if mu is None else mu.energy_kev,
        resolution=recovered_kev is not None,
        crop_to_orbit=recovered_kev is not None,
        device=device,
    )
    subsets = max(1, min(PREVIEW_SUBSETS, coarse.views // FEWEST_VIEWS))
    measured = system.put(rebin(counts[:, :, columns], *factors))
    values = system.get(osem(system, measured, iterations=PREVIEW_ITERATIONS, subsets=subsets))
    return Image(filters.gaussian(values, grid.voxel_mm, PREVIEW_FWHM_MM), grid, acquisition.image_unit)


def preview_columns(acquisition: Acquisition, counts: Array) -> slice:
    """Detector columns that a preview uses; as many are left out at one side as at the other.

    Left out are columns more than FIELD_MM / 2 from the axis in every view. The field stays wider where the head would
    otherwise come closer than FIELD_MARGIN_MM to its edge in more than a tenth of the views.

    Parameters
    ----------
    acquisition
        Views and detector.
    counts
        Counts (v, z, u) that show where the head lies.

    Returns
    -------
    slice
        Columns.

    Examples
    --------
    >>> acquisition = Acquisition(
    ...     np.arange(0.0, 360.0, 30.0), np.full(12, 140.0), (4, 128), (4.0, 4.0), np.full(12, 10.0), "Tc-99m", None
    ... )
    >>> counts = np.zeros(acquisition.shape)
    >>> counts[:, :, 50:78] = 1.0
    >>> preview_columns(acquisition, counts)
    slice(26, 102, None)
    """
    beside_mm = np.abs(ray_lines(acquisition)[1])
    columns = counts.sum(axis=1, dtype=np.float64)
    net = columns - np.quantile(columns, AIR_SHARE, axis=1, keepdims=True)
    head = net > SEEN_SHARE * net.max(axis=1, keepdims=True)
    reach_mm = np.max(beside_mm, axis=1, where=head, initial=0.0)
    half_mm = max(0.5 * FIELD_MM, float(np.quantile(reach_mm, 0.9)) + FIELD_MARGIN_MM)
    kept = np.flatnonzero((beside_mm <= half_mm).any(axis=0))
    width = acquisition.matrix[1]
    cut = min(int(kept[0]), width - 1 - int(kept[-1])) if kept.size else 0
    return slice(cut, width - cut)


def preview_factors(pixel_mm: tuple[float, float]) -> tuple[int, int]:
    """How many of the camera's pixels make one of a preview.

    Parameters
    ----------
    pixel_mm
        Pixel sizes (z, u) in mm at the rotation axis (geometry.object_pixel_mm).

    Returns
    -------
    tuple of ints
        Factors (z, u) that bring the pixels nearest to 4 mm.

    Examples
    --------
    >>> preview_factors((2.2, 4.4))
    (2, 1)
    """
    factor_z, factor_u = (max(1, round(PREVIEW_VOXEL_MM / length)) for length in pixel_mm)
    return factor_z, factor_u


def placed(image: Image, grid: Grid) -> Image:
    """Image on the grid of a preview.

    Parameters
    ----------
    image
        Image on any grid.
    grid
        Grid of the preview.

    Returns
    -------
    Image
        The image, resampled.

    Examples
    --------
    >>> grid = Grid.upright((2, 2, 2), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> placed(Image(np.ones((2, 2, 2)), grid, "cps/mL"), grid).values.shape
    (2, 2, 2)
    """
    return replace(image, values=resample(image.values, image.grid, grid), grid=grid)


def preview_grid(values: Array, grid: Grid) -> Grid:
    """The 64^3 grid of 4 mm on which a study is previewed.

    The air's level of a slice, the median beyond 115 mm from the field's axis, is subtracted. The head is the largest
    connected part above 0.3 of the level that 400 mL exceed, and above 0.05 of that of 5 mL. In plane the grid is
    centred on the head. Axially it is centred on the field where the field fits into 256 mm. A longer field is cut: the
    top lies 24 mm above the highest slice in which the head covers 500 mm2.

    Parameters
    ----------
    values
        Uncorrected image (z, y, x).
    grid
        Upright grid of the image.

    Returns
    -------
    Grid
        Upright grid of the previews.

    Examples
    --------
    >>> grid = Grid.upright((16, 64, 64), (4.0, 4.0, 4.0), (-126.0, -126.0, -30.0))
    >>> preview_grid(np.ones(grid.shape, np.float32), grid).shape
    (64, 64, 64)
    """
    z, y, x = grid.centres_mm()
    voxel_mm = np.array(grid.voxel_mm)
    radius = np.hypot((y - y.mean())[:, None], (x - x.mean())[None, :])
    ring = (radius > AIR_MM) & (radius < 0.5 * min(np.ptp(y), np.ptp(x)) + 0.5 * voxel_mm[1])
    net = values - np.median(values[:, ring], axis=1)[:, None, None] if ring.any() else values
    head, focus = (exceeded(net, ml, voxel_mm) for ml in (HEAD_ML, 5.0))
    bright = largest(net > max(HEAD_SHARE * head, FOCUS_SHARE * focus))
    covered = np.flatnonzero(bright.sum(axis=(1, 2)) * voxel_mm[1] ** 2 >= TOP_MM2)
    rows, columns = np.nonzero(bright.any(axis=0))
    length = PREVIEW_SIZE * PREVIEW_VOXEL_MM
    half = 0.5 * (length - PREVIEW_VOXEL_MM)
    centre_x, centre_y = (float(axis[index].mean()) if index.size else 0.0 for axis, index in ((x, columns), (y, rows)))
    centre_z = 0.5 * (z[0] + z[-1])
    if grid.shape[0] * grid.voxel_mm[0] > length and covered.size:
        centre_z = z[covered[-1]] + ABOVE_VERTEX_MM - 0.5 * length
    return Grid.upright(
        (PREVIEW_SIZE,) * 3, (PREVIEW_VOXEL_MM,) * 3, (centre_x - half, centre_y - half, centre_z - half)
    )
