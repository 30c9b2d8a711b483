"""
Training a map
==============

What ``spectac cohort`` and ``spectac train`` do, in Python and in small: virtual patients, a few epochs of a small
network, its log, and the map that it gives for a patient it has not seen. The shipped weights took 648 patients,
after a thousand earlier ones; these here only show the way (:doc:`how it is done in earnest </learned>`).

Run: ``python examples/06_training_a_map.py [--tiny]``
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from spectac.recon import ReconstructionSettings, UniformMap, attenuation_model, reconstruct
from spectac.recon.resample import resample
from spectac.simulate.acquire import Patient, expected_counts
from spectac.simulate.cohort.folder import CohortSettings
from spectac.simulate.cohort.run import run_cohort
from spectac.simulate.head import draw_head
from spectac.simulate.scanner import draw_scanner
from spectac.simulate.uptake import draw_uptake

try:
    from spectac.learned.train import train
    from spectac.learned.training_settings import TrainingSettings
except ImportError as missing:
    print(f"left out, training needs {missing.name}: pip install 'spectac[train]'")
    sys.exit(0)

# %%
# Two cohorts from two seeds. Each patient is a function of (seed, number), so a run that was stopped goes on where it
# was; ``workers=None`` would use all cores. A map's limits of use are measured on its validation patients, and 10 are
# the least: the tiny run, with one, trains the image-to-image correction of the benchmarks instead.

tiny = "--tiny" in sys.argv
folder = tempfile.TemporaryDirectory()
root = Path(folder.name)
cohorts = {
    "training": CohortSettings(2 if tiny else 8, seed=1),
    "validation": CohortSettings(1 if tiny else 10, seed=2),
}
for name, settings in cohorts.items():
    made = run_cohort(root / name, settings, workers=0)
    print(f"{name}: {made.patients} patients, {len(made.failures)} failed")

# %%
# The settings are those of the TOML file that ``spectac train`` reads. Weights, checkpoint and log lie in the run's
# folder; the weights hold settings, digests of the cohorts and what training covered.

settings = TrainingSettings(
    "training",
    "validation",
    target="correction" if tiny else "map",
    widths=(8, 16) if tiny else (16, 32, 64),
    epochs=2 if tiny else 6,
    batch=2,
    warmup_steps=2,
    average_decay=0.9,
)
losses = []
weights = train(settings, root, root / "run", on_step=lambda done, steps, measured: losses.append(measured["loss"]))
for line in (root / "run" / "log.jsonl").read_text().splitlines():
    epoch = json.loads(line)
    print(f"epoch {epoch['epoch']}: loss {epoch['loss']:.3f}, validation error {epoch['error']:.3f}")

# %%
# A patient of neither cohort. ``predicted`` takes the new weights; where they are not to be trusted with the study, it
# uses the uniform map and its note says why. After so little training the uniform map is the better one, and the limits
# do not tell: they were measured on the same few patients.

panels = {}
if not tiny:
    rng = np.random.default_rng(3)
    head = draw_head(rng)
    patient = Patient(head, draw_uptake("dat", head, rng))
    scanner = replace(draw_scanner(rng), scheme="tew+scatter").around(head)
    study = expected_counts(patient, scanner, seed=4).study(rng)
    true_mu = head.mu(158.97)
    for model in (UniformMap(), attenuation_model("predicted", {"weights": str(weights)})):
        result = reconstruct(study, model, ReconstructionSettings(iterations=4, subsets=6))
        inside = resample(true_mu.per_cm, true_mu.grid, result.mu.grid)
        error = np.abs(result.mu.per_cm - inside)[inside > 0.05].mean() / inside[inside > 0.05].mean()
        panels[model.name] = result.mu.per_cm
        print(f"{model.name:10} map: {error:.1%} of its mean off, inside the head")
        for note in result.notes:
            print(f"{'':10} note: {note}")
    panels["truth"] = inside
folder.cleanup()

# %%
# The loss of every step, and the maps through the middle of the field.

figure, axes = plt.subplots(1, 1 + len(panels), figsize=(4 + 3 * len(panels), 3), layout="constrained", squeeze=False)
axes[0, 0].plot(np.arange(1, len(losses) + 1), losses)
axes[0, 0].set(xlabel="step", ylabel="loss")
for panel, (name, values) in zip(axes[0, 1:], panels.items(), strict=True):
    panel.imshow(values[values.shape[0] // 2], cmap="gray", vmin=0, vmax=0.25)
    panel.set_title(name)
    panel.set_axis_off()
plt.show()
