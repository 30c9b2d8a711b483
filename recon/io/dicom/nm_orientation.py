"""Orientation of the stored frames: what ImageOrientationPatient of raw TOMO detector items means.

DICOM leaves it open for projections. An orientation that names the detector's own axes at the head's start angle
decides where rows and columns grow. One of transaxial slices says nothing about projections. One that contradicts the
start angle is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.geometry import detector_rights, signed_deg
from spectac.recon.io.dicom.elements import Item, name_of
from spectac.recon.io.dicom.nm_view_angles import Head
from spectac.recon.io.dicom.upright import directions
from spectac.recon.types import Array

_ALIGNED = np.cos(np.deg2rad(5.0))
"""Directions within 5 deg count as equal: views are 2 to 6 deg apart, heads stand 76 to 180 deg apart."""


@dataclass(frozen=True)
class Orientation:
    """How a head's pixels lie.

    Parameters
    ----------
    upright : bool
        Row 0 of the file is superior.
    mirrored : bool
        Columns grow against the detector's right.
    kind : str or None
        What the orientation described: "detector", "volume" or None for nothing usable.

    Examples
    --------
    >>> Orientation(upright=True).turned(np.array([[1, 2], [3, 4]])).tolist()
    [[3, 4], [1, 2]]
    """

    upright: bool = True
    mirrored: bool = False
    kind: str | None = None

    def turned(self, frame: Array) -> Array:
        """Stored frame (row, column) as (z, u): z grows to superior, u to the detector's right."""
        frame = frame[::-1] if self.upright else frame
        return frame[:, ::-1] if self.mirrored else frame


def read_orientations(
    item: Item, heads: Sequence[Head], posture: tuple[str | None, str | None], angles_given: bool
) -> list[Orientation]:
    """Orientation of every head.

    Parameters
    ----------
    item : Item
        Dataset of the file.
    heads : sequence of Head
        Heads, with the angle of their first views.
    posture : tuple of str or None
        "HF" or "FF", and "S", "P" or others, as in PatientPosition.
    angles_given : bool
        True where the user gave the angles, which then go before the file.

    Returns
    -------
    list of Orientation
        One for each head, all the default where the file's are not used.

    Raises
    ------
    InputError
        An orientation contradicts the start angle.
    """
    cosines = [_cosines(head) for head in heads]
    orientations = [_orientation(head, axes) for head, axes in zip(heads, cosines, strict=True)]
    contradicting = []
    for head, one in zip(heads, orientations, strict=True):
        # Feet first a frame upside down is also what a file says that has the gantry's angles, not the patient's.
        if one is None or (not one.upright and not one.mirrored and posture[0] == "FF"):
            contradicting.append(head)
        elif not one.upright:
            stored = "turned by 180 deg" if one.mirrored else "with row 0 inferior"
            item.warn(
                f"ImageOrientationPatient says that frames are stored {stored}: read so, check that left and right are "
                "not swapped"
            )
    if contradicting:
        reason = _why_ignored(heads, cosines, posture, angles_given)
        if reason is None:
            raise _contradiction(contradicting[0])
        item.warn(f"ImageOrientationPatient contradicts the start angles: not used, {reason}")
        orientations = [Orientation() for _ in heads]
    settled = [one for one in orientations if one is not None]
    if any(one.kind == "detector" for one in settled):
        upright = all(one.upright for one in settled)
        rows = "superior" if upright else "inferior (the rows of such heads are not reversed)"
        item.record(f"ImageOrientationPatient fits the detectors at their start angles: row 0 is {rows}")
        if any(one.mirrored for one in settled):
            item.record("the frames are stored turned by 180 deg (ImageOrientationPatient): turned back")
    else:
        item.record("row 0 taken as superior, columns to the detector's right (no orientation says otherwise)")
        if posture[0] == "FF":
            item.notes.warn("feet first and no orientation of the detectors: row 0 was taken as superior")
    return settled


def _cosines(head: Head) -> Array | None:
    """Unit vectors (2, 3) along which columns and rows grow, None where there are none that can be used."""
    values = [] if head.item is None else head.item.optional_numbers("ImageOrientationPatient")
    if not values or head.item is None:
        return None
    if len(values) != 6:
        head.item.warn(f"ImageOrientationPatient needs 6 numbers, it holds {len(values)}: not used")
        return None
    cosines = directions(values, 0.02)
    if cosines is None:
        head.item.notes.warn(f"{name_of('ImageOrientationPatient')} {values} is no pair of directions: not used")
    return cosines


def _orientation(head: Head, cosines: Array | None) -> Orientation | None:
    """What the directions say about a head at its start angle, None where they contradict it."""
    if cosines is None:
        return Orientation()
    columns, rows = cosines
    if abs(columns[2]) < 0.1 and abs(rows[2]) < 0.1:
        return Orientation(kind="volume")
    right = float(columns[:2] @ detector_rights([head.start_deg])[0])
    along_axis = abs(columns[2]) < 0.1 and abs(rows[2]) > _ALIGNED
    if along_axis and right > _ALIGNED:
        return Orientation(upright=bool(rows[2] < 0), kind="detector")
    if along_axis and right < -_ALIGNED and rows[2] > 0:
        return Orientation(upright=False, mirrored=True, kind="detector")
    return None


def _why_ignored(
    heads: Sequence[Head],
    cosines: Sequence[Array | None],
    posture: tuple[str | None, str | None],
    angles_given: bool,
) -> str | None:
    """Why an orientation that contradicts the start angles says nothing, None where it may say something."""
    if angles_given:
        return "the angles given by the user were followed"
    present = [one for one in cosines if one is not None]
    turned = max(abs(signed_deg(head.start_deg - heads[0].start_deg)) for head in heads) > 5.0
    fixed = len(present) == len(heads) > 1 and all(np.allclose(one, present[0], atol=0.01) for one in present)
    if fixed and turned and posture[0] != "FF" and posture[1] in (None, "S"):
        return "it is the same for heads at different angles"
    return None


def _contradiction(head: Head) -> InputError:
    assert head.item is not None
    right = detector_rights([head.start_deg])[0]
    return head.item.error(
        f"ImageOrientationPatient contradicts {name_of('StartAngle')}: a detector at {head.start_deg % 360:g} deg sees "
        f"columns grow along ({right[0] + 0.0:.2f}, {right[1] + 0.0:.2f}, 0) and rows along (0, 0, -1), the file says "
        f"{head.item.text('ImageOrientationPatient')}: give --head-angles to say where the heads stood"
    )
