"""The skull of a map against the counts: what is missing is found and put there, noise and true maps change nothing."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from spectac.recon import (
    Acquisition,
    EnergyWindow,
    InputError,
    MuMap,
    ReconstructionSettings,
    Result,
    Study,
    SystemModel,
    default_grid,
    reconstruct,
)
from spectac.recon.collimator import collimator
from spectac.recon.held_head import HeadHolding
from spectac.recon.pipeline import StudySolver
from spectac.recon.skull_fit import (
    CONTRADICTED_SD,
    FARTHEST,
    MODEL_SD,
    ROUNDS,
    TELLING_SD,
    CheckedSkull,
    checked_skull,
    skull_band,
    skull_fit,
)
from spectac.recon.types import Projections, SkullFit

KEV = 140.511


@pytest.fixture(scope="module")
def scene():
    """A head of soft tissue with a thin skull, hotter in front and on one side, its band, and its activity.

    Edges are smooth, as those of heads are on such voxels: with sharp ones fits on pixels of 12 mm are 8 % too low.
    """
    acquisition = Acquisition(
        np.arange(40) * 9.0, np.full(40, 150.0), (36, 64), (4.0, 4.0), np.full(40, 20.0), "Tc-99m",
        collimator("siemens-lehr"),
    )  # fmt: skip
    grid = default_grid(acquisition)
    z, y, x = grid.centres_mm()
    away = np.sqrt((z[:, None, None] / 66.0) ** 2 + (y[:, None] / 96.0) ** 2 + (x / 76.0) ** 2)
    per_cm = np.select([away < 0.86, away < 0.94, away < 1.0], [0.15, 0.2, 0.15], 0.0)
    head = MuMap(gaussian_filter(per_cm, 1.0), grid, KEV)
    activity = np.where(away < 0.86, 1.0 - y[:, None] / 300.0 + (x > 30.0), 0.1 * (away < 1.0))
    return acquisition, head, skull_band(head), gaussian_filter(activity, 1.0).astype(np.float32)


def with_more(scene, more):
    """The head with more attenuation in its skull, by a share of all of it."""
    _, head, band, _ = scene
    return replace(head, per_cm=np.maximum(head.per_cm + more * head.per_cm.sum() / band.sum() * band, 0.0))


def counts_of(scene, more, millions=5.0):
    """Expected counts (v, z, u) and their scatter with that skull."""
    acquisition, head, _, activity = scene
    system = SystemModel(acquisition, head.grid, mu=with_more(scene, more))
    counts = system.forward(activity)
    counts *= 1e6 * millions / counts.sum()
    scatter = np.full_like(counts, 0.3 * counts.mean())
    return Projections(acquisition, counts + scatter, KEV, scatter=scatter)


def fit(projections, head, band, seed=1):
    return skull_fit(projections, head, head, band, np.random.default_rng(seed))


def test_what_is_missing_is_found(scene, figure):
    """The vertex lies at 0 for the true map, but for pixels of 12 mm and four iterations, and moves along."""
    of_true = fit(counts_of(scene, 0.0), scene[1], scene[2])
    figure("attenuation asked for in a true skull", of_true.more, "+- 0.035")
    assert abs(of_true.more) < 0.035
    assert of_true.sd == pytest.approx(MODEL_SD, rel=0.3)
    for more in (-0.08, 0.06):
        found = fit(counts_of(scene, more), scene[1], scene[2]).more - of_true.more
        figure(f"attenuation found where {more:+.0%} is missing in the skull", found, "+- 0.015")
        assert found == pytest.approx(more, abs=0.015)


def test_a_change_is_limited(scene):
    """+60 % is far beyond the three points."""
    assert fit(counts_of(scene, 0.6), scene[1], scene[2]).more == FARTHEST


def test_noise_moves_no_fit_and_spreads_them_as_stated(scene, figure):
    """Twelve scans of 0.3 million counts, from the fit without noise: their mean's standard error is 0.29 spreads."""
    expected = counts_of(scene, 0.0, 0.3)
    fits = [
        fit(replace(expected, counts=np.random.default_rng(seed).poisson(expected.counts)), scene[1], scene[2], seed)
        for seed in range(12)
    ]
    stated = np.sqrt(fits[0].sd ** 2 - MODEL_SD**2)
    more = np.array([one.more for one in fits]) - fit(expected, scene[1], scene[2]).more
    figure("mean fit of a true map with 0.3 million counts, over its stated spread by noise", more.mean() / stated, "1")
    figure("spread of these fits over the stated one", more.std(ddof=1) / stated, "0.6 to 1.6")
    assert abs(more.mean()) < stated
    assert 0.6 < more.std(ddof=1) / stated < 1.6


def test_the_band_lies_below_the_skin(scene):
    _, head, band, _ = scene
    y, x = head.grid.shape[1] // 2, head.grid.centres_mm()[2]
    row = band[head.grid.shape[0] // 2, y]
    # The half axis is 76 mm: the middle of the band at about 66.
    assert abs(abs(x[row.argmax()]) - 66.0) <= 8.0
    assert row[np.abs(x) < 40.0].max() < 0.01
    assert not band[head.per_cm == 0].any()


def test_a_contradicted_map_is_corrected(scene, figure):
    projections, held = counts_of(scene, 0.35), []

    def hold(head):
        held.append(head)
        return head, projections

    checked = checked_skull(scene[1], hold, np.random.default_rng(1))
    # It ends within what noise and model explain.
    figure("added to a skull that lacks 35 %", checked.fit.added, "+- 0.08")
    assert checked.fit.added == pytest.approx(0.35, abs=0.08)
    assert checked.confirmed
    assert checked.head is held[-1]
    assert 1 < len(held) <= ROUNDS
    np.testing.assert_allclose(checked.head.per_cm, with_more(scene, checked.fit.added).per_cm, atol=2e-3)
    assert f"{checked.fit.added:+.1%} was put there" in checked.note


@pytest.mark.parametrize("more", [-0.25, 0.03])
def test_other_maps_are_kept(scene, more):
    """Those that the counts agree with, and those that have too much."""
    projections = counts_of(scene, more)
    checked = checked_skull(scene[1], lambda head: (head, projections), np.random.default_rng(1))
    assert checked.head is scene[1]
    assert checked.fit.added == 0.0
    assert "was put there" not in checked.note


def test_a_map_that_no_skull_mends_stays_contradicted(scene):
    """The counts ask for more, whatever is added."""
    _, head, _, _ = scene
    rounds, projections = [], counts_of(scene, 0.35)

    def hold(given):
        rounds.append(given)
        return head, projections  # what was added is lost

    checked = checked_skull(head, hold, np.random.default_rng(1))
    assert checked.contradicted
    assert not checked.confirmed
    assert len(rounds) == ROUNDS


def test_a_correction_that_cannot_be_followed_leaves_the_map_contradicted(scene):
    """The holder cannot be placed under the corrected head."""
    projections, heads = counts_of(scene, 0.35), []

    def hold(head):
        heads.append(head)
        if len(heads) > 1:
            raise InputError("no holder")
        return head, projections

    checked = checked_skull(scene[1], hold, np.random.default_rng(1))
    assert checked.head is scene[1]
    assert checked.contradicted


def test_too_much_added_is_a_contradiction(scene):
    assert CheckedSkull(scene[1], SkullFit(-0.2, 0.07, added=0.3)).contradicted
    assert not CheckedSkull(scene[1], SkullFit(-0.2, 0.07)).contradicted


@pytest.mark.parametrize(
    ("more", "sd", "contradicted", "confirmed"),
    [
        (CONTRADICTED_SD * 0.07 + 1e-3, 0.07, True, False),
        (CONTRADICTED_SD * 0.07 - 1e-3, 0.07, False, False),
        (0.07 - 1e-3, 0.07, False, True),
        (-0.07 - 1e-3, 0.07, False, False),
        (-1.0, 0.07, False, False),
        (0.0, TELLING_SD + 1e-3, False, False),
    ],
)
def test_limits(scene, more, sd, contradicted, confirmed):
    checked = CheckedSkull(scene[1], SkullFit(more, sd))
    assert (checked.contradicted, checked.confirmed) == (contradicted, confirmed)


def test_maps_without_a_head_and_counts_without_a_maximum_are_refused(scene, monkeypatch):
    acquisition, head, _, _ = scene
    air = replace(head, per_cm=np.zeros_like(head.per_cm))
    with pytest.raises(InputError, match="nothing as dense as tissue"):
        checked_skull(air, lambda head: (head, counts_of(scene, 0.0)), np.random.default_rng(1))
    monkeypatch.setattr("spectac.recon.map_likelihood.MapLikelihood.of", lambda *_: 1.0)
    with pytest.raises(InputError, match="no map makes them more likely"):
        checked_skull(head, lambda head: (head, counts_of(scene, 0.0)), np.random.default_rng(1))


class OfCounts:
    """Attenuation model with a head that the counts check."""

    name = "of counts"

    def __init__(self, head):
        self.head = head

    def correct(self, solver):
        mu = solver.taken(solver.checked(self.head, "none"))
        return Result(solver(mu), mu=mu)


def study_of(scene, more, change=lambda counts: np.rint(counts)):
    windows = (EnergyWindow("peak", 126.0, 154.0),)
    return Study(scene[0], windows, change(counts_of(scene, more, 2.0).counts)[None].astype(np.float32))


SETTINGS = ReconstructionSettings(iterations=1, subsets=4, scatter="none", device="cpu")


def test_the_result_tells_of_the_check(scene, monkeypatch):
    """Scatter is known here, so that no transport is needed."""
    known = counts_of(scene, 0.0, 2.0).scatter
    monkeypatch.setattr(HeadHolding, "_transported", lambda self, mu: replace(self.photopeak, scatter=known))
    result = reconstruct(study_of(scene, 0.35), OfCounts(scene[1]), SETTINGS)
    assert result.skull.added == pytest.approx(0.35, abs=0.08)
    assert result.holder == "none"
    np.testing.assert_allclose(result.mu.per_cm, with_more(scene, result.skull.added).per_cm, atol=2e-3)
    assert sum("was put there" in note for note in result.notes) == 1
    assert sum(note.startswith("holder: assumed") for note in result.notes) == 1


def test_a_correction_that_fails_leaves_the_head_before_it(scene, monkeypatch):
    """The transport through the corrected head fails: neither its map nor its holder is the result's."""
    known, seen = counts_of(scene, 0.0, 2.0).scatter, []

    def transported(self, mu):
        seen.append(mu)
        if len(seen) > 1:
            raise InputError("no transport")
        return replace(self.photopeak, scatter=known)

    monkeypatch.setattr(HeadHolding, "_transported", transported)
    held = StudySolver(study_of(scene, 0.35), SETTINGS).checked(scene[1], "none")
    assert held.skull.contradicted
    assert held.skull.head is scene[1]
    np.testing.assert_array_equal(held.mu.per_cm, scene[1].per_cm)


@pytest.mark.parametrize(
    ("study", "reason"),
    [
        (lambda scene: study_of(scene, 0.0), "scatter is not corrected"),
        (lambda scene: study_of(scene, 0.0, lambda counts: 0.5 + np.rint(counts)), "counts are needed"),
        (
            lambda scene: replace(
                study_of(scene, 0.0), acquisition=replace(scene[0], view_angles_deg=np.linspace(0.0, 180.0, 40))
            ),
            "an arc",
        ),
    ],
)
def test_where_the_counts_cannot_tell(scene, study, reason):
    with pytest.raises(InputError, match=reason):
        StudySolver(study(scene), SETTINGS).checked(scene[1], "none")


def test_a_holder_is_fitted_with_transported_scatter(scene):
    """With windows of a known collimator by transport; with an unknown one by the windows, and the note says so."""
    acquisition, head, _, _ = scene
    peak = counts_of(scene, 0.0, 2.0)
    side = np.rint(0.2 * peak.counts)
    windows = (EnergyWindow("scatter", 112.0, 126.0), EnergyWindow("peak", 126.0, 154.0))
    study = Study(acquisition, windows, np.stack([side, np.rint(peak.counts)]).astype(np.float32))
    solver = StudySolver(study, replace(SETTINGS, scatter="dew", dew_k=0.5, holder="fitted"))
    solver.beside(head)
    (note,) = (note for note in solver.notes if "of a typical one's density" in note)
    assert "windows" not in note
    unknown = replace(study, acquisition=replace(acquisition, collimator=None))
    solver = StudySolver(unknown, replace(SETTINGS, scatter="dew", dew_k=0.5, holder="fitted", resolution=False))
    solver.beside(head)
    (note,) = (note for note in solver.notes if "of a typical one's density" in note)
    assert "with scatter from the windows" in note
