"""The report's key page: what was compared, slices of every method and the main measures, on one picture.

It names no patient: whoever shows it knows from the object's header whose it is.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spectac.app.comparison import Comparison
from spectac.app.report.tables import summary_table, titles
from spectac.recon import Image
from spectac.recon.types import Array

SIZE_IN, DPI = (8.27, 11.69), 120
"""A4."""
MOST_NOTES, NOTE_LETTERS = 5, 110
SHOWN_PERCENT = 99.97
"""Percentile of the voxels that gets the brightest colour."""
MOST_BELOW = 4
"""Methods that lie below one another; of more, two lie side by side."""
REACH_MM = 120.0
"""Slices show this much to each side of their middle."""


def draw_key_page(comparison: Comparison) -> Figure:
    """The page as a figure."""
    methods = comparison.methods
    figure = Figure(figsize=SIZE_IN, dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.25, h_pad=0.12)  # type: ignore[union-attr, call-arg]
    parts: Any = figure.subfigures(3, 1, height_ratios=(0.14, 0.59, 0.27))
    _put_text(parts[0], comparison)
    images = {name: method.image for name, method in methods.items()}
    first = next(iter(images.values()))
    middle = _middle(comparison, first)
    top = max(float(np.percentile(image.values, SHOWN_PERCENT)) for image in images.values())
    beside = 1 if len(images) <= MOST_BELOW else 2
    axes = parts[1].subplots(-(-len(images) // beside), 3 * beside, squeeze=False).reshape(-1, 3)
    titled = titles(comparison)
    for line, (name, image) in zip(axes, images.items(), strict=False):
        for axis, values, extent in zip(line, *_slices(image, middle), strict=True):
            axis.imshow(values, cmap="inferno", vmin=0.0, vmax=max(top, 1e-30), extent=extent, origin="lower")
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(titled[name].replace(", ", ",\n"), fontsize=8)
    for axis, text in zip(axes[:beside].flat, ("axial", "coronal", "sagittal") * beside, strict=True):
        axis.set_title(text, fontsize=8)
    for axis in axes[len(images) :].flat:
        axis.axis("off")
    parts[1].suptitle(f"0 to {top:.3g} {first.unit}; patient's left at the right, front at the top", fontsize=8)
    _put_table(parts[2].subplots(), comparison)
    return figure


def pixels_of(figure: Figure) -> Array:
    """The page as uint8 (rows, columns, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def write_key_page(path: Path, comparison: Comparison) -> None:
    """The page as a PDF."""
    draw_key_page(comparison).savefig(path, format="pdf")


def _put_text(part: Any, comparison: Comparison) -> None:
    axis = part.subplots()
    axis.axis("off")
    facts, settings = comparison.facts, comparison.request.reconstruction
    results = [method.result for method in comparison.chosen.values()]
    ways = dict.fromkeys(result.low_counts.method for result in results)
    algorithms = dict.fromkeys(settings.described(result.algorithm) for result in results)
    lines = [
        "spectac: attenuation corrections compared. Research use only; not a medical device.",
        f"{facts['nuclide']}, {facts['views']} views, {', '.join(algorithms)}, "
        f"low counts: {', '.join(ways)}, scatter: {facts['scatter']}; "
        f"tracer: {comparison.regions.tracer or 'unknown'}",
    ]
    notes, titled = [*comparison.all_warnings], titles(comparison)
    for name, method in comparison.methods.items():
        notes += [f"{titled[name]}: {note}" for note in method.result.notes if note not in notes]
    notes += [f"{titled[name]} was left out: {one.reason}" for name, one in comparison.refused.items()]
    lines += [f"- {_cut(note)}" for note in notes[:MOST_NOTES]]
    if len(notes) > MOST_NOTES:
        lines.append(f"- and {len(notes) - MOST_NOTES} more notes in the report")
    axis.text(0.0, 1.0, "\n".join(lines), fontsize=8, va="top", linespacing=1.5, transform=axis.transAxes)


def _cut(text: str) -> str:
    return text if len(text) <= NOTE_LETTERS else f"{text[: NOTE_LETTERS - 3]}..."


def _middle(comparison: Comparison, image: Image) -> tuple[float, float, float]:
    """Point (z, y, x) in mm that the slices go through: the striata's, else the brain's, else the image's middle."""
    masks = (comparison.regions.voi(name) for name in ("striata", "brain"))
    weights = next((mask for mask in masks if mask is not None), image.values)
    axes = image.grid.centres_mm()
    total = float(weights.sum(dtype=np.float64)) or 1.0
    points = []
    for number, centres in enumerate(axes):
        along = weights.sum(axis=tuple(other for other in range(3) if other != number), dtype=np.float64)
        points.append(float((along * centres).sum()) / total)
    z, y, x = points
    return z, y, x


def _slices(
    image: Image, middle: tuple[float, float, float]
) -> tuple[Sequence[Array], Sequence[tuple[float, float, float, float]]]:
    """Axial, coronal and sagittal slice through a point, and their extents in mm about it."""
    axes = [np.asarray(axis) for axis in image.grid.centres_mm()]
    kept = [np.abs(axis - at) <= REACH_MM for axis, at in zip(axes, middle, strict=True)]
    at_z, at_y, at_x = (int(np.abs(axis - at).argmin()) for axis, at in zip(axes, middle, strict=True))
    values = image.values[np.ix_(*kept)]
    z, y, x = (axis[keep] for axis, keep in zip(axes, kept, strict=True))
    at_z, at_y, at_x = (at - int(np.flatnonzero(keep)[0]) for at, keep in zip((at_z, at_y, at_x), kept, strict=True))
    # Rows grow upwards: the front is at the top of the axial slice and at the left of the sagittal one.
    slices = [values[at_z][::-1], values[:, at_y], values[:, :, at_x]]
    return slices, [(x[0], x[-1], -y[-1], -y[0]), (x[0], x[-1], z[0], z[-1]), (y[0], y[-1], z[0], z[-1])]


def _put_table(axis: Any, comparison: Comparison) -> None:
    found = summary_table(comparison)
    axis.axis("off")
    rows = [
        [f"{line['measure']} {line['region']}", *(f"{cell.text} {cell.difference}".strip() for cell in line["cells"])]
        for line in found["lines"]
    ]
    if rows:
        table = axis.table(
            rows, colLabels=["", *found["columns"]], loc="upper center", cellLoc="right", edges="horizontal"
        )
        table.auto_set_font_size(False)
        table.set_fontsize(6.5)
        table.auto_set_column_width(range(len(found["columns"]) + 1))
        table.scale(1.0, 0.85)
