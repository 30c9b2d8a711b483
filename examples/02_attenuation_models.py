"""
All attenuation models on one patient
=====================================

None, Chang, a uniform map, the map that a network estimates from the SPECT data alone, the CT and the true map, on the
same noisy projections: what each does to the mean over the brain and to the striatal binding ratios.

Run: ``python examples/02_attenuation_models.py [--tiny]``
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from spectac.app.demo import SCANNER, demo_patient, simulate
from spectac.recon import (
    Chang,
    CTMap,
    GivenMap,
    InputError,
    NoAttenuation,
    ReconstructionSettings,
    UniformMap,
    attenuation_model,
    reconstruct,
)
from spectac.recon.io.dicom.ct import write_series
from spectac.recon.quantify import striatal_binding_ratio, voi_mean
from spectac.simulate.ct_scan import ct_scan

# %%
# A patient with a loss in one putamen, 3 million counts of I-123, and a noisy CT of the same head as DICOM.

tiny = "--tiny" in sys.argv
scanner = replace(SCANNER, matrix=(30, 30), pixel_mm=9.0, views=24) if tiny else SCANNER
patient = demo_patient()
study, truth, cps_per_kbq = simulate(patient, scanner, counts=3e6, seed=1)

scan = ct_scan(patient.head, np.random.default_rng(2), frame_of_reference_uid=study.acquisition.frame_of_reference_uid)
folder = tempfile.TemporaryDirectory()
write_series(Path(folder.name) / "ct", scan)

# %%
# Each model is an object. ``attenuation_model`` finds those that packages bring as plug-ins, as ``--attenuation`` does;
# ``predicted`` needs torch. Outside of what its training covered, as on these tiny grids, it uses the uniform map and
# says so.

models = [NoAttenuation(), Chang(), UniformMap(), CTMap(str(Path(folder.name) / "ct")), GivenMap(truth.mu)]
try:
    models.insert(3, attenuation_model("predicted", {}))
except InputError as missing:
    print(f"without the predicted map: {missing}")

# %%
# The truth of a voxel is what the patient has in it. Ratios are lower than the truth's even with the true map, because
# the striata are small and blurred; what an attenuation model can get right is the distance to that line.


def ratios(values):
    reference = voi_mean(values, truth.regions["reference"])
    return [
        striatal_binding_ratio(voi_mean(values, truth.regions[f"{side} striatum"]), reference)
        for side in ("right", "left")
    ]


print("{:10} {:>8} {:>10} {:>10}".format("", "brain", "SBR right", "SBR left"))
print("{:10} {:>8} {:10.2f} {:10.2f}".format("truth", "", *ratios(truth.activity)))
true_mean = voi_mean(truth.activity, truth.regions["brain"])
results = {}
for model in models:
    results[model.name] = result = reconstruct(study, model, ReconstructionSettings(iterations=8, subsets=6))
    values = result.image.values / cps_per_kbq
    error = voi_mean(values, truth.regions["brain"]) / true_mean - 1
    print("{:10} {:+8.1%} {:10.2f} {:10.2f}".format(model.name, error, *ratios(values)))
    for note in result.notes:
        print(f"{'':10} note: {note}")
folder.cleanup()

# %%
# Images and maps, at the height of the striata.

striata = truth.regions["right striatum"] + truth.regions["left striatum"]
row = int(striata.sum(axis=(1, 2)).argmax())
figure, axes = plt.subplots(2, len(results) + 1, figsize=(2.2 * (len(results) + 1), 4.6), layout="constrained")
columns = {"truth": (truth.activity, truth.mu)}
columns |= {name: (result.image.values / cps_per_kbq, result.mu) for name, result in results.items()}
for (upper, lower), (name, (values, mu)) in zip(axes.T, columns.items(), strict=True):
    upper.set_title(name)
    upper.imshow(values[row], cmap="inferno", vmin=0, vmax=0.8 * float(truth.activity[row].max()))
    if mu is None:
        lower.text(0.5, 0.5, "no map", ha="center", va="center", transform=lower.transAxes)
    else:
        lower.imshow(mu.per_cm[row], cmap="gray", vmin=0, vmax=0.25)
    upper.set_axis_off()
    lower.set_axis_off()
plt.show()
