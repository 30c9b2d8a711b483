"""What the node reads of a file that it received."""

import threading
import warnings

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from spectac.app.node import received as module
from spectac.app.node.received import header_of, received
from spectac.recon.errors import InputError

from .conftest import ct, raw


def _deflated(path):
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(path)
    return path


def test_a_deflated_object_is_read_up_to_a_size(tmp_path, monkeypatch):
    path = _deflated(raw(tmp_path / "a.dcm"))
    assert received(path, "CAMERA").kind == "raw"
    monkeypatch.setattr(module, "LARGEST_DEFLATED", 1000)
    with pytest.raises(InputError, match="deflated"):
        received(path, "CAMERA")


def test_large_elements_stay_on_the_disk(tmp_path):
    """A private element of 60 MB and the pixels are not in memory."""
    path = raw(tmp_path / "a.dcm")
    data = pydicom.dcmread(path)
    data.private_block(0x0009, "NOBODY", create=True).add_new(0x01, "OB", bytes(60_000_000))
    data.save_as(path)
    item = header_of(path)
    held = [element for element in item.data.values() if len(getattr(element, "value", None) or b"") > 1_000_000]
    assert not held
    assert "PixelData" not in item.data


def test_headers_are_read_one_at_a_time(tmp_path):
    """pydicom's settings and Python's filters of warnings are as they were after many threads read at once."""
    paths = [raw(tmp_path / "a.dcm"), *ct(tmp_path / "ct")]
    before = (pydicom.config.settings.reading_validation_mode, list(warnings.filters))
    faults = []

    def read(path):
        for _ in range(40):
            try:
                assert received(path, "CAMERA").person[0] == "P1"
            except Exception as error:  # noqa: BLE001 - told below
                faults.append(error)

    threads = [threading.Thread(target=read, args=(path,)) for path in paths * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert (pydicom.config.settings.reading_validation_mode, list(warnings.filters)) == before
