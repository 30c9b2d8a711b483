"""Several NM TOMO files of one acquisition become one study: windows or heads in separate files."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spectac.recon.errors import InputError
from spectac.recon.io.dicom.nm_position import Axis, AxisPosition
from spectac.recon.io.energy_windows import with_own_names
from spectac.recon.patient import differences, doubts
from spectac.recon.types import Array, EnergyWindow, Study

_AT_ONCE_S = 60.0
"""Windows and heads are counted at the same time; files of one acquisition name starts that differ by seconds."""

_APART_MM = 10.0
"""Heads turn about one axis; readings of their positions agree within a pixel where they are right."""


@dataclass(frozen=True)
class Part:
    """What one file of an acquisition holds."""

    path: Path
    study: Study
    axis: Axis


def without_copies(parts: Sequence[Part], notes: list[str]) -> list[Part]:
    """The parts without those that repeat an earlier one, of the same patient and start, count by count."""
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
    """The files' studies; where a position can be read in several ways, by the one that gives all files one axis."""
    studies = [part.study for part in parts]
    options = [list(part.axis.possible.values()) for part in parts]
    taken = [part.axis.taken for part in parts]
    if len(parts) < 2 or not all(options):
        return studies
    if _one_axis(taken):
        # Heads at different angles that agree show that the position was read rightly.
        return [_undoubted(part) for part in parts] if _apart(studies) else studies
    shared = [
        [next((other for other in of_part if math.dist(one[:2], other[:2]) <= _APART_MM), None) for of_part in options]
        for one in options[0]
    ]
    together = [axes for axes in shared if None not in axes]
    if len(together) != 1:
        return studies
    settled = []
    for part, study, axis in zip(parts, studies, together[0], strict=True):
        assert axis is not None
        x, y, _ = axis
        line = f"ImagePositionPatient read so that all files have one rotation axis: x = {x:.1f}, y = {y:.1f} mm"
        acquisition = replace(study.acquisition, axis_lps_mm=axis)
        history = (*(one for one in study.history if one != part.axis.reading), line)
        settled.append(replace(_undoubted(part), acquisition=acquisition, history=history))
    return settled


def _undoubted(part: Part) -> Study:
    """The study of a file without the warnings that the other files settle."""
    doubts = part.axis.doubts
    return replace(part.study, warnings=tuple(line for line in part.study.warnings if line not in doubts))


def _apart(studies: Sequence[Study]) -> bool:
    """Tell whether the files begin at different angles."""
    starts = [one.acquisition.view_angles_deg[0] for one in studies]
    return bool(np.abs((np.array(starts) - starts[0] + 180.0) % 360.0 - 180.0).max() > 5.0)


def _one_axis(axes: Sequence[AxisPosition | None]) -> bool:
    first = axes[0]
    return first is not None and all(one is not None and math.dist(first[:2], one[:2]) <= _APART_MM for one in axes)


def merged(paths: Sequence[Path], studies: Sequence[Study], notes: Sequence[str] = ()) -> Study:
    """One study (w, v, z, u) from the studies of single files, with `notes` added to its warnings.

    Files with the same views hold windows of one acquisition; files with the same windows and other angles hold heads.
    Raises InputError, listing the files, where they are several acquisitions, beds, patients or nuclides.
    """
    if len(studies) == 1:
        return replace(studies[0], warnings=(*studies[0].warnings, *notes)) if notes else studies[0]
    studies = _completed(studies)
    _refuse_others(paths, studies)
    heads: list[list[int]] = []
    for index, study in enumerate(studies):
        fitting = next((head for head in heads if _same_views(studies[head[0]], study)), None)
        if fitting is None:
            heads.append([index])
        else:
            fitting.append(index)
    parts = [_with_all_windows([studies[i] for i in head], paths, studies) for head in heads]
    study = parts[0] if len(parts) == 1 else _with_all_heads(parts, paths, studies)
    corrections = frozenset.intersection(*(one.acquisition.corrections for one in studies))
    told = _odd_corrections(studies)
    for path, other in zip(paths[1:], studies[1:], strict=True):
        told += doubts(studies[0].patient, other.patient, f"{path.name} and {paths[0].name}")
    study = replace(study, acquisition=replace(study.acquisition, corrections=corrections))
    history = tuple(dict.fromkeys(line for one in studies for line in one.history))
    patient = dict(studies[0].patient)
    if sources := [uid for one in studies if (uid := one.patient.get("SOPInstanceUID"))]:
        patient["SOPInstanceUID"] = "\\".join(sources)
    what = f"{len(parts)} heads" if len(parts) > 1 else f"{len(study.windows)} windows"
    return replace(
        study,
        patient=patient,
        history=(*history, f"{len(studies)} files taken as {what} of one acquisition"),
        warnings=(*dict.fromkeys(line for one in studies for line in one.warnings), *told, *notes),
    )


def _completed(studies: Sequence[Study]) -> list[Study]:
    """The studies, each with what it does not say taken from the first that does."""

    def first(name: str) -> Any:
        values = (getattr(one.acquisition, name) for one in studies)
        return next((value for value in values if value is not None), None)

    names = ("collimator", "patient_position", "frame_of_reference_uid")
    starts = [one.acquisition.start for one in studies if one.acquisition.start is not None]
    start = next((one for one in starts if one.tzinfo is not None), starts[0] if starts else None)
    known = [one.acquisition.view_seconds for one in studies if one.acquisition.times_known]
    patient = {key: text for one in reversed(studies) for key, text in one.patient.items() if text}
    injection = next((one.injection for one in studies if one.injection is not None), None)
    found = []
    for one in studies:
        acquisition = one.acquisition
        changes = {name: first(name) for name in names if getattr(acquisition, name) is None}
        if acquisition.start is None:
            changes["start"] = start
        elif acquisition.start.tzinfo is None and start is not None:
            changes["start"] = acquisition.start.replace(tzinfo=start.tzinfo)
        if not acquisition.times_known and known and np.ptp(known[0]) == 0:
            changes |= {"view_seconds": np.full(acquisition.views, known[0][0]), "view_start_s": None}
        own = {key: text for key, text in one.patient.items() if text}
        complete = replace(one, patient=patient | own, injection=one.injection or injection)
        found.append(replace(complete, acquisition=replace(acquisition, **changes)))
    return found


def _odd_corrections(studies: Sequence[Study]) -> list[str]:
    """A warning on the terms of CorrectedImage that some files have and others not."""
    terms = [one.acquisition.corrections for one in studies]
    odd = frozenset.union(*terms) - frozenset.intersection(*terms)
    if not odd:
        return []
    return [f"(0028,0051) CorrectedImage: only some of the files say {', '.join(sorted(odd))}: taken as not corrected"]


def _refusal(paths: Sequence[Path], studies: Sequence[Study], reason: str) -> InputError:
    listed = [_described(path, study) for path, study in zip(paths, studies, strict=True)]
    more = f"; and {len(listed) - 8} more" if len(listed) > 8 else ""
    return InputError(
        f"{paths[0].parent}: {len(paths)} files are not one acquisition: {reason}. Give the files of one acquisition: "
        f"{'; '.join(listed[:8])}{more}"
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


def _refuse_others(paths: Sequence[Path], studies: Sequence[Study]) -> None:
    """InputError where two files differ in what heads and windows of one acquisition have in common."""
    first = studies[0]
    for other in studies[1:]:
        if "PatientID" in differences(first.patient, other.patient):
            raise _refusal(paths, studies, "PatientID differs")
        if first.patient.get("StudyInstanceUID") != other.patient.get("StudyInstanceUID"):
            raise _refusal(paths, studies, "StudyInstanceUID differs")
        if ("DECY" in first.acquisition.corrections) != ("DECY" in other.acquisition.corrections):
            raise _refusal(paths, studies, "only some are corrected for decay (CorrectedImage)")
        if not np.allclose(first.acquisition.pixel_mm, other.acquisition.pixel_mm, rtol=1e-3):
            raise _refusal(paths, studies, "pixel_mm differs")
        for name in ("nuclide", "matrix", "collimator", "patient_position"):
            if getattr(first.acquisition, name) != getattr(other.acquisition, name):
                raise _refusal(paths, studies, f"{name} differs")
        if first.acquisition.frame_of_reference_uid != other.acquisition.frame_of_reference_uid:
            raise _refusal(paths, studies, "FrameOfReferenceUID differs")
        one, two = first.acquisition.axis_lps_mm, other.acquisition.axis_lps_mm
        if one is not None and two is not None and abs(one[2] - two[2]) > 0.5 * first.acquisition.pixel_mm[0]:
            raise _refusal(paths, studies, "their rows lie at different heights: several bed positions are not read")
        if one is not None and two is not None and math.hypot(one[0] - two[0], one[1] - two[1]) > _APART_MM:
            raise _refusal(paths, studies, "their rotation axes lie apart")
        begun, began = first.acquisition.start, other.acquisition.start
        if begun is not None and began is not None and abs((begun - began).total_seconds()) > _AT_ONCE_S:
            raise _refusal(paths, studies, "they start more than a minute apart")


def _same_views(one: Study, other: Study) -> bool:
    """Tell whether two files hold the same views; the same angles with other radii or times are refused elsewhere."""
    mine, theirs = one.acquisition, other.acquisition
    return all(_close(getattr(mine, name), getattr(theirs, name), within) for name, within in _SAME.items())


_SAME = {"view_angles_deg": 0.05, "radii_mm": 1.0, "view_seconds": 1e-3, "view_start_s": 1.0, "u_offset_mm": 0.01}
"""Differences of deg, mm and s that two files of one acquisition may have by rounding."""


def _close(one: Array | None, other: Array | None, within: float) -> bool:
    a, b = np.asarray(one), np.asarray(other)
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=0, atol=within, equal_nan=True))


def _limits(windows: Sequence[EnergyWindow]) -> list[tuple[float, float]]:
    return [(window.lower_kev, window.upper_kev) for window in windows]


def _with_all_windows(group: list[Study], paths: Sequence[Path], studies: Sequence[Study]) -> Study:
    """One head's study with the windows of all its files."""
    windows = with_own_names([window for study in group for window in study.windows])
    if len(set(_limits(windows))) < len(windows):
        raise _refusal(paths, studies, "two of them have the same views and the same energy window")
    counts = group[0].counts if len(group) == 1 else np.concatenate([study.counts for study in group])
    order = sorted(range(len(windows)), key=lambda w: _limits(windows)[w])
    return replace(group[0], windows=tuple(windows[w] for w in order), counts=counts[order])


def _with_all_heads(parts: list[Study], paths: Sequence[Path], studies: Sequence[Study]) -> Study:
    """One study with the views of all heads; they must stand at different angles and have the same windows."""
    for i, part in enumerate(parts):
        if _limits(part.windows) != _limits(parts[0].windows):
            raise _refusal(paths, studies, "they differ in their views and in their energy windows")
        for other in parts[:i]:
            mine, theirs = part.acquisition.view_angles_deg[0], other.acquisition.view_angles_deg[0]
            if abs((mine - theirs + 180.0) % 360.0 - 180.0) < 0.5:
                raise _refusal(
                    paths, studies, f"two have the same energy window and start at {mine:g} deg (beds, repeats?)"
                )
    detector, heads = [], 0
    for part in parts:
        _, own = np.unique(np.asarray(part.acquisition.detector), return_inverse=True)
        detector.append(own + heads)
        heads += int(own.max()) + 1

    def joined(name: str) -> Array:
        return np.concatenate([getattr(part.acquisition, name) for part in parts])

    acquisition = replace(
        parts[0].acquisition,
        view_angles_deg=joined("view_angles_deg"),
        radii_mm=joined("radii_mm"),
        view_seconds=joined("view_seconds"),
        view_start_s=joined("view_start_s"),
        u_offset_mm=joined("u_offset_mm"),
        detector=np.concatenate(detector),
    )
    return replace(parts[0], acquisition=acquisition, counts=np.concatenate([part.counts for part in parts], axis=1))
