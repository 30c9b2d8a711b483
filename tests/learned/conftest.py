"""Cohorts of tiny patients, and an analytic head that is projected once.

The patients are balls of water with activity, on 16^3 voxels of 8 mm, so that training takes seconds.
"""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from spectac.recon import Collimator, Grid, SystemModel, default_grid
from spectac.recon.tissues import water_per_cm
from spectac.simulate.analytic_head import on_grid
from spectac.simulate.cohort.patient_arrays import PatientArrays
from spectac.simulate.cohort.shards import write_shard
from spectac.simulate.scanner import draw_scanner

SIZE = 16


def ball_patient(seed: int, index: int) -> PatientArrays:
    rng = np.random.default_rng([seed, index])
    grid = Grid.upright((SIZE,) * 3, (8.0,) * 3, [-0.5 * (SIZE - 1) * 8.0] * 3)
    where = np.stack(np.meshgrid(*[np.arange(SIZE) - 7.5] * 3, indexing="ij"))
    radius = np.sqrt(((where - rng.uniform(-1, 1, 3)[:, None, None, None]) ** 2).sum(axis=0))
    head = (radius < rng.uniform(4.0, 6.5)).astype(np.float32)
    scanner = replace(draw_scanner(rng), matrix=(SIZE, SIZE), pixel_mm=4.0, views=12)
    tracer = "I-123" if index % 2 else "Tc-99m"
    kev = 159.0 if index % 2 else 140.5
    windows = {window.name for window in scanner.windows(tracer)}
    there = np.array([name in windows for name in ("photopeak", "lower", "upper", "scatter")])
    preview = np.where(there[:, None, None, None], head * rng.uniform(0.8, 1.2, head.shape), 0.0).astype(np.float32)
    return PatientArrays(
        grid,
        preview,
        there,
        preview[0],
        1.1 * head * np.float32(water_per_cm(kev)),
        head * np.float32(water_per_cm(kev)),
        head,
        head.astype(np.uint8),
        1.0 + head,
        rng.poisson(50.0, (12, SIZE, SIZE)).astype(np.float32),
        np.full((3, 12, SIZE, SIZE), 50.0, np.float16),
        kev,
        {
            "scanner": asdict(scanner),
            "nuclide": tracer,
            "index": index,
            "counts": dict.fromkeys(windows, 5e5),
            "cps_per_kbq": 1.0,
        },
    )


@pytest.fixture(scope="session")
def tiny_cohorts(tmp_path_factory) -> Path:
    """Folder with the cohorts `training` (8 patients) and `validation` (4)."""
    root = tmp_path_factory.mktemp("cohorts")
    for seed, (name, patients) in enumerate({"training": 8, "validation": 4}.items()):
        (root / name).mkdir()
        outcomes = [(index, ball_patient(seed, index)) for index in range(patients)]
        write_shard(root / name / "shard-00000.h5", {"seed": seed}, patients, outcomes)
    return root


@pytest.fixture(scope="session")
def head(make_acquisition):
    """Noise-free counts (3 million) of the analytic head on 8.8 mm, its system and truth: no error but few updates."""
    acquisition = make_acquisition(
        np.arange(16) * 22.5, (30, 28), 8.8, radii_mm=np.full(16, 140.0), collimator=Collimator.from_line(1.5, 0.017)
    )
    truth = on_grid(default_grid(acquisition), 140.511, subsamples=2)
    system = SystemModel(acquisition, truth.mu.grid, mu=truth.mu)
    expected = system.forward(truth.activity)
    return system, expected * np.float32(3e6 / expected.sum(dtype=np.float64)), truth
