"""Where things fall on the detector. Expected columns are literals, worked out on paper from DICOM's convention:
0 deg = detector at the patient's back, angles grow back -> patient's left -> front -> patient's right.
"""

import numpy as np
import pytest

from spectac.recon import geometry
from spectac.recon.collimator import Collimator, Focus
from spectac.recon.errors import InputError
from spectac.recon.kernels import reference
from spectac.recon.system import SystemModel
from spectac.recon.types import Grid, MuMap

BACK, LEFT, FRONT, RIGHT = 0.0, 90.0, 180.0, 270.0


def _point(z, y, x, shape=(5, 8, 8)):
    image = np.zeros(shape)
    image[z, y, x] = 1.0
    return image


@pytest.fixture
def camera(make_acquisition):
    """Function (mu, options) -> system without blur, 5 rows and 8 columns of 4 mm, views from all four sides."""

    def make(mu_per_cm=None, **options):
        acquisition = make_acquisition([BACK, LEFT, FRONT, RIGHT], (5, 8), 4.0, **options)
        grid = geometry.default_grid(acquisition)
        mu = None if mu_per_cm is None else MuMap(np.full(grid.shape, mu_per_cm), grid, 140.511)
        return SystemModel(acquisition, grid, mu=mu, resolution=False, dtype="float64")

    return make


def test_differences_of_angles_are_the_short_way_round():
    np.testing.assert_allclose(geometry.signed_deg([-340.0, 340.0, 180.0]), [20.0, -20.0, -180.0])
    assert geometry.signed_deg(725.0) == 5.0


@pytest.mark.parametrize(
    ("angles_deg", "period_deg", "gaps_deg"),
    [
        ([270.0, 0.0, 90.0], 360.0, [90.0, 180.0, 90.0]),
        ([-90.0, 450.0], 360.0, [180.0, 180.0]),
        ([0.0, 45.0, 180.0, 225.0], 180.0, [0.0, 45.0, 0.0, 135.0]),
    ],
)
def test_gaps_between_angles_sum_to_the_period(angles_deg, period_deg, gaps_deg):
    gaps = geometry.gaps_deg(angles_deg, period_deg)
    np.testing.assert_allclose(gaps, gaps_deg)
    assert gaps.sum() == period_deg


@pytest.mark.parametrize(
    ("y", "x", "columns"),
    [
        # The patient's left (x = +10 mm): seen from the back it lies on the left, from the front on the right.
        (4, 6, (1, 4, 6, 3)),
        # The patient's right (x = -14 mm).
        (4, 0, (7, 4, 0, 3)),
        # The front (y = -10 mm): seen from the patient's left it lies on the left, from the right on the right.
        (1, 4, (3, 1, 4, 6)),
        # The back (y = +14 mm).
        (7, 3, (4, 7, 3, 0)),
    ],
)
def test_columns_at_the_four_sides(y, x, columns, camera):
    projected = camera().forward(_point(3, y, x))
    wanted = np.zeros((4, 5, 8))
    for view, column in enumerate(columns):
        wanted[view, 3, column] = 0.064  # 4 mm cubed in mL
    np.testing.assert_allclose(projected, wanted, rtol=0, atol=1e-12)


def test_rows_grow_to_superior(camera):
    system = camera()
    head = system.grid.centres_mm()[0]
    np.testing.assert_allclose(head, [-8.0, -4.0, 0.0, 4.0, 8.0])
    rows = system.forward(_point(4, 3, 3)).sum(axis=(0, 2))
    np.testing.assert_allclose(rows, [0, 0, 0, 0, 4 * 0.064], atol=1e-12)


def test_oblique_view_lies_between_its_neighbours(make_acquisition):
    """At 30 deg a point at the patient's left (x = 10 mm) and a point in front (y = -10 mm) lie on either side:
    u = -10 cos 30 = -8.66 mm and -10 sin 30 = -5 mm from the axis. Both signs, so a turn the other way is seen."""
    acquisition = make_acquisition([30.0], (1, 41), 2.0)
    grid = geometry.default_grid(acquisition)
    system = SystemModel(acquisition, grid, resolution=False, dtype="float64")
    u_mm = 2.0 * (np.arange(41) - 20)
    for y, x, wanted in ((20, 25, -8.66), (15, 20, -5.0), (25, 20, 5.0)):
        profile = system.forward(_point(0, y, x, grid.shape))[0, 0]
        # Bilinear weights move the centre of a single voxel by less than a tenth of it.
        assert profile @ u_mm / profile.sum() == pytest.approx(wanted, abs=0.2)


def test_the_axis_may_fall_beside_the_detectors_centre(camera):
    """u_offset_mm = +4 puts the axis one column of 4 mm further to the right, and everything with it."""
    plain = camera().forward(_point(3, 1, 5))
    moved = camera(u_offset_mm=np.array([4.0, 0.0, -8.0, 4.0])).forward(_point(3, 1, 5))
    for view, shift in enumerate((1, 0, -2, 1)):
        np.testing.assert_allclose(moved[view], np.roll(plain[view], shift, axis=1), atol=1e-12)


def test_the_rotation_axis_defines_the_grid(make_acquisition):
    """The default grid is centred on the axis, its slice 0 on projection row 0."""
    acquisition = make_acquisition([BACK], (5, 8), 4.0, axis_lps_mm=(10.0, -20.0, 300.0))
    grid = geometry.default_grid(acquisition)
    z, y, x = grid.centres_mm()
    np.testing.assert_allclose(z, [300.0, 304.0, 308.0, 312.0, 316.0])
    assert (y[0], y[-1]) == (-34.0, -6.0)
    assert (x[0], x[-1]) == (-4.0, 24.0)
    # On a grid moved by one voxel to the patient's left the same point has an index one lower and the same image.
    shifted = Grid.upright((5, 8, 8), (4.0, 4.0, 4.0), grid.affine_lps[:3, 3] + [4.0, 0.0, 0.0])
    wanted = SystemModel(acquisition, grid, resolution=False).forward(_point(2, 3, 5))
    np.testing.assert_allclose(SystemModel(acquisition, shifted, resolution=False).forward(_point(2, 3, 4)), wanted)


@pytest.mark.parametrize(
    ("y", "x", "voxels_before"),
    [
        # Voxels between the point and the detector at the back, the patient's left, the front, the patient's right.
        (6, 3, (1, 4, 6, 3)),
        (1, 5, (6, 2, 1, 5)),
    ],
)
def test_attenuation_on_the_way_to_each_side(y, x, voxels_before, camera):
    """0.15 /cm and voxels of 0.4 cm: exp(-0.06 (n + 1/2)). A posterior source is brighter at 0 than at 180 deg."""
    counts = camera(0.15).forward(_point(2, y, x)).sum(axis=(1, 2)) / 0.064
    np.testing.assert_allclose(counts, np.exp(-0.06 * (np.array(voxels_before) + 0.5)), rtol=1e-6)


def test_distance_to_the_collimator_on_each_side(make_acquisition):
    """A source 10 mm behind the axis: 90 mm from a face at 100 mm at the back, 110 mm in front, 100 mm at the sides.

    With sigma = distance / 20 the width of the blur shows the distance; 80 mm on the left is a non-circular orbit.
    """
    acquisition = make_acquisition(
        [BACK, LEFT, FRONT, RIGHT],
        (41, 21),
        2.0,
        radii_mm=[100.0, 80.0, 100.0, 100.0],
        collimator=Collimator.from_line(0.0, 0.05),
    )
    system = SystemModel(acquisition, geometry.default_grid(acquisition), dtype="float64")
    rows = system.forward(_point(20, 15, 10, (41, 21, 21))).sum(axis=2)
    variance = (rows * (2.0 * (np.arange(41) - 20)) ** 2).sum(axis=1) / rows.sum(axis=1)
    # Beyond 3.5 sigma the kernel is cut, which takes up to 0.6 % of the variance away.
    np.testing.assert_allclose(variance - 2.0**2 / 12, (0.05 * np.array([90.0, 80.0, 110.0, 100.0])) ** 2, rtol=0.01)


def test_behind_the_face_the_distance_is_zero(make_acquisition):
    """Corners of a grid beyond the face are at distance 0, never at a negative one."""
    acquisition = make_acquisition([BACK, 45.0], (1, 9), 4.0, radii_mm=[10.0, 12.0])
    distance = geometry.camera_frames(acquisition, geometry.default_grid(acquisition)).distance_mm
    # Planes at y = 16, 12, 8, 4, 0, ... of the 0 deg view.
    np.testing.assert_allclose(distance[0, :5], [0.0, 0.0, 2.0, 6.0, 10.0], atol=1e-6)
    assert distance.min() == 0.0


def test_directions_are_exact_at_quarter_turns():
    np.testing.assert_array_equal(
        geometry.view_normals([0.0, 90.0, 180.0, 270.0, 360.0, -90.0]),
        [[0, 1], [1, 0], [0, -1], [-1, 0], [0, 1], [-1, 0]],
    )
    np.testing.assert_array_equal(
        geometry.detector_rights([0.0, 90.0, 180.0, 270.0]), [[-1, 0], [0, 1], [1, 0], [0, -1]]
    )
    np.testing.assert_allclose(geometry.view_normals([30.0]), [[0.5, np.sqrt(0.75)]], rtol=1e-15)


def _turning_object(columns):
    random = np.random.default_rng(9)
    shape = (4, columns, columns)
    return random.standard_normal(shape), random.uniform(0.05, 0.5, shape)


def _turning_views(make_acquisition, angles, columns, mu):
    acquisition = make_acquisition(
        angles, (4, columns), 4.4, radii_mm=np.full(len(angles), 30.0), collimator=Collimator.from_line(2.5, 0.06)
    )
    grid = geometry.default_grid(acquisition)
    return SystemModel(acquisition, grid, mu=MuMap(mu, grid, 140.511), dtype="float64")


@pytest.mark.parametrize("columns", [6, 7])
def test_turning_the_object_by_a_quarter_turns_the_views(columns, make_acquisition):
    """What lay at the back then lies at the patient's left, so view a + 90 deg sees what view a saw."""
    angles = np.arange(0.0, 360.0, 15.0)
    x, mu = _turning_object(columns)

    def turned(image):
        # (x, y) -> (y, -x): the new row of x is the old row of y, the new row of y is x counted from the far end.
        return image.transpose(0, 2, 1)[:, ::-1, :]

    point = np.zeros((4, columns, columns))
    point[0, -1, columns // 2] = 1.0
    assert turned(point)[0, :, -1].sum() == 1.0

    before = _turning_views(make_acquisition, angles, columns, mu).forward(x)
    after = _turning_views(make_acquisition, angles, columns, turned(mu)).forward(turned(x))
    np.testing.assert_allclose(np.roll(before, 6, axis=0), after, rtol=0, atol=1e-12 * np.abs(before).max())


@pytest.mark.parametrize("columns", [6, 7])
def test_a_mirrored_object_gives_mirrored_views(columns, make_acquisition):
    angles = np.array([0.0, 17.0, 45.0, 90.0, 133.0, 250.3])
    x, mu = _turning_object(columns)
    plain = _turning_views(make_acquisition, angles, columns, mu).forward(x)
    # The lattice's steps are rounded to 1e-9 voxel, and a mirrored lattice begins at its other end: ten steps away.
    atol = 1e-8 * np.abs(plain).max()
    # Left and right exchanged: the view at -a, its columns reversed.
    mirrored = _turning_views(make_acquisition, -angles, columns, mu[:, :, ::-1]).forward(x[:, :, ::-1])
    np.testing.assert_allclose(mirrored[:, :, ::-1], plain, rtol=0, atol=atol)
    # Head and feet exchanged: the rows reversed.
    mirrored = _turning_views(make_acquisition, angles, columns, mu[::-1]).forward(x[::-1])
    np.testing.assert_allclose(mirrored[:, ::-1], plain, rtol=0, atol=atol)


@pytest.mark.parametrize("columns", [4, 13])
@pytest.mark.parametrize("shape", [(1, 6, 6), (1, 7, 7), (1, 5, 8), (1, 9, 2), (1, 1, 1)])
@pytest.mark.parametrize("centre_mm", [(0.0, 0.0), (3.3, -7.9), (100.0, 0.0)])
@pytest.mark.parametrize("voxel_mm", [3.0, 1.4])
def test_the_lattice_covers_the_grid(columns, shape, centre_mm, voxel_mm, make_acquisition):
    """No voxel that a ray of the detector meets is left out: ten more planes on either side sample nothing, and
    outside `first` to `last` the bilinear weights are zero; inside, every column that is named has some weight.

    Voxels smaller than the pixel are those of a fan beam, whose columns are averaged over several rays.
    """
    angles = [0.0, 17.0, 45.0, 90.0, 133.0, 180.0, 201.7, 270.0, 315.0]
    fan = {} if voxel_mm == 3.0 else {"foci": (Focus(500.0),), "collimator": Collimator.from_line(1.0, 0.01, 30.0)}
    acquisition = make_acquisition(angles, (1, columns), 3.0, u_offset_mm=np.linspace(-2.0, 2.0, 9), **fan)
    _, ny, nx = shape
    first_voxel = (centre_mm[0] - 0.5 * voxel_mm * (nx - 1), centre_mm[1] - 0.5 * voxel_mm * (ny - 1), 0.0)
    frames = geometry.camera_frames(acquisition, Grid.upright(shape, (3.0, voxel_mm, voxel_mm), first_voxel))
    deeper = geometry.camera_frames(
        acquisition,
        Grid.upright(
            (1, ny + 4, nx + 4), (3.0, voxel_mm, voxel_mm), np.array(first_voxel) - (2 * voxel_mm, 2 * voxel_mm, 0.0)
        ),
    )
    for view in range(len(angles)):
        # Places are linear in depth, for a fan beam as well.
        step = np.diff(deeper.rows[view, :2], axis=0)
        rows = frames.rows[view, 0] + np.arange(-10, frames.depths + 10)[:, None] * step
        rays = np.full(len(rows), frames.rays[view].max())
        rays[10:-10] = frames.rays[view]
        wide = reference.rotation_matrix(rows, rays, columns, ny, nx).sum(axis=1)
        weight = wide.reshape(-1, columns)
        named = np.zeros_like(weight, dtype=bool)
        for d in range(frames.depths):
            named[10 + d, frames.first[view, d] : frames.last[view, d]] = True
        assert weight[~named].max(initial=0.0) < 1e-8
        # A voxel may lie between two rays of a column.
        assert (weight[named] > 0).all() or fan


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (Grid.upright((4, 8, 8), (4.0, 4.0, 4.0), (-14.0, -14.0, -8.0)), "4 slices but the projections have 5 rows"),
        (Grid.upright((5, 8, 8), (4.0, 2.0, 2.0), (-7.0, -7.0, -8.0)), "the voxel is the pixel; rebin"),
        (Grid.upright((5, 8, 8), (4.0, 4.0, 4.0), (-14.0, -14.0, -7.0)), "slice 0 lies at z = -7 mm but .* at -8 mm"),
        (Grid((5, 8, 8), (4.0, 4.0, 4.0), np.diag([4.0, 4.0, 4.0, 1.0])), "needs a grid along the patient's axes"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(grid, message, make_acquisition):
    with pytest.raises(InputError, match=message):
        geometry.camera_frames(make_acquisition([BACK], (5, 8), 4.0), grid)


@pytest.mark.parametrize(
    ("angles", "words"),
    [
        (np.arange(60) * 6.0, None),
        (np.arange(64) * 5.625, None),
        (np.concatenate([np.arange(30) * 6.0, 180 + np.arange(30) * 6.0]), None),
        (np.tile(np.arange(60) * 6.0, 2), None),
        (np.arange(30) * 6.0, "leave 186 deg uncovered"),
        (np.arange(60) * 5.9, "5.9 deg apart but for one gap of 11.9 deg"),
        (np.delete(np.arange(60) * 6.0, 7), "6 deg apart but for one gap of 12 deg"),
        (np.random.default_rng(1).uniform(0, 360, 200), None),
    ],
)
def test_what_looks_wrong_with_the_angles_of_the_views(make_acquisition, angles, words):
    doubt = geometry.coverage_doubt(make_acquisition(angles, (2, 3), 8.0))
    assert (doubt is None) if words is None else words in doubt
