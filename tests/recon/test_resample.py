"""Resampling keeps values, means and millimetres; rebinning keeps counts and millimetres."""

import numpy as np
import pytest
from scipy.interpolate import make_interp_spline

from spectac.recon import geometry
from spectac.recon.errors import InputError
from spectac.recon.resample import on_field, rebin, rebin_acquisition, resample, resample_by_splines
from spectac.recon.types import Grid


def turned(shape, voxel_mm, centre_lps_mm, degrees=(0.0, 0.0, 0.0), flip=(1, 1, 1)):
    """Grid whose index axes (z, y, x) are turned about x, y and z in LPS and optionally mirrored."""
    rx, ry, rz = np.deg2rad(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(rx), -np.sin(rx)], [0, np.sin(rx), np.cos(rx)]])
    about_y = np.array([[np.cos(ry), 0, np.sin(ry)], [0, 1, 0], [-np.sin(ry), 0, np.cos(ry)]])
    about_z = np.array([[np.cos(rz), -np.sin(rz), 0], [np.sin(rz), np.cos(rz), 0], [0, 0, 1]])
    axes = (about_z @ about_y @ about_x)[:, ::-1] * np.array(voxel_mm) * np.array(flip)
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = np.array(centre_lps_mm) - axes @ (0.5 * (np.array(shape) - 1))
    return Grid(shape, voxel_mm, affine)


def positions(grid):
    """LPS coordinates (3, z, y, x) of all voxel centres."""
    index = np.stack([*np.indices(grid.shape), np.ones(grid.shape)])
    return np.tensordot(grid.affine_lps[:3], index, axes=1)


def linear(grid):
    """A field that is linear in space: 5 + 0.03 x - 0.02 y + 0.05 z, in mm."""
    x, y, z = positions(grid)
    return 5.0 + 0.03 * x - 0.02 * y + 0.05 * z


SOURCES = {
    "upright": turned((20, 24, 28), (4.0, 4.0, 4.0), (3.0, -7.0, 11.0)),
    "uneven voxels": turned((30, 24, 28), (2.5, 4.0, 3.5), (3.0, -7.0, 11.0)),
    "tilted": turned((26, 30, 34), (4.0, 4.0, 4.0), (3.0, -7.0, 11.0), (12.0, -8.0, 25.0)),
    "mirrored": turned((20, 24, 28), (4.0, 4.0, 4.0), (3.0, -7.0, 11.0), flip=(-1, 1, -1)),
    "sagittal slices": turned((28, 24, 28), (4.0, 4.0, 4.0), (3.0, -7.0, 11.0), (0.0, 90.0, 0.0)),
}
TARGETS = {
    "finer": turned((11, 13, 15), (1.7, 2.1, 2.1), (5.0, -4.0, 9.0)),
    "coarser": turned((4, 5, 6), (7.0, 9.0, 9.0), (5.0, -4.0, 9.0)),
    "tilted": turned((6, 7, 8), (5.0, 3.0, 3.0), (5.0, -4.0, 9.0), (-20.0, 15.0, 40.0)),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_a_linear_field_is_reproduced_inside(source, target):
    # Trilinear interpolation is exact for linear fields, and so is the mean over points that are even about the centre.
    out = resample(linear(SOURCES[source]), SOURCES[source], TARGETS[target])
    assert out.dtype == np.float32
    # float32 rounds values of about 5 at 5e-7.
    np.testing.assert_allclose(out, linear(TARGETS[target]), atol=3e-6)


def test_equal_grids_return_the_same_values():
    grid = SOURCES["tilted"]
    values = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    out = resample(values, grid, Grid(grid.shape, grid.voxel_mm, grid.affine_lps + 1e-5 * np.eye(4)))
    np.testing.assert_array_equal(out, values)
    assert not np.shares_memory(out, values)


def test_a_cut_out_and_a_mirrored_grid_hold_the_same_voxels_exactly():
    grid = turned((6, 7, 8), (3.3, 2.1, 2.1), (0.7, -0.3, 0.9))
    values = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    first = grid.affine_lps @ np.array([1, 2, 3, 1.0])
    part = Grid.upright((4, 3, 5), grid.voxel_mm, first[:3])
    np.testing.assert_array_equal(resample(values, grid, part), values[1:5, 2:5, 3:8])
    mirrored = turned((6, 7, 8), (3.3, 2.1, 2.1), (0.7, -0.3, 0.9), flip=(1, -1, -1))
    np.testing.assert_array_equal(resample(values, grid, mirrored), values[:, ::-1, ::-1])


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_coarse_voxels_hold_the_mean_of_a_checkerboard(factor):
    # Sampling the centres alone would alias it into a flat 0, a flat 1 or a coarser checkerboard.
    n = 4 * factor
    fine = Grid.upright((n, n, n), (1.0, 1.0, 1.0), (0, 0, 0))
    checkers = np.indices(fine.shape).sum(axis=0) % 2
    first = 0.5 * (factor - 1)
    coarse = Grid.upright((4, 4, 4), (float(factor),) * 3, (first,) * 3)
    blocks = checkers.reshape(4, factor, 4, factor, 4, factor).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(resample(checkers, fine, coarse), blocks, atol=1e-6)


@pytest.mark.parametrize("name", ["coarser 2", "coarser 2.3", "finer", "coarser and tilted", "same size, tilted"])
def test_the_total_activity_of_a_body_is_kept(closed_form, figure, name):
    # A body whose border is smoothed by a voxel or so; what remains is the sampling of its 3D integral.
    fine = turned((60, 60, 60), (3.0, 3.0, 3.0), (0, 0, 0))
    x, y, z = positions(fine)
    values = 1.0 / (1.0 + np.exp((np.sqrt(x**2 + (y / 1.2) ** 2 + (z / 0.8) ** 2) - 40.0) / 2.0))
    other = {
        "coarser 2": turned((30, 30, 30), (6.0, 6.0, 6.0), (0, 0, 0)),
        "coarser 2.3": turned((26, 26, 26), (6.9, 6.9, 6.9), (1.0, 0.4, -2.0)),
        "finer": turned((90, 90, 90), (2.0, 2.0, 2.0), (0.3, 0, 0)),
        "coarser and tilted": turned((20, 20, 20), (9.0, 8.0, 8.0), (0, 0, 0), (10.0, 20.0, 30.0)),
        "same size, tilted": turned((60, 60, 60), (3.0, 3.0, 3.0), (0, 0, 0), (10.0, 20.0, 30.0)),
    }[name]
    ratio = resample(values, fine, other).sum() * other.voxel_ml / (values.sum() * fine.voxel_ml)
    figure(f"resample, {name}: total", ratio, "1 +- 0.001")
    assert ratio == pytest.approx(1.0, abs=1e-3)


def test_a_single_voxel_keeps_its_total_within_the_stated_bound(figure):
    # 3 mm voxels of 2 points over 2 mm voxels: points every h = 0.75 source voxels. The interpolated voxel is a hat;
    # with one point on its top and one h to either side the sum is h (1 + 2 (1 - h)) = 1.125, the largest for all h.
    fine = Grid.upright((1, 1, 31), (2.0, 2.0, 2.0), (0, 0, 0))
    ratios = []
    for shift in np.linspace(0.0, 1.5, 17):
        coarse = Grid.upright((1, 1, 20), (2.0, 2.0, 3.0), (shift, 0, 0))
        values = np.zeros(fine.shape)
        values[0, 0, 15] = 1.0
        ratios.append(resample(values, fine, coarse).sum() * 3.0 / 2.0)
    figure("resample 2 -> 3 mm, one voxel: worst total", max(ratios), "1.125")
    assert max(ratios) == pytest.approx(1.125, rel=1e-6)
    assert min(ratios) > 0.875
    assert np.mean(ratios[:-1]) == pytest.approx(1.0, abs=2e-3)


def test_an_ellipsoid_in_a_tilted_grid_lands_at_the_right_millimetre(figure):
    # Voxelised in a grid tilted like a CT gantry and turned like a head, its centre given in LPS mm by hand.
    tilted = turned((50, 60, 60), (4.0, 3.0, 3.0), (0, 0, 0), (15.0, 5.0, -20.0))
    x, y, z = positions(tilted)
    # A border smooth over a voxel, so that the centroid does not feel the sampling.
    radius = np.sqrt(((x - 20.0) / 30.0) ** 2 + ((y + 12.0) / 25.0) ** 2 + ((z - 31.0) / 35.0) ** 2)
    values = 1.0 / (1.0 + np.exp((radius - 1.0) * 10.0))
    upright = Grid.upright((44, 50, 50), (4.0, 4.0, 4.0), (-98.0, -98.0, -86.0))
    out = resample(values, tilted, upright)
    zc, yc, xc = upright.centres_mm()
    centroid = np.array(
        [
            (out.sum(axis=(0, 1)) * xc).sum() / out.sum(),
            (out.sum(axis=(0, 2)) * yc).sum() / out.sum(),
            (out.sum(axis=(1, 2)) * zc).sum() / out.sum(),
        ]
    )
    error = np.abs(centroid - [20.0, -12.0, 31.0]).max()
    figure("resample, tilted ellipsoid: centre error in mm", error, "0.1")
    assert error < 0.1
    # Its semi-axis along z, where the profile through the centre falls to a half: linear interpolation of a convex
    # border moves it by far less than half a millimetre.
    column = out[:, np.argmin(abs(yc + 12.0)), np.argmin(abs(xc - 20.0))]
    above = np.flatnonzero(column > 0.5)[-1]
    border = zc[above] + 4.0 * (column[above] - 0.5) / (column[above] - column[above + 1])
    assert border == pytest.approx(31.0 + 35.0, abs=0.5)


def test_edges_hold_the_nearest_value_for_half_a_voxel_and_then_outside():
    # Centres at 0, 10, 20 mm: the source ends at -5 and 25 mm. Targets every mm from -7 to 27.
    source = Grid.upright((1, 1, 3), (10.0, 10.0, 10.0), (0, 0, 0))
    target = Grid.upright((1, 1, 35), (1.0, 1.0, 1.0), (-7.0, 0, 0))
    out = resample(np.array([[[1.0, 2.0, 4.0]]]), source, target, outside=-9.0)[0, 0]
    np.testing.assert_array_equal(out[[0, 1]], -9.0)
    np.testing.assert_array_equal(out[2:8], 1.0)
    assert out[12] == pytest.approx(1.5, rel=1e-6)
    np.testing.assert_array_equal(out[27:33], 4.0)
    np.testing.assert_array_equal(out[33:], -9.0)


def test_a_voxel_partly_outside_is_the_mean_of_both():
    # Source from 0 to 40 mm with value 8, target voxel from 20 to 60 mm: half of its four points see `outside`.
    source = Grid.upright((1, 1, 4), (10.0, 10.0, 10.0), (5.0, 0, 0))
    target = Grid.upright((1, 1, 1), (10.0, 10.0, 40.0), (40.0, 0, 0))
    assert resample(np.full((1, 1, 4), 8.0), source, target)[0, 0, 0] == pytest.approx(4.0)
    assert resample(np.full((1, 1, 4), 8.0), source, target, outside=-2.0)[0, 0, 0] == pytest.approx(3.0)


def test_values_and_grids_that_do_not_fit_are_refused():
    grid = SOURCES["upright"]
    with pytest.raises(InputError, match=r"shape of their grid \(20, 24, 28\), got \(28, 24, 20\)"):
        resample(np.zeros((28, 24, 20)), grid, TARGETS["finer"])
    flat = np.array(grid.affine_lps)
    flat[:3, 0] = flat[:3, 1]
    with pytest.raises(InputError, match="cannot be inverted"):
        resample(np.zeros(grid.shape), Grid(grid.shape, grid.voxel_mm, flat), TARGETS["finer"])


def test_rebinning_sums_blocks_by_hand():
    counts = np.arange(24.0).reshape(1, 4, 6)
    # Rows 0-1, columns 0-2: 0 + 1 + 2 + 6 + 7 + 8 = 24; columns 3-5: 42; rows 2-3: 96 and 114.
    np.testing.assert_array_equal(rebin(counts, 2, 3), [[[24.0, 42.0], [96.0, 114.0]]])
    np.testing.assert_array_equal(rebin(counts, 1, 1), counts)
    # Five columns by two: one column of zeros at the end; six by four: one at either end.
    row = np.array([[[1.0, 2.0, 3.0, 4.0, 5.0]]])
    np.testing.assert_array_equal(rebin(row, 1, 2), [[[3.0, 7.0, 5.0]]])
    np.testing.assert_array_equal(rebin(np.array([[[1.0, 2, 3, 4, 5, 6]]]), 1, 4), [[[6.0, 15.0]]])


def point_source(acquisition, lps_mm):
    """Counts (v, z, u) of a point blurred by a Gaussian of sigma 4 pixels, with the convention written out.

    The axis is seen at u_offset_mm from the centre of the matrix; at angle a a point x, y from the axis lies
    -x cos a + y sin a to the right of it. Row 0 is the axis position's z.
    """
    rows, columns = acquisition.matrix
    pitch_z, pitch_u = acquisition.pixel_mm
    x0, y0, z0 = geometry.axis_position_mm(acquisition)
    x, y, z = lps_mm
    angle = np.deg2rad(acquisition.view_angles_deg)
    u_mm = -(x - x0) * np.cos(angle) + (y - y0) * np.sin(angle) + np.asarray(acquisition.u_offset_mm)
    u = u_mm / pitch_u + 0.5 * (columns - 1)
    along_u = np.exp(-((np.arange(columns) - u[:, None]) ** 2) / 32.0)
    along_z = np.exp(-((np.arange(rows) - (z - z0) / pitch_z) ** 2) / 32.0)
    return 100.0 * along_z[None, :, None] * along_u[:, None, :]


def seen_at_mm(acquisition, counts):
    """Centroids in mm: z in LPS (v,), and u to the right of the axis (v,)."""
    rows, columns = acquisition.matrix
    pitch_z, pitch_u = acquisition.pixel_mm
    z = (counts.sum(axis=2) * np.arange(rows)).sum(axis=1) / counts.sum(axis=(1, 2))
    u = (counts.sum(axis=1) * np.arange(columns)).sum(axis=1) / counts.sum(axis=(1, 2))
    return (
        geometry.axis_position_mm(acquisition)[2] + z * pitch_z,
        (u - 0.5 * (columns - 1)) * pitch_u - np.asarray(acquisition.u_offset_mm),
    )


@pytest.mark.parametrize("axis_lps_mm", [None, (12.0, -8.0, -431.0)], ids=["axis unknown", "axis known"])
@pytest.mark.parametrize("factors", [(1, 1), (2, 2), (3, 2), (2, 3), (4, 4), (1, 5)], ids=str)
@pytest.mark.parametrize("matrix", [(48, 60), (47, 61), (46, 59), (45, 62)], ids=str)
def test_rebinning_keeps_counts_and_millimetres(make_acquisition, matrix, factors, axis_lps_mm):
    angles = np.array([0.0, 37.0, 90.0, 201.0])
    fine = make_acquisition(angles, matrix, 2.3, axis_lps_mm=axis_lps_mm, u_offset_mm=np.array([0.0, 1.7, -3.1, 0.4]))
    origin = np.add(geometry.axis_position_mm(fine), (0.0, 0.0, 0.5 * (matrix[0] - 1) * 2.3))
    x, y, z = np.add(origin, (11.0, -6.0, 9.0))
    counts = point_source(fine, (x, y, z)).astype(np.float32)
    coarse = rebin_acquisition(fine, *factors)
    summed = rebin(counts, *factors)
    assert summed.shape == coarse.shape
    assert summed.dtype == np.float32
    # float32 sums of some hundred bins: 1e-6. Sums over blocks keep the centroid of a source that is smooth over
    # them: at sigma 4 in blocks of 5 pixels it moves by at most 2 * 5 * 2.3 mm / pi * exp(-2 pi^2 (4/5)^2) = 2e-5 mm.
    assert summed.sum(dtype=np.float64) == pytest.approx(counts.sum(dtype=np.float64), rel=1e-6)
    assert coarse.pixel_mm == pytest.approx((2.3 * factors[0], 2.3 * factors[1]))
    seen_z, seen_u = seen_at_mm(coarse, summed)
    before_z, before_u = seen_at_mm(fine, counts)
    np.testing.assert_allclose(seen_z, before_z, atol=1e-3)
    np.testing.assert_allclose(seen_u, before_u, atol=1e-3)
    # And both are where the source is: 11 mm left, 6 mm to the front, 9 mm above the middle of the field.
    np.testing.assert_allclose(seen_z, z, atol=1e-2)
    np.testing.assert_allclose(seen_u[[0, 2]], [-11.0, -6.0], atol=1e-2)


def test_an_unknown_axis_stays_unknown_unless_rows_are_padded_unevenly(make_acquisition):
    assert rebin_acquisition(make_acquisition([0.0], (48, 60), 2.0), 2, 2).axis_lps_mm is None
    assert rebin_acquisition(make_acquisition([0.0], (46, 60), 2.0), 4, 2).axis_lps_mm is None
    # 47 rows of 2 mm about z = 0: row 0 at -46 mm; the first pair of rows lies about -45 mm.
    assert rebin_acquisition(make_acquisition([0.0], (47, 60), 2.0), 2, 2).axis_lps_mm == (0.0, 0.0, -45.0)


def test_rebinning_leaves_the_rest_of_the_acquisition_alone(make_acquisition):
    fine = make_acquisition([0.0, 90.0], (8, 8), 2.0, view_seconds=[3.0, 4.0], view_start_s=[1.0, 9.0], detector=[1, 2])
    coarse = rebin_acquisition(fine, 2, 4)
    for field in ("view_angles_deg", "radii_mm", "view_seconds", "view_start_s", "detector", "nuclide", "corrections"):
        np.testing.assert_array_equal(getattr(coarse, field), getattr(fine, field))
    assert coarse.matrix == (4, 2)
    np.testing.assert_array_equal(coarse.u_offset_mm, 0.0)


@pytest.mark.parametrize("factors", [(0, 2), (2, -1), (1.5, 2)])
def test_factors_that_are_no_whole_numbers_above_0_are_refused(make_acquisition, factors):
    with pytest.raises(InputError, match="whole factors"):
        rebin(np.zeros((1, 4, 4)), *factors)
    with pytest.raises(InputError, match="whole factors"):
        rebin_acquisition(make_acquisition([0.0], (4, 4), 2.0), *factors)


def test_rebinning_a_single_row_of_counts_is_refused():
    with pytest.raises(InputError, match="rows and columns"):
        rebin(np.zeros(8), 1, 2)


@pytest.mark.parametrize("offset_mm", [0.0, 1.5, -1.0])
def test_below_the_preview_its_last_row_goes_on(offset_mm):
    """A field that is 43 mm longer than the preview below and 31 mm above, in rows of another length."""
    preview = Grid.upright((8, 6, 6), (4.0,) * 3, (-10.0, -10.0, offset_mm))
    values = np.random.default_rng(0).random(preview.shape).astype(np.float32)
    field = Grid.upright((35, 6, 6), (3.0, 4.0, 4.0), (-10.0, -10.0, -43.0))
    z = field.centres_mm()[0]
    found = on_field(values, preview, field)
    first, last = preview.centres_mm()[0][[0, -1]]
    np.testing.assert_allclose(found[z <= first], np.broadcast_to(values[0], found[z <= first].shape), rtol=1e-5)
    within = (z >= first) & (z <= last)
    np.testing.assert_allclose(found[within], resample(values, preview, field)[within], rtol=1e-5)
    assert not found[z > last + 2.0].any()
    # A field within the preview gets what lies there alone.
    short = Grid.upright((4, 6, 6), (4.0,) * 3, (-10.0, -10.0, offset_mm + 8.0))
    np.testing.assert_array_equal(on_field(values, preview, short), values[2:6])


def test_splines_keep_a_small_structure_that_trilinear_widens():
    """A Gaussian of sigma 1.2 voxels half a voxel off, along all axes.

    Its peak is the cube of what a spline along one axis gives between two voxels, 1.4 % too low; trilinear it falls by
    16 %. Its sum is kept, and beyond the source there is nothing.
    """
    grid = Grid.upright((17, 17, 17), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    shifted = Grid.upright((20, 20, 20), (4.0, 4.0, 4.0), (-2.0, -2.0, -2.0))

    def spot(on: Grid):
        z, y, x = on.centres_mm()
        squares = (z[:, None, None] - 32.0) ** 2 + (y[:, None] - 32.0) ** 2 + (x - 32.0) ** 2
        return np.exp(-0.5 * squares / 4.8**2)

    by_splines, linear = (one(spot(grid), grid, shifted) for one in (resample_by_splines, resample))
    exact = spot(shifted)
    assert linear.max() / exact.max() < 0.84
    along = np.exp(-0.5 * ((np.arange(17) - 8.0) / 1.2) ** 2)
    between = make_interp_spline(np.arange(17), along)([7.5])[0]
    assert by_splines.max() == pytest.approx(between**3, rel=1e-4)
    assert by_splines.max() / exact.max() == pytest.approx(1.0, abs=0.02)
    assert by_splines.sum() == pytest.approx(exact.sum(), rel=1e-3)
    np.testing.assert_array_equal(by_splines[-2:], 0.0)
