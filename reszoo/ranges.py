"""Ranges of numbers, words and tuples, and the one sentence about a value outside of them."""

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
    """A value that is not allowed; the text, if any, follows the value in a sentence."""


class Values(Protocol):
    """The values of a kind."""

    @property
    def allowed(self) -> str:
        """What follows "must be" in a sentence."""

    def read(self, value: Any) -> Any:
        """Returns a value of Python's own types, which JSON has too.

        Raises:
            RefusedError: If it is not allowed.
        """

    def parse(self, text: str) -> Any:
        """Returns what a text of the command line stands for, allowed or not."""


@dataclasses.dataclass(frozen=True)
class Switch:
    """True or false."""

    allowed = "True or False"

    def read(self, value):
        if not isinstance(value, bool | np.bool_):
            raise RefusedError
        return bool(value)

    def parse(self, text):
        # What absl takes for a boolean flag.
        words = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
        return words.get(text.lower(), text)


@dataclasses.dataclass(frozen=True)
class Number:
    """A number that is in the range in float32 too.

    Args:
        least: The smallest.
        most: The largest.
        above: Whether the smallest itself is left out.
        below: Whether the largest itself is left out.

    Example:

    >>> Number(0, 1, below=True).allowed
    'a number of at least 0 and below 1'
    """

    least: float
    most: float
    above: bool = False
    below: bool = False

    @property
    def allowed(self):
        return f"a number {_range(self)}"

    def read(self, value):
        number = _number(value)
        if not self._has(number):
            raise RefusedError
        with np.errstate(over="ignore", under="ignore"):
            single = float(np.float32(number))
        if not self._has(single):
            raise RefusedError(f" (which is {single:g} in float32)")
        return number

    def parse(self, text):
        return literal(text)

    def _has(self, number):
        low = self.least < number if self.above else self.least <= number
        return low and (number < self.most if self.below else number <= self.most)


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number; one with a fraction of 0, such as 3.0, is taken for it.

    Args:
        least: The smallest.
        most: The largest.

    Example:

    >>> Whole(1, 10).read(3.0)
    3
    """

    least: int
    most: int
    above = below = False

    @property
    def allowed(self):
        return f"a whole number {_range(self)}"

    def read(self, value):
        # Not through a float, which has 53 bits.
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        number = int(value) if whole else _number(value)
        if number != number // 1 or not self.least <= number <= self.most:
            raise RefusedError
        return int(number)

    def parse(self, text):
        return literal(text)


@dataclasses.dataclass(frozen=True)
class Word:
    """One of some words.

    Args:
        words: Those.
        described: Describes them where they are too many for a sentence.

    Example:

    >>> Word(("sgd", "adamw")).allowed
    '"sgd" or "adamw"'
    """

    words: tuple[str, ...]
    described: str = ""

    @property
    def allowed(self):
        if len(self.words) > WORDS_LISTED:
            return self.described
        *first, last = (f'"{word}"' for word in self.words)
        return f"{', '.join(first)} or {last}" if first else last

    def read(self, value):
        if not isinstance(value, str):
            raise RefusedError
        if value not in self.words:
            near = difflib.get_close_matches(value, self.words)
            listed = len(self.words) <= WORDS_LISTED or not near
            raise RefusedError("" if listed else f". Did you mean {' or '.join(map(repr, near))}?")
        return str(value)

    def parse(self, text):
        return text


@dataclasses.dataclass(frozen=True)
class Text:
    """A text, such as a name or a path.

    Args:
        example: One.
        empty: Whether it may be empty.
    """

    example: str
    empty: bool = False

    @property
    def allowed(self):
        rule = "" if self.empty else " that is not empty"
        return f'a text{rule}, such as "{self.example}"' + ', or ""' * self.empty

    def read(self, value):
        if not isinstance(value, str | os.PathLike):
            raise RefusedError
        text = os.fspath(value)
        if not isinstance(text, str) or "\0" in text or not (text.strip() or self.empty):
            raise RefusedError
        return str(text)

    def parse(self, text):
        return text


@dataclasses.dataclass(frozen=True)
class Maybe:
    """Values of a kind, or `None`.

    Args:
        values: That kind.
    """

    values: Values

    @property
    def allowed(self):
        return f"{self.values.allowed}, or None"

    def read(self, value):
        return None if value is None else self.values.read(value)

    def parse(self, text):
        return None if text in ("None", "none") else self.values.parse(text)


@dataclasses.dataclass(frozen=True)
class Either:
    """Values of two kinds.

    Args:
        first: One.
        second: The other.
    """

    first: Values
    second: Values

    @property
    def allowed(self):
        return f"{self.first.allowed}, or {self.second.allowed}"

    def read(self, value):
        try:
            return self.first.read(value)
        except RefusedError as first:
            try:
                return self.second.read(value)
            except RefusedError as second:
                raise RefusedError(str(first) or str(second)) from second

    def parse(self, text):
        return literal(text)


@dataclasses.dataclass(frozen=True)
class Exactly:
    """One value.

    Args:
        value: That value.
        also: What is taken for it too.
    """

    value: Any
    also: tuple[Any, ...] = ()

    @property
    def allowed(self):
        return repr(self.value).replace("'", '"')

    def read(self, value):
        taken = (self.value, *self.also)
        if shown(tuple(value) if isinstance(value, list) else value) not in map(shown, taken):
            raise RefusedError
        return self.value

    def parse(self, text):
        return literal(text)


@dataclasses.dataclass(frozen=True)
class Several:
    """A tuple of values of one kind; a list is taken for it.

    Args:
        values: The kind of each.
        example: One, as it is written in Python.
        counts: How many there may be; any number of them if empty.
        rising: Whether each has to be above the one before.
        distinct: Whether each has to be another.

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
    def allowed(self):
        counts = f"of {' or '.join(map(str, self.counts))} elements" * bool(self.counts)
        rule = "rising" * self.rising + "all different" * self.distinct
        parts = [f"a tuple such as {self.example}", counts, rule, f"each {self.values.allowed}"]
        return ", ".join(filter(None, parts))

    def read(self, value):
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

    def parse(self, text):
        value = literal(text)
        # A single one needs no comma and no brackets there.
        return tuple(value) if isinstance(value, tuple | list) else (value,)

    def _element(self, index, element):
        try:
            return self.values.read(element)
        except RefusedError as error:
            raise RefusedError(f" (see element {index}, {shown(element)}){error}") from error


def check(name: str, value: Any, values: Values) -> Any:
    """Returns a value as `values.read` does.

    Args:
        name: The name of what has the value.
        value: The value.
        values: What it may be.

    Raises:
        ValueError: If it is another: with the name, the value and what is allowed.

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
    """Makes sure that fields of a dataclass are in their ranges, and of Python's own types.

    Args:
        description: An instance of that class, as `__post_init__` has it.
        ranges: The ranges of its fields, by name.

    Raises:
        ValueError: If one is outside.
    """
    for name, values in ranges.items():
        # Frozen ones can be changed in no other way.
        object.__setattr__(description, name, check(name, getattr(description, name), values))


def literal(text: str) -> Any:
    """Returns what a text means as a literal of Python; the text itself if it is none.

    Args:
        text: That text.

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
    """Returns how a value is written, in one line of some 100 characters at most.

    Args:
        value: That value.
    """
    try:
        return " ".join(reprlib.repr(value).split())
    except Exception:  # what a class of somebody else's raises
        return f"a {type(value).__name__}"


def _number(value):
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise RefusedError
    try:
        number = float(value)
    except OverflowError as error:
        raise RefusedError from error
    if not math.isfinite(number):
        raise RefusedError
    return number


def _range(kind):
    low = "above" if kind.above else "of at least"
    high = "below" if kind.below else "at most"
    return f"{low} {_counted(kind.least)} and {high} {_counted(kind.most)}"


def _counted(number):
    return f"{int(number):,}" if number == int(number) else f"{number}"
