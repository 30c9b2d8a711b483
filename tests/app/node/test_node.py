"""The whole node: from a sender to an archive, through stops, obstacles and a CT that comes later."""

import io
import json
import threading
import time
from dataclasses import replace

import pydicom
import pytest
from pynetdicom import _config

from spectac.app.node import run as running
from spectac.app.node import work as working
from spectac.app.node.journal import Journal
from spectac.app.node.memory import Memory
from spectac.app.node.run import Node, node
from spectac.app.node.status import page_of, retried, status_of
from spectac.app.node.work import Object
from spectac.recon import InputError

from .conftest import ct, raw, with_rule
from .test_receiver import send
from .test_sender import Archive

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The node looks often; pynetdicom's settings are as they were afterwards."""
    monkeypatch.setattr(_config, "STORE_RECV_CHUNKED_DATASET", False)
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(running, "POLL_S", 0.05)


@pytest.fixture
def made(monkeypatch):
    """Jobs that were worked on; in place of images, copies of the projections with new UIDs go out."""
    tasks = []

    def work(self, task, place):
        tasks.append((task.job, len(task.files), len(task.ct)))
        folder = place / working.OBJECTS
        folder.mkdir(exist_ok=True)
        data = pydicom.dcmread(task.files[0])
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        data.save_as(folder / "none.dcm")
        return (Object(str(data.SOPInstanceUID), "none.dcm"),), ()

    monkeypatch.setattr(working.NodeWork, "_made", work)
    return tasks


@pytest.fixture
def archive(settings):
    found = Archive(settings.destinations[0].port)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def start(settings, tmp_path):
    """Function that starts the node in a thread; it is stopped after the test, or by its `end`."""
    nodes = []

    def begin(**changes):
        one = Node(replace(settings, **changes), Journal(tmp_path / "audit.jsonl", io.StringIO()))
        thread = threading.Thread(target=one.run)
        thread.start()

        def end():
            one.stop()
            thread.join()

        one.end = end
        nodes.append((one, thread))
        until(lambda: "started" in events(tmp_path))
        time.sleep(0.1)
        return one

    yield begin
    for one, thread in nodes:
        if thread.is_alive():
            one.end()


def events(tmp_path):
    path = tmp_path / "audit.jsonl"
    return [json.loads(line)["event"] for line in path.read_text().splitlines()] if path.exists() else []


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def test_projections_become_an_object_in_the_archive(settings, start, made, archive, tmp_path):
    start()
    path = raw(tmp_path / "a.dcm")
    assert send(settings, path) == [0]
    until(lambda: archive.got)
    assert send(settings, path) == [0]
    time.sleep(0.5)
    assert len(made) == 1
    assert len(archive.got) == 1


def test_a_node_that_was_stopped_goes_on_where_it_was(settings, start, made, archive, tmp_path):
    archive.stop()
    first = start()
    assert send(settings, raw(tmp_path / "a.dcm")) == [0]
    until(lambda: "not sent" in events(tmp_path))
    first.end()
    # One that was received and not worked on: the node stops before it is quiet.
    second = start(quiet_seconds=1e6)
    assert send(settings, raw(tmp_path / "b.dcm", seed=2, StudyInstanceUID="1.2.3.50")) == [0]
    second.end()
    with Memory(tmp_path / "node" / running.MEMORY)._changing() as change:
        change.execute("UPDATE sends SET due = 0")
    archive.start()
    start()
    until(lambda: len(archive.got) == 2)
    assert len(made) == 2


def test_a_full_disk_puts_a_job_off_and_loses_nothing(settings, start, made, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "AGAIN_S", 0.3)
    usual, times = working.NodeWork._made, []

    def full(self, task, place):
        times.append(1)
        if len(times) < 3:
            raise OSError(28, "No space left on device")
        return usual(self, task, place)

    monkeypatch.setattr(working.NodeWork, "_made", full)
    start()
    assert send(settings, raw(tmp_path / "a.dcm")) == [0]
    until(lambda: archive.got)
    assert events(tmp_path).count("put off") == 2
    assert len(made) == 1


def test_a_study_that_cannot_be_used_fails_and_the_next_is_worked_on(
    settings, start, made, archive, tmp_path, monkeypatch
):
    usual = working.NodeWork._made

    def refuse(self, task, place):
        if pydicom.dcmread(task.files[0]).StudyInstanceUID == "1.2.3.1":
            raise InputError("at least 4 views are needed")
        return usual(self, task, place)

    monkeypatch.setattr(working.NodeWork, "_made", refuse)
    one = start()
    paths = [raw(tmp_path / "a.dcm"), raw(tmp_path / "b.dcm", seed=2, StudyInstanceUID="1.2.3.50")]
    assert send(settings, *paths) == [0, 0]
    until(lambda: archive.got)
    until(lambda: len(one.memory.jobs("failed")) == 1)
    assert one.memory.jobs("failed")[0].note == "at least 4 views are needed"


def test_a_ct_that_comes_later_makes_a_new_object(settings, start, made, archive, tmp_path):
    start(rules=with_rule(settings, methods=("uniform", "ct")).rules)
    assert send(settings, raw(tmp_path / "a.dcm")) == [0]
    until(lambda: len(archive.got) == 1)
    assert send(settings, *ct(tmp_path / "ct")) == [0, 0, 0]
    until(lambda: len(archive.got) == 2)
    assert [(files, cts) for _, files, cts in made] == [(1, 0), (1, 3)]


def test_what_was_sent_is_removed_where_space_is_short_and_what_was_not_stays_until_it_is_old(
    settings, start, made, archive, tmp_path, monkeypatch
):
    monkeypatch.setattr(running, "CLEAN_S", 0.1)
    one = start(keep_gb=1e-9)
    assert send(settings, raw(tmp_path / "a.dcm")) == [0]
    until(lambda: archive.got)
    until(lambda: "removed" in events(tmp_path))
    assert one.memory.arrivals() == {}
    assert not list((tmp_path / "node" / "incoming").iterdir())
    archive.stop()
    assert send(settings, raw(tmp_path / "b.dcm", seed=2, StudyInstanceUID="1.2.3.50")) == [0]
    until(lambda: "not sent" in events(tmp_path))
    time.sleep(0.5)
    assert list(one.memory.arrivals()) == ["1.2.3.50"]
    one.end()
    start(keep_days=1e-6)
    until(lambda: "given up" in events(tmp_path))
    until(lambda: events(tmp_path).count("removed") == 2)


def test_a_ct_that_a_waiting_job_needs_is_kept(settings, start, made, tmp_path, monkeypatch):
    """The CT lies in a study of its own, which has no raw projections; the job cannot be worked on yet."""
    monkeypatch.setattr(running, "CLEAN_S", 0.1)
    monkeypatch.setattr(running, "AGAIN_S", 1000.0)

    def full(self, task, place):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(working.NodeWork, "_made", full)
    one = start(rules=with_rule(settings, methods=("uniform", "ct")).rules, keep_days=1e-6)
    files = [*ct(tmp_path / "ct", StudyInstanceUID="1.2.3.60"), raw(tmp_path / "a.dcm")]
    assert send(settings, *files) == [0] * 4
    until(lambda: "put off" in events(tmp_path))
    time.sleep(0.5)
    assert set(one.memory.arrivals()) == {"1.2.3.1", "1.2.3.60"}


def test_a_restart_makes_nothing_anew_and_a_failed_job_waits_again_when_asked(settings, start, made, archive, tmp_path):
    first = start()
    assert send(settings, raw(tmp_path / "a.dcm")) == [0]
    until(lambda: archive.got)
    first.end()
    # Rules that ask for more, and a failure of another study.
    second = start(rules=with_rule(settings, methods=("uniform", "ct")).rules)
    time.sleep(0.5)
    assert len(made) == 1
    job = second.memory.jobs()[0]
    second.memory.finish_job(job.id, "failed", "why")
    assert retried(tmp_path / "node" / running.MEMORY) == 1
    until(lambda: second.memory.jobs()[0].state == "done")


def test_a_destination_gets_what_it_takes(settings, start, made, archive, tmp_path):
    (pacs,) = settings.destinations
    one = start(destinations=(replace(pacs, objects=("report",)),))
    assert send(settings, raw(tmp_path / "a.dcm")) == [0]
    until(lambda: one.memory.jobs("done"))
    time.sleep(0.3)
    assert archive.got == []


def test_two_nodes_do_not_share_a_folder(settings, start):
    start()
    with pytest.raises(InputError, match="another spectac node is running"):
        Node(settings).run()


def test_a_port_that_is_taken_is_told(settings, archive):
    with pytest.raises(InputError, match="cannot listen on"):
        Node(replace(settings, port=archive.port)).run()


def test_the_status_names_nobody(settings, start, made, archive, tmp_path):
    one = start()
    assert send(settings, raw(tmp_path / "a.dcm")) == [0]
    until(lambda: archive.got)
    until(lambda: not one.memory.unsent(one.memory.jobs()[0].id))
    found = status_of(one.memory)
    assert (found["files"], found["jobs"], found["sends"]) == ({"raw": 1}, {"done": 1}, {"sent": 1})
    for text in (page_of(found), json.dumps(found)):
        assert not [word for word in ("Doe", "1960", "1.2.3.1") if word in text]


def test_the_status_of_a_folder_without_a_node_is_refused(tmp_path):
    config = tmp_path / "node.toml"
    config.write_text(
        f'ae = "A"\nfolder = "{tmp_path}"\n[[peer]]\nae = "B"\nhost = "*"\n[[rule]]\nname = "r"\nmethods = ["none"]\n'
    )
    with pytest.raises(InputError, match="no such node"):
        node(config, "status")
