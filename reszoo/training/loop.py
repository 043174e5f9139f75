"""The training loop: a gradient tape inside a distribution strategy, with Keras callbacks."""

import functools
import time
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from reszoo.data import Pipeline
from reszoo.training.averages import averaged_weights
from reszoo.training.state import TrainingState
from reszoo.training.steps import distributed, test_step, train_step


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
    than there, a recorder (a callback that has what `GradientRecorder` has for loops: `due`,
    `recorded` and `begin_at`) gets the steps that are due to it, and a callback with a method
    `close()` is closed at the end, also when training raises. A callback with `told_to_stop` and
    `stop()` can end the training of all processes at the same batch: where it is true in one of
    them, `stop()` is called in each.

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
        ValueError: If the model is not ready or does not fit the data, or the batch cannot be split
            over the devices.

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
    _check_ready(model, pipeline.batch_size, strategy, jit_compile)
    _check_fits(model, pipeline)
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
        run_test_step = distributed(test_step(model), strategy, jit_compile)
        for epoch in range(state.epoch, epochs):
            callback_list.on_epoch_begin(epoch)
            batches = strategy.distribute_datasets_from_function(
                functools.partial(pipeline.train_batches, epoch, state.batch)
            )
            logs = _train(run_train_step, batches, callback_list, state)
            batches = strategy.distribute_datasets_from_function(pipeline.test_batches)
            with averaged_weights(model):
                logs |= _test(run_test_step, batches, callback_list)
            logs["learning_rate"] = float(model.optimizer.learning_rate)
            state.epoch, state.batch, state.totals = epoch + 1, 0, (0.0,) * 4
            callback_list.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        callback_list.on_train_end(logs)
    finally:
        _close(callbacks)
    return logs


def evaluate(model: keras.Model, pipeline: Pipeline) -> dict[str, float]:
    """Tests a classifier on all test examples, on one device.

    Args:
        model: A model of logits.
        pipeline: The batches.

    Returns:
        `loss`, `accuracy` and `top5_accuracy`.

    Raises:
        ValueError: If the model does not fit the data.
    """
    _check_fits(model, pipeline)
    strategy = tf.distribute.get_strategy()
    run_test_step = distributed(test_step(model), strategy, jit_compile=False)
    figures = _test(run_test_step, pipeline.test_batches(), keras.callbacks.CallbackList())
    return {name.removeprefix("val_"): value for name, value in figures.items()}


def _recorded(step, recorders, strategy, jit_compile):
    """Returns the distributed step, which is recorded when it is due and plain when it is not."""
    plain = distributed(step, strategy, jit_compile)
    for recorder in recorders:
        # One of several may be due when another is not.
        step = recorder.recorded(step, asks=len(recorders) > 1)
    recorded = distributed(step, strategy, jit_compile)

    def run(*batch):
        due = any(recorder.due for recorder in recorders)
        return (recorded if due else plain)(*batch)

    return run


def _close(callbacks):
    for callback in callbacks:
        if hasattr(callback, "close"):
            callback.close()


def _run(run_step, batch, callbacks):
    """Returns the sums of a step, and whether any process was told to stop."""
    vote = float(any(getattr(callback, "told_to_stop", False) for callback in callbacks))
    sums = tf.cast(run_step(tf.constant(vote), *batch), tf.float64)
    return sums[:-1], bool(sums[-1] > 0)


def _stop_if(told, callbacks):
    for callback in callbacks if told else ():
        if hasattr(callback, "stop"):
            callback.stop()


def _train(run_step, batches, callback_list, state):
    totals = tf.constant(state.totals, tf.float64)
    start, images_before = time.perf_counter(), state.totals[2]
    for batch in batches:
        callback_list.on_train_batch_begin(state.batch)
        sums, told_to_stop = _run(run_step, batch, callback_list.callbacks)
        totals += sums
        state.batch, state.totals = state.batch + 1, tuple(totals.numpy().tolist())
        callback_list.on_train_batch_end(state.batch - 1, _means(totals))
        _stop_if(told_to_stop, callback_list.callbacks)
    rate = (state.totals[2] - images_before) / (time.perf_counter() - start)
    return _means(totals) | {"images_per_second": rate}


def _test(run_step, batches, callback_list):
    totals = tf.zeros(4, tf.float64)
    callback_list.on_test_begin()
    for index, batch in enumerate(batches):
        callback_list.on_test_batch_begin(index)
        sums, told_to_stop = _run(run_step, batch, callback_list.callbacks)
        totals += sums
        callback_list.on_test_batch_end(index, _means(totals))
        _stop_if(told_to_stop, callback_list.callbacks)
    logs = _means(totals)
    callback_list.on_test_end(logs)
    return {f"val_{name}": value for name, value in logs.items()}


def _means(totals: tf.Tensor) -> dict[str, Any]:
    loss, correct, images, among_five = totals.numpy()
    return {
        "loss": float(loss / images),
        "accuracy": float(correct / images),
        "top5_accuracy": float(among_five / images),
    }


def _check_ready(model, batch_size, strategy, jit_compile):
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


def _check_fits(model, pipeline):
    """Raises if the model takes other images than the pipeline gives, or knows other classes."""
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
