"""SystemModel behind parallelproj's interface: its own checks, and its functions driving our projector to our image.

parallelproj is on conda-forge only, so most of this skips where pip alone made the environment.
"""

import sys

import numpy as np
import pytest

from spectac.recon import geometry, parallelproj_operator
from spectac.recon.collimator import Collimator
from spectac.recon.em import ordered_subsets, osem
from spectac.recon.errors import InputError
from spectac.recon.parallelproj_operator import as_linear_operator
from spectac.recon.system import SystemModel
from spectac.recon.types import MuMap

KEV = 140.511
# float32 rounds at 6e-8; sums of some hundred positive terms, and a few tens of updates, stay within a hundred of that.
FLOAT32, FLOAT64 = 1e-5, 1e-12


@pytest.fixture
def parallelproj():
    return pytest.importorskip("parallelproj", minversion="2.0", reason="parallelproj comes from conda-forge only")


@pytest.fixture
def make_system(make_acquisition):
    """Function (dtype) -> system of eight oblique views of unequal time: attenuation, blur, a non-circular orbit."""

    def make(dtype):
        acquisition = make_acquisition(
            17.0 + 45.0 * np.arange(8),
            (3, 7),
            4.4,
            radii_mm=np.linspace(24.0, 45.0, 8),
            view_seconds=np.linspace(10.0, 80.0, 8),
            collimator=Collimator.from_line(2.5, 0.06),
        )
        grid = geometry.default_grid(acquisition)
        mu = np.random.default_rng(3).uniform(0.05, 0.3, grid.shape)
        return SystemModel(acquisition, grid, mu=MuMap(mu, grid, KEV), dtype=dtype)

    return make


@pytest.fixture
def seeded(monkeypatch):
    """parallelproj draws its test vectors with numpy's global generator."""
    generator = np.random.default_rng(5)
    monkeypatch.setattr(np.random, "rand", lambda *shape: generator.random(shape))


def explicit_matrix(operator):
    """Dense matrix of an operator, column by column, in float64."""
    basis = np.eye(int(np.prod(operator.in_shape))).reshape(-1, *operator.in_shape)
    return np.stack([operator(one).ravel() for one in basis], axis=1)


def measurement(system, dtype):
    """Noisy counts, expected scatter and a start image, none of them flat."""
    generator = np.random.default_rng(8)
    truth = generator.uniform(0.2, 2.0, system.image_shape)
    scatter = generator.uniform(0.5, 2.0, system.projections_shape)
    counts = generator.poisson(system.astype("float64").forward(truth) + scatter)
    start = generator.uniform(0.5, 1.5, system.image_shape)
    return counts.astype(dtype), scatter.astype(dtype), start.astype(dtype)


# --- parallelproj's own checks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("system_dtype", ["float32", "float64"])
@pytest.mark.parametrize(("dtype", "limit"), [("float32", FLOAT32), ("float64", FLOAT64)])
def test_adjointness_in_the_precision_that_is_asked_for(parallelproj, seeded, make_system, system_dtype, dtype, limit):
    """Casting to the system's float32 would end the float64 case at 1e-8."""
    operator = as_linear_operator(make_system(system_dtype))
    for one in (operator, as_linear_operator(operator.system.subset([6, 1]))):
        assert one.adjointness_test(dtype=getattr(operator.xp, dtype), rtol=limit, atol=0.0)
    assert operator.adjointness_test(rtol=FLOAT64, atol=0.0)


@pytest.mark.parametrize("system_dtype", ["float32", "float64"])
def test_norm_is_the_largest_singular_value(parallelproj, seeded, make_system, system_dtype):
    """Power iteration: after k steps the share of the second singular value is below (s2 / s1)^2k of what it was."""
    operator = as_linear_operator(make_system(system_dtype))
    values = np.linalg.svd(explicit_matrix(operator), compute_uv=False)
    assert (values[1] / values[0]) ** 80 < 1e-10
    assert operator.norm(num_iter=40) == pytest.approx(values[0], rel=1e-10)
    assert operator.H.norm(operator.xp, num_iter=40) == pytest.approx(values[0], rel=1e-10)
    operator.scale = 3.0
    assert operator.norm(num_iter=40) == pytest.approx(3.0 * values[0], rel=1e-10)


# --- Values, precision and memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_are_those_of_a_system_of_the_arrays_precision(parallelproj, make_system, dtype):
    right = make_system(dtype)
    x = np.random.default_rng(1).standard_normal(right.image_shape).astype(dtype)
    y = np.random.default_rng(2).standard_normal(right.projections_shape).astype(dtype)
    for system_dtype in ("float32", "float64"):
        operator = as_linear_operator(make_system(system_dtype))
        assert isinstance(operator, parallelproj.operators.LinearOperator)
        assert (operator.in_shape, operator.out_shape) == (x.shape, y.shape)
        operator.scale = 2.0
        for got, want in ((operator(x), right.forward(x)), (operator.adjoint(y), right.adjoint(y))):
            assert got.dtype == np.dtype(dtype)
            np.testing.assert_array_equal(got, 2 * want)
        operator.scale = 1.0
        np.testing.assert_array_equal(operator.H(y), right.adjoint(y))


def test_results_are_contiguous_and_the_callers_own(parallelproj, make_system):
    """parallelproj divides the result of `adjoint` in place while it still needs the operator."""
    operator = as_linear_operator(make_system("float32"))
    for call, shape in ((operator, operator.in_shape), (operator.adjoint, operator.out_shape)):
        argument = np.ones(shape, np.float32)
        first = call(argument)
        kept = first.copy()
        assert first.flags.c_contiguous
        assert first.flags.writeable
        first[...] = np.nan
        np.testing.assert_array_equal(call(argument), kept)
        np.testing.assert_array_equal(argument, 1.0)


def test_arrays_that_would_lose_something_are_refused(parallelproj, make_system):
    operator = as_linear_operator(make_system("float32"))
    ones = np.ones(operator.in_shape)
    for wrong, message in (
        (ones.astype(np.int64), "float32 or float64, got int64: convert it"),
        (ones.astype(np.complex128), "float32 or float64, got complex128"),
        (ones.astype(np.float16), "float32 or float64, got float16"),
        (ones.astype(">f4"), "float32 or float64, got >f4"),
        (ones.tolist(), "numpy array for device 'cpu', got list"),
        (ones[:, :, 1:], r"needs shape \(3, 7, 7\), got \(3, 7, 6\)"),
    ):
        with pytest.raises(InputError, match=message):
            operator(wrong)
    with pytest.raises(InputError, match=r"\(v, z, u\) needs shape \(8, 3, 7\), got \(3, 7, 7\)"):
        operator.adjoint(ones)


def test_without_parallelproj_the_error_says_where_to_get_it(make_system, monkeypatch):
    monkeypatch.setitem(sys.modules, "parallelproj", None)
    monkeypatch.setitem(sys.modules, "parallelproj.operators", None)
    parallelproj_operator.operator_class.cache_clear()
    with pytest.raises(ImportError, match=r"conda install -c conda-forge 'parallelproj>=2\.0'"):
        as_linear_operator(make_system("float32"))


# --- parallelproj's functions on our projector ------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "limit"), [("float32", FLOAT32), ("float64", FLOAT64)])
def test_mlem_from_parallelproj_is_our_mlem(parallelproj, make_system, dtype, limit):
    """MLEM as preconditioned descent, f - f / (A'1) * gradient, with parallelproj's likelihood (exact mode)."""
    from parallelproj.functions import C2AffineObjective, NegPoissonLogL

    system = make_system(dtype)
    operator = as_linear_operator(system)
    counts, scatter, start = measurement(system, dtype)
    objective = C2AffineObjective(NegPoissonLogL(counts, exact=True), operator, scatter)
    sensitivity = operator.adjoint(np.ones(operator.out_shape, dtype))
    image = start
    for _ in range(30):
        image = image - image / sensitivity * objective.gradient(image)
    ours = osem(system, counts, iterations=30, subsets=1, scatter=scatter, start=start)
    assert image.dtype == np.dtype(dtype)
    np.testing.assert_allclose(image, ours, rtol=0, atol=limit * ours.max())
    # Not by standing still: the image has gone far from the start.
    assert np.abs(ours - start).max() > 0.1 * ours.max()


@pytest.mark.parametrize(("dtype", "limit"), [("float32", FLOAT32), ("float64", FLOAT64)])
def test_osem_over_operators_of_subsets_is_our_osem(parallelproj, make_system, dtype, limit):
    from parallelproj.functions import C2AffineObjective, NegPoissonLogL

    system = make_system(dtype)
    counts, scatter, start = measurement(system, dtype)
    order = ordered_subsets(system.acquisition.view_angles_deg, 2)
    operators = [as_linear_operator(system.subset(views)) for views in order]
    objectives = [
        C2AffineObjective(NegPoissonLogL(counts[views], exact=True), operator, scatter[views])
        for views, operator in zip(order, operators, strict=True)
    ]
    sensitivities = [operator.adjoint(np.ones(operator.out_shape, dtype)) for operator in operators]
    image = start
    for _ in range(15):
        for objective, sensitivity in zip(objectives, sensitivities, strict=True):
            image = image - image / sensitivity * objective.gradient(image)
    ours = osem(system, counts, iterations=15, subsets=2, scatter=scatter, start=start)
    np.testing.assert_allclose(image, ours, rtol=0, atol=limit * ours.max())


def test_pdhg_reaches_the_smallest_likelihood(parallelproj, seeded, make_system):
    """Primal-dual hybrid gradient with steps from `norm`, on data without noise: no image beats the true one.

    Reference: Chambolle and Pock, J Math Imaging Vis 2011;40:120-145, doi:10.1007/s10851-010-0251-1.
    """
    from parallelproj.functions import NegPoissonLogL

    system = make_system("float64")
    operator = as_linear_operator(system)
    _, scatter, truth = measurement(system, "float64")
    expected = operator(truth) + scatter
    likelihood = NegPoissonLogL(expected, exact=True)
    # sigma * tau * norm^2 < 1. Dual values, (expected - counts) / expected, are far below the image's: small steps.
    sigma, tau = 0.99 * 0.03 / operator.norm(), 0.99 / 0.03 / operator.norm()
    image, dual = np.ones(operator.in_shape), np.zeros(operator.out_shape)
    first = likelihood(operator(image) + scatter)
    leading = image
    for _ in range(500):
        dual = likelihood.prox_convex_conj(dual + sigma * (operator(leading) + scatter), sigma)
        following = np.maximum(image - tau * operator.adjoint(dual), 0.0)
        leading = 2.0 * following - image
        image = following
    best, last = likelihood(expected), likelihood(operator(image) + scatter)
    # The gap falls as 1 / iterations; these steps leave 1.3e-4 of the first one.
    assert 0.0 <= last - best < 1e-3 * (first - best)
