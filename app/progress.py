"""Progress bars on stderr, shown where that is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spectac.recon import Update


@contextmanager
def counting_bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """Bar with the time left, moved by (done, total)."""
    # Where stderr leads now: a batch sends the bars of its studies nowhere.
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        # A shard of a cohort takes minutes: the speed is taken over an hour.
        *columns, console=console, transient=True, disable=not console.is_terminal, speed_estimate_period=3600.0
    ) as progress:  # fmt: skip
        task = progress.add_task(f"{text}: preparing (the first run compiles)", total=None)

        def move(done: int, total: int) -> None:
            progress.update(task, description=text, completed=done, total=total)

        yield move


@contextmanager
def progress_bar(text: str) -> Iterator[Callable[[Update], None]]:
    """The same, moved by the updates of a reconstruction."""
    with counting_bar(text) as move:
        yield lambda update: move(update.done, update.total)
