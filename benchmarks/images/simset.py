"""Independent projections, STIR's SimSET Monte Carlo study: uniformity, outline, and chi^2 per bin.

    python -m benchmarks.images.simset INPUT.HS -o FOLDER

Half a minute on 2 cores. Writes simset.csv. INPUT.HS is the Interfile header of STIR's SimSET SPECT example. Rows 10-17
of the file (the superior end) hold a uniform cylinder of 100 mm radius. The true map is not part of the data: the
uniform map of 0.091 /cm takes its place.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.provenance import provenance, write_csv
from spectac.recon import (
    NoAttenuation,
    ReconstructionSettings,
    Result,
    Study,
    StudySettings,
    SystemModel,
    UniformMap,
    open_study,
    reconstruct,
)
from spectac.recon.collimator import parse_psf

ROWS = slice(46, 54)
"""Rows 10-17 of the file, whose first row is superior, in spectac's order."""

LEAST_EXPECTED = 5.0
"""Expected counts from which chi^2 of a Poisson bin is near enough to 1 on average."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("header", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    study = open_study(options.header, StudySettings(nuclide="Tc-99m", collimator=parse_psf("1.466:0.0163")))
    rows = []
    for name, model in (("none", NoAttenuation()), ("uniform 0.091 /cm", UniformMap(0.091))):
        # 0.091 /cm is a broad-beam value.
        result = reconstruct(study, model, ReconstructionSettings(scatter="none"))
        figures = compare(study, result)
        origin = {**provenance(0), "attenuation": name}
        rows += [{**origin, "quantity": key, "value": f"{value:.5g}"} for key, value in figures.items()]
        print(name, {key: round(value, 4) for key, value in figures.items()})
    options.output.mkdir(parents=True, exist_ok=True)
    write_csv(options.output / "simset.csv", rows)


def compare(study: Study, result: Result) -> dict[str, float]:
    """Uniformity and chi^2 of one reconstruction, and the outline's radius where it has a map."""
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
    return figures


if __name__ == "__main__":
    main()
