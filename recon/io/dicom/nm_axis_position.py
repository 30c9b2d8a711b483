"""Position of the rotation axis: what ImagePositionPatient of raw TOMO detector items means, tested and not assumed.

DICOM leaves it open for projections. Three readings are tried:

- "face": the first pixel, on the collimator face at the head's start angle
- "volume": the corner voxel of a volume of the projections' columns around the axis
- "axis": a point of the rotation axis

Each gives an axis position for every head. A reading fits where the heads agree within a pixel and the axis lies near
enough to the scanner's isocentre. What a maker is known to write goes before the other readings that fit. Where a
second one stays possible a warning gives both positions and their distance, and other files of the same scan may decide
(nm_merge.py). Axes in LPS mm; e_u and n as in docs/conventions.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from spectac.recon.geometry import detector_rights, view_normals
from spectac.recon.io.dicom.elements import Item, name_of
from spectac.recon.io.dicom.nm_collimator import maker_of
from spectac.recon.io.dicom.nm_orientation import Orientation
from spectac.recon.io.dicom.nm_view_angles import Head
from spectac.recon.types import Array

_NEAR_MM = 60.0
"""An isocentre is the origin of most scanners' patient coordinates, give or take the table; other readings of one
position are off by a radius or half a field of view, 150 to 400 mm."""

_NEAR_WITH_ORIENTATION_MM = 300.0
"""Allowed where the orientation also names the detector plane, so that position and orientation support each other."""

_EXACT_MM = 10.0
"""Other readings must come this near to the isocentre to be weighed against an orientation of the detector plane."""

_MARGIN_MM = 25.0
"""A second reading must lie this much further from the isocentre, or neither is taken."""

_KNOWN = {"ge": "volume", "spectac": "face"}
"""What makers write. GE: two beds of a Discovery 670 with start angles of 0 and 180 deg have one axis in this reading
alone, and one of them lies on its CT."""

_WORDS = {
    "face": "the first pixel on the collimator face at the head's start angle",
    "volume": "the corner of a volume around the axis",
    "axis": "a point of the rotation axis",
}

_UNKNOWN = "the axis position is unknown, so that a CT is registered to the SPECT image"

AxisPosition = tuple[float, float, float]
"""The rotation axis (x, y, z) in LPS mm at the centre of our projection row 0, the inferior one."""


@dataclass(frozen=True)
class Axis:
    """The position of the rotation axis that was taken, and every position that is possible.

    Parameters
    ----------
    taken : tuple of float or None
        Position (x, y, z) in LPS mm of the axis at row 0; None: unknown.
    possible : mapping
        Positions by the reading that gives them.
    history : tuple of str
        How the position was read.
    doubts : tuple of str
        Warnings that other files of the scan can settle.

    Examples
    --------
    >>> Axis().taken is None
    True
    """

    taken: AxisPosition | None = None
    possible: Mapping[str, AxisPosition] = field(default_factory=dict)
    history: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Readings:
    """Axis position under every reading that fits, the nearest to the isocentre first.

    `usual` is the reading that the maker writes; `plane`: every orientation names the detector's plane; `proven`: the
    heads' agreement proves the only reading.
    """

    possible: Mapping[str, AxisPosition]
    usual: str | None
    plane: bool
    proven: bool = False

    def chosen(self) -> str | None:
        """The reading that the evidence supports, None where there is none or two are alike.

        A maker's own goes first, then the face where the orientation names the detector's plane, then that nearest to
        the isocentre.
        """
        if self.usual in self.possible:
            return self.usual
        away_mm = {reading: math.hypot(x, y) for reading, (x, y, _) in self.possible.items()}
        if self.plane and away_mm.get("face", math.inf) <= _NEAR_MM:
            return "face"
        if len(away_mm) > 1:
            first, second, *_ = away_mm.values()
            # A face further away than _NEAR_MM is here only because the orientation names the detector: a tie.
            if second - first < _MARGIN_MM or second > _NEAR_MM:
                return None
        return next(iter(away_mm), None)


def axis_position(
    item: Item,
    heads: Sequence[Head],
    orientations: Sequence[Orientation],
    matrix: tuple[int, int],
    pixel_mm: tuple[float, float],
) -> Axis:
    """The rotation axis by the reading of ImagePositionPatient that the evidence supports.

    A warning, or a doubt of the result, says why there is none or which other one is possible.

    Parameters
    ----------
    item : Item
        Dataset of the file.
    heads : sequence of Head
        Heads, with the angle and radius of their first views.
    orientations : sequence of Orientation
        How each head's pixels lie.
    matrix : tuple of int
        Rows and columns.
    pixel_mm : tuple of float
        Pixel (z, u) in mm.

    Returns
    -------
    Axis
        Position, with what can be said for and against it.
    """
    table = [one.optional_number("TableHeight") for one in item.items("RotationInformationSequence")]
    table_mm = (table[0] if table else None) or 0.0
    positions = [values for head in heads if (values := _position(head)) is not None]
    if len(positions) < len(heads):
        item.warn(f"ImagePositionPatient is missing or unfit in the detector items: {_UNKNOWN}")
        return Axis()
    writer = "spectac" if item.text("SoftwareVersions") == "spectac" else item.text("Manufacturer") or ""
    usual = _KNOWN.get(maker_of(writer) or writer)
    length_mm = (matrix[0] - 1) * pixel_mm[0]
    axes = _axes(heads, orientations, positions, 0.5 * (matrix[1] - 1) * pixel_mm[1])
    # z of the file's row 0 is our row 0's where the rows grow to superior.
    below_mm = length_mm if orientations[0].upright else 0.0
    readings = _fitting(axes, pixel_mm, usual, all(one.kind == "detector" for one in orientations), below_mm)
    chosen = readings.chosen()
    if chosen == "axis" and abs(table_mm) > 1.0:
        item.warn(
            f"ImagePositionPatient may be a point of the axis, but TableHeight is {table_mm:g} mm, and vendors differ "
            "on whether it shifts y: the axis position is unknown"
        )
        return Axis(None, readings.possible)
    doubts = _doubts(readings, chosen, len(heads))
    if chosen is None:
        return Axis(None, readings.possible, doubts=doubts)
    x, y, z = readings.possible[chosen]
    as_usual = usual == chosen
    why = f", {len(heads)} heads agree" if len(heads) > 1 else ""
    why += f", as {writer.split(' ')[0]} writes it" if as_usual and not readings.proven else ""
    if chosen != "face" and not as_usual:
        item.warn(
            "ImagePositionPatient does not say to which end of the rows its z belongs: it was taken as the superior "
            "row's; check the heights against the CT"
        )
    if np.hypot(x, y) > _NEAR_MM:
        item.notes.warn(f"the rotation axis lies {np.hypot(x, y):.0f} mm from the origin: check it against the CT")
    history = (
        f"ImagePositionPatient read as {_WORDS[chosen]}{why}: axis at x = {x:.1f}, y = {y:.1f} mm, rows from z = "
        f"{z:.1f} to {z + length_mm:.1f} mm"
    )
    others = {} if as_usual or readings.proven else readings.possible
    return Axis((x, y, z), {chosen: (x, y, z), **others}, (history,), doubts)


def _doubts(readings: _Readings, chosen: str | None, heads: int) -> tuple[str, ...]:
    """Warnings on the position that other files of the scan can settle."""
    name = name_of("ImagePositionPatient")
    if chosen is None:
        fits = "no known reading fits start angle and radius"
        if readings.possible:
            fits = f"{_listed(readings.possible)} fit equally"
        return (f"{name} of raw projections has no settled meaning and {fits}: {_UNKNOWN}",)
    if readings.proven or readings.usual == chosen:
        return ()
    doubts = []
    if len(readings.possible) > 1:
        places = {chosen: readings.possible[chosen], **readings.possible}
        apart_mm = max(math.dist(one[:2], other[:2]) for one, other in combinations(places.values(), 2))
        doubts.append(
            f"{name} has no settled meaning: {_listed(places)} are possible, {apart_mm:.0f} mm apart; the first was "
            "taken, check it against the CT"
        )
    if heads == 1:
        doubts.append(
            f"{name} of one head alone cannot show that it was read rightly: check the axis against the CT before you "
            "rely on its position"
        )
    return tuple(doubts)


def _listed(possible: Mapping[str, AxisPosition]) -> str:
    return " and ".join(f"{_WORDS[name]} (axis at x = {x:.1f}, y = {y:.1f} mm)" for name, (x, y, _) in possible.items())


def _position(head: Head) -> Array | None:
    """ImagePositionPatient of a head, None without one that is three numbers."""
    values = [] if head.item is None else head.item.optional_numbers("ImagePositionPatient")
    if head.item is not None and values and len(values) != 3:
        head.item.warn(f"ImagePositionPatient needs 3 numbers, it holds {len(values)}: not used")
    return np.array(values) if len(values) == 3 else None


def _axes(
    heads: Sequence[Head], orientations: Sequence[Orientation], positions: Sequence[Array], half_mm: float
) -> dict[str, Array]:
    """Axis (head, 3) in LPS mm under each reading; z of the file's row 0. `half_mm`: half a row."""
    faces = []
    for head, orientation, position in zip(heads, orientations, positions, strict=True):
        right, normal = detector_rights([head.start_deg])[0], view_normals([head.start_deg])[0]
        first = half_mm if orientation.mirrored else -half_mm
        faces.append(position - np.append(head.radius_mm * normal + first * right, 0.0))
    points = np.array(positions)
    return {"face": np.array(faces), "volume": points + np.array([half_mm, half_mm, 0.0]), "axis": points}


def _fitting(
    axes: Mapping[str, Array], pixel_mm: tuple[float, float], usual: str | None, plane: bool, below_mm: float
) -> _Readings:
    """The readings under which the heads agree and the axis lies near the isocentre; our row 0 is `below_mm` lower."""
    fitting = {}
    for reading, values in axes.items():
        spread = np.abs(values - values[0]).max(axis=0)
        x, y, top = np.mean(values, axis=0).tolist()
        if spread[:2].max() > max(pixel_mm[1], 1.0) or spread[2] > 0.5 * pixel_mm[0]:
            continue
        away_mm = math.hypot(x, y)
        if reading == "face" and len(values) > 1 and away_mm < 2 * _NEAR_WITH_ORIENTATION_MM:
            return _Readings({"face": (x, y, top - below_mm)}, usual, plane, proven=True)
        near_mm = _NEAR_MM
        if plane or reading == usual:
            near_mm = _NEAR_WITH_ORIENTATION_MM if reading in ("face", usual) else _EXACT_MM
        if away_mm <= near_mm:
            fitting[reading] = (x, y, top - below_mm)
    order = sorted(fitting, key=lambda reading: math.hypot(*fitting[reading][:2]))
    return _Readings({reading: fitting[reading] for reading in order}, usual, plane)
