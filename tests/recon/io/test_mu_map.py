"""Mu-maps of every format, folders that hold them, and maps of another photon energy."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from spectac.recon import Acquisition, EnergyWindow, Grid, Image, InputError, MuMap, Study
from spectac.recon.ct import tissue_mu
from spectac.recon.io.dicom import nm as dicom_nm
from spectac.recon.io.mu_map import read_mu_map
from spectac.recon.io.nifti import write_image, write_mu_map

I_KEV = 158.97
GRID = Grid.upright((6, 8, 10), (5.0, 4.0, 4.0), (-18.0, -30.0, 100.0))


@pytest.fixture(scope="module")
def study():
    acquisition = Acquisition(
        np.arange(8) * 45.0, np.full(8, 150.0), (6, 10), (5.0, 4.0), np.full(8, 10.0), "I-123", None
    )
    return Study(acquisition, (EnergyWindow("peak", 143, 175),), np.ones((1, 8, 6, 10)))


@pytest.fixture(scope="module")
def values():
    """Brain with a denser corner on the left, front, top: the orientation shows."""
    per_cm = np.full(GRID.shape, 0.153, np.float32)
    per_cm[-2:, :2, -3:] = 0.24
    return per_cm


def dicom_map(path, study, values, **elements):
    """The map as RECON TOMO: stored integers x slope; elements None are removed."""
    dicom_nm.write_image(path, Image(values, GRID, "relative"), study=study, description="map")
    data = pydicom.dcmread(path)
    data.ImageType = ["DERIVED", "SECONDARY", "RECON TOMO", "TRANSMISSION"]
    for keyword, value in elements.items():
        if value is None:
            if keyword in data:
                delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    data.save_as(path, enforce_file_format=True)
    return path


def mapping(code):
    unit = Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = code, "UCUM", code
    one = Dataset()
    one.RealWorldValueSlope, one.RealWorldValueIntercept = 1e-5, 0.0
    one.MeasurementUnitsCodeSequence = Sequence([unit])
    return Sequence([one])


def stored(data, values):
    data.PixelData = np.round(values * 1e5).astype("<u2").tobytes()
    data.RescaleSlope, data.RescaleIntercept = "0.00001", "0"


def as_integers(path, values, **elements):
    data = pydicom.dcmread(path)
    # Rows of the file run as they were written: the values are brought into the file's order by what it holds.
    slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    real = data.pixel_array * slope + intercept
    stored(data, real / real.max() * values.max())
    for keyword in ("RealWorldValueMappingSequence",):
        if keyword in data:
            delattr(data, keyword)
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    data.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize(
    "elements",
    [
        pytest.param({"Units": "1CM"}, id="Units"),
        pytest.param({"RealWorldValueMappingSequence": mapping("/cm")}, id="RealWorldValueMapping"),
        pytest.param({}, id="slope-alone"),
    ],
)
def test_a_dicom_map_in_1_per_cm_is_read_where_it_lies(tmp_path, study, values, elements):
    path = dicom_map(tmp_path / "mu.dcm", study, values)
    as_integers(path, values, **elements)
    read = read_mu_map(path, study.acquisition, I_KEV)
    np.testing.assert_allclose(read.mu.per_cm, values, atol=1e-4)
    assert read.mu.grid.same_as(GRID)
    assert not read.placed
    assert len(read.notes) == (0 if elements else 1)


def test_a_dicom_map_per_millimetre_is_converted(tmp_path, study, values):
    path = dicom_map(tmp_path / "mu.dcm", study, values)
    as_integers(path, values, RealWorldValueMappingSequence=mapping("/mm"))
    np.testing.assert_allclose(read_mu_map(path, study.acquisition, I_KEV).mu.per_cm, 10 * values, rtol=1e-3)


@pytest.mark.parametrize("unit", ["CNTS", "BQML", "HU"])
def test_another_unit_is_refused_with_the_way_to_convert(tmp_path, study, values, unit):
    path = dicom_map(tmp_path / "mu.dcm", study, values)
    as_integers(path, values, Units=unit)
    with pytest.raises(InputError, match=rf"DICOM image whose unit is {unit}.*convert it to NIfTI") as caught:
        read_mu_map(path, study.acquisition, I_KEV)
    assert len(str(caught.value).splitlines()) == 1


def test_raw_projections_are_no_map(tmp_path, study):
    dicom_nm.write_study(tmp_path / "raw.dcm", replace(study))
    with pytest.raises(
        InputError, match=r"ImageType of this DICOM file is .*TOMO.*not RECON TOMO: convert it to NIfTI"
    ):
        read_mu_map(tmp_path / "raw.dcm", study.acquisition, I_KEV)


def test_a_folder_with_one_map_is_that_map(tmp_path, study, values):
    """Whatever lies beside it: raw projections, the side-car, hidden files, texts."""
    write_mu_map(tmp_path / "mu.nii.gz", MuMap(values, GRID, I_KEV))
    dicom_nm.write_study(tmp_path / "raw.dcm", study)
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    read = read_mu_map(tmp_path, study.acquisition, I_KEV)
    np.testing.assert_array_equal(read.mu.per_cm, values)
    assert any("is a folder: its only map mu.nii.gz was used" in note for note in read.notes)


def test_folders_without_or_with_several_maps_are_called_folders(tmp_path, study, values):
    with pytest.raises(InputError, match="is a folder without a mu-map among its 0 files"):
        read_mu_map(tmp_path, study.acquisition, I_KEV)
    for name in ("a.nii", "b.nii.gz"):
        write_mu_map(tmp_path / name, MuMap(values, GRID, I_KEV))
    with pytest.raises(
        InputError, match=r"is a folder with 2 images: give the file of the mu-map, one of a\.nii, b\.nii"
    ):
        read_mu_map(tmp_path, study.acquisition, I_KEV)
    with pytest.raises(InputError, match="no such file or folder"):
        read_mu_map(tmp_path / "none", study.acquisition, I_KEV)


def test_other_files_are_told_what_a_map_is(tmp_path, study):
    (tmp_path / "mu.mhd").write_text("ObjectType = Image")
    with pytest.raises(InputError, match="a mu-map is a NIfTI or Interfile image in 1/cm, or a DICOM"):
        read_mu_map(tmp_path / "mu.mhd", study.acquisition, I_KEV)


@pytest.mark.parametrize("name", ["mu.zip", "mu.nii"])
def test_packed_maps_are_named(tmp_path, study, name):
    """Unpacked by name alone a gzip called .nii would be read as noise."""
    (tmp_path / name).write_bytes(b"PK\x03\x04" + bytes(500) if name == "mu.zip" else gzip.compress(bytes(500)))
    with pytest.raises(InputError, match=r"this is a (zip|gzip) archive: unpack it"):
        read_mu_map(tmp_path / name, study.acquisition, I_KEV)


def map_at(path, kev, energy=None):
    """Brain and cranium at an energy, in halves of the field."""
    names = tissue_mu(kev)
    per_cm = np.where(np.arange(10) < 5, names[4], names[5]) * np.ones(GRID.shape)
    write_image(path, Image(per_cm, GRID, "relative"))
    side_car = {"Units": "1/cm"} | ({} if energy is None else {"EnergyKeV": energy})
    path.with_suffix(".json").write_text(json.dumps(side_car))


@pytest.mark.parametrize("by", ["side-car", "option"])
def test_a_map_of_another_energy_is_converted_tissue_by_tissue(tmp_path, study, by):
    """PET's 511 keV: brain and bone come out as at 159 keV, although their ratios differ (1.54 and 1.60)."""
    map_at(tmp_path / "mu.nii", 511.0, 511.0 if by == "side-car" else None)
    given = {"given_kev": 511.0} if by == "option" else {}
    read = read_mu_map(tmp_path / "mu.nii", study.acquisition, I_KEV, **given)
    assert read.mu.energy_kev == I_KEV
    wanted = tissue_mu(I_KEV)
    np.testing.assert_allclose(read.mu.per_cm[0, 0, [0, 9]], [wanted[4], wanted[5]], rtol=1e-4)
    assert any("each voxel was converted to 158.97 keV" in note for note in read.notes)


def test_the_option_goes_before_the_side_car_and_says_so(tmp_path, study):
    map_at(tmp_path / "mu.nii", 511.0, 364.0)
    read = read_mu_map(tmp_path / "mu.nii", study.acquisition, I_KEV, given_kev=511.0)
    assert any("mu.nii says 364 keV: 511 keV was taken, as given" in note for note in read.notes)
    assert read.mu.per_cm[0, 0, 0] == pytest.approx(tissue_mu(I_KEV)[4], rel=1e-4)


@pytest.mark.parametrize("said", [None, "high", float("nan"), -1.0, 1e9])
def test_the_option_helps_where_the_side_car_says_no_energy(tmp_path, study, said):
    map_at(tmp_path / "mu.nii", I_KEV)
    (tmp_path / "mu.json").write_text(json.dumps({"EnergyKeV": said}))
    with pytest.raises(InputError, match=r"mu\.(json|nii): .*EnergyKeV.*--mu-map-kev"):
        read_mu_map(tmp_path / "mu.nii", study.acquisition, I_KEV)
    read = read_mu_map(tmp_path / "mu.nii", study.acquisition, I_KEV, given_kev=159.0)
    assert read.mu.per_cm[0, 0, 0] == np.float32(tissue_mu(I_KEV)[4])


def test_a_map_at_the_photopeak_stays_as_it_is(tmp_path, study):
    map_at(tmp_path / "mu.nii", I_KEV, 159.0)
    read = read_mu_map(tmp_path / "mu.nii", study.acquisition, I_KEV)
    assert read.notes == ()
    assert read.mu.per_cm[0, 0, 0] == np.float32(tissue_mu(I_KEV)[4])
