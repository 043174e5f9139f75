"""Attributes of objects that are replaced for a while, and put back."""

from collections.abc import Callable
from typing import Any

_ABSENT = object()


def replace(owner: Any, name: str, replacement: Any) -> Callable[[], None]:
    """Replaces an attribute of an instance or a class.

    That of an instance is set in its dictionary, past Keras's tracking of what is set on a layer or
    a model.

    Args:
        owner: An instance or a class.
        name: The attribute's name.
        replacement: Its new value.

    Returns:
        A function that puts back what was there, or removes the attribute if there was none. It
        leaves what somebody else has put there since.

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
