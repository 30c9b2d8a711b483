"""Ranges must be kept, and what is meant to lie outside of training must lie outside of it."""

from dataclasses import fields

import numpy as np
import pytest

from spectac.simulate.anatomy.measures import analyse
from spectac.simulate.anatomy.ranges import (
    ADULT_AND_CHILD,
    NORMAL,
    OUTSIDE_TRAINING,
    TRAINING,
    UNUSUAL,
    HeadRanges,
    draw_shape,
)
from spectac.simulate.head import draw_head


def reach(ranges: HeadRanges, name: str) -> tuple[float, float]:
    """Lowest and highest value that a range can draw: normal ones go on for half a standard deviation."""
    low, high = getattr(ranges, name)
    beyond = 0.125 * (high - low) if name in NORMAL else 0.0
    return low - beyond, high + beyond


def test_every_changed_range_lies_outside_training() -> None:
    """Of usual and of unusual heads."""
    changed = [
        field.name
        for field in fields(HeadRanges)
        if isinstance(getattr(TRAINING, field.name), tuple)
        and getattr(TRAINING, field.name) != getattr(OUTSIDE_TRAINING, field.name)
    ]
    assert len(changed) >= 8
    for name in changed:
        low, high = reach(TRAINING, name)
        first, last = UNUSUAL.get(name, (low, high))
        other_low, other_high = reach(OUTSIDE_TRAINING, name)
        assert other_low > max(high, last) or other_high < min(low, first), name


def test_draws_stay_within_their_ranges_and_vary() -> None:
    shapes = [draw_shape(np.random.default_rng(seed), ADULT_AND_CHILD) for seed in range(300)]
    adults = [shape for shape in shapes if not shape.child and shape.sex == "male"]
    for name in ("size", "breadth", "skull_thickness_mm", "scalp_mm", "shift_x_mm", "pitch_deg", "sphenoid_sinus"):
        low, high = reach(ADULT_AND_CHILD, "shift_mm" if name.startswith("shift") else name)
        drawn = np.array([shape[name] for shape in adults])
        assert drawn.min() >= low
        assert drawn.max() <= high
        assert np.ptp(drawn) > 0.6 * (high - low), name
    # Four standard errors of 300 draws.
    assert np.mean([shape.child for shape in shapes]) == pytest.approx(0.12, abs=0.075)
    assert np.mean([shape.sex == "female" for shape in shapes]) == pytest.approx(0.5, abs=0.12)
    assert {shape.craniotomy for shape in shapes} == {"none", "missing", "thinned", "re-set"}
    assert any(shape.hyperostosis for shape in shapes)


def test_children_are_small_with_thin_skulls_and_the_old_are_atrophic() -> None:
    shapes = [draw_shape(np.random.default_rng(seed), ADULT_AND_CHILD) for seed in range(400)]
    young = [shape for shape in shapes if shape["age_years"] < 9]
    grown = [shape for shape in shapes if not shape.child]
    assert len(young) > 5
    for name, most in (("size", 0.97), ("face_height", 0.93), ("skull_thickness_mm", 0.8), ("left_frontal_sinus", 0.4)):
        assert np.mean([s[name] for s in young]) < most * np.mean([s[name] for s in grown]), name
    assert all(shape["atrophy"] == 0 for shape in shapes if shape["age_years"] < 30)
    assert np.mean([shape["atrophy"] for shape in grown if shape["age_years"] > 80]) > 0.4


def test_heads_outside_training_are_still_heads_and_measure_outside() -> None:
    head = draw_head(np.random.default_rng(6), voxel_mm=3.0, ranges=OUTSIDE_TRAINING)
    found = analyse(head)
    assert found["vault_thickness_mm"] > 8.5
    # Cranial index: training draws 0.66 to 0.86 or so, people 0.7 to 0.9.
    assert found["breadth_mm"] / found["length_mm"] < 0.7
    assert 1100 < found["intracranial_ml"] < 2200
    assert found["right_putamen_ml"] > 2.5
