"""Copies of networks: what is shared, left out and changed, and layers that cannot be copied."""

import keras
import numpy as np
import pytest
from keras import layers

from reszoo.layers import Chain
from reszoo.models.copying import Copy

X = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")


def graph(function):
    inputs = keras.Input((4,))
    return keras.Model(inputs, function(inputs), name="network")


def copied(model, without=(), changed=None):
    copy = Copy({id(layer) for layer in without}, changed or {})
    result = copy(model)
    copy.copy_values()
    return result


def test_a_layer_that_is_shared_is_shared_in_the_copy_with_variables_of_its_own():
    shared = layers.Dense(4, kernel_initializer="normal")
    model = graph(lambda x: Chain([shared, layers.ReLU()])(shared(x)))
    copy = copied(model)
    assert len(copy.weights) == len(model.weights) == 2
    np.testing.assert_array_equal(copy(X), model(X))
    copy.weights[0].assign(keras.ops.zeros((4, 4)))
    assert np.any(model.weights[0])


def test_layers_of_one_name_keep_their_own_values():
    chain = Chain([layers.Dense(4, name="dense"), layers.Dense(4, name="dense")])
    model = graph(chain)
    for weights, copies in zip(model.weights, copied(model).weights, strict=True):
        np.testing.assert_array_equal(weights, copies)
    np.testing.assert_array_equal(copied(model)(X), model(X))


def test_a_layer_is_left_out_of_a_chain_and_of_a_graph():
    first, second = (layers.Dense(4, bias_initializer="ones") for _ in range(2))
    model = graph(lambda x: second(Chain([layers.ReLU(), first])(x)))
    copy = copied(model, without=(first, second))
    np.testing.assert_array_equal(copy(X), np.maximum(X, 0))
    assert (len(copy.weights), len(model.weights)) == (0, 4)


def test_a_changed_layer_has_the_changed_configuration_and_no_values_of_the_old_one():
    dense = layers.Dense(4, use_bias=False)
    copy = copied(graph(dense), changed={id(dense): {"use_bias": True}})
    assert [weight.name for weight in copy.weights] == ["kernel", "bias"]
    assert not np.array_equal(copy.weights[0], dense.kernel)


@keras.saving.register_keras_serializable("tests")
class Growing(layers.Layer):
    """A layer whose configuration forgets how many layers it holds."""

    def __init__(self, number=1, **kwargs):
        super().__init__(**kwargs)
        self.parts = [layers.Dense(4) for _ in range(number)]

    def get_config(self):
        return {"name": self.name}

    def build(self, shape):
        for part in self.parts:
            part.build(shape)

    def call(self, x):
        return self.parts[0](x)


def test_a_copy_with_other_layers_inside_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^The layer 'grown' of type Growing must be copied by"):
        copied(graph(Growing(2, name="grown")))
