"""The collimator that an Interfile header names: a row of our table, or the holes that SIMIND writes beside its code.

No public header of STIR or SIMIND states a focal length: SIMIND's fan-beam codes have theirs from its database. A key
"focal length", as spectac's own, is read as well.

SIMIND's keys are ";# Collimator", "Collimator hole diameter", "Collimator hole septa", "Collimator thickness" and
"Intrinsic FWHM for the camera", in cm up to version 7 and in mm from version 8 on. Their size tells the unit: no hole
is wider than 7 mm, and none narrower than 0.7 mm.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from spectac.recon.collimator import (
    HALF_CRYSTAL_MM,
    SIMIND_CODES,
    USUAL_INTRINSIC_MM,
    Collimator,
    simind_code,
)
from spectac.recon.collimator import collimator as collimator_by_name
from spectac.recon.errors import InputError
from spectac.recon.io.foci import SettledFoci, StatedFocus, settled_foci
from spectac.recon.io.interfile.header import Header
from spectac.recon.settings import StudySettings

_SHAPES = {
    **dict.fromkeys(("GZ-LEHR", "HH-LEHR", "HH-LEHS", "ED-MEHS", "ED-MEHR", "SI-HEGP"), "square"),
    **dict.fromkeys(("GE-HEGP", "HH-MEGP"), "round"),
}
"""Codes whose holes are not hexagonal (collim.col)."""

_FAN_BEAM = re.compile(r"\bFAN|FB$")
"""Words for fan beams and endings of SIMIND's codes, in capitals; its database has no focal length of SE-LEFB."""

_REFUSED = re.compile(r"PIN[ -]?HOLE|\bCONE|CONVERG|DIVERG|SLANT|ASTIG")
"""Words for other holes that are not parallel, in capitals."""

_NO_NAME = ("NONE", "NO", "0", "UNKNOWN")

_NAME_KEYS = ("collimator", "collimator type", "collimator name")
_HOLE_KEYS = (
    ("collimator hole diameter", "collimator hole size", "hole diameter"),
    ("collimator hole septa", "collimator septa", "collimator septal thickness", "septal thickness"),
    ("collimator thickness", "collimator hole length", "collimator length"),
)
_FOCAL_KEYS = ("collimator focal length", "focal length", "focal distance")
_LIMITS_MM = ((0.5, 7.0), (0.05, 5.0), (8.0, 150.0))
"""Smallest and largest hole, septa and length of collimators."""

_WIDEST_HOLE_CM = 0.7
_WIDEST_INTRINSIC_CM = 1.0
_THICKEST_CRYSTAL_CM = 4.0
_LONGEST_FOCUS_CM = 100.0
"""A size below the largest that there is in cm is in cm."""


def read_collimator(header: Header, given: StudySettings, detectors: int) -> SettledFoci:
    """Collimator and focal lines: the user's, else those that the header names or describes; None with a warning.

    Parameters
    ----------
    header : Header
        Header, which gets history and warnings.
    given : StudySettings
        The user's options.
    detectors : int
        Number of heads.

    Returns
    -------
    SettledFoci
        Focal lines of the heads; the collimator is a row of the table, or one with the header's holes.

    Raises
    ------
    InputError
        For pinholes and others that are neither parallel nor fan-beam, and for a fan beam whose focal length nobody
        names.
    """
    comments = _comments(header)
    names = [text for key in _NAME_KEYS for text in header.texts(key, comments)]
    chosen = given.response
    if chosen is None:
        for text in names:
            if _REFUSED.search(simind_code(text)):
                raise header.error(
                    f"its collimator {text} has holes that are neither parallel nor a fan beam: not supported; give "
                    "--collimator if they were"
                )
        chosen = _of_header(header, comments)
    fan_beam = next((text for text in names if _is_fan_beam(text)), None)
    length = _size(header, _FOCAL_KEYS, comments)
    stated: list[StatedFocus] = []
    if length or fan_beam is not None:
        stated = [_stated(fan_beam, length)] * detectors
    missing = f"its collimator is {fan_beam}, and the header has no focal length"
    return settled_foci(stated, detectors, chosen, given, missing)


def read_crystal_mm(header: Header) -> float | None:
    """Thickness of the crystal in mm; None where the header has none that a camera could have."""
    crystal = _size(header, ("crystal thickness",), _comments(header))
    if crystal is None:
        return None
    crystal_mm = round(crystal * _factor(crystal, _THICKEST_CRYSTAL_CM), 6)
    return crystal_mm if 3.0 <= crystal_mm <= 60.0 else None


def _comments(header: Header) -> bool:
    """Whether values in comments count."""
    return bool(header.dialect.comments or "simind-specific parameters" in header.comments)


def _is_fan_beam(name: str) -> bool:
    row = _row(name)
    return _FAN_BEAM.search(simind_code(name)) is not None or (row is not None and row.focus is not None)


def _stated(name: str | None, length: float | None) -> StatedFocus:
    """Focal line of the header's key, else of the table's row for its code."""
    if length:
        return StatedFocus(length * _factor(length, _LONGEST_FOCUS_CM))
    row = _row(name)
    focus = None if row is None else row.focus
    return StatedFocus() if focus is None else StatedFocus(focus.length_mm, focus.counted_from)


def _of_header(header: Header, comments: bool) -> Collimator | None:
    """Collimator that the header names or describes; None with a warning where it does neither."""
    name = header.text(*_NAME_KEYS, comments=comments, lenient=True)
    code = simind_code(name or "")
    row = _row(name)
    if (holes := _holes_mm(header, comments)) is not None:
        collimator = _of_holes(header, comments, name, holes) if row is None or not _fits(row, holes) else row
        intrinsic_mm = _intrinsic_mm(header, comments)
        if intrinsic_mm is not None:
            collimator = replace(collimator, intrinsic_fwhm_mm=intrinsic_mm)
        header.history.append(
            f"collimator from the header: {collimator.name}, holes of {collimator.hole_mm:g} mm "
            f"({collimator.hole_shape}), septa of {collimator.septa_mm:g} mm, {collimator.length_mm:g} mm long, "
            f"intrinsic resolution {collimator.intrinsic_fwhm_mm:g} mm"
        )
        return collimator
    if row is not None:
        if code in SIMIND_CODES:
            header.history.append(f"SIMIND's collimator {name} is {row.name} of the table")
        return row
    if name is not None and code not in _NO_NAME:
        header.warn(f"the header's collimator '{name}' is not in the table: give --collimator, --holes or --psf")
    return None


def _row(name: str | None) -> Collimator | None:
    """Row of our table that a code or a name means."""
    try:
        return None if name is None else collimator_by_name(name)
    except InputError:
        return None


def _fits(row: Collimator, holes_mm: tuple[float, ...]) -> bool:
    """True where a row of the table has these holes to 1 %."""
    sizes = (row.hole_mm, row.septa_mm, row.length_mm)
    return all(abs(mine - theirs) <= 0.01 * theirs for mine, theirs in zip(holes_mm, sizes, strict=True))


def _holes_mm(header: Header, comments: bool) -> tuple[float, ...] | None:
    """Hole, septa and length in mm; None where the header does not give all three, or no collimator has them."""
    stated = [_size(header, keys, comments) for keys in _HOLE_KEYS]
    sizes = [size for size in stated if size is not None]
    if len(sizes) < len(stated):
        return None
    factor = _factor(sizes[0], _WIDEST_HOLE_CM)
    hole, septa, length = holes = tuple(round(factor * size, 6) for size in sizes)
    if all(low <= size <= high for size, (low, high) in zip(holes, _LIMITS_MM, strict=True)):
        return holes
    if any(holes):
        header.warn(
            f"the header's collimator has holes of {hole:g}, septa of {septa:g} and a length of {length:g} mm, as none "
            "has: not used (--collimator)"
        )
    return None


def _factor(size: float, largest_cm: float) -> float:
    """Factor to mm of a size whose unit its magnitude tells."""
    return 10.0 if size < largest_cm else 1.0


def _size(header: Header, names: Sequence[str], comments: bool) -> float | None:
    """Number as it stands under one of these keys, in mm where it names its unit; None without one."""
    for name in names:
        with suppress(InputError):
            for numbers in header.lists(name, "mm", (1,), comments)[:1]:
                if len(numbers) == 1:
                    return numbers[0]
    return None


def _intrinsic_mm(header: Header, comments: bool) -> float | None:
    """Intrinsic FWHM of the header, None for one that no camera has."""
    size = _size(header, ("intrinsic fwhm for the camera", "intrinsic resolution"), comments)
    if size is None:
        return None
    intrinsic_mm = size * _factor(size, _WIDEST_INTRINSIC_CM)
    return round(intrinsic_mm, 6) if 0.0 <= intrinsic_mm <= 12.0 else None


def _of_holes(header: Header, comments: bool, name: str | None, holes_mm: tuple[float, ...]) -> Collimator:
    """Collimator of these holes, in front of the crystal that the header gives."""
    crystal_mm = read_crystal_mm(header)
    gap_mm = HALF_CRYSTAL_MM if crystal_mm is None else 0.5 * crystal_mm
    hole_mm, septa_mm, length_mm = holes_mm
    return Collimator(
        re.sub(r"\s+", " ", name or "collimator of the header"),
        hole_mm,
        length_mm,
        septa_mm,
        USUAL_INTRINSIC_MM,
        gap_mm=gap_mm,
        hole_shape=_SHAPES.get(simind_code(name or ""), "hexagonal"),
        source="Interfile header",
    )
