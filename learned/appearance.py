"""How a head shows in preview images and projections: what a network's input is compared with training's by."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, label

from spectac.learned.inputs import head_level
from spectac.recon.contour_preview import measured
from spectac.recon.errors import InputError
from spectac.recon.types import Array, Image

SHAPE_SIGMA_MM, SHAPE_SHARE = 8.0, 0.15
"""What is above this share of the head's level after this Gaussian is head: noise leaves pieces of 30 mL at most."""
LEAST_HEAD_ML = 1800.0
"""Less than this shows no outline that could be judged: children of 5 years show 2.5 L."""
LEAST_ELONGATION = 0.06
"""A head rounder than that has no direction."""
TOP_MM2 = 500.0
"""A slice with so much of the head is the highest one, as for the preview's grid."""


@dataclass(frozen=True)
class Appearance:
    """How a head shows in the photopeak: volume in mL, second part's over the first's, hottest 5 mL over its level.

    `height_mm` is how far the measured field reaches down from the highest slice of the head. `turn_deg` is the angle
    in plane between the long axis and front to back, NaN where no outline shows or it is round.
    """

    head_ml: float
    second: float
    hottest: float
    height_mm: float
    turn_deg: float

    @classmethod
    def of(cls, photopeak: Image) -> "Appearance | None":
        """Appearance in a preview, None where it is empty or no head stands out."""
        preview = measured(photopeak)
        if preview is None or preview.head <= 0:
            return None
        smooth = gaussian_filter(preview.values, SHAPE_SIGMA_MM / preview.voxel_mm, mode="nearest")
        parts, _ = label(smooth > SHAPE_SHARE * preview.head)
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        if not sizes.any():
            return None
        order = np.sort(sizes)[::-1]
        head_ml = float(order[0]) * photopeak.grid.voxel_ml
        head = parts == np.argmax(sizes)
        high = np.flatnonzero(head.sum(axis=(1, 2)) * preview.voxel_mm[1] ** 2 >= TOP_MM2)
        return cls(
            head_ml,
            float(order[1] / order[0]) if order.size > 1 else 0.0,
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


def columns_mm(columns: int, pixel_mm: float) -> Array:
    """Distance (u,) of the columns' middles from the middle of the matrix."""
    return (np.arange(columns) - 0.5 * (columns - 1)) * pixel_mm


def edge_share(counts: Array, place_mm: Array) -> float:
    """Counts (v, z, u) at the sides of the field over those in the middle of the head, mean over the views.

    `place_mm` (u,) is where the columns lie from the axis. The sides are the outermost 8 mm, or all beyond 120 mm from
    the axis where the field is wider than training's; of left and right the fuller one counts, at the heights of the
    head. What the darkest tenth of the rows holds there is taken off first: photons above 400 keV lie over all of the
    field.
    """
    half = float(np.abs(place_mm).max())
    beside = np.abs(place_mm) > min(half - 6.0, 119.0)
    totals = counts.sum(axis=(0, 2), dtype=np.float64)
    if not totals.any() or beside.all():
        return 0.0
    rows = totals > 0.5 * totals.max()
    level = float(np.quantile(counts[:, :, beside].mean(axis=(0, 2)), 0.1))
    profiles = gaussian_filter(counts[:, rows].mean(axis=1), (0.0, 1.0), mode="nearest") - level
    middle = np.sort(profiles, axis=1)[:, -max(1, int(48.0 / (place_mm[1] - place_mm[0]))) :].mean(axis=1)
    at_sides = profiles[:, beside].max(axis=1)
    known = middle > 0
    return float((at_sides[known] / middle[known]).mean()) if known.any() else 0.0


def sharper(photopeak: Array, scatter: Array, voxel_ml: float) -> float:
    """Detail of structures of 2 to 4 cm in one preview (z, y, x) over that in another, each over its head level.

    Scattered photons have lost where they came from, so that the photopeak holds more of it. Finer structure would be
    noise, of which the scatter window has more. Where both show the head; NaN where either is empty.
    """
    try:
        scaled = [values / head_level(values, voxel_ml) for values in (photopeak, scatter)]
    except InputError:
        return math.nan
    coarse = [gaussian_filter(values, 2.0) for values in scaled]
    head = (coarse[0] > 0.3) & (coarse[1] > 0.3)
    detail = [
        float(np.abs(one - gaussian_filter(values, 4.0))[head].sum())
        for one, values in zip(coarse, scaled, strict=True)
    ]
    return detail[0] / detail[1] if detail[1] > 0 else math.nan
