"""The residual blocks of a model that was built elsewhere."""

import warnings
from typing import Any

import keras

from reszoo.gradients import backend
from reszoo.gradients.found_block import FoundBlock
from reszoo.gradients.search import Search


def instrument(model: keras.Model, example_batch: Any = None) -> dict[str, FoundBlock]:
    """Finds the residual blocks of a model that was built elsewhere, for `GradientRecorder`.

    A block is an addition (`keras.layers.Add`, `keras.ops.add` or `+`) of tensors of one shape
    whose paths part at one tensor, its fork, with a gradient through each; or a difference
    `x - f(x)`. The fork itself, or the shorter path, is its shortcut; what is added to it is its
    branch. Additions are found in the graph of a functional model and, on TensorFlow, inside of
    layers: there the branch must go through a layer that is called from the `call` that has the
    fork. The model is not changed: forks and additions are observed only while a recorded step runs
    or is traced; outputs, weights and saved files are the same as without.

    The gradient at the fork counts for the path through which it came. An operation outside the
    block that reads the fork too, such as an auxiliary head, counts for neither.

    Args:
        model: A functional model, one that contains functional models, or any other.
        example_batch: Inputs as the model takes them, arrays or `keras.KerasTensor`, of which only
            shapes and dtypes count. Needed for a model that is not functional.

    Returns:
        The blocks by name, in the order in which the model reaches them. In a graph a block has the
        name of its addition. Inside of a layer it has the layer's name, or, if the layer has
        several, a name such as `"transformer_layer_3/attention"`. A name that occurs twice has the
        names of the models and layers around in front of it.

    Raises:
        ValueError: If `model` is not a Keras model, cannot be searched, or has no such addition
            (DenseNet, which concatenates its paths, has none); or if Keras has changed its backend.

    Example:

    >>> inputs = keras.Input((4,))
    >>> branch = keras.layers.Dense(4)(inputs)
    >>> model = keras.Model(inputs, keras.layers.Add(name="block1")([inputs, branch]))
    >>> blocks = instrument(model)
    >>> list(blocks)
    ['block1']
    >>> import reszoo
    >>> recorder = reszoo.GradientRecorder("runs/mine", blocks=blocks)  # for model.fit
    """
    backend.running()  # or an error, if Keras is another one now, whose models are not known here
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"instrument takes a Keras model, but got {model!r} of type {type(model).__name__}. "
            "For example: instrument(keras.applications.ResNet50(weights=None))."
        )
    search = Search(model, example_batch)
    if not search.found:
        raise ValueError(search.why_no_block())
    for text in search.left_out():
        warnings.warn(text, stacklevel=2)
    names = _unique([short for short, _, _ in search.found], [long for _, long, _ in search.found])
    return dict(zip(names, (block for _, _, block in search.found), strict=True))


def _unique(short: list[str], long: list[str]) -> list[str]:
    """Returns short names where they are unique, else long ones, numbered where these are not."""
    names = [s if short.count(s) == 1 else full for s, full in zip(short, long, strict=True)]
    # The same addition may be called several times.
    return [
        name if names.count(name) == 1 else f"{name}.{names[: i + 1].count(name)}"
        for i, name in enumerate(names)
    ]
