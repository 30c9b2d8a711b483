"""DICOM NM in and out. One test for each trap of the checklist bears its number in its name.

`tomo` builds files with pydicom alone, so that the reader is not tested against its own writer. The base file has two
heads at 0 and 180 deg with four views each, 22.5 deg apart, 4 rows x 6 columns of 3.0 x 4.5 mm.
"""

import tracemalloc
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from spectac.recon.collimator import collimator
from spectac.recon.errors import InputError
from spectac.recon.geometry import default_grid
from spectac.recon.io import open_study
from spectac.recon.io.dicom.nm import read_image, read_study
from spectac.recon.photopeak import photopeak_index
from spectac.recon.settings import StudySettings
from spectac.recon.types import EnergyWindow

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "nm_dicom"
needs_real = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/nm_dicom is not here")

NM = "1.2.840.10008.5.1.4.1.1.20"
ROWS, COLUMNS, VIEWS = 4, 6, 4
RADII = {1: [150.0, 151.0, 152.0, 153.0], 2: [160.0, 161.0, 162.0, 163.0]}


def item(**values):
    data = Dataset()
    for keyword, value in values.items():
        setattr(data, keyword, value)
    return data


def window_item(*ranges, name="peak"):
    return item(
        EnergyWindowName=name,
        EnergyWindowRangeSequence=Sequence(
            [item(EnergyWindowLowerLimit=str(a), EnergyWindowUpperLimit=str(b)) for a, b in ranges]
        ),
    )


def nuclide_item(value="C-163A8", meaning="^99m^Technetium"):
    code = item(CodeValue=value, CodingSchemeDesignator="SNM3", CodeMeaning=meaning)
    return item(RadionuclideCodeSequence=Sequence([code]))


def frame_of(window, detector, rotation, view):
    """Counts (row, column) of a frame in the file's order: every pixel of every frame has its own number."""
    tag = ((window * 4 + detector) * 4 + rotation) * 16 + view
    return tag * 32 + np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)


def expected(window, detector, rotation, view):
    """The same frame (z, u): row 0 of the file is superior, z grows to superior, u to the right like the columns."""
    return frame_of(window, detector, rotation, view)[::-1]


def base(keys=None, shuffle=False):
    """Dataset of raw projections; `keys` lists (window, detector, rotation, view) of the frames, counted from 1."""
    keys = keys or [(1, d, 1, v) for d in (1, 2) for v in range(1, VIEWS + 1)]
    if shuffle:
        keys = [keys[i] for i in np.random.default_rng(5).permutation(len(keys))]
    data = item(
        SpecificCharacterSet="ISO_IR 192",
        ImageType=["ORIGINAL", "PRIMARY", "TOMO", "EMISSION"],
        SOPClassUID=NM,
        SOPInstanceUID="1.2.3.4",
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.3.5",
        FrameOfReferenceUID="1.2.3.6",
        Modality="NM",
        Manufacturer="SIEMENS NM",
        PatientName="Tést^Head",
        PatientID="7",
        AcquisitionDate="20260203",
        AcquisitionTime="101112.5",
        PatientPosition="HFS",
        CorrectedImage=["UNIF", "COR"],
        NumberOfFrames=len(keys),
        Rows=ROWS,
        Columns=COLUMNS,
        PixelSpacing=["3.0", "4.5"],
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=16,
        BitsStored=16,
        HighBit=15,
        PixelRepresentation=0,
        FrameIncrementPointer=[0x00540010, 0x00540020, 0x00540050, 0x00540090],
        NumberOfEnergyWindows=max(key[0] for key in keys),
        NumberOfDetectors=max(key[1] for key in keys),
        NumberOfRotations=1,
        EnergyWindowInformationSequence=Sequence([window_item((126, 154))]),
        RadiopharmaceuticalInformationSequence=Sequence([nuclide_item()]),
        RotationInformationSequence=Sequence(
            [
                item(
                    StartAngle="0",
                    AngularStep="22.5",
                    RotationDirection="CC",
                    ScanArc="90",
                    ActualFrameDuration="20000",
                    NumberOfFramesInRotation=VIEWS,
                )
            ]
        ),
        DetectorInformationSequence=Sequence(
            [
                item(
                    CollimatorGridName="LEHR",
                    CollimatorType="PARA",
                    StartAngle=start,
                    RadialPosition=[str(radius) for radius in RADII[head]],
                )
                for head, start in ((1, "0"), (2, "180"))
            ]
        ),
    )
    words = ("EnergyWindowVector", "DetectorVector", "RotationVector", "AngularViewVector")
    for place, word in enumerate(words):
        setattr(data, word, [key[place] for key in keys])
    stored = np.array([frame_of(*key) for key in keys], "<u2")
    data.add_new(0x7FE00010, "OW", stored.tobytes())
    return data


def save(data, path, syntax=ExplicitVRLittleEndian, preamble=True):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.get("SOPClassUID", NM), "1.2.3.4"
    meta.TransferSyntaxUID = syntax
    if preamble:
        data.file_meta = meta
        pydicom.dcmwrite(path, data, enforce_file_format=True)
    else:
        data.save_as(path, implicit_vr=False, little_endian=True)
    return path


@pytest.fixture
def tomo(tmp_path):
    """Function that writes the base file after an edit, and returns its path."""

    def make(edit=lambda data: None, *, keys=None, shuffle=False, name="scan.dcm", syntax=ExplicitVRLittleEndian):
        data = base(keys, shuffle)
        edit(data)
        return save(data, tmp_path / name, syntax)

    return make


def without(*keywords):
    def edit(data):
        for keyword in keywords:
            delattr(data, keyword)

    return edit


def heads(data):
    return list(data.DetectorInformationSequence)


def rotation(data, index=0):
    return data.RotationInformationSequence[index]


def has(lines, *words):
    return any(all(word in line for word in words) for line in lines)


def test_the_base_file_is_read_without_a_warning_but_of_the_axis(tomo):
    study = read_study(tomo())
    acquisition = study.acquisition
    assert acquisition.view_angles_deg.tolist() == [0, 22.5, 45, 67.5, 180, 202.5, 225, 247.5]
    assert acquisition.detector.tolist() == [0] * 4 + [1] * 4
    assert acquisition.radii_mm.tolist() == RADII[1] + RADII[2]
    assert acquisition.view_seconds.tolist() == [20.0] * 8
    assert acquisition.start == datetime(2026, 2, 3, 10, 11, 12, 500000)
    assert (acquisition.nuclide, acquisition.collimator.name) == ("Tc-99m", "siemens-lehr")
    assert acquisition.corrections == {"UNIF", "COR"}
    assert acquisition.patient_position == "HFS"
    assert acquisition.frame_of_reference_uid == "1.2.3.6"
    assert study.patient["PatientName"] == "Tést^Head"
    assert study.windows == (EnergyWindow("peak", 126, 154),)
    assert len(study.warnings) == 1
    assert has(study.warnings, "(0020,0032) ImagePositionPatient is missing", "a CT is registered")
    for head in (1, 2):
        for view in range(4):
            assert np.array_equal(study.counts[0, 4 * (head - 1) + view], expected(1, head, 1, view + 1))
    assert has(study.history, "head 2: 4 views from 180 deg", "counter-clockwise seen from the feet")


def test_order_of_frames_means_nothing(tomo):
    ordered, shuffled = read_study(tomo()), read_study(tomo(shuffle=True))
    assert np.array_equal(ordered.counts, shuffled.counts)
    assert np.array_equal(ordered.acquisition.view_angles_deg, shuffled.acquisition.view_angles_deg)


# 1


def test_trap_01_rescale_slope_and_real_world_values_scale_the_counts(tomo):
    stored = read_study(tomo()).counts

    def rescaled(data):
        data.RescaleSlope, data.RescaleIntercept = "0.5", "3"

    study = read_study(tomo(rescaled))
    assert np.array_equal(study.counts, stored * 0.5 + 3)
    assert has(study.history, "RescaleSlope")

    def mapped(data, unit="{counts}"):
        rescaled(data)
        code = item(CodeValue=unit, CodingSchemeDesignator="UCUM", CodeMeaning="x")
        mapping = item(RealWorldValueSlope=0.25, RealWorldValueIntercept=1.0)
        mapping.MeasurementUnitsCodeSequence = Sequence([code])
        data.RealWorldValueMappingSequence = Sequence([mapping])

    study = read_study(tomo(mapped))
    assert np.array_equal(study.counts, stored * 0.25 + 1)
    assert has(study.history, "RescaleSlope 0.5", "were not used")
    with pytest.raises(InputError, match=r"\(0040,9096\) RealWorldValueMappingSequence gives pixels the unit 'Bq/ml'"):
        read_study(tomo(lambda data: mapped(data, "Bq/ml")))


# 2


def test_trap_02_two_heads_at_one_angle_are_refused_and_head_angles_tells_them_apart(tomo):
    def one_angle(data):
        for head in heads(data):
            del head.StartAngle

    with pytest.raises(
        InputError, match=r"\(0054,0200\) StartAngle puts heads 1 and 2 both at 0 deg: give --head-angles"
    ):
        read_study(tomo(one_angle))
    study = read_study(tomo(one_angle), StudySettings(head_angles_deg=[0, 180]))
    assert study.acquisition.view_angles_deg.tolist() == [0, 22.5, 45, 67.5, 180, 202.5, 225, 247.5]
    assert np.array_equal(study.counts[0, 4], expected(1, 2, 1, 1))
    assert has(study.history, "given by the user: head_angles_deg = 0, 180")
    with pytest.raises(InputError, match=r"--head-angles needs one angle for each of the 2 heads, got 1"):
        read_study(tomo(), StudySettings(head_angles_deg=[0]))


def test_trap_02_the_heads_own_start_angle_goes_before_the_rotations(tomo):
    def other(data):
        rotation(data).StartAngle = "33"

    study = read_study(tomo(other))
    assert study.acquisition.view_angles_deg[[0, 4]].tolist() == [0, 180]
    assert has(study.warnings, "StartAngle is 0 deg in the detector item and 33 deg in the rotation item")


def test_trap_02_heads_numbered_on_share_the_rotations_start_angle(tomo):
    """Views 1-4 and 5-8 of one rotation of 8: the numbers alone say where head 2 stands."""

    def edit(data):
        for head in heads(data):
            del head.StartAngle
        rotation(data).NumberOfFramesInRotation = 8
        rotation(data).AngularStep, rotation(data).ScanArc, rotation(data).RotationDirection = "45", "360", "CW"

    study = read_study(tomo(edit, keys=[(1, d, 1, v + 4 * (d - 1)) for d in (1, 2) for v in range(1, 5)]))
    assert study.acquisition.view_angles_deg.tolist() == [0, 315, 270, 225, 180, 135, 90, 45]
    assert study.acquisition.view_start_s.tolist() == [0, 20, 40, 60] * 2


# 3


def test_trap_03_radius_wherever_it_is(tomo):
    def in_rotation(value):
        def edit(data):
            for head in heads(data):
                del head.RadialPosition
            rotation(data).RadialPosition = value

        return edit

    assert read_study(tomo(in_rotation("200"))).acquisition.radii_mm.tolist() == [200] * 8
    each = ["200", "201", "202", "203"]
    assert read_study(tomo(in_rotation(each))).acquisition.radii_mm.tolist() == [200, 201, 202, 203] * 2
    both = [*each, "210", "211", "212", "213"]
    assert read_study(tomo(in_rotation(both))).acquisition.radii_mm.tolist() == [float(text) for text in both]

    def scalar(data):
        for head in heads(data):
            head.RadialPosition = "170"

    assert read_study(tomo(scalar)).acquisition.radii_mm.tolist() == [170] * 8
    with pytest.raises(InputError, match=r"\(0018,1142\) RadialPosition.* has 3 values for 4 views"):
        read_study(tomo(in_rotation(["1", "2", "3"])))


@pytest.mark.parametrize("zero", [False, True])
def test_trap_03_missing_radius_is_refused_and_given_one_is_taken(tomo, zero):
    def edit(data):
        for head in heads(data):
            del head.RadialPosition
        if zero:
            rotation(data).RadialPosition = "0"

    with pytest.raises(InputError, match=r"\(0018,1142\) RadialPosition.* is missing or 0.*give --radius-mm"):
        read_study(tomo(edit))
    assert read_study(tomo(edit), StudySettings(radius_mm=222)).acquisition.radii_mm.tolist() == [222] * 8


def test_trap_03_ge_private_offsets_are_added_last_of_each_triplet(tomo):
    """Two private items, each with (x, y, radius) for four views; the mean radius stands in the rotation item."""

    def edit(data):
        data.Manufacturer = "GE MEDICAL SYSTEMS"
        for head in heads(data):
            del head.RadialPosition
        rotation(data).RadialPosition = "200"
        items = []
        for head in (1, 2):
            private = Dataset()
            private.add_new(0x00130010, "LO", "GEMS_GENIE_1")
            private.add_new(0x0013101E, "FD", [7.0, 8.0, 1.0 * head, 7.0, 8.0, 2.0 * head, 7.0, 8.0, -3.0, 7, 8, 0.0])
            items.append(private)
        data.add_new(0x00550010, "LO", "GEMS_GENIE_1")
        data.add_new(0x00551022, "SQ", Sequence(items))

    study = read_study(tomo(edit))
    assert study.acquisition.radii_mm.tolist() == [201, 202, 197, 200, 202, 204, 197, 200]
    assert has(study.history, "GE's private view offsets")
    assert study.acquisition.collimator.name == "ge-lehr"


# 4


def test_trap_04_pixel_spacing_is_row_then_column_and_frames_need_not_be_square(tomo):
    study = read_study(tomo())
    assert study.acquisition.pixel_mm == (3.0, 4.5)  # z from the row distance, u from the column distance
    assert study.acquisition.matrix == (4, 6)
    assert study.counts.shape == (1, 8, 4, 6)


# 5


def second_rotation(data, **changes):
    again = item(
        StartAngle="67.5",
        AngularStep="22.5",
        RotationDirection="CW",
        ScanArc="90",
        ActualFrameDuration="10000",
        NumberOfFramesInRotation=VIEWS,
    )
    for keyword, value in changes.items():
        setattr(again, keyword, value)
    data.RotationInformationSequence.append(again)
    data.NumberOfRotations = 2


def test_trap_05_a_second_rotation_backwards_has_its_own_angles_and_times(tomo):
    """Out CC from 0 and 180, back CW from 67.5 and 247.5 with half the time: 16 views, the second pass after 80 s."""
    keys = [(1, d, r, v) for r in (1, 2) for d in (1, 2) for v in range(1, 5)]
    study = read_study(tomo(second_rotation, keys=keys))
    acquisition = study.acquisition
    out, back = [0, 22.5, 45, 67.5], [67.5, 45, 22.5, 0]
    assert acquisition.view_angles_deg.tolist() == [*out, *back, *(180 + np.array(out)), *(180 + np.array(back))]
    assert acquisition.view_seconds.tolist() == ([20] * 4 + [10] * 4) * 2
    assert acquisition.view_start_s.tolist() == [0, 20, 40, 60, 80, 90, 100, 110] * 2
    assert np.array_equal(study.counts[0, 7], expected(1, 1, 2, 4))
    # Four radii of a head for two passes belong to angles, not to the order in time.
    assert acquisition.radii_mm.tolist() == RADII[1] + RADII[1][::-1] + RADII[2] + RADII[2][::-1]
    assert has(study.warnings, "same angles backwards")


def test_trap_05_windows_of_alternating_rotations_are_matched_by_angle(tomo):
    def edit(data):
        second_rotation(data, ActualFrameDuration="20000")
        data.EnergyWindowInformationSequence.append(window_item((100, 120), name="low"))

    keys = [(w, d, w, v) for w in (1, 2) for d in (1, 2) for v in range(1, 5)]
    study = read_study(tomo(edit, keys=keys))
    assert study.acquisition.view_angles_deg.tolist() == [0, 22.5, 45, 67.5, 180, 202.5, 225, 247.5]
    # Window 2 was taken backwards: its view at 0 deg is the last of its rotation.
    assert np.array_equal(study.counts[1, 0], expected(2, 1, 2, 4))
    assert np.array_equal(study.counts[1, 3], expected(2, 1, 2, 1))
    assert has(study.warnings, "different rotations", "matched by angle")

    def slower(data):
        edit(data)
        rotation(data, 1).ActualFrameDuration = "10000"

    with pytest.raises(InputError, match=r"EnergyWindowVector gives window 2 other views than window 1"):
        read_study(tomo(slower, keys=keys))


@pytest.mark.parametrize(
    ("keyword", "reason"),
    [("TimeSlotVector", "a gated series"), ("RRIntervalVector", "a gated series"), ("PhaseVector", "a dynamic series")],
)
def test_trap_05_gated_and_dynamic_series_are_refused_with_the_reason(tomo, keyword, reason):
    def edit(data):
        setattr(data, keyword, [1, 2] * 4)

    with pytest.raises(InputError, match=rf"{keyword} numbers the frames: this is {reason}"):
        read_study(tomo(edit))


def test_trap_05_gated_tomo_is_refused_by_its_image_type(tomo):
    def edit(data):
        data.ImageType = ["ORIGINAL", "PRIMARY", "GATED TOMO", "EMISSION"]

    with pytest.raises(InputError, match=r"\(0008,0008\) ImageType is .*GATED TOMO.* gated projections"):
        read_study(tomo(edit))


def test_trap_05_beds_are_refused(tomo):
    def edit(data):
        rotation(data).TableTraverse = "100"
        second_rotation(data, TableTraverse="300")

    keys = [(1, 1, r, v) for r in (1, 2) for v in range(1, 5)]
    with pytest.raises(InputError, match=r"\(0018,1131\) TableTraverse.*100, 300 mm.*several bed positions"):
        read_study(tomo(edit, keys=keys))


# 6


def test_trap_06_photopeak_is_the_window_with_the_main_line_not_the_middle_one(tomo):
    """140.5 keV lies in an asymmetric 138-158 keV window whose centre is 148; the other window's centre is nearer."""

    def edit(data):
        data.EnergyWindowInformationSequence = Sequence(
            [window_item((126, 137), name="low"), window_item((138, 158), name="peak")]
        )

    keys = [(w, d, 1, v) for w in (1, 2) for d in (1, 2) for v in range(1, 5)]
    study = read_study(tomo(edit, keys=keys))
    assert photopeak_index(study) == 1
    assert has(study.history, "photopeak: peak (138-158 keV) holds the 140.511 keV line of Tc-99m")


def test_trap_06_several_ranges_in_one_window(tomo):
    def touching(data):
        data.EnergyWindowInformationSequence = Sequence([window_item((126, 140), (140, 154))])

    assert read_study(tomo(touching)).windows == (EnergyWindow("peak", 126, 154),)

    def apart(data):
        data.EnergyWindowInformationSequence = Sequence([window_item((126, 154), (220, 260), name="two")])

    with pytest.raises(InputError, match=r"two counts 126-154, 220-260 keV into one frame: several peaks"):
        read_study(tomo(apart))

    def beside(data):
        apart(data)
        data.EnergyWindowInformationSequence.append(window_item((126, 154)))

    keys = [(w, d, 1, v) for w in (1, 2) for d in (1, 2) for v in range(1, 5)]
    study = read_study(tomo(beside, keys=keys))
    assert has(study.warnings, "window 1 was left out", "several peaks in one window")
    assert np.array_equal(study.counts[0, 0], expected(2, 1, 1, 1))


# 7


def test_trap_07_frame_duration_is_milliseconds_and_heads_count_at_the_same_time(tomo):
    acquisition = read_study(tomo()).acquisition
    assert acquisition.view_seconds[0] == 20.0
    assert acquisition.view_start_s.tolist() == [0, 20, 40, 60] * 2

    def unknown(data):
        del rotation(data).ActualFrameDuration

    study = read_study(tomo(unknown))
    assert not study.acquisition.times_known
    assert has(study.warnings, "(0018,1242) ActualFrameDuration is missing or 0", "relative")


@pytest.mark.parametrize(("term", "what"), [("ATTN", "attenuation"), ("SCAT", "scatter")])
def test_trap_07_corrected_projections_are_refused(tomo, term, what):
    def edit(data):
        data.CorrectedImage = ["UNIF", term]

    with pytest.raises(InputError, match=rf"\(0028,0051\) CorrectedImage says {term}: corrected for {what}"):
        read_study(tomo(edit))


def test_trap_07_decay_corrected_and_uncorrected_uniformity(tomo):
    def edit(data):
        data.CorrectedImage = "DECY"

    study = read_study(tomo(edit))
    assert "DECY" in study.acquisition.corrections
    assert has(study.history, "no decay between the views")
    assert has(study.warnings, "(0028,0051) CorrectedImage is DECY", "uniformity and centre of rotation")
    assert has(read_study(tomo(without("CorrectedImage"))).warnings, "absent or empty")


def test_trap_07_centre_of_rotation_is_applied_only_on_demand(tomo):
    def edit(data):
        heads(data)[1].CenterOfRotationOffset = "1.5"

    study = read_study(tomo(edit))
    assert not study.acquisition.u_offset_mm.any()
    assert has(study.warnings, "(0018,1145) CenterOfRotationOffset of head 2 is 1.5 mm", "not applied", "--apply-cor")
    applied = open_study(tomo(edit), StudySettings(apply_cor=True))
    assert applied.acquisition.u_offset_mm.tolist() == [0] * 4 + [1.5] * 4
    assert has(applied.history, "CenterOfRotationOffset", "applied")


def test_trap_07_zoom_is_told_and_never_decides(tomo):
    def edit(data, second="1.45"):
        heads(data)[0].ZoomFactor, heads(data)[1].ZoomFactor = ["1.45", "1.45"], [second, second]

    study = read_study(tomo(edit))
    assert has(study.history, "ZoomFactor 1.45x1.45: PixelSpacing is taken as zoomed already")
    assert study.acquisition.pixel_mm == (3.0, 4.5)
    differing = read_study(tomo(lambda data: edit(data, "1.0")))
    assert has(differing.warnings, "(0028,0031) ZoomFactor differs between the heads (1x1 and 1.45x1.45)")
    assert differing.acquisition.pixel_mm == (3.0, 4.5)


# 8

# Directions in which columns grow, written out: 0 deg looks from the back, 90 from the left, 180 from the front.
RIGHT = {0: [-1, 0, 0], 90: [0, 1, 0], 180: [1, 0, 0], 270: [0, -1, 0]}


def oriented(columns, rows=(0, 0, -1), position=None):
    def edit(data):
        if position is not None:
            data.PatientPosition = position
        for head, direction in zip(heads(data), columns, strict=True):
            head.ImageOrientationPatient = [*direction, *rows]

    return edit


@pytest.mark.parametrize("position", ["HFS", "FFS", "HFP", "FFP"])
def test_trap_08_angles_are_the_patients_however_the_patient_lies(tomo, position):
    study = read_study(tomo(oriented([RIGHT[0], RIGHT[180]], position=position)))
    assert study.acquisition.patient_position == position
    assert study.acquisition.view_angles_deg[[0, 4]].tolist() == [0, 180]
    assert np.array_equal(study.counts[0, 0], expected(1, 1, 1, 1))


def test_trap_08_an_orientation_against_the_start_angle_is_refused_unless_the_user_says_where_the_heads_stood(tomo):
    swapped = oriented([RIGHT[180], RIGHT[0]])
    with pytest.raises(
        InputError, match=r"\(0020,0037\) ImageOrientationPatient.* contradicts \(0054,0200\) StartAngle"
    ):
        read_study(tomo(swapped))
    study = read_study(tomo(swapped), StudySettings(head_angles_deg=[180, 0]))
    assert study.acquisition.view_angles_deg[[0, 4]].tolist() == [180, 0]
    assert has(
        read_study(tomo(swapped), StudySettings(head_angles_deg=[0, 180])).warnings,
        "contradicts",
        "the user were followed",
    )


def test_trap_08_one_orientation_for_heads_at_different_angles_is_a_fixed_one_and_not_used(tomo):
    study = read_study(tomo(oriented([RIGHT[180], RIGHT[180]])))
    assert has(study.warnings, "contradicts the start angles: not used", "the same for heads at different angles")
    with pytest.raises(InputError, match="contradicts"):
        read_study(tomo(oriented([RIGHT[180], RIGHT[180]], position="FFS")))


def test_trap_08_rows_from_inferior_and_frames_turned_upside_down(tomo):
    study = read_study(tomo(oriented([RIGHT[0], RIGHT[180]], rows=(0, 0, 1))))
    assert np.array_equal(study.counts[0, 0], frame_of(1, 1, 1, 1))
    assert has(study.warnings, "stored with row 0 inferior")
    turned = read_study(tomo(oriented([RIGHT[180], RIGHT[0]], rows=(0, 0, 1), position="FFS")))
    assert np.array_equal(turned.counts[0, 0], frame_of(1, 1, 1, 1)[:, ::-1])
    with pytest.raises(InputError, match="contradicts"):
        read_study(tomo(oriented([RIGHT[0], RIGHT[180]], rows=(0, 0, 1), position="FFS")))


def test_trap_08_feet_first_without_orientation_warns_and_codes_are_understood(tomo):
    def edit(data):
        del data.PatientPosition
        recumbent = item(CodeValue="F-10450", CodingSchemeDesignator="99SDM", CodeMeaning="recumbent")
        recumbent.PatientOrientationModifierCodeSequence = Sequence(
            [item(CodeValue="F-10340", CodingSchemeDesignator="99SDM", CodeMeaning="supine")]
        )
        data.PatientOrientationCodeSequence = Sequence([recumbent])
        data.PatientGantryRelationshipCodeSequence = Sequence(
            [item(CodeValue="F-10480", CodingSchemeDesignator="99SDM", CodeMeaning="feet-first")]
        )

    study = read_study(tomo(edit))
    assert study.acquisition.patient_position == "FFS"
    assert has(study.warnings, "feet first and no orientation")


def test_trap_08_mediso_has_a_rotation_item_for_each_head(tomo):
    """Radii and start angles of the two heads stand in two rotation items, though RotationVector is 1 throughout."""

    def edit(data):
        data.Manufacturer = "MEDISO"
        for head in heads(data):
            del head.RadialPosition, head.StartAngle
        rotation(data).RadialPosition = ["200", "201", "202", "203"]
        second_rotation(data, StartAngle="180", RotationDirection="CC", ActualFrameDuration="20000")
        rotation(data, 1).RadialPosition = ["210", "211", "212", "213"]

    def other_way(data):
        edit(data)
        rotation(data, 1).RotationDirection = "CW"

    # Items that turn different ways are two rotations, of which only the first has frames: nobody knows the second's.
    with pytest.raises(InputError, match="names 1 of the 2 items of RotationInformationSequence"):
        read_study(tomo(other_way))
    for keys in (None, [(1, d, d, v) for d in (1, 2) for v in range(1, 5)]):
        acquisition = read_study(tomo(edit, keys=keys)).acquisition
        assert acquisition.view_angles_deg.tolist() == [0, 22.5, 45, 67.5, 180, 202.5, 225, 247.5]
        assert acquisition.radii_mm.tolist() == [200, 201, 202, 203, 210, 211, 212, 213]
        assert acquisition.view_start_s.tolist() == [0, 20, 40, 60] * 2


# 9


def one_head(detector=1, window=1):
    return [(window, detector, 1, v) for v in range(1, 5)]


def test_trap_09_windows_in_separate_files_become_one_study(tomo, tmp_path):
    def second(data):
        data.EnergyWindowVector = [1] * 8
        data.EnergyWindowInformationSequence = Sequence([window_item((100, 120), name="low")])
        data.SOPInstanceUID = "1.2.3.9"

    tomo(name="b.dcm")
    tomo(second, name="a.dcm", keys=[(2, d, 1, v) for d in (1, 2) for v in range(1, 5)])
    study = open_study(tmp_path)
    assert [window.name for window in study.windows] == ["low", "peak"]
    assert np.array_equal(study.counts[0, 5], expected(2, 2, 1, 2))
    assert np.array_equal(study.counts[1, 5], expected(1, 2, 1, 2))
    assert has(study.history, "2 files taken as 2 windows of one acquisition")


def test_trap_09_heads_in_separate_files_become_one_study(tomo, tmp_path):
    tomo(name="a.dcm", keys=one_head(1))
    tomo(name="b.dcm", keys=one_head(2))
    study = open_study(tmp_path)
    assert study.acquisition.view_angles_deg[[0, 4]].tolist() == [0, 180]
    assert study.acquisition.detector.tolist() == [0] * 4 + [1] * 4
    assert study.acquisition.radii_mm.tolist() == RADII[1] + RADII[2]
    assert np.array_equal(study.counts[0, 4], expected(1, 2, 1, 1))


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (
            lambda data: setattr(data, "PixelData", data.PixelData[::-1]),
            "two of them have the same views and the same energy window",
        ),
        (lambda data: setattr(data, "AcquisitionTime", "111112"), "they start more than a minute apart"),
        (lambda data: setattr(data, "PatientID", "8"), "PatientID differs"),
        (
            lambda data: setattr(
                data, "RadiopharmaceuticalInformationSequence", Sequence([nuclide_item("C-114A4", "I^123^")])
            ),
            "nuclide differs",
        ),
    ],
    ids=["repeat", "later", "patient", "nuclide"],
)
def test_trap_09_several_acquisitions_in_a_folder_are_refused_and_listed(tomo, tmp_path, edit, reason):
    tomo(name="a.dcm")
    tomo(edit, name="b.dcm")
    with pytest.raises(InputError, match=rf"2 files are not one acquisition: {reason}.*a\.dcm \(.*b\.dcm \("):
        open_study(tmp_path)


def test_trap_09_two_beds_in_a_folder_are_refused(tomo, tmp_path):
    def at(z):
        def edit(data):
            for head, corner in zip(heads(data), ([11.25, 150], [-11.25, -160]), strict=True):
                head.ImagePositionPatient = [*corner, z]

        return edit

    tomo(at(0), name="a.dcm")
    tomo(at(200), name="b.dcm")
    with pytest.raises(InputError, match=r"different heights: several bed positions.*rows from z = -9 mm.*z = 191 mm"):
        open_study(tmp_path)


def test_trap_09_other_dicom_files_of_a_folder_are_left_out_and_told(tomo, tmp_path):
    def ct(data):
        data.SOPClassUID, data.Modality = "1.2.840.10008.5.1.4.1.1.2", "CT"

    tomo(ct, name="ct.dcm")
    with pytest.raises(InputError, match=r"no raw projections \(NM TOMO\) in this folder, only 1 x CT"):
        open_study(tmp_path)
    tomo(name="raw.dcm")
    assert has(open_study(tmp_path).warnings, "left out of", "1 x CT")


def test_trap_09_folder_with_dicom_and_interfile_is_refused(tomo, tmp_path):
    tomo(name="raw.dcm")
    (tmp_path / "raw.hs").write_text("!INTERFILE :=\n!imaging modality := nucmed\n")
    with pytest.raises(InputError, match="holds DICOM NM files and Interfile headers: name the file"):
        open_study(tmp_path)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless])
def test_trap_09_other_encodings_give_the_same_counts(tomo, tmp_path, syntax):
    plain = read_study(tomo())
    if syntax == RLELossless:
        data = pydicom.dcmread(tomo())
        data.compress(RLELossless, generate_instance_uid=False)
        data.save_as(path := tmp_path / "rle.dcm")
    else:
        path = tomo(syntax=syntax, name="other.dcm")
    assert np.array_equal(open_study(path).counts, plain.counts)


def test_trap_09_big_endian_gives_the_same_counts(tomo, tmp_path):
    def swapped(data):
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()

    path = tomo(swapped, syntax=ExplicitVRBigEndian)
    assert np.array_equal(read_study(path).counts, read_study(tomo(name="little.dcm")).counts)


def test_trap_09_a_file_without_preamble_is_told_by_its_content(tmp_path):
    path = save(base(), tmp_path / "bare", preamble=False)
    assert path.read_bytes()[:4] == b"\x08\x00\x05\x00"
    assert np.array_equal(open_study(path).counts[0, 0], expected(1, 1, 1, 1))


def test_trap_09_bits_above_bits_stored_are_not_counts(tomo):
    def edit(data):
        data.BitsStored, data.HighBit = 12, 11
        values = (np.frombuffer(data.PixelData, "<u2") & 0x0FFF) | 0xF000
        data.PixelData = values.tobytes()

    assert np.array_equal(read_study(tomo(edit)).counts[0, 0], expected(1, 1, 1, 1) & 0x0FFF)


def test_trap_09_missing_manufacturer_and_unknown_collimator_only_warn(tomo):
    study = read_study(tomo(without("Manufacturer")))
    assert study.acquisition.collimator is None
    assert has(
        study.warnings, "the collimator 'LEHR' of an unnamed manufacturer", "give --collimator, --holes or --psf"
    )
    given = read_study(tomo(without("Manufacturer")), StudySettings(collimator=collimator("ge-lehr")))
    assert given.acquisition.collimator.name == "ge-lehr"


def set_pixels(data, cut):
    data.PixelData = data.PixelData[:cut]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without("SOPClassUID", "Modality"), r"\(0008,0016\) SOPClassUID is missing"),
        (lambda data: setattr(data, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.128"), "is Positron Emission Tomography"),
        (without("ImageType", "RotationInformationSequence"), r"\(0008,0008\) ImageType is missing, and there is no"),
        (without("RotationInformationSequence"), r"\(0054,0052\) RotationInformationSequence is missing or empty"),
        (
            lambda data: setattr(data, "RotationInformationSequence", Sequence([])),
            r"\(0054,0052\) RotationInformationSequence is missing or empty",
        ),
        (
            lambda data: setattr(data, "EnergyWindowInformationSequence", Sequence([])),
            r"\(0054,0012\) EnergyWindowInformationSequence has 0 items",
        ),
        (
            lambda data: setattr(
                data.EnergyWindowInformationSequence[0], "EnergyWindowRangeSequence", Sequence([])
            ),
            r"EnergyWindowRangeSequence in item 1 of EnergyWindowInformationSequence of peak is missing or empty",
        ),
        (
            lambda data: setattr(data, "RadiopharmaceuticalInformationSequence", Sequence([])),
            r"\(0054,0016\) RadiopharmaceuticalInformationSequence names no nuclide: give --nuclide",
        ),
        (lambda data: setattr(data, "NumberOfFrames", 9), r"EnergyWindowVector has 8 values for 9 frames"),
        (without("DetectorVector"), r"\(0054,0020\) DetectorVector is missing, but .*NumberOfDetectors is 2"),
        (
            lambda data: setattr(data, "AngularViewVector", [1, 1, 3, 4] * 2),
            r"two frames for window 1, detector 1, rotation 1, view 1",
        ),
        (lambda data: setattr(data, "AngularViewVector", [1, 2, 2, 4, 1, 2, 3, 4]), "two frames for window 1"),
        (lambda data: setattr(data, "AngularViewVector", [1, 2, 5, 4, 1, 2, 3, 4]), r"leaves out views: 4 of 5"),
        (lambda data: set_pixels(data, 100), r"\(7fe0,0010\) PixelData holds 100 bytes, 8 frames .* need 384"),
        (without("PixelData"), r"\(7fe0,0010\) PixelData is missing"),
        (without("PixelSpacing"), r"\(0028,0030\) PixelSpacing is missing: give --pixel-mm"),
        (lambda data: setattr(data, "PixelSpacing", ["3", "0"]), r"PixelSpacing needs two numbers above 0 mm"),
        (lambda data: setattr(data, "Rows", 0), r"\(0028,0010\) Rows is 0"),
        (lambda data: setattr(rotation(data), "RotationDirection", "XX"), r"RotationDirection.* is 'XX'.*--rotation"),
        (
            lambda data: setattr(heads(data)[0], "CollimatorType", "CONE"),
            r"\(0018,1181\) CollimatorType in item 1 of DetectorInformationSequence is CONE \(cone-beam\): only",
        ),
        (lambda data: setattr(data, "FrameIncrementPointer", [0x00540080]), r"leaves|SliceVector"),
    ],
)  # fmt: skip
def test_trap_09_damaged_files_give_one_clear_line(tomo, edit, message):
    if message == r"leaves|SliceVector":

        def sliced(data):
            edit(data)
            data.SliceVector = list(range(1, 9))

        path = tomo(sliced)
    else:
        path = tomo(edit)
    with pytest.raises(InputError, match=message) as caught:
        read_study(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_trap_09_a_codec_that_is_not_there_is_named(tomo, tmp_path):
    data = pydicom.dcmread(tomo())
    data.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f" + bytes(50)] * 8)
    data["PixelData"].VR = "OB"
    data.file_meta.TransferSyntaxUID = JPEG2000Lossless
    data.save_as(path := tmp_path / "j2k.dcm")
    with pytest.raises(InputError, match=r"\(0002,0010\) TransferSyntaxUID .*JPEG 2000.* cannot be decoded.*gdcmconv"):
        read_study(path)


def test_trap_09_pixels_compressed_with_loss_are_told(tomo):
    """8 bits of JPEG cannot hold counts; what was compressed with loss before may come in any transfer syntax."""

    def edit(data):
        data.LossyImageCompression = "01"

    assert any("compressed with loss" in warning for warning in read_study(tomo(edit)).warnings)
    assert not any("loss" in warning for warning in read_study(tomo()).warnings)


def test_trap_09_every_truncation_is_refused(tomo, tmp_path):
    """Cut anywhere, a file gives an InputError: no partial read passes for a study."""
    whole = tomo().read_bytes()
    path = tmp_path / "cut.dcm"
    for length in (0, 1, 127, 131, 132, 140, *range(150, len(whole) - 1, 97), len(whole) - 2):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            open_study(path)


def test_trap_09_a_header_that_promises_terabytes_takes_no_memory(tomo):
    def edit(data):
        data.Rows = data.Columns = 65535

    path = tomo(edit)
    tracemalloc.start()
    with pytest.raises(InputError, match=r"PixelData holds 384 bytes"):
        read_study(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Measured 0.15 MB, all of it pydicom's own objects; the frames would take 69 GB.
    assert peak < 2e6


def test_trap_09_a_deflated_bomb_is_not_unfolded(tmp_path):
    data = base()
    data.add_new(0x00091010, "OB", bytes(100_000_000))
    data.add_new(0x00090010, "LO", "ZEROS")
    path = save(data, tmp_path / "bomb.dcm", DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < 200_000
    with pytest.raises(InputError, match="unfolds to more than 67108864 bytes"):
        read_study(path)


def test_lax_values_become_warnings_of_the_study_not_of_python(tomo):
    def edit(data):
        name = pydicom.dataelem.DataElement(0x00081010, "SH", "a station name of 28 letters", validation_mode=0)
        data.add(name)

    # Only elements that are read are looked at: a long station name is nobody's trouble.
    assert len(read_study(tomo(edit)).warnings) == 1

    def longer(data):
        head = heads(data)[0]
        head.add(pydicom.dataelem.DataElement(0x00181180, "SH", "LEHR of twenty letters", validation_mode=0))

    # Nor does the length of a name matter that is read; what it says does.
    assert has(read_study(tomo(longer)).warnings, "the heads have different collimators")


def test_nuclide_argument_replaces_what_the_file_says(tomo):
    def agent_only(data):
        data.RadiopharmaceuticalInformationSequence = Sequence([item(Radiopharmaceutical="DaTSCAN")])

    with pytest.raises(InputError, match=r"names no nuclide \(only the radiopharmaceutical DaTSCAN\): give --nuclide"):
        read_study(tomo(agent_only))
    assert read_study(tomo(agent_only), StudySettings(nuclide="I123")).acquisition.nuclide == "I-123"
    assert has(read_study(tomo(), StudySettings(nuclide="I-123")).warnings, "nuclide Tc-99m was replaced by I-123")

    def two(data):
        data.RadiopharmaceuticalInformationSequence.append(nuclide_item("C-138A9", "^201^Thallium"))

    with pytest.raises(InputError, match="names Tc-99m and Tl-201: two nuclides at once"):
        read_study(tomo(two))


@pytest.mark.parametrize(
    ("value", "meaning", "name"),
    [
        ("C-163A8", "", "Tc-99m"), ("C-114A4", "", "I-123"), ("C-145A4", "", "In-111"), ("C-138A9", "", "Tl-201"),
        ("C-114B1", "", "I-131"), ("C-172A8", "", "Xe-133"), ("C-131A2", "", "Ga-67"), ("72454006", "", "Tc-99m"),
        ("447553000", "", "Lu-177"), ("X", "^177^Lutetium", "Lu-177"), ("X", "Technetium^99m", "Tc-99m"),
    ],
)  # fmt: skip
def test_nuclide_codes_of_cid_18(tomo, value, meaning, name):
    def edit(data):
        data.RadiopharmaceuticalInformationSequence = Sequence([nuclide_item(value, meaning)])

    assert read_study(tomo(edit)).acquisition.nuclide == name


# 10


@needs_real
def test_trap_10_real_reconstruction_with_negative_spacing_and_geometry_in_the_detector_item():
    path = DATA / "Jaszack.dcm"
    with pytest.raises(InputError, match=r"ImageType is .*RECON TOMO.*: this is a reconstruction, not raw projections"):
        open_study(path)
    image = read_image(path)
    assert image.values.shape == (45, 128, 128)
    assert image.unit == "relative"
    assert image.grid.is_upright
    # First slice at z = -165.2 mm, 45 slices 4.13 mm apart going down: slice 0 of ours is the last of the file.
    assert image.grid.affine_lps[:3, 3] == pytest.approx([0, -264.319977, -165.199986 - 44 * 4.12999964])
    stored = np.frombuffer(pydicom.dcmread(path).PixelData, "<u2").reshape(45, 128, 128)
    assert np.array_equal(image.values[0], stored[44])
    assert np.array_equal(image.values[44], stored[0])


@needs_real
def test_trap_10_static_file_is_refused():
    with pytest.raises(InputError, match=r"ImageType is .*STATIC.*: this is a planar image"):
        open_study(DATA / "UNIFORMIDAD_1.dcm")
    with pytest.raises(InputError, match=r"planar image; an NM reconstruction \(RECON TOMO\) are needed"):
        read_image(DATA / "UNIFORMIDAD_1.dcm")


@needs_real
def test_trap_10_simpleitk_places_the_real_file_at_the_same_millimetres():
    sitk = pytest.importorskip("SimpleITK")
    theirs, ours = sitk.ReadImage(str(DATA / "Jaszack.dcm")), read_image(DATA / "Jaszack.dcm")
    peak = np.unravel_index(ours.values.argmax(), ours.values.shape)
    place = (ours.grid.affine_lps @ [*peak, 1.0])[:3]
    assert theirs[theirs.TransformPhysicalPointToIndex(place.tolist())] == ours.values.max()


# 11


def placed(corners, **other):
    def edit(data):
        for head, corner in zip(heads(data), corners, strict=False):
            head.ImagePositionPatient = corner
        for keyword, value in other.items():
            setattr(rotation(data), keyword, value)

    return edit


# The axis at x = 10, y = -20; 6 columns of 4.5 mm: the first pixel lies 11.25 mm from the centre. Head 1 stands at the
# back (y + 150), its columns grow to -x; head 2 stands in front (y - 160), its columns grow to +x.
ON_FACES = [[10 + 11.25, -20 + 150, 30], [10 - 11.25, -20 - 160, 30]]


def test_trap_11_position_on_the_collimator_faces(tomo):
    study = read_study(tomo(placed(ON_FACES)))
    # Row 0 of the file is superior at z = 30; ours is 3 rows of 3 mm below.
    assert study.acquisition.axis_lps_mm == pytest.approx((10, -20, 21))
    assert has(study.history, "first pixel on the collimator face", "2 heads agree")
    assert not study.warnings


def test_trap_11_position_as_the_corner_of_a_volume(tomo):
    study = read_study(tomo(placed([[10 - 11.25, -20 - 11.25, 30]] * 2)))
    assert has(study.warnings, "no settled meaning")  # a volume of 27 mm: its corner is as near as the axis itself

    def wide(data):
        placed([[10 - 285.75, -20 - 285.75, 30]] * 2)(data)
        data.Columns, data.PixelData = 128, bytes(8 * ROWS * 128 * 2)

    study = read_study(tomo(wide))
    assert study.acquisition.axis_lps_mm == pytest.approx((10, -20, 21))
    assert has(study.history, "corner of a volume around the axis")


def test_trap_11_position_on_the_axis_and_table_height_leaves_it_open(tomo):
    def wide(data, **other):
        placed([[10, -20, 30]] * 2, **other)(data)
        data.Columns, data.PixelData = 128, bytes(8 * ROWS * 128 * 2)

    study = read_study(tomo(wide))
    assert study.acquisition.axis_lps_mm == pytest.approx((10, -20, 21))
    assert has(study.history, "a point of the rotation axis")
    study = read_study(tomo(lambda data: wide(data, TableHeight="130")))
    assert study.acquisition.axis_lps_mm is None
    assert has(study.warnings, "TableHeight is 130 mm", "vendors differ")


def test_trap_11_no_reading_fits(tomo):
    study = read_study(tomo(placed([[400, 400, 30], [-300, 500, 30]])))
    assert study.acquisition.axis_lps_mm is None
    assert has(study.warnings, "no known reading fits", "a CT is registered")


def test_trap_11_one_head_is_read_by_what_supports_it(tomo):
    """Alone, a position on the face is believed when the orientation names the detector plane, even 130 mm off."""

    def edit(data, named=True):
        head = heads(data)[0]
        head.ImagePositionPatient = [10 + 285.75, -130 + 150, 30]
        if named:
            head.ImageOrientationPatient = [*RIGHT[0], 0, 0, -1]
        data.Columns, data.PixelData = 128, bytes(4 * ROWS * 128 * 2)

    study = read_study(tomo(edit, keys=one_head()))
    assert study.acquisition.axis_lps_mm == pytest.approx((10, -130, 21))
    assert has(study.warnings, "130 mm from the origin")
    assert read_study(tomo(lambda data: edit(data, False), keys=one_head())).acquisition.axis_lps_mm is None


# 12


def test_trap_12_half_fields_give_a_grid_that_a_ct_can_be_put_on(tomo):
    """2 rows x 12 columns: slices from the rows, squares of the columns, at the millimetre of the axis."""

    def edit(data):
        data.Rows, data.Columns = 2, 12
        corners = [[10 + 24.75, -20 + 150, 30], [10 - 24.75, -20 - 160, 30]]
        placed(corners)(data)

    study = read_study(tomo(edit))
    grid = default_grid(study.acquisition)
    assert grid.shape == (2, 12, 12)
    assert grid.voxel_mm == (3.0, 4.5, 4.5)
    assert grid.affine_lps[:3, 3] == pytest.approx([10 - 24.75, -20 - 24.75, 27])
