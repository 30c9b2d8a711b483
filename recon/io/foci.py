"""Focal lines of fan-beam detectors: what a file says, completed by the collimator, replaced by the user's options.

A focal length counts from the collimator's face where neither file, table nor user say otherwise. DICOM has it from the
"front face of the detector" (PS3.3 C.8.4.11.1.1), and makers do not agree on which plane that is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from spectac.recon.collimator import Collimator, Focus, FocusFrom
from spectac.recon.errors import InputError
from spectac.recon.settings import StudySettings

GIVE = (
    "give --focal-length in mm (inf where the views were rebinned to parallel rays), or a fan-beam collimator of the "
    "table with --collimator"
)
"""What to do about a fan-beam file without a focal length."""


@dataclass(frozen=True)
class StatedFocus:
    """What a file says about the focal line of a fan-beam detector; None: nothing.

    Parameters
    ----------
    length_mm
        Focal length in mm.
    counted_from
        Plane from which it counts.
    offset_mm
        Where the focal line falls on the detector, from the centre of the matrix towards growing u, in mm.
    """

    length_mm: float | None = None
    counted_from: FocusFrom | None = None
    offset_mm: float | None = None


@dataclass(frozen=True)
class SettledFoci:
    """Focal lines of a study and the collimator that goes with them.

    Parameters
    ----------
    foci
        Focus of each detector, by ascending number; empty for parallel holes.
    collimator
        Collimator, None where it is unknown.
    history
        Lines on where the foci come from.
    """

    foci: tuple[Focus, ...]
    collimator: Collimator | None
    history: tuple[str, ...] = ()


def settled_foci(
    stated: Sequence[StatedFocus],
    detectors: int,
    collimator: Collimator | None,
    given: StudySettings,
    missing: str,
) -> SettledFoci:
    """Foci of a study: the user's values, then the file's, then the collimator's.

    Parameters
    ----------
    stated
        What the file says of each detector; empty where it says nothing of a focus.
    detectors
        Number of detectors.
    collimator
        Collimator of the study, whose focus completes the file.
    given
        The user's options.
    missing
        What is missing in a fan-beam file whose focal length nobody names; an error ends it with what to do.

    Returns
    -------
    SettledFoci
        Foci, the collimator (without focus for parallel data) and history.

    Raises
    ------
    InputError
        Where a fan-beam study has no focal length, or parallel data get a plane or an offset of a focus.
    """
    row = None if collimator is None else collimator.focus
    if given.focal_length_mm == math.inf:
        parallel = collimator if collimator is None or row is None else replace(collimator, focus=None)
        line = "fan-beam data already rebinned to parallel rays (--focal-length inf)"
        return SettledFoci((), parallel, (line,) if stated or row is not None else ())
    if not stated and row is None and given.focal_length_mm is None:
        if given.focus_from is not None or given.focus_offset_mm is not None:
            raise InputError(
                "--focus-from and --focus-offset belong to fan-beam data, and neither the file nor the collimator has "
                "a focal length: give --focal-length too"
            )
        return SettledFoci((), collimator)
    foci = tuple(_focus(one, row, given, missing) for one in stated or [StatedFocus()] * detectors)
    return SettledFoci(foci, collimator, (f"fan-beam: focal length {in_words(foci)}; {_source(stated, row, given)}",))


def _focus(stated: StatedFocus, row: Focus | None, given: StudySettings, missing: str) -> Focus:
    """Focus of one detector."""
    length_mm, counted_from = stated.length_mm, stated.counted_from
    if length_mm is None and row is not None:
        length_mm, counted_from = row.length_mm, row.counted_from
    if given.focal_length_mm is not None:
        length_mm, counted_from = given.focal_length_mm, None
    if length_mm is None:
        raise InputError(f"{missing}: {GIVE}")
    offsets = (given.focus_offset_mm, stated.offset_mm, None if row is None else row.offset_mm, 0.0)
    offset_mm = next(offset for offset in offsets if offset is not None)
    return Focus(length_mm, given.focus_from or counted_from or "face", offset_mm)


def _source(stated: Sequence[StatedFocus], row: Focus | None, given: StudySettings) -> str:
    """Where length and plane come from."""
    if given.focal_length_mm is not None:
        length, with_plane = "user", False
    elif any(one.length_mm is not None for one in stated):
        length, with_plane = "file", any(one.counted_from is not None for one in stated)
    else:
        length, with_plane = "collimator", row is not None
    if given.focus_from is not None:
        return f"length of the {length}, plane of the user"
    if with_plane:
        return f"length and plane of the {length}"
    return f"length of the {length}, plane by default: makers differ, --focus-from changes it"


def in_words(foci: Sequence[Focus]) -> str:
    """Focal lengths, planes and offsets: one text where the detectors have one focus, else one for each.

    Parameters
    ----------
    foci
        Focus of each detector.

    Returns
    -------
    str
        Words for `spectac info` and the history.

    Examples
    --------
    >>> in_words([Focus(350.0), Focus(350.0)])
    '350 mm from the face, offset 0 mm'
    """
    texts = [f"{one.length_mm:g} mm from the {one.counted_from}, offset {one.offset_mm:g} mm" for one in foci]
    if len(set(texts)) == 1:
        return texts[0]
    return "; ".join(f"detector {number}: {text}" for number, text in enumerate(texts, 1))
