"""The analytic head: volumes by formula, materials by table, left and right in their places."""

import math

import numpy as np
import pytest

from spectac.recon import Grid, InputError
from spectac.recon.tissues import mu_per_cm
from spectac.simulate.analytic_head import DAT_HEAD, Ellipsoid, on_grid

GRID = Grid.upright((64, 56, 48), (4.0, 4.0, 4.0), (-94.0, -110.0, -126.0))


def test_volume_of_an_ellipsoid_is_the_formula():
    """4/3 pi abc; 4^3 points a voxel sample it to better than 0.2 %."""
    only = (Ellipsoid("body", (1.0, -2.0, 3.0), (60.0, 70.0, 80.0), 2.0, "brain", turn_deg=30),)
    head = on_grid(GRID, 140.5, only, subsamples=4)
    volume = 4 / 3 * math.pi * 60 * 70 * 80
    assert head.fractions["body"].sum() * 64.0 == pytest.approx(volume, rel=0.002)
    assert head.activity.sum() * 64.0 == pytest.approx(2 * volume, rel=0.002)


def test_later_ellipsoids_replace_earlier_ones():
    head = on_grid(GRID, 159.0)
    total = sum(head.fractions.values())
    assert total.max() == pytest.approx(1.0)
    inside = head.fractions["right striatum"] == 1
    np.testing.assert_allclose(head.activity[inside], 6.0)


def test_striata_lie_on_their_sides_and_are_turned_like_a_v():
    """x grows to the patient's left, y to posterior; the heads of the striata lie closer together in front."""
    head = on_grid(GRID, 159.0)
    _, y, x = GRID.centres_mm()
    for name, sign in (("left striatum", 1), ("right striatum", -1)):
        part = head.fractions[name].sum(axis=0)
        centre = (part * x[None]).sum() / part.sum()
        assert centre == pytest.approx(sign * 26.0, abs=0.5)
        slope = (part * (x[None] - centre) * (y[:, None] + 6.0)).sum()
        assert slope * sign > 0


def test_the_map_is_that_of_the_materials():
    head = on_grid(GRID, 159.0)
    skull = head.fractions["skull"] == 1
    assert skull.any()
    np.testing.assert_allclose(head.mu.per_cm[skull], mu_per_cm("cranium", 159.0), rtol=1e-5)
    assert {body.material for body in DAT_HEAD} == {"air", "soft tissue", "brain", "cranium"}


def test_bad_input():
    with pytest.raises(InputError, match="subsamples must be at least 1"):
        on_grid(GRID, 159.0, subsamples=0)
