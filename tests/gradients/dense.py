"""A small model of dense layers and its data, the same on every backend of Keras."""

import keras
import numpy as np

from reszoo import ResidualBlock, StopGradSkip
from reszoo.gradients import load
from reszoo.gradients.log.reader import losses

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BATCH = 16
STEPS = 4
_random = np.random.default_rng(0)
X = _random.normal(size=(BATCH * STEPS, 6)).astype("float32")
LABELS = _random.integers(0, 3, BATCH * STEPS)
BATCHES = [(X[i : i + BATCH], LABELS[i : i + BATCH]) for i in range(0, len(X), BATCH)]


def dense_layers():
    """Returns a chain of layers without normalization: parts of a batch give what it gives."""

    def branch():
        return [keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(6)]

    return [
        keras.Input((6,)),
        ResidualBlock(branch(), name="identity"),
        ResidualBlock(branch(), keras.layers.Dense(6), activation="relu", name="projection"),
        ResidualBlock(branch(), StopGradSkip(), name="stopped"),
        keras.layers.Dense(3, name="logits"),
    ]


def dense_model(kind=keras.Sequential):
    return with_weights(kind(dense_layers(), name="dense"))


def with_weights(model):
    """Returns the model with weights that NumPy has drawn, the same on every backend."""
    random = np.random.default_rng(1)
    model.set_weights([0.4 * random.normal(size=w.shape) for w in model.get_weights()])
    return model


def sgd(**options):
    return keras.optimizers.SGD(0.1, momentum=0.9, **options)


def recorded(log_dir):
    """Returns step to block to statistic to value."""
    steps = {}
    for row in load(str(log_dir)).itertuples():
        steps.setdefault(row.step, {}).setdefault(row.block, {})[row.statistic] = row.value
    return steps


def assert_recorded(log_dir, by_hand, steps=range(STEPS), rel=1e-5, leave_out=()):
    """Asserts that these steps are recorded, and that each is what was found by hand."""
    found = recorded(log_dir)
    assert sorted(found) == list(steps)
    of_steps = losses(str(log_dir))
    assert sorted(of_steps) == sorted(found)
    for step in steps:
        loss = getattr(by_hand[step], "loss", of_steps[step])
        np.testing.assert_allclose(of_steps[step], loss, rtol=rel, err_msg=f"loss of {step}")
        for block, expected in by_hand[step].items():
            for name in expected.keys() - set(leave_out):
                np.testing.assert_allclose(
                    found[step][block][name],
                    expected[name],
                    rtol=rel,
                    atol=1e-7,
                    err_msg=f"{step} {block} {name}",
                )
