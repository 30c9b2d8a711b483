"""The template head in the package is the one that the generator makes."""

import numpy as np

from spectac.recon import voi
from spectac.simulate.template import template


def test_the_file_is_what_the_generator_makes_today():
    labels, grid = template()
    stored, stored_grid, _ = voi._template()
    assert stored_grid.same_as(grid)
    np.testing.assert_array_equal(stored, labels)


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
