"""One solver for several attenuation models: every result is that of a solver of its own, whatever came before it."""

from dataclasses import dataclass

import numpy as np
import pytest

from spectac.recon import (
    EnergyWindow,
    MuMap,
    NoAttenuation,
    ReconstructionSettings,
    Result,
    Study,
    SystemModel,
    default_grid,
    reconstruct,
)
from spectac.recon.filters import parse_post_filter
from spectac.recon.pipeline import StudySolver

QUICK = {"iterations": 2, "subsets": 4, "resolution": False}


@dataclass(frozen=True)
class Twice:
    """A model that previews both windows, reconstructs without and with a map, and leaves a note."""

    per_cm: float
    name: str = "twice"

    def correct(self, solver):
        shown = solver.preview().values.max() + solver.preview("low").values.max()
        uncorrected = solver(None)
        mu = MuMap(np.where(uncorrected.values > 0.2 * uncorrected.values.max(), self.per_cm, 0.0), solver.grid, 140.5)
        return Result(solver(mu), mu=mu, uncorrected=uncorrected, notes=(f"previews reach {shown:.6g}",))


@pytest.fixture
def study(make_acquisition):
    """A disc of 60 mm in two windows, seen by 16 views over half a turn only, which is noted."""
    acquisition = make_acquisition(
        np.arange(16) * 11.25, (4, 20), 8.0, radii_mm=np.full(16, 120.0), view_seconds=np.full(16, 10.0)
    )
    grid = default_grid(acquisition)
    _, y, x = grid.centres_mm()
    disc = np.broadcast_to((np.hypot(x[None, :], y[:, None]) < 60).astype(np.float32), grid.shape)
    mean = SystemModel(acquisition, grid).forward(disc)
    counts = np.random.default_rng(3).poisson([mean, 0.2 * mean])
    return Study(acquisition, (EnergyWindow("peak", 126, 154), EnergyWindow("low", 100, 120)), counts)


def test_results_do_not_depend_on_the_models_before(study):
    """Images to the last bit, notes and history, in an order in which each kept image is asked for twice."""
    solver = StudySolver(study, ReconstructionSettings(scatter="none", **QUICK))
    post_filter = parse_post_filter("gaussian:10")
    for model in (Twice(0.1), NoAttenuation(), Twice(0.15), NoAttenuation()):
        shared = solver.corrected(model, post_filter)
        single = reconstruct(study, model, ReconstructionSettings(scatter="none", post_filter=post_filter, **QUICK))
        np.testing.assert_array_equal(shared.image.values, single.image.values)
        assert shared.notes == single.notes
        assert shared.image.history == single.image.history
        assert (shared.attenuation, shared.device) == (single.attenuation, single.device)
        assert any("uncovered" in note for note in shared.notes)


def test_the_image_without_a_map_is_computed_once_and_its_time_is_charged_to_every_model(study):
    solver = StudySolver(study, ReconstructionSettings(scatter="none", **QUICK))
    updates = []
    solver.corrected(NoAttenuation(), None, updates.append)
    assert len(updates) == 8
    assert solver.borrowed_s == 0.0
    solver.corrected(NoAttenuation(), None, updates.append)
    assert len(updates) == 8
    assert solver.borrowed_s > 0.0
    solver.corrected(Twice(0.1), None, updates.append)
    assert len(updates) == 16
