"""Photons through fan-beam holes against photons followed singly, closed forms, the projector and parallel holes."""

import math
from dataclasses import replace

import numpy as np
import pytest
from fan_photons import FanHoles
from fan_rays import FanRays

from spectac.recon import geometry
from spectac.recon.collimator import FWHM_PER_SIGMA, Collimator, Focus, lead_per_cm
from spectac.recon.photons.detector import Crystal
from spectac.recon.photons.forced_detection import view_frame
from spectac.recon.photons.montecarlo import Camera, MonteCarloRun, photon_counts
from spectac.recon.photons.penetration import high_energy_counts
from spectac.recon.photons.transport import Body
from spectac.recon.system import SystemModel
from spectac.recon.tissues import INDEX, cm2_per_g
from spectac.recon.types import EnergyWindow, Grid, Image, MuMap

KEV = 140.511
RADIUS_MM = 140.0
PEAK = EnergyWindow("photopeak", 126.5, 154.5)
STOPS_ALL = Crystal(thickness_mm=500.0)
"""A crystal in which the slope of a ray does not matter."""

HOLES = Collimator("fan", 1.5, 40.0, 0.2, 3.8, 5.0)


def body_of(grid, materials=None, density=None):
    air = np.full(grid.shape, INDEX["air"], np.uint8)
    return Body(grid, air if materials is None else materials, np.zeros(grid.shape) if density is None else density)


def middle_grid(shape, voxel_mm, x_mm=0.0, y_mm=0.0):
    first = [middle - 0.5 * (n - 1) * voxel_mm for middle, n in zip((x_mm, y_mm, 0.0), shape[::-1], strict=True)]
    return Grid.upright(shape, (voxel_mm,) * 3, first)


def counts_of(acquisition, body, activity, *, crystal=STOPS_ALL, histories=50_000, seed=1):
    return photon_counts(
        body, activity, Camera(acquisition, (PEAK,), crystal, PEAK), MonteCarloRun(histories, seed, batches=1)
    )


def moments(view, pixel_mm):
    """Sum, mean and standard deviation in u, and standard deviation in z, of one view (z, u)."""
    total = view.sum()
    z, u = ((np.arange(n) - 0.5 * (n - 1)) * pixel_mm for n in view.shape)
    mean_z, mean_u = (view.sum(axis=1) * z).sum() / total, (view.sum(axis=0) * u).sum() / total
    square_z = (view.sum(axis=1) * (z - mean_z) ** 2).sum() / total
    square_u = (view.sum(axis=0) * (u - mean_u) ** 2).sum() / total
    return np.array([total, mean_u, math.sqrt(square_u), math.sqrt(square_z)])


@pytest.mark.parametrize(("focal_mm", "x_mm", "y_mm"), [(350.0, 0.0, 60.0), (350.0, -50.0, 0.0), (500.0, 60.0, -40.0)])
def test_photons_one_by_one(focal_mm, x_mm, y_mm, make_acquisition, figure):
    """Counts, place and width of a spot of 6 mm: photons through holes, forced detection, and the projector.

    Black lead: the camera's holes are longer by 2/mu, at the cost of the gap. Their width is the one whose Gaussian has
    the standard deviation of round holes, hole/sqrt(8), at the spot's distance.
    """
    length_mm, gap_mm, pixel_mm, spot_mm, photons = 40.0, 5.0, 2.0, 6.0, 2_000_000
    rng = np.random.default_rng(4)
    holes = FanHoles(1.5, 0.2, length_mm, gap_mm, focal_mm)
    # At 0 deg columns grow towards the right, -x, and the detector stands at +y.
    u, axial = -x_mm + spot_mm * rng.standard_normal(photons), spot_mm * rng.standard_normal(photons)
    places, share = holes.passed(rng, u, axial, RADIUS_MM - y_mm - spot_mm * rng.standard_normal(photons))
    error = 1.0 / math.sqrt(len(places))
    oracle = np.array([share / holes.parallel_share(), places[:, 0].mean(), *places.std(axis=0)])

    lead_mm = 20.0 / lead_per_cm(KEV)
    behind_mm = RADIUS_MM - y_mm + length_mm + gap_mm
    hole_mm = 1.5 * FWHM_PER_SIGMA / math.sqrt(8.0) * behind_mm / (behind_mm - lead_mm)
    fan = Collimator("fan", hole_mm, length_mm + lead_mm, 0.2, 0.0, gap_mm - lead_mm, "round")
    acquisition = make_acquisition(
        [0.0],
        (61, 201),
        pixel_mm,
        radii_mm=[RADIUS_MM],
        collimator=fan,
        foci=(Focus(focal_mm),),
        axis_lps_mm=(0, 0, -60.0),
    )
    grid = middle_grid((31, 31, 31), 2.0, x_mm, y_mm)
    z, y, x = grid.centres_mm()
    square = (x - x_mm) ** 2 + (y[:, None] - y_mm) ** 2 + z[:, None, None] ** 2
    activity = np.exp(-0.5 * square / spot_mm**2).astype(np.float32)
    in_air = float(activity.sum(dtype=np.float64)) * grid.voxel_ml * float(acquisition.view_seconds[0])
    detected = moments(counts_of(acquisition, body_of(grid), activity).primary[0, 0], pixel_mm)
    system = SystemModel(acquisition, geometry.default_grid(acquisition))
    z, y, x = system.grid.centres_mm()
    square = (x - x_mm) ** 2 + (y[:, None] - y_mm) ** 2 + z[:, None, None] ** 2
    image = np.exp(-0.5 * square / spot_mm**2).astype(np.float32)
    image *= np.float32(in_air / (image.sum(dtype=np.float64) * system.grid.voxel_ml))
    projected = moments(system.forward(image)[0], pixel_mm)
    for name, found in (("forced detection", detected), ("projector", projected)):
        off = np.append(found[0] / in_air, found[1:]) - oracle
        off[[0, 2, 3]] *= 100.0 / oracle[[0, 2, 3]]
        limits = (400.0 * error, 0.15, 1.2, 1.2)
        names = ("counts, %", "place, mm", "width in the plane, %", "width along the axis, %")
        for quantity, one, limit in zip(names, off, limits, strict=True):
            figure(f"fan {focal_mm:g} mm, {name} against photons one by one: {quantity}", one, f"{limit:.2g}")
        assert (np.abs(off) < limits).all()


@pytest.mark.parametrize("tapered", [True, False])
def test_the_oracle_follows_its_own_closed_form(tapered, figure):
    """F/(F - z) cos^3 in counts and F/(F - z) in width for holes that narrow towards the focus. Holes of one section,
    as wide on the face as at the crystal, count (F + L)/F more and are wider by sqrt((1 + ((F + L)/F)^2) / 2)."""
    focal_mm, distance_mm, u_mm, photons = 350.0, 120.0, 45.0, 2_000_000
    holes = FanHoles(1.5, 0.2, 40.0, 5.0, focal_mm, tapered)
    places, share = holes.passed(
        np.random.default_rng(3), np.full(photons, u_mm), np.zeros(photons), np.full(photons, distance_mm)
    )
    longer = 1.0 if tapered else (focal_mm + 40.0) / focal_mm
    ahead = focal_mm - distance_mm
    counts = focal_mm / ahead * math.hypot(1.0, u_mm / ahead) ** -3 * longer * holes.parallel_share()
    axial = 1.5 / math.sqrt(8.0) * (40.0 + distance_mm + 5.0) / 40.0
    width = axial * focal_mm / ahead * math.sqrt((1.0 + longer**2) / 2.0)
    error = 1.0 / math.sqrt(len(places))
    for name, found, wanted, limit in (
        ("counts", share, counts, 4.0 * error),
        ("width in the plane", places[:, 0].std(), width, 4.0 * error),
        ("width along the axis", places[:, 1].std(), axial, 4.0 * error),
    ):
        figure(
            f"photons one by one, tapered {tapered}, {name}, % off", 100 * (found / wanted - 1), f"{100 * limit:.1f}"
        )
        assert found == pytest.approx(wanted, rel=limit)


def test_primary_of_a_head_is_the_projectors_and_the_closed_forms(closed_form, make_acquisition, figure):
    """A brain with striata in an attenuating ellipsoid, off the axis of the detector; the focus beside its middle.

    Each view's sum within 0.3 % of the projector with blur, whose voxels it does not share, and of the line integrals
    of a fan. Profiles over columns as for parallel holes: 2 % RMS, of which 150,000 births have 1.5 %.
    """
    angles, columns, rows, pixel_mm = (0.0, 20.0, 137.0, 281.0), 60, 36, 9.0
    grid = middle_grid((86, 68, 56), 3.0)
    share = closed_form.voxelise([replace(closed_form.attenuator, value=1.0)], grid, 3)
    density = share * 0.15 / cm2_per_g("csf", KEV)
    body = body_of(grid, np.where(share > 0, INDEX["csf"], INDEX["air"]).astype(np.uint8), density)
    activity = closed_form.voxelise(closed_form.bodies, grid, 3).astype(np.float32)
    coarse = make_acquisition(
        angles, (rows, columns), pixel_mm, radii_mm=np.full(4, RADIUS_MM), collimator=HOLES,
        foci=(Focus(350.0, offset_mm=12.0),), u_offset_mm=np.full(4, -5.0),
    )  # fmt: skip
    found = counts_of(coarse, body, activity, histories=150_000, seed=5).primary[0]
    fine = replace(coarse, matrix=(rows * 3, columns * 3), pixel_mm=(pixel_mm / 3, pixel_mm / 3))
    fine = replace(fine, axis_lps_mm=(0.0, 0.0, -0.5 * (rows * 3 - 1) * pixel_mm / 3))
    system_grid = geometry.default_grid(fine)
    mu = MuMap(closed_form.voxelise([closed_form.attenuator], system_grid, 3), system_grid, KEV)
    system = SystemModel(fine, system_grid, mu=mu)
    projected = system.forward(closed_form.voxelise(closed_form.bodies, system_grid, 3).astype(np.float32))
    projected = projected.reshape(4, rows, 3, columns, 3).sum(axis=(2, 4))
    inside = (np.arange(8) + 0.5) / 8 - 0.5
    u = pixel_mm * ((np.arange(columns) - 0.5 * (columns - 1))[:, None] + inside).ravel() + 5.0
    z = pixel_mm * ((np.arange(rows) - 0.5 * (rows - 1))[:, None] + inside[::2]).ravel()
    sums, profiles = [], []
    for angle, view, want in zip(angles, found, projected, strict=True):
        rays = FanRays(angle, RADIUS_MM, 350.0, HOLES.length_mm + HOLES.gap_mm, 12.0 + 5.0)
        truth = rays.line_integrals(closed_form.bodies, closed_form.attenuator, u, z)
        truth = truth.mean() * rows * columns * pixel_mm**2 / 1000.0
        sums.append((view.sum() / want.sum() - 1.0, view.sum() / truth - 1.0))
        a, b = view.sum(axis=0), want.sum(axis=0)
        bright = b > 0.1 * b.max()
        profiles.append(np.sqrt(np.mean((a[bright] / b[bright] - 1.0) ** 2)))
    worst = np.abs(sums).max(axis=0)
    figure("fan, primary of a head, worst view's sum against the projector, %", 100 * worst[0], "0.3")
    figure("fan, primary of a head, worst view's sum against line integrals, %", 100 * worst[1], "0.5")
    figure("fan, primary of a head, worst view's profile against the projector, RMS %", 100 * max(profiles), "2")
    assert worst[0] < 0.003
    assert worst[1] < 0.005
    assert max(profiles) < 0.02


def test_a_crystal_is_longer_for_oblique_rays(make_acquisition, figure):
    """A point seen at 26.6 deg: 1 - exp(-mu t / cos) over 1 - exp(-mu t), for the primary of a thin crystal.

    1/cos = sqrt(1.25); mu of sodium iodide at 140.5 keV from the crystal's own efficiency.
    """
    acquisition = make_acquisition(
        [0.0], (40, 80), 8.0, radii_mm=[RADIUS_MM], collimator=HOLES, foci=(Focus(RADIUS_MM + 200.0),)
    )
    grid = middle_grid((4, 4, 4), 1.0, -100.0, 0.0)
    sums = [
        float(counts_of(acquisition, body_of(grid), np.ones(grid.shape), crystal=crystal, histories=5000).primary.sum())
        for crystal in (Crystal(thickness_mm=3.0), STOPS_ALL)
    ]
    straight = float(Crystal(thickness_mm=3.0).efficiency(KEV))
    wanted = (1.0 - (1.0 - straight) ** math.sqrt(1.25)) / straight
    figure(
        "fan, crystal of 3 mm at 26.6 deg against 0 deg: found / closed form", sums[0] / sums[1] / wanted, "1 +- 2e-3"
    )
    assert wanted > 1.05
    assert sums[0] / sums[1] == pytest.approx(wanted, rel=2e-3)


def test_a_focus_far_away_is_parallel(make_acquisition, figure):
    """Every order of scatter of a water cylinder with F = 1e9 mm and the same seed, in every pixel and view.

    Rays on which attenuation is summed lie up to a millimetre apart in the two: the density falls over 20 mm.
    """
    grid = middle_grid((75, 90, 90), 2.0)
    _, y, x = grid.centres_mm()
    density = np.broadcast_to(np.clip((80.0 - np.hypot(x, y[:, None] + 5.0)) / 20.0, 0.0, 1.0), grid.shape)
    body = body_of(grid, np.full(grid.shape, INDEX["csf"], np.uint8), density)
    activity = density * np.random.default_rng(2).random(grid.shape)
    parallel = make_acquisition([0.0, 37.0, 200.0], (20, 24), 12.0, radii_mm=np.full(3, 110.0), collimator=HOLES)
    far = replace(parallel, foci=(Focus(1e9, "back", 30.0),))
    one, other = (
        counts_of(each, body, activity, crystal=Crystal(), histories=20_000).orders for each in (parallel, far)
    )
    off = np.abs(other - one).max(axis=(1, 2, 3, 4)) / one.max(axis=(1, 2, 3, 4))
    totals = np.abs(other.sum(axis=(1, 2, 3, 4)) / one.sum(axis=(1, 2, 3, 4)) - 1.0)
    figure("fan of 1e9 mm against parallel, worst pixel of any order over its maximum", off.max(), "0.02")
    figure("fan of 1e9 mm against parallel, worst order's total, off by", totals.max(), "1e-3")
    assert one[1:].sum() > 0.1 * one[0].sum()
    assert off.max() < 0.02
    assert totals.max() < 1e-3


def test_the_part_of_the_plane_is_the_shadow_of_the_head(make_acquisition):
    """A circle of 80 mm about the axis, 160 mm in front of the focal line: rays at up to 30 deg, tan 0.57735."""
    acquisition = make_acquisition(
        [0.0], (16, 200), 5.0, radii_mm=[140.0], collimator=HOLES, foci=(Focus(300.0),), axis_lps_mm=(0, 0, -40)
    )
    frame = view_frame(acquisition, 0, (5, 6), 80.0, (0.0, 30.0))
    half = 345.0 * 0.57735 / 5.0
    assert (frame.first_column, frame.columns) == (
        math.floor(99.5 - half),
        math.ceil(99.5 + half) - math.floor(99.5 - half) + 1,
    )
    assert frame.layers == 22
    # A circle about the focal line is seen on the whole detector, and no farther than its margin.
    wide = view_frame(acquisition, 0, (5, 6), 200.0, (0.0, 30.0))
    assert (wide.first_column, wide.columns) == (-6, 212)
    assert wide.layers == math.ceil(0.85 * 300.0 / 10.0)


def test_photons_above_400_kev_do_not_see_the_focus(make_acquisition):
    parallel = make_acquisition([0.0, 60.0], (20, 24), 12.0, radii_mm=np.full(2, 140.0), collimator=HOLES)
    fan = replace(parallel, foci=(Focus(350.0),), collimator=replace(HOLES, focus=Focus(350.0)))
    grid = middle_grid((10, 20, 20), 8.0)
    rng = np.random.default_rng(1)
    cps, mu = Image(rng.random(grid.shape), grid, "cps/mL"), MuMap(0.1 * rng.random(grid.shape), grid, 529.0)
    one, other = (high_energy_counts(cps, mu, 1.3, each, (PEAK,)) for each in (parallel, fan))
    assert one.any()
    assert np.array_equal(one, other)
