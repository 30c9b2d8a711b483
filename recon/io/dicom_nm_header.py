"""What a DICOM NM header says beside geometry: kind of file, nuclide, energy windows, collimator, corrections."""

from itertools import pairwise

from pydicom.config import IGNORE
from pydicom.uid import UID

from spectac.recon.collimator import COLLIMATORS, Collimator
from spectac.recon.errors import InputError
from spectac.recon.io.dicom_file import Item, name_of
from spectac.recon.io.dicom_nm_frames import Notes
from spectac.recon.nuclides import NUCLIDES
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import EnergyWindow

NM_STORAGE = "1.2.840.10008.5.1.4.1.1.20"
_KINDS = {
    "STATIC": "a planar image",
    "WHOLE BODY": "a planar image",
    "DYNAMIC": "a dynamic series",
    "GATED": "a gated planar series",
    "GATED TOMO": "gated projections, which are not supported: sum the gates first",
    "RECON TOMO": "a reconstruction, not raw projections",
    "RECON GATED TOMO": "a gated reconstruction",
}

# (name, SNOMED RT, SNOMED CT) of DICOM CID 18, as listed in PS3.16; SNM3, SRT and 99SDM are the same codes.
_NUCLIDE_CODES = (
    ("Tc-99m", "C-163A8", "72454006"),
    ("I-123", "C-114A4", "21572004"),
    ("In-111", "C-145A4", "56609000"),
    ("Tl-201", "C-138A9", "60057003"),
    ("I-131", "C-114B1", "1368003"),
    ("Lu-177", "C-101ED", "447553000"),
    ("Xe-133", "C-172A8", "80751004"),
    ("Ga-67", "C-131A2", "2008008"),
    ("Sm-153", "C-B1134", "419804008"),
)
NUCLIDE_CODES = {name: sct for name, _, sct in _NUCLIDE_CODES}
_NUCLIDE_OF = {code: name for name, *codes in _NUCLIDE_CODES for code in codes}
_ELEMENTS = {
    "technetium": "Tc",
    "iodine": "I",
    "indium": "In",
    "thallium": "Tl",
    "lutetium": "Lu",
    "xenon": "Xe",
    "gallium": "Ga",
    "samarium": "Sm",
}

_MAKERS = {"siemens": "siemens", "ge": "ge", "gems": "ge", "philips": "philips", "mediso": "mediso"}
# Names as the vendors print them on the collimators; what stands for several of them is left out.
_TYPES = {
    "lehr": "lehr",
    "lehrp": "lehr",
    "legp": "legp",
    "leap": "legp",
    "leuhr": "leuhr",
    "leuhrp": "leuhr",
    "megp": "megp",
    "meap": "megp",
}
_TYPES_OF = {"siemens": {"me": "me", "melp": "me", "meap": "me", "megp": "me"}}
_PARALLEL = {"", "PARA", "UNKN"}


def kind_of(item: Item) -> str | None:
    """Value 3 of ImageType of an NM image ("TOMO", "RECON TOMO", ...), None for another SOP class."""
    if item.text("SOPClassUID") != NM_STORAGE:
        return None
    values = item.texts("ImageType")
    return values[2].upper() if len(values) > 2 else ""


def check_kind(item: Item, wanted: str, notes: Notes) -> None:
    """InputError, with the reason, for all but NM images whose ImageType says `wanted`."""
    needed = "raw SPECT projections (NM TOMO)" if wanted == "TOMO" else "an NM reconstruction (RECON TOMO)"
    uid = item.text("SOPClassUID")
    kind = kind_of(item)
    if uid is None:
        raise item.error("SOPClassUID", f"is missing: {needed} are needed")
    if kind is None:
        raise item.error("SOPClassUID", f"is {UID(uid, validation_mode=IGNORE).name}: {needed} are needed")
    if kind != wanted:
        shown = "\\".join(item.texts("ImageType")) or "missing"
        reason = _KINDS.get(kind, "raw projections, not an image" if kind == "TOMO" else "of no kind that is known")
        raise item.error("ImageType", f"is {shown}: this is {reason}; {needed} are needed")
    values = [value.upper() for value in item.texts("ImageType")]
    if "TRANSMISSION" in values:
        raise item.error("ImageType", "says TRANSMISSION: these are not the patient's own photons")
    if wanted == "TOMO" and values[0] == "DERIVED":
        notes.warnings.append("ImageType says DERIVED: these projections were processed after the acquisition")


def read_nuclide(item: Item, wanted: str | None, notes: Notes) -> str:
    """Nuclide of the table: the caller's, else that of RadionuclideCodeSequence.

    Raises InputError where there is none, one that is not known, or several.
    """
    found, unknown, agents = set(), [], []
    for agent in item.items("RadiopharmaceuticalInformationSequence"):
        agents += [text for text in [agent.text("Radiopharmaceutical")] if text]
        for code in agent.items("RadionuclideCodeSequence"):
            name = _nuclide_of(code)
            if name is not None:
                found.add(name)
            elif label := code.text("CodeMeaning") or code.text("CodeValue"):
                unknown.append(label)
    if wanted is not None:
        name = nuclide_by_name(wanted).name
        if (found or unknown) and found != {name}:
            said = ", ".join(sorted(found) + unknown)
            notes.warnings.append(f"the file's nuclide {said} was replaced by {name}")
        return name
    if len(found) > 1:
        raise item.error(
            "RadiopharmaceuticalInformationSequence",
            f"names {' and '.join(sorted(found))}: two nuclides at once are not modelled; choose one with --nuclide",
        )
    if not found:
        what = f"names {', '.join(unknown)}, which is not known" if unknown else "names no nuclide"
        if agents and not unknown:
            what += f" (only the radiopharmaceutical {', '.join(agents)})"
        known = ", ".join(NUCLIDES)
        raise item.error("RadiopharmaceuticalInformationSequence", f"{what}: give --nuclide, one of {known}")
    return found.pop()


def _nuclide_of(code: Item) -> str | None:
    name = _NUCLIDE_OF.get((code.text("CodeValue") or "").upper())
    if name is not None:
        return name
    text = (code.text("CodeMeaning") or "").lower().replace("^", "")
    for element, symbol in _ELEMENTS.items():
        text = text.replace(element, symbol)
    try:
        return nuclide_by_name(text).name
    except InputError:
        return None


def read_dose(item: Item) -> list[str]:
    """Line of history with dose and time of injection, where the file has them."""
    lines = []
    for agent in item.items("RadiopharmaceuticalInformationSequence"):
        dose = agent.number("RadionuclideTotalDose")
        if dose:
            when = agent.text("RadiopharmaceuticalStartTime")
            lines.append(f"injected {dose:g} MBq" + (f" at {when}" if when else ""))
    return lines


def read_windows(item: Item, used: list[int], notes: Notes) -> dict[int, EnergyWindow]:
    """Energy windows by their number (from 0) for those that have frames.

    Ranges of one window that touch are joined. Ranges that do not touch are several peaks counted into one frame, which
    no single energy describes: such a window is left out with a warning, or refused where it is the only one.
    """
    sequence = item.items("EnergyWindowInformationSequence")
    windows: dict[int, EnergyWindow] = {}
    for index in used:
        if index >= len(sequence):
            raise item.error(
                "EnergyWindowInformationSequence",
                f"has {len(sequence)} items, but {name_of('EnergyWindowVector')} names window {index + 1}",
            )
        window = sequence[index]
        ranges = []
        for one in window.items("EnergyWindowRangeSequence"):
            lower, upper = one.number("EnergyWindowLowerLimit"), one.number("EnergyWindowUpperLimit")
            if lower is None or upper is None or not 0 <= lower < upper:
                raise one.error("EnergyWindowLowerLimit", f"and UpperLimit must rise, they are {lower} and {upper} keV")
            ranges.append((lower, upper))
        if not ranges:
            raise window.error("EnergyWindowRangeSequence", "is missing or empty: the window's energies are unknown")
        ranges.sort()
        gaps = [after[0] - before[1] for before, after in pairwise(ranges)]
        listed = ", ".join(f"{lower:g}-{upper:g}" for lower, upper in ranges)
        name = window.text("EnergyWindowName") or f"window {index + 1}"
        if any(gap > 1.0 for gap in gaps):
            if len(used) == 1:
                raise window.error(
                    "EnergyWindowRangeSequence",
                    f"counts {listed} keV into one frame: several peaks in one window cannot be modelled",
                )
            notes.warnings.append(f"{name} was left out: it counts {listed} keV into one frame")
            continue
        if len(ranges) > 1:
            notes.history.append(f"{name}: its ranges {listed} keV touch and were joined")
        windows[index] = EnergyWindow(name, ranges[0][0], max(upper for _, upper in ranges))
    if not windows:
        raise item.error("EnergyWindowInformationSequence", "has only windows that count several peaks into one frame")
    return windows


def read_collimator(item: Item, heads: list[int], given: Collimator | None, notes: Notes) -> Collimator | None:
    """Collimator of the table: the caller's, else by manufacturer and name; None with a warning where it is not clear.

    Raises InputError for fan beams, pinholes and other collimators whose holes are not parallel.
    """
    sequence = item.items("DetectorInformationSequence")
    own = [sequence[head] for head in heads if head < len(sequence)]
    for detector in own:
        kind = (detector.text("CollimatorType") or "").upper()
        if kind not in _PARALLEL:
            raise detector.error("CollimatorType", f"is {kind}: only parallel holes (PARA) are modelled")
    if given is not None:
        return given
    names = {detector.text("CollimatorGridName") or "" for detector in own} or {""}
    if len(names) > 1:
        listed = " and ".join(repr(name) for name in sorted(names))
        notes.warnings.append(f"the heads have different collimators ({listed}): give --collimator or --psf")
        return None
    name, maker = names.pop(), item.text("Manufacturer") or ""
    found = _collimator_of(name, maker)
    if found is None:
        shown = f"{name!r} of {maker or 'an unnamed manufacturer'}" if name else "that the file does not name"
        notes.warnings.append(f"the collimator {shown} is not in the table: give --collimator or --psf")
        return None
    notes.history.append(f"collimator {name!r} of {maker or 'the table'} taken as {found.name}")
    return found


def _collimator_of(name: str, maker: str) -> Collimator | None:
    plain = "".join(character for character in name.lower() if character.isalnum())
    for entry in COLLIMATORS.values():
        if plain == entry.name.replace("-", ""):
            return entry
    word = maker.lower().split()[0].strip(",.") if maker.split() else ""
    vendor = _MAKERS.get(word)
    if vendor is None:
        return None
    kind = _TYPES_OF.get(vendor, {}).get(plain) or _TYPES.get(plain)
    return COLLIMATORS.get(f"{vendor}-{kind}")


def read_corrections(item: Item, notes: Notes) -> frozenset[str]:
    """Terms of CorrectedImage; InputError for ATTN and SCAT, warnings where UNIF or COR is absent."""
    terms = frozenset(term.upper() for term in item.texts("CorrectedImage") if term)
    for term, what in (("ATTN", "attenuation"), ("SCAT", "scatter")):
        if term in terms:
            raise item.error("CorrectedImage", f"says {term}: corrected for {what} already, raw projections are needed")
    missing = [term for term in ("UNIF", "COR") if term not in terms]
    if missing:
        said = "\\".join(sorted(terms)) or "absent or empty"
        meaning = {"UNIF": "uniformity", "COR": "centre of rotation"}
        notes.warnings.append(
            f"{name_of('CorrectedImage')} is {said}: not known to be corrected for "
            f"{' and '.join(meaning[term] for term in missing)}"
        )
    if "DECY" in terms:
        notes.history.append("CorrectedImage says DECY: no decay between the views in the model")
    return terms
