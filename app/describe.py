"""Facts of a study for people and for JSON: windows, views, orbit, counts, and what looks wrong."""

from dataclasses import asdict
from typing import Any

import numpy as np

from spectac.recon import Acquisition, InputError, Projections, Study
from spectac.recon.collimator import Focus
from spectac.recon.fan_beam import fan_doubts, opposite_rays
from spectac.recon.geometry import coverage_doubt, focal_lines
from spectac.recon.io import foci
from spectac.recon.nuclides import nuclide
from spectac.recon.scatter.measured import projections
from spectac.recon.types import Array

ODD_RATE = 0.5
"""A view whose count rate lies further than this share from the median of all views is reported."""


def describe(study: Study, used: Projections | None = None) -> dict[str, Any]:
    """Facts of a study, ready for JSON; angles in degrees, lengths in mm, times in seconds.

    `used` are the projections that were reconstructed: their photopeak and scatter correction are described. Without
    them the facts are those of a reconstruction with default settings, and "scatter" says so.
    """
    acquisition = study.acquisition
    shown, lacking = (used, []) if used is not None else _by_default(study)
    names = [window.name for window in study.windows]
    peak = None if shown is None or shown.window not in names else names.index(shown.window)
    primary = study.counts[peak or 0] if shown is None or shown.scatter is None else shown.counts - shown.scatter
    warnings = (*study.warnings, *lacking, *(() if shown is None else shown.notes), *looks_wrong(study, peak))
    warnings += tuple(_focus_doubts(acquisition, primary))
    return {
        "nuclide": acquisition.nuclide,
        "main_line_kev": nuclide(acquisition.nuclide).main_kev,
        **_orbit(acquisition),
        "start": None if acquisition.start is None else acquisition.start.isoformat(),
        "injection": _injection(study),
        "radius_mm": _span(acquisition.radii_mm),
        "matrix_z_u": list(acquisition.matrix),
        "pixel_mm_z_u": list(acquisition.pixel_mm),
        "seconds_per_view": _span(acquisition.view_seconds) if acquisition.times_known else None,
        "collimator": None if acquisition.collimator is None else acquisition.collimator.name,
        "foci": [asdict(focus) for focus in acquisition.foci],
        "opposite_rays_differ": opposite_rays(acquisition, primary),
        "patient_position": acquisition.patient_position,
        "axis_lps_mm": None if acquisition.axis_lps_mm is None else list(acquisition.axis_lps_mm),
        "corrections": sorted(acquisition.corrections),
        "photopeak_line_kev": None if shown is None else shown.energy_kev,
        "scatter": _scatter(used, shown),
        "windows": _windows(study, peak, () if shown is None else tuple(one.name for one in shown.scatter_windows)),
        "history": list(study.history),
        "warnings": list(dict.fromkeys(warnings)),
    }


def _orbit(acquisition: Acquisition) -> dict[str, Any]:
    """Views, angles and offsets. A positive step from view to view is counter-clockwise seen from the feet."""
    angles, detector = np.asarray(acquisition.view_angles_deg), np.asarray(acquisition.detector)
    heads = np.unique(detector)
    ordered = np.sort(np.mod(angles, 360.0))
    gaps = np.diff(np.append(ordered, ordered[0] + 360.0))
    steps = np.mod(np.diff(angles[detector == detector[0]]) + 180.0, 360.0) - 180.0
    return {
        "views": acquisition.views,
        "detectors": int(heads.size),
        "start_angles_deg": [float(angles[detector == head][0]) for head in heads],
        "arc_deg": _arc_deg(gaps),
        "largest_gap_deg": float(gaps.max()),
        "step_deg": float(steps[0]) if steps.size and np.ptp(steps) < 0.01 else None,
        "u_offset_mm": _span(acquisition.u_offset_mm),
    }


def _arc_deg(gaps: Array) -> float:
    """Arc that the views cover: a full turn where the largest gap is no more than one and a half of the others."""
    if gaps.size < 2:
        return 0.0
    return 360.0 if gaps.max() <= 1.5 * float(np.median(gaps)) else float(360.0 - gaps.max())


def _injection(study: Study) -> dict[str, Any] | None:
    """Agent, activity and time of the injection, where the files say so."""
    injection = study.injection
    if injection is None:
        return None
    return {**asdict(injection), "at": None if injection.at is None else injection.at.isoformat()}


def _windows(study: Study, peak: int | None, scatter_windows: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {
            **asdict(window),
            "counts": float(study.counts[index].sum(dtype=np.float64)),
            "photopeak": index == peak,
            "scatter": window.name in scatter_windows,
        }
        for index, window in enumerate(study.windows)
    ]


def _by_default(study: Study) -> tuple[Projections | None, list[str]]:
    """Projections that `reconstruct` takes without options; None with the reason where it cannot."""
    try:
        return projections(study), []
    except InputError as error:
        return None, [str(error)]


def _scatter(used: Projections | None, shown: Projections | None) -> str:
    """The scatter correction that was used, or that "auto" leads to."""
    if used is not None:
        return used.scatter_method
    if shown is None:
        return "unknown: no photopeak"
    with_map = shown.scatter is None and shown.scatter_method != "none"
    return f'"auto" means {shown.scatter_method}{", which needs a mu-map" if with_map else ""}'


def _span(values: Any) -> list[float]:
    return [float(np.min(values)), float(np.max(values))]


def looks_wrong(study: Study, peak: int | None) -> list[str]:
    """Properties of a study that a physicist should check before trusting a reconstruction.

    `peak` is the index of the photopeak window; None: the first window is taken.
    """
    acquisition = study.acquisition
    doubts = []
    if (doubt := coverage_doubt(acquisition)) is not None:
        doubts.append(doubt)
    if acquisition.collimator is None:
        doubts.append("the collimator is unknown: give --collimator, --holes or --psf for resolution recovery")
    if not acquisition.times_known:
        doubts.append("the view times are unknown: images will be in relative units")
    rate = study.counts[peak or 0].sum(axis=(1, 2), dtype=np.float64)
    if acquisition.times_known:
        rate = rate / acquisition.view_seconds
    median = float(np.median(rate))
    if median == 0:
        return [*doubts, "most views of the photopeak are empty"]
    odd = np.flatnonzero(np.abs(rate / median - 1) > ODD_RATE)
    if odd.size:
        doubts.append(
            f"{odd.size} views have a count rate more than {100 * ODD_RATE:g} % from the median (first: view {odd[0]}, "
            f"{rate[odd[0]] / median:.0%} of it)"
        )
    return doubts


def _focus_doubts(acquisition: Acquisition, counts: Array) -> list[str]:
    """Why the focal lines cannot be used; else what opposite rays say against them, and what views cut off."""
    try:
        focal_lines(acquisition)
    except InputError as error:
        return [str(error)]
    return fan_doubts(acquisition, counts)


def labelled(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Labels and texts of the facts of `describe`, without history and warnings."""
    line_kev, seconds = facts["photopeak_line_kev"], facts["seconds_per_view"]
    imaged = "" if line_kev in (None, facts["main_line_kev"]) else f", imaged {line_kev:g} keV"
    time = "unknown time" if seconds is None else f"{_range(seconds)} s"
    heads = f"{facts['detectors']} detector" + ("s" if facts["detectors"] > 1 else "")
    starts = " and ".join(f"{angle:g}" for angle in facts["start_angles_deg"])
    axis = "position unknown, the centre of the field is taken as the origin"
    if facts["axis_lps_mm"] is not None:
        axis = "at x = {:g}, y = {:g} mm; row 0 at z = {:g} mm (LPS)".format(*facts["axis_lps_mm"])
    rows, columns = facts["matrix_z_u"]
    pitch_z, pitch_u = facts["pixel_mm_z_u"]
    lines = [
        ("nuclide", f"{facts['nuclide']}, main line {facts['main_line_kev']:g} keV{imaged}"),
        (
            "views",
            f"{facts['views']} of {time} by {heads}, over {facts['arc_deg']:.0f} deg "
            f"(largest gap {facts['largest_gap_deg']:.1f} deg)",
        ),
        ("start", f"{starts} deg (0 = detector at the patient's back, 90 = at the left)"),
        ("turning", _turning(facts["step_deg"])),
        ("axis", axis),
        ("orbit", f"{_range(facts['radius_mm'])} mm from the axis to the collimator face"),
        ("matrix", f"{rows} rows (z) x {columns} columns (u), pixel {pitch_z:g} x {pitch_u:g} mm"),
        ("collimator", facts["collimator"] or "unknown"),
        *_focus_lines(facts),
        ("patient", facts["patient_position"] or "position unknown"),
    ]
    for window in facts["windows"]:
        mark = "  <- photopeak" if window["photopeak"] else "  <- scatter" if window["scatter"] else ""
        limits = f"{window['lower_kev']:g}-{window['upper_kev']:g} keV"
        lines.append(("window", f"{window['name']}: {limits}, {window['counts']:.4g} counts{mark}"))
    lines.append(("scatter", facts["scatter"]))
    if facts["corrections"]:
        lines.append(("corrected", ", ".join(facts["corrections"])))
    return lines


def _focus_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The focus of a fan beam, and how much opposite rays differ as it is read."""
    lines = []
    if facts["foci"]:
        lines.append(("focus", foci.in_words([Focus(**one) for one in facts["foci"]])))
    if facts["opposite_rays_differ"]:
        differ = ", ".join(f"{100 * value:.1f} % {name}" for name, value in facts["opposite_rays_differ"].items())
        lines.append(("", f"opposite rays differ by {differ}"))
    return lines


def _range(span: list[float]) -> str:
    """Least and largest value; one number where they are equal."""
    return "-".join(f"{value:g}" for value in dict.fromkeys(span))


def _turning(step_deg: float | None) -> str:
    if step_deg is None:
        return "irregular steps"
    return f"steps of {abs(step_deg):g} deg, {'counter-' if step_deg > 0 else ''}clockwise seen from the feet"


def in_words(facts: dict[str, Any]) -> list[str]:
    """The facts of `describe` as lines of text."""
    lines = labelled(facts)
    lines += [("history", line) for line in facts["history"]]
    lines += [("warning", line) for line in facts["warnings"]]
    return [f"{label:12}{text}" for label, text in lines]
