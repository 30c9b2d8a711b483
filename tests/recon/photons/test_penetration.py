"""I-123's photons above 400 keV against the definition of their share, and where and at which energies they fall."""

from dataclasses import replace

import numpy as np
import pytest
import xraylib
from scipy.special import erf

from spectac.recon.errors import InputError
from spectac.recon.photons.penetration import BESIDE, SIGMA_MM, high_energy_counts, high_energy_kev
from spectac.recon.system import view_weights_s
from spectac.recon.types import EnergyWindow, Grid, Image
from spectac.simulate.head import Head
from spectac.simulate.regions import LABEL
from spectac.simulate.scanner import Scanner

ANGLES = (0.0, 37.0, 90.0, 205.0)


def setting(**other):
    """A camera whose detector measures 442 x 594 mm, all but what the share is defined on (445 x 591)."""
    values = {"matrix": (67, 90), "pixel_mm": 6.6, "views": 4, "heads": 1, "radius_mm": 150.0, "scheme": "tew+scatter"}
    scanner = Scanner("test", "siemens-lehr", **(values | other))
    acquisition = replace(
        scanner.acquisition("I-123"), view_angles_deg=np.array(ANGLES), corrections=frozenset({"DECY"})
    )
    return scanner, acquisition, scanner.windows("I-123")


def block(density=0.0012, radius_mm=0.0):
    """A grid of air with a cylinder of water of that radius on its axis."""
    grid = Grid.upright((24, 26, 26), (8.0,) * 3, (-100.0, -100.0, -92.0))
    _, y, x = grid.centres_mm()
    inside = (
        np.broadcast_to(x**2 + y[:, None] ** 2 <= radius_mm**2, grid.shape) if radius_mm else np.zeros(grid.shape, bool)
    )
    labels = np.where(inside, LABEL["csf"], LABEL["outside"]).astype(np.uint8)
    return Head(grid, labels, np.where(inside, 1.0, density).astype(np.float32), {})


def spot(head, x_mm=0.0, y_mm=0.0, z_mm=0.0, radius_mm=14.0):
    """A ball of 1 kBq/mL."""
    z, y, x = head.grid.centres_mm()
    r2 = (x - x_mm) ** 2 + (y[:, None] - y_mm) ** 2 + (z[:, None, None] - z_mm) ** 2
    return (r2 <= radius_mm**2).astype(np.float32)


def counted(head, kbq, scanner, acquisition, windows):
    """(counts (w, v, z, u), the same activity's primary in air (v,))."""
    per_kbq = scanner.cps_per_kbq("I-123")
    cps = Image(kbq * np.float32(per_kbq), head.grid, "cps/mL")
    in_air = view_weights_s(acquisition) * per_kbq * kbq.sum(dtype=np.float64) * head.grid.voxel_ml
    kev = high_energy_kev("I-123")
    return high_energy_counts(cps, head.mu(kev), scanner.high_energy_share, acquisition, windows), in_air


@pytest.mark.parametrize("collimator", ["siemens-lehr", "siemens-me", "ge-lehr"])
def test_source_in_air_gives_the_share_of_its_definition(collimator, figure):
    """Counts on a detector of 445 x 591 mm over the primary: Scanner.high_energy_share within 5 %, in every view.

    The Gaussian is cut at 3 sigma and the detector a millimetre off in both ways: 1 % together.
    """
    scanner, acquisition, windows = setting()
    scanner = replace(scanner, collimator=collimator)
    head = block()
    found, in_air = counted(head, spot(head), scanner, acquisition, windows)
    ratio = found[0].sum(axis=(1, 2), dtype=np.float64) / in_air / scanner.high_energy_share
    figure(
        f"photons above 400 keV over their definition, {collimator}, worst view",
        ratio[np.abs(ratio - 1).argmax()],
        "1 +- 0.05",
    )
    assert scanner.high_energy_share > 0
    np.testing.assert_allclose(ratio, 1.0, atol=0.05)


def test_half_of_it_falls_into_the_middle():
    """What the blur was chosen for: half of a detector's counts lie in its middle 256 x 256 mm (SIMIND), within 5 %."""
    scanner, acquisition, windows = setting()
    head = block()
    found, _ = counted(head, spot(head), scanner, acquisition, windows)
    # 38 x 6.6 = 251 mm and 40 x 6.6 = 264 mm about the middle of 67 rows and 90 columns (39 rows: 257 mm).
    view = found[0, 0]
    middle = view[14:53, 25:65].sum() * (256 / 264)
    assert middle / view.sum() == pytest.approx(0.5, abs=0.05)


def test_spectrum_is_flat():
    """Counts of all windows in proportion to their widths, whatever their place; pixel by pixel."""
    scanner, acquisition, windows = setting()
    windows = (*windows, EnergyWindow("high", 200.0, 230.0))
    head = block(radius_mm=80.0)
    found, _ = counted(head, spot(head, 20.0, 10.0), scanner, acquisition, windows)
    for window, counts in zip(windows, found, strict=True):
        np.testing.assert_allclose(counts, found[0] * window.width_kev / windows[0].width_kev, rtol=1e-5)


def test_technetium_has_none_and_the_scale_multiplies():
    assert high_energy_kev("Tc-99m") is None
    assert high_energy_kev("I-123") == pytest.approx(529.0, abs=0.1)
    scanner, acquisition, windows = setting()
    head = block()
    whole = counted(head, spot(head), scanner, acquisition, windows)[0]
    for scale in (0.5, 0.0):
        part = counted(head, spot(head), replace(scanner, high_energy_scale=scale), acquisition, windows)[0]
        np.testing.assert_allclose(part, scale * whole, rtol=1e-5)


def test_a_map_at_the_main_line_is_refused():
    scanner, acquisition, windows = setting()
    head = block()
    with pytest.raises(InputError, match="above 400 keV, not at 159 keV"):
        high_energy_counts(Image(spot(head), head.grid, "cps/mL"), head.mu(159.0), 1.0, acquisition, windows)


@pytest.mark.parametrize("u_offset_mm", [0.0, 20.0])
@pytest.mark.parametrize("axis", [(0.0, 0.0), (11.0, -7.0)])
def test_the_blur_is_centred_on_the_source(axis, u_offset_mm, figure):
    """Logarithm of the counts over rows and columns: a parabola whose top is the source's place and width the sigma.

    u = -(x - ax) cos a + (y - ay) sin a + offset, from the middle of the matrix; 2 mm of 130, and 2 % of sigma.
    """
    scanner, acquisition, windows = setting()
    first_z = -210.0
    acquisition = replace(acquisition, axis_lps_mm=(*axis, first_z), u_offset_mm=np.full(4, u_offset_mm))
    head = block()
    x, y, z = 44.0, -36.0, 28.0
    found, _ = counted(head, spot(head, x, y, z), scanner, acquisition, windows)
    u = (np.arange(90) - 44.5) * 6.6
    v = first_z + np.arange(67) * 6.6
    worst, widths = 0.0, []
    for view, angle in zip(found[0].astype(np.float64), np.radians(ANGLES), strict=True):
        wanted = -(x - axis[0]) * np.cos(angle) + (y - axis[1]) * np.sin(angle) + u_offset_mm
        for profile, place, centre in ((view.sum(axis=0), u, wanted), (view.sum(axis=1), v, z)):
            near = np.abs(place - centre) < 180.0
            square, slope, _ = np.polyfit(place[near], np.log(profile[near]), 2)
            worst = max(worst, abs(-slope / (2.0 * square) - centre))
            widths.append(np.sqrt(-0.5 / square))
    figure(f"centre of the blur, axis {axis}, offset {u_offset_mm:g} mm: worst error in mm", worst, "2")
    assert worst < 2.0
    np.testing.assert_allclose(widths, SIGMA_MM, rtol=0.02)


def test_head_attenuates_them_at_529_kev(figure):
    """In the middle of 80 mm of water: exp(-mu(529 keV) R), which is less than half of what 159 keV would lose."""
    scanner, acquisition, windows = setting()
    wet, dry = block(radius_mm=80.0), block()
    inside, outside = (counted(head, spot(head), scanner, acquisition, windows)[0][0].sum() for head in (wet, dry))
    expected = np.exp(-xraylib.CS_Total_CP("Water, Liquid", 528.96) * 8.0)
    figure("529 keV through 80 mm of water, found / exp(-mu x)", inside / outside / expected, "1 +- 0.02")
    # The cylinder of 8 mm voxels has a radius of 80 +- 1 mm: 1 %.
    assert inside / outside == pytest.approx(expected, rel=0.02)


def test_share_beside_the_detector_is_that_of_the_gaussian():
    """BESIDE: what a Gaussian of SIGMA_MM puts beside 445 x 591 mm."""
    inside = erf(222.5 / SIGMA_MM / np.sqrt(2)) * erf(295.5 / SIGMA_MM / np.sqrt(2))
    assert pytest.approx(1.0 - inside, abs=0.005) == BESIDE


@pytest.mark.parametrize("kbq_per_ml", [1.0, 1e-35])
def test_counts_hold_no_subnormal_number(kbq_per_ml, subnormals):
    """A wide blur of little, shared among windows."""
    scanner, acquisition, windows = setting()
    head = block(radius_mm=90.0)
    counts, _ = counted(head, np.float32(kbq_per_ml) * spot(head), scanner, acquisition, windows)
    assert counts.any()
    assert subnormals(counts) == 0
