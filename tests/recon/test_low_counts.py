"""Short scans: levels and sensitivities in closed form, a prior that follows counts, and models in the front door."""

from dataclasses import replace

import numpy as np
import pytest

from spectac.recon import (
    Collimator,
    EnergyWindow,
    GivenMap,
    Grid,
    Image,
    InputError,
    MuMap,
    NoAttenuation,
    ReconstructionSettings,
    Study,
    SystemModel,
    default_grid,
    filters,
    low_counts,
    pipeline,
    reconstruct,
)
from spectac.recon.low_counts import (
    LowCountsEstimate,
    OutsideOfTraining,
    Repeat,
    ShortScan,
    head_mask,
    level,
    noise_spread,
    smoothing_prior,
)
from spectac.recon.types import LowCounts, Projections

SECONDS = 10.0


@pytest.fixture(scope="module")
def ball(make_acquisition):
    """Expected counts of a ball of 60 mm, 1 cps/mL with a hot core, in 0.1 /cm; its acquisition and map."""
    acquisition = make_acquisition(
        np.arange(20) * 18.0,
        (24, 24),
        8.0,
        radii_mm=np.full(20, 120.0),
        collimator=Collimator.from_line(1.5, 0.02),
        view_seconds=np.full(20, SECONDS),
    )
    grid = default_grid(acquisition)
    z, y, x = np.meshgrid(*(axis - axis.mean() for axis in grid.centres_mm()), indexing="ij")
    radius = np.sqrt(z**2 + y**2 + x**2)
    activity = ((radius < 60) + 3.0 * (radius < 15)).astype(np.float32)
    mu = MuMap(np.where(radius < 65, np.float32(0.1), np.float32(0)), grid, 140.511)
    return acquisition, mu, SystemModel(acquisition, grid, mu=mu).forward(activity), activity


def study_of(acquisition, counts) -> Study:
    return Study(acquisition, (EnergyWindow("peak", 126.0, 155.0),), np.asarray(counts, np.float32)[None])


def test_the_level_is_the_brains_whatever_the_striata_hold(ball):
    acquisition, mu, _, activity = ball
    image = Image(activity, mu.grid, "cps/mL")
    hotter = replace(image, values=activity + 10.0 * (activity > 2))
    assert level(image) == pytest.approx(1.0, rel=0.05)
    assert level(hotter) == pytest.approx(level(image), rel=0.05)
    assert head_mask(image).sum() == pytest.approx((activity > 0).sum(), rel=0.25)
    with pytest.raises(InputError, match="shows no head"):
        level(replace(image, values=np.zeros_like(activity)))


def test_effective_seconds_are_those_of_all_views_less_what_is_absorbed(ball):
    """At the centre of a ball of radius r the photons cross r of mu in every view: T exp(-mu r)."""
    acquisition, mu, counts, _ = ball
    projections = Projections(acquisition, counts, 140.511)
    bare = ShortScan(projections, None, mu.grid)
    assert bare.effective_s() == pytest.approx(acquisition.views * SECONDS, rel=0.02)
    absorbed = ShortScan(projections, mu, mu.grid)
    centre = tuple(n // 2 for n in mu.grid.shape)
    ratio = absorbed.sensitivity[centre] / bare.sensitivity[centre]
    assert ratio == pytest.approx(np.exp(-0.1 * 6.5), rel=0.02)
    assert np.exp(-0.1 * 6.5) < absorbed.effective_s() / bare.effective_s() < 1


def test_the_smoothed_image_depends_neither_on_time_nor_on_level(ball):
    """Ten times the time at a third of the activity: the same image without noise, a third as high."""
    acquisition, mu, counts, _ = ball
    longer = replace(acquisition, view_seconds=10.0 * np.asarray(acquisition.view_seconds))
    settings = ReconstructionSettings(low_counts="map", subsets=5, scatter="none", device="cpu")
    one = reconstruct(study_of(acquisition, counts), GivenMap(mu), settings)
    other = reconstruct(study_of(longer, counts * (10.0 / 3.0)), GivenMap(mu), settings)
    assert one.low_counts.method == other.low_counts.method == "map"
    assert other.low_counts.prior_beta == pytest.approx(10.0 * one.low_counts.prior_beta, rel=1e-3)
    inside = one.image.values > 0.1
    np.testing.assert_allclose(3.0 * other.image.values[inside], one.image.values[inside], rtol=2e-3)


def test_the_prior_keeps_its_width_in_millimetres():
    """Per volume, likelihood and prior are curved as c / f and beta h^2 / (h^3 f): beta h^2 / (c h^3) stays."""
    curvatures = []
    for length in (2.0, 4.0):
        grid = Grid.upright((2, 4, 4), (length,) * 3, (0.0, 0.0, 0.0))
        curvatures.append(smoothing_prior(100.0, grid).beta * length**2 / (100.0 * length**3))
    assert curvatures[0] == pytest.approx(curvatures[1])


def test_map_lessens_the_noise_and_keeps_the_mean(ball):
    acquisition, mu, counts, activity = ball
    noisy, inside = np.random.default_rng(5).poisson(counts), activity == 1
    settings = ReconstructionSettings(subsets=5, scatter="none", device="cpu")
    noise, mean = {}, {}
    for way in ("none", "map"):
        rough, exact = (
            reconstruct(study_of(acquisition, data), GivenMap(mu), replace(settings, low_counts=way)).image.values
            for data in (noisy, counts)
        )
        noise[way], mean[way] = (rough - exact)[inside].std(), rough[inside].mean()
    assert noise["map"] < 0.85 * noise["none"]
    assert mean["map"] == pytest.approx(mean["none"], rel=0.03)


class Fixed:
    """A model whose image is 2 everywhere."""

    def estimate(self, scan):
        image = Image(np.full(scan.grid.shape, np.float32(2)), scan.grid, scan.acquisition.image_unit)
        repeats = tuple(Repeat(scan, replace(image, values=share * image.values)) for share in (0.75, 1.25))
        return LowCountsEstimate(image, repeats, ("fixed",))


class Refusing:
    def estimate(self, scan):
        raise OutsideOfTraining("too short a scan")


@pytest.fixture
def model(monkeypatch):
    def use(one):
        monkeypatch.setattr(pipeline, "low_counts_model", lambda name, weights: one)

    return use


def test_a_models_image_enters_the_reconstruction(ball, model, monkeypatch):
    """With a large weight the image is the model's; the spread and what was used are fields of the result."""
    acquisition, mu, counts, activity = ball
    model(Fixed())
    for module in (pipeline, low_counts):
        monkeypatch.setattr(module, "ANCHOR_WEIGHT", 1e3)
    settings = ReconstructionSettings(low_counts="network", subsets=5, scatter="none", device="cpu")
    result = reconstruct(study_of(acquisition, counts), GivenMap(mu), settings)
    assert result.low_counts == LowCounts("network", anchor_weight=1e3, protocol=low_counts.LOW_COUNTS_PROTOCOL)
    assert "fixed" in result.notes
    assert "low counts: network" in result.image.history[0]
    np.testing.assert_allclose(result.image.values[activity > 0], 2.0, rtol=0.01)
    spread = noise_spread(result.repeats).values[activity > 0]  # of 1.5 and 2.5
    np.testing.assert_allclose(spread, np.sqrt(0.5), rtol=0.02)


def test_data_move_the_image_away_from_the_models(ball, model):
    acquisition, mu, counts, activity = ball
    model(Fixed())
    settings = ReconstructionSettings(low_counts="network", subsets=5, scatter="none", device="cpu")
    values = reconstruct(study_of(acquisition, counts), GivenMap(mu), settings).image.values
    assert 1.0 < filters.gaussian(values, mu.grid.voxel_mm, 16.0)[activity == 1].mean() < 1.9


def test_a_refusal_falls_back_to_map_with_its_reason(ball, model):
    acquisition, mu, counts, _ = ball
    study, settings = study_of(acquisition, counts), ReconstructionSettings(subsets=5, scatter="none", device="cpu")
    model(Refusing())
    result = reconstruct(study, GivenMap(mu), replace(settings, low_counts="network"))
    assert "low counts: map instead of network: too short a scan" in result.notes
    assert (result.low_counts.method, result.repeats) == ("map", ())
    wanted = reconstruct(study, GivenMap(mu), replace(settings, low_counts="map"))
    np.testing.assert_array_equal(result.image.values, wanted.image.values)


def test_without_a_map_no_model_is_asked(ball, model):
    acquisition, _, counts, _ = ball
    model(Fixed())
    settings = ReconstructionSettings(low_counts="network", subsets=5, scatter="none", device="cpu")
    result = reconstruct(study_of(acquisition, counts), NoAttenuation(), settings)
    assert result.low_counts.method == "map"
    assert any("it needs an attenuation map" in note for note in result.notes)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"low_counts": "network", "algorithm": "fbp"}, "--low-counts network needs algorithm osem or mlem, not fbp"),
        (
            {"low_counts": "map", "algorithm": "map", "prior_beta": 1.0},
            "--low-counts map needs algorithm osem or mlem, not map",
        ),
        (
            {"low_counts": "map", "low_counts_weights": "w.safetensors"},
            "--low-counts-weights belongs to --low-counts network, not to map",
        ),
        ({"low_counts": "map", "post_filter": "gaussian:8"}, "takes the place of a post-filter"),
        ({"low_counts": "network", "resolution": False}, "leave --no-resolution out"),
        ({"low_counts": "magic"}, "low-counts model 'magic' is not installed: use one of network"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        ReconstructionSettings(**settings)
