"""Resolution of collimators and the kernels that carry it onto pixels."""

import math

import numpy as np
import pytest

from spectac.recon.collimator import (
    COLLIMATORS,
    Collimator,
    Focus,
    collimator,
    lead_per_cm,
    parse_holes,
    parse_psf,
    pixel_kernel,
)
from spectac.recon.errors import InputError

VALID = {"hole_mm": 1.5, "length_mm": 35.0, "septa_mm": 0.2, "intrinsic_fwhm_mm": 3.8}


def test_resolution_worked_out_by_hand():
    """Round holes of 1.5 mm, 35 mm long, at 10 cm, 140.5 keV: lead (26.9 /cm) takes 2/mu = 0.744 mm off.

    Geometric part 1.5 (34.256 + 100 + 6) / 34.256 = 6.142 mm, intrinsic 3.8 mm: 7.222 mm FWHM.
    """
    entry = Collimator("by hand", **VALID, gap_mm=6.0, hole_shape="round")
    assert 2.35482 * entry.sigma_mm(100.0, 140.5) == pytest.approx(7.222, rel=1e-3)
    # Flat to flat 1.5 mm: hexagons count 1.05 times as wide.
    hexagonal = Collimator("by hand", **VALID, gap_mm=6.0)
    assert 2.35482 * hexagonal.sigma_mm(100.0, 140.5) == pytest.approx(math.hypot(1.05 * 6.142, 3.8), rel=1e-3)


def test_resolution_against_depth_and_energy():
    entry = Collimator("by hand", **VALID)
    distance = np.array([0.0, 50.0, 100.0, 200.0])
    assert (np.diff(entry.sigma_mm(distance, 140.5)) > 0).all()
    # The geometric part is a line in distance, doubled hole for hole.
    sharp = Collimator("no intrinsic blur", 1.5, 35.0, 0.2, 0.0)
    np.testing.assert_allclose(np.diff(sharp.sigma_mm(np.array([0.0, 50.0, 100.0]), 140.5), 2), 0.0, atol=1e-12)
    twice = Collimator("no intrinsic blur", 3.0, 35.0, 0.2, 0.0)
    np.testing.assert_allclose(twice.sigma_mm(distance, 140.5), 2 * sharp.sigma_mm(distance, 140.5), rtol=1e-12)
    # The intrinsic variance falls as 1/E: with all else taken off, 4 times the energy halves its FWHM.
    extra = [entry.sigma_mm(100.0, e) ** 2 - sharp.sigma_mm(100.0, e) ** 2 for e in (140.5, 562.0)]
    assert 2.35482 * math.sqrt(extra[0]) == pytest.approx(3.8, rel=1e-5)
    assert extra[1] / extra[0] == pytest.approx(0.25, rel=1e-9)


def test_lead_as_tabulated():
    """NIST: 5.549 cm2/g at 100 keV and 2.014 at 150 keV, times 11.35 g/cm3."""
    assert lead_per_cm(100.0) == pytest.approx(62.98, rel=0.01)
    assert lead_per_cm(150.0) == pytest.approx(22.86, rel=0.01)


def test_septa_that_a_photon_crosses_are_refused():
    """At 364 keV lead lets 2/mu = 6 mm through: a collimator of 5 mm has no length left."""
    with pytest.raises(InputError, match="collimator thin: its septa are transparent at 364 keV: use --psf"):
        Collimator("thin", 1.5, 5.0, 0.2, 3.8).sigma_mm(100.0, 364.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hole_mm": 0.0}, "collimator bad: hole_mm must be above 0, not 0"),
        ({"length_mm": -1.0}, "collimator bad: length_mm must be above 0, not -1"),
        ({"septa_mm": math.nan}, "collimator bad: septa_mm must be above 0, not nan"),
        ({"intrinsic_fwhm_mm": -1.0}, "collimator bad: intrinsic_fwhm_mm and gap_mm must not be negative"),
        ({"gap_mm": -0.1}, "collimator bad: intrinsic_fwhm_mm and gap_mm must not be negative"),
        ({"hole_shape": "triangular"}, "hole_shape 'triangular' is not one of hexagonal, round, square"),
    ],
)
def test_impossible_collimators_are_refused(changed, message):
    with pytest.raises(InputError, match=message):
        Collimator("bad", **(VALID | changed))


def test_measured_line():
    line = Collimator.from_line(1.466, 0.0163)
    np.testing.assert_allclose(line.sigma_mm(np.array([0.0, 100.0]), 159.0), [1.466, 3.096], rtol=1e-12)
    assert parse_psf("1.466:0.0163") == line
    for sigma0, slope in ((-1.0, 0.01), (1.0, -0.01), (math.nan, 0.0), (1.0, math.inf)):
        with pytest.raises(InputError, match="a PSF line needs sigma0 >= 0 mm, slope >= 0 and a length >= 0 mm, not"):
            Collimator.from_line(sigma0, slope)
    for text in ("1.466", "a:b", "1:2:3:4", ""):
        with pytest.raises(InputError, match=r"--psf needs SIGMA0_MM:SLOPE\[:LENGTH_MM\], e\.g\. 1\.466:0\.0163, not"):
            parse_psf(text)


@pytest.mark.parametrize("name", COLLIMATORS)
def test_every_collimator_of_the_table_is_found_and_sourced(name):
    entry = COLLIMATORS[name]
    assert entry.name == name
    assert entry.source
    for spelling in (name.upper(), name.replace("-", " "), name.replace("-", "")):
        assert collimator(spelling) is entry
    # No low-energy or medium-energy collimator in use resolves less than 4 or more than 20 mm at 10 cm.
    assert 4.0 < 2.35482 * entry.sigma_mm(100.0, 140.5) < 20.0


@pytest.mark.parametrize(
    ("code", "hole_mm", "septa_mm", "length_mm", "focal_mm", "shape"),
    [
        ("TO-900A", 2.36, 0.22, 40.0, None, "hexagonal"),
        ("to_931a", 2.60, 0.84, 40.0, None, "hexagonal"),
        ("SI-ME+", 2.07, 0.66, 32.84, None, "hexagonal"),
        ("SI-ME", 2.94, 1.14, 40.64, None, "hexagonal"),
        ("GZ-LEHR", 2.26, 0.20, 45.0, None, "square"),
        ("GV-LEUR", 1.50, 0.20, 40.0, 350.0, "hexagonal"),
        ("PR-APFB", 1.57, 0.24, 25.4, 500.0, "hexagonal"),
        ("pr-hrfb", 1.40, 0.18, 27.0, 500.0, "hexagonal"),
        ("PR-URFB", 1.40, 0.15, 34.9, 500.0, "hexagonal"),
    ],
)
def test_codes_of_simind_are_names(code, hole_mm, septa_mm, length_mm, focal_mm, shape):
    """Lines of collim.col as SIMIND 7.0.3 has them."""
    row = collimator(code)
    assert (row.hole_mm, row.septa_mm, row.length_mm, row.hole_shape) == (hole_mm, septa_mm, length_mm, shape)
    assert row.focus == (None if focal_mm is None else Focus(focal_mm))
    assert row.focus is None or "is a guess" in row.source


@pytest.mark.parametrize(
    ("name", "fwhm_mm"),
    [("toshiba-legp", 9.9), ("toshiba-lehr", 7.8), ("toshiba-lehs", 12.5), ("toshiba-leshr", 6.5),
     ("toshiba-921a", 8.3), ("toshiba-megp", 13.5), ("toshiba-mehr", 10.7)],
)  # fmt: skip
def test_names_of_toshibas_codes_were_guessed_from_these_resolutions(name, fwhm_mm):
    assert 2.35482 * collimator(name).sigma_mm(100.0, 140.5) == pytest.approx(fwhm_mm, abs=0.06)


def test_holes_given_by_the_user():
    """Those of ge-lehr, without the gap that is known of GE's cameras."""
    given, row = parse_holes("1.5:0.2:35"), COLLIMATORS["ge-lehr"]
    assert (given.hole_mm, given.septa_mm, given.length_mm) == (row.hole_mm, row.septa_mm, row.length_mm)
    assert (given.intrinsic_fwhm_mm, given.gap_mm, given.hole_shape) == (3.8, 4.75, "hexagonal")
    assert parse_holes("1.5:0.2:35:3.3").intrinsic_fwhm_mm == 3.3
    for text in ("1.5:0.2", "1.5:0.2:35:3.8:1", "a:b:c", "", "1.5:0.2:inf"):
        with pytest.raises(
            InputError, match=r"--holes needs HOLE:SEPTA:LENGTH\[:INTRINSIC\] in mm, e\.g\. 1\.5:0\.2:35"
        ):
            parse_holes(text)
    with pytest.raises(InputError, match=r"collimator holes 0:0\.2:35:3\.8: hole_mm must be above 0"):
        parse_holes("0:0.2:35")


def test_unknown_collimator_lists_the_known_and_the_way_out():
    with pytest.raises(InputError) as raised:
        collimator("acme-9000")
    message = str(raised.value)
    assert "collimator 'acme-9000' is not known" in message
    assert "--psf SIGMA0_MM:SLOPE" in message
    assert "--holes" in message
    assert all(name in message for name in COLLIMATORS)
    assert "\n" not in message


def _full(kernel):
    return np.concatenate([kernel[:0:-1], kernel])


def test_kernel_is_the_gaussian_integrated_over_pixels():
    """Weights of a Gaussian of one pixel's sigma: areas between -0.5 and 0.5, 0.5 and 1.5, ... from any table."""
    kernel, half = pixel_kernel(np.array([3.0]), 3.0)
    # Beyond 4.5 sigma, where this kernel ends, lies 7e-6 of the area.
    np.testing.assert_allclose(kernel[0, :4], [0.382925, 0.241730, 0.060598, 0.005977], atol=1e-5)
    assert half[0] == 4


@pytest.mark.parametrize("pixel_mm", [1.0, 2.2, 4.4, 9.0])
def test_kernels_lose_nothing_and_reach_far_enough(pixel_mm):
    sigma = np.array([0.0, 1e-6, 0.05, 0.3, 1.0, 2.9, 3.0, 7.5, 25.0])
    kernel, half = pixel_kernel(sigma, pixel_mm)
    assert kernel.shape == (9, half.max() + 1)
    assert (half * pixel_mm >= 3.5 * sigma).all()
    assert (half * pixel_mm < 3.5 * sigma + pixel_mm).all()
    assert (kernel >= 0).all()
    for row, width in zip(kernel, half, strict=True):
        assert _full(row).sum() == pytest.approx(1.0, abs=1e-14)
        assert not row[width + 1 :].any()
    # No blur is the identity.
    np.testing.assert_array_equal(kernel[:2, 0], [1.0, 1.0])
    assert not kernel[0, 1:].any()


def test_kernels_keep_the_shape_of_their_sigmas():
    sigma = np.linspace(0.0, 5.0, 12).reshape(3, 4)
    kernel, half = pixel_kernel(sigma, 2.0)
    assert half.shape == (3, 4)
    for index in np.ndindex(3, 4):
        single, _ = pixel_kernel(sigma[index], 2.0)
        np.testing.assert_allclose(kernel[index][: single.size], single, rtol=1e-14)


@pytest.mark.parametrize(
    "entry", [row for row in COLLIMATORS.values() if row.published_fwhm_mm], ids=lambda row: row.name
)
def test_system_resolution_is_the_quoted_one_within_5_percent(entry, figure):
    """Tc-99m at 10 cm; docs/physics.md says where each vendor's figure comes from."""
    fwhm_mm = float(entry.sigma_mm(100.0, 140.5)) * 2.354820
    figure(f"{entry.name}: FWHM at 10 cm over the vendor's", fwhm_mm / entry.published_fwhm_mm, "1 +- 0.05")
    assert fwhm_mm == pytest.approx(entry.published_fwhm_mm, rel=0.05)
