"""Distance from the rotation axis to the collimator face, from wherever a vendor put it.

DICOM has RadialPosition in the detector items and in the rotation items, as one value or one a view. GE's Xeleris keeps
what differs from view to view in private elements.
"""

from collections.abc import Container, Mapping, Sequence

import numpy as np

from spectac.recon.io.dicom_file import Item
from spectac.recon.io.dicom_nm_frames import Notes
from spectac.recon.types import Array

Pair = tuple[int, int]
"""(detector, rotation), counted from 0."""

_GE_DETECTORS, _GE_OFFSETS = (0x0055, 0x1022), (0x0013, 0x101E)
"""GE Xeleris: a private item a head with three numbers a view; the last of each three is added to the mean radius."""

SMALLEST_MM = 60.0
"""No camera goes nearer to a person's axis."""


def read_radii(
    item: Item,
    detectors: Sequence[Item],
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
    for pair in pairs:
        head = [p for p in pairs if p[0] == pair[0]]
        beside = [p for p in pairs if rotations[p] is rotations[pair]]
        own = _values(detectors[pair[0]], pair, head, count) if detectors else None
        if own is not None and pair in backwards and len(detectors[pair[0]].numbers("RadialPosition")) == own.size > 1:
            own = own[::-1]
            notes.warn("a head's one list of radii was taken for a rotation over the same angles backwards, reversed")
        shared = _values(rotations[pair], pair, beside, count)
        offsets = _ge_offsets(item, pair, pairs, count, notes)
        one = next((values for values in (shared, own) if values is not None and values.size == 1), None)
        if offsets is not None and one is not None:
            radii[pair] = one + offsets
            names.add("RadialPosition plus GE's private view offsets (0055,1022) > (0013,101e)")
            continue
        found = [(values, name) for values, name in ((own, "detector"), (shared, "rotation")) if values is not None]
        if not found:
            raise rotations[pair].error(
                "RadialPosition",
                "is missing or 0, in the detector items too: give --radius-mm, from the axis to the collimator face",
            )
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
        raise item.error("RadialPosition", f"gives radii down to {smallest:g} mm: give --radius-mm")
    if smallest < SMALLEST_MM:
        notes.warn(f"a radius of {smallest:g} mm is smaller than any camera's: is RadialPosition in mm?")
    return radii


def _values(source: Item, pair: Pair, described: list[Pair], count: Mapping[Pair, int]) -> Array | None:
    """One value, or one a view, of what an item says about a pair; None where it says nothing."""
    values = np.array(source.numbers("RadialPosition"))
    if not values.any():
        return None
    if values.min() <= 0:
        raise source.error("RadialPosition", f"must be above 0 mm, its smallest value is {values.min():g}")
    if values.size in (1, count[pair]):
        return values
    if values.size == sum(count[p] for p in described):
        skip = sum(count[p] for p in described[: described.index(pair)])
        return values[skip : skip + count[pair]]
    raise source.error(
        "RadialPosition", f"has {values.size} values for {count[pair]} views: one, or one a view is needed"
    )


def _ge_offsets(item: Item, pair: Pair, pairs: list[Pair], count: Mapping[Pair, int], notes: Notes) -> Array | None:
    """GE's private offsets (views,) in mm, None where there are none that fit the views."""
    items = item.items(_GE_DETECTORS)
    if not items:
        return None
    heads = sorted({head for head, _ in pairs})
    position = heads.index(pair[0])
    offsets = np.array(items[position if len(items) == len(heads) else 0].numbers(_GE_OFFSETS))[2::3]
    if len(items) != len(heads) and offsets.size == count[pair] * len(heads):
        offsets = offsets[position * count[pair] : (position + 1) * count[pair]]
    if offsets.size == count[pair]:
        return offsets
    if offsets.size:
        notes.warn(f"{offsets.size} private radius offsets of GE (0013,101e) for {count[pair]} views: not used")
    return None
