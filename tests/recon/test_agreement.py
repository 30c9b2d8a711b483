"""Agreement and z-scores against cases worked out by hand."""

import math

import numpy as np
import pytest

from spectac.recon.agreement import BlandAltman, bland_altman, z_score
from spectac.recon.errors import InputError


def test_limits_of_agreement_by_hand():
    # Differences 1, -1, 3, 1: mean 1, squares 0 + 4 + 4 + 0 = 8, sd sqrt(8/3) = 1.6329932; 1.96 of them 3.2006666.
    found = bland_altman([11.0, 19.0, 33.0, 41.0], [10.0, 20.0, 30.0, 40.0])
    assert (found.bias, found.pairs) == (1.0, 4)
    assert found.sd == pytest.approx(1.6329932, rel=1e-7)
    assert (found.lower, found.upper) == pytest.approx((-2.2006666, 4.2006666), rel=1e-7)


def test_limits_of_agreement_in_percent_by_hand():
    # 3 of 2 (their mean), -2 and 1 of 2: 200 * 1/5 = 40 for (3, 2); 0 for (7, 7); -40 for (2, 3): sd 40.
    assert bland_altman([3.0, 7.0, 2.0], [2.0, 7.0, 3.0], percent=True) == BlandAltman(
        0.0, pytest.approx(40.0), pytest.approx(-78.4), pytest.approx(78.4), 3
    )


def test_percent_has_no_scale_and_exchanging_the_methods_turns_the_sign():
    random = np.random.default_rng(3)
    reference = random.uniform(1.0, 4.0, 50)
    measured = reference * random.normal(1.05, 0.1, 50)
    found = bland_altman(measured, reference, percent=True)
    scaled = bland_altman(37.0 * measured, 37.0 * reference, percent=True)
    turned = bland_altman(reference, measured, percent=True)
    assert scaled.bias == pytest.approx(found.bias, rel=1e-12)
    assert (turned.bias, turned.lower) == pytest.approx((-found.bias, -found.upper), rel=1e-12)


def test_nineteen_of_twenty_normal_differences_lie_within_the_limits(figure):
    """P(|z| < 1.96) = 0.95; of 20,000 draws the standard error is 0.15 %, four of them 0.6 %."""
    random = np.random.default_rng(11)
    reference = random.uniform(1.0, 4.0, 20000)
    measured = reference + random.normal(0.2, 0.5, 20000)
    found = bland_altman(measured, reference)
    inside = float(np.mean((measured - reference > found.lower) & (measured - reference < found.upper)))
    figure("share of differences within the limits", inside, "0.944..0.956")
    assert inside == pytest.approx(0.95, abs=0.006)
    assert (found.bias, found.sd) == pytest.approx((0.2, 0.5), abs=0.015)


def test_z_score_by_hand():
    # 1, 2, 3: mean 2, sd of a sample 1 (that of the population would be 0.816).
    assert z_score(0.5, [1.0, 2.0, 3.0]) == pytest.approx(-1.5, rel=1e-12)
    assert z_score(2.0, [1.0, 2.0, 3.0]) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bland_altman([1.0, 2.0], [1.0, 2.0]), "at least 3 pairs, got 2"),
        (lambda: bland_altman([1.0, 2.0, 3.0], [1.0, 2.0]), "got 3 measured and 2 reference"),
        (lambda: bland_altman([1.0, 2.0, math.nan], [1.0, 2.0, 3.0]), "measured holds 1 values that are NaN"),
        (lambda: bland_altman(np.ones((3, 1)), [1.0, 2.0, 3.0]), r"array of shape \(3, 1\)"),
        (lambda: bland_altman([1.0, 2.0, -3.0], [1.0, 2.0, 3.0], percent=True), "mean is above 0, the smallest is 0"),
        (lambda: z_score(1.0, [1.0, 2.0]), "at least 3 healthy subjects, got 2"),
        (lambda: z_score(1.0, [0.1, 0.1, 0.1]), "that differ, all 3 are 0.1"),
        (lambda: z_score(math.inf, [1.0, 2.0, 3.0]), "finite value, got inf"),
        (lambda: z_score(1.0, [1.0, 2.0, math.nan]), "normals holds 1 values"),
    ],
)
def test_what_has_no_answer_is_an_input_error(call, message):
    with pytest.raises(InputError, match=message):
        call()
