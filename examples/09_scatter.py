"""
Scatter by Monte Carlo
======================

A study that has no window beside its photopeak, corrected all the same: photons fly from the image through the mu-map
to the camera.

Run: ``python examples/09_scatter.py [--tiny]``
"""

import sys
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from spectac.app.demo import SCANNER, demo_patient, simulate
from spectac.recon import GivenMap, ReconstructionSettings, reconstruct
from spectac.recon.quantify import voi_mean
from spectac.recon.scatter.models import ScatterContext, ScatterEstimate
from spectac.recon.scatter.montecarlo import MonteCarloScatter

tiny = "--tiny" in sys.argv
scanner = replace(SCANNER, matrix=(30, 30), pixel_mm=9.0, views=24) if tiny else SCANNER
study, truth, cps_per_kbq = simulate(demo_patient(), scanner, counts=3e6, seed=1)
photopeak = replace(study, windows=study.windows[:1], counts=study.counts[:1])

# %%
# ``--scatter montecarlo`` on the command line, here as an object, so that its histories can be chosen. It needs a map:
# the true one here, a predicted, a uniform one or that of a CT elsewhere.

true_mean = voi_mean(truth.activity, truth.regions["brain"])
settings = ReconstructionSettings(iterations=8, subsets=6, scatter="none")
histories = 20_000 if tiny else 600_000
results = {}
for name, seen, model in (
    ("none", photopeak, None),
    ("montecarlo", photopeak, MonteCarloScatter(histories=histories)),
):
    results[name] = reconstruct(seen, GivenMap(truth.mu), settings, scatter=model)
    mean = voi_mean(results[name].image.values, truth.regions["brain"]) / cps_per_kbq
    print(f"{name:12} brain error {mean / true_mean - 1:+.1%}")
results["tew"] = reconstruct(study, GivenMap(truth.mu), replace(settings, scatter="tew"))
mean = voi_mean(results["tew"].image.values, truth.regions["brain"]) / cps_per_kbq
print(f"{'tew':12} brain error {mean / true_mean - 1:+.1%}, with its windows")
print("\n".join(note for note in results["montecarlo"].notes if "400 keV" in note))

# %%
# A model of your own is an object with a name, a number of rounds and a method ``expected``. With 0 rounds it is asked
# once, without image and map; with more the solver reconstructs an image and shows it, as often as it says.


class Constant:
    """A quarter of the counts everywhere, as some consoles subtract."""

    name = "a quarter"

    def rounds(self, context: ScatterContext) -> int:
        return 0

    def expected(self, context: ScatterContext, image: object, mu: object) -> ScatterEstimate:
        return ScatterEstimate(0.25 * context.window_counts(context.photopeak), self.name)


results["a quarter"] = reconstruct(photopeak, GivenMap(truth.mu), settings, scatter=Constant())

# %%
# Expected scatter of the first view along the middle row, and the counts that it is taken from.

row = study.acquisition.matrix[0] // 2
for name in ("montecarlo", "tew", "a quarter"):
    plt.plot(results[name].projections.scatter[0, row], label=name)
plt.plot(np.asarray(photopeak.counts[0, 0, row]), ".", label="counts")
plt.xlabel("column")
plt.ylabel("counts")
plt.legend()
plt.show()
