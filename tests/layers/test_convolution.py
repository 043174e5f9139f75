"""`Convolution` against sums over the kernel's taps, written out in NumPy."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from reszoo.layers import Convolution, standardized
from reszoo.layers.shapes import per_axis
from tests.layers.windows import padded, taps


def images(channels=4, size=9):
    return tf.random.normal((2, size, size, channels), seed=1)


def by_hand(x, layer):
    """Returns the sum over the taps of a kernel of the pixels that each sees, times its matrix."""
    axes = x.ndim - 2
    size, stride, rate = (
        per_axis("", "", getattr(layer, name), axes)
        for name in ("kernel_size", "strides", "dilation_rate")
    )
    x = padded(x, size, stride, rate, layer.padding)
    kernel = np.asarray(layer.kernel, "float64")
    groups = zip(np.split(x, layer.groups, -1), np.split(kernel, layer.groups, -1), strict=True)
    return np.concatenate(
        [sum(part @ k[tap] for tap, part in taps(g, size, stride, rate)) for g, k in groups], -1
    )


ALONG_EVERY_AXIS = (
    {"kernel_size": 1, "strides": 2},
    {"kernel_size": 3, "strides": 2},
    {"kernel_size": 7, "strides": 2},
    {"kernel_size": 3, "dilation_rate": 2},
    {"kernel_size": 3, "groups": 2},
    {"kernel_size": 3, "groups": 4, "strides": 2},
)
FOR_EACH_AXIS = (
    {"kernel_size": (3, 7, 7), "strides": (1, 2, 2)},
    {"kernel_size": (1, 3, 3), "strides": (1, 2, 2), "groups": 2},
    {"kernel_size": (3, 1, 1), "strides": (2, 1, 1)},
    {"kernel_size": (3, 5), "strides": (2, 1)},
    {"kernel_size": (1, 7), "strides": (1, 1)},
    {"kernel_size": (3, 3), "dilation_rate": (1, 2)},
    {"kernel_size": (5,), "strides": (2,)},
    {"kernel_size": (3, 1)},
)
UNEVEN = ({"kernel_size": 2, "strides": 2}, {"kernel_size": (2, 4), "strides": (1, 2)})
CASES = [
    (options, padding)
    for options, padding in itertools.product(
        (*ALONG_EVERY_AXIS, *FOR_EACH_AXIS, *UNEVEN), ("symmetric", "same", "valid")
    )
    if options not in UNEVEN or padding != "symmetric"
]


@pytest.mark.parametrize(("options", "padding"), CASES, ids=str)
def test_is_the_sum_over_the_taps_for_any_padding(options, padding):
    layer = Convolution(8, padding=padding, **options)
    size = options["kernel_size"]
    axes = len(size) if isinstance(size, tuple) else 2
    for pixels in (8, 9):
        x = np.random.default_rng(0).normal(size=(2, *[pixels] * axes, 4)).astype("float32")
        y = layer(x)
        expected = by_hand(x, layer)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
        assert y.shape == layer.compute_output_shape(x.shape)
        assert layer.compute_output_shape((None, *[None] * axes, 4)) == (None, *[None] * axes, 8)
        copy = Convolution.from_config(layer.get_config())
        assert copy.get_config() == layer.get_config()


SMALL = [
    (options, padding, pixels)
    for (options, padding), pixels in itertools.product(CASES, (8, 1, 2, 3))
    if pixels == 8 or padding == "symmetric"
]


@pytest.mark.parametrize(("options", "padding", "pixels"), SMALL, ids=str)
def test_gradients_of_any_padding_are_those_of_finite_differences(options, padding, pixels):
    layer = Convolution(8, padding=padding, dtype="float64", **options)
    size = options["kernel_size"]
    axes = len(size) if isinstance(size, tuple) else 2
    x = np.random.default_rng(0).normal(size=(1, *[pixels] * axes, 4))
    with tf.GradientTape() as tape:
        x = tf.constant(x)
        tape.watch(x)
        loss = tf.reduce_sum(tf.sin(layer(x)))
    to_x, to_kernel = tape.gradient(loss, [x, layer.kernel.value])
    step = 1e-6 * np.random.default_rng(1).normal(size=x.shape)
    kernel = np.array(layer.kernel)
    of_kernel = 1e-6 * np.random.default_rng(2).normal(size=kernel.shape)
    ends = []
    for sign in (1, -1):
        layer.kernel.assign(kernel + sign * of_kernel)
        ends.append(np.sin(by_hand(x.numpy() + sign * step, layer)).sum())
    expected = (to_x.numpy() * step).sum() + (to_kernel.numpy() * of_kernel).sum()
    np.testing.assert_allclose((ends[0] - ends[1]) / 2, expected, rtol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("options", [*ALONG_EVERY_AXIS, *FOR_EACH_AXIS], ids=str)
def test_taps_that_see_only_padding_change_nothing(options, shape):
    size = options["kernel_size"]
    if isinstance(size, tuple):
        shape = (*shape, 2)[: len(size)]
    layer = Convolution(8, **options)
    x = np.random.default_rng(0).normal(size=(2, *shape, 4)).astype("float32")
    np.testing.assert_allclose(layer(x), by_hand(x, layer), rtol=1e-4, atol=1e-5)
    assert layer(x).shape == layer.compute_output_shape(x.shape)


def test_only_taps_that_reach_a_pixel_are_convolved(monkeypatch):
    used = []
    convolve = Convolution._convolve
    monkeypatch.setattr(
        Convolution,
        "_convolve",
        lambda self, x, kernel, padding: (
            used.append((x.shape[1:3], kernel.shape[:2])) or convolve(self, x, kernel, padding)
        ),
    )
    for pixels, kernel_size, strides in [(1, 3, 1), (2, 3, 1), (2, 5, 1), (2, 3, 2), (9, 3, 2)]:
        Convolution(8, kernel_size, strides)(images(size=pixels))
    # The last is padded on both sides: 9 pixels and a stride of 2 reach beyond the end.
    assert used == [
        ((1, 1), (1, 1)),
        ((2, 2), (3, 3)),
        ((2, 2), (3, 3)),
        ((2, 2), (2, 2)),
        ((11, 11), (3, 3)),
    ]


def test_bias_is_added():
    layer, x = Convolution(8, 3, use_bias=True), images()
    without = layer(x)
    layer.bias.assign(np.arange(8.0))
    np.testing.assert_array_equal(layer(x), without + np.arange(8, dtype="float32"))


def test_standardized_weights_do_not_feel_scale_or_shift_of_the_kernel():
    layer, x = standardized(Convolution(8, 3)), images()
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
        ({"kernel_size": (3, 4)}, r"kernel_size=\(3, 4\).*for example 5"),
        ({"kernel_size": (3, 0)}, r"kernel_size=\(3, 0\)"),
        ({"kernel_size": ()}, r"kernel_size=\(\)"),
        ({"kernel_size": 3, "strides": (1, 2.5)}, "must be an integer"),
        ({"kernel_size": 3, "padding": "SAME"}, "'symmetric', 'same', 'valid'"),
        ({"kernel_size": 3, "padding": 1}, "padding=1"),
        ({"kernel_size": 3, "strides": (1, 2), "dilation_rate": (2, 1)}, "at most one"),
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


@pytest.mark.parametrize("argument", ["kernel_size", "strides", "dilation_rate"])
def test_as_many_sizes_as_axes_are_asked_for(argument):
    layer = Convolution(8, **{"kernel_size": 3, argument: (3, 3, 3)})
    with pytest.raises(ValueError, match=rf"{argument}=\(3, 3, 3\), which has 3 .* 2 spatial axes"):
        layer.build((None, 8, 8, 3))


def test_an_image_smaller_than_the_kernel_is_refused_without_padding():
    with pytest.raises(ValueError, match="Give larger images"):
        Convolution(8, 7, padding="valid").compute_output_shape((None, 9, 6, 3))


def test_a_configuration_of_version_0_1_0_loads():
    config = {"filters": 8, "kernel_size": 3, "strides": 1, "groups": 1, "dilation_rate": 1}
    config |= {"use_bias": False, "weight_standardization": True, "name": "conv1"}
    layer = Convolution.from_config(config)
    assert (layer.name, layer.padding, layer.weight_standardization) == ("conv1", "symmetric", True)
    assert config.items() <= Convolution.from_config(layer.get_config()).get_config().items()
    assert not Convolution(8, 3).get_config()["weight_standardization"]
