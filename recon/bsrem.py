"""MAP reconstruction: the relative-difference prior, and the steps of BSREM that maximise the posterior."""

from dataclasses import dataclass

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.kernels.neighbours import add_relative_differences
from spectac.recon.kernels.subnormal import FAINT, subnormals_are_zero
from spectac.recon.types import Array

RELAXATION_ITERATIONS = 15
"""Steps shrink as 1 / (1 + n/15) in iteration n, so that BSREM converges."""
LARGEST_DECREASE = 0.1
"""A step leaves at least this share of a voxel: no later step would lead away from 0."""
LARGEST_BETA, LARGEST_GAMMA = 1e9, 1e3
"""Far above these the prior flattens any image and float32 overflows."""


@dataclass(frozen=True)
class RelativeDifferencePrior:
    """Relative-difference prior U(f) = sum over pairs of w (f_j - f_k)^2 / (f_j + f_k + gamma |f_j - f_k|).

    Pairs are the 26 neighbours, each counted once, with w = smallest voxel length / distance of the centres. MAP
    maximises the Poisson log-likelihood minus beta * U [1]_.

    Parameters
    ----------
    beta
        Weight of the prior, from 0 to 1e9.
    gamma
        Preservation of edges, from 0 to 1000.

    References
    ----------
    .. [1] Nuyts et al., IEEE Trans Nucl Sci 2002;49:56-60, doi:10.1109/TNS.2002.998681.

    Examples
    --------
    >>> prior = RelativeDifferencePrior(beta=0.1)
    >>> prior.value(np.ones((2, 4, 4)), (4.0, 4.0, 4.0))
    0.0
    """

    beta: float
    gamma: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= LARGEST_BETA:
            raise InputError(f"the prior's beta must be 0 or more and at most 1e9, not {self.beta}")
        if not 0 <= self.gamma <= LARGEST_GAMMA:
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
        """Derivative (z, y, x) of U to every voxel, without beta; a pair of zeros contributes 0."""
        on_gpu = type(image) is not np.ndarray  # CuPy's
        return self.gradient_by_arrays(image, voxel_mm) if on_gpu else self._compiled_gradient(image, voxel_mm)

    def gradient_by_arrays(self, image: Array, voxel_mm: tuple[float, float, float]) -> Array:
        """The gradient of arrays of any library."""
        gradient = np.zeros_like(image)
        for near, far, weight in _neighbour_pairs(image.shape, voxel_mm):
            f, g = image[near], image[far]
            difference = f - g
            spread = self.gamma * np.abs(difference)
            # Every term is first divided by the sum, which may be tiny: its square would underflow.
            below = f + g + spread
            normal = below > np.finfo(below.dtype).tiny * 4
            inverse = normal / np.where(normal, below, below.dtype.type(1))
            share = weight * (difference * inverse)
            gradient[near] += share * ((spread + f + 3 * g) * inverse)
            gradient[far] -= share * ((spread + g + 3 * f) * inverse)
        return gradient

    def _compiled_gradient(self, image: Array, voxel_mm: tuple[float, float, float]) -> Array:
        """The gradient on the CPU."""
        order = tuple(int(axis) for axis in np.argsort(image.strides)[::-1])
        in_memory, number = np.ascontiguousarray(image.transpose(order)), image.dtype.type
        weights = _neighbour_weights(tuple(voxel_mm[axis] for axis in order)).astype(image.dtype)
        gradient, least = np.zeros_like(in_memory), number(4.0 * np.finfo(image.dtype).tiny)
        add_relative_differences(
            in_memory.reshape(-1),
            in_memory.shape,
            weights,
            number(self.gamma),
            least,
            number(1.0),
            gradient.reshape(-1),
        )
        return gradient.transpose(np.argsort(order))

    def stiffness(self, voxel_mm: tuple[float, float, float]) -> float:
        """Upper bound of f_j times the second derivative of beta * U to f_j.

        For one pair f_j d2U/df_j2 <= 8 w f_j f_k^2 / (f_j + f_k)^3 <= 32/27 w.
        """
        return 32.0 / 27.0 * self.beta * float(_neighbour_weights(voxel_mm).sum())


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


def _neighbour_weights(voxel_mm: tuple[float, ...]) -> Array:
    """Weights (3, 3, 3) of a voxel's neighbours by direction, 0 for the voxel itself."""
    weights = np.zeros((3, 3, 3))
    for near, far, weight in _neighbour_pairs((3, 3, 3), (voxel_mm[0], voxel_mm[1], voxel_mm[2])):
        step = tuple(one.start - other.start for one, other in zip(far, near, strict=True))
        weights[tuple(1 + s for s in step)] = weights[tuple(1 - s for s in step)] = weight
    return weights


class BsremSteps:
    """Relaxed steps of BSREM along the gradient of the subsets' penalised log-likelihood.

    f <- f + a_n D (gradient of the subset's log-likelihood - beta/M grad U) with D = M f / (A^T 1 + stiffness of the
    prior) and a_n = 1 / (1 + n/15) in iteration n of M subsets [1]_. Without weight the first steps are nearly those of
    OSEM.

    Parameters
    ----------
    prior
        Relative-difference prior.
    sensitivities
        Sensitivities A_k^T 1 (z, y, x) of the subsets.
    full
        Their sum (z, y, x).
    seen
        True (z, y, x) in voxels that any view sees.
    voxel_mm
        Voxel sizes (z, y, x) in mm.

    References
    ----------
    .. [1] De Pierro and Yamagishi, IEEE Trans Med Imaging 2001;20:280-288, doi:10.1109/42.921477.

    Examples
    --------
    >>> image, ones = np.full((2, 4, 4), 2.0), np.ones((2, 4, 4))
    >>> steps = BsremSteps(RelativeDifferencePrior(0.0), [ones], ones, ones > 0, (4.0, 4.0, 4.0))
    >>> steps(image, 1.5 * ones, 0, 0)
    >>> float(image.max())
    3.0
    """

    def __init__(
        self,
        prior: RelativeDifferencePrior,
        sensitivities: list[Array],
        full: Array,
        seen: Array,
        voxel_mm: tuple[float, float, float],
    ) -> None:
        self.prior, self.sensitivities, self.voxel_mm = prior, sensitivities, voxel_mm
        number = full.dtype.type
        bound = np.where(seen, full + number(prior.stiffness(voxel_mm)), number(1))
        self.scale = np.where(seen, len(sensitivities) / bound, number(0))

    @subnormals_are_zero()
    def __call__(self, image: Array, backprojected: Array, iteration: int, subset: int) -> None:
        """Change an image (z, y, x) in place, given A_k^T(y_k / expectation) (z, y, x) of a subset k."""
        penalty = (self.prior.beta / len(self.sensitivities)) * self.prior.gradient(image, self.voxel_mm)
        slope = backprojected - self.sensitivities[subset] - penalty
        step = 1 + self.scale * slope / (1 + iteration / RELAXATION_ITERATIONS)
        image *= np.maximum(step, LARGEST_DECREASE) * (image >= FAINT * image.max())
