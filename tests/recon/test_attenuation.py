"""Attenuation models: Chang's closed form, uniform and given maps, plug-ins."""

from dataclasses import replace

import numpy as np
import pytest

from spectac.recon import (
    Acquisition,
    Chang,
    Collimator,
    EnergyWindow,
    GivenMap,
    Grid,
    InputError,
    MuMap,
    NoAttenuation,
    Outline,
    ReconstructionSettings,
    Study,
    SystemModel,
    UniformMap,
    attenuation_model,
    default_grid,
    reconstruct,
)
from spectac.recon.attenuation import chang_factors, default_mu_per_cm


def acquisition(views=60, size=32, pixel_mm=8.0, rows=4, **changes):
    return replace(
        Acquisition(
            np.arange(views) * 360.0 / views,
            np.full(views, 150.0),
            (rows, size),
            (pixel_mm, pixel_mm),
            np.full(views, 10.0),
            "Tc-99m",
            Collimator.from_line(1.5, 0.016),
        ),
        **changes,
    )


def disc(grid, radius_mm, centre_mm=(0.0, 0.0), samples=4):
    _, y, x = grid.centres_mm()
    offsets = ((np.arange(samples) + 0.5) / samples - 0.5) * grid.voxel_mm[2]
    inside = np.zeros(grid.shape[1:])
    for a in offsets:
        for b in offsets:
            inside += np.hypot(x[None, :] + a - centre_mm[0], y[:, None] + b - centre_mm[1]) < radius_mm
    return np.broadcast_to(inside / samples**2, grid.shape).astype(np.float32)


def chang_closed_form(radius_cm, mu, r_cm, views=720):
    """1 / mean over directions of exp(-mu l), l the chord from a point at distance r out of a disc."""
    angle = np.arange(views) * 2 * np.pi / views
    path = -r_cm * np.cos(angle) + np.sqrt(radius_cm**2 - (r_cm * np.sin(angle)) ** 2)
    return 1.0 / np.exp(-mu * path).mean()


@pytest.fixture
def cylinder():
    """Noise-free projections of a uniform 20 cm cylinder at 4.4 mm from 2.2 mm pixels, with its outline and mask."""
    fine = acquisition(size=96, pixel_mm=2.75, rows=16)
    fine_grid = default_grid(fine)
    body = disc(fine_grid, 100.0)
    counts = SystemModel(fine, fine_grid, mu=MuMap(0.15 * body, fine_grid, 140.5)).forward(body)
    coarse = acquisition(size=48, pixel_mm=5.5, rows=8)
    summed = counts.reshape(60, 8, 2, 48, 2).sum(axis=(2, 4))
    grid = default_grid(coarse)
    study = Study(coarse, (EnergyWindow("peak", 126, 154),), summed[None])
    mask = disc(grid, 100.0)
    return study, Outline(mask, grid), mask


def rois(image):
    _, y, x = image.grid.centres_mm()
    r = np.hypot(x[None, :], y[:, None])
    middle = image.values[2:-2]
    return middle[:, r < 30].mean(), middle[:, (r > 60) & (r < 85)].mean()


def test_chang_factors_of_a_disc_are_the_closed_form():
    given = acquisition(size=64, pixel_mm=4.0, rows=1)
    grid = default_grid(given)
    factors = chang_factors(given, MuMap(0.15 * disc(grid, 100.0, samples=8), grid, 140.5))
    for column, r_cm in ((32, 0.2 * np.sqrt(2)), (44, np.hypot(5.0, 0.2)), (51, np.hypot(7.8, 0.2))):
        # Half a per cent: the rim's partial voxels and 60 instead of all directions.
        assert factors[0, 32, column] == pytest.approx(chang_closed_form(10.0, 0.15, r_cm), rel=0.005)


def test_a_map_through_the_collimator_face_is_refused():
    given = acquisition(radii_mm=np.full(60, 40.0))
    grid = default_grid(given)
    with pytest.raises(InputError, match="collimator face of view"):
        chang_factors(given, MuMap(0.15 * disc(grid, 100.0), grid, 140.5))


def test_chang_factors_weigh_views_by_time():
    """Views from the back counted 9 times as long: the factor at the back is that of a thin layer."""
    seconds = np.array([90.0, 10.0, 10.0, 10.0])
    given = acquisition(
        views=4, size=32, rows=1, view_seconds=seconds, view_start_s=np.zeros(4), corrections=frozenset({"DECY"})
    )
    grid = default_grid(given)
    factors = chang_factors(given, MuMap(np.full(grid.shape, 0.1), grid, 140.5))
    # Voxel (y 28, x 16) at 8 mm: half a voxel plus the voxels beyond, towards back, left, front and right.
    paths_cm = 0.8 * np.array([3.5, 15.5, 28.5, 16.5])
    expected = 120.0 / (seconds * np.exp(-0.1 * paths_cm)).sum()
    assert factors[0, 28, 16] == pytest.approx(expected, rel=1e-5)


def test_models_on_a_uniform_cylinder(cylinder, figure):
    """The true map gives 1 in centre and annulus; none loses three quarters in the centre and is hollow.

    Chang's order 0 removes most of the hollow, but even with the true outline and mu it is not exact for an extended
    source: the centre is raised over the rim.
    """
    study, outline, mask = cylinder
    settings = {"iterations": 20, "subsets": 10, "scatter": "none"}
    given = rois(
        reconstruct(study, GivenMap(MuMap(0.15 * mask, outline.grid, 140.5)), ReconstructionSettings(**settings)).image
    )
    uniform = rois(reconstruct(study, UniformMap(0.15, outline), ReconstructionSettings(**settings)).image)
    chang = rois(reconstruct(study, Chang(0.15, outline), ReconstructionSettings(**settings)).image)
    none = rois(reconstruct(study, NoAttenuation(), ReconstructionSettings(**settings)).image)
    for name, (centre, annulus) in {"map": given, "uniform": uniform, "chang": chang, "none": none}.items():
        figure(f"cylinder, {name}: centre", centre, "1 % for map and uniform")
        figure(f"cylinder, {name}: annulus", annulus, "1 % for map and uniform")
    np.testing.assert_allclose(given, 1.0, atol=0.01)
    np.testing.assert_allclose(uniform, given, rtol=1e-4)
    assert none[0] < 0.3
    assert none[0] / none[1] < 0.75
    assert 1.02 < chang[0] / chang[1] < 1.15


def test_chang_order_one_comes_closer_than_order_zero(cylinder):
    """The residual's backprojection must bring the reprojection nearer to the data: that is what it is for."""
    study, outline, _ = cylinder
    true_map = MuMap(0.15 * outline.mask, outline.grid, 140.5)
    system = SystemModel(study.acquisition, outline.grid, mu=true_map, resolution=False)
    misfit = []
    for order in (0, 1):
        result = reconstruct(
            study, Chang(0.15, outline, order=order), ReconstructionSettings(algorithm="fbp", scatter="none")
        )
        difference = system.forward(np.asarray(result.image.values)) - study.counts[0]
        misfit.append(float(np.square(difference[:, 2:-2]).sum()))
    assert misfit[1] < 0.5 * misfit[0]


def test_chang_order_one_of_unattenuated_data_without_mu_changes_nothing_much(cylinder):
    """mu near 0: C = 1, and the residual of FBP's own projections is that of its window, small in the smooth inside."""
    study, outline, _ = cylinder
    none = reconstruct(study, NoAttenuation(), ReconstructionSettings(algorithm="fbp", scatter="none"))
    zero = reconstruct(study, Chang(1e-6, outline, order=1), ReconstructionSettings(algorithm="fbp", scatter="none"))
    np.testing.assert_allclose(rois(zero.image), rois(none.image), rtol=0.01)
    assert not np.array_equal(zero.image.values, none.image.values)


def test_the_outline_is_found_when_none_is_given(cylinder):
    study, outline, _ = cylinder
    found = reconstruct(study, UniformMap(0.15), ReconstructionSettings(iterations=10, subsets=10, scatter="none"))
    assert found.mu is not None
    middle = found.mu.per_cm[2:-2] / 0.15
    # Area to radius: within 4 mm of 100 mm.
    radius_mm = np.sqrt(middle.sum(axis=(1, 2)) * 5.5**2 / np.pi)
    np.testing.assert_allclose(radius_mm, 100.0, atol=4.0)


def test_given_map_on_another_grid_is_resampled(cylinder):
    """2 x 2 samples in each of 4 fine voxels are the 4 x 4 samples of the coarse one: the mean must be the same map."""
    study, outline, mask = cylinder
    fine = default_grid(acquisition(size=96, pixel_mm=2.75, rows=16))
    here = reconstruct(
        study, GivenMap(MuMap(0.15 * mask, outline.grid, 140.5)), ReconstructionSettings(iterations=2, scatter="none")
    ).image.values
    there = reconstruct(
        study,
        GivenMap(MuMap(0.15 * disc(fine, 100.0, samples=2), fine, 140.5)),
        ReconstructionSettings(iterations=2, scatter="none"),
    ).image.values
    np.testing.assert_allclose(there, here, atol=1e-4 * here.max())


def test_defaults_per_nuclide():
    assert default_mu_per_cm(140.511, True) == pytest.approx(0.150, abs=0.0005)
    assert default_mu_per_cm(140.511, False) == pytest.approx(0.120, abs=0.0005)
    assert default_mu_per_cm(158.97, True) == pytest.approx(0.144, abs=0.0005)
    assert default_mu_per_cm(158.97, False) == pytest.approx(0.115, abs=0.0005)


def test_map_at_another_energy_is_refused(cylinder):
    study, outline, mask = cylinder
    with pytest.raises(InputError, match=r"mu-map is at 159 keV but the photopeak of Tc-99m is 140.511 keV"):
        reconstruct(study, GivenMap(MuMap(0.15 * mask, outline.grid, 159.0)))


@pytest.mark.parametrize(("per_cm", "told"), [(0.15, True), (0.12, False)])
def test_narrow_beam_maps_alone_are_told_to_over_correct(cylinder, per_cm, told):
    """Without scatter correction 0.78 of water is what a map should hold."""
    study, outline, mask = cylinder
    result = reconstruct(
        study, GivenMap(MuMap(per_cm * mask, outline.grid, 140.5)), ReconstructionSettings(iterations=1, scatter="none")
    )
    assert any("over-corrects" in note for note in result.notes) is told


def test_a_map_beside_the_patient_is_refused(cylinder):
    """300 mm to the left there is nothing to attenuate: the image would silently be the uncorrected one."""
    study, outline, mask = cylinder
    affine = outline.grid.affine_lps.copy()
    affine[0, 3] += 300.0
    moved = Grid(outline.grid.shape, outline.grid.voxel_mm, affine)
    with pytest.raises(InputError, match="the mu-map covers 0% of the activity"):
        reconstruct(study, GivenMap(MuMap(0.15 * mask, moved, 140.5)))


def test_a_map_of_half_the_field_is_noted(cylinder):
    study, outline, mask = cylinder
    half = mask.copy()
    half[:4] = 0
    result = reconstruct(
        study, GivenMap(MuMap(0.15 * half, outline.grid, 140.5)), ReconstructionSettings(iterations=1, scatter="none")
    )
    assert any("covers only 5" in note for note in result.notes)


@pytest.mark.parametrize(("factor", "unit"), [(0.1, "1/mm"), (100.0, "1/m")])
def test_a_map_in_another_unit_is_refused(cylinder, factor, unit):
    study, outline, mask = cylinder
    with pytest.raises(InputError, match=f"must be in 1/cm .*{unit}"):
        reconstruct(study, GivenMap(MuMap(0.15 * factor * mask, outline.grid, 140.5)))


def test_the_result_holds_the_map_that_was_used(cylinder):
    study, outline, mask = cylinder
    fine = default_grid(acquisition(size=96, pixel_mm=2.75, rows=16))
    result = reconstruct(
        study,
        GivenMap(MuMap(0.15 * disc(fine, 100.0, samples=2), fine, 140.5)),
        ReconstructionSettings(iterations=1, scatter="none"),
    )
    assert result.mu.grid.same_as(result.image.grid)
    np.testing.assert_allclose(result.mu.per_cm, 0.15 * mask, atol=1e-6)


def test_chang_leaves_what_lies_outside_the_outline(cylinder):
    study, outline, _ = cylinder
    result = reconstruct(study, Chang(0.15, outline), ReconstructionSettings(iterations=2, scatter="none"))
    outside = outline.mask == 0
    np.testing.assert_array_equal(result.image.values[outside], result.uncorrected.values[outside])


def test_the_default_coefficient_is_that_of_the_photopeak_in_use():
    """In-111 by its 245 keV window: 0.78 of water there (0.1277 /cm), not at 171 keV."""
    given = acquisition(size=32, pixel_mm=8.0, rows=8, nuclide="In-111")
    grid = default_grid(given)
    body = disc(grid, 80.0)
    counts = SystemModel(given, grid, mu=MuMap(0.1 * body, grid, 171.28)).forward(body)
    windows = (EnergyWindow("low", 154, 188), EnergyWindow("high", 221, 269))
    result = reconstruct(
        Study(given, windows, np.stack([counts, counts])), UniformMap(), ReconstructionSettings(photopeak="high")
    )
    assert result.mu.energy_kev == pytest.approx(245.35)
    assert result.mu.per_cm.max() == pytest.approx(0.78 * 0.1277, rel=0.005)


def test_narrow_beam_map_without_scatter_correction_warns(cylinder):
    study, outline, mask = cylinder
    result = reconstruct(
        study, GivenMap(MuMap(0.15 * mask, outline.grid, 140.5)), ReconstructionSettings(iterations=1, scatter="none")
    )
    assert any("over-corrects" in note for note in result.notes)


def test_models_come_from_entry_points_with_checked_options():
    built = attenuation_model("chang", {"mu": "0.12", "order": "1"})
    assert (built.name, built.mu_per_cm, built.order) == ("chang", 0.12, 1)
    assert attenuation_model("none", {}).name == "none"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("magic", {}, "'magic' is not installed: use one of chang, ct, map, none, predicted, uniform"),
        ("none", {"mu": "1"}, "none does not know the option mu; its options: none"),
        ("chang", {"colour": "1"}, "does not know the option colour; its options: mu, order"),
        ("chang", {"mu": "thick"}, "option mu needs a number, not 'thick'"),
        ("chang", {"order": "2"}, "order 0 or 1"),
        ("map", {}, "give --mu-map FILE"),
    ],
)
def test_bad_options_are_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        attenuation_model(name, options)


@pytest.mark.parametrize("value", [0.0, -0.1, 1.5, np.nan])
def test_impossible_uniform_coefficient_is_refused(cylinder, value):
    study, outline, _ = cylinder
    with pytest.raises(InputError, match="between 0 and 1 per cm"):
        reconstruct(study, UniformMap(value, outline))
