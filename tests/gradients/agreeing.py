"""Statistics and checks on the backend of Keras in use, for three to be compared.

`KERAS_BACKEND=jax python -m tests.gradients.agreeing FILE FILE` writes them.
"""

import sys
import tempfile

import keras
import numpy as np

import reszoo
from tests.gradients.checked import numbers
from tests.gradients.dense import recorded

SETS = ("paths", "weights", "forward", "distribution")
BATCH, STEPS = 8, 2


def network():
    """Returns a network of four blocks with convolutions, normalization and projections."""
    layers = [
        keras.Input((8, 8, 3)),
        reszoo.ResidualBlock(
            reszoo.BasicBranch(4), reszoo.ProjectionShortcut(4), "relu", name="first"
        ),
        reszoo.ResidualBlock(reszoo.BasicBranch(4), activation="relu", name="second"),
        reszoo.ResidualBlock(
            reszoo.BasicBranch(8, strides=2),
            reszoo.ProjectionShortcut(8, strides=2),
            "relu",
            name="third",
        ),
        reszoo.ResidualBlock(reszoo.BasicBranch(8), reszoo.StopGradSkip(), name="fourth"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3),
    ]
    model = keras.Sequential(layers)
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        value = 0.3 * random.normal(size=variable.shape)
        variable.assign(value + 1 if variable.path.endswith("gamma") else value)
    return model


def statistics():
    """Returns the names `step/block/statistic`, and the values."""
    random = np.random.default_rng(1)
    x = random.normal(size=(BATCH * STEPS, 8, 8, 3)).astype("float32")
    labels = random.integers(0, 3, BATCH * STEPS)
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=False)
    with tempfile.TemporaryDirectory() as log_dir:
        recorder = reszoo.GradientRecorder(log_dir, 1, SETS)
        model.fit(x, labels, BATCH, shuffle=False, verbose=0, callbacks=[recorder])
        found = recorded(log_dir)
    return {
        f"{step}/{block}/{name}": value
        for step, blocks in found.items()
        for block, of_block in blocks.items()
        for name, value in of_block.items()
    }


if __name__ == "__main__":
    np.savez(sys.argv[1], **statistics())
    np.savez(sys.argv[2], **numbers())
