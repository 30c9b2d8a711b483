"""The views of an Interfile header: heads, how many views each has, their angles and their times.

How a program's angles map to ours stands in dialect.py; sweep.py goes the other way.
"""

import math
import re
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from spectac.recon.io.arcs import head_starts_deg, step_from_arc
from spectac.recon.io.interfile.header import Header, listed, once_a_head
from spectac.recon.io.interfile.sweep import EVEN_DEG
from spectac.recon.settings import StudySettings
from spectac.recon.types import Array

_CLOCKWISE = {"cw": -1, "clockwise": -1, "ccw": 1, "cc": 1, "counterclockwise": 1, "anticlockwise": 1}
"""Words for the sense of rotation, and the sign of our step."""

_FIRST_ANGLE = "first projection angle in data set"

_MOST_HEADS = 64

_LARGEST_ARC_DEG = 3600.0

SHORTEST_VIEW_S = 0.5
LONGEST_VIEW_S = 1000.0
"""No camera takes less than half a second for a view or more than a quarter of an hour: that is in other units."""

_SAME_PLACE_DEG = 0.5
"""Heads and angles closer than this are in one place."""

_Steps = list[tuple[float, str | None]]
"""One reading of the header's arc: each head's angle between views, and a doubt about it."""


@dataclass(frozen=True)
class Layout:
    """How the images of a data file follow one another: windows, in each the views of every head in turn.

    Parameters
    ----------
    views : tuple of int
        Views of each head.
    windows : int
        Energy windows.
    counted : tuple of int
        Projections over which the header's arc goes, for each head: its own, or those of all heads.

    Examples
    --------
    >>> views = Layout(views=(2, 2), windows=1, counted=(2, 2))
    >>> views.total, views.detector.tolist()
    (4, [0, 0, 1, 1])
    """

    views: tuple[int, ...]
    windows: int
    counted: tuple[int, ...]

    @property
    def heads(self) -> int:
        """Number of heads."""
        return len(self.views)

    @property
    def total(self) -> int:
        """Views of all heads."""
        return sum(self.views)

    @property
    def detector(self) -> Array:
        """Head (v,) of each view, from 0."""
        return np.repeat(np.arange(self.heads), self.views)


def layout(header: Header, held_images: int) -> Layout:
    """Heads, views of each head, and windows in a data file of so many images.

    'number of projections' is that of one head or of all. The total number of images tells, else the data file.

    Parameters
    ----------
    header : Header
        Header, which gets warnings.
    held_images : int
        Whole images in the data file.

    Returns
    -------
    Layout
        Order of the images.

    Raises
    ------
    InputError
        No reading of the header fits its own total number of images and the data file.

    Examples
    --------
    >>> from pathlib import Path
    >>> from spectac.recon.io.interfile.dialect import STIR
    >>> keys = {"number of projections": ("60",), "number of detector heads": ("2",)}
    >>> layout(Header(Path("scan.hs"), keys, {}, STIR, None, ()), held_images=60).views
    (30, 30)
    """
    heads = header.count("number of detector heads", least=0) or 1
    if heads > _MOST_HEADS:
        raise header.error(f"'number of detector heads' is {heads}: at most {_MOST_HEADS} are read")
    windows = header.count("number of energy windows", least=0) or 1
    key = "number of projections"
    counts = tuple(header.as_count(key, text) for text in _of_each_head(header, key, heads))
    of_heads = Layout(counts, windows, counts)
    fits = {windows * of_heads.total: of_heads}
    if len(set(counts)) == 1 and counts[0] % heads == 0:
        fits.setdefault(windows * counts[0], Layout((counts[0] // heads,) * heads, windows, counts))
    images = header.count("total number of images")
    if images is None and (of_window := header.count("number of images/energy window")) is not None:
        images = windows * of_window
    if images in fits:
        return fits[images]
    if images is None:
        return of_heads if held_images >= windows * of_heads.total else fits.get(held_images, of_heads)
    doubt = (
        f"'total number of images := {images}' does not fit {windows} energy windows, {heads} heads and "
        f"{counts[0]} projections"
    )
    if held_images not in fits:
        raise header.error(doubt)
    header.warn(f"{doubt}: the data file holds {held_images} images, which do")
    return fits[held_images]


def _of_each_head(header: Header, key: str, heads: int) -> list[str]:
    """The key's value for each head: one for all, or, where a block for each head repeats the key, its own."""
    texts = once_a_head(header.texts(key), heads)
    return texts if len(texts) == heads > 1 else [header.required(key)] * heads


def view_angles_deg(header: Header, views: Layout, given: StudySettings) -> Array:
    """View angles (v,) in our convention, the views of each head one after the other.

    Parameters
    ----------
    header : Header
        Header, which gets warnings.
    views : Layout
        Views of each head.
    given : StudySettings
        The user's values, which go before those of the header.

    Returns
    -------
    array
        float64 (v,) in degrees, from 0 to below 360.

    Raises
    ------
    InputError
        A key that is needed is missing, or two heads start at one angle.

    Examples
    --------
    >>> from pathlib import Path
    >>> from spectac.recon.io.interfile.dialect import SIMIND
    >>> keys = {"start angle": ("0",), "direction of rotation": ("CCW",), "extent of rotation": ("360",)}
    >>> header = Header(Path("scan.h00"), keys, {}, SIMIND, None, ())
    >>> view_angles_deg(header, Layout((4,), 1, (4,)), StudySettings()).tolist()
    [180.0, 270.0, 0.0, 90.0]
    """
    senses = _senses(header, views.heads, given)
    starts = _starts_deg(header, senses, given)

    def angles_of(steps: _Steps) -> list[Array]:
        heads = zip(starts, senses, steps, views.views, strict=True)
        return [start + sense * step * np.arange(count) for start, sense, (step, _), count in heads]

    readings = _steps_deg(header, views, given)
    steps = min(readings, key=lambda one: len(readings) > 1 and not _evenly_spaced(np.concatenate(angles_of(one))))
    if len(readings) > 1 and not _evenly_spaced(np.concatenate(angles_of(readings[0]))):
        meanings = " or ".join(f"{reading[0][0]:g} deg" for reading in readings)
        header.warn(
            f"'extent of rotation' belongs to one head or to all, a step of {meanings}: read as {steps[0][0]:g} deg "
            "(--step-deg)"
        )
    for _, doubt in steps:
        if doubt:
            header.warn(f"extent of rotation: {doubt}")
    angles = angles_of(steps)
    _check_heads(header, angles, steps[0][0])
    return np.mod(np.concatenate(angles), 360.0)


def _senses(header: Header, heads: int, given: StudySettings) -> list[int]:
    """+1 for a head whose angles grow, -1 for the other sense."""
    if given.rotation is not None:
        return [_CLOCKWISE[given.rotation]] * heads
    words = [text.lower() for text in _of_each_head(header, "direction of rotation", heads)]
    senses = [_CLOCKWISE.get(re.sub(r"[\s_-]", "", word), 0) for word in words]
    if 0 in senses:
        raise header.error(
            f"'direction of rotation' must be CW or CCW, got '{words[senses.index(0)]}': give --rotation"
        )
    return senses


def _steps_deg(header: Header, views: Layout, given: StudySettings) -> list[_Steps]:
    """Readings of each head's step: the arc over the projections that the header counts, else over a head's own."""
    if given.step_deg is not None:
        return [[(given.step_deg, None)] * views.heads]
    arcs = header.quantities("extent of rotation", "deg", views.heads)
    if not arcs:
        raise header.missing("extent of rotation")
    for arc in arcs:
        if not 0 < abs(arc) <= _LARGEST_ARC_DEG:
            raise header.error(
                f"'extent of rotation' must lie between 0 and {_LARGEST_ARC_DEG:g} deg, got {arc:g}: give --step-deg, "
                "the angle between views"
            )
        if arc < 0:
            header.warn(
                f"'extent of rotation' is {arc:g}: the sense was taken from 'direction of rotation' (--rotation)"
            )
    arcs *= views.heads // len(arcs)
    readings = dict.fromkeys((views.counted, views.views))
    return [[step_from_arc(abs(arc), n) for arc, n in zip(arcs, counts, strict=True)] for counts in readings]


def _starts_deg(header: Header, senses: list[int], given: StudySettings) -> list[float]:
    """Angle of each head's first view in our convention."""
    heads = len(senses)
    if given.head_angles_deg is not None:
        return head_starts_deg(given.head_angles_deg, heads)
    stated = header.quantities("start angle", "deg", heads, as_list=True)
    first = once_a_head([one for each in header.lists(_FIRST_ANGLE, "deg", {1, heads}) for one in each], heads)
    if len(first) == len(stated) and any(
        _apart_deg(a, b) > _SAME_PLACE_DEG for a, b in zip(stated, first, strict=True)
    ):
        header.warn(
            f"'start angle' is {listed(stated)} deg, '{_FIRST_ANGLE}' {listed(first)} deg: the first was used "
            "(--head-angles)"
        )
    stated = stated or header.quantities(_FIRST_ANGLE, "deg", heads, as_list=True)
    if not stated and heads == 1:
        raise header.missing("start angle")
    if len(stated) != heads:
        raise header.error(
            f"names {heads} detector heads but {len(stated)} start angles: give --head-angles, the angle of each "
            "head's first view, 0 = at the patient's back, growing counter-clockwise seen from the feet"
        )
    dialect = header.dialect
    if dialect.sense < 0 and any(sense < 0 and start % 180.0 for sense, start in zip(senses, stated, strict=True)):
        header.warn(
            f"a clockwise {dialect.name} orbit that does not start at 0 or 180 deg: read as its manual says (positive "
            "= clockwise), other readers turn the start the other way; check that the nose points to the front"
        )
    return [dialect.start_deg(start) for start in stated]


def _apart_deg(one_deg: float, other_deg: float) -> float:
    """Angle between two directions."""
    return abs((one_deg - other_deg + 180.0) % 360.0 - 180.0)


def _evenly_spaced(angles_deg: Array) -> bool:
    """True where the views of all heads together leave at most one gap that differs from the others."""
    rising = np.sort(np.mod(angles_deg, 360.0))
    gaps = np.sort(np.diff(rising, append=rising[0] + 360.0))[:-1]
    return bool(gaps.size and gaps[0] > 2 * EVEN_DEG and gaps[-1] - gaps[0] < 2 * EVEN_DEG)


def _check_heads(header: Header, angles: list[Array], step_deg: float) -> None:
    """Refuse heads that stand in one place; warn of heads that take the same views one after the other."""
    for (one, first), (other, second) in combinations(enumerate(angles, 1), 2):
        if _apart_deg(float(first[0]), float(second[0])) < _SAME_PLACE_DEG:
            raise header.error(
                f"heads {one} and {other} both start at {first[0] % 360:g} deg: give --head-angles, the angle of each "
                "head's first view (e.g. --head-angles 0,180)"
            )
    together = np.mod(np.concatenate(angles) + EVEN_DEG, 360.0).round(1)
    if len(angles) > 1 and np.unique(together).size == len(angles[0]):
        header.warn(
            f"every head takes the same {len(angles[0])} views, {step_deg:g} deg apart; if 'extent of rotation' is "
            f"that of all heads together, give --step-deg {step_deg / len(angles):g}"
        )


def view_seconds(header: Header, views: Layout, given: StudySettings) -> Array:
    """Seconds (v,) of each view, NaN when the header does not say (or says 0).

    Parameters
    ----------
    header : Header
        Header, which gets warnings.
    views : Layout
        Views of each head.
    given : StudySettings
        The user's values, which go before those of the header.

    Returns
    -------
    array
        float64 (v,) in s.

    Raises
    ------
    InputError
        A time is below 0.

    Examples
    --------
    >>> from pathlib import Path
    >>> from spectac.recon.io.interfile.dialect import STIR
    >>> header = Header(Path("scan.hs"), {"time per projection (msec)": ("20000",)}, {}, STIR, None, ())
    >>> view_seconds(header, Layout((2,), 1, (2,)), StudySettings()).tolist()
    [20.0, 20.0]
    """
    if given.view_seconds is not None:
        return np.full(views.total, given.view_seconds)
    key = "time per projection"
    of_views, duration = header.quantities(key, "s", views.heads), header.quantities("image duration", "s")
    if shortest := min([0.0, *of_views, *duration]):
        raise header.error(f"a time is {shortest:g} s, it must be above 0: give --view-seconds")
    if not of_views and not duration:
        header.warn(
            "the header gives no time per projection: images will be relative, not in counts per second "
            "(--view-seconds)"
        )
        return np.full(views.total, math.nan)
    if not of_views:
        key, of_views = "image duration", [duration[0] / count for count in views.views]
    elif duration:
        meanings = (of_views[0], of_views[0] * views.views[0], of_views[0] * views.total)
        if not any(math.isclose(duration[0], one, rel_tol=0.02) for one in meanings):
            header.warn(
                f"'time per projection' is {of_views[0]:g} s, 'image duration' {duration[0]:g} s for {views.views[0]} "
                "views: the first was used (--view-seconds)"
            )
    seconds = np.repeat(of_views * (views.heads // len(of_views)), views.views)
    if not SHORTEST_VIEW_S <= seconds.min() <= seconds.max() <= LONGEST_VIEW_S:
        odd = seconds.min() if seconds.min() < SHORTEST_VIEW_S else seconds.max()
        header.warn(
            f"'{key}' means {odd:g} s a view, which no camera takes: if it is in other units, or the time of all "
            "views or of each, give --view-seconds"
        )
    return seconds
