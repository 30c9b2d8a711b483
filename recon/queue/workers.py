"""Workers of a queue: this process alone, processes of this machine, or those of a Dask scheduler.

Only small objects go to the workers and come back: a task writes its own files.
"""

import logging
import pkgutil
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from spectac.recon.device import cpu_threads
from spectac.recon.errors import InputError, MissingExtraError
from spectac.recon.queue.shares import limited_to_share

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

SECONDS_TO_CONNECT = 10
POLL_S = 0.05
"""Time between two looks for finished tasks."""
SECONDS_BETWEEN_QUESTIONS = 1.0
"""Time between two questions for the workers that are there, while no task finishes."""
SECONDS_WITHOUT_WORKERS = 60.0
"""Time after which the processes of this machine count as gone; Dask starts those that died again within it."""


class ThisProcess:
    """One task at a time, done when its result is asked for; `capacity` tasks may be started before that.

    Examples
    --------
    >>> from spectac.recon.queue.workers import ThisProcess
    >>> pool = ThisProcess()
    >>> pool.start("half", pow, 2, -1)
    >>> pool.finished()
    ('half', (0.5,))
    """

    capacity = 1

    def __init__(self) -> None:
        self._tasks: list[tuple[Hashable, Callable[..., Any], tuple[object, ...]]] = []

    def start(self, key: Hashable, function: Callable[..., Any], *arguments: object) -> None:
        """Keep a task."""
        self._tasks.append((key, function, arguments))

    def finished(self) -> tuple[Hashable, tuple[Any] | None]:
        """Key and result of the next task; what it raises is raised."""
        key, function, arguments = self._tasks.pop()
        return key, (function(*arguments),)


class DaskWorkers:
    """Tasks of a Dask client; at most two for each thread of its workers are known to the scheduler.

    Parameters
    ----------
    client
        Client of the scheduler.
    returning
        Whether workers may come later, as those of a cluster do. Those of this machine are there from the start.
    check
        Called while no task finishes; it raises what shall end the run.
    """

    def __init__(self, client: "Client", *, returning: bool, check: Callable[[], None] = lambda: None) -> None:
        from distributed import as_completed

        self._client, self._running, self._returning = client, as_completed(), returning
        self._check = check
        self._keys: dict[object, Hashable] = {}
        self._done: deque[Any] = deque()

    @property
    def capacity(self) -> int:
        """Number of tasks that may be started before the first is finished."""
        return 2 * max(1, sum(self._client.nthreads().values()))

    def start(self, key: Hashable, function: Callable[..., Any], *arguments: object) -> None:
        """Hand a task to the scheduler; any thread may call it."""
        future = self._client.submit(function, *arguments, pure=False)
        self._keys[future.key] = key
        self._running.add(future)

    def finished(self) -> tuple[Hashable, tuple[Any] | None]:
        """Key and result of the next task to finish, None where its workers died; what a task raises is raised.

        Raises InputError where the workers of this machine are gone and do not come back.
        """
        from distributed import KilledWorker

        seen = asked = time.monotonic()
        while not self._done:
            self._done.extend(self._running.next_batch(block=False))
            if self._done:
                break
            time.sleep(POLL_S)
            self._check()
            if self._returning or time.monotonic() - asked < SECONDS_BETWEEN_QUESTIONS:
                continue
            asked = time.monotonic()
            if self._client.nthreads():
                seen = asked
            elif asked - seen > SECONDS_WITHOUT_WORKERS:
                # Dask gives up a worker that dies again while a busy machine starts it.
                raise InputError(
                    "all worker processes died and could not be started again: the same command goes on with the "
                    "rest; fewer --workers need less memory"
                )
        future = self._done.popleft()
        key = self._keys.pop(future.key)
        try:
            return key, (future.result(),)
        except KilledWorker:
            return key, None


@dataclass(frozen=True)
class Workers:
    """Where the items of a queue are worked on.

    Parameters
    ----------
    scheduler
        Address of a Dask scheduler, whose workers see the queue's folder under the same path. None: this machine.
    processes
        Processes of this machine that work without a scheduler; 0: this process alone.
    gpus
        GPUs that the processes share, from `visible_gpus`.
    threads
        Threads that numerical libraries start in each process. None: the cores divided by `processes`.

    Examples
    --------
    >>> from spectac.recon.queue.workers import Workers
    >>> Workers(processes=0).threads_each
    1
    """

    scheduler: str | None = None
    processes: int = 0
    gpus: tuple[str, ...] = ()
    threads: int | None = None

    @property
    def threads_each(self) -> int:
        """Threads of numerical libraries in each process."""
        if self.threads is not None:
            return self.threads
        return max(1, cpu_threads() // self.processes) if self.processes else 1

    def own_share(self) -> AbstractContextManager[None]:
        """Context in which a worker of this machine keeps to its share of cores and GPUs."""
        return nullcontext() if self.scheduler is not None else limited_to_share(max(1, self.processes), self.gpus)

    @contextmanager
    def started(self) -> Iterator[ThisProcess | DaskWorkers]:
        """Workers that end with the block.

        Raises
        ------
        InputError
            Dask is not installed, or the scheduler does not answer or is lost inside the block.

        Examples
        --------
        >>> from spectac.recon.queue.workers import Workers
        >>> with Workers().started() as pool:
        ...     pool.start("half", pow, 2, -1)
        ...     pool.finished()
        ('half', (0.5,))
        """
        if self.scheduler is None and self.processes == 0:
            yield ThisProcess()
            return
        try:
            from distributed.client import FutureCancelledError
            from distributed.comm import CommClosedError
        except ImportError:
            raise MissingExtraError("more than one process needs Dask (--workers 0 does not)", "cluster") from None
        with ExitStack() as stack:
            client = _local_client(stack, self) if self.scheduler is None else _remote_client(stack, self.scheduler)
            try:
                with remembered_interrupts() as check:
                    yield DaskWorkers(client, returning=self.scheduler is not None, check=check)
            except (FutureCancelledError, CommClosedError) as error:
                raise InputError(
                    "the Dask scheduler was lost: start it, the same command goes on with the rest"
                ) from error


def _remote_client(stack: ExitStack, address: str) -> "Client":
    from distributed import Client

    try:
        client = Client(address, timeout=SECONDS_TO_CONNECT)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {address}: {error}") from error
    logger = logging.getLogger("distributed")
    stack.callback(logger.setLevel, logger.level)
    logger.setLevel(logging.CRITICAL)
    return stack.enter_context(client)


def _local_client(stack: ExitStack, workers: Workers) -> "Client":
    import dask.config
    from distributed import Client, LocalCluster

    # Spawned, because numba hangs after a fork. One task at a time at each worker: Dask blames all that wait at one
    # that dies. No memory limit: a worker holds what one task needs, and Dask would divide the machine by its cores.
    # Dask's own environment of a worker makes malloc give memory back at once, which took a quarter of the time.
    libraries = {f"{library}_NUM_THREADS": workers.threads_each for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
    chosen = {
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.nanny.pre-spawn-environ": libraries,
    }
    stack.enter_context(dask.config.set(chosen))
    with _deaf_to_interrupts():
        cluster = LocalCluster(
            n_workers=workers.processes,
            threads_per_worker=1,
            memory_limit=0,
            # No dashboard, and a free port for the rest: another run may listen at the usual one.
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
        )
    stack.callback(_close, cluster)
    client = Client(cluster)
    stack.callback(_close, client)
    return client


def _close(one: "Client | LocalCluster") -> None:
    """Close it; on a busy machine it may not end in time, which is no fault of the work that was done."""
    with suppress(TimeoutError):
        one.close()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Context in which threads start that ignore Ctrl-C, as do all processes that these threads start later.

    A terminal sends it to the whole group: the main process ends the run, without a traceback of every worker.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # multiprocessing's helper would let Ctrl-C in again if it started later
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def remembered_interrupts() -> Iterator[Callable[[], None]]:
    """Signals that end a run, also where Python drops the exception that they raise.

    What is raised inside a callback of the garbage collector is dropped, with a traceback, and distributed has such a
    callback: one Ctrl-C in some was without effect. There nothing is raised. Handlers of others are left alone.

    Yields
    ------
    Callable
        Function that raises KeyboardInterrupt where a signal came.

    Examples
    --------
    >>> with remembered_interrupts() as check:
    ...     check()
    """
    came = threading.Event()

    def remember(number: int, frame: FrameType | None) -> None:
        came.set()
        while frame is not None:
            if frame.f_code.co_name == "_gc_callback":
                return
            frame = frame.f_back
        raise KeyboardInterrupt

    def check() -> None:
        if came.is_set():
            raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread()
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if ours and signal.getsignal(number) is signal.default_int_handler
    ]
    try:
        for number in numbers:
            signal.signal(number, remember)
        yield check
    finally:
        for number in numbers:
            signal.signal(number, signal.default_int_handler)


def named_function(kind: str, name: str) -> Callable[..., Any]:
    """Function of a dotted name "package.module:function", as workers import it.

    Parameters
    ----------
    kind
        What the function is, for messages.
    name
        Its dotted name.

    Returns
    -------
    callable
        The function, imported.

    Raises
    ------
    InputError
        There is no such function.

    Examples
    --------
    >>> from spectac.recon.queue.workers import named_function
    >>> named_function("work", "math:sqrt")(4.0)
    2.0
    """
    try:
        function = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{kind} {name!r} cannot be imported: {error}") from error
    if not callable(function):
        raise InputError(f"{kind} {name!r} is a {type(function).__name__}, no function")
    return function


def one_line(error: BaseException) -> str:
    """Type and message of an exception that was raised, and the file and line that raised it, in one line.

    Parameters
    ----------
    error
        The exception, with its traceback.

    Returns
    -------
    str
        "Type: message (file:line)".

    Examples
    --------
    >>> from spectac.recon.queue.workers import one_line
    >>> try:
    ...     float("wide")
    ... except ValueError as error:
    ...     one_line(error).split(" (")[0]
    "ValueError: could not convert string to float: 'wide'"
    """
    place = traceback.extract_tb(error.__traceback__)[-1]
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message} ({Path(place.filename).name}:{place.lineno})"
