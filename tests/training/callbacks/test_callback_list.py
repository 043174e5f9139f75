import keras
import pytest
import tensorflow as tf

from reszoo.training.callbacks.callback_list import LoopCallbackList
from reszoo.training.callbacks.loop_callback import LoopCallback


class Recorder(keras.callbacks.Callback):
    """A class of Keras's with some of the members that the loop asks for, as a recorder has."""

    due = True
    batches_ahead = 3

    def __init__(self):
        super().__init__()
        self.heard = []

    def begin_at(self, batch):
        self.heard.append(batch)

    def recorded(self, step, asks):
        return lambda: f"recorded {step()}, {asks=}"

    def close(self):
        self.heard.append("closed")


class Stopper(LoopCallback):
    """Is told to stop, and notes that it was asked to."""

    def __init__(self):
        super().__init__()
        self.told_to_stop = True
        self.heard = []

    def stop(self):
        self.heard.append("stop")

    def close(self):
        self.heard.append("closed")
        raise OSError("full")


def test_the_defaults_ask_for_nothing():
    callbacks = LoopCallbackList([LoopCallback(), keras.callbacks.TerminateOnNaN()], model=None)
    assert callbacks.recorders == []
    assert callbacks.batches_ahead == float("inf")
    assert not callbacks.told_to_stop
    callbacks.begin_at(3)
    callbacks.stop()
    callbacks.close()
    for count in callbacks.counters:
        count(tf.zeros(1), tf.zeros((1, 2)), tf.ones(1))
    step = object()
    assert LoopCallback().recorded(step) is step


def test_a_callback_of_another_class_is_asked_for_what_it_has():
    recorder = Recorder()
    callbacks = LoopCallbackList([LoopCallback(), recorder], model=None)
    callbacks.begin_at(7)
    assert recorder.heard == [7]
    (asked,) = callbacks.recorders
    assert asked.recorded(lambda: "step", asks=True)() == "recorded step, asks=True"
    assert asked.due
    recorder.due = False
    assert not asked.due
    assert callbacks.batches_ahead == 3
    assert not callbacks.told_to_stop
    callbacks.stop()


def test_all_are_closed_in_their_order_though_one_raises():
    stopper, recorder = Stopper(), Recorder()
    callbacks = LoopCallbackList([stopper, recorder], model=None)
    assert callbacks.told_to_stop
    callbacks.stop()
    with pytest.raises(OSError, match="full"):
        callbacks.close()
    assert stopper.heard == ["stop", "closed"]
    assert recorder.heard == ["closed"]


def test_without_callbacks_any_number_of_batches_may_run():
    assert LoopCallbackList([], model=None).batches_ahead == float("inf")
