"""Drawings of the report that no slider changes: the orbit and the convergence, as SVG."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape

from spectac.app.report.tables import title
from spectac.recon import Acquisition
from spectac.recon.contour import Outline
from spectac.recon.geometry import axis_position_mm, detector_rights, view_normals
from spectac.recon.types import Array

AROUND_MM = 45.0
"""Drawn beyond the largest radius."""
LABEL_MM = 14.0
"""Distance of a detector's number from its face."""
FACE_MM = 9.0
"""Half-width of a face that is not the first of its detector: short, so that an orbit of 120 views can be read."""
DIRECTIONS = 72
"""Corners of the outline's polygon."""

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 40
"""Size and margins of the convergence chart."""


def orbit(acquisition: Acquisition, outline: Outline | None) -> Markup:
    """The camera's face around the head in every view, seen from the feet as in a slice: front at the top.

    The first face of each detector is drawn as wide as the field, or the picture. The outline is the head's largest
    over all slices, about the rotation axis.
    """
    radii = np.asarray(acquisition.radii_mm)
    reach = float(radii.max()) + AROUND_MM
    half = min(0.5 * acquisition.matrix[1] * acquisition.pixel_mm[1], reach - 8.0)
    detectors = np.asarray(acquisition.detector).tolist()
    normals, along = view_normals(acquisition.view_angles_deg), detector_rights(acquisition.view_angles_deg)
    parts = [] if outline is None else [_head(outline, axis_position_mm(acquisition))]
    for view, (radius, detector) in enumerate(zip(radii, detectors, strict=True)):
        first = view == detectors.index(detector)
        side = (half if first else min(half, FACE_MM)) * along[view]
        (x1, y1), (x2, y2) = radius * normals[view] - side, radius * normals[view] + side
        kind = "face first" if first else "face"
        parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
        if first:
            x, y = (radius + LABEL_MM) * normals[view]
            parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="mid">{detector + 1}</text>')
    parts.append('<path class="axis" d="M-6 0H6M0 -6V6"/>')
    for text, x, y in (("front", 0, -reach + 10), ("back", 0, reach - 4), ("R", -reach + 8, 4), ("L", reach - 8, 4)):
        parts.append(f'<text x="{x:.0f}" y="{y:.0f}" class="mid side">{text}</text>')
    size = 2.0 * reach
    span = f"{radii.min():.0f}" if np.ptp(radii) < 0.5 else f"{radii.min():.0f} to {radii.max():.0f}"
    label = f"Orbit: {acquisition.views} views, {span} mm from the axis to the collimator face"
    return Markup(
        f'<svg class="orbit" viewBox="{-reach:.0f} {-reach:.0f} {size:.0f} {size:.0f}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def _head(outline: Outline, axis_mm: tuple[float, float, float]) -> str:
    """The outline's border in the plane about the axis, in each of DIRECTIONS as far as it reaches."""
    _, y, x = outline.grid.centres_mm()
    j, i = np.nonzero(outline.mask.max(axis=0) > 0.5)
    if j.size == 0:
        return ""
    xs, ys = (x - axis_mm[0])[i], (y - axis_mm[1])[j]
    cx, cy = float(xs.mean()), float(ys.mean())
    turn = (np.arctan2(ys - cy, xs - cx) + np.pi) / (2 * np.pi)
    distance = np.hypot(xs - cx, ys - cy) + 0.5 * outline.grid.voxel_mm[2]
    far: Array = np.zeros(DIRECTIONS)
    np.maximum.at(far, (turn * DIRECTIONS).astype(int) % DIRECTIONS, distance)
    points = []
    for n in np.flatnonzero(far > 0):
        direction = -math.pi + (n + 0.5) / DIRECTIONS * 2 * math.pi
        points.append(f"{cx + far[n] * math.cos(direction):.1f},{cy + far[n] * math.sin(direction):.1f}")
    return f'<polygon class="head" points="{" ".join(points)}"/>'


def convergence(courses: Mapping[str, Sequence[float]], colours: Mapping[str, int], watched: str) -> Markup:
    """A line for each method of the value after each iteration, in the colour of its number; empty without courses."""
    shown = {name: course for name, course in courses.items() if len(course) > 1 and all(map(math.isfinite, course))}
    if not shown:
        return Markup("")
    most = max(len(course) for course in shown.values())
    low = min(min(course) for course in shown.values())
    high = max(max(course) for course in shown.values())
    pad = 0.06 * max(high - low, 1e-3 * abs(high), 1e-12)
    low, high = low - pad, high + pad
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x_of(iteration: int) -> float:
        return LEFT + width * (iteration - 1) / max(most - 1, 1)

    def y_of(value: float) -> float:
        return TOP + height * (high - value) / (high - low)

    parts = []
    for value in _round_numbers(low, high):
        y = y_of(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="end" x="{LEFT - 6}" y="{y + 4:.1f}">{value:.3g}</text>')
    parts += [
        f'<text class="mid" x="{x_of(iteration):.1f}" y="{HEIGHT - BOTTOM + 16}">{iteration}</text>'
        for iteration in range(1, most + 1, max(1, most // 10))
    ]
    parts.append(f'<text class="mid" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 6}">iteration</text>')
    for name, course in shown.items():
        points = " ".join(f"{x_of(n):.1f},{y_of(value):.1f}" for n, value in enumerate(course, 1))
        label = f"<title>{escape(title(name))}</title>"
        parts.append(f'<polyline class="line c{colours[name]}" points="{points}">{label}</polyline>')
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{watched} after each iteration, by method">{"".join(parts)}</svg>'
    )


def _round_numbers(low: float, high: float, parts: int = 5) -> list[float]:
    """Round numbers from `low` to `high` for a chart's axis, about `parts` steps."""
    span = max(high - low, 1e-12)
    raw = span / parts
    size = 10.0 ** np.floor(np.log10(raw))
    step = float(size * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * size >= raw * 0.999))
    first = np.ceil(low / step - 1e-9) * step
    return [float(value) for value in np.arange(first, high + 1e-9 * span, step)]
