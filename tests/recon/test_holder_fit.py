"""The share of a holder from the counts: the true one without noise, the stated spread with noise."""

from dataclasses import replace

import numpy as np
import pytest

from spectac.recon import (
    Acquisition,
    EnergyWindow,
    GivenMap,
    ReconstructionSettings,
    Study,
    SystemModel,
    default_grid,
    reconstruct,
)
from spectac.recon.holder import typical
from spectac.recon.holder_fit import LARGEST_SHARE, MODEL_SD, holder_share, most_likely
from spectac.recon.map_likelihood import unfit
from spectac.recon.types import MuMap, Projections

KEV = 140.511


def acquisition_of(angles_deg, counts_s=20.0):
    return Acquisition(
        angles_deg, np.full(len(angles_deg), 160.0), (40, 64), (4.0, 4.0), np.full(len(angles_deg), counts_s),
        "Tc-99m", None, corrections={"DECY"}, axis_lps_mm=(0.0, 0.0, -78.0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def scene():
    """A head of soft tissue with a skull, hotter in front, and the same in a typical holder."""
    acquisition = acquisition_of(np.arange(40) * 9.0)
    grid = default_grid(acquisition)
    z, y, x = grid.centres_mm()
    away = np.sqrt((z[:, None, None] / 90.0) ** 2 + (y[:, None] / 92.0) ** 2 + (x / 74.0) ** 2)
    per_cm = np.select([away < 0.86, away < 0.94, away < 1.0], [0.15, 0.24, 0.15], 0.0)
    head = MuMap(per_cm, grid, KEV)
    activity = np.where(away < 0.86, 1.0 - y[:, None] / 300.0, 0.05 * (away < 1.0))
    return acquisition, head, typical(KEV).beside(head, acquisition)[0], activity.astype(np.float32)


def counts_of(scene, share, acquisition=None):
    """Expected counts (v, z, u) through head and share of the holder."""
    of_scene, head, held, activity = scene
    mu = replace(head, per_cm=head.per_cm + np.float32(share) * (held.per_cm - head.per_cm))
    system = SystemModel(of_scene if acquisition is None else acquisition, head.grid, mu=mu, resolution=False)
    return system.forward(activity)


def projections_of(scene, counts, acquisition=None, scatter=None):
    return Projections(scene[0] if acquisition is None else acquisition, counts, KEV, scatter=scatter)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0, 1.4])
def test_the_true_share_is_found(scene, share, figure):
    """Five million counts and their scatter; two iterations on pixels of 8 mm are off by 0.04 at most."""
    counts = counts_of(scene, share)
    counts *= 5e6 / counts.sum()
    scatter = np.full_like(counts, 0.3 * counts.mean())
    fit = holder_share(projections_of(scene, counts + scatter, scatter=scatter), scene[1], scene[2])
    figure(f"share of a holder of {share}, from counts without noise", fit.share, "+- 0.05")
    assert fit.share == pytest.approx(share, abs=0.05)


def test_views_of_unequal_times_and_an_odd_matrix(scene):
    of_scene, head, held, _ = scene
    odd = replace(of_scene, view_seconds=np.linspace(10.0, 30.0, of_scene.views), matrix=(40, 63))
    counts = counts_of(scene, 0.6, odd)
    fit = holder_share(projections_of(scene, counts * (5e6 / counts.sum()), odd), head, held)
    assert fit.share == pytest.approx(0.6, abs=0.04)


def test_the_stated_spread_is_that_of_the_noise_and_the_models(scene, figure):
    """Thirty repetitions of half a million counts: their spread has a standard error of 13 %."""
    counts = counts_of(scene, 0.6)
    counts *= 5e5 / counts.sum()
    fits = [
        holder_share(projections_of(scene, np.random.default_rng(seed).poisson(counts)), scene[1], scene[2])
        for seed in range(30)
    ]
    stated = np.sqrt(fits[0].sd ** 2 - MODEL_SD**2)
    ratio = float(np.std([one.share for one in fits], ddof=1) / stated)
    figure("spread of shares over the stated one", ratio, "0.7 to 1.3")
    assert ratio == pytest.approx(1.0, abs=0.3)
    assert np.mean([one.share for one in fits]) == pytest.approx(0.6, abs=0.1)


@pytest.mark.parametrize(
    ("b", "c", "share"),
    [
        (0.0, -1e-9, 1.0),  # the counts tell nothing
        (0.0, 3.0, 1.0),  # no maximum
        (12.0, -10.0, 13.0 / 21.0),
        (-50.0, -10.0, 0.0),
        (90.0, -10.0, LARGEST_SHARE),
    ],
)
def test_the_share_of_three_log_likelihoods(b, c, share):
    """The largest b s + c s^2 - (s - 1)^2 / 2, within the limits."""
    fit = most_likely(7.0, 7.0 + 0.5 * b + 0.25 * c, 7.0 + b + c)
    assert fit.share == pytest.approx(share)
    assert fit.sd**2 == pytest.approx(1.0 / (1.0 + max(0.0, -2.0 * c)) + MODEL_SD**2)


def test_where_views_cannot_tell(scene):
    full = scene[0]
    assert unfit(full) is None
    # Angles of a file are rounded.
    assert unfit(acquisition_of(np.arange(12) * 30.0 + np.linspace(-1e-3, 1e-3, 12))) is None
    assert unfit(acquisition_of(np.arange(-90.0, 91.0, 6.0))) == "views of an arc have no opposites"
    unknown = replace(full, view_seconds=np.full(full.views, np.nan))
    assert unfit(unknown) is None
    assert "decay" in unfit(replace(unknown, corrections=frozenset()))


def test_the_fitted_holder_enters_the_map(scene):
    of_scene, head, held, _ = scene
    counts = counts_of(scene, 0.6)
    study = Study(of_scene, (EnergyWindow("peak", 126.0, 154.0),), counts[None])
    settings = ReconstructionSettings(
        resolution=False, iterations=1, subsets=5, scatter="none", holder="fitted", device="cpu"
    )
    result = reconstruct(study, GivenMap(head), settings)
    share = result.holder_share.share
    assert (result.holder, share) == ("fitted", pytest.approx(0.6, abs=0.06))
    added = result.mu.per_cm - head.per_cm
    np.testing.assert_allclose(added, share * (held.per_cm - head.per_cm), atol=2e-3)
    (note,) = (note for note in result.notes if "of a typical one's density" in note)
    assert f"{share:.2f} +- " in note
    assert "without a correction of scatter" in note
    half = acquisition_of(np.arange(-90.0, 91.0, 6.0))
    short = Study(half, study.windows, counts_of(scene, 0.6, half)[None])
    result = reconstruct(short, GivenMap(head), settings)
    assert (result.holder, result.holder_share) == ("typical", None)
    np.testing.assert_allclose(result.mu.per_cm, held.per_cm, atol=2e-3)
