"""Places of layers within a network: their names, and which layer directly follows which."""

import keras
import pytest
from keras import layers

import reszoo
from reszoo.layers import Chain
from reszoo.models.places import places


def graph(function):
    inputs = keras.Input((4,))
    return keras.Model(inputs, function(inputs), name="network")


def found(layer):
    """Returns the name of each place, and of the layer before it or where it is."""
    before = [place.before.name if place.before else place.where for place in places(layer)]
    return list(zip([place.name for place in places(layer)], before, strict=True))


def dense(name):
    return layers.Dense(4, name=name)


def test_layers_of_a_chain_and_of_a_block_in_it_are_named_by_those_around_them():
    block = reszoo.ResidualBlock(Chain([dense("b"), dense("c")]), name="block")
    assert found(Chain([dense("a"), block])) == [
        ("a", "at the start of a path"),
        ("block", "a"),
        ("block/branch", "at the start of a path"),
        ("block/branch/b", "at the start of a path"),
        ("block/branch/c", "b"),
        ("block/shortcut", "at the start of a path"),
    ]


def test_an_output_that_others_read_and_several_inputs_have_no_layer_before():
    def network(x):
        y = dense("a")(x)
        return dense("c")(layers.Add(name="add")([y, dense("b")(y)]))

    assert sorted(found(graph(network))) == [
        ("a", "behind the model's input"),
        ("add", "with several inputs"),
        ("b", "behind Dense, which others read as well"),
        ("c", "add"),
    ]


def test_layers_of_one_name_have_places_of_their_own():
    chain = Chain([dense("a"), dense("a"), dense("a")])
    assert found(chain) == [("a", "at the start of a path"), ("a", "a"), ("a", "a")]
    assert [place.layer for place in places(chain)] == chain.layers


def test_a_layer_at_two_places_has_both_and_what_is_in_it_one():
    shared = Chain([dense("a")], name="shared")
    assert [name for name, _ in found(Chain([shared, shared]))] == ["shared", "shared/a", "shared"]


@pytest.mark.parametrize(("training", "trains"), [(None, False), (False, False), (True, True)])
def test_layers_within_a_model_run_as_its_call_is_told(training, trains):
    inner = graph(lambda x: dense("a")(x))
    outer = graph(lambda x: inner(x, training=training))
    assert {place.name: place.trains for place in places(outer)} == {
        "network": trains,
        "network/a": trains,
    }


def test_a_layer_that_an_input_of_the_model_tells_to_train_may_train():
    x, training = keras.Input((4,)), keras.Input((), batch_size=1, dtype="bool")
    norm = layers.BatchNormalization(name="norm")
    model = keras.Model([x, training], norm(x, training=training[0]))
    assert {place.name: place.trains for place in places(model)}["norm"]


def test_no_layer_is_known_to_be_before_another_in_a_chain_with_a_call_of_its_own():
    class Own(Chain):
        def call(self, x):
            return x

    chain = Own([dense("a"), dense("b")])
    assert found(chain) == [("a", "at the start of a path"), ("b", "at the start of a path")]
