"""From the network's volume to the result: map, spread, reasons; and image-to-image correction.

The study is an analytic head of water and bone without noise; what a network would give is put in its place, so that
what becomes of it is known.
"""

import re
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the learned map needs torch: pip install 'spectac[learned]'")

from spectac.learned import direct, estimate, predict  # noqa: E402
from spectac.learned.coverage import Coverage  # noqa: E402
from spectac.learned.inputs import normalised  # noqa: E402
from spectac.learned.network import NetworkSettings, VolumeNetwork  # noqa: E402
from spectac.learned.predict import CORRECTION_SD, PredictedMap  # noqa: E402
from spectac.learned.spread import SpreadScale, factor_spread  # noqa: E402
from spectac.learned.weights_file import save_weights  # noqa: E402
from spectac.recon import EnergyWindow, InputError, MuMap, ReconstructionSettings, Study  # noqa: E402
from spectac.recon.attenuation import uniform_map  # noqa: E402
from spectac.recon.held_head import HeldHead  # noqa: E402
from spectac.recon.orbit_check import check_map_radius  # noqa: E402
from spectac.recon.pipeline import StudySolver  # noqa: E402
from spectac.recon.resample import on_field, resample  # noqa: E402
from spectac.recon.skull_fit import CheckedSkull  # noqa: E402
from spectac.recon.tissues import water_per_cm  # noqa: E402
from spectac.recon.types import SkullFit  # noqa: E402
from spectac.simulate.cohort.patient_arrays import LEAST_SHARE  # noqa: E402

KEV = 140.511
WIDE_OPEN = Coverage(
    energies_kev=(KEV,),
    least_counts=1.0,
    least_side_counts=1e4,
    sigma_mm=(1.0, 9.0),
    edge_share=1.0,
    sharper=0.0,
    head_ml=(100.0, 9000.0),
    hottest=100.0,
    height_mm=0.0,
    pixel_mm=9.0,
    views=16.0,
    peak_width=(0.1, 0.3),
    energy_loss=(0.1, 0.25),
    uncertainty=0.1,
    outline_mm=15.0,
)
AS_IT_IS = SpreadScale((0.0, 1.0), (0.0, 1.0), 1.0, 1.0, 1.0)
"""Spread of the passes taken for that of errors."""
PEAK = EnergyWindow("photopeak", 126.0, 155.0)


def solver_of(head, *others):
    """Solver of the head's study; `others` are further windows with the share of the photopeak's counts in them."""
    system, counts, _ = head
    windows = (PEAK, *(window for window, _ in others))
    study = Study(system.acquisition, windows, np.stack([counts, *(np.float32(share) * counts for _, share in others)]))
    settings = ReconstructionSettings(
        scatter="none", photopeak="photopeak", device="cpu", iterations=1, subsets=4, resolution=False
    )
    return StudySolver(study, settings)


@pytest.fixture(scope="module")
def solver(head):
    return solver_of(head)


@pytest.fixture(scope="module")
def true_map(head, solver):
    """The true map on the preview's grid."""
    grid = solver.preview().grid
    return MuMap(resample(head[2].mu.per_cm, head[2].mu.grid, grid), grid, KEV)


@pytest.fixture
def network_gives(monkeypatch):
    """Function of the passes' volumes (n, z, y, x); returns the list of inputs that the network sees."""

    def give(volumes, coverage=WIDE_OPEN, spread=AS_IT_IS):
        shown = []

        def passes(network, seen, energy_kev):
            shown.append(seen)
            return volumes

        trained = estimate.TrainedNetwork(VolumeNetwork(NetworkSettings(widths=(8, 8))), coverage, spread)
        monkeypatch.setattr(predict.TrainedNetwork, "read", lambda path: trained)
        monkeypatch.setattr(estimate, "passes", passes)
        return shown

    return give


def save(path, target):
    network = VolumeNetwork(NetworkSettings(target, (8, 8)))
    # The last layer's bias alone is left: the same value everywhere.
    torch.nn.init.zeros_(network.last.weight)
    save_weights(path, network, {"settings": {"target": target, "widths": (8, 8), "dropout": 0.0}})
    return path


def spread_about(per_cm, share):
    return np.stack([(1.0 - share) * per_cm, (1.0 + share) * per_cm])


def test_the_networks_mean_is_the_map_and_its_spread_the_uncertainty(solver, true_map, network_gives):
    given = true_map.per_cm.copy()
    given[0, 24:40, 24:40] = 0.15
    network_gives(spread_about(given, 0.04))
    mu, spread, notes = PredictedMap(fallback=False).estimate(solver)
    assert mu.grid.same_as(solver.grid)
    wanted = on_field(given, true_map.grid, solver.grid)
    head = wanted > 0.01  # beside it lies what a holder was fitted to
    np.testing.assert_allclose(mu.per_cm[head], wanted[head], atol=1e-5)
    np.testing.assert_allclose(spread.mu.per_cm[head], 0.04 * mu.per_cm[head], atol=1e-5)
    # The field's lowest row lies below the preview: the last one goes on.
    assert mu.per_cm[0, 14, 14] == pytest.approx(0.15, rel=1e-5)
    assert notes[0] == "predicted map: uncertainty 4.00 % (limit 10.00 %)"


def test_the_map_of_the_head_is_laid_into_a_fitted_holder(head, true_map, network_gives):
    network_gives(spread_about(true_map.per_cm, 0.01))
    result = solver_of(head).corrected(PredictedMap(fallback=False))
    assert result.holder == "fitted"
    assert result.holder_share is not None


def test_what_the_spread_means_is_stated_for_map_and_image(head, true_map, network_gives):
    """Twice the spread in the map; in the image three times that of the factors."""
    given = spread_about(true_map.per_cm, 0.01)
    water = water_per_cm(KEV)
    network_gives(given, spread=SpreadScale((0.0, 1.0), (0.0, 2.0), 2.0, 3.0, 6.0))
    result = solver_of(head).corrected(PredictedMap(fallback=False))
    np.testing.assert_allclose(result.mu_spread.per_cm, 0.02 * result.mu.per_cm, atol=1e-4)
    factors = on_field(factor_spread(given / water, 0.4 * water), true_map.grid, result.image.grid)
    inside = factors > 0.001
    np.testing.assert_allclose(result.spread.values[inside], 3.0 * factors[inside], rtol=1e-2)
    assert result.spread.unit == "relative"


def test_a_network_of_five_channels_sees_the_photopeak_with_resolution_recovery(solver, true_map, network_gives):
    shown = network_gives(spread_about(true_map.per_cm, 0.01))
    PredictedMap(fallback=False).estimate(solver)
    (seen,) = shown
    wanted = solver.preview(recovered=True)
    assert wanted.grid.same_as(solver.preview().grid)
    np.testing.assert_array_equal(seen.recovered, normalised(wanted.values, wanted.grid.voxel_ml))
    assert not np.allclose(seen.recovered, seen.photopeak)


def test_rows_that_were_not_measured_do_not_count_for_the_uncertainty(solver, true_map):
    seen = estimate.network_input(solver)
    seen.photopeak[:40] = 0.0
    found = spread_about(true_map.per_cm, 0.04)
    found[0, :40], found[1, :40] = 0.0, 2.0 * true_map.per_cm[:40]
    assert estimate.uncertainty(found, seen, KEV) == pytest.approx(0.04, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda per_cm: spread_about(per_cm, 0.2), "passes differ by 20.00% of the map"),
        (
            lambda per_cm: spread_about(np.roll(per_cm, 9, axis=1), 0.01),
            "activity of the head lies outside.*outline lies",
        ),
        (lambda per_cm: spread_about(0.0 * per_cm, 0.0), "it holds no head"),
        (lambda per_cm: spread_about(np.full_like(per_cm, 0.15), 0.0), "the predicted map reaches"),
    ],
)
def test_a_map_that_must_not_be_used_gives_way_to_the_uniform_one(solver, true_map, network_gives, change, reason):
    network_gives(change(true_map.per_cm))
    mu, spread, notes = PredictedMap().estimate(solver)
    assert re.match(f"no map could be predicted, the uniform map was used: .*{reason}", notes[0])
    assert spread is None
    # Broad beam, for there is no scatter window, and with the skull.
    assert mu.per_cm.max() == pytest.approx(0.78 * 1.12 / 0.976 * water_per_cm(KEV), rel=1e-3)
    with pytest.raises(InputError, match=f"no map can be predicted for this study: .*{reason}"):
        PredictedMap(fallback=False).estimate(solver)


def test_limits_can_be_ignored_but_not_the_collimator(solver, true_map, network_gives):
    network_gives(spread_about(np.roll(true_map.per_cm, 9, axis=1), 0.5), coverage=replace(WIDE_OPEN, views=1e9))
    mu, spread, notes = PredictedMap(heed_limits=False).estimate(solver)
    assert spread is not None
    np.testing.assert_allclose(
        mu.per_cm, on_field(np.roll(true_map.per_cm, 9, axis=1), true_map.grid, solver.grid), atol=1e-5
    )
    assert notes[0].startswith("predicted map: uncertainty 50.00 %")
    network_gives(spread_about(np.full_like(true_map.per_cm, 0.15), 0.0))
    _, spread, notes = PredictedMap(heed_limits=False).estimate(solver)
    assert spread is None
    assert "the predicted map reaches" in notes[0]


@pytest.fixture
def counts_say(solver, monkeypatch):
    """Function that puts the given fit in the place of the check, whose map then is 1.1 times the head's."""

    def say(fit):
        def checked(self, head, default):
            more = replace(head, per_cm=np.float32(1.1) * head.per_cm) if fit.added else head
            skull = CheckedSkull(more, fit)
            return HeldHead(more, "none", (skull.note,), skull=skull)

        monkeypatch.setattr(StudySolver, "checked", checked)

    return say


def test_a_map_that_the_counts_corrected_is_used_and_less_sure(head, true_map, network_gives, counts_say):
    network_gives(spread_about(true_map.per_cm, 0.01))
    counts_say(SkullFit(0.0, 0.07))
    as_it_was = solver_of(head).corrected(PredictedMap(fallback=False))
    counts_say(SkullFit(0.01, 0.07, added=0.1))
    result = solver_of(head).corrected(PredictedMap(fallback=False))
    assert (as_it_was.skull.added, result.skull.added) == (0.0, 0.1)
    np.testing.assert_allclose(result.mu.per_cm, 1.1 * as_it_was.mu.per_cm, rtol=1e-5)
    more = CORRECTION_SD * 0.1 * as_it_was.mu.per_cm
    np.testing.assert_allclose(result.mu_spread.per_cm, np.hypot(as_it_was.mu_spread.per_cm, more), atol=1e-5)
    # On the way to the middle a tenth more is lost: in the logarithm of its factor, 1.5, 0.15 more.
    middle = tuple(np.array(result.image.grid.shape) // 2)
    of_correction = np.sqrt(result.spread.values[middle] ** 2 - as_it_was.spread.values[middle] ** 2)
    assert of_correction == pytest.approx(CORRECTION_SD * 0.15, rel=0.1)
    assert any("was put there" in note for note in result.notes)


def test_a_map_that_the_counts_contradict_gives_way(head, true_map, network_gives, counts_say):
    network_gives(spread_about(true_map.per_cm, 0.01))
    counts_say(SkullFit(0.2, 0.07, added=0.3))
    result = solver_of(head).corrected(PredictedMap())
    assert result.fallback == "uniform"
    assert result.skull is None
    assert any("the counts contradict the predicted map: they ask for +20%" in note for note in result.notes)


def test_the_counts_confirm_an_uncertain_map(head, true_map, network_gives, counts_say):
    network_gives(spread_about(true_map.per_cm, 0.14))
    for fit, fallback in ((SkullFit(0.0, 0.07), None), (SkullFit(0.0, 0.1), "uniform")):
        counts_say(fit)
        assert solver_of(head).corrected(PredictedMap()).fallback == fallback
    network_gives(spread_about(true_map.per_cm, 0.16))
    counts_say(SkullFit(0.0, 0.07))
    assert solver_of(head).corrected(PredictedMap()).fallback == "uniform"


def test_what_was_not_checked_is_said(solver, true_map, network_gives):
    network_gives(spread_about(true_map.per_cm, 0.01))
    _, _, notes = PredictedMap(fallback=False).estimate(solver)
    assert notes[1].startswith("the skull was not checked by the counts: the projections are corrected for DECY")


def test_specks_in_the_air_make_no_study_fall_back(solver, true_map, network_gives):
    """A speck of 0.5 mL beyond the collimator's face, and the map without it gives the same."""
    speck = true_map.per_cm.copy()
    speck[30:32, 1:3, 1:3] = 0.1
    found = []
    for per_cm in (true_map.per_cm, speck):
        network_gives(spread_about(per_cm, 0.01))
        mu, spread, _ = PredictedMap(fallback=False).estimate(solver)
        assert spread is not None
        found.append(mu.per_cm)
    np.testing.assert_array_equal(found[0] > 0.05, found[1] > 0.05)
    with pytest.raises(InputError, match="reaches"):
        check_map_radius(solver.study.acquisition, replace(true_map, per_cm=speck))


def test_below_the_preview_the_uniform_map_goes_on_as_well(solver):
    """The head's field is 264 mm long, the preview 256 mm: the neck fills the lowest row too."""
    mu, _ = uniform_map(solver, 0.15, None)
    preview = solver.preview().grid
    assert mu.grid.centres_mm()[0][0] < preview.centres_mm()[0][0] - 2.0
    neck = (mu.per_cm[0] > 0.075).sum() / (mu.per_cm[1] > 0.075).sum()
    assert neck == pytest.approx(1.0, abs=0.25)


def test_the_widest_window_that_training_knew_fills_the_scatter_channel(head, true_map, network_gives):
    """The widest has too low energies, the next too few counts, the third is as training's: it is taken."""
    low, thin = EnergyWindow("low", 60.0, 100.0), EnergyWindow("thin", 100.0, 115.0)
    usual = EnergyWindow("usual", 115.0, 125.0)
    shown = network_gives(spread_about(true_map.per_cm, 0.01))
    _, _, notes = PredictedMap(fallback=False).estimate(solver_of(head, (low, 0.5), (thin, 1e-3), (usual, 0.4)))
    assert shown[0].energy_loss == pytest.approx(1.0 - 240.0 / 281.0)
    assert notes[-1].startswith("window low was not used for the map")
    shown = network_gives(spread_about(true_map.per_cm, 0.01))
    PredictedMap(fallback=False).estimate(solver_of(head, (thin, 1e-3)))
    assert shown[0].scatter is None


def test_direct_correction_multiplies_the_uncorrected_image(solver, true_map, tmp_path, monkeypatch):
    """Factors of 3 where there is activity and below it, blended over a voxel to 1 in air; no map's weights."""
    correction, other = (save(tmp_path / f"{target}.safetensors", target) for target in ("correction", "map"))
    shape = true_map.grid.shape
    monkeypatch.setattr(direct, "passes", lambda *_: np.stack([np.full(shape, 2.0), np.full(shape, 4.0)]))
    result = direct.DirectCorrection(str(correction)).correct(solver)
    uncorrected = solver(None)
    preview = solver.preview().values
    active = (preview > LEAST_SHARE * preview.max()).astype(np.float32)
    inside = on_field(active, true_map.grid, solver.grid) > 1.0 - 1e-6
    assert inside.sum() > 1000
    np.testing.assert_allclose(result.image.values[inside], 3.0 * uncorrected.values[inside], rtol=1e-5)
    beyond = on_field(active, true_map.grid, solver.grid) == 0
    np.testing.assert_allclose(result.image.values[beyond], uncorrected.values[beyond], rtol=1e-5)
    assert result.mu is None
    with pytest.raises(InputError, match="gives a map, not a correction"):
        direct.DirectCorrection(str(other)).correct(solver)
