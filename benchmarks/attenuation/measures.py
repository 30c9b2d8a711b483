"""Measures of the attenuation study: of an image against a reference, and of a map against the true map."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from benchmarks.attenuation.patients import Case
from spectac.learned.outline_distance import mean_distance_mm, solid, surface_mm
from spectac.recon import MuMap
from spectac.recon.attenuation import chang_factors
from spectac.recon.quantify import nmse, striatal_binding_ratio, voi_mean
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Acquisition, Array

SOFT_TISSUE = 1.035
"""Brain over water at 140-160 keV: 0.159 over 0.1537, 0.153 over 0.1478 /cm."""
AIR_PER_CM = 1e-6
"""Least attenuation of a voxel whose factor is compared: 300 mm of it take 0.003 %."""
BONE = 1.2
"""Voxels above this multiple of soft tissue are bone, in both maps on the study's grid."""

IMAGE_MEASURES = (
    "raw_mean", "raw_worst", "scaled_mean", "scaled_worst", "sbr_error", "sbr_signed", "pattern_error",
    "pattern_signed", "uptake_error", "nmse_head", "nmse_volume",
)  # fmt: skip
"""Measures of an image, all in %.

- raw: |error| of regional means, its mean and the worst region's; scaled: both after one global scale
- sbr: |error| of the SBR, mean over both sides (DAT alone); pattern: the same of deep grey over cortex (perfusion);
  each also signed
- uptake: signed error of the whole brain's uptake
- nmse: squared error over the squared reference, inside the head and over the volume
"""

MAP_MEASURES = ("map_nmae", "bone_dice", "outline_mm", "factor_error")
"""Measures of a map.

- map_nmae: mean |error| over the true mean inside the head, in %
- bone_dice: Dice coefficient of bone
- outline_mm: mean distance between the true skin and the map's edge, both ways
- factor_error: mean |error| of the attenuation factors inside the head, in %
"""


def means(values: Array, case: Case) -> dict[str, float]:
    """Mean of an image (z, y, x) in every region of a case."""
    return {name: voi_mean(values, share) for name, share in case.regions.items()}


def image_measures(values: Array, reference: Array, case: Case) -> dict[str, float]:
    """IMAGE_MEASURES of an image against a reference (z, y, x), both in kBq/mL."""
    regional, wanted = means(values, case), means(reference, case)
    quotients = np.array([regional[name] / wanted[name] for name in case.compared])
    # Least squares of the relative errors: the sum of (s q - 1)^2 is smallest for this s.
    scaled = quotients * float(quotients.sum() / (quotients**2).sum())
    raw_errors, scaled_errors = (100.0 * np.abs(part - 1.0) for part in (quotients, scaled))
    ratio_errors = _ratios(regional, case) / _ratios(wanted, case) * 100.0 - 100.0
    kind, other = ("sbr", "pattern") if case.about["tracer"] == "dat" else ("pattern", "sbr")
    return {
        "raw_mean": float(raw_errors.mean()),
        "raw_worst": float(raw_errors.max()),
        "scaled_mean": float(scaled_errors.mean()),
        "scaled_worst": float(scaled_errors.max()),
        f"{kind}_error": float(np.abs(ratio_errors).mean()),
        f"{kind}_signed": float(ratio_errors.mean()),
        f"{other}_error": float("nan"),
        f"{other}_signed": float("nan"),
        "uptake_error": 100.0 * (regional["brain"] / wanted["brain"] - 1.0) if "brain" in regional else float("nan"),
        "nmse_head": 100.0 * nmse(values, reference, mask=(case.head > 0.5).astype(np.float32)),
        "nmse_volume": 100.0 * nmse(values, reference),
    }


def _ratios(regional: Mapping[str, float], case: Case) -> Array:
    """Binding ratio of every side, or deep grey over cortex; NaN where a region was left out."""
    over, under = case.ratio
    if any(name not in regional for name in (*over, under)):
        return np.full(1, np.nan)
    if case.about["tracer"] != "dat":
        return np.array([regional[over[0]] / regional[under]])
    return np.array([striatal_binding_ratio(regional[name], regional[under]) for name in over])


def map_measures(mu: MuMap, case: Case) -> dict[str, float]:
    """MAP_MEASURES of a map on the study's grid."""
    inside = case.head > 0.5
    true, per_cm = case.mu.per_cm, mu.per_cm
    water = water_per_cm(mu.energy_kev)
    bones = [(values > BONE * SOFT_TISSUE * water) & inside for values in (true, per_cm)]
    both, either = int((bones[0] & bones[1]).sum()), int(bones[0].sum() + bones[1].sum())
    true_factors, factors = (_factors(case.study.acquisition, part) for part in (case.mu, mu))
    return {
        "map_nmae": 100.0 * float(np.abs(per_cm - true)[inside].sum() / true[inside].sum()),
        "bone_dice": 2.0 * both / either if either else float("nan"),
        "outline_mm": skin_distance_mm(mu, case),
        "factor_error": 100.0 * float(np.abs(factors / true_factors - 1.0)[inside].mean()),
    }


def _factors(acquisition: Acquisition, mu: MuMap) -> Array:
    """Attenuation factors (z, y, x), also where the map is 0 and chang_factors gives 1."""
    return chang_factors(acquisition, replace(mu, per_cm=np.maximum(mu.per_cm, np.float32(AIR_PER_CM))))


def skin_distance_mm(mu: MuMap, case: Case) -> float:
    """Mean distance in mm between the true skin and a map's edge, both ways; infinite where the map has none.

    An edge lies where half of water is crossed between neighbours along y and x, in the largest connected body with its
    cavities filled. The nearest edge is searched in 3D, so that missing and surplus tissue cost their distance. The
    field's ends and the neck's open end are no surface. Below the lowest slice of the true head, where the simulation's
    neck ends, nothing is compared. Holder and pillow are no error, shown or not: the map is taken as it is and less
    their true attenuation, and the smaller distance counts.
    """
    true = _edge_mm(case.head_mu, case.head_mu.per_cm, 0)
    lowest = round(float(true[:, 0].min()) / mu.grid.voxel_mm[0])
    beside = np.maximum(case.mu.per_cm - case.head_mu.per_cm, 0.0)
    edges = [_edge_mm(mu, values, lowest) for values in (mu.per_cm, np.maximum(mu.per_cm - beside, 0.0))]
    return min(mean_distance_mm(true, edge) for edge in edges)


def _edge_mm(mu: MuMap, per_cm: Array, lowest: int) -> Array:
    """Points (n, 3) in mm of the edge of a map with these values (z, y, x), from slice `lowest` upwards."""
    shares = solid(np.clip(per_cm / water_per_cm(mu.energy_kev), 0.0, 1.0))[lowest:]
    return surface_mm(shares, mu.grid.voxel_mm) + np.array([lowest * mu.grid.voxel_mm[0], 0.0, 0.0])
