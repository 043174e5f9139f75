"""Models in float64."""

import contextlib
import re
import types
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from reszoo.gradients import backend
from reszoo.gradients.patching import replace
from reszoo.keras_internals import results_in_float64, sublayers

_FLOATS = re.compile(r"(mixed_)?(b?float\d+)\w*")


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Context in which float64 is the default dtype of layers and computations."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        with results_in_float64(), backend.float64():
            yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def in_double_precision(inputs: Any) -> Any:
    """Returns tensors, those of floating-point numbers cast to float64.

    Args:
        inputs: Any structure of arrays or tensors.
    """

    def cast(x: Any) -> Any:
        x = keras.ops.convert_to_tensor(x)
        is_float = keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))
        # A copy, since a tensor of PyTorch's inference mode has no gradient.
        return keras.ops.copy(keras.ops.cast(x, "float64") if is_float else x)

    if all(isinstance(x, int | float) for x in keras.tree.flatten(inputs)):
        return cast(np.asarray(inputs))  # a list of numbers is an array, not a structure
    return keras.tree.map_structure(cast, inputs)


def clone(
    layer: keras.layers.Layer, inputs: Any
) -> tuple[keras.layers.Layer, dict[int, keras.layers.Layer]]:
    """Returns a copy of a layer or model that computes in float64, with the same weights.

    It is made by `get_config` and `from_config`. Call it in `double_precision()`.

    Args:
        layer: A layer or model. If it is not built, it stays so, and the copy has new weights.
        inputs: Its inputs, in float64.

    Returns:
        The copy, built; and the copy of each layer in it, by the `id` of the original.

    Raises:
        ValueError: If it cannot be made from its configuration, or the copy differs in its layers
            or variables.
    """
    try:
        copy = _from_config(layer)
    except Exception as error:
        raise ValueError(
            f"{layer.name!r} cannot be made a second time in float64: "
            f"{type(layer).__name__}.from_config(get_config()) fails with "
            f"{type(error).__name__}: {_first_paragraph(error)} "
            "Each layer's get_config() must return what its constructor takes."
        ) from error
    if not all(part.built for part in (layer, *sublayers(layer))):
        copies = _copies(layer, copy)  # a model that is built may have other layers
        copy(inputs, training=False)
        return copy, copies
    copy(inputs, training=False)
    _take_over_variables(layer, copy)
    return copy, _copies(layer, copy)


def _copies(layer: keras.layers.Layer, copy: keras.layers.Layer) -> dict[int, keras.layers.Layer]:
    originals, copies = ([root, *sublayers(root)] for root in (layer, copy))
    _check_same(layer, "layers", len(originals), len(copies))
    return {id(original): part for original, part in zip(originals, copies, strict=True)}


def _first_paragraph(error: Exception) -> str:
    return " ".join(str(error).strip().split("\n\n")[0].split())


def _from_config(layer: keras.layers.Layer) -> keras.layers.Layer:
    functions = {}
    with contextlib.ExitStack() as stack:
        # A user's function is not found by its name, and a lambda loses the names around it.
        for part, attribute in _own_functions(layer):
            name = f"function_{len(functions)}"
            functions[name] = getattr(part, attribute)
            stack.callback(replace(part, attribute, _named(name)))
        config = _with_float64(layer.get_config())
    classes = {type(part).__name__: type(part) for part in (layer, *sublayers(layer))}
    ours = {name: kind for name, kind in classes.items() if not _is_of_keras(kind)}
    with keras.saving.custom_object_scope({**ours, **functions}):
        return type(layer).from_config(config)


def _own_functions(layer: keras.layers.Layer) -> Iterator[tuple[keras.layers.Layer, str]]:
    for part in (layer, *sublayers(layer)):
        for attribute in ("function", "activation"):
            function = vars(part).get(attribute)
            if isinstance(function, types.FunctionType) and not _is_of_keras(function):
                yield part, attribute


def _named(name: str) -> Callable:
    def function(*args: Any, **kwargs: Any) -> None:
        raise NotImplementedError

    function.__name__ = function.__qualname__ = name
    return function


def _is_of_keras(kind: type | types.FunctionType) -> bool:
    return kind.__module__.split(".")[0] == "keras"


def _with_float64(config: Any) -> Any:
    """Returns a configuration with float64 in place of each floating-point dtype or policy."""
    if isinstance(config, list | tuple):
        return type(config)(_with_float64(part) for part in config)
    if not isinstance(config, dict):
        return config
    return {
        key: "float64" if key == "dtype" and _is_float(value) else _with_float64(value)
        for key, value in config.items()
    }


def _is_float(dtype: Any) -> bool:
    if isinstance(dtype, dict):
        return "DTypePolicy" in str(dtype.get("class_name"))
    return isinstance(dtype, str) and bool(_FLOATS.fullmatch(dtype))


def _take_over_variables(layer: keras.layers.Layer, copy: keras.layers.Layer) -> None:
    _check_same(layer, "variables", len(layer.variables), len(copy.variables))
    for original, variable in zip(layer.variables, copy.variables, strict=True):
        _check_same(layer, f"{original.path!r} of shape", original.shape, variable.shape)
        variable.assign(keras.ops.cast(original.value, variable.dtype))


def _check_same(layer: keras.layers.Layer, what: str, had: Any, has: Any) -> None:
    if had != has:
        raise ValueError(
            f"{layer.name!r} cannot be made a second time in float64: made by its configuration it "
            f"has {what} {has}, where it had {had}. Layers must not be shared but in the graph of "
            "a functional model, and get_config() must return what the constructor takes."
        )
