"""Angles, radii and times of the views of a DICOM NM TOMO file.

DICOM's angles are ours (0 deg = detector at the patient's back, growing counter-clockwise seen from the feet), so
nothing is turned here. The rules for what vendors leave out or write twice stand in docs/formats.md. Each rule that was
used becomes a line of history, each doubt a warning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from spectac.recon.errors import FileError
from spectac.recon.geometry import signed_deg
from spectac.recon.io.dicom.elements import Item, name_of
from spectac.recon.io.dicom.nm_frames import Frames
from spectac.recon.io.dicom.nm_radii import read_radii
from spectac.recon.io.dicom.nm_rotation import HeadArc, detector_items, head_arcs, read_rotations, refuse_beds
from spectac.recon.settings import StudySettings
from spectac.recon.types import Array

_SAME_DEG = 0.5
"""Start angles that differ by less are equal."""

_FRAME, _WINDOW, _HEAD, _ANGLE, _RADIUS, _SECONDS, _START = range(7)
"""Columns of the table of frames."""


@dataclass(frozen=True, eq=False)
class Head:
    """One head at its first view.

    Parameters
    ----------
    number : int
        Number of the head, from 0.
    start_deg : float
        Angle of the first view in degrees.
    radius_mm : float
        Distance from the axis to the collimator face in mm.
    item : Item or None
        Detector item.
    """

    number: int
    start_deg: float
    radius_mm: float
    item: Item | None


@dataclass(frozen=True, eq=False)
class Views:
    """The views of one orbit in the order (detector, rotation, time).

    Parameters
    ----------
    frames : array (w, v)
        Number of the frame in the file of each window and view; w follows the windows' numbers.
    detector : array (v,)
        Number of the head, from 0.
    angles_deg, radii_mm : array (v,)
        Angle in degrees, and distance from the axis to the collimator face in mm.
    seconds, start_s : array (v,)
        Time of the view, and its beginning after that of the acquisition, in s.
    heads : tuple of Head
        Heads of the orbit.
    """

    frames: Array
    detector: Array
    angles_deg: Array
    radii_mm: Array
    seconds: Array
    start_s: Array
    heads: tuple[Head, ...]


def read_views(item: Item, frames: Frames, reference_window: int, given: StudySettings) -> Views:
    """Views of all heads and rotations, the same for every window.

    Parameters
    ----------
    item : Item
        Dataset of the file.
    frames : Frames
        Frames of the file.
    reference_window : int
        Number of the window that gives the times where they differ.
    given : StudySettings
        The user's values, which go before those of the file.

    Returns
    -------
    Views
        Angles lie from 0 to below 360 degrees.

    Raises
    ------
    InputError
        Angles or radii are missing, two heads stand at one angle, beds differ, or windows do not have the same views.
    """
    detectors = detector_items(item, frames)
    rotations = read_rotations(item, detectors, given)
    heads = np.unique(frames.detector).tolist()
    if len(item.items("DetectorInformationSequence")) == 1 < len(heads) and given.head_angles_deg is None:
        raise item.error(
            f"DetectorInformationSequence has 1 item for {len(heads)} heads ({name_of('DetectorVector')}): where they "
            "stood is unknown, give --head-angles, the angle of each head's first view (e.g. --head-angles 0,180)"
        )
    arcs = head_arcs(item, frames, rotations, detectors)
    if "CONTINUOUS" in (item.text("TypeOfDetectorMotion") or "").upper():
        item.warn(
            "TypeOfDetectorMotion is CONTINUOUS: every view is taken to lie at its nominal angle, which may be off by "
            "half a step"
        )
    refuse_beds([one for one in rotations if any(arc.rotation is one for arc in arcs)])
    _set_angles(item, arcs, heads, given.head_angles_deg)
    for rotation in rotations:
        if rotation.arc_note:
            item.notes.warn(rotation.arc_note)
    if given.radius_mm is None:
        radii = read_radii(item, arcs)
    else:
        radii = [np.full(arc.views, float(given.radius_mm)) for arc in arcs]
    _tell(item, arcs)
    table = _table(arcs, radii)
    windows = np.unique(frames.window).tolist()
    reference = table[table[:, _WINDOW] == reference_window]
    number, angles, radii_mm, seconds, start_s = reference[:, _HEAD:].T
    first_arcs = [next(arc for arc in arcs if arc.head == head) for head in heads]
    return Views(
        np.stack([_matched(table[table[:, _WINDOW] == window], reference, item) for window in windows]),
        number.astype(np.int64),
        np.mod(np.round(angles, 9), 360.0),
        radii_mm,
        seconds,
        start_s,
        tuple(
            Head(arc.head, arc.start_deg, float(radii_mm[number == arc.head][0]), arc.detector) for arc in first_arcs
        ),
    )


def _set_angles(item: Item, arcs: Sequence[HeadArc], heads: Sequence[int], given: Sequence[float] | None) -> None:
    """Set number of views, step and start angle of every arc; `given` are the user's angles of the heads."""
    if given is not None and len(given) != len(heads):
        raise FileError(
            item.path, f"--head-angles needs one angle for each of the {len(heads)} heads, got {len(given)}"
        )
    for arc in arcs:
        _number_views(arc, arcs, item)
    for arc in arcs:
        arc.step_deg = arc.rotation.step_for(arc.views, len(heads))
    starts = {} if given is None else dict(zip(heads, given, strict=True))
    _set_starts(item, arcs, starts)
    if len(heads) > 1 and len(arcs) == len(heads):
        _weigh_overlap(item, arcs, starts)


def _number_views(arc: HeadArc, arcs: Sequence[HeadArc], item: Item) -> None:
    """Set the number (from 0) of the head's first view in this rotation, and how many views it has there."""
    numbers, promised = np.unique(arc.frames.view), arc.rotation.frames
    beside = [one.frames.view for one in arcs if one.turn == arc.turn and one is not arc]
    alone = bool(beside) and not any(np.isin(numbers, views).any() for views in beside)
    counted_from_one = not alone and promised and numbers.max() < promised
    arc.first = 0 if counted_from_one else int(numbers.min())
    arc.views = int(numbers.max()) - arc.first + 1
    if len(numbers) != arc.views:
        raise item.error(
            f"AngularViewVector leaves out views: {len(numbers)} of {arc.views} are there for detector {arc.head + 1}"
        )
    heads = len({one.head for one in arcs})
    windows = np.unique(np.concatenate([one.frames.window for one in arcs])).size
    # Some count the frames of all heads, or of all windows as well.
    meant = {arc.views * factor * held for factor in (1, heads) for held in (1, windows)}
    if promised and promised not in meant:
        more = arc.views > promised
        why = "the frames' own numbers were used" if more else "the acquisition seems to have been stopped"
        item.notes.warn(
            f"NumberOfFramesInRotation is {promised}, but detector {arc.head + 1} has {arc.views} views: {why}"
        )


def _set_starts(item: Item, arcs: Sequence[HeadArc], given: Mapping[int, float]) -> None:
    """Set the angle of the first view of each head in each rotation.

    The user's angle decides, else the detector item's StartAngle, else the rotation item's. A head's angle is that of
    its first rotation; later rotations start as much later as their own StartAngles say.
    """
    for arc in arcs:
        first = next(one for one in arcs if one.head == arc.head)
        of_detector = None if arc.detector is None else arc.detector.optional_number("StartAngle")
        of_rotation = first.rotation.start_deg
        if arc.head in given:
            arc.start_deg, arc.start_source = given[arc.head], "given by the user"
        elif of_detector is not None:
            arc.start_deg, arc.start_source = of_detector, "StartAngle of the detector item"
        elif of_rotation is not None:
            arc.start_deg = of_rotation + _views_before(arc, arcs) * arc.signed_step_deg
            arc.start_source = "StartAngle of the rotation item"
        else:
            raise arc.rotation.item.error(
                f"StartAngle is missing, for head {arc.head + 1} too: give --head-angles, the angle of each head"
            )
        if arc is not first:
            if arc.rotation.start_deg is None or of_rotation is None:
                raise arc.rotation.item.error("StartAngle is missing in one of several rotations")
            arc.start_deg += arc.rotation.start_deg - of_rotation
        if arc is not arcs[0] or of_detector is None or of_rotation is None:
            continue
        if abs(signed_deg(of_detector - of_rotation)) > _SAME_DEG:
            item.notes.warn(
                f"StartAngle is {of_detector:g} deg in the detector item and {of_rotation:g} deg in the rotation item "
                f"of head {arc.head + 1}: the detector's was used"
            )
    for one, other in combinations(arcs, 2):
        at_once = one.turn == other.turn or len(arcs) == len({arc.head for arc in arcs})
        together = one.head != other.head and abs(signed_deg(one.start_deg - other.start_deg)) < _SAME_DEG
        if at_once and together:
            raise item.error(
                f"StartAngle puts heads {one.head + 1} and {other.head + 1} both at {one.start_deg:g} deg: give "
                "--head-angles, the angle of each head's first view (e.g. --head-angles 0,180)"
            )


def _views_before(arc: HeadArc, arcs: Sequence[HeadArc]) -> int:
    """Views before this head's first where the heads of one rotation are numbered on (1-60, 61-120), else 0."""
    heads = len({one.head for one in arcs})
    numbered_on = (
        heads > 1
        and sum(one.head == arc.head for one in arcs) == 1
        and arc.rotation.frames == sum(one.views for one in arcs if one.turn == arc.turn)
        and len({one.first for one in arcs}) == heads
    )
    return arc.first if numbered_on and arc.first == int(arc.frames.view.min()) else 0


def _weigh_overlap(item: Item, arcs: Sequence[HeadArc], given: Mapping[int, float]) -> None:
    """Heads that turn together should not see the same angles: then an arc is all heads' together, or doubtful."""
    step = arcs[0].step_deg
    overlap = _overlap_deg(arcs)
    if overlap < step:
        return
    shared = step / len(arcs)
    if all(arc.rotation.step_deg is None for arc in arcs) and _overlap_deg(arcs, shared) < shared:
        item.warn(
            f"ScanArc was read as the arc of all heads together, {shared:g} deg a step: as that of each head, {step:g} "
            f"deg a step, the heads would cover one another over {overlap:.0f} deg (--step-deg gives another)"
        )
        for arc in arcs:
            arc.step_deg, arc.rotation.arc_note = shared, ""
        _set_starts(item, arcs, given)
        return
    turn = step * arcs[0].views
    agrees = any(arc.rotation.arc_deg is not None and abs(arc.rotation.arc_deg - turn) < step for arc in arcs)
    if turn < 360.0 - step and not agrees:
        item.notes.warn(
            f"the heads cover one another over {overlap:.0f} deg: check the start angles and the step of {step:g} "
            "deg (--head-angles, --step-deg)"
        )


def _overlap_deg(arcs: Sequence[HeadArc], step_deg: float | None = None) -> float:
    """Arc over which two neighbouring heads see the same angles (with another step, if given); 0 for none."""
    spans = []
    for arc in arcs:
        way = arc.rotation.sign * (arc.step_deg if step_deg is None else step_deg) * (arc.views - 1)
        spans.append((min(arc.start_deg, arc.start_deg + way) % 360.0, abs(way)))
    spans.sort()
    spans.append((spans[0][0] + 360.0, spans[0][1]))
    return max(0.0, *(begin + way - after for (begin, way), (after, _) in pairwise(spans)))


def _tell(item: Item, arcs: Sequence[HeadArc]) -> None:
    """History in words: heads, start angles and their source, direction, steps, rotations."""
    several = len({arc.turn for arc in arcs}) > 1
    for arc in arcs:
        many = f", rotation {arc.turn + 1}" if several else ""
        sense = "counter-clockwise" if arc.rotation.sign > 0 else "clockwise"
        item.record(
            f"head {arc.head + 1}{many}: {arc.views} views from {arc.start_deg % 360:g} deg "
            f"({arc.start_source}), every {arc.step_deg:g} deg {sense} seen from the feet"
        )
    if any(np.isnan(arc.rotation.seconds) for arc in arcs):
        item.warn(
            "ActualFrameDuration is missing or 0: images will be relative, not in cps/mL; --view-seconds gives the "
            "time of a view"
        )
    else:
        item.record("no time was counted between views and rotations: the file does not tell it")


def _table(arcs: Sequence[HeadArc], radii: Sequence[Array]) -> Array:
    """A row for each frame, in the order (head, rotation, view), with the columns _FRAME to _START."""
    rows, clock = [], dict.fromkeys((arc.head for arc in arcs), 0.0)
    for arc, radii_mm in zip(arcs, radii, strict=True):
        frames = arc.frames.where(np.argsort(arc.frames.view))
        k = frames.view - arc.first
        seconds = arc.rotation.seconds
        begin_s = clock[arc.head] + np.nan_to_num(seconds) * k
        angles = arc.start_deg + arc.signed_step_deg * k
        columns = np.broadcast_arrays(frames.number, frames.window, arc.head, angles, radii_mm[k], seconds, begin_s)
        rows.append(np.stack(columns, axis=1))
        clock[arc.head] += float(np.nan_to_num(seconds)) * arc.views
    return np.concatenate(rows)


def _matched(rows: Array, reference: Array, item: Item) -> Array:
    """Frames (v,) of a window in the order of the reference window's views: same head, angle, radius and time."""
    frames = rows[:, _FRAME].astype(np.int64)
    windows = [int(table[0, _WINDOW]) + 1 for table in (rows, reference)]
    if len(rows) == len(reference):
        if np.array_equal(rows[:, _HEAD:], reference[:, _HEAD:], equal_nan=True):
            return frames
        orders = [
            np.lexsort((np.mod(np.round(table[:, _ANGLE], 4), 360.0), table[:, _HEAD])) for table in (rows, reference)
        ]
        here, there = rows[orders[0]], reference[orders[1]]
        if (
            np.array_equal(here[:, _HEAD], there[:, _HEAD])
            and np.abs(signed_deg(here[:, _ANGLE] - there[:, _ANGLE])).max() < 0.05
            and np.allclose(here[:, _RADIUS], there[:, _RADIUS], rtol=0, atol=1.0)
            and np.allclose(here[:, _SECONDS], there[:, _SECONDS], equal_nan=True)
        ):
            item.notes.warn(
                f"energy windows {windows[0]} and {windows[1]} were taken in different rotations: their views were "
                f"matched by angle, times are those of window {windows[1]}"
            )
            matched = np.empty_like(frames)
            matched[orders[1]] = frames[orders[0]]
            return matched
    raise item.error(
        f"EnergyWindowVector gives window {windows[0]} other views than window {windows[1]} ({len(rows)} and "
        f"{len(reference)} frames): windows must have the same angles, radii and times"
    )
