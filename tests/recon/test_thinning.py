"""Binomial selection of counts: its moments by hand, decay and level, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest

from spectac.recon import Acquisition, EnergyWindow, InputError, ReconstructionSettings, Study, reconstruct
from spectac.recon.system import view_weights_s
from spectac.recon.thinning import parted

PEAK, LOWER = EnergyWindow("peak", 126.0, 154.0), EnergyWindow("lower", 120.0, 126.0)
SHARE = 0.2


def scan(counts, windows=(PEAK, LOWER), **changes):
    views = counts.shape[1]
    acquisition = Acquisition(
        np.arange(views) * 360.0 / views, np.full(views, 150.0), counts.shape[2:], (4.0, 4.0), np.full(views, 300.0),
        "Tc-99m", None,
    )  # fmt: skip
    return Study(replace(acquisition, **changes), windows, counts)


def test_part_and_rest_are_independent_poisson_scans(figure):
    """Of Poisson counts of mean m: means 0.2 m and 0.8 m, variances as large, covariance 0. Nested: 0.2 m with all."""
    mean, samples = 50.0, 200_000
    rng = np.random.default_rng(3)
    study = scan(rng.poisson(mean, (2, 1, 100, 1000)).astype(np.float32))
    part, rest = parted(study, SHARE, rng)
    np.testing.assert_array_equal(part.counts + rest.counts, study.counts)
    for name, counts, share in (("part", part.counts, SHARE), ("rest", rest.counts, 1.0 - SHARE)):
        counts = counts.astype(np.float64)
        # The mean's standard error is sqrt(share m / n), the variance's about share m sqrt(2 / n).
        assert counts.mean() == pytest.approx(share * mean, abs=5 * (share * mean / samples) ** 0.5)
        assert counts.var() == pytest.approx(share * mean, rel=5 * (2.2 / samples) ** 0.5)
        figure(f"thinning: variance over mean, {name}", counts.var() / counts.mean(), "1 +- 0.017")
    covariance = np.cov(part.counts.ravel().astype(np.float64), rest.counts.ravel().astype(np.float64))[0, 1]
    error = mean * (SHARE * (1.0 - SHARE) / samples) ** 0.5
    figure("thinning: covariance of part and rest over its standard error", covariance / error, "5")
    assert abs(covariance) < 5 * error
    nested = np.cov(part.counts.ravel().astype(np.float64), study.counts.ravel().astype(np.float64))[0, 1]
    assert nested == pytest.approx(SHARE * mean, rel=0.03)


def test_decay_of_a_part_is_that_of_the_scan():
    """24 views of 5 minutes of Tc-99m lose a fifth; the weights of the shorter views are their share."""
    study = scan(np.ones((2, 24, 2, 16), np.float32))
    for part, share in zip(parted(study, SHARE, np.random.default_rng(1)), (SHARE, 1.0 - SHARE), strict=True):
        weights, whole = view_weights_s(part.acquisition), view_weights_s(study.acquisition)
        assert whole[-1] < 0.85 * whole[0]
        np.testing.assert_allclose(weights, share * whole, rtol=5e-6)


def test_images_keep_their_level(figure):
    rng = np.random.default_rng(2)
    study = scan(rng.poisson(400.0, (2, 24, 8, 32)).astype(np.float32))
    settings = ReconstructionSettings(resolution=False, iterations=2, subsets=4, scatter="none", photopeak="peak")
    levels = [
        float(reconstruct(one, settings=settings).image.values.sum(dtype=np.float64))
        for one in (study, *parted(study, SHARE, rng))
    ]
    figure("thinning: level of a fifth over the whole, %", 100 * (levels[1] / levels[0] - 1), "0.5")
    assert levels[1] == pytest.approx(levels[0], rel=5e-3)
    assert levels[2] == pytest.approx(levels[0], rel=5e-3)


def test_the_choice_follows_from_its_seed_alone():
    study = scan(np.full((2, 4, 4, 8), 9.0, np.float32))
    first, again, other = (parted(study, 0.5, np.random.default_rng(seed))[0].counts for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 0.0}, "between 0 and 1, got 0"),
        ({"share": 1.0}, "between 0 and 1, got 1"),
        ({"counts": 1.5}, "one is 1.5"),
        ({"scaled": 7}, "multiples of 7"),
        ({"corrections": frozenset({"DECY", "UNIF"})}, "corrected for DECY"),
        ({"windows": (PEAK, EnergyWindow("wide", 92.0, 130.0))}, "wide and peak overlap"),
    ],
)
def test_what_is_no_count_is_refused(change, message):
    counts = change.get("scaled", 1) * np.random.default_rng(1).poisson(5.0, (2, 4, 4, 8)).astype(np.float32)
    counts[0, 0, 0, 0] = change.get("counts", counts[0, 0, 0, 0])
    study = scan(counts, change.get("windows", (PEAK, LOWER)), corrections=change.get("corrections", frozenset()))
    with pytest.raises(InputError, match=message):
        parted(study, change.get("share", SHARE), np.random.default_rng(1))


def test_what_is_doubtful_is_said():
    study = scan(np.ones((2, 4, 4, 8), np.float32), corrections=frozenset({"UNIF"}), view_seconds=np.full(4, np.nan))
    part, _ = parted(study, SHARE, np.random.default_rng(1))
    assert any("uniformity" in warning for warning in part.warnings)
    assert any("view times are unknown" in warning for warning in part.warnings)
    assert part.history[-1] == "thinned: 0.2 of the counts, chosen by chance"
