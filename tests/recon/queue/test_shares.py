"""Workers of one machine divide its cores and GPUs among them."""

import os
import sys

import numpy as np
import pytest

from spectac.recon.queue import shares
from spectac.recon.queue.shares import limited_to_share, share, visible_gpus
from spectac.recon.queue.workers import Workers


def test_workers_share_all_cores_and_gpus():
    cores = list(range(8))
    assert [list(share(cores, number, 3)) for number in range(3)] == [[0, 1], [2, 3, 4], [5, 6, 7]]
    assert [list(share(cores, number, 2)) for number in (0, 1, 2)] == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]
    for workers in range(1, 20):
        given = [set(share(cores, number, workers)) for number in range(workers)]
        assert set().union(*given) == set(cores)
        assert all(given)
        sizes = np.array([len(part) for part in given])
        assert np.ptp(sizes) <= 1
    gpus = ("GPU-a", "GPU-b")
    assert [list(share(gpus, number, 2)) for number in range(2)] == [["GPU-a"], ["GPU-b"]]
    assert [list(share(gpus, number, 4)) for number in range(4)] == [["GPU-a"], ["GPU-b"], ["GPU-a"], ["GPU-b"]]
    assert list(share((), 1, 4)) == []


def test_gpus_that_may_be_used(monkeypatch):
    monkeypatch.setattr("spectac.recon.queue.shares.find_spec", lambda name: object())
    for value, names in (("", ()), ("-1", ()), ("2, GPU-5", ("2", "GPU-5")), ("1,-1,0", ("1",))):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert visible_gpus() == names
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", "")  # no nvidia-smi
    assert visible_gpus() == ()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr("spectac.recon.queue.shares.find_spec", lambda name: None)
    assert visible_gpus() == ()


@pytest.mark.parametrize(("loaded", "before"), [(False, "0,1"), (True, "GPU-b"), (True, "0,1")])
def test_a_worker_takes_its_gpu_before_cupy_is_loaded(monkeypatch, loaded, before):
    """The second of two workers; afterwards CuPy sees that GPU alone, or the worker refuses to go on."""
    monkeypatch.setattr(shares, "worker_number", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    if loaded:
        monkeypatch.setitem(sys.modules, "cupy", object())
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if loaded and before != "GPU-b":
        with pytest.raises(RuntimeError, match="CuPy is loaded already"), limited_to_share(2, ("GPU-a", "GPU-b")):
            pass
        return
    with limited_to_share(2, ("GPU-a", "GPU-b")):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-b"
        if allowed is not None:
            assert os.sched_getaffinity(0) == set(share(sorted(allowed), 1, 2))
    assert allowed is None or os.sched_getaffinity(0) == allowed


def test_fewer_processes_have_more_threads(monkeypatch):
    monkeypatch.setattr("spectac.recon.queue.workers.cpu_threads", lambda: 8)
    assert [Workers(processes=number).threads_each for number in (0, 1, 3, 16)] == [1, 8, 2, 1]
    assert Workers(processes=2, threads=1).threads_each == 1
