"""Short scans: images by a fixed protocol that low-counts models see, and the priors that steady a reconstruction.

The protocol: projections rebinned to the pixel nearest 4 mm, OSEM of 4 iterations with 10 subsets with the study's map,
scatter and resolution recovery. Networks see it on the 64^3 voxels of 4 mm of the study's preview, by cubic splines. No
setting of a user changes it. A change of anything here changes the input of trained networks and needs another
LOW_COUNTS_PROTOCOL.

Models are found by name in the entry-point group `spectac.low_counts`; each entry point is a function
`build(weights: Path | None) -> LowCountsModel`.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from spectac.recon import filters, plugins
from spectac.recon.anchor import FLOOR, Anchor
from spectac.recon.bsrem import RelativeDifferencePrior
from spectac.recon.contour_preview import exceeded
from spectac.recon.em import FEWEST_VIEWS, osem
from spectac.recon.errors import InputError
from spectac.recon.geometry import default_grid, object_pixel_mm
from spectac.recon.preview import PREVIEW_VOXEL_MM, preview_factors
from spectac.recon.resample import map_on_grid, rebin, rebin_acquisition, resample, resample_by_splines
from spectac.recon.system import SystemModel
from spectac.recon.types import Acquisition, Array, Grid, Image, MuMap, Projections

LOW_COUNTS_PROTOCOL = 2
"""Version of the protocol. Weights keep that of their training; another one's are refused."""
ITERATIONS = 4
"""Iterations of OSEM."""
REPEAT_ITERATIONS = 2
"""Iterations of a repeated scan's image with its anchor."""
TARGET_ITERATIONS = 10
"""Iterations of the image without noise that models estimate: the default of a reconstruction."""
SUBSETS = 10
"""Subsets of OSEM; fewer where a subset would have fewer than 4 views."""
LEVEL_FWHM_MM = 8.0
"""Gaussian of the image whose level is taken."""
LEVEL_ML = 400.0
"""The level is what this volume exceeds: that of the brain, whatever the striata hold."""
SPREAD_FWHM_MM = 12.0
"""Gaussian on the variance over a few repeated scans."""
HEAD_SHARE = 0.3
"""Share of the level above which a voxel is head."""
MAP_WEIGHT = 0.008
"""Beta of the relative-difference prior over the sensitivity of a voxel of 4 mm in the head.

It takes the place of a Gaussian of 8 mm: binding ratios of 8 patients have 1.01 of the slope that this filter leaves
(benchmarks/low_counts).
"""
ANCHOR_WEIGHT = 3.0
"""Weight of a model's image in the reconstruction (`anchor.Anchor`): less adds noise and hardly takes off bias."""


class ShortScan:
    """What a low-counts model is given: a study's counts and its system, in the pixels of the protocol.

    Parameters
    ----------
    projections
        Photopeak counts (v, z, u) and their expected scatter.
    mu
        Map of the reconstruction; None: without attenuation.
    grid
        Grid of the study's preview.
    device
        "cpu" or "cuda".

    Examples
    --------
    >>> acquisition = Acquisition(
    ...     np.arange(0.0, 360.0, 30.0), np.full(12, 140.0), (4, 32), (2.0, 2.0), np.full(12, 10.0), "Tc-99m", None
    ... )
    >>> grid = Grid.upright((2, 16, 16), (4.0, 4.0, 4.0), (-30.0, -30.0, -2.0))
    >>> scan = ShortScan(Projections(acquisition, np.ones(acquisition.shape), 140.511), None, grid)
    >>> scan.counts.shape, scan.image.grid.shape
    ((12, 2, 16), (2, 16, 16))
    """

    def __init__(self, projections: Projections, mu: MuMap | None, grid: Grid, device: str = "cpu") -> None:
        self._factors = preview_factors(object_pixel_mm(projections.acquisition))
        self.acquisition: Acquisition = rebin_acquisition(projections.acquisition, *self._factors)
        self.counts: Array = rebin(projections.counts, *self._factors)
        scatter = projections.scatter
        self.scatter: Array | None = None if scatter is None else rebin(scatter, *self._factors)
        self.grid, self.energy_kev, self.device = grid, projections.energy_kev, device
        self.protocol_grid = default_grid(self.acquisition)
        self.mu = None if mu is None else map_on_grid(mu, self.protocol_grid)

    @cached_property
    def system(self) -> SystemModel:
        """System model of the protocol's pixels, with the map, and resolution recovery if the collimator is known."""
        return SystemModel(
            self.acquisition,
            self.protocol_grid,
            mu=self.mu,
            energy_kev=self.energy_kev,
            resolution=self.acquisition.collimator is not None,
            device=self.device,
            crop_to_orbit=True,
            half_factors=True,
        )

    @property
    def subsets(self) -> int:
        """Subsets of the protocol."""
        return max(1, min(SUBSETS, self.acquisition.views // FEWEST_VIEWS))

    @cached_property
    def sensitivity(self) -> Array:
        """Counts (z, y, x) per cps/mL of a voxel, in s mL."""
        system = self.system
        return system.get(system.adjoint(system.put(np.ones(system.projections_shape, np.float32))))

    @cached_property
    def image(self) -> Image:
        """Image of the study by the protocol, without a filter, on the grid of the protocol's pixels."""
        return self.reconstructed(ITERATIONS)

    def seen(self, iterations: int = ITERATIONS) -> Array:
        """Image (z, y, x) by the protocol, or after other iterations, on the grid of the preview: what networks see."""
        image = self.image if iterations == ITERATIONS else self.reconstructed(iterations)
        return resample_by_splines(image.values, image.grid, self.grid)

    def reconstructed(self, iterations: int) -> Image:
        """The same after another number of iterations."""
        system, scatter = self.system, self.scatter
        values = osem(
            system,
            system.put(self.counts.astype(np.float32)),
            iterations=iterations,
            subsets=self.subsets,
            scatter=None if scatter is None else system.put(scatter.astype(np.float32)),
        )
        return Image(system.get(values), self.protocol_grid, self.acquisition.image_unit)

    def with_counts(self, counts: Array, scatter: Array | None) -> "ShortScan":
        """The same scan with other counts (v, z, u) of the protocol's pixels and their expected scatter."""
        _ = self.system, self.sensitivity  # which serve both
        other = copy(self)
        other.__dict__.pop("image", None)
        other.counts, other.scatter = counts, scatter
        return other

    def on_grid(self, image: Image, grid: Grid) -> Array:
        """A model's image (z, y, x) on a grid, by cubic splines; beyond its field the scan's own, smoothed."""
        field = resample(np.ones(image.grid.shape, np.float32), image.grid, grid)
        smooth = filters.gaussian(self.image.values, self.protocol_grid.voxel_mm, LEVEL_FWHM_MM)
        beyond = resample(smooth, self.protocol_grid, grid)
        values = resample_by_splines(image.values, image.grid, grid) + (1 - field) * beyond
        return np.maximum(values, FLOOR * values.max())

    def anchored(self, image: Image) -> Image:
        """Image of the scan with a model's image as the anchor, on the grid of the protocol's pixels.

        It starts from the anchor, to which an update goes back most of the way: REPEAT_ITERATIONS are enough.
        """
        system, scatter = self.system, self.scatter
        anchor = system.put(self.on_grid(image, self.protocol_grid).astype(np.float32))
        values = osem(
            system,
            system.put(self.counts.astype(np.float32)),
            iterations=REPEAT_ITERATIONS,
            subsets=self.subsets,
            scatter=None if scatter is None else system.put(scatter.astype(np.float32)),
            start=anchor,
            prior=Anchor(anchor, ANCHOR_WEIGHT),
        )
        return Image(system.get(values), self.protocol_grid, self.acquisition.image_unit)

    def expected(self, image: Image) -> Array:
        """Expected counts (v, z, u) of an image on the grid of the protocol's pixels, with the study's scatter."""
        system = self.system
        counts = system.get(system.forward(system.put(image.values.astype(np.float32))))
        return counts if self.scatter is None else counts + self.scatter

    def effective_s(self) -> float:
        """Counts per cps/mL and mL of a source in the head, in s: the time of all views, less what is absorbed."""
        return float(self.sensitivity[head_mask(self.image)].mean()) / self.protocol_grid.voxel_ml


def level(image: Image) -> float:
    """Level of the brain in a noisy image: what 400 mL of it exceed after a Gaussian of 8 mm.

    Parameters
    ----------
    image
        Image (z, y, x).

    Returns
    -------
    float
        Level in the unit of the image.

    Raises
    ------
    InputError
        For an image without activity.

    Examples
    --------
    >>> grid = Grid.upright((32, 32, 32), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> values = np.zeros(grid.shape)
    >>> values[4:28, 4:28, 4:28] = 5.0
    >>> round(level(Image(values, grid, "cps/mL")), 2)
    5.0
    """
    smooth = filters.gaussian(image.values, image.grid.voxel_mm, LEVEL_FWHM_MM)
    value = exceeded(smooth, LEVEL_ML, np.array(image.grid.voxel_mm))
    if not value > 0:
        raise InputError("the image shows no head")
    return value


def head_mask(image: Image) -> Array:
    """Voxels (z, y, x) of the head: above 0.3 of the level, after the same Gaussian.

    Parameters
    ----------
    image
        Image (z, y, x).

    Returns
    -------
    Array
        Mask (z, y, x).

    Examples
    --------
    >>> grid = Grid.upright((32, 32, 32), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> values = np.zeros(grid.shape)
    >>> values[4:28, 4:28, 4:28] = 5.0
    >>> bool(head_mask(Image(values, grid, "cps/mL"))[16, 16, 16])
    True
    """
    return filters.gaussian(image.values, image.grid.voxel_mm, LEVEL_FWHM_MM) > HEAD_SHARE * level(image)


class OutsideOfTraining(InputError):  # noqa: N818 - named after the thing
    """A low-counts model must not be used on a scan. The prior of "map" then takes its place.

    Examples
    --------
    >>> raise OutsideOfTraining("60 views, training had 90 at least")
    Traceback (most recent call last):
    spectac.recon.low_counts.OutsideOfTraining: 60 views, training had 90 at least
    """


@dataclass(frozen=True, eq=False)
class Repeat:
    """A simulated repetition of a scan, and the model's image of it.

    Parameters
    ----------
    scan
        Scan with other counts.
    image
        As `LowCountsEstimate.image`.

    Examples
    --------
    >>> def images(repeats: Sequence[Repeat]) -> list[Image]:
    ...     return [one.image for one in repeats]
    """

    scan: ShortScan
    image: Image


@dataclass(frozen=True, eq=False)
class LowCountsEstimate:
    """Image of a low-counts model.

    Parameters
    ----------
    image
        Estimate of the image without noise after TARGET_ITERATIONS, on any grid.
    repeats
        Repetitions of the scan; empty: none were made.
    notes
        What the user should know.

    Examples
    --------
    >>> grid = Grid.upright((2, 4, 4), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> LowCountsEstimate(Image(np.ones(grid.shape), grid, "cps/mL")).notes
    ()
    """

    image: Image
    repeats: tuple[Repeat, ...] = ()
    notes: tuple[str, ...] = ()


class LowCountsModel(Protocol):
    """Estimator of the image without noise.

    Examples
    --------
    >>> class Smooth:
    ...     def estimate(self, scan: ShortScan) -> LowCountsEstimate:
    ...         return LowCountsEstimate(filters.GaussianFilter(12.0)(scan.image))
    """

    def estimate(self, scan: ShortScan) -> LowCountsEstimate:
        """Estimate of a scan; OutsideOfTraining with the reason where the model must not be used on it."""


def low_counts_model(name: str, weights: Path | None = None) -> LowCountsModel:
    """Model of a name.

    Parameters
    ----------
    name
        Name in the entry-point group `spectac.low_counts`.
    weights
        File with the model's weights; None: its own.

    Returns
    -------
    LowCountsModel
        Model.

    Raises
    ------
    InputError
        No model of that name is installed, or it lacks what it needs.

    Examples
    --------
    >>> low_counts_model("magic")
    Traceback (most recent call last):
    spectac.recon.errors.InputError: low-counts model 'magic' is not installed: use one of network
    """
    build: Callable[[Path | None], LowCountsModel] = plugins.plugin(plugins.LOW_COUNTS, name).load()
    return build(weights)


def noise_spread(repeats: Sequence[Image]) -> Image:
    """Standard deviation of images that differ by their noise.

    Parameters
    ----------
    repeats
        At least two images (z, y, x).

    Returns
    -------
    Image
        Standard deviation (z, y, x) in their unit. The variance of so few is smoothed by a Gaussian of 12 mm.

    Examples
    --------
    >>> grid = Grid.upright((2, 4, 4), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> ones = Image(np.ones(grid.shape), grid, "cps/mL")
    >>> round(float(noise_spread([ones, replace(ones, values=3.0 * ones.values)]).values.mean()), 3)
    1.414
    """
    variance = np.var([one.values for one in repeats], axis=0, ddof=1)
    return replace(repeats[0], values=np.sqrt(filters.gaussian(variance, repeats[0].grid.voxel_mm, SPREAD_FWHM_MM)))


def smoothing_prior(effective_s: float, grid: Grid) -> RelativeDifferencePrior:
    """Prior of MAP for short scans: the resolution of its images depends neither on counts, nor level, nor voxels.

    Prior and likelihood are curved as beta / f and as the sensitivity over f. So beta follows the sensitivity of a
    voxel, and the inverse square of the voxel's length, because the prior sees differences between neighbours.

    Parameters
    ----------
    effective_s
        See `ShortScan.effective_s`.
    grid
        Grid of the reconstruction.

    Returns
    -------
    RelativeDifferencePrior
        Prior in the unit of the reconstruction.

    Examples
    --------
    >>> grid = Grid.upright((2, 4, 4), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> round(smoothing_prior(100.0, grid).beta, 4)
    0.0512
    """
    length_mm = float(np.prod(grid.voxel_mm)) ** (1 / 3)
    return RelativeDifferencePrior(MAP_WEIGHT * effective_s * grid.voxel_ml * (PREVIEW_VOXEL_MM / length_mm) ** 2)
