"""Interfile raw projections of SPECT, in the dialects of STIR and SIMIND.

What is read, key by key, stands in docs/formats.md; how angles and axes are mapped, and why, in dialect.py.
`Study.history` says which mapping was used.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path

import numpy as np

from spectac.recon.errors import FileError, InputError, naming
from spectac.recon.io.energy_windows import with_own_names
from spectac.recon.io.interfile.collimator import read_collimator, read_crystal_mm
from spectac.recon.io.interfile.data import beside, data_file, read_values
from spectac.recon.io.interfile.geometry import layout, view_angles_deg, view_seconds
from spectac.recon.io.interfile.header import Header, is_header, read_header
from spectac.recon.io.interfile.keys import unknown_keys
from spectac.recon.io.interfile.orbit import AxisClaim, axis_claims, orbit_file, orbit_radii_mm, with_axis
from spectac.recon.io.interfile.patient import patient_position, read_patient, read_start
from spectac.recon.io.interfile.windows import read_nuclide, read_windows
from spectac.recon.patient import doubts
from spectac.recon.settings import StudySettings
from spectac.recon.types import LARGEST_PIXEL_MM, SMALLEST_PIXEL_MM, Acquisition, Injection, Study

_FIT = {
    "process status": (
        ("acquired", "raw", "unknown"),
        "raw (acquired) projections are needed, not an image",
    ),
    "type of data": (
        ("tomographic", "tomo", "spect", "other", "unknown"),
        "only Tomographic (SPECT) projections are read",
    ),
    "imaging modality": (
        ("nucmed", "nm", "spect", "nuclear medicine", "unknown"),
        "only nucmed (SPECT) projections are read",
    ),
}
"""Values of raw SPECT projections by key, and why others are refused."""

_PARTIAL = ("_sca_", "_air_", "_pri_")
"""Parts of the names of SIMIND's images of scattered, unattenuated and primary photons."""

_MOST_LISTED = 8
"""Unknown keys that one warning names."""

_MANY_COLUMNS = 32
_SMALLEST_FIELD_MM = 100.0
"""A field of so many columns is larger than this."""


def read_study(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], given: StudySettings | None = None
) -> Study:
    """Study from an Interfile header, from several of one acquisition (a window each), or from a folder of headers.

    In a folder SIMIND's partial images (`*_sca_*`, `*_air_*`, `*_pri_*`) are left out where others are there.

    Parameters
    ----------
    path : path-like, or sequence of them
        Headers, or one folder.
    given : StudySettings
        Replaces what the headers say or leave out. Its head angles are needed where a header names several heads and
        not a start angle for each.

    Returns
    -------
    Study
        Counts (w, v, z, u); `history` says how angles were mapped.

    Raises
    ------
    InputError
        Names file and key of what is missing, contradictory or not supported (docs/formats.md).

    Examples
    --------
    >>> import tempfile
    >>> from spectac.recon import EnergyWindow
    >>> from spectac.recon.io.interfile.write import write_stir_study
    >>> acquisition = Acquisition([0, 90, 180, 270], [150] * 4, (2, 3), (4, 4), [20] * 4, "Tc-99m", None)
    >>> study = Study(acquisition, (EnergyWindow("peak", 126, 154),), np.ones((1, 4, 2, 3)))
    >>> headers = write_stir_study(tempfile.mkdtemp(), study)
    >>> read_study(headers[0]).acquisition.view_angles_deg
    array([  0.,  90., 180., 270.])
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
        with naming(one):
            study, claimed = _read_one(one, given or StudySettings())
        studies.append(study)
        claims.append(claimed)
    merged = _merged(paths, studies, notes)
    warnings = dict.fromkeys(line for study in studies for line in study.warnings)
    return with_axis(replace(merged, warnings=(*warnings, *notes)), claims[0])


def _headers_in(folder: Path) -> tuple[list[Path], list[str]]:
    """Headers of raw projections in a folder, by name, and notes on those that were left out."""
    headers = [entry for entry in sorted(folder.iterdir()) if entry.is_file() and is_header(entry)]
    raw = [one for one in headers if _is_raw(one, data=True)] or [one for one in headers if _is_raw(one, data=False)]
    whole = [one for one in raw if not any(part in one.name.lower() for part in _PARTIAL)] or raw
    if not whole:
        raise FileError(folder, "no Interfile header of raw projections in this folder")
    left_out = [one.name for one in headers if one not in raw] + [one.name for one in raw if one not in whole]
    return whole, [f"left out of {folder.name}: {', '.join(left_out)}"] if left_out else []


def _is_raw(path: Path, *, data: bool) -> bool:
    """Tell whether a header can be read and counts projections, with `data` also whether its data file is there."""
    try:
        header = read_header(path)
    except InputError:
        return False
    names = header.texts("name of data file")[:1]
    return bool(header.texts("number of projections")) and (not data or any(beside(header, name) for name in names))


def _merged(paths: list[Path], studies: list[Study], notes: list[str]) -> Study:
    """One study whose windows are those of all headers; InputError where two of them are not one acquisition.

    Copies of a header with the same windows and counts are left out, with a note.
    """
    is_copy = [any(_is_copy(study, other) for other in studies[:n]) for n, study in enumerate(studies)]
    if any(is_copy):
        notes.append(f"left out as copies of other headers: {', '.join(p.name for p in compress(paths, is_copy))}")
        kept = [not one for one in is_copy]
        paths, studies = [*compress(paths, kept)], [*compress(studies, kept)]
    first = studies[0]
    for path, other in zip(paths[1:], studies[1:], strict=True):
        if difference := _difference(first.acquisition, other.acquisition):
            raise FileError(
                path, f"its {difference} differs from that of {paths[0].name}: not windows of one acquisition"
            )
        notes += doubts(first.patient, other.patient, f"{path.name} and {paths[0].name}")
    windows = with_own_names([window for study in studies for window in study.windows])
    limits = [(window.lower_kev, window.upper_kev) for window in windows]
    if twice := next((one for one in limits if limits.count(one) > 1), None):
        raise FileError(
            paths[0] if len(paths) == 1 else paths[0].parent,
            f"two of the energy windows go from {twice[0]:g} to {twice[1]:g} keV: give each its own limits in the "
            "header, or name the headers to read, one for each window of one acquisition",
        )
    counts = first.counts if len(studies) == 1 else np.concatenate([study.counts for study in studies])
    history = tuple(dict.fromkeys(line for study in studies for line in study.history))
    return replace(first, windows=windows, counts=counts, history=history)


def _is_copy(one: Study, other: Study) -> bool:
    return (
        one.windows == other.windows
        and np.array_equal(one.counts, other.counts)
        and _difference(one.acquisition, other.acquisition) is None
    )


def _difference(one: Acquisition, other: Acquisition) -> str | None:
    """Name what keeps two headers from being windows of one acquisition, None where nothing does."""
    for name in ("view_angles_deg", "radii_mm", "view_seconds", "detector"):
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine.shape != theirs.shape or not np.allclose(mine, theirs, rtol=0, atol=1e-3, equal_nan=True):
            return name
    alike = ("matrix", "pixel_mm", "nuclide", "collimator", "foci", "patient_position")
    return next((name for name in alike if getattr(one, name) != getattr(other, name)), None)


def _read_one(path: Path, given: StudySettings) -> tuple[Study, list[AxisClaim]]:
    """Study of one header, and what it says about the place of the axis on the detector."""
    header = read_header(path)
    if header.dialect_doubt:
        header.warn(header.dialect_doubt)
    _refuse_unfit(header)
    header.history.extend([f"read from Interfile {path.name}", header.dialect.angles, *given.history()])
    rows, columns = header.matrix()
    views = layout(header, data_file(header).images(rows * columns))
    values = read_values(header, (views.windows, views.total, rows, columns))
    nuclide = read_nuclide(header, given.nuclide)
    windows = read_windows(header, views.windows, nuclide)
    file = orbit_file(header, views)
    settled = read_collimator(header, given, int(np.unique(views.detector).size))
    acquisition = Acquisition(
        view_angles_deg(header, views, given),
        orbit_radii_mm(header, views, given.radius_mm, file),
        (rows, columns),
        given.pixel_mm or _pixel_mm(header, columns),
        view_seconds(header, views, given),
        nuclide,
        settled.collimator,
        start=given.start or read_start(header),
        detector=views.detector,
        foci=settled.foci,
        crystal_mm=read_crystal_mm(header),
        patient_position=patient_position(header, given),
    )
    header.history.extend(settled.history)
    claims = axis_claims(header, columns, views.total, file)
    patient = read_patient(header)
    agent = header.text("radiopharmaceutical", lenient=True)
    if unknown := unknown_keys(header):
        more = f" and {len(unknown) - _MOST_LISTED} more" if len(unknown) > _MOST_LISTED else ""
        header.warn(f"header keys that were not understood and are ignored: {', '.join(unknown[:_MOST_LISTED])}{more}")
    study = Study(
        acquisition,
        tuple(windows.values()),
        (values if len(windows) == len(values) else values[[*windows]])[:, :, ::-1, :],
        patient=patient,
        injection=Injection(agent) if agent else None,
        history=tuple(header.history),
        warnings=tuple(header.warnings),
    )
    return study, claims


def _pixel_mm(header: Header, columns: int) -> tuple[float, float]:
    """Pixel (z, u) in mm."""
    pixel_z, pixel_u = sizes = header.sizes_mm(2, 1)
    if not all(SMALLEST_PIXEL_MM <= size <= LARGEST_PIXEL_MM for size in sizes):
        raise header.error(
            f"pixel_mm needs sizes from {SMALLEST_PIXEL_MM:g} to {LARGEST_PIXEL_MM:g} mm, 'scaling factor (mm/pixel)' "
            f"is {pixel_z:g} and {pixel_u:g}: give --pixel-mm"
        )
    if columns >= _MANY_COLUMNS and columns * pixel_u < _SMALLEST_FIELD_MM:
        header.warn(
            f"{columns} columns of {pixel_u:g} mm are a field of {columns * pixel_u:g} mm, too small for a camera: is "
            "'scaling factor (mm/pixel)' in cm? (--pixel-mm)"
        )
    return pixel_z, pixel_u


def _refuse_unfit(header: Header) -> None:
    """InputError for what is not raw SPECT projections."""
    for key, (fit, reason) in _FIT.items():
        value = header.text(key)
        if value is not None and value.lower() not in fit:
            raise header.error(f"'{key} := {value}': {reason}")
    for key in ("number of time frames", "number of time windows"):
        if (header.count(key, least=0) or 0) > 1:
            raise header.error(f"'{key} := {header.text(key)}': dynamic and gated series are not supported")
