"""The share of a holder from the counts: the true one without noise, its stated spread with noise."""

from dataclasses import replace

import numpy as np
import pytest

from spectac.recon import Acquisition, SystemModel, default_grid
from spectac.recon.holder import typical
from spectac.recon.holder_fit import SHARE_SD, holder_share
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
    counts = counts_of(scene, share) * 0.02
    scatter = np.full_like(counts, 0.3 * counts.mean())
    found = holder_share(projections_of(scene, counts + scatter, scatter=scatter), scene[1], scene[2])
    figure(f"share of a holder of {share}, from counts without noise", found.share, "+- 0.1")
    assert found.share == pytest.approx(share, abs=0.1)


def test_the_stated_spread_is_that_of_the_noise(scene, figure):
    """Thirty repetitions of half a million counts: their spread has a standard error of 13 %."""
    counts = counts_of(scene, 0.6)
    counts *= 5e5 / counts.sum()
    found = [
        holder_share(projections_of(scene, np.random.default_rng(seed).poisson(counts)), scene[1], scene[2])
        for seed in range(30)
    ]
    spread = float(np.std([one.share for one in found], ddof=1))
    figure("spread of shares over the stated one", spread / found[0].sd, "0.7 to 1.3")
    assert spread / found[0].sd == pytest.approx(1.0, abs=0.3)
    assert np.mean([one.share for one in found]) == pytest.approx(0.6, abs=0.1)


def test_views_that_tell_nothing_leave_the_typical_holder(scene):
    """Half a turn without opposite views, and hardly any counts."""
    half = acquisition_of(np.arange(-90.0, 91.0, 6.0))
    found = holder_share(projections_of(scene, counts_of(scene, 0.0, half), half), scene[1], scene[2])
    assert (found.share, found.sd) == (1.0, SHARE_SD)
    counts = counts_of(scene, 0.0)
    few = np.random.default_rng(1).poisson(counts * (500.0 / counts.sum()))
    found = holder_share(projections_of(scene, few), scene[1], scene[2])
    assert found.sd > 0.8 * SHARE_SD
    assert 0.3 < found.share < 1.7
