"""Elements that every DICOM NM file of ours has: patient, study, equipment, nuclide, windows, posture, pixels."""

import os
from datetime import datetime

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, NuclearMedicineImageStorage, generate_uid

from spectac.recon.collimator import GIVEN, Collimator, Focus
from spectac.recon.errors import InputError
from spectac.recon.io.atomic import written
from spectac.recon.io.dicom.allowed_values import decimal, fitted, unique_identifier
from spectac.recon.io.dicom.nm_nuclide import NUCLIDE_CODES
from spectac.recon.io.dicom.patient_elements import BODY, EQUIPMENT, GANTRY, MUST_EXIST, PERSON, PLACE, POSTURE, STUDY
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import Acquisition, Array, EnergyWindow, Injection, Study


def common_dataset(study: Study, image_type: list[str], description: str) -> Dataset:
    """Patient, study, series, equipment, dates, nuclide, windows and posture, which both kinds of file have.

    Parameters
    ----------
    study : Study
        Whose elements are written.
    image_type : list of str
        Values of ImageType; the third is the kind.
    description : str
        SeriesDescription, cut to 64 characters.

    Returns
    -------
    Dataset
        Elements with new UIDs of series and instance.
    """
    acquisition, (patient, _) = study.acquisition, fitted(study.patient)
    start = acquisition.start
    data = identity_dataset(study, NuclearMedicineImageStorage, "NM", description)
    data.update(
        dataset(
            ImageType=image_type,
            AcquisitionDate="" if start is None else f"{start:%Y%m%d}",
            AcquisitionTime="" if start is None else f"{start:%H%M%S.%f}",
            PatientOrientation="",
            CountsAccumulated="",
            EnergyWindowInformationSequence=Sequence([window_item(window) for window in study.windows]),
            RadiopharmaceuticalInformationSequence=Sequence([_agent(study)]),
        )
    )
    if image_type[2] == "TOMO":
        # The maker of raw projections is the camera's: its collimators go by the same names at every vendor.
        for word in EQUIPMENT:
            setattr(data, word, patient.get(word, "spectac"))
    if acquisition.frame_of_reference_uid:
        data.FrameOfReferenceUID = unique_identifier(acquisition.frame_of_reference_uid)
        data.PositionReferenceIndicator = ""
    if acquisition.corrections:
        data.CorrectedImage = sorted(acquisition.corrections)
    _put_posture(data, acquisition.patient_position or "")
    return data


def identity_dataset(study: Study, sop_class: str, modality: str, description: str) -> Dataset:
    """Patient, study, a new series, spectac as equipment, and dates: of any object that is made of a study.

    Parameters
    ----------
    study : Study
        Whose elements are written.
    sop_class : str
        UID of the object's SOP class.
    modality : str
        Modality of the series.
    description : str
        SeriesDescription, cut to 64 characters.

    Returns
    -------
    Dataset
        Elements with new UIDs of series and instance.

    Examples
    --------
    >>> acquisition = Acquisition([0.0], [150.0], (2, 3), (4, 4), [20.0], "Tc-99m", None)
    >>> windows, patient = (EnergyWindow("peak", 126, 154),), {"PatientID": "P1"}
    >>> study = Study(acquisition, windows, np.ones((1, 1, 2, 3)), patient=patient)
    >>> identity_dataset(study, NuclearMedicineImageStorage, "NM", "image").PatientID
    'P1'
    """
    (patient, _), start = fitted(study.patient), study.acquisition.start
    now = datetime.now(None if start is None else start.tzinfo)
    data = dataset(
        SpecificCharacterSet="ISO_IR 192",
        SOPClassUID=sop_class,
        SOPInstanceUID=generate_uid(prefix=None),
        Modality=modality,
        StudyInstanceUID=patient.get("StudyInstanceUID") or generate_uid(prefix=None),
        SeriesInstanceUID=generate_uid(prefix=None),
        SeriesNumber=1,
        InstanceNumber=1,
        SeriesDescription=text_for("SeriesDescription", description),
        SoftwareVersions="spectac",
        ReferringPhysicianName="",
        **{f"{what}Date": f"{now:%Y%m%d}" for what in ("Series", "Content", "InstanceCreation")},
        **{f"{what}Time": f"{now:%H%M%S}" for what in ("Series", "Content", "InstanceCreation")},
        **dict.fromkeys(MUST_EXIST, ""),
        **dict.fromkeys(EQUIPMENT, "spectac"),
    )
    for keyword in {*PERSON, *BODY, *STUDY, *PLACE} & patient.keys() - {"StudyInstanceUID"}:
        setattr(data, keyword, patient[keyword])
    if start is not None and start.tzinfo is not None:
        data.TimezoneOffsetFromUTC = f"{start:%z}"[:5]
    return data


def window_item(window: EnergyWindow) -> Dataset:
    """Item of EnergyWindowInformationSequence.

    Parameters
    ----------
    window : EnergyWindow
        Limits in keV and name.

    Returns
    -------
    Dataset
        Item with the name, cut to 16 characters, and one range.

    Examples
    --------
    >>> window_item(EnergyWindow("Tc-99m photopeak of the head", 126, 154)).EnergyWindowName
    'Tc-99m photopeak'
    """
    limits = dataset(EnergyWindowLowerLimit=decimal(window.lower_kev), EnergyWindowUpperLimit=decimal(window.upper_kev))
    return dataset(
        EnergyWindowName=text_for("EnergyWindowName", window.name), EnergyWindowRangeSequence=Sequence([limits])
    )


def text_for(keyword: str, text: str) -> str:
    """Text as DICOM allows it in an element: cut where it is too long, no backslash.

    Parameters
    ----------
    keyword : str
        Keyword of the element.
    text : str
        Text to write.

    Returns
    -------
    str
        "" where DICOM allows nothing of it.

    Examples
    --------
    >>> text_for("EnergyWindowName", "Tc-99m photopeak of the head")
    'Tc-99m photopeak'
    """
    return fitted({keyword: text.replace("\\", "/")})[0].get(keyword, "")


def _agent(study: Study) -> Dataset:
    """Nuclide, agent, dose in MBq (as the NM module has it) and time of injection."""
    symbol = nuclide_by_name(study.acquisition.nuclide).symbol
    element, mass = symbol.split("-")
    # A nuclide that the user described has no code of ours.
    scheme = "SCT" if symbol in NUCLIDE_CODES else "99SPECTAC"
    nuclide_code = code(NUCLIDE_CODES.get(symbol, (symbol,))[0], scheme, f"^{mass}^{element}")
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


def _put_posture(data: Dataset, position: str) -> None:
    """Position "HFS" and the like as the two code sequences of the NM orientation module (no PatientPosition)."""
    entry, posture = [
        [code(table[word][1], "SCT", table[word][0])] if word in table else []
        for table, word in ((GANTRY, position[:2]), (POSTURE, position[2:]))
    ]
    recumbent = code("102538003", "SCT", "recumbent")
    recumbent.PatientOrientationModifierCodeSequence = Sequence(posture)
    data.PatientOrientationCodeSequence = Sequence([recumbent] if entry and posture else [])
    data.PatientGantryRelationshipCodeSequence = Sequence(entry if posture else [])


def put_rotation(data: Dataset, acquisition: Acquisition, views: Array, step_deg: float, radius_mm: float) -> None:
    """Write the rotation item of one head's views in the order of time.

    Parameters
    ----------
    data : Dataset
        Gets the item.
    acquisition : Acquisition
        How the projections were taken.
    views : array
        Numbers of the head's views.
    step_deg : float
        Angle between views in degrees, below 0 clockwise.
    radius_mm : float
        Distance from the axis to the collimator face in mm.
    """
    milliseconds = 1000.0 * float(np.nan_to_num(acquisition.view_seconds[views]).mean())
    rotation = dataset(
        StartAngle=decimal(acquisition.view_angles_deg[views[0]]),
        AngularStep=decimal(abs(step_deg)),
        RotationDirection="CW" if step_deg < 0 else "CC",
        ScanArc=decimal(abs(step_deg) * len(views)),
        ActualFrameDuration=round(milliseconds),
        NumberOfFramesInRotation=len(views),
        RadialPosition=decimal(radius_mm),
    )
    data.NumberOfRotations = 1
    data.RotationInformationSequence = Sequence([rotation])


def put_directions(item: Dataset, columns: Array, rows: Array, position_mm: Array | None) -> None:
    """Write the directions of columns and rows, and the position of the first pixel.

    Parameters
    ----------
    item : Dataset
        Gets the elements.
    columns, rows : array (3,)
        Unit vectors along which the column index and the row index grow.
    position_mm : array (3,) or None
        Centre of the first pixel in LPS mm; None writes an empty element.
    """
    item.ImageOrientationPatient = [decimal(value) for value in (*columns, *rows)]
    item.ImagePositionPatient = None if position_mm is None else [decimal(value) for value in position_mm]


def collimator_item(acquisition: Acquisition) -> Dataset:
    """Detector item that names the collimator; the focal length of a fan beam is left open.

    Parameters
    ----------
    acquisition : Acquisition
        Whose collimator is named.

    Returns
    -------
    Dataset
        Without a name for a measured line or given holes, and for names beyond 16 characters.
    """
    collimator = acquisition.collimator
    item = dataset(CollimatorType="FANB" if acquisition.foci else "UNKN" if collimator is None else "PARA")
    # The name of a measured line or of given holes is no collimator's.
    if collimator is not None and collimator.source != GIVEN and len(collimator.name) <= 16:
        item.CollimatorGridName = collimator.name
    if acquisition.foci:
        item.FocalDistance = None
    return item


def put_focus(item: Dataset, focus: Focus, collimator: Collimator | None) -> None:
    """Set the focal line of a detector item, counted from the face.

    Parameters
    ----------
    item : Dataset
        Detector item.
    focus : Focus
        Its focal line.
    collimator : Collimator or None
        Holes whose length a focal length from another plane needs.

    Raises
    ------
    InputError
        Where the length is not a whole number of mm, as DICOM needs it.
    """
    face_mm = focus.length_mm if focus.counted_from == "face" else focus.distances_mm(collimator)[0]
    if abs(face_mm - round(face_mm)) > 1e-6:
        raise InputError(
            f"NM TOMO stores focal lengths in whole mm from the face (FocalDistance), this one is {face_mm:g} mm: "
            "write the study as HDF5 instead"
        )
    item.FocalDistance, item.XFocusCenter = round(face_mm), decimal(focus.offset_mm)


def put_pixels(data: Dataset, stored: Array, pixel_mm: tuple[float, float]) -> None:
    """Write pixels, with the elements on their number and size.

    Parameters
    ----------
    data : Dataset
        Gets the elements.
    stored : array (frame, row, column)
        uint16 or int16.
    pixel_mm : tuple of float
        Pixel (row distance, column distance) in mm.
    """
    data.NumberOfFrames, data.Rows, data.Columns = stored.shape
    data.PixelSpacing = [decimal(length) for length in pixel_mm]
    put_format(data, signed=stored.dtype.kind == "i")
    little = np.ascontiguousarray(stored, dtype=stored.dtype.newbyteorder("<"))
    data.add_new("PixelData", "OW", little.tobytes())


def put_format(data: Dataset, *, signed: bool) -> None:
    """Write the elements on the format of 16-bit pixels.

    Parameters
    ----------
    data : Dataset
        Gets the elements.
    signed : bool
        True for int16, False for uint16.

    Examples
    --------
    >>> data = Dataset()
    >>> put_format(data, signed=True)
    >>> data.PixelRepresentation, data.HighBit
    (1, 15)
    """
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, int(signed)


def save(path: str | os.PathLike[str], data: Dataset) -> None:
    """Write a file in explicit little endian, whole or not at all.

    Parameters
    ----------
    path : path-like
        The file, which is replaced where it exists.
    data : Dataset
        Elements, with SOPClassUID and SOPInstanceUID.

    Raises
    ------
    OSError
        As the file system does.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationVersionName = "spectac"
    with written(path) as temporary:
        file = FileDataset(str(temporary), data, file_meta=meta, preamble=bytes(128))
        file.save_as(temporary, enforce_file_format=True)


def dataset(**values: object) -> Dataset:
    """Dataset with the values given by keyword.

    Parameters
    ----------
    **values
        Values by keyword.

    Returns
    -------
    Dataset
        Dataset of these elements alone.

    Examples
    --------
    >>> dataset(Modality="NM", Rows=128).Rows
    128
    """
    data = Dataset()
    for keyword, value in values.items():
        setattr(data, keyword, value)
    return data


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Item of a code sequence.

    Parameters
    ----------
    value, scheme, meaning : str
        Code, name of the coding scheme, and the meaning in words.

    Returns
    -------
    Dataset
        Item.

    Examples
    --------
    >>> code("Bq/ml", "UCUM", "Becquerels/milliliter").CodeValue
    'Bq/ml'
    """
    return dataset(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)
