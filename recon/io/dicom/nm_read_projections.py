"""One DICOM NM TOMO file becomes a study.

nm_frames.py, nm_rotation.py, nm_view_angles.py and nm_radii.py put the views in order. nm_orientation.py and
nm_axis_position.py find orientation and axis. The other nm_*.py read the rest of the header; nm_merge.py joins files.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spectac.recon.errors import naming
from spectac.recon.io.dicom.elements import Item, name_of, open_dicom
from spectac.recon.io.dicom.nm_axis_position import axis_position
from spectac.recon.io.dicom.nm_collimator import read_collimator
from spectac.recon.io.dicom.nm_energy_windows import photopeak, read_windows
from spectac.recon.io.dicom.nm_frames import read_frames
from spectac.recon.io.dicom.nm_kind import check_kind, read_corrections
from spectac.recon.io.dicom.nm_merge import Part
from spectac.recon.io.dicom.nm_nuclide import read_nuclide
from spectac.recon.io.dicom.nm_orientation import Orientation, read_orientations
from spectac.recon.io.dicom.nm_pixels import pixel_mm, stored_frames
from spectac.recon.io.dicom.nm_rescale import COUNT_UNITS, read_rescale
from spectac.recon.io.dicom.nm_start_and_injection import read_injection, read_start
from spectac.recon.io.dicom.nm_view_angles import Head, Views, read_views
from spectac.recon.io.dicom.patient_elements import read_patient, read_posture
from spectac.recon.settings import StudySettings
from spectac.recon.types import Acquisition, Array, Study


def read_projections(path: Path, given: StudySettings, shared_nuclide: str | None) -> Part:
    """Study of one file, and what is known of the position of its axis.

    Parameters
    ----------
    path : Path
        The file.
    given : StudySettings
        The user's values, which go before those of the file.
    shared_nuclide : str or None
        What the other files of the acquisition name, for a file that names none.

    Returns
    -------
    Part
        Study and axis.

    Raises
    ------
    InputError
        Naming file, tag and keyword, for what is missing, contradictory or not supported.
    """
    item = open_dicom(path)
    history = item.notes.history
    with naming(path):
        check_kind(item, "TOMO")
        made_by = " ".join(item.text(word) or "" for word in ("Manufacturer", "ManufacturerModelName")).strip()
        history.append(f"read from DICOM NM {path.name}" + (f" ({made_by})" if made_by else ""))
        corrections = read_corrections(item)
        frames = read_frames(item)
        windows = read_windows(item, np.unique(frames.window).tolist())
        nuclide = read_nuclide(item, given.nuclide, shared_nuclide, list(windows.values()))
        frames = frames.where(np.isin(frames.window, list(windows)))
        views = read_views(item, frames, photopeak(item, windows, nuclide), given)
        matrix = (item.required_count("Rows"), item.required_count("Columns"))
        pixels = pixel_mm(item, given.pixel_mm)
        posture = read_posture(item)
        orientations = read_orientations(item, views.heads, posture, given.head_angles_deg is not None)
        axis = axis_position(item, views.heads, orientations, matrix, pixels)
        _tell_zoom(item, views.heads)
        start = read_start(item, given.start)
        settled = read_collimator(item, views.heads, orientations, given)
        acquisition = Acquisition(
            views.angles_deg,
            views.radii_mm,
            matrix,
            pixels,
            views.seconds,
            nuclide,
            settled.collimator,
            start=start,
            view_start_s=views.start_s,
            detector=views.detector,
            axis_lps_mm=axis.taken,
            frame_of_reference_uid=item.text("FrameOfReferenceUID"),
            u_offset_mm=_u_offset_mm(item, views, given.apply_cor),
            foci=settled.foci,
            patient_position=None if None in posture else "".join(word or "" for word in posture),
            corrections=corrections,
        )
        history += [*given.history(), *settled.history]
        injection = read_injection(item, nuclide, start)
        study = Study(
            acquisition,
            tuple(windows.values()),
            _counts(item, views, orientations),
            patient=read_patient(item),
            injection=injection,
            history=tuple(history),
            warnings=tuple(dict.fromkeys(item.notes.warnings)),
        )
        return Part(path, study, axis)


def _tell_zoom(item: Item, heads: Sequence[Head]) -> None:
    """PixelSpacing is the distance in the image, so the zoom is in it already; zooms that differ are told."""
    zooms = {tuple(head.item.optional_numbers("ZoomFactor")) for head in heads if head.item is not None} - {()}
    shown = {zoom: "x".join(f"{value:g}" for value in zoom) for zoom in sorted(zooms)}
    if len(zooms) > 1:
        item.warn(
            f"ZoomFactor differs between the heads ({' and '.join(shown.values())}): one pixel size was taken for all"
        )
    for zoom, text in shown.items():
        if any(abs(value - 1) > 1e-3 for value in zoom):
            item.record(f"ZoomFactor {text}: PixelSpacing is taken as zoomed already, as DICOM has it")


def _u_offset_mm(item: Item, views: Views, apply_cor: bool) -> Array:
    """Offsets (v,) of the axis on the detector: CenterOfRotationOffset of each head where the user wants it, else 0."""
    offset = np.zeros(views.detector.size)
    for head in views.heads:
        value = None if head.item is None else head.item.optional_number("CenterOfRotationOffset")
        if not value:
            continue
        tag = f"{name_of('CenterOfRotationOffset')} of head {head.number + 1} is {value:g} mm"
        if apply_cor:
            offset[views.detector == head.number] = value
            item.record(f"{tag}: applied, the axis falls {value:g} mm towards growing u")
        else:
            item.notes.warn(f"{tag}: not applied, vendors correct for it beforehand; --apply-cor applies it")
    return offset


def _counts(item: Item, views: Views, orientations: Sequence[Orientation]) -> Array:
    """Counts (w, v, z, u) from the frames (w, v), rows turned to grow to superior and columns to the right."""
    rescale = read_rescale(item)
    if rescale.unit not in COUNT_UNITS:
        raise item.error(f"RealWorldValueMappingSequence gives pixels the unit {rescale.unit!r}: counts are needed")
    item.notes.history += rescale.history
    stored = stored_frames(item)
    counts = np.empty((*views.frames.shape, *stored.shape[1:]), np.float32)
    for head, orientation in zip(views.heads, orientations, strict=True):
        for v in np.flatnonzero(views.detector == head.number):
            counts[:, v] = [orientation.turned(stored[frame]) for frame in views.frames[:, v]]
    rescale.apply(counts)
    return counts
