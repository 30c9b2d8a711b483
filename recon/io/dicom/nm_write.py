"""DICOM NM out: raw projections as TOMO, images as RECON TOMO, both as `dciodvfy` accepts them.

TOMO: counts are stored as they are. Each detector item has the start angle, the radii of its views, the directions of
its columns and rows at the start angle, and as position the first pixel on the collimator face there ("face" in
nm_position.py). RECON TOMO: slices from inferior to superior with a positive SpacingBetweenSlices, so that
readers that ignore its sign place them right; position and orientation in the detector item, as DICOM has it (SimpleITK
2.5 reads them there too); 16 bits with one slope, in RescaleSlope and with its unit in RealWorldValueMappingSequence.
"""

import os
from collections.abc import Iterable

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from spectac.recon.errors import InputError
from spectac.recon.geometry import detector_rights, view_normals
from spectac.recon.io.dicom.nm_dataset import (
    UNITS,
    code,
    common_dataset,
    dataset,
    decimal,
    put_pixels,
    save,
    text_for,
    turn,
    window_item,
)
from spectac.recon.io.dicom.nm_header import NM_STORAGE
from spectac.recon.io.dicom.values import unique_identifier
from spectac.recon.types import Acquisition, Array, EnergyWindow, Image, Study


def write_study(path: str | os.PathLike[str], study: Study) -> None:
    """Write raw projections as NM TOMO: all heads and windows, one rotation.

    Raises InputError where counts are not whole numbers up to 65535, or where the views of the heads are not regular:
    equal numbers of views, steps and times, every head starting at 0 s. HDF5 takes any study.
    """
    heads = _regular_heads(study.acquisition)
    stored = _whole_counts(study.counts)
    acquisition = study.acquisition
    views = len(heads[0])
    step = turn(np.diff(acquisition.view_angles_deg[heads[0]]))
    angular_step = float(abs(step[0])) if views > 1 else 360.0
    data = common_dataset(study, ["ORIGINAL", "PRIMARY", "TOMO", "EMISSION"], "SPECT projections")
    windows = len(study.windows)
    shape = (windows, len(heads), 1, views)
    vectors = np.indices(shape).reshape(4, -1) + 1
    data.FrameIncrementPointer = [0x00540010, 0x00540020, 0x00540050, 0x00540090]
    words = ("EnergyWindowVector", "DetectorVector", "RotationVector", "AngularViewVector")
    for word, vector in zip(words, vectors, strict=True):
        setattr(data, word, vector.tolist())
    data.NumberOfEnergyWindows, data.NumberOfDetectors, data.NumberOfRotations = windows, len(heads), 1
    milliseconds = np.nan_to_num(acquisition.view_seconds[heads[0][0]] * 1000.0)
    data.RotationInformationSequence = Sequence(
        [
            dataset(
                StartAngle=decimal(acquisition.view_angles_deg[heads[0][0]]),
                AngularStep=decimal(angular_step),
                RotationDirection="CW" if views > 1 and step[0] < 0 else "CC",
                ScanArc=decimal(angular_step * views),
                ActualFrameDuration=round(float(milliseconds)),
                NumberOfFramesInRotation=views,
                RadialPosition=decimal(float(acquisition.radii_mm.mean())),
            )
        ]
    )
    data.TypeOfDetectorMotion = "STEP AND SHOOT"
    data.DetectorInformationSequence = Sequence([_detector(acquisition, own) for own in heads])
    order = np.concatenate(heads)
    put_pixels(data, stored[:, order, ::-1].reshape(-1, *acquisition.matrix), acquisition.pixel_mm)
    save(path, data)


def _regular_heads(acquisition: Acquisition) -> list[Array]:
    """Views of each head in the order of time; InputError where one rotation item cannot describe them."""
    detector, begin = np.asarray(acquisition.detector), np.asarray(acquisition.view_start_s)
    heads = [np.flatnonzero(detector == head) for head in np.unique(detector)]
    heads = [own[np.argsort(begin[own], kind="stable")] for own in heads]

    def refuse(what: str) -> InputError:
        return InputError(f"NM TOMO needs regular views: {what}; write the study as HDF5 instead")

    sizes = [len(own) for own in heads]
    if len(set(sizes)) > 1:
        raise refuse(f"the heads have {', '.join(map(str, sizes))} views")
    steps = np.concatenate([turn(np.diff(acquisition.view_angles_deg[own])) for own in heads])
    if steps.size and (np.abs(steps - steps[0]).max() > 1e-3 or abs(steps[0]) < 1e-3):
        raise refuse(f"their steps go from {steps.min():g} to {steps.max():g} deg")
    seconds = acquisition.view_seconds
    if acquisition.times_known:
        if np.ptp(seconds) > 1e-3:
            raise refuse(f"their times go from {seconds.min():g} to {seconds.max():g} s")
        if round(float(seconds[0]) * 1000) < 1:
            raise refuse(f"a view of {seconds[0]:g} s is shorter than a millisecond")
        for own in heads:
            if np.abs(begin[own] - seconds[0] * np.arange(len(own))).max() > 1e-3 * len(own):
                raise refuse("their starts are not one view time apart, from 0 s on every head")
    for own in heads:
        if np.ptp(np.asarray(acquisition.u_offset_mm)[own]) > 1e-6:
            raise refuse("u_offset_mm differs between the views of a head")
    return heads


def _whole_counts(counts: Array) -> Array:
    """Counts as uint16; InputError where that would change them."""
    if counts.max() > 65535:
        raise InputError(f"NM TOMO stores counts up to 65535, the largest is {counts.max():g}: write HDF5 instead")
    stored = counts.astype(np.uint16)
    if not np.array_equal(stored, counts):
        odd = counts[stored != counts].flat[0]
        raise InputError(f"NM TOMO stores whole counts, one is {odd:g}: write noise-free projections as HDF5 instead")
    return stored


def _detector(acquisition: Acquisition, own: Array) -> Dataset:
    """Detector item of one head: angle, radii, directions and position of its first pixel at its first view."""
    angle = float(acquisition.view_angles_deg[own[0]])
    right, normal = detector_rights([angle])[0], view_normals([angle])[0]
    rows, columns = acquisition.matrix
    pitch_z, pitch_u = acquisition.pixel_mm
    item = _collimated(acquisition)
    item.StartAngle = decimal(angle)
    item.RadialPosition = [decimal(radius) for radius in acquisition.radii_mm[own]]
    offset = float(np.asarray(acquisition.u_offset_mm)[own[0]])
    if offset:
        item.CenterOfRotationOffset = decimal(offset)
    item.ImageOrientationPatient = [decimal(value) for value in (*right, 0.0, 0.0, 0.0, -1.0)]
    item.ImagePositionPatient = None
    if acquisition.axis_lps_mm is not None:
        x, y, z = acquisition.axis_lps_mm
        face = np.array([x, y]) + acquisition.radii_mm[own[0]] * normal - 0.5 * (columns - 1) * pitch_u * right
        item.ImagePositionPatient = [decimal(value) for value in (*face, z + (rows - 1) * pitch_z)]
    return item


def _collimated(acquisition: Acquisition) -> Dataset:
    collimator = acquisition.collimator
    item = dataset(CollimatorType="PARA" if collimator is not None else "UNKN")
    # A measured line has no holes; its name is no collimator's.
    if collimator is not None and collimator.line is None and len(collimator.name) <= 16:
        item.CollimatorGridName = collimator.name
    return item


def check_header(study: Study) -> None:
    """Encode what every file of a study says about patient, scan and agent; InputError where it cannot be written.

    Called before long work: what `Study.patient` holds comes from files of any kind.
    """
    data = common_dataset(study, ["DERIVED", "PRIMARY", "RECON TOMO", "EMISSION"], "image")
    encoded = DicomBytesIO()
    encoded.is_little_endian, encoded.is_implicit_VR = True, False
    try:
        write_dataset(encoded, data)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"the study's header cannot be written as DICOM: {error}") from error


def write_image(
    path: str | os.PathLike[str],
    image: Image,
    *,
    study: Study,
    description: str,
    corrected: Iterable[str] = (),
    photopeak: EnergyWindow | None = None,
) -> None:
    """Write an image as NM RECON TOMO of the same patient, study and frame of reference as `study`.

    `description` (algorithm and attenuation) goes into SeriesDescription, cut to 64 characters; `corrected` are
    CorrectedImage's terms for what the reconstruction corrected (ATTN, SCAT, DECY), beside those of the projections;
    `photopeak` is the image's energy window, by default all of the study's are named.
    The series gets new UIDs. Values are rounded to 16 bits: to the largest / 65535, or / 32767 where some are negative.
    Raises InputError where the grid's axes are not at right angles or left-handed.
    """
    grid = image.grid
    slices, rows, columns = (grid.affine_lps[:3, axis] / grid.voxel_mm[axis] for axis in range(3))
    if max(abs(slices @ rows), abs(slices @ columns), abs(rows @ columns)) > 1e-4:
        raise InputError("NM RECON TOMO needs axes at right angles: resample the image first")
    sign = 1.0 if np.cross(columns, rows) @ slices > 0 else -1.0
    data = common_dataset(study, ["DERIVED", "PRIMARY", "RECON TOMO", "EMISSION"], description)
    if terms := study.acquisition.corrections.union(corrected):
        data.CorrectedImage = sorted(terms)
    data.DerivationDescription = text_for("DerivationDescription", "; ".join(reversed(image.history))[:1024])
    sources = [unique_identifier(uid) for uid in study.patient.get("SOPInstanceUID", "").split("\\") if uid]
    if sources:
        data.SourceImageSequence = Sequence(
            [dataset(ReferencedSOPClassUID=NM_STORAGE, ReferencedSOPInstanceUID=uid) for uid in sources]
        )
    acquisition = study.acquisition
    data.FrameIncrementPointer = 0x00540080
    data.SliceVector = list(range(1, grid.shape[0] + 1))
    data.NumberOfSlices = grid.shape[0]
    if photopeak is not None:
        data.EnergyWindowInformationSequence = Sequence([window_item(photopeak)])
    data.NumberOfEnergyWindows, data.NumberOfDetectors = len(data.EnergyWindowInformationSequence), 1
    data.SliceThickness, data.SpacingBetweenSlices = decimal(grid.voxel_mm[0]), decimal(sign * grid.voxel_mm[0])
    _rotations(data, acquisition)
    detector = _collimated(acquisition)
    detector.ImagePositionPatient = [decimal(value) for value in grid.affine_lps[:3, 3]]
    detector.ImageOrientationPatient = [decimal(value) for value in (*columns, *rows)]
    data.DetectorInformationSequence = Sequence([detector])
    stored, slope = _scaled(image.values)
    data.RescaleSlope, data.RescaleIntercept = slope, "0"
    first, last = (-32768, 32767) if stored.dtype == np.int16 else (0, 65535)
    unit, meaning = UNITS[image.unit]
    mapping = dataset(
        LUTExplanation=f"stored value to {image.unit}",
        LUTLabel="activity",
        RealWorldValueSlope=float(slope),
        RealWorldValueIntercept=0.0,
        MeasurementUnitsCodeSequence=Sequence([code(unit, "UCUM", meaning)]),
    )
    mapping.add_new(0x00409216, "SS" if first < 0 else "US", first)
    mapping.add_new(0x00409211, "SS" if first < 0 else "US", last)
    data.RealWorldValueMappingSequence = Sequence([mapping])
    put_pixels(data, stored, (grid.voxel_mm[1], grid.voxel_mm[2]))
    save(path, data)


def _rotations(data: Dataset, acquisition: Acquisition) -> None:
    """What is known of the rotation that the image comes from, of the first head."""
    detector = np.asarray(acquisition.detector)
    own = np.flatnonzero(detector == detector[0])
    step = turn(np.diff(acquisition.view_angles_deg[own]))
    angular = float(np.median(np.abs(step))) if step.size else 360.0
    seconds = float(np.nan_to_num(acquisition.view_seconds[own]).mean())
    data.NumberOfRotations = 1
    data.RotationInformationSequence = Sequence(
        [
            dataset(
                StartAngle=decimal(acquisition.view_angles_deg[own[0]]),
                AngularStep=decimal(angular),
                RotationDirection="CW" if step.size and np.median(step) < 0 else "CC",
                ScanArc=decimal(angular * len(own)),
                ActualFrameDuration=round(seconds * 1000),
                NumberOfFramesInRotation=len(own),
                RadialPosition=decimal(float(acquisition.radii_mm[own].mean())),
            )
        ]
    )


def _scaled(values: Array) -> tuple[Array, str]:
    """Values as 16-bit integers, and the slope as the text that is stored (so that it is exact)."""
    signed = bool(values.min() < 0)
    limit = 32767 if signed else 65535
    largest = float(np.abs(values).max())
    # Nine digits, rounded up: the largest value must not overflow.
    slope = f"{np.nextafter(largest / limit * (1 + 1e-8), np.inf):.9e}" if largest else "1"
    stored = np.rint(values.astype(np.float64) / float(slope))
    return stored.astype(np.int16 if signed else np.uint16), slope
