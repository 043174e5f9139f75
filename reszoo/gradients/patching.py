"""Attributes of objects that are replaced temporarily, and restored."""

from collections.abc import Callable
from typing import Any

_ABSENT = object()


def replace(owner: Any, name: str, replacement: Any) -> Callable[[], None]:
    """Replaces an attribute of an instance or a class.

    An attribute of an instance is set in its dictionary, which bypasses Keras's tracking of the
    attributes of layers and models.

    Args:
        owner: An instance or a class.
        name: Name of the attribute, which an instance itself need not have.
        replacement: The attribute's new value.

    Returns:
        A function that restores the previous value, or removes the attribute if there was none. It
        leaves a value that other code has set since.

    Example:

    >>> class Adder:
    ...     def total(self, x, y):
    ...         return x + y
    >>> adder = Adder()
    >>> put_back = replace(adder, "total", max)
    >>> adder.total(1, 2)
    2
    >>> put_back()
    >>> adder.total(1, 2)
    3
    """
    original = vars(owner).get(name, _ABSENT)
    _set(owner, name, replacement)

    def put_back() -> None:
        if vars(owner).get(name, _ABSENT) is replacement:
            _set(owner, name, original)

    return put_back


def _set(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, type):
        type.__delattr__(owner, name) if value is _ABSENT else type.__setattr__(owner, name, value)
    elif value is _ABSENT:
        del vars(owner)[name]
    else:
        vars(owner)[name] = value
