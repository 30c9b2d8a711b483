"""Which step an arc means: cameras' steps divide the full turn, whatever the header counts."""

import numpy as np
import pytest

from spectac.recon.io.arcs import step_from_arc


@pytest.mark.parametrize(
    ("arc", "views"),
    [(360, 60), (360, 64), (360, 120), (360, 128), (360, 90), (360, 4), (180, 30), (180, 60), (180, 64), (204, 68),
     (101.25, 36), (360, 100), (240, 80), (90, 1), (360, 72), (1.0, 1)],
)  # fmt: skip
def test_arc_of_step_times_views_is_taken_without_a_word(arc, views):
    assert step_from_arc(arc, views) == (arc / views, None)


@pytest.mark.parametrize(
    ("arc", "views", "step"),
    [(354, 60, 6), (357, 120, 3), (174, 30, 6), (177, 60, 3), (356, 90, 4), (357.19, 128, 2.8125), (359, 360, 1),
     (177.1875, 64, 2.8125), (186, 63, 3), (201, 68, 3)],
)  # fmt: skip
def test_arc_from_first_to_last_view_is_known_by_its_step(arc, views, step):
    """(views - 1) steps of a camera's size; read as step times views no number of them would close the circle."""
    found, doubt = step_from_arc(arc, views)
    # Headers give the arc to 0.01 deg.
    assert found == pytest.approx(step, abs=1e-4)
    assert f"{arc:g} deg for {views} views" in doubt
    assert f"{arc / views:.5g} deg" in doubt


@pytest.mark.parametrize(("arc", "views"), [(360, 61), (180, 31), (360, 121), (355, 60), (350, 60)])
def test_both_readings_are_told_where_neither_is_proven(arc, views):
    """60 steps of 6 deg end where they began: 61 views on 360 deg; 355 deg leaves a gap unlike the steps."""
    step, doubt = step_from_arc(arc, views)
    assert step == arc / views
    assert f"{step:.5g} deg a step" in doubt
    assert f"{arc / (views - 1):.5g} deg" in doubt


@pytest.mark.parametrize(
    ("arc", "views", "step"),
    [(357.2, 128, 2.8125), (177.2, 64, 2.8125), (177, 64, 2.8125), (357, 128, 2.8125), (354.4, 64, 5.625),
     (174.4, 32, 5.625), (174, 32, 5.625), (356.3, 96, 3.75)],
)  # fmt: skip
def test_arc_rounded_to_whole_degrees_or_tenths(arc, views, step):
    """127 steps of 2.8125 deg are 357.1875 deg, which some headers give as 357.2 or 357."""
    found, doubt = step_from_arc(arc, views)
    assert found == pytest.approx(step, abs=1e-9)
    assert f"{arc / views:.5g} deg" in doubt


@pytest.mark.parametrize(("arc", "views"), [(102, 36), (200, 64), (190, 64), (206, 72)])
def test_rounded_arc_of_no_cameras_step_stays_step_times_views(arc, views):
    assert step_from_arc(arc, views)[0] == arc / views


def test_every_reading_of_a_regular_orbit_gives_its_step_back():
    """For all steps that divide the circle: the arc with and without the last step mean the same views."""
    for parts in (30, 32, 36, 40, 45, 48, 60, 64, 72, 80, 90, 96, 120, 128, 144, 180):
        step = 360 / parts
        for views in (parts, parts // 2):
            assert step_from_arc(step * views, views)[0] == pytest.approx(step, rel=1e-12)
            if views > 16:
                assert step_from_arc(np.round(step * (views - 1), 4), views)[0] == pytest.approx(step, rel=1e-5)
