"""A job's work: whose fault a failure is, and what goes with the images."""

import errno
import re

import pydicom
import pytest
from pydicom.uid import PYDICOM_ROOT_UID

from spectac.app.node import work as working
from spectac.app.node.settings import Rule
from spectac.app.node.work import DONE, OBJECTS, Made, NodeWork, Obstacle, Task
from spectac.recon import InputError
from spectac.recon.errors import DeviceError, MissingExtraError
from spectac.recon.queue.work_queue import Failure

from .conftest import FRAME, ct, raw

RULE = Rule("brain", ("none",), settings={"iterations": 1, "subsets": 2, "resolution": False})


@pytest.fixture
def work(tmp_path):
    return NodeWork(tmp_path / "node", anonymous=False)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DeviceError("the GPU is lost"), Obstacle),
        (MissingExtraError("the network needs torch", "learned"), Obstacle),
        (OSError(errno.ENOSPC, "No space left on device"), Obstacle),
        (MemoryError(), Obstacle),
        (InputError("'Doe^Jane' of 1960-01-01 has 3 views"), Failure),
        (KeyError("odd"), Failure),
    ],
)
def test_what_is_the_machines_fault_is_tried_again_and_what_is_the_studys_is_not(work, monkeypatch, error, kind):
    def fail(self, task, place):
        raise error

    monkeypatch.setattr(NodeWork, "_made", fail)
    found = work.do(Task("j1", RULE, (), ()))
    assert type(found) is kind
    assert not [word for word in ("Doe", "1960") if word in found.reason]
    assert not (work.place("j1") / DONE).exists()


def test_the_jobs_note_stands_in_the_report(work, tmp_path, without_browser):
    """What is said of the CT must reach who reads the images."""
    found = work.do(Task("j1", RULE, (raw(tmp_path / "a.dcm"),), (), "no CT of this patient came in time"))
    assert isinstance(found, Made), found
    assert "no CT of this patient came in time" in (work.place("j1") / "report" / "report.html").read_text()
    assert "no CT of this patient came in time" in found.notes
    assert work.before(Task("j1", RULE, (), ())) == found


def test_objects_of_an_anonymous_job_are_one_study_that_names_nobody(tmp_path, without_browser):
    path, studies, sops = raw(tmp_path / "a.dcm"), set(), set()
    for name in ("once", "again"):
        work = NodeWork(tmp_path / name, anonymous=True)
        found = work.do(Task("j1", RULE, (path,), ()))
        assert isinstance(found, Made), found
        assert {one.file for one in found.objects} == {"none.dcm", "report.dcm", "key_page.dcm"}
        for one in found.objects:
            data = pydicom.dcmread(work.place("j1") / OBJECTS / one.file)
            studies.add(data.StudyInstanceUID)
            sops.add(data.SOPInstanceUID)
            # The digits of a random UID may be a year.
            shown = re.sub(rf"(2\.25\.|{re.escape(PYDICOM_ROOT_UID)})\d+", "", str(data))
            assert not [word for word in ("Doe", "P1", "1960", "1.2.3.1", FRAME) if word in shown], one.file
    # A job that is made again goes into the same study.
    assert len(studies) == 1
    assert len(sops) == 6


@pytest.mark.parametrize("code", [None, errno.EXDEV, errno.EPERM])
def test_the_ct_of_a_job_is_linked_or_copied(tmp_path, monkeypatch, code):
    files = tuple(ct(tmp_path / "ct"))
    if code is not None:

        def refuse(source, target):
            raise OSError(code, "no links here")

        monkeypatch.setattr(working.os, "link", refuse)
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "old.dcm").write_text("of an earlier try")
    for _ in range(2):
        working._ct_folder(folder, files)
        assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in files)
        assert all(pydicom.dcmread(folder / path.name) == pydicom.dcmread(path) for path in files)


def test_a_disk_that_fails_is_no_reason_to_copy(tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(working.os, "link", fail)
    with pytest.raises(OSError, match="input/output"):
        working._ct_folder(tmp_path / "job", (raw(tmp_path / "a.dcm"),))
