"""The virtual CT: water and air by definition, bone as its materials say, noise as stated."""

import numpy as np
import pytest

from spectac.recon.ct import hu_to_mu
from spectac.recon.types import Grid
from spectac.simulate.ct_scan import NOISE_HU, ct_scan
from spectac.simulate.head import Head
from spectac.simulate.regions import LABEL

REGIONS = ("outside", "csf", "right white matter", "skull", "dense bone")
DENSITY = (0.0012, 1.0, 1.04, 1.61, 1.92)


@pytest.fixture
def slabs():
    """Twenty slices of each region."""
    grid = Grid.upright((100, 20, 20), (2.0,) * 3, (-19.0, -19.0, -99.0))
    labels = np.repeat([LABEL[name] for name in REGIONS], 20)[:, None, None] * np.ones((1, 20, 20), int)
    density = np.repeat(DENSITY, 20)[:, None, None] * np.ones((1, 20, 20))
    return Head(grid, labels.astype(np.uint8), density.astype(np.float32), {})


def test_numbers_are_those_of_the_scale(slabs, figure):
    """Air -1000 and water 0 HU by definition; 8000 voxels of 10 HU noise leave 0.1 HU. Bone: mu read back within 3 %.

    The head's cranium is cortical bone with soft tissue, ICRU's another mixture: its calcium is 1 % apart, and HU weigh
    calcium more than 159 keV do.
    """
    scan = ct_scan(slabs, np.random.default_rng(1))
    means = {name: float(scan.hu[20 * n : 20 * n + 20].mean()) for n, name in enumerate(REGIONS)}
    assert means["outside"] == pytest.approx(-1000.0, abs=1.0)
    assert means["csf"] == pytest.approx(0.0, abs=1.0)
    assert scan.hu[20:40].std() == pytest.approx(NOISE_HU, rel=0.05)
    true = slabs.mu(158.97).per_cm
    for n, name in enumerate(REGIONS[2:], start=2):
        part = slice(20 * n, 20 * n + 20)
        ratio = float(hu_to_mu(scan.hu[part], scan.kvp, 158.97).mean() / true[part].mean())
        figure(f"virtual CT read back, {name}", ratio, "1 +- 0.03")
        assert ratio == pytest.approx(1.0, abs=0.03)


def test_noise_is_the_generators(slabs):
    one, again, other = (ct_scan(slabs, np.random.default_rng(seed)).hu for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
