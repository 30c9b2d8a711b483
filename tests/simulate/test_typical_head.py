"""The template head in the package is the one that the generator makes."""

import numpy as np

from spectac.recon import voi
from spectac.simulate.typical_head import template


def test_the_file_is_what_the_generator_makes_today():
    """But for single voxels between two tissues, where the last digit of a float32 decides: it is the processor's.

    An AMD EPYC without AVX-512 differs in 1 voxel of 1.1 million from the machine that wrote the file, with Python
    3.11, 3.12 and 3.13 alike. A shape that moves by 0.1 mm changes thousands.
    """
    labels, grid = template()
    stored, stored_grid, _ = voi._template()
    assert stored_grid.same_as(grid)
    different = labels != stored
    assert np.count_nonzero(different) < 1e-5 * labels.size
    beside = [np.roll(stored, step, axis) for step in (-1, 1) for axis in range(3)]
    assert all(
        labels[place] in [other[place] for other in beside] for place in zip(*np.nonzero(different), strict=True)
    )


def test_the_head_is_straight_and_nearly_symmetric():
    """Pose without tilt: the midplane of the two caudates stands upright on x = 0; what differs are folds and veins."""
    labels, grid, names = voi._template()
    numbers = {name: label for label, name in names.items()}
    z, y, x = grid.centres_mm()
    for name in ("caudate", "putamen", "thalamus"):
        places = []
        for side in ("right", "left"):
            k, j, i = np.nonzero(labels == numbers[f"{side} {name}"])
            places.append(np.array([x[i].mean(), y[j].mean(), z[k].mean()]))
        right, left = places
        assert abs(right[0] + left[0]) < 2.0
        assert np.abs(right[1:] - left[1:]).max() < 2.0
        assert left[0] > 0 > right[0]
