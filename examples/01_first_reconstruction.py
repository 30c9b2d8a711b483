"""
From raw projections to an image
================================

A virtual patient's noisy projections, reconstructed without attenuation correction and with the true map; the truth is
known, so the error is a number.

Run: ``python examples/01_first_reconstruction.py [--tiny]``
"""

import sys
from dataclasses import replace

import matplotlib.pyplot as plt

from spectac.app.demo import SCANNER, demo_patient, simulate
from spectac.recon import Chang, GivenMap, NoAttenuation, ReconstructionSettings, UniformMap, reconstruct
from spectac.recon.quantify import voi_mean

# %%
# The patient of ``spectac demo``: an I-123 DAT scan, 3 million counts in the photopeak, scatter and septal penetration
# in them, and two more windows beside the photopeak. A study of your own comes from ``open_study("projections.dcm")``.

tiny = "--tiny" in sys.argv
scanner = replace(SCANNER, matrix=(30, 30), pixel_mm=9.0, views=24) if tiny else SCANNER
study, truth, cps_per_kbq = simulate(demo_patient(), scanner, counts=3e6, seed=1)
print(f"{study.counts[0].sum():.3g} counts in {study.acquisition.views} views of {study.acquisition.matrix} pixels")

# %%
# ``reconstruct`` takes the study and an attenuation model. The rest has defaults: OSEM with resolution recovery, and
# scatter from the windows beside the photopeak (TEW). Images are in counts per second and mL; the camera's sensitivity,
# known here, makes kBq/mL of them.

true_mean = voi_mean(truth.activity, truth.regions["brain"])
images = {}
for model in (NoAttenuation(), Chang(), UniformMap(), GivenMap(truth.mu)):
    result = reconstruct(study, model, ReconstructionSettings(iterations=8, subsets=6))
    images[model.name] = result.image.values / cps_per_kbq
    mean = voi_mean(images[model.name], truth.regions["brain"])
    print(f"{model.name:8} brain {mean:.3f} kBq/mL, truth {true_mean:.3f}, error {mean / true_mean - 1:+.1%}")

# %%
# The slice with the brightest striatum. Without correction the middle of the head is lost; a uniform map leaves out
# that the skull attenuates more than the brain.

row = int(truth.activity.max(axis=(1, 2)).argmax())
figure, axes = plt.subplots(1, 5, figsize=(12, 3), layout="constrained")
for panel, (name, values) in zip(axes, {"truth": truth.activity, **images}.items(), strict=True):
    picture = panel.imshow(values[row], cmap="inferno", vmin=0, vmax=float(truth.activity[row].max()))
    panel.set_title(name)
    panel.set_axis_off()
figure.colorbar(picture, ax=axes, label="kBq/mL")
plt.show()
