"""
Images in kBq/mL
================

A camera counts; what a kBq/mL gives in counts per second is measured once, with a phantom of known activity. The factor
then makes kBq/mL of every image of that camera with the same nuclide, collimator, window and scatter correction.

Run: ``python examples/08_calibration.py [--tiny]``
"""

import sys
from dataclasses import replace
from datetime import datetime, timedelta

import matplotlib.pyplot as plt
import numpy as np

from spectac.recon import GivenMap, Grid, InputError, ReconstructionSettings, reconstruct
from spectac.recon.calibration import calibrate, decayed
from spectac.recon.quantify import voi_mean
from spectac.recon.resample import resample
from spectac.simulate.acquire import Patient, expected_counts
from spectac.simulate.head import Head, draw_head
from spectac.simulate.regions import LABEL
from spectac.simulate.scanner import SCANNERS
from spectac.simulate.uptake import Uptake, draw_uptake, vois

tiny = "--tiny" in sys.argv
scanner = replace(SCANNERS["siemens-intevo-lehr"], scheme="tew", matrix=(64, 64), pixel_mm=4.4)
if tiny:
    scanner = replace(scanner, matrix=(30, 32), pixel_mm=9.0, views=24)
histories = 20_000 if tiny else None

# %%
# The phantom: 20 cm of water with Tc-99m, assayed at eight in the morning and scanned at half past nine. Its activity
# is what the dose calibrator says; what stayed in the syringe has to be subtracted.

assayed, start = datetime(2026, 3, 5, 8, 0), datetime(2026, 3, 5, 9, 30)
activity_mbq, radius_mm = 300.0, 100.0

grid = Grid.upright((50, 52, 52), (4.0, 4.0, 4.0), (-102.0, -102.0, -98.0))
z, y, x = grid.centres_mm()
inside = np.broadcast_to(x**2 + y[:, None] ** 2 < radius_mm**2, grid.shape)
volume_ml = inside.sum() * grid.voxel_ml
water = Head(grid, np.where(inside, LABEL["csf"], 0).astype(np.uint8), np.where(inside, 1.0, 0.001).astype("f4"), {})
at_start = decayed(activity_mbq, "Tc-99m", (start - assayed) / timedelta(hours=1))
level = inside * np.float32(1000.0 * at_start / volume_ml)
filling = Patient(water, Uptake(level.astype(np.float32), "Tc-99m", "randomised", {}))


def scanned(patient, counts, seed):
    """Study that begins at ``start``, and the camera's true counts per second and kBq."""
    expected = expected_counts(patient, scanner.around(patient.head), seed, histories=histories).with_counts(counts)
    study = expected.study(np.random.default_rng(seed))
    return replace(study, acquisition=replace(study.acquisition, start=start)), expected.cps_per_kbq


study, true_factor = scanned(filling, 1e7, seed=1)
settings = {"iterations": 8, "subsets": 6, "post_filter": "gaussian:10"}
result = reconstruct(study, GivenMap(water.mu(140.511)), ReconstructionSettings(**settings))
image = result.image

# %%
# The factor is the mean of the image in a volume well inside, over the true concentration at the scan's start. Here the
# camera is a virtual one whose sensitivity is known: what is off is the scatter that TEW leaves.

z, y, x = image.grid.centres_mm()
middle = (np.abs(z)[:, None, None] < 50.0) & (x**2 + y[:, None] ** 2 < 60.0**2)
calibration = calibrate(result, study, middle, activity_mbq=activity_mbq, volume_ml=volume_ml, assayed=assayed)
print(calibration.note)
print(f"{calibration.cps_per_kbq:.5f} cps per kBq, {calibration.cps_per_kbq / true_factor - 1:+.1%} off the true one")

# %%
# A patient on the same camera. The calibration is checked against the study: another collimator, nuclide, photopeak or
# scatter correction is refused. Single regions are off by their blur as well.

head = draw_head(np.random.default_rng(3), voxel_mm=4.0 if tiny else 2.0)
uptake = draw_uptake("perfusion", head, np.random.default_rng(4), nuclide="Tc-99m")
patient_study, _ = scanned(Patient(head, uptake), 5e6, seed=2)
raw = reconstruct(patient_study, GivenMap(head.mu(140.511)), ReconstructionSettings(**settings))
activity = calibration.applied(raw, patient_study)

true_activity = resample(uptake.kbq_per_ml, head.grid, activity.grid)
masks = vois(head.labels)
for region in ("brain", "cortex", "white matter"):
    voi = resample(masks[region].astype(np.float32), head.grid, activity.grid)
    found, truth = voi_mean(activity.values, voi), voi_mean(true_activity, voi)
    print(f"{region:13} {found:6.2f} {activity.unit}, truth {truth:6.2f}, {found / truth - 1:+.1%}")

try:
    hot = reconstruct(patient_study, GivenMap(head.mu(140.511)), ReconstructionSettings(scatter="none", **settings))
    calibration.applied(hot, patient_study)
except InputError as error:
    print(f"refused: {error}")

# %%
# The phantom with the volume, and the patient.

figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
axes[0].imshow(image.values[len(image.values) // 2], cmap="inferno")
axes[0].contour(middle[len(middle) // 2], levels=[0.5], colors="w")
axes[0].set_title(f"phantom, {image.unit}")
brain = resample(masks["brain"].astype(np.float32), head.grid, activity.grid)
row = int(brain.sum(axis=(1, 2)).argmax())
for panel, (name, values) in zip(axes[1:], {"patient": activity.values, "truth": true_activity}.items(), strict=True):
    picture = panel.imshow(values[row], cmap="inferno", vmin=0, vmax=float(true_activity[row].max()))
    panel.set_title(f"{name}, kBq/mL")
figure.colorbar(picture, ax=axes[1:])
for panel in axes:
    panel.set_axis_off()
plt.show()
