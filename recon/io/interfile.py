"""Interfile raw projections of SPECT, in the dialects of STIR and SIMIND.

What is read, key by key, stands in docs/formats.md; how angles and axes are mapped, and why, in interfile_geometry.py.
`Study.history` says which mapping was used.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.given import NOTHING_GIVEN, Given
from spectac.recon.io.interfile_collimator import read_collimator
from spectac.recon.io.interfile_geometry import (
    MAPPING,
    dialect_of,
    layout,
    patient_position,
    view_angles_deg,
    view_seconds,
)
from spectac.recon.io.interfile_header import (
    Header,
    held_images,
    looks_like_interfile,
    read_header,
    read_values,
)
from spectac.recon.io.interfile_orbit import AxisClaim, axis_claims, orbit_file, orbit_radii_mm, with_axis
from spectac.recon.nuclides import Nuclide, how_to_describe, nuclide_in, spelled_symbol
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import (
    LARGEST_PIXEL_MM,
    SMALLEST_PIXEL_MM,
    Acquisition,
    EnergyWindow,
    Study,
)

_PATIENT = {
    "patient name": "PatientName",
    "patient id": "PatientID",
    "patient sex": "PatientSex",
    "patient dob": "PatientBirthDate",
    "patient weight": "PatientWeight",
    "patient age": "PatientAge",
    "study id": "StudyID",
    "original institution": "InstitutionName",
}
_USED = {
    "imaging modality", "originating system", "conversion program", "program author", "data description",
    "name of data file", "data offset in bytes", "data offset in bytes[1]", "data starting block", "data compression",
    "data encode", "type of data", "process status", "imagedata byte order", "number format",
    "number of bytes per pixel", "image scaling factor", "image scaling factor[1]", "patient orientation",
    "patient rotation", "patient position", "number of energy windows", "number of detector heads",
    "number of images/energy window", "number of time frames", "number of time windows", "number of projections",
    "total number of images", "matrix size[1]", "matrix size[2]", "extent of rotation", "direction of rotation",
    "start angle", "first projection angle in data set", "orbit", "radii", "radius", "radius of rotation",
    "rotation radius", "radial position", "center of rotation", "centre of rotation", "x offset", "isotope name",
    "radionuclide", "radiopharmaceutical", "collimator", "collimator type", "collimator name",
    "collimator hole diameter", "collimator hole septa", "collimator thickness", "intrinsic fwhm for the camera",
    "crystal thickness", "study date", "study time", *_PATIENT,
}  # fmt: skip
_USED_WITH_UNIT = (
    "scaling factor",
    "radius",
    "radii",
    "time per projection",
    "image duration",
    "study date",
    "study time",
)
"""Keys that may name their unit or form in brackets."""
_IGNORED = {
    "interfile", "version of keys", "program version", "program date", "date of keys", "contact person", "exam type",
    "acquisition mode", "maximum pixel count", "number of dimensions", "matrix axis label[1]", "matrix axis label[2]",
    "calibration factor", "image relative start time (sec)[1]", "study duration (sec)", "study duration (elapsed) sec",
    "study duration (acquired) sec", "quantification units", "isotope gamma halflife (sec)",
    "isotope branching factor", "camera zoom factor", "y offset", "preprocessed", "number of runs",
}  # fmt: skip
_IGNORED_BEGINNINGS = ("energy window", "head ", "crystal ", "pixel ", "block ", "gate ", "collimator ")
"""Windows are read key by key; the others are GATE's, on the camera that it simulated."""

_MOST_LISTED = 8


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
    studies: list[Study] = []
    claims: list[list[AxisClaim]] = []
    for one in paths:
        with _named(one):
            study, claimed = _read_one(one, given)
            studies.append(study)
            claims.append(claimed)
    merged = _merged(paths, studies, notes)
    merged = replace(merged, warnings=(*dict.fromkeys(w for s in studies for w in s.warnings), *notes))
    return with_axis(merged, claims[0])


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


def _merged(paths: list[Path], studies: list[Study], notes: list[str]) -> Study:
    """One study whose windows are those of all headers; InputError where two of them are not one acquisition.

    Copies of a header with the same windows and counts are left out, with a note.
    """
    first = studies[0]
    pairs = list(zip(paths, studies, strict=True))
    copies = [
        path
        for n, (path, study) in enumerate(pairs)
        if any(_same_data(study, other) and _difference(study.acquisition, other.acquisition) is None
               for _, other in pairs[:n])
    ]  # fmt: skip
    if copies:
        notes.append(f"left out as copies of other headers: {', '.join(path.name for path in copies)}")
        paths, studies = zip(*(pair for pair in pairs if pair[0] not in copies), strict=True)  # type: ignore[assignment]
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
        raise InputError(
            f"{paths[0].parent}: two of {names} have the same energy window: name the headers to read, one for each "
            "window of one acquisition"
        )
    counts = first.counts if len(studies) == 1 else np.concatenate([study.counts for study in studies])
    history = tuple(dict.fromkeys(line for study in studies for line in study.history))
    return Study(first.acquisition, windows, counts, patient=first.patient, history=history)


def _same_data(one: Study, other: Study) -> bool:
    return one.windows == other.windows and np.array_equal(one.counts, other.counts)


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


def _read_one(path: Path, given: Given) -> tuple[Study, list[AxisClaim]]:
    """Study of one header, and what it says about the place of the axis on the detector."""
    header = read_header(path)
    dialect, warnings = dialect_of(header)
    _refuse_unfit(header)
    history = [f"read from Interfile {path.name}", MAPPING[dialect], *given.history()]
    rows, columns = header.required_count("matrix size[2]"), header.required_count("matrix size[1]")
    views = layout(header, held_images(header, rows * columns), warnings)
    total = sum(views.views)
    name = _nuclide(header, dialect, given.nuclide, warnings)
    windows = _windows(header, dialect, views.windows, name, warnings)
    seconds = view_seconds(header, views, given, warnings)
    pixel_mm = _pixel_mm(header, columns, given, warnings)
    values, data_warnings = read_values(header, (views.windows, total, rows, columns))
    angles = view_angles_deg(header, dialect, views, given, warnings)
    file = orbit_file(header, dialect, views, warnings)
    radii = orbit_radii_mm(header, dialect, views, given.radius_mm, file, warnings)
    acquisition = Acquisition(
        angles,
        radii,
        (rows, columns),
        pixel_mm,
        seconds,
        name,
        read_collimator(header, dialect, given.collimator, warnings, history),
        start=_start(header, warnings) if given.start is None else given.start,
        detector=views.detector,
        patient_position=patient_position(header, dialect, warnings, given),
    )
    claims = axis_claims(header, dialect, columns, total, file, warnings)
    if unknown := _unknown_keys(header):
        more = f" and {len(unknown) - _MOST_LISTED} more" if len(unknown) > _MOST_LISTED else ""
        warnings.append(
            f"header keys that were not understood and are ignored: {', '.join(unknown[:_MOST_LISTED])}{more}"
        )
    patient = {tag: _of_patient(key, text) for key, tag in _PATIENT.items() if (text := header.text(key, needed=False))}
    study = Study(
        acquisition,
        windows,
        values[:, :, ::-1, :],
        patient=patient,
        history=tuple(history),
        warnings=(*warnings, *data_warnings, *header.doubts),
    )
    return study, claims


def _unknown_keys(header: Header) -> list[str]:
    """Keys with a value that nothing here reads or leaves out on purpose, and lines that are no keys."""

    def known(key: str) -> bool:
        plain = re.sub(r"( ?\(.*?\))?(\[\d+\])?$", "", key)
        return (
            key in _USED | _IGNORED
            or (plain in _USED and key == re.sub(r" ?\(.*?\)", "", key))
            or plain in _USED_WITH_UNIT
            or key.startswith(_IGNORED_BEGINNINGS)
        )

    return sorted([key for key, values in header.keys.items() if any(values) and not known(key)] + [*header.odd_lines])


def _of_patient(key: str, text: str) -> str:
    """The key's text; a weight without its unit, for DICOM has it in kg."""
    found = re.fullmatch(r"([\d.,]+)\s*kg", text, re.IGNORECASE) if key == "patient weight" else None
    return found[1] if found else text


def _pixel_mm(header: Header, columns: int, given: Given, warnings: list[str]) -> tuple[float, float]:
    """Pixel (z, u) in mm."""
    if given.pixel_mm is not None:
        return given.pixel_mm
    sizes = []
    for axis in (2, 1):
        size = header.measure(f"scaling factor[{axis}]", "mm")
        if size is None:
            raise header.error(f"key 'scaling factor (mm/pixel)[{axis}]' is missing or empty: give --pixel-mm")
        sizes.append(size)
    pixel_z, pixel_u = sizes
    if not all(SMALLEST_PIXEL_MM <= size <= LARGEST_PIXEL_MM for size in sizes):
        raise header.error(
            f"pixel_mm needs sizes from {SMALLEST_PIXEL_MM:g} to {LARGEST_PIXEL_MM:g} mm, 'scaling factor (mm/pixel)' "
            f"is {pixel_z:g} and {pixel_u:g}: give --pixel-mm"
        )
    if columns >= _MANY_COLUMNS and columns * pixel_u < _SMALLEST_FIELD_MM:
        warnings.append(
            f"{columns} columns of {pixel_u:g} mm are a field of {columns * pixel_u:g} mm, too small for a camera: is "
            "'scaling factor (mm/pixel)' in cm? (--pixel-mm)"
        )
    return pixel_z, pixel_u


_MANY_COLUMNS, _SMALLEST_FIELD_MM = 32, 100.0


def _refuse_unfit(header: Header) -> None:
    """InputError for what is not raw SPECT projections."""
    status = header.text("process status")
    if status is not None and status.lower() not in ("acquired", "raw", "unknown"):
        raise header.error(f"'process status := {status}': raw (acquired) projections are needed, not an image")
    kind = header.text("type of data")
    if kind is not None and kind.lower() not in ("tomographic", "tomo", "spect", "other", "unknown"):
        raise header.error(f"'type of data := {kind}': only Tomographic (SPECT) projections are read")
    modality = header.text("imaging modality")
    if modality is not None and modality.lower() not in ("nucmed", "nm", "spect", "nuclear medicine", "unknown"):
        raise header.error(f"'imaging modality := {modality}': only nucmed (SPECT) projections are read")
    for key in ("number of time frames", "number of time windows"):
        if (header.count(key, least=0) or 0) > 1:
            raise header.error(f"'{key} := {header.text(key)}': dynamic and gated series are not supported")


def _nuclide(header: Header, dialect: str, wanted: str | None, warnings: list[str]) -> str:
    """Nuclide: the caller's, else the header's, else the one that the name of its window says."""
    comments = dialect == "SIMIND"
    named = [text for key in ("isotope name", "radionuclide") for text in header.texts(key, comments=comments)]
    found = {entry.name for text in named if (entry := _in_table(text)) is not None}
    if wanted is not None:
        name = nuclide_by_name(wanted).name
        if named and found != {name}:
            warnings.append(f"the header's nuclide {' and '.join(dict.fromkeys(named))} was replaced by {name}")
        return name
    if len(found) > 1:
        raise header.error(f"names several nuclides, {' and '.join(dict.fromkeys(named))}: give --nuclide")
    if found:
        return found.pop()
    if symbol := next((symbol for text in named if (symbol := spelled_symbol(text)) is not None), None):
        raise header.error(f"its nuclide '{named[0]}' is not in the table: {how_to_describe(symbol)}")
    implied = _implied_nuclide(header, comments)
    if implied is not None:
        name, text = implied
        warnings.append(f"the header names no nuclide: {name} was taken, as '{text}' says (--nuclide)")
        return name
    if named:
        raise header.error(f"its nuclide '{named[0]}' is not understood: name it with --nuclide")
    raise header.error("the header names no nuclide: name it with --nuclide")


def _in_table(text: str) -> Nuclide | None:
    """Nuclide of the table that a text is, or names as the only one ("i123_brain")."""
    try:
        return nuclide_by_name(text)
    except InputError:
        return nuclide_in(text) if spelled_symbol(text) is None else None


def _implied_nuclide(header: Header, comments: bool) -> tuple[str, str] | None:
    """Nuclide of the table, and the words, of a window or agent that names it and a window around one of its lines."""
    texts = [text for key in ("energy window", "radiopharmaceutical") for text in header.texts(key, comments=True)]
    ends = [
        [header.as_number(key, text, "kev") for text in header.texts(key, comments=comments)]
        for key in ("energy window lower level", "energy window upper level")
    ]
    for text in texts:
        entry = nuclide_in(text)
        if entry is not None and any(
            lower <= line <= upper for line, _ in entry.lines for lower, upper in zip(*ends, strict=False)
        ):
            return entry.name, text
    return None


def _windows(header: Header, dialect: str, held: int, nuclide: str, warnings: list[str]) -> tuple[EnergyWindow, ...]:
    """Energy windows in the order of the data."""
    windows = []
    for number in range(1, held + 1):
        ending = [f"[{number}]", ""] if held == 1 else [f"[{number}]"]
        comments = dialect == "SIMIND"
        lower = header.number(*(f"energy window lower level{end}" for end in ending), comments=comments, unit="kev")
        upper = header.number(*(f"energy window upper level{end}" for end in ending), comments=comments, unit="kev")
        if lower is None or upper is None:
            if held > 1:
                raise header.error(f"key 'energy window lower level[{number}]' or its upper level is missing or empty")
            energy = nuclide_by_name(nuclide).main_kev
            lower, upper = 0.9 * energy, 1.1 * energy
            warnings.append(
                f"the header gives no energy window: {lower:.1f} to {upper:.1f} keV was assumed ({nuclide} +-10 %)"
            )
        name = (
            header.text(*(f"energy window{end}" for end in ending), comments=True, needed=False)
            or f"{lower:g}-{upper:g} keV"
        )
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


def _start(header: Header, warnings: list[str]) -> datetime | None:
    """Beginning of the study, None where date or time is missing or not a date."""
    date, time = (
        header.text(f"study {what}", f"study {what} ({form})", needed=False)
        for what, form in (("date", "dd:mm:yryr"), ("time", "hh:mm:ss"))
    )
    if date is None:
        return None
    for day in ("%Y:%m:%d", "%d:%m:%Y"):
        for clock in ("%H:%M:%S", "%H:%M:%S.%f", "%H:%M", "%H%M%S"):
            try:
                return datetime.strptime(f"{re.sub(r'[-./]', ':', date)} {time}", f"{day} {clock}")
            except ValueError:
                continue
    told = "is missing" if time is None else f"and date are {time!r} and {date!r}, which is no time"
    warnings.append(f"'study time' {told}: the start of the acquisition is unknown (--start)")
    return None
