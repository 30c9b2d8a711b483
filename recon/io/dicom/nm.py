"""DICOM NM: raw SPECT projections (TOMO) become a Study, reconstructions (RECON TOMO) an Image.

What is read and how each difference between vendors is handled stands in docs/formats.md. dicom_file.py opens files,
nm_frames.py, _rotation.py, _geometry.py and _radii.py put the views in order, _position.py finds orientation and
axis, _header.py and _patient.py read the rest of the header, _pixels.py the counts; _merge.py joins the files of one
acquisition, _image.py reads reconstructions, _write.py writes.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.given import NOTHING_GIVEN, Given
from spectac.recon.io.dicom.file import Item, looks_like_dicom, name_of, named, open_dicom
from spectac.recon.io.dicom.nm_frames import Frames, Notes, read_frames
from spectac.recon.io.dicom.nm_geometry import Views, read_views
from spectac.recon.io.dicom.nm_header import (
    UnfitWindowsError,
    check_kind,
    kind_of,
    named_nuclides,
    read_collimator,
    read_corrections,
    read_nuclide,
    read_windows,
)
from spectac.recon.io.dicom.nm_image import read_image
from spectac.recon.io.dicom.nm_merge import Part, merged, with_one_axis, without_copies
from spectac.recon.io.dicom.nm_patient import read_injection, read_patient, read_posture, read_start
from spectac.recon.io.dicom.nm_pixels import is_count_unit, pixel_mm, scale, stored_frames
from spectac.recon.io.dicom.nm_position import Head, axis_position, orientations
from spectac.recon.io.dicom.nm_rotation import detector_items
from spectac.recon.io.dicom.nm_write import check_header, write_image, write_study
from spectac.recon.nuclides import NUCLIDES
from spectac.recon.nuclides import nuclide as nuclide_by_name
from spectac.recon.types import Acquisition, Array, EnergyWindow, Study

__all__ = [
    "check_header",
    "holds_dicom",
    "holds_dicom_nm",
    "holds_raw",
    "read_image",
    "read_study",
    "write_image",
    "write_study",
]


def read_study(path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], given: Given = NOTHING_GIVEN) -> Study:
    """Study (w, v, z, u) from an NM TOMO file, from the files of one acquisition, or from a folder that holds them.

    `given` goes before what the files say; for several files it applies to each. Several files may hold windows or
    heads of one acquisition. Raises InputError, naming file, tag and keyword, for what is missing, contradictory or not
    supported.
    """
    notes: list[str] = []
    paths = [Path(one) for one in ([path] if isinstance(path, (str, os.PathLike)) else path)]
    if not paths:
        raise InputError("a DICOM study needs at least one file, got an empty list")
    if len(paths) == 1 and paths[0].is_dir():
        paths, notes = _raw_files_in(paths[0])
    parts = without_copies(_read_all(paths, given, notes), notes)
    return merged([part.path for part in parts], with_one_axis(parts), notes)


def holds_dicom(folder: Path) -> bool:
    """Tell whether a folder holds, directly, at least one DICOM file of any kind."""
    return any(True for _ in _dicom_in(folder))


def holds_dicom_nm(folder: Path) -> bool:
    """Tell whether a folder holds, directly, at least one NM image of any kind."""
    return any(kind_of(item) is not None for item in _dicom_in(folder))


def holds_raw(folder: Path) -> bool:
    """Tell whether a folder holds, directly, at least one file of raw projections."""
    return any(kind_of(item) == "TOMO" for item in _dicom_in(folder))


def _dicom_in(folder: Path) -> Iterator[Item]:
    for entry in sorted(folder.iterdir()):
        if not entry.is_file():
            continue
        with entry.open("rb") as file:
            start = file.read(256)
        if looks_like_dicom(start):
            yield open_dicom(entry, pixels=False)


def _raw_files_in(folder: Path) -> tuple[list[Path], list[str]]:
    """Files of raw projections in a folder, by name, and a note on the DICOM files that were left out."""
    raw: list[Path] = []
    others: dict[str, int] = {}
    for item in _dicom_in(folder):
        kind = kind_of(item)
        if kind == "TOMO":
            raw.append(item.path)
        else:
            what = f"NM {kind or 'without ImageType'}" if kind is not None else item.text("Modality") or "other"
            others[what] = others.get(what, 0) + 1
    listed = ", ".join(f"{count} x {what}" for what, count in others.items())
    if not raw:
        raise InputError(f"{folder}: no raw projections (NM TOMO) in this folder, only {listed or 'no DICOM files'}")
    return raw, [f"left out of {folder.name}: {listed}"] if others else []


def _read_all(paths: Sequence[Path], given: Given, notes: list[str]) -> list[Part]:
    """Every file by itself; of several those without a usable energy window are left out, with a note."""
    if len(paths) == 1:
        return [_read_one(paths[0], given, None)]
    named = set().union(*(named_nuclides(open_dicom(path, pixels=False)) for path in paths)) & set(NUCLIDES)
    shared = named.pop() if len(named) == 1 else None
    parts, unfit = [], []
    for path in dict.fromkeys(paths):
        try:
            parts.append(_read_one(path, given, shared))
        except UnfitWindowsError as error:
            unfit.append(error)
            notes.append(f"{path.name} was left out: {str(error).removeprefix(f'{path}: ')}")
    if not parts:
        raise unfit[0]
    return parts


def _read_one(path: Path, given: Given, shared_nuclide: str | None) -> Part:
    item = open_dicom(path)
    notes = Notes()
    with named(path):
        check_kind(item, "TOMO", notes)
        made_by = " ".join(item.text(word) or "" for word in ("Manufacturer", "ManufacturerModelName")).strip()
        notes.history.append(f"read from DICOM NM {path.name}" + (f" ({made_by})" if made_by else ""))
        corrections = read_corrections(item, notes)
        frames = read_frames(item, item.required_count("NumberOfFrames"), notes)
        windows = read_windows(item, sorted({int(w) for w in frames.window}), notes)
        name = read_nuclide(item, given.nuclide, shared_nuclide, windows.values(), notes)
        frames, kept = _with_windows(frames, windows)
        peak = _tell_photopeak(windows, name, notes)
        views = read_views(item, frames, peak, given, notes)
        matrix = (item.required_count("Rows"), item.required_count("Columns"))
        pixels = pixel_mm(item, given.pixel_mm)
        detectors = detector_items(item, frames)
        heads = _heads(detectors, views)
        gantry, posture = read_posture(item)
        orientation = orientations(heads, gantry, posture, given.head_angles_deg is not None, notes)
        table = [one.optional_number("TableHeight") for one in item.items("RotationInformationSequence")]
        ours = item.text("SoftwareVersions") == "spectac"
        written_by = "spectac" if ours else item.text("Manufacturer") or ""
        axis = axis_position(heads, orientation, matrix, pixels, table[0] if table else None, written_by, notes)
        _tell_zoom(heads, notes)
        start = read_start(item, given.start, notes)
        acquisition = Acquisition(
            views.angles_deg,
            views.radii_mm,
            matrix,
            pixels,
            views.seconds,
            name,
            read_collimator(item, detectors, given.collimator, notes),
            start=start,
            view_start_s=views.start_s,
            detector=views.detector,
            axis_lps_mm=axis.taken,
            frame_of_reference_uid=item.text("FrameOfReferenceUID"),
            u_offset_mm=_u_offset_mm(heads, views, given.apply_cor, notes),
            patient_position=None if gantry is None or posture is None else gantry + posture,
            corrections=corrections,
        )
        notes.history += given.history()
        injection = read_injection(item, name, start, notes)
        flips = {head.number: one for head, one in zip(heads, orientation, strict=True)}
        counts = _counts(item, kept[views.frames], views, {n: (o.upright, o.mirrored) for n, o in flips.items()}, notes)
        study = Study(
            acquisition,
            tuple(windows[w] for w in views.windows),
            counts,
            patient=read_patient(item),
            injection=injection,
            history=tuple(notes.history),
            warnings=tuple(dict.fromkeys((*notes.warnings, *item.warnings))),
        )
        return Part(path, study, axis)


def _with_windows(frames: Frames, windows: dict[int, EnergyWindow]) -> tuple[Frames, Array]:
    """Frames whose window is read, and their numbers in the file."""
    kept = np.flatnonzero(np.isin(frames.window, list(windows)))
    return Frames(frames.window[kept], frames.detector[kept], frames.rotation[kept], frames.view[kept]), kept


def _tell_photopeak(windows: dict[int, EnergyWindow], nuclide: str, notes: Notes) -> int:
    """Number of the window that holds the nuclide's main line (the narrowest of several), else the first one."""
    line_kev = nuclide_by_name(nuclide).main_kev
    holding = [w for w, window in windows.items() if window.holds(line_kev)]
    if not holding:
        return min(windows)
    peak = min(holding, key=lambda w: windows[w].width_kev)
    window = windows[peak]
    notes.history.append(
        f"photopeak: {window.name} ({window.lower_kev:g}-{window.upper_kev:g} keV) holds the {line_kev:g} keV line of "
        f"{nuclide}"
    )
    return peak


def _heads(detectors: Mapping[int, Item], views: Views) -> list[Head]:
    return [
        Head(
            number,
            start_deg,
            float(views.radii_mm[np.flatnonzero(views.detector == number)[0]]),
            detectors.get(number),
        )
        for number, start_deg in views.starts
    ]


def _tell_zoom(heads: list[Head], notes: Notes) -> None:
    """PixelSpacing is the distance in the image, so the zoom is in it already; zooms that differ are told."""
    zooms = {tuple(head.item.optional_numbers("ZoomFactor")) for head in heads if head.item is not None}
    zooms -= {()}
    if len(zooms) > 1:
        listed = " and ".join("x".join(f"{value:g}" for value in zoom) for zoom in sorted(zooms))
        notes.warn(f"{name_of('ZoomFactor')} differs between the heads ({listed}): one pixel size was taken for all")
    for zoom in zooms:
        if any(abs(value - 1) > 1e-3 for value in zoom):
            notes.history.append(
                f"ZoomFactor {'x'.join(f'{value:g}' for value in zoom)}: PixelSpacing is taken as zoomed already, as "
                "DICOM has it"
            )


def _u_offset_mm(heads: list[Head], views: Views, apply_cor: bool, notes: Notes) -> Array:
    """Offsets (v,) of the axis on the detector: CenterOfRotationOffset of each head where the user wants it, else 0."""
    offset = np.zeros(views.detector.size)
    for head in heads:
        value = None if head.item is None else head.item.optional_number("CenterOfRotationOffset")
        if not value:
            continue
        tag = f"{name_of('CenterOfRotationOffset')} of head {head.number + 1} is {value:g} mm"
        if apply_cor:
            offset[views.detector == head.number] = value
            notes.history.append(f"{tag}: applied, the axis falls {value:g} mm towards growing u")
        else:
            notes.warnings.append(f"{tag}: not applied, vendors correct for it beforehand; --apply-cor applies it")
    return offset


def _counts(item: Item, frames: Array, views: Views, flips: dict[int, tuple[bool, bool]], notes: Notes) -> Array:
    """Counts (w, v, z, u) from the frames (w, v), rows turned to grow to superior and columns to the right."""
    slope, intercept, unit, lines = scale(item)
    if not is_count_unit(unit):
        raise item.error("RealWorldValueMappingSequence", f"gives pixels the unit {unit!r}: counts are needed")
    notes.history += lines
    stored = stored_frames(item)
    counts = np.empty((*frames.shape, *stored.shape[1:]), np.float32)
    for v, head in enumerate(views.detector):
        upright, mirrored = flips[int(head)]
        for w in range(frames.shape[0]):
            frame = stored[frames[w, v]]
            frame = frame[::-1] if upright else frame
            counts[w, v] = frame[:, ::-1] if mirrored else frame
    if (slope, intercept) != (1.0, 0.0):
        counts *= slope
        counts += intercept
    return counts
