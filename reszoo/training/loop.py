"""The training loop: a gradient tape inside a distribution strategy, with Keras callbacks."""

import functools
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from reszoo.data import Pipeline
from reszoo.training.averages import averaged_weights
from reszoo.training.callbacks.callback_list import LoopCallbackList
from reszoo.training.callbacks.loop_callback import LoopCallback
from reszoo.training.loop_checks import check_ready, check_takes
from reszoo.training.metrics_file import epoch_figures, lasting
from reszoo.training.state import Totals, TrainingState
from reszoo.training.steps import Counter, Step, distributed, repeated, test_step, train_step


def fit(
    model: keras.Model,
    pipeline: Pipeline,
    *,
    epochs: int,
    state: TrainingState | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    strategy: tf.distribute.Strategy | None = None,
    jit_compile: bool = False,
) -> dict[str, float]:
    """Trains a classifier of images and tests it after every epoch.

    The loss is the `ClassificationLoss` that the model was compiled with, or else the cross entropy
    of the logits, plus the model's own losses (regularization). It is divided by the size of the
    whole batch, so that gradients do not depend on the number of devices. Tests leave out the
    weights of the classes.

    Callbacks get what Keras's own `fit` gives them: `loss`, `accuracy` and `top5_accuracy` of the
    epoch so far after each batch, and after an epoch `val_loss`, `val_accuracy` and
    `val_top5_accuracy` on the test examples too, with `learning_rate` and `images_per_second`.
    Unlike there,

    - where the model was compiled with several `steps_per_execution`, callbacks are called before
      the first batch of an execution and after its last;
    - the loop uses the members of `reszoo.training.LoopCallback`: the batches to record, the number
      of batches before the next call, the counts of a test's answers, an end of the training at the
      same batch in all processes, and the closing at the end. Of a callback of another class it
      uses the members that the class has.

    Args:
        model: A model of logits, compiled with an optimizer that is built, under `strategy`.
        pipeline: The batches for training and testing.
        epochs: Number of all epochs, those already done included.
        state: Position to start from, the first batch if `None`; it is kept up to date, so that
            callbacks can save it.
        callbacks: Keras callbacks, called in their order.
        strategy: The devices to run on; TensorFlow's default strategy if `None`.
        jit_compile: Whether to compile the steps with XLA.

    Returns:
        The figures that `on_epoch_end` of the last epoch got.

    Raises:
        ValueError: If the model is not ready or does not fit the data, the batch cannot be split
            over the devices, or the data has fewer examples than its source says.

    Example:

    >>> from reszoo.data import Pipeline, load_source
    >>> pipeline = Pipeline(load_source("synthetic"), batch_size=128)
    >>> model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Flatten(),
    ...                           keras.layers.Dense(10)])
    >>> model.compile(keras.optimizers.SGD(0.01))
    >>> model.optimizer.build(model.trainable_variables)
    >>> sorted(fit(model, pipeline, epochs=1))
    ['accuracy', 'images_per_second', 'learning_rate', 'loss', 'top5_accuracy', 'val_accuracy',
     'val_loss', 'val_top5_accuracy']
    """
    strategy = strategy or tf.distribute.get_strategy()
    state = state or TrainingState()
    check_ready(model, pipeline.batch_size, strategy, jit_compile)
    check_takes(model, pipeline)
    callback_list = LoopCallbackList(
        callbacks, model=model, epochs=epochs, steps=pipeline.steps_per_epoch
    )
    model.stop_training = False
    logs = {}
    try:
        callback_list.begin_at(state.epoch * pipeline.steps_per_epoch + state.batch)
        callback_list.on_train_begin()
        step = train_step(model, pipeline.batch_size)
        run_train_step = _recorded(step, callback_list.recorders, strategy, jit_compile)
        run_test_step = _tested(model, callback_list.counters, strategy, jit_compile)
        for epoch in range(state.epoch, epochs):
            callback_list.on_epoch_begin(epoch)
            batches = _train_batches(model, pipeline, strategy, epoch, state.batch)
            logs = _train(batches, run_train_step, callback_list, state)
            batches = _test_batches(model, pipeline, strategy)
            with averaged_weights(model):
                logs |= _test(batches, run_test_step, callback_list)
            _end_epoch(model, state, logs)
            callback_list.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        callback_list.on_train_end(logs)
    finally:
        callback_list.close()
    return logs


def evaluate(
    model: keras.Model,
    pipeline: Pipeline,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, float]:
    """Tests a classifier on all test examples, on one device.

    Args:
        model: A model of logits.
        pipeline: The batches for testing.
        callbacks: Keras callbacks, called as by the tests of `fit`.

    Returns:
        `loss`, `accuracy` and `top5_accuracy`.

    Raises:
        ValueError: If the model does not fit the data.
    """
    check_takes(model, pipeline)
    strategy = tf.distribute.get_strategy()
    callback_list = LoopCallbackList(callbacks, model=model)
    run_test_step = _tested(model, callback_list.counters, strategy, jit_compile=False)
    batches = _Batches(pipeline.test_batches(), pipeline.test_steps, model.steps_per_execution)
    figures = _test(batches, run_test_step, callback_list)
    return {name.removeprefix("val_"): value for name, value in figures.items()}


def _train_batches(
    model: keras.Model,
    pipeline: Pipeline,
    strategy: tf.distribute.Strategy,
    epoch: int,
    first_batch: int,
) -> "_Batches":
    """Returns the batches of an epoch from `first_batch` on, over all replicas."""
    batches = strategy.distribute_datasets_from_function(
        functools.partial(pipeline.train_batches, epoch, first_batch)
    )
    return _Batches(batches, pipeline.steps_per_epoch, model.steps_per_execution)


def _test_batches(
    model: keras.Model, pipeline: Pipeline, strategy: tf.distribute.Strategy
) -> "_Batches":
    """Returns the batches of a test, over all replicas."""
    batches = strategy.distribute_datasets_from_function(pipeline.test_batches)
    return _Batches(batches, pipeline.test_steps, model.steps_per_execution)


def _end_epoch(model: keras.Model, state: TrainingState, logs: dict[str, float]) -> None:
    """Adds the learning rate to an epoch's figures, and the epoch to the state."""
    # NumPy gets a single value of a variable on several devices.
    rate = model.optimizer.learning_rate
    logs["learning_rate"] = float(np.asarray(keras.ops.convert_to_numpy(rate)))
    epoch = state.epoch
    state.epoch, state.batch, state.totals = epoch + 1, 0, (0.0,) * 4
    state.history = (*state.history, lasting(epoch_figures(model, epoch, logs)))


def _recorded(
    step: Step,
    recorders: Sequence[LoopCallback],
    strategy: tf.distribute.Strategy,
    jit_compile: bool,
) -> Step:
    """Returns a function that runs steps: those that are due recorded, all others plain."""
    plain = repeated(distributed(step, strategy, jit_compile))
    for recorder in recorders:
        # One of several recorders may be due when another is not.
        step = recorder.recorded(step, asks=len(recorders) > 1)
    recorded = repeated(distributed(step, strategy, jit_compile))

    def run(*arguments: Any) -> tf.Tensor:
        due = any(recorder.due for recorder in recorders)
        return (recorded if due else plain)(*arguments)

    return run


def _tested(
    model: keras.Model,
    counters: Sequence[Counter],
    strategy: tf.distribute.Strategy,
    jit_compile: bool,
) -> Step:
    """Returns a function that runs steps of a test."""
    return repeated(distributed(test_step(model, counters), strategy, jit_compile))


class _Batches:
    """The batches of an epoch or of a test, run in executions between calls of callbacks.

    Args:
        batches: The remaining batches.
        number: Number of all batches.
        at_once: The largest number of batches in one execution.
    """

    def __init__(self, batches: Iterable[Any], number: int, at_once: int):
        self.number = number
        self._iterator = iter(batches)
        self._at_once = at_once

    def next_execution(self, done: int, ahead: float = math.inf) -> int:
        """Returns the number of batches to run before callbacks have to be called again."""
        return int(min(self.number - done, self._at_once, ahead))

    def run(
        self, run_steps: Step, number: int, totals: Totals, told_to_stop: bool
    ) -> tuple[Totals, bool]:
        """Runs batches; returns the totals, and whether any process was told to stop."""
        sums = tf.constant((*totals, 0.0), tf.float64)
        vote = tf.constant(float(told_to_stop))
        try:
            sums = run_steps(vote, self._iterator, number, sums).numpy().tolist()
        except (StopIteration, tf.errors.OutOfRangeError) as error:
            raise ValueError(
                f"The data ended before its {self.number} batches. It has fewer examples than its "
                "source says; correct `train_examples` or `test_examples`."
            ) from error
        return tuple(sums[:-1]), sums[-1] > 0


def _train(
    batches: _Batches, run_steps: Step, callback_list: LoopCallbackList, state: TrainingState
) -> dict[str, float]:
    """Runs the remaining batches of an epoch; returns its figures."""
    start, images_before = time.perf_counter(), state.totals[2]
    while state.batch < batches.number:
        number = batches.next_execution(state.batch, callback_list.batches_ahead)
        callback_list.on_train_batch_begin(state.batch)
        state.totals, told_to_stop = batches.run(
            run_steps, number, state.totals, callback_list.told_to_stop
        )
        state.batch += number
        callback_list.on_train_batch_end(state.batch - 1, _means(state.totals))
        if told_to_stop:
            callback_list.stop()
    rate = (state.totals[2] - images_before) / (time.perf_counter() - start)
    return _means(state.totals) | {"images_per_second": rate}


def _test(batches: _Batches, run_steps: Step, callback_list: LoopCallbackList) -> dict[str, float]:
    """Runs a test; returns its figures."""
    done, totals = 0, (0.0,) * 4
    callback_list.on_test_begin()
    while done < batches.number:
        # The callbacks' `batches_ahead` is about batches of the training only.
        number = batches.next_execution(done)
        callback_list.on_test_batch_begin(done)
        totals, told_to_stop = batches.run(run_steps, number, totals, callback_list.told_to_stop)
        done += number
        callback_list.on_test_batch_end(done - 1, _means(totals))
        if told_to_stop:
            callback_list.stop()
    logs = _means(totals)
    callback_list.on_test_end(logs)
    return {f"val_{name}": value for name, value in logs.items()}


def _means(totals: Totals) -> dict[str, float]:
    loss, correct, images, among_five = totals
    return {
        "loss": loss / images,
        "accuracy": correct / images,
        "top5_accuracy": among_five / images,
    }
