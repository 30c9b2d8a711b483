"""Kinds of cameras of cohorts: what they draw, and what they never have."""

from typing import get_args, get_type_hints

import numpy as np
import pytest

from spectac.recon.collimator import COLLIMATORS
from spectac.simulate.cameras import CAMERAS, HELD_OUT, KINDS, MEDIUM_ENERGY, draw_camera
from spectac.simulate.cohort.folder import CohortSettings
from spectac.simulate.scanner import draw_scanner


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "usual"])
def test_what_is_held_out_is_never_drawn(kind):
    for seed in range(400):
        camera = draw_camera(kind, np.random.default_rng(seed))
        assert camera.collimator not in HELD_OUT
        assert camera.heads in (2, 3)
        assert camera.views % camera.heads == 0
        assert camera.pixel_mm < 5.0
        assert camera.energy_resolution < 0.1125
        assert camera.radius_mm < 162.5
        focus = camera.collimator_data.focus
        assert focus is None or focus.length_mm >= 400.0


def test_every_kind_is_of_its_kind():
    def draw(kind):
        return [draw_camera(kind, np.random.default_rng(seed)) for seed in range(60)]

    assert all(one.collimator_data.focus is not None for one in draw("fan-beam"))
    assert all(one.matrix == (128, 128) for one in draw("clinical"))
    assert {one.collimator for one in draw("medium-energy")} <= set(CAMERAS["medium-energy"].collimators)
    mixed = draw("mixed")
    assert 5 <= sum(one.collimator_data.focus is not None for one in mixed) <= 18
    assert 4 <= sum(one.matrix == (128, 128) for one in mixed) <= 18
    assert 4 <= sum(one.collimator in MEDIUM_ENERGY for one in mixed) <= 18
    assert min(one.view_seconds for one in mixed) < 6.0 < 30.0 < max(one.view_seconds for one in mixed)
    assert all(name in COLLIMATORS for ranges in CAMERAS.values() for name in ranges.collimators)


def test_the_usual_cameras_are_those_of_the_shipped_network():
    for seed in range(5):
        assert draw_camera("usual", np.random.default_rng(seed)) == draw_scanner(np.random.default_rng(seed))


def test_a_cohort_may_ask_for_every_kind():
    hint = get_type_hints(CohortSettings, include_extras=True)["cameras"]
    assert get_args(get_args(hint)[0]) == KINDS
