import gzip
import json

import nibabel
import numpy as np
import pytest

from spectac.recon.errors import InputError
from spectac.recon.io.nifti import (
    placement_notes,
    read_image,
    read_labels,
    read_mu_map,
    read_noted_mu_map,
    write_image,
    write_labels,
    write_mu_map,
)
from spectac.recon.types import Grid, Image, MuMap

# Voxel index (z, y, x) = (0, 0, 0) at LPS (-10, -20, 30) mm; z 5 mm to superior, y and x 2 mm to posterior and left.
GRID = Grid.upright((4, 3, 2), (5.0, 2.0, 2.0), (-10.0, -20.0, 30.0))
VALUES = np.arange(24, dtype=np.float32).reshape(4, 3, 2)


def test_written_file_has_literal_ras_positions_and_order(tmp_path):
    """RAS = (-L, -P, S): the first voxel lies at (10, 20, 30), x falls, y falls, z grows; the array is (x, y, z)."""
    write_image(tmp_path / "a.nii.gz", Image(VALUES, GRID, "cps/mL", history=("one", "two")))
    file = nibabel.load(tmp_path / "a.nii.gz")
    wanted = [[-2, 0, 0, 10], [0, -2, 0, 20], [0, 0, 5, 30], [0, 0, 0, 1]]
    assert file.affine.tolist() == wanted
    assert file.get_qform() == pytest.approx(np.array(wanted))
    assert file.header.get_xyzt_units()[0] == "mm"
    assert file.shape == (2, 3, 4)
    assert np.asarray(file.dataobj)[1, 2, 3] == VALUES[3, 2, 1]
    assert json.loads((tmp_path / "a.json").read_text()) == {"Units": "cps/mL", "History": ["one", "two"]}


def test_further_keys_stand_beside_unit_and_history_and_cannot_replace_them(tmp_path):
    about = {"Modality": "NM", "FrameDuration": [1200.0], "Units": "Bq/mL"}
    write_image(tmp_path / "a.nii", Image(VALUES, GRID, "kBq/mL", history=("one",)), about)
    written = json.loads((tmp_path / "a.json").read_text())
    assert written == {"Modality": "NM", "FrameDuration": [1200.0], "Units": "kBq/mL", "History": ["one"]}
    assert about["Units"] == "Bq/mL"
    assert read_image(tmp_path / "a.nii").unit == "kBq/mL"


def test_the_side_car_of_an_older_file_is_read(tmp_path):
    """As version 0.1 wrote it, before there were other keys."""
    _save(tmp_path / "a.nii", VALUES, np.diag([2.0, 2, 5, 1]))
    (tmp_path / "a.json").write_text('{\n  "Units": "cps/mL",\n  "History": [\n    "osem 10 x 10"\n  ]\n}\n')
    back = read_image(tmp_path / "a.nii")
    assert (back.unit, back.history) == ("cps/mL", ("osem 10 x 10",))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_image_round_trip_is_exact(tmp_path, ending):
    write_image(tmp_path / f"a{ending}", Image(VALUES, GRID, "kBq/mL", history=("one",)))
    back = read_image(tmp_path / f"a{ending}")
    assert np.array_equal(back.values, VALUES)
    assert np.array_equal(back.grid.affine_lps, GRID.affine_lps)
    assert back.grid.is_upright
    assert (back.unit, back.history) == ("kBq/mL", ("one",))


def test_odd_voxel_sizes_come_back_to_float32(tmp_path):
    """NIfTI-1 keeps its affine in float32: 6e-8 of the largest entry, 40 nm here."""
    grid = Grid.upright((3, 4, 5), (3.32, 4.4196, 4.4196), (-1 / 3, 640.0001, -99.9))
    write_image(tmp_path / "a.nii", Image(np.ones(grid.shape), grid, "relative"))
    back = read_image(tmp_path / "a.nii").grid
    assert np.abs(back.affine_lps - grid.affine_lps).max() < 6e-8 * 641
    assert back.same_as(grid)


def _save(path, array, affine, *, units="mm"):
    file = nibabel.Nifti1Image(array, affine)
    file.header.set_xyzt_units(units)
    nibabel.save(file, path)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAI", "SPR", "PIL", "ASL"])
def test_any_axis_order_and_direction_gives_the_same_image(tmp_path, codes):
    """The same head, stored with other axes first or reversed, must come back voxel for voxel and mm for mm."""
    lps = nibabel.Nifti1Image(VALUES.transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ GRID.affine_lps[:, [2, 1, 0, 3]])
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("LPS"), nibabel.orientations.axcodes2ornt(codes)
    )
    nibabel.save(lps.as_reoriented(turn), tmp_path / "a.nii")
    assert nibabel.aff2axcodes(nibabel.load(tmp_path / "a.nii").affine) == tuple(codes)
    back = read_image(tmp_path / "a.nii")
    assert np.array_equal(back.values, VALUES)
    assert np.array_equal(back.grid.affine_lps, GRID.affine_lps)


def test_tilt_is_kept_in_the_grid(tmp_path):
    """A gantry tilt of 15 deg about x: a voxel's position must be what NIfTI says, turned from RAS to LPS."""
    c, s = np.cos(np.deg2rad(15)), np.sin(np.deg2rad(15))
    affine = np.array([[3, 0, 0, 1.0], [0, 2 * c, -4 * s, 2.0], [0, 2 * s, 4 * c, 3.0], [0, 0, 0, 1]])
    array = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    _save(tmp_path / "a.nii", array, affine)
    back = read_image(tmp_path / "a.nii")
    assert not back.grid.is_upright
    assert back.grid.voxel_mm == pytest.approx((4.0, 2.0, 3.0))
    spot = (4, 1, 2)
    ras = affine @ [*spot, 1]
    z, y, x = np.argwhere(back.values == array[spot])[0]
    # Stored in float32: 1e-5 mm.
    assert back.grid.affine_lps @ [z, y, x, 1] == pytest.approx([-ras[0], -ras[1], ras[2], 1], abs=1e-5)


def test_integers_with_slope_and_big_endian(tmp_path):
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    file = nibabel.Nifti1Image(np.array([[[0, 1000]]], dtype=">i2"), np.diag([2.0, 2, 2, 1]), header)
    file.header.set_slope_inter(0.0005, 0.01)
    file.header.set_sform(np.diag([2.0, 2, 2, 1]), 1)
    nibabel.save(file, tmp_path / "a.nii")
    raw = nibabel.load(tmp_path / "a.nii")
    assert raw.header.endianness == ">"
    slope = raw.dataobj.slope
    mu = read_mu_map(tmp_path / "a.nii", 140.5)
    assert mu.per_cm.dtype == np.dtype("=f4")
    assert mu.per_cm.ravel() == pytest.approx(np.asarray(raw.dataobj).ravel())
    assert slope != 1.0


def test_units_of_metres_become_millimetres(tmp_path):
    _save(tmp_path / "a.nii", VALUES, np.diag([0.002, 0.002, 0.004, 1]), units="meter")
    assert read_image(tmp_path / "a.nii").grid.voxel_mm == pytest.approx((4.0, 2.0, 2.0))


def test_mu_map_round_trip_keeps_its_energy_whatever_the_caller_assumes(tmp_path):
    mu = MuMap(VALUES / 200, GRID, 158.97)
    write_mu_map(tmp_path / "mu.nii.gz", mu)
    back = read_mu_map(tmp_path / "mu.nii.gz", 140.5)
    assert back.energy_kev == 158.97
    assert np.array_equal(back.per_cm, mu.per_cm)
    (tmp_path / "mu.json").unlink()
    assert read_mu_map(tmp_path / "mu.nii.gz", 140.5).energy_kev == 140.5


_SIDE_CARS = {
    "not json": ("{", "not JSON"),
    "a list": ("[]", "a JSON object is needed"),
    "energy": ('{"EnergyKeV": "high"}', "'EnergyKeV' must be a number above 0, got 'high'"),
    "no energy": ('{"EnergyKeV": null}', "'EnergyKeV' must be a number above 0, got None.* --mu-map-kev"),
    "huge": ('{"EnergyKeV": 1' + "0" * 400 + "}", "'EnergyKeV' must be a number above 0, got 1000"),
    "NaN": ('{"EnergyKeV": NaN}', "'EnergyKeV' must be a number above 0, got nan"),
    "units": ('{"Units": "HU"}', "'Units' is 'HU': a mu-map must be in 1/cm"),
    "units of a list": ('{"Units": [1]}', r"'Units' is \[1\]: a mu-map must be in 1/cm"),
    "too deep": ("[" * 100_000, "not JSON"),
}


@pytest.mark.parametrize("name", _SIDE_CARS)
def test_bad_side_car(tmp_path, name):
    text, message = _SIDE_CARS[name]
    _save(tmp_path / "mu.nii", np.zeros((2, 2, 2), np.float32), np.eye(4))
    (tmp_path / "mu.json").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_mu_map(tmp_path / "mu.nii", 140.5)
    assert str(caught.value).startswith(str(tmp_path / "mu.json"))


_PLAIN = np.full((2, 2, 2), 0.1, np.float32)
_WITH_NAN = np.where(np.arange(8).reshape(2, 2, 2) == 3, np.nan, _PLAIN).astype(np.float32)
_SHEARED = np.array([[2.0, 0.5, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
_BAD_ARRAYS = {
    "4d": (np.zeros((2, 2, 2, 2), np.float32), np.eye(4), r"one 3-D image is needed, it holds .*\(2, 2, 2, 2\)"),
    "nan": (_WITH_NAN, np.eye(4), "1 values that are NaN"),
    "a little too negative": (_PLAIN - 0.102, np.eye(4), "must be at least 0"),
    "negative": (-_PLAIN, np.eye(4), "must be at least 0"),
    "hounsfield": (_PLAIN * 10000, np.eye(4), "1/cm, not in HU"),
    "complex": (_PLAIN.astype(np.complex64), np.eye(4), "real numbers are needed"),
    "shear": (_PLAIN, _SHEARED, "not at right angles"),
    "flat": (_PLAIN, np.diag([1.0, 1, 0, 1]), "axis of length 0"),
}


@pytest.mark.parametrize("name", _BAD_ARRAYS)
def test_contents_that_are_no_mu_map(tmp_path, name):
    array, affine, message = _BAD_ARRAYS[name]
    file = nibabel.Nifti1Image(array, np.eye(4))
    file.header["sform_code"] = 1
    for row, key in enumerate(("srow_x", "srow_y", "srow_z")):
        file.header[key] = affine[row]
    file = nibabel.Nifti1Image(array, None, file.header)
    nibabel.save(file, tmp_path / "mu.nii")
    with pytest.raises(InputError, match=message) as caught:
        read_mu_map(tmp_path / "mu.nii", 140.5)
    assert str(caught.value).startswith(str(tmp_path / "mu.nii"))


@pytest.mark.parametrize(("unit", "factor"), [("/cm", 1.0), ("cm-1", 1.0), ("1/mm", 10.0), ("mm-1", 10.0)])
def test_units_of_a_side_car_become_1_per_cm(tmp_path, unit, factor):
    """0.015 /mm is 0.15 /cm: 1 cm has 10 mm."""
    _save(tmp_path / "mu.nii", _PLAIN, np.eye(4))
    (tmp_path / "mu.json").write_text(json.dumps({"Units": unit}))
    mu, notes = read_noted_mu_map(tmp_path / "mu.nii", 140.5)
    np.testing.assert_allclose(mu.per_cm, factor * _PLAIN, rtol=1e-6)
    assert len(notes) == (factor != 1.0)


def test_air_that_interpolation_left_below_0_is_air(tmp_path):
    """Splines of another program overshoot at the skin: -1e-6 /cm is no attenuation, and no reason to refuse a map."""
    values = _PLAIN.copy()
    values[0, 0, 0] = -1e-6
    _save(tmp_path / "mu.nii", values, np.eye(4))
    mu, notes = read_noted_mu_map(tmp_path / "mu.nii", 140.5)
    assert mu.per_cm.min() == 0
    assert notes == ("mu.nii: 1 values below 0, the lowest -1e-06 /cm, were set to 0",)


def test_another_format_of_nibabels_is_named(tmp_path):
    nibabel.save(nibabel.MGHImage(_PLAIN, np.eye(4)), tmp_path / "x.mgz")
    with pytest.raises(InputError, match=r"x\.mgz: MGHImage, not a NIfTI file"):
        placement_notes(tmp_path / "x.mgz")


def test_a_single_volume_stored_as_4d_is_read(tmp_path):
    _save(tmp_path / "a.nii", VALUES[..., None], np.eye(4))
    assert read_image(tmp_path / "a.nii").values.size == 24


def test_without_sform_and_qform_the_position_is_unknown(tmp_path):
    nibabel.save(nibabel.Nifti1Image(_PLAIN, None), tmp_path / "a.nii")
    with pytest.raises(InputError, match="neither sform nor qform is set"):
        read_image(tmp_path / "a.nii")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_every_truncation_is_an_input_error(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    _save(path, np.random.default_rng(0).random((6, 6, 6)).astype(np.float32), np.eye(4))
    whole = path.read_bytes()
    for length in range(0, len(whole) - 8, 41):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="damaged or cut short"):
            read_image(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_header_that_promises_more_than_the_file_holds_reserves_no_memory(tmp_path, ending):
    """nibabel would reserve, and for .nii.gz fill, 4 x 32767^3 bytes = 140 TB before it notices."""
    path = tmp_path / f"a{ending}"
    _save(path, _PLAIN, np.eye(4))
    whole = bytearray(gzip.decompress(path.read_bytes()) if ending == ".nii.gz" else path.read_bytes())
    whole[42:48] = np.full(3, 32767, "<i2").tobytes()
    path.write_bytes(gzip.compress(whole) if ending == ".nii.gz" else whole)
    with pytest.raises(InputError, match=rf"holds {len(whole)} bytes, its header promises \d{{15}} for shape"):
        read_image(path)


def test_an_unknown_unit_of_length_is_refused(tmp_path):
    path = tmp_path / "a.nii"
    _save(path, _PLAIN, np.eye(4))
    whole = bytearray(path.read_bytes())
    whole[123] = 5
    path.write_bytes(whole)
    with pytest.raises(InputError, match="xyzt_units holds 5 as unit of length"):
        read_image(path)


def test_labels_and_their_names_come_back_as_they_were(tmp_path):
    labels = np.arange(VALUES.size, dtype=np.uint8).reshape(VALUES.shape)
    write_labels(tmp_path / "a.nii.gz", labels, GRID, {0: "outside", 3: "left caudate"})
    read, grid, names = read_labels(tmp_path / "a.nii.gz")
    assert np.array_equal(read, labels)
    assert grid.same_as(GRID)
    assert names == {0: "outside", 3: "left caudate"}
    assert nibabel.load(tmp_path / "a.nii.gz").get_data_dtype() == np.uint8


def test_an_image_is_no_label_volume(tmp_path):
    write_image(tmp_path / "a.nii", Image(VALUES + 0.5, GRID, "relative"))
    with pytest.raises(InputError, match="whole numbers"):
        read_labels(tmp_path / "a.nii")


def test_other_files_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_image(tmp_path / "none.nii")
    (tmp_path / "text.nii").write_text("hello")
    with pytest.raises(InputError, match="not a NIfTI file"):
        read_image(tmp_path / "text.nii")
    with pytest.raises(InputError, match=r"must end in \.nii or \.nii\.gz"):
        write_image(tmp_path / "a.img", Image(VALUES, GRID, "relative"))


def _two_forms(path, sform, sform_code, qform, qform_code):
    file = nibabel.Nifti1Image(_PLAIN, None)
    file.set_sform(sform, code=sform_code)
    file.set_qform(qform, code=qform_code)
    nibabel.save(file, path)


@pytest.mark.parametrize(
    ("sform_code", "qform_code", "taken"),
    [
        pytest.param(2, 1, "qform", id="scanner-beats-aligned"),
        pytest.param(1, 2, "sform", id="scanner-sform"),
        pytest.param(4, 1, "qform", id="scanner-beats-MNI"),
        pytest.param(1, 1, "sform", id="equals"),
        pytest.param(5, 3, "sform", id="template-beats-Talairach"),
    ],
)
def test_sform_and_qform_that_differ_are_weighed_and_told(tmp_path, sform_code, qform_code, taken):
    """12 mm and 10 deg apart: the one nearer to the scanner's millimetres places the image, and a note gives both."""
    turned = np.diag([2.0, 2.0, 2.0, 1.0])
    angle = np.deg2rad(10.0)
    turned[:2, :2] = 2.0 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned[2, 3] = 12.0
    path = tmp_path / "mu.nii"
    _two_forms(path, np.diag([2.0, 2.0, 2.0, 1.0]), sform_code, turned, qform_code)
    (note,) = placement_notes(path)
    assert f"the {taken} was used" in note
    assert "12.0 mm and 10.0 deg apart" in note
    height = read_mu_map(path, 159.0).grid.affine_lps[2, 3]
    assert height == pytest.approx(0.0 if taken == "sform" else 12.0)
    assert note in read_image(path).history


def test_rounding_between_sform_and_qform_is_no_difference(tmp_path):
    """A qform keeps its turn as float32 numbers: a tilted image's forms differ by micrometres."""
    angle = np.deg2rad(17.0)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, 3] = [-103.7, 88.1, 412.3]
    _two_forms(tmp_path / "a.nii", affine, 2, affine, 1)
    assert placement_notes(tmp_path / "a.nii") == ()


def test_a_sheared_sform_gives_way_to_a_qform(tmp_path):
    """A registration's sform with shear cannot place a grid; the qform beside it can."""
    _two_forms(tmp_path / "a.nii", _SHEARED, 1, np.diag([2.0, 2.0, 2.0, 1.0]), 1)
    (note,) = placement_notes(tmp_path / "a.nii")
    assert "its sform has axes that are not at right angles (shear): the qform was used" in note
    assert read_mu_map(tmp_path / "a.nii", 159.0).grid.voxel_mm == (2.0, 2.0, 2.0)


def test_nibabel_prints_nothing(tmp_path, capfd):
    """A header that nibabel mends while reading it (negative pixdim) is logged to stderr by nibabel itself."""
    path = tmp_path / "a.nii"
    _save(path, _PLAIN, np.eye(4))
    whole = bytearray(path.read_bytes())
    whole[80:84] = np.float32(-1.0).tobytes()
    path.write_bytes(whole)
    read_image(path)
    assert capfd.readouterr() == ("", "")
