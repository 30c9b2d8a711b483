"""The projection layer: torch's own gradient check to activity and map, and the system model's numbers."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the learned map needs torch: pip install 'spectac[learned]'")

from spectac.learned.projection_layer import project  # noqa: E402
from spectac.recon import InputError, SystemModel, default_grid  # noqa: E402
from spectac.recon.collimator import Collimator  # noqa: E402


@pytest.fixture
def system(make_acquisition):
    acquisition = make_acquisition([17.0, 133.0, 250.0], (3, 5), 6.0, collimator=Collimator.from_line(2.0, 0.02))
    return SystemModel(acquisition, default_grid(acquisition), dtype="float64")


def test_gradients_to_activity_and_map_are_those_of_differences(system):
    """gradcheck in float64, 1e-6: central differences of a smooth function, on every voxel and every view."""
    rng = np.random.default_rng(1)
    shape = (2, *system.image_shape)
    activity = torch.tensor(rng.uniform(0.5, 2.0, shape), requires_grad=True)
    mu = torch.tensor(rng.uniform(0.05, 0.25, shape), requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, m: project(a, m, system), (activity, mu), eps=1e-5, atol=1e-7, rtol=1e-6)


def test_a_batch_is_its_members_one_by_one(system):
    rng = np.random.default_rng(2)
    activity, mu = (torch.tensor(rng.uniform(0.0, 0.3, (3, *system.image_shape))) for _ in range(2))
    both = project(activity, mu, system)
    for n in range(3):
        np.testing.assert_array_equal(both[n].numpy(), system.with_mu(mu[n].numpy()).forward(activity[n].numpy()))


def test_what_does_not_fit_is_refused(system):
    with pytest.raises(InputError, match="activity and map need the shape"):
        project(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2), system)
    elsewhere = torch.zeros(1, *system.image_shape, device="meta")
    with pytest.raises(
        InputError, match=r"the system is on 'cpu', the tensors lie on meta: move them with \.to\('cpu'\)"
    ):
        project(elsewhere, elsewhere, system)
