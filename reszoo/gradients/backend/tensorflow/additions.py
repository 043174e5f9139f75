"""Functions of TensorFlow that add tensors, by whichever public name."""

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import tensorflow as tf

from reszoo.keras_internals import functions_that_add

Own = Callable[[Sequence[Any]], Any]


def functions() -> list[tuple[ModuleType, str]]:
    """Returns the functions through which all additions go, each as a module and a name."""
    return functions_that_add()


def replacement(original: Callable, add: Callable[[Sequence[Any], Own], Any]) -> Callable:
    """Returns a function that adds by another.

    Args:
        original: One of `functions()`.
        add: Takes the operands, and a function that adds operands by the original.
    """

    @functools.wraps(original)
    def of_list(inputs: Any, name: str | None = None) -> Any:
        return add(list(inputs), lambda operands: original(list(operands), name=name))

    @functools.wraps(original)
    def of_two(x: Any, y: Any, name: str | None = None) -> Any:
        return add([x, y], lambda operands: original(*operands, name=name))

    return of_list if original.__name__ == "add_n" else of_two


def as_it_is(function: Callable) -> Callable:
    """Returns a function that TensorFlow's autograph leaves as it is.

    Args:
        function: Any function.
    """
    return tf.autograph.experimental.do_not_convert(function)
