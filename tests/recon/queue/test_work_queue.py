"""A queue loses and doubles no item, whatever fails, dies or is added while it runs."""

import errno
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from spectac.recon import InputError
from spectac.recon.queue import workers
from spectac.recon.queue.work_queue import DIED, Failure, Progress, open_queue
from spectac.recon.queue.workers import ThisProcess, Workers


@pytest.fixture(autouse=True)
def importable(monkeypatch) -> None:
    """The stand-in work can be imported here, and in every process that a test starts."""
    here = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def squares(tmp_path):
    from fake_work import Squares

    return Squares(tmp_path)


def states(queue) -> dict[int, str]:
    return {key: entry.state for key, entry in queue.entries.items()}


def run(work, items, workers: Workers = Workers(), overview=lambda: None, **options) -> dict[int, object]:  # noqa: B008
    """Entries after a run with these items."""
    with open_queue(work, workers, **options) as queue:
        for item in items:
            queue.add(item, item)
        queue.close()
        queue.run(overview)
    return queue.entries


def test_failures_stop_no_other_item_and_are_tried_again(squares):
    entries = run(squares, (1, -2, 3))
    assert {key: (entry.state, entry.outcome) for key, entry in entries.items()} == {
        1: ("done", 1), -2: ("failed", Failure("no square root")), 3: ("done", 9),
    }  # fmt: skip
    assert squares.begun() == [1, -2, 3]
    assert run(squares, (1, -2, 3))[3].outcome == 9
    assert squares.begun() == [-2]


def test_a_damaged_result_is_noted_and_made_again(squares, tmp_path):
    (tmp_path / "4.txt").write_text("damaged")
    with open_queue(squares, Workers()) as queue:
        entry = queue.add(4, 4)
        assert (entry.state, entry.outcome) == ("waiting", Failure("'damaged' is no number"))
        queue.close()
        queue.run(lambda: None)
    assert queue.entries[4].outcome == 16


def test_progress_sums_the_sizes(squares):
    run(squares, (1, 2))
    seen: list[Progress] = []
    with open_queue(squares, Workers(), seen.append, expected=26) as queue:
        for item, size in ((1, 10), (2, 10), (3, 5), (-4, 1)):
            queue.add(item, item, size)
        queue.close()
        queue.run(lambda: None)
    assert [progress.checked for progress in seen] == [0, 10, 20, 25, 26, 26, 26]
    assert {progress.total for progress in seen} == {26}
    assert [(progress.kept, progress.done, progress.failed) for progress in seen[4:]] == [
        (20, 20, 0), (20, 25, 0), (20, 25, 1),
    ]  # fmt: skip


def test_items_are_added_while_the_queue_runs(squares):
    """The contract of a DICOM node: studies arrive while others are worked on, and the queue waits for more."""
    three_done = threading.Event()

    def watch(progress: Progress) -> None:
        if progress.done == 3:
            three_done.set()

    with open_queue(squares, Workers(), watch) as queue:
        running = threading.Thread(target=queue.run, args=(lambda: None,))
        running.start()
        for item in (1, 2, 3):
            queue.add(item, item)
        assert three_done.wait(30)
        assert running.is_alive(), "it ended before it was closed"
        queue.add(4, 4)
        queue.close()
        running.join(30)
    assert not running.is_alive()
    assert states(queue) == dict.fromkeys((1, 2, 3, 4), "done")
    assert squares.begun() == [1, 2, 3, 4]


def test_an_item_that_a_task_adds_is_worked_on(squares):
    """Added in the middle of another item's work, when no other waits."""

    @dataclass(frozen=True)
    class Chain(type(squares)):
        queue: list = field(default_factory=list)

        def do(self, item):
            if item < 4:
                self.queue[0].add(item + 1, item + 1)
            else:
                self.queue[0].close()
            return super().do(item)

    work = Chain(squares.folder)
    with open_queue(work, Workers()) as queue:
        work.queue.append(queue)
        queue.add(1, 1)
        queue.run(lambda: None)
    assert states(queue) == dict.fromkeys((1, 2, 3, 4), "done")


def test_what_may_be_added(squares):
    with open_queue(squares, Workers()) as queue:
        queue.add(-1, -1)
        with pytest.raises(InputError, match="waits or runs already"):
            queue.add(-1, -1)
        queue.add(2, 2)
        queue.close()
        queue.run(lambda: None)
        with pytest.raises(InputError, match="the queue is closed"):
            queue.add(3, 3)
    assert states(queue) == {-1: "failed", 2: "done"}


def test_a_failed_item_may_be_added_again(squares):
    failed = threading.Event()
    with open_queue(squares, Workers(), lambda progress: progress.failed and failed.set()) as queue:
        queue.add("study", -3)
        running = threading.Thread(target=queue.run, args=(lambda: None,))
        running.start()
        assert failed.wait(30)
        queue.add("study", 3)
        queue.close()
        running.join(30)
    assert queue.entries["study"].outcome == 9


def test_an_item_that_is_done_counts_once_when_it_is_added_again(squares):
    done = threading.Event()
    with open_queue(squares, Workers(), lambda progress: progress.done and done.set()) as queue:
        queue.add("study", 3)
        running = threading.Thread(target=queue.run, args=(lambda: None,))
        running.start()
        assert done.wait(30)
        assert queue.add("study", 3).outcome == 9
        assert queue.progress() == Progress(kept=0, done=1, failed=0, total=1, checked=1)
        queue.close()
        running.join(30)
    with open_queue(squares, Workers()) as queue:
        queue.add("study", 3)
        queue.add("study", 3)
        assert queue.progress() == Progress(kept=1, done=1, failed=0, total=1, checked=1)


def test_a_run_that_was_ended_accepts_no_more_items(squares):
    def full() -> None:
        raise OSError(errno.ENOSPC, "full")

    with open_queue(squares, Workers()) as queue:
        queue.add(2, 2)
        calls = iter([lambda: None, full])
        squares_overview = lambda: next(calls, full)()  # noqa: E731
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("spectac.recon.queue.work_queue.SECONDS_BETWEEN_OVERVIEWS", -1.0)
            with pytest.raises(OSError, match="full"):
                queue.run(squares_overview)
        with pytest.raises(InputError, match="the queue is closed"):
            queue.add(3, 3)


@pytest.mark.parametrize(
    ("error", "raised"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(errno.ENOSPC, "full"), OSError)]
)
def test_what_a_task_raises_ends_the_run_and_the_next_goes_on(squares, tmp_path, error, raised):
    """The result of item 3 is there when the run ends: the worker had written it."""

    class Ended(type(squares)):
        def do(self, item):
            outcome = super().do(item)
            if item == 3:
                (tmp_path / ".0123456789ab-3.txt").touch()
                raise error
            return outcome

    seen: list[dict[int, str]] = []
    with open_queue(Ended(tmp_path), Workers()) as queue:
        for item in (1, -2, 3, 4):
            queue.add(item, item)
        queue.close()
        with pytest.raises(raised):
            queue.run(lambda: seen.append(states(queue)))
    assert seen == [
        dict.fromkeys((1, -2, 3, 4), "waiting"),
        {1: "done", -2: "failed", 3: "done", 4: "waiting"},
    ]
    assert not (tmp_path / ".0123456789ab-3.txt").exists()
    squares.begun()
    run(squares, (1, -2, 3, 4))
    assert squares.begun() == [-2, 4]


def test_no_memory_for_the_overview_ends_the_run(squares):
    def overview() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        run(squares, (1,), overview=overview)
    assert squares.begun() == []


@dataclass(frozen=True)
class Dying(Workers):
    """Workers that die at the work on some items as often as `deaths` says; `begun` has the items that run together."""

    deaths: dict[int, int] = field(default_factory=dict)
    begun: list[set[int]] = field(default_factory=list)

    @contextmanager
    def started(self):
        dying = self

        class Pool(ThisProcess):
            capacity = 2

            def start(self, key, function, *arguments):
                super().start(key, function, *arguments)
                dying.begun.append({task[0] for task in self._tasks})

            def finished(self):
                key = self._tasks[-1][0]
                if dying.deaths.get(key, 0):
                    dying.deaths[key] -= 1
                    self._tasks.pop()
                    return key, None
                return super().finished()

        yield Pool()


def test_an_item_whose_workers_died_is_tried_once_more_alone(squares):
    workers = Dying(deaths={1: 1, 2: 2})
    entries = run(squares, (1, 2, 3, 4), workers)
    assert {key: (entry.state, entry.outcome, entry.retries) for key, entry in entries.items()} == {
        1: ("done", 1, 1), 2: ("failed", Failure(DIED), 1), 3: ("done", 9, 0), 4: ("done", 16, 0),
    }  # fmt: skip
    assert sorted(map(sorted, workers.begun[-2:])) == [[1], [2]]
    assert len(workers.begun) == 6


def test_a_result_that_a_dead_worker_left_is_not_made_again(squares, tmp_path):
    """The worker died between writing its result and handing it over."""
    (tmp_path / "5.txt").write_text("25")

    class Blind(type(squares)):
        """Nothing is seen when the item is added."""

        def before(self, item):
            return super().before(item) if (tmp_path / "started").exists() else None

    with open_queue(Blind(tmp_path), Workers()) as queue:
        queue.add(5, 5)
        queue.close()
        queue.run((tmp_path / "started").touch)
    assert (states(queue), squares.begun()) == ({5: "done"}, [])


def test_results_on_a_disk_that_this_process_does_not_see_are_refused(squares):
    class Elsewhere(type(squares)):
        def do(self, item):
            return item**2

    with pytest.raises(InputError, match="give a folder that all see"):
        run(Elsewhere(squares.folder), (1,))


@pytest.mark.slow
def test_dask_takes_items_while_it_runs_and_survives_the_deadly_ones(squares, tmp_path):
    from fake_work import Squares

    pytest.importorskip("distributed", reason="needs the extra cluster")
    work = Squares(tmp_path, deadly=(7,), seconds=0.05)
    three_done = threading.Event()
    with open_queue(work, Workers(processes=2), lambda progress: progress.done >= 3 and three_done.set()) as queue:

        def later() -> None:
            assert three_done.wait(60)
            for item in range(8, 12):
                queue.add(item, item)
            queue.close()

        adding = threading.Thread(target=later)
        adding.start()
        for item in range(8):
            queue.add(item, item)
        queue.run(lambda: None)
        adding.join()
    assert states(queue) == {item: "failed" if item == 7 else "done" for item in range(12)}
    assert queue.entries[7].outcome == Failure(DIED)
    assert {int(path.stem) for path in tmp_path.glob("*.txt")} == set(range(12)) - {7}


@pytest.mark.slow
def test_workers_that_are_gone_end_the_run(monkeypatch):
    """Dask gives up workers that die while they are started; their tasks would be waited for without an end."""
    distributed = pytest.importorskip("distributed", reason="workers need Dask: pip install 'spectac[cluster]'")
    monkeypatch.setattr(workers, "SECONDS_WITHOUT_WORKERS", 2.0)
    with Workers(processes=1).started() as pool:
        pool.start("half", pow, 2, -1)
        assert pool.finished() == ("half", (0.5,))
        pool.start("long", time.sleep, 60)
        distributed.default_client().cluster.scale(0)
        with pytest.raises(InputError, match=r"all worker processes died .*: the same command goes on with the rest"):
            pool.finished()


@pytest.mark.slow
def test_workers_that_do_not_end_in_time_undo_no_work(monkeypatch):
    """On a busy machine Dask's close timed out after the last item; the command then failed with an empty reason."""
    distributed = pytest.importorskip("distributed", reason="workers need Dask: pip install 'spectac[cluster]'")
    close, closed = distributed.LocalCluster.close, []

    def late(cluster, timeout=None):
        close(cluster, timeout)
        closed.append(cluster)
        raise TimeoutError

    monkeypatch.setattr(distributed.LocalCluster, "close", late)
    with Workers(processes=1).started() as pool:
        pool.start("half", pow, 2, -1)
        assert pool.finished() == ("half", (0.5,))
    assert closed
