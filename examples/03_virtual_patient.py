"""A virtual patient: draw a head and a tracer, let a camera count, reconstruct, compare with the truth.

python examples/03_virtual_patient.py [--tiny]
"""

import sys
from dataclasses import replace

import numpy as np

from spectac.recon import GivenMap, NoAttenuation, reconstruct
from spectac.recon.quantify import voi_mean
from spectac.recon.resample import resample
from spectac.simulate.acquire import Patient, expected_counts
from spectac.simulate.head import draw_head
from spectac.simulate.scanner import SCANNERS
from spectac.simulate.tracer import draw_uptake, vois

tiny = "--tiny" in sys.argv
head = draw_head(np.random.default_rng(1), voxel_mm=4.0 if tiny else 2.0)
uptake = draw_uptake("perfusion", head, np.random.default_rng(2), nuclide="Tc-99m")

# A real camera's preset, its matrix reduced to the head.
scanner = replace(SCANNERS["siemens-intevo-lehr"], matrix=(64, 64), pixel_mm=4.4, scheme="tew").around(head)
if tiny:
    scanner = replace(scanner, matrix=(36, 36), pixel_mm=8.0, views=40)

expected = expected_counts(Patient(head, uptake), scanner, seed=3, histories=5_000 if tiny else None)
expected = expected.with_counts(5e6)
study = expected.study(np.random.default_rng(4))
scattered = expected.scatter[0].sum() / expected.primary[0].sum()
print(f"scatter over primary in the photopeak: {scattered:.3f}")

true_map = GivenMap(head.mu(140.511))
masks = vois(head.labels)
for model in (NoAttenuation(), true_map):
    image = reconstruct(study, model).image
    for region in ("cortex", "white matter"):
        inside = resample(masks[region].astype(np.float32), head.grid, image.grid)
        truth = voi_mean(resample(uptake.kbq_per_ml, head.grid, image.grid), inside)
        found = voi_mean(image.values / expected.cps_per_kbq, inside)
        print(f"{model.name:5} {region:13} {found:6.2f} kBq/mL, truth {truth:6.2f}")
