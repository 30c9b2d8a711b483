"""Photon lines and half-lives."""

import pytest

from spectac.recon.errors import InputError
from spectac.recon.nuclides import NUCLIDES, nuclide, nuclide_in


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


@pytest.mark.parametrize("spelling", ["123", "", "iodine", "m99Tc", "Tc", "Ghost-12"])
def test_what_is_no_nuclide_is_refused_with_those_of_the_table(spelling):
    with pytest.raises(InputError) as raised:
        nuclide(spelling)
    message = str(raised.value)
    assert message.startswith(f"nuclide {spelling!r} is not known: use one of ")
    assert all(name in message for name in NUCLIDES)


@pytest.mark.parametrize(
    ("spelling", "symbol"),
    [
        ("Tc-99", "Tc-99"),
        ("99Tc", "Tc-99"),
        ("F-18", "F-18"),
        ("^90^Yttrium", "Y-90"),
        ("HO 166", "Ho-166"),
    ],
)
def test_for_a_nuclide_that_the_table_lacks_no_other_one_is_proposed(spelling, symbol):
    """Tc-99 is not Tc-99m: the image would be corrected for another half-life."""
    with pytest.raises(InputError, match=f"{symbol} is not in the table.* --nuclide {symbol}:KEV:HALFLIFE_H") as raised:
        nuclide(spelling)
    assert not any(name in str(raised.value) for name in NUCLIDES)


def test_a_nuclide_is_described_by_its_line_and_half_life():
    holmium = nuclide("166Ho:80.574:26.8")
    assert (holmium.main_kev, holmium.half_life_s, holmium.symbol) == (80.574, 26.8 * 3600, "Ho-166")
    assert nuclide(holmium.name) == holmium


@pytest.mark.parametrize(
    "text", ["Ho-166:80.574", "Ho-166:x:1", "Ho-166:80:0", "Ho-166:10:26.8", "Ho-166:80:inf", "xyz:80:26", ":80:26"]
)
def test_an_unfit_description_is_refused_with_an_example(text):
    with pytest.raises(InputError, match=r"NAME:KEV:HALFLIFE_H is needed, e.g. Ho-166:80.574:26.8"):
        nuclide(text)


def test_a_nuclide_of_the_table_keeps_its_own_half_life():
    with pytest.raises(InputError, match="Tc-99m is in the table: give its name alone"):
        nuclide("Tc99m:140.5:6")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Lu177_EM", "Lu-177"),
        ("Tc-99m peak", "Tc-99m"),
        ("I 123", "I-123"),
        ("^99m^Tc", "Tc-99m"),
        ("208_EM", None),
        ("sc3_SC", None),
        ("Window2", None),
        ("I123 and Tc99m", None),
        ("Y90_brems", None),
    ],
)
def test_nuclide_in_a_longer_text(text, name):
    found = nuclide_in(text)
    assert (None if found is None else found.name) == name
