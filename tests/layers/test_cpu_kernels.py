"""The convolutions for CPUs against TensorFlow's own: value, gradients, their gradients."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from reszoo.layers import Convolution, MaxPool, cpu_kernels
from reszoo.layers.cpu_kernels import (
    cpu_convolution,
    cpu_max_pool,
    first_of_strides,
    im2col_convolution,
    patch_convolution,
    pointwise_convolution,
    rotated_convolution,
    separable_max_pool,
)


def plain(x, kernel, strides=1, padding="SAME"):
    return tf.nn.conv2d(x, kernel, strides, padding)


def derivatives(convolve, x, kernel):
    """Returns the value, its gradients, and the gradients of the norm of those."""
    with tf.GradientTape() as outer:
        outer.watch([x, kernel])
        with tf.GradientTape() as inner:
            inner.watch([x, kernel])
            y = convolve(x, kernel)
            loss = tf.reduce_sum(tf.sin(y))
        first = inner.gradient(loss, [x, kernel])
        penalty = tf.reduce_sum(first[0] ** 2) + tf.reduce_sum(tf.sin(first[1]))
    return [y, *first, *outer.gradient(penalty, [x, kernel])]


def check(ours, theirs, shape, size, jit_compile):
    x = tf.random.normal((3, *shape, 4), dtype="float64", seed=1)
    kernel = tf.random.normal((*size, 4, 6), dtype="float64", seed=2)
    run = derivatives
    if jit_compile is not None:
        run = tf.function(derivatives, jit_compile=jit_compile)
    expected = derivatives(theirs, x, kernel)
    for value, true in zip(run(ours, x, kernel), expected, strict=True):
        np.testing.assert_allclose(value, true, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("shape", [(5, 4), (1, 1), (2, 6)])
@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_the_rotated_kernel_has_tensorflows_derivatives(size, shape, jit_compile):
    check(rotated_convolution, plain, shape, (size, size), jit_compile)


@pytest.mark.parametrize("size", [(1, 3), (3, 3), (7, 5)])
@pytest.mark.parametrize("shape", [(5, 4), (1, 1)])
def test_the_gradient_at_a_kernel_is_a_convolution_of_examples(size, shape, monkeypatch):
    monkeypatch.setattr(cpu_kernels, "_FEW_CHANNELS", 1)
    check(rotated_convolution, plain, shape, size, None)


@pytest.mark.parametrize("shape", [(5, 4), (1, 1), (2, 6)])
@pytest.mark.parametrize("jit_compile", [None, False])
def test_a_pointwise_convolution_has_tensorflows_derivatives(shape, jit_compile):
    check(pointwise_convolution, plain, shape, (1, 1), jit_compile)


@pytest.mark.parametrize(
    ("shape", "strides"), [((6, 4), (2, 2)), ((5, 7), (2, 3)), ((1, 4), (3, 1))]
)
@pytest.mark.parametrize("jit_compile", [None, False])
def test_a_pointwise_convolution_with_a_stride_takes_a_pixel_of_each(shape, strides, jit_compile):
    ours = functools.partial(pointwise_convolution, strides=strides)
    check(ours, functools.partial(plain, strides=strides), shape, (1, 1), jit_compile)


@pytest.mark.parametrize(
    ("shape", "size", "strides", "padding"),
    [
        ((2, 2), (3, 3), (1, 1), "same"),
        ((1, 3), (5, 1), (1, 1), "same"),
        ((4, 5), (3, 3), (2, 2), "valid"),
        ((2, 5), (2, 2), (2, 1), "valid"),
        ((4, 4), (1, 1), (2, 3), "valid"),
        ((7, 6), (5, 3), (2, 2), "valid"),
        ((5, 4), (2, 1), (3, 1), "valid"),
        ((4, 7), (1, 3), (2, 3), "valid"),
        ((8, 3), (2, 3), (4, 3), "valid"),
    ],
)
@pytest.mark.parametrize("state", ["onednn", "no_onednn"])
@pytest.mark.parametrize("jit_compile", [None, False])
def test_a_product_of_patches_has_tensorflows_derivatives(
    shape, size, strides, padding, jit_compile, state, request
):
    request.getfixturevalue(state)
    options = {"strides": strides, "padding": padding}
    theirs = functools.partial(plain, strides=strides, padding=padding.upper())
    for convolve in (im2col_convolution, patch_convolution):
        check(functools.partial(convolve, **options), theirs, shape, size, jit_compile)


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((5, 4), (2, 2)), ((6, 7), (3, 2)), ((1, 2), (2, 1)), ((5,), (2,)), ((3, 4, 5), (1, 2, 3))],
)
@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_the_first_of_strides_has_the_value_and_gradient_of_an_index(shape, strides, jit_compile):
    x = tf.random.normal((2, *shape, 3), seed=1)

    def numbers(take):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = take(x)
            loss = tf.reduce_sum(y * y)
        return y, tape.gradient(loss, x)

    run = numbers if jit_compile is None else tf.function(numbers, jit_compile=jit_compile)
    steps = [slice(None, None, step) for step in strides]
    expected = numbers(lambda x: x[(slice(None), *steps)])
    for value, true in zip(run(lambda x: first_of_strides(x, strides)), expected, strict=True):
        np.testing.assert_array_equal(value, true)


def test_the_first_of_strides_is_taken_of_images_of_unknown_size_and_of_none():
    @tf.function(input_signature=[tf.TensorSpec((None, None, 4, 1))])
    def unknown(x):
        return first_of_strides(x, (2, 2))

    assert unknown(tf.ones((2, 5, 4, 1))).shape == (2, 3, 2, 1)
    assert first_of_strides(tf.ones((0, 5, 4, 1)), (2, 2)).shape == (0, 3, 2, 1)


@pytest.fixture
def on_cpu(monkeypatch):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind=None: [])


@pytest.fixture
def no_onednn(monkeypatch, on_cpu):
    monkeypatch.setattr(cpu_kernels, "has_onednn", lambda: False)


@pytest.fixture
def onednn(monkeypatch, on_cpu):
    monkeypatch.setattr(cpu_kernels, "has_onednn", lambda: True)


def chosen(x, size=3, strides=1, padding="same", rate=1, channels=2, filters=4):
    """Returns the name of the function that is chosen for an input and a kernel."""
    kernel = tf.ones((size, size, channels, filters))
    strides = (strides, strides) if isinstance(strides, int) else strides
    function = cpu_convolution(x, kernel, strides, padding, (rate, rate))
    return getattr(function, "func", function)


IMAGES = tf.ones((1, 4, 4, 2))


@pytest.mark.usefixtures("no_onednn")
def test_without_onednn_the_kernel_is_rotated_unless_there_is_stride_or_dilation():
    assert chosen(IMAGES) is rotated_convolution
    assert chosen(IMAGES, size=1) is pointwise_convolution
    assert chosen(IMAGES, size=1, strides=2) is pointwise_convolution
    assert chosen(IMAGES, strides=2) is None
    assert chosen(IMAGES, rate=2) is None
    assert chosen(IMAGES, padding="valid") is None
    assert chosen(IMAGES, size=2) is None
    assert chosen(IMAGES[0]) is None


@pytest.mark.usefixtures("onednn")
def test_with_onednn_products_take_over_kernels_of_one_tap_and_images_of_few_pixels():
    assert chosen(IMAGES) is None
    assert chosen(IMAGES, size=1) is pointwise_convolution
    assert chosen(IMAGES, size=1, strides=2) is pointwise_convolution
    wide = {"channels": 256, "filters": 256}
    few, more = tf.ones((16, 4, 4, 256)), tf.ones((17, 4, 4, 256))
    assert chosen(few, **wide) is im2col_convolution
    assert chosen(few) is None
    assert chosen(more, **wide) is None
    assert chosen(more, **wide, size=1) is pointwise_convolution
    assert chosen(more, **wide, strides=2, padding="valid") is im2col_convolution
    assert chosen(more, **wide, strides=2) is None  # TensorFlow's uneven padding
    assert chosen(more, **wide, strides=2, size=1) is im2col_convolution
    assert chosen(few, **wide, rate=2) is None


@pytest.mark.usefixtures("no_onednn")
def test_without_onednn_products_take_over_kernels_of_many_channels_for_their_places():
    wide, few = {"channels": 256, "filters": 256}, tf.ones((1, 2, 2, 256))
    assert chosen(few, **wide) is im2col_convolution
    assert chosen(few, channels=256, filters=255) is rotated_convolution
    assert chosen(tf.ones((1, 2, 3, 256)), **wide) is rotated_convolution
    strided = {"strides": 2, "padding": "valid", "channels": 256}
    assert chosen(tf.ones((1, 10, 10, 256)), **strided, filters=128) is im2col_convolution
    assert chosen(tf.ones((1, 10, 10, 256)), **strided, filters=127) is None
    assert chosen(tf.ones((1, 11, 10, 256)), **strided, filters=128) is None
    assert chosen(few, **wide, rate=2) is None


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((None, None, None), (None, None)),
        ((2, None, None), (None, None)),
        ((None, 2, 2), (im2col_convolution, im2col_convolution)),  # counted as 64 images
        ((None, 3, 3), (None, pointwise_convolution)),
    ],
)
def test_images_of_unknown_size_are_convolved_plainly_and_batches_as_usual_ones(shape, expected):
    chose = []

    @tf.function(input_signature=[tf.TensorSpec((*shape, 256))])
    def trace(x):
        wide = {"channels": 256, "filters": 256}
        chose.extend([chosen(x, **wide), chosen(x, **wide, size=1, strides=(1, 2))])

    trace.get_concrete_function()
    assert tuple(chose) == expected


@pytest.mark.usefixtures("onednn")
def test_xla_multiplies_patches_of_images_that_are_smaller_than_the_kernel():
    chose = []

    @tf.function(jit_compile=True)
    def trace(x):
        chose.append(chosen(x))
        chose.append(chosen(x, strides=2, padding="valid"))
        chose.append(chosen(x, strides=2))
        chose.append(chosen(x, size=1))
        chose.append(chosen(x, rate=2))

    trace(tf.ones((1, 6, 2, 2)))
    assert chose == [patch_convolution, patch_convolution, None, None, None]
    chose.clear()
    trace(tf.ones((1, 5, 5, 2)))  # in its backward pass the kernel is moved over 2x2 pixels
    assert chose == [None, patch_convolution, None, None, None]
    chose.clear()
    trace(tf.ones((1, 7, 7, 2)))
    assert chose == [None] * 5


@pytest.mark.parametrize("options", [{}, {"strides": 2}, {"groups": 2}], ids=str)
@pytest.mark.parametrize("shape", [(2,), (1, 2), (2, 2, 1)])
def test_a_layer_under_xla_has_the_same_numbers_on_small_images(shape, options):
    x = tf.random.normal((3, *shape, 4), seed=1)
    layer = Convolution(6, 5, **options)

    def numbers():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(tf.sin(y))
        return [y, *tape.gradient(loss, [x, layer.kernel.value])]

    expected = numbers()
    for value, true in zip(tf.function(numbers, jit_compile=True)(), expected, strict=True):
        np.testing.assert_allclose(value, true, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("state", ["onednn", "no_onednn"])
def test_xla_and_gpus_convolve_plainly(state, request, monkeypatch):
    request.getfixturevalue(state)
    chose = []
    tf.function(lambda x: chose.append(chosen(x, size=1)), jit_compile=True)(IMAGES)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: [kind])
    chose.append(chosen(IMAGES, size=1))
    assert chose == [None, None]


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_layer_on_few_pixels_has_the_same_numbers_as_without(dtype, monkeypatch):
    monkeypatch.setattr(cpu_kernels, "_LARGE_TAP", 0)
    x = tf.random.normal((2, 2, 2, 8), seed=1)
    layer = Convolution(4, 3, dtype=dtype)

    def numbers():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(tf.cast(y, "float32") ** 2)
        return [y, *tape.gradient(loss, [x, layer.kernel.value])]

    ours = numbers()
    monkeypatch.setattr(cpu_kernels, "_FEW_PLACES", 0)
    tolerance = 1e-5 if dtype == "float32" else 0.05
    for value, true in zip(ours, numbers(), strict=True):
        assert value.dtype == true.dtype
        np.testing.assert_allclose(
            tf.cast(value, "float32"), tf.cast(true, "float32"), tolerance, tolerance * 5
        )


@pytest.mark.parametrize("options", [{}, {"kernel_size": 1}, {"strides": 2}], ids=str)
@pytest.mark.parametrize("state", ["onednn", "no_onednn"])
def test_a_batch_without_examples_has_gradients_of_zero(options, state, request):
    request.getfixturevalue(state)
    layer = Convolution(**{"filters": 32, "kernel_size": 3, **options})
    with tf.GradientTape() as tape:
        y = layer(tf.zeros((0, 4, 4, 32)))
        loss = tf.reduce_sum(y)
    gradient = tape.gradient(loss, layer.kernel.value)
    assert y.shape[0] == 0
    np.testing.assert_array_equal(gradient, np.zeros(layer.kernel.shape))


@pytest.mark.parametrize("channels", [4, 256])
@pytest.mark.parametrize("options", [{}, {"kernel_size": 1}, {"strides": 2}], ids=str)
@pytest.mark.parametrize("state", ["onednn", "no_onednn"])
def test_an_upstream_gradient_of_unknown_shape_is_taken(channels, options, state, request):
    request.getfixturevalue(state)
    layer = Convolution(**{"filters": channels, "kernel_size": 3, **options})
    x = tf.random.normal((2, 2, 2, channels), seed=1)

    def gradients(unknown):
        @tf.custom_gradient
        def behind(y):
            def gradient(upstream):
                return tf.py_function(tf.identity, [upstream], tf.float32) if unknown else upstream

            return y, gradient

        @tf.function
        def run():
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(tf.sin(behind(layer(x))))
            return tape.gradient(loss, [x, layer.kernel.value])

        return run()

    for value, true in zip(gradients(True), gradients(False), strict=True):
        np.testing.assert_allclose(value, true, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "size", "strides"),
    [
        ((9, 7), (3, 3), (2, 2)),
        ((6, 5), (2, 3), (1, 1)),
        ((8, 8), (3, 2), (3, 2)),
        ((7, 9), (1, 2), (3, 4)),
        ((5, 6), (5, 3), (2, 5)),
        ((3, 3), (3, 3), (1, 1)),
    ],
)
@pytest.mark.parametrize("jit_compile", [None, False])
def test_a_separable_maximum_has_tensorflows_value_and_gradients(shape, size, strides, jit_compile):
    # Few values, so that most windows have the largest several times, and in float64, for which
    # TensorFlow has no kernel of oneDNN.
    generator = np.random.default_rng(1)
    x = tf.constant(generator.integers(0, 3, (2, *shape, 3)), "float64")

    def numbers(pool):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = pool(x)
                weights = tf.reshape(tf.range(tf.size(y, tf.int64)) + 1, tf.shape(y))
                loss = tf.reduce_sum(tf.cast(weights, y.dtype) * tf.exp(y))
            first = tape.gradient(loss, x)
            penalty = tf.reduce_sum(tf.sin(first))
        return y, first, outer.gradient(penalty, x)

    ours = functools.partial(separable_max_pool, size=size, strides=strides)
    run = numbers if jit_compile is None else tf.function(numbers)
    theirs = numbers(lambda x: tf.nn.max_pool2d(x, size, strides, "VALID"))
    for value, true in zip(run(ours), theirs, strict=True):
        np.testing.assert_allclose(value, true, rtol=1e-12)


def test_a_maximum_is_separable_on_cpus_without_onednn_alone(no_onednn, monkeypatch):
    def pool(x):
        return cpu_max_pool(x, (3, 3), (2, 2))

    traced = []
    assert pool(IMAGES) is not None
    assert pool(IMAGES[0]) is None
    tf.function(lambda x: traced.append(pool(x)), jit_compile=True)(IMAGES)
    unknown = [tf.TensorSpec((None, None, 4, 2))]
    tf.function(lambda x: traced.append(pool(x)), unknown).get_concrete_function()
    monkeypatch.setattr(cpu_kernels, "has_onednn", lambda: True)
    traced.append(pool(IMAGES))
    assert traced == [None] * 3


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("options", [{}, {"padding_value": 0.0}, {"padding": "same"}], ids=str)
def test_a_layer_pools_alike_with_and_without_onednn(options, dtype, no_onednn, monkeypatch):
    x = tf.nn.relu(tf.random.normal((2, 7, 6, 3), seed=1))
    layer = MaxPool(dtype=dtype, **options)

    def numbers():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(tf.sin(tf.cast(y, "float32")))
        return y, tape.gradient(loss, x)

    ours = numbers()
    monkeypatch.setattr(cpu_kernels, "has_onednn", lambda: True)
    for value, true in zip(ours, numbers(), strict=True):
        assert value.dtype == true.dtype
        np.testing.assert_allclose(
            tf.cast(value, "float32"), tf.cast(true, "float32"), 2e-2 if "16" in dtype else 1e-6
        )


def test_a_pooled_batch_without_examples_has_a_gradient(no_onednn):
    x = tf.zeros((0, 6, 6, 2))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = MaxPool()(x)
    assert tape.gradient(y, x).shape == x.shape
