"""Ranges of arguments and configuration fields, and their one form of error."""

import ast
import dataclasses
import difflib
import itertools
import math
import os
import reprlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

WORDS_LISTED = 12


class RefusedError(ValueError):
    """A value outside its range; the message, if any, follows the value in a sentence."""


class Values(Protocol):
    """A range: the values that an argument or a field may have."""

    @property
    def allowed(self) -> str:
        """Noun phrase that follows "must be" in a sentence."""
        ...

    def read(self, value: Any) -> Any:
        """Returns a value of the range, converted to a built-in type of Python.

        Raises:
            RefusedError: If the value is outside the range.
        """

    def parse(self, text: str) -> Any:
        """Returns the value of an argument of the command line, in the range or not."""


@dataclasses.dataclass(frozen=True)
class Switch:
    """True or false."""

    allowed = "True or False"

    def read(self, value: Any) -> Any:
        if not isinstance(value, bool | np.bool_):
            raise RefusedError
        return bool(value)

    def parse(self, text: str) -> Any:
        # The words that absl takes for a boolean flag.
        words = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
        return words.get(text.lower(), text)


@dataclasses.dataclass(frozen=True)
class Number:
    """Finite numbers between two bounds, in float32 too.

    Args:
        least: Lower bound.
        most: Upper bound.
        above: Whether the lower bound is excluded.
        below: Whether the upper bound is excluded.

    Example:

    >>> Number(0, 1, below=True).allowed
    'a number of at least 0 and below 1'
    """

    least: float
    most: float
    above: bool = False
    below: bool = False

    @property
    def allowed(self) -> str:
        return f"a number {_bounds(self)}"

    def read(self, value: Any) -> Any:
        number = _number(value)
        if not self._has(number):
            raise RefusedError
        with np.errstate(over="ignore", under="ignore"):
            single = float(np.float32(number))
        if not self._has(single):
            raise RefusedError(f" (which is {single:g} in float32)")
        return number

    def parse(self, text: str) -> Any:
        return literal(text)

    def _has(self, number: float) -> bool:
        low = self.least < number if self.above else self.least <= number
        return low and (number < self.most if self.below else number <= self.most)


@dataclasses.dataclass(frozen=True)
class Whole:
    """Whole numbers between two bounds; a float without a fraction, such as 3.0, counts as one.

    Args:
        least: Lower bound, included.
        most: Upper bound, included.

    Example:

    >>> Whole(1, 10).read(3.0)
    3
    """

    least: int
    most: int
    above = below = False

    @property
    def allowed(self) -> str:
        return f"a whole number {_bounds(self)}"

    def read(self, value: Any) -> Any:
        # A float has only 53 bits.
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        number = int(value) if whole else _number(value)
        if number != number // 1 or not self.least <= number <= self.most:
            raise RefusedError
        return int(number)

    def parse(self, text: str) -> Any:
        return literal(text)


@dataclasses.dataclass(frozen=True)
class Word:
    """Strings from a fixed list.

    Args:
        words: The list.
        described: A noun phrase for errors, where the list is too long for a sentence.

    Example:

    >>> Word(("sgd", "adamw")).allowed
    '"sgd" or "adamw"'
    """

    words: tuple[str, ...]
    described: str = ""

    @property
    def allowed(self) -> str:
        if len(self.words) > WORDS_LISTED:
            return self.described
        *first, last = (f'"{word}"' for word in self.words)
        return f"{', '.join(first)} or {last}" if first else last

    def read(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise RefusedError
        if value not in self.words:
            near = difflib.get_close_matches(value, self.words)
            listed = len(self.words) <= WORDS_LISTED or not near
            raise RefusedError("" if listed else f". Did you mean {' or '.join(map(repr, near))}?")
        return str(value)

    def parse(self, text: str) -> Any:
        return text


@dataclasses.dataclass(frozen=True)
class Text:
    """Strings of any content, such as names and paths.

    Args:
        example: An example for the error.
        empty: Whether the empty string is allowed.
    """

    example: str
    empty: bool = False

    @property
    def allowed(self) -> str:
        rule = "" if self.empty else " that is not empty"
        return f'a string{rule}, such as "{self.example}"' + ', or ""' * self.empty

    def read(self, value: Any) -> Any:
        if not isinstance(value, str | os.PathLike):
            raise RefusedError
        text = os.fspath(value)
        if not isinstance(text, str) or "\0" in text or not (text.strip() or self.empty):
            raise RefusedError
        return str(text)

    def parse(self, text: str) -> Any:
        return text


@dataclasses.dataclass(frozen=True)
class Maybe:
    """Values of a range, or `None`.

    Args:
        values: The range.
    """

    values: Values

    @property
    def allowed(self) -> str:
        return f"{self.values.allowed}, or None"

    def read(self, value: Any) -> Any:
        return None if value is None else self.values.read(value)

    def parse(self, text: str) -> Any:
        return None if text in ("None", "none") else self.values.parse(text)


@dataclasses.dataclass(frozen=True)
class Either:
    """Values of either of two ranges.

    Args:
        first: The range that is tried first.
        second: The range that is tried where the first refuses.
    """

    first: Values
    second: Values

    @property
    def allowed(self) -> str:
        return f"{self.first.allowed}, or {self.second.allowed}"

    def read(self, value: Any) -> Any:
        try:
            return self.first.read(value)
        except RefusedError as first:
            try:
                return self.second.read(value)
            except RefusedError as second:
                raise RefusedError(str(first) or str(second)) from second

    def parse(self, text: str) -> Any:
        return literal(text)


@dataclasses.dataclass(frozen=True)
class Exactly:
    """A single value.

    Args:
        value: The value, as `read` returns it.
        also: Other spellings of the value.
    """

    value: Any
    also: tuple[Any, ...] = ()

    @property
    def allowed(self) -> str:
        return repr(self.value).replace("'", '"')

    def read(self, value: Any) -> Any:
        taken = (self.value, *self.also)
        if shown(tuple(value) if isinstance(value, list) else value) not in map(shown, taken):
            raise RefusedError
        return self.value

    def parse(self, text: str) -> Any:
        return literal(text)


@dataclasses.dataclass(frozen=True)
class Several:
    """Tuples with elements of one range; a list counts as a tuple.

    Args:
        values: The range of each element.
        example: An example for the error, in Python's syntax.
        counts: The allowed numbers of elements; any number if empty.
        rising: Whether each element must be greater than the one before.
        distinct: Whether all elements must be different.

    Example:

    >>> Several(Whole(0, 100), "(10, 20)", counts=(0, 2)).read([30, 40])
    (30, 40)
    """

    values: Values
    example: str
    counts: tuple[int, ...] = ()
    rising: bool = False
    distinct: bool = False

    @property
    def allowed(self) -> str:
        counts = f"of {' or '.join(map(str, self.counts))} elements" * bool(self.counts)
        rule = "rising" * self.rising + "all different" * self.distinct
        parts = [f"a tuple such as {self.example}", counts, rule, f"each {self.values.allowed}"]
        return ", ".join(filter(None, parts))

    def read(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if not isinstance(value, tuple | list):
            raise RefusedError
        found = tuple(self._element(index, element) for index, element in enumerate(value))
        if self.counts and len(found) not in self.counts:
            raise RefusedError(f", {len(found)} of them")
        if self.rising and any(b <= a for a, b in itertools.pairwise(found)):
            raise RefusedError
        if self.distinct and len(set(found)) < len(found):
            raise RefusedError
        return found

    def parse(self, text: str) -> Any:
        value = literal(text)
        # On the command line a single element needs no comma and no parentheses.
        return tuple(value) if isinstance(value, tuple | list) else (value,)

    def _element(self, index: int, element: Any) -> Any:
        try:
            return self.values.read(element)
        except RefusedError as error:
            raise RefusedError(f" (see element {index}, {shown(element)}){error}") from error


def check(name: str, value: Any, values: Values) -> Any:
    """Checks a value and returns it, converted to a built-in type of Python.

    Args:
        name: The argument or field, with which the error begins.
        value: The value to check.
        values: The range.

    Raises:
        ValueError: If the value is outside the range.

    Example:

    >>> check("momentum", 1.5, Number(0, 1, below=True))
    Traceback (most recent call last):
    ...
    ValueError: momentum must be a number of at least 0 and below 1, but got 1.5.
    """
    try:
        return values.read(value)
    except RefusedError as error:
        raise ValueError(
            f"{name} must be {values.allowed}, but got {shown(value)}{error}"
            + "." * (not str(error).endswith("?"))
        ) from error


def check_fields(description: Any, ranges: Mapping[str, Values]) -> None:
    """Checks fields of a dataclass, and converts them to built-in types of Python.

    Args:
        description: An instance of the dataclass, in its `__post_init__`.
        ranges: The ranges of the fields, by name.

    Raises:
        ValueError: If a field is outside its range.
    """
    for name, values in ranges.items():
        # A frozen dataclass allows no plain assignment.
        object.__setattr__(description, name, check(name, getattr(description, name), values))


def literal(text: str) -> Any:
    """Returns the value of a Python literal; a text that is no literal is returned unchanged.

    Args:
        text: An argument of the command line; `true` and `false` are literals too.

    Example:

    >>> literal("(1, 2)"), literal("digits"), literal("true")
    ((1, 2), 'digits', True)
    """
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def shown(value: Any) -> str:
    """Returns the `repr` of a value, shortened to one line of about 100 characters.

    Args:
        value: An object of any class.
    """
    try:
        return " ".join(reprlib.repr(value).split())
    except Exception:  # the __repr__ of a foreign class may raise anything
        return f"a {type(value).__name__}"


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise RefusedError
    try:
        number = float(value)
    except OverflowError as error:
        raise RefusedError from error
    if not math.isfinite(number):
        raise RefusedError
    return number


def _bounds(values: Number | Whole) -> str:
    low = "above" if values.above else "of at least"
    high = "below" if values.below else "at most"
    return f"{low} {_formatted(values.least)} and {high} {_formatted(values.most)}"


def _formatted(number: float) -> str:
    return f"{int(number):,}" if number == int(number) else f"{number}"
