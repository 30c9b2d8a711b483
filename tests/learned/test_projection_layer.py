"""The projection layer: torch's own gradient check to activity and map, and the system model's numbers."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the learned map needs torch: pip install 'spectac[learned]'")

from spectac.learned.projection_layer import project  # noqa: E402
from spectac.recon import InputError, SystemModel, default_grid  # noqa: E402
from spectac.recon.collimator import Collimator  # noqa: E402


@pytest.fixture
def system(make_acquisition, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch has no GPU")
    acquisition = make_acquisition([17.0, 133.0, 250.0], (3, 5), 6.0, collimator=Collimator.from_line(2.0, 0.02))
    return SystemModel(acquisition, default_grid(acquisition), dtype="float64", device=device)


def test_gradients_to_activity_and_map_are_those_of_differences(system, device):
    """gradcheck in float64, 1e-6: central differences of a smooth function, on every voxel and every view."""
    rng = np.random.default_rng(1)
    shape = (2, *system.image_shape)
    activity = torch.tensor(rng.uniform(0.5, 2.0, shape), requires_grad=True, device=device)
    mu = torch.tensor(rng.uniform(0.05, 0.25, shape), requires_grad=True, device=device)
    assert torch.autograd.gradcheck(lambda a, m: project(a, m, system), (activity, mu), eps=1e-5, atol=1e-7, rtol=1e-6)


def test_a_batch_is_its_members_one_by_one(system, device, host_arrays):
    rng = np.random.default_rng(2)
    activity, mu = (torch.tensor(rng.uniform(0.0, 0.3, (3, *system.image_shape))) for _ in range(2))
    both = project(activity.to(device), mu.to(device), system).cpu()
    for n in range(3):
        wanted = host_arrays(system).with_mu(mu[n].numpy()).forward(activity[n].numpy())
        np.testing.assert_array_equal(both[n].numpy(), wanted)


def test_second_derivatives_are_refused(system, device):
    """They would be wrong: torch does not know how the adjoint depends on the map."""
    activity = torch.ones(1, *system.image_shape, dtype=torch.float64, requires_grad=True, device=device)
    mu = torch.full_like(activity, 0.1, requires_grad=True)
    (slope,) = torch.autograd.grad(project(activity, mu, system).square().sum(), mu, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_what_does_not_fit_is_refused(system):
    with pytest.raises(InputError, match="activity and map need the shape"):
        project(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2), system)
    elsewhere = torch.zeros(1, *system.image_shape, device="meta")
    where = system.device
    with pytest.raises(InputError, match=rf"the system is on '{where}', .* on meta: move them with \.to\('{where}'\)"):
        project(elsewhere, elsewhere, system)
