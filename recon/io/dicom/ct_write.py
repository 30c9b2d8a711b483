"""CT volumes as DICOM CT Image Storage, one file a slice."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, generate_uid

from spectac.recon.ct import CTVolume
from spectac.recon.errors import InputError
from spectac.recon.io.atomic import written_folder
from spectac.recon.io.dicom.nm_write_header import dataset, put_format, save
from spectac.recon.io.dicom.patient_elements import MUST_EXIST
from spectac.recon.types import Array

INTERCEPT_HU = -1024.0
"""CT number of a stored 0."""


def write_series(
    folder: str | os.PathLike[str],
    volume: CTVolume,
    *,
    patient: Mapping[str, str] | None = None,
    description: str = "CT",
    series_number: int = 1,
) -> list[Path]:
    """Write a volume into `folder`, one file a slice of its first axis, and return the files in that order.

    HU are rounded to whole numbers and limited to what 16 bits hold. The series gets a new SeriesInstanceUID. All files
    appear together or none.

    Parameters
    ----------
    folder : path-like
        Made where it is missing.
    volume : CTVolume
        HU (z, y, x).
    patient : mapping of str to str
        Text by DICOM keyword; adds to and replaces the volume's.
    description : str
        SeriesDescription.
    series_number : int
        SeriesNumber.

    Returns
    -------
    list of Path
        Files in the order of the first axis.

    Raises
    ------
    InputError
        Where the grid's axes are not at right angles.
    OSError
        As the file system does.

    Examples
    --------
    >>> import tempfile
    >>> from spectac.recon.io.dicom.ct import read_series
    >>> from spectac.recon.types import Grid
    >>> water = CTVolume(np.zeros((3, 4, 4), np.float32), Grid.upright((3, 4, 4), (2, 1, 1), (0, 0, 0)), 120.0, None)
    >>> folder = tempfile.mkdtemp()
    >>> [path.name for path in write_series(folder, water)]
    ['CT0001.dcm', 'CT0002.dcm', 'CT0003.dcm']
    >>> read_series(folder).grid.voxel_mm
    (2.0, 1.0, 1.0)
    """
    cosines = volume.grid.affine_lps[:3, :3] / np.array(volume.grid.voxel_mm)
    if np.abs(cosines.T @ cosines - np.eye(3)).max() > 1e-4:
        raise InputError("a CT series needs a grid whose axes are at right angles: resample the volume first")
    about = {**volume.patient, **(patient or {})}
    common = {word: about.get(word, "") for word in MUST_EXIST}
    common |= {
        "StudyInstanceUID": about.get("StudyInstanceUID") or generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "FrameOfReferenceUID": volume.frame_of_reference_uid or generate_uid(),
        "PatientPosition": about.get("PatientPosition", "HFS"),
        "SeriesDescription": description,
    }
    target = Path(folder)
    names = [f"CT{index + 1:04d}.dcm" for index in range(volume.grid.shape[0])]
    with written_folder(target, own=True) as temporary:
        for index, name in enumerate(names):
            save(temporary / name, _slice(volume, index, dataset(**common, SeriesNumber=series_number)))
    return [target / name for name in names]


def _slice(volume: CTVolume, index: int, file: Dataset) -> Dataset:
    """The data set of patient and study, completed to that of one slice."""
    grid = volume.grid
    position = grid.affine_lps[:3, 3] + grid.affine_lps[:3, 0] * index
    along_x, along_y = grid.affine_lps[:3, 2] / grid.voxel_mm[2], grid.affine_lps[:3, 1] / grid.voxel_mm[1]
    file.update(
        dataset(
            SpecificCharacterSet="ISO_IR 192",
            ImageType=["DERIVED", "SECONDARY", "AXIAL"],
            SOPClassUID=CTImageStorage,
            SOPInstanceUID=generate_uid(),
            Modality="CT",
            BodyPartExamined="HEAD",
            Manufacturer="spectac",
            ReferringPhysicianName="",
            ContentDate="",
            ContentTime="",
            AcquisitionNumber=1,
            InstanceNumber=index + 1,
            KVP="" if volume.kvp is None else _decimal(volume.kvp),
            SliceThickness=_decimal(grid.voxel_mm[0]),
            PositionReferenceIndicator="",
            ImagePositionPatient=[_decimal(value) for value in position],
            ImageOrientationPatient=[_decimal(value) for value in (*along_x, *along_y)],
            PixelSpacing=[_decimal(grid.voxel_mm[1]), _decimal(grid.voxel_mm[2])],
            Rows=grid.shape[1],
            Columns=grid.shape[2],
            RescaleIntercept=_decimal(INTERCEPT_HU),
            RescaleSlope="1",
            RescaleType="HU",
            PixelData=_stored(volume.hu[index]).tobytes(),
        )
    )
    put_format(file, signed=True)
    return file


def _stored(hu: Array) -> Array:
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(hu - INTERCEPT_HU), limits.min, limits.max).astype("<i2")


def _decimal(value: float) -> str:
    """DICOM decimal string: at most 16 characters, to 1e-6 of a millimetre or a unit vector."""
    return f"{round(float(value), 6) + 0.0:.10g}"
