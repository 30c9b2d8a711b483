"""Fan beams: places, widths, sensitivities and line integrals against closed forms, and the limit of parallel holes.

The closed forms are those of tests/oracles/fan_rays.py.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from fan_rays import FanRays

from spectac.recon import geometry
from spectac.recon.backprojection import fbp
from spectac.recon.collimator import Collimator, Focus
from spectac.recon.em import osem
from spectac.recon.errors import InputError
from spectac.recon.fan_beam import (
    as_parallel,
    fan_doubts,
    focus_doubt,
    focus_reach_doubt,
    opposite_rays,
    seen_radius_mm,
    truncation_doubt,
)
from spectac.recon.resample import rebin_acquisition
from spectac.recon.system import SystemModel
from spectac.recon.types import MuMap

KEV = 140.511
HOLES = Collimator("fan", 1.5, 40.0, 0.2, 3.8, 5.0)
RADIUS_MM, THICKNESS_MM, PIXEL_MM = 140.0, 45.0, 4.4
FOCAL_MM = (350.0, 500.0, 650.0)


@pytest.fixture
def fan_system(make_acquisition):
    """Function (angles, focal length, options) -> float64 system of 128 columns without attenuation."""

    def make(angles_deg, focal_mm, *, offset_mm=0.0, u_offset_mm=0.0, rows=1, resolution=False, pixel_mm=PIXEL_MM):
        acquisition = make_acquisition(
            angles_deg,
            (rows, 128),
            pixel_mm,
            radii_mm=np.full(len(angles_deg), RADIUS_MM),
            collimator=HOLES,
            foci=(Focus(focal_mm, offset_mm=offset_mm),),
            u_offset_mm=np.full(len(angles_deg), u_offset_mm),
        )
        return SystemModel(acquisition, geometry.default_grid(acquisition), resolution=resolution, dtype="float64")

    return make


def spot(grid, x_mm, y_mm):
    """Gaussian of 3 voxels about a place, cut at 4 standard deviations, in row 0; and the places of its voxels."""
    _, y, x = grid.centres_mm()
    x, y = np.meshgrid(x, y)
    sigma = 3.0 * grid.voxel_mm[2]
    square = ((x - x_mm) ** 2 + (y - y_mm) ** 2) / sigma**2
    image = np.zeros(grid.shape)
    image[0] = np.exp(-0.5 * square) * (square < 16)
    return image, x, y


PLACES_MM = [(0.0, 90.0), (60.0, 40.0), (-55.0, 0.0), (30.0, -60.0), (-20.0, -70.0)]
"""(x, y) from 5 to 21 cm before the collimator of the view at 0 deg, on and off the axis."""


@pytest.mark.parametrize("angle_deg", [0.0, 17.0, 133.0])
@pytest.mark.parametrize("focal_mm", FOCAL_MM)
def test_place_and_counts_of_a_spot(focal_mm, angle_deg, fan_system, figure):
    """With the axis and the focal line beside the detector's middle. A wrong side or sign of the focus, and an offset
    of the other sign, are off by more than a pixel."""
    system = fan_system([angle_deg], focal_mm, offset_mm=18.0, u_offset_mm=-7.0)
    rays = FanRays(angle_deg, RADIUS_MM, focal_mm, THICKNESS_MM, 18.0 + 7.0)
    mirrored = replace(rays, place_mm=-25.0)
    behind = replace(rays, focal_mm=-focal_mm)
    u = PIXEL_MM * (np.arange(128) - 63.5) + 7.0
    off, counts, wrong = [], [], []
    for place in PLACES_MM:
        image, x, y = spot(system.grid, *place)
        found = system.forward(image)[0, 0]
        weight = image[0] * rays.sensitivity(x, y)
        centre = float((found * u).sum() / found.sum())
        off.append(centre - float((weight * rays.place_of(x, y)).sum() / weight.sum()))
        counts.append(float(found.sum() / (weight.sum() * system.grid.voxel_ml)) - 1.0)
        wrong.append([centre - float(one.place_of(*np.array(place))) for one in (mirrored, behind)])
    worst = float(np.abs(off).max()) / PIXEL_MM
    figure(f"fan {focal_mm:g} mm, {angle_deg:g} deg: place of a spot, pixels off", worst, "0.02")
    figure(f"fan {focal_mm:g} mm, {angle_deg:g} deg: counts of a spot, % off", 100 * max(counts, key=abs), "0.3 %")
    assert worst < 0.02
    assert np.abs(counts).max() < 0.003
    assert np.abs(wrong).max(axis=0).min() > PIXEL_MM


@pytest.mark.parametrize("angle_deg", [0.0, 17.0, 45.0])
@pytest.mark.parametrize("focal_mm", FOCAL_MM)
def test_counts_of_single_voxels(focal_mm, angle_deg, fan_system, make_acquisition, figure):
    """Bilinear interpolation brightens and darkens single voxels with their place between lattice points. Parallel
    holes do so by 10 % at 45 deg; a fan beam by no more than they at their worst, and by nothing on average."""
    system = fan_system([angle_deg], focal_mm)
    parallel = make_acquisition([angle_deg], (1, 128), system.grid.voxel_mm[2], radii_mm=[RADIUS_MM])
    parallel = SystemModel(parallel, geometry.default_grid(parallel), resolution=False, dtype="float64")
    ratios = []
    for one in (system, parallel):
        _, y, x = one.grid.centres_mm()
        x, y = np.meshgrid(x, y)
        ratio = one.adjoint(np.ones(one.projections_shape))[0] / one.grid.voxel_ml
        ratios.append(ratio[np.hypot(x, y) < 90.0])
        if one is system:
            ratios[0] /= FanRays(angle_deg, RADIUS_MM, focal_mm, THICKNESS_MM).sensitivity(x, y)[np.hypot(x, y) < 90.0]
    off = float(ratios[0].mean()) - 1.0
    name = f"fan {focal_mm:g} mm, {angle_deg:g} deg: voxels' counts"
    figure(f"{name}, mean, % off", 100 * off, "0.1 %")
    figure(f"{name}, SD of single ones, % (parallel {100 * ratios[1].std():.1f} %)", 100 * ratios[0].std(), "11 %")
    assert abs(off) < 1e-3
    assert ratios[0].std() < 0.11


@pytest.mark.parametrize("focal_mm", FOCAL_MM)
def test_width_of_the_response_against_depth(focal_mm, fan_system, figure):
    """On the crystal, in the plane and along the axis. What interpolation adds in the plane is taken off: a voxel is a
    triangle, voxel^2/6, magnified by Fc/(F - z), and n sub-rays spread a column by pixel^2/12 (1 - 1/n^2).

    Lead at 140.5 keV: 2/mu = 0.744 mm off 40 mm of holes.
    """
    pixel_mm = 2.2
    system = fan_system([0.0], focal_mm, rows=61, resolution=True, pixel_mm=pixel_mm)
    voxel_mm = system.grid.voxel_mm[2]
    _, y, x = system.grid.centres_mm()
    u = pixel_mm * (np.arange(128) - 63.5)
    z = pixel_mm * (np.arange(61) - 30)
    rays = FanRays(0.0, RADIUS_MM, focal_mm, THICKNESS_MM)
    worst = {"transaxial": 0.0, "axial": 0.0}
    middle = x.size // 2
    for wanted_mm in (50.0, 100.0, 150.0, 200.0):
        row = int(np.argmin(np.abs(RADIUS_MM - y - wanted_mm)))
        depth = RADIUS_MM - y[row]
        variance, total, axial = 0.0, 0.0, 0.0
        # Enough neighbours for a mean over all places between columns.
        for column in range(middle - 24, middle + 25):
            image = np.zeros(system.image_shape)
            image[30, row, column] = 1.0
            response = system.forward(image)[0]
            place = float(rays.place_of(x[column], y[row]))
            variance += float((response.sum(axis=0) * (u - place) ** 2).sum())
            axial += float((response.sum(axis=1) * z**2).sum())
            total += float(response.sum())
        magnified = (focal_mm + THICKNESS_MM) / (focal_mm - depth)
        rays_of_column = math.ceil(pixel_mm / magnified / voxel_mm / geometry.WIDEST_STEP - 1e-6)
        added = (voxel_mm * magnified) ** 2 / 6 + pixel_mm**2 / 12 * (2 - 1 / rays_of_column**2)
        holes = 1.05 * 1.5 * (39.256 + depth + 5.0) / 39.256
        for axis, found, geometric in (
            ("transaxial", variance / total - added, holes * focal_mm / (focal_mm - depth)),
            ("axial", axial / total - pixel_mm**2 / 12, holes),
        ):
            off = 2.35482 * math.sqrt(found) / math.hypot(geometric, 3.8) - 1.0
            worst[axis] = max(worst[axis], off, key=abs)
    for axis, off in worst.items():
        figure(f"fan {focal_mm:g} mm: width of the response, {axis}, worst of 5-20 cm, % off", 100 * off, "0.5 %")
        assert abs(off) < 0.005


@pytest.mark.parametrize(("voxel_mm", "limit"), [(4.4, 0.0150), (2.2, 0.0075)])
@pytest.mark.parametrize("focal_mm", FOCAL_MM)
def test_attenuated_head_of_ellipsoids(focal_mm, voxel_mm, limit, closed_form, make_acquisition, figure):
    """The limits are those of parallel holes on the same voxels, but for 4.4 mm: there one ray stands for a pixel that
    is up to 1.25 voxels wide before the axis, and 1.40 % becomes 1.43 to 1.48 %."""
    pixel_u = voxel_mm * (focal_mm + THICKNESS_MM) / (focal_mm - RADIUS_MM)
    columns = 2 * math.ceil(0.5 * 560.0 / pixel_u)
    rows = 2 * round(132.0 / voxel_mm)
    angles_deg = 3.0 + 24.0 * np.arange(15)
    acquisition = make_acquisition(
        angles_deg, (rows, columns), 1.0, radii_mm=np.full(15, RADIUS_MM), collimator=HOLES, foci=(Focus(focal_mm),)
    )
    acquisition = replace(acquisition, pixel_mm=(voxel_mm, pixel_u))
    grid = geometry.default_grid(acquisition)
    assert grid.voxel_mm == pytest.approx((voxel_mm,) * 3)
    mu = MuMap(closed_form.voxelise([closed_form.attenuator], grid, 4), grid, KEV)
    projected = SystemModel(acquisition, grid, mu=mu, resolution=False).forward(
        closed_form.voxelise(closed_form.bodies, grid, 4)
    )
    inside = (np.arange(4) + 0.5) / 4 - 0.5
    u = pixel_u * ((np.arange(columns) - 0.5 * (columns - 1))[:, None] + inside).ravel()
    z = voxel_mm * ((np.arange(rows) - 0.5 * (rows - 1))[:, None] + inside).ravel()
    squared = squares = counts = 0.0
    for view, angle_deg in enumerate(angles_deg):
        rays = FanRays(angle_deg, RADIUS_MM, focal_mm, THICKNESS_MM)
        truth = rays.line_integrals(closed_form.bodies, closed_form.attenuator, u, z)
        truth = truth.reshape(rows, 4, columns, 4).mean(axis=(1, 3)) * voxel_mm * pixel_u / 1000.0
        squared += float(((projected[view] - truth) ** 2).sum())
        squares += float((truth**2).sum())
        counts += float(truth.sum())
    error, total = math.sqrt(squared / squares), float(projected.sum(dtype=float)) / counts - 1.0
    name = f"fan {focal_mm:g} mm, ellipsoids, voxels of {voxel_mm} mm"
    figure(f"{name}: RMS error, %", 100 * error, f"{100 * limit:g} %")
    figure(f"{name}: total counts, % off", 100 * total, "0.3 %")
    assert error <= limit
    assert abs(total) <= 0.003


def test_a_focus_far_away_is_parallel(make_acquisition, figure):
    """Forward, transpose and derivative to mu with F = 1e10 mm, within 1e-6 of those of parallel holes."""
    acquisition = make_acquisition(
        [0.0, 17.0, 133.0],
        (12, 32),
        PIXEL_MM,
        radii_mm=np.full(3, 120.0),
        collimator=HOLES,
        u_offset_mm=np.full(3, 2.0),
    )
    grid = geometry.default_grid(acquisition)
    _, y, x = grid.centres_mm()
    rng = np.random.default_rng(5)
    mu = MuMap(rng.uniform(0.05, 0.2, grid.shape) * (np.hypot(x, y[:, None]) < 55.0), grid, KEV)
    one, far = (
        SystemModel(each, grid, mu=mu, dtype="float64")
        for each in (acquisition, replace(acquisition, foci=(Focus(1e10, "back", 30.0),)))
    )
    image, counts = rng.random(one.image_shape), rng.random(one.projections_shape)
    for name, found, wanted in (
        ("forward", far.forward(image), one.forward(image)),
        ("adjoint", far.adjoint(counts), one.adjoint(counts)),
        ("gradient_mu", far.gradient_mu(image, counts), one.gradient_mu(image, counts)),
    ):
        off = float(np.abs(found - wanted).max() / np.abs(wanted).max())
        figure(f"fan of 1e10 mm against parallel, {name}", off, "1e-6")
        assert off < 1e-6


@pytest.mark.parametrize("blur", [False, True], ids=["sharp", "blur"])
def test_a_uniform_cylinder_comes_back(blur, make_acquisition, closed_form, figure):
    """Exact line integrals of an attenuating cylinder, 120 views, OSEM: the mean inside is the activity."""
    focal_mm, columns = 350.0, 96
    angles_deg = 3.0 * np.arange(120)
    acquisition = make_acquisition(
        angles_deg, (4, columns), PIXEL_MM, radii_mm=np.full(120, RADIUS_MM), collimator=HOLES, foci=(Focus(focal_mm),)
    )
    cylinder = closed_form.Ellipsoid((10.0, -15.0, 0.0), (70.0, 70.0, np.inf), 2.0)
    water = closed_form.Ellipsoid((0.0, 0.0, 0.0), (95.0, 95.0, np.inf), 0.15)
    inside = (np.arange(4) + 0.5) / 4 - 0.5
    u = PIXEL_MM * ((np.arange(columns) - 0.5 * (columns - 1))[:, None] + inside).ravel()
    counts = np.stack(
        [
            FanRays(angle, RADIUS_MM, focal_mm, THICKNESS_MM).line_integrals([cylinder], water, u, np.zeros(4))
            for angle in angles_deg
        ]
    ).reshape(120, 4, columns, 4).mean(axis=3)  # fmt: skip
    grid = geometry.default_grid(acquisition)
    mu = MuMap(closed_form.voxelise([replace(water, semi_axes_mm=(95.0, 95.0, 1e6))], grid, 4), grid, KEV)
    system = SystemModel(acquisition, grid, mu=mu, resolution=False, crop_to_orbit=True)
    image = osem(system, (counts * PIXEL_MM**2 / 1000.0).astype(np.float32), iterations=4, subsets=8)
    _, y, x = grid.centres_mm()
    middle = np.hypot(x - 10.0, y[:, None] + 15.0) < 50.0
    mean, spread = float(image[:, middle].mean()), float(image[:, middle].std())
    figure("fan, cylinder: mean, % off", 100 * (mean / 2.0 - 1.0), "0.5 %")
    figure("fan, cylinder: SD of voxels, %", 50 * spread, "3 %")
    assert mean == pytest.approx(2.0, rel=0.005)
    assert spread < 0.06


@pytest.mark.parametrize(
    ("focus", "collimator", "message"),
    [
        (Focus(139.0), HOLES, r"view 0 lies 139 mm from the collimator's face, before the rotation axis at 140 mm"),
        (
            Focus(164.0),
            HOLES,
            r"view 0 lies 164 mm from the collimator's .* or too near to it: check --focal",
        ),
        (Focus(40.0, "crystal"), HOLES, "ends inside the collimator, which is 45 mm thick"),
        (Focus(350.0), None, "needs the length of the collimator's holes: give --collimator, --holes or"),
        (Focus(350.0), Collimator.from_line(1.5, 0.02), "--psf SIGMA0_MM:SLOPE:LENGTH_MM"),
    ],
)
def test_a_focus_without_a_place_is_refused(focus, collimator, message, make_acquisition):
    acquisition = make_acquisition([0.0], (2, 8), 4.0, radii_mm=[140.0], collimator=collimator, foci=(focus,))
    with pytest.raises(InputError, match=message):
        geometry.default_grid(acquisition)


def test_foci_belong_to_detectors(make_acquisition):
    """One for each, in the order of their numbers, whatever the order of the views."""
    foci = (Focus(350.0, offset_mm=1.0), Focus(360.0, offset_mm=2.0))
    acquisition = make_acquisition(
        [0.0, 90.0, 180.0], (2, 8), 4.0, radii_mm=[140.0] * 3, collimator=HOLES, foci=foci, detector=[7, 3, 7]
    )
    lines = geometry.focal_lines(acquisition)
    assert lines.place_mm.tolist() == [2.0, 1.0, 2.0]
    assert lines.crystal_mm.tolist() == [405.0, 395.0, 405.0]
    with pytest.raises(InputError, match="one focus for each of the 2 detectors, got 1"):
        replace(acquisition, foci=foci[:1])
    assert make_acquisition([0.0], (2, 8), 4.0, collimator=replace(HOLES, focus=foci[0])).foci == foci[:1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0,), "must be above 0 mm"),
        ((math.inf,), "must be above 0 mm"),
        ((350.0, "front"), "face, back or crystal, not from 'front'"),
        ((350.0, "face", math.nan), "must be finite"),
    ],
)
def test_impossible_foci_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Focus(*arguments)


@pytest.mark.parametrize("heads", [1, 3])
def test_filtered_backprojection_of_a_fan(heads, make_acquisition, closed_form, figure):
    """Exact line integrals of two cylinders in air, of one head and of three that share the turn on other orbits."""
    focal_mm, columns, views = 350.0, 96, 120
    angles_deg = np.concatenate([start + 3.0 * np.arange(views // heads) for start in 360.0 / heads * np.arange(heads)])
    radii_mm = RADIUS_MM + 10.0 * np.cos(np.deg2rad(2 * angles_deg))
    acquisition = make_acquisition(
        angles_deg,
        (4, columns),
        PIXEL_MM,
        radii_mm=radii_mm,
        collimator=HOLES,
        foci=(Focus(focal_mm, offset_mm=6.0),),
        u_offset_mm=np.full(views, 2.0),
        view_seconds=np.full(views, 2.0),
    )
    bodies = [
        closed_form.Ellipsoid((10.0, -15.0, 0.0), (60.0, 60.0, np.inf), 2.0),
        closed_form.Ellipsoid((30.0, 5.0, 0.0), (15.0, 15.0, np.inf), 3.0),
    ]
    inside = (np.arange(4) + 0.5) / 4 - 0.5
    u = PIXEL_MM * ((np.arange(columns) - 0.5 * (columns - 1))[:, None] + inside).ravel() - 2.0
    integrals = [
        FanRays(angle, radius, focal_mm, THICKNESS_MM, 4.0).line_integrals(bodies, None, u, np.zeros(4))
        for angle, radius in zip(angles_deg, radii_mm, strict=True)
    ]
    counts = 2.0 * np.stack(integrals).reshape(views, 4, columns, 4).mean(axis=3) * PIXEL_MM**2 / 1000.0
    grid = geometry.default_grid(acquisition)
    image = fbp(acquisition, counts, grid)
    _, y, x = grid.centres_mm()
    for name, centre, radius, wanted in (("large", (-15.0, -20.0), 25.0, 2.0), ("small", (30.0, 5.0), 8.0, 5.0)):
        middle = np.hypot(x - centre[0], y[:, None] - centre[1]) < radius
        off = float(image[:, middle].mean()) / wanted - 1.0
        figure(f"FBP of a fan, {heads} heads: mean of the {name} cylinder, % off", 100 * off, "0.5 %")
        assert abs(off) < 0.005


def test_filtered_backprojection_of_an_arc_of_a_fan_is_refused(make_acquisition):
    acquisition = make_acquisition(
        3.0 * np.arange(60), (2, 32), 8.0, radii_mm=np.full(60, 140.0), collimator=HOLES, foci=(Focus(350.0),)
    )
    with pytest.raises(InputError, match="spaced evenly all around"):
        fbp(acquisition, np.ones(acquisition.shape), geometry.default_grid(acquisition))


@pytest.mark.parametrize("factor", [2, 3])
def test_rebinned_columns_keep_their_rays(factor, make_acquisition):
    """Means of neighbouring columns, also where padding moves the middle of the matrix."""
    acquisition = make_acquisition(
        [17.0], (2, 32), 4.0, radii_mm=[140.0], collimator=HOLES, foci=(Focus(350.0, offset_mm=9.0),), u_offset_mm=[3.0]
    )
    coarse = rebin_acquisition(acquisition, 1, factor)
    assert geometry.focal_lines(coarse).place_mm == geometry.focal_lines(acquisition).place_mm
    fine, wide = geometry.columns_mm(acquisition)[0], geometry.columns_mm(coarse)[0]
    whole = fine[factor - (-32 % factor) // 2 :][: factor * 8].reshape(-1, factor).mean(axis=1)
    np.testing.assert_allclose(wide[1:9], whole, rtol=0, atol=1e-12)


def head_counts(closed_form, acquisition, focal_mm, attenuated=True):
    """Exact counts of the head, 8 mm beside the axis, along fan-beam rays."""
    columns, rows = acquisition.matrix[1], acquisition.matrix[0]
    bodies = [replace(body, centre_mm=(body.centre_mm[0] + 8.0, *body.centre_mm[1:])) for body in closed_form.bodies]
    water = replace(closed_form.attenuator, centre_mm=(8.0, 0.0, 0.0)) if attenuated else None
    pixel_z, pixel_u = acquisition.pixel_mm
    z = pixel_z * (np.arange(rows) - 0.5 * (rows - 1))
    u = pixel_u * (np.arange(columns) - 0.5 * (columns - 1))
    return np.stack(
        [
            FanRays(angle, RADIUS_MM, focal_mm, THICKNESS_MM).line_integrals(bodies, water, u, z)
            for angle in acquisition.view_angles_deg
        ]
    )


@pytest.mark.parametrize("focal_mm", [350.0, 500.0])
def test_opposite_rays_tell_a_fan_from_parallel_holes(focal_mm, closed_form, make_acquisition, figure):
    """3 million counts of an attenuated head beside the axis. They do not tell from which plane the focal length
    counts: attenuation alone makes opposite rays differ more than the length of the holes does."""
    acquisition = make_acquisition(
        3.0 * np.arange(120), (20, 96), PIXEL_MM, radii_mm=np.full(120, RADIUS_MM), collimator=HOLES
    )
    fan = replace(acquisition, foci=(Focus(focal_mm),))
    for data_mm, right in ((focal_mm, "as given"), (1e6, "parallel")):
        exact = head_counts(closed_form, acquisition, data_mm)
        counts = np.random.default_rng(3).poisson(exact * 3e6 / exact.sum()).astype(float)
        differences = opposite_rays(fan, counts)
        assert list(differences) == ["as given", f"{focal_mm:g} + 40 mm", f"{focal_mm:g} - 40 mm", "parallel"]
        for name, value in differences.items():
            figure(f"opposite rays, data {right}, F {focal_mm:g}, read {name}, %", 100 * value, "")
        doubt = focus_doubt(differences)
        assert doubt is None if right == "as given" else "as parallel: check --focal-length" in doubt
        exact_differences = opposite_rays(fan, exact)
        by_plane = [exact_differences[name] for name in list(differences)[1:3]]
        if right == "as given":
            assert max(abs(value - exact_differences["as given"]) for value in by_plane) < 0.01
            without = opposite_rays(fan, head_counts(closed_form, acquisition, data_mm, attenuated=False))
            assert without["as given"] < min(0.01, 0.2 * without["parallel"])
    assert opposite_rays(acquisition, counts) == {}
    assert focus_doubt({"as given": 0.001, "parallel": 0.0}) is None
    assert focus_doubt({}) is None


def test_a_head_that_reaches_beyond_the_detector(make_acquisition, closed_form, figure):
    """A head 115 mm long to either side, of which all views see a circle of 94 mm: it is said, and what lies inside the
    circle keeps its value, because the image goes on outside."""
    columns, angles_deg = 128, 3.0 * np.arange(120)
    acquisition = make_acquisition(
        angles_deg, (2, columns), 3.125, radii_mm=np.full(120, RADIUS_MM), collimator=HOLES, foci=(Focus(350.0),)
    )
    brain = closed_form.Ellipsoid((0.0, 0.0, 0.0), (70.0, 107.0, np.inf), 1.0)
    water = closed_form.Ellipsoid((0.0, 0.0, 0.0), (78.0, 115.0, np.inf), 0.15)
    u = 3.125 * (np.arange(columns) - 63.5)
    rays = [FanRays(angle, RADIUS_MM, 350.0, THICKNESS_MM) for angle in angles_deg]
    counts = np.stack([one.line_integrals([brain], water, u, np.zeros(2)) for one in rays]) * 3.125**2 / 1000.0
    doubt = truncation_doubt(acquisition, 1e4 * counts)
    assert "reaches beyond the detector in" in doubt
    assert f"a circle of {seen_radius_mm(acquisition):.0f} mm" in doubt
    assert seen_radius_mm(acquisition) == pytest.approx(210.0 * math.sin(math.atan(63.5 * 3.125 / 395.0)))
    grid = geometry.default_grid(acquisition)
    mu = MuMap(closed_form.voxelise([replace(water, semi_axes_mm=(78.0, 115.0, 1e6))], grid, 3), grid, KEV)
    system = SystemModel(acquisition, grid, mu=mu, resolution=False, crop_to_orbit=True)
    image = osem(system, counts.astype(np.float32), iterations=5, subsets=10).mean(axis=0)
    _, y, x = grid.centres_mm()
    x, y = np.meshgrid(x, y)
    inside = (x / 64.0) ** 2 + (y / 101.0) ** 2 < 1
    for name, where, limit in (
        ("within 60 mm", np.hypot(x, y) < 60.0, 0.02),
        ("75 to 94 mm", inside & (np.hypot(x, y) > 75.0) & (np.hypot(x, y) < 94.0), 0.03),
        ("outside the circle", inside & (np.hypot(x, y) > 94.0), 0.15),
    ):
        off = float(image[where].mean()) - 1.0
        figure(f"truncated head, {name}: mean, % off", 100 * off, f"{100 * limit:g} %")
        assert abs(off) < limit
    whole = make_acquisition([0.0], (2, columns), 6.0, radii_mm=[140.0], collimator=HOLES, foci=(Focus(350.0),))
    # Three standard deviations of the edge's counts are noise.
    assert truncation_doubt(acquisition, counts) is None
    assert truncation_doubt(whole, np.pad(np.ones((1, 2, 64)), ((0, 0), (0, 0), (32, 32)))) is None
    assert truncation_doubt(make_acquisition([0.0], (2, 4), 6.0), np.ones((1, 2, 4))) is None


def test_a_head_behind_the_model_is_named(make_acquisition):
    """0.85 F - R = 97.5 mm behind the axis the projector has no points: a head reaches 110 mm."""
    near, far = (
        make_acquisition([0.0], (2, 8), 4.0, radii_mm=[radius], collimator=HOLES, foci=(Focus(350.0),))
        for radius in (140.0, 200.0)
    )
    assert "more than 98 mm behind the rotation axis" in focus_reach_doubt(far)
    assert focus_reach_doubt(near) is None
    assert focus_reach_doubt(replace(near, foci=())) is None


def test_a_detector_beside_the_axis_is_refused_in_words(make_acquisition):
    acquisition = make_acquisition(
        3.0 * np.arange(120), (2, 32), 4.0, radii_mm=np.full(120, 140.0), collimator=HOLES, foci=(Focus(350.0),),
        u_offset_mm=np.full(120, 300.0),
    )  # fmt: skip
    with pytest.raises(InputError, match="some view does not see the rotation axis: check --focus-offset"):
        as_parallel(acquisition, np.ones(acquisition.shape), 4.0)
    assert fan_doubts(acquisition, np.ones(acquisition.shape)) == []
