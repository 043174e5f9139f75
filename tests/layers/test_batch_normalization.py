"""Batch normalization beside that of Keras: values, derivatives, averages, files."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from reszoo.layers import BatchNormalization, Chain, fused_normalization

KERAS = {"momentum": 0.9, "epsilon": 1e-5}
# Relative to the largest value: 1 ulp of float16 and bfloat16, some of float32.
PRECISION = {"float32": 1e-5, "mixed_float16": 2e-3, "mixed_bfloat16": 1.6e-2, "float64": 1e-12}
MODES = {"training": (True, True), "inference": (False, True), "frozen": (True, False)}


def pair(shape, **options):
    """Returns both layers, with the same weights, none of which has its initial value."""
    layers = BatchNormalization(**options), keras.layers.BatchNormalization(**KERAS, **options)
    random = np.random.default_rng(1)
    for layer in layers:
        layer.build(shape)
    values = [random.uniform(0.5, 2.0, weight.shape) for weight in layers[0].weights]
    values[-2] += 19.0
    for layer in layers:
        layer.set_weights(values)
    return layers


def images(shape=(4, 5, 3, 6), dtype="float32"):
    # A mean far from zero, for which the variance is not the difference of two large numbers.
    return tf.cast(tf.random.stateless_normal(shape, (1, 2)) * 3.0 + 20.0, dtype)


def derivatives(layer, x, training):
    """Returns the output, its gradients, and the moving averages afterwards."""
    weights = [weight.value for weight in layer.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training)
        loss = tf.reduce_sum(tf.sin(tf.cast(y, "float32") * 0.7))
    averages = [weight.value for weight in (layer.moving_mean, layer.moving_variance)]
    return [y, *tape.gradient(loss, [x, *weights]), *map(tf.identity, averages)]


def assert_equal(ours, theirs, precision):
    for mine, expected in zip(ours, theirs, strict=True):
        assert mine.dtype == expected.dtype
        mine, expected = (np.asarray(tf.cast(x, "float64")) for x in (mine, expected))
        largest = np.abs(expected).max()
        np.testing.assert_allclose(mine, expected, rtol=0, atol=precision * largest)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", PRECISION)
def test_values_gradients_and_averages_are_those_of_keras(policy, mode):
    training, trainable = MODES[mode]
    x = images(dtype=keras.DTypePolicy(policy).compute_dtype)
    found = []
    for layer in pair(x.shape, dtype=policy):
        layer.trainable = trainable
        found.append(derivatives(layer, x, training))
    assert_equal(*found, PRECISION[policy])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_graph_and_xla_give_them_too(jit_compile):
    def modes(layer):
        return [y for training in (True, False) for y in derivatives(layer, images(), training)]

    run = tf.function(modes, jit_compile=jit_compile)
    assert_equal(*(run(layer) for layer in pair((4, 5, 3, 6))), PRECISION["float32"])


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 1, 1, 3), (3, 4), (3, 5, 4)])
def test_a_single_value_and_other_ranks(shape):
    ours, theirs = (derivatives(layer, images(shape), True) for layer in pair(shape))
    # Rounding is magnified by 1 / sqrt(epsilon) where a single value deviates from its own mean.
    for mine, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=2e-4, atol=2e-4)


def test_no_images_have_neither_mean_nor_variance():
    (layer, _), none = pair((0, 2, 2, 3)), images((0, 2, 2, 3))
    assert layer(none, training=False).shape == layer(none, training=True).shape == none.shape
    assert all(np.isnan(weight).all() for weight in (layer.moving_mean, layer.moving_variance))


def test_sizes_that_a_graph_does_not_know():
    signature = tf.TensorSpec((None, None, None, 6))
    found = [
        tf.function(lambda x, layer=layer: derivatives(layer, x, True), [signature])(images())
        for layer in pair((None, None, None, 6))
    ]
    assert_equal(*found, PRECISION["float32"])


@pytest.mark.parametrize("options", [{"scale": False}, {"center": False}, {"axis": 1}])
@pytest.mark.parametrize("training", [True, False])
def test_options_of_keras_hold(options, training):
    found = [derivatives(layer, images(), training) for layer in pair((4, 5, 3, 6), **options)]
    assert_equal(*found, 1e-4)


def test_neither_scale_nor_offset():
    layers = pair((4, 5, 3, 6), scale=False, center=False)
    assert_equal(*([layer(images(), training=True)] for layer in layers), PRECISION["float32"])


def test_masked_images_do_not_count():
    mask = np.random.default_rng(0).random((4, 5, 3)) < 0.5
    ours, theirs = pair((4, 5, 3, 6))
    found = [[layer(images(), training=True, mask=mask)] for layer in (ours, theirs)]
    assert_equal(*found, PRECISION["float32"])
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, rtol=1e-6)


def test_other_dtypes_than_the_policys_are_computed_in_it():
    policy = keras.DTypePolicy("mixed_float16")
    for options in ({}, {"autocast": False}):
        layers = pair((4, 5, 3, 6), dtype=policy, **options)
        assert_equal(*([layer(images(), training=True)] for layer in layers), 2e-3)


def formula(layer, training):
    """Returns the layer's function of its input, scale and offset, in elementary operations."""

    def normalized(x, scale, offset):
        mean, variance = layer.moving_mean.value, layer.moving_variance.value
        if training:
            mean = tf.reduce_mean(x, (0, 1, 2))
            variance = tf.reduce_mean((x - mean) ** 2, (0, 1, 2))
        return (x - mean) / tf.sqrt(variance + layer.epsilon) * scale + offset

    return normalized


def penalty(function, *inputs):
    """Returns the gradient of a loss of the gradients, and a Jacobian."""
    with tf.GradientTape() as second:
        second.watch(inputs)
        with tf.GradientTape(persistent=True) as first:
            first.watch(inputs)
            y = tf.sin(function(*inputs))
        gradients = first.gradient(y, inputs)
        loss = sum(tf.reduce_sum(tf.sin(gradient)) for gradient in gradients)
    return [*second.gradient(loss, inputs), first.jacobian(y, inputs[0])]


@pytest.mark.parametrize("training", [True, False])
def test_second_derivatives_and_jacobians_are_those_of_the_formula(training):
    # The second ones of Keras's layer are not: `tf.nn.moments` stops a part of the gradient.
    x = tf.random.stateless_normal((3, 2, 1, 2), (1, 2), dtype="float64")
    ours, precise = pair(x.shape)[0], pair(x.shape, dtype="float64")[1]
    inputs = x, precise.gamma.value, precise.beta.value
    expected = penalty(formula(precise, training), *inputs)

    def layer(x, scale, offset):
        call = ours.stateless_call
        values = [ours.moving_mean.value, ours.moving_variance.value]
        return call([scale, offset], values, x, training=training)[0]

    single = [tf.cast(value, "float32") for value in inputs]
    for run in (penalty, tf.function(penalty)):
        for found, exact in zip(run(layer, *single), expected, strict=True):
            np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max())


def test_steps_that_train_average_alike():
    ours, theirs = pair((4, 5, 3, 6))
    for seed in range(5):
        x = tf.random.stateless_normal((4, 5, 3, 6), (seed, 3), 2.0, 3.0)
        for layer in (ours, theirs):
            layer(x, training=True)
    assert_equal(*([w.value for w in layer.weights] for layer in (ours, theirs)), 1e-6)


def test_replicas_average_their_own_statistics():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        layers = pair((4, 5, 3, 6))

        @tf.function
        def step(layer):
            def of_replica():
                number = tf.distribute.get_replica_context().replica_id_in_sync_group
                return layer(images() * tf.cast(number + 1, "float32"), training=True)

            return strategy.experimental_local_results(strategy.run(of_replica))

        assert_equal(*(step(layer) for layer in layers), PRECISION["float32"])
    averages = [[layer.moving_mean.value, layer.moving_variance.value] for layer in layers]
    for ours, theirs in zip(*averages, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5)


def test_statistics_over_all_replicas_are_left_to_keras(monkeypatch):
    monkeypatch.setattr(fused_normalization, "_BY_BATCH", {})
    layers = pair((4, 5, 3, 6), synchronized=True)
    assert_equal(*([layer(images(), training=True)] for layer in layers), PRECISION["float32"])


def test_the_kernel_serves_images():
    assert all(fused_normalization.has_kernel(images(dtype=t), True) for t in ("float32", "half"))
    assert not fused_normalization.has_kernel(images(dtype="float64"), True)
    assert not fused_normalization.has_kernel(images((3, 4)), True)


def test_what_sums_in_any_order_is_left_to_keras_where_that_is_refused(monkeypatch):
    monkeypatch.setattr(fused_normalization, "is_determinism_enabled", lambda: True)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: ["gpu:0"])
    assert fused_normalization.has_kernel(images(), True)
    assert not fused_normalization.has_kernel(images(), False)


def test_the_config_and_the_weights_are_those_of_keras(tmp_path):
    ours, theirs = (
        keras.Sequential([keras.Input((4, 4, 3)), layer(name="norm", **options)], name="net")
        for layer, options in ((BatchNormalization, {}), (keras.layers.BatchNormalization, KERAS))
    )
    assert ours.layers[0].get_config() == theirs.layers[0].get_config()
    paths = [[weight.path for weight in model.weights] for model in (ours, theirs)]
    assert paths[0] == paths[1]
    for source, target in ((ours, theirs), (theirs, ours)):
        source.layers[0].set_weights(np.random.default_rng(0).random((4, 3)))
        source.save_weights(tmp_path / "net.weights.h5")
        target.load_weights(tmp_path / "net.weights.h5")
        assert_equal([w.value for w in source.weights], [w.value for w in target.weights], 0)


def test_a_saved_model_has_the_layer_again(tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 3)), Chain([BatchNormalization(momentum=0.5)])])
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    (layer,) = loaded.layers[0].layers
    assert type(layer) is BatchNormalization
    assert layer.get_config() == model.layers[0].layers[0].get_config()
    assert_equal([loaded(images((2, 4, 4, 3)))], [model(images((2, 4, 4, 3)))], 0)
