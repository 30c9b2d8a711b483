"""Filtered backprojection against closed-form line integrals: values in cps/mL, places in mm, any set of angles."""

import math

import numpy as np
import pytest

from spectac.recon import geometry
from spectac.recon.backprojection import RampWindow, angle_weights, fbp, parse_filter
from spectac.recon.errors import InputError
from spectac.recon.system import SystemModel
from spectac.recon.types import Grid

FULL = np.arange(0.0, 360.0, 3.0)
HALF = np.arange(0.0, 180.0, 3.0)
ROWS = 2


@pytest.fixture(scope="module")
def measured(closed_form):
    """Counts (v, z, u) of upright elliptic cylinders: seconds * pixel area * line integral (mean of 4 x 4 rays)."""

    def counts(acquisition, *cylinders):
        bodies = [closed_form.Ellipsoid((x, y, 0.0), (a, b, math.inf), value) for x, y, a, b, value in cylinders]
        pitch_z, pitch_u = acquisition.pixel_mm
        integrals = closed_form.line_integrals(
            bodies, None, acquisition.view_angles_deg, acquisition.matrix, pitch_u, samples=4
        )
        area_cm2 = pitch_z * pitch_u / 100.0
        return np.stack(list(integrals)) / 10.0 * area_cm2 * np.asarray(acquisition.view_seconds)[:, None, None]

    return counts


ELLIPSE = (20.0, -15.0, 80.0, 95.0, 1.0)


def radius_in(grid, ellipse=ELLIPSE):
    """Distance of the voxel centres (y, x) from the ellipse's centre, 1 on its border."""
    _, y, x = grid.centres_mm()
    return np.hypot((x[None, :] - ellipse[0]) / ellipse[2], (y[:, None] - ellipse[1]) / ellipse[3])


@pytest.mark.parametrize(("columns", "pixel_mm"), [(64, 4.4), (128, 2.2), (127, 2.2)])
@pytest.mark.parametrize("angles", [FULL, HALF, np.arange(1.5, 360.0, 360.0 / 121)], ids=["360", "180", "121 views"])
def test_an_ellipse_off_the_centre_is_recovered_in_cps_per_ml(
    measured, make_acquisition, figure, columns, pixel_mm, angles
):
    acquisition = make_acquisition(angles, (ROWS, columns), pixel_mm)
    grid = geometry.default_grid(acquisition)
    image = fbp(acquisition, measured(acquisition, ELLIPSE), grid)
    assert image.dtype == np.float32
    radius = radius_in(grid)
    inside = image[:, radius < 0.85]
    figure(f"FBP ellipse, {columns} columns, {angles.size} views: worst voxel", np.abs(inside - 1.0).max(), "0.01")
    # Every voxel, not only the mean: away from the border the Hann window rings far below a percent.
    np.testing.assert_allclose(inside, 1.0, atol=0.01)
    assert inside.mean() == pytest.approx(1.0, abs=1e-3)
    # The ramp keeps the mean: no offset outside (a ramp sampled in frequency leaves -2.7 % here), and the sum is the
    # ellipse's area; it reads the corners outside the detector's circle as well.
    assert abs(image[:, radius > 1.2].mean()) < 1e-3
    area = image[0].sum() * pixel_mm**2
    assert area == pytest.approx(np.pi * 80.0 * 95.0, rel=2e-3)


@pytest.mark.parametrize("window", ["ramp", "hann:0.5", "butterworth:0.5:5", "butterworth:0.7:2"])
def test_windows_change_the_edges_and_not_the_mean(measured, make_acquisition, window):
    acquisition = make_acquisition(FULL, (ROWS, 64), 4.4)
    grid = geometry.default_grid(acquisition)
    image = fbp(acquisition, measured(acquisition, ELLIPSE), grid, parse_filter(window))
    # The mean of the interior within 0.2 %: what rings cancels over an area many pixels wide.
    assert image[:, radius_in(grid) < 0.8].mean() == pytest.approx(1.0, abs=2e-3)
    assert image[0].sum() * 4.4**2 == pytest.approx(np.pi * 80.0 * 95.0, rel=2e-3)


@pytest.mark.parametrize("window", ["ramp", "hann:1", "hann:0.5", "butterworth:0.5:5"])
def test_the_noise_of_a_voxel_is_the_predicted_one(make_acquisition, figure, window):
    """White noise of standard deviation 1 count through ramp, window and linear interpolation, in closed form.

    var = V (pi / V)^2 / voxel_mL^2 * 2 integral_0^1/2 (f gain(f))^2 (2 + cos 2 pi f) / 3 df, f in cycles per pixel; the
    last factor is linear interpolation's mean square gain over all positions between two columns. 64 slices of 32 x 32
    voxels hold about 64 * (32 / 6)^2 = 1800 independent values: the variance is known to sqrt(2 / 1800) = 3 %, and 5 %
    is one and a half of these (the seed is fixed).
    """
    acquisition = make_acquisition(FULL + 0.7, (64, 64), 4.0)
    noise = np.random.default_rng(3).normal(size=acquisition.shape)
    chosen = parse_filter(window)
    image = fbp(acquisition, noise, geometry.default_grid(acquisition), chosen)
    f = (np.arange(5000) + 0.5) / 10000
    passed = 2.0 * np.mean((f * chosen.gain(2 * f)) ** 2 * (2 + np.cos(2 * np.pi * f)) / 3) * 0.5
    predicted = np.pi**2 / 120 / 0.064**2 * passed
    measured = image[:, 16:48, 16:48].var()
    figure(f"FBP noise variance over the closed form, {window}", measured / predicted, "1 +- 0.05")
    assert measured == pytest.approx(predicted, rel=0.05)


def test_values_do_not_depend_on_view_time_or_voxel_size(measured, make_acquisition, figure):
    means = {}
    for columns, pixel_mm, seconds in ((64, 4.4, 1.0), (64, 4.4, 17.0), (128, 2.2, 1.0), (96, 4.4 * 2 / 3, 5.0)):
        acquisition = make_acquisition(FULL, (ROWS, columns), pixel_mm, view_seconds=np.full(FULL.size, seconds))
        grid = geometry.default_grid(acquisition)
        image = fbp(acquisition, measured(acquisition, ELLIPSE), grid)
        means[columns, seconds] = image[:, radius_in(grid) < 0.8].mean()
    spread = max(means.values()) / min(means.values()) - 1.0
    figure("FBP mean over view times and voxel sizes: spread", spread, "0.005")
    assert spread < 5e-3
    assert means[64, 17.0] == pytest.approx(means[64, 1.0], rel=1e-6)


def test_unequal_view_times_are_divided_out(measured, make_acquisition):
    seconds = np.random.default_rng(0).uniform(5.0, 40.0, FULL.size)
    uneven = make_acquisition(FULL, (ROWS, 64), 4.4, view_seconds=seconds)
    even = make_acquisition(FULL, (ROWS, 64), 4.4)
    grid = geometry.default_grid(even)
    np.testing.assert_allclose(
        fbp(uneven, measured(uneven, ELLIPSE), grid), fbp(even, measured(even, ELLIPSE), grid), atol=1e-5
    )


def test_decay_during_the_acquisition_is_undone(measured, make_acquisition):
    # Tc-99m (6.0 h), 120 views of 60 s on one head: the last view has exp(-2 h * ln 2 / 6.007 h) = 79 % of the first.
    # Each view's factor is its mean decay, integrated here by 200 midpoints.
    known = make_acquisition(FULL, (ROWS, 64), 4.4, view_seconds=np.full(120, 60.0))
    decaying = make_acquisition(FULL, (ROWS, 64), 4.4, view_seconds=np.full(120, 60.0), corrections=frozenset())
    moments_s = 60.0 * np.arange(120)[:, None] + 60.0 * (np.arange(200) + 0.5) / 200
    factor = np.exp(-np.log(2.0) / (6.007 * 3600.0) * moments_s).mean(axis=1)
    grid = geometry.default_grid(known)
    counts = measured(known, ELLIPSE)
    image = fbp(decaying, counts * factor[:, None, None], grid)
    # Published half-lives differ by 0.1 %: 2 h of it change a factor by 0.03 %.
    np.testing.assert_allclose(image, fbp(known, counts, grid), atol=5e-4)


def test_it_inverts_the_projector(make_acquisition, closed_form, figure):
    # The same unit and volume as SystemModel.forward: a smooth body comes back within 1 % without attenuation and blur.
    acquisition = make_acquisition(FULL, (24, 64), 4.0, corrections=frozenset(), view_seconds=np.full(120, 20.0))
    grid = geometry.default_grid(acquisition)
    truth = closed_form.voxelise([closed_form.Ellipsoid((15.0, 10.0, 0.0), (70.0, 85.0, 200.0), 3.0)], grid, 4)
    counts = SystemModel(acquisition, grid, resolution=False).forward(truth.astype(np.float32))
    image = fbp(acquisition, counts, grid)
    inside = (radius_in(grid, (15.0, 10.0, 70.0, 85.0)) < 0.8)[None] & (truth == 3.0)
    figure("FBP of SystemModel.forward: mean error", image[inside].mean() / 3.0 - 1.0, "0.005")
    assert image[inside].mean() == pytest.approx(3.0, rel=5e-3)
    np.testing.assert_allclose(image[inside], 3.0, rtol=0.02)


def test_a_disc_lands_at_the_right_millimetre(measured, make_acquisition):
    # The literal convention. The disc lies 40 mm to the patient's left (+x) and 25 mm to the front (-y). At 0 deg (the
    # detector at the back) the left falls at u < centre: -40 mm; at 90 deg the front falls at u < centre: -25 mm.
    acquisition = make_acquisition(FULL, (ROWS, 128), 2.2)
    counts = measured(acquisition, (40.0, -25.0, 12.0, 12.0, 1.0))
    u_mm = 2.2 * (np.arange(128) - 63.5)
    columns_mm = (counts[:, 0] * u_mm).sum(axis=1) / counts[:, 0].sum(axis=1)
    # A centroid of 4 sub-points a pixel is good to a twentieth of a pixel.
    np.testing.assert_allclose(columns_mm[[0, 30, 60, 90]], [-40.0, -25.0, 40.0, 25.0], atol=0.1)

    grid = geometry.default_grid(acquisition)
    _, y, x = grid.centres_mm()
    core = np.maximum(fbp(acquisition, counts, grid)[0], 0.3) - 0.3
    assert (core * x[None, :]).sum() / core.sum() == pytest.approx(40.0, abs=0.2)
    assert (core * y[:, None]).sum() / core.sum() == pytest.approx(-25.0, abs=0.2)


def test_full_and_half_arcs_give_the_same_image(measured, make_acquisition):
    # Views at a and a + 180 deg see the same lines: without attenuation the arcs differ by rounding alone.
    full, half = make_acquisition(FULL, (ROWS, 64), 4.4), make_acquisition(HALF, (ROWS, 64), 4.4)
    grid = geometry.default_grid(full)
    np.testing.assert_allclose(
        fbp(full, measured(full, ELLIPSE), grid), fbp(half, measured(half, ELLIPSE), grid), atol=1e-5
    )


def test_the_order_of_views_and_the_turn_count_do_not_matter(measured, make_acquisition):
    rng = np.random.default_rng(4)
    order = rng.permutation(FULL.size)
    turned = (FULL + 360.0 * rng.integers(-2, 3, FULL.size))[order]
    sorted_, mixed = make_acquisition(FULL, (ROWS, 64), 4.4), make_acquisition(turned, (ROWS, 64), 4.4)
    grid = geometry.default_grid(sorted_)
    counts = measured(sorted_, ELLIPSE)
    np.testing.assert_allclose(fbp(mixed, counts[order], grid), fbp(sorted_, counts, grid), atol=1e-5)


@pytest.mark.parametrize("kind", ["steps of 2 and 4", "jitter", "dense on one side", "200 deg arc"])
def test_uneven_angles_stay_quantitative(measured, make_acquisition, figure, kind):
    rng = np.random.default_rng(8)
    angles = {
        "steps of 2 and 4": np.concatenate([np.arange(0.0, 360.0, 6.0), np.arange(2.0, 360.0, 6.0)]),
        "jitter": FULL + rng.uniform(-1.0, 1.0, FULL.size),
        "dense on one side": np.concatenate([np.arange(0.0, 90.0, 1.5), np.arange(90.0, 180.0, 4.5)]),
        "200 deg arc": np.arange(10.0, 211.0, 2.5),
    }[kind]
    acquisition = make_acquisition(angles, (ROWS, 128), 2.2)
    grid = geometry.default_grid(acquisition)
    image = fbp(acquisition, measured(acquisition, ELLIPSE), grid)
    mean = image[:, radius_in(grid) < 0.8].mean()
    figure(f"FBP, {kind}: mean", mean, "1 +- 0.01")
    assert mean == pytest.approx(1.0, abs=0.01)


def test_two_heads_at_the_same_angles_average_their_counts(make_acquisition):
    # Repeated angles share the weight: the image is the mean of both heads' images, whatever the counts.
    one = make_acquisition(HALF, (ROWS, 64), 4.4)
    both = make_acquisition(np.concatenate([HALF, HALF + 0.02]), (ROWS, 64), 4.4)
    grid = geometry.default_grid(one)
    first, second = np.random.default_rng(6).normal(size=(2, *one.shape))
    shifted = make_acquisition(HALF + 0.02, (ROWS, 64), 4.4)
    expected = 0.5 * (fbp(one, first, grid) + fbp(shifted, second, grid))
    np.testing.assert_allclose(
        fbp(both, np.concatenate([first, second]), grid), expected, atol=1e-5 * np.abs(expected).max()
    )


def test_counts_may_be_negative(measured, make_acquisition):
    acquisition = make_acquisition(FULL, (ROWS, 64), 4.4)
    grid = geometry.default_grid(acquisition)
    counts = measured(acquisition, ELLIPSE)
    scatter = measured(acquisition, (0.0, 0.0, 110.0, 110.0, 0.4))
    np.testing.assert_array_equal(fbp(acquisition, -counts, grid), -fbp(acquisition, counts, grid))
    np.testing.assert_allclose(
        fbp(acquisition, counts - scatter, grid),
        fbp(acquisition, counts, grid) - fbp(acquisition, scatter, grid),
        atol=1e-5,
    )


def test_a_centre_of_rotation_offset_is_undone(measured, make_acquisition):
    # The axis falls k pixels to the right of the centre: the data lie k columns further right, in each view its k.
    pixels = np.random.default_rng(7).integers(-4, 5, FULL.size)
    straight = make_acquisition(FULL, (ROWS, 64), 4.4)
    offset = make_acquisition(FULL, (ROWS, 64), 4.4, u_offset_mm=4.4 * pixels)
    counts = measured(straight, ELLIPSE)
    moved = np.stack([np.roll(view, shift, axis=-1) for view, shift in zip(counts, pixels, strict=True)])
    grid = geometry.default_grid(straight)
    np.testing.assert_allclose(fbp(offset, moved, grid), fbp(straight, counts, grid), atol=1e-5)
    assert np.abs(fbp(straight, moved, grid) - fbp(straight, counts, grid)).max() > 0.1


def test_a_grid_off_the_axis_reads_the_same_space(measured, make_acquisition):
    # 30 x 40 voxels, cut out elsewhere by whole voxels: the same values; an axis that is not at the origin moves along.
    acquisition = make_acquisition(FULL, (ROWS, 64), 4.4)
    moved = make_acquisition(FULL, (ROWS, 64), 4.4, axis_lps_mm=(100.0, -50.0, 7.0))
    grid = geometry.default_grid(acquisition)
    whole = fbp(acquisition, measured(acquisition, ELLIPSE), grid)
    x0, y0, _ = grid.affine_lps[:3, 3]
    part = Grid.upright((ROWS, 30, 40), grid.voxel_mm, (x0 + 15 * 4.4 + 100.0, y0 + 12 * 4.4 - 50.0, 7.0))
    np.testing.assert_allclose(fbp(moved, measured(acquisition, ELLIPSE), part), whole[:, 12:42, 15:55], atol=1e-5)


def test_a_larger_grid_than_the_detector_holds_nothing_outside(measured, make_acquisition):
    # The detector is 141 mm wide, the grid 352 mm. The filtered views go on beyond the detector, so the field outside
    # stays near 0 instead of filling with arcs (without it: 3.5 % on average, up to 7 %).
    acquisition = make_acquisition(FULL, (ROWS, 64), 2.2)
    half = 0.5 * 159 * 2.2
    grid = Grid.upright((ROWS, 160, 160), (2.2, 2.2, 2.2), (-half, -half, -1.1))
    image = fbp(acquisition, measured(acquisition, (5.0, 0.0, 40.0, 30.0, 1.0)), grid)
    radius = radius_in(grid, (5.0, 0.0, 40.0, 30.0))
    np.testing.assert_allclose(image[:, radius < 0.8], 1.0, atol=0.01)
    _, y, x = grid.centres_mm()
    beyond = np.hypot(x[None, :], y[:, None]) > 71.0
    assert abs(image[:, beyond].mean()) < 1e-3
    # With 120 views, streaks between the views grow beyond a radius of 60 pixels * 2.2 / pi = 84 mm.
    assert np.abs(image[:, beyond & (np.hypot(x[None, :], y[:, None]) < 80.0)]).max() < 0.01


def test_slices_do_not_mix(measured, make_acquisition):
    acquisition = make_acquisition(FULL, (3, 64), 4.4)
    counts = measured(acquisition, ELLIPSE)
    counts[:, [0, 2]] = 0.0
    image = fbp(acquisition, counts, geometry.default_grid(acquisition))
    assert not image[[0, 2]].any()
    assert image[1].max() > 0.9


def test_angle_weights_by_hand():
    step = np.pi / 6
    np.testing.assert_allclose(angle_weights(np.arange(0.0, 180.0, 30.0)), step)
    np.testing.assert_allclose(angle_weights(np.arange(0.0, 360.0, 30.0)), step / 2)
    # 0 and 180 deg are one direction, seen twice.
    np.testing.assert_allclose(angle_weights(np.arange(0.0, 181.0, 30.0)), [step / 2, *[step] * 5, step / 2])
    # Steps of 10, 20, 30, 30, 30, 30, 30 deg, out of order: half of both gaps.
    weights = angle_weights(np.array([90.0, 0.0, 10.0, 30.0, 60.0, 120.0, 150.0]))
    np.testing.assert_allclose(np.rad2deg(weights), [30.0, 20.0, 15.0, 25.0, 30.0, 30.0, 30.0])
    # Three views of one direction, across the seam at 180 deg, share it equally.
    weights = angle_weights(np.array([179.98, 0.0, 180.03, 30.0, 60.0, 90.0, 120.0, 150.0]))
    np.testing.assert_allclose(np.rad2deg(weights[:3]), 10.0, atol=0.02)
    assert weights.sum() == pytest.approx(np.pi, rel=1e-12)


@pytest.mark.parametrize(
    "angles", [[0.0], [10.0, 10.0, 190.0], np.arange(0.0, 120.0, 3.0), np.arange(0.0, 180.0, 45.0)]
)
def test_missing_directions_are_refused(angles):
    with pytest.raises(InputError, match="views all around"):
        angle_weights(np.asarray(angles))


def test_window_gains_by_hand():
    f = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(RampWindow("ramp").gain(f), 1.0)
    np.testing.assert_allclose(RampWindow("hann").gain(f), [1, 0.8535534, 0.5, 0.1464466, 0], atol=1e-7)
    np.testing.assert_allclose(RampWindow("hann", 0.5).gain(f), [1, 0.5, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(
        RampWindow("butterworth", 0.5, 2).gain(f), [1, 0.9701425, 0.7071068, 0.4061385, 0.2425356], atol=1e-7
    )


@pytest.mark.parametrize("text", ["ramp", "hann:1", "hann:0.8", "butterworth:0.5:5"])
def test_filter_text_round_trip(text):
    assert parse_filter(text).name == text
    assert parse_filter(text) == parse_filter(text.upper())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hann",
        "hann:",
        "hann:x",
        "hann:0",
        "hann:1.2",
        "hann:nan",
        "hann:1:2",
        "ramp:1",
        "ramp:x",
        "shepp:1",
        "butterworth:0.5",
        "butterworth:0.5:0",
        "butterworth:0.5:inf",
    ],
)
def test_bad_filter_text_is_an_input_error_on_one_line(text):
    with pytest.raises(InputError) as caught:
        parse_filter(text)
    assert "\n" not in str(caught.value)


def test_input_that_does_not_fit_is_refused(make_acquisition):
    acquisition = make_acquisition(FULL, (ROWS, 16), 4.4)
    grid = geometry.default_grid(acquisition)
    counts = np.zeros(acquisition.shape)
    with pytest.raises(InputError, match=r"need shape \(120, 2, 16\), got \(120, 16, 2\)"):
        fbp(acquisition, counts.transpose(0, 2, 1), grid)
    with pytest.raises(InputError, match="do not fit pixels"):
        fbp(acquisition, counts, Grid.upright((ROWS, 16, 16), (4.4, 4.0, 4.0), (0, 0, -2.2)))
    counts[3, 1, 4] = np.nan
    with pytest.raises(InputError, match="1 values that are NaN"):
        fbp(acquisition, counts, grid)
    with pytest.raises(InputError, match="not one of ramp, hann, butterworth"):
        RampWindow("hamming")
