"""Contrast recovery of hot and cold spheres against iterations, with and without resolution recovery, no noise.

    python benchmarks/contrast.py -o FOLDER

Six spheres (10 to 37 mm across, as in the IEC body phantom; four hot at 8:1, the two largest cold) in a cylinder of
200 mm, 0.15 /cm, projected at 2.2 mm with a Siemens LEHR collimator, summed to 4.4 mm and reconstructed with
the true map. Writes contrast.csv and contrast.png.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from benchmarks.provenance import provenance

from spectac.recon import Acquisition, MuMap, SystemModel, Update, default_grid, rebin, rebin_acquisition
from spectac.recon.collimator import collimator
from spectac.recon.em import osem
from spectac.recon.quantify import contrast_recovery
from spectac.recon.types import Array, Grid
from spectac.simulate.analytic_head import Ellipsoid, on_grid

DIAMETERS_MM = (10, 13, 17, 22, 28, 37)
HOT = 8.0
ITERATIONS, SUBSETS = 40, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = measure()
    with (options.output / "contrast.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*provenance(0), *rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**provenance(0), **row} for row in rows)
    draw(options.output / "contrast.png", rows)
    for row in rows:
        if row["iteration"] in (1, 4, 10, ITERATIONS):
            print(row)


def spheres() -> tuple[Ellipsoid, ...]:
    """The cylinder's bodies: background 1, spheres of 8 or 0 at 57 mm from the axis."""
    bodies = [Ellipsoid("cylinder", (0, 0, 0), (100.0, 100.0, 1e6), 1.0, "brain")]
    for n, diameter in enumerate(DIAMETERS_MM):
        angle = np.deg2rad(60.0 * n)
        centre = (57.2 * float(np.cos(angle)), 57.2 * float(np.sin(angle)), 0.0)
        bodies.append(Ellipsoid(f"{diameter} mm", centre, (diameter / 2,) * 3, 0.0 if diameter > 25 else HOT, "brain"))
    return tuple(bodies)


def measure() -> list[dict[str, object]]:
    """Recovery of every sphere after each iteration, in percent of the truth seen through the same region."""
    lehr = collimator("siemens-lehr")
    fine = Acquisition(
        np.arange(60) * 6.0, np.full(60, 140.0), (48, 128), (2.2, 2.2), np.full(60, 20.0), "Tc-99m", lehr
    )  # fmt: skip
    fine_grid = default_grid(fine)
    truth = on_grid(fine_grid, 140.511, spheres())
    uniform = MuMap(0.15 * cylinder(truth.fractions), fine_grid, 140.511)
    counts = rebin(SystemModel(fine, fine_grid, mu=uniform).forward(truth.activity), 2, 2)
    coarse = rebin_acquisition(fine, 2, 2)
    grid = default_grid(coarse)
    on_coarse = on_grid(grid, 140.511, spheres())
    mu = MuMap(0.15 * cylinder(on_coarse.fractions), grid, 140.511)
    background = background_region(grid)
    rows: list[dict[str, object]] = []
    for resolution in (True, False):

        def watch(update: Update, resolution: bool = resolution) -> None:
            if update.done % SUBSETS:
                return
            reference = float(update.image[background].mean())
            for diameter in DIAMETERS_MM:
                part = on_coarse.fractions[f"{diameter} mm"]
                mean = float((update.image * part).sum() / part.sum())
                # The region's border voxels are partly background: the truth averaged over the same region is the goal.
                ratio = float((on_coarse.activity * part).sum() / part.sum())
                rows.append(
                    {
                        "resolution_recovery": resolution,
                        "sphere_mm": diameter,
                        "kind": "cold" if ratio < 1 else "hot",
                        "iteration": update.iteration + 1,
                        "recovery_percent": round(100 * contrast_recovery(mean, reference, ratio), 2),
                    }
                )

        system = SystemModel(coarse, grid, mu=mu, resolution=resolution)
        osem(system, counts, iterations=ITERATIONS, subsets=SUBSETS, on_update=watch)
    return rows


def cylinder(fractions: dict[str, Array]) -> Array:
    """Fraction (z, y, x) of every voxel inside the cylinder, spheres included."""
    return np.sum(list(fractions.values()), axis=0)


def background_region(grid: Grid) -> Array:
    """Mask (z, y, x) of the cylinder's middle, more than 18 mm from every sphere."""
    z, y, x = grid.centres_mm()
    middle = np.hypot(x[None, :], y[:, None]) < 20.0
    return (np.abs(z) < 12.0)[:, None, None] & middle[None]


def draw(path: Path, rows: list[dict[str, object]]) -> None:
    """Write one curve a sphere, solid with and dashed without resolution recovery."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    axis = figure.subplots()
    colours = ["#1d4ed8", "#0f766e", "#65a30d", "#ca8a04", "#c2410c", "#9d174d"]
    for colour, diameter in zip(colours, DIAMETERS_MM, strict=True):
        for resolution, dashes in ((True, "-"), (False, "--")):
            curve = [row for row in rows if row["sphere_mm"] == diameter and row["resolution_recovery"] is resolution]
            label = f"{diameter} mm, {curve[0]['kind']}" if resolution else None
            axis.plot(
                [row["iteration"] for row in curve], [row["recovery_percent"] for row in curve],
                dashes, color=colour, label=label,
            )  # fmt: skip
    axis.axhline(100, color="0.7", lw=0.8)
    axis.set(xlabel="iteration (10 subsets)", ylabel="contrast recovery, %", xlim=(0, ITERATIONS), ylim=(0, 110))
    axis.set_title("Spheres in an attenuating cylinder: with (solid) and without (dashed) resolution recovery")
    axis.legend(loc="lower right", ncols=2)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
