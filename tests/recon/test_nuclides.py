"""Photon lines, half-lives and water coefficients."""

import pytest
import xraylib

from spectac.recon.errors import InputError
from spectac.recon.nuclides import NUCLIDES, nuclide, water_per_cm


@pytest.mark.parametrize("name", NUCLIDES)
def test_water_coefficient_is_xraylibs(name):
    """With coherent scattering, 1 g/cm3; tables of cross-sections agree to some tenths of a per cent."""
    entry = NUCLIDES[name]
    for energy_kev, _ in entry.lines:
        assert water_per_cm(energy_kev) == pytest.approx(xraylib.CS_Total_CP("H2O", energy_kev), rel=0.005)


@pytest.mark.parametrize(
    ("name", "half_life_h", "energy_kev"),
    [
        # Half-lives and imaged lines as any textbook of nuclear medicine has them, to its digits.
        ("Tc-99m", 6.01, 140.5),
        ("I-123", 13.2, 159.0),
        ("In-111", 67.3, 171.3),
        ("Tl-201", 73.0, 71.0),
        ("I-131", 192.5, 364.5),
        ("Lu-177", 159.5, 208.4),
        ("Xe-133", 125.9, 81.0),
    ],
)
def test_half_lives_and_main_lines(name, half_life_h, energy_kev):
    entry = nuclide(name)
    assert entry.half_life_s / 3600.0 == pytest.approx(half_life_h, rel=0.005)
    assert entry.main_kev == pytest.approx(energy_kev, abs=2.0 if name == "Tl-201" else 0.1)


@pytest.mark.parametrize("name", NUCLIDES)
def test_entries_are_plausible(name):
    entry = NUCLIDES[name]
    assert entry.name == name
    assert entry.half_life_s > 3600.0
    assert all(20.0 < energy < 1000.0 and 0.0 < yield_ < 1.5 for energy, yield_ in entry.lines)
    assert entry.main_kev == entry.lines[0][0]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Tc-99m", "Tc-99m"),
        ("tc99m", "Tc-99m"),
        ("TC99M", "Tc-99m"),
        ("99mTc", "Tc-99m"),
        ("99m-Tc", "Tc-99m"),
        ("99m Tc", "Tc-99m"),
        ("I123", "I-123"),
        ("i-123", "I-123"),
        ("123I", "I-123"),
        ("123-I", "I-123"),
        ("131I", "I-131"),
        ("In 111", "In-111"),
        ("tl_201", "Tl-201"),
        ("177Lu", "Lu-177"),
        ("133Xe", "Xe-133"),
    ],
)
def test_spellings(spelling, name):
    assert nuclide(spelling).name == name


@pytest.mark.parametrize("spelling", ["Tc-99", "99Tc", "F-18", "I-124", "123", "", "iodine", "m99Tc", "I-123m"])
def test_unknown_nuclides_are_refused_with_the_known_ones(spelling):
    """Tc-99 is not Tc-99m, and a nuclide that a gamma camera cannot see is not guessed at."""
    with pytest.raises(InputError) as raised:
        nuclide(spelling)
    message = str(raised.value)
    assert message.startswith(f"nuclide {spelling!r} is not known: use one of ")
    assert all(name in message for name in NUCLIDES)
