"""The front door: quantitative images whatever the sampling, and refusals."""

from dataclasses import replace

import numpy as np
import pytest

from spectac.recon import (
    Acquisition,
    Collimator,
    EnergyWindow,
    GivenMap,
    Grid,
    InputError,
    MuMap,
    ReconstructionSettings,
    Result,
    Study,
    SystemModel,
    default_grid,
    reconstruct,
)
from spectac.recon.filters import parse_post_filter
from spectac.recon.pipeline import StudySolver

FINEST_MM = 2.2


def cylinder_study(pixel_mm: float, seconds: float, *, views: int = 60) -> tuple[Study, MuMap]:
    """A 20 cm cylinder of activity 1 in 0.15 /cm with PSF, projected at 2.2 mm and summed; its map at `pixel_mm`."""
    factor = round(pixel_mm / FINEST_MM)
    rows, columns = 16, 128

    def acquisition(pixel: float, by: int) -> Acquisition:
        return Acquisition(
            np.arange(views) * 360.0 / views,
            np.full(views, 150.0),
            (rows // by, columns // by),
            (pixel, pixel),
            np.full(views, seconds),
            "Tc-99m",
            Collimator.from_line(1.466, 0.0163),
            corrections=frozenset({"DECY"}),
        )

    fine = acquisition(FINEST_MM, 1)
    grid = default_grid(fine)
    body = cylinder(grid)
    counts = SystemModel(fine, grid, mu=MuMap(0.15 * body, grid, 140.5)).forward(body)
    summed = counts.reshape(views, rows // factor, factor, columns // factor, factor).sum(axis=(2, 4))
    coarse = acquisition(FINEST_MM * factor, factor)
    coarse_grid = default_grid(coarse)
    study = Study(coarse, (EnergyWindow("peak", 126, 154),), summed[None])
    return study, MuMap(0.15 * cylinder(coarse_grid), coarse_grid, 140.5)


def cylinder(grid: Grid, samples: int = 4) -> np.ndarray:
    _, y, x = grid.centres_mm()
    offsets = ((np.arange(samples) + 0.5) / samples - 0.5) * grid.voxel_mm[2]
    inside = np.zeros(grid.shape[1:])
    for a in offsets:
        for b in offsets:
            inside += np.hypot(x[None, :] + a, y[:, None] + b) < 100.0
    return np.broadcast_to(inside / samples**2, grid.shape).astype(np.float32)


def roi_means(result: Result) -> np.ndarray:
    """Centre (r < 3 cm) and annulus (6-8.5 cm) of the middle slices."""
    image = result.image
    _, y, x = image.grid.centres_mm()
    r = np.hypot(x[None, :], y[:, None])
    slices = image.values[image.grid.shape[0] // 2 - 1 : image.grid.shape[0] // 2 + 1]
    return np.array([slices[:, r < 30].mean(), slices[:, (r > 60) & (r < 85)].mean()])


@pytest.mark.slow
def test_true_map_gives_the_true_activity_whatever_time_and_voxel(figure):
    """cps/mL of a uniform cylinder is 1; twice the view time or half the voxel moves ROI means by less than 0.5 %."""
    settings = ReconstructionSettings(iterations=20, subsets=10, scatter="none")
    study, mu = cylinder_study(4.4, 10.0)
    reference = roi_means(reconstruct(study, GivenMap(mu), settings))
    figure("cylinder 4.4 mm, true map: centre", reference[0], "1 +- 0.01")
    figure("cylinder 4.4 mm, true map: annulus", reference[1], "1 +- 0.01")
    np.testing.assert_allclose(reference, 1.0, atol=0.01)

    longer, _ = cylinder_study(4.4, 20.0)
    np.testing.assert_allclose(longer.counts.sum(), 2 * study.counts.sum(), rtol=1e-5)
    twice = roi_means(reconstruct(longer, GivenMap(mu), settings))
    figure("view time doubled: largest change of an ROI mean", np.abs(twice / reference - 1).max(), "0.005")
    np.testing.assert_allclose(twice, reference, rtol=0.005)

    finer, fine_mu = cylinder_study(2.2, 10.0)
    half = roi_means(reconstruct(finer, GivenMap(fine_mu), settings))
    figure("voxels halved: largest change of an ROI mean", np.abs(half / reference - 1).max(), "0.005")
    np.testing.assert_allclose(half, reference, rtol=0.005)


def small_study(**changes) -> Study:
    rng = np.random.default_rng(5)
    acquisition = replace(
        Acquisition(
            np.arange(24) * 15.0,
            np.full(24, 120.0),
            (6, 24),
            (8.0, 8.0),
            np.full(24, 10.0),
            "Tc-99m",
            Collimator.from_line(1.5, 0.016),
        ),
        **changes,
    )
    grid = default_grid(acquisition)
    _, y, x = grid.centres_mm()
    disc = np.broadcast_to((np.hypot(x[None, :], y[:, None]) < 70).astype(np.float32), grid.shape)
    counts = rng.poisson(SystemModel(acquisition, grid).forward(disc))
    return Study(acquisition, (EnergyWindow("peak", 126, 154),), counts[None])


def test_post_filter_is_applied_once_to_the_result():
    study = small_study()
    plain = reconstruct(study, settings=ReconstructionSettings(iterations=2, subsets=4))
    filtered = reconstruct(study, settings=ReconstructionSettings(iterations=2, subsets=4, post_filter="gaussian:16"))
    np.testing.assert_array_equal(filtered.image.values, parse_post_filter("gaussian:16")(plain.image).values)
    assert filtered.image.values.std() < plain.image.values.std()


def test_history_tells_how_the_image_was_made():
    history = " | ".join(
        reconstruct(small_study(), settings=ReconstructionSettings(iterations=2, subsets=4)).image.history
    )
    assert "osem 2 x 4, with resolution recovery, scatter: none" in history
    assert history.endswith("attenuation: none")


def test_mlem_is_osem_with_one_subset():
    study = small_study()
    mlem = reconstruct(study, settings=ReconstructionSettings(algorithm="mlem", iterations=3)).image.values
    np.testing.assert_array_equal(
        mlem, reconstruct(study, settings=ReconstructionSettings(iterations=3, subsets=1)).image.values
    )


def test_map_is_smoother_than_osem():
    study = small_study()
    osem = reconstruct(study, settings=ReconstructionSettings(iterations=8, subsets=4)).image.values
    smooth = reconstruct(
        study, settings=ReconstructionSettings(algorithm="map", iterations=8, subsets=4, prior_beta=3.0)
    ).image.values
    centre = np.s_[2:4, 8:16, 8:16]
    assert smooth[centre].std() < 0.5 * osem[centre].std()
    assert smooth[centre].mean() == pytest.approx(osem[centre].mean(), rel=0.03)


def test_fbp_and_osem_agree_on_the_mean():
    study = small_study(collimator=Collimator.from_line(0.5, 0.0))
    osem = reconstruct(study, settings=ReconstructionSettings(iterations=8, subsets=4)).image.values
    fbp = reconstruct(study, settings=ReconstructionSettings(algorithm="fbp")).image.values
    # Poisson noise of the ROI: 128 voxels of some 30 counts each seen by all views, far below 2 %.
    assert fbp[2:4, 8:16, 8:16].mean() == pytest.approx(osem[2:4, 8:16, 8:16].mean(), rel=0.02)


def test_the_preview_does_not_depend_on_the_user_s_settings():
    study = small_study()
    one = StudySolver(study, ReconstructionSettings()).preview()
    other = StudySolver(
        study,
        ReconstructionSettings(algorithm="map", iterations=3, subsets=2, resolution=False, prior_beta=9.0),
    ).preview()
    np.testing.assert_array_equal(one.values, other.values)
    assert one.grid.shape == (64, 64, 64)
    assert one.grid.voxel_mm == (4.0, 4.0, 4.0)


def test_uncovered_angles_and_unknown_times_are_noted():
    study = small_study(view_angles_deg=np.arange(24) * 7.5, view_seconds=np.full(24, np.nan))
    notes = " ".join(reconstruct(study, settings=ReconstructionSettings(iterations=1, subsets=2)).notes)
    assert "leave 188 deg uncovered" in notes
    assert "relative units" in notes


def test_unknown_times_give_relative_units():
    assert (
        reconstruct(
            small_study(view_seconds=np.full(24, np.nan)), settings=ReconstructionSettings(iterations=1, subsets=4)
        ).image.unit
        == "relative"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "magic"}, "--algorithm must be one of osem, mlem, map, fbp, not 'magic'"),
        ({"algorithm": "map"}, "needs a prior"),
        ({"prior_beta": 1.0}, "no other algorithm takes one"),
        ({"fbp_filter": "ramp"}, "belongs to algorithm fbp"),
        ({"subsets": 7}, "use at most 6 subsets"),
        ({"device": "toaster"}, "--device must be one of auto, cpu, cuda, not 'toaster'"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        reconstruct(small_study(), settings=ReconstructionSettings(**settings))


def test_a_grid_of_other_slices_is_refused():
    grid = Grid.upright((5, 24, 24), (8.0, 8.0, 8.0), (0.0, 0.0, 0.0))
    with pytest.raises(InputError, match=r"5 slices .* 6 rows"):
        reconstruct(small_study(), settings=ReconstructionSettings(subsets=4), grid=grid)


def test_fbp_refuses_a_map():
    study = small_study()
    grid = default_grid(study.acquisition)
    with pytest.raises(InputError, match="cannot use a mu-map"):
        reconstruct(
            study, GivenMap(MuMap(np.full(grid.shape, 0.1), grid, 140.5)), ReconstructionSettings(algorithm="fbp")
        )


@pytest.mark.parametrize("term", ["ATTN", "SCAT"])
def test_corrected_projections_are_refused(term):
    with pytest.raises(InputError, match=f"already corrected for {term}"):
        reconstruct(small_study(corrections=frozenset({term})))


def test_an_orbit_inside_the_object_is_refused():
    """The disc has a radius of 70 mm; a collimator face at 40 mm would cut it."""
    study = small_study()
    with pytest.raises(InputError, match=r"collimator face of view 0 lies 40 mm .* check the radius"):
        reconstruct(replace(study, acquisition=replace(study.acquisition, radii_mm=np.full(24, 40.0))))


def test_an_orbit_inside_the_map_is_refused():
    study = small_study()
    grid = default_grid(study.acquisition)
    with pytest.raises(InputError, match="the mu-map reaches"):
        reconstruct(study, GivenMap(MuMap(np.full(grid.shape, 0.1), grid, 140.5)))


def test_empty_projections_are_refused():
    study = small_study()
    with pytest.raises(InputError, match="hold no counts"):
        reconstruct(replace(study, counts=np.zeros_like(study.counts)))


def test_an_unknown_collimator_is_refused_with_the_ways_out():
    study = small_study()
    unknown = replace(study, acquisition=replace(study.acquisition, collimator=None))
    with pytest.raises(InputError, match=r"--collimator, give --psf .* --no-resolution"):
        reconstruct(unknown)
    assert (
        reconstruct(
            unknown, settings=ReconstructionSettings(resolution=False, iterations=1, subsets=4)
        ).image.values.max()
        > 0
    )
