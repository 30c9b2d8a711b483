"""Raw projections to a quantitative image: simulate a patient, reconstruct it with four attenuation models, compare.

Run: python examples/01_first_reconstruction.py [--tiny]
"""

import sys
from dataclasses import replace

from spectac.app.demo import SCANNER, demo_patient, simulate
from spectac.recon import Chang, GivenMap, NoAttenuation, UniformMap, reconstruct
from spectac.recon.quantify import voi_mean

tiny = "--tiny" in sys.argv
scanner = replace(SCANNER, matrix=(30, 30), pixel_mm=9.0, views=24) if tiny else SCANNER
study, truth, cps_per_kbq = simulate(demo_patient(), scanner, counts=3e6, seed=1)
print(f"{study.counts[0].sum():.3g} counts in {study.acquisition.views} views of {study.acquisition.matrix} pixels")

true_mean = voi_mean(truth.activity, truth.regions["brain"])
for model in (NoAttenuation(), Chang(), UniformMap(), GivenMap(truth.mu)):
    result = reconstruct(study, model, iterations=8, subsets=6)
    mean = voi_mean(result.image.values, truth.regions["brain"]) / cps_per_kbq
    print(f"{model.name:8} brain {mean:.3f} kBq/mL, truth {true_mean:.3f}, error {mean / true_mean - 1:+.1%}")
