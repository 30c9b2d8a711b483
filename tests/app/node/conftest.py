"""Files as cameras send them, and a node's parts in a folder."""

import gc
import io
from dataclasses import replace

import numpy as np
import pydicom
import pytest

pytest.importorskip("pynetdicom", reason="the node needs pynetdicom: pip install 'spectac[node]'")

from spectac.app.node.journal import Journal
from spectac.app.node.memory import Memory
from spectac.app.node.settings import Destination, NodeSettings, Peer, Rule
from spectac.recon import Acquisition, EnergyWindow, Grid, Study
from spectac.recon.ct import CTVolume
from spectac.recon.io.dicom.ct_write import write_series
from spectac.recon.io.dicom.nm_write_projections import write_study

PERSON = {
    "PatientID": "P1", "PatientName": "Doe^Jane", "PatientBirthDate": "19600101", "PatientSex": "F",
    "StudyInstanceUID": "1.2.3.1", "StationName": "CAM1", "ProtocolName": "DAT brain",
}  # fmt: skip
FRAME = "1.2.3.99"


def raw(path, seed=1, frame=FRAME, **person):
    """Raw projections of 8 views of 4 x 8 pixels; the file."""
    acquisition = Acquisition(
        np.arange(8) * 45.0, np.full(8, 150.0), (4, 8), (9.0, 9.0), np.full(8, 20.0), "I-123", None,
        frame_of_reference_uid=frame,
    )  # fmt: skip
    counts = np.random.default_rng(seed).poisson(50.0, (1, 8, 4, 8)).astype(np.float32)
    patient = PERSON | person
    write_study(path, Study(acquisition, (EnergyWindow("peak", 143.0, 175.0),), counts, patient=patient))
    return path


def ct(folder, frame=FRAME, slices=3, **person):
    """Files of a CT series of 8 x 8 pixels."""
    grid = Grid.upright((slices, 8, 8), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
    volume = CTVolume(np.zeros(grid.shape, np.float32), grid, 120.0, frame, patient=PERSON | person)
    write_series(folder, volume)
    files = sorted(folder.iterdir())
    for path in files if "IssuerOfPatientID" in person else ():
        data = pydicom.dcmread(path)
        data.IssuerOfPatientID = person["IssuerOfPatientID"]
        data.save_as(path)
    return files


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "audit.jsonl", io.StringIO())


@pytest.fixture
def memory(tmp_path):
    found = Memory(tmp_path / "node.sqlite")
    yield found
    found.close()


@pytest.fixture
def without_browser(monkeypatch):
    """No Chromium to print reports with."""
    monkeypatch.setattr("spectac.app.node.pdf.BROWSERS", ())


@pytest.fixture
def settings(tmp_path, unused_port):
    return NodeSettings(
        ae="NODE",
        folder=str(tmp_path / "node"),
        rules=(Rule("brain", ("none", "uniform"), ("pacs",)),),
        peers=(Peer("CAMERA", "127.0.0.1", unused_port()),),
        destinations=(Destination("pacs", "PACS", "127.0.0.1", unused_port()),),
        host="127.0.0.1",
        port=unused_port(),
        status_port=0,
        quiet_seconds=0.2,
        least_free_gb=0.0,
        workers=0,
    )


@pytest.fixture(scope="module", autouse=True)
def no_socket_left():
    """pynetdicom leaves sockets to the garbage collector, which reports them as errors of whatever test then runs."""
    yield
    gc.collect()


@pytest.fixture
def unused_port():
    """Function that gives ports of this machine that nobody listens on."""
    import socket

    def port() -> int:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            return one.getsockname()[1]

    return port


def with_rule(settings, **changes):
    """Settings whose rule has other fields."""
    return replace(settings, rules=(replace(settings.rules[0], **changes),))
