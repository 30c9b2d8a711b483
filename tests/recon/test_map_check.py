"""What a map's soft tissue tells: its photon energy, its unit, and whether a CT's numbers are HU."""

import re

import numpy as np
import pytest

from spectac.recon import Grid, MuMap
from spectac.recon.ct import CTVolume, mu_map, scale_energy
from spectac.recon.map_check import ct_notes, energy_notes, is_narrow_beam, soft_tissue_per_cm
from spectac.recon.tissues import water_per_cm
from spectac.simulate.head import draw_head

TC_KEV, I_KEV, PET_KEV = 140.511, 158.97, 511.0


@pytest.fixture(scope="module", params=[0, 2], ids=["adult", "child"])
def head(request):
    """Virtual heads; seed 2 of these draws a child."""
    found = draw_head(np.random.default_rng([77, request.param]), voxel_mm=4.0)
    assert bool(found.parameters["child"]) is (request.param == 2)
    return found


def scaled(mu, factor):
    return MuMap(mu.per_cm * np.float32(factor), mu.grid, mu.energy_kev)


def thick_skull(share):
    """A ball of 80 mm, brain inside and cranium (1.57 of brain) in the outer `share` of its radius."""
    grid = Grid.upright((48, 48, 48), (4.0, 4.0, 4.0), (-94.0, -94.0, -94.0))
    z, y, x = grid.centres_mm()
    r = np.sqrt(z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2)
    inner = 80.0 * (1 - share)
    return MuMap(np.where(r < inner, 0.153, np.where(r < 80, 0.233, 0.0)), grid, I_KEV)


def test_soft_tissue_of_heads_is_brain(head, figure):
    """Adults and children: 1.04 of water at any energy, skull and sinuses beside it."""
    for kev in (TC_KEV, I_KEV, 208.366):
        ratio = soft_tissue_per_cm(head.mu(kev)) / water_per_cm(kev)
        figure(f"soft tissue of a virtual head over water at {kev:g} keV", ratio, "1.02 to 1.06")
        assert 1.02 < ratio < 1.06


@pytest.mark.parametrize("share", [0.05, 0.15, 0.2])
def test_a_thick_skull_does_not_hide_the_brain(share):
    """Of a radius of 80 mm 16 mm are bone, half of the volume: the brain's value is still the commonest."""
    assert soft_tissue_per_cm(thick_skull(share)) == pytest.approx(0.153, rel=0.005)


def test_the_median_would_be_wrong_for_noise_free_shells():
    """The estimate is the commonest value, not a mean: a broad tail of bone moves it by less than 1 %."""
    mu = thick_skull(0.2)
    tail = mu.per_cm * np.random.default_rng(1).uniform(1.0, 1.4, mu.per_cm.shape) ** (mu.per_cm > 0.2)
    assert soft_tissue_per_cm(MuMap(tail, mu.grid, I_KEV)) == pytest.approx(0.153, rel=0.01)


def test_values_without_a_peak_are_no_soft_tissue():
    """As in a dry skull: everything between air and bone, nothing common. Then nothing is concluded."""
    values = np.random.default_rng(2).uniform(0.01, 0.3, (20, 20, 20))
    mu = MuMap(values, Grid.upright((20, 20, 20), (4, 4, 4), (0, 0, 0)), I_KEV)
    assert soft_tissue_per_cm(mu) is None
    assert energy_notes(mu, True) == []
    assert is_narrow_beam(mu)


@pytest.mark.parametrize("corrected", [True, False])
def test_a_right_map_is_not_doubted(head, corrected):
    """Narrow beam at its own energy, and uniform maps of 0.976 of water, as they are used with scatter correction."""
    assert energy_notes(head.mu(I_KEV), corrected) == []
    uniform = MuMap(np.where(head.density > 0.5, 0.976 * water_per_cm(I_KEV), 0), head.grid, I_KEV)
    assert energy_notes(uniform, corrected) == []


def test_a_broad_beam_map_belongs_to_uncorrected_data(head):
    """0.78 of water is right without scatter correction, and corrects twice with it."""
    broad = scaled(head.mu(I_KEV), 0.76)
    assert not is_narrow_beam(broad)
    assert energy_notes(broad, False) == []
    (note,) = energy_notes(broad, True)
    assert "broad-beam" in note
    assert "--scatter none" in note


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize(
    ("made_kev", "used_kev"),
    [(PET_KEV, I_KEV), (PET_KEV, TC_KEV), (364.489, I_KEV), (72.4, I_KEV), (TC_KEV, I_KEV), (I_KEV, 208.366)],
)
def test_a_map_of_another_energy_is_named(head, made_kev, used_kev, corrected):
    """The note gives the number measured and an interval that holds the true energy, and the option that converts."""
    if made_kev == 364.489 and not corrected:
        return  # 0.75 of water at 159 keV: as good a broad-beam map
    mu = MuMap(head.mu(made_kev).per_cm, head.grid, used_kev)
    (note,) = energy_notes(mu, corrected)
    assert f"{soft_tissue_per_cm(mu):.4f} /cm" in note
    assert "--mu-map-kev" in note
    assert f"{made_kev:g}" in note
    # The way out that the note names is one: nothing is left to say about the converted map.
    assert energy_notes(scale_energy(MuMap(mu.per_cm, mu.grid, made_kev), used_kev), corrected) == []


def ct_of(head, change):
    hu = np.where(head.density > 0.3, 1000.0 * (head.density - 1.0), -1000.0)
    return mu_map(CTVolume(np.maximum(change(hu), -1000.0), head.grid, 120.0), I_KEV)


def test_hu_are_not_doubted(head):
    assert ct_notes(ct_of(head, lambda hu: hu)) == []
    assert ct_notes(ct_of(head, lambda hu: hu + 24.0)) == []


def test_fat_is_not_doubted(head):
    """The commonest value of a fat patient's body lies at -105 HU, that of adipose tissue."""
    assert ct_notes(ct_of(head, lambda hu: np.where(hu > -500.0, -105.0, hu))) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda hu: hu + 1024.0, "litres of the CT are as dense as bone", id="no-intercept"),
        pytest.param(lambda hu: hu + 250.0, "soft tissue has about [12][0-9]{2} HU", id="shifted-up"),
        pytest.param(lambda hu: hu - 200.0, "soft tissue has about -1[0-9]{2} HU", id="shifted-down"),
    ],
)
def test_numbers_that_are_not_hu_are_told(head, change, said):
    (note,) = ct_notes(ct_of(head, change))
    assert re.search(said, note)
    assert "RescaleIntercept" in note
