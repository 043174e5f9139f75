"""Functions of arrays, compiled and differentiated."""

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def float64() -> contextlib.AbstractContextManager:
    """Returns a context in which tensors can be float64, as they always can."""
    return contextlib.nullcontext()


def compiled(function: Callable) -> Callable:
    """Returns a function of NumPy arrays that is traced once, for arrays of the same shapes.

    Args:
        function: Takes structures of tensors, and returns one.
    """
    traced: Any = None

    def run(*arguments: Any) -> Any:
        nonlocal traced
        tensors = _as_tensors(arguments)
        # By itself TensorFlow warns of many functions with the same code.
        traced = traced or tf.function(function, autograph=False).get_concrete_function(*tensors)
        return _as_arrays(traced(*tensors))

    return run


def value_and_gradients(function: Callable, x: Any, *others: Any) -> tuple[np.ndarray, Any]:
    """Returns the value of a function, and its gradients by the arrays of its first argument.

    Args:
        function: Takes structures of tensors, and returns a scalar.
        x: Its first argument, a structure of arrays.
        *others: Its other arguments.
    """
    # Variables, whose gradients come also from functions that are computed again.
    x = keras.tree.map_structure(tf.Variable, x)
    with tf.GradientTape() as tape:
        value = function(x, *others)
    gradients = tape.gradient(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return value.numpy(), _as_arrays(gradients)


def call_with_value(function: Callable, x: Any) -> None:
    """Calls a function with the value of a tensor, whenever it is computed.

    Args:
        function: Takes the value.
        x: A tensor, also one within a function that is traced.
    """
    tf.py_function(function, [x], [])


def _as_tensors(arrays: Any) -> Any:
    return keras.tree.map_structure(tf.convert_to_tensor, arrays)


def _as_arrays(tensors: Any) -> Any:
    return keras.tree.map_structure(lambda x: tf.convert_to_tensor(x).numpy(), tensors)
