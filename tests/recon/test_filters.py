"""Post-filters against theory: variance growth, transfer function, borders, and the text of --post-filter."""

import numpy as np
import pytest

from spectac.recon import filters
from spectac.recon.errors import InputError
from spectac.recon.types import Grid, Image


def point(shape, at):
    values = np.zeros(shape)
    values[at] = 1.0
    return values


@pytest.mark.parametrize("fwhm_mm", [5.0, 8.0, 12.0])
def test_gaussian_adds_its_variance_along_every_axis_of_uneven_voxels(fwhm_mm):
    # A point filtered by a Gaussian has the variance fwhm^2 / (8 ln 2) = fwhm^2 / 5.545177; sampling the kernel leaves
    # 0.2 % at 1.67 voxels (5 mm over 3 mm), the least of these, and less than 0.05 % at all others.
    voxel_mm = (3.0, 2.0, 2.5)
    out = filters.gaussian(point((51, 61, 57), (25, 30, 28)), voxel_mm, fwhm_mm)
    assert out.dtype == np.float64
    assert out.sum() == pytest.approx(1.0, abs=1e-12)
    for axis, (centre, length) in enumerate(zip((25, 30, 28), voxel_mm, strict=True)):
        profile = out.sum(axis=tuple(n for n in range(3) if n != axis))
        distance = (np.arange(profile.size) - centre) * length
        assert (profile * distance**2).sum() == pytest.approx(fwhm_mm**2 / 5.545177, rel=2.5e-3)


@pytest.mark.parametrize(("fwhm", "relative"), [(1.0, -0.3833), (1.3, -0.0584), (1.5, -0.0106), (2.0, 0.0)])
def test_gaussian_of_few_voxels_loses_the_variance_that_its_docstring_states(fwhm, relative):
    # Closed form: the variance of exp(-n^2 / 2 s^2) over whole n, against s^2.
    out = filters.gaussian(point((3, 3, 41), (1, 1, 20)), (1.0, 1.0, 1.0), fwhm).sum(axis=(0, 1))
    n = np.arange(41) - 20
    sampled = np.exp(-(n**2) * 4 * np.log(2.0) / fwhm**2)
    variance = (out * n**2).sum()
    # Cutting the kernel at 5 sigma, rounded to whole voxels, takes less than 1e-3 of the variance.
    assert variance == pytest.approx((sampled * n**2).sum() / sampled.sum(), rel=1e-3)
    assert variance / (fwhm**2 / 5.545177) - 1.0 == pytest.approx(relative, abs=2e-4)


FILTERS = [
    pytest.param(lambda values, voxel: filters.gaussian(values, voxel, 15.0), id="gaussian"),
    pytest.param(lambda values, voxel: filters.butterworth(values, voxel, 0.3, 3), id="butterworth"),
]


@pytest.mark.parametrize("apply", FILTERS)
def test_totals_and_constants_are_kept_up_to_the_border(apply, figure):
    voxel_mm = (4.0, 3.0, 3.0)
    constant = apply(np.full((12, 17, 20), 7.0, np.float32), voxel_mm)
    assert constant.dtype == np.float32
    # float32 rounds at 6e-8; some hundred additions stay below 1e-6.
    np.testing.assert_allclose(constant, 7.0, rtol=1e-6)
    values = np.random.default_rng(1).gamma(1.0, size=(12, 17, 20))
    assert apply(values, voxel_mm).sum() == pytest.approx(values.sum(), rel=1e-12)


@pytest.mark.parametrize("apply", FILTERS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_nothing_wraps_round_from_the_opposite_face(apply, axis):
    # Hot first slice, 40 voxels of 4 mm = 160 mm long: the Gaussian (FWHM 15 mm) has nothing left at the far side, the
    # Butterworth (order 3, 0.3/cm) rings below 1e-4; wrapped round, both would show more than 0.1 there.
    shape = [8, 8, 8]
    shape[axis] = 40
    values = np.zeros(shape)
    values[(slice(None),) * axis + (0,)] = 1.0
    profile = apply(values, (4.0, 4.0, 4.0)).mean(axis=tuple(n for n in range(3) if n != axis))
    assert profile[0] > 0.3
    assert np.abs(profile[-5:]).max() < 1e-4


def test_gaussian_of_zero_width_returns_a_copy_of_the_same_values():
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    out = filters.gaussian(values, (2.0, 2.0, 2.0), 0.0)
    np.testing.assert_array_equal(out, values)
    assert not np.shares_memory(out, values)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("order", "ratio", "gain"), [(4, 1.0, 0.70711), (2, 2.0, 0.24254), (2, 0.5, 0.97014)])
def test_butterworth_gain_of_a_wave_that_does_not_fit_the_borders(axis, order, ratio, gain, figure):
    # Gain 1/sqrt(1 + ratio^(2 order)) as literals: 1/sqrt(2), 1/sqrt(17), 1/sqrt(1 + 1/16). Read in the middle half of
    # 160 voxels, where the kink of the mirrored wave at the borders has died out to below half a percent.
    voxel_mm = [4.0, 4.0, 4.0]
    voxel_mm[axis] = 2.5
    shape = [3, 3, 3]
    shape[axis] = 160
    position_cm = np.arange(160) * 0.25
    phase = 2 * np.pi * 0.5 * ratio * position_cm + 0.7
    wave = np.broadcast_to(np.expand_dims(np.cos(phase), [n for n in range(3) if n != axis]), shape)
    profile = filters.butterworth(wave, voxel_mm, 0.5, order).mean(axis=tuple(n for n in range(3) if n != axis))
    middle = slice(40, 120)
    basis = np.stack([np.cos(phase[middle]), np.sin(phase[middle])], axis=1)
    (in_phase, quadrature), *_ = np.linalg.lstsq(basis, profile[middle], rcond=None)
    figure(f"butterworth order {order} gain at {ratio:g} x cut-off", in_phase, f"{gain} +- 0.5 %")
    assert in_phase == pytest.approx(gain, rel=5e-3)
    assert abs(quadrature) < 5e-3


def test_butterworth_cuts_by_the_radial_frequency():
    # cos(pi k (n + 1/2) / N) has the frequency k / (2 N voxel). Modes (3, 4, 0) of 2 cm fields: 3/4 and 1 per cm across
    # two axes make a radial frequency of 1.25 per cm; at that cut-off the gain is 1/sqrt(2) exactly.
    n = np.arange(20) + 0.5
    mode_3, mode_4 = np.cos(np.pi * 3 * n / 20), np.cos(np.pi * 4 * n / 20)
    wave = mode_3[:, None, None] * mode_4[None, :, None] * np.ones(6)
    out = filters.butterworth(wave, (1.0, 1.0, 1.0), 1.25, 7)
    np.testing.assert_allclose(out, wave / np.sqrt(2.0), atol=1e-12)


def test_butterworth_of_a_huge_order_is_a_sharp_cut_without_overflow():
    n = np.arange(20) + 0.5
    kept, lost = np.cos(np.pi * 3 * n / 20), np.cos(np.pi * 5 * n / 20)
    wave = (kept + lost)[None, None, :] * np.ones((2, 2, 1))
    out = filters.butterworth(wave, (1.0, 1.0, 1.0), 1.0, 5000)
    np.testing.assert_allclose(out, np.broadcast_to(kept, wave.shape), atol=1e-12)


@pytest.mark.parametrize("text", ["gaussian:8", "gaussian:6.5", "gaussian:0", "butterworth:0.5:10"])
def test_post_filter_text_names_the_filter_and_is_written_into_the_history(text):
    grid = Grid.upright((6, 9, 9), (4.0, 3.0, 3.0), (0, 0, 0))
    image = Image(point(grid.shape, (3, 4, 4)), grid, "cps/mL", history=("osem",))
    chosen = filters.parse_post_filter(text)
    assert chosen.name == text
    out = chosen(image)
    assert out.unit == "cps/mL"
    assert out.grid is grid
    assert out.history[0] == "osem"
    assert len(out.history) == 2
    assert text in out.history[1]
    expected = (
        filters.butterworth(image.values, grid.voxel_mm, 0.5, 10)
        if text.startswith("b")
        else filters.gaussian(image.values, grid.voxel_mm, float(text[9:]))
    )
    np.testing.assert_array_equal(out.values, expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gaussian",
        "gaussian:",
        "gaussian:eight",
        "gaussian:8:2",
        "gaussian:-1",
        "gaussian:nan",
        "gaussian:inf",
        "median:3",
        "butterworth:0.5",
        "butterworth:0:10",
        "butterworth:0.5:0",
        "butterworth:0.5:x",
        "butterworth:nan:5",
    ],
)
def test_bad_post_filter_text_is_an_input_error_on_one_line(text):
    with pytest.raises(InputError) as caught:
        filters.parse_post_filter(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "voxel_mm", "message"),
    [
        (np.zeros((4, 4)), (1, 1, 1), "image .z, y, x., got shape"),
        (np.zeros((2, 4, 4)), (1, 1), "voxel_mm of a filter needs 3 numbers above 0"),
        (np.zeros((2, 4, 4)), (1, 1, 0), "voxel_mm of a filter needs 3 numbers above 0"),
    ],
)
def test_arrays_that_are_no_image_are_refused(values, voxel_mm, message):
    with pytest.raises(InputError, match=message):
        filters.gaussian(values, voxel_mm, 8.0)
    with pytest.raises(InputError, match=message):
        filters.butterworth(values, voxel_mm, 0.5, 5)
