"""Painting uptake into a head: a level for each region, smooth variation inside, gradients and focal changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spectac.recon.types import Array, Grid
from spectac.simulate.anatomy.distance_fields import SmoothField
from spectac.simulate.regions import BESIDE, LABEL, REGIONS, SIDES, labels

COLD = (*BESIDE, *labels("air cavity"))
"""Regions without a tracer, whatever it is."""

Parameter = float | int | bool | str


@dataclass(frozen=True, eq=False)
class Painted:
    """A drawn tracer before it is scaled: `relative` (z, y, x) float32, and how much activity there is.

    The sum of the activity over the regions `over` (labels) is `kbq`. `lesion` (z, y, x) bool is None without one.
    """

    relative: Array
    kbq: float
    over: tuple[int, ...]
    nuclide: str
    parameters: Mapping[str, Parameter]
    lesion: Array | None = None


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """Uniform number as a plain float."""
    return float(rng.uniform(low, high))


def around(rng: np.random.Generator, mean: float, sd: float, low: float, high: float) -> float:
    """Normal number, cut to [low, high], as a plain float."""
    return float(np.clip(rng.normal(mean, sd), low, high))


def one_of(rng: np.random.Generator, shares: Mapping[str, float]) -> str:
    """One of the names, drawn with their shares."""
    names = list(shares)
    weights = np.array([shares[name] for name in names])
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def table(levels: Mapping[str, float]) -> Array:
    """Level of every label (n,) from levels by region name; a name without its side sets both, others stay 0.

    More special names win over those without a side, in whatever order they come.
    """
    values = np.zeros(len(REGIONS), np.float64)
    for name, level in sorted(levels.items(), key=lambda item: item[0].split()[0] in SIDES):
        values[list(labels(name))] = level
    values[list(COLD)] = 0.0
    return values


def texture(rng: np.random.Generator, grid: Grid, sd: float, spacing_mm: float) -> Array:
    """Smooth random factors (z, y, x) about 1 with that standard deviation, never below a tenth."""
    field = SmoothField(rng, spacing_mm).on_axes(*grid.centres_mm())
    return np.maximum(1.0 + np.float32(sd) * field, np.float32(0.1))


def painted(head_labels: Array, values: Array, factors: Array) -> Array:
    """Uptake (z, y, x) float32 whose mean over every region is its entry of `values`, varying inside as `factors`."""
    count = np.bincount(head_labels.ravel(), minlength=values.size)
    total = np.bincount(head_labels.ravel(), weights=factors.ravel(), minlength=values.size)
    scale = np.divide(values * count, total, out=np.zeros(values.size), where=total > 0)
    return np.asarray(scale.astype(np.float32)[head_labels] * factors, dtype=np.float32)


def points_mm(mask: Array, grid: Grid) -> Array:
    """Positions (n, 3) of a mask's voxels as (x, y, z) in LPS mm, in the order of a boolean index."""
    z, y, x = grid.centres_mm()
    k, j, i = np.nonzero(mask)
    return np.stack([x[i], y[j], z[k]], axis=1)


def front_to_back(mask: Array, grid: Grid) -> Array:
    """Place (n,) of a mask's voxels along the region's longest axis: 0 its front end, 1 its back end."""
    points = points_mm(mask, grid)
    if len(points) < 2:
        return np.zeros(len(points))
    centred = points - points.mean(axis=0)
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    along = centred @ (axis if axis[1] > 0 else -axis)
    return np.asarray((along - along.min()) / max(np.ptp(along), 1e-9))


def ball(grid: Grid, centre_mm: Sequence[float] | Array, radius_mm: float) -> Array:
    """Smooth ball (z, y, x) float32: 1 in its middle, one half at the radius, 0 from 1.5 radii on."""
    z, y, x = grid.centres_mm()
    cx, cy, cz = (float(c) for c in centre_mm)
    square = (z[:, None, None] - cz) ** 2 + (y[None, :, None] - cy) ** 2 + (x[None, None, :] - cx) ** 2
    ramp = np.clip(1.5 - np.sqrt(square) / radius_mm, 0.0, 1.0)
    return np.asarray(ramp * ramp * (3.0 - 2.0 * ramp), dtype=np.float32)


def somewhere(rng: np.random.Generator, mask: Array, grid: Grid) -> Array:
    """Position (3,) in LPS mm (x, y, z) of a random voxel of a mask; the grid's middle for an empty one."""
    z, y, x = grid.centres_mm()
    flat = np.flatnonzero(mask)
    chosen = rng.random()
    voxel = flat[int(chosen * flat.size)] if flat.size else mask.size // 2
    k, j, i = np.unravel_index(voxel, mask.shape)
    return np.array([x[i], y[j], z[k]])


def region(head_labels: Array, *names: str) -> Array:
    """Mask (z, y, x) of regions by name; a name without its side means both sides."""
    wanted = np.zeros(len(LABEL), bool)
    wanted[list(labels(*names))] = True
    return np.asarray(wanted[head_labels])


def soft_tissues(rng: np.random.Generator) -> dict[str, float]:
    """Levels outside the skull, of the skull itself, and of the glands: small next to the brain but never 0."""
    tone = between(rng, 0.5, 1.5)
    glands = float(np.exp(rng.normal(0.5, 0.5)))
    return {
        "skin": tone * between(rng, 0.3, 0.7),
        "fat": tone * between(rng, 0.08, 0.25),
        "muscle": tone * between(rng, 0.25, 0.6),
        "mucosa": between(rng, 0.4, 2.0),
        "skull": between(rng, 0.05, 0.15),
        "diploe": between(rng, 0.15, 0.5),
        "dense bone": between(rng, 0.04, 0.12),
        "teeth": between(rng, 0.02, 0.08),
        "spine": between(rng, 0.2, 0.6),
        "right parotid gland": glands * between(rng, 0.8, 1.2),
        "left parotid gland": glands * between(rng, 0.8, 1.2),
        "right submandibular gland": glands * between(rng, 0.6, 1.3),
        "left submandibular gland": glands * between(rng, 0.6, 1.3),
    }
