"""Signals that end a run are not lost where Python drops the exception that they raise."""

import gc
import signal

import pytest

from spectac.recon.queue.workers import remembered_interrupts


@pytest.fixture
def default_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_in_dasks_callback_of_the_garbage_collector_is_raised_after_all(default_handler):
    """Raised in there it would be dropped with a traceback, which pytest turns into an error."""

    def _gc_callback(phase, info):
        gc.callbacks.remove(_gc_callback)
        signal.raise_signal(signal.SIGINT)

    with remembered_interrupts() as check:
        check()
        gc.callbacks.append(_gc_callback)
        gc.collect()
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_is_raised_at_once(default_handler):
    with pytest.raises(KeyboardInterrupt), remembered_interrupts():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_somebody_else_is_left_alone(default_handler):
    came = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    with remembered_interrupts() as check:
        signal.raise_signal(signal.SIGINT)
        check()
    assert came == [signal.SIGINT]
