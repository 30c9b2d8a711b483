"""
Projections of SIMIND and STIR
==============================

Interfile is what Monte Carlo users have: a text header beside a file of numbers, a pair for each energy window. spectac
writes and reads both dialects, checks what it reads, and says what it had to assume.

Run: ``python examples/07_simind_and_stir.py [--tiny]``
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from spectac.app.demo import SCANNER, demo_patient, simulate
from spectac.app.export import export_study
from spectac.recon import (
    COLLIMATORS,
    InputError,
    ReconstructionSettings,
    StudySettings,
    UniformMap,
    open_study,
    reconstruct,
)

tiny = "--tiny" in sys.argv
scanner = replace(SCANNER, heads=1, orbit="circular")
if tiny:
    scanner = replace(scanner, matrix=(30, 30), pixel_mm=9.0, views=24)
study, truth, _ = simulate(demo_patient(), scanner, counts=3e6, seed=1)

# %%
# The demo's patient as files for other programs, what ``spectac export`` does. The lines say what the formats cannot
# hold.

folder = tempfile.TemporaryDirectory()
root = Path(folder.name)
for target in ("simind", "stir"):
    print(f"--- {target}")
    for line in export_study(study, target, root / target):
        print(line.replace(f"{root}/", ""))

# %%
# SIMIND's header. Its zero degrees is in front of the patient, its rows run downwards, and it keeps keys of its own in
# comments, which begin with a semicolon.

header = next((root / "simind").glob("*_tot_w1.h00"))
for line in header.read_text().splitlines():
    if any(
        word in line.lower() for word in ("matrix size", "angle", "direction", "radionuclide", "radius", "window l")
    ):
        print(line)

# %%
# A folder is read as one study: the headers must agree in everything but their windows. The history says how angles and
# rows were mapped, the warnings what was assumed. What a header leaves out is given by hand, as the collimator is here
# for STIR's, without which there would be no resolution recovery.

for target in ("simind", "stir"):
    read = open_study(
        root / target, StudySettings(collimator=COLLIMATORS["siemens-lehr"] if target == "stir" else None)
    )
    print(
        f"--- {target}: {len(read.windows)} windows, {read.acquisition.views} views of {read.acquisition.matrix} pixels"
    )
    for line in (*read.history, *(f"warning: {warning}" for warning in read.warnings)):
        print(line)

    # The views are those of the study, whichever of them comes first.
    order = np.argsort(np.mod(read.acquisition.view_angles_deg, 360.0))
    written = np.argsort(np.mod(study.acquisition.view_angles_deg, 360.0))
    print(f"same counts in every view: {np.array_equal(read.counts[:, order], study.counts[:, written])}")

# %%
# What cannot be is refused, with the file and the key.

header.write_text(header.read_text().replace("direction of rotation := CCW", "direction of rotation := left"))
try:
    open_study(header)
except InputError as error:
    print(f"refused: {str(error).replace(f'{root}/', '')}")

# %%
# The three windows give scatter correction by TEW.

result = reconstruct(read, UniformMap(), ReconstructionSettings(iterations=8, subsets=6))
for note in result.notes:
    print(f"note: {note}")
folder.cleanup()

row = int(truth.activity.max(axis=(1, 2)).argmax())
figure, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained")
axes[0].imshow(read.counts[0, 0, ::-1], cmap="gray")
axes[0].set_title("view 0, photopeak")
axes[1].imshow(result.image.values[row], cmap="inferno")
axes[1].set_title(f"image, {result.image.unit}")
for panel in axes:
    panel.set_axis_off()
plt.show()
