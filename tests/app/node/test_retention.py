"""What is kept: nothing is removed that the node has not looked at."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from spectac.app.node.memory import File, Job
from spectac.app.node.received import received
from spectac.app.node.retention import Retention

from .conftest import ct, raw


@pytest.fixture
def retention(settings, memory, journal, tmp_path):
    node = SimpleNamespace(
        settings=replace(settings, keep_days=1e-6), memory=memory, journal=journal, folder=tmp_path / "node"
    )
    return Retention(node)


def test_a_ct_that_no_job_was_made_of_yet_keeps_its_study(retention, memory, tmp_path):
    """The projections were worked on and sent; a CT came after them, and the router did not see it yet."""
    paths = [raw(tmp_path / "a.dcm"), *ct(tmp_path / "ct", slices=1)]
    about = [received(path, "CAMERA") for path in paths]
    for one, path, arrived in zip(about, paths, (100.0, 200.0), strict=True):
        memory.put_file(File(one, path, "0", 1, arrived))
    memory.add_job(Job("j1", about[0].study, about[0].series, "brain", (about[0].sop,), (), "waiting"))
    memory.finish_job("j1", "done", "")
    memory.set_routed(about[0].study, 100.0)
    retention.clean()
    assert all(path.is_file() for path in paths)
    memory.set_routed(about[0].study, 200.0)
    retention.clean()
    assert not any(path.is_file() for path in paths)
    assert memory.arrivals() == {}
