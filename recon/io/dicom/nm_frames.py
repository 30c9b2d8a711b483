"""Frames of a DICOM NM TOMO file: the window, detector, rotation and view of each, from the vectors of the header."""

from dataclasses import dataclass

import numpy as np
from pydicom.datadict import keyword_for_tag

from spectac.recon.io.dicom.elements import Item, name_of
from spectac.recon.types import Array

_POINTED = {
    "EnergyWindowVector": "NumberOfEnergyWindows",
    "DetectorVector": "NumberOfDetectors",
    "RotationVector": "NumberOfRotations",
    "AngularViewVector": None,
}
"""The vectors of raw projections, and where the header says how many of a kind there are."""

_REFUSED_VECTORS = {
    "TimeSlotVector": "a gated series",
    "RRIntervalVector": "a gated series",
    "PhaseVector": "a dynamic series",
    "TimeSliceVector": "a dynamic series",
    "SliceVector": "a reconstruction, not raw projections",
}


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of a file.

    Parameters
    ----------
    number : array (f,)
        Number of the frame in the file, from 0.
    window, detector, rotation, view : array (f,)
        What each frame is, all counted from 0.

    Examples
    --------
    >>> zero = np.zeros(3, int)
    >>> frames = Frames(np.arange(3), zero, np.array([0, 1, 1]), zero, zero)
    >>> frames.where(frames.detector == 1).number.tolist()
    [1, 2]
    """

    number: Array
    window: Array
    detector: Array
    rotation: Array
    view: Array

    def where(self, chosen: Array) -> "Frames":
        """Some of the frames, by a mask or by their places."""
        columns = (self.number, self.window, self.detector, self.rotation, self.view)
        return Frames(*(column[chosen] for column in columns))


def read_frames(item: Item) -> Frames:
    """What each frame is, from the vectors that FrameIncrementPointer names; the order of the frames means nothing.

    Where AngularViewVector is missing or gives every frame the same number, the views of each window, head and rotation
    are taken in the order of the file, with a warning.

    Parameters
    ----------
    item : Item
        Dataset of the file.

    Returns
    -------
    Frames
        All frames of the file, in its order.

    Raises
    ------
    InputError
        For gated and dynamic series, other missing vectors, lengths that differ from NumberOfFrames, and two frames
        that claim to be the same view.
    """
    frames = item.required_count("NumberOfFrames")
    pointed = _pointer(item)
    for keyword, meaning in _REFUSED_VECTORS.items():
        values = item.numbers(keyword)
        if len(set(values)) > 1 or (keyword == "SliceVector" and keyword in pointed):
            raise item.error(f"{keyword} numbers the frames: this is {meaning}, which is not supported as raw input")
    unknown = [word for word in pointed if word not in _POINTED and word not in _REFUSED_VECTORS]
    if unknown:
        item.warn(
            f"FrameIncrementPointer names {', '.join(unknown)}, which raw SPECT projections do not have: not used"
        )
    *kinds, view = [_vector(item, keyword, number, frames) for keyword, number in _POINTED.items()]
    groups = np.stack([np.zeros(frames, np.int64) if vector is None else vector for vector in kinds], axis=1)
    if view is None or (view.max() == view.min() and frames > 1):
        view = _in_order(item, groups, view is None)
    keys = np.column_stack([groups, view])
    _, index, times = np.unique(keys, axis=0, return_index=True, return_counts=True)
    if (times > 1).any():
        w, d, r, v = keys[index[times > 1][0]] + 1
        raise item.error(
            f"AngularViewVector has two frames for window {w}, detector {d}, rotation {r}, view {v}: one is needed"
        )
    return Frames(np.arange(frames), *keys.T)


def _in_order(item: Item, groups: Array, missing: bool) -> Array:
    """View numbers (frame,) that count the frames of each window, detector and rotation in the order of the file."""
    view = np.empty(len(groups), np.int64)
    for group in np.unique(groups, axis=0):
        members = np.flatnonzero((groups == group).all(axis=1))
        view[members] = np.arange(members.size)
    # With one frame each there is a single view of every head.
    if view.max() > 0:
        what = "is missing" if missing else "gives every frame the same number"
        item.warn(
            f"AngularViewVector {what}: the views of each window and head were taken in the order of the file; check "
            "left and right, front and back"
        )
    return view


def _pointer(item: Item) -> list[str]:
    """Keywords of the vectors that FrameIncrementPointer names."""
    values = item.values("FrameIncrementPointer")
    with item.reading(name_of("FrameIncrementPointer")):
        return [keyword_for_tag(int(tag)) or f"({int(tag) >> 16:04x},{int(tag) & 0xFFFF:04x})" for tag in values]


def _vector(item: Item, keyword: str, number: str | None, frames: int) -> Array | None:
    """One vector counted from 0, None where it is absent and there is only one of its kind."""
    values = item.numbers(keyword)
    if not values:
        if number is not None and (many := item.count(number) or 0) > 1:
            raise item.error(f"{keyword} is missing, but {name_of(number)} is {many}")
        return None
    if len(values) != frames:
        raise item.error(f"{keyword} has {len(values)} values for {frames} frames ({name_of('NumberOfFrames')})")
    vector = np.array(values)
    if vector.min() == 0:
        item.warn(f"{keyword} counts from 0, not from 1 as DICOM has it")
        vector = vector + 1
    if (vector < 1).any() or (vector != np.floor(vector)).any():
        raise item.error(f"{keyword} must count from 1, it holds {vector.min():g} to {vector.max():g}")
    return vector.astype(np.int64) - 1
