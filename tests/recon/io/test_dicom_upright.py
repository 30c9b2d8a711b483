"""Volumes turned to z superior, y posterior, x left: positions of voxels stay, whatever the file's axes are."""

from itertools import permutations, product

import numpy as np
import pytest

from spectac.recon.io.dicom.upright import directions, upright

SIZE_MM = (2.0, 3.0, 5.0)


def place(affine, index):
    return affine @ np.array([*index, 1.0])


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((1.0, -1.0), repeat=3)))
def test_every_voxel_keeps_its_place_and_the_axes_grow_to_superior_posterior_left(axes, signs):
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for axis, (world, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[world, axis] = sign * SIZE_MM[axis]
    affine[:3, 3] = (10.0, -20.0, 30.0)
    values = np.arange(24.0).reshape(2, 3, 4)
    grid, (turned,) = upright(affine, SIZE_MM, values)
    assert grid.is_upright
    for value, index in zip(values.ravel(), np.ndindex(values.shape), strict=True):
        found = tuple(np.argwhere(turned == value)[0])
        assert np.allclose(place(grid.affine_lps, found), place(affine, index), atol=1e-12)


def test_a_tilt_stays():
    cosine, sine = np.cos(np.deg2rad(20.0)), np.sin(np.deg2rad(20.0))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [sine, cosine, 0], [cosine, -sine, 0]])
    grid, _ = upright(affine, (1.0, 1.0, 1.0), np.zeros((2, 2, 2)))
    assert np.allclose(grid.affine_lps, affine)
    assert not grid.is_upright


def test_directions_are_made_orthonormal_or_refused():
    along, across = directions((1.0001, 0.0, 0.0, 1e-4, 0.0, -1.0), 1e-3)
    assert np.allclose(along, (1, 0, 0))
    assert np.allclose(across, (0, 0, -1))
    assert directions((1.0, 0.0, 0.0, 0.5, 0.5, 0.0), 1e-3) is None
    assert directions((1e200, 0.0, 0.0, 0.0, 1e200, 0.0), 1e-3) is None
