"""Iterative reconstruction: OSEM, MLEM (one subset), and MAP by BSREM with the relative-difference prior."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.kernels.subnormal import FAINT, subnormals_are_zero
from spectac.recon.system import SystemModel
from spectac.recon.types import Array

FEWEST_VIEWS = 4
"""Views that a subset must have: with fewer, an update sees too little of the object and the iteration cycles."""


@dataclass(frozen=True, eq=False)
class Update:
    """State after one subset's update, given to `on_update`.

    `done` of `total` updates; `image` (z, y, x) the estimate, on the system's device, which the next update overwrites:
    copy it to keep it, and do not write to it; `lost` () the measured counts in this subset's bins whose expectation is
    0, so that no image could explain them, on the device as well.
    """

    done: int
    total: int
    iteration: int
    image: Array
    lost: Array

    @property
    def lost_counts(self) -> float:
        """`lost` as a number; on a GPU this waits for all that is under way."""
        return float(self.lost)


@dataclass(frozen=True)
class RelativeDifferencePrior:
    """Relative-difference prior: U(f) = sum over pairs w (f_j - f_k)^2 / (f_j + f_k + gamma |f_j - f_k|).

    Pairs are the 26 neighbours, each once, w = smallest voxel length / distance of the centres. MAP maximises the
    Poisson log-likelihood minus beta * U.
    Reference: Nuyts et al., IEEE Trans Nucl Sci 2002;49:56-60, doi:10.1109/TNS.2002.998681.
    """

    beta: float
    gamma: float = 2.0

    def __post_init__(self) -> None:
        # 1e9 flattens any image; far above, float32 overflows.
        if not 0 <= self.beta <= 1e9:
            raise InputError(f"the prior's beta must be 0 or more and at most 1e9, not {self.beta}")
        if not 0 <= self.gamma <= 1e3:
            raise InputError(f"the prior's gamma must be 0 or more and at most 1000, not {self.gamma}")

    def value(self, image: Array, voxel_mm: tuple[float, float, float]) -> float:
        """U of an image (z, y, x) that is nowhere negative, without beta."""
        total = 0.0
        for near, far, weight in _neighbour_pairs(image.shape, voxel_mm):
            difference, size = image[near] - image[far], image[near] + image[far]
            below = size + self.gamma * np.abs(difference)
            total += weight * float((difference**2 / np.where(below > 0, below, 1)).sum())
        return total

    def gradient(self, image: Array, voxel_mm: tuple[float, float, float]) -> Array:
        """Derivative of U to every voxel (z, y, x), without beta; 0 where a pair is (0, 0)."""
        gradient = np.zeros_like(image)
        for near, far, weight in _neighbour_pairs(image.shape, voxel_mm):
            f, g = image[near], image[far]
            difference = f - g
            spread = self.gamma * np.abs(difference)
            # Every term is first divided by the sum, which may be tiny: its square would underflow.
            below = f + g + spread
            known = below > np.finfo(below.dtype).tiny * 4
            inverse = known / np.where(known, below, below.dtype.type(1))
            share = weight * (difference * inverse)
            gradient[near] += share * ((spread + f + 3 * g) * inverse)
            gradient[far] -= share * ((spread + g + 3 * f) * inverse)
        return gradient

    def stiffness(self, voxel_mm: tuple[float, float, float]) -> float:
        """Bound on f_j times the second derivative of beta * U to f_j, which limits the steps of BSREM.

        For one pair f_j d2U/df_j2 <= 8 w f_j f_k^2 / (f_j + f_k)^3 <= 32/27 w.
        """
        weights = 2.0 * sum(weight for _, _, weight in _neighbour_pairs((3, 3, 3), voxel_mm))
        return 32.0 / 27.0 * self.beta * weights


def _neighbour_pairs(
    shape: tuple[int, ...], voxel_mm: tuple[float, float, float]
) -> list[tuple[tuple[slice, ...], tuple[slice, ...], float]]:
    """For each of 13 directions: the voxels that have a neighbour there, those neighbours, and the pair's weight."""
    pairs = []
    for index in range(14, 27):
        step = (index // 9 - 1, index // 3 % 3 - 1, index % 3 - 1)
        near = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, shape, strict=True))
        far = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, shape, strict=True))
        distance = float(np.linalg.norm(np.multiply(step, voxel_mm)))
        pairs.append((near, far, min(voxel_mm) / distance))
    return pairs


def ordered_subsets(view_angles_deg: Array, subsets: int) -> list[Array]:
    """View indices of each subset, in the order of use.

    Subsets interleave the views by angle and differ in size by at most one; each next subset is the one farthest in
    angle from those used most recently. Raises InputError where a subset would have fewer than 4 views.
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
    waiting = list(range(1, subsets))
    used = [0]
    while waiting:
        # The distance to recent subsets counts more: each step back halves its weight.
        def apart(candidate: int) -> float:
            gaps = [min((candidate - k) % subsets, (k - candidate) % subsets) for k in reversed(used)]
            return sum(gap * 0.5**age for age, gap in enumerate(gaps))

        best = max(waiting, key=lambda candidate: (round(apart(candidate), 9), -candidate))
        waiting.remove(best)
        used.append(best)
    return [ranked[k::subsets] for k in used]


def osem(
    system: SystemModel,
    counts: Array,
    *,
    iterations: int,
    subsets: int,
    scatter: Array | None = None,
    start: Array | None = None,
    prior: RelativeDifferencePrior | None = None,
    on_update: Callable[[Update], None] | None = None,
) -> Array:
    """Image (z, y, x) in counts per second and mL that explains `counts` (v, z, u) and expected `scatter` (v, z, u).

    Arrays come and go on the system's device; nothing leaves it between the updates.

    Without a prior f <- f / (A_k^T 1) * A_k^T(y_k / (A_k f + s_k)) over subsets k (Hudson and Larkin, IEEE Trans Med
    Imaging 1994;13:601-609, doi:10.1109/42.363108); one subset is MLEM. With a prior BSREM (De Pierro and Yamagishi,
    IEEE Trans Med Imaging 2001;20:280-288, doi:10.1109/42.921477): f <- f + a_n D (gradient of the subset's
    log-likelihood - beta/M grad U), D = M f / (A^T 1 + stiffness of the prior), a_n = 1 / (1 + n/15) in iteration n.
    Without weight the first steps are nearly OSEM's; they shrink so that it converges.

    The start is uniform where the full sensitivity is positive (or `start`, which must not be negative) and 0 elsewhere
    for ever; a voxel that a subset does not see keeps its value in that update; one below 1e-20 of the image's largest
    becomes 0, so that nothing decays to subnormal numbers, which are slow; bins with expectation 0 contribute nothing
    and are reported through `on_update`, which may raise to stop.
    Raises InputError for shapes that do not fit, NaN or negative counts, and too many subsets.
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
    # A voxel that only rounding sees (below a millionth of the best) would be divided by noise.
    seen = full > 1e-6 * full.max()
    image = system.as_image(_start_image(start, system, data, extra, full, seen))
    improve = (
        _em_steps(sensitivities, full, system)
        if prior is None
        else _bsrem_steps(sensitivities, full, seen, prior, system)
    )
    total = iterations * len(parts)
    for done in range(total):
        iteration, k = divmod(done, len(parts))
        explained, lost = parts[k].explain(image, measured[k], expected[k])
        improve(image, explained, iteration, k)
        if on_update is not None:
            on_update(Update(done + 1, total, iteration, image, lost))
    return image


_Improve = Callable[[Array, Array, int, int], None]
"""Changes the image in place, given A_k^T(y_k / expectation), the iteration and the subset k."""


def _em_steps(sensitivities: list[Array], full: Array, system: SystemModel) -> _Improve:
    """OSEM's multiplication by A_k^T(ratio) / A_k^T 1; by 1 where the subset does not see the voxel."""
    one, none = full.dtype.type(1), full.dtype.type(0)
    inverses = []
    for sensitivity in sensitivities:
        sees = sensitivity > 1e-6 / len(sensitivities) * full
        inverses.append(system.as_image(np.where(sees, one / np.where(sees, sensitivity, one), none)))

    def improve(image: Array, explained: Array, iteration: int, k: int) -> None:
        system.improve(image, explained, inverses[k])

    return improve


def _bsrem_steps(
    sensitivities: list[Array], full: Array, seen: Array, prior: RelativeDifferencePrior, system: SystemModel
) -> _Improve:
    """BSREM's relaxed step along the gradient of the subset's penalised log-likelihood, scaled by the image."""
    subsets, voxel_mm = len(sensitivities), system.grid.voxel_mm
    scale = np.where(
        seen,
        subsets / np.where(seen, full + full.dtype.type(prior.stiffness(voxel_mm)), full.dtype.type(1)),
        full.dtype.type(0),
    )

    @subnormals_are_zero()
    def improve(image: Array, explained: Array, iteration: int, k: int) -> None:
        slope = explained - sensitivities[k] - (prior.beta / subsets) * prior.gradient(image, voxel_mm)
        # Not to 0, from where no step leads back: a step takes away 90 % of a voxel at most, until it is FAINT.
        image *= np.maximum(1 + scale * slope / (1 + iteration / 15), 0.1) * (image >= FAINT * image.max())

    return improve


def _checked(system: SystemModel, array: Array, name: str) -> Array:
    data = system.as_projections(array, name)
    if not np.isfinite(data).all() or data.min() < 0:
        raise InputError(f"{name} must be finite and not negative: iterative methods take counts, not differences")
    return data


def _start_image(
    start: Array | None, system: SystemModel, data: Array, extra: Array | None, full: Array, seen: Array
) -> Array:
    if start is None:
        primary = float(data.sum(dtype=np.float64)) - (0.0 if extra is None else float(extra.sum(dtype=np.float64)))
        level = max(primary, 0.01 * float(data.sum(dtype=np.float64))) / float(full[seen].sum(dtype=np.float64))
        return np.where(seen, full.dtype.type(level), full.dtype.type(0))
    given = system.as_image(start, "start")
    if not np.isfinite(given).all() or given.min() < 0:
        raise InputError("start must be finite and not negative")
    return np.where(seen, given, full.dtype.type(0))
