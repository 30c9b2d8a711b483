"""Progress bars of a resumable queue (`spectac batch`, `spectac cohort`), and what its user reads when it is ended."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from spectac.app.progress import counting_bar
from spectac.recon.queue.store import can_resume
from spectac.recon.queue.work_queue import Progress

RESUME = "the same command goes on with the rest"


@contextmanager
def queue_bar(text: str, items: str, total: int, output: Path) -> Iterator[Callable[[Progress], None]]:
    """Function that shows the progress of a queue in `output` whose `total` items are called `items`.

    KeyboardInterrupt, OSError and MemoryError are raised again with how many items are done and how to go on.
    """
    latest = Progress(0, 0, 0, total, 0)
    with ExitStack() as bars:
        move = bars.enter_context(counting_bar("earlier results"))

        def show(progress: Progress) -> None:
            nonlocal latest, move
            if latest.checked < total == progress.checked:
                bars.close()
                move = bars.enter_context(counting_bar(text))
            latest = progress
            if progress.checked < total:
                move(progress.checked, total)
            else:
                # The bar shows the items of this run alone: the time left follows from them.
                move(progress.done + progress.failed - progress.kept, total - progress.kept)

        def standing() -> str:
            if latest.checked < total:
                return f"the results of earlier runs in {output} were being checked"
            return f"{latest.done} of {total} {items} are done in {output}"

        try:
            yield show
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted: {standing()}, {RESUME}") from None
        except OSError as error:
            resume = f", {RESUME}" if can_resume(error) else ""
            reason = error.strerror or str(error) or type(error).__name__
            raise OSError(error.errno, f"{reason}; {standing()}{resume}", error.filename) from error
        except MemoryError as error:
            raise MemoryError(f"{str(error) or 'the results do not fit'}; {standing()}, {RESUME}") from error
