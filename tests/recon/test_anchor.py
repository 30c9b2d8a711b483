"""OSEM with an anchor: limits of the weight, the fixed point, and voxels that must stay 0."""

import numpy as np
import pytest

from spectac.recon import Acquisition, SystemModel, default_grid, osem
from spectac.recon.anchor import Anchor, AnchoredSteps
from spectac.recon.errors import InputError


@pytest.fixture(scope="module")
def scan():
    views = 16
    angles, radii, seconds = np.arange(views) * 360.0 / views, np.full(views, 100.0), np.full(views, 10.0)
    acquisition = Acquisition(angles, radii, (3, 16), (8.0, 8.0), seconds, "Tc-99m", None)
    system = SystemModel(acquisition, default_grid(acquisition), resolution=False, dtype="float64")
    truth = np.zeros(system.image_shape)
    truth[:, 5:11, 4:12] = 1.0
    truth[1, 7:9, 6:8] = 3.0
    return system, truth, system.forward(truth)


def test_a_tiny_weight_gives_the_image_of_osem(scan):
    system, truth, counts = scan
    anchor = Anchor(np.ones_like(truth), 1e-9)
    plain, anchored = (osem(system, counts, iterations=3, subsets=2, prior=prior) for prior in (None, anchor))
    np.testing.assert_allclose(anchored, plain, rtol=1e-6, atol=1e-12)


def test_a_large_weight_gives_the_anchor(scan):
    system, truth, counts = scan
    anchor = Anchor(2.0 + truth, 1e4)
    image = osem(system, counts, iterations=2, subsets=2, prior=anchor)
    np.testing.assert_allclose(image, anchor.image, rtol=2e-3)


def test_truth_that_is_its_own_anchor_stays(scan):
    """Noiseless data and an anchor that agree: neither term has a gradient."""
    system, truth, counts = scan
    inside = truth > 0
    start = np.where(inside, truth, 1e-9)
    for weight in (0.3, 1.0, 3.0):
        image = osem(system, counts, iterations=5, subsets=2, start=start, prior=Anchor(truth, weight))
        np.testing.assert_allclose(image[inside], truth[inside], rtol=1e-3)  # outside FLOOR is the anchor


@pytest.mark.parametrize("weight", [0.2, 1.0, 5.0])
def test_the_limit_maximises_the_posterior(scan, weight):
    """MLEM's fixed point with an anchor has gradient s - A^T(y / A f) + w s (f - z) / z = 0 where f > 0."""
    system, truth, counts = scan
    noisy = np.random.default_rng(3).poisson(20.0 * counts / counts.mean()).astype(float)
    anchor = np.full_like(truth, 20.0 / counts.mean())
    image = osem(system, noisy, iterations=3000, subsets=1, prior=Anchor(anchor, weight))
    sensitivity = system.adjoint(np.ones_like(counts))
    ratio = np.divide(noisy, system.forward(image), out=np.zeros_like(noisy), where=noisy > 0)
    slope = sensitivity - system.adjoint(ratio) + weight * sensitivity * (image - anchor) / anchor
    seen = sensitivity > 1e-6 * sensitivity.max()
    slope, values = slope[seen] / sensitivity[seen], image[seen]
    assert slope.min() > -1e-6  # voxels that the maximum leaves at 0 may have a slope above 0
    np.testing.assert_allclose(slope * values / anchor[0, 0, 0], 0.0, atol=1e-4)


def test_voxels_that_no_view_sees_stay_0_for_every_weight():
    ones, image = np.ones((1, 1, 2)), np.array([[[1.0, 0.0]]])
    seen = np.array([[[1.0, 0.0]]])
    for weight in (0.5, 1.0, 2.0):
        values = image.copy()
        AnchoredSteps(Anchor(ones, weight), ones, seen, lambda *_: None)(values, ones, 0, 0)
        np.testing.assert_allclose(values, image)


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_impossible_weights_are_refused(weight):
    with pytest.raises(InputError, match="weight must be above 0"):
        Anchor(np.ones((1, 1, 1)), weight)


@pytest.mark.parametrize("values", [[0.0, 0.0], [1.0, -1.0], [1.0, np.nan]])
def test_anchors_that_are_no_image_are_refused(values):
    with pytest.raises(InputError, match="anchor must be finite"):
        Anchor(np.array(values).reshape(1, 1, 2), 1.0)
