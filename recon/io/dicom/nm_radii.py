"""Distance from the rotation axis to the collimator face, from wherever a vendor put it.

DICOM has RadialPosition in the detector items and in the rotation items, as one value or one a view. GE's Xeleris keeps
what differs from view to view in private elements.
"""

from collections.abc import Container, Mapping

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.io.dicom.file import Item
from spectac.recon.io.dicom.nm_frames import Notes
from spectac.recon.types import LARGEST_RADIUS_MM, Array

Pair = tuple[int, int]
"""(detector, rotation), counted from 0."""

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


def read_radii(
    item: Item,
    detectors: Mapping[int, Item],
    rotations: Mapping[Pair, Item],
    count: Mapping[Pair, int],
    backwards: Container[Pair],
    notes: Notes,
) -> dict[Pair, Array]:
    """Radii (views,) in mm for every (detector, rotation), which has `count` views and its item in `rotations`.

    `backwards` holds the pairs that turn against the head's first rotation: a head's one list is reversed for them.
    A value for each view goes before a single one, the detector item before the rotation item; a warning says where
    they disagree by more than 1 mm in the mean. Raises InputError where there is none (0 means none), or where their
    number fits neither the views of the head nor those of all that the item describes.
    """
    pairs = sorted(count)
    radii, names, single = {}, set(), {}
    alike = len({one.text("RadialPosition") for one in detectors.values()}) == 1
    for pair in pairs:
        head = [p for p in pairs if p[0] == pair[0]]
        beside = [p for p in pairs if rotations[p] is rotations[pair]]
        own, fault = _or_fault(detectors.get(pair[0]), pair, head, count, alike)
        if own is not None and pair in backwards and len(detectors[pair[0]].texts("RadialPosition")) == own.size > 1:
            own = own[::-1]
            notes.warn("a head's one list of radii was taken for a rotation over the same angles backwards, reversed")
        shared, other_fault = _or_fault(rotations[pair], pair, beside, count, False)
        offsets = _ge_offsets(item, pair, pairs, count, notes)
        one = next((values for values in (shared, own) if values is not None and values.size == 1), None)
        if offsets is not None and one is not None and not _possible(one + offsets):
            notes.warn("GE's private offsets make radii that no camera has: not used, RadialPosition alone was")
            offsets = None
        if offsets is not None and one is not None:
            radii[pair] = one + offsets
            names.add("RadialPosition plus GE's private view offsets (0055,1022) > (0013,101e)")
            continue
        found = [(values, name) for values, name in ((own, "detector"), (shared, "rotation")) if values is not None]
        fault = fault or other_fault
        if not found:
            raise fault or rotations[pair].error(
                "RadialPosition", f"is missing or 0, in the detector items too: {_ADVICE}"
            )
        if fault is not None:
            notes.warn(f"{fault}; not used, the {found[0][1]} items have another")
        values, name = max(found, key=lambda one: one[0].size > 1)
        radii[pair] = np.broadcast_to(values, count[pair]).copy()
        names.add(f"RadialPosition of the {name} items")
        if len(found) > 1:
            single[pair] = next(other for other, source in found if source != name)
    for pair, other in single.items():
        # One value of a rotation stands for all of its heads.
        together = [p for p in pairs if rotations[p] is rotations[pair]] if other.size == 1 else [pair]
        with np.errstate(over="ignore", invalid="ignore"):  # radii of more than a metre are refused by Acquisition
            mean, given = float(np.mean([radii[p].mean() for p in together])), float(other.mean())
        if abs(given - mean) > 1.0:
            notes.warn(
                f"RadialPosition is {mean:.1f} mm in the mean in one item and {given:.1f} mm in another "
                f"(detector or rotation): the {' and '.join(sorted(names))} were used"
            )
    notes.history.append(f"radii from {' and '.join(sorted(names))}")
    smallest = min(float(values.min()) for values in radii.values())
    if smallest <= 0:
        raise item.error("RadialPosition", f"gives radii down to {smallest:g} mm: {_ADVICE}")
    if smallest < SMALLEST_MM:
        notes.warn(f"a radius of {smallest:g} mm is smaller than any camera's: is RadialPosition in mm? ({_ADVICE})")
    return radii


def _possible(radii: Array) -> bool:
    return bool(radii.min() >= SMALLEST_MM and radii.max() <= LARGEST_RADIUS_MM)


def _or_fault(
    source: Item | None, pair: Pair, described: list[Pair], count: Mapping[Pair, int], alike: bool
) -> tuple[Array | None, InputError | None]:
    """What `_values` gives, or why it cannot: another item may have the radii too."""
    if source is None:
        return None, None
    try:
        return _values(source, pair, described, count, alike), None
    except InputError as error:
        return None, error


def _values(source: Item, pair: Pair, described: list[Pair], count: Mapping[Pair, int], alike: bool) -> Array | None:
    """One value, or one a view, of what an item says about a pair; None where it says nothing.

    `described`: the pairs whose radii the item may list one after the other; `alike`: every head's item has this list.
    """
    try:
        values = np.array(source.numbers("RadialPosition"))
    except InputError as error:
        raise InputError(f"{error}; {_ADVICE}") from None
    if not values.any():
        return None
    if values.min() < 0:
        raise source.error("RadialPosition", f"must be above 0 mm, its smallest value is {values.min():g}: {_ADVICE}")
    empty = values == 0
    if empty.any():
        if empty.mean() > MOST_EMPTY:
            raise source.error("RadialPosition", f"is 0 for {empty.sum()} of {values.size} views: {_ADVICE}")
        values[empty] = np.interp(np.flatnonzero(empty), np.flatnonzero(~empty), values[~empty])
        source.warn(
            "RadialPosition", f"is 0 for {empty.sum()} of {values.size} views: taken from the views beside them"
        )
    if values.size in (1, count[pair]):
        return values
    if values.size == sum(count[p] for p in described):
        skip = sum(count[p] for p in described[: described.index(pair)])
        return values[skip : skip + count[pair]]
    together = sum(count.values())
    if alike and values.size == together:
        skip = sum(count[p] for p in sorted(count) if p < pair)
        source.warn(
            "RadialPosition", f"lists the {together} radii of all heads in each item: a head's own part was used"
        )
        return values[skip : skip + count[pair]]
    if np.ptp(values) <= CIRCLE_MM:
        source.warn(
            "RadialPosition", f"has {values.size} values for {count[pair]} views: a circle of their mean was taken"
        )
        return np.array([values.mean()])
    raise source.error(
        "RadialPosition", f"has {values.size} values for {count[pair]} views: one, or one a view is needed; {_ADVICE}"
    )


def _ge_offsets(item: Item, pair: Pair, pairs: list[Pair], count: Mapping[Pair, int], notes: Notes) -> Array | None:
    """GE's private offsets (views,) in mm, None where there are none that fit the views."""
    tag = item.private(0x0055, 0x22, _GE)
    if tag is None:
        maker = (item.text("Manufacturer") or "").upper()
        if maker.startswith("GE") and (0x0055, 0x1022) in item.data and not item.text_of((0x0055, 0x0010)):
            notes.warn(
                "(0055,1022) may hold GE's radius of each view, but the name of its creator (0055,0010) is missing, as "
                "after anonymisation: not used, RadialPosition alone was"
            )
        return None
    try:
        items = item.items(tag)
        heads = sorted({head for head, _ in pairs})
        position = heads.index(pair[0])
        one = items[position if len(items) == len(heads) else 0] if items else None
        # An item of GE's own sequence need not name the creator again.
        inner = None if one is None else one.private(0x0013, 0x1E, _GE)
        if inner is None and one is not None and not one.text_of((0x0013, 0x0010)):
            inner = (0x0013, 0x101E)
        offsets = np.array([] if one is None or inner is None else _doubles(one, inner))[2::3]
    except InputError as error:
        notes.warn(
            f"GE's private offsets of the radii ({tag[0]:04x},{tag[1]:04x}) could not be read, not used: {error}"
        )
        return None
    if len(items) != len(heads) and offsets.size == count[pair] * len(heads):
        offsets = offsets[position * count[pair] : (position + 1) * count[pair]]
    if offsets.size == count[pair]:
        return offsets
    if offsets.size:
        notes.warn(f"{offsets.size} private radius offsets of GE (0013,101e) for {count[pair]} views: not used")
    return None


def _doubles(item: Item, tag: tuple[int, int]) -> list[float]:
    """Numbers of an FD element; an archive that does not know it keeps its bytes (UN, OB), little endian."""
    value = item.value(tag)
    if not isinstance(value, bytes):
        return item.numbers(tag)
    if len(value) % 8 == 0:
        numbers = np.frombuffer(value, "<f8")
        if np.isfinite(numbers).all() and np.abs(numbers).max(initial=0.0) < LARGEST_OFFSET_MM:
            return numbers.tolist()
    try:
        return [float(part) for part in value.decode("ascii").strip("\0 ").split("\\")]
    except ValueError:
        raise InputError(f"its {len(value)} bytes are no numbers") from None
