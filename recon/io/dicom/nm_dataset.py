"""The elements that every DICOM NM file of ours has: patient, study, equipment, nuclide, windows, posture, pixels."""

import os
from datetime import datetime

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from spectac.recon.io.atomic import written
from spectac.recon.io.dicom.nm_header import NM_STORAGE, NUCLIDE_CODES
from spectac.recon.io.dicom.values import fitted, unique_identifier
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import Array, EnergyWindow, Injection, Study

UNITS = {
    "cps/mL": ("{counts}/s/ml", "Counts per second per milliliter"),
    "kBq/mL": ("kBq/ml", "Kilobecquerels per milliliter"),
    "relative": ("1", "no units"),
}
"""UCUM code and meaning of each unit of `Image`."""

_PATIENT = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyDescription",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "InstitutionName",
)
_REQUIRED = frozenset(_PATIENT) - {
    "IssuerOfPatientID",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyDescription",
    "InstitutionName",
}
_GANTRY = {"HF": ("102540008", "headfirst"), "FF": ("102541007", "feet-first")}
_POSTURE = {
    "S": ("40199007", "supine"),
    "P": ("1240000", "prone"),
    "DR": ("102535000", "right lateral decubitus"),
    "DL": ("102536004", "left lateral decubitus"),
}


def common_dataset(study: Study, image_type: list[str], description: str) -> Dataset:
    """Patient, study, series, equipment, dates, nuclide, windows and posture, which both kinds of file have."""
    acquisition, (patient, _) = study.acquisition, fitted(study.patient)
    data = Dataset()
    now = datetime.now(None if acquisition.start is None else acquisition.start.tzinfo)
    data.SpecificCharacterSet = "ISO_IR 192"
    data.ImageType = image_type
    data.SOPClassUID, data.SOPInstanceUID = NM_STORAGE, generate_uid(prefix=None)
    data.Modality = "NM"
    for keyword in _PATIENT:
        if keyword in patient or keyword in _REQUIRED:
            setattr(data, keyword, patient.get(keyword, ""))
    data.StudyInstanceUID = patient.get("StudyInstanceUID") or generate_uid(prefix=None)
    data.SeriesInstanceUID = generate_uid(prefix=None)
    data.SeriesNumber, data.InstanceNumber = 1, 1
    data.SeriesDescription = text_for("SeriesDescription", description)
    # The maker of raw projections is the camera's: its collimators go by the same names at every vendor.
    raw = image_type[2] == "TOMO"
    data.Manufacturer = patient.get("Manufacturer", "spectac") if raw else "spectac"
    data.ManufacturerModelName = patient.get("ManufacturerModelName", "spectac") if raw else "spectac"
    data.SoftwareVersions = "spectac"
    data.SeriesDate = data.ContentDate = data.InstanceCreationDate = f"{now:%Y%m%d}"
    data.SeriesTime = data.ContentTime = data.InstanceCreationTime = f"{now:%H%M%S}"
    start = acquisition.start
    data.AcquisitionDate = "" if start is None else f"{start:%Y%m%d}"
    data.AcquisitionTime = "" if start is None else f"{start:%H%M%S.%f}"
    if start is not None and start.tzinfo is not None:
        data.TimezoneOffsetFromUTC = f"{start:%z}"[:5]
    data.PatientOrientation = ""
    if acquisition.frame_of_reference_uid:
        data.FrameOfReferenceUID = unique_identifier(acquisition.frame_of_reference_uid)
        data.PositionReferenceIndicator = ""
    if acquisition.corrections:
        data.CorrectedImage = sorted(acquisition.corrections)
    data.CountsAccumulated = ""
    data.EnergyWindowInformationSequence = Sequence([window_item(window) for window in study.windows])
    data.RadiopharmaceuticalInformationSequence = Sequence([_agent(study)])
    _posture(data, acquisition.patient_position)
    return data


def window_item(window: EnergyWindow) -> Dataset:
    """Item of EnergyWindowInformationSequence."""
    limits = dataset(EnergyWindowLowerLimit=decimal(window.lower_kev), EnergyWindowUpperLimit=decimal(window.upper_kev))
    return dataset(
        EnergyWindowName=text_for("EnergyWindowName", window.name), EnergyWindowRangeSequence=Sequence([limits])
    )


def text_for(keyword: str, text: str) -> str:
    """Text as DICOM allows it in an element: cut where it is too long, no backslash."""
    return fitted({keyword: text.replace("\\", "/")})[0].get(keyword, "")


def _agent(study: Study) -> Dataset:
    """Nuclide, agent, dose in MBq (as the NM module has it) and time of injection."""
    symbol = nuclide_by_name(study.acquisition.nuclide).symbol
    element, mass = symbol.split("-")
    # A nuclide that the user described has no code of ours.
    scheme = "SCT" if symbol in NUCLIDE_CODES else "99SPECTAC"
    nuclide_code = code(NUCLIDE_CODES.get(symbol, symbol), scheme, f"^{mass}^{element}")
    item = dataset(RadionuclideCodeSequence=Sequence([nuclide_code]))
    injection = study.injection or Injection()
    if injection.agent:
        item.Radiopharmaceutical = text_for("Radiopharmaceutical", injection.agent)
    if injection.activity_mbq is not None:
        item.RadionuclideTotalDose = decimal(injection.activity_mbq)
    if injection.at is not None:
        item.RadiopharmaceuticalStartTime = f"{injection.at:%H%M%S.%f}"
    if isinstance(injection.at, datetime):
        item.RadiopharmaceuticalStartDateTime = f"{injection.at:%Y%m%d%H%M%S.%f}"
    return item


def _posture(data: Dataset, position: str | None) -> None:
    """Position "HFS" and the like as the two code sequences of the NM orientation module (no PatientPosition)."""
    gantry = _GANTRY.get((position or "")[:2])
    posture = _POSTURE.get((position or "")[2:])
    data.PatientOrientationCodeSequence = Sequence([])
    data.PatientGantryRelationshipCodeSequence = Sequence([])
    if gantry is None or posture is None:
        return
    recumbent = code("102538003", "SCT", "recumbent")
    recumbent.PatientOrientationModifierCodeSequence = Sequence([code(posture[0], "SCT", posture[1])])
    data.PatientOrientationCodeSequence = Sequence([recumbent])
    data.PatientGantryRelationshipCodeSequence = Sequence([code(gantry[0], "SCT", gantry[1])])


def put_pixels(data: Dataset, stored: Array, pixel_mm: tuple[float, float]) -> None:
    """Image pixel and multi-frame elements of (frame, row, column) 16-bit integers."""
    frames, rows, columns = stored.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.NumberOfFrames, data.Rows, data.Columns = frames, rows, columns
    data.PixelSpacing = [decimal(length) for length in pixel_mm]
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelRepresentation = int(stored.dtype == np.int16)
    little = np.ascontiguousarray(stored, dtype=stored.dtype.newbyteorder("<"))
    data.add_new(0x7FE00010, "OW", little.tobytes())


def save(path: str | os.PathLike[str], data: Dataset) -> None:
    """Write a file in explicit little endian, whole or not at all."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(NM_STORAGE), data.SOPInstanceUID
    meta.TransferSyntaxUID = UID(ExplicitVRLittleEndian)
    meta.ImplementationVersionName = "spectac"
    with written(path) as temporary:
        file = FileDataset(str(temporary), data, file_meta=meta, preamble=bytes(128))
        file.save_as(temporary, enforce_file_format=True)


def dataset(**values: object) -> Dataset:
    """Dataset with the values given by keyword."""
    data = Dataset()
    for keyword, value in values.items():
        setattr(data, keyword, value)
    return data


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Item of a code sequence."""
    return dataset(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def decimal(value: float) -> str:
    """Decimal string of at most 16 characters."""
    for digits in range(14, 5, -1):
        text = f"{float(value):.{digits}g}"
        if len(text) <= 16:
            return text
    return f"{float(value):.6e}"


def turn(angle_deg: Array) -> Array:
    """The same angles between -180 and 180 deg."""
    return np.mod(angle_deg + 180.0, 360.0) - 180.0
