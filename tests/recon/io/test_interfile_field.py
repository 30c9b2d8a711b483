"""Interfile headers as other programs and people write them: read where the meaning is plain, told where it is not."""

import bz2
import gzip

import numpy as np
import pytest

from spectac.recon.collimator import Focus
from spectac.recon.errors import InputError
from spectac.recon.io import open_study
from spectac.recon.io.interfile.study import read_study
from spectac.recon.settings import StudySettings

VIEWS = 12

HEADER = """!INTERFILE :=
!imaging modality := nucmed
!version of keys := 3.3
name of data file := p.s
!type of data := Tomographic
imagedata byte order := LITTLEENDIAN
!number format := float
!number of bytes per pixel := 4
isotope name := Tc-99m
energy window lower level[1] := 126.45
energy window upper level[1] := 154.55
!matrix size [2] := 2
!scaling factor (mm/pixel) [2] := 4
!matrix size [1] := 3
!scaling factor (mm/pixel) [1] := 4
!number of projections := 12
!extent of rotation := 360
!process status := acquired
!direction of rotation := CCW
start angle := 0
time per projection (sec) := 25
orbit := circular
radius := 150
!END OF INTERFILE :=
"""

GATE_HEAD = """   !number of images/energy window := 12
   !process status := ACQUIRED
   !number of projections := {views}
   !matrix size [1] := 3
   !matrix size [2] := 2
   !number format := FLOAT
   !number of bytes per pixel := 4
   !scaling factor (mm/pixel) [1] := 4
   !scaling factor (mm/pixel) [2] := 4
   !extent of rotation := {extent}
   !time per projection (sec) := {seconds}
   study duration (elapsed) sec : = 333
   !maximum pixel count : = {start}
   ;
   !direction of rotation := {sense}
   start angle := {start}
   first projection angle in data set := {start}
   acquisition mode := stepped
   orbit := circular
   radius := {radius}
   ;
"""
GATE = """   !INTERFILE :=
   !imaging modality := nucmed
   date of keys := 1992:01:01
   ;
   {described}
   !data starting block := 0
   !name of data file := p.s
   !type of data := TOMOGRAPHIC
   !total number of images := 12
   study date := 2003:09:15
   study time := 11:42:34
   imagedata byte order := LITTLEENDIAN
   number of energy windows := 1
   number of detector heads := 2
   ;
{heads}{geometry}
   !END OF INTERFILE :=
"""
GEOMETRY = "   GATE GEOMETRY :=\n   head x dimension (cm) := 30\n   head material := Air\n   crystal material := NaI"


@pytest.fixture
def read(tmp_path):
    """Function that saves a header (text or bytes) and `images` of data, and reads the study."""

    def save_and_read(text, images=VIEWS, **given):
        (tmp_path / "p.hs").write_bytes(text if isinstance(text, bytes) else text.encode())
        np.arange(images * 6, dtype="<f4").tofile(tmp_path / "p.s")
        return open_study(tmp_path / "p.hs", StudySettings(**given))

    return save_and_read


def _with(key, line, text=HEADER):
    """Header in which the line that holds `key` is replaced ("" = left out)."""
    lines = text.splitlines()
    (index,) = [n for n, existing in enumerate(lines) if existing.lstrip("!").startswith(key)]
    return "\n".join([*lines[:index], *([line] if line else []), *lines[index + 1 :]]) + "\n"


def test_header_without_a_doubt(read):
    study = read(HEADER)
    assert study.warnings == ()
    assert study.acquisition.view_angles_deg.tolist() == list(range(0, 360, 30))


# Who wrote it.


@pytest.mark.parametrize(
    ("described", "geometry"),
    [("data description := GATE simulation", ""), ("", GEOMETRY), ("", GEOMETRY.replace("   ", "   ;"))],
)
def test_gate_is_known_by_what_it_says_of_itself(read, described, geometry):
    """Its zero and its sense are not STIR's; a block of keys for each head is read, its camera passed over."""
    heads = "".join(
        GATE_HEAD.format(views=6, extent=180, seconds=25, sense="CW", start=start, radius=150) for start in (0, 180)
    )
    study = read(GATE.format(described=described, heads=heads, geometry=geometry), nuclide="Tc-99m")
    assert [warning for warning in study.warnings if "GATE" in warning and "check left and right" in warning]
    assert not [warning for warning in study.warnings if "not understood" in warning]
    acquisition = study.acquisition
    assert acquisition.detector.tolist() == [0] * 6 + [1] * 6
    assert acquisition.view_angles_deg.tolist() == [0, 330, 300, 270, 240, 210, 180, 150, 120, 90, 60, 30]
    assert acquisition.view_seconds.tolist() == [25] * 12


@pytest.mark.parametrize("key", ["originating system", "conversion program", "program author", ";conversion program"])
def test_other_programs_are_named(read, key):
    study = read(HEADER.replace("!version", f"{key} := XMedCon 0.16\n!version"))
    assert any("'xmedcon 0.16' are not known" in warning for warning in study.warnings)


@pytest.mark.parametrize("program", ["STIR 6.2", "SimSET"])
def test_programs_that_are_known_get_no_warning(read, program):
    assert read(HEADER.replace("!version", f"conversion program := {program}\n!version")).warnings == ()


# Blocks for each head.


def test_each_head_has_its_own_values(read):
    """Two heads that turn towards each other, with other arcs, times and radii: each block is its head's."""
    one = GATE_HEAD.format(views=6, extent=180, seconds=25, sense="CCW", start=0, radius=150)
    other = GATE_HEAD.format(views=6, extent=90, seconds=50, sense="CW", start=270, radius=160)
    acquisition = read(GATE.format(described="", heads=one + other, geometry=""), nuclide="Tc-99m").acquisition
    assert acquisition.view_angles_deg.tolist() == [0, 30, 60, 90, 120, 150, 270, 255, 240, 225, 210, 195]
    assert acquisition.view_seconds.tolist() == [25] * 6 + [50] * 6
    assert acquisition.radii_mm.tolist() == [150] * 6 + [160] * 6


def test_blocks_of_each_head_in_each_window(read):
    """GATE writes a block for every head of every window."""
    heads = "".join(
        GATE_HEAD.format(views=6, extent=180, seconds=25, sense="CCW", start=start, radius=radius)
        for start, radius in ((0, 150), (180, 160), (0, 150), (180, 160))
    )
    text = GATE.format(described="", heads=heads, geometry=GEOMETRY).replace("windows := 1", "windows := 2")
    limits = "".join(
        f"energy window {side} level[{n}] := {kev}\n"
        for n, side, kev in ((1, "lower", 126), (1, "upper", 154), (2, "lower", 110), (2, "upper", 126))
    )
    text = text.replace("images := 12", "images := 24").replace("   number of detector", f"{limits}number of detector")
    acquisition = read(text, images=24, nuclide="Tc-99m").acquisition
    assert acquisition.view_angles_deg.tolist() == list(range(0, 360, 30))
    assert acquisition.radii_mm.tolist() == [150] * 6 + [160] * 6


def test_heads_may_have_different_numbers_of_views(read):
    """8 and 4 views of 30 deg: the order of the data is that of the blocks."""
    one = GATE_HEAD.format(views=8, extent=240, seconds=25, sense="CCW", start=0, radius=150)
    other = GATE_HEAD.format(views=4, extent=120, seconds=25, sense="CCW", start=240, radius=150)
    acquisition = read(GATE.format(described="", heads=one + other, geometry=""), nuclide="Tc-99m").acquisition
    assert acquisition.detector.tolist() == [0] * 8 + [1] * 4
    assert acquisition.view_angles_deg.tolist() == list(range(0, 360, 30))


def test_heads_in_one_place_are_refused(read):
    heads = GATE_HEAD.format(views=6, extent=180, seconds=25, sense="CW", start=0, radius=150) * 2
    text = GATE.format(described="", heads=heads, geometry="")
    with pytest.raises(InputError, match="heads 1 and 2 both start at 0 deg: give --head-angles"):
        read(text, nuclide="Tc-99m")
    assert read(text, nuclide="Tc-99m", head_angles_deg=[0, 180]).acquisition.view_angles_deg[6] == 180


@pytest.mark.parametrize(
    "starts", ["start angle := 0, 180", "start angle[1] := 0\nstart angle[2] := 180", "start angle := {0;180}"]
)
def test_start_angles_as_a_list(read, starts):
    text = _with("start angle", starts).replace(
        "orbit", "number of detector heads := 2\ntotal number of images := 12\norbit"
    )
    assert read(text).acquisition.view_angles_deg.tolist() == list(range(0, 360, 30))


def test_arc_of_one_head_with_the_projections_of_both(read):
    """12 projections of two heads, each over 180 deg: the even circle of 30 deg, not two arcs of 15 deg steps."""
    text = _with("start angle", "start angle := 0\nstart angle := 180")
    text = text.replace("orbit", "number of detector heads := 2\ntotal number of images := 12\norbit")
    text = _with("extent of rotation", "extent of rotation := 180", text)
    study = read(text)
    assert study.acquisition.view_angles_deg.tolist() == list(range(0, 360, 30))
    assert any("a step of 15 deg or 30 deg: read as 30 deg" in warning for warning in study.warnings)


def test_heads_that_take_the_same_views_are_told(read):
    """Each of two heads over a full turn of 12 views; were the arc that of both, the step would be 15 deg."""
    text = _with("start angle", "start angle := 0\nstart angle := 180")
    study = read(text.replace("orbit", "number of detector heads := 2\norbit"), images=24)
    assert any("every head takes the same 12 views" in w and "--step-deg 15" in w for w in study.warnings)


def test_number_of_heads_by_the_data(read):
    """No total number of images: a file with 12 images holds 6 of each of two heads."""
    text = _with("start angle", "start angle := 0\nstart angle := 180")
    acquisition = read(text.replace("orbit", "number of detector heads := 2\norbit"), images=12).acquisition
    assert acquisition.detector.tolist() == [0] * 6 + [1] * 6


def test_wrong_total_number_of_images(read):
    text = HEADER.replace("orbit", "total number of images := 99\norbit")
    assert any("the data file holds 12 images, which do" in warning for warning in read(text).warnings)
    with pytest.raises(InputError, match="'total number of images := 99' does not fit 1 energy windows"):
        read(text, images=11)


# Arcs.


def test_arc_from_the_first_view_to_the_last(read):
    study = read(_with("extent of rotation", "extent of rotation := 330"))
    assert study.acquisition.view_angles_deg.tolist() == list(range(0, 360, 30))
    assert any("extent of rotation" in w and "330 deg" in w and "27.5 deg" in w for w in study.warnings)


@pytest.mark.parametrize(("sense", "second"), [("CW", 330), ("CCW", 30)])
def test_sign_of_the_arc_gives_no_sense(read, sense, second):
    study = read(_with("extent", "extent of rotation := -360", _with("direction", f"direction of rotation := {sense}")))
    assert study.acquisition.view_angles_deg[1] == second
    assert any("-360" in warning and "--rotation" in warning for warning in study.warnings)


# Radii.

LISTED = ",".join(str(150 + n) for n in range(VIEWS))


@pytest.mark.parametrize("key", ["radius", "Radius", "radii", "Radii", "radius (mm)", "radius of rotation"])
@pytest.mark.parametrize("form", ["{}", "{{{}}}", "{{ {} }}"])
@pytest.mark.parametrize("orbit", ["circular", "Non-circular", "noncircular", "body contour"])
def test_lists_of_radii_under_any_key_and_orbit(read, key, form, orbit):
    text = _with("orbit", f"orbit := {orbit}", _with("radius", f"{key} := {form.format(LISTED)}"))
    study = read(text)
    assert study.acquisition.radii_mm.tolist() == [150 + n for n in range(VIEWS)]
    assert len(study.warnings) == (orbit == "body contour")


@pytest.mark.parametrize(
    ("line", "radii"),
    [
        ("radius := {150}", [150] * 12),
        ("radii := 150, 150, 150,\n150, 150, 150, 150,\n150, 150, 150, 150, 150", [150] * 12),
        ("radius := 150,5", [150.5] * 12),
        ("radius := 15 cm", [150] * 12),
        ("radius (cm) := 15.0", [150] * 12),
        ("radius := 150.0 mm ; face of the collimator", [150] * 12),
        ("radii := " + " ".join(f"{150 + n},5" for n in range(12)), [150.5 + n for n in range(12)]),
        ("radii := {" + "; ".join(f"{150 + n},5" for n in range(12)) + "}", [150.5 + n for n in range(12)]),
        ("radii := {" + ", ".join(["15 cm"] * 12).replace(" cm", "0") + "}", [150] * 12),
    ],
)
def test_radii_with_commas_and_units(read, line, radii):
    study = read(_with("radius", line))
    assert study.acquisition.radii_mm.tolist() == radii
    assert study.warnings == ()


def test_radii_of_one_head_are_those_of_both(read):
    text = _with("start angle", "start angle := 0\nstart angle := 180").replace(
        "orbit", "number of detector heads := 2\norbit"
    )
    text = _with("radius", f"radii := {{{LISTED}}}", text)
    assert read(text, images=24).acquisition.radii_mm.tolist() == [150 + n for n in range(VIEWS)] * 2


@pytest.mark.parametrize("line", ["", "radius := 0", "Radius :="])
def test_radius_that_is_not_there_names_the_option(read, line):
    text = _with("radius", line)
    with pytest.raises(InputError, match="give --radius-mm"):
        read(text)
    assert read(text, radius_mm=140.0).acquisition.radii_mm.tolist() == [140] * 12


def test_radius_in_other_units_is_doubted(read):
    assert any("is it in cm" in warning for warning in read(_with("radius", "radius := 15")).warnings)
    with pytest.raises(InputError, match=r"at most 1000 are possible.*--radius-mm"):
        read(_with("radius", "radius := 1500"))


def test_wrong_number_of_radii(read):
    with pytest.raises(InputError, match=r"3 radii for 12 projections.*--radius-mm"):
        read(_with("radius", "radii := {150, 151, 152}"))


# What the user gives.


def test_every_option_completes_a_header(read):
    text = HEADER
    for key in (
        "isotope", "scaling factor (mm/pixel) [1]", "scaling factor (mm/pixel) [2]", "extent", "direction", "start",
        "time per", "radius",
    ):  # fmt: skip
        text = _with(key, "", text)
    given = {
        "nuclide": "Ho-166:80.574:26.8",
        "pixel_mm": (4.8, 4.7),
        "step_deg": 20.0,
        "rotation": "cw",
        "head_angles_deg": [90.0],
        "view_seconds": 12.5,
        "radius_mm": 140.0,
    }
    for option in given.keys() - {"view_seconds"}:
        named = {"head_angles_deg": "head-angles"}.get(option, option.replace("_", "-"))
        with pytest.raises(InputError, match=f"--{named}"):
            read(text, **{name: value for name, value in given.items() if name != option})
    (warning,) = read(text, **{**given, "view_seconds": None}).warnings
    assert "--view-seconds" in warning
    acquisition = read(text, **given).acquisition
    assert acquisition.nuclide == "Ho-166:80.574:26.8"
    assert acquisition.pixel_mm == (4.8, 4.7)
    assert acquisition.view_angles_deg.tolist() == [(90 - 20 * n) % 360 for n in range(12)]
    assert acquisition.view_seconds.tolist() == [12.5] * 12
    assert acquisition.radii_mm.tolist() == [140] * 12


def test_options_go_before_the_header(read):
    study = read(HEADER, rotation="cw", step_deg=15.0, view_seconds=3.0, pixel_mm=(5.0, 5.0))
    acquisition = study.acquisition
    assert acquisition.view_angles_deg[:3].tolist() == [0, 345, 330]
    assert acquisition.view_seconds.tolist() == [3] * 12
    assert acquisition.pixel_mm == (5, 5)
    assert sum("given by the user" in line for line in study.history) == 4


# Times.


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("time per projection (msec) := 25000", 25),
        ("time per projection (sec) := 25,5", 25.5),
        ("time per projection := 25000 ms", 25),
        ("time per projection (min) := 0.5", 30),
        ("image duration (sec) := 300", 25),
        ("time per projection (sec) := 0\nimage duration (sec)[1] := 300", 25),
        ("time per projection (sec) := 25\nimage duration (sec) := 300", 25),
        ("time per projection (sec) := 25\nimage duration (sec) := 25", 25),
    ],
)
def test_times_of_a_view(read, line, seconds):
    study = read(_with("time per", line))
    assert study.acquisition.view_seconds.tolist() == [seconds] * 12
    assert study.warnings == ()


@pytest.mark.parametrize(
    ("line", "shown"),
    [("time per projection (sec) := 0.025", "0.025 s"), ("time per projection (sec) := 25000", "25000 s"),
     ("image duration (sec) := 4.5", "0.375 s")],
)  # fmt: skip
def test_times_that_no_camera_takes_are_doubted(read, line, shown):
    (warning,) = read(_with("time per", line)).warnings
    assert shown in warning
    assert "--view-seconds" in warning


def test_times_that_contradict_each_other_are_told(read):
    (warning,) = read(HEADER.replace("orbit", "image duration (sec) := 120\norbit")).warnings
    assert "25 s, 'image duration' 120 s for 12 views" in warning


@pytest.mark.parametrize(
    ("lines", "start"),
    [
        ("study date := 2024:04:10\nstudy time := 15:01:48", "2024-04-10T15:01:48"),
        ("study date := 10.04.2024\nstudy time := 15:01", "2024-04-10T15:01:00"),
        ("study date := 2024-04-10\nstudy time := 15:01:48.25", "2024-04-10T15:01:48.250000"),
    ],
)
def test_start(read, lines, start):
    assert read(HEADER.replace("orbit", f"{lines}\norbit")).acquisition.start.isoformat() == start


@pytest.mark.parametrize("lines", ["study date := 2024:04:10", "study date := 2024:04:10\nstudy time := noon"])
def test_date_without_a_time_is_no_midnight(read, lines):
    study = read(HEADER.replace("orbit", f"{lines}\norbit"))
    assert study.acquisition.start is None
    assert any("--start" in warning for warning in study.warnings)


# Other units, spellings, encodings.


def test_pixels_in_centimetres(read):
    text = _with("scaling factor (mm/pixel) [1]", "scaling factor (cm/pixel) [1] := 0.4")
    text = _with("scaling factor (mm/pixel) [2]", "scaling factor (mm/pixel) [2] := 4,5 mm", text)
    assert read(text).acquisition.pixel_mm == (4.5, 4.0)


def test_small_field_is_doubted(read):
    text = _with("scaling factor (mm/pixel) [1]", "scaling factor (mm/pixel) [1] := 0.4")
    text = _with("matrix size [1]", "matrix size [1] := 64", text)
    assert any("--pixel-mm" in warning for warning in read(text, images=256).warnings)


@pytest.mark.parametrize("sense", ["CCW", "ccw", "CC", "counter-clockwise", "counter clockwise", "Anti-Clockwise"])
def test_senses(read, sense):
    assert read(_with("direction", f"direction of rotation := {sense}")).acquisition.view_angles_deg[1] == 30


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("latin-1"),
        lambda text: text.replace(":=", ": =").encode(),
    ],
)
def test_encodings_and_line_ends(read, encode):
    study = read(encode(HEADER.replace("orbit", "patient name := Müller\norbit")))
    assert study.patient["PatientName"] == "Müller"
    assert study.acquisition.radii_mm.tolist() == [150] * 12


def test_repeated_keys_of_one_meaning(read):
    text = HEADER.replace("orbit", "radius := 150.0\nextent of rotation := 3.6e2\ndirection of rotation := ccw\norbit")
    assert read(text).warnings == ()


def test_repeated_keys_of_no_bearing(read):
    study = read(HEADER.replace("orbit", "patient name := A\npatient name := B\norbit"))
    assert study.patient["PatientName"] == "A"
    assert any("'patient name' is given more than once" in warning for warning in study.warnings)


def test_many_unknown_keys_make_one_short_line(read):
    extra = "".join(f"key {n} := 1\n" for n in range(30))
    (warning,) = read(HEADER.replace("orbit", f"{extra}orbit")).warnings
    assert warning.endswith("and 22 more")


def test_patient_goes_into_dicom_as_dicom_has_it(read):
    """Birth date, sex and weight as people write them; PatientWeight is in kg."""
    who = "patient sex := männlich\npatient dob := 1970:01:01\npatient weight := 70,5 kg\npatient age := 56\n"
    assert read(HEADER.replace("orbit", f"{who}orbit")).patient == {
        "PatientSex": "M",
        "PatientBirthDate": "19700101",
        "PatientWeight": "70.5",
        "PatientAge": "056Y",
    }


# Nuclides.


@pytest.mark.parametrize("spelled", ["99mTc", "Technetium-99m", "^99m^Technetium", "tc99m_brain", "Tc 99m"])
def test_spellings_of_nuclides(read, spelled):
    assert read(_with("isotope", f"isotope name := {spelled}")).acquisition.nuclide == "Tc-99m"


def test_nuclide_that_the_table_lacks(read):
    text = _with("isotope", "isotope name := ^166^Holmium")
    with pytest.raises(InputError, match="give --nuclide Ho-166:KEV:HALFLIFE_H") as caught:
        read(text)
    assert "Tc-99m" not in str(caught.value)
    assert read(text, nuclide="Ho-166:80.574:26.8").acquisition.nuclide == "Ho-166:80.574:26.8"


def test_window_names_the_nuclide(read):
    text = _with("isotope", "energy window[1] := Lu177_EM").replace("126.45", "187").replace("154.55", "229")
    study = read(text)
    assert study.acquisition.nuclide == "Lu-177"
    assert any("Lu-177 was taken, as 'Lu177_EM' says" in warning for warning in study.warnings)
    with pytest.raises(InputError, match="names no nuclide: name it with --nuclide"):
        read(text.replace("187", "126").replace("229", "154"))


@pytest.mark.parametrize(("lower", "upper"), [("126.16", "36.84"), ("0", "0"), ("-1", "-1"), ("126.45", "126.45")])
def test_limits_that_are_no_window(read, lower, upper):
    """Converters write such limits; the data hold the one window that there is."""
    text = HEADER.replace(":= 126.45", f":= {lower}").replace(":= 154.55", f":= {upper}")
    study = read(text)
    assert study.windows[0].lower_kev == pytest.approx(0.9 * 140.511)
    assert any(
        f"gives {float(lower):g} to {float(upper):g} keV, which is no energy window" in w for w in study.warnings
    )


def test_window_without_limits_among_several_is_left_out(read):
    more = "number of energy windows := 2\nenergy window lower level[2] := 0\nenergy window upper level[2] := 0\norbit"
    study = read(HEADER.replace("orbit", more), images=24)
    assert [window.lower_kev for window in study.windows] == [126.45]
    assert np.array_equal(study.counts[0, :, ::-1].ravel(), np.arange(VIEWS * 6))
    assert any("window 2 was left out" in warning for warning in study.warnings)


def test_limits_in_other_units(read):
    text = HEADER.replace(":= 126.45", ":= 126,45 keV").replace(":= 154.55", ":= 154550 eV")
    assert (read(text).windows[0].lower_kev, read(text).windows[0].upper_kev) == (126.45, pytest.approx(154.55))


def test_several_nuclides(read):
    text = _with("isotope", "isotope name[1] := Tc-99m\nisotope name[2] := I-123")
    with pytest.raises(InputError, match="several nuclides, Tc-99m and I-123: give --nuclide"):
        read(text)
    assert read(text, nuclide="I-123").acquisition.nuclide == "I-123"


# Posture.


@pytest.mark.parametrize(
    ("lines", "position"),
    [
        ("patient orientation := head_in\npatient rotation := supine", "HFS"),
        ("patient orientation := Head First\npatient rotation := SUPINE", "HFS"),
        ("patient position := HFS", "HFS"),
        ("patient position := head first supine", "HFS"),
        ("patient orientation := unknown\npatient rotation := other", None),
        ("patient orientation := head_in", None),
    ],
)
def test_postures(read, lines, position):
    study = read(HEADER.replace("orbit", f"{lines}\norbit"))
    assert study.acquisition.patient_position == position
    assert study.warnings == ()


def test_posture_that_nobody_knows_decides_nothing(read):
    study = read(HEADER.replace("orbit", "patient orientation := 7\norbit"))
    assert any("position '7' is not understood" in warning for warning in study.warnings)


def test_prone_and_feet_first_with_the_users_angles(read):
    prone = HEADER.replace("orbit", "patient orientation := head_in\npatient rotation := prone\norbit")
    study = read(prone, head_angles_deg=[180.0])
    assert study.acquisition.patient_position == "HFP"
    assert study.acquisition.view_angles_deg[:2].tolist() == [180, 210]
    feet = HEADER.replace("orbit", "patient position := FFS\norbit")
    with pytest.raises(InputError, match="give --head-angles and --rotation"):
        read(feet, head_angles_deg=[180.0])
    study = read(feet, head_angles_deg=[180.0], rotation="cw")
    assert study.acquisition.patient_position == "FFS"
    assert any("check head and feet" in warning for warning in study.warnings)


@pytest.mark.parametrize("born", ["1970:12:31", "31:12:1970", "31.12.1970", "1970-12-31"])
def test_birth_dates(read, born):
    assert read(HEADER.replace("orbit", f"patient dob := {born}\norbit")).patient == {"PatientBirthDate": "19701231"}


def test_counts_of_0_are_not_known_counts(read):
    text = HEADER.replace("orbit", "number of detector heads := 0\nnumber of energy windows := 0\norbit")
    assert read(text).counts.shape == (1, VIEWS, 2, 3)


def test_copy_of_a_header_is_left_out(read, tmp_path):
    read(HEADER)
    (tmp_path / "copy.hs").write_text(HEADER)
    study = read_study(tmp_path, StudySettings())
    assert len(study.windows) == 1
    assert any("left out as copies" in warning for warning in study.warnings)


def test_files_written_in_another_folder(read):
    text = _with("name of data file", "name of data file := C:\\simulation\\p.s")
    assert read(text).counts.sum() == np.arange(72).sum()


# Numbers of the data file.


def _saved_counts(tmp_path, kind, order, most):
    """Header and Poisson counts of a smooth object, at most about `most` a pixel."""
    shape = np.exp(-0.5 * ((np.arange(64) - 30.0) / 12.0) ** 2)
    counts = np.random.default_rng(7).poisson(most * shape * shape[:16, None] / shape[:16].max(), (VIEWS, 16, 64))
    text = _with("imagedata byte", f"imagedata byte order := {order}")
    spelled = {"u": "unsigned integer", "i": "signed integer", "f": "float"}[kind[1]]
    text = text.replace(":= float", f":= {spelled}").replace("per pixel := 4", f"per pixel := {kind[2]}")
    text = text.replace("[2] := 2", "[2] := 16").replace("[1] := 3", "[1] := 64")
    (tmp_path / "p.hs").write_text(text)
    (counts + (0.3 if kind[1] == "f" and most > 100 else 0)).astype(kind).tofile(tmp_path / "p.s")
    return open_study(tmp_path / "p.hs"), counts


@pytest.mark.parametrize("most", [1, 40, 300, 20000])
@pytest.mark.parametrize("kind", ["<u2", ">u2", "<i2", ">i2", "<u4", ">u4", "<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("stated", ["LITTLEENDIAN", "BIGENDIAN"])
def test_byte_order_that_the_counts_refute(tmp_path, kind, most, stated):
    """Exchanged bytes make 256 of one count, and 1e-41 or 1e30 of a float: the counts tell the true order."""
    study, counts = _saved_counts(tmp_path, kind, stated, most)
    assert np.allclose(study.counts[0, :, ::-1], counts, atol=0.5)
    right = (kind[0] == "<") == (stated == "LITTLEENDIAN")
    assert any("byte order" in warning for warning in study.warnings) != right


def test_scaling_factor_of_0_is_not_applied(read):
    study = read(HEADER.replace("orbit", "image scaling factor := 0\norbit"))
    assert study.counts.sum() == np.arange(72).sum()
    assert any("'image scaling factor' is 0" in warning for warning in study.warnings)


@pytest.mark.parametrize("words", ["head_out", "Head Out", "feet_in", "feet first"])
def test_patient_whose_head_is_out_lies_feet_first(read, words):
    with pytest.raises(InputError, match="give --head-angles and --rotation"):
        read(HEADER.replace("orbit", f"patient orientation := {words}\norbit"))


@pytest.mark.parametrize("words", ["Pinhole", "pin hole", "cone-beam", "converging", "slant"])
@pytest.mark.parametrize("key", ["collimator type", "collimator", "collimator name := LEHR\ncollimator type"])
def test_holes_that_are_neither_parallel_nor_a_fan_beam_are_refused(read, words, key):
    with pytest.raises(InputError, match=f"its collimator {words} has holes that are neither parallel nor a fan beam"):
        read(HEADER.replace("orbit", f"{key} := {words}\norbit"))


@pytest.mark.parametrize("words", ["fan beam", "FAN_BEAM", "se-lefb"])
@pytest.mark.parametrize("key", ["collimator type", "collimator", "collimator name := LEHR\ncollimator type"])
def test_fan_beam_without_a_focal_length_names_the_option(read, words, key):
    """SE-LEFB is the fan beam whose focal length SIMIND's database does not have."""
    with pytest.raises(
        InputError, match=f"its collimator is {words}, and the header has no focal length: give --focal"
    ):
        read(HEADER.replace("orbit", f"{key} := {words}\norbit"))


@pytest.mark.parametrize(
    "line", ["focal length := 350", "collimator focal length (mm) := 350", "focal distance (cm) := 35"]
)
def test_focal_length_of_a_header(read, line):
    study = read(HEADER.replace("orbit", f"collimator type := fan beam\n{line}\norbit"))
    assert study.acquisition.foci == (Focus(350.0),)
    assert not [warning for warning in study.warnings if "not understood" in warning]


@pytest.mark.parametrize(
    ("key", "option"),
    [("start angle", "--head-angles"), ("extent of rotation", "--step-deg"), ("radius", "--radius-mm"),
     ("scaling factor (mm/pixel) [1]", "--pixel-mm"), ("time per projection (sec)", "--view-seconds")],
)  # fmt: skip
def test_key_without_a_number_names_the_option(read, key, option):
    with pytest.raises(InputError, match=f"needs a number, got 'n/a': give {option}"):
        read(_with(key, f"{key} := n/a"))


@pytest.mark.parametrize("second", ["energy window lower level[2] := n/a\nenergy window upper level[2] := 200", ""])
def test_window_whose_limits_are_no_numbers_is_left_out(read, second):
    study = read(HEADER.replace("orbit", f"number of energy windows := 2\n{second}\norbit"), images=24)
    assert [window.lower_kev for window in study.windows] == [126.45]
    assert any("window 2 was left out: the header gives no energy window" in warning for warning in study.warnings)


def test_repeated_limits_without_numbers_are_those_of_the_windows_in_turn(read):
    more = "number of energy windows := 2\nenergy window lower level := 100\nenergy window upper level := 120\norbit"
    study = read(HEADER.replace("level[1]", "level").replace("orbit", more), images=24)
    assert [(window.lower_kev, window.upper_kev) for window in study.windows] == [(126.45, 154.55), (100, 120)]


@pytest.mark.parametrize(("unit", "factor"), [("eV", 1e3), ("MeV", 1e-3)])
def test_limits_of_another_unit_without_its_name(read, unit, factor):
    """No camera's window begins at 126 MeV or ends at 0.15 keV."""
    text = HEADER.replace("126.45", f"{126.45 * factor:.8g}").replace("154.55", f"{154.55 * factor:.8g}")
    study = read(text)
    assert (study.windows[0].lower_kev, study.windows[0].upper_kev) == pytest.approx((126.45, 154.55), rel=1e-12)
    assert any(f"are those of {unit}" in warning for warning in study.warnings)


@pytest.mark.parametrize(
    "more",
    ["scaling factor (cm/pixel) [1] := 0.66", "time per projection (msec) := 25100", "radius (cm) := 15.1"],
)
def test_same_quantity_in_two_units_is_one_value(read, more):
    """0.66 cm is 6.6 mm, but 10 times 0.66 is not 6.6 in floating point."""
    text = _with("scaling factor (mm/pixel) [1]", "scaling factor (mm/pixel) [1] := 6.6")
    text = _with("radius", "radius := 151", _with("time per", "time per projection (sec) := 25.1", text))
    study = read(text.replace("orbit", f"{more}\norbit"))
    assert study.acquisition.pixel_mm == (4.0, 6.6)
    assert study.acquisition.radii_mm.tolist() == [151] * 12
    assert study.acquisition.view_seconds.tolist() == [25.1] * 12


def test_headers_of_a_folder_that_cannot_be_read_are_left_out(read, tmp_path):
    read(HEADER)
    (tmp_path / "long.hs").write_text(HEADER + "x" * (1 << 20))
    (tmp_path / "nodata.hs").write_text(_with("name of data file", "name of data file := gone.s"))
    study = open_study(tmp_path)
    assert study.counts.sum() == np.arange(72).sum()
    assert any(f"left out of {tmp_path.name}: long.hs, nodata.hs" in warning for warning in study.warnings)
    (tmp_path / "p.hs").unlink()
    with pytest.raises(InputError, match=r"nodata\.hs.*'gone\.s' is not there"):
        open_study(tmp_path)


def test_folder_with_different_numbers_of_views_a_head(read, tmp_path):
    """GATE repeats the key for each head: 7 and 5 are no contradiction."""
    heads = "".join(
        GATE_HEAD.format(views=views, extent=30 * views, seconds=25, start=start, sense="CCW", radius=150)
        for views, start in ((7, 0), (5, 210))
    )
    text = GATE.format(described="", heads=heads, geometry="")
    (tmp_path / "p.hs").write_text(text)
    np.arange(72, dtype="<f4").tofile(tmp_path / "p.s")
    assert np.bincount(open_study(tmp_path, StudySettings(nuclide="Tc-99m")).acquisition.detector).tolist() == [7, 5]


def test_two_windows_of_the_same_limits_in_one_header(read):
    again = (
        "number of energy windows := 2\nenergy window lower level[2] := 126.45\nenergy window upper level[2] := 154.55"
    )
    with pytest.raises(InputError, match=r"p\.hs: two of the energy windows go from 126\.45 to 154\.55 keV"):
        read(HEADER.replace("orbit", f"{again}\norbit"), images=24)


@pytest.mark.parametrize(
    ("date", "time", "start"),
    [
        ("20260203", "101112", "2026-02-03T10:11:12"),
        ("2026:02:03", "10:11:12+01:00", "2026-02-03T10:11:12+01:00"),
        ("03:02:2026", "10:11:12", "2026-02-03T10:11:12"),
        ("02/13/2026", "10:11:12", "2026-02-13T10:11:12"),
    ],
)
def test_plain_starts(read, date, time, start):
    study = read(HEADER.replace("orbit", f"study date := {date}\nstudy time := {time}\norbit"))
    assert study.acquisition.start.isoformat() == start
    assert study.warnings == ()


def test_date_with_slashes_may_have_the_month_first(read):
    study = read(HEADER.replace("orbit", "study date := 02/03/2026\nstudy time := 10:11:12\norbit"))
    assert study.acquisition.start.isoformat() == "2026-03-02T10:11:12"
    assert any("02/03/2026 was read with the day first, as 2026-03-02" in warning for warning in study.warnings)


@pytest.mark.parametrize("lines", ["study time := 10:11:12", "study date := 1900:01:01\nstudy time := 10:11:12"])
def test_start_without_a_true_date_is_unknown(read, lines):
    study = read(HEADER.replace("orbit", f"{lines}\norbit"))
    assert study.acquisition.start is None
    assert any("'study date'" in warning and "--start" in warning for warning in study.warnings)


@pytest.mark.parametrize(("spelled", "kind"), [("float", "<f4"), ("short float", "<f4"), ("long float", "<f8")])
def test_format_whose_name_says_its_bytes(read, tmp_path, spelled, kind):
    text = _with("number of bytes", "", HEADER.replace(":= float", f":= {spelled}"))
    (tmp_path / "p.hs").write_text(text)
    np.arange(72).astype(kind).tofile(tmp_path / "p.s")
    assert open_study(tmp_path / "p.hs").counts.sum() == np.arange(72).sum()


def test_data_file_whose_name_differs_in_capitals(read):
    assert read(HEADER.replace(":= p.s", ":= P.S")).counts.sum() == np.arange(72).sum()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_packed_data_beside_a_header_are_named(tmp_path, pack):
    (tmp_path / "p.s").write_bytes(pack(np.zeros(VIEWS * 6, "<f4").tobytes()))
    (tmp_path / "p.hs").write_text(HEADER)
    with pytest.raises(InputError, match=r"p\.s: this is a (gzip|bzip2) archive: unpack it"):
        open_study(tmp_path / "p.hs")


@pytest.mark.parametrize("line", ["time per projection (sec) := 25,5", "time per projection := 25,5 sec"])
def test_comma_of_a_time_is_a_decimal_one_with_two_heads_too(read, line):
    """Only angles may be a list for the heads: 25,5 s are no 25 s of one head and 5 s of the other."""
    text = _with("start angle", "start angle := 0, 180", _with("time per", line))
    text = _with("extent of rotation", "extent of rotation := 360,0", text)
    study = read(text.replace("orbit", "number of detector heads := 2\norbit"), images=24)
    assert study.acquisition.view_seconds.tolist() == [25.5] * 24
    assert study.acquisition.view_angles_deg[:2].tolist() == [0, 30]


def test_start_angle_with_its_unit_is_one_number_with_two_heads_too(read):
    text = _with("start angle", "start angle[1] := 0 deg\nstart angle[2] := 180 deg")
    study = read(text.replace("orbit", "number of detector heads := 2\norbit"), images=24)
    assert study.acquisition.view_angles_deg[::12].tolist() == [0, 180]
