"""What ImageOrientationPatient and ImagePositionPatient of raw TOMO detector items mean: tested, never assumed.

DICOM leaves both open for projections. An orientation that names the detector's own axes at the head's start angle
decides where rows and columns grow; one of transaxial slices says nothing about projections; one that contradicts the
start angle is refused. Three readings of the position are tried:

- "face": the first pixel, on the collimator face at the head's start angle
- "volume": the corner voxel of a volume of the projections' columns around the axis
- "axis": a point of the rotation axis

Each gives an axis position for every head. A reading fits where the heads agree within a pixel and the axis lies near
enough to the scanner's isocentre. What a maker is known to write goes before the other readings that fit; where a
second one stays possible a warning gives both positions and their distance, and other files of the same scan may decide
(nm_merge.py). Axes in LPS mm; e_u and n as in docs/conventions.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from spectac.recon.geometry import detector_rights, view_normals
from spectac.recon.io.dicom.file import Item, name_of
from spectac.recon.io.dicom.nm_frames import Notes
from spectac.recon.types import Array

_ALIGNED = np.cos(np.deg2rad(5.0))
"""Directions within 5 deg count as equal: views are 2 to 6 deg apart, heads stand 76 to 180 deg apart."""

_NEAR_MM = 60.0
"""An isocentre is the origin of most scanners' patient coordinates, give or take the table; other readings of one
position are off by a radius or half a field of view, 150 to 400 mm."""

_NEAR_WITH_ORIENTATION_MM = 300.0
"""Allowed where the orientation also names the detector plane, so that position and orientation support each other."""

_EXACT_MM = 10.0
"""Other readings must come this near to the isocentre to be weighed against an orientation of the detector plane."""

_MARGIN_MM = 25.0
"""A second reading must lie this much further from the isocentre, or neither is taken."""


_KNOWN = {"ge": "volume", "gems": "volume"}
"""What makers write. GE: two beds of a Discovery 670 with start angles of 0 and 180 deg have one axis in this reading
alone, and one of them lies on its CT."""

_WORDS = {
    "face": "the first pixel on the collimator face at the head's start angle",
    "volume": "the corner of a volume around the axis",
    "axis": "a point of the rotation axis",
}

AxisPosition = tuple[float, float, float]
"""The rotation axis (x, y, z) in LPS mm at the centre of our projection row 0, the inferior one."""


@dataclass(frozen=True)
class Axis:
    """The position that was taken (None: unknown), and every position that is possible, by its reading.

    `reading` is the line of history on it, `doubts` are the warnings that other files of the scan can settle.
    """

    taken: AxisPosition | None = None
    possible: Mapping[str, AxisPosition] = field(default_factory=dict)
    reading: str = ""
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Head:
    """One head: `start_deg` and `radius_mm` of its first view, and its detector item."""

    number: int
    start_deg: float
    radius_mm: float
    item: Item | None


@dataclass(frozen=True)
class Orientation:
    """How a head's pixels lie: `upright` = file row 0 is superior, `mirrored` = columns grow along -e_u.

    `kind` says what the orientation described: "detector", "volume" or None for nothing usable.
    """

    upright: bool = True
    mirrored: bool = False
    kind: str | None = None


def orientations(
    heads: Sequence[Head], gantry: str | None, posture: str | None, given: bool, notes: Notes
) -> list[Orientation]:
    """Orientation of every head.

    `gantry` "HF" or "FF" and `posture` "S", "P" or others as in PatientPosition; `given`: the user gave the angles, who
    then goes before the file. Raises InputError where an orientation contradicts the start angle.
    """
    cosines = [_cosines(head, notes) for head in heads]
    found, against = [], []
    for head, values in zip(heads, cosines, strict=True):
        one = None if values is None else _classified(values, head.start_deg)
        if values is not None and one is None:
            against.append(head)
        if one is not None and not one.upright:
            # Feet first this is also what a file says that has the gantry's angles instead of the patient's.
            if not one.mirrored and gantry == "FF":
                against.append(head)
            else:
                stored = "turned by 180 deg" if one.mirrored else "with row 0 inferior"
                notes.warn(
                    f"{name_of('ImageOrientationPatient')} says that frames are stored {stored}: read so, check that "
                    "left and right are not swapped"
                )
        found.append(one or Orientation())
    if against:
        _settle(heads, cosines, against, found, gantry, posture, given, notes)
    kinds = {one.kind for one in found}
    if "detector" in kinds:
        rows = "superior" if all(one.upright for one in found) else "inferior (the rows of such heads are not reversed)"
        notes.history.append(f"ImageOrientationPatient fits the detectors at their start angles: row 0 is {rows}")
        if any(one.mirrored for one in found):
            notes.history.append("the frames are stored turned by 180 deg (ImageOrientationPatient): turned back")
    else:
        notes.history.append("row 0 taken as superior, columns to the detector's right (no orientation says otherwise)")
        if gantry == "FF":
            notes.warnings.append("feet first and no orientation of the detectors: row 0 was taken as superior")
    return found


def _cosines(head: Head, notes: Notes) -> Array | None:
    """Unit vectors (2, 3) along which columns and rows grow, None where there are none that can be used."""
    values = [] if head.item is None else head.item.optional_numbers("ImageOrientationPatient")
    if not values or head.item is None:
        return None
    if len(values) != 6:
        head.item.warn("ImageOrientationPatient", f"needs 6 numbers, it holds {len(values)}: not used")
        return None
    cosines = np.array(values).reshape(2, 3)
    lengths = np.linalg.norm(cosines, axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(cosines[0] @ cosines[1]) > 0.01:
        notes.warnings.append(f"{name_of('ImageOrientationPatient')} {values} is no pair of directions: not used")
        return None
    return cosines


def _classified(cosines: Array, start_deg: float) -> Orientation | None:
    """What the directions say about a head at this angle, None where they contradict it."""
    columns, rows = cosines
    if abs(rows[2]) > _ALIGNED and abs(columns[2]) < 0.1:
        right = float(columns[:2] @ detector_rights([start_deg])[0])
        if right > _ALIGNED:
            return Orientation(upright=bool(rows[2] < 0), kind="detector")
        if right < -_ALIGNED and rows[2] > 0:
            return Orientation(upright=False, mirrored=True, kind="detector")
        return None
    if abs(rows[2]) < 0.1 and abs(columns[2]) < 0.1:
        return Orientation(kind="volume")
    return None


def _settle(
    heads: Sequence[Head],
    cosines: list[Array | None],
    against: list[Head],
    found: list[Orientation],
    gantry: str | None,
    posture: str | None,
    given: bool,
    notes: Notes,
) -> None:
    """Turn a contradiction into a warning where it is known to be empty, else refuse; changes `found`."""
    known = [one for one in cosines if one is not None]
    turned = max(abs((head.start_deg - heads[0].start_deg + 180.0) % 360.0 - 180.0) for head in heads) > 5.0
    fixed = len(known) == len(heads) > 1 and turned and all(np.allclose(one, known[0], atol=0.01) for one in known)
    ordinary = gantry != "FF" and posture in (None, "S")
    if given or (fixed and ordinary):
        why = "the angles given by the user were followed" if given else "it is the same for heads at different angles"
        notes.warnings.append(f"{name_of('ImageOrientationPatient')} contradicts the start angles: not used, {why}")
        found[:] = [Orientation() for _ in found]
        return
    head = against[0]
    assert head.item is not None
    right = detector_rights([head.start_deg])[0]
    raise head.item.error(
        "ImageOrientationPatient",
        f"contradicts {name_of('StartAngle')}: a detector at {head.start_deg % 360:g} deg sees columns grow along "
        f"({right[0] + 0.0:.2f}, {right[1] + 0.0:.2f}, 0) and rows along (0, 0, -1), the file says "
        f"{head.item.text('ImageOrientationPatient')}: give --head-angles to say where the heads stood",
    )


def axis_position(
    heads: Sequence[Head],
    orientation: Sequence[Orientation],
    matrix: tuple[int, int],
    pixel_mm: tuple[float, float],
    table_height_mm: float | None,
    written_by: str,
    notes: Notes,
) -> Axis:
    """The rotation axis by the reading of ImagePositionPatient that the evidence supports.

    `written_by`: the manufacturer, or "spectac" for files of ours. The reading goes into the history; a warning says
    why there is none, or which other one is possible.
    """
    positions: list[tuple[Head, Orientation, Array]] = []
    for head, one in zip(heads, orientation, strict=True):
        values = _position(head)
        if values is not None:
            positions.append((head, one, values))
    unknown = "the axis position is unknown, so that a CT is registered to the SPECT image"
    if len(positions) < len(heads):
        notes.warnings.append(f"{name_of('ImagePositionPatient')} is missing or unfit in the detector items: {unknown}")
        return Axis()
    known = "face" if written_by == "spectac" else _KNOWN.get(written_by.lower().split(" ")[0].strip(",."))
    readings, proven = _fitting(positions, matrix, pixel_mm, known)
    rows, pitch = matrix[0], pixel_mm[0]
    # z of the file's row 0, which is ours too where the rows grow to superior.
    lowest = (rows - 1) * pitch if orientation[0].upright else 0.0
    possible = {name: (float(x), float(y), float(top) - lowest) for name, (x, y, top) in readings.items()}
    chosen = _chosen(readings, known, all(one.kind == "detector" for _, one, _ in positions))
    if chosen == "axis" and table_height_mm is not None and abs(table_height_mm) > 1.0:
        notes.warnings.append(
            f"{name_of('ImagePositionPatient')} may be a point of the axis, but TableHeight is {table_height_mm:g} mm, "
            "and vendors differ on whether it shifts y: the axis position is unknown"
        )
        return Axis(None, possible)
    if chosen is None:
        fits = f"{_both(possible)} fit equally" if readings else "no known reading fits start angle and radius"
        doubt = f"{name_of('ImagePositionPatient')} of raw projections has no settled meaning and {fits}: {unknown}"
        notes.warnings.append(doubt)
        return Axis(None, possible, doubts=(doubt,))
    taken = possible[chosen]
    possible = {chosen: taken, **possible}
    x, y, z = taken
    why = f", {len(heads)} heads agree" if len(heads) > 1 else ""
    why += f", as {written_by.split(' ')[0]} writes it" if known == chosen and not proven else ""
    reading = (
        f"ImagePositionPatient read as {_WORDS[chosen]}{why}: axis at x = {x:.1f}, y = {y:.1f} mm, rows from z = "
        f"{z:.1f} to {z + (rows - 1) * pitch:.1f} mm"
    )
    notes.history.append(reading)
    doubts = []
    sure = proven or known == chosen
    if len(possible) > 1 and not sure:
        doubts.append(
            f"{name_of('ImagePositionPatient')} has no settled meaning: {_both(possible)} are possible, "
            f"{_apart_mm(possible):.0f} mm apart; the first was taken, check it against the CT"
        )
    if chosen != "face" and known != chosen:
        notes.warnings.append(
            f"{name_of('ImagePositionPatient')} does not say to which end of the rows its z belongs: it was taken as "
            "the superior row's; check the heights against the CT"
        )
    if len(heads) == 1 and not sure:
        doubts.append(
            f"{name_of('ImagePositionPatient')} of one head alone cannot show that it was read rightly: check the axis "
            "against the CT before you rely on its position"
        )
    notes.warnings += doubts
    if np.hypot(x, y) > _NEAR_MM:
        notes.warnings.append(
            f"the rotation axis lies {np.hypot(x, y):.0f} mm from the origin: check it against the CT"
        )
    return Axis(taken, {chosen: taken} if sure else possible, reading, tuple(doubts))


def _position(head: Head) -> Array | None:
    """ImagePositionPatient of a head, None without one that is three numbers."""
    values = [] if head.item is None else head.item.optional_numbers("ImagePositionPatient")
    if head.item is not None and values and len(values) != 3:
        head.item.warn("ImagePositionPatient", f"needs 3 numbers, it holds {len(values)}: not used")
    return np.array(values) if len(values) == 3 else None


def _both(possible: Mapping[str, AxisPosition]) -> str:
    return " and ".join(f"{_WORDS[name]} (axis at x = {x:.1f}, y = {y:.1f} mm)" for name, (x, y, _) in possible.items())


def _apart_mm(possible: Mapping[str, AxisPosition]) -> float:
    """Largest distance between the possible axes."""
    return max(math.dist(one[:2], other[:2]) for one in possible.values() for other in possible.values())


def _fitting(
    positions: list[tuple[Head, Orientation, Array]],
    matrix: tuple[int, int],
    pixel_mm: tuple[float, float],
    known: str | None,
) -> tuple[dict[str, Array], bool]:
    """Axis (x, y, z of file row 0) under every reading that fits, the nearest to the isocentre first.

    True beside "face" alone where several heads prove it.
    """
    half = 0.5 * (matrix[1] - 1) * pixel_mm[1]
    named = all(one.kind == "detector" for _, one, _ in positions)
    axes: dict[str, list[Array]] = {"face": [], "volume": [], "axis": []}
    for head, one, position in positions:
        right, normal = detector_rights([head.start_deg])[0], view_normals([head.start_deg])[0]
        first = half if one.mirrored else -half
        shift = np.append(head.radius_mm * normal + first * right, 0.0)
        axes["face"].append(position - shift)
        axes["volume"].append(position + np.array([half, half, 0.0]))
        axes["axis"].append(position)
    apart = len(positions) > 1
    fitting = {}
    for reading, values in axes.items():
        spread = np.abs(np.array(values) - values[0]).max(axis=0)
        mean = np.mean(values, axis=0)
        if spread[:2].max() > max(pixel_mm[1], 1.0) or spread[2] > 0.5 * pixel_mm[0]:
            continue
        if reading == "face" and apart and np.hypot(*mean[:2]) < 2 * _NEAR_WITH_ORIENTATION_MM:
            return {"face": mean}, True
        near = _NEAR_MM
        if named or reading == known:
            near = _NEAR_WITH_ORIENTATION_MM if reading in ("face", known) else _EXACT_MM
        if np.hypot(*mean[:2]) <= near:
            fitting[reading] = mean
    order = sorted(fitting, key=lambda reading: float(np.hypot(*fitting[reading][:2])))
    return {reading: fitting[reading] for reading in order}, False


def _chosen(readings: dict[str, Array], known: str | None, named: bool) -> str | None:
    """The reading that the evidence supports, None where there is none or two are alike.

    A maker's own goes first, then the face where the orientation names the detector's plane, then that nearest to the
    isocentre.
    """
    if known in readings:
        return known
    if named and "face" in readings and np.hypot(*readings["face"][:2]) <= _NEAR_MM:
        return "face"
    order = list(readings)
    if len(order) > 1:
        first, second = (float(np.hypot(*readings[reading][:2])) for reading in order[:2])
        # A face further away than _NEAR_MM is here only because the orientation names the detector: a tie.
        if second - first < _MARGIN_MM or second > _NEAR_MM:
            return None
    return order[0] if order else None
