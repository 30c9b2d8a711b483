"""The system model behind deepinv's interface. deepinv brings torchvision, so that most of this skips without it."""

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `learned`")

from spectac.learned.deepinv_physics import _Linear, deepinv_physics  # noqa: E402
from spectac.recon import Collimator, InputError, SystemModel, default_grid  # noqa: E402


@pytest.fixture
def system(make_acquisition):
    acquisition = make_acquisition([17.0, 133.0, 250.0], (3, 5), 6.0, collimator=Collimator.from_line(2.0, 0.02))
    return SystemModel(acquisition, default_grid(acquisition), dtype="float64")


def test_the_gradient_of_each_direction_is_the_other(system):
    """gradcheck, also of second order: a linear map has none."""
    rng = np.random.default_rng(1)
    image = torch.tensor(rng.uniform(0.5, 2.0, (2, *system.image_shape)), requires_grad=True)
    counts = torch.tensor(rng.uniform(0.5, 2.0, (2, *system.projections_shape)), requires_grad=True)
    for values, adjoint in ((image, False), (counts, True)):
        assert torch.autograd.gradcheck(lambda x, a=adjoint: _Linear.apply(x, system, a), (values,), eps=1e-5)
        assert torch.autograd.gradgradcheck(lambda x, a=adjoint: _Linear.apply(x, system, a), (values,), eps=1e-5)


def test_without_deepinv_the_error_says_what_to_install(system, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepinv.physics", None)
    with pytest.raises(InputError, match="pip install deepinv"):
        deepinv_physics(system)


def test_deepinv_finds_the_adjoint_and_the_least_squares_image(system):
    """Its own adjointness test, its pseudoinverse on consistent data, and a shape that does not fit."""
    pytest.importorskip("deepinv", reason="deepinv is no dependency")
    physics = deepinv_physics(system)
    image = torch.rand((1, 1, *system.image_shape), dtype=torch.float64)
    counts = physics.A(image)
    np.testing.assert_allclose(counts[0, 0].numpy(), system.forward(image[0, 0].numpy()), rtol=1e-12)
    assert abs(float(physics.adjointness_test(image))) < 1e-9
    again = physics.A(physics.A_dagger(counts))
    assert float((again - counts).norm() / counts.norm()) < 0.01  # where its lsqr stops
    with pytest.raises(InputError, match=r"a tensor \(n, 1, 3, 5, 5\) is needed"):
        physics.A(image[0])
