"""Photon histories: births, free paths, angles and weights against the laws that they are drawn from."""

import numpy as np
import pytest
import xraylib
from scipy import stats

from spectac.recon.errors import InputError
from spectac.recon.photons.cross_sections import ENERGY_STEP_KEV, cross_sections
from spectac.recon.photons.transport import (
    ABSORBED,
    EMITTED,
    ESCAPED,
    STOPPED,
    Block,
    Body,
    Limits,
    Source,
    rayleigh_cosine,
    trace,
    turned,
)
from spectac.recon.tissues import INDEX, MATERIALS
from spectac.recon.types import Grid

WATER, BONE = "Water, Liquid", "Bone, Cortical (ICRP)"
KEV = 140.511
LEAST_P = 1e-4
"""A test with a fixed seed that passes a hundred hypotheses at 1e-4 each is wrong by chance once in a hundred tries."""


def run(materials, density, activity, voxel_mm, histories, *, kev=KEV, lowest_kev=30.0, orders=8, seed=1, span=None):
    n = np.array(materials.shape)
    grid = Grid.upright(materials.shape, (voxel_mm,) * 3, tuple(-0.5 * (n[::-1] - 1) * voxel_mm))
    tables = cross_sections(kev)
    first, last = (0, histories) if span is None else span
    return trace(
        np.random.default_rng(seed), Block(first, last, histories), Source.of(activity),
        Body(grid, materials, density).medium(tables), tables, Limits(kev, lowest_kev, orders),
    )  # fmt: skip


def endless(region, histories, **other):
    """Events of photons born in the middle of 10 m of one material at 1 g/cm3: all interact until they are stopped."""
    shape = (5, 5, 5)
    activity = np.zeros(shape)
    activity[2, 2, 2] = 1.0
    return run(np.full(shape, INDEX[region], np.uint8), np.ones(shape), activity, 2000.0, histories, **other)


def direction(events):
    return np.stack([events["dx"], events["dy"], events["dz"]], axis=1).astype(np.float64)


def place(events):
    return np.stack([events["x"], events["y"], events["z"]], axis=1).astype(np.float64)


def first_scatters(region, histories, **other):
    """(cosine, energy before, energy after) of each history's first scatter."""
    events, _ = endless(region, histories, orders=2, **other)
    second = np.flatnonzero(events["order"] == 2)
    before, after = events[second - 1], events[second]
    return (direction(before) * direction(after)).sum(axis=1), before["kev"], after["kev"]


def test_births_follow_the_activity():
    """Births in each voxel: its share of the histories to within 1, because they are spread evenly, not drawn."""
    activity = np.random.default_rng(3).uniform(0.0, 5.0, (4, 5, 6)) * (np.arange(6) != 2)
    n = 10_000
    events, _ = run(np.zeros((4, 5, 6), np.uint8), np.full((4, 5, 6), 1e-6), activity, 10.0, n)
    born = events[events["order"] == 0]
    assert born.size == n
    z, y, x = (
        np.floor((born[axis] / 10.0) + 0.5 * size).astype(int) for axis, size in zip("zyx", (4, 5, 6), strict=True)
    )
    found = np.zeros(activity.shape)
    np.add.at(found, (z, y, x), 1)
    assert np.abs(found - n * activity / activity.sum()).max() < 2.0
    assert found[:, :, 2].sum() == 0


def test_births_fill_their_voxel_and_all_directions():
    """Uniform in the voxel, isotropic, independent of each other: Kolmogorov-Smirnov tests."""
    activity = np.zeros((3, 3, 3))
    activity[0, 2, 1] = 1.0
    events, _ = run(np.zeros((3, 3, 3), np.uint8), np.full((3, 3, 3), 1e-6), activity, 8.0, 20_000)
    for axis, low in zip("xyz", (-4.0, 4.0, -12.0), strict=True):
        assert stats.kstest(events[axis], "uniform", args=(low, 8.0)).pvalue > LEAST_P
    way = direction(events)
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), 1.0, atol=1e-6)
    for component in way.T:
        assert stats.kstest(component, "uniform", args=(-1.0, 2.0)).pvalue > LEAST_P
    assert np.abs(np.corrcoef(np.column_stack([way, place(events)]).T) - np.eye(6)).max() < 4.5 / np.sqrt(20_000)


@pytest.mark.parametrize(("region", "compound"), [("csf", WATER), ("cortical bone", BONE)])
def test_free_paths_are_exponential(region, compound):
    """Distance from birth to the first interaction: exp(-mu s), mu from xraylib."""
    events, _ = endless(region, 20_000, orders=1)
    paths = np.linalg.norm(place(events[1::2]) - place(events[::2]), axis=1)
    assert (events["order"][1::2] == 1).all()
    free_mm = 10.0 / xraylib.CS_Total_CP(compound, KEV)
    assert stats.kstest(paths, "expon", args=(0.0, free_mm)).pvalue > LEAST_P


def test_delta_tracking_passes_layers_as_their_attenuation_says(figure):
    """Photons that come through water, bone, air and water in a slab, against exp(-sum of mu) along their own way.

    The most attenuating voxel sets the pace everywhere; a wrong density or material at a boundary shows here.
    """
    labels, density = np.zeros((40, 40, 40), np.uint8), np.zeros((40, 40, 40))
    layers = [(18, 24, "csf", 1.0), (24, 27, "cortical bone", 1.92), (27, 31, "air", 0.0012), (31, 40, "csf", 1.0)]
    for low, high, region, rho in layers:
        labels[..., low:high], density[..., low:high] = INDEX[region], rho
    labels[..., :18], density[..., :18] = INDEX["muscle"], 1.05
    activity = np.zeros(labels.shape)
    activity[20, 20, 18] = 1.0
    n = 200_000
    events, _ = run(labels, density, activity, 4.0, n, orders=1)
    born = events[events["order"] == 0]
    start = np.flatnonzero(events["order"] == 0)
    interacts = np.append(events["order"], 0)[start + 1] == 1
    way, begin = direction(born), place(born)
    forward = way[:, 0] > 0.9
    mu = [rho * xraylib.CS_Total_CP(compound, KEV) for rho, compound in ((1.0, WATER), (1.92, BONE))]
    length = lambda low, high: np.clip(high - np.maximum(low, begin[:, 0]), 0.0, None) / np.maximum(way[:, 0], 0.1) / 10  # noqa: E731
    depth = mu[0] * (length(-8.0, 16.0) + length(44.0, 80.0)) + mu[1] * length(16.0, 28.0)
    expected = np.exp(-depth[forward])
    passed = (~interacts[forward]).sum()
    spread = np.sqrt((expected * (1 - expected)).sum())
    figure("photons through four layers, deviation in standard errors", (passed - expected.sum()) / spread, "4")
    # Air of 0.0012 g/cm3 stops 2e-4 of them, which is left out.
    assert abs(passed - expected.sum()) < 4 * spread + 3e-4 * passed


@pytest.mark.parametrize(("region", "compound"), [("csf", WATER), ("cortical bone", BONE)])
@pytest.mark.parametrize("kev", [72.4, KEV, 158.97])
def test_first_scatter_angles_follow_the_differential_cross_sections(region, compound, kev, figure):
    """Sampled angles of Compton and Rayleigh scatter in bins of equal expected number, from xraylib's DCS: chi^2."""
    cosine, before, after = first_scatters(region, 60_000, kev=kev)
    fine = np.concatenate([np.linspace(0.0, 0.3, 1201), np.linspace(0.3, np.pi, 800)[1:]])
    for name, own, function in (
        ("Compton", after < before, xraylib.DCS_Compt_CP),
        ("Rayleigh", after == before, xraylib.DCS_Rayl_CP),
    ):
        density = np.array([function(compound, kev, float(max(t, 0.003))) for t in fine]) * np.sin(fine)
        share = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(fine))])
        share /= share[-1]
        at = np.interp(np.arccos(np.clip(cosine[own], -1.0, 1.0)), fine, share)
        found = np.histogram(at, np.linspace(0.0, 1.0, 21))[0]
        expected = own.sum() / 20
        chi2 = float(((found - expected) ** 2 / expected).sum())
        p = float(stats.chi2.sf(chi2, 19))
        figure(f"{region}, {kev:g} keV, {name}: chi^2 of 19", chi2, "p > 1e-4")
        assert p > LEAST_P
    chance = xraylib.CS_Rayl_CP(compound, kev) / (
        xraylib.CS_Rayl_CP(compound, kev) + xraylib.CS_Compt_CP(compound, kev)
    )
    rayleigh = int((after == before).sum())
    assert stats.binomtest(rayleigh, before.size, chance).pvalue > LEAST_P


def test_rare_wide_angles_of_rayleigh_scatter(figure):
    """Mean of 1 - cos, which the few wide angles make up, and the share beyond 60 deg, where F^2 has fallen to 1e-3.

    40,000 draws at 72.5 keV: 4 standard errors of each, and 1 % for the table of quantiles.
    """
    kev = 72.5
    quantiles = cross_sections(KEV).rayleigh_x2[INDEX["csf"], round(kev / ENERGY_STEP_KEV)]
    rng = np.random.default_rng(1)
    away = 1.0 - np.array([rayleigh_cosine(rng, kev, quantiles) for _ in range(40_000)])
    angle = np.concatenate([np.linspace(0.0, 0.3, 401)[1:], np.linspace(0.3, np.pi, 800)[1:]])
    density = np.array([xraylib.DCS_Rayl_CP(WATER, kev, float(t)) for t in angle]) * np.sin(angle)
    whole = np.trapezoid(density, angle)
    mean = np.trapezoid(density * (1 - np.cos(angle)), angle) / whole
    wide = np.trapezoid(density * (angle > np.pi / 3), angle) / whole * away.size
    figure("Rayleigh at 72.5 keV: mean of 1 - cos, found / theory", away.mean() / mean, "1 % and 4 standard errors")
    figure("Rayleigh at 72.5 keV: found beyond 60 deg / theory", (away > 0.5).sum() / wide, "4 standard errors")
    assert abs(away.mean() - mean) < 0.01 * mean + 4.0 * away.std() / np.sqrt(away.size)
    assert abs((away > 0.5).sum() - wide) < 4.0 * np.sqrt(wide) + 1.0


def test_compton_energy_belongs_to_its_angle():
    """E' = E / (1 + E/511 (1 - cos)), to the rounding of events to float32 directions."""
    cosine, before, after = first_scatters("csf", 20_000)
    compton = after < before
    expected = before[compton] / (1.0 + before[compton] / 510.999 * (1.0 - cosine[compton]))
    np.testing.assert_allclose(after[compton], expected, rtol=1e-6)


def test_scatter_has_no_side(figure):
    """Azimuth about the photon's way, measured from the superior direction, is uniform: Kolmogorov-Smirnov.

    There the rotation of the frame would show: the angle alone is blind to it.
    """
    events, _ = endless("csf", 30_000, orders=2)
    second = np.flatnonzero(events["order"] == 2)
    before, after = direction(events[second - 1]), direction(events[second])
    up = np.array([0.0, 0.0, 1.0]) - before[:, 2:] * before
    aside = np.cross(before, up)
    turn = np.arctan2((after * aside).sum(axis=1), (after * up).sum(axis=1))
    p = float(stats.kstest(turn, "uniform", args=(-np.pi, 2 * np.pi)).pvalue)
    figure("azimuth of scatter, Kolmogorov-Smirnov p", p, "1e-4")
    assert p > LEAST_P


@pytest.mark.parametrize("cosine", [-1.0, -0.6, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("way", [(0.0, 0.0, 1.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0), (0.48, -0.6, 0.64)])
def test_turned_directions_keep_the_angle(way, cosine):
    """Also straight up and down, where the frame of the turn is undefined and another formula holds."""
    for turn in np.linspace(0.0, 6.0, 7):
        new = np.array(turned(*way, cosine, turn))
        assert new @ new == pytest.approx(1.0, abs=1e-12)
        assert new @ np.array(way) == pytest.approx(cosine, abs=1e-12)


def test_weights_are_products_of_the_scattered_shares():
    """In one material the n-th interaction carries the product of (Compton + Rayleigh) / total of those before."""
    events, _ = endless("cortical bone", 500, orders=6)
    share = {}
    for event in events:
        if event["order"] == 0:
            expected = 1.0
        assert event["weight"] == pytest.approx(expected, rel=2e-4)
        if event["order"] > 0:
            kev = float(event["kev"])
            if kev not in share:
                scattered = xraylib.CS_Rayl_CP(BONE, kev) + xraylib.CS_Compt_CP(BONE, kev)
                share[kev] = scattered / xraylib.CS_Total_CP(BONE, kev)
            expected *= share[kev]


def test_energy_is_conserved(figure):
    """Born = left behind + carried out + dropped, in a head of several materials with air and a pillow."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, len(MATERIALS), (20, 20, 20)).astype(np.uint8)
    n = 20_000
    _, balance = run(labels, rng.uniform(0.0, 2.0, labels.shape), rng.random(labels.shape), 8.0, n, lowest_kev=80.0)
    assert balance[EMITTED] == pytest.approx(n * KEV, rel=1e-12)
    lost = balance[EMITTED] - balance[ABSORBED] - balance[ESCAPED] - balance[STOPPED]
    figure("energy that is unaccounted for, share", lost / balance[EMITTED], "1e-9")
    assert abs(lost) < 1e-9 * balance[EMITTED]
    assert balance[1:].min() > 0


def test_primary_energy_carried_out_of_a_slab():
    """Everything that leaves a nearly empty grid still has its energy: escaped = born."""
    _, balance = run(np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3, 3)), np.ones((3, 3, 3)), 10.0, 1000)
    assert balance[ESCAPED] == balance[EMITTED]


def test_histories_belong_to_their_numbers():
    """The same stream traces the same histories; births of a later block continue where the earlier one ended."""
    one, _ = endless("csf", 1000)
    again, _ = endless("csf", 1000)
    assert np.array_equal(one, again)
    activity = np.arange(1.0, 28.0).reshape(3, 3, 3)
    empty = (np.zeros((3, 3, 3), np.uint8), np.full((3, 3, 3), 1e-6))
    head, _ = run(*empty, activity, 10.0, 1000, span=(0, 400))
    tail, _ = run(*empty, activity, 10.0, 1000, span=(400, 1000), seed=2)
    number = lambda e: np.ravel_multi_index([np.floor(e[a] / 10 + 1.5).astype(int) for a in "zyx"], (3, 3, 3))  # noqa: E731
    assert number(head).max() <= number(tail).min()
    assert head.size == 400
    assert tail.size == 600


@pytest.mark.parametrize("kev", [72.4, 140.511, 158.97, 208.366, 364.489])
def test_photons_at_the_tables_top_energy(kev):
    """Every nuclide's own energy is the last of its tables; 10,000 scatters give possible energies and weights."""
    events, balance = endless("cortical bone", 10_000, kev=kev, lowest_kev=20.0)
    later = events[events["order"] > 0]
    lowest = kev / (1.0 + 2.0 * kev / 511.0)
    second = later[later["order"] == 2]["kev"]
    assert second.min() >= lowest * (1 - 1e-5)
    assert later["kev"].max() <= np.float32(kev)
    assert ((later["weight"] > 0) & (later["weight"] <= 1)).all()
    assert balance[1:].sum() == pytest.approx(balance[0], rel=1e-9)


def test_a_body_that_does_not_fit_is_refused():
    grid = Grid.upright((4, 5, 6), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    fitting = np.zeros(grid.shape, np.uint8)
    for grid_, materials, density, message in (
        (Grid.upright((4, 5, 6), (4.0, 2.0, 2.0), (0.0, 0.0, 0.0)), fitting, fitting, "cubic voxels"),
        (grid, fitting[1:], fitting, "materials .* must have the grid's shape"),
        (grid, fitting, fitting[1:], "density .* must have the grid's shape"),
        (grid, fitting + len(MATERIALS), fitting, "must be indices below"),
    ):
        with pytest.raises(InputError, match=message):
            Body(grid_, materials, density)
