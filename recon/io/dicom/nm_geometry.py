"""Where the heads of a DICOM NM TOMO file stood: angles, times and radii of every view.

DICOM's angles are ours (0 deg = detector at the patient's back, growing counter-clockwise seen from the feet), so
nothing is turned here. What vendors leave out or write twice is resolved by rules that stand in docs/formats.md; each
rule that was used becomes a line of history, and what stays doubtful a warning.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.given import Given
from spectac.recon.io.dicom.file import Item, name_of
from spectac.recon.io.dicom.nm_frames import Frames, Notes
from spectac.recon.io.dicom.nm_radii import read_radii
from spectac.recon.io.dicom.nm_rotation import (
    Rotation,
    detector_items,
    items_of_rotations,
    refuse_beds,
    rotation_sequence,
)
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


def read_views(item: Item, frames: Frames, reference_window: int, given: Given, notes: Notes) -> Views:
    """Views of all heads and rotations, the same for every window; `reference_window` gives times where they differ.

    Raises InputError where angles or radii are missing, two heads stand at one angle, beds differ, or windows do not
    have the same views.
    """
    heads = np.unique(frames.detector)
    detectors = detector_items(item, frames)
    rotations = [Rotation(one, item, given, notes) for one in rotation_sequence(item, detectors, given)]
    if len(item.items("DetectorInformationSequence")) == 1 < len(heads) and given.head_angles_deg is None:
        raise item.error(
            "DetectorInformationSequence",
            f"has 1 item for {len(heads)} heads ({name_of('DetectorVector')}): where they stood is unknown, give "
            "--head-angles, the angle of each head's first view (e.g. --head-angles 0,180)",
        )
    index = items_of_rotations(item, frames, rotations, heads, notes)
    if "CONTINUOUS" in (item.text("TypeOfDetectorMotion") or "").upper():
        notes.warnings.append(
            f"{name_of('TypeOfDetectorMotion')} is CONTINUOUS: every view is taken to lie at its nominal angle, which "
            "may be off by half a step"
        )
    refuse_beds([rotations[i].item for i in sorted(set(index.values()))])
    orbit = _Orbit(item, frames, rotations, detectors, index, given, notes)
    return orbit.views(reference_window)


class _Orbit:
    """Angles, times and radii of every (detector, rotation) of a file."""

    def __init__(
        self,
        item: Item,
        frames: Frames,
        rotations: list[Rotation],
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
        for rotation in rotations:
            if rotation.arc_note:
                notes.warn(rotation.arc_note)
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
                for one in rotations:
                    one.arc_note = ""
                return
            self.step = taken
        turn = step * self.count[self.pairs[0]]
        agrees = any(one.arc_deg is not None and abs(one.arc_deg - turn) < step for one in rotations)
        if turn < 360.0 - step and not agrees:
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
