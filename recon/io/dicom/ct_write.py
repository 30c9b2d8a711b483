"""CT volumes as DICOM CT Image Storage, one file a slice."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from spectac.recon.ct import CTVolume
from spectac.recon.errors import InputError
from spectac.recon.io.atomic import written_folder
from spectac.recon.types import Array

INTERCEPT_HU = -1024.0
_KEPT = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
)


def write_series(
    folder: str | os.PathLike[str],
    volume: CTVolume,
    *,
    patient: Mapping[str, str] | None = None,
    description: str = "CT",
    series_number: int = 1,
) -> list[Path]:
    """Write a volume into `folder`, one file a slice of its first axis, and return the files in that order.

    HU are rounded to whole numbers and limited to what 16 bits hold. `patient` holds DICOM keywords and their text; it
    adds to and replaces the volume's. The series gets a new SeriesInstanceUID. All files appear together or none.
    Raises InputError where the grid's axes are not at right angles, OSError as the file system does.
    """
    cosines = volume.grid.affine_lps[:3, :3] / np.array(volume.grid.voxel_mm)
    if np.abs(cosines.T @ cosines - np.eye(3)).max() > 1e-4:
        raise InputError("a CT series needs a grid whose axes are at right angles: resample the volume first")
    about = {**volume.patient, **(patient or {})}
    series_uid, frame_uid = generate_uid(), volume.frame_of_reference_uid or generate_uid()
    study_uid = about.get("StudyInstanceUID") or generate_uid()
    target = Path(folder)
    names = [f"CT{index + 1:04d}.dcm" for index in range(volume.grid.shape[0])]
    with written_folder(target) as temporary:
        for index, name in enumerate(names):
            file = _slice(volume, index, description)
            for keyword in _KEPT:
                setattr(file, keyword, about.get(keyword, ""))
            file.StudyInstanceUID, file.SeriesInstanceUID, file.FrameOfReferenceUID = study_uid, series_uid, frame_uid
            file.PatientPosition = about.get("PatientPosition", "HFS")
            file.SeriesNumber = series_number
            file.save_as(temporary / name, enforce_file_format=True)
    return [target / name for name in names]


def _slice(volume: CTVolume, index: int, description: str) -> FileDataset:
    """Data set of one slice: everything but patient and study."""
    grid = volume.grid
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SpecificCharacterSet = "ISO_IR 192"
    file.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    file.Modality, file.BodyPartExamined = "CT", "HEAD"
    file.Manufacturer = "spectac"
    file.SeriesDescription = description
    file.ReferringPhysicianName = ""
    file.ContentDate = file.ContentTime = ""
    file.AcquisitionNumber = 1
    file.InstanceNumber = index + 1
    file.KVP = "" if volume.kvp is None else _decimal(volume.kvp)
    file.SliceThickness = _decimal(grid.voxel_mm[0])
    file.PositionReferenceIndicator = ""
    position = grid.affine_lps[:3, 3] + grid.affine_lps[:3, 0] * index
    along_x, along_y = grid.affine_lps[:3, 2] / grid.voxel_mm[2], grid.affine_lps[:3, 1] / grid.voxel_mm[1]
    file.ImagePositionPatient = [_decimal(value) for value in position]
    file.ImageOrientationPatient = [_decimal(value) for value in (*along_x, *along_y)]
    file.PixelSpacing = [_decimal(grid.voxel_mm[1]), _decimal(grid.voxel_mm[2])]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.Rows, file.Columns = grid.shape[1:]
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 1
    file.RescaleIntercept, file.RescaleSlope, file.RescaleType = _decimal(INTERCEPT_HU), "1", "HU"
    file.PixelData = _stored(volume.hu[index]).tobytes()
    return file


def _stored(hu: Array) -> Array:
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(hu - INTERCEPT_HU), limits.min, limits.max).astype("<i2")


def _decimal(value: float) -> str:
    """DICOM decimal string: at most 16 characters, to 1e-6 of a millimetre or a unit vector."""
    return f"{round(float(value), 6) + 0.0:.10g}"
