"""An attenuation model of your own: an I-123 head with a skull of constant thickness inside the outline.

A model is an object with a name and a method correct(solver) -> Result. To make it known to `spectac reconstruct
--attenuation shell`, give your package the entry point
    [project.entry-points."spectac.attenuation"]
    shell = "your_package:build"        # build(options: Mapping[str, str]) -> AttenuationModel

Run: python examples/02_own_attenuation_model.py [--tiny]
"""

import sys

import numpy as np
from scipy.ndimage import distance_transform_edt

from spectac.app.demo import fine_acquisition, simulate
from spectac.recon import MuMap, Result, Solver, UniformMap, head_outline, reconstruct


class SkullShell:
    """6 mm of skull that begin 6 mm below the skin, around brain."""

    name = "shell"

    def correct(self, solver: Solver) -> Result:
        outline = head_outline(solver.preview())
        depth_mm = distance_transform_edt(outline.mask > 0.5) * outline.grid.voxel_mm[2]
        skull = np.clip(0.5 + (3.0 - np.abs(depth_mm - 9.0)) / outline.grid.voxel_mm[2], 0.0, 1.0)
        # Brain and cranium at 159 keV.
        mu = MuMap(outline.mask * (0.153 + skull * (0.234 - 0.153)), outline.grid, solver.energy_kev)
        return Result(solver(mu), mu=mu, notes=outline.warnings)


tiny = "--tiny" in sys.argv
size, pixel_mm, views = (28, 10.0, 24) if tiny else (64, 4.4, 120)
study, truth, level = simulate(fine_acquisition(views, size, size, pixel_mm), counts=3e6, seed=1)
brain = truth.fractions["brain"] > 0.999
for model in (UniformMap(0.144), SkullShell()):
    values = reconstruct(study, model, iterations=8, subsets=6).image.values
    print(f"{model.name:8} brain error {float(values[brain].mean()) / level - 1:+.1%}")
