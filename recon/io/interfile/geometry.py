"""Where the detector stood, from the keys of an Interfile header: heads, angles, times; one mapping a dialect.

Interfile 3.3 says neither what zero degrees is nor from which side CW is seen. Ours: 0 deg = detector at the patient's
back, growing counter-clockwise seen from the feet, columns u to the detector's right looking at the patient, row 0
inferior. The mappings, each with its evidence:

- STIR: a = start angle, CCW growing, CW falling. STIR's own converter copies DICOM's start angle and frames and writes
  DICOM's CC as CCW. (STIR's projector then shows such data mirrored in x, as the README of its test data says.) On
  those data the opposite sense of rotation raises chi^2 per bin from 1.3 to 8.3 (tests/recon/io/test_real_data.py).
- SIMIND: a = 180 - start angle, CCW growing, CW falling. Its manual (version 7) puts zero at the anterior position,
  calls a positive start angle and a positive rotation clockwise, and views the patient from the feet.

In both, the file's rows run from superior to inferior (SIMIND: "Image Orientation 1 0 0 0 0 -1"; STIR: as DICOM), so
they are reversed; the columns stay. sweep.py goes the other way.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from spectac.recon.given import Given
from spectac.recon.io.arcs import step_from_arc
from spectac.recon.io.interfile.header import Header, distinct
from spectac.recon.io.interfile.sweep import EVEN_DEG
from spectac.recon.types import Array

MAPPING = {
    "STIR": "Interfile angles mapped as STIR's: 0 deg = detector at the patient's back, CCW seen from the feet; "
    "columns kept, rows reversed (file row 0 = superior)",
    "SIMIND": "Interfile angles mapped as SIMIND's: 0 deg = detector in front of the patient, positive = clockwise "
    "seen from the feet; columns kept, rows reversed (file row 0 = superior)",
}

MU_AXES = {
    "STIR": "an Interfile image does not say where it lies: read as STIR's SPECT projector takes it, centred on the "
    "rotation axis, x to the patient's right, y to posterior, z to inferior; check left and right",
    "SIMIND": "the mu-map of SIMIND was centred on the rotation axis: x to left, y to posterior, first slice superior",
}

_CLOCKWISE = {"cw": -1, "clockwise": -1, "ccw": 1, "cc": 1, "counterclockwise": 1, "anticlockwise": 1}

_KNOWN_PROGRAMS = ("stir", "simset", "simind", "spectac")
"""Words of programs whose angles are known; SimSET's are written by STIR's converter."""

SHORTEST_VIEW_S, LONGEST_VIEW_S = 0.5, 1000.0
"""No camera takes less than half a second for a view or more than a quarter of an hour: that is in other units."""


_MOST_HEADS = 64


def dialect_of(header: Header) -> tuple[str, list[str]]:
    """Choose "SIMIND" for headers as SIMIND writes them, else "STIR"; and a warning for programs that are not known.

    A header of SIMIND that was rewritten for STIR counts as STIR's, with a warning.
    """
    program = _program(header)
    if program != "simind":
        if program is None:
            return "STIR", []
        return "STIR", [
            f"headers of '{program}' are not known: angles were taken as STIR's (0 deg = at the back); check left and "
            "right, front and back against a known image"
        ]
    if "energy window lower level" in header.comments or (header.text("number format") or "").lower() == "short float":
        return "SIMIND", []
    return "STIR", ["a header of SIMIND rewritten for STIR: its angles were taken as STIR's (0 deg = at the back)"]


def _program(header: Header) -> str | None:
    """Name of the program that wrote the header: "simind", None for STIR and where nothing tells, else a name.

    Without 'originating system' its author, the conversion program and the keys that only one program has tell.
    """
    evidence = [
        text
        for key in ("originating system", "conversion program", "program author")
        for text in header.texts(key, comments=True)
    ]
    words = " ".join(evidence).lower()
    own = {**header.keys, **header.comments}
    if "simind" in words or "ljungberg" in words or "simind-specific parameters" in own:
        return "simind"
    described = " ".join(header.texts("data description", comments=True))
    gate = any(key.startswith(("gate geometry", "gate simulation")) for key in own)
    if gate or re.search(r"\bgate\b", f"{words} {described.lower()}"):
        return "GATE"
    unknown = [text for text in evidence if not any(one in text.lower() for one in _KNOWN_PROGRAMS)]
    return unknown[0].lower() if unknown else None


@dataclass(frozen=True)
class Layout:
    """How the images of a data file follow one another: `windows`, in each the `views` of every head in turn.

    `counted`: the projections over which the header's arc goes, for each head: its own, or those of all heads.
    """

    views: tuple[int, ...]
    windows: int
    counted: tuple[int, ...]

    @property
    def heads(self) -> int:
        """Number of heads."""
        return len(self.views)

    @property
    def detector(self) -> Array:
        """Head (v,) of each view, from 0."""
        return np.repeat(np.arange(self.heads), self.views)


def layout(header: Header, held_images: int, warnings: list[str]) -> Layout:
    """Heads, views of each head, and windows in a data file of so many images.

    'number of projections' is that of one head or of all; the total number of images tells, else the data file.
    """
    heads = header.count("number of detector heads", least=0) or 1
    if heads > _MOST_HEADS:
        raise header.error(f"'number of detector heads' is {heads}: at most {_MOST_HEADS} are read")
    windows = header.count("number of energy windows", least=0) or 1
    projections = _each_head(header, "number of projections", heads)
    counts = tuple(header.as_count("number of projections", text) for text in projections)
    of_heads = Layout(counts, windows, counts)
    fits = {windows * sum(counts): of_heads}
    if len(set(counts)) == 1 and counts[0] % heads == 0:
        fits.setdefault(windows * counts[0], Layout((counts[0] // heads,) * heads, windows, counts))
    images = header.count("total number of images")
    if images is None and (each := header.count("number of images/energy window")) is not None:
        images = windows * each
    if images in fits:
        return fits[images]
    if images is None:
        return of_heads if held_images >= windows * sum(counts) else fits.get(held_images, of_heads)
    doubt = (
        f"'total number of images := {images}' does not fit {windows} energy windows, {heads} heads and "
        f"{counts[0]} projections"
    )
    if held_images not in fits:
        raise header.error(doubt)
    warnings.append(f"{doubt}: the data file holds {held_images} images, which do")
    return fits[held_images]


def _each_head(header: Header, key: str, heads: int, option: str | None = None) -> list[str]:
    """The key's value for each head: one for all, or, where a block for each head repeats the key, its own."""
    texts = once_a_head(header.texts(key), heads)
    if len(texts) == heads and heads > 1:
        return texts
    return [header.required(key, option=option)] * heads


def once_a_head(values: list[Any], heads: int) -> list[Any]:
    """The first block of values, one for each head, where the blocks of further energy windows repeat it."""
    blocks = [values[start : start + heads] for start in range(0, len(values), heads)]
    return blocks[0] if blocks and all(block == blocks[0] for block in blocks) else values


def view_angles_deg(header: Header, dialect: str, views: Layout, given: Given, warnings: list[str]) -> Array:
    """View angles (v,) in our convention, the views of each head one after the other."""
    senses = _senses(header, views.heads, given)
    starts = _starts_deg(header, dialect, senses, given, warnings)
    readings = _steps_deg(header, views, given, warnings)
    angles = [
        [
            start + sense * step * np.arange(n)
            for start, sense, step, n in zip(starts, senses, steps, views.views, strict=True)
        ]
        for steps, _ in readings
    ]
    chosen = 0
    if len(readings) > 1:
        even = [_evenly_spaced(np.concatenate(one)) for one in angles]
        chosen = 1 if even[1] and not even[0] else 0
        if chosen or not even[0]:
            told = " or ".join(f"{steps[0]:g} deg" for steps, _ in readings)
            warnings.append(
                f"'extent of rotation' belongs to one head or to all, a step of {told}: read as "
                f"{readings[chosen][0][0]:g} deg (--step-deg)"
            )
    warnings += dict.fromkeys(doubt for doubt in readings[chosen][1] if doubt)
    _check_heads(header, angles[chosen], readings[chosen][0], warnings)
    return np.mod(np.concatenate(angles[chosen]), 360.0)


def _senses(header: Header, heads: int, given: Given) -> list[int]:
    """+1 for a head whose angles grow, -1 for the other sense."""
    if given.rotation is not None:
        return [1 if given.rotation == "cc" else -1] * heads
    senses = []
    for text in _each_head(header, "direction of rotation", heads, "--rotation"):
        sense = _CLOCKWISE.get(re.sub(r"[\s_-]", "", text.lower()))
        if sense is None:
            raise header.error(f"'direction of rotation' must be CW or CCW, got '{text.lower()}': give --rotation")
        senses.append(sense)
    return senses


def _steps_deg(
    header: Header, views: Layout, given: Given, warnings: list[str]
) -> list[tuple[list[float], list[str | None]]]:
    """Readings of each head's step, with doubts: the arc over the projections that the header counts, else a head's."""
    if given.step_deg is not None:
        return [([given.step_deg] * views.heads, [])]
    arcs = []
    for text in _each_head(header, "extent of rotation", views.heads, "--step-deg"):
        arc = header.as_number("extent of rotation", text, "deg")
        if not 0 < abs(arc) <= 3600:
            raise header.error(
                f"'extent of rotation' must lie between 0 and 3600 deg, got {arc:g}: give --step-deg, the angle "
                "between views"
            )
        if arc < 0:
            told = f"'extent of rotation' is {arc:g}: the sense was taken from 'direction of rotation' (--rotation)"
            warnings += [] if told in warnings else [told]
            arc = -arc
        arcs.append(arc)
    readings = []
    for counts in dict.fromkeys((views.counted, views.views)):
        pairs = [step_from_arc(arc, count) for arc, count in zip(arcs, counts, strict=True)]
        readings.append(([step for step, _ in pairs], [doubt and f"extent of rotation: {doubt}" for _, doubt in pairs]))
    return readings


def _starts_deg(header: Header, dialect: str, senses: list[int], given: Given, warnings: list[str]) -> list[float]:
    """Angle of each head's first view in our convention."""
    heads = len(senses)
    if given.head_angles_deg is not None:
        if len(given.head_angles_deg) != heads:
            raise header.error(
                f"--head-angles needs one angle for each of the {heads} heads, got {len(given.head_angles_deg)}"
            )
        return list(given.head_angles_deg)
    stated, first = _angles_under(header, "start angle", heads), _angles_under(header, _FIRST_ANGLE, heads)
    if (
        stated
        and len(first) == len(stated)
        and any(abs(_turned(a - b)) > 0.5 for a, b in zip(stated, first, strict=True))
    ):
        warnings.append(
            f"'start angle' is {_listed(stated)} deg, '{_FIRST_ANGLE}' {_listed(first)} deg: the first was used "
            "(--head-angles)"
        )
    stated = stated or first
    if heads == 1 and len(set(stated)) != 1:
        stated = [header.as_number("start angle", header.required("start angle", option="--head-angles"), "deg")]
    if heads > 1 and len(stated) != heads:
        raise header.error(
            f"names {heads} detector heads but {len(stated)} start angles: give --head-angles, the angle of each "
            "head's first view, 0 = at the patient's back, growing counter-clockwise seen from the feet"
        )
    if dialect == "SIMIND" and any(sense < 0 and angle % 180.0 for sense, angle in zip(senses, stated, strict=False)):
        warnings.append(
            "a clockwise SIMIND orbit that does not start at 0 or 180 deg: read as its manual says (positive = "
            "clockwise), other readers turn the start the other way; check that the nose points to the front"
        )
    return [180.0 - angle if dialect == "SIMIND" else angle for angle in stated[:heads]]


_FIRST_ANGLE = "first projection angle in data set"


def _angles_under(header: Header, key: str, heads: int) -> list[float]:
    """All angles in degrees under a key, which may be repeated or hold a list."""
    texts = once_a_head(header.texts(key), heads)
    return [
        angle for text in texts for angle in header.as_numbers(key, text, "deg", (1,) if heads == 1 else (1, heads))
    ]


def _listed(angles: list[float]) -> str:
    return ", ".join(f"{angle:g}" for angle in angles)


def _turned(angle_deg: float) -> float:
    """The same angle between -180 and 180 deg."""
    return (angle_deg + 180.0) % 360.0 - 180.0


def _evenly_spaced(angles_deg: Array) -> bool:
    """True where the views of all heads together leave at most one gap that differs from the others."""
    rising = np.sort(np.mod(angles_deg, 360.0))
    gaps = np.sort(np.diff(rising, append=rising[0] + 360.0))[:-1]
    return bool(gaps.size and gaps[0] > 2 * EVEN_DEG and gaps[-1] - gaps[0] < 2 * EVEN_DEG)


def _check_heads(header: Header, angles: list[Array], steps: list[float], warnings: list[str]) -> None:
    """Refuse heads that stand in one place; warn of heads that take the same views one after the other."""
    for one in range(len(angles)):
        for other in range(one + 1, len(angles)):
            if abs(_turned(float(angles[one][0] - angles[other][0]))) < 0.5:
                raise header.error(
                    f"heads {one + 1} and {other + 1} both start at {angles[one][0] % 360:g} deg: give --head-angles, "
                    "the angle of each head's first view (e.g. --head-angles 0,180)"
                )
    together = np.mod(np.concatenate(angles) + EVEN_DEG, 360.0).round(1)
    if len(angles) > 1 and np.unique(together).size == len(angles[0]):
        warnings.append(
            f"every head takes the same {len(angles[0])} views, {steps[0]:g} deg apart; if 'extent of rotation' is "
            f"that of all heads together, give --step-deg {steps[0] / len(angles):g}"
        )


def view_seconds(header: Header, views: Layout, given: Given, warnings: list[str]) -> Array:
    """Seconds (v,) of each view, NaN when the header does not say (or says 0)."""
    if given.view_seconds is not None:
        return np.full(sum(views.views), given.view_seconds)
    key, option = "time per projection", "--view-seconds"
    found = _seconds(header, key, views.heads)
    total = next(
        (all_s for name in ("image duration", "image duration[1]") if (all_s := _seconds(header, name, 1))), []
    )
    if not found and not total:
        warnings.append(
            f"the header gives no time per projection: images will be relative, not in counts per second ({option})"
        )
        return np.full(sum(views.views), math.nan)
    if not found:
        key = "image duration"
        found = [total[0] / n for n in views.views]
    else:
        meant = (found[0], found[0] * views.views[0], found[0] * sum(views.views))
        if total and not any(math.isclose(total[0], one, rel_tol=0.02) for one in meant):
            warnings.append(
                f"'time per projection' is {found[0]:g} s, 'image duration' {total[0]:g} s for {views.views[0]} views: "
                f"the first was used ({option})"
            )
    seconds = np.repeat(found * (views.heads // len(found)), views.views)
    if not SHORTEST_VIEW_S <= seconds.min() <= seconds.max() <= LONGEST_VIEW_S:
        shown = seconds.min() if seconds.min() < SHORTEST_VIEW_S else seconds.max()
        warnings.append(
            f"'{key}' means {shown:g} s a view, which no camera takes: if it is in other units, or the time of all "
            f"views or of each, give {option}"
        )
    return seconds


def _seconds(header: Header, key: str, heads: int) -> list[float]:
    """Times above 0 under a key: one, or one for each head; none where there is no such key."""
    found = [factor * header.as_number(name, text, "s") for name, text, factor in header.measures(key, "s")]
    found = once_a_head([time for time in found if time], heads)
    if found and min(found) < 0:
        raise header.error(f"'{key}' is {min(found):g} s: it must be above 0: give --view-seconds")
    if len(distinct(found)) > 1 and len(found) != heads:
        raise header.error(
            f"key '{key}' is given more than once, as {_listed(found)} s: keep one, or give --view-seconds"
        )
    return found if len(distinct(found)) > 1 else found[:1]
