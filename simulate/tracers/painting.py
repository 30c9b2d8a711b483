"""Painting uptake into a head: a level for each region, smooth variation inside, gradients and focal changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import Array, Grid
from spectac.simulate.anatomy.distance_fields import SmoothField
from spectac.simulate.draws import between, one_of
from spectac.simulate.regions import BESIDE, LABEL, REGIONS, SIDES, labels

COLD = (*BESIDE, *labels("air cavity"))
"""Labels of regions without a tracer, whatever it is."""

Parameter = float | int | bool | str


@dataclass(frozen=True, eq=False)
class Painted:
    """A drawn tracer before it is scaled to an activity.

    Parameters
    ----------
    relative
        (z, y, x) float32.
    kbq
        Activity over the regions `over`.
    over
        Labels of those regions.
    nuclide
        Name of the nuclide.
    parameters
        Everything that was drawn.
    lesion
        (z, y, x) bool, None without one.
    """

    relative: Array
    kbq: float
    over: tuple[int, ...]
    nuclide: str
    parameters: Mapping[str, Parameter]
    lesion: Array | None = None


def chosen_kind(rng: np.random.Generator, kinds: Mapping[str, float], kind: str | None) -> str:
    """The patient's case: drawn with its share unless it is given; the draw is made in both cases.

    Parameters
    ----------
    rng
        Generator.
    kinds
        Shares of the cases.
    kind
        Given case, or None.

    Returns
    -------
    str
        A key of `kinds`.

    Raises
    ------
    InputError
        For a case that is not among them.

    Examples
    --------
    >>> chosen_kind(np.random.default_rng(1), {"healthy": 1.0, "absent": 0.0}, None)
    'healthy'
    """
    drawn = one_of(rng, kinds.items())
    if kind is not None and kind not in kinds:
        raise InputError(f"kind {kind!r} is not one of {', '.join(kinds)}")
    return drawn if kind is None else kind


Limits = tuple[float, float]


def dose(
    rng: np.random.Generator, nuclide: str, injected_mbq: Limits, brain_share: Limits, hours: Limits
) -> tuple[float, dict[str, Parameter]]:
    """Activity in the brain in kBq when the acquisition starts, and the numbers that it follows from.

    Parameters
    ----------
    rng
        Generator.
    nuclide
        Name of the nuclide, for its decay.
    injected_mbq, brain_share, hours
        Limits of the injected activity in MBq, of the brain's share of it, and of the hours after injection.

    Returns
    -------
    float
        Activity in kBq.
    dict of str to float
        Injected activity in MBq, share, and hours.

    Examples
    --------
    >>> kbq, _ = dose(np.random.default_rng(1), "Tc-99m", (740.0, 740.0), (0.05, 0.05), (6.0072, 6.0072))
    >>> round(kbq, -1)
    18500.0
    """
    injected, share, after = (between(rng, *limits) for limits in (injected_mbq, brain_share, hours))
    decay = float(np.exp2(-after * 3600.0 / nuclide_by_name(nuclide).half_life_s))
    numbers: dict[str, Parameter] = {"injected_mbq": injected, "brain_share": share, "hours_after_injection": after}
    return 1000.0 * injected * share * decay, numbers


def drawn_levels(rng: np.random.Generator, ranges: Mapping[str, Limits]) -> dict[str, float]:
    """A level for each region, drawn uniformly in the order of the ranges.

    Parameters
    ----------
    rng
        Generator.
    ranges
        Limits by region name.

    Returns
    -------
    dict of str to float
        Levels by region name.

    Examples
    --------
    >>> drawn_levels(np.random.default_rng(1), {"eye": (0.2, 0.2)})
    {'eye': 0.2}
    """
    return {name: between(rng, *limits) for name, limits in ranges.items()}


def named(prefix: str, values: Mapping[str, float]) -> dict[str, Parameter]:
    """Parameters "prefix_name" from numbers by region.

    Parameters
    ----------
    prefix
        First word of the names.
    values
        Numbers by region name.

    Returns
    -------
    dict of str to float
        Numbers by name, blanks replaced by underscores.

    Examples
    --------
    >>> named("level", {"white matter": 0.5})
    {'level_white_matter': 0.5}
    """
    return {f"{prefix}_{name.replace(' ', '_')}": value for name, value in values.items()}


def table(levels: Mapping[str, float]) -> Array:
    """Level of every label (n,).

    Parameters
    ----------
    levels
        Levels by region name. A name without its side sets both sides, and yields to the names of single sides; regions
        without a name stay 0.

    Returns
    -------
    Array
        float64, one level for each of REGIONS; 0 for those of COLD.

    Examples
    --------
    >>> levels = table({"putamen": 4.0, "left putamen": 2.0})
    >>> levels[[LABEL["right putamen"], LABEL["left putamen"]]].tolist()
    [4.0, 2.0]
    """
    values = np.zeros(len(REGIONS), np.float64)
    for name, level in sorted(levels.items(), key=lambda item: item[0].split()[0] in SIDES):
        values[list(labels(name))] = level
    values[list(COLD)] = 0.0
    return values


def texture(rng: np.random.Generator, grid: Grid, sd: float, spacing_mm: float) -> Array:
    """Smooth random factors (z, y, x) about 1, never below a tenth.

    Parameters
    ----------
    rng
        Generator.
    grid
        Upright grid.
    sd
        Standard deviation.
    spacing_mm
        Length over which the factors vary.

    Returns
    -------
    Array
        float32 (z, y, x).

    Examples
    --------
    >>> grid = Grid.upright((16, 16, 16), (10.0, 10.0, 10.0), (-75.0, -75.0, -75.0))
    >>> factors = texture(np.random.default_rng(1), grid, sd=0.05, spacing_mm=20.0)
    >>> round(float(factors.mean()), 1), round(float(factors.std()), 2)
    (1.0, 0.05)
    """
    field = SmoothField(rng, spacing_mm).on_axes(*grid.centres_mm())
    return np.maximum(1.0 + np.float32(sd) * field, np.float32(0.1))


def painted(head_labels: Array, values: Array, factors: Array) -> Array:
    """Uptake (z, y, x) float32 whose mean over every region is that region's value, varying inside as the factors.

    Parameters
    ----------
    head_labels
        (z, y, x) labels.
    values
        (n,) value of every label.
    factors
        (z, y, x) relative variation.

    Returns
    -------
    Array
        Uptake in the unit of the values.

    Examples
    --------
    >>> painted(np.array([[[1, 1]]]), np.array([0.0, 3.0]), np.array([[[0.5, 1.5]]])).tolist()
    [[[1.5, 4.5]]]
    """
    count = np.bincount(head_labels.ravel(), minlength=values.size)
    total = np.bincount(head_labels.ravel(), weights=factors.ravel(), minlength=values.size)
    scale = np.divide(values * count, total, out=np.zeros(values.size), where=total > 0)
    return np.asarray(scale.astype(np.float32)[head_labels] * factors, dtype=np.float32)


def points_mm(mask: Array, grid: Grid) -> Array:
    """Positions (n, 3) of a mask's voxels as (x, y, z) in LPS mm, in the order of a boolean index.

    Parameters
    ----------
    mask
        (z, y, x) bool.
    grid
        Upright grid.

    Returns
    -------
    Array
        float64 (n, 3).

    Examples
    --------
    >>> grid = Grid.upright((1, 1, 2), (4.0, 4.0, 4.0), (-2.0, 30.0, 5.0))
    >>> points_mm(np.array([[[False, True]]]), grid).tolist()
    [[2.0, 30.0, 5.0]]
    """
    z, y, x = grid.centres_mm()
    k, j, i = np.nonzero(mask)
    return np.stack([x[i], y[j], z[k]], axis=1)


def front_to_back(mask: Array, grid: Grid) -> Array:
    """Place (n,) of a mask's voxels along the region's longest axis: 0 its front end, 1 its back end.

    Parameters
    ----------
    mask
        (z, y, x) bool.
    grid
        Upright grid.

    Returns
    -------
    Array
        float64 (n,) from 0 to 1, in the order of a boolean index; 0 for a mask of fewer than two voxels.

    Examples
    --------
    >>> grid = Grid.upright((1, 3, 1), (4.0, 4.0, 4.0), (0.0, -4.0, 0.0))
    >>> front_to_back(np.ones(grid.shape, bool), grid).round(6).tolist()
    [0.0, 0.5, 1.0]
    """
    points = points_mm(mask, grid)
    if len(points) < 2:
        return np.zeros(len(points))
    centred = points - points.mean(axis=0)
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    along = centred @ (axis if axis[1] > 0 else -axis)
    return np.asarray((along - along.min()) / max(np.ptp(along), 1e-9))


def ball(grid: Grid, centre_mm: Sequence[float] | Array, radius_mm: float) -> Array:
    """Smooth ball (z, y, x) float32: 1 in its middle, one half at the radius, 0 from 1.5 radii on.

    Parameters
    ----------
    grid
        Upright grid.
    centre_mm
        (x, y, z) in LPS mm.
    radius_mm
        Radius in mm.

    Returns
    -------
    Array
        Values from 0 to 1.

    Examples
    --------
    >>> grid = Grid.upright((1, 1, 4), (4.0, 4.0, 5.0), (0.0, 0.0, 0.0))
    >>> ball(grid, (0.0, 0.0, 0.0), radius_mm=10.0).tolist()
    [[[1.0, 1.0, 0.5, 0.0]]]
    """
    z, y, x = grid.centres_mm()
    cx, cy, cz = (float(c) for c in centre_mm)
    square = (z[:, None, None] - cz) ** 2 + (y[None, :, None] - cy) ** 2 + (x[None, None, :] - cx) ** 2
    ramp = np.clip(1.5 - np.sqrt(square) / radius_mm, 0.0, 1.0)
    return np.asarray(ramp * ramp * (3.0 - 2.0 * ramp), dtype=np.float32)


def somewhere(rng: np.random.Generator, mask: Array, grid: Grid) -> Array:
    """Position (3,) in LPS mm (x, y, z) of a random voxel of a mask; the grid's middle for an empty one.

    Parameters
    ----------
    rng
        Generator.
    mask
        (z, y, x) bool.
    grid
        Upright grid.

    Returns
    -------
    Array
        Centre of the voxel in mm.

    Examples
    --------
    >>> grid = Grid.upright((1, 1, 2), (4.0, 4.0, 4.0), (-2.0, 30.0, 5.0))
    >>> somewhere(np.random.default_rng(1), np.array([[[False, True]]]), grid).tolist()
    [2.0, 30.0, 5.0]
    """
    z, y, x = grid.centres_mm()
    flat = np.flatnonzero(mask)
    chosen = rng.random()
    voxel = flat[int(chosen * flat.size)] if flat.size else mask.size // 2
    k, j, i = np.unravel_index(voxel, mask.shape)
    return np.array([x[i], y[j], z[k]])


def region(head_labels: Array, *names: str) -> Array:
    """Mask (z, y, x) of regions.

    Parameters
    ----------
    head_labels
        (z, y, x) labels.
    names
        Names of regions; a name without its side means both sides.

    Returns
    -------
    Array
        bool (z, y, x).

    Raises
    ------
    InputError
        For an unknown name.

    Examples
    --------
    >>> head_labels = np.array([[[LABEL["left putamen"], LABEL["right putamen"], LABEL["skin"]]]])
    >>> region(head_labels, "putamen").tolist()
    [[[True, True, False]]]
    """
    wanted = np.zeros(len(LABEL), bool)
    wanted[list(labels(*names))] = True
    return np.asarray(wanted[head_labels])


def soft_tissues(rng: np.random.Generator) -> dict[str, float]:
    """Levels of the tissues outside the skull, of its bone and of the glands, all above 0.

    Parameters
    ----------
    rng
        Generator.

    Returns
    -------
    dict of str to float
        Levels by region name, where the brain's are about 1. Mucosa and glands may exceed the brain.

    Examples
    --------
    >>> levels = soft_tissues(np.random.default_rng(1))
    >>> 0 < levels["skull"] < levels["muscle"]
    True
    """
    tone = between(rng, 0.5, 1.5)
    glands = float(np.exp(rng.normal(0.5, 0.5)))
    ranges = {
        "skin": (tone, 0.3, 0.7),
        "fat": (tone, 0.08, 0.25),
        "muscle": (tone, 0.25, 0.6),
        "mucosa": (1.0, 0.4, 2.0),
        "skull": (1.0, 0.05, 0.15),
        "diploe": (1.0, 0.15, 0.5),
        "dense bone": (1.0, 0.04, 0.12),
        "teeth": (1.0, 0.02, 0.08),
        "spine": (1.0, 0.2, 0.6),
        "right parotid gland": (glands, 0.8, 1.2),
        "left parotid gland": (glands, 0.8, 1.2),
        "right submandibular gland": (glands, 0.6, 1.3),
        "left submandibular gland": (glands, 0.6, 1.3),
    }
    return {name: factor * between(rng, low, high) for name, (factor, low, high) in ranges.items()}
