"""DICOM NM written by spectac: round trips, what the files say to pydicom, SimpleITK and dciodvfy, what is refused."""

import subprocess
from datetime import datetime, timedelta, timezone
from shutil import which

import numpy as np
import pydicom
import pytest

from spectac.recon import StudySettings
from spectac.recon.collimator import Collimator, collimator
from spectac.recon.errors import InputError
from spectac.recon.geometry import default_grid
from spectac.recon.io import open_study
from spectac.recon.io.dicom.nm import read_image, write_image, write_study
from spectac.recon.types import Acquisition, EnergyWindow, Grid, Image, Study

needs_dciodvfy = pytest.mark.skipif(which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")


def has(lines, *words):
    return any(all(word in line for word in words) for line in lines)


def study_of(**changes):
    """Two heads turning CW from 90 and 270 deg, two windows, all that DICOM can carry."""
    views = 5
    angles = np.concatenate([90 - 36.0 * np.arange(views), 270 - 36.0 * np.arange(views)]) % 360
    values = {
        "view_angles_deg": angles,
        "radii_mm": np.linspace(150.0, 190.5, 2 * views),
        "matrix": (7, 10),
        "pixel_mm": (3.3, 4.42),
        "view_seconds": np.full(2 * views, 12.5),
        "nuclide": "I-123",
        "collimator": collimator("siemens-lehr"),
        "start": datetime(2026, 2, 28, 23, 59, 59, 123456, tzinfo=timezone(timedelta(hours=-5, minutes=-30))),
        "detector": np.repeat([0, 1], views),
        "axis_lps_mm": (1.5, -142.25, 333.0),
        "frame_of_reference_uid": "1.2.840.1",
        "patient_position": "FFP",
        "corrections": frozenset({"UNIF", "COR", "DECY"}),
        **changes,
    }
    acquisition = Acquisition(**values)
    counts = np.random.default_rng(3).poisson(50, (2, *acquisition.shape))
    patient = {
        "PatientName": "Müller^Änne",
        "PatientID": "1",
        "PatientBirthDate": "00000000",
        "StudyInstanceUID": "1.2.840.5",
        "StudyDate": "20260228",
        "StudyTime": "235900",
        "StudyID": "S",
        "SOPInstanceUID": "1.2.840.77",
    }
    windows = (EnergyWindow("photopeak", 143.1, 174.9), EnergyWindow("lower", 129.5, 143.1))
    return Study(acquisition, windows, counts, patient=patient)


def dciodvfy(path):
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


NOISE = "Error - Missing attribute Type 2C Conditional Element=<Laterality> Module=<GeneralSeries>"


def test_tomo_round_trip(tmp_path):
    study = study_of()
    write_study(tmp_path / "a.dcm", study)
    back = open_study(tmp_path / "a.dcm")
    mine, theirs = study.acquisition, back.acquisition
    assert np.array_equal(study.counts, back.counts)
    assert back.windows == study.windows
    for name in ("view_angles_deg", "radii_mm", "view_seconds", "view_start_s", "axis_lps_mm", "pixel_mm"):
        # A decimal string has 14 digits here: positions to 1e-9 mm.
        assert np.allclose(getattr(mine, name), getattr(theirs, name), rtol=0, atol=1e-8), name
    for name in (
        "matrix",
        "nuclide",
        "collimator",
        "start",
        "frame_of_reference_uid",
        "patient_position",
        "corrections",
    ):
        assert getattr(mine, name) == getattr(theirs, name), name
    assert np.array_equal(mine.detector, theirs.detector)
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "StudyID"):
        assert back.patient[keyword] == study.patient[keyword]
    # No day is called 00000000: it is not written.
    assert study.patient["PatientBirthDate"] == "00000000"
    assert "PatientBirthDate" not in back.patient
    # The axis of this study lies 142 mm from the origin, and the reader says so; nothing else is doubtful.
    assert [line for line in back.warnings if "from the origin" not in line] == []
    write_study(tmp_path / "b.dcm", back)
    again = open_study(tmp_path / "b.dcm")
    assert np.array_equal(again.counts, back.counts)
    assert np.array_equal(again.acquisition.radii_mm, theirs.radii_mm)


def test_tomo_of_one_head_with_unknown_times_and_axis(tmp_path):
    study = study_of(
        view_angles_deg=np.arange(10) * 36.0,
        detector=np.zeros(10),
        view_seconds=np.full(10, np.nan),
        axis_lps_mm=None,
        start=None,
        patient_position=None,
        collimator=Collimator.from_line(1.4, 0.02),
        corrections=frozenset(),
    )
    write_study(tmp_path / "a.dcm", study)
    back = open_study(tmp_path / "a.dcm")
    assert not back.acquisition.times_known
    assert back.acquisition.axis_lps_mm is back.acquisition.start is back.acquisition.collimator is None
    assert np.array_equal(back.counts, study.counts)


def test_views_out_of_order_are_written_in_the_order_of_time(tmp_path):
    """The same study with its views listed backwards gives the same file content."""
    study = study_of()
    order = np.arange(10)[::-1]
    changed = {
        name: getattr(study.acquisition, name)[order]
        for name in ("view_angles_deg", "radii_mm", "view_seconds", "detector", "view_start_s")
    }
    other = Study(study_of(**changed).acquisition, study.windows, study.counts[:, order], patient=study.patient)
    write_study(tmp_path / "a.dcm", study)
    write_study(tmp_path / "b.dcm", other)
    one, two = open_study(tmp_path / "a.dcm"), open_study(tmp_path / "b.dcm")
    assert np.array_equal(one.counts, two.counts)
    assert np.array_equal(one.acquisition.radii_mm, two.acquisition.radii_mm)


def test_two_files_of_one_study_differ_in_uids_and_time_stamps_only(tmp_path):
    study = study_of()
    for name in ("a.dcm", "b.dcm"):
        write_study(tmp_path / name, study)
    one, two = (pydicom.dcmread(tmp_path / name) for name in ("a.dcm", "b.dcm"))
    stamps = ("SeriesDate", "SeriesTime", "ContentDate", "ContentTime", "InstanceCreationDate", "InstanceCreationTime")
    assert one.SOPInstanceUID != two.SOPInstanceUID
    for data in (one, two):
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID", *stamps):
            delattr(data, keyword)
    assert one == two


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"view_angles_deg": np.r_[np.arange(9) * 10.0, 200]}, "regular views: their steps go from"),
        ({"view_seconds": np.r_[np.full(9, 10.0), 20]}, "their times go from 10 to 20 s"),
        ({"detector": np.r_[np.zeros(4), np.ones(6)]}, "the heads have 4, 6 views"),
        ({"view_start_s": np.arange(10) * 30.0}, "not one view time apart"),
        ({"u_offset_mm": np.arange(10) * 0.1}, "u_offset_mm differs"),
    ],
)
def test_irregular_views_are_refused_by_the_writer(tmp_path, changes, message):
    with pytest.raises(InputError, match=f"{message}.*write the study as HDF5"):
        write_study(tmp_path / "a.dcm", study_of(**changes))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("value", "message"), [(65536.0, "up to 65535"), (1.5, "whole counts, one is 1.5")])
def test_counts_that_16_bits_cannot_hold_are_refused(tmp_path, value, message):
    study = study_of()
    counts = study.counts.copy()
    counts[1, 2, 3, 4] = value
    with pytest.raises(InputError, match=message):
        write_study(tmp_path / "a.dcm", Study(study.acquisition, study.windows, counts))


def test_centre_of_rotation_goes_through_the_file(tmp_path):
    study = study_of(u_offset_mm=np.repeat([1.25, -0.5], 5))
    write_study(tmp_path / "a.dcm", study)
    back = open_study(tmp_path / "a.dcm", StudySettings(apply_cor=True))
    assert np.array_equal(back.acquisition.u_offset_mm, study.acquisition.u_offset_mm)


def image_on(grid, low=0.0):
    values = np.random.default_rng(8).random(grid.shape) * (3.0 - low) + low
    return Image(values, grid, "cps/mL", history=("OSEM",))


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_recon_round_trip_keeps_values_to_half_a_step_and_position_exactly(tmp_path, low):
    grid = Grid.upright((5, 6, 7), (3.3, 4.42, 4.42), (-20.125, -160.5, 812.3))
    image = image_on(grid, low)
    write_image(tmp_path / "a.dcm", image, study=study_of(), description="OSEM 10x10, attenuation ct")
    back = read_image(tmp_path / "a.dcm")
    step = np.abs(image.values).max() / (65535 if low == 0 else 32767)
    assert np.abs(back.values - image.values).max() <= 0.5 * step * 1.001 + 1e-7
    assert back.grid.same_as(grid)
    assert back.unit == "cps/mL"
    assert has(back.history, "OSEM 10x10, attenuation ct")


def test_recon_of_a_tilted_grid_keeps_its_position(tmp_path):
    """Axes turned by 20 deg about x: the affine comes back, whichever way its slices run."""
    turn = np.deg2rad(20.0)
    along_z = np.array([0.0, -np.sin(turn), np.cos(turn)])
    along_y = np.array([0.0, np.cos(turn), np.sin(turn)])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = 3 * along_z, 4 * along_y, [4, 0, 0], [5, 6, 7]
    grid = Grid((4, 5, 6), (3.0, 4.0, 4.0), affine)
    write_image(tmp_path / "a.dcm", image_on(grid), study=study_of(), description="x")
    assert read_image(tmp_path / "a.dcm").grid.same_as(grid)


def test_recon_carries_patient_and_frame_of_reference_and_has_a_new_series(tmp_path):
    study = study_of()
    image = image_on(default_grid(study.acquisition))
    files = []
    for name in ("a.dcm", "b.dcm"):
        write_image(tmp_path / name, image, study=study, description="MLEM 20, attenuation uniform")
        files.append(pydicom.dcmread(tmp_path / name))
    one, two = files
    assert list(one.ImageType) == ["DERIVED", "PRIMARY", "RECON TOMO", "EMISSION"]
    assert one.SeriesInstanceUID != two.SeriesInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID
    for data in files:
        assert (data.StudyInstanceUID, data.FrameOfReferenceUID) == ("1.2.840.5", "1.2.840.1")
        assert (str(data.PatientName), data.StudyDate) == ("Müller^Änne", "20260228")
        assert data.SeriesDescription == "MLEM 20, attenuation uniform"
        assert data.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.840.77"
        assert data.RotationInformationSequence[0].RotationDirection == "CW"
    assert one.PixelData == two.PixelData
    with pytest.raises(InputError, match="this is a reconstruction, not raw projections"):
        open_study(tmp_path / "a.dcm")


def test_pydicom_and_simpleitk_place_the_recon_at_the_same_millimetres(tmp_path):
    study = study_of()
    grid = default_grid(study.acquisition)
    values = np.zeros(grid.shape)
    spots = [(1, 2, 3), (5, 7, 8), (6, 0, 9)]
    for number, spot in enumerate(spots, start=1):
        values[spot] = number
    write_image(tmp_path / "a.dcm", Image(values, grid, "cps/mL"), study=study, description="x")
    data = pydicom.dcmread(tmp_path / "a.dcm")
    detector = data.DetectorInformationSequence[0]
    stored = data.pixel_array * float(data.RescaleSlope)
    columns, rows = np.array(detector.ImageOrientationPatient, float).reshape(2, 3)
    for number, spot in enumerate(spots, start=1):
        place = (grid.affine_lps @ [*spot, 1.0])[:3]
        # By hand, as DICOM has it: slices follow the normal at SpacingBetweenSlices.
        offset = place - np.array(detector.ImagePositionPatient, float)
        k = offset @ np.cross(columns, rows) / float(data.SpacingBetweenSlices)
        i, j = offset @ rows / float(data.PixelSpacing[0]), offset @ columns / float(data.PixelSpacing[1])
        assert stored[round(k), round(i), round(j)] == pytest.approx(number, rel=1e-4)
        assert np.allclose([k, i, j], np.round([k, i, j]), atol=1e-6)
    sitk = pytest.importorskip("SimpleITK")
    theirs = sitk.ReadImage(str(tmp_path / "a.dcm"))
    for number, spot in enumerate(spots, start=1):
        place = (grid.affine_lps @ [*spot, 1.0])[:3]
        index = theirs.TransformPhysicalPointToContinuousIndex(place.tolist())
        assert np.allclose(index, spot[::-1], atol=1e-3)
        assert theirs[theirs.TransformPhysicalPointToIndex(place.tolist())] == pytest.approx(number, rel=1e-4)


@needs_dciodvfy
@pytest.mark.parametrize("position", ["HFS", "FFP", None])
def test_dciodvfy_accepts_what_is_written_but_for_its_laterality_noise(tmp_path, position):
    study = study_of(patient_position=position)
    # The birth date of 00000000 that scanners write is kept as it came; here the file's own form is looked at.
    study = Study(study.acquisition, study.windows, study.counts, patient={**study.patient, "PatientBirthDate": ""})
    write_study(tmp_path / "tomo.dcm", study)
    assert set(dciodvfy(tmp_path / "tomo.dcm")) <= {NOISE}
    for low in (0.0, -1.0):
        image = image_on(default_grid(study.acquisition), low)
        write_image(tmp_path / "recon.dcm", image, study=study, description="OSEM, attenuation none")
        assert set(dciodvfy(tmp_path / "recon.dcm")) <= {NOISE}


@needs_dciodvfy
def test_dciodvfy_would_find_a_fault(tmp_path):
    """The check above can fail: without RotationInformationSequence there is a complaint beside the noise."""
    write_study(tmp_path / "a.dcm", study_of())
    data = pydicom.dcmread(tmp_path / "a.dcm")
    del data.RotationInformationSequence
    data.save_as(tmp_path / "b.dcm")
    assert any("RotationInformationSequence" in line for line in dciodvfy(tmp_path / "b.dcm"))


def test_apply_cor_needs_dicom(tmp_path):
    from spectac.recon.io.hdf5 import write_study as write_hdf5

    write_hdf5(tmp_path / "a.h5", study_of())
    with pytest.raises(InputError, match="--apply-cor needs DICOM's CenterOfRotationOffset, which HDF5 does not have"):
        open_study(tmp_path / "a.h5", StudySettings(apply_cor=True))
