"""Raw projections that nobody here made: STIR's SimSET Monte Carlo study, read, outlined, reconstructed."""

from pathlib import Path

import numpy as np
import pytest

from spectac.recon import (
    NoAttenuation,
    ReconstructionSettings,
    StudySettings,
    SystemModel,
    UniformMap,
    open_study,
    reconstruct,
)
from spectac.recon.collimator import parse_psf

HEADER = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "stir_simset" / "input.hs"
pytestmark = [
    pytest.mark.skipif(not HEADER.exists(), reason="the SimSET projections (shared/data) are not here"),
    pytest.mark.slow,
]

# Rows 10-17 of the file, whose first row is superior, hold a uniform cylinder of 100 mm radius.
ROWS = slice(46, 54)


@pytest.fixture(scope="module")
def study():
    return open_study(HEADER, StudySettings(nuclide="Tc-99m", collimator=parse_psf("1.466:0.0163")))


@pytest.fixture(scope="module")
def results(study):
    # 0.091 /cm is a broad-beam value: it makes up for the scatter.
    settings = ReconstructionSettings(scatter="none")
    return {model.name: reconstruct(study, model, settings) for model in (NoAttenuation(), UniformMap(0.091))}


def centre_to_annulus(image):
    _, y, x = image.grid.centres_mm()
    values = image.values[ROWS]
    middle = (values * x).sum() / values.sum(), (values * y[:, None]).sum() / values.sum()
    r = np.hypot(x[None, :] - middle[0], y[:, None] - middle[1])
    return float(values[:, r < 30].mean() / values[:, (r > 60) & (r < 85)].mean())


def test_the_uniform_map_flattens_the_cylinder(results, figure):
    """Its true map is unknown; 0.091 /cm is the broad-beam value that STIR's users give for these data."""
    flat, hollow = centre_to_annulus(results["uniform"].image), centre_to_annulus(results["none"].image)
    figure("SimSET centre/annulus, uniform map 0.091 /cm", flat, "1 +- 0.03")
    figure("SimSET centre/annulus, no attenuation", hollow, "below 0.85")
    assert flat == pytest.approx(1.0, abs=0.03)
    assert hollow < 0.85


def test_the_outline_has_the_cylinder_s_radius(results, figure):
    mu = results["uniform"].mu
    area = (mu.per_cm[ROWS] / 0.091).sum(axis=(1, 2)) * mu.grid.voxel_mm[2] ** 2
    radius = np.sqrt(area / np.pi)
    figure("SimSET outline radius, worst slice, mm from 100", np.abs(radius - 100).max(), "3")
    np.testing.assert_allclose(radius, 100.0, atol=3.0)


def test_chi_square_says_which_model_explains_the_data(study, results, figure):
    """Bins with more than 5 expected counts; Poisson noise alone gives 1.

    Opposite views of a uniform cylinder hardly tell attenuation from none, so its own rows say little; the hot and cold
    rods further down do.
    """
    chi_square = {}
    for name, result in results.items():
        system = SystemModel(study.acquisition, result.image.grid, mu=result.mu)
        expected = system.forward(np.asarray(result.image.values)).astype(np.float64)
        square = (study.counts[0] - expected) ** 2 / np.maximum(expected, 1e-9)
        chi_square[name] = float(square[expected > 5].mean())
        cylinder = float(square[:, ROWS][expected[:, ROWS] > 5].mean())
        figure(f"SimSET chi^2 per bin, {name}, all rows", chi_square[name], "reported")
        figure(f"SimSET chi^2 per bin, {name}, cylinder", cylinder, "within 0.05 of 1")
        assert cylinder == pytest.approx(1.0, abs=0.05)
    assert chi_square["uniform"] < 1.1 < 1.5 < chi_square["none"]
