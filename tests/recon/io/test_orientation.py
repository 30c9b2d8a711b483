"""From a raw DICOM file to the millimetre in the image, proved without a line of spectac's own geometry.

The encoder below is written from DICOM PS3.3 C.8.4 alone: one hot spot in each octant, every spot with its own
activity, an attenuating sphere off the axis, pixels of 4 mm along the columns' axis u and 6 mm along z, fewer rows
than columns. Spots are pixel-integrated Gaussians at positions that are written out in words:

    0 deg     detector at the patient's back,   the patient's left falls on low columns
    90 deg    detector at the patient's left,   the front falls on low columns
    180 deg   detector in front,                the right falls on low columns
    270 deg   detector at the patient's right,  the back falls on low columns
    row 0 is the top. CC = the angle grows, CW = it falls. Angles belong to the patient, head first or feet first.

The image is written as RECON TOMO and as NIfTI and read back by pydicom (positions computed by hand), SimpleITK and
nibabel; spots are told apart by their activity, not by where they are looked for.
"""

import json
import math
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from spectac.recon import Grid, InputError, MuMap, ReconstructionSettings, attenuation, open_study, reconstruct
from spectac.recon.io import nifti
from spectac.recon.io.dicom import nm as dicom_nm

try:
    import SimpleITK
except ImportError:
    SimpleITK = None

ROWS, COLUMNS = 22, 44
PIXEL_Z_MM, PIXEL_U_MM = 6.0, 4.0
VIEW_S = 20
AXIS_LPS_MM = (12.0, -134.0, 415.0)
"""Where the rotation axis crosses the middle of the field: far from the origin, as it is in a hospital."""


@dataclass(frozen=True)
class Spot:
    """Millimetres to the patient's left, back and top from the middle of the field; counts per second."""

    left: float
    back: float
    up: float
    cps: float


# No two have a distance in common, so that no mirror image of one is another. All fall on pixel centres at 0, 90, 180
# and 270 deg: odd multiples of half a pixel. Activities differ by 30 % at least, with and without attenuation.
SPOTS = (
    Spot(+42, +22, +51, 1200),
    Spot(+26, -54, +39, 300),
    Spot(-50, +34, +27, 3600),
    Spot(-30, -38, +15, 800),
    Spot(+18, +58, -15, 2400),
    Spot(+62, -14, -27, 540),
    Spot(-22, +46, -39, 1700),
    Spot(-58, -26, -51, 5000),
)
SPOT_SIGMA_MM = 3.0
SPHERE_CENTRE_MM = (20.0, -22.0, 4.0)
SPHERE_RADIUS_MM = 62.0
SPHERE_PER_CM = 0.15
"""Attenuator: (left, back, up) from the middle of the field; about water at 140.5 keV."""

# What one sees in the first table above, counted by hand in pixels from the middle of the matrix, column 21.5 and row
# 10.5: the spot of 1200 cps is 42 mm = 10.5 pixels to the left, 22 mm = 5.5 pixels to the back, 51 mm = 8.5 up.
LITERAL = [  # angle, spot, column, DICOM row, row from below
    (0, 0, 11, 2, 19),
    (90, 0, 27, 2, 19),
    (180, 0, 32, 2, 19),
    (270, 0, 16, 2, 19),
    (0, 7, 36, 19, 2),
    (90, 7, 15, 19, 2),
    (180, 7, 7, 19, 2),
    (270, 7, 28, 19, 2),
    (0, 2, 34, 6, 15),
    (90, 5, 18, 15, 6),
    (180, 1, 28, 4, 17),
    (270, 4, 7, 13, 8),
]


@dataclass(frozen=True)
class Scan:
    """How the test file is written.

    `position`: what ImagePositionPatient is in it: the first pixel on the collimator "face" at the head's start angle,
    the corner of the "volume", or "none" is written (checklist 11). `rows_from_below`, `columns_from_right`: frames
    turned about with an ImageOrientationPatient that says so. `mirrored`, `label_as`: what is wrong in it.
    """

    heads: int = 2
    direction: str = "CC"
    start_deg: int = 0
    patient: str = "HFS"
    position: str = "face"
    rows_from_below: bool = False
    columns_from_right: bool = False
    shuffled: bool = False
    mirrored: bool = False
    label_as: str | None = None
    pixel_mm: tuple[float, float] = (PIXEL_Z_MM, PIXEL_U_MM)
    axis_lps_mm: tuple[float, float, float] = AXIS_LPS_MM

    @property
    def axis_known(self) -> bool:
        """A face can be told from a corner; a corner only where the axis that it means is the origin."""
        return self.position == "face" or (self.position == "volume" and self.axis_lps_mm[:2] == (0.0, 0.0))

    @property
    def centre_lps_mm(self) -> tuple[float, float, float]:
        """Middle of the field in the image: the origin where a reader cannot know better."""
        return self.axis_lps_mm if self.axis_known else (0.0, 0.0, 0.0)

    @property
    def angles_deg(self) -> list[float]:
        """Angles of all views of all heads."""
        return [self.angle_deg(head, view) for head in range(self.heads) for view in range(self.views)]

    @property
    def views(self) -> int:
        """Views of each head: together 64 over 360 deg."""
        return 64 // self.heads

    def angle_deg(self, head: int, view: int) -> float:
        """Where the head stands."""
        turn = 360.0 / 64 * view
        return (self.start_deg + 180 * head + (turn if self.direction == "CC" else -turn)) % 360

    def __str__(self) -> str:
        return f"{self.heads} heads {self.direction} {self.start_deg} deg {self.patient} {self.position}"


def _path_in_sphere_mm(spot: Spot, sine: float, cosine: float) -> float:
    """Length of the way from the spot's centre to the detector that lies in the attenuator."""
    left, back, up = (a - b for a, b in zip((spot.left, spot.back, spot.up), SPHERE_CENTRE_MM, strict=True))
    along = left * sine + back * cosine
    inside = along**2 + SPHERE_RADIUS_MM**2 - left**2 - back**2 - up**2
    if inside <= 0:
        return 0.0
    return max(0.0, -along + math.sqrt(inside)) - max(0.0, -along - math.sqrt(inside))


def _transmitted(spot: Spot, angle_deg: float) -> float:
    angle = math.radians(angle_deg)
    return math.exp(-SPHERE_PER_CM * 0.1 * _path_in_sphere_mm(spot, math.sin(angle), math.cos(angle)))


def _shares(centre: float, number: int, sigma: float) -> np.ndarray:
    """Share of a Gaussian that falls into each of `number` pixels; all lengths in pixels."""
    edges = [0.5 * (1 + math.erf((i - 0.5 - centre) / (sigma * math.sqrt(2)))) for i in range(number + 1)]
    return np.diff(edges)


def _frame(scan: Scan, angle_deg: float) -> np.ndarray:
    """Counts (row, column) as the detector sees them, row 0 on top."""
    pixel_z, pixel_u = scan.pixel_mm
    frame = np.zeros((ROWS, COLUMNS))
    angle = math.radians(angle_deg)
    for spot in SPOTS:
        # 0 deg: left on low columns. 90 deg: front (minus back) on low columns. In between a rigid turn.
        column = 0.5 * (COLUMNS - 1) + (-spot.left * math.cos(angle) + spot.back * math.sin(angle)) / pixel_u
        row = 0.5 * (ROWS - 1) - spot.up / pixel_z
        counts = spot.cps * VIEW_S * _transmitted(spot, angle_deg)
        rows = _shares(row, ROWS, SPOT_SIGMA_MM / pixel_z)
        frame += counts * np.outer(rows, _shares(column, COLUMNS, SPOT_SIGMA_MM / pixel_u))
    frame = np.rint(frame).astype(np.uint16)
    if scan.rows_from_below:
        frame = frame[::-1]
    return frame[:, ::-1] if scan.mirrored != scan.columns_from_right else frame


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _place(scan: Scan, head: int) -> dict[str, list[float]]:
    """ImageOrientationPatient and ImagePositionPatient of a head (none for "none")."""
    if scan.position == "none":
        return {}
    pixel_z, pixel_u = scan.pixel_mm
    x, y, z = scan.axis_lps_mm
    angle = math.radians(scan.angle_deg(head, 0))
    # Along a row, then down a column. At 0 deg a row runs from the patient's left to the right: minus x.
    way = -1.0 if scan.columns_from_right else 1.0
    row_cosines = [-way * math.cos(angle), way * math.sin(angle), 0.0]
    down = [0.0, 0.0, 1.0 if scan.rows_from_below else -1.0]
    first_row_z = z - down[2] * 0.5 * (ROWS - 1) * pixel_z
    half = 0.5 * (COLUMNS - 1) * pixel_u
    radius = _radii_mm(scan, head)[0]
    if scan.position == "face":
        # The first pixel on the collimator face; towards the detector is +y (back) at 0 deg and +x (left) at 90 deg.
        first = [
            x + radius * math.sin(angle) - half * row_cosines[0],
            y + radius * math.cos(angle) - half * row_cosines[1],
            first_row_z,
        ]
    else:
        first = [x - half, y - half, first_row_z]
    return {
        "ImageOrientationPatient": [round(c, 6) + 0.0 for c in row_cosines] + down,
        "ImagePositionPatient": [round(c, 4) for c in first],
    }


def _radii_mm(scan: Scan, head: int) -> list[float]:
    """A body contour orbit: nearer at the sides."""
    return [round(170 + 20 * math.cos(math.radians(scan.angle_deg(head, v))) ** 2, 3) for v in range(scan.views)]


def encode(path: Path, scan: Scan) -> None:
    """Write an NM TOMO file (PS3.3 A.5, C.8.4) of the spots; explicit little endian, 16 bits."""
    order = [(head, view) for head in range(scan.heads) for view in range(scan.views)]
    if scan.shuffled:
        order = [order[i] for i in np.random.default_rng(7).permutation(len(order))]
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.20"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Spots^Eight", "EIGHT", "19600102", "O"
    ds.Modality, ds.Manufacturer, ds.ImageType = "NM", "spectac test", ["ORIGINAL", "PRIMARY", "TOMO", "EMISSION"]
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240229"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "101500"
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber, ds.AccessionNumber = "1", 1, 1, ""
    ds.ReferringPhysicianName, ds.PositionReferenceIndicator, ds.SeriesDescription = "", "", "eight spots"
    first, code = {"H": ("headfirst", "F-10470"), "F": ("feet-first", "F-10480")}[scan.patient[0]]
    posture = {"S": ("supine", "F-10340"), "P": ("prone", "F-10310")}[scan.patient[2]]
    ds.PatientOrientationCodeSequence = [_code("F-10450", "SRT", "recumbent")]
    ds.PatientOrientationCodeSequence[0].PatientOrientationModifierCodeSequence = [_code(posture[1], "SRT", posture[0])]
    ds.PatientGantryRelationshipCodeSequence = [_code(code, "SRT", first)]

    ds.NumberOfFrames = len(order)
    ds.FrameIncrementPointer = [0x00540010, 0x00540020, 0x00540050, 0x00540090]
    ds.EnergyWindowVector, ds.RotationVector = [1] * len(order), [1] * len(order)
    ds.DetectorVector = [head + 1 for head, _ in order]
    ds.AngularViewVector = [view + 1 for _, view in order]
    ds.NumberOfEnergyWindows, ds.NumberOfDetectors, ds.NumberOfRotations = 1, scan.heads, 1
    ds.TypeOfDetectorMotion = "STEP AND SHOOT"
    ds.CorrectedImage = ["DECY", "UNIF", "COR"]

    window = _item(EnergyWindowLowerLimit=126.0, EnergyWindowUpperLimit=154.0)
    ds.EnergyWindowInformationSequence = [_item(EnergyWindowName="Tc99m", EnergyWindowRangeSequence=[window])]
    tracer = _item(RadionuclideCodeSequence=[_code("C-163A8", "SRT", "^99m^Technetium")])
    ds.RadiopharmaceuticalInformationSequence = [tracer]
    ds.DetectorInformationSequence = [
        _item(
            StartAngle=(scan.start_deg + 180 * head) % 360,
            RadialPosition=_radii_mm(scan, head),
            CollimatorType="PARA",
            CollimatorGridName="",
            FieldOfViewShape="RECTANGLE",
            FieldOfViewDimensions=[540, 400],
            FocalDistance=0,
            ZoomFactor=[1, 1],
            **_place(scan, head),
        )
        for head in range(scan.heads)
    ]
    ds.RotationInformationSequence = [
        _item(
            StartAngle=scan.start_deg,
            AngularStep=360.0 / 64,
            RotationDirection=scan.label_as or scan.direction,
            ScanArc=360.0 / scan.heads,
            ActualFrameDuration=1000 * VIEW_S,
            NumberOfFramesInRotation=scan.views,
            TableHeight=0,
            TableTraverse=0,
        )
    ]
    ds.Rows, ds.Columns, ds.PixelSpacing = ROWS, COLUMNS, list(scan.pixel_mm)
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    frames = np.stack([_frame(scan, scan.angle_deg(*place)) for place in order]).astype("<u2")
    ds.PixelData, ds.CountsAccumulated = frames.tobytes(), int(frames.sum())
    ds.save_as(path, enforce_file_format=True)


def _by_pydicom(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values (slice, row, column) and the affine from these to LPS mm, by hand from the attributes (PS3.3 C.8.4.15)."""
    ds = pydicom.dcmread(path)
    assert list(ds.ImageType)[2] == "RECON TOMO"
    place = ds.DetectorInformationSequence[0]
    along_row, down = np.reshape(np.array(place.ImageOrientationPatient, float), (2, 3))
    # (0018,0088): along the normal of the first image where positive, against it where negative.
    between = float(ds.SpacingBetweenSlices)
    row_spacing, column_spacing = (float(length) for length in ds.PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0] = np.cross(along_row, down) * between
    affine[:3, 1] = down * row_spacing
    affine[:3, 2] = along_row * column_spacing
    affine[:3, 3] = np.array(place.ImagePositionPatient, float)
    frames = ds.pixel_array.astype(float)
    assert sorted(ds.SliceVector) == list(range(1, ds.NumberOfFrames + 1))
    frames = frames[np.argsort(np.array(ds.SliceVector))]
    if "RescaleSlope" in ds:
        frames = frames * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    else:
        scale = ds.RealWorldValueMappingSequence[0]
        frames = frames * float(scale.RealWorldValueSlope) + float(scale.RealWorldValueIntercept)
    return frames, affine


def _by_simpleitk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = SimpleITK.ReadImage(str(path))
    corner = np.array(image.TransformIndexToPhysicalPoint((0, 0, 0)))
    affine = np.eye(4)
    for axis, step in enumerate([(0, 0, 1), (0, 1, 0), (1, 0, 0)]):
        affine[:3, axis] = np.array(image.TransformIndexToPhysicalPoint(step)) - corner
    affine[:3, 3] = corner
    return SimpleITK.GetArrayFromImage(image).astype(float), affine


def _by_nibabel(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nibabel.load(path)
    # NIfTI's x grows to the patient's right and its y to the front.
    return np.asarray(image.dataobj, float), np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine


READERS = [(_by_pydicom, "image.dcm"), (_by_nibabel, "image.nii")]
if SimpleITK is not None:
    READERS += [(_by_simpleitk, "image.dcm"), (_by_simpleitk, "image.nii")]


def spots_in(values: np.ndarray, affine: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """The eight hottest places, 20 mm and more apart, the most active first: centroid in LPS mm, counts per second."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in values.shape), indexing="ij"), axis=-1)
    place = index @ affine[:3, :3].T + affine[:3, 3]
    left = np.array(values, float)
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    found = []
    for _ in SPOTS:
        near = ((place - place[np.unravel_index(np.argmax(left), left.shape)]) ** 2).sum(axis=-1) < 20.0**2
        weight = values[near]
        found.append(((place[near] * weight[:, None]).sum(axis=0) / weight.sum(), float(weight.sum() * voxel_ml)))
        left[near] = 0
    return sorted(found, key=lambda spot: -spot[1])


def worst_error_voxels(
    values: np.ndarray, affine: np.ndarray, centre_lps_mm: tuple[float, float, float], activities: list[float]
) -> float:
    """Largest distance, in voxels along any axis, between the n-th most active spot and where it belongs."""
    order = np.argsort(activities)[::-1]
    worst = 0.0
    for (found, _), n in zip(spots_in(values, affine), order, strict=True):
        spot = SPOTS[n]
        belongs = np.add(centre_lps_mm, (spot.left, spot.back, spot.up))
        voxels = np.abs(found - belongs) / [PIXEL_U_MM, PIXEL_U_MM, PIXEL_Z_MM]
        worst = max(worst, float(voxels.max()))
    return worst


def sphere_map(centre_lps_mm: tuple[float, float, float]) -> MuMap:
    """The attenuator on a grid of 3 mm of its own, its edge one voxel wide."""
    first = np.add(centre_lps_mm, SPHERE_CENTRE_MM) - 69.0
    z, y, x = np.meshgrid(*(3.0 * np.arange(47) - 69.0,) * 3, indexing="ij")
    inside = np.clip((SPHERE_RADIUS_MM - np.sqrt(x**2 + y**2 + z**2)) / 3.0 + 0.5, 0, 1)
    return MuMap(SPHERE_PER_CM * inside, Grid.upright((47, 47, 47), (3.0, 3.0, 3.0), first), 140.511)


def _activities(angles_deg: list[float] | None) -> list[float]:
    """Counts per second of each spot; with angles, the mean that gets out at them."""
    if angles_deg is None:
        return [spot.cps for spot in SPOTS]
    return [spot.cps * float(np.mean([_transmitted(spot, angle) for angle in angles_deg])) for spot in SPOTS]


def _reconstructed(path: Path, mu: MuMap | None):
    """Study and image; the file holds no resolution loss, so none is modelled.

    Two subsets, because with 8 views in a subset points without noise stay up to 2 % off however long it iterates;
    after 8 iterations the activities of the spots change by 0.1 % or less.
    """
    study = open_study(path)
    model = None if mu is None else attenuation.GivenMap(mu)
    return study, reconstruct(study, model, ReconstructionSettings(iterations=8, subsets=2, resolution=False)).image


ON_AXIS = (0.0, 0.0, 415.0)
STARTS = (0, 90, 180, 270)
WAYS: dict[str, list[Scan]] = {
    f"{heads} heads {direction} {patient}": [Scan(heads, direction, start, patient) for start in STARTS]
    for heads in (1, 2)
    for direction in ("CC", "CW")
    for patient in ("HFS", "FFS")
}
WAYS["prone"] = [Scan(direction="CW", patient="HFP"), Scan(heads=1, start_deg=90, patient="FFP")]
WAYS["frames in any order"] = [Scan(direction="CW", start_deg=180, shuffled=True), Scan(heads=1, shuffled=True)]
WAYS["no position"] = [Scan(position="none"), Scan(1, "CW", 270, "FFP", position="none")]
WAYS["position is the volume's corner"] = [
    Scan(direction="CW", start_deg=start, position="volume", axis_lps_mm=ON_AXIS) for start in STARTS
]
WAYS["position that fits nothing"] = [Scan(position="volume"), Scan(direction="CW", start_deg=90, position="volume")]
WAYS["frames upside down"] = [
    Scan(2, "CC", 90, "FFS", rows_from_below=True, columns_from_right=True),
    Scan(1, "CW", 0, "FFS", rows_from_below=True, columns_from_right=True),
    Scan(2, "CW", 270, "HFS", rows_from_below=True, columns_from_right=True),
]
WAYS["rows from below"] = [Scan(start_deg=90, rows_from_below=True)]
EVERY = [pytest.param(scan, id=f"{way}, {scan.start_deg}") for way, scans in WAYS.items() for scan in scans]


@pytest.mark.parametrize("direction", ["CC", "CW"])
def test_the_encoder_itself_puts_spots_where_one_sees_them(tmp_path, direction):
    """Frames of the raw file, found by their vectors alone, against the literal columns and rows."""
    encode(tmp_path / "raw.dcm", Scan(direction=direction, start_deg=90, shuffled=True))
    ds = pydicom.dcmread(tmp_path / "raw.dcm")
    # 16 steps of 5.625 deg are a quarter turn: head 1 starts at 90, head 2 at 270 deg.
    quarter = {"CC": {90: (1, 1), 180: (1, 17), 270: (2, 1), 0: (2, 17)}}
    quarter["CW"] = {90: (1, 1), 0: (1, 17), 270: (2, 1), 180: (2, 17)}
    frames = list(zip(ds.DetectorVector, ds.AngularViewVector, strict=True))
    for angle, spot, column, row, _ in LITERAL:
        frame = ds.pixel_array[frames.index(quarter[direction][angle])]
        assert int(np.argmax(frame[row])) == column, (angle, spot)
        # A Gaussian of 3 mm has half of its counts in the middle pixel of 4 mm; rows two away add up to 5 %.
        assert frame[row, column] == pytest.approx(0.495 * frame[row].sum(), rel=0.05), (angle, spot)


@pytest.mark.parametrize("scan", EVERY)
def test_study_has_spots_in_literal_columns_and_rows(tmp_path, scan):
    encode(tmp_path / "raw.dcm", scan)
    study = open_study(tmp_path / "raw.dcm")
    acquisition = study.acquisition
    assert acquisition.pixel_mm == (6.0, 4.0)
    assert acquisition.matrix == (22, 44)
    assert acquisition.patient_position == scan.patient
    turn = {"CC": 5.625, "CW": -5.625}[scan.direction]
    for head in range(scan.heads):
        own = np.asarray(acquisition.detector) == head
        expected = (scan.start_deg + 180 * head + turn * np.arange(scan.views)) % 360
        assert np.sort(acquisition.view_angles_deg[own] % 360) == pytest.approx(np.sort(expected))
    for angle, spot, column, _, z in LITERAL:
        view = int(np.argmin(np.abs((acquisition.view_angles_deg - angle + 180) % 360 - 180)))
        assert int(np.argmax(study.counts[0, view, z])) == column, (angle, spot)
    if scan.axis_known:
        # Row 0 of the study is the lowest: 10.5 rows of 6 mm below the middle of the field.
        x, y, z = scan.axis_lps_mm
        assert acquisition.axis_lps_mm == pytest.approx((x, y, z - 63.0), abs=0.01)
    else:
        assert acquisition.axis_lps_mm is None
        assert any("ImagePositionPatient" in warning for warning in study.warnings)


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.slow) if way.startswith("1 heads") else way for way in WAYS]
)
def test_every_spot_comes_back_at_its_millimetre(tmp_path, figure, way):
    """As RECON TOMO and NIfTI, by three foreign readers, with the map and without, within a quarter of a voxel.

    Spots without noise have centroids good to a twentieth of a voxel; taking a voxel's corner for its centre would show
    as half a voxel.
    With the map the activities come back as well, within 3 %: an edge that is known to half a voxel of 4 mm is worth
    0.15 /cm * 0.2 cm on a ray. Without it the order of the spots is that of what gets out.
    """
    worst, off = 0.0, 0.0
    for scan in WAYS[way]:
        encode(tmp_path / "raw.dcm", scan)
        for mu, activities in (
            (None, _activities(scan.angles_deg)),
            (sphere_map(scan.centre_lps_mm), _activities(None)),
        ):
            study, image = _reconstructed(tmp_path / "raw.dcm", mu)
            description = "OSEM uncorrected" if mu is None else "OSEM given map"
            dicom_nm.write_image(tmp_path / "image.dcm", image, study=study, description=description)
            nifti.write_image(tmp_path / "image.nii", image)
            for reader, name in READERS:
                values, affine = reader(tmp_path / name)
                worst = max(worst, worst_error_voxels(values, affine, scan.centre_lps_mm, activities))
                assert worst < 0.25, (reader.__name__, scan)
                if mu is not None:
                    sums = np.array([total for _, total in spots_in(values, affine)])
                    off = max(off, float(np.abs(sums / sorted(activities, reverse=True) - 1).max()))
                    assert off < 0.03, (reader.__name__, scan)
    figure(f"worst of 8 spots, {way}, voxels", worst, "0.25")


def test_simpleitk_is_one_of_the_readers():
    pytest.importorskip("SimpleITK", reason="SimpleITK is not installed: pydicom and nibabel alone read the images")
    assert (_by_simpleitk, "image.dcm") in READERS


WRONG = {
    "mirrored columns": Scan(position="none", mirrored=True),
    "other direction": Scan(position="none", direction="CC", label_as="CW"),
    "other direction, one head": Scan(position="none", heads=1, start_deg=90, direction="CW", label_as="CC"),
}


@pytest.mark.parametrize("scan", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_fails_the_same_check(tmp_path, scan):
    encode(tmp_path / "raw.dcm", scan)
    study, image = _reconstructed(tmp_path / "raw.dcm", None)
    dicom_nm.write_image(tmp_path / "image.dcm", image, study=study, description="OSEM uncorrected")
    values, affine = _by_pydicom(tmp_path / "image.dcm")
    assert worst_error_voxels(values, affine, (0.0, 0.0, 0.0), _activities(None)) > 3.0


def test_a_map_in_the_mirror_fails_the_same_check(tmp_path, figure):
    """The attenuator is off the axis: its mirror images, left for right and front for back, are wrong."""
    encode(tmp_path / "raw.dcm", Scan())
    mu = sphere_map(AXIS_LPS_MM)
    wanted = np.array(sorted(_activities(None), reverse=True))
    for name, axis, limit in (("", None, 0.03), ("left for right", 0, 0.06), ("front for back", 1, 0.06)):
        moved = np.array(mu.grid.affine_lps)
        if axis is not None:
            moved[axis, 3] -= 2 * SPHERE_CENTRE_MM[axis]
        _, image = _reconstructed(tmp_path / "raw.dcm", replace(mu, grid=replace(mu.grid, affine_lps=moved)))
        sums = np.array([total for _, total in spots_in(image.values, image.grid.affine_lps)])
        off = float(np.abs(sums / wanted - 1).max())
        if axis is None:
            figure("activity of a spot with the map", off, "0.03")
            assert off < limit
        else:
            figure(f"activity of a spot with the map {name}", off, f"at least {limit}")
            assert off > limit


@pytest.mark.parametrize(
    "scan",
    [
        Scan(columns_from_right=True),
        Scan(heads=1, start_deg=90, columns_from_right=True),
        Scan(2, "CW", 180, "FFS", columns_from_right=True),
        Scan(2, "CC", 90, "FFS", rows_from_below=True),
        Scan(1, "CW", 0, "FFS", rows_from_below=True),
    ],
    ids=str,
)
def test_frames_seen_from_behind_are_refused(tmp_path, scan):
    """No camera sees a patient in the mirror: angle or orientation is wrong, and which one the file does not say."""
    encode(tmp_path / "raw.dcm", scan)
    with pytest.raises(InputError, match="ImageOrientationPatient"):
        open_study(tmp_path / "raw.dcm")


_PYTOMOGRAPHY = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
import pytomography
pytomography.verbose = False
from pytomography.algorithms import OSEM
from pytomography.io.SPECT import dicom
from pytomography.likelihoods import PoissonLogLikelihood
from pytomography.projectors.SPECT import SPECTSystemMatrix
objects, projections = dicom.get_metadata(sys.argv[1], index_peak=0)
system = SPECTSystemMatrix([], [], objects, projections)
counts = dicom.get_projections(sys.argv[1])
image = OSEM(PoissonLogLikelihood(system, counts))(n_iters=5, n_subsets=8)
np.save(sys.argv[2], image.cpu().numpy())
print(json.dumps(np.asarray(objects.affine_matrix, float).tolist()))
"""


def _by_pytomography(raw: Path) -> tuple[np.ndarray, np.ndarray]:
    """Uncorrected image (x, y, z) of PyTomography and its own affine to LPS mm, from the interpreter that has it."""
    python = os.environ.get("SPECTAC_PYTOMOGRAPHY")
    if not python:
        pytest.skip("SPECTAC_PYTOMOGRAPHY names no interpreter with pytomography 3.4.0")
    command = [python, "-c", _PYTOMOGRAPHY, str(raw), str(raw.with_suffix(".npy"))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    return np.load(raw.with_suffix(".npy")).astype(float), np.array(json.loads(run.stdout.splitlines()[-1]))


@pytest.mark.parametrize("scan", [Scan(), Scan(direction="CW", start_deg=270), Scan(heads=1, direction="CW")], ids=str)
def test_pytomography_finds_the_spots_at_the_same_places(tmp_path, figure, scan):
    """With square pixels and its own reading of ImagePositionPatient (the corner of the volume): same millimetres.

    The reconstructions are on one grid, so their centroids differ by what rotation weights and truncation of the
    spots' tails differ by: a tenth of a voxel.
    """
    scan = replace(scan, pixel_mm=(6.0, 6.0), position="volume", axis_lps_mm=ON_AXIS)
    encode(tmp_path / "raw.dcm", scan)
    theirs = spots_in(*_by_pytomography(tmp_path / "raw.dcm"))
    _, image = _reconstructed(tmp_path / "raw.dcm", None)
    ours = spots_in(image.values, image.grid.affine_lps)
    apart = max(float(np.abs(a - b).max()) for (a, _), (b, _) in zip(theirs, ours, strict=True))
    figure(f"PyTomography against spectac, {scan}, mm", apart, "0.6")
    assert apart < 0.6


def test_pytomography_differs_where_pixels_are_not_square(tmp_path):
    """It takes PixelSpacing as (transaxial, axial); the standard says rows first, which is axial here (checklist 4).

    The spots are at the right voxels, and its affine says 6 mm where a voxel has 4 and 4 where it has 6.
    """
    scan = Scan(position="volume")
    encode(tmp_path / "raw.dcm", scan)
    values, affine = _by_pytomography(tmp_path / "raw.dcm")
    assert np.diag(affine)[:3].tolist() == [6.0, 6.0, 4.0]
    assert worst_error_voxels(values, affine, AXIS_LPS_MM, _activities(scan.angles_deg)) > 5.0
    step = np.diag([PIXEL_U_MM, PIXEL_U_MM, PIXEL_Z_MM, 1.0])
    step[:3, 3] = AXIS_LPS_MM - step[:3, :3] @ (0.5 * (np.array(values.shape) - 1))
    assert worst_error_voxels(values, step, AXIS_LPS_MM, _activities(scan.angles_deg)) < 0.5
