"""What the types refuse, with the message a user reads, and what they keep."""

import dataclasses

import numpy as np
import pytest

from spectac.recon.errors import InputError
from spectac.recon.types import Acquisition, EnergyWindow, Grid, Image, MuMap, Projections, Study

GRID = Grid.upright((2, 3, 4), (5.0, 4.0, 4.0), (-6.0, -4.0, -2.5))
ACQUISITION = {
    "view_angles_deg": [0.0, 90.0, 180.0],
    "radii_mm": [150.0, 160.0, 150.0],
    "matrix": (2, 4),
    "pixel_mm": (5.0, 4.0),
    "view_seconds": [10.0, 20.0, 30.0],
    "nuclide": "99mTc",
    "collimator": None,
}


def acquisition(**changed):
    return Acquisition(**(ACQUISITION | changed))


@pytest.mark.parametrize(
    ("shape", "voxel_mm", "affine", "message"),
    [
        ((2, 3), (5.0, 4.0, 4.0), GRID.affine_lps, r"3 sizes \(z, y, x\) of at least 1, got \(2, 3\)"),
        ((2, 0, 4), (5.0, 4.0, 4.0), GRID.affine_lps, r"3 sizes \(z, y, x\) of at least 1, got \(2, 0, 4\)"),
        ((2, 3, 4), (5.0, 4.0), GRID.affine_lps, r"voxel_mm .* 3 numbers above 0 \(z, y, x\), got \(5.0, 4.0\)"),
        ((2, 3, 4), (5.0, 0.0, 4.0), GRID.affine_lps, "voxel_mm .* above 0"),
        ((2, 3, 4), (5.0, np.nan, 4.0), GRID.affine_lps, "voxel_mm .* above 0"),
        ((2, 3, 4), (5.0, 4.0, 4.0), np.eye(3), r"affine_lps needs shape \(4, 4\), got \(3, 3\)"),
        ((2, 3, 4), (5.0, 4.0, 4.0), np.full((4, 4), np.inf), "affine_lps holds 16 values that are NaN or infinite"),
        ((2, 3, 4), (5.0, 4.0, 4.1), GRID.affine_lps, r"voxel_mm \(5.0, 4.0, 4.1\) does not fit the lengths"),
    ],
)
def test_bad_grids_are_refused(shape, voxel_mm, affine, message):
    with pytest.raises(InputError, match=message):
        Grid(shape, voxel_mm, affine)


def test_grid_places_voxels_in_lps():
    """Voxel (z, y, x) = (1, 2, 3) lies at x = -6 + 3*4 = 6, y = -4 + 2*4 = 4, z = -2.5 + 5 = 2.5 mm."""
    np.testing.assert_allclose(GRID.affine_lps @ [1, 2, 3, 1], [6.0, 4.0, 2.5, 1.0])
    z, y, x = GRID.centres_mm()
    np.testing.assert_allclose(z, [-2.5, 2.5])
    np.testing.assert_allclose(y, [-4.0, 0.0, 4.0])
    np.testing.assert_allclose(x, [-6.0, -2.0, 2.0, 6.0])
    assert GRID.voxel_ml == pytest.approx(0.08)


def test_tilted_and_flipped_grids_are_not_upright():
    assert GRID.is_upright
    flipped = GRID.affine_lps.copy()
    flipped[2, 0] = -5.0
    tilt = np.deg2rad(1.0)
    tilted = GRID.affine_lps.copy()
    tilted[1:3, 0] = 5.0 * np.sin(tilt), 5.0 * np.cos(tilt)
    for affine in (flipped, tilted):
        grid = Grid(GRID.shape, GRID.voxel_mm, affine)
        assert not grid.is_upright
        with pytest.raises(InputError, match="along the patient's axes; resample the image"):
            grid.centres_mm()


def test_same_grid_to_a_thousandth_of_a_millimetre():
    def moved(shift_mm):
        return Grid.upright(GRID.shape, GRID.voxel_mm, GRID.affine_lps[:3, 3] + [shift_mm, 0.0, 0.0])

    assert GRID.same_as(moved(0.0005))
    assert not GRID.same_as(moved(0.01))
    assert not GRID.same_as(Grid.upright((2, 3, 5), GRID.voxel_mm, GRID.affine_lps[:3, 3]))


def test_energy_window():
    window = EnergyWindow("photopeak", 126.0, 154.0)
    assert window.width_kev == pytest.approx(28.0)
    assert [window.holds(energy) for energy in (125.9, 126.0, 140.5, 154.0, 154.1)] == [False, True, True, True, False]
    for lower, upper in ((154.0, 126.0), (140.0, 140.0), (-1.0, 10.0), (np.nan, 10.0), (10.0, np.nan)):
        with pytest.raises(InputError, match="energy window 'w' needs 0 <= lower < upper, got"):
            EnergyWindow("w", lower, upper)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"view_angles_deg": []}, "an acquisition needs at least one view, got none"),
        ({"view_angles_deg": [[0.0]]}, r"view_angles_deg needs shape \(any\), got \(1, 1\)"),
        ({"view_angles_deg": [0.0, np.nan, 1.0]}, "view_angles_deg holds 1 values that are NaN or infinite"),
        ({"radii_mm": [150.0, 160.0]}, r"radii_mm needs shape \(3\), got \(2,\)"),
        ({"radii_mm": [150.0, 0.0, 150.0]}, "radii_mm must be above 0, its smallest value is 0"),
        ({"radii_mm": [150.0, np.inf, 150.0]}, "radii_mm holds 1 values"),
        ({"energy_resolution": 9.8}, "energy_resolution must lie between 0.0001 and 0.3, got 9.8: .* not in %"),
        ({"crystal_mm": 0.95}, "crystal_mm must lie between 1 and 60, got 0.95: is it in mm"),
        ({"view_seconds": [1.0, 2.0]}, r"view_seconds needs shape \(3\), got \(2,\)"),
        ({"view_seconds": [1.0, np.nan, 2.0]}, "view_seconds holds 1 values that are NaN or infinite"),
        ({"view_seconds": [1.0, -1.0, 2.0]}, "view_seconds must be above 0, its smallest value is -1"),
        ({"view_start_s": [0.0, 1.0]}, r"view_start_s needs shape \(3\), got \(2,\)"),
        ({"view_start_s": [0.0, 1.0, np.nan]}, "view_start_s holds 1 values"),
        ({"detector": [1, 1]}, r"detector needs shape \(3\), got \(2,\)"),
        ({"u_offset_mm": [0.0]}, r"u_offset_mm needs shape \(3\), got \(1,\)"),
        ({"u_offset_mm": [0.0, np.nan, 0.0]}, "u_offset_mm holds 1 values"),
        ({"matrix": (2, 0)}, r"matrix needs 2 sizes \(z, u\) of at least 1, got \(2, 0\)"),
        ({"matrix": (2, 3, 4)}, r"matrix needs 2 sizes"),
        ({"pixel_mm": (5.0, -4.0)}, r"pixel_mm needs 2 numbers above 0 \(z, u\), got \(5.0, -4.0\)"),
        ({"pixel_mm": (5.0, np.nan)}, "pixel_mm needs 2 numbers above 0"),
        ({"pixel_mm": (5.0,)}, "pixel_mm needs 2 numbers above 0"),
        ({"nuclide": "F-18"}, "F-18 is not in the table of nuclides"),
        ({"axis_lps_mm": (0.0, 0.0)}, r"axis_lps_mm needs 3 finite numbers \(x, y, z\), got \(0.0, 0.0\)"),
        ({"axis_lps_mm": (0.0, 0.0, np.nan)}, "axis_lps_mm needs 3 finite numbers"),
    ],
)
def test_bad_acquisitions_are_refused(changed, message):
    with pytest.raises(InputError, match=message):
        acquisition(**changed)


def test_acquisition_fills_in_what_it_can():
    plain = acquisition()
    assert plain.nuclide == "Tc-99m"
    assert plain.views == 3
    assert plain.shape == (3, 2, 4)
    assert plain.times_known
    np.testing.assert_array_equal(plain.view_start_s, [0.0, 10.0, 30.0])
    np.testing.assert_array_equal(plain.u_offset_mm, [0.0, 0.0, 0.0])
    np.testing.assert_array_equal(plain.detector, [0, 0, 0])
    two_heads = acquisition(detector=[1, 2, 1])
    np.testing.assert_array_equal(two_heads.view_start_s, [0.0, 0.0, 10.0])
    untimed = acquisition(view_seconds=np.full(3, np.nan))
    assert not untimed.times_known
    np.testing.assert_array_equal(untimed.view_start_s, [0.0, 0.0, 0.0])


def test_bad_studies_are_refused():
    window, other = EnergyWindow("photopeak", 126.0, 154.0), EnergyWindow("lower", 110.0, 126.0)
    good = np.ones((1, 3, 2, 4))
    bad = good.copy()
    bad[0, 1, 1, 1] = np.nan
    cases = [
        ((), good, "a study needs at least one energy window, got none"),
        ((window,), np.ones((3, 2, 4)), r"counts .* needs shape \(1, 3, 2, 4\), got \(3, 2, 4\)"),
        ((window, other), good, r"counts .* needs shape \(2, 3, 2, 4\), got \(1, 3, 2, 4\)"),
        ((window, window), np.ones((2, 3, 2, 4)), "energy windows need names of their own, got photopeak, photopeak"),
        ((window,), bad, "counts holds 1 values that are NaN or infinite"),
        ((window,), -good, "counts must be at least 0, its smallest value is -1"),
    ]
    for windows, counts, message in cases:
        with pytest.raises(InputError, match=message):
            Study(acquisition(), windows, counts)


def test_bad_projections_are_refused():
    good = np.ones((3, 2, 4))
    cases = [
        ((good[:2], 140.5), {}, r"counts \(view, z, u\) needs shape \(3, 2, 4\), got \(2, 2, 4\)"),
        ((good * np.inf, 140.5), {}, "counts holds 24 values"),
        ((-good, 140.5), {}, "counts must be at least 0"),
        ((good, 0.0), {}, "energy_kev must be above 0 and finite, got 0"),
        ((good, np.nan), {}, "energy_kev must be above 0 and finite, got nan"),
        ((good, 140.5), {"scatter": good[:, :1]}, r"scatter \(view, z, u\) needs shape \(3, 2, 4\), got \(3, 1, 4\)"),
        ((good, 140.5), {"scatter": good * np.nan}, "scatter holds 24 values"),
        ((good, 140.5), {"scatter": -good}, "scatter must be at least 0"),
    ]
    for arguments, options, message in cases:
        with pytest.raises(InputError, match=message):
            Projections(acquisition(), *arguments, **options)


def test_bad_images_and_maps_are_refused():
    good = np.ones(GRID.shape)
    cases = [
        (lambda: Image(good, GRID, "Bq"), "unit 'Bq' is not one of cps/mL, kBq/mL, relative"),
        (lambda: Image(good[:1], GRID, "cps/mL"), r"image values \(z, y, x\) needs shape \(2, 3, 4\), got \(1, 3, 4\)"),
        (lambda: Image(good * np.nan, GRID, "cps/mL"), "image values holds 24 values"),
        (lambda: MuMap(good[0], GRID, 140.5), r"mu-map \(z, y, x\) needs shape \(2, 3, 4\), got \(3, 4\)"),
        (lambda: MuMap(good * np.inf, GRID, 140.5), "mu-map holds 24 values"),
        (lambda: MuMap(-0.01 * good, GRID, 140.5), "mu-map must be at least 0, its smallest value is -0.01"),
        (lambda: MuMap(1000 * good, GRID, 140.5), "mu-map holds 1000: it must be in 1/cm, not in HU"),
        (lambda: MuMap(good, GRID, 0.0), "energy_kev must be above 0 and finite, got 0"),
        (lambda: MuMap(good, GRID, np.nan), "energy_kev must be above 0 and finite, got nan"),
    ]
    for make, message in cases:
        with pytest.raises(InputError, match=message):
            make()
    # Images, unlike counts, may be negative: filtered backprojection makes such.
    assert Image(-good, GRID, "relative").values.min() == -1


def test_what_is_made_cannot_be_changed():
    counts = np.ones((1, 3, 2, 4), np.float32)
    study = Study(acquisition(), (EnergyWindow("photopeak", 126.0, 154.0),), counts)
    for array in (
        study.counts,
        study.acquisition.radii_mm,
        GRID.affine_lps,
        MuMap(np.zeros(GRID.shape), GRID, 140.5).per_cm,
    ):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        study.counts = counts
    # The caller's own array stays writable.
    counts[0, 0, 0, 0] = 2.0


def test_other_byte_orders_and_strides_become_plain_float32():
    """Files come big-endian and reversed; torch refuses the one and aborts on the other, so both end here."""
    values = np.arange(24.0).reshape(GRID.shape)
    for given in (values.astype(">f4"), values[::-1].copy()[::-1], np.asfortranarray(values), values.tolist()):
        kept = Image(given, GRID, "relative").values
        assert kept.dtype == np.dtype("float32")
        assert kept.dtype.isnative
        assert kept.flags.c_contiguous
        np.testing.assert_array_equal(kept, values)
