"""Radii of the views: distance from the rotation axis to the collimator face, from wherever a vendor put it.

DICOM has RadialPosition in the detector items and in the rotation items, as one value or one a view. GE's Xeleris keeps
what differs from view to view in private elements.
"""

from collections.abc import Sequence

import numpy as np

from spectac.recon.errors import FileError, InputError
from spectac.recon.io.dicom.elements import Item, name_of
from spectac.recon.io.dicom.nm_rotation import HeadArc
from spectac.recon.types import LARGEST_RADIUS_MM, Array

_GE = "GEMS_GENIE_1"
"""Creator of GE Xeleris' private elements: (0055,xx22) has an item a head, in it (0013,xx1E) with three numbers a view,
the last of which is added to the mean radius."""

SMALLEST_MM = 60.0
"""No camera goes nearer to a person's axis."""

CIRCLE_MM = 1.0
"""Radii that differ by less are those of a circle."""

MOST_EMPTY = 0.1
"""Share of the views that may lack their radius; that of a view lies between its neighbours'."""

LARGEST_OFFSET_MM = 1e4
"""Bytes that give larger numbers are no table positions and radii."""

_ADVICE = "give --radius-mm, from the axis to the collimator face"


def read_radii(item: Item, arcs: Sequence[HeadArc]) -> list[Array]:
    """Radii of every head in every rotation.

    A head's one list is reversed for rotations against its first one. A value for each view goes before a single one,
    the detector item before the rotation item; a warning says where they disagree by more than 1 mm in the mean.

    Parameters
    ----------
    item : Item
        Dataset of the file.
    arcs : sequence of HeadArc
        Heads in their rotations.

    Returns
    -------
    list of array
        Distances (views,) in mm from the axis to the collimator face, one array for each arc.

    Raises
    ------
    InputError
        There is none (0 means none), or their number fits neither the views of the head nor those of all that the item
        describes.
    """
    radii, names, others = [], set(), []
    for arc in arcs:
        values, name, other = _of_arc(item, arc, arcs)
        radii.append(np.broadcast_to(values, arc.views).copy())
        names.add(name)
        others.append(other)
    used = " and ".join(sorted(names))
    for arc, other in zip(arcs, others, strict=True):
        if other is None:
            continue
        # One value of a rotation stands for all of its heads.
        same = [arc] if other.size > 1 else [one for one in arcs if one.rotation is arc.rotation]
        with np.errstate(over="ignore", invalid="ignore"):  # radii of more than a metre are refused by Acquisition
            mean = float(np.mean([radii[arcs.index(one)].mean() for one in same]))
            given = float(other.mean())
        if abs(given - mean) > 1.0:
            item.notes.warn(
                f"RadialPosition is {mean:.1f} mm in the mean in one item and {given:.1f} mm in another "
                f"(detector or rotation): the {used} were used"
            )
    item.record(f"radii from {used}")
    smallest = min(float(values.min()) for values in radii)
    if smallest <= 0:
        raise item.error(f"RadialPosition gives radii down to {smallest:g} mm: {_ADVICE}")
    if smallest < SMALLEST_MM:
        item.notes.warn(
            f"a radius of {smallest:g} mm is smaller than any camera's: is RadialPosition in mm? ({_ADVICE})"
        )
    return radii


def _of_arc(item: Item, arc: HeadArc, arcs: Sequence[HeadArc]) -> tuple[Array, str, Array | None]:
    """Radii (views,) or (1,) of a head in a rotation, where they are from, and what the other kind of item has."""
    radii_of, faults = {}, []
    lists = {None if one.detector is None else one.detector.text("RadialPosition") for one in arcs}
    of_head = [one for one in arcs if one.head == arc.head]
    of_rotation = [one for one in arcs if one.rotation is arc.rotation]
    for kind, source, described, alike in (
        ("detector", arc.detector, of_head, arcs if len(lists) == 1 else []),
        ("rotation", arc.rotation.item, of_rotation, []),
    ):
        # Another item may have the radii too.
        try:
            values = None if source is None else _values(source, arc, described, alike)
        except FileError as error:
            faults.append(error)
            continue
        if values is not None:
            radii_of[kind] = values
    one_list = arc.detector is not None and len(arc.detector.texts("RadialPosition")) == arc.views > 1
    if "detector" in radii_of and one_list and arc.rotation.sign != of_head[0].rotation.sign:
        radii_of["detector"] = radii_of["detector"][::-1]
        item.notes.warn("a head's one list of radii was taken for a rotation over the same angles backwards, reversed")
    offsets = _ge_offsets(item, arc, arcs)
    single = [radii_of[kind] for kind in ("rotation", "detector") if kind in radii_of and radii_of[kind].size == 1]
    if offsets is not None and single:
        radii = single[0] + offsets
        if radii.min() >= SMALLEST_MM and radii.max() <= LARGEST_RADIUS_MM:
            return radii, "RadialPosition plus GE's private view offsets (0055,1022) > (0013,101e)", None
        item.notes.warn("GE's private offsets make radii that no camera has: not used, RadialPosition alone was")
    if not radii_of:
        raise next(
            iter(faults),
            arc.rotation.item.error(f"RadialPosition is missing or 0, in the detector items too: {_ADVICE}"),
        )
    if faults:
        item.notes.warn(f"{faults[0]}; not used, the {next(iter(radii_of))} items have another")
    kind = max(radii_of, key=lambda kind: radii_of[kind].size > 1)
    other = next((values for name, values in radii_of.items() if name != kind), None)
    return radii_of[kind], f"RadialPosition of the {kind} items", other


def _part(values: Array, arc: HeadArc, arcs: Sequence[HeadArc]) -> Array:
    """What belongs to an arc in a list of the views of several ones."""
    skip = sum(one.views for one in arcs[: arcs.index(arc)])
    return values[skip : skip + arc.views]


def _values(source: Item, arc: HeadArc, described: Sequence[HeadArc], alike: Sequence[HeadArc]) -> Array | None:
    """One value, or one a view, of what an item says about an arc; None where it says nothing.

    `described`: the arcs whose radii the item may list one after the other; `alike`: those of all heads, where every
    head's item has this list.
    """
    try:
        values = np.array(source.numbers("RadialPosition"))
    except FileError as error:
        raise FileError(source.path, f"{error.args[1]}; {_ADVICE}") from None
    if not values.any():
        return None
    if values.min() < 0:
        raise source.error(f"RadialPosition must be above 0 mm, its smallest value is {values.min():g}: {_ADVICE}")
    empty = values == 0
    if empty.any():
        lacking = f"is 0 for {empty.sum()} of {values.size} views"
        if empty.mean() > MOST_EMPTY:
            raise source.error(f"RadialPosition {lacking}: {_ADVICE}")
        values[empty] = np.interp(np.flatnonzero(empty), np.flatnonzero(~empty), values[~empty])
        source.warn(f"RadialPosition {lacking}: taken from the views beside them")
    if values.size in (1, arc.views):
        return values
    if values.size == sum(one.views for one in described):
        return _part(values, arc, described)
    if alike and values.size == sum(one.views for one in alike):
        source.warn(
            f"RadialPosition lists the {values.size} radii of all heads in each item: a head's own part was used"
        )
        return _part(values, arc, alike)
    uneven = f"has {values.size} values for {arc.views} views"
    if np.ptp(values) > CIRCLE_MM:
        raise source.error(f"RadialPosition {uneven}: one, or one a view is needed; {_ADVICE}")
    source.warn(f"RadialPosition {uneven}: a circle of their mean was taken")
    return np.array([values.mean()])


def _ge_offsets(item: Item, arc: HeadArc, arcs: Sequence[HeadArc]) -> Array | None:
    """GE's private offsets (views,) in mm, None where there are none that fit the views."""
    tag = item.private(0x0055, 0x22, _GE)
    if tag is None:
        maker = (item.text("Manufacturer") or "").upper()
        if maker.startswith("GE") and "00551022" in item.data and not item.text_of("00550010"):
            item.notes.warn(
                "(0055,1022) may hold GE's radius of each view, but the name of its creator (0055,0010) is missing, as "
                "after anonymisation: not used, RadialPosition alone was"
            )
        return None
    heads = sorted({one.head for one in arcs})
    place = heads.index(arc.head)
    try:
        items = item.items(tag)
        own_item = len(items) == len(heads)
        offsets = _third_numbers(items[place if own_item else 0]) if items else np.array([])
    except InputError as error:
        item.notes.warn(f"GE's private offsets of the radii {name_of(tag)} could not be read, not used: {error}")
        return None
    if not own_item and offsets.size == arc.views * len(heads):
        offsets = offsets[place * arc.views : (place + 1) * arc.views]
    if offsets.size == arc.views:
        return offsets
    if offsets.size:
        item.notes.warn(f"{offsets.size} private radius offsets of GE (0013,101e) for {arc.views} views: not used")
    return None


def _third_numbers(item: Item) -> Array:
    """The last of the three numbers that an item of GE's sequence has for each view; empty without them.

    An archive that does not know the element keeps its bytes (UN, OB), little endian.
    """
    tag = item.private(0x0013, 0x1E, _GE)
    if tag is None and not item.text_of("00130010"):
        # An item of GE's own sequence need not name the creator again.
        tag = "0013101E"
    content = b"" if tag is None else item.value(tag)
    if tag is None or content is None:
        return np.array([])
    if not isinstance(content, bytes):
        return np.array(item.numbers(tag))[2::3]
    if len(content) % 8 == 0:
        numbers = np.frombuffer(content, "<f8")
        if np.isfinite(numbers).all() and np.abs(numbers).max(initial=0.0) < LARGEST_OFFSET_MM:
            return numbers[2::3]
    try:
        return np.array([float(part) for part in content.decode("ascii").strip("\0 ").split("\\")])[2::3]
    except ValueError:
        raise InputError(f"its {len(content)} bytes are no numbers") from None
