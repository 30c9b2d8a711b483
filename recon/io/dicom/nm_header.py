"""What a DICOM NM header says beside geometry: kind of file, nuclide, energy windows, collimator, corrections."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from pydicom.config import IGNORE
from pydicom.uid import UID

from spectac.recon.collimator import COLLIMATORS, Collimator
from spectac.recon.errors import InputError
from spectac.recon.io.dicom.file import Item, name_of
from spectac.recon.io.dicom.nm_frames import Notes
from spectac.recon.io.energy_windows import in_kev, with_own_names
from spectac.recon.nuclides import NUCLIDES, how_to_describe, nuclide_in, spelled_symbol
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
_PARALLEL = {"", "PARA", "UNKN", "NONE"}
_NOT_PARALLEL = {"PINH", "FANB", "CONE", "SLNT", "ASTG", "DIVG"}
"""Terms of CollimatorType (PS3.3 C.8.4.11.1) whose holes are not parallel."""


def kind_of(item: Item) -> str | None:
    """Value 3 of ImageType of an NM image ("TOMO", "RECON TOMO", ...), None for another SOP class.

    Without it an image with a rotation and without slices is one of raw projections: "TOMO".
    """
    uid = item.text("SOPClassUID")
    if uid != NM_STORAGE and not (uid is None and item.text("Modality") == "NM"):
        return None
    values = [value.upper() for value in item.texts("ImageType")]
    known = [value for value in values[2:] if value in ("TOMO", *_KINDS)]
    if known:
        return known[0]
    return "TOMO" if "RotationInformationSequence" in item.data and "SliceVector" not in item.data else ""


def check_kind(item: Item, wanted: str, notes: Notes, *, transmission: bool = False) -> None:
    """InputError, with the reason, for all but NM images whose ImageType says `wanted`.

    `transmission`: images of a transmission source, which are mu-maps, are welcome.
    """
    needed = "raw SPECT projections (NM TOMO)" if wanted == "TOMO" else "an NM reconstruction (RECON TOMO)"
    uid = item.text("SOPClassUID")
    kind = kind_of(item)
    if kind is None and uid is None:
        raise item.error("SOPClassUID", f"is missing: {needed} are needed")
    if kind is None:
        raise item.error("SOPClassUID", f"is {UID(str(uid), validation_mode=IGNORE).name}: {needed} are needed")
    if kind != wanted:
        shown = "\\".join(item.texts("ImageType")) or "missing, and there is no rotation"
        reason = _KINDS.get(kind, "raw projections, not an image" if kind == "TOMO" else "of no kind that is known")
        raise item.error("ImageType", f"is {shown}: this is {reason}; {needed} are needed")
    values = [value.upper() for value in item.texts("ImageType")]
    if wanted not in values[2:]:
        notes.warn(
            f"{name_of('ImageType')} is {'/'.join(values) or 'missing'}: taken as raw projections, for there is a "
            "rotation and no slices"
        )
    if uid is None:
        notes.warn(f"{name_of('SOPClassUID')} is missing: taken as an NM image, as Modality says")
    if "TRANSMISSION" in values and not transmission:
        raise item.error("ImageType", "says TRANSMISSION: these are not the patient's own photons")
    if wanted == "TOMO" and "DERIVED" in values[:1]:
        notes.warnings.append("ImageType says DERIVED: these projections were processed after the acquisition")


class UnfitWindowsError(InputError):
    """A file none of whose energy windows can be used."""


def named_nuclides(item: Item) -> set[str]:
    """Symbols of the nuclides that a file names."""
    agents = item.items("RadiopharmaceuticalInformationSequence")
    codes = [code for agent in agents for code in agent.items("RadionuclideCodeSequence")]
    return {symbol for code in codes if (symbol := nuclide_of(code)) is not None}


def read_nuclide(
    item: Item, wanted: str | None, shared: str | None, windows: Iterable[EnergyWindow], notes: Notes
) -> str:
    """Nuclide: the caller's, else that of RadionuclideCodeSequence, else that which a window is called after.

    `shared`: what the other files of the acquisition name, for a file that names none.

    Raises InputError where there is none, one that is not known, or several.
    """
    symbols = named_nuclides(item)
    found, unknown = symbols & set(NUCLIDES), sorted(symbols - set(NUCLIDES))
    sequence = item.items("RadiopharmaceuticalInformationSequence")
    agents = [text for agent in sequence if (text := agent.text("Radiopharmaceutical"))]
    if wanted is not None:
        if (found or unknown) and {*found, *unknown} != {nuclide_by_name(wanted).symbol}:
            said = ", ".join(sorted(found) + unknown)
            notes.warnings.append(f"the file's nuclide {said} was replaced by {wanted}")
        return wanted
    where = "RadiopharmaceuticalInformationSequence"
    if len(found) > 1:
        raise item.error(
            where, f"names {' and '.join(sorted(found))}: two nuclides at once are not modelled; choose with --nuclide"
        )
    if found:
        return found.pop()
    if unknown:
        way = how_to_describe(unknown[0])
        raise item.error(where, f"names {', '.join(unknown)}, which is not in the table of nuclides: {way}")
    what = "names no nuclide" + (f" (only the radiopharmaceutical {', '.join(agents)})" if agents else "")
    if shared is not None:
        notes.warn(f"{item.path.name} names no nuclide: {shared} was taken from the other files")
        return shared
    windows = list(windows)
    told = _told_by_windows(windows, agents)
    if told is not None:
        name, by = told
        notes.warn(f"{name_of(where)} {what}: {name} was taken, for {by}; --nuclide gives another")
        return name
    fitting = _fitting(windows)
    hint = f"the windows hold the line of {' or '.join(fitting)}" if fitting else f"one of {', '.join(NUCLIDES)}"
    raise item.error(where, f"{what}: give --nuclide ({hint})")


def _fitting(windows: Sequence[EnergyWindow]) -> list[str]:
    """Nuclides whose main line lies in the middle of a window, else anywhere in one."""
    in_middle, inside = [], []
    for one in NUCLIDES.values():
        held = [window for window in windows if window.holds(one.main_kev)]
        middles = [abs(0.5 * (w.lower_kev + w.upper_kev) - one.main_kev) <= 0.1 * w.width_kev for w in held]
        in_middle += [one.name] if any(middles) else []
        inside += [one.name] if held else []
    return in_middle or inside


def _told_by_windows(windows: Iterable[EnergyWindow], agents: Sequence[str]) -> tuple[str, str] | None:
    """Nuclide that a window or the agent is called after and whose line that window holds, and why; None for none."""
    told = {}
    for window in windows:
        limits = f"{window.lower_kev:g}-{window.upper_kev:g} keV"
        named = nuclide_in(window.name)
        if named is not None and any(window.holds(energy_kev) for energy_kev, _ in named.lines):
            told[named.name] = f"the window {window.name} ({limits}) is called after it and holds its line"
        for agent in agents:
            named = nuclide_in(agent)
            if named is not None and window.holds(named.main_kev):
                told[named.name] = f"the radiopharmaceutical is {agent} and the window of {limits} holds its line"
    return next(iter(told.items())) if len(told) == 1 else None


def nuclide_of(code: Item) -> str | None:
    """Symbol of a nuclide, of the table or not, by its code or its meaning; None for none."""
    meaning = code.text("CodeMeaning") or ""
    named = nuclide_in(meaning)
    by_meaning = spelled_symbol(meaning) or (None if named is None else named.name)
    by_code = _NUCLIDE_OF.get((code.text("CodeValue") or "").upper())
    if by_code is not None and by_meaning is not None and by_code != by_meaning:
        code.warn("CodeMeaning", f"says {by_meaning}, its CodeValue {by_code}: the code was used (--nuclide)")
    return by_code or by_meaning


def read_windows(item: Item, used: list[int], notes: Notes) -> dict[int, EnergyWindow]:
    """Energy windows by their number (from 0) for those that have frames, each with a name of its own.

    Ranges of one window that touch are joined. A window that no energy describes (several peaks counted into one frame,
    no limits, 0 to 0 keV) is left out with a warning. Raises InputError where none is left.
    """
    sequence = item.items("EnergyWindowInformationSequence")
    windows: dict[int, EnergyWindow] = {}
    unfit: list[InputError] = []
    for index in used:
        try:
            if index >= len(sequence):
                raise item.error(
                    "EnergyWindowInformationSequence",
                    f"has {len(sequence)} items, but {name_of('EnergyWindowVector')} names window {index + 1}",
                )
            windows[index] = _window(sequence[index], index, notes)
        except InputError as error:
            unfit.append(error)
            notes.warn(f"window {index + 1} was left out: {str(error).removeprefix(f'{item.path}: ')}")
    if not windows:
        raise UnfitWindowsError(str(unfit[0]))
    named = with_own_names(list(windows.values()))
    renamed = [new.name for old, new in zip(windows.values(), named, strict=True) if old.name != new.name]
    if renamed:
        notes.history.append(f"energy windows of one name were told apart by their limits: {', '.join(renamed)}")
    return dict(zip(windows, named, strict=True))


def _window(window: Item, index: int, notes: Notes) -> EnergyWindow:
    """One energy window; InputError where no single energy range describes it."""
    name = window.text("EnergyWindowName") or f"window {index + 1}"
    ranges = []
    for one in window.items("EnergyWindowRangeSequence"):
        lower, upper = one.number("EnergyWindowLowerLimit"), one.number("EnergyWindowUpperLimit")
        if lower is not None and upper is not None and lower > upper >= 0:
            notes.warn(f"the limits of {name}, {lower:g} and {upper:g} keV, were exchanged")
            lower, upper = upper, lower
        if lower is not None and upper is not None:
            lower, upper = in_kev(lower, upper, name, notes.warnings)
        if lower is None or upper is None or not 0 <= lower < upper:
            shown = " to ".join("missing" if limit is None else f"{limit:g}" for limit in (lower, upper))
            raise one.error("EnergyWindowLowerLimit", f"and UpperLimit of {name} are {shown} keV, they must rise")
        ranges.append((lower, upper))
    if not ranges:
        raise window.error("EnergyWindowRangeSequence", f"of {name} is missing or empty: its energies are unknown")
    ranges.sort()
    gaps = [after[0] - before[1] for before, after in pairwise(ranges)]
    listed = ", ".join(f"{lower:g}-{upper:g}" for lower, upper in ranges)
    if any(gap > 1.0 for gap in gaps):
        raise window.error(
            "EnergyWindowRangeSequence",
            f"of {name} counts {listed} keV into one frame: several peaks in one window cannot be modelled",
        )
    if len(ranges) > 1:
        notes.history.append(f"{name}: its ranges {listed} keV touch and were joined")
    return EnergyWindow(name, ranges[0][0], max(upper for _, upper in ranges))


def read_collimator(
    item: Item, detectors: Mapping[int, Item], given: Collimator | None, notes: Notes
) -> Collimator | None:
    """Collimator of the table: the caller's, else by manufacturer and name; None with a warning where it is not clear.

    Raises InputError for fan beams, pinholes and other collimators whose holes are not parallel.
    """
    own = list(detectors.values())
    for detector in own:
        kind = (detector.text("CollimatorType") or "").upper()
        if kind in _NOT_PARALLEL:
            raise detector.error("CollimatorType", f"is {kind}: only parallel holes (PARA) are modelled")
        if kind not in _PARALLEL:
            notes.warn(f"{name_of('CollimatorType')} is {kind!r}, which DICOM does not know: taken as parallel holes")
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
