"""Code that the comparisons with other libraries' networks share."""

import keras
import numpy as np
import tensorflow as tf

TOLERANCE = {"float32": 1e-4, "float64": 1e-9}


def images(dtype):
    # keras.applications and KerasHub cast their images to float32, also in float64.
    shape = (5, 32, 32, 3) if dtype == "float32" else (2, 64, 64, 3)
    return np.random.default_rng(0).normal(size=shape).astype("float32").astype(dtype)


def relative_errors(ours, theirs):
    """Returns the largest error of each image, relative to that image's largest value."""
    ours, theirs = (np.reshape(value, (len(value), -1)) for value in (ours, theirs))
    return np.abs(ours - theirs).max(1) / np.abs(theirs).max(1)


def assert_close(ours, theirs, dtype, gradient_tolerance=None):
    for name, value in theirs.items():
        assert ours[name].shape == value.shape
        errors = relative_errors(ours[name], value)
        if dtype == "float32" and name == "gradient":
            # A ReLU's derivative jumps at 0: where rounding puts one activation of an image on the
            # other side, that image's gradient differs in a few places. In float64 none does.
            errors = np.median(errors)
        tolerance = gradient_tolerance if name == "gradient" else None
        assert np.all(errors < (tolerance or TOLERANCE[dtype])), (name, errors)


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
