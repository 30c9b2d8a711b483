"""Kind of a DICOM NM file: raw projections, reconstruction or another, and the corrections that it already had."""

from pydicom.config import IGNORE
from pydicom.uid import UID, NuclearMedicineImageStorage

from spectac.recon.io.dicom.elements import Item, name_of

_KINDS = {
    "STATIC": "a planar image",
    "WHOLE BODY": "a planar image",
    "DYNAMIC": "a dynamic series",
    "GATED": "a gated planar series",
    "GATED TOMO": "gated projections, which are not supported: sum the gates first",
    "RECON TOMO": "a reconstruction, not raw projections",
    "RECON GATED TOMO": "a gated reconstruction",
}
_NEEDED = {"TOMO": "raw SPECT projections (NM TOMO)", "RECON TOMO": "an NM reconstruction (RECON TOMO)"}
_CORRECTIONS = {"ATTN": "attenuation", "SCAT": "scatter", "UNIF": "uniformity", "COR": "centre of rotation"}


def kind_of(item: Item) -> str | None:
    """Value 3 of ImageType of an NM image ("TOMO", "RECON TOMO", ...), None for another SOP class.

    Without it an image with a rotation and without slices is one of raw projections: "TOMO".

    Parameters
    ----------
    item : Item
        Dataset of the file.

    Returns
    -------
    str or None
        Value, "" where ImageType names no kind that is known.

    Examples
    --------
    >>> from pydicom import Dataset
    >>> from pathlib import Path
    >>> data = Dataset()
    >>> data.Modality, data.ImageType = "NM", ["ORIGINAL", "PRIMARY", "TOMO", "EMISSION"]
    >>> kind_of(Item(data, Path("scan.dcm")))
    'TOMO'
    """
    uid = item.text("SOPClassUID")
    if uid != NuclearMedicineImageStorage and not (uid is None and item.text("Modality") == "NM"):
        return None
    kinds = [value for value in image_type(item)[2:] if value in ("TOMO", *_KINDS)]
    if kinds:
        return kinds[0]
    return "TOMO" if "RotationInformationSequence" in item.data and "SliceVector" not in item.data else ""


def image_type(item: Item) -> list[str]:
    """Values of ImageType in capitals.

    Parameters
    ----------
    item : Item
        Dataset of the file.

    Returns
    -------
    list of str
        Empty where the element is absent.

    Examples
    --------
    >>> from pydicom import Dataset
    >>> from pathlib import Path
    >>> data = Dataset()
    >>> data.ImageType = ["ORIGINAL", "PRIMARY", "TOMO"]
    >>> image_type(Item(data, Path("scan.dcm")))
    ['ORIGINAL', 'PRIMARY', 'TOMO']
    """
    return [value.upper() for value in item.texts("ImageType")]


def check_kind(item: Item, wanted: str, *, transmission: bool = False) -> None:
    """Refuse, with the reason, all but NM images whose ImageType says `wanted`.

    Parameters
    ----------
    item : Item
        Dataset of the file, which gets warnings.
    wanted : str
        "TOMO" or "RECON TOMO".
    transmission : bool
        True lets images of a transmission source pass, which are mu-maps.

    Raises
    ------
    InputError
        Names what the file is instead.
    """
    uid, kind, values = item.text("SOPClassUID"), kind_of(item), image_type(item)
    needed = f"{_NEEDED[wanted]} are needed"
    if kind is None:
        said = "missing" if uid is None else UID(uid, validation_mode=IGNORE).name
        raise item.error(f"SOPClassUID is {said}: {needed}")
    if kind != wanted:
        shown = "\\".join(item.texts("ImageType")) or "missing, and there is no rotation"
        reason = _KINDS.get(kind, "raw projections, not an image" if kind == "TOMO" else "of no kind that is known")
        raise item.error(f"ImageType is {shown}: this is {reason}; {needed}")
    if wanted not in values[2:]:
        item.warn(
            f"ImageType is {'/'.join(values) or 'missing'}: taken as raw projections, for there is a rotation and no "
            "slices"
        )
    if uid is None:
        item.warn("SOPClassUID is missing: taken as an NM image, as Modality says")
    if "TRANSMISSION" in values and not transmission:
        raise item.error("ImageType says TRANSMISSION: these are not the patient's own photons")
    if wanted == "TOMO" and "DERIVED" in values[:1]:
        item.notes.warn("ImageType says DERIVED: these projections were processed after the acquisition")


def read_corrections(item: Item) -> frozenset[str]:
    """Terms of CorrectedImage, with a warning where UNIF or COR is absent.

    Parameters
    ----------
    item : Item
        Dataset of the file.

    Returns
    -------
    frozenset of str
        Terms in capitals.

    Raises
    ------
    InputError
        For ATTN and SCAT.

    Examples
    --------
    >>> from pydicom import Dataset
    >>> from pathlib import Path
    >>> data = Dataset()
    >>> data.CorrectedImage = ["UNIF", "COR"]
    >>> sorted(read_corrections(Item(data, Path("scan.dcm"))))
    ['COR', 'UNIF']
    """
    terms = frozenset(term.upper() for term in item.texts("CorrectedImage") if term)
    for term in ("ATTN", "SCAT"):
        if term in terms:
            raise item.error(
                f"CorrectedImage says {term}: corrected for {_CORRECTIONS[term]} already, raw projections are needed"
            )
    missing = [_CORRECTIONS[term] for term in ("UNIF", "COR") if term not in terms]
    if missing:
        said = "\\".join(sorted(terms)) or "absent or empty"
        item.notes.warn(f"{name_of('CorrectedImage')} is {said}: not known to be corrected for {' and '.join(missing)}")
    if "DECY" in terms:
        item.record("CorrectedImage says DECY: no decay between the views in the model")
    return terms
