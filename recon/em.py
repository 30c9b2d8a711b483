"""Iterative reconstruction by OSEM; one subset is MLEM. Steps with a prior are those of bsrem.py or anchor.py."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spectac.recon.anchor import FLOOR, Anchor, AnchoredSteps, EmStep
from spectac.recon.bsrem import BsremSteps, RelativeDifferencePrior
from spectac.recon.errors import InputError
from spectac.recon.system import SystemModel
from spectac.recon.types import Array

FEWEST_VIEWS = 4
"""Views that a subset must have. With fewer an update sees too little of the object and the iteration cycles."""

SEEN_SHARE = 1e-6
"""Share of the largest sensitivity below which a voxel counts as not seen: only rounding errors reach it."""


@dataclass(frozen=True, eq=False)
class Update:
    """State after the update by one subset, which `on_update` gets.

    Parameters
    ----------
    done, total
        Updates so far, and in all.
    iteration
        Number of the iteration, from 0.
    image
        Current image (z, y, x) on the system's device. The next update overwrites it: copy it to keep it.
    lost
        Counts () of this subset in bins whose expectation is 0, on the system's device. No image explains them.
    purpose
        "image", or "scatter" for a coarse image that a scatter model is shown.

    Examples
    --------
    >>> Update(1, 10, 0, np.ones((2, 4, 4)), np.array(3.0)).lost_counts
    3.0
    """

    done: int
    total: int
    iteration: int
    image: Array
    lost: Array
    purpose: Literal["image", "scatter"] = "image"

    @property
    def lost_counts(self) -> float:
        """`lost` as a number; on a GPU this waits for all running work."""
        return float(self.lost)


def ordered_subsets(view_angles_deg: Array, subsets: int) -> list[Array]:
    """View indices of each subset, in the order of use.

    Subsets interleave the views by angle and differ in size by at most one. The next subset is the one farthest in
    angle from those used most recently.

    Parameters
    ----------
    view_angles_deg
        Angles (v,) of the views in degrees.
    subsets
        Number of subsets.

    Returns
    -------
    list of arrays
        Indices of the views of each subset.

    Raises
    ------
    InputError
        Where a subset would have fewer than 4 views.

    Examples
    --------
    >>> [subset.tolist() for subset in ordered_subsets(np.arange(0.0, 360.0, 45.0), 2)]
    [[0, 2, 4, 6], [1, 3, 5, 7]]
    """
    views = len(view_angles_deg)
    if subsets < 1:
        raise InputError(f"at least one subset is needed, not {subsets}")
    if subsets > 1 and views // subsets < FEWEST_VIEWS:
        raise InputError(
            f"{subsets} subsets of {views} views leave fewer than {FEWEST_VIEWS} views each: "
            f"use at most {max(1, views // FEWEST_VIEWS)} subsets"
        )
    ranked = np.argsort(np.mod(view_angles_deg, 360.0), kind="stable")
    used = [0]

    def distance(candidate: int) -> float:
        """Distance to the subsets used so far; each step back in time halves its weight."""
        gaps = [min((candidate - k) % subsets, (k - candidate) % subsets) for k in reversed(used)]
        return round(sum(gap * 0.5**age for age, gap in enumerate(gaps)), 9)

    while len(used) < subsets:
        used.append(max(set(range(subsets)) - set(used), key=lambda candidate: (distance(candidate), -candidate)))
    return [ranked[k::subsets] for k in used]


def osem(
    system: SystemModel,
    counts: Array,
    *,
    iterations: int,
    subsets: int,
    scatter: Array | None = None,
    start: Array | None = None,
    prior: RelativeDifferencePrior | Anchor | None = None,
    on_update: Callable[[Update], None] | None = None,
) -> Array:
    """Image that maximises the Poisson likelihood of the counts, by ordered subsets; MAP image with a prior.

    OSEM over subsets k: f <- f / (A_k^T 1) * A_k^T(y_k / (A_k f + s_k)) [1]_. With a relative-difference prior the
    steps are those of BSREM (`bsrem.BsremSteps`), with an anchor De Pierro's (`anchor.AnchoredSteps`). Nothing leaves
    the system's device between the updates.

    The start is uniform where the full sensitivity is positive; other voxels stay 0. A voxel without sensitivity in a
    subset keeps its value in that update, with an anchor it is drawn there. A voxel below 1e-20 of the image's maximum
    becomes 0, because subnormal numbers are slow. Bins whose expectation is 0 contribute nothing.

    Parameters
    ----------
    system
        System model A.
    counts
        Counts y (v, z, u) on the system's device.
    iterations, subsets
        Numbers of iterations and of subsets.
    scatter
        Expected scattered counts s (v, z, u) on the system's device.
    start
        Start image (z, y, x), at least 0.
    prior
        Prior of MAP: relative differences, or an anchor on the system's device.
    on_update
        Called after the update by each subset. An exception that it raises ends the reconstruction.

    Returns
    -------
    Array
        Image (z, y, x) in counts per second and mL on the system's device.

    Raises
    ------
    InputError
        For shapes that do not fit, values that are negative or NaN, and too many subsets.

    References
    ----------
    .. [1] Hudson and Larkin, IEEE Trans Med Imaging 1994;13:601-609, doi:10.1109/42.363108.

    Examples
    --------
    >>> from spectac.recon import Acquisition, SystemModel, default_grid
    >>> acquisition = Acquisition(
    ...     np.arange(0.0, 360.0, 30.0), np.full(12, 100.0), (1, 16), (8.0, 8.0), np.full(12, 10.0), "Tc-99m", None
    ... )
    >>> system = SystemModel(acquisition, default_grid(acquisition), resolution=False)
    >>> disc = np.zeros(system.image_shape, np.float32)
    >>> disc[0, 6:10, 6:10] = 1.0
    >>> image = osem(system, system.forward(disc), iterations=20, subsets=2)
    >>> float(image[0, 6:10, 6:10].mean().round(1))
    1.0
    """
    if iterations < 1:
        raise InputError(f"at least one iteration is needed, not {iterations}")
    data = _checked(system, counts, "counts")
    extra = None if scatter is None else _checked(system, scatter, "scatter")
    order = ordered_subsets(system.acquisition.view_angles_deg[system.view_indices], subsets)
    parts = [system.subset(views) for views in order]
    measured = [part.as_projections(data[views]) for part, views in zip(parts, order, strict=True)]
    expected = [
        None if extra is None else part.as_projections(extra[views]) for part, views in zip(parts, order, strict=True)
    ]
    sensitivities = [part.adjoint(np.ones_like(counts)) for part, counts in zip(parts, measured, strict=True)]
    full = sum(sensitivities[1:], start=sensitivities[0].copy(order="K"))
    seen = full > SEEN_SHARE * full.max()
    image = system.as_image(_start_image(start, system, data, extra, np.where(seen, full, full.dtype.type(0))))
    step: EmStep
    if prior is None:
        step = _em_steps(sensitivities, full, system)
    elif isinstance(prior, Anchor):
        anchor = system.as_image(np.maximum(prior.image, FLOOR * prior.image.max()), "anchor")
        step = AnchoredSteps(prior, anchor, seen.astype(anchor.dtype), _em_steps(sensitivities, full, system))
    else:
        step = BsremSteps(prior, sensitivities, full, seen, system.grid.voxel_mm)
    total = iterations * len(parts)
    for done in range(total):
        iteration, k = divmod(done, len(parts))
        backprojected, lost = parts[k].em_backprojection(image, measured[k], expected[k])
        step(image, backprojected, iteration, k)
        if on_update is not None:
            on_update(Update(done + 1, total, iteration, image, lost))
    return image


def _em_steps(sensitivities: list[Array], full: Array, system: SystemModel) -> EmStep:
    """OSEM's step: a voxel that the subset does not see keeps its value."""
    one, zero = full.dtype.type(1), full.dtype.type(0)
    inverses = []
    for sensitivity in sensitivities:
        sees = sensitivity > SEEN_SHARE / len(sensitivities) * full
        inverses.append(system.as_image(np.where(sees, one / np.where(sees, sensitivity, one), zero)))
    return lambda image, backprojected, iteration, k: system.em_update(image, backprojected, inverses[k])


def _checked(system: SystemModel, array: Array, name: str) -> Array:
    data = system.as_projections(array, name)
    if not np.isfinite(data).all() or data.min() < 0:
        raise InputError(f"{name} must be finite and not negative: iterative methods take counts, not differences")
    return data


def _start_image(
    start: Array | None, system: SystemModel, data: Array, extra: Array | None, sensitivity: Array
) -> Array:
    """Given or uniform image (z, y, x) with the counts of the data; 0 where the sensitivity is 0."""
    zero = sensitivity.dtype.type(0)
    if start is None:
        counts, scattered = (0.0 if one is None else float(one.sum(dtype=np.float64)) for one in (data, extra))
        level = max(counts - scattered, 0.01 * counts) / float(sensitivity[sensitivity > 0].sum(dtype=np.float64))
        return np.where(sensitivity > 0, sensitivity.dtype.type(level), zero)
    given = system.as_image(start, "start")
    if not np.isfinite(given).all() or given.min() < 0:
        raise InputError("start must be finite and not negative")
    return np.where(sensitivity > 0, given, zero)
