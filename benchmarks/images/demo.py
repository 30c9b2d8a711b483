"""Errors of every attenuation model on the demo's patient, for several seeds of the noise, and the README's picture.

    python -m benchmarks.images.demo [--seeds N] -o FOLDER

Four minutes on 2 cores. Writes demo_accuracy.csv (from each demo's comparison.csv) and demo.png (of the first seed;
docs/demo.png is a copy).
"""

import argparse
import csv
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from benchmarks.provenance import provenance, write_csv
from spectac.app.demo import run_demo
from spectac.recon import Image
from spectac.recon.io.nifti import read_image, read_labels, read_mu_map
from spectac.recon.nuclides import nuclide
from spectac.recon.resample import resample
from spectac.recon.types import Array

COUNTS = 3e6
MEASURES = {
    "brain_error_percent": ("mean", "brain", "difference_percent"),
    "sbr_right": ("SBR", "right striatum", "value"),
    "sbr_left": ("SBR", "left striatum", "value"),
    "asymmetry_percent": ("SBR asymmetry %", "striatum", "value"),
}
"""Measure, region and column of comparison.csv for each column of demo_accuracy.csv."""
TITLES = {"map": "given (true) map", "ct": "CT"}
STRIATA = ("caudate", "putamen")
Errors = dict[str, dict[str, float]]
"""MEASURES by name of the attenuation model, "truth" first."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, metavar="N")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(1, options.seeds + 1):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for line in run_demo(folder, seed=seed, counts=COUNTS):
                print(line)
            errors = read_errors(folder / "comparison.csv")
            if seed == 1:
                draw(options.output / "demo.png", folder, errors)
        for model, numbers in errors.items():
            texts = {key: f"{value:.5g}" for key, value in numbers.items()}
            rows.append({**provenance(seed), "attenuation": model, **texts, "counts": f"{COUNTS:g}"})
    write_csv(options.output / "demo_accuracy.csv", rows)


def read_errors(path: Path) -> Errors:
    """MEASURES of every attenuation model in a comparison.csv, and those of the truth itself."""
    with path.open(newline="", encoding="utf-8") as stream:
        table = [row for row in csv.DictReader(stream) if row["status"] == "done"]
    errors: Errors = {"truth": {"brain_error_percent": 0.0}}
    for key, (measure, region, column) in MEASURES.items():
        for row in table:
            if (row["measure"], row["region"], row["reference"]) == (measure, region, "truth"):
                errors.setdefault(row["method"], {})[key] = float(row[column])
                errors["truth"].setdefault(key, float(row["reference_value"]))
    return errors


@dataclass(frozen=True, eq=False)
class Slices:
    """Images in kBq/mL and maps in 1/cm by model, "truth" first; all (z, y, x) on the grid of `truth`."""

    truth: Image
    images: dict[str, Array]
    maps: dict[str, Array]
    target: Array


def read_slices(folder: Path, models: list[str]) -> Slices:
    """Images and maps of these models and the truth of a demo's folder; the target are the striata."""
    images = {name: read_image(folder / "images" / f"{name}.nii.gz", "kBq/mL") for name in models}
    grid = next(iter(images.values())).grid
    truth = read_image(folder / "truth" / "activity.nii.gz", "kBq/mL")
    labels, labels_grid, names = read_labels(folder / "truth" / "labels.nii.gz")
    striata = np.isin(labels, [label for label, name in names.items() if name.endswith(STRIATA)])
    kev = nuclide("I-123").main_kev
    paths = {"truth": folder / "truth" / "mu_map.nii.gz"}
    paths |= {name: folder / "images" / f"{name}_mu.nii.gz" for name in models}
    maps = {name: read_mu_map(path, kev) for name, path in paths.items() if path.exists()}
    activity = resample(truth.values, truth.grid, grid)
    return Slices(
        Image(activity, grid, "kBq/mL"),
        {"truth": activity} | {name: image.values for name, image in images.items()},
        {name: resample(mu.per_cm, mu.grid, grid) for name, mu in maps.items()},
        resample(striata.astype(np.float32), labels_grid, grid),
    )


def draw(path: Path, folder: Path, errors: Errors) -> None:
    """Write a PNG: one column a model with its slice, its map and its error, and a profile below.

    Slice and profile pass through the middle of the striata. Slices are shown as radiologists do: front at the top, the
    patient's left at the right of the picture.
    """
    slices = read_slices(folder, [name for name in errors if name != "truth"])
    truth, grid = slices.truth.values, slices.truth.grid
    _, y, x = grid.centres_mm()
    k, j = int(np.argmax(slices.target.sum(axis=(1, 2)))), int(np.argmax(slices.target.sum(axis=(0, 2))))
    top = float(truth[k].max())
    half = 0.5 * grid.voxel_mm[2]
    extent = (x[0] - half, x[-1] + half, y[-1] + half, y[0] - half)
    figure = Figure(figsize=(3.0 * len(slices.images), 11.5), layout="constrained")
    axes = figure.subplots(4, len(slices.images), height_ratios=(1, 1, 1, 0.9))

    def show(axis: Axes, values: Array, colours: str, low: float, high: float) -> AxesImage:
        drawn = axis.imshow(values, cmap=colours, vmin=low, vmax=high, extent=extent, interpolation="nearest")
        axis.set(xticks=[], yticks=[], xlim=(-115, 115), ylim=(125, -125))
        return drawn

    bars: dict[str, AxesImage] = {}
    for axis, (name, values) in zip(axes.T, slices.images.items(), strict=True):
        numbers = errors[name]
        sbr = f"SBR {numbers['sbr_right']:.2f} / {numbers['sbr_left']:.2f}"
        axis[0].set_title(
            f"{TITLES.get(name, name)}\nbrain {numbers['brain_error_percent']:+.1f} %, {sbr}", fontsize=10
        )
        bars["activity, kBq/mL"] = show(axis[0], values[k], "inferno", 0.0, 0.8 * top)
        if name in slices.maps:
            bars["mu, 1/cm"] = show(axis[1], slices.maps[name][k], "gray", 0.0, 0.25)
        else:
            axis[1].text(0.5, 0.5, "no map", ha="center", va="center", transform=axis[1].transAxes)
            axis[1].set_axis_off()
        bars["error, kBq/mL"] = show(axis[2], values[k] - truth[k], "RdBu_r", -0.4 * top, 0.4 * top)
        axis[3].plot(x, truth[k, j], color="0.6", lw=1, label="truth")
        axis[3].plot(x, values[k, j], color="#c2410c", lw=1.2, label=name)
        axis[3].set(xlim=(-100, 100), ylim=(0, 1.3 * top), xlabel="x in mm (left is positive)")
        axis[3].tick_params(labelsize=8)
    for axis, (label, drawn) in zip(axes[:3, -1], bars.items(), strict=True):
        figure.colorbar(drawn, ax=axis, label=label, shrink=0.8)
    axes[3, 0].set_ylabel(f"kBq/mL along y = {y[j]:.0f} mm")
    figure.suptitle(
        "Virtual patient, I-123 ioflupane: slice through the striata, attenuation map, error, profile", fontsize=12
    )
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
