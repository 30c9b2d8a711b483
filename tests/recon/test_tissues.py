"""The table of materials: coefficients against xraylib's own compounds and published values."""

import pytest
import xraylib

from spectac.recon.errors import InputError
from spectac.recon.nuclides import NUCLIDES
from spectac.recon.tissues import (
    INDEX,
    MATERIALS,
    cm2_per_g,
    elements,
    mass_fractions,
    material,
    mu_per_cm,
    water_per_cm,
)


@pytest.mark.parametrize("name", NUCLIDES)
def test_water_coefficient_is_xraylibs(name):
    """With coherent scattering, 1 g/cm3; tables of cross-sections agree to some tenths of a per cent."""
    entry = NUCLIDES[name]
    for energy_kev, _ in entry.lines:
        assert water_per_cm(energy_kev) == pytest.approx(xraylib.CS_Total_CP("H2O", energy_kev), rel=0.005)


@pytest.mark.parametrize("entry", [m for m in MATERIALS if len(m.compounds) == 1], ids=lambda m: m.name)
def test_a_compound_has_the_cross_section_of_xraylib(entry):
    """NIST's shares of the elements add up to 1 within 1e-6; that is how far both ways may differ."""
    compound = entry.compounds[0][0]
    for kev in (60.0, 140.5, 364.5):
        assert cm2_per_g(entry.name, kev) == pytest.approx(xraylib.CS_Total_CP(compound, kev), rel=2e-6)
        assert cm2_per_g(entry.name, kev, "rayleigh") == pytest.approx(xraylib.CS_Rayl_CP(compound, kev), rel=2e-6)


def test_mixtures_hold_their_parts():
    """Calcium of the cranium: 84 % of cortical bone's; ICRU 44 gives 17.6 % for the whole."""
    calcium = dict(elements("cranium"))[20]
    assert calcium == pytest.approx(
        0.84 * dict(elements("cortical bone"))[20] + 0.16 * dict(elements("soft tissue")).get(20, 0.0)
    )
    assert calcium == pytest.approx(dict(elements("cranium (ICRU 44)"))[20], rel=0.1)


@pytest.mark.parametrize("name", list(INDEX))
def test_mass_fractions_add_up_to_one(name):
    assert sum(share for _, share in mass_fractions(name)) == pytest.approx(1.0, abs=1e-12)
    assert sum(share for _, share in elements(name)) == pytest.approx(1.0, abs=2e-6)
    numbers = [number for number, _ in elements(name)]
    assert numbers == sorted(set(numbers))


def test_typical_coefficients():
    """Published narrow-beam coefficients in 1/cm: brain, cranium and cortical bone within 2 %."""
    for name, kev, per_cm in (
        ("brain", 140.5, 0.159), ("brain", 159.0, 0.153), ("cranium", 140.5, 0.246), ("cranium", 159.0, 0.233),
        ("cranium (ICRU 44)", 140.5, 0.246), ("cortical bone (ICRU 44)", 159.0, 0.277),
    ):  # fmt: skip
        assert mu_per_cm(name, kev) == pytest.approx(per_cm, rel=0.02)
    assert mu_per_cm("air", 140.5) < 3e-4


def test_unknown_materials_and_energies_are_refused():
    with pytest.raises(InputError, match="'gold' is not one of air"):
        material("gold")
    for kev in (49.9, 800.1):
        with pytest.raises(InputError, match="from 50 to 800 keV"):
            water_per_cm(kev)
