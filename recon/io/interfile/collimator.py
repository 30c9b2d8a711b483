"""The collimator that an Interfile header names: a row of our table, or the holes that SIMIND writes beside its code.

SIMIND's keys are ";# Collimator", "Collimator hole diameter", "Collimator hole septa", "Collimator thickness" and
"Intrinsic FWHM for the camera", in cm up to version 7 and in mm from version 8 on. Which of the two is seen by their
size: no hole is wider than 7 mm, and none narrower than 0.7 mm.
"""

import re
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

_SQUARE = {"GZ-LEHR", "HH-LEHR", "HH-LEHS", "ED-MEHS", "ED-MEHR", "SI-HEGP"}
_ROUND = {"GE-HEGP", "HH-MEGP"}
"""Codes whose holes are not hexagonal (collim.col)."""

_FAN_BEAM = {"PR-APFB", "PR-HRFB", "PR-URFB", "GV-LEUR", "SE-LEFB"}

_NOT_PARALLEL = re.compile(r"PIN[ -]?HOLE|\bFAN|\bCONE|CONVERG|DIVERG|SLANT|ASTIG")
"""Words for holes that are not parallel, in capitals."""

_CAMERA = (3.8, 4.75)
"""Intrinsic FWHM at 140.5 keV and the middle of a 9.5 mm crystal in mm, where the header gives neither."""


def read_collimator(
    header: Header, dialect: str, wanted: Collimator | None, warnings: list[str], history: list[str]
) -> Collimator | None:
    """Collimator: the caller's, else the one that the header names or describes, else None with a warning.

    Raises InputError for fan beams, pinholes and others whose holes are not parallel.
    """
    if wanted is not None:
        return wanted
    comments = dialect == "SIMIND" or "simind-specific parameters" in header.comments
    name = header.text("collimator", "collimator type", "collimator name", comments=comments, needed=False)
    code = (name or "").strip().upper().replace("_", "-")
    for key in ("collimator", "collimator type", "collimator name"):
        for text in header.texts(key, comments=comments):
            own = text.strip().upper().replace("_", "-")
            if own in _FAN_BEAM or own.endswith("FB") or _NOT_PARALLEL.search(own):
                raise header.error(
                    f"its collimator {text} has holes that are not parallel: not supported; give --collimator if they "
                    "were"
                )
    holes = _holes_mm(header, comments, warnings)
    coded = COLLIMATORS.get(_SAME_AS.get(code, ""))
    if coded is None and name is not None:
        try:
            coded = collimator_by_name(name)
        except InputError:
            coded = None
    if holes is not None:
        found = _of_holes(header, comments, code, name, coded, holes)
        history.append(
            f"collimator from the header: {found.name}, holes of {found.hole_mm:g} mm ({found.hole_shape}), septa of "
            f"{found.septa_mm:g} mm, {found.length_mm:g} mm long, intrinsic resolution {found.intrinsic_fwhm_mm:g} mm"
        )
        return found
    if coded is not None:
        if code in _SAME_AS:
            history.append(f"SIMIND's collimator {name} is {coded.name} of the table")
        return coded
    if code in _CODED:
        hole, septa, length = _CODED[code]
        found = _built(code, name or code, (hole, septa, length), _CAMERA)
        history.append(f"SIMIND's collimator {name}: hole {hole:g}, septa {septa:g}, length {length:g} mm (collim.col)")
        return found
    if name is not None and code not in ("NONE", "NO", "0", "UNKNOWN"):
        warnings.append(
            f"the header's collimator '{name}' is not in the table: name one with --collimator or give --psf"
        )
    return None


def _holes_mm(header: Header, comments: bool, warnings: list[str]) -> tuple[float, float, float] | None:
    """Hole, septa and length in mm; None where the header does not give all three, or no collimator has them."""
    keys = (
        ("collimator hole diameter", "collimator hole size", "hole diameter"),
        ("collimator hole septa", "collimator septa", "collimator septal thickness", "septal thickness"),
        ("collimator thickness", "collimator hole length", "collimator length"),
    )
    sizes = [_size(header, names, comments) for names in keys]
    if any(size is None for size in sizes):
        return None
    hole, septa, length = (size or 0.0 for size in sizes)
    unit = _in_mm(hole, _WIDEST_HOLE_CM)
    hole, septa, length = (round(unit * size, 6) for size in (hole, septa, length))
    if not (0.5 <= hole <= 7.0 and 0.05 <= septa <= 5.0 and 8.0 <= length <= 150.0):
        if any((hole, septa, length)):
            warnings.append(
                f"the header's collimator has holes of {hole:g}, septa of {septa:g} and a length of {length:g} mm, as "
                "none has: not used (--collimator)"
            )
        return None
    return hole, septa, length


_WIDEST_HOLE_CM, _WIDEST_INTRINSIC_CM, _THICKEST_CRYSTAL_CM = 0.7, 1.0, 4.0


def _in_mm(size: float, largest_cm: float) -> float:
    """Factor to mm of a size whose unit its magnitude tells: below the largest that there is in cm, it is in cm."""
    return 10.0 if size < largest_cm else 1.0


def _size(header: Header, names: tuple[str, ...], comments: bool) -> float | None:
    """Number as it stands under one of these keys, in mm where it names its unit; None without one."""
    for name in names:
        try:
            if found := header.measures(name, "mm", comments):
                key, text, factor = found[0]
                return factor * header.as_number(key, text, "mm")
        except InputError:
            continue
    return None


def _of_holes(
    header: Header,
    comments: bool,
    code: str,
    name: str | None,
    coded: Collimator | None,
    holes: tuple[float, float, float],
) -> Collimator:
    """The table's row where it has these holes to 1 %, else one of these holes; the header's intrinsic resolution."""
    intrinsic = _size(header, ("intrinsic fwhm for the camera", "intrinsic resolution"), comments)
    if intrinsic is not None:
        intrinsic *= _in_mm(intrinsic, _WIDEST_INTRINSIC_CM)
        intrinsic = round(intrinsic, 6) if 0.0 <= intrinsic <= 12.0 else None
    crystal = _size(header, ("crystal thickness",), comments)
    if crystal is not None:
        crystal *= _in_mm(crystal, _THICKEST_CRYSTAL_CM)
    if coded is not None and all(
        abs(mine - theirs) <= 0.01 * theirs
        for mine, theirs in zip(holes, (coded.hole_mm, coded.septa_mm, coded.length_mm), strict=True)
    ):
        return coded if intrinsic is None else replace(coded, intrinsic_fwhm_mm=intrinsic)
    camera = (
        _CAMERA[0] if intrinsic is None else intrinsic,
        0.5 * crystal if crystal is not None and 3.0 <= crystal <= 60.0 else _CAMERA[1],
    )
    return _built(code, re.sub(r"\s+", " ", name or "collimator of the header"), holes, camera)


def _built(code: str, name: str, holes: tuple[float, float, float], camera: tuple[float, float]) -> Collimator:
    hole_mm, septa_mm, length_mm = holes
    shape = "square" if code in _SQUARE else "round" if code in _ROUND else "hexagonal"
    return Collimator(name, hole_mm, length_mm, septa_mm, *camera, hole_shape=shape, source="Interfile header")
