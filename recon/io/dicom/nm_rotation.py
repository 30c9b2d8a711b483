"""Sense of rotation, angle between views and time of a view, from the rotation and detector items and the user.

A rotation item describes one rotation of all heads or, in files of some vendors, one head.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from spectac.recon.io.arcs import step_from_arc
from spectac.recon.io.dicom.elements import Item, name_of
from spectac.recon.io.dicom.nm_frames import Frames
from spectac.recon.settings import StudySettings

_SENSES = {
    "CC": "cc", "CCW": "cc", "COUNTERCLOCKWISE": "cc", "COUNTER-CLOCKWISE": "cc", "ANTICLOCKWISE": "cc",
    "CW": "cw", "CLOCKWISE": "cw", "CLOCK-WISE": "cw",
}  # fmt: skip
"""Spellings of RotationDirection; DICOM has CC and CW."""

_SHORTEST_S, _LONGEST_S = 0.5, 1800.0
"""A view of SPECT takes seconds to a few minutes: beyond, ActualFrameDuration is not in ms."""


@dataclass(eq=False)
class Rotation:
    """One rotation item, completed by what the user gives; None for what neither says.

    Parameters
    ----------
    item : Item
        Rotation item.
    sign : float
        1 counter-clockwise, -1 clockwise seen from the feet.
    step_deg, arc_deg, start_deg : float or None
        Angle between views, angle of the whole arc, and angle of the first view in degrees.
    frames : int or None
        NumberOfFramesInRotation.
    seconds : float
        Time of a view in s, NaN where unknown.
    arc_note : str
        Warning where the step follows from the arc, else "".
    """

    item: Item
    sign: float
    step_deg: float | None
    arc_deg: float | None
    start_deg: float | None
    frames: int | None
    seconds: float
    arc_note: str = ""

    def step_for(self, views: int, heads: int) -> float:
        """Angle between views in degrees, from AngularStep, else ScanArc; a warning where the two disagree."""
        if self.step_deg is None:
            if views == 1:
                return 0.0
            if not self.arc_deg:
                raise self.item.error(
                    f"AngularStep is missing, and {name_of('ScanArc')} too: give --step-deg, the angle between views"
                )
            step, doubt = step_from_arc(self.arc_deg, views)
            self.arc_note = doubt or (
                f"no AngularStep: {step:g} deg were taken from ScanArc {self.arc_deg:g} deg over {views} views "
                "(--step-deg gives another)"
            )
            return step
        if self.arc_deg:
            arcs = [self.step_deg * n for n in (views, views - 1, views * heads)]
            if not any(abs(arc - self.arc_deg) <= max(0.5 * self.step_deg, 0.5) for arc in arcs):
                self.item.notes.warn(
                    f"ScanArc is {self.arc_deg:g} deg, but {views} views {self.step_deg:g} deg apart make "
                    f"{arcs[0]:g}: the step was used"
                )
        return self.step_deg


@dataclass(eq=False)
class HeadArc:
    """The views of one head in one rotation.

    Parameters
    ----------
    head, turn : int
        Number of the head and of the rotation, from 0.
    rotation : Rotation
        Rotation item that describes it.
    detector : Item or None
        Detector item of the head.
    frames : Frames
        Frames of the file that belong to it.
    first, views : int
        Number of the first view, from 0, and how many views there are.
    step_deg, start_deg : float
        Angle between views, without sign, and of the first view in degrees.
    start_source : str
        Where the start angle is from.
    """

    head: int
    turn: int
    rotation: Rotation
    detector: Item | None
    frames: Frames
    first: int = 0
    views: int = 0
    step_deg: float = 0.0
    start_deg: float = 0.0
    start_source: str = ""

    @property
    def signed_step_deg(self) -> float:
        """Angle from view to view, below 0 clockwise."""
        return self.rotation.sign * self.step_deg


def read_rotations(item: Item, detectors: Mapping[int, Item], given: StudySettings) -> list[Rotation]:
    """Every item of RotationInformationSequence; one without elements where the user gives all that it would say.

    Parameters
    ----------
    item : Item
        Dataset of the file.
    detectors : mapping of int to Item
        Detector items by the numbers of the heads.
    given : StudySettings
        The user's values, which go before those of the file.

    Returns
    -------
    list of Rotation
        Rotations in the order of the file.

    Raises
    ------
    InputError
        The sequence is missing, and the user does not give all that it would say.
    """
    sequence = item.items("RotationInformationSequence")
    if not sequence:
        heads = list(detectors.values())
        starts = bool(heads) and all(one.optional_number("StartAngle") is not None for one in heads)
        radii = bool(heads) and all(one.numbers("RadialPosition") for one in heads)
        needed = {
            "--rotation": given.rotation,
            "--step-deg": given.step_deg,
            "--head-angles": given.head_angles_deg or starts,
            "--radius-mm": given.radius_mm or radii,
        }
        if missing := [option for option, value in needed.items() if not value]:
            raise item.error(
                f"RotationInformationSequence is missing or empty: give {', '.join(missing)} in its place, and "
                "--view-seconds for images in cps/mL"
            )
        sequence = [Item(Dataset(), item.path, " of the absent RotationInformationSequence", item.notes)]
    return [_rotation(one, item, given) for one in sequence]


def _rotation(item: Item, whole: Item, given: StudySettings) -> Rotation:
    """One item; `whole` is the file's dataset."""
    step = item.optional_number("AngularStep")
    if given.step_deg is not None:
        step = math.copysign(given.step_deg, step or 1.0)
    sign = _sign(item, whole, given.rotation, step)
    frames = item.optional_number("NumberOfFramesInRotation")
    start_deg, arc = item.optional_number("StartAngle"), item.optional_number("ScanArc")
    if step is None and arc is not None and arc < 0 < sign and given.rotation is None:
        whole.warn(
            f"ScanArc is {arc:g} deg, but RotationDirection says counter-clockwise: its sign was not used; --rotation "
            "cw turns the views the other way"
        )
    return Rotation(
        item,
        sign,
        step_deg=abs(step) if step else None,
        arc_deg=abs(arc) if arc else None,
        start_deg=start_deg,
        frames=int(frames) if frames and frames > 0 else None,
        seconds=_seconds(item, whole, given),
    )


def _sign(item: Item, whole: Item, given: str | None, step: float | None) -> float:
    """+1 counter-clockwise, -1 clockwise: the user's, else RotationDirection's, else that of a signed step."""
    said = (item.text("RotationDirection") or "").upper()
    direction = given or _SENSES.get(said)
    negative = step is not None and step < 0
    if direction is None and negative:
        item.notes.warn(f"no RotationDirection: a negative AngularStep ({step:g} deg) was taken as clockwise")
        return -1.0
    if direction is None:
        shown = f"is {said!r}, it must be CC or CW" if said else "is missing"
        raise item.error(f"RotationDirection {shown}: give --rotation, cc or cw seen from the feet")
    if negative and direction == "cc" and given is None:
        whole.warn(
            f"AngularStep is {step:g} deg, which contradicts RotationDirection {said}: read as counter-clockwise, as "
            "RotationDirection says; --rotation cw turns the views the other way"
        )
    return 1.0 if direction == "cc" else -1.0


def _seconds(item: Item, whole: Item, given: StudySettings) -> float:
    """Seconds of a view, NaN where they are unknown."""
    if given.view_seconds is not None:
        return given.view_seconds
    milliseconds = item.optional_number("ActualFrameDuration") or whole.optional_number("ActualFrameDuration") or 0.0
    if milliseconds < 0:
        item.warn(f"ActualFrameDuration is {milliseconds:g} ms: not used; --view-seconds gives the time")
        return np.nan
    seconds = milliseconds / 1000.0
    if seconds and not _SHORTEST_S <= seconds <= _LONGEST_S:
        whole.warn(
            f"ActualFrameDuration gives views of {seconds:g} s, which no SPECT scan has: is it in ms, as DICOM has it? "
            "--view-seconds gives the time of a view"
        )
    return seconds or np.nan


def detector_items(item: Item, frames: Frames) -> dict[int, Item]:
    """Detector item of each head (numbered from 0) that has frames; a single item describes all heads.

    Parameters
    ----------
    item : Item
        Dataset of the file.
    frames : Frames
        Frames of the file.

    Returns
    -------
    dict of int to Item
        Empty where the file has no detector items.

    Raises
    ------
    InputError
        The number of items fits neither the numbers of the heads nor how many there are.
    """
    sequence = item.items("DetectorInformationSequence")
    heads = np.unique(frames.detector).tolist()
    if not sequence or heads[-1] < len(sequence):
        return {head: sequence[head] for head in heads} if sequence else {}
    if len(sequence) == 1:
        return dict.fromkeys(heads, sequence[0])
    if len(sequence) != len(heads):
        raise item.error(
            f"DetectorVector names detector {heads[-1] + 1}, DetectorInformationSequence has {len(sequence)} items"
        )
    return dict(zip(heads, sequence, strict=True))


def head_arcs(
    item: Item, frames: Frames, rotations: Sequence[Rotation], detectors: Mapping[int, Item]
) -> list[HeadArc]:
    """Every head in every rotation, in this order, with the items that describe it.

    With an item for each head, alike in direction and step, but RotationVector 1 throughout (Mediso), head n has
    item n.

    Parameters
    ----------
    item : Item
        Dataset of the file.
    frames : Frames
        Frames of the file.
    rotations : sequence of Rotation
        Rotation items.
    detectors : mapping of int to Item
        Detector items by the numbers of the heads.

    Returns
    -------
    list of HeadArc
        Arcs whose angles and views are not set yet.

    Raises
    ------
    InputError
        RotationVector and items do not fit each other.
    """
    pairs = np.unique(np.stack([frames.detector, frames.rotation], axis=1), axis=0).tolist()
    heads, items, last = len({head for head, _ in pairs}), len(rotations), max(turn for _, turn in pairs)
    alike = len({(one.sign, one.step_deg, one.frames) for one in rotations}) == 1
    of_heads = items > 1 and items == heads and alike and last == 0
    if of_heads:
        item.record(f"{items} rotation items for {items} heads of one rotation: each head has its own item")
    elif last >= items:
        raise item.error(f"RotationVector names rotation {last + 1}, RotationInformationSequence has {items} items")
    elif last + 1 < items:
        raise item.error(f"RotationVector names {last + 1} of the {items} items of RotationInformationSequence")
    return [
        HeadArc(
            head,
            turn,
            rotations[number if of_heads else turn],
            detectors.get(head),
            frames.where((frames.detector == head) & (frames.rotation == turn)),
        )
        for number, (head, turn) in enumerate(pairs)
    ]


def refuse_beds(rotations: Sequence[Rotation]) -> None:
    """Refuse rotations between which the table moved by more than 0.5 mm.

    Parameters
    ----------
    rotations : sequence of Rotation
        Rotations of a file.

    Raises
    ------
    InputError
        Names the element and its values.
    """
    for keyword in ("TableTraverse", "TableHeight"):
        values = [value for one in rotations if (value := one.item.optional_number(keyword)) is not None]
        if values and max(values) - min(values) > 0.5:
            listed = ", ".join(f"{value:g}" for value in values)
            raise rotations[0].item.error(
                f"{keyword} differs between rotations ({listed} mm): several bed positions are not read"
            )
