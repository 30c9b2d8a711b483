"""SIMIND's headers: the axis that its orbit file and header name, its collimators, a file for each window."""

import numpy as np
import pytest

from spectac.recon import StudySettings
from spectac.recon.collimator import COLLIMATORS, Focus
from spectac.recon.errors import InputError
from spectac.recon.io import open_study
from spectac.recon.system import SystemModel

VIEWS, ROWS, COLUMNS, PIXEL_MM = 24, 3, 32, 5.0
MIDDLE = COLUMNS / 2 + 1
"""SIMIND counts columns from 1 and names half of the matrix + 1 as the middle."""

HEADER = """!INTERFILE :=
!imaging modality := nucmed
!originating system := simind
program author := M Ljungberg, Lund University
program version := V7.0.3
!name of data file := {name}.a00
;# Radionuclide := tc99m
patient orientation := head_in
patient rotation := supine
!type of data := tomographic
imagedata byte order := LITTLEENDIAN
;energy window lower level := {lower}
;energy window upper level := {upper}
!total number of images := 24
!number of energy windows := 1
number of detector heads := 1
!matrix size [1] := 32
!matrix size [2] := 3
!number format := short float
!number of bytes per pixel := 4
scaling factor (mm/pixel) [1] := 5
scaling factor (mm/pixel) [2] := 5
!extent of rotation := 360
!process status := acquired
!number of projections := 24
!time per projection (sec) := 20.000
image duration (sec) := 480.000
;# Center of Rotation := {centre}
orbit := noncircular
;# Non-Uniform Orbit File := {name}.cor
!direction of rotation := CCW
start angle := 0.000
;#X_offset := {shift}
;# SIMIND-SPECIFIC PARAMETERS :=
{specific}
!END OF INTERFILE :=
"""


@pytest.fixture
def write(tmp_path):
    """Function that saves header, counts and orbit file of one window, and returns the header's path."""

    def save(
        counts, centres=None, *, name="p", centre=MIDDLE, shift=0.0, specific="", window=(126.45, 154.55), radii=None
    ):
        text = HEADER.format(name=name, centre=centre, shift=shift, specific=specific, lower=window[0], upper=window[1])
        (tmp_path / f"{name}.h00").write_text(text)
        np.asarray(counts, "<f4").tofile(tmp_path / f"{name}.a00")
        radii = [15.0] * VIEWS if radii is None else radii
        columns = [""] * VIEWS if centres is None else [f"\t{one:g}" for one in centres]
        (tmp_path / f"{name}.cor").write_text(
            "".join(f"   {radius:.4f}{column}\n" for radius, column in zip(radii, columns, strict=True))
        )
        return tmp_path / f"{name}.h00"

    return save


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Projections (v, z, u) with Poisson noise of two discs at different places, the axis in the middle."""
    angle = np.deg2rad(180.0 + np.arange(VIEWS) * 360.0 / VIEWS)
    at = np.arange(COLUMNS) - 0.5 * (COLUMNS - 1)
    expected = np.full((VIEWS, ROWS, COLUMNS), 2.0)
    for x, y, strength in ((4.0, 2.0, 60.0), (-3.0, 5.0, 30.0)):
        place = -np.cos(angle) * x + np.sin(angle) * y
        expected += strength * np.exp(-0.5 * ((at - place[:, None]) / 1.8) ** 2)[:, None]
    return np.random.default_rng(7).poisson(expected).astype(np.float32)


def _moved(counts, columns):
    """Every view moved by whole columns towards growing u."""
    return np.stack([np.roll(view, int(by), axis=-1) for view, by in zip(counts, columns, strict=True)])


SHIFTS = {
    "constant": np.full(VIEWS, 2),
    "by one": np.full(VIEWS, -1),
    "view by view": np.random.default_rng(3).integers(-3, 4, VIEWS),
}


@pytest.mark.parametrize("name", SHIFTS)
def test_second_column_of_the_orbit_file_places_the_axis(write, sources, name):
    """A view moved towards growing u has its axis there, so that forward projections of one image agree with it."""
    shift = SHIFTS[name]
    study = open_study(write(_moved(sources, shift), MIDDLE + shift))
    assert study.acquisition.u_offset_mm.tolist() == pytest.approx((PIXEL_MM * shift).tolist())
    assert any("axis placed by the second column of p.cor" in line for line in study.history)
    assert not [warning for warning in study.warnings if "applied" in warning]
    still = open_study(write(sources, [MIDDLE] * VIEWS)).acquisition
    assert not still.u_offset_mm.any()
    grid_image = np.zeros((ROWS, COLUMNS, COLUMNS), np.float32)
    grid_image[1, 10:14, 17:20] = 1.0
    plain, moved = (_forward(acquisition, grid_image) for acquisition in (still, study.acquisition))
    assert np.allclose(moved, _moved(plain, shift), atol=1e-4 * plain.max())


def _forward(acquisition, image):
    from spectac.recon.geometry import default_grid

    return SystemModel(acquisition, default_grid(acquisition), resolution=False).forward(image)


def test_column_that_the_counts_refute_is_not_applied(write, sources):
    """A dummy: half of the matrix, in a simulation whose axis is SIMIND's middle, one column further."""
    study = open_study(write(sources, [COLUMNS / 2] * VIEWS))
    assert not study.acquisition.u_offset_mm.any()
    (warning,) = [line for line in study.warnings if "not applied" in line]
    assert "p.cor (centre of rotation), -1 columns" in warning
    assert "show -0.0" in warning or "show 0.0" in warning


def test_column_beyond_the_matrix_is_not_used(write, sources):
    study = open_study(write(sources, [64] * VIEWS))
    assert not study.acquisition.u_offset_mm.any()
    assert any("p.cor (centre of rotation) has 64, beyond the 32 columns" in line for line in study.warnings)


def test_shift_that_counts_cannot_show_is_believed_with_a_warning(write, sources):
    """A shift by a sine of the angle looks like an object that lies elsewhere."""
    columns = MIDDLE + 2.0 * np.sin(np.arange(VIEWS) * 2 * np.pi / VIEWS)
    study = open_study(write(sources, columns))
    assert np.abs(study.acquisition.u_offset_mm).max() == pytest.approx(10.0, rel=1e-3)
    assert any(line.startswith("applied: the second column") for line in study.warnings)


def test_centre_of_rotation_of_the_header(write, sources):
    """Applied where the counts show it; else only a warning, unless the orbit file says the same."""
    study = open_study(write(_moved(sources, np.full(VIEWS, 2)), centre=MIDDLE + 2))
    assert study.acquisition.u_offset_mm.tolist() == [10.0] * VIEWS
    study = open_study(write(sources, centre=MIDDLE + 2))
    assert not study.acquisition.u_offset_mm.any()
    assert any("not applied: the header's centre of rotation, +2 columns" in line for line in study.warnings)
    empty = np.zeros_like(sources)
    assert not open_study(write(empty, centre=MIDDLE + 2)).acquisition.u_offset_mm.any()
    assert open_study(write(empty, [MIDDLE + 2] * VIEWS, centre=MIDDLE + 2)).acquisition.u_offset_mm.all()


def test_header_is_used_where_the_orbit_file_is_refuted(write, sources):
    study = open_study(write(_moved(sources, np.full(VIEWS, 2)), [MIDDLE - 2] * VIEWS, centre=MIDDLE + 2))
    assert study.acquisition.u_offset_mm.tolist() == [10.0] * VIEWS


def test_x_offset_is_told(write, sources):
    study = open_study(write(sources, shift=1.5))
    assert any("X_offset 1.5" in line and "not applied" in line for line in study.warnings)


def test_orbit_file_of_many_forms(write, sources, tmp_path):
    path = write(sources)
    (tmp_path / "p.cor").write_text("# radius  centre\n" + "15,5;17\n" * VIEWS)
    assert open_study(path).acquisition.radii_mm.tolist() == [155] * VIEWS
    (tmp_path / "p.cor").write_text("15.5 stop\n" * VIEWS)
    assert not open_study(path).acquisition.u_offset_mm.any()
    (tmp_path / "p.cor").write_text("radius centre\n" + "15.5 17\n" * VIEWS)
    assert open_study(path).acquisition.radii_mm.tolist() == [155] * VIEWS
    (tmp_path / "p.cor").write_text("15,5\n" * VIEWS)
    assert open_study(path).acquisition.radii_mm.tolist() == [155] * VIEWS
    (tmp_path / "p.cor").write_text(f"15,{MIDDLE:g}\n" * VIEWS)
    study = open_study(path)
    assert study.acquisition.radii_mm.tolist() == [150] * VIEWS
    assert any("was taken to part two columns" in line for line in study.warnings)
    (tmp_path / "p.cor").write_text("15.5, 17\n" * (VIEWS + 3))
    study = open_study(path)
    assert study.acquisition.radii_mm.tolist() == [155] * VIEWS
    assert any("has 27 lines for 24 projections" in line for line in study.warnings)


def test_given_radius_leaves_the_axis_to_the_orbit_file(write, sources):
    shift = SHIFTS["constant"]
    acquisition = open_study(write(_moved(sources, shift), MIDDLE + shift), StudySettings(radius_mm=140.0)).acquisition
    assert acquisition.radii_mm.tolist() == [140] * VIEWS
    assert acquisition.u_offset_mm.tolist() == [10.0] * VIEWS


HOLES = (
    ";# Intrinsic FWHM for the camera := {intrinsic}\n;# Collimator := {code}\n;# Collimator hole diameter := {hole}\n"
    ";# Collimator hole septa := {septa}\n;# Collimator thickness := {length}\n;# SIMIND: Photon Energy := 140.500"
)


@pytest.mark.parametrize(
    ("code", "holes", "intrinsic", "row"),
    [
        ("sy-lehr", (0.111, 0.016, 2.405), 0.39, "siemens-lehr"),
        ("SE-LEUR", (0.116, 0.013, 3.580), 0.36, "siemens-leuhr"),
        ("gi-megp", (0.300, 0.105, 5.800), 0.38, "ge-megp"),
        ("gi-megp", (3.00, 1.05, 58.0), 3.8, "ge-megp"),
        ("si-me", (0.294, 0.114, 4.060), 0.34, "siemens-me"),
        ("to-903a", (0.136, 0.013, 4.000), 0.37, "toshiba-leshr"),
        ("pr-hrfb", (0.140, 0.018, 2.700), 0.38, "prism-lehr-fan"),
    ],
)
def test_codes_of_the_tables_cameras(write, sources, code, holes, intrinsic, row):
    """In cm (version 7) and in mm (version 8): our row, with the simulation's intrinsic resolution."""
    hole, septa, length = holes
    specific = HOLES.format(code=code, hole=hole, septa=septa, length=length, intrinsic=intrinsic)
    study = open_study(write(sources, specific=specific))
    found = study.acquisition.collimator
    assert (found.name, found.gap_mm) == (row, COLLIMATORS[row].gap_mm)
    assert found.intrinsic_fwhm_mm == pytest.approx(10 * intrinsic if intrinsic < 1 else intrinsic)
    assert any("collimator from the header" in line for line in study.history)


@pytest.mark.parametrize("unit", [0.1, 1.0])
@pytest.mark.parametrize("code", ["to-901a", "si-he", "mine"])
def test_other_codes_have_the_holes_of_the_header(write, sources, unit, code):
    specific = HOLES.format(code=code, hole=1.36 * unit, septa=0.13 * unit, length=40 * unit, intrinsic=3.7 * unit)
    acquisition = open_study(write(sources, specific=f"{specific}\n;# Crystal Thickness := {9.0 * unit}")).acquisition
    found = acquisition.collimator
    assert (found.name, acquisition.crystal_mm) == (code, 9.0)
    assert (found.hole_mm, found.septa_mm, found.length_mm) == pytest.approx((1.36, 0.13, 40.0))
    assert (found.intrinsic_fwhm_mm, found.gap_mm) == pytest.approx((3.7, 4.5))
    assert found.hole_shape == "hexagonal"


def test_holes_go_before_the_code(write, sources):
    """SY-LEHR made 5 mm longer: the simulation had these holes, not those of the table."""
    specific = HOLES.format(code="sy-lehr", hole=0.111, septa=0.016, length=2.905, intrinsic=0.38)
    assert open_study(write(sources, specific=specific)).acquisition.collimator.length_mm == pytest.approx(29.05)


@pytest.mark.parametrize(
    ("code", "hole_mm", "name"),
    [("SY-LEHR", 1.11, "siemens-lehr"), ("to-930a", 3.37, "toshiba-megp"), ("G8-LUHR", 2.2, "ge-870-leuhr")],
)
def test_code_alone(write, sources, code, hole_mm, name):
    study = open_study(write(sources, specific=f";# Collimator := {code}"))
    assert (study.acquisition.collimator.name, study.acquisition.collimator.hole_mm) == (name, hole_mm)
    assert not [warning for warning in study.warnings if "ollimator" in warning]


def test_holes_of_a_header_rewritten_for_stir(write, sources):
    """Converters uncomment the windows and spell "float", but leave SIMIND's own keys in their comments."""
    path = write(sources, specific=HOLES.format(code="gv-lehr", hole=0.15, septa=0.02, length=3.5, intrinsic=0.36))
    text = path.read_text().replace(";energy window", "energy window").replace("short float", "float")
    path.write_text(text.replace(";# Non-Uniform", "Radius := 150\n;# Non-Uniform").replace("noncircular", "circular"))
    study = open_study(path, StudySettings(nuclide="Tc-99m"))
    assert (study.acquisition.collimator.name, study.acquisition.collimator.intrinsic_fwhm_mm) == ("ge-lehr", 3.6)
    assert any("rewritten for STIR" in warning for warning in study.warnings)


def test_square_holes(write, sources):
    specific = HOLES.format(code="gz-lehr", hole=0.226, septa=0.02, length=4.5, intrinsic=0.0)
    found = open_study(write(sources, specific=specific)).acquisition.collimator
    assert (found.hole_shape, found.intrinsic_fwhm_mm) == ("square", 0.0)


def test_collimators_that_cannot_be_used(write, sources):
    study = open_study(write(sources, specific=";# Collimator := XX-LEHR"))
    assert study.acquisition.collimator is None
    assert any("'XX-LEHR' is not in the table" in warning for warning in study.warnings)
    strange = HOLES.format(code="mine", hole=0.9, septa=0.02, length=900, intrinsic=0.38)
    study = open_study(write(sources, specific=strange))
    assert study.acquisition.collimator is None
    assert any("a length of 900 mm, as none has" in warning for warning in study.warnings)


def test_fan_beams_of_simind(write, sources):
    """SIMIND's database has the focal length of its codes; its headers do not."""
    holes = {"hole": 0.14, "septa": 0.018, "length": 2.7, "intrinsic": 0.38}
    path = write(sources, specific=HOLES.format(code="pr-hrfb", **holes))
    study = open_study(path)
    assert set(study.acquisition.foci) == {Focus(500.0)}
    assert any("fan-beam: focal length 500 mm from the face" in line for line in study.history)
    # Holes of another collimator, the same focus.
    lehr = open_study(path, StudySettings(collimator="ge-lehr", focus_from="back")).acquisition
    assert (lehr.collimator.name, set(lehr.foci)) == ("ge-lehr", {Focus(500.0, "back")})
    rebinned = open_study(path, StudySettings(focal_length_mm=float("inf"))).acquisition
    assert (rebinned.foci, rebinned.collimator.name, rebinned.collimator.focus) == ((), "prism-lehr-fan", None)
    unknown = write(sources, specific=HOLES.format(code="se-lefb", **holes))
    with pytest.raises(InputError, match="its collimator is se-lefb, and the header has no focal length: give --focal"):
        open_study(unknown)
    given = open_study(unknown, StudySettings(focal_length_mm=380, focus_offset_mm=1.5)).acquisition
    assert set(given.foci) == {Focus(380.0, "face", 1.5)}


def test_posture_of_the_phantom(write, sources):
    """SIMIND's angles are its phantom's: nothing is turned, and that is told."""
    path = write(sources)
    plain = open_study(path)
    path.write_text(path.read_text().replace("head_in", "feet_in").replace("supine", "prone"))
    study = open_study(path)
    assert study.acquisition.patient_position == "FFP"
    assert np.array_equal(study.acquisition.view_angles_deg, plain.acquisition.view_angles_deg)
    assert any("those of its phantom" in warning for warning in study.warnings)


def test_a_file_for_each_window(write, sources, tmp_path):
    """In a folder and as several paths; each window's file has its own orbit file; the axis is that of all counts."""
    shift = SHIFTS["view by view"]
    moved = _moved(sources, shift)
    paths = [
        write(moved * scale, MIDDLE + shift, name=f"p_tot_w{number}", window=limits)
        for number, (limits, scale) in enumerate([((126, 154), 1.0), ((116, 126), 0.0), ((154, 164), 0.001)], 1)
    ]
    for study in (open_study(tmp_path), open_study(paths)):
        assert [window.lower_kev for window in study.windows] == [126, 116, 154]
        assert len({window.name for window in study.windows}) == 3
        assert study.acquisition.u_offset_mm.tolist() == (PIXEL_MM * shift).tolist()
        assert [line for line in study.warnings if "cm" not in line] == []


def test_partial_images_of_any_name_are_left_out(write, sources, tmp_path):
    """Scattered photons of the same window beside its total, whose name does not say "tot"."""
    write(sources, name="p_w1")
    write(sources * 0.2, name="p_SCA_w1")
    study = open_study(tmp_path)
    assert study.counts.sum() == sources.sum()
    assert any("left out" in line and "p_SCA_w1.h00" in line for line in study.warnings)


def test_window_names_are_distinct(write, sources, tmp_path):
    for number, limits in enumerate([(126, 154), (116, 126)], 1):
        path = write(sources, name=f"p_tot_w{number}", window=limits)
        path.write_text(
            path.read_text().replace(";energy window lower", ";energy window[1] := Tc99m\n;energy window lower")
        )
    names = [window.name for window in open_study(tmp_path).windows]
    assert names == ["Tc99m 126-154 keV", "Tc99m 116-126 keV"]
