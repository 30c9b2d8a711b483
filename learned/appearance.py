"""Summary statistics of previews and projections, used to test whether a study resembles the training data."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, label

from spectac.learned.inputs import head_level
from spectac.recon.contour_preview import measured
from spectac.recon.errors import InputError
from spectac.recon.preview import TOP_MM2, preview_factors
from spectac.recon.types import Array, Image

SHAPE_SIGMA_MM = 8.0
"""Standard deviation of the Gaussian before the head is segmented."""

SHAPE_SHARE = 0.15
"""Threshold of the segmentation, relative to the head's level. Noise leaves parts of 30 mL at most."""

LEAST_HEAD_ML = 1800.0
"""Smallest volume whose outline can be judged. Children of 5 years show 2.5 L."""

LEAST_ELONGATION = 0.06
"""Least anisotropy of the second moments in plane. Rounder heads have no long axis."""

EDGE_MM = 6.0
"""Column centres within this distance of the outermost one lie at the sides of the field."""

FAR_MM = 119.0
"""Columns beyond this distance from the axis lie at the sides of a field that is wider than those of training."""

MIDDLE_MM = 48.0
"""Width of the brightest columns of a profile, the middle of the head."""


@dataclass(frozen=True)
class Appearance:
    """How a head shows in the preview of the photopeak.

    Parameters
    ----------
    head_ml
        Volume of the largest part in mL.
    second
        Volume of the second largest part relative to the largest.
    hottest
        Level that the hottest 5 mL exceed, relative to the head's level.
    height_mm
        How far the measured field reaches down from the highest slice of the head, in mm.
    turn_deg
        Angle in plane from front to back to the long axis; NaN for small and for round heads.

    Examples
    --------
    >>> Appearance(3000.0, 0.01, 4.0, 180.0, math.nan).head_ml
    3000.0
    """

    head_ml: float
    second: float
    hottest: float
    height_mm: float
    turn_deg: float

    @classmethod
    def of(cls, photopeak: Image) -> "Appearance | None":
        """Appearance of a head in a preview, None where no head stands out.

        Parameters
        ----------
        photopeak
            Uncorrected preview of the photopeak.

        Examples
        --------
        >>> from spectac.recon import Grid
        >>> grid = Grid.upright((8, 8, 8), (4.0, 4.0, 4.0), (-14.0, -14.0, -14.0))
        >>> Appearance.of(Image(np.zeros(grid.shape), grid, "cps/mL")) is None
        True
        """
        preview = measured(photopeak)
        if preview is None or preview.head <= 0:
            return None
        smooth = gaussian_filter(preview.values, SHAPE_SIGMA_MM / preview.voxel_mm, mode="nearest")
        parts, count = label(smooth > SHAPE_SHARE * preview.head)
        if count == 0:
            return None
        sizes = np.bincount(parts.ravel())[1:]
        head = parts == 1 + np.argmax(sizes)
        largest, second = (*np.sort(sizes)[::-1], 0)[:2]
        head_ml = float(largest) * photopeak.grid.voxel_ml
        high = np.flatnonzero(head.sum(axis=(1, 2)) * preview.voxel_mm[1] ** 2 >= TOP_MM2)
        return cls(
            head_ml,
            float(second / largest),
            preview.peak / preview.head,
            float(high[-1] + 1) * preview.voxel_mm[0] if high.size else 0.0,
            _turn_deg(head) if head_ml >= LEAST_HEAD_ML else math.nan,
        )


def _turn_deg(head: Array) -> float:
    """Angle in plane from front to back (y) to the long axis of a mask (z, y, x), -90 to 90; NaN where it is round."""
    y, x = (axis - axis.mean() for axis in np.nonzero(head)[1:])
    along, across, mixed = float((y * y).mean()), float((x * x).mean()), float((x * y).mean())
    if math.hypot(along - across, 2.0 * mixed) < LEAST_ELONGATION * (along + across):
        return math.nan
    return 0.5 * math.degrees(math.atan2(2.0 * mixed, along - across))


def preview_pixel_mm(pixel_mm: tuple[float, float]) -> float:
    """Larger side in mm of the pixels from which previews are reconstructed.

    Parameters
    ----------
    pixel_mm
        Pixel (z, u) of the camera in mm.

    Returns
    -------
    float
        Side in mm, after the camera's pixels were added up.

    Examples
    --------
    >>> preview_pixel_mm((2.0, 2.4))
    4.8
    """
    return max(factor * length for factor, length in zip(preview_factors(pixel_mm), pixel_mm, strict=True))


def edge_share(counts: Array, place_mm: Array) -> float:
    """Counts at the sides of the field relative to those in the middle of the head, mean over the views.

    Of the left and the right side the fuller one counts, in the rows of the head. The level of the darkest tenth of the
    rows is subtracted first, because photons above 400 keV lie over the whole field.

    Parameters
    ----------
    counts
        Counts (v, z, u).
    place_mm
        Distances (u,) of the columns from the rotation axis in mm.

    Returns
    -------
    float
        Ratio, 0 where it cannot be told.

    Examples
    --------
    >>> edge_share(np.zeros((2, 4, 8)), 4.0 * np.arange(-3.5, 4.0))
    0.0
    """
    beside = np.abs(place_mm) > min(float(np.abs(place_mm).max()) - EDGE_MM, FAR_MM)
    totals = counts.sum(axis=(0, 2), dtype=np.float64)
    if not totals.any() or beside.all():
        return 0.0
    rows = totals > 0.5 * totals.max()
    level = float(np.quantile(counts[:, :, beside].mean(axis=(0, 2)), 0.1))
    profiles = gaussian_filter(counts[:, rows].mean(axis=1), (0.0, 1.0), mode="nearest") - level
    middle = np.sort(profiles, axis=1)[:, -max(1, int(MIDDLE_MM / (place_mm[1] - place_mm[0]))) :].mean(axis=1)
    at_sides = profiles[:, beside].max(axis=1)
    bright = middle > 0
    return float((at_sides[bright] / middle[bright]).mean()) if bright.any() else 0.0


def detail_ratio(photopeak: Array, scatter: Array, voxel_ml: float) -> float:
    """Detail of structures of 2 to 4 cm in the photopeak's preview over that in a scatter window's.

    Both are relative to their head level. Scattered photons have lost their place of origin, so that the photopeak
    holds more detail. Finer structures would be noise.

    Parameters
    ----------
    photopeak, scatter
        Previews (z, y, x) of voxels of 4 mm.
    voxel_ml
        Volume of a voxel in mL.

    Returns
    -------
    float
        Ratio inside the head, NaN where either image is empty.

    Examples
    --------
    >>> detail_ratio(np.zeros((8, 8, 8)), np.ones((8, 8, 8)), 0.064)
    nan
    """
    try:
        scaled = [values / head_level(values, voxel_ml) for values in (photopeak, scatter)]
    except InputError:
        return math.nan
    coarse = [gaussian_filter(values, 2.0) for values in scaled]
    head = (coarse[0] > 0.3) & (coarse[1] > 0.3)
    detail = [
        float(np.abs(fine - gaussian_filter(values, 4.0))[head].sum())
        for fine, values in zip(coarse, scaled, strict=True)
    ]
    return detail[0] / detail[1] if detail[1] > 0 else math.nan
