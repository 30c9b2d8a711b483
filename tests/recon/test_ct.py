"""CT to mu: the curve against published numbers, energies, blur and table; registration of a displaced CT head."""

import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
import pytest
import scipy.ndimage

from spectac.recon import ct, filters
from spectac.recon.ct import CTVolume
from spectac.recon.ct_register import register
from spectac.recon.errors import InputError
from spectac.recon.io.dicom import ct as dicom_ct
from spectac.recon.pipeline import StudySolver
from spectac.recon.resample import resample
from spectac.recon.rigid import RigidShift
from spectac.recon.types import Grid, Image, MuMap
from spectac.simulate.analytic_head import on_grid

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SKULL, HEADS = DATA / "skull_ct_philips", DATA / "head_phantom_benauer"

TC_KEV, I_KEV = 140.5, 158.97


def volume_of(hu, voxel_mm=(2.0, 2.0, 2.0), first_mm=(0.0, 0.0, 0.0), kvp=120.0):
    return CTVolume(np.asarray(hu, np.float32), Grid.upright(np.shape(hu), voxel_mm, first_mm), kvp)


@pytest.mark.parametrize("kvp", [80.0, 100.0, 120.0, 140.0])
@pytest.mark.parametrize(
    ("tissue", "tc_per_cm", "iodine_per_cm"),
    [
        ("water", 0.1537, 0.1478),
        ("brain", 0.159, 0.153),
        ("cranium (ICRU 44)", 0.246, 0.233),
        ("cortical bone (ICRU 44)", 0.293, 0.277),
    ],
)
def test_tissues_come_out_at_their_coefficients(kvp, tissue, tc_per_cm, iodine_per_cm):
    """Whatever the tube voltage: the HU it gives to a tissue is turned into that tissue's mu (DESIGN section 4)."""
    hu = np.array([ct.tissue_hu(kvp)[ct.TISSUES.index(tissue)]])
    assert ct.hu_to_mu(hu, kvp, TC_KEV)[0] == pytest.approx(tc_per_cm, rel=0.02)
    assert ct.hu_to_mu(hu, kvp, I_KEV)[0] == pytest.approx(iodine_per_cm, rel=0.02)


def test_soft_tissue_between_the_knots():
    """Soft tissue (ICRP, 1.06 g/cm3) is no knot of the curve: 48 HU at 120 kV; 0.1616 and 0.1554 /cm in xraylib."""
    assert ct.hu_to_mu(np.array([48.0]), 120.0, TC_KEV)[0] == pytest.approx(0.1616, rel=0.02)
    assert ct.hu_to_mu(np.array([48.0]), 120.0, I_KEV)[0] == pytest.approx(0.1554, rel=0.02)


@pytest.mark.parametrize(
    ("kvp", "slope", "offset"),
    [(80, 3.64e-5, 6.26e-2), (100, 4.43e-5, 5.44e-2), (120, 5.10e-5, 4.71e-2), (140, 5.64e-5, 4.08e-2)],
)
def test_bone_line_measured_by_carney(kvp, slope, offset, figure):
    """Carney et al. 2006 (doi:10.1118/1.2174132): mu at 511 keV = slope (HU + 1000) + offset above about 50 HU.

    The metal of our beam was chosen on these lines, so this is no independent proof: it says that one filter fits all
    four voltages. 1.5 % is what 1 mm of aluminium and 0.1 mm of copper more or less would change.
    """
    hu = np.linspace(200.0, 1500.0, 14)
    ratio = ct.hu_to_mu(hu, kvp, 511.0) / (slope * (hu + 1000.0) + offset)
    figure(f"HU to mu at 511 keV against Carney's line, {kvp} kV, worst %", 100 * np.abs(ratio - 1).max(), "1.5")
    assert np.abs(ratio - 1).max() <= 0.015


def test_bone_line_measured_for_spect():
    """Brown et al. 2008 (doi:10.1016/j.apradiso.2008.01.002), 140 keV: 0.15 + 1.14e-4 HU above water.

    Their lines at neighbouring energies scatter by 10 % (1.14 at 140 keV, 1.26 at 159 keV, where mu is smaller).
    """
    hu = np.array([0.0, 500.0, 1000.0])
    assert ct.hu_to_mu(hu, 120.0, 140.0) == pytest.approx(0.15 + 1.14e-4 * hu, rel=0.1)


def test_tube_voltage_matters_and_the_beam_is_a_ct_beam():
    """Cranium has 1.38 times as many HU at 80 as at 120 kV; the wrong curve makes it 11 % too dense.

    The mean energy of the signal of a 120 kV CT lies in 65 to 85 keV in every account; that of 80 kV near 60.
    """
    energies, share = ct.beam(120.0)
    assert share.sum() == pytest.approx(1.0)
    assert 65.0 < float(energies @ share) < 85.0
    cranium = ct.TISSUES.index("cranium (ICRU 44)")
    low, usual = ct.tissue_hu(80.0)[cranium], ct.tissue_hu(120.0)[cranium]
    assert 1.3 < low / usual < 1.5
    wrong = ct.hu_to_mu(np.array([low]), 120.0, TC_KEV) / ct.hu_to_mu(np.array([low]), 80.0, TC_KEV)
    assert wrong[0] > 1.1


@pytest.mark.parametrize("kvp", [80.0, 110.0, 140.0])
@pytest.mark.parametrize("energy_kev", [72.4, TC_KEV, I_KEV, 364.5])
def test_curve_rises_from_air_to_metal(kvp, energy_kev):
    hu = np.arange(-1100.0, 4000.0)
    mu = ct.hu_to_mu(hu, kvp, energy_kev).astype(float)
    assert np.all(np.diff(mu[hu >= -1000]) > 0)
    assert mu[0] == mu[hu == -1000][0]
    assert 0 < mu[0] < 0.001
    # Beyond cortical bone the line goes on: equal steps.
    assert np.diff(mu[-3:])[0] == pytest.approx(np.diff(mu[-300:]).mean(), rel=0.01)


def test_energy_of_a_map_is_changed_as_if_converted_anew():
    hu = np.linspace(-1000, 2500, 4 * 5 * 6).reshape(4, 5, 6)
    at_tc, at_iodine = (ct.mu_map(volume_of(hu), energy, blur_fwhm_mm=0) for energy in (TC_KEV, I_KEV))
    scaled = ct.scale_energy(at_tc, I_KEV)
    assert scaled.energy_kev == I_KEV
    # Both are straight between the same knots, so only float32 differs.
    assert scaled.per_cm == pytest.approx(at_iodine.per_cm, rel=1e-5)
    assert ct.scale_energy(scaled, TC_KEV).per_cm == pytest.approx(at_tc.per_cm, rel=1e-5)


def test_zero_stays_zero_and_water_is_water_when_energies_change():
    grid = Grid.upright((1, 1, 3), (1.0, 1.0, 1.0), (0, 0, 0))
    scaled = ct.scale_energy(MuMap(np.array([[[0.0, 1e-4, 0.1537]]]), grid, TC_KEV), I_KEV)
    assert scaled.per_cm[0, 0, 0] == 0
    assert 0 < scaled.per_cm[0, 0, 1] < 1e-4
    assert scaled.per_cm[0, 0, 2] == pytest.approx(0.1478, rel=0.002)


@pytest.mark.parametrize("energy_kev", [10.0, 1500.0])
def test_energies_without_tables_are_refused(energy_kev):
    with pytest.raises(InputError, match="from 30 to 800 keV"):
        ct.hu_to_mu(np.zeros(1), 120.0, energy_kev)


def test_unfit_volumes_are_refused():
    with pytest.raises(InputError, match=r"70 to 150 kV, not for 60 kV .*--tube-voltage-kv"):
        volume_of(np.zeros((2, 2, 2)), kvp=60.0)
    with pytest.raises(InputError, match="NaN or infinity"):
        volume_of(np.full((2, 2, 2), np.nan))
    with pytest.raises(InputError, match=r"shape of their grid \(2, 2, 2\), got \(2, 2, 3\)"):
        CTVolume(np.zeros((2, 2, 3)), Grid.upright((2, 2, 2), (1, 1, 1), (0, 0, 0)), 120.0)
    assert "120 kV is assumed" in volume_of(np.zeros((2, 2, 2)), kvp=None).warnings[0]


@pytest.mark.parametrize("kvp", [70.0, 150.0])
def test_voltages_beyond_the_measured_ones_follow_the_trend_and_are_told(kvp):
    """Bone's HU fall with the voltage: below 80 and above 140 kV they go on falling, by less than from 80 to 100."""
    bone = {kv: ct.tissue_hu(kv)[-1] for kv in (70.0, 80.0, 100.0, 140.0, 150.0)}
    assert bone[70.0] > bone[80.0] > bone[100.0] > bone[140.0] > bone[150.0]
    assert bone[140.0] - bone[150.0] < 0.05 * bone[140.0]
    (warning,) = volume_of(np.zeros((2, 2, 2)), kvp=kvp).warnings
    assert f"{kvp:g} kV (KVP)" in warning
    assert "80 to 140 kV only" in warning


def test_map_of_fine_voxels_is_averaged_where_they_are():
    """0.5 mm pixels become 2 mm: mean mu (not the mu of the mean HU), at the millimetre of the mean."""
    hu = np.full((5, 18, 22), -1000.0)
    hu[2, 8:12, 12:16] = 0.0  # one block of 4 x 4 pixels of water: y 4.75, x 6.75 mm from the first centre
    hu[3, 8:12, 12:14], hu[3, 8:12, 14:16] = 1466.0, -1000.0
    volume = volume_of(hu, (3.0, 0.5, 0.5), (-7.0, 11.0, 30.0))
    mu = ct.mu_map(volume, TC_KEV, blur_fwhm_mm=0)
    assert mu.grid.shape == (5, 5, 6)
    assert mu.grid.voxel_mm == (3.0, 2.0, 2.0)
    assert mu.per_cm[2, 2, 3] == pytest.approx(0.1537, rel=0.002)
    assert mu.per_cm[3, 2, 3] == pytest.approx(0.5 * 0.293, rel=0.01)
    assert (mu.per_cm > 0.01).sum() == 2
    place = mu.grid.affine_lps @ [2, 2, 3, 1]
    assert place[:3] == pytest.approx([-7.0 + 6.75, 11.0 + 4.75, 36.0])


def test_blur_has_the_width_asked_for_and_keeps_the_sum():
    hu = np.full((31, 31, 31), -1000.0)
    hu[15, 15, 15] = 1000.0
    sharp = ct.mu_map(volume_of(hu), TC_KEV, blur_fwhm_mm=0)
    soft = ct.mu_map(volume_of(hu), TC_KEV)
    air = float(sharp.per_cm.min())
    spread = soft.per_cm.astype(float) - air
    assert spread.sum() == pytest.approx(float((sharp.per_cm - air).sum()), rel=1e-3)
    z = (np.arange(31) - 15) * 2.0
    variance = (spread.sum(axis=(1, 2)) * z**2).sum() / spread.sum()
    # 8 mm FWHM: sigma^2 = 64 / (8 ln 2) = 11.54 mm2
    assert variance == pytest.approx(11.54, rel=0.01)


def head_on_a_table():
    """Brain in a skull with an air sinus, a holder that touches it through a pad, a hollow table; voxels 2 mm."""
    z, y, x = np.meshgrid(np.arange(40) * 2.0, np.arange(110) * 2.0, np.arange(100) * 2.0, indexing="ij")
    r = np.sqrt(((x - 100) / 70) ** 2 + ((y - 90) / 85) ** 2)
    head = np.where(r < 0.9, 41.0, np.where(r < 1, 900.0, -1000.0))
    sinus = np.hypot(x - 100, y - 20) < 8
    head[sinus] = -1000.0
    hu = head.copy()
    holder = (np.abs(np.hypot(x - 100, y - 90) - 92) < 2.5) & (y > 110)
    hu[holder & (head < -900)] = 200.0
    hu[(y > 172) & (y < 184) & (np.abs(x - 100) < 3) & (head < -900)] = 100.0  # a pad between the two
    hu[((y > 196) & (y < 200)) | ((y > 212) & (y < 216))] = 300.0
    return volume_of(hu), volume_of(head), sinus


def test_table_is_kept_by_default_and_removable(figure):
    scanned, head, sinus = head_on_a_table()
    kept = ct.mu_map(scanned, TC_KEV, blur_fwhm_mm=0)
    assert (kept.per_cm[:, 95:] > 0.1).sum() > 5000
    removed = ct.mu_map(scanned, TC_KEV, blur_fwhm_mm=0, remove_table=True)
    alone = ct.mu_map(head, TC_KEV, blur_fwhm_mm=0)
    # What touches the head is cut 9 mm (6 of regrowth, 3 of skin) away from it: of the pad, 6 x 9 mm of 18,700 mm2.
    extra = float((removed.per_cm - alone.per_cm).sum() / alone.per_cm.sum())
    figure("table and holder left after removal, % of the head", 100 * extra, "0.4")
    assert 0 <= extra <= 0.004
    assert (removed.per_cm[:, 93:] < 0.001).all()
    assert np.array_equal(removed.per_cm[sinus], alone.per_cm[sinus])


def test_removing_the_table_from_air_is_refused():
    with pytest.raises(InputError, match="nothing in the CT is as dense as tissue"):
        ct.mu_map(volume_of(np.full((4, 4, 4), -1000.0)), TC_KEV, remove_table=True)


@pytest.mark.skipif(not SKULL.is_dir(), reason="../shared/data/skull_ct_philips is not here")
def test_real_skull_has_bone_where_the_bone_is(figure):
    """Bone as the files themselves show it (two slices read by pydicom alone), looked up in the map by millimetre."""
    mu = ct.mu_map(dicom_ct.read_series(SKULL), TC_KEV, blur_fwhm_mm=0)
    for name in ("I90", "I170"):
        file = pydicom.dcmread(SKULL / name)
        hu = file.pixel_array - 1024.0
        x0, y0, z0 = (float(value) for value in file.ImagePositionPatient)
        grid = Grid.upright((1, 512, 512), (5.0, 0.451171875, 0.451171875), (x0, y0, z0))
        found = resample(mu.per_cm, mu.grid, grid)[0]
        # Inside: 2 mm (a voxel of the map) from any border.
        bone = scipy.ndimage.binary_erosion(hu > 500, iterations=4)
        air = scipy.ndimage.binary_erosion(hu < -950, iterations=8)
        assert bone.sum() > 500
        figure(f"mu of the skull's bone in slice {name} at 140.5 keV, /cm", float(found[bone].mean()), "0.20 to 0.30")
        assert np.percentile(found[bone], 5) > 0.20
        assert np.percentile(found[bone], 95) < 0.30
        assert np.percentile(found[air], 99) < 0.01
        # Shifting the map by 3 mm either way fits worse: it lies at the right millimetre.
        dense = scipy.ndimage.gaussian_filter(np.clip(hu, -1000, 1500), 2)

        def likeness(shift, found=found, dense=dense):
            moved = scipy.ndimage.shift(found, [value / 0.451171875 for value in shift], order=1)
            return np.corrcoef(moved.ravel(), dense.ravel())[0, 1]

        best = likeness((0, 0))
        assert best > 0.97
        assert all(likeness(shift) < best - 0.01 for shift in ((3, 0), (-3, 0), (0, 3), (0, -3)))


def test_rigid_shift_in_words():
    """A quarter turn about z takes left to posterior and posterior to right; the centre moves by the shift alone."""
    shift = RigidShift((0, 0, 90), (1, 2, 3), (10, 0, 0))
    assert shift.matrix @ [10, 0, 0, 1] == pytest.approx([11, 2, 3, 1])
    assert shift.matrix @ [15, 0, 0, 1] == pytest.approx([11, 7, 3, 1])
    assert shift.matrix @ [10, 5, 0, 1] == pytest.approx([6, 2, 3, 1])
    assert RigidShift((90, 0, 0), (0, 0, 0)).matrix @ [0, 1, 0, 1] == pytest.approx([0, 0, 1, 1])
    assert RigidShift((0, 90, 0), (0, 0, 0)).matrix @ [0, 0, 1, 1] == pytest.approx([1, 0, 0, 1])
    mixed = RigidShift((11, -7, 23), (4, 5, -6), (30, -20, 100))
    again = RigidShift.from_matrix(mixed.matrix, mixed.centre_mm)
    assert again.rotation_deg == pytest.approx(mixed.rotation_deg)
    assert again.shift_mm == pytest.approx(mixed.shift_mm)
    back = RigidShift.from_matrix(np.linalg.inv(mixed.matrix), (1.0, 2.0, 3.0))
    assert back.matrix @ mixed.matrix == pytest.approx(np.eye(4), abs=1e-9)
    assert back.angle_deg == pytest.approx(mixed.angle_deg)


def test_large_shifts_warn():
    assert RigidShift((0, 0, 4.9), (9.9, 0, 0)).warning is None
    assert "10.1 mm" in str(RigidShift((0, 0, 0), (0, 10.1, 0)).warning)
    assert "5.1 deg in all" in str(RigidShift((0, 5.1, 0), (0, 0, 0)).warning)
    with pytest.raises(InputError, match="3 finite numbers"):
        RigidShift((0, 0, np.nan), (0, 0, 0))
    with pytest.raises(InputError, match="without stretching"):
        RigidShift.from_matrix(np.diag([1, 1, 2, 1]), (0, 0, 0))


def test_moved_map_is_found_at_its_new_place():
    """Nothing is interpolated when a map is moved: the same numbers, read at the new millimetre by resample()."""
    values = np.zeros((20, 22, 24), np.float32)
    values[5, 15, 7] = 0.15
    mu = MuMap(values, Grid.upright(values.shape, (2.0, 2.0, 2.0), (0, 0, 0)), TC_KEV)
    shift = RigidShift((0, 0, 30), (6, -4, 8), (20, 20, 20))
    moved = shift.moved(mu)
    assert np.array_equal(moved.per_cm, mu.per_cm)
    target = Grid.upright((60, 60, 60), (1.0, 1.0, 1.0), (0, 0, 0))
    found = np.array(scipy.ndimage.center_of_mass(resample(moved.per_cm, moved.grid, target)))[::-1]
    # (14, 30, 10) about (20, 20, 20): (-6, 10) turned by 30 deg is (-10.196, 5.660); then the shift.
    assert found == pytest.approx([20 - 10.196 + 6, 20 + 5.660 - 4, 10 + 8], abs=0.1)


def random_motion(rng, angle_deg, distance_mm):
    axis, way = rng.normal(size=3), rng.normal(size=3)
    axis, way = axis / np.linalg.norm(axis), way / np.linalg.norm(way)
    # Angles this small combine as a vector; the check below uses the exact matrices.
    return RigidShift(tuple(angle_deg * axis), tuple(distance_mm * way))


def misplaced(found, motion):
    """What is left of a motion after the registration that should undo it, about the head's centre."""
    return RigidShift.from_matrix(found.matrix @ motion.matrix, (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def preview(analytic):
    """The analytic head's study (its scanner, 3e6 counts) as the uncorrected preview shows it."""
    study, _, _ = analytic.study(analytic.acquisition(), 3e6, seed=1)
    return StudySolver(study).preview()


def demo_ct(lowest_mm=-134.0, highest_mm=134.0):
    """CT numbers of the analytic head between two heights, at 120 kV, on a table."""
    slices = round((highest_mm - lowest_mm) / 2.0)
    grid = Grid.upright((slices, 130, 100), (2.0, 2.0, 2.0), (-99.0, -119.0, lowest_mm + 1.0))
    per_cm = on_grid(grid, I_KEV, subsamples=2).mu.per_cm
    hu = np.interp(per_cm, ct.tissue_mu(I_KEV), ct.tissue_hu(120.0))
    hu[:, 110:114] = 100.0
    return CTVolume(hu.astype(np.float32), grid, 120.0)


def displaced(volume, motion):
    return CTVolume(volume.hu, motion.moved_grid(volume.grid), volume.kvp)


needs_simpleitk = pytest.mark.skipif(
    find_spec("SimpleITK") is None,
    reason="SimpleITK is not installed (pip install spectac[ct])",
)


@needs_simpleitk
@pytest.mark.parametrize(
    ("seed", "angle_deg", "distance_mm", "extent_mm"),
    [
        pytest.param(1, 6.0, 12.0, (-134.0, 134.0), id="12mm-6deg", marks=pytest.mark.slow),
        pytest.param(2, 10.0, 60.0, (-134.0, 60.0), id="60mm-10deg-crown-cut-off", marks=pytest.mark.slow),
    ],
)
def test_displaced_head_is_registered_back(preview, figure, seed, angle_deg, distance_mm, extent_mm):
    """Within 2 mm (half a voxel of the preview) and 1 deg (1.7 mm at the crown), from 3e6 counts, table and all."""
    motion = random_motion(np.random.default_rng(seed), angle_deg, distance_mm)
    found = register(displaced(demo_ct(*extent_mm), motion), preview)
    left = misplaced(found, motion)
    figure(f"registration after {distance_mm:g} mm and {angle_deg:g} deg, error mm", left.distance_mm, "2")
    figure(f"registration after {distance_mm:g} mm and {angle_deg:g} deg, error deg", left.angle_deg, "1")
    assert left.distance_mm <= 2.0
    assert left.angle_deg <= 1.0
    assert found.warning is not None
    assert found.warnings == ()


@pytest.mark.slow
@needs_simpleitk
@pytest.mark.skipif(not HEADS.is_dir(), reason="../shared/data/head_phantom_benauer is not here")
def test_another_head_is_registered_back(figure):
    """A head that nobody here made, from one MR (labels and DAT uptake), blurred by 11 mm, with noise."""
    archive = zipfile.ZipFile(HEADS / "DaT_phantom.zip")
    labels = np.frombuffer(archive.read("DaT_Attenuation_72x90x77.i33"), "<u2").reshape(77, 90, 72)
    source = np.frombuffer(archive.read("DaT_Source_120x120x120.i33"), "<u2").reshape(120, 120, 120)
    hu = np.choose(labels, [-1000.0, 961.0, 48.0, 41.0])
    # The labels sit in the source at (z, y, x) = (21, 16, 23) voxels of 2 mm.
    grid = Grid.upright(labels.shape, (2.0, 2.0, 2.0), (-119.0 + 46.0, -119.0 + 32.0, -119.0 + 42.0))
    values = filters.gaussian(source.astype(np.float32), (2.0, 2.0, 2.0), 11.0)
    values = values.reshape(60, 2, 60, 2, 60, 2).mean(axis=(1, 3, 5))
    noise = np.random.default_rng(4).normal(size=values.shape).astype(np.float32)
    noise = filters.gaussian(noise, (4.0,) * 3, 8.0)
    # 15 % of the brain's 100 units, as in a preview of a million counts.
    values = np.maximum(values + noise * np.float32(15.0 / noise.std()), 0)
    spect = Image(values, Grid.upright((60,) * 3, (4.0,) * 3, (-118.0,) * 3), "relative")
    motion = random_motion(np.random.default_rng(9), 6.0, 12.0)
    left = misplaced(register(displaced(CTVolume(hu, grid, 120.0), motion), spect), motion)
    figure("registration of an independent head, error mm", left.distance_mm, "2")
    figure("registration of an independent head, error deg", left.angle_deg, "1")
    assert left.distance_mm <= 2.0
    assert left.angle_deg <= 1.0


def ball(radius_mm, inside, outside, voxel_mm=8.0, size=32):
    axis = (np.arange(size) - 0.5 * (size - 1)) * voxel_mm
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    values = np.where(np.sqrt(z**2 + y**2 + x**2) < radius_mm, inside, outside)
    return values, Grid.upright((size,) * 3, (voxel_mm,) * 3, (axis[0],) * 3)


@needs_simpleitk
def test_a_body_that_cannot_be_the_head_is_told():
    """A CT of 50 mm radius under a SPECT head of 90 mm: 83 % of the volume lies outside, whatever the shift."""
    hu, ct_grid = ball(50.0, 40.0, -1000.0)
    values, grid = ball(90.0, 1.0, 0.0)
    found = register(CTVolume(hu, ct_grid, 120.0), Image(values, grid, "relative"))
    assert "of the SPECT activity lies outside the CT's body" in found.warnings[0]


@needs_simpleitk
def test_nothing_to_register_is_refused():
    hu, grid = ball(90.0, 40.0, -1000.0)
    empty = Image(np.zeros(grid.shape), grid, "relative")
    with pytest.raises(InputError, match="shows no head"):
        register(CTVolume(hu, grid, 120.0), empty)
    with pytest.raises(InputError, match="nothing in the CT is as dense as tissue"):
        register(CTVolume(np.full(grid.shape, -1000.0), grid, 120.0), Image(np.ones(grid.shape), grid, "relative"))


def test_without_simpleitk_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    hu, grid = ball(90.0, 40.0, -1000.0)
    with pytest.raises(InputError, match=r"pip install 'spectac\[ct\]'"):
        register(CTVolume(hu, grid, 120.0), Image(np.ones(grid.shape), grid, "relative"))
