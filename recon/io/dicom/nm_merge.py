"""Several NM TOMO files of one acquisition become one study: windows or heads in separate files."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spectac.recon.errors import FileError
from spectac.recon.geometry import signed_deg
from spectac.recon.io.dicom.elements import name_of
from spectac.recon.io.dicom.nm_axis_position import Axis, AxisPosition
from spectac.recon.io.energy_windows import with_own_names
from spectac.recon.patient import differences, doubts
from spectac.recon.types import Array, EnergyWindow, Study

_AT_ONCE_S = 60.0
"""Windows and heads are counted at the same time; files of one acquisition name starts that differ by seconds."""

_APART_MM = 10.0
"""Heads turn about one axis; readings of their positions agree within a pixel where they are right."""

_SAME = {"view_angles_deg": 0.05, "radii_mm": 1.0, "view_seconds": 1e-3, "view_start_s": 1.0, "u_offset_mm": 0.01}
"""Differences of deg, mm and s that two files of one acquisition may have by rounding."""


@dataclass(frozen=True)
class Part:
    """What one file of an acquisition holds.

    Parameters
    ----------
    path : Path
        The file.
    study : Study
        Study of this file, without the history and the doubts of `axis`.
    axis : Axis
        What is known of the position of the rotation axis.
    """

    path: Path
    study: Study
    axis: Axis


def without_copies(parts: Sequence[Part], notes: list[str]) -> list[Part]:
    """The parts without those that repeat an earlier one, of the same patient and start, count by count.

    Parameters
    ----------
    parts : sequence of Part
        Files of an acquisition.
    notes : list of str
        Gets a line for each copy.

    Returns
    -------
    list of Part
        Parts in the same order.
    """
    kept: list[Part] = []
    for part in parts:
        original = next((one for one in kept if _is_copy(one.study, part.study)), None)
        if original is None:
            kept.append(part)
        else:
            notes.append(f"{part.path.name} was left out: a copy of {original.path.name} with the same counts")
    return kept


def _is_copy(one: Study, other: Study) -> bool:
    mine, theirs = one.acquisition, other.acquisition
    return (
        (mine.nuclide, mine.start, mine.axis_lps_mm) == (theirs.nuclide, theirs.start, theirs.axis_lps_mm)
        and one.windows == other.windows
        and not differences(one.patient, other.patient)
        and _same_views(one, other)
        and np.array_equal(one.counts, other.counts)
    )


def with_one_axis(parts: Sequence[Part]) -> list[Study]:
    """The files' studies; where a position can be read in several ways, by the one that gives all files one axis.

    Parameters
    ----------
    parts : sequence of Part
        Files of an acquisition.

    Returns
    -------
    list of Study
        Studies in the same order, with the history and doubts of their axes.
    """
    studies = []
    for part, axis in zip(parts, _settled([part.axis for part in parts], parts), strict=True):
        study = part.study
        studies.append(
            replace(
                study,
                acquisition=replace(study.acquisition, axis_lps_mm=axis.taken),
                history=(*study.history, *axis.history),
                warnings=(*study.warnings, *axis.doubts),
            )
        )
    return studies


def _settled(axes: Sequence[Axis], parts: Sequence[Part]) -> Sequence[Axis]:
    """The files' axes, without the doubts that the other files settle."""
    if len(axes) < 2 or not all(axis.possible for axis in axes):
        return axes
    taken = axes[0].taken
    if taken is not None and all(_beside(axis.taken, taken) for axis in axes):
        # Heads at different angles that agree show that the position was read rightly.
        starts = np.array([part.study.acquisition.view_angles_deg[0] for part in parts])
        apart = np.abs(signed_deg(starts - starts[0])).max() > 5.0
        return [replace(axis, doubts=()) for axis in axes] if apart else axes
    shared = [
        [next((other for other in axis.possible.values() if _beside(other, one)), None) for axis in axes]
        for one in axes[0].possible.values()
    ]
    together = [positions for positions in shared if None not in positions]
    if len(together) != 1:
        return axes
    return [
        Axis(
            position,
            history=(
                "ImagePositionPatient read so that all files have one rotation axis: "
                f"x = {position[0]:.1f}, y = {position[1]:.1f} mm",
            ),
        )
        for position in together[0]
        if position is not None
    ]


def _beside(one: AxisPosition | None, other: AxisPosition) -> bool:
    """True where two files may mean one axis, whatever their heights."""
    return one is not None and math.dist(one[:2], other[:2]) <= _APART_MM


def merged(paths: Sequence[Path], studies: Sequence[Study], notes: Sequence[str] = ()) -> Study:
    """One study from the studies of single files.

    Files with the same views hold windows of one acquisition; files with the same windows and other angles hold heads.

    Parameters
    ----------
    paths : sequence of Path
        The files, for messages.
    studies : sequence of Study
        Study of each file.
    notes : sequence of str
        Further warnings of the result.

    Returns
    -------
    Study
        Counts (w, v, z, u) of all files. Corrections are those that all files have.

    Raises
    ------
    InputError
        The files, which the message lists, are several acquisitions, beds, patients or nuclides.
    """
    if len(studies) == 1:
        return replace(studies[0], warnings=(*studies[0].warnings, *notes))
    studies = _completed(studies)
    first = studies[0]
    reasons = (reason for other in studies[1:] for reason in _reasons_apart(first, other))
    reason = next(reasons, None)
    if reason is None:
        heads: list[list[Study]] = []
        for study in studies:
            fitting = next((head for head in heads if _same_views(head[0], study)), None)
            if fitting is None:
                heads.append([study])
            else:
                fitting.append(study)
        parts = [_with_all_windows(head) for head in heads]
        reason = next(_reasons_not_to_join(parts), None)
    if reason is not None:
        raise _refusal(paths, studies, reason)
    study = _with_all_heads(parts)
    terms = [one.acquisition.corrections for one in studies]
    everywhere = frozenset.intersection(*terms)
    warnings = dict.fromkeys(line for one in studies for line in one.warnings)
    if somewhere := frozenset.union(*terms) - everywhere:
        line = f"only some of the files say {', '.join(sorted(somewhere))}: taken as not corrected"
        warnings[f"{name_of('CorrectedImage')}: {line}"] = None
    for path, other in zip(paths[1:], studies[1:], strict=True):
        warnings |= dict.fromkeys(doubts(first.patient, other.patient, f"{path.name} and {paths[0].name}"))
    patient = dict(first.patient)
    if sources := [uid for one in studies if (uid := one.patient.get("SOPInstanceUID"))]:
        patient["SOPInstanceUID"] = "\\".join(sources)
    what = f"{len(parts)} heads" if len(parts) > 1 else f"{len(study.windows)} windows"
    history = dict.fromkeys(line for one in studies for line in one.history)
    return replace(
        study,
        acquisition=replace(study.acquisition, corrections=everywhere),
        patient=patient,
        history=(*history, f"{len(studies)} files taken as {what} of one acquisition"),
        warnings=(*warnings, *notes),
    )


def _completed(studies: Sequence[Study]) -> list[Study]:
    """The studies, each with what it does not say taken from the first that does."""
    acquisitions = [one.acquisition for one in studies]
    names = ("collimator", "patient_position", "frame_of_reference_uid")
    first: dict[str, Any] = {name: _first(getattr(one, name) for one in acquisitions) for name in names}
    starts = [one.start for one in acquisitions if one.start is not None]
    first["start"] = _first([*(start for start in starts if start.tzinfo is not None), *starts])
    seconds = _first(one.view_seconds for one in acquisitions if one.times_known)
    patient = {key: text for one in reversed(studies) for key, text in one.patient.items() if text}
    injection = _first(one.injection for one in studies)
    completed = []
    for study in studies:
        acquisition = study.acquisition
        changes = {name: value for name, value in first.items() if getattr(acquisition, name) is None}
        if acquisition.start is not None and acquisition.start.tzinfo is None:
            changes["start"] = acquisition.start.replace(tzinfo=first["start"].tzinfo)
        if not acquisition.times_known and seconds is not None and np.ptp(seconds) == 0:
            changes |= {"view_seconds": np.full(acquisition.views, seconds[0]), "view_start_s": None}
        completed.append(
            replace(
                study,
                acquisition=replace(acquisition, **changes),
                patient=patient | {key: text for key, text in study.patient.items() if text},
                injection=study.injection or injection,
            )
        )
    return completed


def _first(values: Iterable[Any]) -> Any:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)


def _refusal(paths: Sequence[Path], studies: Sequence[Study], reason: str) -> FileError:
    listed = [_described(path, study) for path, study in zip(paths, studies, strict=True)]
    more = f"; and {len(listed) - 8} more" if len(listed) > 8 else ""
    return FileError(
        paths[0].parent,
        f"{len(paths)} files are not one acquisition: {reason}. Give the files of one acquisition: "
        f"{'; '.join(listed[:8])}{more}",
    )


def _described(path: Path, study: Study) -> str:
    acquisition = study.acquisition
    windows = ", ".join(f"{window.lower_kev:g}-{window.upper_kev:g} keV" for window in study.windows)
    when = "" if acquisition.start is None else f", {acquisition.start:%Y-%m-%d %H:%M:%S}"
    place = "" if acquisition.axis_lps_mm is None else f", rows from z = {acquisition.axis_lps_mm[2]:.0f} mm"
    return (
        f"{path.name} ({acquisition.nuclide}, {acquisition.views} views from {acquisition.view_angles_deg[0]:g} deg, "
        f"{windows}{when}{place})"
    )


def _reasons_apart(one: Study, other: Study) -> Iterator[str]:
    """In what two files differ that heads and windows of one acquisition have in common."""
    mine, theirs = one.acquisition, other.acquisition
    if "PatientID" in differences(one.patient, other.patient):
        yield "PatientID differs"
    if one.patient.get("StudyInstanceUID") != other.patient.get("StudyInstanceUID"):
        yield "StudyInstanceUID differs"
    if ("DECY" in mine.corrections) != ("DECY" in theirs.corrections):
        yield "only some are corrected for decay (CorrectedImage)"
    if not np.allclose(mine.pixel_mm, theirs.pixel_mm, rtol=1e-3):
        yield "pixel_mm differs"
    for name in ("nuclide", "matrix", "collimator", "patient_position"):
        if getattr(mine, name) != getattr(theirs, name):
            yield f"{name} differs"
    if bool(mine.foci) != bool(theirs.foci):
        yield "only some have a fan-beam collimator"
    elif _same_views(one, other) and mine.foci != theirs.foci:
        yield "their focal lines differ (FocalDistance, XFocusCenter)"
    if mine.frame_of_reference_uid != theirs.frame_of_reference_uid:
        yield "FrameOfReferenceUID differs"
    here, there = mine.axis_lps_mm, theirs.axis_lps_mm
    if here is not None and there is not None and abs(here[2] - there[2]) > 0.5 * mine.pixel_mm[0]:
        yield "their rows lie at different heights: several bed positions are not read"
    if here is not None and there is not None and not _beside(here, there):
        yield "their rotation axes lie apart"
    begun, began = mine.start, theirs.start
    if begun is not None and began is not None and abs((begun - began).total_seconds()) > _AT_ONCE_S:
        yield "they start more than a minute apart"


def _reasons_not_to_join(heads: Sequence[Study]) -> Iterator[str]:
    """What keeps the windows of a head, and the heads, from being those of one acquisition."""
    if any(len(set(_limits(head.windows))) < len(head.windows) for head in heads):
        yield "two of them have the same views and the same energy window"
    for number, head in enumerate(heads):
        if _limits(head.windows) != _limits(heads[0].windows):
            yield "they differ in their views and in their energy windows"
        start_deg = head.acquisition.view_angles_deg[0]
        for other in heads[:number]:
            if abs(signed_deg(start_deg - other.acquisition.view_angles_deg[0])) < 0.5:
                yield f"two have the same energy window and start at {start_deg:g} deg (beds, repeats?)"


def _same_views(one: Study, other: Study) -> bool:
    """Tell whether two files hold the same views; the same angles with other radii or times are refused elsewhere."""
    for name, within in _SAME.items():
        mine, theirs = (np.asarray(getattr(study.acquisition, name)) for study in (one, other))
        if mine.shape != theirs.shape or not np.allclose(mine, theirs, rtol=0, atol=within, equal_nan=True):
            return False
    return True


def _limits(windows: Sequence[EnergyWindow]) -> list[tuple[float, float]]:
    return [(window.lower_kev, window.upper_kev) for window in windows]


def _with_all_windows(files: Sequence[Study]) -> Study:
    """One head's study with the windows of all its files, by their limits."""
    windows = with_own_names([window for study in files for window in study.windows])
    counts = files[0].counts if len(files) == 1 else np.concatenate([study.counts for study in files])
    order = sorted(range(len(windows)), key=lambda w: _limits(windows)[w])
    return replace(files[0], windows=tuple(windows[w] for w in order), counts=counts[order])


def _with_all_heads(heads: Sequence[Study]) -> Study:
    """One study with the views of all heads, which are numbered one after the other."""
    acquisitions = [head.acquisition for head in heads]
    detector: list[Array] = []
    for acquisition in acquisitions:
        _, numbers = np.unique(np.asarray(acquisition.detector), return_inverse=True)
        detector.append(numbers + (detector[-1].max() + 1 if detector else 0))
    joined: dict[str, Any] = {name: np.concatenate([getattr(one, name) for one in acquisitions]) for name in _SAME}
    foci = tuple(focus for one in acquisitions for focus in one.foci)
    acquisition = replace(acquisitions[0], **joined, detector=np.concatenate(detector), foci=foci)
    return replace(heads[0], acquisition=acquisition, counts=np.concatenate([head.counts for head in heads], axis=1))
