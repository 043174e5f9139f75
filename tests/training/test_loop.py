import dataclasses

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import layers

from reszoo import (
    BasicBranch,
    GradientRecorder,
    ProjectionShortcut,
    ResidualBlock,
    StopGradSkip,
)
from reszoo.data import Augmentation, Pipeline, load_source
from reszoo.gradients import load
from reszoo.training import fit
from reszoo.training.averages import averaged_weights
from reszoo.training.loop import evaluate
from reszoo.training.state import TrainingState

PIPELINE = Pipeline(load_source("digits"), batch_size=200, shift_pixels=1)


def small_model(shortcut=None, dropout=0.1, steps_per_execution=1):
    """A model with everything that a step has to mind: norms, regularization, a stopped skip."""
    keras.utils.set_random_seed(1)
    decay = keras.regularizers.L2(1e-3)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, padding="same", kernel_regularizer=decay),
            ResidualBlock(BasicBranch(4), shortcut, activation="relu", name="block"),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(dropout, seed=3),
            layers.Dense(10, dtype="float32", kernel_regularizer=decay),
        ]
    )
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True)
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
        steps_per_execution=steps_per_execution,
    )
    model.optimizer.build(model.trainable_variables)
    return model


def assert_same_weights(model, other, **tolerance):
    for weight, expected in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, **tolerance)


class Logs(keras.callbacks.Callback):
    """Keeps the name of each event, and the logs of those that have them."""

    def __init__(self):
        super().__init__()
        self.events, self.batches, self.epochs = [], [], []

    def on_train_begin(self, logs=None):
        self.events.append("train")

    def on_epoch_begin(self, epoch, logs=None):
        self.events.append(f"epoch {epoch}")

    def on_train_batch_end(self, batch, logs=None):
        self.events.append(f"batch {batch}")
        self.batches.append(logs)

    def on_test_end(self, logs=None):
        self.events.append("test")

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(logs)

    def on_train_end(self, logs=None):
        self.events.append("end")

    def close(self):
        self.events.append("close")


def test_it_is_keras_own_training_on_the_same_batches():
    model, other, logs = small_model(), small_model(), Logs()
    fit(model, PIPELINE, epochs=2, callbacks=[logs])
    for epoch in range(2):
        trained = [
            other.train_on_batch(images, labels, return_dict=True)
            for images, labels in PIPELINE.train_batches(epoch)
        ]
        train = {name: np.mean([batch[name] for batch in trained]) for name in trained[0]}
        images, labels = next(iter(PIPELINE.source.test.batch(360)))
        test = other.evaluate(images, labels, batch_size=360, verbose=0, return_dict=True)
        found = logs.epochs[epoch]
        assert found["loss"] == pytest.approx(train["loss"], rel=1e-5)
        assert found["accuracy"] == pytest.approx(train["accuracy"], abs=1e-6)
        assert found["val_loss"] == pytest.approx(test["loss"], rel=1e-5)
        assert found["val_accuracy"] == pytest.approx(test["accuracy"], abs=1e-6)
    assert_same_weights(model, other, rtol=1e-5, atol=1e-6)


def test_callbacks_hear_everything_in_order():
    logs = Logs()
    fit(small_model(), PIPELINE, epochs=3, state=TrainingState(epoch=2), callbacks=[logs])
    batches = [f"batch {i}" for i in range(7)]
    assert logs.events == ["train", "epoch 2", *batches, "test", "end", "close"]
    assert logs.params == {"epochs": 3, "steps": 7}
    # Means of the epoch so far, ending in the epoch's own.
    assert logs.batches[-1]["loss"] == logs.epochs[0]["loss"]


def test_a_callback_can_stop_the_training():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    logs = Logs()
    fit(small_model(), PIPELINE, epochs=5, callbacks=[Stop(), logs])
    assert len(logs.epochs) == 1


def test_callbacks_are_closed_when_training_raises():
    class Trip(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise RuntimeError("tripped")

    logs = Logs()
    with pytest.raises(RuntimeError, match="tripped"):
        fit(small_model(), PIPELINE, epochs=1, callbacks=[logs, Trip()])
    assert logs.events[-1] == "close"


@pytest.mark.parametrize("jit_compile", [False, True])
def test_several_steps_an_execution_are_the_same_steps(jit_compile):
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    model, logs = small_model(steps_per_execution=3), Logs()
    other, other_logs = small_model(), Logs()
    fit(model, PIPELINE, epochs=2, callbacks=[logs], jit_compile=jit_compile)
    fit(other, PIPELINE, epochs=2, callbacks=[other_logs], jit_compile=jit_compile)
    assert_same_weights(model, other, rtol=0)
    for found, expected in zip(logs.epochs, other_logs.epochs, strict=True):
        assert found | {"images_per_second": 0} == expected | {"images_per_second": 0}
    assert logs.events[2:7] == ["batch 2", "batch 5", "batch 6", "test", "epoch 1"]
    assert logs.batches[0] == other_logs.batches[2]


def test_an_execution_ends_where_a_callback_looks_ahead_to():
    class LooksAhead(Logs):
        batches_ahead = 2

    logs = LooksAhead()
    fit(small_model(steps_per_execution=5), PIPELINE, epochs=1, callbacks=[logs])
    assert logs.events[2:6] == ["batch 1", "batch 3", "batch 5", "batch 6"]


@pytest.mark.parametrize("accumulated", [1, 2])
def test_several_steps_an_execution_leave_none_out_of_the_gradient_log(tmp_path, accumulated):
    half = dataclasses.replace(PIPELINE, batch_size=100, batches_per_update=2)
    for steps_per_execution in (1, 5):
        model = small_model(steps_per_execution=steps_per_execution)
        model.optimizer.gradient_accumulation_steps = accumulated if accumulated > 1 else None
        model.optimizer.built = False
        model.optimizer.build(model.trainable_variables)
        recorder = GradientRecorder(str(tmp_path / str(steps_per_execution)), every_steps=3)
        fit(model, half, epochs=2, callbacks=[recorder])
    one, several = (load(str(tmp_path / name)) for name in ("1", "5"))
    assert sorted(set(one.step)) == list(range(0, 28 // accumulated, 3))
    pd.testing.assert_frame_equal(several, one)


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_data_that_ends_too_soon(steps_per_execution):
    source = dataclasses.replace(PIPELINE.source, train_examples=2000)
    pipeline = dataclasses.replace(PIPELINE, source=source)
    with pytest.raises(ValueError, match=r"ended before its 10 batches.*correct `train_examples`"):
        fit(small_model(steps_per_execution=steps_per_execution), pipeline, epochs=1)


class Recorder(keras.callbacks.Callback):
    """Is due at the batches it is given, and notes what happens."""

    def __init__(self, due_batches):
        super().__init__()
        self.due_batches = due_batches
        self.batch = None
        self.events = []
        self.recorded_batches = tf.Variable(0)

    @property
    def due(self):
        return self.batch in self.due_batches

    def begin_at(self, batch):
        self.batch = batch - 1
        self.events.append(f"begin at {batch}")

    def on_train_begin(self, logs=None):
        self.events.append("begin")

    def on_train_batch_begin(self, batch, logs=None):
        self.batch += 1

    def recorded(self, step, asks):
        self.events.append(f"wrap, {asks=}")

        def wrapped(images, labels):
            self.events.append("trace")
            self.recorded_batches.assign_add(1)
            return step(images, labels)

        return wrapped


def test_a_recorder_gets_the_steps_that_are_due_to_it():
    recorder, model, plain = Recorder({0, 3, 4, 7}), small_model(), small_model()
    fit(model, PIPELINE, epochs=2, callbacks=[recorder])
    fit(plain, PIPELINE, epochs=2)
    assert recorder.events == ["begin at 0", "begin", "wrap, asks=False", "trace"]
    assert recorder.recorded_batches.numpy() == 4
    assert_same_weights(model, plain, rtol=0)


def test_a_recorder_is_told_where_training_goes_on():
    state = TrainingState(epoch=1, batch=1)
    recorder = Recorder(())
    fit(small_model(), PIPELINE, epochs=2, state=state, callbacks=[recorder])
    assert recorder.events[0] == f"begin at {PIPELINE.steps_per_epoch + 1}"


def test_each_of_two_recorders_gets_its_own_steps():
    # Which of them is due is asked within the step, where both are.
    recorders = [Recorder({1}), Recorder({1, 2})]
    fit(small_model(), PIPELINE, epochs=1, callbacks=recorders)
    assert all("wrap, asks=True" in recorder.events for recorder in recorders)
    assert [recorder.recorded_batches.numpy() for recorder in recorders] == [2, 2]


def test_what_no_gradient_reaches_stays_as_it_is():
    # The weights of the skip get none; pytest would raise Keras's warning.
    model = small_model(shortcut=StopGradSkip(ProjectionShortcut(4)))
    kernel = model.layers[1].shortcut.trainable_variables[0]
    before = kernel.numpy()
    fit(model, PIPELINE, epochs=1)
    np.testing.assert_array_equal(kernel, before)


def test_xla_gives_the_same():
    # Without dropout: XLA draws other random numbers.
    model, other = small_model(dropout=0.0), small_model(dropout=0.0)
    fit(model, PIPELINE, epochs=1, jit_compile=True)
    fit(other, PIPELINE, epochs=1)
    assert_same_weights(model, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_follows_float32(policy):
    other = small_model()
    logs = fit(other, PIPELINE, epochs=1)
    keras.config.set_dtype_policy(policy)
    model = small_model()
    mixed = fit(model, PIPELINE, epochs=1)
    assert model.layers[0].compute_dtype == policy.removeprefix("mixed_")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (
        "_float16" in policy
    )
    assert mixed["loss"] == pytest.approx(logs["loss"], rel=0.02)
    assert_same_weights(model, other, atol=0.05)


def test_an_optimizer_that_is_not_built():
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)])
    with pytest.raises(ValueError, match="no optimizer that is built"):
        fit(model, PIPELINE, epochs=1)


def test_accumulated_batches_are_one_large_batch_and_its_average_is_tested():
    """Two half batches an update, with averaged weights, against the same written out."""
    half = dataclasses.replace(PIPELINE, batch_size=100, batches_per_update=2)
    assert half.steps_per_epoch == 14

    def linear(rate=0.05, **options):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)])
        model.compile(keras.optimizers.SGD(rate, **options))
        model.optimizer.build(model.trainable_variables)
        return model

    accumulated = linear(gradient_accumulation_steps=2, use_ema=True, ema_momentum=0.5)
    whole = linear()
    logs = fit(accumulated, half, epochs=1)
    fit(whole, PIPELINE, epochs=1)
    assert_same_weights(accumulated, whole, rtol=1e-4, atol=1e-6)

    with averaged_weights(accumulated):
        averaged = accumulated.get_weights()
        images, labels = next(iter(PIPELINE.source.test.batch(360)))
        found = (tf.argmax(accumulated(images), axis=1, output_type=tf.int32) == labels).numpy()
    assert logs["val_accuracy"] == pytest.approx(found.mean())
    assert_same_weights(accumulated, whole, rtol=1e-4, atol=1e-6)
    assert abs(averaged[0] - whole.get_weights()[0]).max() > 1e-4


def test_labels_that_are_distributions_and_the_best_five():
    smooth = dataclasses.replace(PIPELINE, augmentation=Augmentation(label_smoothing=0.1))
    logs = Logs()
    fit(small_model(), smooth, epochs=1, callbacks=[logs])
    first = logs.batches[0]
    model, (images, labels) = small_model(), next(iter(PIPELINE.train_batches(0)))
    expected = keras.losses.CategoricalCrossentropy(True, label_smoothing=0.1)
    logits = model(images, training=True)
    loss = expected(tf.one_hot(labels, 10), logits) + sum(model.losses)
    assert first["loss"] == pytest.approx(float(loss), rel=1e-5)
    right = [label in row.argsort()[-5:] for row, label in zip(logits.numpy(), labels, strict=True)]
    assert first["top5_accuracy"] == pytest.approx(np.mean(right), abs=0.01)


@pytest.mark.parametrize(
    ("input_shape", "classes", "message"),
    [
        ((8, 8, 3), 10, r"takes images of the shape \(8, 8, 3\).* train images have \(8, 8, 1\)"),
        ((8, 8, 1), 7, r"The model has 7 classes, but the data set has 10 \(0, 1, 2, 3, 4, ...\)"),
    ],
)
def test_a_model_that_does_not_fit_the_data(input_shape, classes, message):
    model = keras.Sequential([keras.Input(input_shape), layers.Flatten(), layers.Dense(classes)])
    model.compile("sgd")
    model.optimizer.build(model.trainable_variables)
    with pytest.raises(ValueError, match=message):
        fit(model, PIPELINE, epochs=1)
    with pytest.raises(ValueError, match=message):
        evaluate(model, PIPELINE)
