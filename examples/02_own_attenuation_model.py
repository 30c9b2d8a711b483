"""An attenuation model of your own: an I-123 head with a skull of constant thickness inside the outline.

A model is an object with a name and a method correct(solver) -> Result. To make it known to `spectac reconstruct
--attenuation shell`, give your package the entry point
    [project.entry-points."spectac.attenuation"]
    shell = "your_package:build"        # build(options: Mapping[str, str]) -> AttenuationModel

Run: python examples/02_own_attenuation_model.py [--tiny]
"""

import sys
from dataclasses import replace

import numpy as np
from scipy.ndimage import distance_transform_edt

from spectac.app.demo import SCANNER, demo_patient, simulate
from spectac.recon import MuMap, Result, Solver, UniformMap, head_outline, reconstruct
from spectac.recon.quantify import voi_mean


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
scanner = replace(SCANNER, matrix=(30, 30), pixel_mm=9.0, views=24) if tiny else SCANNER
study, truth, cps_per_kbq = simulate(demo_patient(), scanner, counts=3e6, seed=1)
true_mean = voi_mean(truth.activity, truth.regions["brain"])
for model in (UniformMap(), SkullShell()):
    values = reconstruct(study, model, iterations=8, subsets=6).image.values
    mean = voi_mean(values, truth.regions["brain"]) / cps_per_kbq
    print(f"{model.name:8} brain error {mean / true_mean - 1:+.1%}")
