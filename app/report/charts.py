"""The report's drawings that never change: the orbit and the convergence, as SVG."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape

from spectac.app.report.pictures import regular_axis
from spectac.recon import Acquisition
from spectac.recon.contour import Outline
from spectac.recon.geometry import axis_position_mm
from spectac.recon.types import Array


def orbit(acquisition: Acquisition, outline: Outline | None) -> Markup:
    """The camera's face around the head in every view, seen from the feet as in a slice: front at the top.

    The first face of each detector is drawn as wide as the field, or the picture. The outline is the head's largest
    over all slices, about the rotation axis.
    """
    half = 0.5 * acquisition.matrix[1] * acquisition.pixel_mm[1]
    reach = float(acquisition.radii_mm.max()) + 45.0
    parts = []
    if outline is not None:
        parts.append(_head(outline, axis_position_mm(acquisition)))
    detectors = np.asarray(acquisition.detector)
    for view in range(acquisition.views):
        angle = math.radians(float(acquisition.view_angles_deg[view]))
        n, e = (math.sin(angle), math.cos(angle)), (-math.cos(angle), math.sin(angle))
        radius = float(acquisition.radii_mm[view])
        # Short faces, so that an orbit of 120 views can be read; the first of each head is drawn in full.
        first = view == int(np.flatnonzero(detectors == detectors[view])[0])
        reach_u = min(half, reach - 8.0) if first else min(half, 9.0)
        ends = [(radius * n[0] + side * reach_u * e[0], radius * n[1] + side * reach_u * e[1]) for side in (-1, 1)]
        (x1, y1), (x2, y2) = ends
        kind = "face first" if first else "face"
        parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
        if first:
            tx, ty = (radius + 14.0) * n[0], (radius + 14.0) * n[1]
            parts.append(f'<text x="{tx:.1f}" y="{ty:.1f}" class="mid">{int(detectors[view]) + 1}</text>')
    parts.append('<path class="axis" d="M-6 0H6M0 -6V6"/>')
    for text, x, y in (("front", 0, -reach + 10), ("back", 0, reach - 4), ("R", -reach + 8, 4), ("L", reach - 8, 4)):
        parts.append(f'<text x="{x:.0f}" y="{y:.0f}" class="mid side">{text}</text>')
    size = 2.0 * reach
    radii = acquisition.radii_mm
    told = f"{radii.min():.0f}" if np.ptp(radii) < 0.5 else f"{radii.min():.0f} to {radii.max():.0f}"
    title = f"Orbit: {acquisition.views} views, {told} mm from the axis to the collimator face"
    return Markup(
        f'<svg class="orbit" viewBox="{-reach:.0f} {-reach:.0f} {size:.0f} {size:.0f}" role="img" '
        f'aria-label="{title}">{"".join(parts)}</svg>'
    )


def _head(outline: Outline, axis_mm: tuple[float, float, float]) -> str:
    """The outline's border in the plane about the axis, in each of 72 directions as far as it reaches."""
    _, y, x = outline.grid.centres_mm()
    x, y = x - axis_mm[0], y - axis_mm[1]
    section = outline.mask.max(axis=0) > 0.5
    j, i = np.nonzero(section)
    if j.size == 0:
        return ""
    xs, ys = x[i], y[j]
    cx, cy = float(xs.mean()), float(ys.mean())
    angle = np.arctan2(ys - cy, xs - cx)
    distance = np.hypot(xs - cx, ys - cy) + 0.5 * outline.grid.voxel_mm[2]
    bins = ((angle + np.pi) / (2 * np.pi) * 72).astype(int) % 72
    far: Array = np.zeros(72)
    np.maximum.at(far, bins, distance)
    points = []
    for n in np.flatnonzero(far > 0):
        direction = -math.pi + (n + 0.5) / 72 * 2 * math.pi
        points.append(f"{cx + far[n] * math.cos(direction):.1f},{cy + far[n] * math.sin(direction):.1f}")
    return f'<polygon class="head" points="{" ".join(points)}"/>'


def convergence(courses: Mapping[str, Sequence[float]], places: Mapping[str, int], watched: str) -> Markup:
    """A line for each method, value after each iteration; `places` gives each its colour's number."""
    shown = {name: course for name, course in courses.items() if len(course) > 1 and all(map(math.isfinite, course))}
    if not shown:
        return Markup("")
    width, height, left, right, top, bottom = 560, 260, 48, 12, 12, 40
    most = max(len(course) for course in shown.values())
    low = min(min(course) for course in shown.values())
    high = max(max(course) for course in shown.values())
    pad = 0.06 * max(high - low, 1e-3 * abs(high), 1e-12)
    low, high = low - pad, high + pad

    def place(iteration: int, value: float) -> tuple[float, float]:
        across = left + (width - left - right) * (iteration - 1) / max(most - 1, 1)
        return across, top + (height - top - bottom) * (high - value) / (high - low)

    parts = []
    for value in regular_axis(low, high):
        _, y = place(1, value)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="end" x="{left - 6}" y="{y + 4:.1f}">{value:.3g}</text>')
    for iteration in range(1, most + 1, max(1, most // 10)):
        x, _ = place(iteration, low)
        parts.append(f'<text class="mid" x="{x:.1f}" y="{height - bottom + 16}">{iteration}</text>')
    parts.append(f'<text class="mid" x="{(left + width - right) / 2:.0f}" y="{height - 6}">iteration</text>')
    for name, course in shown.items():
        points = " ".join("{:.1f},{:.1f}".format(*place(n, value)) for n, value in enumerate(course, 1))
        parts.append(
            f'<polyline class="line c{places[name]}" points="{points}"><title>{escape(name)}</title></polyline>'
        )
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{watched} after each iteration, by method">{"".join(parts)}</svg>'
    )
