"""`Convolution` against TensorFlow's own, group by group."""

import numpy as np
import pytest
import tensorflow as tf

from reszoo.layers import Convolution


def images(channels=4, size=9):
    return tf.random.normal((2, size, size, channels), seed=1)


def reference(x, layer):
    """Pads by hand, then convolves each group by itself."""
    reach = layer.dilation_rate * (layer.kernel_size // 2)
    x = tf.pad(x, [[0, 0], [reach, reach], [reach, reach], [0, 0]])
    groups = zip(
        tf.split(x, layer.groups, -1), tf.split(layer.kernel, layer.groups, -1), strict=True
    )
    return tf.concat(
        [
            tf.nn.conv2d(part, kernel, layer.strides, "VALID", dilations=layer.dilation_rate)
            for part, kernel in groups
        ],
        -1,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1, "strides": 2},
        {"kernel_size": 3, "strides": 2},
        {"kernel_size": 7, "strides": 2},
        {"kernel_size": 3, "dilation_rate": 2},
        {"kernel_size": 3, "groups": 2},
        {"kernel_size": 3, "groups": 4, "strides": 2},
    ],
)
@pytest.mark.parametrize("size", [8, 9])
def test_pads_alike_on_every_side(options, size):
    layer, x = Convolution(8, **options), images(size=size)
    y = layer(x)
    np.testing.assert_allclose(y, reference(x, layer), rtol=1e-4, atol=1e-5)
    assert y.shape == layer.compute_output_shape(x.shape)


def test_bias_is_added():
    layer, x = Convolution(8, 3, use_bias=True), images()
    without = layer(x)
    layer.bias.assign(np.arange(8.0))
    np.testing.assert_array_equal(layer(x), without + np.arange(8, dtype="float32"))


def test_standardized_weights_do_not_feel_scale_or_shift_of_the_kernel():
    layer, x = Convolution(8, 3, weight_standardization=True), images()
    y = layer(x)
    layer.kernel.assign(3 * layer.kernel + 2)
    np.testing.assert_allclose(layer(x), y, rtol=1e-3, atol=1e-3)
    w = layer.kernel.numpy()
    standard = (w - w.mean((0, 1, 2))) / np.sqrt(w.var((0, 1, 2)) + 1e-8)
    np.testing.assert_allclose(layer(x), tf.nn.conv2d(x, standard, 1, "SAME"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 2}, "odd"),
        ({"kernel_size": 3, "strides": 2, "dilation_rate": 2}, "at most one"),
        ({"kernel_size": 3, "groups": 0}, "groups=0"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Convolution(8, **options)


def test_groups_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ValueError, match="3 input channels"):
        Convolution(8, 3, groups=2).build((None, 8, 8, 3))
