"""The smallest model with a block, its data, and what a tape by hand finds in its training."""

import keras
import numpy as np

import reszoo
from reszoo.gradients import load
from tests.gradients.by_hand import training_by_hand

BATCH = 8
_random = np.random.default_rng(0)
X = _random.normal(size=(64, 4)).astype("float32")
Y = _random.normal(size=(64, 1)).astype("float32")
BATCHES = [(X[i : i + BATCH], Y[i : i + BATCH]) for i in range(0, len(X), BATCH)]


def compiled(model, optimizer=None, **options):
    model.compile(
        optimizer or keras.optimizers.SGD(0.05), "mse", **{"jit_compile": False, **options}
    )
    return model


def tiny(optimizer=None, kind=keras.Sequential, **options):
    keras.utils.set_random_seed(1)
    block = reszoo.ResidualBlock([keras.layers.Dense(4, "tanh")], name="b")
    layers = [keras.Input((4,)), block, keras.layers.Dense(1)]
    return compiled(kind(layers, name="tiny"), optimizer, **options)


def fit(model, *callbacks, batches=8, **options):
    examples = batches * BATCH
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0, **options}
    return model.fit(X[:examples], Y[:examples], callbacks=list(callbacks), **options)


def by_hand(batches, optimizer=None):
    """Returns the statistics of each step by a tape written out by hand."""
    mean_square = keras.losses.MeanSquaredError()
    return [
        of_step["b"]
        for of_step in training_by_hand(
            tiny(), optimizer or keras.optimizers.SGD(0.05), batches, mean_square
        )
    ]


def recorded(log_dir, statistic="skip_gradient_norm"):
    """Returns step to value, of the block."""
    table = load(str(log_dir))
    table = table[table.statistic == statistic]
    return dict(zip(table.step.tolist(), table.value.astype(float).tolist(), strict=True))


def assert_recorded(log_dir, steps, expected):
    """Asserts that these steps are recorded, and that each is what a tape by hand finds."""
    for statistic in ("skip_gradient_norm", "weight_gradient_norm", "update_norm"):
        found = recorded(log_dir, statistic)
        assert sorted(found) == list(steps)
        by_tape = [expected[step][statistic] for step in steps]
        np.testing.assert_allclose(list(found.values()), by_tape, rtol=1e-4)
