"""Images of expected counts from a Monte Carlo that shares no code with spectac (data/independent_scatter)."""

from pathlib import Path

import pytest

from benchmarks.scatter.run import image, independent_case, photopeak_alone
from spectac.recon import GivenMap
from spectac.recon.quantify import voi_mean

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "independent_scatter"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "nuclide"), [("cylinder_tc99m", "Tc-99m"), ("benauer_dat_i123", "I-123")])
def test_regions_are_those_of_the_primary(name, nuclide, figure):
    """All windows and the photopeak alone: within 2 % of the primary's image; uncorrected 13 to 33 % off."""
    path = DATA / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    case = independent_case(path, nuclide)
    for study, scatter in (
        (case.study, "montecarlo"),
        (photopeak_alone(case.study), "montecarlo"),
        (case.study, "none"),
    ):
        values, _ = image(study, GivenMap(case.mu), scatter)
        for region, mask in case.regions.items():
            error = 100 * (voi_mean(values, mask) / voi_mean(case.wanted["primary"], mask) - 1)
            if scatter == "none":
                assert error > 10
            else:
                figure(f"{name}, {len(study.windows)} windows, {region}, %", error, "2")
                assert abs(error) < 2
