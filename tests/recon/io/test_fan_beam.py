"""Fan beams in DICOM NM, HDF5 and the user's options.

The files of three heads come from an encoder that draws rays from the focal line through points of a phantom to the
crystal, with pydicom alone. What is read is checked ray by ray: each spot's ray must pass through the point.
"""

import dataclasses
import math
from itertools import product

import h5py
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from spectac.recon.collimator import COLLIMATORS, Collimator, Focus, collimator
from spectac.recon.errors import InputError
from spectac.recon.io import open_study
from spectac.recon.io.dicom.nm import read_study, write_image
from spectac.recon.io.dicom.nm_write_projections import write_study
from spectac.recon.io.dicom.nm_write_pytomography import write_for_pytomography
from spectac.recon.io.hdf5 import write_study as write_hdf5
from spectac.recon.io.interfile.write import write_simind_study, write_stir_study
from spectac.recon.settings import StudySettings
from spectac.recon.types import Acquisition, EnergyWindow, Grid, Image, Study

PIXEL_MM, COLUMNS, ROWS, VIEWS = 4.0, 128, 8, 6
LENGTH_MM, GAP_MM = 27.0, 4.75
POINTS = ((60.0, 10.0, 1), (-25.0, -45.0, 4), (5.0, 70.0, 6))
"""Points x, y in mm from the axis (left, posterior) and the row, counted from the inferior one."""
PARALLEL = float("inf")


def encoded(heads, sense, *, turned=False, focal=lambda face_mm: face_mm, kind="FANB", extra=None):
    """Dataset of heads (start_deg, radius_mm, face_mm, offset_mm); `focal` gives FocalDistance from the true length.

    `turned`: frames stored upside down and mirrored, as ImageOrientationPatient then says; XFocusCenter with them.
    """
    frames, items = [], []
    for start_deg, radius_mm, face_mm, offset_mm in heads:
        for view in range(VIEWS):
            angle = math.radians(start_deg + sense * view * 360 / VIEWS / len(heads))
            away, right = (math.sin(angle), math.cos(angle)), (-math.cos(angle), math.sin(angle))
            frame = np.zeros((ROWS, COLUMNS))
            for x, y, row in POINTS:
                along, across = x * away[0] + y * away[1], x * right[0] + y * right[1]
                from_focus = along - (radius_mm - face_mm)
                u = offset_mm + (across - offset_mm) * (face_mm + LENGTH_MM + GAP_MM) / from_focus
                column = u / PIXEL_MM + (COLUMNS - 1) / 2
                low = math.floor(column)
                frame[ROWS - 1 - row, low] += round(1000 * (low + 1 - column))
                frame[ROWS - 1 - row, low + 1] += round(1000 * (column - low))
            frames.append(frame[::-1, ::-1] if turned else frame)
        angle = math.radians(start_deg)
        item = Dataset()
        item.CollimatorType, item.CollimatorGridName, item.StartAngle = kind, "FANHR", str(start_deg)
        item.RadialPosition = str(radius_mm)
        item.FocalDistance = round(focal(face_mm))
        item.XFocusCenter = str(-offset_mm if turned else offset_mm)
        mirror = -1 if turned else 1
        direction = [-math.cos(angle) * mirror, math.sin(angle) * mirror, 0, 0, 0, -mirror]
        item.ImageOrientationPatient = [f"{value:.9f}" for value in direction]
        for word, value in (extra or {}).items():
            setattr(item, word, value)
        items.append(item)
    limits, window, code, agent, rotation, data = (Dataset() for _ in range(6))
    limits.EnergyWindowLowerLimit, limits.EnergyWindowUpperLimit = "126", "154"
    window.EnergyWindowName, window.EnergyWindowRangeSequence = "peak", Sequence([limits])
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "C-163A8", "SNM3", "^99m^Technetium"
    agent.RadionuclideCodeSequence = Sequence([code])
    rotation.AngularStep, rotation.ScanArc = str(360 / VIEWS / len(heads)), str(360 / len(heads))
    rotation.RotationDirection, rotation.NumberOfFramesInRotation = ("CC" if sense > 0 else "CW"), VIEWS
    rotation.ActualFrameDuration, rotation.StartAngle = "20000", str(heads[0][0])
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.20", f"1.2.3.{round(heads[0][0]) + 1}"
    data.StudyInstanceUID, data.Modality, data.Manufacturer = "1.2.3", "NM", "TOSHIBA"
    data.ImageType = ["ORIGINAL", "PRIMARY", "TOMO", "EMISSION"]
    data.AcquisitionDate, data.AcquisitionTime = "20260203", "101112"
    data.CorrectedImage = ["UNIF", "COR"]
    data.FrameIncrementPointer = [0x00540010, 0x00540020, 0x00540050, 0x00540090]
    data.NumberOfFrames, data.Rows, data.Columns = len(frames), ROWS, COLUMNS
    data.PixelSpacing = [str(PIXEL_MM), str(PIXEL_MM)]
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.NumberOfEnergyWindows, data.NumberOfDetectors, data.NumberOfRotations = 1, len(heads), 1
    data.EnergyWindowVector, data.RotationVector = [1] * len(frames), [1] * len(frames)
    data.DetectorVector = [head + 1 for head in range(len(heads)) for _ in range(VIEWS)]
    data.AngularViewVector = [view + 1 for _ in heads for view in range(VIEWS)]
    data.EnergyWindowInformationSequence = Sequence([window])
    data.RadiopharmaceuticalInformationSequence = Sequence([agent])
    data.RotationInformationSequence = Sequence([rotation])
    data.DetectorInformationSequence = Sequence(items)
    data.add_new(0x7FE00010, "OW", np.array(frames, "<u2").tobytes())
    return data


def saved(data, path):
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    return path


THREE = ((0.0, 130.0, 400.0, 6.0), (120.0, 132.0, 380.0, 0.0), (240.0, 131.0, 420.0, -9.0))
HOLES = StudySettings(holes=f"1.4:0.18:{LENGTH_MM}")


@pytest.fixture
def fan(tmp_path):
    """Function that writes a file of `encoded`, after an edit, and returns its path."""

    def write(heads=THREE, sense=1, *, edit=lambda data: None, name="fan.dcm", **options):
        data = encoded(heads, sense, **options)
        edit(data)
        return saved(data, tmp_path / name)

    return write


def misses_mm(study, foci=None):
    """Largest distance in mm between a phantom's point and the ray of its spot, over all views."""
    acquisition = study.acquisition
    worst = 0.0
    for view in range(acquisition.views):
        focus = (foci or acquisition.foci)[acquisition.detector[view]]
        face_mm, crystal_mm = focus.distances_mm(acquisition.collimator)
        angle = math.radians(acquisition.view_angles_deg[view])
        away = np.array([math.sin(angle), math.cos(angle)])
        right = np.array([-math.cos(angle), math.sin(angle)])
        line = (acquisition.radii_mm[view] - face_mm) * away + focus.offset_mm * right
        for x, y, row in POINTS:
            counts = study.counts[0, view, row]
            u_mm = PIXEL_MM * (counts @ np.arange(COLUMNS) / counts.sum() - (COLUMNS - 1) / 2)
            ray = (line + crystal_mm * away + (u_mm - focus.offset_mm) * right) - line
            to_point = np.array([x, y]) - line
            worst = max(worst, abs(ray[0] * to_point[1] - ray[1] * to_point[0]) / math.hypot(*ray))
    return worst


@pytest.mark.parametrize(
    ("first_deg", "sense", "turned", "plane", "offset_mm"),
    [*product((0.0, 37.0, 300.0), (1, -1), (False, True), ("face", "back", "crystal"), (0.0, 8.0))],
)
def test_three_heads_of_every_start_sense_and_focus(fan, first_deg, sense, turned, plane, offset_mm):
    """Start, sense, order of columns, plane of the focal length and side of the focus: every ray meets its point."""
    before_face = {"face": 0.0, "back": LENGTH_MM, "crystal": LENGTH_MM + GAP_MM}[plane]
    heads = tuple(
        (first_deg + start, radius, 340.0 + 40 * head - before_face, offset + offset_mm)
        for head, (start, radius, _, offset) in enumerate(THREE)
    )
    path = fan(heads, sense, turned=turned, focal=lambda face_mm: face_mm + before_face)
    study = open_study(path, dataclasses.replace(HOLES, focus_from=plane))
    acquisition = study.acquisition
    assert acquisition.foci == tuple(Focus(340.0 + 40 * k, plane, heads[k][3]) for k in range(3))
    assert misses_mm(study) < 0.02 * PIXEL_MM
    # A wrong side of the focus, or a wrong plane, would be seen: by more than a pixel and by a third of one.
    mirrored = [dataclasses.replace(focus, offset_mm=-focus.offset_mm) for focus in acquisition.foci]
    assert misses_mm(study, mirrored) > PIXEL_MM
    other = "crystal" if plane == "face" else "face"
    assert misses_mm(study, [dataclasses.replace(focus, counted_from=other) for focus in acquisition.foci]) > 1.3


def test_the_file_alone_counts_from_the_face_and_says_so(fan):
    study = read_study(fan())
    assert study.acquisition.foci == (Focus(400.0, "face", 6.0), Focus(380.0), Focus(420.0, "face", -9.0))
    assert study.acquisition.collimator is None
    turned = read_study(fan(turned=True))
    assert any("380 mm from the face, offset 0 mm" in line for line in turned.history)
    assert any("length of the file, plane by default: makers differ, --focus-from" in line for line in study.history)
    assert any("the fan-beam collimator 'FANHR' of TOSHIBA is not in the table" in line for line in study.warnings)


def test_options_go_before_the_file(fan):
    path = fan()

    def foci(**given):
        return open_study(path, StudySettings(**given)).acquisition.foci

    assert foci(focus_from="crystal") == (
        Focus(400.0, "crystal", 6.0), Focus(380.0, "crystal"), Focus(420.0, "crystal", -9.0),
    )  # fmt: skip
    assert foci(focal_length_mm=350) == (Focus(350.0, "face", 6.0), Focus(350.0), Focus(350.0, "face", -9.0))
    assert foci(focus_offset_mm=2) == (Focus(400.0, "face", 2.0), Focus(380.0, "face", 2.0), Focus(420.0, "face", 2.0))
    # A collimator of the table has its own focal length, but the file knows this one.
    assert foci(collimator="prism-lehr-fan")[1] == Focus(380.0)
    assert foci(focal_length_mm=PARALLEL, collimator="prism-lehr-fan") == ()
    rebinned = open_study(path, StudySettings(focal_length_mm=PARALLEL))
    assert rebinned.acquisition.foci == ()
    assert any("already rebinned to parallel rays" in line for line in rebinned.history)


def without_length(data):
    for item in data.DetectorInformationSequence:
        item.FocalDistance = 0


def test_fan_beam_without_a_focal_length(fan):
    path = fan(edit=without_length)
    words = r"\(0018,1181\) CollimatorType is FANB and \(0018,1182\) FocalDistance is missing or 0: give --focal-length"
    with pytest.raises(InputError, match=words) as caught:
        open_study(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert open_study(path, StudySettings(focal_length_mm=350)).acquisition.foci[0] == Focus(350.0, "face", 6.0)
    table = open_study(path, StudySettings(collimator="prism-lehr-fan", focus_from="back")).acquisition
    assert table.foci[0] == Focus(500.0, "back", 6.0)


@pytest.mark.parametrize(
    ("kind", "word"),
    [("CONE", "cone-beam"), ("PINH", "pinhole"), ("ASTG", "astigmatic"), ("SLNT", "slant"), ("DIVG", "diverging")],
)
def test_other_collimators_are_refused_by_name(fan, kind, word):
    with pytest.raises(InputError, match=rf"CollimatorType in item 1 .* is {kind} \({word}"):
        open_study(fan(kind=kind), StudySettings(focal_length_mm=350))


def test_focal_distances_that_no_fan_beam_has(fan):
    with pytest.raises(
        InputError, match=r"FocalDistance in item 1 .* needs one length above 0 mm for a fan beam, it is -3"
    ):
        open_study(fan(extra={"FocalDistance": -300}))
    with pytest.raises(InputError, match=r"FocalDistance in item 1 .* it is 300\\400"):
        open_study(fan(extra={"FocalDistance": [300, 400]}))
    # One direction converges, the other does not.
    assert open_study(fan(extra={"FocalDistance": [300, 0]})).acquisition.foci[1] == Focus(300.0)


def test_heads_of_both_kinds(fan):
    def one_parallel(data):
        data.DetectorInformationSequence[0].CollimatorType = "PARA"

    with pytest.raises(InputError, match=r"CollimatorType in item 2 .* is FANB and that of another head is not"):
        open_study(fan(edit=one_parallel))
    study = open_study(fan(edit=one_parallel), StudySettings(focal_length_mm=400))
    assert len(study.acquisition.foci) == 3
    assert any("CollimatorType" in line and "read as a fan beam, as asked" in line for line in study.warnings)


def test_what_moves_the_focus_in_other_ways_is_told(fan):
    study = open_study(fan(extra={"YFocusCenter": "3", "ZoomCenter": ["0", "5"]}))
    assert any("YFocusCenter" in line and "not used" in line for line in study.warnings)
    assert any("ZoomCenter" in line and "--focus-offset" in line for line in study.warnings)
    assert not any("YFocusCenter" in line for line in open_study(fan(extra={"YFocusCenter": "0"})).warnings)


def test_parallel_holes_keep_no_focus(fan):
    assert open_study(fan(kind="PARA"), HOLES).acquisition.foci == ()
    for given in ({"focus_from": "back"}, {"focus_offset_mm": 1.0}):
        with pytest.raises(InputError, match="--focus-from and --focus-offset belong to fan-beam data"):
            open_study(fan(kind="PARA"), StudySettings(**given))

    def named(data):
        for item in data.DetectorInformationSequence:
            item.CollimatorGridName = "prism-lehr-fan"

    contradicting = open_study(fan(kind="PARA", edit=named))
    assert (contradicting.acquisition.foci, contradicting.acquisition.collimator.focus) == ((), None)
    assert any("prism-lehr-fan was taken with parallel holes" in line for line in contradicting.history)
    # The user knows better.
    given = open_study(fan(kind="PARA"), StudySettings(collimator="prism-lehr-fan"))
    assert given.acquisition.foci == (Focus(500.0),) * 3


def test_heads_in_files_of_their_own(fan):
    paths = [fan([head], name=f"{number}.dcm") for number, head in enumerate(THREE)]
    study = read_study(paths, HOLES)
    assert study.acquisition.foci == (Focus(400.0, "face", 6.0), Focus(380.0), Focus(420.0, "face", -9.0))
    assert misses_mm(study) < 0.02 * PIXEL_MM
    parallel = fan([THREE[1]], kind="PARA", name="parallel.dcm")
    with pytest.raises(InputError, match="only some have a fan-beam collimator"):
        read_study([paths[0], parallel], HOLES)


def test_windows_in_files_of_their_own_share_the_focal_lines(fan):
    def lower(data):
        limits = data.EnergyWindowInformationSequence[0].EnergyWindowRangeSequence[0]
        limits.EnergyWindowLowerLimit, limits.EnergyWindowUpperLimit = "110", "126"
        data.SOPInstanceUID = "1.2.3.77"

    both = read_study([fan(name="peak.dcm"), fan(edit=lower, name="lower.dcm")], HOLES)
    assert len(both.windows) == 2
    assert len(both.acquisition.foci) == 3
    shifted = fan([(*head[:3], head[3] + 1) for head in THREE], edit=lower, name="shifted.dcm")
    with pytest.raises(InputError, match="their focal lines differ"):
        read_study([fan(name="peak.dcm"), shifted], HOLES)


def fan_study(**changes):
    """Three heads of the PRISM's fan beam with noise."""
    values = {
        "view_angles_deg": np.arange(18) * 20.0,
        "radii_mm": np.full(18, 130.0),
        "matrix": (4, 10),
        "pixel_mm": (4.0, 4.0),
        "view_seconds": np.full(18, 20.0),
        "nuclide": "I-123",
        "collimator": collimator("prism-lehr-fan"),
        "detector": np.repeat([0, 1, 2], 6),
        "foci": (Focus(500.0, "face", 3.5), Focus(500.0), Focus(498.0, "face", -1.25)),
        **changes,
    }
    acquisition = Acquisition(**values)
    counts = np.random.default_rng(1).poisson(20, (1, *acquisition.shape))
    return Study(acquisition, (EnergyWindow("peak", 143, 175),), counts)


def test_dicom_written_by_spectac_reads_back(tmp_path):
    study = fan_study()
    write_study(tmp_path / "a.dcm", study)
    items = pydicom.dcmread(tmp_path / "a.dcm").DetectorInformationSequence
    assert [(item.CollimatorType, item.FocalDistance, float(item.XFocusCenter)) for item in items] == [
        ("FANB", 500, 3.5), ("FANB", 500, 0.0), ("FANB", 498, -1.25),
    ]  # fmt: skip
    back = open_study(tmp_path / "a.dcm").acquisition
    assert (back.foci, back.collimator) == (study.acquisition.foci, study.acquisition.collimator)
    # Counted from the back and the crystal: the same focal lines, from the face.
    behind = fan_study(foci=(Focus(527.0, "back"),) * 3)
    write_study(tmp_path / "b.dcm", behind)
    assert open_study(tmp_path / "b.dcm").acquisition.foci == (Focus(500.0),) * 3
    with pytest.raises(InputError, match=r"whole mm from the face \(FocalDistance\), this one is 468.25 mm"):
        write_study(tmp_path / "c.dcm", fan_study(foci=(Focus(500.0, "crystal"),) * 3))


def test_an_image_of_a_fan_beam_is_written(tmp_path):
    grid = Grid.upright((2, 4, 4), (5.0, 4.0, 4.0), (-6.0, -6.0, 0.0))
    study = fan_study(foci=(Focus(500.5, "crystal"),) * 3)
    write_image(tmp_path / "image.dcm", Image(np.ones((2, 4, 4)), grid, "cps/mL"), study=study, description="x")
    item = pydicom.dcmread(tmp_path / "image.dcm").DetectorInformationSequence[0]
    assert (item.CollimatorType, item.FocalDistance) == ("FANB", None)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_stir_study, "STIR's Interfile has no key for a fan-beam focus: reconstruct with spectac"),
        (write_simind_study, "SIMIND's Interfile has no key for a fan-beam focus: reconstruct with spectac"),
        (write_for_pytomography, "PyTomography's DICOM reader does not know fan beams: reconstruct with spectac"),
    ],
)
def test_programs_without_fan_beams_get_none(tmp_path, write, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path / "a", fan_study())
    assert list(tmp_path.iterdir()) == []


def test_hdf5_keeps_the_foci_and_takes_the_options(tmp_path):
    study = fan_study(foci=(Focus(1000 / 3, "back", 1 / 7), Focus(500.0), Focus(499.0, "crystal")))
    path = tmp_path / "a.h5"
    write_hdf5(path, study)
    back = open_study(path)
    assert back.acquisition.foci == study.acquisition.foci
    assert back.acquisition.collimator == study.acquisition.collimator
    moved = open_study(path, StudySettings(focus_from="crystal"))
    assert [one.counted_from for one in moved.acquisition.foci] == ["crystal"] * 3
    assert any("length of the file, plane of the user" in line for line in moved.history)
    given = open_study(path, StudySettings(focal_length_mm=350, focus_offset_mm=2, collimator="ge-lehr"))
    assert given.acquisition.foci == (Focus(350.0, "face", 2.0),) * 3
    assert given.acquisition.collimator.name == "ge-lehr"
    rebinned = open_study(path, StudySettings(focal_length_mm=PARALLEL)).acquisition
    assert (rebinned.foci, rebinned.collimator.focus) == ((), None)
    again = tmp_path / "b.h5"
    write_hdf5(again, dataclasses.replace(study, acquisition=rebinned))
    assert open_study(again).acquisition.foci == ()


def test_hdf5_of_parallel_holes(tmp_path):
    path = tmp_path / "a.h5"
    write_hdf5(path, fan_study(collimator=collimator("ge-lehr"), foci=()))
    assert open_study(path).acquisition.foci == ()
    with pytest.raises(InputError, match="--focus-from and --focus-offset belong to fan-beam data"):
        open_study(path, StudySettings(focus_from="face"))
    assert open_study(path, StudySettings(focal_length_mm=400)).acquisition.foci == (Focus(400.0),) * 3
    assert open_study(path, StudySettings(collimator="PR-URFB")).acquisition.foci == (Focus(500.0),) * 3


def test_hdf5_of_version_1_is_read(tmp_path):
    """Files of earlier releases have neither foci nor a collimator's focus."""
    study = fan_study(collimator=collimator("ge-lehr"), foci=())
    path = tmp_path / "a.h5"
    write_hdf5(path, study)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 1
    path.write_bytes(bytes(512) + path.read_bytes()[512:])
    back = open_study(path)
    assert back.acquisition.foci == ()
    assert back.acquisition.collimator == COLLIMATORS["ge-lehr"]
    assert np.array_equal(back.counts, study.counts)


def test_given_holes_are_those_of_the_study(fan):
    acquisition = open_study(fan(), StudySettings(holes="1.53:0.16:35:3.6", focal_length_mm=380)).acquisition
    assert acquisition.collimator == Collimator(
        "holes 1.53:0.16:35:3.6", 1.53, 35.0, 0.16, 3.6, gap_mm=4.75, source="given"
    )
    assert acquisition.foci[1].distances_mm(acquisition.collimator) == (380.0, 380.0 + 35.0 + 4.75)
