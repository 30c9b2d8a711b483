"""The image of one voxel: its width against depth, what is lost at the edge, and what the rotation adds."""

import dataclasses
import math

import numpy as np
import pytest

from spectac.recon import geometry
from spectac.recon.collimator import Collimator, pixel_kernel
from spectac.recon.system import SystemModel
from spectac.recon.types import Grid

PIXEL_MM = 2.2
DISTANCES_MM = (50.0, 100.0, 150.0, 200.0)
KEV = 140.511
LINE = Collimator.from_line(1.466, 0.0163)
HOLES = Collimator("holes", 1.22, 27.0, 0.2, 3.8)
# What sigma_mm must give, by hand. Lead at 140.5 keV: 2.37 cm2/g (NIST) x 11.35 g/cm3, so 2/mu = 0.744 mm off 27 mm.
FWHM_BY_HAND_MM = {
    "line": [2.35482 * (1.466 + 0.0163 * distance) for distance in DISTANCES_MM],
    "holes": [math.hypot(1.05 * 1.22 * (26.256 + distance) / 26.256, 3.8) for distance in DISTANCES_MM],
}


def _widths(rows, centre):
    """Standard deviations in mm of profiles (..., n) about a column, the pixel's own variance taken off."""
    offset = PIXEL_MM * (np.arange(rows.shape[-1]) - centre)
    variance = (rows * offset**2).sum(axis=-1) / rows.sum(axis=-1)
    return np.sqrt(variance - PIXEL_MM**2 / 12)


@pytest.mark.parametrize(("name", "collimator"), [("line", LINE), ("holes", HOLES)])
def test_width_of_a_voxel_against_depth(name, collimator, make_acquisition, figure):
    """At 0/90/180/270 deg the voxel falls on pixel centres, so the blur is the collimator's and the pixel's alone.

    The kernel ends at 3.5 sigma at the least, which narrows it by up to 0.31 %; hence 0.5 %.
    The source sits off the axis, at x = +6.6 mm and y = -4.4 mm; every view sees it from 5, 10, 15 and 20 cm.
    """
    angles = np.repeat([0.0, 90.0, 180.0, 270.0], 4)
    towards = np.repeat([-4.4, 6.6, 4.4, -6.6], 4)
    acquisition = make_acquisition(
        angles, (61, 61), PIXEL_MM, radii_mm=towards + np.tile(DISTANCES_MM, 4), collimator=collimator
    )
    grid = Grid.upright((61, 11, 11), (PIXEL_MM,) * 3, (-11.0, -11.0, -66.0))
    image = np.zeros(grid.shape)
    image[30, 3, 8] = 1.0
    response = SystemModel(acquisition, grid, dtype="float64").forward(image)

    wanted = np.tile(FWHM_BY_HAND_MM[name], 4)
    np.testing.assert_allclose(2.35482 * collimator.sigma_mm(np.array(DISTANCES_MM), KEV), wanted[:4], rtol=1e-3)
    columns = np.repeat([30 - 3, 30 - 2, 30 + 3, 30 + 2], 4)
    across = np.array([_widths(view.sum(axis=0), column) for view, column in zip(response, columns, strict=True)])
    along = _widths(response.sum(axis=2), 30)
    for axis, sigma in (("transaxial", across), ("axial", along)):
        off = 2.35482 * sigma / wanted - 1
        figure(
            f"response width, {name}, {axis}, worst of 5-20 cm, % off", 100 * float(off[np.abs(off).argmax()]), "0.5 %"
        )
        assert np.abs(off).max() < 0.005
    # Away from the edges nothing is lost; one voxel of 2.2 mm holds 2.2^3 mm3.
    np.testing.assert_allclose(response.sum(axis=(1, 2)), PIXEL_MM**3 / 1000.0, rtol=1e-12)


@pytest.mark.parametrize("angle_deg", [17.0, 45.0])
def test_width_at_oblique_views(angle_deg, make_acquisition, figure):
    """Bilinear interpolation spreads a voxel by a triangle along x and along y, of variance pixel^2/6 each, and so by
    pixel^2/6 along any direction, on average over the positions of voxels between lattice points. Nothing is added
    along the axis. 31 x 31 voxels are the average; each is measured about its true place and at its true distance.
    """
    half, columns = 15, 91
    size = 2 * half + 1
    grid = Grid.upright((41, size, size), (PIXEL_MM,) * 3, (-PIXEL_MM * half, -PIXEL_MM * half, -PIXEL_MM * 20))
    acquisition = make_acquisition(
        np.full(4, angle_deg), (41, columns), PIXEL_MM, radii_mm=DISTANCES_MM, collimator=LINE
    )
    system = SystemModel(acquisition, grid, dtype="float64")
    sine, cosine = math.sin(math.radians(angle_deg)), math.cos(math.radians(angle_deg))
    extra, total, axial = np.zeros(4), np.zeros(4), 0.0
    for iy in range(size):
        for ix in range(size):
            image = np.zeros(grid.shape)
            image[20, iy, ix] = 1.0
            response = system.forward(image)
            x, y = PIXEL_MM * (ix - half), PIXEL_MM * (iy - half)
            place = -x * cosine + y * sine
            distance = np.array(DISTANCES_MM) - (x * sine + y * cosine)
            # The kernel itself is measured at 0 deg above: only what the rotation adds is looked at here.
            kernel, _ = pixel_kernel(1.466 + 0.0163 * distance, PIXEL_MM)
            own = 2 * (kernel * (PIXEL_MM * np.arange(kernel.shape[1])) ** 2).sum(axis=1)
            u = PIXEL_MM * (np.arange(columns) - 0.5 * (columns - 1)) - place
            z = PIXEL_MM * (np.arange(41) - 20)
            counts = response.sum(axis=(1, 2))
            extra += (response.sum(axis=1) * u**2).sum(axis=1) - counts * own
            along = np.sqrt((response.sum(axis=2) * z**2).sum(axis=1) / counts - PIXEL_MM**2 / 12)
            axial = max(axial, float(np.abs(along / (1.466 + 0.0163 * distance) - 1).max()))
            total += counts
    off = extra / total / (PIXEL_MM**2 / 6) - 1
    worst = float(off[np.abs(off).argmax()])
    figure(f"variance added by rotation, {angle_deg:g} deg, transaxial, % off pixel^2/6", 100 * worst, "2 %")
    assert abs(worst) < 0.02
    figure(f"response width, {angle_deg:g} deg, axial, worst single voxel, % off", 100 * axial, "0.5 %")
    assert axial < 0.005
    # Single voxels brighten and darken with their place between lattice points. Their mean does so only as far as the
    # places are uneven, which at 45 deg come in 61 different ones along either axis.
    np.testing.assert_allclose(total / size**2, PIXEL_MM**3 / 1000.0, rtol=5e-3)


def _tail(beyond_mm, sigma_mm):
    """Part of a Gaussian farther than beyond_mm on one side."""
    return 0.5 * math.erfc(beyond_mm / (sigma_mm * math.sqrt(2.0)))


@pytest.mark.parametrize("index", [0, 1, 3])
def test_a_source_near_an_edge_loses_the_tail_and_no_more(index, make_acquisition):
    """A voxel in column or row `index` has index + 1/2 pixels of detector on its near side; sigma is 4 mm.

    Losses are not renormalised. Cutting the kernel at 3.5 sigma moves each tail by up to 2.3e-4.
    """
    size = 41
    grid = Grid.upright((size, size, size), (PIXEL_MM,) * 3, (-44.0, -44.0, -44.0))
    acquisition = make_acquisition([0.0, 180.0], (size, size), PIXEL_MM, collimator=Collimator.from_line(4.0, 0.0))
    system = SystemModel(acquisition, grid, dtype="float64")
    lost = _tail((index + 0.5) * PIXEL_MM, 4.0)
    for z, x in ((20, index), (20, size - 1 - index), (index, 20), (size - 1 - index, 20), (index, index)):
        image = np.zeros(grid.shape)
        image[z, 20, x] = 1000.0 / PIXEL_MM**3
        wanted = (1 - lost) ** 2 if z == x else 1 - lost
        np.testing.assert_allclose(system.forward(image).sum(axis=(1, 2)), wanted, rtol=0, atol=5e-4)


def test_blur_differs_between_rows_and_columns_of_unequal_pixels(make_acquisition):
    """Pixels of 2 mm (u) and 5 mm (z): the same sigma of 6 mm in both directions, in mm and not in pixels."""
    acquisition = make_acquisition([0.0], (31, 61), 1.0, collimator=Collimator.from_line(6.0, 0.0))
    acquisition = dataclasses.replace(acquisition, pixel_mm=(5.0, 2.0))
    grid = geometry.default_grid(acquisition)
    image = np.zeros(grid.shape)
    image[15, 30, 30] = 1.0
    response = SystemModel(acquisition, grid, dtype="float64").forward(image)[0]
    for profile, pitch in ((response.sum(axis=0), 2.0), (response.sum(axis=1), 5.0)):
        offset = pitch * (np.arange(profile.size) - profile.size // 2)
        variance = (profile * offset**2).sum() / profile.sum() - pitch**2 / 12
        assert math.sqrt(variance) == pytest.approx(6.0, rel=0.005)
