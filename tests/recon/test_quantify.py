"""Every number of quantify.py against a case worked out by hand, and one property that it must have."""

import math
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from spectac.recon import quantify
from spectac.recon.errors import InputError

needs_scikit_image = pytest.mark.skipif(
    find_spec("skimage") is None, reason="SSIM needs scikit-image: pip install 'spectac[report]'"
)
VALUES = np.array([[[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]]])


def test_voi_mean_and_total_by_hand():
    # Weights 1, 1/2, 1/2 on 2, 4, 9: (2 + 2 + 4.5) / 2 = 4.25; total 8.5 voxels of 0.064 mL = 0.544.
    voi = np.array([[[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]]])
    assert quantify.voi_mean(VALUES, voi) == pytest.approx(4.25, rel=1e-12)
    assert quantify.voi_total(VALUES, voi, 0.064) == pytest.approx(0.544, rel=1e-12)
    mask = np.array([[[False, True, False], [True, False, False]]])
    assert quantify.voi_mean(VALUES, mask) == pytest.approx(3.0, rel=1e-12)


def test_a_soft_voi_reads_the_true_mean_where_a_mask_cannot():
    # A ramp f = x, VOI from x = 0.5 to 2.75 (voxels of length 1 centred on 0..3): weights 0, 1, 1, 1/4 with voxel means
    # 1, 2, 3: sum 3.75 / 2.25 = 5/3.
    ramp = np.arange(4.0).reshape(1, 1, 4)
    assert quantify.voi_mean(ramp, np.array([[[0, 1, 1, 0.25]]])) == pytest.approx(5 / 3, rel=1e-12)


def test_striatal_binding_ratio_by_hand_and_without_a_scale():
    assert quantify.striatal_binding_ratio(35.0, 10.0) == pytest.approx(2.5)
    assert quantify.striatal_binding_ratio(10.0, 10.0) == 0.0
    assert quantify.striatal_binding_ratio(35.0 * 0.037, 10.0 * 0.037) == pytest.approx(2.5, rel=1e-12)


def test_southampton_by_hand():
    # 100 mL at reference 10 give 1000; 11.2 mL of striatum 25 above it add 280: (1280 - 1000) / (10 * 11.2) = 2.5.
    assert quantify.southampton_sbr(1280.0, 100.0, 10.0) == pytest.approx(2.5, rel=1e-12)
    assert quantify.southampton_sbr(1280.0, 100.0, 10.0, striatal_ml=5.6) == pytest.approx(5.0, rel=1e-12)
    assert quantify.southampton_sbr(1280.0 * 3, 100.0, 10.0 * 3) == pytest.approx(2.5, rel=1e-12)


def test_southampton_is_the_binding_ratio_where_the_voi_holds_exactly_the_striatum():
    mean, reference = 4.2, 1.3
    assert quantify.southampton_sbr(mean * 11.2, 11.2, reference) == pytest.approx(
        quantify.striatal_binding_ratio(mean, reference), rel=1e-12
    )


def test_southampton_does_not_feel_the_blur_that_lowers_the_binding_ratio():
    # A striatum of 3 in a background of 1 (SBR 2), 11 voxels of 1 mL, is spread over its neighbours: counts stay.
    sharp = np.ones((1, 1, 41))
    sharp[..., 15:26] = 3.0
    kernel = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
    blurred = np.convolve(np.pad(sharp[0, 0], 2, mode="edge"), kernel, mode="valid").reshape(sharp.shape)
    tight, wide = sharp > 2, np.zeros_like(sharp)
    wide[..., 8:33] = 1.0
    total = quantify.voi_total(blurred, wide, 1.0)
    assert quantify.southampton_sbr(total, float(wide.sum()), 1.0, striatal_ml=11.0) == pytest.approx(2.0, rel=1e-12)
    assert quantify.striatal_binding_ratio(quantify.voi_mean(blurred, tight), 1.0) < 1.9


def test_caudate_over_putamen_by_hand():
    assert quantify.caudate_putamen_ratio(3.0, 1.2) == pytest.approx(2.5, rel=1e-12)
    assert quantify.caudate_putamen_ratio(-0.3, 1.2) == pytest.approx(-0.25, rel=1e-12)


def test_asymmetry_by_hand_and_the_same_from_either_side():
    # 200 * 1 / 9 = 22.2.
    assert quantify.asymmetry_percent(5.0, 4.0) == pytest.approx(22.2222222, rel=1e-8)
    assert quantify.asymmetry_percent(4.0, 5.0) == quantify.asymmetry_percent(5.0, 4.0)
    assert quantify.asymmetry_percent(3.0, 3.0) == 0.0
    assert quantify.asymmetry_percent(0.0, 3.0) == pytest.approx(200.0)


def test_contrast_recovery_by_hand_for_hot_and_cold():
    # Hot: (2.5/1 - 1) / (4 - 1) = 0.5. Cold without activity: 1 - 0.3 = 0.7. Cold at half: (0.8 - 1) / (0.5 - 1) = 0.4.
    assert quantify.contrast_recovery(2.5, 1.0, 4.0) == pytest.approx(0.5)
    assert quantify.contrast_recovery(0.3, 1.0, 0.0) == pytest.approx(0.7)
    assert quantify.contrast_recovery(0.8, 1.0, 0.5) == pytest.approx(0.4)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 4.0, 9.0])
def test_contrast_recovery_is_1_at_the_truth_and_0_at_the_background(ratio):
    assert quantify.contrast_recovery(ratio * 7.0, 7.0, ratio) == pytest.approx(1.0, rel=1e-12)
    assert quantify.contrast_recovery(7.0, 7.0, ratio) == 0.0


def test_coefficient_of_variation_by_hand():
    # 2, 4, 4, 4, 5, 5, 7, 9: mean 5, population variance 32/8 = 4, so 2/5.
    values = np.array([2.0, 4, 4, 4, 5, 5, 7, 9]).reshape(2, 2, 2)
    assert quantify.coefficient_of_variation(values) == pytest.approx(0.4, rel=1e-12)
    assert quantify.coefficient_of_variation(3.7 * values) == pytest.approx(0.4, rel=1e-12)
    # Weights 1 on 2, 1/2 on both 4 of one row: mean 3, variance (1 + 1/2 + 1/2) / 2 = 1.
    voi = np.zeros((2, 2, 2))
    voi[0, 0, 0], voi[0, 0, 1], voi[0, 1, 0] = 1.0, 0.5, 0.5
    assert quantify.coefficient_of_variation(values, voi) == pytest.approx(1 / 3, rel=1e-12)


def test_coefficient_of_variation_of_poisson_counts_is_one_over_the_root_of_their_mean():
    # 40,000 draws: the standard error of a standard deviation is 1/sqrt(2 * 40000) = 0.35 %, 4 of them are 1.4 %.
    counts = np.random.default_rng(5).poisson(100.0, (40, 40, 25))
    assert quantify.coefficient_of_variation(counts) == pytest.approx(0.1, rel=0.015)


def test_normalised_errors_by_hand():
    # t = 3, 4, 0 and p = 3, 2, 1: (0 + 4 + 1) / 25 = 0.2. Without the last: 4/25; with half of it: 4.5/25.
    truth, predicted = np.array([3.0, 4.0, 0.0]), np.array([3.0, 2.0, 1.0])
    assert quantify.nmse(predicted, truth) == pytest.approx(0.2, rel=1e-12)
    assert quantify.nrmse(predicted, truth) == pytest.approx(0.4472136, rel=1e-7)
    assert quantify.nmse(predicted, truth, np.array([True, True, False])) == pytest.approx(0.16, rel=1e-12)
    assert quantify.nrmse(predicted, truth, np.array([True, True, False])) == pytest.approx(0.4, rel=1e-12)
    assert quantify.nmse(predicted, truth, np.array([1.0, 1.0, 0.5])) == pytest.approx(0.18, rel=1e-12)


def test_normalised_error_of_a_scaled_truth_is_the_relative_scale_error():
    truth = np.random.default_rng(2).gamma(2.0, size=(5, 6, 7))
    assert quantify.nrmse(1.07 * truth, truth) == pytest.approx(0.07, rel=1e-9)
    assert quantify.nmse(truth, truth) == 0.0


def test_integer_images_do_not_overflow():
    # 200^2 leaves the range of uint8: 40000/10000 - computed in bytes it would be 64/16.
    predicted, truth = np.full((2, 2, 2), 0, np.uint8), np.full((2, 2, 2), 200, np.uint8)
    assert quantify.nmse(predicted, truth) == pytest.approx(1.0)
    assert quantify.voi_total(truth, truth > 0, 1.0) == pytest.approx(1600.0)


@needs_scikit_image
def test_ssim_of_constants_is_the_likeness_of_their_means():
    """No variance: the second factor is C2 / C2, and with R = 4 C1 = 0.0016: (2*3*4 + C1) / (9 + 16 + C1)."""
    three, four = np.full((11, 12, 13), 3.0), np.full((11, 12, 13), 4.0)
    assert quantify.ssim(three, four) == pytest.approx(24.0016 / 25.0016, rel=1e-9)
    # A data range of 400 for the same images: C1 = 16.
    assert quantify.ssim(three, four, data_range=400.0) == pytest.approx(40 / 41, rel=1e-9)
    assert quantify.ssim(four, four) == pytest.approx(1.0, rel=1e-12)


@needs_scikit_image
def test_ssim_of_a_spike_has_the_weights_of_wang_2004():
    """One voxel h above a constant c, read at that voxel: mean c + h w, variance h^2 w (1 - w), covariance 0.

    w = g^3 with g the peak of the 1-D Gaussian of sigma 1.5 over 11 voxels that sum to 1. A Gaussian cut elsewhere, a
    sample's covariance (x 1331/1330) or two dimensions give another number.
    """
    g = 1.0 / sum(math.exp(-(k**2) / (2 * 1.5**2)) for k in range(-5, 6))
    w, c, h, data_range = g**3, 2.0, 5.0, 3.0
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean = c + h * w
    wanted = (2 * mean * c + c1) / (mean**2 + c**2 + c1) * c2 / (h**2 * w * (1 - w) + c2)
    reference = np.full((21, 21, 21), c)
    values = reference.copy()
    values[10, 10, 10] += h
    mask = np.zeros(values.shape, bool)
    mask[10, 10, 10] = True
    assert quantify.ssim(values, reference, mask, data_range=data_range) == pytest.approx(wanted, rel=1e-7)


@needs_scikit_image
def test_ssim_is_a_mean_over_the_masks_weights_and_its_range_that_of_the_reference_inside():
    random = np.random.default_rng(8)
    reference = random.gamma(2.0, size=(12, 12, 12))
    values = reference + random.normal(0.0, 0.5, reference.shape)
    reference[0, 0, 0] = 1000.0
    left, right = np.zeros(reference.shape), np.zeros(reference.shape)
    left[6:, :, :6], right[6:, :, 6:] = 1.0, 1.0
    given = {"data_range": float(reference[6:].max())}
    parts = [quantify.ssim(values, reference, half, **given) for half in (left, right)]
    whole = quantify.ssim(values, reference, left + right)
    assert whole == pytest.approx(np.mean(parts), rel=1e-12)
    assert quantify.ssim(values, reference, left + 0.5 * right, **given) == pytest.approx(
        (2 * parts[0] + parts[1]) / 3, rel=1e-12
    )
    assert quantify.ssim(7.0 * values, 7.0 * reference, left + right) == pytest.approx(whole, rel=1e-9)
    assert abs(parts[0] - parts[1]) > 1e-3


def test_ssim_without_scikit_image_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(InputError, match=r"needs scikit-image: pip install 'spectac\[report\]'"):
        quantify.ssim(np.ones((11, 11, 11)), np.ones((11, 11, 11)))


NOTHING = np.zeros_like(VALUES)
CUBE = np.ones((11, 11, 11))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quantify.voi_mean(VALUES, NOTHING), "VOI is empty"),
        (lambda: quantify.voi_mean(VALUES, np.ones((2, 3))), "image's shape"),
        (lambda: quantify.voi_mean(VALUES, NOTHING + 2), "weights from 0 to 1"),
        (lambda: quantify.voi_mean(VALUES, NOTHING - 0.1), "weights from 0 to 1"),
        (lambda: quantify.voi_mean(VALUES, NOTHING + math.nan), "weights from 0 to 1"),
        (lambda: quantify.voi_mean(VALUES * math.nan, NOTHING + 1), "6 values that are NaN"),
        (lambda: quantify.voi_total(VALUES, NOTHING + 1, 0.0), "voxel volume in mL must be above 0"),
        (lambda: quantify.striatal_binding_ratio(3.0, 0.0), "mean must be above 0 and finite, got 0"),
        (lambda: quantify.striatal_binding_ratio(3.0, -1.0), "must be above 0 and finite, got -1"),
        (lambda: quantify.striatal_binding_ratio(math.nan, 1.0), "voi_mean must be a finite number"),
        (lambda: quantify.southampton_sbr(100.0, 50.0, 0.0), "reference region's mean must be above 0"),
        (lambda: quantify.southampton_sbr(100.0, 50.0, 1.0, striatal_ml=0.0), "striatal volume"),
        (lambda: quantify.southampton_sbr(100.0, 5.0, 1.0), "whole striatum of 11.2 mL, got 5 mL"),
        (lambda: quantify.asymmetry_percent(0.0, 0.0), "sum of both sides must be above 0"),
        (lambda: quantify.contrast_recovery(2.0, 0.0, 4.0), "background's mean must be above 0"),
        (lambda: quantify.contrast_recovery(2.0, 1.0, 1.0), "other than 1"),
        (lambda: quantify.contrast_recovery(2.0, 1.0, -1.0), "at least 0"),
        (lambda: quantify.coefficient_of_variation(NOTHING), "the mean in the VOI must be above 0"),
        (lambda: quantify.coefficient_of_variation(VALUES, NOTHING), "VOI is empty"),
        (lambda: quantify.nmse(VALUES, NOTHING), "not 0 everywhere"),
        (lambda: quantify.nmse(VALUES, VALUES[0]), "one shape"),
        (lambda: quantify.nrmse(VALUES, VALUES, NOTHING), "VOI is empty"),
        (lambda: quantify.nrmse(VALUES, VALUES, np.ones(3)), "image's shape"),
        (lambda: quantify.caudate_putamen_ratio(1.0, 0.0), "putamen's binding ratio must be above 0 and finite, got 0"),
        (lambda: quantify.caudate_putamen_ratio(math.inf, 1.0), "caudate_sbr must be a finite number"),
        (lambda: quantify.ssim(CUBE, CUBE[:10]), "two images of one shape"),
        (lambda: quantify.ssim(CUBE[:10], CUBE[:10]), r"at least 11 voxels a side, got \(10, 11, 11\)"),
        (lambda: quantify.ssim(CUBE, CUBE, 0 * CUBE), "VOI is empty"),
        (lambda: quantify.ssim(CUBE, -CUBE), "in the mask\\) must be above 0 and finite, got -1"),
        (
            lambda: quantify.ssim(CUBE, CUBE, data_range=math.nan),
            "SSIM .* above 0 and finite, got nan",
        ),
    ],
)
def test_what_has_no_answer_is_an_input_error(call, message):
    with pytest.raises(InputError, match=message):
        call()
