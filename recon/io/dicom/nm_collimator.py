"""Collimator of a DICOM NM file: the entry of the table that manufacturer and name stand for, and its focal lines."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from spectac.recon.collimator import COLLIMATORS, Collimator, collimator
from spectac.recon.errors import InputError
from spectac.recon.io.dicom.elements import Item, name_of
from spectac.recon.io.dicom.nm_orientation import Orientation
from spectac.recon.io.dicom.nm_view_angles import Head
from spectac.recon.io.foci import SettledFoci, StatedFocus, settled_foci
from spectac.recon.settings import StudySettings

_MAKERS = {"siemens": "siemens", "ge": "ge", "gems": "ge", "philips": "philips", "mediso": "mediso"}
"""The table's manufacturers by the first word of Manufacturer."""

_TYPES = {
    "lehr": ("lehr", "lehrp"),
    "legp": ("legp", "leap"),
    "leuhr": ("leuhr", "leuhrp"),
    "megp": ("megp", "meap"),
    "me": ("me", "melp", "meap", "megp"),
}
"""Names of each type as the vendors print them on the collimators; what stands for several of them is left out."""

_FAN_BEAM = "FANB"
_PARALLEL = ("", "PARA", "UNKN", "NONE")
_REFUSED = {
    "PINH": "pinhole", "CONE": "cone-beam", "SLNT": "slant holes", "ASTG": "astigmatic", "DIVG": "diverging holes",
}  # fmt: skip
"""Terms of CollimatorType (PS3.3 C.8.4.11.1) whose holes are neither parallel nor a fan beam."""


def maker_of(manufacturer: str) -> str | None:
    """The table's name of a manufacturer, None for one that it lacks.

    Parameters
    ----------
    manufacturer : str
        Text of Manufacturer.

    Returns
    -------
    str or None
        First part of the names of this maker's collimators in the table.

    Examples
    --------
    >>> maker_of("GE MEDICAL SYSTEMS")
    'ge'
    """
    return _MAKERS.get(manufacturer.lower().strip().partition(" ")[0].strip(",."))


def read_collimator(
    item: Item, heads: Sequence[Head], orientations: Sequence[Orientation], given: StudySettings
) -> SettledFoci:
    """Collimator and focal lines: the user's, else the file's; a collimator of None has its warning.

    Parameters
    ----------
    item : Item
        Dataset of the file.
    heads : sequence of Head
        Heads with their detector items.
    orientations : sequence of Orientation
        How each head's frames are stored.
    given : StudySettings
        The user's options.

    Returns
    -------
    SettledFoci
        Focal lines of the heads, and the collimator of all of them.

    Raises
    ------
    InputError
        For pinholes and other collimators that are neither parallel nor fan-beam, for heads of both kinds, and for a
        fan beam whose focal length nobody names.
    """
    detectors = [head.item for head in heads if head.item is not None]
    kinds = [_kind(detector, item) for detector in detectors]
    fan_beam = _FAN_BEAM in kinds
    if fan_beam and set(kinds) != {_FAN_BEAM} and given.focal_length_mm is None:
        raise detectors[kinds.index(_FAN_BEAM)].error(
            "CollimatorType is FANB and that of another head is not: give --focal-length, which goes for all heads"
        )
    chosen = given.response or _of_file(item, detectors, fan_beam)
    if given.response is None and chosen is not None and chosen.focus is not None and "PARA" in kinds:
        item.record(f"CollimatorType is PARA: {chosen.name} was taken with parallel holes")
        chosen = replace(chosen, focus=None)
    stated = [_stated(head, one) for head, one in zip(heads, orientations, strict=True)] if fan_beam else []
    missing = f"{name_of('CollimatorType')} is FANB and {name_of('FocalDistance')} is missing or 0"
    settled = settled_foci(stated, len(heads), chosen, given, missing)
    if settled.foci and "PARA" in kinds:
        item.warn("CollimatorType is PARA: read as a fan beam, as asked")
    return settled


def _kind(detector: Item, item: Item) -> str:
    """CollimatorType of a detector: FANB, or a term for parallel holes."""
    kind = (detector.text("CollimatorType") or "").upper()
    if kind in _REFUSED:
        raise detector.error(
            f"CollimatorType is {kind} ({_REFUSED[kind]}): only parallel holes (PARA) and fan beams (FANB) are modelled"
        )
    if kind not in (*_PARALLEL, _FAN_BEAM):
        item.warn(f"CollimatorType is {kind!r}, which DICOM does not know: taken as parallel holes")
    return kind


def _stated(head: Head, orientation: Orientation) -> StatedFocus:
    """Focal line that a detector item describes.

    FocalDistance counts from the "front face of the detector", 0 stands for infinity. XFocusCenter is the projection of
    the focus along a row, from the centre of the field of view before zoom (PS3.3 C.8.4.11.1).
    """
    detector = head.item
    if detector is None:
        return StatedFocus()
    lengths = sorted({length for length in detector.optional_numbers("FocalDistance") if length})
    if lengths and (lengths[0] < 0 or len(lengths) > 1):
        held = "\\".join(f"{length:g}" for length in detector.optional_numbers("FocalDistance"))
        raise detector.error(f"FocalDistance needs one length above 0 mm for a fan beam, it is {held}")
    offsets = detector.optional_numbers("XFocusCenter")
    if any(detector.optional_numbers("YFocusCenter")):
        detector.warn("YFocusCenter is not 0: not used, a focal line runs parallel to the axis")
    if any(detector.optional_numbers("ZoomCenter")):
        detector.warn("ZoomCenter is not 0: XFocusCenter was taken from the centre of the matrix, see --focus-offset")
    along_u = -1.0 if orientation.mirrored else 1.0
    offset_mm = along_u * offsets[0] + 0.0 if offsets else None  # + 0.0: no minus before 0
    return StatedFocus(lengths[0] if lengths else None, None, offset_mm)


def _of_file(item: Item, detectors: Collection[Item], fan_beam: bool) -> Collimator | None:
    """Collimator of the table by manufacturer and name; None with a warning where it is not clear."""
    names = {detector.text("CollimatorGridName") or "" for detector in detectors} or {""}
    if len(names) > 1:
        listed = " and ".join(repr(name) for name in sorted(names))
        item.notes.warn(f"the heads have different collimators ({listed}): give --collimator, --holes or --psf")
        return None
    name, maker = names.pop(), item.text("Manufacturer") or ""
    entry = _by_name(name, "" if fan_beam else maker)
    if entry is None:
        shown = f"{name!r} of {maker or 'an unnamed manufacturer'}" if name else "that the file does not name"
        fan = "fan-beam " if fan_beam else ""
        item.notes.warn(f"the {fan}collimator {shown} is not in the table: give --collimator, --holes or --psf")
        return None
    item.record(f"collimator {name!r} of {maker or 'the table'} taken as {entry.name}")
    return entry


def _by_name(name: str, manufacturer: str) -> Collimator | None:
    """Row of the table that bears the name, else of that maker's parallel collimators."""
    try:
        return collimator(name)
    except InputError:
        letters = "".join(character for character in name.lower() if character.isalnum())
    maker = maker_of(manufacturer)
    entries = [COLLIMATORS.get(f"{maker}-{kind}") for kind, names in _TYPES.items() if letters in names]
    return next((entry for entry in entries if entry is not None), None)
