"""The demo's picture: slices, difference to the truth and profiles of every attenuation model."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from spectac.recon import Image, MuMap
from spectac.recon.types import Array


def draw_panel(
    path: Path,
    truth: Image,
    true_mu: MuMap,
    target: Array,
    images: Mapping[str, Array],
    maps: Mapping[str, Array | None],
    rows: Mapping[str, Mapping[str, float]],
) -> None:
    """Write a PNG: one column a model with its slice, its map and its error, and a profile below.

    Slice and profile pass through the centre of `target` (z, y, x). Images are in the truth's unit, maps in 1/cm.
    Slices are shown as radiologists do: front at the top, the patient's left at the right of the picture.
    """
    grid = truth.grid
    _, y, x = grid.centres_mm()
    k, j = int(np.argmax(target.sum(axis=(1, 2)))), int(np.argmax(target.sum(axis=(0, 2))))
    top = float(truth.values[k].max())
    extent = (
        x[0] - grid.voxel_mm[2] / 2,
        x[-1] + grid.voxel_mm[2] / 2,
        y[-1] + grid.voxel_mm[1] / 2,
        y[0] - grid.voxel_mm[1] / 2,
    )
    columns: list[tuple[str, Array, Array | None]] = [("truth", truth.values, true_mu.per_cm)]
    columns += [(name, values, maps[name]) for name, values in images.items()]
    figure = Figure(figsize=(3.0 * len(columns), 11.5), layout="constrained")
    axes = figure.subplots(4, len(columns), height_ratios=(1, 1, 1, 0.9))

    def show(axis: Axes, slice_: Array, colours: str, low: float, high: float) -> AxesImage:
        drawn = axis.imshow(slice_, cmap=colours, vmin=low, vmax=high, extent=extent, interpolation="nearest")
        axis.set(xticks=[], yticks=[], xlim=(-115, 115), ylim=(125, -125))
        return drawn

    shown: dict[str, AxesImage] = {}
    for axis, (name, values, mu) in zip(axes.T, columns, strict=True):
        row = rows[name]
        title = {"map": "given (true) map", "ct": "CT"}.get(name, name)
        errors = f"brain {row['brain_error_percent']:+.1f} %, SBR {row['sbr_right']:.2f} / {row['sbr_left']:.2f}"
        axis[0].set_title(f"{title}\n{errors}", fontsize=10)
        shown[f"activity, {truth.unit}"] = show(axis[0], values[k], "inferno", 0.0, 0.8 * top)
        if mu is None:
            axis[1].text(0.5, 0.5, "no map", ha="center", va="center", transform=axis[1].transAxes)
            axis[1].set_axis_off()
        else:
            shown["mu, 1/cm"] = show(axis[1], mu[k], "gray", 0.0, 0.25)
        shown[f"error, {truth.unit}"] = show(axis[2], values[k] - truth.values[k], "RdBu_r", -0.4 * top, 0.4 * top)
        axis[3].plot(x, truth.values[k, j], color="0.6", lw=1, label="truth")
        axis[3].plot(x, values[k, j], color="#c2410c", lw=1.2, label=name)
        axis[3].set(xlim=(-100, 100), ylim=(0, 1.3 * top), xlabel="x in mm (left is positive)")
        axis[3].tick_params(labelsize=8)
    for axis, (label, drawn) in zip(axes[:3, -1], shown.items(), strict=True):
        figure.colorbar(drawn, ax=axis, label=label, shrink=0.8)
    axes[3, 0].set_ylabel(f"{truth.unit} along y = {y[j]:.0f} mm")
    figure.suptitle(
        "Virtual patient, I-123 ioflupane: slice through the striata, attenuation map, error, profile", fontsize=12
    )
    figure.savefig(path, dpi=110)
