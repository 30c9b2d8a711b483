"""A queue of items in a folder that can be interrupted at any moment and resumed by the same run.

The contract, for anything that runs in it (shards of a cohort, studies of a batch or of a DICOM node):

- The results on disk are the only memory. `Work.before` reads what an earlier run left of an item, and an item whose
  result is whole is not worked on again. Killing any process at any moment costs the items in work and nothing else.
- An item has a key and is waiting, running, done or failed. It fails where `Work.do` returns a `Failure`, or where its
  workers died: Dask tries it on four workers, the queue once more (RETRIES) while nothing else runs. A failed item
  stops no other, and the next run tries it again.
- Items may be added by any thread before and while the queue runs. `WorkQueue.run` returns when the queue was closed
  and no item waits or runs; until then it waits for more. An item that is done or failed may be added again.
- What `Work.do` raises (a full disk, too little memory to write) ends the run, as KeyboardInterrupt does. The items in
  work are then looked at once more, for workers may have finished them.
"""

import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Condition
from typing import ClassVar, Generic, Literal, TypeVar

from spectac.recon.errors import InputError
from spectac.recon.queue.store import locked, remove_leftovers
from spectac.recon.queue.workers import DaskWorkers, ThisProcess, Workers

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
State = Literal["waiting", "running", "done", "failed"]

RETRIES = 1
"""How often the queue tries an item again, alone, after Dask gave it up because its workers died."""

DIED = "its worker died again and again, of too little memory or a crash"

SECONDS_BETWEEN_OVERVIEWS = 5.0
"""An overview covers all items: writing it after each one of thousands would take longer than the work."""


@dataclass(frozen=True)
class Failure:
    """Why an item has no result.

    Parameters
    ----------
    reason
        One line.

    Examples
    --------
    >>> from spectac.recon.queue.work_queue import Failure
    >>> Failure("scan.dcm: cut short").reason
    'scan.dcm: cut short'
    """

    reason: str


@dataclass(frozen=True)
class Entry(Generic[Item, Outcome]):
    """An item of a queue and its state.

    Parameters
    ----------
    key
        Identifies the item in its queue.
    item
        What `Work` needs to know of it.
    state
        "waiting", "running", "done" or "failed".
    outcome
        What `Work.do` or `Work.before` returned. A waiting item has the Failure of an earlier run, or None.
    size
        How much it counts in `Progress`, e.g. the patients of a shard.
    retries
        How often it was tried again because its workers died.

    Examples
    --------
    >>> from spectac.recon.queue.work_queue import Entry
    >>> Entry("shard 3", 3, "waiting", size=16).outcome is None
    True
    """

    key: Hashable
    item: Item
    state: State
    outcome: Outcome | Failure | None = None
    size: int = 1
    retries: int = 0


@dataclass(frozen=True)
class Progress:
    """Summed sizes of the items of a queue.

    Parameters
    ----------
    kept
        Items that an earlier run left done.
    done
        Items that are done now, kept ones included.
    failed
        Items that failed in this run.
    total
        All items that were added, and those that are expected. While `checked` is below it, results of earlier runs
        are being looked at.
    checked
        Items that were added.

    Examples
    --------
    >>> from spectac.recon.queue.work_queue import Progress
    >>> progress = Progress(kept=16, done=48, failed=2, total=100, checked=100)
    >>> progress.total - progress.done - progress.failed
    50
    """

    kept: int
    done: int
    failed: int
    total: int
    checked: int


class Work(ABC, Generic[Item, Outcome]):
    """What is specific of a queue. It is sent to the workers with each item: keep it small, it is pickled.

    Attributes
    ----------
    folder
        Folder of the results, which all workers see.
    command
        Name of the command, for messages.
    leftovers
        Regular expression of the temporary files in `folder`, see `remove_leftovers`.
    """

    folder: Path
    command: ClassVar[str]
    leftovers: ClassVar[str]

    @abstractmethod
    def before(self, item: Item) -> Outcome | Failure | None:
        """Result that an earlier run, or a worker that died, left whole; a Failure for notes, None where nothing is."""

    @abstractmethod
    def do(self, item: Item) -> Outcome | Failure:
        """Work on an item and write its result; runs in a worker. What it raises ends the run."""

    @abstractmethod
    def arrived(self, item: Item, outcome: Outcome | Failure) -> None:
        """Check in the main process what a worker returned; what it raises ends the run."""

    def lost(self, item: Item) -> Failure:
        """Failure of an item whose workers died; called in the main process."""
        return Failure(DIED)


class WorkQueue(Generic[Item, Outcome]):
    """Items that are worked on once each; made by `open_queue`.

    Parameters
    ----------
    work
        What is specific of the queue.
    workers
        Where the items are worked on.
    on_progress
        Called after each change, by the thread that made it.
    expected
        Summed size of the items that are added before the queue runs.
    """

    def __init__(
        self,
        work: Work[Item, Outcome],
        workers: Workers,
        on_progress: Callable[[Progress], None] | None = None,
        expected: int = 0,
    ) -> None:
        self._work, self._workers = work, workers
        self._on_progress, self._expected = on_progress, expected
        self._entries: dict[Hashable, Entry[Item, Outcome]] = {}
        self._sizes: Counter[State] = Counter()
        self._waiting: deque[Hashable] = deque()
        self._killed: deque[Hashable] = deque()
        self._running: set[Hashable] = set()
        self._kept, self._closed = 0, False
        self._pool: ThisProcess | DaskWorkers | None = None
        self._changed = Condition()

    @property
    def entries(self) -> Mapping[Hashable, Entry[Item, Outcome]]:
        """All items by their keys, in the order in which they were added first."""
        with self._changed:
            return dict(self._entries)

    def progress(self) -> Progress:
        """Progress at this moment."""
        with self._changed:
            sizes, checked = self._sizes, self._sizes.total()
            return Progress(self._kept, sizes["done"], sizes["failed"], max(checked, self._expected), checked)

    def add(self, key: Hashable, item: Item, size: int = 1) -> Entry[Item, Outcome]:
        """Entry of an item, done where an earlier run left its result, else waiting for its turn.

        Any thread may call it, also while the queue runs.

        Parameters
        ----------
        key
            Identifies the item.
        item
            What `Work` needs to know of it.
        size
            How much it counts in `Progress`.

        Raises
        ------
        InputError
            An item of this key waits or runs, or the queue is closed.
        """
        entry = self._looked_at(key, item, size)
        with self._changed:
            if self._closed:
                raise InputError(f"{key}: the queue is closed")
            if key in self._entries and self._entries[key].state in ("waiting", "running"):
                raise InputError(f"{key}: this item waits or runs already")
            known = key in self._entries
            self._put(entry)
            if entry.state == "done" and not known:
                self._kept += size
            if entry.state != "done":
                self._waiting.append(key)
                self._start_some()
            self._changed.notify_all()
        self._tell()
        return entry

    def forget(self, key: Hashable) -> None:
        """Keep nothing of an item that is done or failed, so that a queue without an end does not grow."""
        with self._changed:
            entry = self._entries.get(key)
            if entry is not None and entry.state in ("done", "failed"):
                self._sizes[entry.state] -= entry.size
                del self._entries[key]

    def close(self) -> None:
        """Accept no more items, so that `run` returns when all are finished."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def run(self, overview: Callable[[], None]) -> None:
        """Work on all items until the queue is closed and none waits or runs.

        Parameters
        ----------
        overview
            Writes what tells of all items. Called before the work, every few seconds during it, and where it is ended
            by an exception; not after the last item.

        Raises
        ------
        InputError
            Dask is missing, or the scheduler does not answer or is lost.
        BaseException
            What `Work.do`, `Work.arrived`, `overview` or a signal raises; the queue is closed then, and a new one
            resumes it.
        """
        overview()
        try:
            with self._changed:
                waiting, closed = len(self._waiting), self._closed
            if closed and not waiting:
                return
            if closed:  # each worker gets a larger share of the machine
                self._workers = replace(self._workers, processes=min(self._workers.processes, waiting))
            with self._workers.started() as pool:
                self._work_on(pool, overview)
        except BaseException:
            self.close()
            with suppress(OSError):  # what ended the run is the better message
                remove_leftovers(self._work.folder, self._work.leftovers)
                for entry in [self._entries[key] for key in self._running]:
                    self._put(self._looked_at(entry.key, entry.item, entry.size))
                self._running.clear()
                self._tell()
                overview()
            raise

    def _work_on(self, pool: ThisProcess | DaskWorkers, overview: Callable[[], None]) -> None:
        latest = time.monotonic()
        self._pool = pool
        try:
            while self._some_run():
                self._finish(*pool.finished())
                self._tell()
                if time.monotonic() - latest > SECONDS_BETWEEN_OVERVIEWS:
                    overview()
                    latest = time.monotonic()
        finally:
            with self._changed:
                self._pool = None

    def _some_run(self) -> bool:
        """True as soon as an item runs, False when none will."""
        with self._changed:
            self._start_some()
            self._changed.wait_for(lambda: self._running or self._closed)
            return bool(self._running)

    def _start_some(self) -> None:
        """Hand items to the workers; those whose workers died come last, each alone."""
        pool = self._pool
        if pool is None or any(self._entries[key].retries for key in self._running):
            return
        keys = [self._waiting.popleft() for _ in range(min(len(self._waiting), pool.capacity - len(self._running)))]
        if self._killed and not keys and not self._running:
            keys.append(self._killed.popleft())
        for key in keys:
            pool.start(key, _perform, self._work, self._entries[key].item, self._workers)
            self._running.add(key)
            self._put(replace(self._entries[key], state="running"))

    def _finish(self, key: Hashable, result: tuple[Outcome | Failure] | None) -> None:
        entry = self._entries[key]
        if result is None and entry.retries < RETRIES:
            after = replace(entry, state="waiting", retries=entry.retries + 1)
            self._killed.append(key)
        else:
            outcome = self._work.lost(entry.item) if result is None else result[0]
            self._work.arrived(entry.item, outcome)
            after = replace(entry, state="failed" if isinstance(outcome, Failure) else "done", outcome=outcome)
        with self._changed:
            self._running.discard(key)
            self._put(after)

    def _put(self, entry: Entry[Item, Outcome]) -> None:
        with self._changed:
            if entry.key in self._entries:
                previous = self._entries[entry.key]
                self._sizes[previous.state] -= previous.size
            self._entries[entry.key] = entry
            self._sizes[entry.state] += entry.size

    def _looked_at(self, key: Hashable, item: Item, size: int) -> Entry[Item, Outcome]:
        outcome = self._work.before(item)
        whole = outcome is not None and not isinstance(outcome, Failure)
        return Entry(key, item, "done" if whole else "waiting", outcome, size)

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.progress())


@contextmanager
def open_queue(
    work: Work[Item, Outcome],
    workers: Workers,
    on_progress: Callable[[Progress], None] | None = None,
    expected: int = 0,
) -> Iterator[WorkQueue[Item, Outcome]]:
    """Queue in the folder of `work`, which is made where it is missing, locked, and cleared of leftovers.

    Parameters
    ----------
    work, workers, on_progress, expected
        As for `WorkQueue`.

    Yields
    ------
    WorkQueue
        Empty queue, whose folder stays locked until the block ends.

    Raises
    ------
    InputError
        Another run has the folder, or it is a file.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spectac.recon.queue.work_queue import Work, open_queue
    >>> from spectac.recon.queue.workers import Workers
    >>> @dataclass(frozen=True)
    ... class Halves(Work[float, float]):
    ...     folder: Path
    ...     command, leftovers = "halve", "-.*"
    ...     def before(self, item):
    ...         path = self.folder / f"{item}.txt"
    ...         return float(path.read_text()) if path.is_file() else None
    ...     def do(self, item):
    ...         (self.folder / f"{item}.txt").write_text(str(item / 2))
    ...         return item / 2
    ...     def arrived(self, item, outcome):
    ...         pass
    >>> with TemporaryDirectory() as folder, open_queue(Halves(Path(folder)), Workers()) as queue:
    ...     for number in (1, 5):
    ...         added = queue.add(f"half of {number}", number)
    ...     queue.close()
    ...     queue.run(overview=lambda: None)
    ...     {key: (entry.state, entry.outcome) for key, entry in queue.entries.items()}
    {'half of 1': ('done', 0.5), 'half of 5': ('done', 2.5)}
    """
    with locked(work.folder, work.command):
        remove_leftovers(work.folder, work.leftovers)
        queue = WorkQueue(work, workers, on_progress, expected)
        queue._tell()
        yield queue


def _perform(work: Work[Item, Outcome], item: Item, workers: Workers) -> Outcome | Failure:
    """What a worker runs. A worker that died before its result was fetched may have left it whole."""
    outcome = work.before(item)
    if outcome is not None and not isinstance(outcome, Failure):
        return outcome
    with workers.own_share():
        return work.do(item)
