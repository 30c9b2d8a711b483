"""A cohort's patient is to the network what a study of the same patient is."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the learned map needs torch: pip install 'spectac[learned]'")

from spectac.learned.cohort_inputs import SIDE_WINDOWS, patient_input, scanner_of
from spectac.learned.estimate import network_input
from spectac.learned.inputs import side_windows
from spectac.recon import ReconstructionSettings, Study
from spectac.recon.pipeline import StudySolver
from spectac.simulate.cohort.folder import CohortSettings
from spectac.simulate.cohort.patient import simulate_patient
from spectac.simulate.scanner import SCANNERS


@pytest.mark.parametrize("scheme", ["photopeak", "dew", "tew", "tew+scatter"])
def test_the_same_window_fills_the_scatter_channel(scheme):
    """Of a study the widest one below the photopeak; of a patient the first that is there of SIDE_WINDOWS."""
    scanner = replace(SCANNERS["siemens-intevo-lehr"], scheme=scheme, matrix=(8, 8), views=4)
    study = Study(
        scanner.acquisition("I-123"), scanner.windows("I-123"), np.ones((len(scanner.windows("I-123")), 4, 8, 8))
    )
    side = next(iter(side_windows(study, 0)), None)
    there = [window.name for window in study.windows]
    wanted = [name for name in SIDE_WINDOWS if name in there]
    assert (None if side is None else study.windows[side].name) == (wanted[0] if wanted else None)


@pytest.mark.slow
def test_training_sees_what_predicting_sees():
    """The study made from the kept projections gives the kept preview, on the same grid, normalised alike."""
    patient = simulate_patient(77, 0, CohortSettings(1))
    # A cohort keeps no radii that followed the head; previews without a map do not depend on them.
    scanner = replace(scanner_of(patient), orbit="circular", radius_mm=400.0)
    acquisition = scanner.acquisition(str(patient.parameters["nuclide"]))
    peak = scanner.windows(acquisition.nuclide)[:1]
    study = Study(acquisition, peak, patient.counts[None])
    solver = StudySolver(study, ReconstructionSettings(scatter="none", photopeak="photopeak", device="cpu"))
    assert solver.preview().grid.same_as(patient.grid)
    np.testing.assert_allclose(solver.preview().values, patient.preview[0], atol=1e-5 * patient.preview[0].max())
    seen, trained = network_input(solver), patient_input(patient)
    np.testing.assert_allclose(seen.photopeak, trained.photopeak, atol=1e-4)
    assert seen.energy_kev == trained.energy_kev
    assert seen.scatter is None
