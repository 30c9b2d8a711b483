"""OSEM, MLEM and MAP: fixed points, conservation, order of subsets, convergence to the true optimum."""

import numpy as np
import pytest
from scipy.optimize import minimize

from spectac.recon import (
    Acquisition,
    Collimator,
    Grid,
    InputError,
    MuMap,
    RelativeDifferencePrior,
    SystemModel,
    default_grid,
)
from spectac.recon.device import no_gpu
from spectac.recon.em import ordered_subsets, osem


def small_system(dtype: str = "float64", views: int = 16, attenuated: bool = True) -> SystemModel:
    acquisition = Acquisition(
        view_angles_deg=np.arange(views) * 360.0 / views,
        radii_mm=np.full(views, 60.0),
        matrix=(3, 9),
        pixel_mm=(5.0, 5.0),
        view_seconds=np.full(views, 2.0),
        nuclide="Tc-99m",
        collimator=Collimator.from_line(2.0, 0.02),
    )
    grid = default_grid(acquisition)
    mu = MuMap(np.full(grid.shape, 0.1), grid, 140.5) if attenuated else None
    return SystemModel(acquisition, grid, mu=mu, dtype=dtype)


def blob(system: SystemModel) -> np.ndarray:
    z, y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in system.image_shape), indexing="ij")
    return 20.0 * np.exp(-(z**2 + y**2 + (x - 1) ** 2) / 8.0)


def log_likelihood(counts: np.ndarray, expected: np.ndarray) -> float:
    return float((counts * np.log(expected) - expected).sum())


def test_noise_free_data_are_a_fixed_point():
    """If f explains the data exactly every ratio is 1, and no update may move f beyond rounding."""
    system = small_system()
    truth = blob(system)
    image = osem(system, system.forward(truth), iterations=2, subsets=4, start=truth)
    np.testing.assert_allclose(image, truth, rtol=1e-10)


def test_scatter_is_part_of_the_expectation():
    system = small_system()
    truth = blob(system)
    scatter = np.full(system.projections_shape, 3.0)
    image = osem(system, system.forward(truth) + scatter, iterations=2, subsets=4, start=truth, scatter=scatter)
    np.testing.assert_allclose(image, truth, rtol=1e-10)


def test_mlem_conserves_counts_and_raises_the_likelihood():
    """After every MLEM step sum(A f) = sum(y), and the log-likelihood never falls (Shepp and Vardi 1982)."""
    system = small_system()
    counts = np.random.default_rng(1).poisson(system.forward(blob(system))).astype(float)
    seen = []
    osem(system, counts, iterations=15, subsets=1, on_update=lambda update: seen.append(update.image.copy()))
    expected = [system.forward(image) for image in seen]
    np.testing.assert_allclose([e.sum() for e in expected], counts.sum(), rtol=1e-9)
    likelihood = [log_likelihood(counts[e > 0], e[e > 0]) for e in expected]
    assert np.diff(likelihood).min() > -1e-9 * abs(likelihood[0])


def test_osem_agrees_with_mlem_on_noise_free_data():
    system = small_system()
    counts = system.forward(blob(system))
    fast = osem(system, counts, iterations=60, subsets=4)
    slow = osem(system, counts, iterations=240, subsets=1)
    # Consistent data have one maximum, which both approach; the difference left is the unfinished iteration.
    np.testing.assert_allclose(system.forward(fast), system.forward(slow), rtol=2e-3, atol=2e-3 * counts.max())


def test_voxels_outside_every_view_stay_zero_and_lost_counts_are_reported():
    system = small_system(attenuated=False)
    # Without blur the counts of row 0 can come from slice 0 alone, so an empty slice 0 loses them all.
    start = np.ones(system.image_shape)
    start[0] = 0
    sharp = SystemModel(system.acquisition, system.grid, resolution=False, dtype="float64")
    counts = sharp.forward(np.ones(system.image_shape))
    lost: list[float] = []
    image = osem(
        sharp, counts, iterations=1, subsets=1, start=start, on_update=lambda update: lost.append(update.lost_counts)
    )
    assert (image[0] == 0).all()
    assert lost == [pytest.approx(counts[:, 0].sum())]


def test_subsets_interleave_and_differ_by_at_most_one():
    angles = np.random.default_rng(2).permutation(np.arange(62) * 360 / 62)
    subsets = ordered_subsets(angles, 8)
    assert sorted(np.concatenate(subsets)) == list(range(62))
    sizes = [part.size for part in subsets]
    assert max(sizes) - min(sizes) == 1
    for part in subsets:
        gaps = np.diff(np.sort(angles[part]))
        np.testing.assert_allclose(gaps, 8 * 360 / 62)


def test_successive_subsets_lie_far_apart_in_angle():
    """With 10 subsets 6 deg apart the period is 60 deg; neighbours in the order are never less than 24 deg apart."""
    angles = np.arange(60) * 6.0
    first = [angles[part].min() for part in ordered_subsets(angles, 10)]
    steps = np.abs(np.diff(first))
    assert np.minimum(steps, 60 - steps).min() >= 24.0


def test_a_voxel_that_a_subset_does_not_see_keeps_its_value():
    """A voxel row beside the detector's edge is seen from the sides only."""
    views = 16
    acquisition = Acquisition(
        np.arange(views) * 22.5, np.full(views, 90.0), (1, 5), (5.0, 5.0), np.ones(views), "Tc-99m", None
    )
    grid = Grid.upright((1, 5, 15), (5.0, 5.0, 5.0), (-35.0, -10.0, 0.0))
    system = SystemModel(acquisition, grid, resolution=False, dtype="float64")
    truth = np.ones(grid.shape)
    states = []
    osem(
        system,
        system.forward(truth),
        iterations=1,
        subsets=4,
        on_update=lambda update: states.append(update.image.copy()),
    )
    parts = [system.subset(part) for part in ordered_subsets(acquisition.view_angles_deg, 4)]
    blind = [part.adjoint(np.ones(part.projections_shape)) == 0 for part in parts]
    tested = 0
    for step in range(1, 4):
        np.testing.assert_array_equal(states[step][blind[step]], states[step - 1][blind[step]])
        tested += int((blind[step] & (states[step] > 0)).sum())
    assert tested > 0


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_prior_gradient_is_the_derivative_of_its_value(gamma):
    rng = np.random.default_rng(3)
    image = rng.uniform(0.5, 2.0, (3, 4, 5))
    prior = RelativeDifferencePrior(1.0, gamma)
    voxel_mm = (6.0, 4.0, 4.0)
    gradient = prior.gradient(image, voxel_mm)
    step = 1e-6
    for index in np.ndindex(image.shape):
        up, down = image.copy(), image.copy()
        up[index] += step
        down[index] -= step
        slope = (prior.value(up, voxel_mm) - prior.value(down, voxel_mm)) / (2 * step)
        assert gradient[index] == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("shape", [(5, 4, 6), (1, 3, 2), (4, 1, 1)])
def test_compiled_prior_gradient_is_that_of_whole_arrays(dtype, tolerance, shape):
    """Zeros, pairs whose sum is subnormal, unequal voxels, and memory in the order of the reconstruction (y, x, z)."""
    rng = np.random.default_rng(4)
    values = rng.uniform(0.5, 2.0, shape) * rng.choice([0.0, 1.0, 1e-3, 0.1 * float(np.finfo(dtype).tiny)], shape)
    image = np.ascontiguousarray(values.transpose(1, 2, 0)).transpose(2, 0, 1).astype(dtype)
    prior, voxel_mm = RelativeDifferencePrior(1.0, 2.0), (6.0, 4.0, 3.0)
    before = image.copy()
    gradient = prior.gradient(image, voxel_mm)
    np.testing.assert_array_equal(image, before)
    assert gradient.dtype == image.dtype
    whole = prior.gradient_by_arrays(image, voxel_mm)
    np.testing.assert_allclose(gradient, whole, rtol=0, atol=tolerance * max(np.abs(whole).max(), 1.0))


def test_prior_gradient_does_not_hide_a_voxel_that_is_no_number():
    image = np.ones((4, 4, 4), np.float32)
    image[1, 1, 1] = np.nan
    prior = RelativeDifferencePrior(1.0)
    whole = prior.gradient_by_arrays(image, (4.0, 4.0, 4.0))
    np.testing.assert_array_equal(np.isnan(prior.gradient(image, (4.0, 4.0, 4.0))), np.isnan(whole))
    assert np.isnan(whole).sum() == 27


def test_prior_counts_each_of_the_13_pair_directions_once():
    """One hot voxel 2 in a field of 1: every pair gives (1)^2/(3 + gamma) times its weight; hand-summed weights."""
    image = np.ones((3, 3, 3))
    image[1, 1, 1] = 2.0
    weights = 6 * 1.0 + 12 / np.sqrt(2) + 8 / np.sqrt(3)
    assert RelativeDifferencePrior(1.0, 2.0).value(image, (4.0, 4.0, 4.0)) == pytest.approx(weights / 5.0)


def test_prior_of_an_almost_empty_float32_image_is_finite():
    image = np.full((3, 3, 3), 1e-30, np.float32)
    image[1, 1, 1] = 1e-38
    image[0] = 0
    assert np.isfinite(RelativeDifferencePrior(1.0).gradient(image, (4.0, 4.0, 4.0))).all()


def test_map_reaches_the_optimum_that_a_general_optimiser_finds():
    """BSREM must climb to the maximum of log-likelihood - beta U found independently by L-BFGS-B."""
    system = small_system()
    counts = np.random.default_rng(4).poisson(system.forward(blob(system))).astype(float)
    background = np.full(system.projections_shape, 1.0)
    prior = RelativeDifferencePrior(2.0)
    voxel_mm = system.grid.voxel_mm
    shape = system.image_shape

    def loss(flat):
        image = flat.reshape(shape)
        expected = system.forward(image) + background
        slope = system.adjoint(1 - counts / expected) + prior.beta * prior.gradient(image, voxel_mm)
        value = -log_likelihood(counts, expected) + prior.beta * prior.value(image, voxel_mm)
        return value, np.ascontiguousarray(slope).ravel()

    best = minimize(
        loss, np.full(np.prod(shape), 1.0), jac=True, method="L-BFGS-B", bounds=[(1e-9, None)] * int(np.prod(shape)),
        options={"maxiter": 3000, "ftol": 1e-15, "gtol": 1e-9, "maxfun": 10000},
    )  # fmt: skip
    image = osem(system, counts, iterations=300, subsets=4, scatter=background, prior=prior)
    start_loss = loss(np.full(np.prod(shape), counts.sum() / system.forward(np.ones(shape)).sum()))[0]
    reached = loss(image.ravel())[0]
    # The steps shrink as 1/n, so a little of the way from the uniform start is left: a thousandth after 300 iterations.
    assert reached - best.fun < 1e-3 * (start_loss - best.fun)
    np.testing.assert_allclose(image, best.x.reshape(shape), atol=0.01 * image.max())


def test_map_without_weight_takes_osem_s_first_step():
    system = small_system()
    counts = system.forward(blob(system))
    # With one subset and no weight BSREM's first step is f + f/sens * (explained - sens), which is MLEM's.
    free = osem(system, counts, iterations=1, subsets=1)
    penalised = osem(system, counts, iterations=1, subsets=1, prior=RelativeDifferencePrior(0.0))
    np.testing.assert_allclose(penalised, np.maximum(free, 0.1 * free), rtol=1e-9, atol=1e-9 * free.max())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subsets": 5}, "use at most 4 subsets"),
        ({"subsets": 0}, "at least one subset"),
        ({"iterations": 0}, "at least one iteration"),
        ({"counts": np.zeros((16, 3, 8))}, r"counts \(v, z, u\) needs shape \(16, 3, 9\)"),
        ({"counts": np.full((16, 3, 9), -1.0)}, "not negative"),
        ({"counts": np.full((16, 3, 9), np.nan)}, "must be finite"),
        ({"scatter": np.zeros((1, 3, 9))}, r"scatter \(v, z, u\) needs shape"),
        ({"start": np.zeros((1, 3, 9))}, r"start \(z, y, x\) needs shape"),
        ({"start": np.full((3, 9, 9), -1.0)}, "start must be finite and not negative"),
    ],
)
def test_bad_settings_are_refused(change, message):
    system = small_system()
    settings = {"counts": np.ones((16, 3, 9)), "iterations": 1, "subsets": 1} | change
    with pytest.raises(InputError, match=message):
        osem(system, settings.pop("counts"), **settings)


@pytest.mark.parametrize("arguments", [(-1.0,), (np.nan,), (1.0, -1.0)])
def test_bad_priors_are_refused(arguments):
    with pytest.raises(InputError, match="must be 0 or more"):
        RelativeDifferencePrior(*arguments)


def head_in_air(device: str = "cpu", *, half: bool = False) -> tuple[SystemModel, np.ndarray, np.ndarray]:
    """System of 48 x 48 x 8 voxels of 4.4 mm and 60 views, an elliptical head in it, and noisy counts."""
    acquisition = Acquisition(
        view_angles_deg=np.arange(60) * 6.0 + 1.0,
        radii_mm=np.full(60, 140.0),
        matrix=(8, 48),
        pixel_mm=(4.4, 4.4),
        view_seconds=np.full(60, 20.0),
        nuclide="Tc-99m",
        collimator=Collimator.from_line(1.5, 0.017),
    )
    grid = default_grid(acquisition)
    _, y, x = grid.centres_mm()
    head = np.broadcast_to((x / 75) ** 2 + (y[:, None] / 92) ** 2 < 1, grid.shape)
    mu = MuMap(np.where(head, 0.15, 0.0), grid, 140.5)
    system = SystemModel(acquisition, grid, mu=mu, device=device, half_factors=half, crop_to_orbit=True)
    expected = system.get(system.forward(system.put(head.astype(np.float32))))
    counts = np.random.default_rng(3).poisson(expected * (1e6 / expected.sum())).astype(np.float32)
    return system, counts, head


def test_factors_in_half_precision_change_the_image_by_less_than_a_thousandth(figure):
    """What a GPU keeps: factors rounded to 11 bits, each off by 2^-11 at most and by chance, up to 0.2 at depth."""
    system, counts, head = head_in_air()
    image = osem(system, counts, iterations=10, subsets=10)
    factors = system.projector.factors
    for view, own in enumerate(factors):
        factors[view] = own.astype(np.float16).astype(np.float32)
    rounded = osem(system, counts, iterations=10, subsets=10)
    change = np.abs(rounded - image)[head] / image[head].mean()
    figure("largest change of a voxel by factors in half precision, % of the head's mean", 100 * change.max(), "0.1")
    assert 0 < change.max() < 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(no_gpu() is not None, reason=f"{no_gpu()}")
@pytest.mark.parametrize(("half", "limit"), [(False, 2e-5), (True, 1e-3)])
def test_a_gpu_makes_the_same_image(half, limit):
    """float32 rounds in another order; noise is amplified by 100 updates alike."""
    system, counts, head = head_in_air()
    other, _, _ = head_in_air("cuda", half=half)
    image = osem(system, counts, iterations=10, subsets=10)
    found = other.get(osem(other, other.put(counts), iterations=10, subsets=10))
    assert np.abs(found - image)[head].max() < limit * image[head].mean()
