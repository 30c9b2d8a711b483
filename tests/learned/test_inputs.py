"""What the network sees does not depend on counts or on the striata's uptake, and says which images are missing."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from spectac.learned.inputs import CHANNELS, NetworkInput, energy_loss, head_level, normalised
from spectac.recon import EnergyWindow, InputError

VOXEL_ML = 0.064


@pytest.fixture
def head():
    """A ball of radius 80 mm with some texture, voxels of 4 mm."""
    z, y, x = np.meshgrid(*[np.arange(64) - 31.5] * 3, indexing="ij")
    rng = np.random.default_rng(1)
    return ((np.hypot(np.hypot(z, y), x) < 20) * rng.uniform(0.9, 1.1, (64, 64, 64))).astype(np.float32)


def test_counts_do_not_matter(head):
    np.testing.assert_allclose(normalised(1e-3 * head, VOXEL_ML), normalised(head, VOXEL_ML), rtol=1e-5)


def test_striatal_uptake_hardly_matters(head, figure):
    """Two striata of 11.5 mL, ten times as hot, blurred by 14 mm: most of what they spill lies in the hottest 40 mL."""
    hot = head.copy()
    for x in (26, 34):
        hot[30:36, 28:34, x : x + 5] = 10.0
    plain, seen = (gaussian_filter(values, 14.0 / 2.355 / 4.0) for values in (head, hot))
    change = head_level(seen, VOXEL_ML) / head_level(plain, VOXEL_ML) - 1.0
    figure("head level with striata of 10 : 1, relative change", change, "0.06")
    assert 0.0 <= change < 0.06
    # As a fraction of the maximum, the classical choice, the same head would fall to less than a fifth.
    assert seen.max() / plain.max() > 5.0


def test_an_empty_image_is_refused():
    with pytest.raises(InputError, match="no activity in a head's volume"):
        normalised(np.zeros((16, 16, 16), np.float32), VOXEL_ML)


def test_channels_say_what_is_missing(head):
    seen = NetworkInput(head, 159.0)
    alone = seen.channels()
    assert alone.shape == (len(CHANNELS), 64, 64, 64)
    assert not alone[[1, 2]].any()
    assert (alone[3] == np.float32(0.9)).all()
    full = NetworkInput(head, 140.5, head, 0.2).channels()
    np.testing.assert_array_equal(full[1], head)
    assert (full[2] == 1.0).all()
    assert (full[3] == np.float32(-0.95)).all()


def test_energy_loss_of_a_wide_window():
    """92-126 keV below 126-154 keV: middles 109 and 140, so 22 % of the energy is lost on average."""
    peak, side = EnergyWindow("photopeak", 126.0, 154.0), EnergyWindow("scatter", 92.0, 126.0)
    assert energy_loss(peak, side) == pytest.approx(31.0 / 140.0)
