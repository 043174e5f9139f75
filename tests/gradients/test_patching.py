import keras
import pytest

from reszoo.gradients.patching import replace


class Plain:
    def method(self):
        return "own"


@pytest.fixture
def layer():
    return keras.layers.Dense(1)


def test_a_method_is_replaced_on_the_instance_and_put_back():
    instance, other = Plain(), Plain()
    put_back = replace(instance, "method", lambda: "another")
    assert (instance.method(), other.method()) == ("another", "own")
    put_back()
    assert instance.method() == "own"
    assert not vars(instance)


def test_an_attribute_of_the_instance_gets_its_value_back_also_if_that_is_none():
    instance = Plain()
    instance.value = None
    replace(instance, "value", 1)()
    assert vars(instance) == {"value": None}


def test_a_class_is_replaced_for_all_and_put_back():
    own = Plain.method
    put_back = replace(Plain, "method", lambda self: "another")
    assert Plain().method() == "another"
    put_back()
    assert Plain.method is own


def test_what_a_class_inherits_is_removed_again():
    class Child(Plain):
        pass

    replace(Child, "method", lambda self: "another")()
    assert "method" not in vars(Child)
    assert Child().method() == "own"


def test_replacements_are_put_back_one_after_the_other():
    instance = Plain()
    first = replace(instance, "method", lambda: "first")
    second = replace(instance, "method", lambda: "second")
    second()
    assert instance.method() == "first"
    first()
    assert instance.method() == "own"


def test_what_somebody_else_has_put_there_since_stays():
    instance = Plain()
    put_back = replace(instance, "method", lambda: "another")
    instance.method = lambda: "theirs"
    put_back()
    assert instance.method() == "theirs"
    put_back()


def test_keras_does_not_track_a_replacement(layer):
    layer.build((None, 2))
    before = len(layer.weights)
    put_back = replace(layer, "inner", keras.layers.Dense(3))
    layer.inner.build((None, 2))
    assert len(layer.weights) == before
    put_back()
    assert not hasattr(layer, "inner")
