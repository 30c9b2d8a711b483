"""Whether two files hold the same object: whatever the transfer syntax, and never where something differs."""

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from spectac.recon import Acquisition, EnergyWindow, Study
from spectac.recon.io.dicom import same_object as module
from spectac.recon.io.dicom.nm_write_projections import write_study
from spectac.recon.io.dicom.same_object import same_object


@pytest.fixture
def path(tmp_path):
    acquisition = Acquisition(
        np.arange(8) * 45.0, np.full(8, 150.0), (4, 8), (9.0, 9.0), np.full(8, 20.0), "I-123", None
    )
    counts = np.random.default_rng(1).poisson(50.0, (1, 8, 4, 8)).astype(np.float32)
    write_study(tmp_path / "a.dcm", Study(acquisition, (EnergyWindow("peak", 143.0, 175.0),), counts))
    return tmp_path / "a.dcm"


def written(path, name, change=None, syntax=None):
    data = pydicom.dcmread(path)
    if change is not None:
        change(data)
    if syntax is not None:
        if syntax.is_compressed:
            data.compress(syntax, generate_instance_uid=False)
        elif not syntax.is_little_endian:
            data.PixelData = np.frombuffer(data.PixelData, "<u2").byteswap().tobytes()
        data.file_meta.TransferSyntaxUID = syntax
        list(data.iterall())  # decoded: bytes as they were read are in the wrong order
    encoding = (
        {} if syntax is None else {"implicit_vr": syntax.is_implicit_VR, "little_endian": syntax.is_little_endian}
    )
    pydicom.dcmwrite(path.with_name(name), data, **encoding)
    return path.with_name(name)


def a_count(data):
    data.PixelData = bytes([data.PixelData[0] ^ 1]) + data.PixelData[1:]


def an_element(data):
    data.StudyTime = "235959"


def no_pixels(data):
    del data.PixelData


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
def test_the_same_in_another_transfer_syntax(path, syntax):
    assert same_object(path, written(path, "b.dcm", syntax=syntax))
    assert same_object(path, path)


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
@pytest.mark.parametrize("change", [a_count, an_element, no_pixels])
def test_another_where_a_count_or_an_element_differs(path, change, syntax):
    other = written(path, "b.dcm", change, syntax)
    assert not same_object(path, other)
    assert not same_object(other, path)


def test_in_doubt_it_is_another(path, monkeypatch):
    cut = path.with_name("cut.dcm")
    cut.write_bytes(path.read_bytes()[:600])
    assert not same_object(path, cut)
    monkeypatch.setattr(module, "LARGEST_COMPARED", 1000)
    assert not same_object(path, path)
