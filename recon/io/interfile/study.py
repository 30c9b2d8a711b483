"""Interfile raw projections of SPECT, in the dialects of STIR and SIMIND.

What is read, key by key, stands in docs/formats.md; how angles and axes are mapped, and why, in geometry.py.
`Study.history` says which mapping was used.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.given import NOTHING_GIVEN, Given
from spectac.recon.io.energy_windows import with_own_names
from spectac.recon.io.interfile.collimator import read_collimator
from spectac.recon.io.interfile.geometry import (
    MAPPING,
    dialect_of,
    layout,
    view_angles_deg,
    view_seconds,
)
from spectac.recon.io.interfile.header import (
    Header,
    beside,
    held_images,
    looks_like_interfile,
    read_header,
    read_values,
)
from spectac.recon.io.interfile.orbit import AxisClaim, axis_claims, orbit_file, orbit_radii_mm, with_axis
from spectac.recon.io.interfile.patient import PATIENT_KEYS, patient_position, read_patient, read_start
from spectac.recon.io.interfile.windows import read_nuclide, read_windows
from spectac.recon.patient import doubts
from spectac.recon.types import (
    LARGEST_PIXEL_MM,
    SMALLEST_PIXEL_MM,
    Acquisition,
    Injection,
    Study,
)

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
    "crystal thickness", "study date", "study time", *PATIENT_KEYS,
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
    In a folder SIMIND's partial images (`*_sca_*`, `*_air_*`, `*_pri_*`) are left out where others are there.
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
    with_data = [one for one in found if _is_raw(one, data=True)]
    raw = with_data or [one for one in found if _is_raw(one, data=False)]
    left_out = [one for one in found if one not in raw]
    partial = [one for one in raw if any(part in one.name.lower() for part in ("_sca_", "_air_", "_pri_"))]
    if len(partial) < len(raw):
        raw = [one for one in raw if one not in partial]
        left_out += partial
    if not raw:
        raise InputError(f"{folder}: no Interfile header of raw projections in this folder")
    return raw, [f"left out of {folder.name}: {', '.join(one.name for one in left_out)}"] if left_out else []


def _is_raw(path: Path, *, data: bool) -> bool:
    """Tell whether a header can be read and counts projections, with `data` also whether its data file is there."""
    try:
        header = read_header(path)
    except InputError:
        return False
    name = header.texts("name of data file")
    return bool(header.texts("number of projections")) and not (data and not (name and beside(header, name[0])))


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
        notes += doubts(first.patient, other.patient, f"{path.name} and {paths[0].name}")
    windows = with_own_names([window for study in studies for window in study.windows])
    limits = [(window.lower_kev, window.upper_kev) for window in windows]
    if len(set(limits)) < len(limits):
        if len(paths) == 1:
            twice = next(one for one in limits if limits.count(one) > 1)
            raise InputError(
                f"{paths[0]}: two of its energy windows go from {twice[0]:g} to {twice[1]:g} keV: give each its own "
                "limits in the header"
            )
        names = ", ".join(path.name for path in paths)
        raise InputError(
            f"{paths[0].parent}: two of {names} have the same energy window: name the headers to read, one for each "
            "window of one acquisition"
        )
    counts = first.counts if len(studies) == 1 else np.concatenate([study.counts for study in studies])
    history = tuple(dict.fromkeys(line for study in studies for line in study.history))
    return replace(first, windows=windows, counts=counts, history=history)


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
    values, data_warnings = read_values(header, (views.windows, total, rows, columns))
    name = read_nuclide(header, dialect, given.nuclide, warnings)
    windows, kept = read_windows(header, dialect, views.windows, name, warnings)
    seconds = view_seconds(header, views, given, warnings)
    pixel_mm = _pixel_mm(header, columns, given, warnings)
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
        start=read_start(header, warnings) if given.start is None else given.start,
        detector=views.detector,
        patient_position=patient_position(header, dialect, warnings, given),
    )
    claims = axis_claims(header, dialect, columns, total, file, warnings)
    if unknown := _unknown_keys(header):
        more = f" and {len(unknown) - _MOST_LISTED} more" if len(unknown) > _MOST_LISTED else ""
        warnings.append(
            f"header keys that were not understood and are ignored: {', '.join(unknown[:_MOST_LISTED])}{more}"
        )
    study = Study(
        acquisition,
        windows,
        (values if len(kept) == len(values) else values[kept])[:, :, ::-1, :],
        patient=read_patient(header),
        injection=Injection(agent) if (agent := header.text("radiopharmaceutical", needed=False)) else None,
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
