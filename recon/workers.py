"""Long queues on Dask: what `spectac cohort` and `spectac batch` share.

Only small things go to the workers and come back: a task writes its own files. A task that kills its workers is tried
once more alone, then given up; everything else that goes wrong is the caller's to judge.
"""

import logging
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from itertools import islice, takewhile
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from spectac.recon.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

try:
    import fcntl
except ImportError:  # Windows: two runs in one folder are then not noticed
    fcntl = None  # type: ignore[assignment]

Key = TypeVar("Key")
Outcome = TypeVar("Outcome")
Thing = TypeVar("Thing")

_SECONDS_TO_CONNECT = 10
_VISIBLE = "CUDA_VISIBLE_DEVICES"


def finished(
    function: Callable[..., Outcome],
    tasks: Mapping[Key, tuple[Any, ...]],
    *,
    scheduler: str | None,
    workers: int,
    threads: int = 1,
) -> Iterator[tuple[Key, Outcome | None]]:
    """Keys of `tasks` with what `function(*arguments)` returned, as they are finished; None where the workers died.

    `scheduler` is the address of a Dask scheduler; without one `workers` processes of this machine work, for which
    `threads` is what numerical libraries are told; 0 means this process alone.
    Raises what a task raises, at once; InputError where Dask is missing or the scheduler does not answer or is lost.
    """
    if workers == 0 and scheduler is None:
        for key, arguments in tasks.items():
            yield key, function(*arguments)
        return
    with _client(scheduler, workers, threads) as client:
        killed: dict[Key, tuple[Any, ...]] = {}
        for key, outcome in _in_flight(client, function, tasks, alone=False):
            if outcome is None:
                killed[key] = tasks[key]
            else:
                yield key, outcome[0]
        # Dask blames every task that waits at a worker when it dies: alone, the innocent ones get through.
        for key, outcome in _in_flight(client, function, killed, alone=True):
            yield key, None if outcome is None else outcome[0]


def named_function(kind: str, name: str) -> Callable[..., Any]:
    """The function of that dotted name "package.module:function"; InputError that begins with `kind` if none is."""
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{kind} {name!r} cannot be imported: {error}") from error
    if not callable(found):
        raise InputError(f"{kind} {name!r} is a {type(found).__name__}, no function")
    return found


def one_line(error: BaseException) -> str:
    """Type and message of an exception that was raised, and the place in the code, in one line."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said} ({Path(place.filename).name}:{place.lineno})"


@contextmanager
def locked(folder: Path, command: str) -> Iterator[None]:
    """The folder, made where it is missing, for this process alone; the system gives the lock back when it dies.

    Raises InputError where another run of the command works in the folder, or `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder for the {command} with -o")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as stream:
        if fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"{folder}: another spectac {command} is running in this folder") from None
        yield


def worker_number() -> int | None:
    """Number of this process among the Dask workers of a LocalCluster, None elsewhere."""
    try:
        from distributed import get_worker

        return int(get_worker().name)
    except (ImportError, ValueError, TypeError):
        return None


@contextmanager
def own_share(workers: int, gpus: Sequence[str]) -> Iterator[None]:
    """Let this thread, and those that it starts, use the cores of this worker alone, and this process its GPU.

    `workers` is their number on this machine, `gpus` come from visible_gpus(). Nothing changes in a process that is no
    worker of a LocalCluster; on systems that cannot do it (macOS, Windows) every worker sees all cores.
    Raises RuntimeError where CuPy chose among other GPUs before.
    """
    number = worker_number()
    if number is None:
        yield
        return
    _take_gpus(share(gpus, number, workers))
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, share(sorted(allowed), number, workers))
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def share(things: Sequence[Thing], number: int, workers: int) -> Sequence[Thing]:
    """The part of `things` of worker `number`, one of `workers`: all are given out, and shared where too few."""
    if 0 < len(things) < workers:
        return [things[number % len(things)]]
    number %= workers
    return things[len(things) * number // workers : len(things) * (number + 1) // workers]


def _take_gpus(gpus: Sequence[str]) -> None:
    """Let CUDA see these GPUs alone in this process; none given: as it is."""
    chosen = ",".join(gpus)
    if not gpus or os.environ.get(_VISIBLE) == chosen:
        return
    if "cupy" in sys.modules:
        raise RuntimeError(f"{_VISIBLE} cannot change to {chosen}: CuPy is loaded already")
    os.environ[_VISIBLE] = chosen


def visible_gpus() -> tuple[str, ...]:
    """Names of the GPUs that CUDA may use here, as CUDA_VISIBLE_DEVICES takes them; none without CuPy.

    The variable's own where it is set, else the driver's list (nvidia-smi). Whether they work is not asked: that would
    take memory of the first one for as long as this process lives.
    """
    if find_spec("cupy") is None:
        return ()
    named = os.environ.get(_VISIBLE)
    if named is not None:
        # CUDA's own rule: -1, or an empty name, ends the list.
        return tuple(takewhile(lambda name: name not in ("", "-1"), (name.strip() for name in named.split(","))))
    try:
        asked = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        listed = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(listed.stdout.split()) if listed.returncode == 0 else ()


def _in_flight(
    client: "Client", function: Callable[..., Outcome], tasks: Mapping[Key, tuple[Any, ...]], *, alone: bool
) -> Iterator[tuple[Key, tuple[Outcome] | None]]:
    """Keys with outcomes, None where the workers died; at most two tasks a worker thread are known to Dask."""
    from distributed import KilledWorker, as_completed
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError

    waiting, running = iter(tasks.items()), as_completed()
    known: dict[object, Key] = {}

    def start() -> None:
        most = 1 if alone else 2 * max(1, sum(client.nthreads().values()))
        for key, arguments in islice(waiting, max(0, most - len(known))):
            future = client.submit(function, *arguments, pure=False)
            known[future.key] = key
            running.add(future)

    try:
        start()
        for future in running:
            key = known.pop(future.key)
            try:
                outcome: tuple[Outcome] | None = (future.result(),)
            except KilledWorker:
                outcome = None
            yield key, outcome
            start()
    except (FutureCancelledError, CommClosedError) as error:
        raise InputError("the Dask scheduler was lost: start it, the same command goes on with the rest") from error


@contextmanager
def _client(scheduler: str | None, workers: int, threads: int) -> Iterator["Client"]:
    """Client of the scheduler at an address, or of processes on this machine that end with the block."""
    try:
        import dask.config
        from distributed import Client, LocalCluster
    except ImportError:
        raise InputError(
            "more than one process needs Dask: pip install 'spectac[cluster]', or give --workers 0"
        ) from None
    with ExitStack() as stack:
        if scheduler is not None:
            try:
                client = Client(scheduler, timeout=_SECONDS_TO_CONNECT)
            except (OSError, ValueError) as error:
                raise InputError(f"no Dask scheduler answers at {scheduler}: {error}") from error
            logger = logging.getLogger("distributed")
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)
            yield stack.enter_context(client)
            return
        # Spawned, because numba hangs after a fork. One task at a time at each worker: see finished(). No memory
        # limit: a worker holds what one task needs, and Dask would divide the machine by its cores.
        # Dask's own environment of a worker makes malloc give memory back at once: a quarter of the time went there.
        libraries = {f"{library}_NUM_THREADS": threads for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
        chosen = {
            "distributed.worker.multiprocessing-method": "spawn",
            "distributed.scheduler.worker-saturation": 1.0,
            "distributed.nanny.pre-spawn-environ": libraries,
        }
        stack.enter_context(dask.config.set(chosen))
        with _deaf_to_interrupts():
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,
                # No dashboard, and a free port for the rest: at the usual one another run may listen.
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                silence_logs=logging.CRITICAL,
            )
        yield stack.enter_context(Client(stack.enter_context(cluster)))


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Make threads that start meanwhile, and processes that those start at any time, deaf to Ctrl-C.

    A terminal sends it to the whole group: the main process is to end the run, not every worker with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # multiprocessing's helper lets Ctrl-C in again where it is started later
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
