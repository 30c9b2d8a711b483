"""Each worker's share of the cores and GPUs of this machine."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import takewhile
from typing import TypeVar

Resource = TypeVar("Resource")

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def worker_number() -> int | None:
    """Number of this process among the Dask workers of a LocalCluster, None elsewhere.

    Returns
    -------
    int or None
        Number from 0.

    Examples
    --------
    >>> from spectac.recon.queue.shares import worker_number
    >>> worker_number() is None
    True
    """
    try:
        from distributed import get_worker

        return int(get_worker().name)
    except (ImportError, ValueError, TypeError):
        return None


def share(resources: Sequence[Resource], number: int, workers: int) -> Sequence[Resource]:
    """Part of the cores or GPUs that one worker uses; where there are fewer than workers, some share one.

    Parameters
    ----------
    resources
        Cores or GPUs of the machine.
    number
        Number of the worker, from 0.
    workers
        Number of workers.

    Returns
    -------
    sequence
        Parts of all workers differ by at most one in length and hold all resources.

    Examples
    --------
    >>> from spectac.recon.queue.shares import share
    >>> share([0, 1, 2, 3, 4], 0, 2), share([0, 1, 2, 3, 4], 1, 2)
    ([0, 1], [2, 3, 4])
    >>> share(["GPU-a", "GPU-b"], 2, 4)
    ['GPU-a']
    """
    if 0 < len(resources) < workers:
        return [resources[number % len(resources)]]
    number %= workers
    return resources[len(resources) * number // workers : len(resources) * (number + 1) // workers]


@contextmanager
def limited_to_share(workers: int, gpus: Sequence[str]) -> Iterator[None]:
    """Context in which this thread uses only the cores of its worker, and this process only the worker's GPU.

    Threads that start inside inherit the cores. Nothing changes in a process that is no worker of a LocalCluster.
    On systems without core affinity (macOS, Windows) every worker sees all cores.

    Parameters
    ----------
    workers
        Number of workers on this machine.
    gpus
        Names from `visible_gpus`.

    Yields
    ------
    None
        Inside the block this thread runs on the share of cores alone. The choice of GPU outlasts the block.

    Raises
    ------
    RuntimeError
        CuPy is loaded and sees other GPUs.

    Examples
    --------
    >>> from spectac.recon.device import cpu_threads
    >>> from spectac.recon.queue.shares import limited_to_share
    >>> before = cpu_threads()
    >>> with limited_to_share(workers=2, gpus=()):
    ...     cpu_threads() == before
    True
    """
    number = worker_number()
    if number is None:
        yield
        return
    chosen = ",".join(share(gpus, number, workers))
    if gpus and os.environ.get(_VISIBLE) != chosen:
        if "cupy" in sys.modules:
            raise RuntimeError(f"{_VISIBLE} cannot change to {chosen}: CuPy is loaded already")
        os.environ[_VISIBLE] = chosen
    with on_cores(lambda allowed: share(allowed, number, workers)):
        yield


@contextmanager
def on_cores(choose: Callable[[list[int]], Iterable[int]]) -> Iterator[None]:
    """Context in which this thread, and threads that start inside, run on chosen cores where the system can do that.

    Parameters
    ----------
    choose
        Cores from the sorted list of those that this thread may use now.

    Yields
    ------
    None
        After the block this thread may use the cores again that it could use before.

    Examples
    --------
    >>> from spectac.recon.device import cpu_threads
    >>> from spectac.recon.queue.shares import on_cores
    >>> with on_cores(lambda allowed: allowed[:1]):
    ...     cpu_threads()
    1
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, choose(sorted(allowed)))
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def visible_gpus() -> tuple[str, ...]:
    """Names of the GPUs that CUDA may use here, as CUDA_VISIBLE_DEVICES takes them; none without CuPy.

    They are those of the variable where it is set, else those of the driver (nvidia-smi). Whether they work is not
    tested: the test would hold memory of the first GPU for as long as this process lives.

    Returns
    -------
    tuple of str
        Indices or UUIDs, one for each GPU.

    Examples
    --------
    >>> from spectac.recon.queue.shares import visible_gpus
    >>> isinstance(visible_gpus(), tuple)
    True
    """
    if find_spec("cupy") is None:
        return ()
    listed = os.environ.get(_VISIBLE)
    if listed is not None:
        # CUDA's own rule: -1, or an empty name, ends the list.
        return tuple(takewhile(lambda name: name not in ("", "-1"), (name.strip() for name in listed.split(","))))
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(answer.stdout.split())
