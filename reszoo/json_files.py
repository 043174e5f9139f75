"""JSON that people edit or break: read whole, checked for its shape, named in every error.

A shape says what a value has to be:

| shape | value |
|---|---|
| `str`, `bool`, `int` | a text, true or false, a whole number |
| `float` | a finite number |
| `FIGURE` | a number that need not be finite; `null` stands for one that is not |
| `object` | anything |
| `None` | `null` |
| `[shape]` | a list of such values, of any length |
| `[shape, shape]` | a list of two |
| `{"name": shape}` | an object with such a field; with `Maybe("name")` it can be left out |
| `{str: shape}` | an object with such values under any names |
| `(shape, shape)` | one or the other |
"""

import json
import math
import os
from pathlib import Path
from typing import Any

# Nothing that is written here comes near.
MOST_BYTES = 2**28


class Maybe(str):
    """The name of a field that can be left out."""


class _Figure:
    """A number that need not be finite."""


FIGURE = (_Figure, None)

_WORDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    _Figure: "a number",
    None: "null",
}


def read_json(path: os.PathLike, shape: Any, cure: str) -> Any:
    """Reads a file of JSON.

    Args:
        path: The file, as `pathlib.Path` or with the same methods.
        shape: Its shape.
        cure: A sentence that says what to do about a file that is broken.

    Returns:
        What the file holds.

    Raises:
        ValueError: If the file cannot be read, is no JSON, or of another shape.
    """
    return parse_json(_content(path, cure), shape, str(path), cure)


def read_json_lines(path: os.PathLike, shape: Any, cure: str) -> list:
    """Reads a file with a JSON value a line.

    A last line that was cut short when its process was killed is left out.

    Args:
        path: The file, as `pathlib.Path` or with the same methods.
        shape: The shape of every line.
        cure: A sentence that says what to do about a file that is broken.

    Returns:
        The values.

    Raises:
        ValueError: If the file cannot be read, or a line is no JSON or of another shape.
    """
    content = _content(path, cure)
    lines = content.split(b"\n")
    if not _is_json(lines[-1]):
        del lines[-1]
    return [
        parse_json(line, shape, f"Line {number} of {path}", cure)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def parse_json(text: str | bytes, shape: Any, where: str, cure: str) -> Any:
    """Reads JSON from a text.

    Args:
        text: The text; bytes are UTF-8.
        shape: Its shape.
        where: Where it comes from.
        cure: A sentence that says what to do about a text that is broken.

    Returns:
        The value.

    Raises:
        ValueError: If the text is no JSON, or of another shape.

    Example:

    >>> parse_json('{"epoch": 1.5}', {"epoch": int}, "metrics.jsonl", "Mend it.")
    Traceback (most recent call last):
    ...
    ValueError: metrics.jsonl cannot be read: 'epoch' must be a whole number, but is 1.5. Mend it.
    """
    try:
        value = json.loads(_decoded(text), object_pairs_hook=_without_doubles)
        reason = _fault(value, shape, "it")
    except json.JSONDecodeError as error:
        raise _broken(where, _explained(error) if text.strip() else "it is empty", cure) from error
    except (ValueError, RecursionError) as error:
        raise _broken(where, str(error), cure) from error
    if reason:
        raise _broken(where, reason, cure)
    return value


def to_json(value: Any, indent: int | None = None) -> str:
    """Returns a value as JSON that every reader takes: a number that is not finite is `null`.

    Args:
        value: The value.
        indent: How far each level is indented; `None` for one line.

    Example:

    >>> to_json({"loss": float("nan"), "epoch": 1})
    '{"loss": null, "epoch": 1}'
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _explained(error):
    line = f"line {error.lineno}, " if "\n" in error.doc.strip() else ""
    return f"in {line}column {error.colno}: {error.msg}"


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _broken(where, reason, cure):
    return ValueError(f"{where} cannot be read: {reason}. {cure}")


def _content(path, cure):
    try:
        if isinstance(path, Path) and path.exists():
            # A pipe would be waited for.
            if not path.is_file():
                raise _broken(path, "it is not a regular file", cure)
            if path.stat().st_size > MOST_BYTES:
                raise _broken(path, f"it has {path.stat().st_size:,} bytes", cure)
        return path.read_bytes()
    except OSError as error:
        raise _broken(path, error.strerror or str(error), cure) from error


def _decoded(text):
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8-sig")  # some editors begin with a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"its byte {error.start + 1} is not UTF-8") from error


def _without_doubles(pairs):
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has {double!r} twice")
    return value


def _is_json(line):
    try:
        json.loads(_decoded(line))
    except (ValueError, RecursionError):
        return False
    return True


def _fault(value, shape, place):
    """Returns what is wrong with a value, `None` if nothing."""
    if isinstance(shape, tuple):
        faults = [_fault(value, each, place) for each in shape]
        one_of = " or ".join(map(_in_words, shape))
        return None if None in faults else _not(one_of, value, place)
    if isinstance(shape, dict) and isinstance(value, dict):
        return _fault_of_fields(value, shape, place)
    if isinstance(shape, list) and isinstance(value, list):
        return _fault_of_items(value, shape, place)
    return None if _is_simple(value, shape) else _not(_in_words(shape), value, place)


def _fault_of_fields(value, shape, place):
    if str in shape:
        shape = dict.fromkeys(value, shape[str])
    for name, of_field in shape.items():
        if name not in value and not isinstance(name, Maybe):
            return f"{place} has no {str(name)!r}"
        fault = name in value and _fault(value[name], of_field, _inside(place, str(name)))
        if fault:
            return fault
    return None


def _fault_of_items(value, shape, place):
    if len(shape) > 1 and len(shape) != len(value):
        return f"{place} must have {len(shape)} items, but has {len(value)}"
    shapes = shape if len(shape) > 1 else shape * len(value)
    faults = (
        _fault(item, of_item, _inside(place, number))
        for number, (item, of_item) in enumerate(zip(value, shapes, strict=True))
    )
    return next(filter(None, faults), None)


def _inside(place, name):
    """Returns the place of a field or an item, such as `'blocks'[3]['name']`."""
    return repr(name) if place == "it" and isinstance(name, str) else f"{place}[{name!r}]"


def _is_simple(value, shape):
    if shape is None or shape is object:
        return shape is object or value is None
    if shape in (int, float, _Figure):
        kind = int if shape is int else (int, float)
        is_number = isinstance(value, kind) and not isinstance(value, bool)
        return is_number and (shape is not float or math.isfinite(value))
    return isinstance(shape, type) and isinstance(value, shape)


def _in_words(shape):
    if isinstance(shape, dict):
        return "an object"
    return "a list" if isinstance(shape, list) else _WORDS[shape]


def _not(wanted, value, place):
    text = repr(value)
    return f"{place} must be {wanted}, but is {text if len(text) <= 60 else text[:60] + '...'}"
