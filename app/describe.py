"""A study in words and in JSON: windows, views, orbit, counts, and what looks wrong."""

from typing import Any

import numpy as np

from spectac.recon import Acquisition, InputError, Projections, Study
from spectac.recon.geometry import coverage_doubt
from spectac.recon.nuclides import nuclide
from spectac.recon.scatter import projections
from spectac.recon.types import Array


def describe(study: Study, used: Projections | None = None) -> dict[str, Any]:
    """Facts of a study, ready for JSON; angles in degrees, lengths in mm, times in seconds.

    `used` are the projections that were reconstructed: their photopeak and scatter correction are described. Without
    them it is what `reconstruct` would do by itself, and "scatter" says so.
    """
    acquisition = study.acquisition
    angles = np.mod(acquisition.view_angles_deg, 360.0)
    ordered = np.sort(angles)
    gaps = np.diff(np.append(ordered, ordered[0] + 360.0))
    shown, lacking = (used, "") if used is not None else _by_default(study)
    names = [window.name for window in study.windows]
    peak = None if shown is None or shown.window not in names else names.index(shown.window)
    beside = () if shown is None else tuple(window.name for window in shown.scatter_windows)
    collimator = acquisition.collimator
    return {
        "nuclide": acquisition.nuclide,
        "main_line_kev": nuclide(acquisition.nuclide).main_kev,
        "views": acquisition.views,
        "detectors": int(np.unique(np.asarray(acquisition.detector)).size),
        "start_angles_deg": _start_angles(acquisition),
        "arc_deg": _arc_deg(gaps),
        "largest_gap_deg": float(gaps.max()),
        "step_deg": _step_deg(acquisition),
        "u_offset_mm": _span(acquisition.u_offset_mm),
        "start": None if acquisition.start is None else acquisition.start.isoformat(),
        "injection": _injection(study),
        "radius_mm": [float(acquisition.radii_mm.min()), float(acquisition.radii_mm.max())],
        "matrix_z_u": list(acquisition.matrix),
        "pixel_mm_z_u": list(acquisition.pixel_mm),
        "seconds_per_view": _span(acquisition.view_seconds) if acquisition.times_known else None,
        "collimator": None if collimator is None else collimator.name,
        "patient_position": acquisition.patient_position,
        "axis_lps_mm": None if acquisition.axis_lps_mm is None else list(acquisition.axis_lps_mm),
        "corrections": sorted(acquisition.corrections),
        "photopeak_line_kev": None if shown is None else shown.energy_kev,
        "scatter": used.scatter_method if used is not None else _would_be(shown),
        "windows": [
            {
                "name": window.name,
                "lower_kev": window.lower_kev,
                "upper_kev": window.upper_kev,
                "counts": float(study.counts[index].sum(dtype=np.float64)),
                "photopeak": index == peak,
                "scatter": window.name in beside,
            }
            for index, window in enumerate(study.windows)
        ],
        "history": list(study.history),
        "warnings": list(
            dict.fromkeys(
                (
                    *study.warnings,
                    *([lacking] if lacking else []),
                    *(() if shown is None else shown.notes),
                    *looks_wrong(study, peak),
                )
            )
        ),
    }


def _injection(study: Study) -> dict[str, Any] | None:
    """Agent, activity and time of what was injected, where the files say so."""
    given = study.injection
    if given is None:
        return None
    return {
        "agent": given.agent,
        "activity_mbq": given.activity_mbq,
        "at": None if given.at is None else given.at.isoformat(),
    }


def _arc_deg(gaps: Array) -> float:
    """Arc that the views cover: a full turn where the largest gap is no more than one and a half of the others."""
    if gaps.size < 2:
        return 0.0
    return 360.0 if gaps.max() <= 1.5 * float(np.median(gaps)) else float(360.0 - gaps.max())


def _start_angles(acquisition: Acquisition) -> list[float]:
    """Angle of the first view of every detector."""
    detector, angles = np.asarray(acquisition.detector), acquisition.view_angles_deg
    return [float(angles[detector == head][0]) for head in np.unique(detector)]


def _step_deg(acquisition: Acquisition) -> float | None:
    """Step from view to view of the first detector; growing angles are counter-clockwise. None where it varies."""
    own = np.asarray(acquisition.view_angles_deg)[
        np.asarray(acquisition.detector) == np.asarray(acquisition.detector)[0]
    ]
    steps = np.mod(np.diff(own) + 180.0, 360.0) - 180.0
    return float(steps[0]) if steps.size and np.ptp(steps) < 0.01 else None


def _by_default(study: Study) -> tuple[Projections | None, str]:
    """The projections that `reconstruct` takes without options; None with the reason where it cannot."""
    try:
        return projections(study), ""
    except InputError as error:
        return None, str(error)


def _would_be(shown: Projections | None) -> str:
    """What "auto" comes to."""
    return "unknown: no photopeak" if shown is None else f'"auto" means {shown.scatter_method}'


def _imaged(facts: dict[str, Any]) -> str:
    """The line in the photopeak, where it is another one than the main line."""
    line_kev = facts["photopeak_line_kev"]
    return "" if line_kev in (None, facts["main_line_kev"]) else f", imaged {line_kev:g} keV"


def _span(values: Any) -> list[float]:
    return [float(np.min(values)), float(np.max(values))]


def looks_wrong(study: Study, peak: int | None) -> list[str]:
    """What a physicist should look at before trusting a reconstruction."""
    acquisition = study.acquisition
    found = []
    peak = 0 if peak is None else peak
    if (doubt := coverage_doubt(acquisition)) is not None:
        found.append(doubt)
    if acquisition.collimator is None:
        found.append("the collimator is unknown: give --collimator or --psf for resolution recovery")
    if not acquisition.times_known:
        found.append("the view times are unknown: images will be in relative units")
    per_second = study.counts[peak].sum(axis=(1, 2), dtype=np.float64)
    if acquisition.times_known:
        per_second = per_second / acquisition.view_seconds
    middle = float(np.median(per_second))
    if middle == 0:
        found.append("most views of the photopeak are empty")
    else:
        odd = np.flatnonzero(np.abs(per_second / middle - 1) > 0.5)
        if odd.size:
            found.append(
                f"{odd.size} views have a count rate more than 50 % from the median (first: view {odd[0]}, "
                f"{per_second[odd[0]] / middle:.0%} of it)"
            )
    return found


def in_words(facts: dict[str, Any]) -> list[str]:
    """The facts of `describe` as lines of text."""
    radius = "-".join(f"{value:g}" for value in dict.fromkeys(facts["radius_mm"]))
    seconds = facts["seconds_per_view"]
    time = "unknown time" if seconds is None else "-".join(f"{value:g}" for value in dict.fromkeys(seconds)) + " s"
    rows, columns = facts["matrix_z_u"]
    pitch_z, pitch_u = facts["pixel_mm_z_u"]
    heads = f"{facts['detectors']} detector" + ("s" if facts["detectors"] > 1 else "")
    position = facts["patient_position"]
    starts = " and ".join(f"{angle:g}" for angle in facts["start_angles_deg"])
    step = facts["step_deg"]
    turning = "irregular steps" if step is None else f"steps of {abs(step):g} deg, "
    if step is not None:
        turning += "counter-clockwise" if step > 0 else "clockwise"
        turning += " seen from the feet"
    axis = facts["axis_lps_mm"]
    place = "position unknown, the centre of the field is taken as the origin"
    if axis is not None:
        place = "at x = {:g}, y = {:g} mm; row 0 at z = {:g} mm (LPS)".format(*axis)
    lines = [
        f"nuclide     {facts['nuclide']}, main line {facts['main_line_kev']:g} keV{_imaged(facts)}",
        f"views       {facts['views']} of {time} by {heads}, over {facts['arc_deg']:.0f} deg "
        f"(largest gap {facts['largest_gap_deg']:.1f} deg)",
        f"start       {starts} deg (0 = detector at the patient's back, 90 = at the left)",
        f"turning     {turning}",
        f"axis        {place}",
        f"orbit       {radius} mm from the axis to the collimator face",
        f"matrix      {rows} rows (z) x {columns} columns (u), pixel {pitch_z:g} x {pitch_u:g} mm",
        f"collimator  {facts['collimator'] or 'unknown'}",
        f"patient     {position or 'position unknown'}",
    ]
    for window in facts["windows"]:
        mark = "  <- photopeak" if window["photopeak"] else "  <- scatter" if window["scatter"] else ""
        lines.append(
            f"window      {window['name']}: {window['lower_kev']:g}-{window['upper_kev']:g} keV, "
            f"{window['counts']:.4g} counts{mark}"
        )
    lines.append(f"scatter     {facts['scatter']}")
    if facts["corrections"]:
        lines.append(f"corrected   {', '.join(facts['corrections'])}")
    lines += [f"history     {line}" for line in facts["history"]]
    lines += [f"warning     {line}" for line in facts["warnings"]]
    return lines
