"""What the network sees does not depend on counts or on the striata's uptake, and says which images are missing."""

import numpy as np
import pytest

from spectac.learned.inputs import CHANNELS, Previews, energy_loss, head_level, normalised
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


def test_striatal_uptake_does_not_matter(head):
    """Two striata of 11 mL, ten times as hot, are cut off with the hottest 40 mL: the rest keeps its values."""
    hot = head.copy()
    for x in (26, 34):
        hot[30:36, 28:34, x : x + 5] = 10.0
    assert (hot == 10.0).sum() * VOXEL_ML == pytest.approx(23.0, abs=1.0)
    assert head_level(hot, VOXEL_ML) == pytest.approx(head_level(head, VOXEL_ML), rel=0.01)
    # As a fraction of the striatal maximum, the classical choice, the same head would fall to a ninth.
    assert normalised(hot, VOXEL_ML)[20, 32, 32] == pytest.approx(normalised(head, VOXEL_ML)[20, 32, 32], rel=0.005)


def test_an_empty_image_is_refused():
    with pytest.raises(InputError, match="no activity in a head's volume"):
        normalised(np.zeros((16, 16, 16), np.float32), VOXEL_ML)


def test_channels_say_what_is_missing(head):
    seen = Previews(head, 159.0)
    alone = seen.channels()
    assert alone.shape == (len(CHANNELS), 64, 64, 64)
    assert not alone[[1, 2, 4, 5]].any()
    assert (alone[3] == np.float32(0.9)).all()
    full = Previews(head, 140.5, head, 0.2, head).channels()
    np.testing.assert_array_equal(full[1], head)
    assert (full[2] == 1.0).all()
    assert (full[5] == 1.0).all()
    assert (full[3] == np.float32(-0.95)).all()


def test_energy_loss_of_a_wide_window():
    """92-126 keV below 126-154 keV: middles 109 and 140, so 22 % of the energy is lost on average."""
    peak, side = EnergyWindow("photopeak", 126.0, 154.0), EnergyWindow("scatter", 92.0, 126.0)
    assert energy_loss(peak, side) == pytest.approx(31.0 / 140.0)
