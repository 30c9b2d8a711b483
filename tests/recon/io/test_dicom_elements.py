"""Elements of a DICOM file: a message names file, tag, keyword and place of the item."""

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from spectac.recon.errors import FileError
from spectac.recon.io.dicom.elements import Item, name_of


def nested():
    inner = Dataset()
    inner.StartAngle = "90"
    inner.add_new("00130010", "LO", "MAKER")
    inner.add_new("0013101E", "FD", 2.5)
    whole = Dataset()
    whole.RotationInformationSequence = Sequence([Dataset(), inner])
    return Item(whole, Path("scan.dcm")).items("RotationInformationSequence")[1]


def test_an_error_names_file_tag_and_the_item_that_the_element_is_in():
    error = nested().error("StartAngle is missing")
    assert isinstance(error, FileError)
    assert str(error) == "scan.dcm: (0054,0200) StartAngle in item 2 of RotationInformationSequence is missing"


def test_the_notes_of_an_item_are_those_of_its_file_and_hold_a_warning_once():
    item = nested()
    other = Item(Dataset(), item.path, " in item 1 of DetectorInformationSequence", item.notes)
    for one in (item, other, item):
        one.warn("StartAngle is odd")
    assert len(item.notes.warnings) == 2
    assert other.notes is item.notes


def test_private_elements_go_by_their_tag_and_are_found_by_their_creator():
    item = nested()
    assert name_of("0013101E") == "(0013,101e)"
    assert item.private(0x0013, 0x1E, "MAKER") == "0013101E"
    assert item.numbers("0013101E") == [2.5]
    assert item.private(0x0013, 0x1E, "ANOTHER") is None
    assert item.private(0x0013, 0x1F, "MAKER") is None


def test_a_number_that_is_none_is_refused_or_left_out_with_the_same_words():
    item = nested()
    item.data.StartAngle = "90\\180"
    with pytest.raises(FileError, match=r"StartAngle in item 2 .* needs one number, it holds 2"):
        item.number("StartAngle")
    assert item.optional_number("StartAngle") is None
    assert "needs one number, it holds 2: not used" in item.notes.warnings[0]
