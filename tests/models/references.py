"""What the comparisons with other libraries' networks share."""

import keras
import numpy as np
import tensorflow as tf

TOLERANCE = {"float32": 1e-4, "float64": 1e-9}


def images(size=64, dtype="float64", batch=2, channels=3):
    # keras.applications casts its images to float32, also in float64.
    x = np.random.default_rng(0).normal(size=(batch, size, size, channels)).astype("float32")
    return x.astype(dtype)


def relative_error(ours, theirs):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def assert_close(ours, theirs, dtype):
    for name, value in theirs.items():
        assert relative_error(ours[name], value) < TOLERANCE[dtype], name


def run(model, x, names):
    """Returns the outputs of the named layers and of the model, and the gradient at the images.

    The gradient is that of the sum of squares of the model's output.
    """
    outputs = {name: model.get_layer(name).output for name in names} | {"output": model.output}
    taps = keras.Model(model.inputs, outputs)
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        results = taps(x, training=False)
        loss = tf.reduce_sum(results["output"] ** 2)
    return {**results, "gradient": tape.gradient(loss, x)}


def randomize(model, seed=1):
    """Gives a Keras model random weights, the moving averages included."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        low, high = (0.5, 1.5) if weight.name in ("gamma", "moving_variance") else (-0.2, 0.2)
        if weight.name != "kernel":
            weight.assign(rng.uniform(low, high, weight.shape))
