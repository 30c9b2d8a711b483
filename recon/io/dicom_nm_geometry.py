"""Where the heads of a DICOM NM TOMO file stood: angles, times and radii of every view.

DICOM's angles are ours (0 deg = detector at the patient's back, growing counter-clockwise seen from the feet), so
nothing is turned here. What vendors leave out or write twice is resolved by rules that stand in docs/formats.md; each
rule that was used becomes a line of history, and what stays doubtful a warning.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from spectac.recon.errors import InputError
from spectac.recon.given import Given
from spectac.recon.io.arcs import step_from_arc
from spectac.recon.io.dicom_file import Item, name_of
from spectac.recon.io.dicom_nm_frames import Frames, Notes
from spectac.recon.io.dicom_nm_radii import read_radii
from spectac.recon.types import Array


@dataclass(frozen=True)
class Views:
    """The views of one orbit in the order (detector, rotation, time): everything of shape (v,), `frames` (w, v).

    `frames[w, v]` is the frame of the file with window `windows[w]`. Angles in degrees, radii in mm, times in s.
    `starts` holds for each head its number (from 0) and the angle of its first view.
    """

    frames: Array
    windows: tuple[int, ...]
    detector: Array
    angles_deg: Array
    radii_mm: Array
    seconds: Array
    start_s: Array
    starts: tuple[tuple[int, float], ...]


_SENSES = {
    "CC": "cc", "CCW": "cc", "C": "cc", "COUNTERCLOCKWISE": "cc", "COUNTER-CLOCKWISE": "cc", "ANTICLOCKWISE": "cc",
    "CW": "cw", "CLOCKWISE": "cw", "CLOCK-WISE": "cw",
}  # fmt: skip
"""Spellings of RotationDirection; DICOM has CC and CW."""

_SHORTEST_S, _LONGEST_S = 0.5, 1800.0
"""A view of SPECT takes seconds to a few minutes: beyond, ActualFrameDuration is not in ms."""


class _Rotation:
    """What one item of RotationInformationSequence says, completed by what the user gives."""

    def __init__(self, item: Item, whole: Item, given: Given, notes: Notes) -> None:
        self.item = item
        step = given.step_deg if given.step_deg is not None else item.number("AngularStep")
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
            return self._step_of_arc(views, notes)
        if self.arc_deg:
            arcs = [self.step_deg * n for n in (views, views - 1, views * heads)]
            if not any(abs(arc - self.arc_deg) <= max(0.5 * self.step_deg, 0.5) for arc in arcs):
                notes.warn(
                    f"ScanArc is {self.arc_deg:g} deg, but {views} views of AngularStep {self.step_deg:g} deg make "
                    f"{arcs[0]:g}: the step was used"
                )
        return self.step_deg

    def _step_of_arc(self, views: int, notes: Notes) -> float:
        """Angle between views from the arc of one head."""
        assert self.arc_deg is not None
        step, doubt = step_from_arc(self.arc_deg, views)
        if doubt is not None:
            notes.warn(doubt)
        else:
            notes.warn(
                f"no AngularStep: {step:g} deg were taken from ScanArc {self.arc_deg:g} deg over {views} views "
                "(--step-deg gives another)"
            )
        return step


def read_views(item: Item, frames: Frames, reference_window: int, given: Given, notes: Notes) -> Views:
    """Views of all heads and rotations, the same for every window; `reference_window` gives times where they differ.

    Raises InputError where angles or radii are missing, two heads stand at one angle, beds differ, or windows do not
    have the same views.
    """
    heads = np.unique(frames.detector)
    detectors = detector_items(item, frames)
    rotations = [_Rotation(one, item, given, notes) for one in _rotation_sequence(item, detectors, given)]
    if len(item.items("DetectorInformationSequence")) == 1 < len(heads) and given.head_angles_deg is None:
        raise item.error(
            "DetectorInformationSequence",
            f"has 1 item for {len(heads)} heads ({name_of('DetectorVector')}): where they stood is unknown, give "
            "--head-angles, the angle of each head's first view (e.g. --head-angles 0,180)",
        )
    index = _rotation_items(item, frames, rotations, heads, notes)
    if "CONTINUOUS" in (item.text("TypeOfDetectorMotion") or "").upper():
        notes.warnings.append(
            f"{name_of('TypeOfDetectorMotion')} is CONTINUOUS: every view is taken to lie at its nominal angle, which "
            "may be off by half a step"
        )
    _refuse_beds([rotations[i].item for i in sorted(set(index.values()))])
    orbit = _Orbit(item, frames, rotations, detectors, index, given, notes)
    return orbit.views(reference_window)


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


def _rotation_sequence(item: Item, detectors: Mapping[int, Item], given: Given) -> list[Item]:
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


def _rotation_items(
    item: Item, frames: Frames, rotations: list[_Rotation], heads: Array, notes: Notes
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


def _refuse_beds(items: list[Item]) -> None:
    for keyword in ("TableTraverse", "TableHeight"):
        values = [value for one in items if (value := one.optional_number(keyword)) is not None]
        if values and max(values) - min(values) > 0.5:
            listed = ", ".join(f"{value:g}" for value in values)
            raise items[0].error(
                keyword, f"differs between rotations ({listed} mm): several bed positions are not read"
            )


class _Orbit:
    """Angles, times and radii of every (detector, rotation) of a file."""

    def __init__(
        self,
        item: Item,
        frames: Frames,
        rotations: list[_Rotation],
        detectors: Mapping[int, Item],
        index: dict[tuple[int, int], int],
        given: Given,
        notes: Notes,
    ) -> None:
        self.item, self.frames, self.rotations, self.detectors, self.index = item, frames, rotations, detectors, index
        self.radius_mm, self.notes = given.radius_mm, notes
        self.pairs = sorted(index)
        self.heads = sorted({d for d, _ in self.pairs})
        head_angles_deg = given.head_angles_deg
        if head_angles_deg is not None and len(head_angles_deg) != len(self.heads):
            raise InputError(
                f"{item.path}: --head-angles needs one angle for each of the {len(self.heads)} heads, "
                f"got {len(head_angles_deg)}"
            )
        self.given = None if head_angles_deg is None else dict(zip(self.heads, head_angles_deg, strict=True))
        self.first, self.count = {}, {}
        for pair in self.pairs:
            self.first[pair], self.count[pair] = self._numbering(pair)
        self.step = {
            pair: rotations[index[pair]].step_for(self.count[pair], len(self.heads), notes) for pair in self.pairs
        }
        self.start = self._starts()
        self._weigh_covering()
        self.radii = self._radii()
        self._tell()

    def _of(self, pair: tuple[int, int]) -> Array:
        return np.flatnonzero((self.frames.detector == pair[0]) & (self.frames.rotation == pair[1]))

    def _numbering(self, pair: tuple[int, int]) -> tuple[int, int]:
        """First view number (from 0) of a head in a rotation, and how many views it has there."""
        rotation = self.rotations[self.index[pair]]
        numbers = np.unique(self.frames.view[self._of(pair)])
        promised = rotation.frames
        beside = [self.frames.view[self._of(p)] for p in self.pairs if p[1] == pair[1] and p != pair]
        alone = bool(beside) and not any(np.isin(numbers, other).any() for other in beside)
        counted_from_one = not alone and promised and numbers.max() < promised
        first = 0 if counted_from_one else int(numbers.min())
        count = int(numbers.max()) - first + 1
        if len(numbers) != count:
            raise self.item.error(
                "AngularViewVector", f"leaves out views: {len(numbers)} of {count} are there for detector {pair[0] + 1}"
            )
        windows = len(np.unique(self.frames.window))
        # Some count the frames of all heads, or of all windows as well.
        meant = {count * heads * held for heads in (1, len(self.heads)) for held in (1, windows)}
        if promised and promised not in meant:
            why = (
                "the frames' own numbers were used"
                if count > promised
                else "the acquisition seems to have been stopped"
            )
            self.notes.warn(
                f"NumberOfFramesInRotation is {promised}, but detector {pair[0] + 1} has {count} views: {why}"
            )
        return first, count

    def _starts(self) -> dict[tuple[int, int], float]:
        """Angle of the first view of each head in each rotation.

        The caller's angle decides, else the detector item's StartAngle, else the rotation item's. A head's angle is
        that of its first rotation; later rotations start as much later as their own StartAngles say.
        """
        starts, sources = {}, {}
        for head in self.heads:
            mine = [pair for pair in self.pairs if pair[0] == head]
            own = self.detectors[head].optional_number("StartAngle") if self.detectors else None
            begun = self.rotations[self.index[mine[0]]].start_deg
            for pair in mine:
                rotation = self.rotations[self.index[pair]]
                if self.given is not None:
                    base, source = self.given[head], "given by the user"
                elif own is not None:
                    base, source = own, "StartAngle of the detector item"
                elif begun is not None:
                    base, source = begun, "StartAngle of the rotation item"
                    base += self._numbered_on(pair, mine) * rotation.sign * self.step[pair]
                else:
                    raise rotation.item.error(
                        "StartAngle", f"is missing, for head {head + 1} too: give --head-angles, the angle of each head"
                    )
                if pair != mine[0]:
                    if rotation.start_deg is None or begun is None:
                        raise rotation.item.error("StartAngle", "is missing in one of several rotations")
                    base += rotation.start_deg - begun
                starts[pair], sources[head] = base, source
            if own is not None and begun is not None and head == self.heads[0] and abs(_turn(own - begun)) > 0.5:
                self.notes.warnings.append(
                    f"StartAngle is {own:g} deg in the detector item and {begun:g} deg in the rotation item of head "
                    f"{head + 1}: the detector's was used"
                )
        self._refuse_heads_together(starts)
        self.sources = sources
        return starts

    def _weigh_covering(self) -> None:
        """Heads that turn together should not see the same angles: then an arc is all heads' together, or doubtful."""
        if len(self.heads) < 2 or len(self.pairs) != len(self.heads):
            return
        covered = self._covered_deg()
        step = self.step[self.pairs[0]]
        if covered < step:
            return
        rotations = [self.rotations[self.index[pair]] for pair in self.pairs]
        if all(one.step_deg is None for one in rotations):
            taken = dict(self.step)
            self.step = {pair: step / len(self.heads) for pair, step in taken.items()}
            if self._covered_deg() < step / len(self.heads):
                self.notes.warn(
                    f"{name_of('ScanArc')} was read as the arc of all heads together, {step / len(self.heads):g} deg a "
                    f"step: as that of each head, {step:g} deg a step, the heads would cover one another over "
                    f"{covered:.0f} deg (--step-deg gives another)"
                )
                self.start = self._starts()
                return
            self.step = taken
        if covered < 0.9 * step * self.count[self.pairs[0]]:
            self.notes.warn(
                f"the heads cover one another over {covered:.0f} deg: check the start angles and the step of {step:g} "
                "deg (--head-angles, --step-deg)"
            )

    def _covered_deg(self) -> float:
        """Arc over which two neighbouring heads see the same angles; 0 where each sees its own."""
        spans = sorted(
            (
                (min(begin, begin + way) % 360.0, abs(way))
                for pair in self.pairs
                for begin, way in [
                    (self.start[pair], self.rotations[self.index[pair]].sign * self.step[pair] * (self.count[pair] - 1))
                ]
            )
        )
        following = [*spans[1:], (spans[0][0] + 360.0, spans[0][1])]
        return max(0.0, *(begin + way - after for (begin, way), (after, _) in zip(spans, following, strict=True)))

    def _numbered_on(self, pair: tuple[int, int], mine: list[tuple[int, int]]) -> int:
        """Views before this head's first where the heads of one rotation are numbered on (1-60, 61-120), else 0."""
        rotation = self.rotations[self.index[pair]]
        numbered_on = (
            len(self.heads) > 1
            and len(mine) == 1
            and rotation.frames == sum(self.count[p] for p in self.pairs if p[1] == pair[1])
            and len({self.first[p] for p in self.pairs}) == len(self.heads)
        )
        first = int(self.frames.view[self._of(pair)].min())
        return first if numbered_on and self.first[pair] == first else 0

    def _refuse_heads_together(self, starts: dict[tuple[int, int], float]) -> None:
        for i, one in enumerate(self.pairs):
            for other in self.pairs[i + 1 :]:
                at_once = one[0] != other[0] and (one[1] == other[1] or len(self.pairs) == len(self.heads))
                if at_once and abs(_turn(starts[one] - starts[other])) < 0.5:
                    raise self.item.error(
                        "StartAngle",
                        f"puts heads {one[0] + 1} and {other[0] + 1} both at {starts[one]:g} deg: give --head-angles, "
                        "the angle of each head's first view (e.g. --head-angles 0,180)",
                    )

    def _radii(self) -> dict[tuple[int, int], Array]:
        if self.radius_mm is not None:
            return {pair: np.full(self.count[pair], float(self.radius_mm)) for pair in self.pairs}
        items = {pair: self.rotations[self.index[pair]].item for pair in self.pairs}
        sign = {pair: self.rotations[self.index[pair]].sign for pair in self.pairs}
        first = {head: next(sign[pair] for pair in self.pairs if pair[0] == head) for head in self.heads}
        backwards = {pair for pair in self.pairs if sign[pair] != first[pair[0]]}
        return read_radii(self.item, self.detectors, items, self.count, backwards, self.notes)

    def _tell(self) -> None:
        """History in words: heads, start angles and their source, direction, steps, rotations."""
        lines = []
        for pair in self.pairs:
            rotation = self.rotations[self.index[pair]]
            many = f", rotation {pair[1] + 1}" if len({r for _, r in self.pairs}) > 1 else ""
            lines.append(
                f"head {pair[0] + 1}{many}: {self.count[pair]} views from {self.start[pair] % 360:g} deg "
                f"({self.sources[pair[0]]}), every {self.step[pair]:g} deg {rotation.sense} seen from the feet"
            )
        self.notes.history += lines
        if any(np.isnan(self.rotations[i].seconds) for i in self.index.values()):
            self.notes.warn(
                f"{name_of('ActualFrameDuration')} is missing or 0: images will be relative, not in cps/mL; "
                "--view-seconds gives the time of a view"
            )
        else:
            self.notes.history.append("no time was counted between views and rotations: the file does not tell it")

    def views(self, reference_window: int) -> Views:
        """Everything put together, in the order (detector, rotation, time)."""
        windows = np.unique(self.frames.window)
        tables = {int(w): self._table(int(w)) for w in windows}
        reference = tables[reference_window]
        frames = np.stack([self._matched(tables[int(w)], reference, int(w), reference_window) for w in windows])
        starts = tuple((head, next(self.start[p] for p in self.pairs if p[0] == head)) for head in self.heads)
        detector, angles, radii, seconds, begin = (np.asarray(column, np.float64) for column in reference[1:])
        return Views(
            frames,
            tuple(int(w) for w in windows),
            detector.astype(np.int64),
            np.mod(np.round(angles, 9), 360.0),
            radii,
            seconds,
            begin,
            starts,
        )

    def _table(self, window: int) -> tuple[list[int], list[int], list[float], list[float], list[float], list[float]]:
        """Frames, detectors, angles, radii, seconds and start times of the views of one window."""
        frames: list[int] = []
        detector: list[int] = []
        angles: list[float] = []
        radii: list[float] = []
        seconds: list[float] = []
        begin: list[float] = []
        clock = dict.fromkeys(self.heads, 0.0)
        for pair in self.pairs:
            rotation = self.rotations[self.index[pair]]
            own = self._of(pair)
            duration = 0.0 if np.isnan(rotation.seconds) else rotation.seconds
            mine = own[self.frames.window[own] == window]
            mine = mine[np.argsort(self.frames.view[mine])]
            k = self.frames.view[mine] - self.first[pair]
            frames += mine.tolist()
            detector += [pair[0]] * len(mine)
            angles += (self.start[pair] + rotation.sign * self.step[pair] * k).tolist()
            radii += self.radii[pair][k].tolist()
            seconds += [rotation.seconds] * len(mine)
            begin += (clock[pair[0]] + duration * k).tolist()
            clock[pair[0]] += duration * self.count[pair]
        return frames, detector, angles, radii, seconds, begin

    def _matched(self, table: tuple, reference: tuple, window: int, reference_window: int) -> Array:
        """Frames (v,) of a window in the order of the reference window's views: same head, angle, radius and time."""
        frames, detector, angles, radii, seconds = (np.asarray(column) for column in table[:5])
        wanted = [np.asarray(column) for column in reference[:5]]
        if frames.size == wanted[0].size:
            order = np.lexsort((np.mod(np.round(angles, 4), 360.0), detector))
            order_wanted = np.lexsort((np.mod(np.round(wanted[2], 4), 360.0), wanted[1]))
            if table[1:] == reference[1:]:
                return frames
            alike = (
                np.array_equal(detector[order], wanted[1][order_wanted])
                and np.abs(_turn(angles[order] - wanted[2][order_wanted])).max() < 0.05
                and np.allclose(radii[order], wanted[3][order_wanted], rtol=0, atol=1.0)
                and np.allclose(seconds[order], wanted[4][order_wanted], equal_nan=True)
            )
            if alike:
                self.notes.warn(
                    f"energy windows {window + 1} and {reference_window + 1} were taken in different rotations: their "
                    f"views were matched by angle, times are those of window {reference_window + 1}"
                )
                matched = np.empty_like(frames)
                matched[order_wanted] = frames[order]
                return matched
        raise self.item.error(
            "EnergyWindowVector",
            f"gives window {window + 1} other views than window {reference_window + 1} ({frames.size} and "
            f"{wanted[0].size} frames): windows must have the same angles, radii and times",
        )


def _turn(angle_deg: float | Array) -> Array:
    """The same angle between -180 and 180 deg."""
    return np.mod(np.asarray(angle_deg) + 180.0, 360.0) - 180.0
