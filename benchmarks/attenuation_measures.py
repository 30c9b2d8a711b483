"""What the attenuation benchmark measures of an image and of a map."""

from collections.abc import Mapping

import numpy as np
from attenuation_patients import Case
from scipy.ndimage import binary_fill_holes
from scipy.spatial import cKDTree

from spectac.recon import MuMap
from spectac.recon.attenuation import chang_factors
from spectac.recon.nuclides import water_per_cm
from spectac.recon.quantify import nmse, striatal_binding_ratio, voi_mean
from spectac.recon.types import Array

SOFT_TISSUE = 1.035
"""Brain over water at 140-160 keV (DESIGN: 0.159 over 0.1537, 0.153 over 0.1478 /cm)."""
BONE = 1.2
"""Bone is what lies above this multiple of soft tissue, in both maps on the study's grid."""

IMAGE_MEASURES = (
    "raw_mean", "raw_worst", "scaled_mean", "scaled_worst", "ratio_error", "uptake_error", "nmse_head", "nmse_volume",
)  # fmt: skip
"""Measures of an image, all in %: |error| of regional means, its mean and the worst region's; both after one global
scale; signed error of the SBR (DAT: mean of both sides) or of deep grey over cortex (perfusion); signed error of the
whole brain's uptake; squared error over the squared reference inside the head, and over the volume."""

MAP_MEASURES = ("map_nmae", "bone_dice", "outline_mm", "factor_error")
"""Measures of a map: mean |error| over the true mean inside the head in %; Dice of bone; mean distance in mm from the
true skin to the map's edge; mean |error| of the attenuation factors inside the head in %."""


def means(values: Array, case: Case) -> dict[str, float]:
    """Mean of an image (z, y, x) in every region of a case."""
    return {name: voi_mean(values, share) for name, share in case.regions.items()}


def image_measures(values: Array, reference: Array, case: Case) -> dict[str, float]:
    """IMAGE_MEASURES of an image against a reference (z, y, x), both in kBq/mL."""
    own, wanted = means(values, case), means(reference, case)
    quotients = np.array([own[name] / wanted[name] for name in case.compared])
    # Least squares of the relative errors: the sum of (s q - 1)^2 is smallest for this s.
    scaled = quotients * float(quotients.sum() / (quotients**2).sum())
    raw_errors, scaled_errors = (100.0 * np.abs(part - 1.0) for part in (quotients, scaled))
    nan = float("nan")
    return {
        "raw_mean": float(raw_errors.mean()),
        "raw_worst": float(raw_errors.max()),
        "scaled_mean": float(scaled_errors.mean()),
        "scaled_worst": float(scaled_errors.max()),
        "ratio_error": _percent(_ratio(own, case), _ratio(wanted, case)),
        "uptake_error": _percent(own["brain"], wanted["brain"]) if "brain" in own else nan,
        "nmse_head": 100.0 * nmse(values, reference, mask=(case.head > 0.5).astype(np.float32)),
        "nmse_volume": 100.0 * nmse(values, reference),
    }


def _ratio(found: Mapping[str, float], case: Case) -> float:
    """Binding ratio, mean of the sides, or deep grey over cortex; NaN where a region was left out."""
    over, under = case.ratio
    if any(name not in found for name in (*over, under)):
        return float("nan")
    if case.about["tracer"] != "dat":
        return found[over[0]] / found[under]
    return float(np.mean([striatal_binding_ratio(found[name], found[under]) for name in over]))


def _percent(value: float, truth: float) -> float:
    return 100.0 * (value / truth - 1.0)


def map_measures(mu: MuMap, case: Case) -> dict[str, float]:
    """MAP_MEASURES of a map on the study's grid."""
    inside = case.head > 0.5
    true, own = case.mu.per_cm, mu.per_cm
    water = water_per_cm(mu.energy_kev)
    bones = [(values > BONE * SOFT_TISSUE * water) & inside for values in (true, own)]
    both, either = int((bones[0] & bones[1]).sum()), int(bones[0].sum() + bones[1].sum())
    wanted, found = (chang_factors(case.study.acquisition, part) for part in (case.mu, mu))
    return {
        "map_nmae": 100.0 * float(np.abs(own - true)[inside].sum() / true[inside].sum()),
        "bone_dice": 2.0 * both / either if either else float("nan"),
        "outline_mm": skin_distance_mm(case.head_mu, mu),
        "factor_error": 100.0 * float(np.abs(found / wanted - 1.0)[inside].mean()),
    }


def skin_distance_mm(true: MuMap, mu: MuMap) -> float:
    """Mean distance in mm from the skin of the true map to the nearest edge of the other, edges at half of water.

    Measured within slices, from the points where the grid's lines cross the edge; air inside the head is filled. One
    way only: a head holder that the other map shows is no error of the outline.
    """
    level = 0.5 * water_per_cm(true.energy_kev)
    pitch = true.grid.voxel_mm[1]
    distances: list[Array] = []
    for a, b in zip(true.per_cm, mu.per_cm, strict=True):
        skin = _crossings(_filled(a, level), level)
        edge = _crossings(_filled(b, level), level)
        if len(skin) and len(edge):
            distances.append(pitch * cKDTree(edge).query(skin)[0])
    return float(np.concatenate(distances).mean()) if distances else float("nan")


def _filled(values: Array, level: float) -> Array:
    """Slice (y, x) whose enclosed air is set to twice the level."""
    solid = values > level
    return np.where(binary_fill_holes(solid) & ~solid, 2.0 * level, values)


def _crossings(values: Array, level: float) -> Array:
    """Points (n, 2) in voxels where lines between neighbouring voxels cross the level, by linear interpolation."""
    points = []
    for axis in (0, 1):
        first, second = (np.delete(values, end, axis=axis) for end in (-1, 0))
        index = np.argwhere((first > level) != (second > level))
        before, after = first[tuple(index.T)], second[tuple(index.T)]
        place = index.astype(np.float64)
        place[:, axis] += (level - before) / (after - before)
        points.append(place)
    return np.concatenate(points)
