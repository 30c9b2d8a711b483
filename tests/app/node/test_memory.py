"""The node's memory: what was told to it is there after it was opened again."""

import sqlite3
import threading

import pytest

from spectac.app.node.memory import File, Job, Memory, Send
from spectac.app.node.received import Received
from spectac.recon import InputError


def file(sop, path, study="1.2"):
    return File(Received(sop, study, "1.3", "raw", ("P", "", "", ""), "1.9", {"ae": "A"}), path, "aa", 5, 7.0)


def test_what_was_told_is_there_when_it_is_opened_again(tmp_path):
    memory = Memory(tmp_path / "m.sqlite")
    memory.put_file(file("1", tmp_path / "other"))
    memory.put_file(file("1", tmp_path))
    memory.set_routed("1.2", 5.0)
    job = Job("j", "1.2", "1.3", "rule", ("1",), (), "waiting", made=3.0, deadline=9.0)
    assert memory.add_job(job)
    assert not memory.add_job(job)
    memory.finish_job("j", "done", "note", [Send("5", "pacs", "j", tmp_path)])
    memory.finish_job("j", "done", "note", [Send("5", "pacs", "j", tmp_path)])
    memory.close()
    again = Memory(tmp_path / "m.sqlite")
    assert again.routed() == {"1.2": 5.0}
    assert again.files(["1", "2"]) == [file("1", tmp_path)]
    (found,) = again.jobs("done")
    assert (found.files, found.note, found.deadline) == (("1",), "note", 9.0)
    assert [(one.sop, one.tries) for one in again.due_sends(1.0)] == [("5", 0)]
    assert again.counts() == {"files": {"raw": 1}, "jobs": {"done": 1}, "sends": {"pending": 1}}
    again.close()


def test_a_change_is_whole_or_not_at_all(memory):
    def broken():
        with memory._changing() as change:
            change.execute("INSERT INTO sends VALUES ('1', 'd', 'j', 'p', 'pending', 0, 0, '')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert memory.counts()["sends"] == {}


def test_many_threads_may_use_it(memory, tmp_path):
    def add(n):
        for k in range(20):
            memory.put_file(file(f"{n}.{k}", tmp_path))

    threads = [threading.Thread(target=add, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory.counts()["files"] == {"raw": 160}


def test_a_memory_of_another_version_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "m.sqlite") as other:
        other.execute("PRAGMA user_version = 7")
    other.close()
    with pytest.raises(InputError, match="version 7"):
        Memory(tmp_path / "m.sqlite")


def test_a_damaged_memory_is_told_in_one_line(tmp_path):
    (tmp_path / "m.sqlite").write_bytes(b"no database at all, " * 100)
    with pytest.raises(InputError, match=r"m\.sqlite: the node's memory cannot be read or written: file is not a data"):
        Memory(tmp_path / "m.sqlite")
    with pytest.raises(InputError, match="cannot be read or written: unable to open"):
        Memory(tmp_path / "nowhere" / "m.sqlite")
