"""CT series: which slices, in which order, at which millimetre, and every trap of real series by name.

The series here are written by an encoder of their own (below), straight from PS3.3 C.7.6.2, which shares nothing with
spectac's writer. The body is an ellipsoid known in LPS millimetres.
"""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from spectac.recon.ct import CTVolume
from spectac.recon.errors import InputError
from spectac.recon.io.dicom import ct as dicom_ct
from spectac.recon.resample import resample
from spectac.recon.types import Grid

SKULL = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "skull_ct_philips"
needs_skull = pytest.mark.skipif(not SKULL.is_dir(), reason="../shared/data/skull_ct_philips is not here")

CENTRE_MM = np.array([12.0, -31.0, 447.0])
SEMI_AXES_MM = np.array([28.0, 36.0, 44.0])
BODY_HU = 60.0
PIXEL_MM = (1.5, 1.0)  # (row step y, column step x): not square on purpose
SIZE = (80, 90)
AXIAL = (1, 0, 0, 0, 1, 0)
FRAME_UID = "1.2.826.0.1.3680043.8.498.1"


def body_hu(points_mm):
    """HU at LPS points (..., 3): the ellipsoid in air, and a denser bead on its left, front and top side."""
    inside = (((points_mm - CENTRE_MM) / SEMI_AXES_MM) ** 2).sum(axis=-1) <= 1
    bead = ((points_mm - CENTRE_MM - [14, -17, 19]) ** 2).sum(axis=-1) <= 8.0**2
    return np.where(bead, 900.0, np.where(inside, BODY_HU, -1000.0))


@cache
def slice_hu(position, orientation):
    """HU (row, column) of one slice, each the mean of 2 x 2 points of its pixel; most series share their slices."""
    along_x, along_y = np.array(orientation[:3]), np.array(orientation[3:])
    rows, columns = SIZE
    hu = np.zeros(SIZE)
    for part_r in (-0.25, 0.25):
        for part_c in (-0.25, 0.25):
            r = (np.arange(rows)[:, None, None] + part_r) * PIXEL_MM[0]
            c = (np.arange(columns)[None, :, None] + part_c) * PIXEL_MM[1]
            hu += body_hu(np.array(position) + r * along_y + c * along_x) / 4
    return hu


def slice_file(position, orientation=AXIAL, *, series="1.2.3.4", pixels=None, **other):
    """Data set of one slice of the body; pixel (r, c) lies at position + c dx (row vector) + r dy (column vector)."""
    hu = slice_hu(tuple(map(float, position)), tuple(map(float, orientation)))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.Modality, file.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    file.SeriesInstanceUID, file.SeriesNumber, file.SeriesDescription = series, 7, "HEAD"
    file.FrameOfReferenceUID, file.KVP = FRAME_UID, "120"
    file.PatientName, file.PatientID, file.PatientPosition = "DOE^JANE", "42", "HFS"
    file.StudyInstanceUID = "1.2.3"
    file.InstanceNumber = 1
    file.ImagePositionPatient = [f"{value:.4f}" for value in position]
    file.ImageOrientationPatient = [f"{value:.8f}" for value in orientation]
    file.PixelSpacing = [str(PIXEL_MM[0]), str(PIXEL_MM[1])]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.Rows, file.Columns = SIZE
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 1
    file.RescaleSlope, file.RescaleIntercept = "2", "-1024"
    stored = np.rint((hu + 1024) / 2) if pixels is None else pixels
    file.PixelData = stored.astype("<i2").tobytes()
    for keyword, value in other.items():
        if value is None:
            delattr(file, keyword)
        else:
            setattr(file, keyword, value)
    return file


def save(folder, files, seed=3):
    """Write data sets under names, and with instance numbers, that have nothing to do with their order."""
    folder.mkdir(exist_ok=True)
    shuffled = np.random.default_rng(seed).permutation(len(files))
    paths = []
    for name, file in zip(shuffled, files, strict=True):
        file.InstanceNumber = int(name) + 1
        paths.append(folder / f"I{name}")
        file.save_as(paths[-1], enforce_file_format=True)
    return paths


CORNER = CENTRE_MM - [45.0, 60.0, 0.0]
EVEN_Z = np.arange(395.0, 500.0, 3.0)


def axial_series(heights=EVEN_Z, **other):
    return [slice_file((CORNER[0], CORNER[1], z), **other) for z in heights]


def surface_errors_mm(volume):
    """Where the body's surface is found along lines from its centre, minus where it is, in mm.

    The surface lies where the HU are midway between body and air; lines that meet the bead are left out.
    """
    centre = CENTRE_MM - [8.0, -8.0, 12.0]
    errors = []
    steps = np.arange(0.0, 70.0, 0.25)
    inverse = np.linalg.inv(volume.grid.affine_lps)
    from scipy.ndimage import map_coordinates

    for direction in np.array(np.meshgrid([-1, 0, 1], [-1, 0, 1], [-1, 0, 1])).reshape(3, -1).T:
        if not direction.any() or tuple(np.sign(direction)) == (1, -1, 1):
            continue
        unit = direction / np.linalg.norm(direction)
        points = centre + steps[:, None] * unit
        index = inverse[:3, :3] @ points.T + inverse[:3, 3:]
        hu = map_coordinates(volume.hu, index, order=1, mode="constant", cval=-1000.0)
        found = steps[np.argmax(hu < 0.5 * (BODY_HU - 1000.0))]
        a = ((unit / SEMI_AXES_MM) ** 2).sum()
        b = ((centre - CENTRE_MM) * unit / SEMI_AXES_MM**2).sum()
        c = (((centre - CENTRE_MM) / SEMI_AXES_MM) ** 2).sum() - 1
        errors.append(found - (-b + np.sqrt(b**2 - a * c)) / a)
    return np.array(errors)


def bead_mm(volume):
    """LPS centre of what is denser than 500 HU."""
    places = np.argwhere(volume.hu > 500)
    return (places @ volume.grid.affine_lps[:3, :3].T + volume.grid.affine_lps[:3, 3]).mean(axis=0)


BEAD_MM = CENTRE_MM + np.array([14, -17, 19])


def test_even_series_in_any_order_of_files(tmp_path, figure):
    paths = save(tmp_path / "ct", axial_series())
    volume = dicom_ct.read_series(tmp_path / "ct")
    assert volume.grid.is_upright
    assert volume.grid.voxel_mm == pytest.approx((3.0, 1.5, 1.0))
    assert volume.grid.affine_lps[:3, 3] == pytest.approx([CORNER[0], CORNER[1], EVEN_Z[0]])
    # Half a slice: the surface between two slices is known no better.
    worst = np.abs(surface_errors_mm(volume)).max()
    figure("even CT series, surface of the ellipsoid, worst mm", worst, "1.5")
    assert worst <= 1.5
    assert volume.kvp == 120
    assert volume.frame_of_reference_uid == FRAME_UID
    assert volume.patient["PatientName"] == "DOE^JANE"
    assert volume.warnings == ()
    again = dicom_ct.read_series(paths[::-1])
    assert np.array_equal(again.hu, volume.hu)


def test_tilted_gantry_and_uneven_slices(tmp_path, figure):
    """Slices tilted by 18 deg, carried along z by the table, 2 mm apart in the lower half and 4 and 5 above."""
    tilt = np.deg2rad(18.0)
    orientation = (1, 0, 0, 0, np.cos(tilt), np.sin(tilt))
    table = np.r_[np.arange(350.0, 440.0, 2.0), np.arange(440.0, 470.0, 4.0), np.arange(470.0, 541.0, 5.0)]
    files = [slice_file((CORNER[0], CORNER[1], z - 20.0), orientation, GantryDetectorTilt="-18") for z in table]
    save(tmp_path / "ct", files)
    volume = dicom_ct.read_series(tmp_path / "ct")
    assert any("gantry tilt 18.0 deg" in line for line in volume.history)
    assert any("uneven CT slices, 1.90 to 4.76 mm apart" in line for line in volume.history)
    cosines = volume.grid.affine_lps[:3, :3] / np.array(volume.grid.voxel_mm)
    assert np.abs(cosines.T @ cosines - np.eye(3)).max() < 1e-6
    errors = surface_errors_mm(volume)
    # A voxel is 1.9 x 1.5 x 1 mm. A reader that takes the slices for a straight stack is wrong by 18 mm at the top.
    figure("tilted uneven CT series, surface of the ellipsoid, worst mm", np.abs(errors).max(), "1.9")
    assert np.abs(errors).max() <= 1.9
    assert np.abs(errors.mean()) <= 0.5
    assert np.abs(bead_mm(volume) - BEAD_MM).max() <= 1.0


def test_ignoring_the_shear_would_be_seen(tmp_path):
    """The test above can fail: the same slices laid straight on each other are centimetres off."""
    tilt = np.deg2rad(18.0)
    orientation = (1, 0, 0, 0, np.cos(tilt), np.sin(tilt))
    save(tmp_path / "ct", [slice_file((CORNER[0], CORNER[1], z), orientation) for z in np.arange(340.0, 510.0, 2.0)])
    volume = dicom_ct.read_series(tmp_path / "ct")
    sheared = np.array(volume.grid.affine_lps)
    sheared[:3, 0] = [0, 0, 2.0 * np.cos(tilt)]
    wrong = CTVolume(volume.hu, Grid(volume.grid.shape, tuple(np.linalg.norm(sheared[:3, :3], axis=0)), sheared), 120.0)
    assert np.abs(surface_errors_mm(wrong)).max() > 5.0
    assert np.abs(surface_errors_mm(volume)).max() <= 2.0


@pytest.mark.parametrize(
    "orientation",
    [
        pytest.param((-1, 0, 0, 0, -1, 0), id="prone"),
        pytest.param((-1, 0, 0, 0, 1, 0), id="feet-first-unflipped"),
        pytest.param((1, 0, 0, 0, 0, -1), id="coronal"),
        pytest.param((0, 1, 0, 0, 0, -1), id="sagittal"),
    ],
)
def test_other_orientations_come_out_upright(tmp_path, orientation):
    """Whatever the order and sign of the file's axes, the bead lies at its millimetre and the grid is upright."""
    along_x, along_y = np.array(orientation[:3], float), np.array(orientation[3:], float)
    normal = np.cross(along_x, along_y)
    corner = CENTRE_MM - along_x * 45 - along_y * 60
    save(tmp_path / "ct", [slice_file(corner + normal * s, orientation) for s in np.arange(-54.0, 55.0, 2.0)])
    volume = dicom_ct.read_series(tmp_path / "ct", series=7)
    assert volume.grid.is_upright
    assert np.abs(bead_mm(volume) - BEAD_MM).max() <= 1.0
    assert np.abs(surface_errors_mm(volume)).max() <= 1.5


def test_missing_slice_is_bridged_and_told(tmp_path):
    save(tmp_path / "ct", axial_series(np.delete(EVEN_Z, 12)))
    volume = dicom_ct.read_series(tmp_path / "ct")
    assert volume.grid.shape[0] == EVEN_Z.size
    assert len(volume.warnings) == 1
    assert "6.0 mm without a slice between" in volume.warnings[0]
    assert np.abs(surface_errors_mm(volume)).max() <= 3.0


def test_gap_of_more_than_20_mm_is_refused(tmp_path):
    save(tmp_path / "ct", axial_series(np.delete(EVEN_Z, range(10, 17))))
    with pytest.raises(InputError, match=r"24\.0 mm without a slice between"):
        dicom_ct.read_series(tmp_path / "ct")


def test_repeated_slices(tmp_path):
    """The same image twice is dropped; two different ones at one place (two phases) are refused."""
    save(tmp_path / "ct", [*axial_series(), *axial_series(EVEN_Z[4:6])])
    volume = dicom_ct.read_series(tmp_path / "ct")
    assert volume.grid.shape[0] == EVEN_Z.size
    assert "2 repeated slices left out" in volume.history
    other = slice_file((CORNER[0], CORNER[1], EVEN_Z[4]), pixels=np.full(SIZE, 500))
    save(tmp_path / "two", [*axial_series(), other])
    with pytest.raises(
        InputError, match=r"two different images at one position \(\(0020,0032\) ImagePositionPatient\)"
    ):
        dicom_ct.read_series(tmp_path / "two")


def test_overlapping_slices_are_no_trouble(tmp_path):
    """Slices of 5 mm every 2 mm: positions count, not the thickness."""
    save(tmp_path / "ct", axial_series(np.arange(395.0, 500.0, 2.0), SliceThickness="5", SpacingBetweenSlices="5"))
    volume = dicom_ct.read_series(tmp_path / "ct")
    assert volume.grid.voxel_mm[0] == pytest.approx(2.0)
    assert volume.warnings == ()


def test_several_series_choose_or_refuse_with_the_list(tmp_path):
    """A scout and a coronal reformat leave one axial CT; a second axial one needs `series=`."""
    coronal = [slice_file(CENTRE_MM - [45, -y, -60], (1, 0, 0, 0, 0, -1), series="1.2.9") for y in (-2.0, 0.0, 2.0)]
    scout = slice_file(CORNER, series="1.2.8", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    folder = tmp_path / "ct"
    folder.mkdir()
    save(folder / "a", axial_series())
    save(folder / "b", coronal)
    save(folder / "c", [scout])
    (folder / "LICENSE").write_text("not an image")
    assert dicom_ct.read_series(folder).grid.shape[0] == EVEN_Z.size
    save(folder / "d", axial_series(EVEN_Z[::2], series="1.2.7", SeriesNumber=8, SeriesDescription="THICK"))
    with pytest.raises(InputError, match=r"2 CT series would do.*7 'HEAD', 35 slices.*8 'THICK', 18 slices, 1\.2\.7"):
        dicom_ct.read_series(folder)
    assert dicom_ct.read_series(folder, series=8).grid.shape[0] == 18
    assert dicom_ct.read_series(folder, series="1.2.7").grid.shape[0] == 18
    with pytest.raises(InputError, match=r"several CT series have the number or UID 7"):
        dicom_ct.read_series(folder, series="7")
    with pytest.raises(InputError, match=r"no CT series has the number or UID 99; there are: .*THICK"):
        dicom_ct.read_series(folder, series=99)


def test_localizer_inside_the_series_is_left_out(tmp_path):
    scout = slice_file(CENTRE_MM, (0, 1, 0, 0, 0, -1), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    save(tmp_path / "ct", [*axial_series(), scout])
    volume = dicom_ct.read_series(tmp_path / "ct")
    assert "1 localizers left out" in volume.history
    assert volume.grid.shape[0] == EVEN_Z.size


def test_padding_and_values_below_air_become_air(tmp_path):
    """Stored -999 is padding; stored -1000 with slope 2 would be -3024 HU, as outside a round field of view."""
    files = axial_series(EVEN_Z, PixelPaddingValue=-999)
    for file in files:
        pixels = np.frombuffer(file.PixelData, "<i2").reshape(SIZE).copy()
        pixels[:4], pixels[-4:] = -999, -1000
        file.PixelData = pixels.tobytes()
    save(tmp_path / "ct", files)
    volume = dicom_ct.read_series(tmp_path / "ct")
    assert volume.hu.min() == -1000
    assert np.all(volume.hu[:, :4] == -1000)
    assert np.all(volume.hu[:, -4:] == -1000)
    assert any(f"{EVEN_Z.size * 4 * SIZE[1]} padded CT pixels" in line for line in volume.history)
    assert volume.warnings == ()


def test_padding_that_stands_for_tissue_is_told(tmp_path):
    """Padding 542 = 60 HU, the body's own value: honoured, as the standard says, and the user is warned."""
    save(tmp_path / "ct", axial_series(EVEN_Z, PixelPaddingValue=542))
    volume = dicom_ct.read_series(tmp_path / "ct")
    assert any("stands for 60 HU, as tissue may have" in line for line in volume.warnings)


def test_rescale_is_taken_slice_by_slice(tmp_path):
    files = axial_series()
    for number, file in enumerate(files):
        slope = 1 + number % 2
        stored = (np.frombuffer(file.PixelData, "<i2") * 2) // slope
        file.RescaleSlope, file.PixelData = str(slope), stored.astype("<i2").tobytes()
    save(tmp_path / "mixed", files)
    save(tmp_path / "plain", axial_series())
    mixed, plain = dicom_ct.read_series(tmp_path / "mixed"), dicom_ct.read_series(tmp_path / "plain")
    assert np.abs(mixed.hu - plain.hu).max() == 0


def test_tilt_without_a_tilted_orientation_is_told(tmp_path):
    save(tmp_path / "ct", axial_series(EVEN_Z, GantryDetectorTilt="15"))
    (warning,) = dicom_ct.read_series(tmp_path / "ct").warnings
    assert "(0018,1120) GantryDetectorTilt is 15 deg but ImageOrientationPatient shows no tilt" in warning


@pytest.mark.parametrize("value", ["", "0", None])
def test_missing_kvp_is_told(tmp_path, value):
    save(tmp_path / "ct", axial_series(EVEN_Z, KVP=value))
    volume = dicom_ct.read_series(tmp_path / "ct")
    assert volume.kvp is None
    (warning,) = volume.warnings
    assert "tube voltage (KVP) is unknown: 120 kV is assumed; --tube-voltage-kv gives it" in warning


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RescaleIntercept": None}, r"\(0028,1052\) RescaleIntercept is missing"),
        ({"RescaleSlope": "0"}, r"\(0028,1053\) RescaleSlope is 0"),
        ({"RescaleType": "OD"}, r"\(0028,1054\) RescaleType is OD: CT numbers in HU"),
        ({"PixelSpacing": None}, r"\(0028,0030\) PixelSpacing is missing"),
        ({"PixelSpacing": ["0", "1"]}, r"\(0028,0030\) PixelSpacing is 0 x 1 mm"),
        ({"ImagePositionPatient": None}, r"\(0020,0032\) ImagePositionPatient is missing"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.5, 0.5, 0]}, r"\(0020,0037\) ImageOrientationPatient is not two unit"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0.9998, 0.02]}, r"ImageOrientationPatient is .*unlike"),
        ({"NumberOfFrames": 3}, r"\(0028,0008\) NumberOfFrames is 3: one slice a file"),
        ({"PatientID": "43"}, r"\(0010,0020\) PatientID is not that of .* slices of 2 people cannot be one CT"),
        ({"KVP": "80"}, r"\(0018,0060\) KVP is .*unlike"),
        ({"FrameOfReferenceUID": "1.9"}, r"\(0020,0052\) FrameOfReferenceUID is .*unlike"),
        ({"PixelData": b"\0\0" * 100}, r"\(7fe0,0010\) PixelData holds 200 bytes"),
        ({"Rows": 60000}, r"\(0028,0010\) Rows is 60000 x 90, unlike"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_one_unfit_slice_is_refused_by_name(tmp_path, change, message):
    """The error names the file, the tag and the keyword."""
    files = axial_series()
    files[9] = slice_file((CORNER[0], CORNER[1], EVEN_Z[9]), **change)
    paths = save(tmp_path / "ct", files)
    with pytest.raises(InputError, match=message) as caught:
        dicom_ct.read_series(tmp_path / "ct")
    assert str(paths[9]) in str(caught.value) or "unlike" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_voltage_outside_the_curve_is_refused_and_can_be_given(tmp_path):
    save(tmp_path / "ct", axial_series(EVEN_Z, KVP="60"))
    with pytest.raises(InputError, match=r"of 70 to 150 kV, not for 60 kV \(KVP\): .*--tube-voltage-kv"):
        dicom_ct.read_series(tmp_path / "ct")
    volume = dicom_ct.read_series(tmp_path / "ct", tube_voltage_kv=100.0)
    assert volume.kvp == 100.0
    assert "tube voltage 100 kV as given; the files say 60 kV (KVP)" in volume.history


def test_voltage_in_volts_is_read(tmp_path):
    save(tmp_path / "ct", axial_series(EVEN_Z, KVP="120000"))
    volume = dicom_ct.read_series(tmp_path / "ct")
    assert volume.kvp == 120.0
    assert any("taken for volts" in line for line in volume.warnings)


PIXEL_WORDS = ("PhotometricInterpretation", "PixelRepresentation", "SamplesPerPixel", "BitsStored", "HighBit")


@pytest.mark.parametrize("missing", [*((word,) for word in PIXEL_WORDS), PIXEL_WORDS], ids=lambda words: words[0])
def test_what_the_pixels_tell_themselves_may_be_missing(tmp_path, missing):
    """Air has stored 12, the pixels are signed: a slice with negative ones (padding) stays signed."""
    files = axial_series(EVEN_Z, **dict.fromkeys(missing))
    pixels = np.frombuffer(files[3].PixelData, "<i2").copy()
    pixels[:50] = -1000
    files[3].PixelData = pixels.tobytes()
    save(tmp_path / "lean", files)
    save(tmp_path / "plain", axial_series())
    lean, plain = dicom_ct.read_series(tmp_path / "lean"), dicom_ct.read_series(tmp_path / "plain")
    np.testing.assert_array_equal(lean.hu, plain.hu)
    (warning,) = lean.warnings
    assert all(word in warning for word in missing)


@pytest.mark.parametrize(
    "change",
    [
        {"GantryDetectorTilt": "steep"},
        {"KVP": "high"},
        {"RescaleSlope": None, "KVP": "120"},
        {"SeriesInstanceUID": None},
        {"PatientSex": "unknown to all"},
        {"RescaleType": "Hounsfield units"},
        {"FrameOfReferenceUID": None, "KVP": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_one_odd_slice_costs_no_image(tmp_path, change):
    """Elements that the image does not depend on, or that the other slices tell, are left out with a note at most."""
    files = [slice_file((CORNER[0], CORNER[1], z), RescaleSlope="1", pixels=None) for z in EVEN_Z]
    odd = slice_file((CORNER[0], CORNER[1], EVEN_Z[9]), RescaleSlope="1")
    for keyword, value in change.items():
        if value is None:
            delattr(odd, keyword)
        else:
            odd[keyword] = RawDataElement(
                Tag(tag_for_keyword(keyword)), dictionary_VR(keyword), len(value), value.encode(), 0, False, True
            )
    files[9] = odd
    save(tmp_path / "ct", files)
    volume = dicom_ct.read_series(tmp_path / "ct")
    assert volume.grid.shape[0] == EVEN_Z.size
    assert (volume.kvp, volume.frame_of_reference_uid) == (120.0, FRAME_UID)
    assert len(volume.warnings) <= 1


def test_warnings_of_all_slices_are_one_line(tmp_path):
    save(tmp_path / "ct", axial_series(EVEN_Z, RescaleSlope=None))
    volume = dicom_ct.read_series(tmp_path / "ct")
    assert volume.warnings == ("CT: (0028,1053) RescaleSlope is missing: 1 is assumed",)


def test_padding_of_the_other_sign_is_padding(tmp_path):
    """-2000 written as unsigned 63536 into PixelPaddingValue of signed pixels."""
    files = axial_series()
    for file in files:
        pixels = np.frombuffer(file.PixelData, "<i2").reshape(SIZE).copy()
        pixels[:4] = -2000
        file.PixelData = pixels.tobytes()
        file.add_new(0x00280120, "US", 63536)
    save(tmp_path / "ct", files)
    volume = dicom_ct.read_series(tmp_path / "ct")
    assert any("padded CT pixels" in line for line in volume.history)
    assert not volume.covered[:, :4].any()
    assert volume.covered[:, 4:].all()


def test_pixels_below_all_air_hold_no_data(tmp_path):
    """-3024 HU without PixelPaddingValue, outside a round field of view: not covered. Noisy air (-1100) is."""
    files = axial_series()
    for file in files:
        pixels = np.frombuffer(file.PixelData, "<i2").reshape(SIZE).copy()
        pixels[:4], pixels[4:8] = -1000, (-1100 + 1024) // 2
        file.PixelData = pixels.tobytes()
    save(tmp_path / "ct", files)
    volume = dicom_ct.read_series(tmp_path / "ct")
    assert not volume.covered[:, :4].any()
    assert volume.covered[:, 4:].all()
    save(tmp_path / "plain", axial_series())
    assert dicom_ct.read_series(tmp_path / "plain").covered is None


def test_two_people_in_one_folder_are_never_mixed(tmp_path):
    (tmp_path / "ct").mkdir()
    save(tmp_path / "ct" / "a", axial_series())
    save(tmp_path / "ct" / "b", axial_series(series="1.2.7", SeriesNumber=8, PatientID="77"))
    with pytest.raises(InputError, match=r"2 CT series of 2 people \(PatientID\) would do") as caught:
        dicom_ct.read_series(tmp_path / "ct")
    assert "DOE" not in str(caught.value)
    volume = dicom_ct.read_series(tmp_path / "ct", series=8)
    assert volume.patient["PatientID"] == "77"


def test_a_dicomdir_stands_for_its_folder(tmp_path):
    """A DICOMDIR names its class in the meta information only."""
    save(tmp_path / "disc", axial_series(EVEN_Z[:6]))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = generate_uid(), ExplicitVRLittleEndian
    listing = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    listing.FileSetID, listing.DirectoryRecordSequence = "DISC", []
    listing.save_as(tmp_path / "disc" / "DICOMDIR", enforce_file_format=True)
    assert dicom_ct.read_series(tmp_path / "disc" / "DICOMDIR").grid.shape[0] == 6


def test_a_packed_series_is_named(tmp_path):
    (tmp_path / "ct.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"ct\.zip is packed: unpack it"):
        dicom_ct.read_series(tmp_path)


@pytest.mark.parametrize("name", ["ct.zip", "slice.dcm.gz"])
def test_a_packed_file_given_by_itself_is_named(tmp_path, name):
    start = {"ct.zip": b"PK\x03\x04", "slice.dcm.gz": b"\x1f\x8b\x08"}[name]
    (tmp_path / name).write_bytes(start + bytes(100))
    with pytest.raises(InputError, match=r"this is a (zip|gzip) archive: unpack it"):
        dicom_ct.read_series(tmp_path / name)


def test_a_folder_of_enhanced_ct_alone_is_refused(tmp_path):
    save(tmp_path / "ct", [slice_file(CORNER, SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1")])
    with pytest.raises(InputError, match=r"I0: \(0008,0016\) SOPClassUID is Enhanced CT, many slices"):
        dicom_ct.read_series(tmp_path / "ct")


def test_foreign_files_beside_a_series_cost_no_ct(tmp_path):
    """An Enhanced CT of another series and a damaged file lie in the folder: left aside with one warning."""
    save(tmp_path / "ct", axial_series())
    other = slice_file(CORNER, series="1.2.9")
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    other.save_as(tmp_path / "ct" / "multi", enforce_file_format=True)
    (tmp_path / "ct" / "noise").write_bytes(bytes(128) + b"DICM" + np.random.default_rng(1).bytes(3000))
    volume = dicom_ct.read_series(tmp_path / "ct")
    assert volume.grid.shape[0] == EVEN_Z.size
    (warning,) = volume.warnings
    assert re.search(r"2 files of the folder were left aside: .*multi: .*Enhanced CT", warning)


@pytest.mark.parametrize("size", [400, 900, 5000])
def test_a_cut_slice_in_a_folder_is_refused(tmp_path, size):
    """Left aside it would leave a gap in the volume."""
    path = save(tmp_path / "ct", axial_series())[5]
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=path.name):
        dicom_ct.read_series(tmp_path / "ct")


def test_slices_of_several_voltages_need_the_option(tmp_path):
    files = axial_series()
    files[9] = slice_file((CORNER[0], CORNER[1], EVEN_Z[9]), KVP="100")
    save(tmp_path / "ct", files)
    with pytest.raises(InputError, match=r"\(0018,0060\) KVP is .* or the voltage of all with --tube-voltage-kv"):
        dicom_ct.read_series(tmp_path / "ct")
    volume = dicom_ct.read_series(tmp_path / "ct", tube_voltage_kv=110.0)
    assert volume.kvp == 110.0
    assert "tube voltage 110 kV as given; the files say 100 and 120 kV (KVP)" in volume.history
    with pytest.raises(InputError, match=r"70 to 150 kV, not for 200 kV \(--tube-voltage-kv\)$"):
        dicom_ct.read_series(tmp_path / "ct", tube_voltage_kv=200.0)


def test_decimal_commas_are_one_line_a_keyword(tmp_path):
    """Each slice lies elsewhere, so that each has another text in ImagePositionPatient."""
    paths = save(tmp_path / "ct", axial_series(KVP="120.0"))
    for number, path in enumerate(paths):
        content = path.read_bytes().replace(b"120.0", b"120,0")
        z = f"{EVEN_Z[number]:.4f}".encode()
        assert z in content
        path.write_bytes(content.replace(z, z.replace(b".", b",")))
    volume = dicom_ct.read_series(tmp_path / "ct")
    assert volume.kvp == 120.0
    assert len(volume.warnings) == 2
    assert any("ImagePositionPatient has decimal commas" in line and "(35 slices)" in line for line in volume.warnings)


def test_a_missing_orientation_is_named_where_no_series_is_axial(tmp_path):
    save(tmp_path / "ct", axial_series(ImageOrientationPatient=None))
    with pytest.raises(InputError, match=r"no axial CT .*\(0020,0037\) ImageOrientationPatient is missing in I"):
        dicom_ct.read_series(tmp_path / "ct")


def test_slices_that_wander_sideways_are_refused(tmp_path):
    files = [slice_file((CORNER[0] + 5.0 * k, CORNER[1], z)) for k, z in enumerate(EVEN_Z)]
    save(tmp_path / "ct", files)
    with pytest.raises(InputError, match="moves more along the slices than across them"):
        dicom_ct.read_series(tmp_path / "ct")


def test_nothing_to_read(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="no CT slice"):
        dicom_ct.read_series(tmp_path)
    with pytest.raises(InputError, match="not a DICOM file"):
        dicom_ct.read_series([tmp_path / "notes.txt"])
    with pytest.raises(InputError, match="no such file or folder"):
        dicom_ct.read_series(tmp_path / "absent")
    save(tmp_path / "one", axial_series(EVEN_Z[:1]))
    with pytest.raises(InputError, match=r"no axial CT of at least 3 slices: .*; there are: 7 'HEAD', 1 slices"):
        dicom_ct.read_series(tmp_path / "one")
    with pytest.raises(InputError, match="one slice only"):
        dicom_ct.read_series(tmp_path / "one", series=7)


def test_control_characters_of_a_file_stay_out_of_messages(tmp_path):
    """A damaged text must not break the one line of an error."""
    path = save(tmp_path / "ct", axial_series())[9]
    path.write_bytes(path.read_bytes().replace(FRAME_UID.encode(), FRAME_UID.replace("826", "8\n6").encode()))
    with pytest.raises(InputError, match=r"FrameOfReferenceUID is 1\.2\.8 6\.0.*unlike"):
        dicom_ct.read_series(tmp_path / "ct")


@pytest.mark.parametrize("seed", range(3))
def test_mutated_files_give_a_volume_or_one_clear_line(tmp_path, seed):
    """Header bytes of one slice of four overwritten at random, 100 times, or the file cut short."""
    rng = np.random.default_rng(seed)
    hu = rng.normal(0, 100, (4, 12, 13))
    volume = CTVolume(hu, Grid.upright(hu.shape, (3.0, 1.0, 1.0), (0, 0, 0)), 120.0)
    path = dicom_ct.write_series(tmp_path, volume)[1]
    content = path.read_bytes()
    refused = []
    for _ in range(100):
        changed = bytearray(content[: rng.integers(0, len(content))] if rng.random() < 0.2 else content)
        for _ in range(rng.integers(1, 6)):
            if len(changed) > 128:
                changed[rng.integers(128, len(changed))] = rng.integers(0, 256)
        path.write_bytes(changed)
        try:
            read = dicom_ct.read_series(tmp_path)
        except InputError as error:
            refused.append(str(error))
        else:
            assert np.isfinite(read.hu).all()
            assert read.hu.size <= 5 * hu.size
    assert 10 < len(refused) < 100
    assert not [message for message in refused if "\n" in message or len(message) > 1000]


def test_truncated_file_is_refused(tmp_path):
    paths = save(tmp_path / "ct", axial_series())
    for size in (200, 900, 5000):
        content = paths[5].read_bytes()
        (tmp_path / "ct" / "cut").write_bytes(content[:size])
        with pytest.raises(InputError):
            dicom_ct.read_series([*paths[:5], tmp_path / "ct" / "cut", *paths[6:]])


@pytest.mark.parametrize("tilt_deg", [0.0, 12.0])
def test_round_trip_of_the_writer(tmp_path, tilt_deg):
    """HU to the rounding of half a unit, positions to a micrometre, patient and frame of reference as given."""
    rng = np.random.default_rng(1)
    turn = np.deg2rad(tilt_deg)
    affine = np.eye(4)
    affine[:3, 0] = np.array([0, -np.sin(turn), np.cos(turn)]) * 2.5
    affine[:3, 1] = np.array([0, np.cos(turn), np.sin(turn)]) * 1.25
    affine[:3, 2] = [0.75, 0, 0]
    affine[:3, 3] = [-31.3, 17.7, -250.125]
    hu = rng.uniform(-1000, 3000, (6, 10, 12)).astype(np.float32)
    volume = CTVolume(hu, Grid(hu.shape, (2.5, 1.25, 0.75), affine), 100.0, FRAME_UID, patient={"PatientID": "7"})
    paths = dicom_ct.write_series(tmp_path / "ct", volume, patient={"PatientName": "DOE^JOHN"}, series_number=5)
    assert len(paths) == 6
    again = dicom_ct.read_series(tmp_path / "ct", series=5)
    assert np.abs(again.hu - hu).max() <= 0.5
    assert np.abs(again.grid.affine_lps - affine).max() <= 1e-3
    assert again.kvp == 100
    assert again.frame_of_reference_uid == FRAME_UID
    assert (again.patient["PatientName"], again.patient["PatientID"]) == ("DOE^JOHN", "7")


def test_writer_refuses_a_sheared_grid(tmp_path):
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 0] = [0, 0.6, 0.8]
    volume = CTVolume(np.zeros((3, 4, 5), np.float32), Grid((3, 4, 5), (1, 1, 1), affine), 120.0)
    with pytest.raises(InputError, match="right angles"):
        dicom_ct.write_series(tmp_path / "ct", volume)


def test_written_files_satisfy_dciodvfy(tmp_path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian dicom3tools) is not installed")
    volume = CTVolume(np.zeros((2, 4, 5), np.float32), Grid.upright((2, 4, 5), (2.0, 1.0, 1.0), (0, 0, 0)), 120.0)
    about = {"PatientName": "DOE^JOHN", "PatientID": "7", "StudyDate": "20260101", "StudyTime": "120000"}
    for path in dicom_ct.write_series(tmp_path / "ct", volume, patient=about):
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []


def test_simpleitk_places_the_written_series_alike(tmp_path):
    """An independent reader: a bead of one voxel lies at the same LPS millimetre."""
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK reads the series back (pip install spectac[ct])")
    hu = np.full((8, 12, 14), -1000, np.float32)
    hu[5, 3, 9] = 1000
    grid = Grid.upright(hu.shape, (3.0, 2.0, 1.5), (-20.0, 13.0, 400.0))
    paths = dicom_ct.write_series(tmp_path / "ct", CTVolume(hu, grid, 120.0))
    image = sitk.ReadImage([str(path) for path in paths])
    z, y, x = np.argwhere(sitk.GetArrayFromImage(image) > 0)[0].tolist()
    # x = -20 + 9 * 1.5, y = 13 + 3 * 2, z = 400 + 5 * 3
    assert image.TransformIndexToPhysicalPoint((x, y, z)) == pytest.approx((-6.5, 19.0, 415.0))


@needs_skull
def test_real_series_lies_where_its_files_say(tmp_path):
    """28 slices whose names sort wrongly (I100 before I20): a file's densest pixel lies where its header puts it."""
    volume = dicom_ct.read_series(SKULL)
    assert volume.grid.shape == (28, 512, 512)
    assert volume.grid.voxel_mm == pytest.approx((5.0, 0.451171875, 0.451171875))
    assert volume.warnings == ()
    file = pydicom.dcmread(SKULL / "I100")
    r, c = np.unravel_index(int(file.pixel_array.argmax()), (512, 512))
    point = np.array(file.ImagePositionPatient, float) + np.array([c, r, 0]) * 0.451171875
    index = np.linalg.solve(volume.grid.affine_lps, [*point, 1])[:3]
    assert index == pytest.approx(np.rint(index), abs=1e-3)
    z, y, x = np.rint(index).astype(int)
    assert volume.hu[z, y, x] == file.pixel_array.max() - 1024.0


def test_ct_lands_on_a_spect_grid_of_64_by_128(tmp_path):
    """Rows and columns that differ, voxels that are not cubes: the bead is found at its place after resampling."""
    save(tmp_path / "ct", axial_series())
    volume = dicom_ct.read_series(tmp_path / "ct")
    grid = Grid.upright((32, 64, 64), (4.0, 2.0, 2.0), tuple(CENTRE_MM - [63.0, 63.0, 62.0]))
    hu = resample(volume.hu, volume.grid, grid, outside=-1000.0)
    places = np.argwhere(hu > 300)
    found = (places @ grid.affine_lps[:3, :3].T + grid.affine_lps[:3, 3]).mean(axis=0)
    assert np.abs(found - BEAD_MM).max() <= 2.0
