"""
An attenuation model of your own
================================

An I-123 head with a skull of constant thickness inside the outline: 20 lines, and ``spectac reconstruct --attenuation
shell`` knows it.

Run: ``python examples/03_own_attenuation_model.py [--tiny]``
"""

import sys
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import distance_transform_edt

from spectac.app.demo import SCANNER, demo_patient, simulate
from spectac.recon import MuMap, ReconstructionSettings, Result, Solver, UniformMap, head_outline, reconstruct
from spectac.recon.quantify import voi_mean

# %%
# A model is an object with a name and a method ``correct(solver) -> Result``. The solver reconstructs with the map that
# it is given, in the user's settings; it also gives ``preview()``, an image by a protocol that no setting changes, the
# study, the grid and the energy. All that a model decides is the map, or what it does with images.


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


# %%
# To make it known to the command line, give your package the entry point
#
# .. code-block:: toml
#
#     [project.entry-points."spectac.attenuation"]
#     shell = "your_package:build"        # build(options: Mapping[str, str]) -> AttenuationModel
#
# In Python the object is enough.

tiny = "--tiny" in sys.argv
scanner = replace(SCANNER, matrix=(30, 30), pixel_mm=9.0, views=24) if tiny else SCANNER
study, truth, cps_per_kbq = simulate(demo_patient(), scanner, counts=3e6, seed=1)
true_mean = voi_mean(truth.activity, truth.regions["brain"])
results = {}
for model in (UniformMap(), SkullShell()):
    results[model.name] = result = reconstruct(study, model, ReconstructionSettings(iterations=8, subsets=6))
    mean = voi_mean(result.image.values, truth.regions["brain"]) / cps_per_kbq
    print(f"{model.name:8} brain error {mean / true_mean - 1:+.1%}")

# %%
# The maps beside the true one, in the slice through the middle of the brain.

maps = {"uniform": results["uniform"].mu, "shell": results["shell"].mu, "truth": truth.mu}
brain_mm = truth.mu.grid.centres_mm()[0][int(truth.regions["brain"].sum(axis=(1, 2)).argmax())]
figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for panel, (name, mu) in zip(axes, maps.items(), strict=True):
    row = int(np.abs(mu.grid.centres_mm()[0] - brain_mm).argmin())
    picture = panel.imshow(mu.per_cm[row], cmap="gray", vmin=0, vmax=0.25)
    panel.set_title(name)
    panel.set_axis_off()
figure.colorbar(picture, ax=axes, label="1/cm")
plt.show()
