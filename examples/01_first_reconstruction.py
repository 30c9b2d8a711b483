"""Raw projections to a quantitative image: simulate a head, reconstruct it with four attenuation models, compare.

Run: python examples/01_first_reconstruction.py [--tiny]
"""

import sys

import numpy as np

from spectac.app.demo import fine_acquisition, simulate
from spectac.recon import Chang, GivenMap, NoAttenuation, UniformMap, reconstruct

tiny = "--tiny" in sys.argv
size, pixel_mm, views = (28, 10.0, 24) if tiny else (64, 4.4, 120)
study, truth, level = simulate(fine_acquisition(views, size, size, pixel_mm), counts=3e6, seed=1)
print(f"{study.counts.sum():.3g} counts in {study.acquisition.views} views of {study.acquisition.matrix} pixels")

brain = truth.fractions["brain"] > 0.999
for model in (NoAttenuation(), Chang(0.144), UniformMap(0.144), GivenMap(truth.mu)):
    result = reconstruct(study, model, iterations=8, subsets=6)
    mean = float(np.mean(result.image.values[brain]))
    print(f"{model.name:8} brain {mean:.3f} {result.image.unit}, truth {level:.3f}, error {mean / level - 1:+.1%}")
