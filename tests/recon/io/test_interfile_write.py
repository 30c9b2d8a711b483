"""Interfile out: what was written comes back, lies where STIR and SIMIND say it does, or is refused.

The hot spot's columns are those of test_interfile_orientation.py, written down from what each camera position sees:
matrix 17 wide and 9 high, axis in the middle, the spot 3 pixels to the left, 4 to the front, 2 up.
"""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from spectac.recon.collimator import COLLIMATORS, Collimator
from spectac.recon.errors import InputError
from spectac.recon.geometry import default_grid
from spectac.recon.io import files_of, mu_map, open_study
from spectac.recon.io.interfile.header import read_header
from spectac.recon.io.interfile.image import read_mu_map
from spectac.recon.io.interfile.sweep import even_sweep
from spectac.recon.io.interfile.write import (
    write_simind_mu_map,
    write_simind_study,
    write_stir_mu_map,
    write_stir_study,
)
from spectac.recon.system import SystemModel
from spectac.recon.types import Acquisition, EnergyWindow, Grid, MuMap, Study

SIMSET = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "stir_simset" / "input.hs"
WRITERS = {"stir": write_stir_study, "simind": write_simind_study}
COLUMN = {0: 5, 90: 4, 180: 11, 270: 12}

TWO_HEADS = np.concatenate([10 + 30.0 * np.arange(6), 190 + 30.0 * np.arange(6)])
CASES = {
    "one head": {},
    "clockwise from 93": {"view_angles_deg": 93 - 30.0 * np.arange(12)},
    "two heads": {"view_angles_deg": TWO_HEADS, "detector": np.repeat([0, 1], 6)},
    "two heads clockwise": {"view_angles_deg": (TWO_HEADS * -1.0) % 360, "detector": np.repeat([0, 1], 6)},
    "heads at 90 deg": {
        "view_angles_deg": np.concatenate([315 + 15.0 * np.arange(6), 45 + 15.0 * np.arange(6)]),
        "detector": np.repeat([0, 1], 6),
    },
    "half a turn clockwise across 0": {"view_angles_deg": 45 - 15.0 * np.arange(12)},
    "steps that are no short decimal": {"view_angles_deg": 1.7 + 360.0 / 7 * np.arange(7)},
    "non-circular": {"radii_mm": 150 + 31.3 * np.sin(np.arange(12)) ** 2},
    "pixels not square": {"pixel_mm": (2.3976, 4.7952), "matrix": (5, 8)},
    "unknown times": {"view_seconds": np.full(12, np.nan)},
}


def study_of(**changes):
    views = len(changes.get("view_angles_deg", range(12)))
    values = {
        "view_angles_deg": 20 + 30.0 * np.arange(12),
        "radii_mm": np.full(views, 141.7),
        "matrix": (6, 7),
        "pixel_mm": (3.3, 3.3),
        "view_seconds": np.full(views, 12.3),
        "nuclide": "I-123",
        "collimator": COLLIMATORS["siemens-lehr"],
        "patient_position": "HFS",
        **changes,
    }
    acquisition = Acquisition(**values)
    # No whole numbers: float32 must come back to the bit.
    counts = np.random.default_rng(3).gamma(2.0, 7.0, (3, *acquisition.shape)).astype(np.float32)
    windows = (
        EnergyWindow("photopeak {20 %}", 143.073, 174.867),
        EnergyWindow("lower", np.float64(131.945), np.float64(143.073)),
        EnergyWindow("upper", 174.867, 185.995),
    )
    return Study(acquisition, windows, counts)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dialect", WRITERS)
def test_round_trip(tmp_path, dialect, case):
    study = study_of(**CASES[case])
    headers = WRITERS[dialect](tmp_path, study)
    back = open_study(tmp_path)
    mine, theirs = study.acquisition, back.acquisition
    order = even_sweep(mine, clockwise=False if dialect == "simind" else None).order
    assert sorted(order) == list(range(mine.views))
    turn = (theirs.view_angles_deg - mine.view_angles_deg[order] + 180) % 360 - 180
    assert np.abs(turn).max() < 1e-9
    assert np.array_equal(back.counts, study.counts[:, order])
    assert np.allclose(theirs.radii_mm, mine.radii_mm[order], rtol=1e-14, atol=0)
    assert np.allclose(theirs.view_seconds, mine.view_seconds, rtol=1e-14, equal_nan=True)
    assert theirs.pixel_mm == mine.pixel_mm
    assert theirs.nuclide == "I-123"
    assert theirs.patient_position == "HFS"
    assert [(w.lower_kev, w.upper_kev) for w in back.windows] == [(w.lower_kev, w.upper_kev) for w in study.windows]
    assert [w.name for w in back.windows] == ["photopeak (20 %)", "lower", "upper"]
    if dialect == "simind":
        assert theirs.collimator == mine.collimator
    expected = {"unknown times": ["no time per projection"], "non-circular": ["taken as cm"] * (dialect == "simind")}
    warned = expected.get(case, [])
    assert len(back.warnings) == len(warned)
    assert all(text in line for text, line in zip(warned, back.warnings, strict=True))
    one = open_study(headers[1])
    assert np.array_equal(one.counts[0], study.counts[1][order])


def test_one_head_stays_in_the_order_of_time_for_stir(tmp_path):
    """STIR's header knows both senses of rotation, so nothing needs to be turned."""
    for case in ("one head", "clockwise from 93", "half a turn clockwise across 0"):
        assert even_sweep(study_of(**CASES[case]).acquisition).order.tolist() == list(range(12))


def spot(**changes):
    """Hot spot at the left, front and top, seen from behind, left, front and right; z of a study grows upwards."""
    angles = changes.pop("angles", (0, 90, 180, 270))
    counts = np.zeros((1, 4, 9, 17), np.float32)
    for view, angle in enumerate(angles):
        counts[0, view, 6, COLUMN[angle]] = 1000.0
    acquisition = Acquisition(
        np.array(angles, float), np.full(4, 200.0), (9, 17), (4.0, 4.0), np.ones(4), "Tc-99m", None, **changes
    )
    return Study(acquisition, (EnergyWindow("peak", 126, 154),), counts)


@pytest.mark.parametrize("angles", [(0, 90, 180, 270), (180, 90, 0, 270), (270, 0, 90, 180)])
@pytest.mark.parametrize(
    ("dialect", "zero", "sense"), [("stir", "back", 1), ("simind", "front", -1)], ids=["stir", "simind"]
)
def test_hot_spot_lies_where_the_dialect_says_and_comes_back(tmp_path, dialect, zero, sense, angles):
    """The bytes, by the dialects' own words: STIR counts from the back; SIMIND from the front, positive = clockwise."""
    study = spot(angles=angles)
    (path,) = WRITERS[dialect](tmp_path, study)
    header = read_header(path)
    frames = np.fromfile(path.with_name(header.required("name of data file")), "<f4").reshape(4, 9, 17)
    start = header.as_number("start angle", header.required("start angle"))
    step = 90.0 * {"CCW": 1, "CW": -1}[header.required("direction of rotation")]
    for view, frame in enumerate(frames):
        row, column = np.unravel_index(np.argmax(frame), frame.shape)
        at_back = ({"back": 0, "front": 180}[zero] + sense * start + view * step) % 360
        assert (row, column) == (2, COLUMN[at_back])
    back = open_study(path)
    model = SystemModel(back.acquisition, default_grid(back.acquisition), resolution=False)
    sensitivity = model.adjoint(np.ones(model.projections_shape, np.float32))
    image = (sensitivity > 0).astype(np.float32)
    for _ in range(20):
        expected = model.forward(image)
        ratio = np.divide(back.counts[0], expected, out=np.zeros_like(expected), where=expected > 1e-6)
        image *= np.divide(model.adjoint(ratio), sensitivity, out=np.zeros_like(image), where=sensitivity > 0)
    z, y, x = np.unravel_index(np.argmax(image), image.shape)
    # 3 pixels of 4 mm to the left, 4 to the front, 2 up.
    assert (default_grid(back.acquisition).affine_lps @ [z, y, x, 1])[:3] == pytest.approx((12.0, -16.0, 8.0))


def mu_spot(acquisition):
    """Map of water with one dense voxel at the hot spot's place."""
    grid = default_grid(acquisition)
    values = np.full(grid.shape, 0.15, np.float32)
    values[6, 4, 11] = 0.9
    return MuMap(values, grid, 140.5)


def test_stir_mu_map_lies_as_its_projector_takes_it(tmp_path):
    """STIR's SPECTUB: at the angle t a voxel at (x, y) falls on the bin x cos t + y sin t, R + x sin t - y cos t away.

    The dense voxel must fall on the bins of the hot spot, nearest where the camera stands at its side, on the same row.
    """
    study = spot()
    write_stir_mu_map(tmp_path / "mu.hv", mu_spot(study.acquisition), study.acquisition)
    stored = np.fromfile(tmp_path / "mu.v", "<f4").reshape(9, 17, 17)
    k, j, i = np.unravel_index(np.argmax(stored), stored.shape)
    assert k == 2  # the file row of the projections
    x, y = i - 8, j - 8
    # 4 pixels in front of the axis and 3 to its left: that much nearer to the cameras there.
    nearer = {0: -4, 90: 3, 180: 4, 270: -3}
    for angle, column in COLUMN.items():
        sine, cosine = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
        assert x * cosine + y * sine + 8 == pytest.approx(column)
        assert x * sine - y * cosine == pytest.approx(-nearer[angle])


def test_simind_mu_map_lies_as_its_header_says(tmp_path):
    """Image Orientation 1 0 0 0 1 0: columns to the left, rows to posterior; the first slice is at +z."""
    study = spot()
    write_simind_mu_map(tmp_path / "mu.hct", mu_spot(study.acquisition), study.acquisition)
    stored = np.fromfile(tmp_path / "mu.ict", "<f4").reshape(9, 17, 17)
    assert np.unravel_index(np.argmax(stored), stored.shape) == (2, 4, 11)
    header = read_header(tmp_path / "mu.hct")
    assert header.text("image orientation", comments=True) == "1.000 0.000 0.000 0.000 1.000 0.000"
    assert header.text("image position first image", comments=True) == "-34.0000 -34.0000 18.0000"
    assert header.text("units of data (ect)", comments=True) == "mu"


@pytest.mark.parametrize("axis", [None, (3.5, -120.25, 40.0)])
@pytest.mark.parametrize("write", [write_stir_mu_map, write_simind_mu_map])
def test_mu_map_round_trip(tmp_path, write, axis):
    acquisition = study_of(axis_lps_mm=axis, pixel_mm=(2.5, 4.0)).acquisition
    grid = default_grid(acquisition)
    values = np.random.default_rng(1).uniform(0, 0.3, grid.shape)
    mu = MuMap(values, grid, 159.2)
    write(tmp_path / "mu.hv", mu, acquisition)
    back, notes = read_mu_map(tmp_path / "mu.hv", acquisition, 158.97)
    assert np.array_equal(back.per_cm, mu.per_cm)
    assert back.grid.same_as(grid)
    assert back.energy_kev == 159.2
    assert "rotation axis" in notes[0]
    assert len(files_of(tmp_path / "mu.hv")) == 2
    # Another field and voxel, as an image of a CT would have: its centre is the axis, at half of the rows.
    text = (tmp_path / "mu.hv").read_text().replace("[3] := 2.5", "[3] := 5.0").replace("keV", "MeV")
    (tmp_path / "mu.hv").write_text(text)
    longer, _ = read_mu_map(tmp_path / "mu.hv", acquisition, 158.97)
    assert longer.energy_kev == 158.97
    middle = [np.array(one.shape) / 2 - 0.5 for one in (longer.grid, grid)]
    centres = [one.affine_lps @ [*place, 1] for one, place in zip((longer.grid, grid), middle, strict=True)]
    assert np.allclose(centres[0], centres[1])


# As SIMIND 7.0.3 writes its aligned map, and as STIR writes an image; both of 2 x 3 x 4 voxels.
SIMIND_MAP = """!INTERFILE :=
!imaging modality := nucmed
!originating system := simind
program version := V7.0.3
!name of data file := map.bin
!study ID := Aligned CT Map
exam type := CT DATA
!type of data := tomographic
imagedata byte order := LITTLEENDIAN
!total number of images := 2
!matrix size [1] := 4
!matrix size [2] := 3
!matrix size [3] := 2
scaling factor (mm/pixel) [1] := 3.296
scaling factor (mm/pixel) [2] := 3.296
;# scaling factor (mm/pixel) [3] := 6.592
;# Image Position First image := -6.5920 -4.9440 6.592000
;# Image Orientation := 1.000 0.000 0.000 0.000 1.000 0.000
!number of bytes per pixel := 4
!number format := short float
;# Units of data (ECT) := mu
!process status := reconstructed
!END OF INTERFILE :=
"""
STIR_MAP = """!INTERFILE  :=
!imaging modality := nucmed
name of data file := map.bin
!type of data := PET
imagedata byte order := LITTLEENDIAN
!PET STUDY (General) :=
!PET data type := Image
process status := Reconstructed
!number format := float
!number of bytes per pixel := 4
number of dimensions := 3
matrix axis label [1] := x
!matrix size [1] := 4
scaling factor (mm/pixel) [1] := 3.296
matrix axis label [2] := y
!matrix size [2] := 3
scaling factor (mm/pixel) [2] := 3.296
matrix axis label [3] := z
!matrix size [3] := 2
scaling factor (mm/pixel) [3] := 6.592
first pixel offset (mm) [1] := -6.592
first pixel offset (mm) [2] := -3.296
first pixel offset (mm) [3] := 0
number of time frames := 1
!END OF INTERFILE :=
"""


@pytest.mark.parametrize(("text", "left_mm"), [(SIMIND_MAP, 4.944), (STIR_MAP, -4.944)], ids=["simind", "stir"])
def test_a_map_of_the_program_itself(tmp_path, text, left_mm):
    """The last voxel of the first row of the first slice is at the front and top; at the left for SIMIND, not STIR."""
    (tmp_path / "map.h").write_text(text)
    stored = np.full((2, 3, 4), 0.15, "<f4")
    stored[0, 0, 3] = 0.3
    stored.tofile(tmp_path / "map.bin")
    mu, _ = read_mu_map(tmp_path / "map.h", spot().acquisition, 140.5)
    z, y, x = np.unravel_index(np.argmax(mu.per_cm), mu.per_cm.shape)
    # 1.5 voxels of 3.296 mm to the side, 1 to the front, half of 6.592 mm up.
    assert (mu.grid.affine_lps @ [z, y, x, 1])[:3] == pytest.approx((left_mm, -3.296, 3.296))
    assert mu.energy_kev == 140.5


@pytest.mark.parametrize(
    ("write", "change", "message"),
    [
        (write_simind_mu_map, (" (ECT) := mu", " (ECT) := density"), "is density, not mu"),
        (write_simind_mu_map, (";# Units of data (ECT) := mu\n", ""), "is missing, not mu"),
        (write_simind_mu_map, ("0.000 1.000 0.000\n", "0.000 -1.000 0.000\n"), "mu-maps have 1 0 0 0 1 0"),
        (write_stir_mu_map, ("[3] := 4.0", "[3] := 4e-9"), "between 0.1 and 50 mm"),
        (write_stir_mu_map, (";Units of data := 1/cm", ";Units of data := 1/m"), "'Units of data' is 1/m"),
        (write_stir_mu_map, ("process status := Reconstructed", "process status := Acquired"), "acquired projections"),
        (write_stir_mu_map, ("!number format := float", "image scaling factor[1] := 1000\n!number format := float"),
         "must be in 1/cm"),
    ],
)  # fmt: skip
def test_refused_maps(tmp_path, write, change, message):
    study = spot()
    write(tmp_path / "mu.hv", mu_spot(study.acquisition), study.acquisition)
    text = (tmp_path / "mu.hv").read_text()
    assert change[0] in text
    (tmp_path / "mu.hv").write_text(text.replace(*change))
    with pytest.raises(InputError, match=message):
        read_mu_map(tmp_path / "mu.hv", study.acquisition, 140.5)


def test_a_map_on_another_grid_is_not_written(tmp_path):
    acquisition = spot().acquisition
    mu = MuMap(np.full((4, 4, 4), 0.1), Grid.upright((4, 4, 4), (4.0, 4.0, 4.0), (0, 0, 0)), 140.5)
    for write in (write_stir_mu_map, write_simind_mu_map):
        with pytest.raises(InputError, match="is not that of the reconstruction"):
            write(tmp_path / "mu.hv", mu, acquisition)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"u_offset_mm": np.full(12, 1.5)}, "1.5 mm beside the middle"),
        ({"view_seconds": np.linspace(10, 20, 12)}, "view times go from 10 to 20 s"),
        ({"view_angles_deg": np.r_[np.arange(6) * 30.0, 185 + np.arange(6) * 30.0]}, "not evenly spaced"),
        ({"view_angles_deg": np.r_[np.arange(6) * 60.0, np.arange(6) * 60.0]}, "not evenly spaced"),
        ({"view_angles_deg": np.array([0.0])}, "one view is no sweep"),
    ],
)
@pytest.mark.parametrize("dialect", WRITERS)
def test_refused_studies(tmp_path, dialect, changes, message):
    with pytest.raises(InputError, match=message):
        WRITERS[dialect](tmp_path, study_of(**changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("radius", [55.0, 600.0])
def test_a_radius_that_reads_as_the_other_unit_is_refused_for_simind(tmp_path, radius):
    with pytest.raises(InputError, match="needs 60 to 600 mm"):
        write_simind_study(tmp_path, study_of(radii_mm=np.full(12, radius)))
    write_stir_study(tmp_path, study_of(radii_mm=np.full(12, radius)))
    assert open_study(tmp_path).acquisition.radii_mm.max() == radius


def test_what_is_not_known_is_not_written(tmp_path):
    """A posture other than head first and supine, a measured line, a start: the header says nothing wrong of them."""
    study = study_of(
        patient_position="FFP", collimator=Collimator.from_line(1.4, 0.02), start=datetime(2026, 2, 28, 23, 59, 59)
    )
    write_stir_study(tmp_path / "..", study, name=f"{tmp_path.name}_stir")
    write_simind_study(tmp_path, study)
    back = open_study(tmp_path)
    assert back.acquisition.patient_position is None
    assert back.acquisition.collimator is None
    assert back.acquisition.start == datetime(2026, 2, 28, 23, 59, 59)
    header = read_header(tmp_path.parent / f"{tmp_path.name}_stir_w1.hs")
    assert header.text("patient orientation", "patient rotation", "study date") is None


@pytest.mark.skipif(not SIMSET.is_file(), reason="../shared/data/stir_simset is not here")
def test_stir_keys_are_those_of_a_real_header(tmp_path):
    """Every key of STIR's own test file is there, with the same value where both describe the same thing.

    What is added is in headers that STIR's own tools write (windows, isotope, time) or in its parser (radii).
    """
    real = read_header(SIMSET)
    views, rows, columns = 120, 64, 128
    acquisition = Acquisition(
        180 - 3.0 * np.arange(views), np.full(views, 150.0), (rows, columns), (3.32, 3.32), np.full(views, 2.0),
        "Tc-99m", None, patient_position="HFS",
    )  # fmt: skip
    study = Study(acquisition, (EnergyWindow("peak", 126, 154),), np.zeros((1, views, rows, columns)))
    (path,) = write_stir_study(tmp_path, study, name="input")
    ours = read_header(path)
    assert set(real.keys) <= set(ours.keys)
    for key, values in real.keys.items():
        if key == "name of data file":
            continue
        try:
            assert float(ours.keys[key][0]) == float(values[0]), key
        except ValueError:
            assert ours.keys[key] == values, key
    assert set(ours.keys) - set(real.keys) == {
        "data offset in bytes", "isotope name", "number of energy windows", "energy window lower level[1]",
        "energy window upper level[1]", "number of time frames", "image duration (sec)[1]",
        "image relative start time (sec)[1]",
    }  # fmt: skip


def test_no_half_of_an_export_stays(tmp_path):
    """The header comes last: where the data cannot be written there is no header to them."""
    study = study_of()
    (tmp_path / "projections_w1.s").mkdir()
    with pytest.raises(OSError):
        write_stir_study(tmp_path, study)
    assert [path.name for path in tmp_path.iterdir()] == ["projections_w1.s"]


def test_unsorted_views_become_one_sweep():
    """The same views listed in any order are the same sweep."""
    study = study_of(**CASES["two heads"])
    shuffled = np.random.default_rng(5).permutation(12)
    acquisition = replace(
        study.acquisition,
        view_angles_deg=study.acquisition.view_angles_deg[shuffled],
        detector=None,
        view_start_s=None,
    )
    sweep = even_sweep(acquisition, clockwise=False)
    angles = acquisition.view_angles_deg[sweep.order]
    assert np.allclose((angles - angles[0]) % 360, 30.0 * np.arange(12))
    assert sweep.start_deg == acquisition.view_angles_deg[0]


def test_a_map_says_whose_it_is(tmp_path):
    """The patient of a STIR map is compared with that of the projections; SIMIND's name is that of its output file."""
    acquisition = study_of().acquisition
    lines = "patient name := {}\npatient ID := 7\n!END"
    for text, name in ((STIR_MAP, "map.bin"), (SIMIND_MAP, "SMC_p.s")):
        (tmp_path / "map.hv").write_text(text.replace("!END", lines.format(name), 1))
        np.full(24, 0.15, "<f4").tofile(tmp_path / "map.bin")
        patient = mu_map.read_mu_map(tmp_path / "map.hv", acquisition, 140.5).patient
        assert patient["PatientID"] == "7"
        assert patient.get("PatientName") == (name if text is STIR_MAP else None)
