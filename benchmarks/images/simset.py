"""spectac on projections that nobody here made, STIR's SimSET Monte Carlo study: chi^2 per bin, residual by view.

    python benchmarks/simset.py INPUT.HS -o FOLDER

INPUT.HS is the Interfile header of STIR's SimSET SPECT example. Rows 10-17 of the file (the superior end) hold a
uniform cylinder of 100 mm radius. The true map is not part of the data: the uniform map of 0.091 /cm stands for it.
Writes simset.csv and simset_residual.png.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from benchmarks.provenance import provenance

from spectac.recon import NoAttenuation, Result, Study, SystemModel, UniformMap, open_study, reconstruct
from spectac.recon.collimator import parse_psf
from spectac.recon.types import Array

ROWS = slice(46, 54)
"""Rows 10-17 of the file, whose first row is superior, in spectac's order."""

LEAST_EXPECTED = 5.0
"""Expected counts from which chi^2 of a Poisson bin is near enough to 1 on average."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("header", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    study = open_study(options.header, nuclide="Tc-99m", collimator=parse_psf("1.466:0.0163"))
    rows, residuals = [], {}
    for name, model in (("none", NoAttenuation()), ("uniform 0.091 /cm", UniformMap(0.091))):
        result = reconstruct(study, model, iterations=10, subsets=10)
        figures, residuals[name] = compare(study, result)
        rows += [{"attenuation": name, "quantity": key, "value": f"{value:.5g}"} for key, value in figures.items()]
        print(name, {key: round(value, 4) for key, value in figures.items()})
    options.output.mkdir(parents=True, exist_ok=True)
    with (options.output / "simset.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*provenance(0), *rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**provenance(0), **row} for row in rows)
    draw(options.output / "simset_residual.png", residuals)


def compare(study: Study, result: Result) -> tuple[dict[str, float], Array]:
    """Figures of one reconstruction, and its residual (v, z, u) in standard deviations."""
    counts = study.counts[0].astype(np.float64)
    expected = SystemModel(study.acquisition, result.image.grid, mu=result.mu).forward(np.asarray(result.image.values))
    expected = expected.astype(np.float64)
    residual = np.where(expected > LEAST_EXPECTED, (counts - expected) / np.sqrt(np.maximum(expected, 1e-9)), np.nan)
    _, y, x = result.image.grid.centres_mm()
    values = result.image.values[ROWS]
    r = np.hypot(
        x[None, :] - (values * x).sum() / values.sum(), y[:, None] - (values * y[:, None]).sum() / values.sum()
    )
    figures = {
        "centre/annulus": float(values[:, r < 30].mean() / values[:, (r > 60) & (r < 85)].mean()),
        "chi2 per bin, cylinder rows": float(np.nanmean(residual[:, ROWS] ** 2)),
        "chi2 per bin, all rows": float(np.nanmean(residual**2)),
    }
    if result.mu is not None:
        area = result.mu.per_cm[ROWS].sum(axis=(1, 2)) / result.mu.per_cm.max() * result.mu.grid.voxel_mm[2] ** 2
        radius = np.sqrt(area / np.pi)
        figures["outline radius, mean, mm"] = float(radius.mean())
        figures["outline radius, worst deviation from 100 mm"] = float(np.abs(radius - 100.0).max())
    return figures, residual


def draw(path: Path, residuals: dict[str, Array]) -> None:
    """Write chi^2 of every view and row, and the signed residual over views and columns."""
    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(len(residuals), 3)
    for row, (name, residual) in zip(axes, residuals.items(), strict=True):
        seen = np.ma.masked_invalid(residual)
        pictures = ((seen**2).mean(axis=2).T, seen.mean(axis=1), seen.mean(axis=2).T)
        titles = ("chi^2 per bin", "mean residual over rows, sigma", "mean residual over columns, sigma")
        limits = ((0, 4, "viridis"), (-1, 1, "RdBu_r"), (-1, 1, "RdBu_r"))
        labels = (("view", "row z"), ("column u", "view"), ("view", "row z"))
        for axis, picture, title, (low, high, colours), (across, up) in zip(
            row, pictures, titles, limits, labels, strict=True
        ):
            drawn = axis.imshow(picture, vmin=low, vmax=high, cmap=colours, origin="lower", aspect="auto")
            axis.set(xlabel=across, ylabel=up)
            axis.set_title(f"{name}\n{title}", fontsize=10)
            figure.colorbar(drawn, ax=axis)
    figure.savefig(path, dpi=60)


if __name__ == "__main__":
    main()
