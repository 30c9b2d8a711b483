"""Receiving: what is acknowledged is on the disk, and nothing that is sent brings the node down."""

import json
import socket
import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from pynetdicom import AE, _config, build_context
from pynetdicom.pdu_primitives import P_DATA

from spectac.app.node import receiver as receiving
from spectac.app.node.receiver import ARRIVING, CANNOT_UNDERSTAND, DUPLICATE, OUT_OF_RESOURCES, Receiver
from spectac.app.node.settings import Peer
from spectac.app.node.uids import COMMITMENT, COMMITMENT_INSTANCE, CT_IMAGE, NM_IMAGE, VERIFICATION

from .conftest import ct, raw

# pynetdicom leaves sockets of rejected associations to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def listening(settings, memory, journal, monkeypatch):
    """Function that starts a receiver with changed settings; it is stopped after the test."""
    monkeypatch.setattr(_config, "STORE_RECV_CHUNKED_DATASET", False)
    monkeypatch.setattr("tempfile.tempdir", None)
    started = []

    def start(**changes):
        started.append(Receiver(replace(settings, **changes), memory, journal))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop()


def associated(settings, title="CAMERA", called="NODE", contexts=None):
    entity = AE(title)
    entity.requested_contexts = contexts or [
        build_context(uid) for uid in (VERIFICATION, NM_IMAGE, CT_IMAGE, COMMITMENT)
    ]
    return entity.associate("127.0.0.1", settings.port, ae_title=called)


def send(settings, *paths, **changes):
    """Statuses of the node."""
    association = associated(settings, **changes)
    statuses = [association.send_c_store(path).Status for path in paths]
    association.release()
    return statuses


def lines(tmp_path):
    return [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]


def kept(memory):
    return {file.about.sop: file for study in memory.arrivals() for file in memory.files_of(study)}


def test_what_is_acknowledged_is_there(settings, memory, listening, tmp_path):
    listening()
    files = [raw(tmp_path / "a.dcm"), *ct(tmp_path / "ct")]
    assert send(settings, *files) == [0] * 4
    found = kept(memory)
    for path in files:
        sent = pydicom.dcmread(path)
        stored = pydicom.dcmread(found[sent.SOPInstanceUID].path)
        assert stored == sent
    assert sorted(file.about.kind for file in found.values()) == ["ct", "ct", "ct", "raw"]
    assert list((Path(settings.folder) / ARRIVING).iterdir()) == []


def test_a_duplicate_is_acknowledged_and_kept_once_and_another_object_of_its_uid_refused(
    settings, memory, listening, tmp_path
):
    listening()
    path = raw(tmp_path / "a.dcm")
    assert send(settings, path) == [0]
    # Of another association, and in another transfer syntax's file.
    assert send(settings, path, path) == [0, 0]
    data = pydicom.dcmread(path)
    data.PatientID = "P2"
    data.save_as(tmp_path / "b.dcm")
    assert send(settings, tmp_path / "b.dcm") == [DUPLICATE]
    (one,) = kept(memory).values()
    assert one.about.person[0] == "P1"
    assert [line["event"] for line in lines(tmp_path) if "ssoci" not in line["event"]] == [
        "object", "duplicate", "duplicate", "refused object",
    ]  # fmt: skip


def test_strangers_are_refused(settings, memory, listening, tmp_path):
    listening(peers=(*settings.peers, Peer("FARAWAY", "192.0.2.1")))
    for changes in ({"title": "STRANGER"}, {"called": "OTHER"}, {"title": "FARAWAY"}):
        assert associated(settings, **changes).is_rejected
    assert associated(settings, contexts=[build_context("1.2.840.10008.5.1.4.1.1.4")]).is_aborted is True
    reasons = [line["reason"] for line in lines(tmp_path) if line["event"] == "refused association"]
    assert reasons == ["its AE title is not known", "its address is not that of the AE title"]
    assert send(settings, raw(tmp_path / "a.dcm")) == [0]


def test_what_cannot_be_read_is_refused_with_a_line(settings, memory, listening, tmp_path):
    listening()
    whole = pydicom.dcmread(raw(tmp_path / "a.dcm"))
    del whole.StudyInstanceUID
    whole.save_as(tmp_path / "no_study.dcm")
    assert send(settings, tmp_path / "no_study.dcm") == [CANNOT_UNDERSTAND]
    reason = lines(tmp_path)[-2]["reason"]
    assert "StudyInstanceUID" in reason
    assert str(tmp_path) not in reason
    assert kept(memory) == {}


def test_bytes_that_are_no_dataset_are_refused_and_the_next_object_is_taken(settings, memory, listening, tmp_path):
    listening()
    association = associated(settings)
    context = next(one for one in association.accepted_contexts if one.abstract_syntax == NM_IMAGE)
    command = Dataset()
    command.AffectedSOPClassUID, command.AffectedSOPInstanceUID = NM_IMAGE, "1.2.3.4"
    command.CommandField, command.MessageID, command.Priority, command.CommandDataSetType = 1, 7, 0, 1
    # Its own thread would take the answers.
    association._reactor_checkpoint.clear()
    for content in (b"", b"\x08\x00\x16\x00UI\xff\xff1.2", bytes(range(256)) * 40):
        message = _encoded(command)
        for header, part in ((0x03, message), (0x02, content)):
            data = P_DATA()
            data.presentation_data_value_list.append([context.context_id, bytes([header]) + part])
            association.dul.send_pdu(data)
        _, answer = association.dimse.get_msg(block=True)
        assert answer.Status == CANNOT_UNDERSTAND
    association._reactor_checkpoint.set()
    association.release()
    assert send(settings, raw(tmp_path / "a.dcm")) == [0]


def _encoded(command):
    """The command group, with its length."""
    from pynetdicom.dsutils import encode

    body = encode(command, True, True)
    length = Dataset()
    length.CommandGroupLength = len(body)
    return encode(length, True, True) + body


def test_a_disk_that_is_nearly_full_takes_no_more(settings, memory, listening, tmp_path):
    listening(least_free_gb=1e9)
    assert send(settings, raw(tmp_path / "a.dcm")) == [OUT_OF_RESOURCES]
    assert kept(memory) == {}


def test_an_object_beyond_the_limit_ends_its_association_and_no_other(
    settings, memory, listening, tmp_path, monkeypatch
):
    listening(largest_mb=0.2)
    big = pydicom.dcmread(raw(tmp_path / "a.dcm"))
    big.add_new(0x00091010, "OB", bytes(1_000_000))
    big.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    big.save_as(tmp_path / "big.dcm", implicit_vr=True, little_endian=True)
    other = associated(settings)
    association = associated(settings)
    assert "Status" not in association.send_c_store(tmp_path / "big.dcm")
    assert other.send_c_store(raw(tmp_path / "b.dcm")).Status == 0
    other.release()
    assert [line for line in lines(tmp_path) if line["event"] == "aborted association"]
    assert len(kept(memory)) == 1
    assert list((Path(settings.folder) / ARRIVING).iterdir()) == []


def test_more_senders_than_allowed_are_turned_away_and_come_back(settings, listening):
    listening(associations=2)
    first = [associated(settings) for _ in range(2)]
    assert not associated(settings).is_established
    for one in first:
        one.release()
    time.sleep(0.3)
    last = associated(settings)
    assert last.is_established
    last.release()


def test_many_senders_at_once_lose_nothing(settings, memory, listening, tmp_path):
    listening(associations=20)
    paths = [raw(tmp_path / f"{n}.dcm", seed=n) for n in range(12)]
    statuses = []
    threads = [
        threading.Thread(target=lambda part=paths[n::4]: statuses.extend(send(settings, *part, part[0])))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0] * 16
    assert len(kept(memory)) == 12


def test_a_commitment_is_remembered_before_it_is_accepted(settings, memory, listening, tmp_path):
    listening()
    association = associated(settings)
    asked = Dataset()
    asked.TransactionUID = "1.2.3.5"
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = NM_IMAGE, "1.2.3.6"
    asked.ReferencedSOPSequence = [item]
    status, _ = association.send_n_action(asked, 1, COMMITMENT, COMMITMENT_INSTANCE)
    assert status.Status == 0
    status, _ = association.send_n_action(asked, 2, COMMITMENT, COMMITMENT_INSTANCE)
    assert status.Status == receiving.NO_SUCH_ACTION
    del asked.TransactionUID
    status, _ = association.send_n_action(asked, 1, COMMITMENT, COMMITMENT_INSTANCE)
    assert status.Status == receiving.PROCESSING_FAILURE
    association.release()
    (one,) = memory.due_commitments(1.0)
    assert (one.id, one.peer, one.wanted) == ("1.2.3.5", "CAMERA", ((NM_IMAGE, "1.2.3.6"),))


def test_a_silent_or_greedy_connection_takes_no_place_for_ever(settings, memory, listening, tmp_path, monkeypatch):
    """Half a protocol data unit, and one that announces 4 GB: both are dropped, others are served."""
    monkeypatch.setattr(receiving, "SECONDS_OF_SILENCE", 1.0)
    listening(associations=2)
    half, greedy = (socket.create_connection(("127.0.0.1", settings.port)) for _ in range(2))
    half.sendall(b"\x01\x00\x00")
    greedy.sendall(b"\x01\x00\xff\xff\xff\xff" + bytes(1000))
    time.sleep(2.5)
    assert send(settings, raw(tmp_path / "a.dcm")) == [0]
    half.close()
    greedy.close()


def test_a_log_that_cannot_be_written_lets_nobody_in(settings, memory, listening, tmp_path):
    class Gone:
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    receiver = listening()
    receiver._journal._stream = Gone()
    assert associated(settings, title="STRANGER").is_rejected
    assert send(settings, raw(tmp_path / "a.dcm")) == [0]


def test_a_memory_that_is_full_refuses_so_that_the_sender_keeps_it(settings, memory, listening, tmp_path, monkeypatch):
    listening()

    def full(file):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(memory, "put_file", full)
    assert send(settings, raw(tmp_path / "a.dcm")) == [OUT_OF_RESOURCES]
    assert not list((Path(settings.folder) / "incoming").rglob("*.dcm"))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
def test_the_same_object_in_another_transfer_syntax_is_a_duplicate(settings, memory, listening, tmp_path, syntax):
    listening()
    path = _private(raw(tmp_path / "a.dcm"))
    _in_syntax(path, tmp_path / "b.dcm", syntax)
    assert send(settings, path, contexts=[build_context(NM_IMAGE)]) == [0]
    assert send(settings, tmp_path / "b.dcm", contexts=[build_context(NM_IMAGE, syntax)]) == [0]
    assert len(kept(memory)) == 1
    assert lines(tmp_path)[-2]["event"] == "duplicate"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("change", ["a count", "an element", "a private element", "too large to compare"])
def test_another_object_of_a_known_uid_is_never_acknowledged(
    settings, memory, listening, tmp_path, monkeypatch, change, syntax
):
    listening()
    path = _private(raw(tmp_path / "a.dcm"))
    data = pydicom.dcmread(path)
    if change == "a count":
        data.PixelData = bytes([data.PixelData[0] ^ 1]) + data.PixelData[1:]
    elif change == "an element":
        data.StudyTime = "235959"
    elif change == "a private element":
        data[0x00091001].value = "another"
    else:
        monkeypatch.setattr("spectac.recon.io.dicom.same_object.LARGEST_COMPARED", 1000)
        data.StudyTime = "235959"
    data.save_as(tmp_path / "changed.dcm")
    _in_syntax(tmp_path / "changed.dcm", tmp_path / "b.dcm", syntax)
    assert send(settings, path, contexts=[build_context(NM_IMAGE, ExplicitVRLittleEndian)]) == [0]
    assert send(settings, tmp_path / "b.dcm", contexts=[build_context(NM_IMAGE, syntax)]) == [DUPLICATE]
    (one,) = kept(memory).values()
    assert pydicom.dcmread(one.path) == pydicom.dcmread(path)


def _private(path):
    """A file with an element of a manufacturer that pydicom does not know."""
    data = pydicom.dcmread(path)
    data.private_block(0x0009, "NOBODY", create=True).add_new(0x01, "LO", "what it says")
    data.save_as(path)
    return path


def _in_syntax(path, target, syntax):
    """The same object in another transfer syntax."""
    data = pydicom.dcmread(path)
    if syntax.is_compressed:
        data.compress(syntax, generate_instance_uid=False)
    elif not syntax.is_little_endian:
        data.PixelData = np.frombuffer(data.PixelData, "<u2").byteswap().tobytes()
    data.file_meta.TransferSyntaxUID = syntax
    list(data.iterall())  # decoded: bytes as they were read are in the wrong order
    pydicom.dcmwrite(target, data, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)


def test_stopping_ends_associations(settings, listening):
    receiver = listening()
    one = associated(settings)
    receiver.stop()
    time.sleep(0.5)
    assert not one.is_established


def test_what_a_broken_association_left_is_removed(settings, memory, journal):
    folder = Path(settings.folder) / ARRIVING
    folder.mkdir(parents=True)
    (folder / "tmp123.dcm").write_bytes(b"half")
    Receiver(settings, memory, journal)
    assert list(folder.iterdir()) == []
