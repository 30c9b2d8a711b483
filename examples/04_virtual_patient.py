"""
A virtual patient
=================

Draw a head and a tracer, let a camera count, reconstruct, compare with the truth. Everything follows from seeds.

Run: ``python examples/04_virtual_patient.py [--tiny]``
"""

import sys
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from spectac.recon import GivenMap, NoAttenuation, reconstruct
from spectac.recon.quantify import voi_mean
from spectac.recon.resample import resample
from spectac.simulate.acquire import Patient, expected_counts
from spectac.simulate.head import draw_head
from spectac.simulate.scanner import SCANNERS
from spectac.simulate.uptake import draw_uptake, vois

# %%
# A head is labels and densities on voxels of 2 mm; an uptake gives each of its regions an activity.

tiny = "--tiny" in sys.argv
head = draw_head(np.random.default_rng(1), voxel_mm=4.0 if tiny else 2.0)
uptake = draw_uptake("perfusion", head, np.random.default_rng(2), nuclide="Tc-99m")

# %%
# A real camera's preset, its matrix reduced to the head. ``around`` lets the collimator's orbit clear it.

scanner = replace(SCANNERS["siemens-intevo-lehr"], matrix=(64, 64), pixel_mm=4.4, scheme="tew").around(head)
if tiny:
    scanner = replace(scanner, matrix=(36, 36), pixel_mm=8.0, views=40)

# %%
# Expected counts: the primary by the projector on fine pixels, the scatter by Monte Carlo (``full=True``: everything by
# Monte Carlo). Primary and scatter stay apart; a study has their sum with Poisson noise.

expected = expected_counts(Patient(head, uptake), scanner, seed=3, histories=5_000 if tiny else None)
expected = expected.with_counts(5e6)
study = expected.study(np.random.default_rng(4))
scattered = expected.scatter[0].sum() / expected.primary[0].sum()
print(f"scatter over primary in the photopeak: {scattered:.3f}")

# %%
# With the true map and scatter from the windows beside the photopeak. The cortex is thinner than the camera resolves:
# what is missing there is blur, not attenuation.

masks = vois(head.labels)
images = {}
for model in (NoAttenuation(), GivenMap(head.mu(140.511))):
    image = reconstruct(study, model).image
    images[model.name] = image.values / expected.cps_per_kbq
    for region in ("cortex", "white matter"):
        inside = resample(masks[region].astype(np.float32), head.grid, image.grid)
        truth = voi_mean(resample(uptake.kbq_per_ml, head.grid, image.grid), inside)
        found = voi_mean(images[model.name], inside)
        print(f"{model.name:5} {region:13} {found:6.2f} kBq/mL, truth {truth:6.2f}")

# %%
# One view in the photopeak and its scatter, and the middle of the brain.

true_activity = resample(uptake.kbq_per_ml, head.grid, image.grid)
brain = resample(masks["brain"].astype(np.float32), head.grid, image.grid)
row = int(brain.sum(axis=(1, 2)).argmax())
panels = {
    "counts, view 0": study.counts[0, 0, ::-1],
    "of them scatter": expected.scatter[0, 0, ::-1],
    "truth": true_activity[row],
    "no attenuation": images["none"][row],
    "true map": images["map"][row],
}
figure, axes = plt.subplots(1, 5, figsize=(12, 3), layout="constrained")
for panel, (name, values) in zip(axes, panels.items(), strict=True):
    counts = "counts" in name or "scatter" in name
    limit = study.counts[0, 0].max() if counts else true_activity[row].max()
    panel.imshow(values, cmap="gray" if counts else "inferno", vmin=0, vmax=float(limit))
    panel.set_title(name)
    panel.set_axis_off()
plt.show()
