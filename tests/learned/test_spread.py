"""Spread of passes and what it states: factors by hand, coverage of what is stated, and what reaches the user."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the learned map needs torch: pip install 'spectac[learned]'")

from spectac.learned.loss import mean_factors  # noqa: E402
from spectac.learned.spread import (  # noqa: E402
    SpreadErrors,
    SpreadScale,
    factor_spread,
    measured_scale,
    spread_errors,
)
from spectac.recon import InputError  # noqa: E402


def test_the_mean_factor_of_a_slab_is_its_closed_form():
    """A slab of 5 voxels along x, endless along y (9 voxels here): (e^-2.5a + e^-2.5a + 2 e^-4.5a)/4 in its middle."""
    a = 0.06
    slab = torch.zeros(1, 9, 9)
    slab[:, :, 2:7] = a
    along_x, along_y = np.exp(-2.5 * a), np.exp(-4.5 * a)
    assert float(mean_factors(slab)[0, 4, 4]) == pytest.approx(0.5 * (along_x + along_y), rel=1e-6)


def test_maps_that_differ_by_a_share_have_factors_that_differ_by_that_share_of_their_path():
    """Of 1 -+ e over a path of n voxels the factors are exp(-n a (1 -+ e)): relative spread n a e to first order."""
    a, share = 0.05, 0.01
    volumes = np.stack([np.full((2, 9, 9), 1.0 - share), np.full((2, 9, 9), 1.0 + share)])
    middle = factor_spread(volumes, a)[0, 4, 4]
    assert middle == pytest.approx(4.5 * a * share, rel=1e-3)


def drawn(rng, number):
    """Errors that are 3 times as wide as their spread says, heavy-tailed; regions half as wide."""
    spread = rng.gamma(2.0, 0.02, number)
    return np.stack([spread, np.abs(3.0 * spread * rng.standard_t(4, number))], axis=1)


def test_what_is_stated_holds_on_other_patients(figure):
    rng = np.random.default_rng(4)
    scale = measured_scale([SpreadErrors(drawn(rng, 4000), drawn(rng, 20)) for _ in range(60)])
    voxels, regions = drawn(rng, 100_000), drawn(rng, 20_000)
    stated = scale.of_voxels(voxels[:, 0])
    for level, width in ((0.68, stated), (0.95, scale.voxels_95 * stated)):
        within = float((voxels[:, 1] < width).mean())
        figure(f"spread: share of voxels within what is stated for {level}", within, "0.01")
        assert within == pytest.approx(level, abs=0.01)
    assert (regions[:, 1] < scale.of_factors(regions[:, 0])).mean() == pytest.approx(0.68, abs=0.03)
    assert (regions[:, 1] < scale.regions_95 * regions[:, 0]).mean() == pytest.approx(0.95, abs=0.02)
    # One width for all, which covers as many, is wider on average than those that follow the spread are at 95 %.
    assert float((scale.voxels_95 * stated).mean()) < np.quantile(voxels[:, 1], 0.95)


def test_a_scale_survives_json_and_never_falls():
    rng = np.random.default_rng(5)
    scale = measured_scale([SpreadErrors(drawn(rng, 4000), drawn(rng, 20))])
    assert SpreadScale.from_json(json.loads(json.dumps(scale.to_json()))) == scale
    assert (np.diff(scale.voxels) >= 0).all()
    with pytest.raises(InputError, match="make more of them"):
        measured_scale([])


def test_errors_of_a_patient_are_those_of_the_mean_map():
    """Passes of 0.95 and 1.15, a map that is 5 % too high: spread 0.1, error 0.05, and the region's activity's."""
    truth = np.zeros((8, 16, 16), np.float32)
    truth[:, 4:12, 4:12] = 1.0
    volumes = np.stack([0.95 * truth, 1.15 * truth])
    inside = truth > 0
    found = spread_errors(volumes, truth, 0.06, {"all": inside}, 7)
    np.testing.assert_allclose(found.voxels[:, 0], 0.1, atol=1e-6)
    np.testing.assert_allclose(found.voxels[:, 1], 0.05, atol=1e-6)
    true, high = (mean_factors(torch.from_numpy(part * np.float32(0.06))).numpy() for part in (truth, 1.05 * truth))
    assert found.regions[0, 1] == pytest.approx(float((true / high)[inside].mean() - 1.0), rel=1e-4)
