"""Inner loops over neighbouring voxels for the CPU, in the order of the memory."""

import numpy as np

from spectac.recon.kernels.compiled import compiled


@compiled
def add_relative_differences(image, shape, weights, gamma, least, one, gradient):  # type: ignore[no-untyped-def]
    """Add to `gradient` (a b c,) the derivative of the relative-difference prior (`recon.bsrem`) to each voxel.

    image (a b c,) of a shape (a, b, c), and weights (3, 3, 3) of the neighbours by direction, 0 for the voxel itself.
    Pairs whose sum is at most `least` contribute 0. All have one dtype, also gamma, least and one, which is 1.
    """
    na, nb, nc = shape
    zero = one - one
    for a in range(na):
        for b in range(nb):
            for da in range(max(-1, -a), min(2, na - a)):
                for db in range(max(-1, -b), min(2, nb - b)):
                    for dc in range(-1, 2):
                        weight = weights[da + 1, db + 1, dc + 1]
                        if weight == 0:
                            continue
                        first = max(0, -dc)
                        at = np.uintp((a * nb + b) * nc + first)
                        near = np.uintp(((a + da) * nb + b + db) * nc + first + dc)
                        for c in range(np.uintp(max(0, nc - abs(dc)))):
                            f, g = image[at + c], image[near + c]
                            difference = f - g
                            spread = gamma * abs(difference)
                            below = f + g + spread
                            # Every term is first divided by the sum, which may be tiny: its square would underflow.
                            # numpy's division is not checked for 0, so that the loop can be vectorised.
                            inverse = np.divide(one, max(below, least))
                            share = weight * (difference * inverse) * ((spread + f + g + g + g) * inverse)
                            gradient[at + c] += zero if below <= least else share
