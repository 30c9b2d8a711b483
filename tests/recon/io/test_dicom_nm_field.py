"""Raw DICOM files as they come from the field: what may be missing, spelled otherwise or wrong at no cost to the image.

`scan` is a valid file of two heads (0 and 180 deg, 30 views of 6 deg each) and three windows; each test changes what
one kind of camera, archive or anonymiser is known to change. A file is read rightly where counts, angles, radii and
windows are those of the unchanged file.
"""

import gzip
import warnings
import zipfile
from datetime import datetime, time

import numpy as np
import pydicom
import pytest
from pydicom.config import IGNORE, disable_value_validation
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from spectac.recon import Acquisition, EnergyWindow, Injection, Study, open_study
from spectac.recon.collimator import collimator
from spectac.recon.errors import InputError
from spectac.recon.io.dicom import nm as dicom_nm
from spectac.recon.photopeak import photopeak_index
from spectac.recon.settings import StudySettings

VIEWS, ROWS, COLUMNS, PIXEL_MM, RADIUS_MM = 30, 4, 6, 6.6, 140.0
VECTORS = ("EnergyWindowVector", "DetectorVector", "RotationVector", "AngularViewVector")
WINDOWS = (
    EnergyWindow("photopeak", 143.0, 175.0),
    EnergyWindow("lower", 131.0, 143.0),
    EnergyWindow("upper", 175.0, 187.0),
)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """The unchanged file: every pixel of every frame has its own number."""
    angles = np.concatenate([start + 6.0 * np.arange(VIEWS) for start in (0.0, 180.0)])
    views = angles.size
    acquisition = Acquisition(
        angles,
        np.full(views, RADIUS_MM),
        (ROWS, COLUMNS),
        (PIXEL_MM, PIXEL_MM),
        np.full(views, 11.0),
        "I-123",
        collimator("siemens-lehr"),
        start=datetime(2026, 2, 3, 10, 11, 12),
        detector=np.repeat([0, 1], VIEWS),
        axis_lps_mm=(1.0, -2.0, 30.0),
        frame_of_reference_uid="1.2.840.7",
        patient_position="HFS",
        corrections=frozenset({"UNIF", "COR"}),
    )
    counts = np.arange(3 * views * ROWS * COLUMNS, dtype=np.float32).reshape(3, views, ROWS, COLUMNS)
    who = {"PatientName": "Doe^Jane", "PatientID": "7", "PatientBirthDate": "19700203", "PatientSex": "F"}
    path = tmp_path_factory.mktemp("field") / "scan.dcm"
    dicom_nm.write_study(path, Study(acquisition, WINDOWS, counts, patient=who))
    return path


@pytest.fixture
def changed(scan, tmp_path):
    """Function (edit, name) that writes the changed file and returns its path."""

    def write(edit, name="in.dcm"):
        with disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(scan)
            data.Manufacturer, data.SoftwareVersions = "ACME", "1"
            edit(data)
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data.save_as(path)
        return path

    return write


def same_numbers(study, scan):
    """True where a file was read as the unchanged one."""
    right, mine = open_study(scan), study.acquisition
    return (
        np.array_equal(study.counts, right.counts)
        and np.allclose(mine.view_angles_deg, right.acquisition.view_angles_deg)
        and np.allclose(mine.radii_mm, right.acquisition.radii_mm)
        and np.allclose(mine.view_seconds, right.acquisition.view_seconds)
        and mine.pixel_mm == right.acquisition.pixel_mm
        and mine.nuclide == right.acquisition.nuclide
        and [(w.lower_kev, w.upper_kev) for w in study.windows] == [(w.lower_kev, w.upper_kev) for w in WINDOWS]
    )


def told(study, *words):
    """True where one warning holds all the words."""
    return any(all(word in line for word in words) for line in study.warnings)


def raw(data, keyword, content, vr):
    """Put these very bytes into an element."""
    content += b" " * (len(content) % 2)
    data._dict[Tag(keyword)] = RawDataElement(Tag(keyword), vr, len(content), content, 0, False, True)


def heads(data):
    return data.DetectorInformationSequence


def rotation(data):
    return data.RotationInformationSequence[0]


def agent(data):
    return data.RadiopharmaceuticalInformationSequence[0]


def keep(data, which):
    """Leave only some of the frames."""
    counts = np.frombuffer(data.PixelData, "<u2").reshape(-1, ROWS, COLUMNS)[which]
    for name in VECTORS:
        setattr(data, name, np.array(getattr(data, name))[which].tolist())
    data.NumberOfFrames, data.PixelData = len(counts), counts.tobytes()


def one_window(data, window):
    """Only the frames of one window (from 1), as a file of its own has them."""
    keep(data, np.flatnonzero(np.array(data.EnergyWindowVector) == window))
    data.EnergyWindowVector = [1] * int(data.NumberOfFrames)
    data.NumberOfEnergyWindows = 1
    data.EnergyWindowInformationSequence = Sequence([data.EnergyWindowInformationSequence[window - 1]])
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{window}"


# Text of no bearing on the image.


@pytest.mark.parametrize(
    ("keyword", "content", "vr", "written"),
    [
        ("PatientWeight", b"70,5", "DS", "70.5"),
        ("PatientSize", b"1,75", "DS", "1.75"),
        ("PatientWeight", b"ANON", "DS", None),
        ("PatientWeight", b"70 kg", "DS", None),
        ("PatientBirthDate", b"1970:01:01", "DA", "19700101"),
        ("PatientBirthDate", b"1970-01-01", "DA", "19700101"),
        ("PatientBirthDate", b"00000000", "DA", None),
        ("PatientSex", b"female", "CS", "F"),
        ("PatientSex", b"unknown", "CS", None),
        ("PatientAge", b"56", "AS", "056Y"),
        ("StudyTime", b"10:11", "TM", "101100"),
        ("StudyInstanceUID", b"1.2.03.0045", "UI", "1.2.3.45"),
        ("StudyID", b"a study with a long name", "SH", "a study with a l"),
    ],
)
def test_headers_are_put_right_or_left_out_and_never_cost_the_image(
    changed, scan, tmp_path, keyword, content, vr, written
):
    study = open_study(changed(lambda data: raw(data, keyword, content, vr)))
    assert same_numbers(study, scan)
    assert sum(keyword in line for line in study.warnings) == 1
    assert not told(study, content.decode())  # nothing about a person stands in a note
    dicom_nm.write_study(tmp_path / "out.dcm", study)
    value = pydicom.dcmread(tmp_path / "out.dcm").get(keyword)
    assert str(value or "") == (written or "")


def test_a_uid_that_is_no_uid_becomes_the_same_valid_one_every_time(changed, tmp_path):
    uids = set()
    for name in ("a.dcm", "b.dcm"):
        study = open_study(changed(lambda data: raw(data, "FrameOfReferenceUID", b"study 12/b", "UI"), name))
        dicom_nm.write_study(tmp_path / f"out-{name}", study)
        uids.add(str(pydicom.dcmread(tmp_path / f"out-{name}").FrameOfReferenceUID))
    assert len(uids) == 1
    assert pydicom.uid.UID(uids.pop(), validation_mode=IGNORE).is_valid


def test_library_warnings_become_one_line(changed, scan):
    def edit(data):
        raw(data, "SpecificCharacterSet", b"ISO_IR 9999", "CS")
        for keyword in ("PatientName", "StudyDescription", "InstitutionName"):
            raw(data, keyword, b"M\xfcller", "PN" if keyword == "PatientName" else "LO")

    study = open_study(changed(edit))
    assert same_numbers(study, scan)
    assert sum("not all of it follows DICOM" in line for line in study.warnings) <= 1


# Dose and injection.


def test_agent_dose_and_time_of_injection_are_carried(changed, tmp_path):
    def edit(data):
        agent(data).Radiopharmaceutical, agent(data).RadionuclideTotalDose = "Ioflupane", "185"
        agent(data).RadiopharmaceuticalStartTime = "061500"

    study = open_study(changed(edit))
    assert study.injection == Injection("Ioflupane", 185.0, datetime(2026, 2, 3, 6, 15))
    dicom_nm.write_study(tmp_path / "out.dcm", study)
    written = agent(pydicom.dcmread(tmp_path / "out.dcm"))
    assert (written.Radiopharmaceutical, written.RadionuclideTotalDose) == ("Ioflupane", 185)
    assert written.RadiopharmaceuticalStartDateTime == "20260203061500.000000"
    assert open_study(tmp_path / "out.dcm").injection == study.injection


@pytest.mark.parametrize(
    ("dose", "activity_mbq", "note"),
    [
        (b"185,2", 185.2, "has decimal commas"),
        (b"185000000", 185.0, "taken as Bq, 185 MBq"),
        (b"1e15", None, "is a dose neither in MBq nor in Bq: left out"),
        (b"-5", None, "left out"),
        (b"high", None, "needs finite numbers"),
        (b"0", None, None),
    ],
)
def test_the_dose_is_one_that_a_patient_can_get(changed, scan, dose, activity_mbq, note):
    def edit(data):
        raw(agent(data), "RadionuclideTotalDose", dose, "DS")

    study = open_study(changed(edit))
    assert same_numbers(study, scan)
    assert (None if study.injection is None else study.injection.activity_mbq) == activity_mbq
    assert note is None or told(study, "RadionuclideTotalDose", note)


def test_an_agent_that_outlives_the_day_is_not_dated(changed):
    """Lu-177 is scanned days after the injection: a time of day alone does not say which day."""

    def edit(data):
        code = agent(data).RadionuclideCodeSequence[0]
        code.CodeValue, code.CodeMeaning = "447553000", "^177^Lutetium"
        agent(data).RadiopharmaceuticalStartTime = "061500"

    assert open_study(changed(edit)).injection.at == time(6, 15)


def test_the_zone_of_the_injection_counts(changed):
    def edit(data):
        data.TimezoneOffsetFromUTC = "+0200"
        agent(data).RadiopharmaceuticalStartDateTime = "20260203051500+0000"

    assert open_study(changed(edit)).injection.at.isoformat() == "2026-02-03T07:15:00+02:00"

    def after(data):
        agent(data).RadiopharmaceuticalStartDateTime = "20270203051500"

    study = open_study(changed(after))
    assert study.injection is None
    assert told(study, "RadiopharmaceuticalStartDateTime", "after the begin of the scan: left out")


def test_an_injection_in_the_evening_belongs_to_the_day_before(changed):
    study = open_study(changed(lambda data: setattr(agent(data), "RadiopharmaceuticalStartTime", "220000")))
    assert study.injection.at == datetime(2026, 2, 2, 22)

    def without_start(data):
        data.AcquisitionDate = data.AcquisitionTime = ""
        agent(data).RadiopharmaceuticalStartTime = "061500"

    assert open_study(changed(without_start)).injection.at == time(6, 15)


# Start and times.


def test_a_date_without_a_time_is_no_midnight(changed):
    study = open_study(changed(lambda data: setattr(data, "AcquisitionDateTime", "20260203")))
    assert study.acquisition.start == datetime(2026, 2, 3, 10, 11, 12)

    def alone(data):
        data.AcquisitionDateTime, data.AcquisitionTime = "20260203", ""
        data.ContentDate, data.ContentTime = "20260203", "103200"

    study = open_study(changed(alone))
    assert study.acquisition.start is None
    assert told(study, "AcquisitionDate", "--start gives it", "ContentDate and ContentTime")
    given = open_study(changed(alone), StudySettings(start=datetime(2026, 2, 3, 10, 11)))
    assert given.acquisition.start == datetime(2026, 2, 3, 10, 11)
    assert not told(given, "--start")


def test_two_starts_an_hour_apart_are_told(changed):
    study = open_study(changed(lambda data: setattr(data, "AcquisitionDateTime", "20260203111112.5+0900")))
    assert study.acquisition.start.isoformat() == "2026-02-03T11:11:12.500000+09:00"
    assert told(study, "AcquisitionDateTime and AcquisitionDate and AcquisitionTime lie 60 min apart")


@pytest.mark.parametrize(("stored", "seconds"), [("11", 0.011), ("11000000", 11000.0)])
def test_times_that_no_view_has_are_told_and_can_be_given(changed, scan, stored, seconds):
    path = changed(lambda data: setattr(rotation(data), "ActualFrameDuration", stored))
    study = open_study(path)
    assert study.acquisition.view_seconds[0] == seconds
    assert told(study, "(0018,1242) ActualFrameDuration", f"views of {seconds:g} s", "--view-seconds")
    given = open_study(path, StudySettings(view_seconds=11.0))
    assert same_numbers(given, scan)
    assert not told(given, "ActualFrameDuration")


# Energy windows and nuclides.


def test_windows_of_one_name_are_told_apart_by_their_limits(changed, scan):
    def edit(data):
        for window in data.EnergyWindowInformationSequence:
            window.EnergyWindowName = "I-123"

    study = open_study(changed(edit))
    assert same_numbers(study, scan)
    assert [w.name for w in study.windows] == ["I-123 143-175 keV", "I-123 131-143 keV", "I-123 175-187 keV"]
    assert photopeak_index(study, "i-123 143-175 kev") == 0


def test_a_camera_with_six_windows_of_which_two_share_a_name(changed):
    """A GE Discovery 670 with Lu-177: two peaks, four scatter windows, no nuclide named."""
    limits = {
        "208_EM": (187.2, 228.8), "113_EM": (101.7, 124.3), "sc1_SC": (166.4, 187.2), "sc2_SC": (228.8, 249.6),
        "sc3_SC": (90.4, 101.7), "sc3_SC ": (124.3, 135.6),
    }  # fmt: skip

    def edit(data):
        one_window(data, 1)
        counts = np.frombuffer(data.PixelData, "<u2").reshape(-1, ROWS, COLUMNS)
        frames = int(data.NumberOfFrames)
        data.PixelData = np.concatenate([counts + w for w in range(6)]).tobytes()
        data.EnergyWindowVector = np.repeat(np.arange(1, 7), frames).tolist()
        for name in VECTORS[1:]:
            setattr(data, name, list(getattr(data, name)) * 6)
        data.NumberOfFrames, data.NumberOfEnergyWindows = 6 * frames, 6
        agent(data).RadionuclideCodeSequence = Sequence([])
        windows = []
        for name, (lower, upper) in limits.items():
            one, range_ = Dataset(), Dataset()
            range_.EnergyWindowLowerLimit, range_.EnergyWindowUpperLimit = str(lower), str(upper)
            one.EnergyWindowName, one.EnergyWindowRangeSequence = name.strip(), Sequence([range_])
            windows.append(one)
        data.EnergyWindowInformationSequence = Sequence(windows)

    path = changed(edit)
    with pytest.raises(InputError, match=r"give --nuclide \(the windows hold the line of Lu-177\)"):
        open_study(path)
    study = open_study(path, StudySettings(nuclide="Lu-177"))
    assert [(w.lower_kev, w.upper_kev) for w in study.windows] == list(limits.values())
    assert [w.name for w in study.windows[4:]] == ["sc3_SC 90.4-101.7 keV", "sc3_SC 124.3-135.6 keV"]
    assert photopeak_index(study) == 0
    assert np.array_equal(study.counts[5], study.counts[0] + 5)


def test_windows_in_files_of_their_own_may_share_a_name(changed, scan, tmp_path):
    paths = []
    for window in (1, 2, 3):

        def edit(data, window=window):
            one_window(data, window)
            data.EnergyWindowInformationSequence[0].EnergyWindowName = "I-123"
            if window > 1:
                data.CorrectedImage = ["COR"]

        paths.append(changed(edit, f"files/w{window}.dcm"))
    for study in (open_study(tmp_path / "files"), open_study(paths), open_study(paths, StudySettings())):
        assert [w.lower_kev for w in study.windows] == [131.0, 143.0, 175.0]
        assert np.array_equal(study.counts[1], open_study(scan).counts[0])
        assert study.acquisition.corrections == {"COR"}
        assert told(study, "CorrectedImage", "only some of the files say UNIF")


@pytest.mark.parametrize(("lower", "upper"), [("0", "0"), ("", ""), ("140", "140")])
def test_a_window_without_energies_is_left_out(changed, scan, lower, upper):
    def edit(data):
        limits = data.EnergyWindowInformationSequence[1].EnergyWindowRangeSequence[0]
        limits.EnergyWindowLowerLimit, limits.EnergyWindowUpperLimit = lower, upper

    study = open_study(changed(edit))
    assert [w.name for w in study.windows] == ["photopeak", "upper"]
    assert np.array_equal(study.counts, open_study(scan).counts[[0, 2]])
    assert told(study, "window 2 was left out", "lower")


def test_exchanged_limits_are_put_in_order(changed, scan):
    def edit(data):
        limits = data.EnergyWindowInformationSequence[0].EnergyWindowRangeSequence[0]
        limits.EnergyWindowLowerLimit, limits.EnergyWindowUpperLimit = "175", "143"

    study = open_study(changed(edit))
    assert same_numbers(study, scan)
    assert told(study, "limits of photopeak, 175 and 143 keV, were exchanged")


def nameless(data, window, lower, upper):
    """A file that names no nuclide, with one window of this name around that energy."""
    one_window(data, 1)
    agent(data).RadionuclideCodeSequence = Sequence([])
    one = data.EnergyWindowInformationSequence[0]
    one.EnergyWindowName = window
    one.EnergyWindowRangeSequence[0].EnergyWindowLowerLimit = lower
    one.EnergyWindowRangeSequence[0].EnergyWindowUpperLimit = upper


def test_a_window_called_after_the_nuclide_names_it(changed):
    study = open_study(changed(lambda data: nameless(data, "Lu177_EM", "187.2", "228.8")))
    assert study.acquisition.nuclide == "Lu-177"
    assert told(study, "Lu-177 was taken", "Lu177_EM (187.2-228.8 keV)", "--nuclide")


def test_a_name_alone_or_an_energy_alone_is_not_enough(changed):
    with pytest.raises(InputError, match=r"names no nuclide: give --nuclide \(one of"):
        open_study(changed(lambda data: nameless(data, "Lu177_EM", "187.2", "200")))
    with pytest.raises(InputError, match=r"names no nuclide: give --nuclide \(the windows hold the line of Lu-177\)"):
        open_study(changed(lambda data: nameless(data, "208_EM", "187.2", "228.8")))


def test_a_nuclide_that_the_table_lacks_can_be_described(changed, tmp_path):
    def edit(data):
        code = agent(data).RadionuclideCodeSequence[0]
        code.CodeValue, code.CodeMeaning, code.CodingSchemeDesignator = "C-122A1", "^166^Holmium", "SRT"

    path = changed(edit)
    with pytest.raises(InputError, match=r"names Ho-166, .* --nuclide Ho-166:KEV:HALFLIFE_H"):
        open_study(path)
    study = open_study(path, StudySettings(nuclide="Ho-166:160:26.8"))
    assert study.acquisition.nuclide == "Ho-166:160:26.8"
    assert photopeak_index(study) == 0
    dicom_nm.write_study(tmp_path / "out.dcm", study)
    assert agent(pydicom.dcmread(tmp_path / "out.dcm")).RadionuclideCodeSequence[0].CodeMeaning == "^166^Ho"


# Where the views lie.


@pytest.mark.parametrize("said", ["CCW", "Counterclockwise", "cc"])
def test_spellings_of_the_rotation(changed, scan, said):
    assert same_numbers(open_study(changed(lambda data: setattr(rotation(data), "RotationDirection", said))), scan)


def test_a_negative_step_or_arc_is_weighed_against_the_rotation(changed, scan):
    def step(data):
        rotation(data).AngularStep = "-6"

    study = open_study(changed(step))
    assert same_numbers(study, scan)
    assert told(study, "AngularStep is -6 deg", "contradicts RotationDirection CC", "--rotation cw")

    def arc(data):
        del rotation(data).AngularStep
        rotation(data).ScanArc = "-180"

    study = open_study(changed(arc))
    assert same_numbers(study, scan)
    assert told(study, "ScanArc is -180 deg", "counter-clockwise", "--rotation cw")


def test_a_negative_arc_of_a_clockwise_rotation_agrees_with_it(changed, scan):
    """The same orbit told clockwise: the last view first, from 174 and 354 deg."""

    def edit(data):
        data.AngularViewVector = [VIEWS + 1 - int(view) for view in data.AngularViewVector]
        rotation(data).RotationDirection, rotation(data).ScanArc = "CW", "-180"
        del rotation(data).AngularStep
        for head, start in zip(heads(data), ("174", "354"), strict=True):
            head.StartAngle = start
            del head.ImageOrientationPatient, head.ImagePositionPatient

    study = open_study(changed(edit))
    order = np.argsort(study.acquisition.view_angles_deg)
    assert np.array_equal(study.counts[:, order], open_study(scan).counts)
    assert not told(study, "--rotation")


def test_an_arc_is_that_of_a_heads_own_views(changed, scan):
    def edit(data, arc):
        del rotation(data).AngularStep
        rotation(data).ScanArc = arc

    study = open_study(changed(lambda data: edit(data, "180")))
    assert same_numbers(study, scan)
    # 360 deg of each head would be the same 30 angles twice: the arc of both heads together is meant.
    study = open_study(changed(lambda data: edit(data, "360")))
    assert same_numbers(study, scan)
    assert told(study, "ScanArc", "all heads together, 6 deg", "12 deg", "--step-deg")
    assert not told(study, "no AngularStep")
    # From the first view to the last: 5.8 deg do not divide the turn, 6 deg do.
    study = open_study(changed(lambda data: edit(data, "174")))
    assert same_numbers(study, scan)
    assert told(study, "174 deg", "6 deg", "5.8 deg", "--step-deg")


def test_heads_that_cover_one_another_are_told(changed):
    def edit(data):
        heads(data)[1].StartAngle = "90"
        rotation(data).ScanArc = ""
        for head in heads(data):
            del head.ImageOrientationPatient, head.ImagePositionPatient

    assert told(open_study(changed(edit)), "cover one another over 84 deg", "--head-angles")


def test_the_rotation_can_be_given_where_the_file_has_none(changed, scan):
    def edit(data):
        del data.RotationInformationSequence

    path = changed(edit)
    with pytest.raises(
        InputError, match=r"RotationInformationSequence is missing.*--rotation, --step-deg in its place"
    ):
        open_study(path)
    study = open_study(path, StudySettings(rotation="cc", step_deg=6.0, view_seconds=11.0))
    assert same_numbers(study, scan)
    backwards = open_study(path, StudySettings(rotation="cw", step_deg=6.0)).acquisition
    assert backwards.view_angles_deg[1] == 354.0
    assert not backwards.times_known


@pytest.mark.parametrize("keyword", ["RotationDirection", "AngularStep"])
def test_a_missing_direction_or_step_names_its_option(changed, scan, keyword):
    def edit(data):
        delattr(rotation(data), keyword)
        rotation(data).ScanArc = ""

    path = changed(edit)
    option = {"RotationDirection": "--rotation", "AngularStep": "--step-deg"}[keyword]
    with pytest.raises(InputError, match=f"{keyword}.* is missing.*{option}"):
        open_study(path)
    assert same_numbers(open_study(path, StudySettings(rotation="cc", step_deg=6.0)), scan)


def test_one_detector_item_for_two_heads_needs_their_angles(changed, scan):
    def edit(data):
        data.DetectorInformationSequence = Sequence([heads(data)[0]])
        del heads(data)[0].ImageOrientationPatient, heads(data)[0].ImagePositionPatient

    path = changed(edit)
    with pytest.raises(InputError, match=r"has 1 item for 2 heads.*--head-angles 0,180"):
        open_study(path)
    assert same_numbers(open_study(path, StudySettings(head_angles_deg=[0, 180])), scan)


def test_one_head_without_vectors_is_read_in_the_order_of_the_file(changed, scan):
    def edit(data):
        keep(data, np.arange(VIEWS))
        for name in (*VECTORS, "FrameIncrementPointer"):
            delattr(data, name)
        data.NumberOfDetectors = data.NumberOfEnergyWindows = 1
        data.DetectorInformationSequence = Sequence([heads(data)[0]])
        data.EnergyWindowInformationSequence = Sequence([data.EnergyWindowInformationSequence[0]])

    study = open_study(changed(edit))
    assert np.array_equal(study.counts[0], open_study(scan).counts[0, :VIEWS])
    assert told(study, "AngularViewVector is missing", "order of the file")


def test_views_that_are_all_numbered_1_are_read_in_the_order_of_the_file(changed, scan):
    """As PyTomography's module for 3D Slicer writes them, which also leaves out ImageType."""

    def edit(data):
        data.AngularViewVector = [1] * int(data.NumberOfFrames)
        del data.ImageType

    study = open_study(changed(edit))
    assert same_numbers(study, scan)
    assert told(study, "AngularViewVector gives every frame the same number")
    assert told(study, "ImageType is missing: taken as raw projections")


@pytest.mark.parametrize("counted", [VIEWS * 2, VIEWS * 3, VIEWS * 6])
def test_frames_in_rotation_may_count_heads_and_windows(changed, scan, counted):
    study = open_study(changed(lambda data: setattr(rotation(data), "NumberOfFramesInRotation", counted)))
    assert same_numbers(study, scan)
    assert not told(study, "NumberOfFramesInRotation")


def test_a_wrong_number_of_frames_in_rotation_never_decides(changed, scan):
    study = open_study(changed(lambda data: setattr(rotation(data), "NumberOfFramesInRotation", 7)))
    assert same_numbers(study, scan)
    assert told(study, "NumberOfFramesInRotation is 7, but detector 1 has 30 views")


# Radii.


def radii(data, of_head):
    for number, head in enumerate(heads(data)):
        head.RadialPosition = of_head(number)
    rotation(data).RadialPosition = None


def test_a_list_of_all_heads_in_every_item_gives_each_head_its_part(changed):
    both = [str(140 + n) for n in range(2 * VIEWS)]
    study = open_study(changed(lambda data: radii(data, lambda _: both)))
    assert study.acquisition.radii_mm.tolist() == [140.0 + n for n in range(2 * VIEWS)]
    assert told(study, "lists the 60 radii of all heads")


def test_text_for_a_radius_gives_way_to_the_rotations(changed, scan):
    def edit(data):
        raw(heads(data)[0], "RadialPosition", b"abc", "DS")
        rotation(data).RadialPosition = "140"

    study = open_study(changed(edit))
    assert same_numbers(study, scan)
    assert told(study, "RadialPosition", "not used, the rotation items have another")


def test_a_missing_radius_lies_between_its_neighbours(changed):
    study = open_study(changed(lambda data: radii(data, lambda _: ["140", "0", "144", *["150"] * 27])))
    assert study.acquisition.radii_mm[:4].tolist() == [140.0, 142.0, 144.0, 150.0]
    assert told(study, "RadialPosition", "is 0 for 1 of 30 views")
    half = changed(lambda data: radii(data, lambda _: ["140"] * 15 + ["0"] * 15))
    with pytest.raises(InputError, match=r"RadialPosition.* is 0 for 15 of 30 views: give --radius-mm"):
        open_study(half)


def test_a_short_list_of_a_circle_is_a_circle_and_of_an_ellipse_is_refused(changed, scan):
    study = open_study(changed(lambda data: radii(data, lambda _: ["140"] * 29)))
    assert same_numbers(study, scan)
    assert told(study, "29 values for 30 views", "circle")
    path = changed(lambda data: radii(data, lambda _: [str(140 + n) for n in range(29)]))
    with pytest.raises(InputError, match=r"has 29 values for 30 views.*--radius-mm"):
        open_study(path)
    assert open_study(path, StudySettings(radius_mm=150.0)).acquisition.radii_mm.max() == 150.0


def test_an_unfit_list_gives_way_to_the_rotations_radius(changed, scan):
    def edit(data):
        radii(data, lambda _: [str(100 + n) for n in range(29)])
        rotation(data).RadialPosition = "140"

    study = open_study(changed(edit))
    assert same_numbers(study, scan)
    assert told(study, "29 values for 30 views", "not used", "rotation")


# Private elements.


def genie(data, *, block=0x10, creator="GEMS_GENIE_1", as_bytes=False, inner_creator=True):
    """GE's offsets of 10 mm on a mean radius of 130 mm, in this block of group 0055."""
    data.Manufacturer = "GE MEDICAL SYSTEMS"
    radii(data, lambda _: None)
    rotation(data).RadialPosition = "130"
    triplets, items = [0.0, 0.0, 10.0] * VIEWS, []
    for _ in (1, 2):
        one = Dataset()
        if inner_creator:
            one.add_new(0x00130010, "LO", "GEMS_GENIE_1")
        if as_bytes:
            content = np.array(triplets, "<f8").tobytes()
            one._dict[Tag(0x0013101E)] = RawDataElement(Tag(0x0013101E), "UN", len(content), content, 0, False, True)
        else:
            one.add_new(0x0013101E, "FD", triplets)
        items.append(one)
    if creator is not None:
        data.add_new((0x0055, block), "LO", creator)
    data.add_new((0x0055, block << 8 | 0x22), "SQ", Sequence(items))


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize(("block", "inner_creator"), [(0x10, True), (0x10, False), (0x21, True)])
def test_ges_offsets_are_found_by_their_creator_in_any_block_and_type(changed, scan, block, inner_creator, as_bytes):
    study = open_study(changed(lambda data: genie(data, block=block, inner_creator=inner_creator, as_bytes=as_bytes)))
    assert same_numbers(study, scan)


def test_anothers_private_elements_are_no_offsets(changed):
    def siemens(data):
        data.add_new(0x00550010, "LO", "SIEMENS MED")
        data.add_new(0x00551022, "SS", 1)

    open_study(changed(siemens))
    foreign = open_study(changed(lambda data: genie(data, creator="SIEMENS MED")))
    assert set(foreign.acquisition.radii_mm) == {130.0}
    nameless = open_study(changed(lambda data: genie(data, creator="")))
    assert set(nameless.acquisition.radii_mm) == {130.0}
    assert told(nameless, "(0055,1022) may hold GE's radius of each view", "creator")


# Pixels.


@pytest.mark.parametrize(
    "keyword", ["PhotometricInterpretation", "PixelRepresentation", "SamplesPerPixel", "BitsStored", "BitsAllocated"]
)
def test_what_describes_the_pixels_may_be_missing(changed, scan, keyword):
    study = open_study(changed(lambda data: delattr(data, keyword)))
    assert same_numbers(study, scan)
    assert told(study, keyword) is (keyword in ("PixelRepresentation", "BitsAllocated"))


def test_counts_above_bits_stored_are_kept(changed, scan):
    def edit(data):
        data.BitsStored, data.HighBit = 4, 3

    study = open_study(changed(edit))
    assert same_numbers(study, scan)
    assert told(study, "BitsStored is 4, but values go up to")


@pytest.mark.parametrize("values", [{"HighBit": 7}, {"BitsStored": 0}, {"NumberOfFrames": "180.0"}])
def test_elements_that_cannot_matter_never_decide(changed, scan, values):
    def edit(data):
        for keyword, value in values.items():
            if keyword == "NumberOfFrames":
                raw(data, keyword, value.encode(), "IS")
            else:
                setattr(data, keyword, value)

    assert same_numbers(open_study(changed(edit)), scan)


def test_the_pixel_size_from_whereever_it_stands(changed, scan):
    def comma(data):
        raw(data, "PixelSpacing", b"6,6\\6,6", "DS")

    study = open_study(changed(comma))
    assert same_numbers(study, scan)
    assert told(study, "PixelSpacing", "has decimal commas")

    def imager(data):
        del data.PixelSpacing
        data.ImagerPixelSpacing = ["6.6", "6.6"]

    study = open_study(changed(imager))
    assert same_numbers(study, scan)
    assert told(study, "ImagerPixelSpacing", "--pixel-mm")

    def missing(data):
        del data.PixelSpacing

    with pytest.raises(InputError, match="PixelSpacing is missing: give --pixel-mm"):
        open_study(changed(missing))
    assert same_numbers(open_study(changed(missing), StudySettings(pixel_mm=(6.6, 6.6))), scan)


# Files and folders.


def test_a_copy_in_the_folder_is_left_out(changed, scan, tmp_path):
    for name in ("in/a.dcm", "in/a (1).dcm"):
        changed(lambda data: None, name)
    study = open_study(tmp_path / "in")
    assert same_numbers(study, scan)
    assert told(study, "was left out: a copy of")


def test_a_dicomdir_and_a_folder_of_folders_lead_to_the_scan(changed, scan, tmp_path):
    changed(lambda data: None, "media/PT000000/ST000000/SE000000/IM000000")
    contents, meta = Dataset(), FileMetaDataset()
    contents.FileSetID, contents.DirectoryRecordSequence = "CD", Sequence([])
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MediaStorageDirectoryStorage, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset("", contents, file_meta=meta, preamble=bytes(128))
    file.save_as(tmp_path / "media" / "DICOMDIR", enforce_file_format=True)
    for path in (tmp_path / "media", tmp_path / "media" / "DICOMDIR"):
        study = open_study(path)
        assert same_numbers(study, scan)
        assert told(study, "read from the sub-folder PT000000")
    changed(lambda data: None, "media/other/b.dcm")
    with pytest.raises(InputError, match=r"several sub-folders \(PT000000.*, other\): give one of them"):
        open_study(tmp_path / "media")


def test_archives_are_called_so(scan, tmp_path):
    packed = tmp_path / "in.dcm.gz"
    packed.write_bytes(gzip.compress(scan.read_bytes()))
    with pytest.raises(InputError, match="this is a gzip archive: unpack it"):
        open_study(packed)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.write(scan)
    with pytest.raises(InputError, match="this is a zip archive: unpack it"):
        open_study(tmp_path / "in.zip")


def test_paths_that_do_not_go_together(scan, tmp_path):
    with pytest.raises(InputError, match="a folder among several paths"):
        open_study([scan, tmp_path])
    with pytest.raises(InputError, match="empty list"):
        open_study([])


# Files of different people.


def test_files_of_two_people_are_never_joined_silently(changed, tmp_path):
    def window(number, **who):
        def edit(data):
            one_window(data, number)
            for keyword, value in who.items():
                setattr(data, keyword, value)

        return edit

    first = changed(window(1), "a.dcm")
    with pytest.raises(InputError, match="PatientID differs"):
        open_study([first, changed(window(2, PatientID="8"), "b.dcm")])
    for keyword, value in (("PatientBirthDate", "19800203"), ("PatientSex", "M"), ("PatientName", "Roe^Jane")):
        study = open_study([first, changed(window(2, **{keyword: value}), "b.dcm")])
        assert told(study, "b.dcm and a.dcm differ in", keyword, "of one person?")
        assert not told(study, value)
    alike = open_study([first, changed(window(2, PatientName="JANE DOE", PatientSex=""), "b.dcm")])
    assert not told(alike, "one person")


# What single files lack, others of the acquisition have.


@pytest.mark.parametrize(
    "keyword",
    [
        "PatientID",
        "StudyInstanceUID",
        "FrameOfReferenceUID",
        "PatientGantryRelationshipCodeSequence",
        "RadiopharmaceuticalInformationSequence",
        "AcquisitionTime",
    ],
)
def test_what_one_file_lacks_is_taken_from_the_others(changed, scan, tmp_path, keyword):
    for window in (1, 2, 3):

        def edit(data, window=window):
            one_window(data, window)
            if window == 1:
                delattr(data, keyword)

        changed(edit, f"files/w{window}.dcm")
    study, right = open_study(tmp_path / "files"), open_study(scan)
    assert np.array_equal(study.counts[[1, 0, 2]], right.counts)
    for name in ("nuclide", "start", "frame_of_reference_uid", "patient_position"):
        assert getattr(study.acquisition, name) == getattr(right.acquisition, name)
    assert study.patient["PatientID"] == "7"


def test_roundings_in_one_file_and_a_file_without_a_window_cost_nothing(changed, tmp_path):
    def rounded(data):
        one_window(data, 1)
        data.PixelSpacing = ["6.6001", "6.6001"]
        for head in heads(data):
            head.RadialPosition = ["140.4"] * VIEWS

    def empty(data):
        one_window(data, 3)
        limits = data.EnergyWindowInformationSequence[0].EnergyWindowRangeSequence[0]
        limits.EnergyWindowLowerLimit = limits.EnergyWindowUpperLimit = "0"

    paths = [changed(rounded, "a.dcm"), changed(lambda data: one_window(data, 2), "b.dcm"), changed(empty, "c.dcm")]
    study = open_study(paths)
    assert [w.name for w in study.windows] == ["lower", "photopeak"]
    assert told(study, "c.dcm was left out", "0 to 0 keV")


# GE's position: facts of a real Discovery 670, two beds of one scan.


def ge_bed(start, sense, position, row, radius):
    """A head of 60 views, 128 x 128 pixels of 4.4196 mm, everything but the collimator in the rotation item."""

    def edit(data):
        keep(data, np.arange(VIEWS))
        data.Manufacturer, data.ManufacturerModelName = "GE MEDICAL SYSTEMS", "Tandem_Discovery_670"
        data.Rows = data.Columns = 128
        data.PixelData = bytes(2 * VIEWS * 128 * 128)
        data.PixelSpacing = ["4.4196", "4.4196"]
        data.NumberOfDetectors = 1
        head = Dataset()
        head.CollimatorGridName, head.CollimatorType = "MEGP", "PARA"
        head.ImagePositionPatient = [str(value) for value in position]
        head.ImageOrientationPatient = [str(value) for value in (*row, 0, 0, 0, -1)]
        data.DetectorInformationSequence = Sequence([head])
        one = rotation(data)
        one.StartAngle, one.RotationDirection, one.RadialPosition = str(start), sense, str(radius)

    return edit


BED_1 = ge_bed(180.16, "CC", (-280.3446, -287.5446, 457.6446), (0.999996, -0.002793), 253.7)
BED_2 = ge_bed(0.16, "CW", (-280.3446, -287.5446, 103.6446), (-0.999996, 0.002793), 254.8)


@pytest.mark.parametrize(("bed", "top"), [(BED_1, 457.6), (BED_2, 103.6)])
def test_ges_position_is_the_corner_of_the_volume_whatever_the_start_angle(changed, bed, top):
    study = open_study(changed(bed))
    x, y, z = study.acquisition.axis_lps_mm
    assert (x, y) == pytest.approx((0.3, -6.9), abs=0.05)
    assert z + 127 * 4.4196 == pytest.approx(top, abs=0.05)
    assert not told(study, "ImagePositionPatient")


def test_of_an_unknown_maker_both_positions_are_told(changed):
    """At 180 deg the corner of the volume and the pixel on the face differ by radius less half a field, along y."""

    def edit(data):
        BED_1(data)
        data.Manufacturer = "ACME"

    study = open_study(changed(edit))
    assert told(study, "x = 1.0, y = -34.6", "x = 0.3, y = -6.9", "28 mm apart")


def test_another_file_of_the_scan_decides_between_two_positions(changed):
    """The second head, at 0 deg, can be read in one way only: both get its axis."""

    def other(bed, height):
        def edit(data):
            bed(data)
            data.Manufacturer = "ACME"
            position = data.DetectorInformationSequence[0].ImagePositionPatient
            data.DetectorInformationSequence[0].ImagePositionPatient = [*position[:2], height]
            rotation(data).RadialPosition = "253.7"
            data.PixelData = np.full(VIEWS * 128 * 128, height, "<u2").tobytes()

        return edit

    study = open_study([changed(other(BED_1, 400), "a.dcm"), changed(other(BED_2, 400), "b.dcm")])
    assert study.acquisition.axis_lps_mm[:2] == pytest.approx((0.3, -6.9), abs=0.05)
    assert any("so that all files have one rotation axis" in line for line in study.history)


@pytest.mark.parametrize(("unit", "factor"), [("eV", 1e3), ("MeV", 1e-3)])
def test_limits_in_another_unit_are_converted(changed, scan, unit, factor):
    """EnergyWindowLowerLimit is in keV (PS3.3 C.8.4.10); no window begins at 143 MeV or ends at 0.175 keV."""

    def edit(data):
        limits = data.EnergyWindowInformationSequence[0].EnergyWindowRangeSequence[0]
        limits.EnergyWindowLowerLimit, limits.EnergyWindowUpperLimit = f"{143 * factor:g}", f"{175 * factor:g}"

    study = open_study(changed(edit))
    assert same_numbers(study, scan)
    assert told(study, "limits of photopeak", f"are those of {unit}")
