"""Stand-in for the work of a queue: squares of numbers, each in a file. Not collected; workers import it by name."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from spectac.recon.io.atomic import written
from spectac.recon.queue.store import check_visible
from spectac.recon.queue.work_queue import Failure, Work

NEGATIVE = "no square root"


@dataclass(frozen=True)
class Squares(Work[int, int]):
    """Negative numbers fail, `deadly` ones kill their worker, the log names all that are begun."""

    folder: Path
    deadly: tuple[int, ...] = ()
    seconds: float = 0.0

    command = "squares"
    leftovers = r"-\d+\.txt"

    def path(self, item: int) -> Path:
        return self.folder / f"{item}.txt"

    def before(self, item: int) -> int | Failure | None:
        if not self.path(item).is_file():
            return None
        text = self.path(item).read_text()
        return int(text) if text.isdigit() else Failure(f"{text!r} is no number")

    def do(self, item: int) -> int | Failure:
        with (self.folder / "log").open("a") as log:
            log.write(f"{item}\n")
        time.sleep(self.seconds)
        if item in self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if item < 0:
            return Failure(NEGATIVE)
        with written(self.path(item)) as temporary:
            temporary.write_text(str(item**2))
        return item**2

    def arrived(self, item: int, outcome: int | Failure) -> None:
        if not isinstance(outcome, Failure):
            check_visible(self.folder, self.path(item))

    def begun(self) -> list[int]:
        """Items that were begun since the last call."""
        log = self.folder / "log"
        items = [int(line) for line in log.read_text().split()] if log.exists() else []
        log.unlink(missing_ok=True)
        return items
