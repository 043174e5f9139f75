"""The training loop: a gradient tape inside a distribution strategy, with Keras callbacks."""

import contextlib
import functools
import time
from collections.abc import Sequence

import keras
import tensorflow as tf

from reszoo.data import Pipeline
from reszoo.gradients.scale import accumulation_steps
from reszoo.training.averages import averaged_weights
from reszoo.training.metrics_file import epoch_figures, lasting
from reszoo.training.state import TrainingState
from reszoo.training.steps import distributed, repeated, test_step, train_step


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
    whole batch, so any number of devices gives the same gradients. Tests leave out the weights of
    the classes.

    Callbacks get what Keras's own `fit` gives them: `loss`, `accuracy` and `top5_accuracy` of the
    epoch so far after each batch, and after an epoch `val_loss`, `val_accuracy` and
    `val_top5_accuracy` on the test examples too, with `learning_rate` and `images_per_second`. More
    than there,

    - a recorder (a callback that has what `GradientRecorder` has for loops: `begin_at`, `recorded`
      and `due`) gets the batches that are due to it;
    - where the model was compiled with several `steps_per_execution`, callbacks are called before
      the first batch of an execution and after its last. One with `batches_ahead` can have it end
      sooner: so many batches may run before it is called again. All processes have to agree;
    - the method `count_answers` of a callback, if there is one, is called with `(labels, logits,
      weights)` in each step of a test, on each replica;
    - a callback with `told_to_stop` and `stop()` can end the training of all processes at the same
      batch: where it is true in one of them, `stop()` is called in each;
    - a callback with a method `close()` is closed at the end, also when training raises.

    Args:
        model: A model of logits, compiled with an optimizer that is built, under `strategy`.
        pipeline: The batches.
        epochs: Number of all epochs.
        state: Where to begin, the very start if `None`; it is kept up to date, so that callbacks
            can save it.
        callbacks: Keras callbacks.
        strategy: Where to run; TensorFlow's default strategy if `None`.
        jit_compile: Whether to compile the steps with XLA.

    Returns:
        What `on_epoch_end` of the last epoch got.

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
    check_fits(model, pipeline)
    callback_list = keras.callbacks.CallbackList(
        list(callbacks), model=model, epochs=epochs, steps=pipeline.steps_per_epoch
    )
    model.stop_training = False
    logs = {}
    try:
        recorders = [callback for callback in callbacks if hasattr(callback, "recorded")]
        for recorder in recorders:
            recorder.begin_at(state.epoch * pipeline.steps_per_epoch + state.batch)
        callback_list.on_train_begin()
        step = train_step(model, pipeline.batch_size)
        run_train_step = _recorded(step, recorders, strategy, jit_compile)
        run_test_step = _tested(model, callbacks, strategy, jit_compile)
        for epoch in range(state.epoch, epochs):
            callback_list.on_epoch_begin(epoch)
            batches = strategy.distribute_datasets_from_function(
                functools.partial(pipeline.train_batches, epoch, state.batch)
            )
            batches = _Batches(batches, pipeline.steps_per_epoch, model.steps_per_execution)
            logs = _train(batches, run_train_step, callback_list, state)
            batches = strategy.distribute_datasets_from_function(pipeline.test_batches)
            with averaged_weights(model):
                batches = _Batches(batches, pipeline.test_steps, model.steps_per_execution)
                logs |= _test(batches, run_test_step, callback_list)
            # Of a variable on several devices, NumPy gets one value.
            rate = keras.ops.convert_to_numpy(model.optimizer.learning_rate)
            logs["learning_rate"] = float(rate)
            state.epoch, state.batch, state.totals = epoch + 1, 0, (0.0,) * 4
            state.history = (*state.history, lasting(epoch_figures(model, epoch, logs)))
            callback_list.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        callback_list.on_train_end(logs)
    finally:
        _close(callbacks)
    return logs


def evaluate(
    model: keras.Model,
    pipeline: Pipeline,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, float]:
    """Tests a classifier on all test examples, on one device.

    Args:
        model: A model of logits.
        pipeline: The batches.
        callbacks: Called as by the tests of `fit`.

    Returns:
        `loss`, `accuracy` and `top5_accuracy`.

    Raises:
        ValueError: If the model does not fit the data.
    """
    check_fits(model, pipeline)
    strategy = tf.distribute.get_strategy()
    run_test_step = _tested(model, callbacks, strategy, jit_compile=False)
    batches = _Batches(pipeline.test_batches(), pipeline.test_steps, model.steps_per_execution)
    callback_list = keras.callbacks.CallbackList(list(callbacks), model=model)
    figures = _test(batches, run_test_step, callback_list)
    return {name.removeprefix("val_"): value for name, value in figures.items()}


def _recorded(step, recorders, strategy, jit_compile):
    """Returns what runs steps: one that is due is recorded, and those that are not are plain."""
    plain = repeated(distributed(step, strategy, jit_compile))
    for recorder in recorders:
        # One of several may be due when another is not.
        step = recorder.recorded(step, asks=len(recorders) > 1)
    recorded = repeated(distributed(step, strategy, jit_compile))

    def run(*arguments):
        due = any(recorder.due for recorder in recorders)
        return (recorded if due else plain)(*arguments)

    return run


def _tested(model, callbacks, strategy, jit_compile):
    """Returns what runs steps of a test."""
    counters = [
        callback.count_answers for callback in callbacks if hasattr(callback, "count_answers")
    ]
    return repeated(distributed(test_step(model, counters), strategy, jit_compile))


def _close(callbacks):
    """Closes all callbacks in their order, also when one of them raises."""
    with contextlib.ExitStack() as stack:
        for callback in reversed(callbacks):
            if hasattr(callback, "close"):
                stack.callback(callback.close)


class _Batches:
    """The batches of an epoch or of a test, some of which run before callbacks are called again.

    Args:
        batches: Those that are left of them.
        number: How many there are in all.
        at_once: How many run in one execution, at most.
    """

    def __init__(self, batches, number, at_once):
        self.number = number
        self._iterator = iter(batches)
        self._at_once = at_once

    def next_execution(self, done, callbacks):
        """Returns how many batches run before the callbacks have to be called again."""
        ahead = [c.batches_ahead for c in callbacks if hasattr(c, "batches_ahead")]
        return min(self.number - done, self._at_once, *ahead)

    def run(self, run_steps, number, totals, callbacks):
        """Runs batches; returns the totals, and whether any process was told to stop."""
        vote = float(any(getattr(callback, "told_to_stop", False) for callback in callbacks))
        totals = tf.constant((*totals, 0.0), tf.float64)
        try:
            totals = run_steps(tf.constant(vote), self._iterator, number, totals).numpy().tolist()
        except (StopIteration, tf.errors.OutOfRangeError) as error:
            raise ValueError(
                f"The data ended before its {self.number} batches. It has fewer examples than its "
                "source says; correct `train_examples` or `test_examples`."
            ) from error
        return tuple(totals[:-1]), totals[-1] > 0


def _stop_if(told, callbacks):
    for callback in callbacks if told else ():
        if hasattr(callback, "stop"):
            callback.stop()


def _train(batches, run_steps, callback_list, state):
    callbacks = callback_list.callbacks
    start, images_before = time.perf_counter(), state.totals[2]
    while state.batch < batches.number:
        number = batches.next_execution(state.batch, callbacks)
        callback_list.on_train_batch_begin(state.batch)
        state.totals, told_to_stop = batches.run(run_steps, number, state.totals, callbacks)
        state.batch += number
        callback_list.on_train_batch_end(state.batch - 1, _means(state.totals))
        _stop_if(told_to_stop, callbacks)
    rate = (state.totals[2] - images_before) / (time.perf_counter() - start)
    return _means(state.totals) | {"images_per_second": rate}


def _test(batches, run_steps, callback_list):
    callbacks, done, totals = callback_list.callbacks, 0, (0.0,) * 4
    callback_list.on_test_begin()
    while done < batches.number:
        # What callbacks look ahead to is in the training.
        number = batches.next_execution(done, ())
        callback_list.on_test_batch_begin(done)
        totals, told_to_stop = batches.run(run_steps, number, totals, callbacks)
        done += number
        callback_list.on_test_batch_end(done - 1, _means(totals))
        _stop_if(told_to_stop, callbacks)
    logs = _means(totals)
    callback_list.on_test_end(logs)
    return {f"val_{name}": value for name, value in logs.items()}


def _means(totals):
    loss, correct, images, among_five = totals
    return {
        "loss": loss / images,
        "accuracy": correct / images,
        "top5_accuracy": among_five / images,
    }


def check_ready(
    model: keras.Model, batch_size: int, strategy: tf.distribute.Strategy, jit_compile: bool
) -> None:
    """Makes sure that a strategy can run the steps of a model.

    Args:
        model: A model of logits.
        batch_size: Number of images in a batch, over all replicas.
        strategy: Where to run.
        jit_compile: Whether the steps are compiled with XLA.

    Raises:
        ValueError: If it cannot.
    """
    if not getattr(model, "optimizer", None) or not model.optimizer.built:
        raise ValueError(
            "The model has no optimizer that is built. Call model.compile(optimizer) and "
            "model.optimizer.build(model.trainable_variables) under the strategy's scope."
        )
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(
            f"A batch of {batch_size} images cannot be split evenly over {replicas} devices. Give "
            f"a batch_size that is a multiple of {replicas}."
        )
    if jit_compile and replicas > 1:
        raise ValueError(
            f"XLA cannot compile a step that is spread over {replicas} devices. Set "
            "jit_compile=False, or use one device."
        )
    if replicas > 1 and accumulation_steps(model.optimizer) > 1:
        raise ValueError(
            f"Gradients cannot be accumulated over {replicas} devices: Keras cannot add them "
            "up there. Set optimizer.accumulation_steps=1, or use one device."
        )


def check_fits(model: keras.Model, pipeline: Pipeline) -> None:
    """Makes sure that a model takes the images of a pipeline and knows their classes.

    Args:
        model: A model of logits.
        pipeline: The batches.

    Raises:
        ValueError: If it takes others.
    """
    for split, shape in (("train", pipeline.image_shape), ("test", pipeline.test_image_shape)):
        if not tf.TensorShape(model.input_shape[1:]).is_compatible_with(shape):
            raise ValueError(
                f"The model takes images of the shape {model.input_shape[1:]} (height, width, "
                f"channels), but the {split} images have {shape}."
            )
    classes, names = model.output_shape[-1], pipeline.source.class_names
    if classes != len(names):
        raise ValueError(
            f"The model has {classes} classes, but the data set has {len(names)} "
            f"({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})."
        )
