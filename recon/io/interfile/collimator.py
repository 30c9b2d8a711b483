"""The collimator that an Interfile header names: a row of our table, or the holes that SIMIND writes beside its code.

SIMIND's keys are ";# Collimator", "Collimator hole diameter", "Collimator hole septa", "Collimator thickness" and
"Intrinsic FWHM for the camera", in cm up to version 7 and in mm from version 8 on. Their size tells the unit: no hole
is wider than 7 mm, and none narrower than 0.7 mm.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType

from spectac.recon.collimator import COLLIMATORS, Collimator
from spectac.recon.collimator import collimator as collimator_by_name
from spectac.recon.errors import InputError
from spectac.recon.io.interfile.header import Header

_SAME_AS = MappingProxyType(
    {
        "SY-LEHR": "siemens-lehr", "SE-LEHR": "siemens-lehr", "SY-LEAP": "siemens-legp", "SE-LEAP": "siemens-legp",
        "SI-LEAP": "siemens-legp", "SE-LEUR": "siemens-leuhr", "SY-ME": "siemens-me", "SE-ME": "siemens-me",
        "SI-ME": "siemens-me", "GI-LEHR": "ge-lehr", "GV-LEHR": "ge-lehr", "G8-LEHR": "ge-lehr", "GI-LEGP": "ge-legp",
        "GV-LEGP": "ge-legp", "GI-MEGP": "ge-megp", "GV-MEGP": "ge-megp", "PB-LEHR": "philips-lehr",
        "PB-LEGP": "philips-legp", "PB-MEGP": "philips-megp", "MA-LEHR": "mediso-lehr", "MA-LEUHR": "mediso-leuhr",
        "MA-LEGP": "mediso-legp", "MA-MEGP": "mediso-megp",
    }
)  # fmt: skip
"""Codes of SIMIND's collimator database whose hole, septa and length are those of our row to 1 %."""

_CODED = MappingProxyType(
    {
        "TO-900A": (2.36, 0.22, 40.0), "TO-901A": (1.78, 0.17, 40.0), "TO-902A": (3.08, 0.29, 40.0),
        "TO-903A": (1.36, 0.13, 40.0), "TO-921A": (1.90, 0.25, 40.0), "TO-930A": (3.37, 1.08, 40.0),
        "TO-931A": (2.60, 0.84, 40.0), "SI-LEHR": (1.11, 0.16, 23.6), "SI-ME+": (2.07, 0.66, 32.84),
        "SI-HE": (4.06, 2.00, 59.7), "SE-LEHS": (2.54, 0.36, 24.05), "SE-HE": (3.40, 2.00, 50.8),
        "SY-HE": (4.00, 2.00, 59.7), "GI-HEGP": (4.00, 1.80, 66.0), "GI-ELEG": (2.50, 0.40, 40.0),
        "GV-HEGP": (4.00, 1.80, 66.0), "GO-LEHR": (1.40, 0.15, 30.0), "GO-LEGP": (1.90, 0.20, 32.0),
        "GT-LEHR": (1.40, 0.15, 30.0), "GT-LEGP": (1.90, 0.20, 32.0), "G8-LHRS": (1.43, 0.13, 32.0),
        "G8-LUHR": (2.20, 0.15, 38.0), "G8-MEGP": (3.50, 1.05, 58.0), "GZ-LEHR": (2.26, 0.20, 45.0),
        "PR-LEHR": (1.40, 0.18, 27.0), "PR-LEUR": (1.40, 0.15, 34.9), "PR-LEAP": (1.57, 0.24, 25.4),
    }
)  # fmt: skip
"""Hole, septa and length in mm of further codes (SIMIND 7.0.3, collim.col), for headers that give the code alone."""

_SHAPES = {
    **dict.fromkeys(("GZ-LEHR", "HH-LEHR", "HH-LEHS", "ED-MEHS", "ED-MEHR", "SI-HEGP"), "square"),
    **dict.fromkeys(("GE-HEGP", "HH-MEGP"), "round"),
}
"""Codes whose holes are not hexagonal (collim.col)."""

_FAN_BEAM = {"PR-APFB", "PR-HRFB", "PR-URFB", "GV-LEUR", "SE-LEFB"}

_NOT_PARALLEL = re.compile(r"PIN[ -]?HOLE|\bFAN|\bCONE|CONVERG|DIVERG|SLANT|ASTIG|FB$")
"""Words for holes that are not parallel, in capitals."""

_NO_NAME = ("NONE", "NO", "0", "UNKNOWN")

_NAME_KEYS = ("collimator", "collimator type", "collimator name")
_HOLE_KEYS = (
    ("collimator hole diameter", "collimator hole size", "hole diameter"),
    ("collimator hole septa", "collimator septa", "collimator septal thickness", "septal thickness"),
    ("collimator thickness", "collimator hole length", "collimator length"),
)
_LIMITS_MM = ((0.5, 7.0), (0.05, 5.0), (8.0, 150.0))
"""Smallest and largest hole, septa and length of collimators."""

_WIDEST_HOLE_CM = 0.7
_WIDEST_INTRINSIC_CM = 1.0
_THICKEST_CRYSTAL_CM = 4.0
"""A size below the largest that there is in cm is in cm."""

_INTRINSIC_MM = 3.8
"""Intrinsic FWHM at 140.5 keV where the header does not give it."""
_GAP_MM = 4.75
"""The middle of a 9.5 mm crystal, where the header does not give its thickness."""


def read_collimator(header: Header, wanted: Collimator | None) -> Collimator | None:
    """Collimator: the caller's, else the one that the header names or describes, else None with a warning.

    Parameters
    ----------
    header : Header
        Header, which gets history and warnings.
    wanted : Collimator or None
        The caller's.

    Returns
    -------
    Collimator or None
        Row of the table, or one with the header's holes.

    Raises
    ------
    InputError
        For fan beams, pinholes and others whose holes are not parallel.
    """
    if wanted is not None:
        return wanted
    comments = header.dialect.comments or "simind-specific parameters" in header.comments
    name = header.text(*_NAME_KEYS, comments=comments, lenient=True)
    for text in [text for key in _NAME_KEYS for text in header.texts(key, comments)]:
        if _code(text) in _FAN_BEAM or _NOT_PARALLEL.search(_code(text)):
            raise header.error(
                f"its collimator {text} has holes that are not parallel: not supported; give --collimator if they were"
            )
    code = _code(name or "")
    row = _row(code, name)
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
        if code in _SAME_AS:
            header.history.append(f"SIMIND's collimator {name} is {row.name} of the table")
        return row
    if code in _CODED:
        hole, septa, length = _CODED[code]
        header.history.append(
            f"SIMIND's collimator {name}: hole {hole:g}, septa {septa:g}, length {length:g} mm (collim.col)"
        )
        return _built(name or code, _CODED[code], _GAP_MM)
    if name is not None and code not in _NO_NAME:
        header.warn(f"the header's collimator '{name}' is not in the table: name one with --collimator or give --psf")
    return None


def _code(name: str) -> str:
    """Name as SIMIND's codes are spelled."""
    return name.strip().upper().replace("_", "-")


def _row(code: str, name: str | None) -> Collimator | None:
    """Row of our table that a code or a name means."""
    if code in _SAME_AS or name is None:
        return COLLIMATORS.get(_SAME_AS.get(code, ""))
    try:
        return collimator_by_name(name)
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
    crystal = _size(header, ("crystal thickness",), comments)
    crystal_mm = 0.0 if crystal is None else crystal * _factor(crystal, _THICKEST_CRYSTAL_CM)
    gap_mm = 0.5 * crystal_mm if 3.0 <= crystal_mm <= 60.0 else _GAP_MM
    return _built(re.sub(r"\s+", " ", name or "collimator of the header"), holes_mm, gap_mm)


def _built(name: str, holes_mm: tuple[float, ...], gap_mm: float) -> Collimator:
    hole_mm, septa_mm, length_mm = holes_mm
    return Collimator(
        name,
        hole_mm,
        length_mm,
        septa_mm,
        _INTRINSIC_MM,
        gap_mm=gap_mm,
        hole_shape=_SHAPES.get(_code(name), "hexagonal"),
        source="Interfile header",
    )
