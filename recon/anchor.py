"""A prior that draws an image to another one, and its steps: De Pierro's separable update."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.kernels.subnormal import subnormals_are_zero
from spectac.recon.types import Array

FLOOR = 1e-4
"""Least value of an anchor relative to its maximum: a voxel is never tied to 0."""
LARGEST_WEIGHT = 1e4
"""Above it the image is the anchor in all digits of float32."""


@dataclass(frozen=True, eq=False)
class Anchor:
    """Prior U(f) = weight * sum over voxels of s_j (f_j - z_j)^2 / (2 z_j), z the anchor and s the sensitivity.

    s_j / f_j is the curvature of EM's surrogate of the likelihood. The weight therefore has no unit: at 1 an update
    trusts the anchor as much as the data.

    Parameters
    ----------
    image
        Anchor z (z, y, x) in counts per second and mL, at least 0.
    weight
        Weight, above 0 and at most 10,000.

    Raises
    ------
    InputError
        For another weight, and an anchor that is empty, negative or not finite.

    Examples
    --------
    >>> Anchor(np.ones((2, 4, 4)), 0.5).weight
    0.5
    """

    image: Array
    weight: float

    def __post_init__(self) -> None:
        if not 0 < self.weight <= LARGEST_WEIGHT:
            raise InputError(f"an anchor's weight must be above 0 and at most 10,000, not {self.weight}")
        if not np.isfinite(self.image).all() or self.image.min() < 0 or not self.image.max() > 0:
            raise InputError("an anchor must be finite, nowhere negative and not empty")


EmStep = Callable[[Array, Array, int, int], None]
"""Step of `em.osem`: image (z, y, x), back-projected ratios (z, y, x), iteration and subset; changes the image."""


class AnchoredSteps:
    """EM steps, each followed by the maximum of EM's surrogate with the prior [1]_.

    With e the voxel after EM's step, f = z (w - 1 + sqrt((1 - w)^2 + 4 w e / z)) / (2 w): e for w -> 0, z for w -> inf.
    The sensitivity of a subset stands in both terms and cancels. A voxel that a subset does not see is drawn to the
    anchor in its update.

    Parameters
    ----------
    anchor
        Anchor z and weight w.
    image
        The anchor as an array (z, y, x) of the system's device and layout, at least FLOOR of its maximum.
    seen
        1 (z, y, x) in voxels that any view sees, else 0, in the image's type and layout.
    em_step
        Step of EM.

    References
    ----------
    .. [1] De Pierro, IEEE Trans Med Imaging 1995;14:132-137, doi:10.1109/42.370409.

    Examples
    --------
    >>> def em_step(image, backprojected, iteration, subset):
    ...     image *= backprojected
    >>> ones, image = np.ones((1, 2, 2)), np.ones((1, 2, 2))
    >>> AnchoredSteps(Anchor(ones, 1.0), ones, ones, em_step)(image, 4.0 * ones, 0, 0)
    >>> float(image[0, 0, 0])
    2.0
    """

    def __init__(self, anchor: Anchor, image: Array, seen: Array, em_step: EmStep) -> None:
        self.anchor, self.seen, self.em_step = image, seen, em_step
        self.weight = image.dtype.type(anchor.weight)

    @subnormals_are_zero()
    def __call__(self, image: Array, backprojected: Array, iteration: int, subset: int) -> None:
        """Change an image (z, y, x) in place, given A_k^T(y_k / expectation) (z, y, x) of a subset k."""
        self.em_step(image, backprojected, iteration, subset)
        w, one = self.weight, self.weight.dtype.type(1)
        root = np.sqrt((one - w) ** 2 + 4 * w * (image / self.anchor))
        # Where w < 1 the plain difference of root and 1 - w cancels; its conjugate does not.
        if w < one:
            image[...] = self.seen * 2 * image / (root + (one - w))
        else:
            image[...] = self.seen * self.anchor * (root + (w - one)) / (2 * w)
