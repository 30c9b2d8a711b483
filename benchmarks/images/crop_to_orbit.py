"""Change of an image where voxels far beyond the orbit are left out, for two margins beyond the collimator's face.

    python -m benchmarks.images.crop_to_orbit STUDY... -o CSV

Five minutes on 2 cores for 7 studies. Writes crop_to_orbit.csv. STUDY are folders made by `spectac simulate`: noisy
projections, reconstructed with the true map, 10 iterations with 10 subsets.
"""

import argparse
import json
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.provenance import provenance, write_csv
from spectac.recon import geometry
from spectac.recon.em import osem
from spectac.recon.geometry import default_grid
from spectac.recon.io import open_study
from spectac.recon.io.nifti import read_labels, read_mu_map
from spectac.recon.resample import resample
from spectac.recon.scatter.measured import projections as projections_of
from spectac.recon.settings import ProjectionSettings
from spectac.recon.system import SystemModel
from spectac.recon.types import Array, Grid, MuMap

LEAST_ML = 1.0
"""Smaller regions are not compared."""
BRAIN = ("cortex", "white matter", "brainstem", "caudate", "putamen", "thalamus")
SCATTER = ("auto", "none")
MARGINS_MM = (5.0, geometry.ORBIT_MARGIN_MM)
"""Beyond the collimator's face: about a voxel, and the margin of reconstructions."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", type=Path, nargs="+", metavar="STUDY")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CSV")
    options = parser.parse_args()
    rows = []
    for folder in options.studies:
        patient = json.loads((folder / "patient.json").read_text())["parameters"]
        for margin_mm, method in product(MARGINS_MM, SCATTER):
            # The margin is no option of the reconstruction.
            geometry.ORBIT_MARGIN_MM = margin_mm
            print(f"margin {margin_mm:g} mm:")
            common = {**provenance(patient["seed"]), "tracer": patient["tracer"], "margin_mm": margin_mm}
            rows += [{**common, **row} for row in compare(folder, method)]
    write_csv(options.output, rows)


def compare(folder: Path, method: str) -> list[dict[str, str | float]]:
    """Rows (quantity, value in %) of one study with one scatter correction."""
    study = open_study(folder / "projections.dcm")
    projections = projections_of(study, ProjectionSettings(scatter=method))
    grid = default_grid(study.acquisition)
    mu = read_mu_map(folder / "truth" / "mu_map.nii.gz", projections.energy_kev)
    through = MuMap(resample(mu.per_cm, mu.grid, grid), grid, mu.energy_kev)
    images = []
    for crop in (False, True):
        system = SystemModel(study.acquisition, grid, mu=through, energy_kev=mu.energy_kev, crop_to_orbit=crop)
        missed: dict[int, float] = {}
        image = osem(
            system,
            projections.counts,
            iterations=10,
            subsets=10,
            scatter=projections.scatter,
            on_update=lambda update, missed=missed: missed.update({update.done % 10: update.lost_counts}),
        )
        images.append(image.astype(np.float64))
    everything, cropped = images
    lost = 100.0 * sum(missed.values()) / float(projections.counts.sum(dtype=np.float64))
    regions = _brain_regions(folder, grid)
    brain = np.any(list(regions.values()), axis=0)
    level = float(everything[brain].mean())
    gap = cropped - everything
    changes = [100.0 * float(gap[region].mean() / everything[region].mean()) for region in regions.values()]
    values = {
        "change of the brain's mean": 100.0 * float(gap[brain].mean()) / level,
        f"largest change of {len(regions)} regions' means": max(changes, key=abs),
        "RMS change of the brain's voxels": 100.0 * float(np.sqrt(np.mean(gap[brain] ** 2))) / level,
        "counts that no voxel explains": lost,
    }
    for quantity, value in values.items():
        print(f"{folder.name:12} {method:5} {quantity:50} {value:8.3f} %", flush=True)
    return [{"scatter": method, "quantity": name, "value_percent": float(f"{x:.4g}")} for name, x in values.items()]


def _brain_regions(folder: Path, grid: Grid) -> dict[str, Array]:
    """Masks (z, y, x) of the brain's regions on the reconstruction's grid, by name."""
    labels, labels_grid, names = read_labels(folder / "truth" / "labels.nii.gz")
    masks = {
        name: resample((labels == label).astype(np.float32), labels_grid, grid) > 0.5
        for label, name in names.items()
        if name.endswith(BRAIN)
    }
    return {name: mask for name, mask in masks.items() if mask.sum() * grid.voxel_ml >= LEAST_ML}


if __name__ == "__main__":
    main()
