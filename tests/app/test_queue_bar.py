"""Who ends a batch or a cohort reads how much is done, and how to go on where that is possible."""

import errno
from pathlib import Path

import pytest

from spectac.app.queue_bar import queue_bar
from spectac.recon.queue.work_queue import Progress

OUTPUT = Path("out")
CHECKED = Progress(kept=3, done=8, failed=1, total=20, checked=20)


def ended_by(error: BaseException, *steps: Progress) -> BaseException:
    """What is raised again where an error ends the block after these steps."""

    def end() -> None:
        with queue_bar("batch", "studies", 20, OUTPUT) as show:
            for step in steps:
                show(step)
            raise error

    with pytest.raises(type(error)) as raised:
        end()
    return raised.value


def test_an_interrupt_says_how_much_is_done_and_how_to_go_on():
    text = "interrupted: 8 of 20 studies are done in out, the same command goes on with the rest"
    assert str(ended_by(KeyboardInterrupt(), Progress(0, 0, 0, 20, 0), CHECKED)) == text


def test_while_earlier_results_are_checked_the_number_of_done_items_is_not_known():
    for steps in ((), (Progress(5, 5, 0, 20, 10),)):
        text = str(ended_by(KeyboardInterrupt(), *steps))
        assert "the results of earlier runs in out were being checked, the same command" in text
        assert "of 20" not in text


def test_a_full_disk_keeps_its_number_and_file():
    full = ended_by(OSError(errno.ENOSPC, "No space left on device", "out/a"), CHECKED)
    assert (full.errno, full.filename) == (errno.ENOSPC, "out/a")
    assert full.strerror.startswith("No space left on device; 8 of 20 studies are done in out, the same command")


def test_a_place_that_cannot_be_written_to_is_not_promised_to_go_on():
    closed = ended_by(OSError(errno.EROFS, "Read-only file system", "summary.csv"), CHECKED)
    assert closed.strerror == "Read-only file system; 8 of 20 studies are done in out"


def test_an_error_without_words_is_named():
    assert ended_by(OSError(), CHECKED).strerror.startswith("OSError; 8 of 20 studies")


def test_too_little_memory():
    text = "the results do not fit; 8 of 20 studies are done in out, the same command goes on with the rest"
    assert str(ended_by(MemoryError(), CHECKED)) == text
    assert str(ended_by(MemoryError("4 GB"), CHECKED)).startswith("4 GB; 8 of 20")
