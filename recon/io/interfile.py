"""Interfile raw projections of SPECT, in the dialects of STIR and SIMIND.

What is read, key by key, stands in docs/formats.md; how angles and axes are mapped, and why, in interfile_geometry.py.
`Study.history` says which mapping was used.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from spectac.recon.collimator import Collimator
from spectac.recon.collimator import collimator as collimator_by_name
from spectac.recon.errors import InputError
from spectac.recon.given import NOTHING_GIVEN, Given
from spectac.recon.io.interfile_geometry import (
    MAPPING,
    dialect_of,
    layout,
    orbit_radii_mm,
    view_angles_deg,
    view_seconds,
    warn_of_shift,
)
from spectac.recon.io.interfile_header import Header, canonical_key, looks_like_interfile, read_header, read_values
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import (
    Acquisition,
    EnergyWindow,
    Study,
)

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
_PATIENT = {
    "patient name": "PatientName",
    "patient id": "PatientID",
    "patient sex": "PatientSex",
    "patient dob": "PatientBirthDate",
    "study id": "StudyID",
    "original institution": "InstitutionName",
}
_USED = {
    "imaging modality", "originating system", "name of data file", "data offset in bytes", "data offset in bytes[1]",
    "data starting block", "data compression", "data encode", "type of data", "process status", "imagedata byte order",
    "number format", "number of bytes per pixel", "image scaling factor", "image scaling factor[1]",
    "patient orientation", "patient rotation", "number of energy windows", "number of detector heads",
    "number of time frames", "number of time windows", "number of projections", "total number of images",
    "matrix size[1]", "matrix size[2]", "scaling factor (mm/pixel)[1]", "scaling factor (mm/pixel)[2]",
    "extent of rotation", "direction of rotation", "start angle", "orbit", "radius", "radii",
    "time per projection (sec)", "image duration (sec)", "image duration (sec)[1]", "isotope name", "isotope name[1]",
    "radionuclide", "collimator", "collimator type", "study date", "study time", "study date (dd:mm:yryr)",
    "study time (hh:mm:ss)", *_PATIENT,
}  # fmt: skip
_IGNORED = {
    "interfile", "version of keys", "conversion program", "program author", "program version", "program date",
    "contact person", "data description", "exam type", "number of images/energy window", "acquisition mode",
    "maximum pixel count", "number of dimensions", "matrix axis label[1]", "matrix axis label[2]", "calibration factor",
    "image relative start time (sec)[1]", "study duration (sec)", "quantification units", "patient weight",
    "isotope gamma halflife (sec)", "isotope branching factor", "radiopharmaceutical",
}  # fmt: skip


def read_study(path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], given: Given = NOTHING_GIVEN) -> Study:
    """Study (w, v, z, u) from an Interfile header, from several of one acquisition (a window each), or from a folder.

    `given` replaces what the headers say or leave out; its head angles are needed where a header names several heads
    and not a start angle for each.
    In a folder SIMIND's partial images (`*_sca_*`, `*_air_*`, `*_pri_*`) are left out where `*_tot_*` are there.
    Raises InputError, naming file and key, for what is missing, contradictory or not supported (docs/formats.md).
    """
    notes: list[str] = []
    paths = [Path(one) for one in ([path] if isinstance(path, (str, os.PathLike)) else path)]
    if len(paths) == 1 and paths[0].is_dir():
        paths, notes = _headers_in(paths[0])
    if not paths:
        raise InputError("an Interfile study needs at least one header, got an empty list")
    studies = []
    for one in paths:
        with _named(one):
            studies.append(_read_one(one, given))
    return replace(_merged(paths, studies), warnings=(*dict.fromkeys(w for s in studies for w in s.warnings), *notes))


def is_header(path: Path) -> bool:
    """Tell whether a file begins as Interfile headers do."""
    with path.open("rb") as file:
        return looks_like_interfile(file.read(4096))


def _headers_in(folder: Path) -> tuple[list[Path], list[str]]:
    """Headers of raw projections in a folder, by name, and notes on those that were left out."""
    found = [entry for entry in sorted(folder.iterdir()) if entry.is_file() and is_header(entry)]
    raw = [one for one in found if read_header(one).text("number of projections") is not None]
    left_out = [one for one in found if one not in raw]
    if any("_tot_" in one.name for one in raw):
        partial = [one for one in raw if any(part in one.name for part in ("_sca_", "_air_", "_pri_"))]
        raw = [one for one in raw if one not in partial]
        left_out += partial
    if not raw:
        raise InputError(f"{folder}: no Interfile header of raw projections in this folder")
    return raw, [f"left out of {folder.name}: {', '.join(one.name for one in left_out)}"] if left_out else []


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """InputErrors of the types begin with the file's name."""
    try:
        yield
    except InputError as error:
        if str(error).startswith(str(path)):
            raise
        raise InputError(f"{path}: {error}") from error


def _merged(paths: list[Path], studies: list[Study]) -> Study:
    """One study whose windows are those of all headers; InputError where two of them are not one acquisition."""
    first = studies[0]
    for path, other in zip(paths[1:], studies[1:], strict=True):
        difference = _difference(first.acquisition, other.acquisition)
        if difference:
            raise InputError(
                f"{path}: its {difference} differs from that of {paths[0].name}: not windows of one acquisition"
            )
    windows = _distinct([window for study in studies for window in study.windows])
    limits = [(window.lower_kev, window.upper_kev) for window in windows]
    if len(set(limits)) < len(limits):
        names = ", ".join(path.name for path in paths)
        raise InputError(f"{paths[0].parent}: two of {names} have the same energy window: name the headers to read")
    counts = first.counts if len(studies) == 1 else np.concatenate([study.counts for study in studies])
    history = tuple(dict.fromkeys(line for study in studies for line in study.history))
    return Study(first.acquisition, windows, counts, patient=first.patient, history=history)


def _difference(one: Acquisition, other: Acquisition) -> str | None:
    """Name what keeps two headers from being windows of one acquisition, None where nothing does."""
    for name in ("view_angles_deg", "radii_mm", "view_seconds", "detector"):
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine.shape != theirs.shape or not np.allclose(mine, theirs, rtol=0, atol=1e-3, equal_nan=True):
            return name
    for name in ("matrix", "pixel_mm", "nuclide", "collimator", "patient_position"):
        if getattr(one, name) != getattr(other, name):
            return name
    return None


def _read_one(path: Path, given: Given) -> Study:
    header = read_header(path)
    dialect, warnings = dialect_of(header)
    _refuse_unfit(header)
    heads, each, windows_held = layout(header)
    views = heads * each
    name = _nuclide(header, dialect, given.nuclide, warnings)
    windows = _windows(header, dialect, windows_held, name, warnings)
    seconds = view_seconds(header, each)
    if math.isnan(seconds):
        warnings.append("the header gives no time per projection: images will be relative, not in counts per second")
    rows, columns = header.required_count("matrix size[2]"), header.required_count("matrix size[1]")
    pixel_z = header.required_number("scaling factor (mm/pixel)[2]")
    pixel_u = header.required_number("scaling factor (mm/pixel)[1]")
    values, data_warnings = read_values(header, (windows_held, views, rows, columns))
    angles = view_angles_deg(header, dialect, heads, each, given.head_angles_deg, warnings)
    radii = orbit_radii_mm(header, dialect, views, given.radius_mm, warnings)
    placed = [canonical_key(header.text(key) or "") for key in ("patient orientation", "patient rotation")]
    acquisition = Acquisition(
        angles,
        radii,
        (rows, columns),
        (pixel_z, pixel_u),
        np.full(views, seconds),
        name,
        _collimator(header, dialect, given.collimator, warnings),
        start=_start(header),
        detector=np.repeat(np.arange(heads), each),
        patient_position="HFS" if placed == ["head in", "supine"] else None,
    )
    warn_of_shift(header, dialect, columns, warnings)
    unknown = [key for key in header.keys if key not in _USED | _IGNORED and any(header.keys[key])]
    unknown = [key for key in unknown if not key.startswith("energy window")] + list(header.odd_lines)
    if unknown:
        warnings.append(f"header keys that were not understood and are ignored: {', '.join(sorted(unknown))}")
    patient = {tag: text for key, tag in _PATIENT.items() if (text := header.text(key))}
    history = [f"read from Interfile {path.name}", MAPPING[dialect], *given.history()]
    return Study(
        acquisition,
        windows,
        values[:, :, ::-1, :],
        patient=patient,
        history=tuple(history),
        warnings=(*warnings, *data_warnings),
    )


def _refuse_unfit(header: Header) -> None:
    """InputError for what is not raw SPECT projections of a head-first, supine patient."""
    status = header.text("process status")
    if status is not None and status.lower() != "acquired":
        raise header.error(f"'process status := {status}': raw (acquired) projections are needed, not an image")
    kind = header.text("type of data")
    if kind is not None and kind.lower() not in ("tomographic", "tomo"):
        raise header.error(f"'type of data := {kind}': only Tomographic (SPECT) projections are read")
    modality = header.text("imaging modality")
    if modality is not None and modality.lower() not in ("nucmed", "nm", "spect"):
        raise header.error(f"'imaging modality := {modality}': only nucmed (SPECT) projections are read")
    for key in ("number of time frames", "number of time windows"):
        if (header.count(key, least=0) or 0) > 1:
            raise header.error(f"'{key} := {header.text(key)}': dynamic and gated series are not supported")
    for key, wanted in (("patient orientation", "head in"), ("patient rotation", "supine")):
        given = header.text(key)
        if given is not None and canonical_key(given) not in (wanted, "unknown"):
            raise header.error(
                f"'{key} := {given}': only head_in and supine are read, because Interfile does not say whether angles "
                "are the gantry's or the patient's; turn the projections and change the header"
            )


def _nuclide(header: Header, dialect: str, wanted: str | None, warnings: list[str]) -> str:
    """Nuclide of the table: the caller's, else the header's."""
    given = header.text("isotope name", "isotope name[1]", "radionuclide", comments=dialect == "SIMIND")
    found = None
    if given is not None:
        spelled = given.lower().replace("^", "")
        for element, symbol in _ELEMENTS.items():
            spelled = spelled.replace(element, symbol)
        try:
            found = nuclide_by_name(spelled).name
        except InputError:
            if wanted is None:
                raise header.error(f"its nuclide '{given}' is not known: name it with --nuclide") from None
    if wanted is None:
        if found is None:
            raise header.error("the header names no nuclide: name it with --nuclide")
        return found
    name = nuclide_by_name(wanted).name
    if given is not None and found != name:
        warnings.append(f"the header's nuclide {given} was replaced by {name}")
    return name


def _windows(header: Header, dialect: str, held: int, nuclide: str, warnings: list[str]) -> tuple[EnergyWindow, ...]:
    """Energy windows in the order of the data."""
    windows = []
    for number in range(1, held + 1):
        ending = [f"[{number}]", ""] if held == 1 else [f"[{number}]"]
        comments = dialect == "SIMIND"
        lower = header.number(*(f"energy window lower level{end}" for end in ending), comments=comments)
        upper = header.number(*(f"energy window upper level{end}" for end in ending), comments=comments)
        if lower is None or upper is None:
            if held > 1:
                raise header.error(f"key 'energy window lower level[{number}]' or its upper level is missing or empty")
            energy = nuclide_by_name(nuclide).main_kev
            lower, upper = 0.9 * energy, 1.1 * energy
            warnings.append(
                f"the header gives no energy window: {lower:.1f} to {upper:.1f} keV was assumed ({nuclide} +-10 %)"
            )
        name = header.text(*(f"energy window{end}" for end in ending), comments=True) or f"{lower:g}-{upper:g} keV"
        windows.append(EnergyWindow(name, lower, upper))
    return _distinct(windows)


def _distinct(windows: Sequence[EnergyWindow]) -> tuple[EnergyWindow, ...]:
    """Windows whose names differ: where headers repeat a name, the limits are added to it."""
    names = [window.name.strip().lower() for window in windows]
    return tuple(
        replace(window, name=f"{window.name} {window.lower_kev:g}-{window.upper_kev:g} keV")
        if names.count(name) > 1
        else window
        for window, name in zip(windows, names, strict=True)
    )


def _collimator(header: Header, dialect: str, wanted: Collimator | None, warnings: list[str]) -> Collimator | None:
    """Collimator: the caller's, else the one that the header names if the table has it, else None with a warning."""
    given = header.text("collimator", "collimator type", comments=dialect == "SIMIND")
    if wanted is not None or given is None:
        return wanted
    try:
        return collimator_by_name(given)
    except InputError:
        warnings.append(
            f"the header's collimator '{given}' is not in the table: name one with --collimator or give --psf"
        )
        return None


def _start(header: Header) -> datetime | None:
    """Beginning of the study, None where date or time is missing or not a date."""
    date = header.text("study date", "study date (dd:mm:yryr)")
    time = header.text("study time", "study time (hh:mm:ss)")
    for form in ("%Y:%m:%d", "%d:%m:%Y"):
        try:
            return datetime.strptime(f"{date} {time}", f"{form} %H:%M:%S")
        except ValueError:
            continue
    return None
