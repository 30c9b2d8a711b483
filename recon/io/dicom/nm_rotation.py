"""What RotationInformationSequence and DetectorInformationSequence of an NM TOMO file say, completed by the user.

Which item belongs to which head and rotation, the sense of rotation, the angle between views, and their time.
"""

import math
from collections.abc import Mapping

import numpy as np
from pydicom.dataset import Dataset

from spectac.recon.given import Given
from spectac.recon.io.arcs import step_from_arc
from spectac.recon.io.dicom.file import Item, name_of
from spectac.recon.io.dicom.nm_frames import Frames, Notes
from spectac.recon.types import Array

_SENSES = {
    "CC": "cc", "CCW": "cc", "COUNTERCLOCKWISE": "cc", "COUNTER-CLOCKWISE": "cc", "ANTICLOCKWISE": "cc",
    "CW": "cw", "CLOCKWISE": "cw", "CLOCK-WISE": "cw",
}  # fmt: skip
"""Spellings of RotationDirection; DICOM has CC and CW."""

_SHORTEST_S, _LONGEST_S = 0.5, 1800.0
"""A view of SPECT takes seconds to a few minutes: beyond, ActualFrameDuration is not in ms."""


class Rotation:
    """What one item of RotationInformationSequence says, completed by what the user gives."""

    def __init__(self, item: Item, whole: Item, given: Given, notes: Notes) -> None:
        self.item = item
        said = item.optional_number("AngularStep")
        step = said if given.step_deg is None else math.copysign(given.step_deg, said or 1.0)
        self.sign = self._sign(item, given.rotation, step, notes)
        frames = item.optional_number("NumberOfFramesInRotation")
        self.frames = int(frames) if frames and frames > 0 else None
        self.start_deg = item.optional_number("StartAngle")
        arc = item.optional_number("ScanArc")
        self.arc_deg = abs(arc) if arc else None
        self.step_deg = abs(step) if step else None
        if step is None and arc is not None and arc < 0 < self.sign and given.rotation is None:
            notes.warn(
                f"{name_of('ScanArc')} is {arc:g} deg, but RotationDirection says counter-clockwise: its sign was not "
                "used; --rotation cw turns the views the other way"
            )
        self.seconds = self._seconds(item, whole, given, notes)
        self.arc_note = ""

    @property
    def sense(self) -> str:
        """Sense of rotation in words."""
        return "counter-clockwise" if self.sign > 0 else "clockwise"

    @staticmethod
    def _sign(item: Item, given: str | None, step: float | None, notes: Notes) -> float:
        """+1 counter-clockwise, -1 clockwise: the user's, else RotationDirection's, else that of a signed step."""
        said = (item.text("RotationDirection") or "").upper()
        direction = given or _SENSES.get(said)
        negative = step is not None and step < 0
        if direction is None and negative:
            notes.warn(f"no RotationDirection: a negative AngularStep ({step:g} deg) was taken as clockwise")
            return -1.0
        if direction is None:
            shown = f"is {said!r}, it must be CC or CW" if said else "is missing"
            raise item.error("RotationDirection", f"{shown}: give --rotation, cc or cw seen from the feet")
        if negative and direction == "cc" and given is None:
            notes.warn(
                f"{name_of('AngularStep')} is {step:g} deg, which contradicts RotationDirection {said}: read as "
                "counter-clockwise, as RotationDirection says; --rotation cw turns the views the other way"
            )
        return 1.0 if direction == "cc" else -1.0

    @staticmethod
    def _seconds(item: Item, whole: Item, given: Given, notes: Notes) -> float:
        """Seconds of a view, NaN where they are unknown."""
        if given.view_seconds is not None:
            return given.view_seconds
        own = item.optional_number("ActualFrameDuration")
        milliseconds = own or whole.optional_number("ActualFrameDuration") or 0.0
        if milliseconds < 0:
            item.warn("ActualFrameDuration", f"is {milliseconds:g} ms: not used; --view-seconds gives the time")
            return np.nan
        seconds = milliseconds / 1000.0
        if seconds and not _SHORTEST_S <= seconds <= _LONGEST_S:
            notes.warn(
                f"{name_of('ActualFrameDuration')} gives views of {seconds:g} s, which no SPECT scan has: is it in ms, "
                "as DICOM has it? --view-seconds gives the time of a view"
            )
        return seconds or np.nan

    def step_for(self, views: int, heads: int, notes: Notes) -> float:
        """Angle between views in degrees, from AngularStep, else ScanArc; a warning where the two disagree."""
        if self.step_deg is None:
            if views == 1:
                return 0.0
            if not self.arc_deg:
                raise self.item.error(
                    "AngularStep", f"is missing, and {name_of('ScanArc')} too: give --step-deg, the angle between views"
                )
            return self._step_of_arc(views)
        if self.arc_deg:
            arcs = [self.step_deg * n for n in (views, views - 1, views * heads)]
            if not any(abs(arc - self.arc_deg) <= max(0.5 * self.step_deg, 0.5) for arc in arcs):
                notes.warn(
                    f"ScanArc is {self.arc_deg:g} deg, but {views} views {self.step_deg:g} deg apart make "
                    f"{arcs[0]:g}: the step was used"
                )
        return self.step_deg

    def _step_of_arc(self, views: int) -> float:
        """Angle between views from the arc of one head, and the note on it."""
        assert self.arc_deg is not None
        step, doubt = step_from_arc(self.arc_deg, views)
        self.arc_note = doubt or (
            f"no AngularStep: {step:g} deg were taken from ScanArc {self.arc_deg:g} deg over {views} views (--step-deg "
            "gives another)"
        )
        return step


def detector_items(item: Item, frames: Frames) -> dict[int, Item]:
    """Detector item of each head (numbered from 0) that has frames; a single item describes all heads."""
    sequence = item.items("DetectorInformationSequence")
    heads = [int(head) for head in np.unique(frames.detector)]
    if sequence and heads[-1] >= len(sequence):
        if len(sequence) == 1:
            return dict.fromkeys(heads, sequence[0])
        if len(sequence) != len(heads):
            raise item.error(
                "DetectorVector",
                f"names detector {heads[-1] + 1}, DetectorInformationSequence has {len(sequence)} items",
            )
        return dict(zip(heads, sequence, strict=True))
    return {head: sequence[head] for head in heads} if sequence else {}


def rotation_sequence(item: Item, detectors: Mapping[int, Item], given: Given) -> list[Item]:
    """Items of RotationInformationSequence; an empty one where the user gives all that it would say."""
    sequence = item.items("RotationInformationSequence")
    if sequence:
        return sequence
    starts = bool(detectors) and all(one.optional_number("StartAngle") is not None for one in detectors.values())
    radii = bool(detectors) and all(one.numbers("RadialPosition") for one in detectors.values())
    needed = {
        "--rotation": given.rotation,
        "--step-deg": given.step_deg,
        "--head-angles": given.head_angles_deg or starts or None,
        "--radius-mm": given.radius_mm or radii or None,
    }
    missing = [option for option, value in needed.items() if value is None]
    if missing:
        raise item.error(
            "RotationInformationSequence",
            f"is missing or empty: give {', '.join(missing)} in its place, and --view-seconds for images in cps/mL",
        )
    return [Item(Dataset(), item.path, " of the absent RotationInformationSequence", item.warnings)]


def items_of_rotations(
    item: Item, frames: Frames, rotations: list[Rotation], heads: Array, notes: Notes
) -> dict[tuple[int, int], int]:
    """Which item of RotationInformationSequence belongs to (detector, rotation).

    With an item for each head, alike in direction and step, but RotationVector 1 throughout (Mediso), head n has
    item n.
    """
    pairs = sorted({(int(d), int(r)) for d, r in zip(frames.detector, frames.rotation, strict=True)})
    items = len(rotations)
    alike = len({(one.sign, one.step_deg, one.frames) for one in rotations}) == 1
    if items > 1 and items == len(heads) and alike and all(r == 0 for _, r in pairs):
        notes.history.append(f"{items} rotation items for {items} heads of one rotation: each head has its own item")
        return {(d, 0): n for n, (d, _) in enumerate(pairs)}
    last = max(r for _, r in pairs)
    if last >= items:
        raise item.error("RotationVector", f"names rotation {last + 1}, RotationInformationSequence has {items} items")
    if last + 1 < items:
        raise item.error("RotationVector", f"names {last + 1} of the {items} items of RotationInformationSequence")
    return {(d, r): r for d, r in pairs}


def refuse_beds(items: list[Item]) -> None:
    """InputError where the table moved between rotations."""
    for keyword in ("TableTraverse", "TableHeight"):
        values = [value for one in items if (value := one.optional_number(keyword)) is not None]
        if values and max(values) - min(values) > 0.5:
            listed = ", ".join(f"{value:g}" for value in values)
            raise items[0].error(
                keyword, f"differs between rotations ({listed} mm): several bed positions are not read"
            )
