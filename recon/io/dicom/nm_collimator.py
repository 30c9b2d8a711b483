"""Collimator of a DICOM NM file: the entry of the table that manufacturer and name stand for."""

from collections.abc import Collection

from spectac.recon.collimator import COLLIMATORS, Collimator
from spectac.recon.io.dicom.elements import Item

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

_PARALLEL = ("", "PARA", "UNKN", "NONE")
_NOT_PARALLEL = ("PINH", "FANB", "CONE", "SLNT", "ASTG", "DIVG")
"""Terms of CollimatorType (PS3.3 C.8.4.11.1) whose holes are not parallel."""


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


def read_collimator(item: Item, detectors: Collection[Item], given: Collimator | None) -> Collimator | None:
    """Collimator of the table: the user's, else by manufacturer and name; None with a warning where it is not clear.

    Parameters
    ----------
    item : Item
        Dataset of the file.
    detectors : collection of Item
        Detector items of the heads.
    given : Collimator or None
        The user's.

    Returns
    -------
    Collimator or None
        Collimator of all heads.

    Raises
    ------
    InputError
        For fan beams, pinholes and other collimators whose holes are not parallel.
    """
    for detector in detectors:
        kind = (detector.text("CollimatorType") or "").upper()
        if kind in _NOT_PARALLEL:
            raise detector.error(f"CollimatorType is {kind}: only parallel holes (PARA) are modelled")
        if kind not in _PARALLEL:
            item.warn(f"CollimatorType is {kind!r}, which DICOM does not know: taken as parallel holes")
    if given is not None:
        return given
    names = {detector.text("CollimatorGridName") or "" for detector in detectors} or {""}
    if len(names) > 1:
        listed = " and ".join(repr(name) for name in sorted(names))
        item.notes.warn(f"the heads have different collimators ({listed}): give --collimator or --psf")
        return None
    name, maker = names.pop(), item.text("Manufacturer") or ""
    collimator = _by_name(name, maker)
    if collimator is None:
        shown = f"{name!r} of {maker or 'an unnamed manufacturer'}" if name else "that the file does not name"
        item.notes.warn(f"the collimator {shown} is not in the table: give --collimator or --psf")
        return None
    item.record(f"collimator {name!r} of {maker or 'the table'} taken as {collimator.name}")
    return collimator


def _by_name(name: str, manufacturer: str) -> Collimator | None:
    letters = "".join(character for character in name.lower() if character.isalnum())
    for entry in COLLIMATORS.values():
        if letters == entry.name.replace("-", ""):
            return entry
    maker = maker_of(manufacturer)
    entries = [COLLIMATORS.get(f"{maker}-{kind}") for kind, names in _TYPES.items() if letters in names]
    return next((entry for entry in entries if entry is not None), None)
