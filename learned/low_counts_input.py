"""Input of the low-counts network: a scan's image by the fixed protocol over its level, its noise and its blur."""

import math
from dataclasses import dataclass

import numpy as np

from spectac.recon import filters
from spectac.recon.geometry import axis_sigma_mm
from spectac.recon.low_counts import ShortScan, level
from spectac.recon.types import Array, Grid

LOW_COUNTS_CHANNELS = ("image", "smoothed image", "noise", "blur")
"""Channels of the input. Noise and blur are constants."""
SMOOTH_FWHM_MM = 8.0
"""Gaussian of the smoothed image."""
REFERENCE_COUNTS = 30.0
"""Counts per voxel of 4 mm at which the noise channel is 0."""
REFERENCE_SIGMA_MM = 6.0
"""Blur at the axis at which the blur channel is 0."""
LARGEST_VALUE = 50.0
"""Images are clipped at this multiple of the level."""


@dataclass(frozen=True, eq=False)
class LowCountsInput:
    """What the network sees of a scan.

    Parameters
    ----------
    image
        Image (z, y, x) by the protocol over `level`, on a preview's grid.
    grid
        That grid.
    level
        Level of the brain in the unit of the image, see `recon.low_counts.level`.
    counts_per_voxel
        Expected counts of a voxel of 4 mm at the level: 1 over the noise's variance, as far as counts tell.
    sigma_mm
        Standard deviation of the collimator's blur at the rotation axis, mean over the views.
    energy_kev
        Energy of the imaged line.
    pixel_mm
        Largest pixel of the protocol's projections.
    views
        Number of views.

    Examples
    --------
    >>> grid = Grid.upright((8, 8, 8), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> seen = LowCountsInput(np.ones(grid.shape, np.float32), grid, 2.0, 30.0, 6.0, 159.0, 4.0, 60)
    >>> float(seen.channels()[2:].max())
    0.0
    """

    image: Array
    grid: Grid
    level: float
    counts_per_voxel: float
    sigma_mm: float
    energy_kev: float
    pixel_mm: float
    views: float

    @classmethod
    def of(cls, scan: ShortScan) -> "LowCountsInput":
        """Input of a scan.

        Parameters
        ----------
        scan
            Scan with a map and a known collimator.

        Returns
        -------
        LowCountsInput
            On the grid of the study's preview.

        Raises
        ------
        InputError
            Where no head shows.
        """
        image = scan.image
        brain = level(image)
        return cls(
            scan.seen() / np.float32(brain),
            scan.grid,
            brain,
            brain * scan.effective_s() * scan.grid.voxel_ml,
            float(np.mean(axis_sigma_mm(scan.acquisition, scan.energy_kev))),
            scan.energy_kev,
            max(scan.acquisition.pixel_mm),
            scan.acquisition.views,
        )

    def channels(self) -> Array:
        """Input of the network, float32 (4, z, y, x) in the order of LOW_COUNTS_CHANNELS."""
        out = np.empty((len(LOW_COUNTS_CHANNELS), *self.image.shape), np.float32)
        out[0] = np.minimum(self.image, LARGEST_VALUE)
        out[1] = filters.gaussian(out[0], self.grid.voxel_mm, SMOOTH_FWHM_MM)
        out[2] = 0.5 * math.log10(self.counts_per_voxel / REFERENCE_COUNTS)
        out[3] = self.sigma_mm / REFERENCE_SIGMA_MM - 1.0
        return out
