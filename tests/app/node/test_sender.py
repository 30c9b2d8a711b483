"""Sending: every object arrives once, however long its destination is away, and commitments are answered."""

import json
import time
from dataclasses import replace

import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt

from spectac.app.node.memory import Commitment, File, Job, Send
from spectac.app.node.received import received
from spectac.app.node.sender import LONGEST_WAIT_S, MOST_ANSWERS, Sender, wait_s
from spectac.app.node.settings import Destination
from spectac.app.node.uids import COMMITMENT, NM_IMAGE

from .conftest import raw

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Archive:
    """A destination that answers with a status, and keeps what it gets."""

    def __init__(self, port, title="PACS"):
        self.port, self.title, self.status, self.got, self.reports = port, title, 0x0000, [], []
        self.server, self.syntaxes = None, None

    def start(self):
        entity = AE(self.title)
        entity.add_supported_context(NM_IMAGE, self.syntaxes)
        entity.add_supported_context(COMMITMENT, scu_role=False, scp_role=True)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_EVENT_REPORT, self._report)]
        self.server = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def stop(self):
        if self.server is not None:
            self.server.shutdown()
            self.server = None

    def _store(self, event):
        if self.status in (0x0000, 0xB000):
            self.got.append(str(event.dataset.SOPInstanceUID))
        return self.status

    def _report(self, event):
        self.reports.append((event.event_type, event.event_information))
        return 0x0000, None


@pytest.fixture
def archive(settings):
    found = Archive(settings.destinations[0].port)
    yield found
    found.stop()


@pytest.fixture
def job(memory, tmp_path):
    """A finished job with three objects for the archive."""
    memory.add_job(Job("j1", "1.2.3.1", "1.2.3.2", "brain", (), (), "waiting"))
    paths = [raw(tmp_path / f"{n}.dcm", seed=n) for n in range(3)]
    sops = [str(pydicom.dcmread(path).SOPInstanceUID) for path in paths]
    sends = [Send(sop, "pacs", "j1", path) for sop, path in zip(sops, paths, strict=True)]
    memory.finish_job("j1", "done", "", sends)
    return sops


def make_due(memory):
    """All that waits, now."""
    with memory._changing() as change:
        change.execute("UPDATE sends SET due = 0")
        change.execute("UPDATE commitments SET due = 0")


def test_waits_grow_and_end():
    waits = [wait_s(tries) for tries in range(40)]
    assert waits[:3] == [15.0, 30.0, 60.0]
    assert waits[-1] == LONGEST_WAIT_S


def test_objects_wait_for_a_destination_and_arrive_once(settings, memory, journal, archive, job, tmp_path):
    sender = Sender(settings, memory, journal)
    sender.send_due()
    assert memory.unsent("j1") == 3
    # Not before the time is over.
    archive.start()
    sender.send_due()
    assert archive.got == []
    make_due(memory)
    sender.send_due()
    sender.send_due()
    assert sorted(archive.got) == sorted(job)
    assert memory.unsent("j1") == 0
    events = [json.loads(line)["event"] for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert events == ["not sent"] * 3 + ["sent"] * 3


@pytest.mark.parametrize(("status", "left"), [(0xB000, 0), (0xA700, 3), (0xC000, 3)])
def test_a_warning_is_an_arrival_and_a_refusal_is_tried_again(settings, memory, journal, archive, job, status, left):
    archive.status = status
    archive.start()
    Sender(settings, memory, journal).send_due()
    assert memory.unsent("j1") == left
    archive.status = 0x0000
    make_due(memory)
    Sender(settings, memory, journal).send_due()
    assert sorted(archive.got) == sorted(job)


def test_a_destination_that_the_settings_lost_keeps_its_objects_waiting(settings, memory, journal, job, tmp_path):
    memory.finish_job("j1", "done", "", [Send("1.9", "gone", "j1", tmp_path / "0.dcm")])
    Sender(settings, memory, journal).send_due()
    assert memory.unsent("j1") == 4
    text = (tmp_path / "audit.jsonl").read_text()
    assert "no destination gone in the settings" in text


def test_a_destination_that_has_no_address_keeps_no_other_waiting(settings, memory, journal, archive, job, tmp_path):
    lost = Destination("lost", "LOST", "no such host.invalid", 104)
    settings = replace(settings, destinations=(lost, *settings.destinations))
    memory.finish_job("j1", "done", "", [Send("1.9", "lost", "j1", tmp_path / "0.dcm")])
    archive.start()
    Sender(settings, memory, journal).send_due()
    assert sorted(archive.got) == sorted(job)
    assert memory.unsent("j1") == 1


def test_an_object_that_is_gone_or_damaged_keeps_no_other_waiting(settings, memory, journal, archive, job, tmp_path):
    (tmp_path / "0.dcm").unlink()
    (tmp_path / "1.dcm").write_bytes(b"no DICOM")
    archive.start()
    Sender(settings, memory, journal).send_due()
    assert archive.got == job[2:]
    assert memory.unsent("j1") == 2
    text = (tmp_path / "audit.jsonl").read_text()
    assert text.count("its file is gone or damaged") == 2
    assert str(tmp_path) not in text


def test_a_commitment_that_nobody_hears_of_is_given_up(settings, memory, journal, tmp_path):
    memory.add_commitment(Commitment("1.2.3.5", "CAMERA", ((NM_IMAGE, "1.2.3.6"),), MOST_ANSWERS))
    memory.add_commitment(Commitment("1.2.3.7", "ANOTHER", ((NM_IMAGE, "1.2.3.6"),)))
    sender = Sender(settings, memory, journal)
    for _ in range(2):
        make_due(memory)
        sender.send_due()
    assert memory.due_commitments(time.time() + 1e9) == []
    assert (tmp_path / "audit.jsonl").read_text().count("commitment given up") == 2


def test_an_archive_of_implicit_syntax_alone_gets_the_objects(settings, memory, journal, archive, job):
    archive.syntaxes = [ImplicitVRLittleEndian]
    archive.start()
    Sender(settings, memory, journal).send_due()
    assert sorted(archive.got) == sorted(job)


def test_a_commitment_tells_what_is_kept_and_what_is_not(settings, memory, journal, tmp_path):
    path = raw(tmp_path / "a.dcm")
    about = received(path, "CAMERA")
    memory.put_file(File(about, path, "0", 1, 0.0))
    peer = Archive(settings.peers[0].port, "CAMERA")
    memory.add_commitment(Commitment("1.2.3.5", "CAMERA", ((NM_IMAGE, about.sop), (NM_IMAGE, "1.2.3.6"))))
    memory.add_commitment(Commitment("1.2.3.7", "CAMERA", ((NM_IMAGE, about.sop),)))
    sender = Sender(settings, memory, journal)
    sender.send_due()  # nobody answers
    assert len(memory.due_commitments(time.time() + 100.0)) == 2
    peer.start()
    try:
        make_due(memory)
        sender.send_due()
    finally:
        peer.stop()
    assert memory.due_commitments(time.time() + 100.0) == []
    reports = {str(about.TransactionUID): (kind, about) for kind, about in peer.reports}
    kind, asked = reports["1.2.3.5"]
    assert kind == 2
    assert [item.ReferencedSOPInstanceUID for item in asked.ReferencedSOPSequence] == [about.sop]
    assert [item.ReferencedSOPInstanceUID for item in asked.FailedSOPSequence] == ["1.2.3.6"]
    assert reports["1.2.3.7"][0] == 1
    assert "FailedSOPSequence" not in reports["1.2.3.7"][1]
