"""What the spread of a network's passes says about its error, measured on validation patients.

Passes with dropout differ less than the map is wrong. Voxels are sorted by their spread, and the error that 68 % of
those with such a spread stay below is what is stated. Of regions, the spread of attenuation factors is scaled by one
number, which to first order is the error of the activity's regional means.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from spectac.learned.loss import mean_factors
from spectac.recon.errors import InputError
from spectac.recon.types import Array

KNOTS = 16
"""Spreads at which the error of voxels is measured, with as many voxels between each pair."""
LEAST_WATER = 0.1
"""Voxels count where the map or the true one exceeds this share of water."""
LEAST_SPREAD = 1e-4
"""Of factors, relative; passes that agree better do not know better."""
SOME = 4000
"""Voxels of each patient, chosen by chance."""


@dataclass(frozen=True)
class SpreadScale:
    """From the spread of passes to half-widths that hold 68 % and 95 % of the errors.

    Parameters
    ----------
    spread
        Standard deviations of the passes of a voxel, over water, in rising order.
    voxels
        Half-width over water that holds 68 % of the errors of voxels with these spreads.
    voxels_95
        Half-width that holds 95 % over that of 68 %.
    regions
        Half-width that holds 68 % of the regional errors, over the mean relative spread of the region's factors, which
        counts as LEAST_SPREAD at least.
    regions_95
        The same for 95 %.

    Examples
    --------
    >>> scale = SpreadScale((0.0, 0.1), (0.01, 0.2), 2.5, 2.0, 5.0)
    >>> round(float(scale.of_voxels(np.array([0.05]))[0]), 3)
    0.105
    """

    spread: tuple[float, ...]
    voxels: tuple[float, ...]
    voxels_95: float
    regions: float
    regions_95: float

    def of_voxels(self, spread: Array) -> Array:
        """Half-widths over water that hold 68 % of the errors of voxels with these spreads over water.

        Beyond the measured spreads they grow and shrink in proportion, so that air without a spread has none.
        """
        knots, widths = (0.0, *self.spread), (0.0, *self.voxels)
        beyond = np.maximum(np.asarray(spread) / max(self.spread[-1], 1e-9), 1.0)
        return np.asarray(np.interp(spread, knots, widths) * beyond, np.float32)

    def of_factors(self, spread: Array) -> Array:
        """Relative spreads of factors, scaled so that their mean over a region holds 68 % of its errors."""
        return (self.regions * np.maximum(spread, LEAST_SPREAD)).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Plain values that json.dumps takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "SpreadScale":
        """Scale from the values of `to_json`."""
        return cls(
            tuple(values["spread"]),
            tuple(values["voxels"]),
            float(values["voxels_95"]),
            float(values["regions"]),
            float(values["regions_95"]),
        )


@dataclass(frozen=True, eq=False)
class SpreadErrors:
    """Spreads and errors of one patient.

    Parameters
    ----------
    voxels
        (n, 2) spread and size of the error of voxels, over water.
    regions
        (r, 2) mean spread of the factors and size of the error of regions, relative.

    Examples
    --------
    >>> SpreadErrors(np.zeros((5, 2)), np.zeros((1, 2))).regions.shape
    (1, 2)
    """

    voxels: Array
    regions: Array


def factor_spread(volumes: Array, water_per_voxel: float) -> Array:
    """Relative standard deviation of the passes' mean attenuation factors.

    Parameters
    ----------
    volumes
        Maps (n, z, y, x) over mu of water.
    water_per_voxel
        Attenuation of a voxel of water.

    Returns
    -------
    Array
        float32 (z, y, x).

    Examples
    --------
    >>> float(factor_spread(np.ones((2, 4, 4, 4), np.float32), 0.06).max())
    0.0
    """
    factors = _factors(volumes, water_per_voxel)
    return np.asarray(factors.std(axis=0) / factors.mean(axis=0), np.float32)


def _factors(volumes: Array, water_per_voxel: float) -> Array:
    return mean_factors(torch.from_numpy(np.asarray(volumes, np.float32)) * water_per_voxel).numpy()


def spread_errors(
    volumes: Array, truth: Array, water_per_voxel: float, regions: Mapping[str, Array], index: int
) -> SpreadErrors:
    """Spreads and errors of a patient's passes.

    Parameters
    ----------
    volumes
        Maps (n, z, y, x) over mu of water.
    truth
        True map (z, y, x) over mu of water.
    water_per_voxel
        Attenuation of a voxel of water.
    regions
        Masks (z, y, x) by name.
    index
        Seed of the choice of voxels.

    Returns
    -------
    SpreadErrors
        Errors are sizes.

    Examples
    --------
    >>> maps = np.stack([np.full((8, 8, 8), 0.9, np.float32), np.full((8, 8, 8), 1.1, np.float32)])
    >>> found = spread_errors(maps, np.ones((8, 8, 8)), 0.06, {"all": np.ones((8, 8, 8), bool)}, 0)
    >>> bool(abs(found.voxels[:, 0] - 0.1).max() < 1e-6), bool(found.voxels[:, 1].max() < 1e-6)
    (True, True)
    """
    mean, spread = volumes.mean(axis=0), volumes.std(axis=0)
    there = np.flatnonzero((mean > LEAST_WATER) | (truth > LEAST_WATER))
    chosen = np.random.default_rng(index).choice(there, min(SOME, there.size), replace=False)
    voxels = np.stack([spread.ravel()[chosen], np.abs(mean - truth).ravel()[chosen]], axis=1)
    relative = factor_spread(volumes, water_per_voxel)
    estimate, true = _factors(np.stack([mean, truth]), water_per_voxel)
    ratio = true / estimate
    rows = [(relative[mask].mean(), abs(ratio[mask].mean() - 1.0)) for mask in regions.values()]
    return SpreadErrors(voxels, np.array(rows).reshape(-1, 2))


def measured_scale(patients: Iterable[SpreadErrors]) -> SpreadScale:
    """Scale from validation patients.

    Parameters
    ----------
    patients
        Spreads and errors of each.

    Returns
    -------
    SpreadScale
        Half-widths do not fall where spreads rise.

    Raises
    ------
    InputError
        Where there is no patient with a region.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> spread = rng.uniform(0.01, 0.1, 8000)
    >>> both = np.stack([spread, np.abs(2.0 * spread * rng.standard_normal(8000))], axis=1)
    >>> scale = measured_scale([SpreadErrors(both, both)])
    >>> round(float(scale.of_voxels(np.array([0.05]))[0]), 2), round(scale.regions, 1)
    (0.1, 2.0)
    """
    errors = list(patients)
    voxels = np.concatenate([one.voxels for one in errors]) if errors else np.empty((0, 2))
    regions = np.concatenate([one.regions for one in errors]) if errors else np.empty((0, 2))
    if len(voxels) < KNOTS**2 or not len(regions):
        raise InputError("the validation patients show too little to measure the spread of maps: make more of them")
    ordered = voxels[np.argsort(voxels[:, 0], kind="stable")]
    parts = np.array_split(ordered, KNOTS)
    spread = np.array([part[:, 0].mean() for part in parts])
    half_width = np.maximum.accumulate([np.quantile(part[:, 1], 0.68) for part in parts])
    stated = np.maximum(np.interp(voxels[:, 0], spread, half_width), 1e-9)
    ratios = regions[:, 1] / np.maximum(regions[:, 0], LEAST_SPREAD)
    within_68, within_95 = np.quantile(ratios, (0.68, 0.95))
    return SpreadScale(
        tuple(spread.tolist()),
        tuple(half_width.tolist()),
        float(np.quantile(voxels[:, 1] / stated, 0.95)),
        float(within_68),
        float(within_95),
    )
