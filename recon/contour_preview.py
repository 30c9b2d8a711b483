"""A preview as the head outline reads it: the measured slices less the level of the air, and the level of the head.

The air is not dark where photons penetrate the septa or come from beside the field. For I-123, photons above 400 keV
gave a tenth of the brain's level in the whole field, highest near the axis and the head's middle. The air's level is
therefore a smooth function, fitted where there is certainly no head.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, label

from spectac.recon.errors import InputError
from spectac.recon.types import Array, Image

HEAD_ML = 400.0
"""The head's level is what this volume exceeds: a third of a brain, and twice two striata or glands with their blur."""
SLICE_MM2 = 6000.0
"""The same in one slice: a third of a brain's section, half of a neck's, twice two blurred striata."""
FOCAL_RATIO = 0.03
"""Head level over that of the hottest 5 mL: at least 0.1 for striata of ten times the brain, about 0 for foci alone."""
ROUGH_SIGMA_MM = 8.0
"""Gaussian, against noise, after which the head is found roughly."""
ROUGH_SHARE = 0.3
"""Share of the head's level above which a voxel is head after that Gaussian."""
BESIDE_MM = 28.0
"""Distance from that head beyond which there is air: 12 mm to the skin, and the blur."""
AIR_MM = 115.0
"""Distance from the field's axis beyond which a first level of the air is read."""
RIM_MM = 14.0
"""In this outermost ring of a field OSEM piles up the counts of what lies beyond: 1.4 times the air farther in."""
LEAST_AIR_ML = 100.0
"""In less air nothing is fitted: some 30 independent volumes of noise for four unknowns."""
NOISY_SHARE = 0.03
"""Noise over the head's level above which the surface is smoothed more: thrice that is its low threshold."""


@dataclass(frozen=True, eq=False)
class Preview:
    """Measured slices of a preview, less the level of the air.

    Parameters
    ----------
    values
        Values (z, y, x); negative where noise lies below the air's level.
    voxel_mm
        Voxel sizes (z, y, x) in mm.
    first
        Index of the first measured slice.
    outside
        True (z, y, x) in the air, and nowhere where too little of it is seen.
    air
        Mean level of the air.
    noise
        Standard deviation of the air after a Gaussian of one voxel; 0 where no air is known.
    head
        Level that HEAD_ML exceed.
    peak
        Level that 5 mL exceed.
    slices
        Level (z,) that SLICE_MM2 of each slice exceed.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((4, 64, 64), (4.0, 4.0, 4.0), (-126.0, -126.0, 0.0))
    >>> measured(Image(np.ones(grid.shape), grid, "cps/mL")).first
    0
    """

    values: Array
    voxel_mm: Array
    first: int
    outside: Array
    air: float
    noise: float
    head: float
    peak: float
    slices: Array

    @property
    def focal(self) -> bool:
        """True where the image shows foci and no head."""
        return self.head < FOCAL_RATIO * self.peak

    @property
    def faint(self) -> bool:
        """True where the head does not stand out from the air."""
        return self.head <= self.air

    @property
    def trust(self) -> float:
        """1 where the noise lies below NOISY_SHARE of the head's level, else how far it would have to fall."""
        return min(1.0, NOISY_SHARE * self.head / max(self.noise, 1e-30))


def measured(image: Image) -> Preview | None:
    """Measured part of a preview and its levels.

    Parameters
    ----------
    image
        Preview along the patient's axes.

    Returns
    -------
    Preview or None
        Measured slices; None where the image is empty.

    Raises
    ------
    InputError
        For a tilted image.

    Examples
    --------
    >>> from spectac.recon import Grid
    >>> grid = Grid.upright((4, 64, 64), (4.0, 4.0, 4.0), (-126.0, -126.0, 0.0))
    >>> measured(Image(np.zeros(grid.shape), grid, "cps/mL")) is None
    True
    """
    if not image.grid.is_upright:
        raise InputError("the head outline needs a preview along the patient's axes")
    totals = image.values.sum(axis=(1, 2), dtype=np.float64)
    hit = np.flatnonzero(totals > 0)
    if hit.size == 0:
        return None
    first, last = int(hit[0]), int(hit[-1]) + 1
    # The field may end within a voxel, whose mean is then too low.
    if last - first > 4:
        first += int(totals[first] < 0.7 * totals[first + 1])
        last -= int(totals[last - 1] < 0.7 * totals[last - 2])
    values = image.values[first:last]
    voxel_mm = np.array(image.grid.voxel_mm)
    _, y, x = image.grid.centres_mm()
    far = np.hypot((y - y.mean())[:, None], (x - x.mean())[None, :]) > AIR_MM
    air = float(np.median(values[:, far])) if far.any() else 0.0
    head = exceeded(values, HEAD_ML, voxel_mm) - air
    beyond_mm = _beyond_mm(values, voxel_mm)
    outside = _outside(values, air + ROUGH_SHARE * head, voxel_mm)
    if (outside & (beyond_mm < -RIM_MM)).sum() * image.grid.voxel_ml > LEAST_AIR_ML:
        level = _air_level(values, outside, beyond_mm, voxel_mm)
        air = float(level[~outside].mean())
        values = values - level
    else:
        outside = np.zeros(values.shape, bool)
        values = values - np.float32(air)
    noise = float(gaussian_filter(values, 1.0, mode="nearest")[outside].std()) if outside.any() else 0.0
    rank = min(int(SLICE_MM2 / voxel_mm[1] ** 2), values[0].size - 1)
    slices = np.sort(values.reshape(len(values), -1), axis=1)[:, -1 - rank]
    head, peak = (exceeded(values, ml, voxel_mm) for ml in (HEAD_ML, 5.0))
    return Preview(values, voxel_mm, first, outside, air, noise, head, peak, slices)


def exceeded(values: Array, ml: float, voxel_mm: Array) -> float:
    """Level that a volume exceeds.

    Parameters
    ----------
    values
        Image (z, y, x).
    ml
        Volume in mL; 15 % of the image where that is less.
    voxel_mm
        Voxel sizes (z, y, x) in mm.

    Returns
    -------
    float
        Level in the unit of the image.

    Examples
    --------
    >>> exceeded(np.arange(100.0).reshape(4, 5, 5), 1.0, np.array([4.0, 5.0, 5.0]))
    89.0
    """
    rank = int(min(1000.0 * ml / voxel_mm.prod(), 0.15 * values.size))
    return float(np.partition(values, values.size - 1 - rank, axis=None)[values.size - 1 - rank])


def largest(marked: Array) -> Array:
    """Largest connected part of a mask, with 6 neighbours.

    Parameters
    ----------
    marked
        Mask of booleans.

    Returns
    -------
    Array
        Mask of the same shape.

    Examples
    --------
    >>> largest(np.array([True, True, False, True])).tolist()
    [True, True, False, False]
    """
    parts, count = label(marked)
    if count < 2:
        return marked
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == np.argmax(sizes))


def _beyond_mm(values: Array, voxel_mm: Array) -> Array:
    """Distance (y, x) in mm beyond the circle that fits into the measured field, negative inside of it."""
    seen = [np.flatnonzero((values > 0).any(axis=(0, 3 - axis))) for axis in (1, 2)]
    y, x = (np.arange(size) - 0.5 * (lines[0] + lines[-1]) for size, lines in zip(values.shape[1:], seen, strict=True))
    radius = 0.5 * min(lines[-1] - lines[0] + 1 for lines in seen)
    return np.asarray((np.hypot(y[:, None], x[None, :]) - radius) * voxel_mm[1])


def _outside(values: Array, threshold: float, voxel_mm: Array) -> Array:
    """True (z, y, x) in the air: far from what is bright, and not below it.

    Scalp, face and neck are often fainter than the threshold but lie under the brain. In slices at or below its top
    only the columns beside all that is bright are therefore taken.
    """
    rough = largest(gaussian_filter(values, ROUGH_SIGMA_MM / voxel_mm, mode="nearest") > threshold)
    if not rough.any():
        return np.zeros(values.shape, bool)
    top = int(np.flatnonzero(rough.any(axis=(1, 2)))[-1])
    beside = distance_transform_edt(~rough.any(axis=0), sampling=tuple(voxel_mm[1:])) > BESIDE_MM
    above = (np.arange(len(values)) - top) * voxel_mm[0] > BESIDE_MM
    return np.asarray(beside | above[:, None, None])


def _air_level(values: Array, outside: Array, beyond_mm: Array, voxel_mm: Array) -> Array:
    """Level (z, y, x) fitted to the voxels `outside`: 1, z, z^2, the squared distance from the axis; then the rim.

    Voxels of more than three usual deviations lose weight (Cauchy): arms, shoulders, activity on a pillow. At the
    field's rim the level is multiplied, per voxel of radius, by the mean ratio of the voxels to it over all slices.
    Where nothing was measured it is 0.
    """
    z, y, x = ((np.arange(n) - 0.5 * (n - 1)) * mm / 100.0 for n, mm in zip(values.shape, voxel_mm, strict=True))
    z = z[:, None, None]
    terms = [np.broadcast_to(term, values.shape) for term in (1.0, z, z**2, y[:, None] ** 2 + x[None, :] ** 2)]
    inner = outside & (beyond_mm < -RIM_MM)
    design = np.stack([term[inner] for term in terms], axis=-1)
    target = values[inner].astype(float)
    # The distance from the axis may be seen in a narrow ring only: its term is then left out rather than guessed.
    damping = np.diag([1e-9, 1e-9, 1e-9, 0.01]) * len(target)
    weights = np.ones(len(target))
    for _ in range(4):
        weighted = design * weights[:, None]
        coefficients = np.linalg.solve(weighted.T @ design + damping, weighted.T @ target)
        apart = target - design @ coefficients
        scale = 3.0 * max(float(np.sqrt(np.average(apart**2, weights=weights))), 1e-30)
        weights = 1.0 / (1.0 + (apart / scale) ** 2)
    level = np.maximum(sum(c * term for c, term in zip(coefficients, terms, strict=True)), 0.0)
    ring = np.maximum(np.floor((beyond_mm + RIM_MM) / voxel_mm[1]).astype(int) + 1, 0)
    rings = np.broadcast_to(ring, values.shape)[outside]
    held, expected = (
        np.bincount(rings, (a * (values > 0).any(axis=0))[outside], minlength=ring.max() + 1) for a in (values, level)
    )
    ratio = np.divide(held, expected, out=np.ones_like(held), where=expected > 0)
    ratio[0] = 1.0
    return np.asarray(np.where((values > 0).any(axis=0), level * ratio[ring], 0.0), np.float32)
