"""Signals that end a training; whole runs that are told to stop are in `test_run`."""

import signal

import pytest

from reszoo.training.callbacks.stop_on_signal import StopOnSignal
from reszoo.training.state import TrainingState


@pytest.fixture
def begun():
    """A callback whose training has begun, in a process that handles Ctrl-C as Python does."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    callback = StopOnSignal(None, TrainingState())
    callback.on_train_begin()
    yield callback
    callback.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_the_first_interrupt_asks_for_an_end_and_the_second_ends_at_once(begun, capfd):
    assert not begun.told_to_stop
    signal.raise_signal(signal.SIGINT)
    assert begun.told_to_stop
    assert capfd.readouterr().err == "\nSaving, then stopping. Ctrl-C again to stop at once.\n"
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_the_signal_of_a_cluster_says_nothing_and_leaves_ctrl_c_as_it_is(begun, capfd):
    signal.raise_signal(signal.SIGTERM)
    assert begun.told_to_stop
    assert capfd.readouterr().err == ""
    signal.raise_signal(signal.SIGINT)
    assert capfd.readouterr().err.startswith("\nSaving")


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_a_program_that_handles_interrupts_itself_goes_on_to(handler):
    before = signal.signal(signal.SIGINT, handler)
    callback = StopOnSignal(None, TrainingState())
    callback.on_train_begin()
    try:
        assert signal.getsignal(signal.SIGINT) is handler
        signal.raise_signal(signal.SIGINT)
        assert not callback.told_to_stop
    finally:
        callback.close()
        signal.signal(signal.SIGINT, before)
