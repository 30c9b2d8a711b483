"""Interfile headers as STIR and SIMIND write them: every value literal, every refusal with its message."""

import numpy as np
import pytest

from spectac.recon.collimator import COLLIMATORS, Collimator
from spectac.recon.errors import InputError
from spectac.recon.io import open_study
from spectac.recon.io.interfile.image import read_image
from spectac.recon.io.interfile.study import read_study
from spectac.recon.settings import StudySettings
from spectac.recon.types import Injection

STIR = """!INTERFILE  :=
!imaging modality := nucmed
!version of keys := 3.3
name of data file := p.s
;data offset in bytes := 100
!GENERAL IMAGE DATA :=
!type of data := Tomographic
imagedata byte order := LITTLEENDIAN
!number format := float
!number of bytes per pixel := 4
isotope name := ^99m^Technetium
energy window lower level[1] := 126.45
energy window upper level[1] := 154.55
!SPECT STUDY (General) :=
patient orientation := head_in
patient rotation :=  supine
!matrix size [2] := 2
!scaling factor (mm/pixel) [2] := 6.64
!matrix size [1] := 3
!scaling factor (mm/pixel) [1] := 3.32
!number of projections := 4
!extent of rotation := 360
!process status := acquired
!SPECT STUDY (acquired data) :=
!direction of rotation := CW
start angle := 180
time per projection (sec) := 25
orbit := circular
radius := 150
!END OF INTERFILE :=
"""

SIMIND = """!INTERFILE :=
!imaging modality := nucmed
;# imaging modality 2 := EMS
!originating system := simind
!version of keys := 3.3
program author := M Ljungberg, Lund University
program version := V7.0.3

!GENERAL DATA :=
original institution := Medical Radiation Physics
contact person := M Ljungberg
!data offset in bytes := 0
!name of data file := p.s
patient name := SMC_p.s
!study ID := symbia_tew
data description := EMISSION
;# Radionuclide := i123
exam type := EMISSION
!patient ID := SIMIND

!GENERAL IMAGE DATA :=
patient orientation := head_in
patient rotation := supine
!type of data := tomographic
study date := 2024:04:10
study time := 15:01:48
imagedata byte order := LITTLEENDIAN
patient rotation := supine
patient orientation := head_in
;energy window lower level := 143.10
;energy window upper level := 174.90
!total number of images := 4
!number of energy windows := 1
;# Image Orientation := 1.000 0.000 0.000 0.000 0.000 -1.000
;# Units of data (ECT) := counts

!SPECT STUDY (General) :=
number of detector heads := 1
!matrix size [1] := 3
!matrix size [2] := 2
!number format := short float
!number of bytes per pixel := 4
scaling factor (mm/pixel) [1] := 3.296
scaling factor (mm/pixel) [2] := 6.592
;# scaling factor (mm/pixel) [3] := 3.296
!extent of rotation := 360
!process status := acquired
!number of projections := 4
!number of images/energy window := 4
!time per projection (sec) := 20.000
image duration (sec) := 80.000
maximum pixel count := 0.053
;# total counts := 96.295
;# Center of Rotation := 2.500

!SPECT STUDY (acquired data) :=
orbit := circular
;#Radius := 15.000
acquisition mode := stepped
!direction of rotation := CCW
start angle := 0.000
;#X_offset := 0.000

;# SIMIND-SPECIFIC PARAMETERS :=
;# Intrinsic FWHM for the camera := 0.380
;# SIMIND: Photon Energy := 159.000

!END OF INTERFILE :=
"""

COUNTS = np.arange(24, dtype="<f4").reshape(4, 2, 3)


@pytest.fixture
def saved(tmp_path):
    """Function that saves a header and its data and returns the header's path."""

    def save(text, data=COUNTS, name="p.hs", data_name="p.s"):
        (tmp_path / name).write_text(text)
        data.tofile(tmp_path / data_name)
        return tmp_path / name

    return save


def _with(text, key, line):
    """Header in which the line that holds `key` is replaced ("" = left out)."""
    lines = text.splitlines()
    (index,) = [n for n, existing in enumerate(lines) if existing.lstrip("!;# ").startswith(key)]
    return "\n".join([*lines[:index], *([line] if line else []), *lines[index + 1 :]]) + "\n"


def test_stir_header(saved):
    study = open_study(saved(STIR))
    acquisition = study.acquisition
    assert study.warnings == ()
    assert acquisition.nuclide == "Tc-99m"
    assert acquisition.view_angles_deg.tolist() == [180, 90, 0, 270]
    assert acquisition.radii_mm.tolist() == [150] * 4
    assert acquisition.pixel_mm == (6.64, 3.32)
    assert acquisition.view_seconds.tolist() == [25] * 4
    assert acquisition.view_start_s.tolist() == [0, 25, 50, 75]
    assert acquisition.patient_position == "HFS"
    assert acquisition.collimator is None
    assert [(w.lower_kev, w.upper_kev) for w in study.windows] == [(126.45, 154.55)]
    # File row 0 is superior, our row 0 inferior.
    assert study.counts[0, 1].tolist() == [[9, 10, 11], [6, 7, 8]]
    assert any("Interfile angles mapped as STIR's" in line for line in study.history)


def test_simind_header(saved):
    study = open_study(saved(SIMIND, name="p.h00"))
    acquisition = study.acquisition
    assert study.warnings == ("SIMIND's radius of up to 15 was taken as cm",)
    assert acquisition.nuclide == "I-123"
    assert acquisition.view_angles_deg.tolist() == [180, 270, 0, 90]
    assert acquisition.radii_mm.tolist() == [150] * 4
    assert acquisition.pixel_mm == (6.592, 3.296)
    assert acquisition.view_seconds.tolist() == [20] * 4
    assert acquisition.start.isoformat() == "2024-04-10T15:01:48"
    assert (study.windows[0].lower_kev, study.windows[0].upper_kev) == (143.1, 174.9)
    assert study.patient == {
        "PatientName": "SMC_p.s",
        "PatientID": "SIMIND",
        "StudyID": "symbia_tew",
        "InstitutionName": "Medical Radiation Physics",
    }
    assert study.counts[0, 1].tolist() == [[9, 10, 11], [6, 7, 8]]
    assert any("Interfile angles mapped as SIMIND's" in line for line in study.history)


def test_simind_version_8_writes_millimetres(saved):
    text = _with(SIMIND, "Radius", ";#Radius := 150.000")
    study = read_study(saved(text))
    assert study.acquisition.radii_mm.tolist() == [150] * 4
    assert study.warnings == ()


def test_comments_count_for_simind_alone(saved):
    """In a header of STIR a line after a semicolon says nothing."""
    text = _with(STIR, "radius", ";radius := 150")
    with pytest.raises(InputError, match="no radius for the circular orbit: give --radius-mm"):
        read_study(saved(text))


def test_header_of_simind_rewritten_for_stir_follows_stir(saved):
    """Converters add 180 deg to the start angle, spell "float", and uncomment the window."""
    study = read_study(saved(STIR.replace("!version", "!originating system := simind\n!version")))
    assert study.acquisition.view_angles_deg.tolist() == [180, 90, 0, 270]
    assert any("rewritten for STIR" in warning for warning in study.warnings)


def test_clockwise_simind_orbit_from_the_side_warns(saved):
    text = _with(_with(SIMIND, "direction", "!direction of rotation := CW"), "start angle", "start angle := 90")
    study = read_study(saved(text))
    assert study.acquisition.view_angles_deg.tolist() == [90, 0, 270, 180]
    assert any("check that the nose points to the front" in warning for warning in study.warnings)


def test_keys_may_be_spelled_in_many_ways(saved):
    """Byte-order mark, blank lines first, capitals, underscores, blanks, Windows line ends, values over two lines."""
    text = STIR.replace("!matrix size [2]", "!MATRIX_SIZE[2]").replace("start angle :=", "!Start  Angle:=")
    text = _with(text, "orbit", "orbit := Non-circular")
    text = _with(text, "radius", "Radii := {150, 151,\n 152.5, 1.53E+02}")
    path = saved("")
    path.write_bytes(b"\xef\xbb\xbf\r\n" + text.replace("\n", "\r\n").encode())
    study = open_study(path)
    assert study.acquisition.matrix == (2, 3)
    assert study.acquisition.view_angles_deg.tolist() == [180, 90, 0, 270]
    assert study.acquisition.radii_mm.tolist() == [150, 151, 152.5, 153]
    assert study.warnings == ()


@pytest.mark.parametrize("order", ["LITTLEENDIAN", "BIGENDIAN"])
@pytest.mark.parametrize(
    ("spelled", "size", "kind"),
    [
        ("unsigned integer", 1, "u1"),
        ("unsigned integer", 2, "u2"),
        ("unsigned integer", 4, "u4"),
        ("signed integer", 1, "i1"),
        ("signed integer", 2, "i2"),
        ("signed integer", 4, "i4"),
        ("short float", 4, "f4"),
        ("float", 4, "f4"),
        ("float", 8, "f8"),
        ("long float", 8, "f8"),
    ],
)
def test_number_formats(saved, order, spelled, size, kind):
    text = _with(STIR, "imagedata byte order", f"imagedata byte order := {order}")
    text = _with(text, "number format", f"!number format := {spelled}")
    text = _with(text, "number of bytes", f"!number of bytes per pixel := {size}")
    counts = read_study(saved(text, COUNTS.astype((">" if order == "BIGENDIAN" else "<") + kind))).counts
    assert counts.dtype == np.dtype("=f4")
    assert np.array_equal(counts[0, :, ::-1], COUNTS)


def test_data_offset_and_scale(saved):
    text = STIR.replace(";data offset in bytes := 100", "data offset in bytes := 8\nimage scaling factor[1] := 2.5")
    counts = read_study(saved(text, np.concatenate([[-1, np.nan], COUNTS.ravel()]).astype("<f4"))).counts
    assert np.array_equal(counts[0, :, ::-1], 2.5 * COUNTS)


def test_missing_byte_order_is_interfiles_default_with_a_warning(saved):
    study = read_study(saved(_with(STIR, "imagedata byte order", ""), COUNTS.astype(">f4")))
    assert np.array_equal(study.counts[0, :, ::-1], COUNTS)
    assert any("read as BIGENDIAN" in warning for warning in study.warnings)


def test_orbit_file_of_simind(saved, tmp_path):
    text = _with(SIMIND, "orbit", "orbit := noncircular\n;# Non-Uniform Orbit File := p.cor")
    text = _with(text, "Radius", "")
    path = saved(text)
    with pytest.raises(InputError, match=r"orbit file 'p\.cor' is not there"):
        read_study(path)
    (tmp_path / "p.cor").write_text("  14.00   64\n  15.50   64\n  16.00   64\n  14.00   64\n")
    assert read_study(path).acquisition.radii_mm.tolist() == [140, 155, 160, 140]
    (tmp_path / "p.cor").write_text("  14.00   64\n")
    with pytest.raises(InputError, match="1 radii for 4 projections"):
        read_study(path)


def test_what_the_header_lacks_comes_from_the_arguments(saved):
    text = STIR
    for key in ("isotope name", "energy window lower", "energy window upper", "time per projection", "radius"):
        text = _with(text, key, "")
    path = saved(text)
    with pytest.raises(InputError, match=r"names no nuclide: name it with --nuclide"):
        read_study(path)
    line = Collimator.from_line(1.466, 0.0163)
    study = open_study(path, StudySettings(nuclide="i123", radius_mm=140.0, collimator=line, head_angles_deg=[45.0]))
    acquisition = study.acquisition
    assert acquisition.nuclide == "I-123"
    assert acquisition.radii_mm.tolist() == [140] * 4
    assert acquisition.collimator == line
    assert acquisition.view_angles_deg.tolist() == [45, 315, 225, 135]
    assert np.isnan(acquisition.view_seconds).all()
    # +-10 % of 158.97 keV
    assert study.windows[0].lower_kev == pytest.approx(143.073)
    assert study.windows[0].upper_kev == pytest.approx(174.867)
    assert any("was assumed (I-123 +-10 %)" in warning for warning in study.warnings)
    assert any("relative" in warning for warning in study.warnings)
    assert sum("given by the user" in line for line in study.history) == 4


def test_arguments_go_before_the_header(saved):
    study = read_study(saved(STIR), StudySettings(nuclide="I-123", radius_mm=200.0))
    assert study.acquisition.nuclide == "I-123"
    assert study.acquisition.radii_mm.tolist() == [200] * 4
    assert any("^99m^Technetium was replaced by I-123" in warning for warning in study.warnings)


def test_collimator_by_name(saved):
    known = next(iter(COLLIMATORS))
    study = read_study(saved(STIR.replace("orbit", f"collimator := {known.upper()}\norbit")))
    assert study.acquisition.collimator == COLLIMATORS[known]
    study = read_study(saved(STIR.replace("orbit", "collimator := foo\norbit")))
    assert study.acquisition.collimator is None
    assert any("'foo' is not in the table" in warning for warning in study.warnings)


def test_total_duration_is_shared_by_the_views(saved):
    text = _with(STIR, "time per projection", "image duration (sec)[1] := 120")
    assert read_study(saved(text)).acquisition.view_seconds.tolist() == [30] * 4


def test_unknown_keys_make_one_warning(saved):
    study = read_study(saved(STIR.replace("orbit", "bed height := 3\nmood := blue\norbit")))
    assert study.warnings == ("header keys that were not understood and are ignored: bed height, mood",)


def test_longer_file_warns(saved):
    study = read_study(saved(STIR, np.concatenate([COUNTS.ravel(), [0, 0]]).astype("<f4")))
    assert any("p.s holds 104 bytes, 8 more than the header promises" in warning for warning in study.warnings)


def test_two_windows_in_one_file(saved):
    text = STIR.replace("isotope", "number of energy windows := 2\nisotope")
    text = text.replace("isotope", "energy window lower level[2] := 100\nenergy window upper level[2] := 120\nisotope")
    study = read_study(saved(text, np.concatenate([COUNTS, COUNTS + 100]).astype("<f4")))
    assert [window.lower_kev for window in study.windows] == [126.45, 100]
    assert np.array_equal(study.counts[1, :, ::-1], COUNTS + 100)


HEADS = STIR.replace("!number of projections", "number of detector heads := 2\n!number of projections")


def test_heads_with_projections_of_each(saved):
    """Two heads of four views: the arc and the number of projections are those of one head."""
    path = saved(HEADS, np.concatenate([COUNTS, COUNTS + 100]).astype("<f4"))
    with pytest.raises(InputError, match="names 2 detector heads but 1 start angles: give --head-angles"):
        read_study(path)
    acquisition = read_study(path, StudySettings(head_angles_deg=[180, 0])).acquisition
    assert acquisition.view_angles_deg.tolist() == [180, 90, 0, 270, 0, 270, 180, 90]
    assert acquisition.detector.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    # The heads measure at the same time.
    assert acquisition.view_start_s.tolist() == [0, 25, 50, 75, 0, 25, 50, 75]
    with pytest.raises(InputError, match="one angle for each of the 2 heads, got 3"):
        read_study(path, StudySettings(head_angles_deg=[0, 90, 180]))


def test_heads_that_share_the_projections(saved):
    """Four images altogether from two heads: two views and half of the arc each."""
    text = HEADS.replace("number of detector", "total number of images := 4\nnumber of detector")
    text = _with(text, "start angle", "start angle := 180\nstart angle := 0")
    acquisition = read_study(saved(text)).acquisition
    assert acquisition.view_angles_deg.tolist() == [180, 90, 0, 270]
    assert acquisition.detector.tolist() == [0, 0, 1, 1]


_BAD = {
    "no data file key": ("name of data file", "", "key 'name of data file' is missing"),
    "no data file": ("name of data file", "name of data file := q.s", r"data file 'q\.s' is not there"),
    "own data": ("name of data file", "name of data file := p.hs", "data in the header's own file is not supported"),
    "no matrix": ("matrix size [2]", "", r"key 'matrix size\[2\]' is missing"),
    "bad matrix": ("matrix size [2]", "!matrix size [2] := 2.5", "needs a whole number of at least 1, got 2.5"),
    "no pixel": ("scaling factor (mm/pixel) [1]", "", r"\[1\]' is missing or empty: give --pixel-mm"),
    "zero pixel": ("scaling factor (mm/pixel) [1]", "scaling factor (mm/pixel)[1] := 0", "pixel_mm needs"),
    "no projections": ("number of projections", "", "key 'number of projections' is missing"),
    "zero projections": ("number of projections", "number of projections := 0", "at least 1, got 0"),
    "more projections": (
        "number of projections",
        "number of projections := 5",
        r"promises 120 bytes of data after an offset of 0 bytes, but p\.s holds 96 bytes",
    ),
    "no extent": ("extent of rotation", "", "key 'extent of rotation' is missing or empty: give --step-deg"),
    "no direction": ("direction of rotation", "", "key 'direction of rotation' is missing or empty: give --rotation"),
    "bad direction": (
        "direction of rotation",
        "direction of rotation := up",
        "must be CW or CCW, got 'up': give --rotation",
    ),
    "no start": ("start angle", "", "key 'start angle' is missing or empty: give --head-angles"),
    "two starts": ("start angle", "start angle := 1\nstart angle := 2", "given more than once, as 1 and 2"),
    "bad number": ("start angle", "start angle := north", "key 'start angle' needs a number, got 'north'"),
    "infinite": ("start angle", "start angle := 1e999", "needs a number"),
    "no arc": ("extent of rotation", "extent of rotation := 0", "between 0 and 3600 deg, got 0: give --step-deg"),
    "no radius": ("radius", "", "give --radius-mm"),
    "zero radius": ("radius", "radius := 0", "radii_mm must be above 0"),
    "no format": ("number format", "", "key 'number format' is missing"),
    "bad format": ("number format", "!number format := ascii", "number format 'ascii' of 4 bytes is not one of"),
    "bad size": ("number of bytes", "!number of bytes per pixel := 3", "'float' of 3 bytes is not one of"),
    "bad order": ("imagedata byte order", "imagedata byte order := PDP", "must be LITTLEENDIAN or BIGENDIAN"),
    "compressed": ("imagedata byte order", "data compression := gzip", "is not supported: write the data plainly"),
    "image": ("process status", "!process status := Reconstructed", "raw .acquired. projections are needed"),
    "static": ("type of data", "!type of data := Static", "only Tomographic"),
    "pet": ("imaging modality", "!imaging modality := PET", "only nucmed"),
    "prone": (
        "patient rotation",
        "patient rotation := prone",
        "only head_in and supine are read.*give --head-angles as",
    ),
    "feet first": ("patient orientation", "patient orientation := feet_in", "give --head-angles and --rotation as"),
    "dynamic": ("type of data", "number of time frames := 3", "dynamic and gated series are not supported"),
    "nuclide": (
        "isotope name",
        "isotope name := F-18",
        "'F-18' is not in the table: give --nuclide F-18:KEV:HALFLIFE_H",
    ),
}


@pytest.mark.parametrize("name", _BAD)
def test_bad_headers_name_file_and_key(saved, name):
    key, line, message = _BAD[name]
    path = saved(_with(STIR, key, line))
    with pytest.raises(InputError, match=message) as caught:
        read_study(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "NaN or infinite"), (-1.0, "must be at least 0")])
def test_bad_counts_name_the_file(saved, value, message):
    data = COUNTS.copy()
    data[1, 1, 1] = value
    path = saved(STIR, data)
    with pytest.raises(InputError, match=message) as caught:
        read_study(path)
    assert str(caught.value).startswith(str(path))


def _simind_windows(saved):
    for number, (lower, upper) in enumerate([(143.1, 174.9), (129.5, 143.1)], 1):
        text = _with(SIMIND, "energy window lower", f";energy window lower level := {lower}")
        text = _with(text, "energy window upper", f";energy window upper level := {upper}")
        for kind, shift in (("tot", 0), ("sca", 500)):
            name = f"p_{kind}_w{number}"
            own = text.replace("name of data file := p.s", f"name of data file := {name}.a00")
            saved(own, (COUNTS + 100 * number + shift).astype("<f4"), f"{name}.h00", f"{name}.a00")


def test_folder_of_simind_windows_is_one_study(saved, tmp_path):
    _simind_windows(saved)
    study = open_study(tmp_path)
    assert [window.lower_kev for window in study.windows] == [143.1, 129.5]
    assert np.array_equal(study.counts[:, :, ::-1], np.stack([COUNTS + 100, COUNTS + 200]))
    assert any("left out" in warning and "p_sca_w1.h00" in warning for warning in study.warnings)
    same = read_study([tmp_path / "p_tot_w1.h00", tmp_path / "p_tot_w2.h00"])
    assert np.array_equal(same.counts, study.counts)


def test_headers_that_are_not_one_acquisition_are_refused(saved, tmp_path):
    _simind_windows(saved)
    first = tmp_path / "p_tot_w1.h00"
    with pytest.raises(InputError, match=r"two of the energy windows go from .*name the headers"):
        read_study([first, tmp_path / "p_sca_w1.h00"])
    other = tmp_path / "p_tot_w2.h00"
    other.write_text(other.read_text().replace("start angle := 0", "start angle := 90"))
    with pytest.raises(InputError, match=r"its view_angles_deg differs from that of p_tot_w1\.h00"):
        open_study(tmp_path)


def test_image_with_fortran_numbers(tmp_path):
    """The phantoms of Benauer write +2.000000+00 and millimetres under a key that says pixels."""
    (tmp_path / "a.h33").write_text(
        "!INTERFILE :=\n!name of data file := a.i33\nimagedata byte order := LITTLEENDIAN\n!matrix size [1] := 2\n"
        "!matrix size [2] := 3\n!number format := unsigned integer\n!number of bytes per pixel := 2\n"
        "scaling factor (mm/pixel) [1] :=+1.250000+00\nscaling factor (mm/pixel) [2] :=+1.500000+00\n"
        "!number of slices := 4\nslice thickness (pixels) :=+2.000000+00\n!END OF INTERFILE :=\n"
    )
    np.arange(24, dtype="<u2").tofile(tmp_path / "a.i33")
    values, voxel_mm = read_image(tmp_path / "a.h33")
    assert values.dtype == np.float32
    assert np.array_equal(values, np.arange(24).reshape(4, 3, 2))
    assert voxel_mm == (2.0, 1.5, 1.25)
    assert read_image(tmp_path / "a.h33", slices_in_pixels=True)[1] == (2.5, 1.5, 1.25)
    with pytest.raises(InputError, match="key 'number of projections' is missing"):
        read_study(tmp_path / "a.h33", StudySettings(nuclide="Tc-99m"))


def test_projections_are_not_read_as_an_image(saved):
    with pytest.raises(InputError, match="holds acquired projections, not an image"):
        read_image(saved(STIR))


def test_the_agent_is_carried(saved):
    text = STIR.replace("!imaging modality", "radiopharmaceutical := HMPAO\n!imaging modality")
    assert read_study(saved(text)).injection == Injection("HMPAO")
