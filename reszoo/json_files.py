"""JSON files: reading, a check of their shape with errors that name the file, and writing.

A shape is a description of the values that are allowed:

| shape | value |
|---|---|
| `str`, `bool`, `int` | a string, true or false, a whole number |
| `float` | a finite number |
| `NUMBER_OR_NULL` | any number; or `null`, which `to_json` writes for NaN and infinities |
| `object` | anything |
| `None` | `null` |
| `[shape]` | a list of such values, of any length |
| `[shape, shape]` | a list of two |
| `{"name": shape}` | an object with such a field; with `OptionalField("name")` it can be left out |
| `{str: shape}` | an object with such values under any names |
| `(shape, shape)` | one or the other |
"""

import json
import math
import os
from pathlib import Path
from typing import Any

# Far above the size of any file that this package writes.
MOST_BYTES = 2**28


class OptionalField(str):
    """Name of a field that can be left out."""


class _AnyNumber:
    """Shape of a number, finite or not."""


NUMBER_OR_NULL = (_AnyNumber, None)

_WORDS = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    _AnyNumber: "a number",
    None: "null",
}


def read_json(path: os.PathLike, shape: Any, cure: str) -> Any:
    """Reads a JSON file.

    Args:
        path: A `pathlib.Path`, or an object with the same methods.
        shape: The shape of the file's value.
        cure: A sentence for the error that says how to mend the file.

    Returns:
        The file's value.

    Raises:
        ValueError: If the file cannot be read, is not JSON, or has another shape.
    """
    return parse_json(_content(path, cure), shape, str(path), cure)


def read_json_lines(path: os.PathLike, shape: Any, cure: str) -> list:
    """Reads a JSON Lines file, with one value per line.

    An incomplete last line, left by a process that was killed, is skipped.

    Args:
        path: A `pathlib.Path`, or an object with the same methods.
        shape: The shape of every line's value.
        cure: A sentence for the error that says how to mend the file.

    Returns:
        The values of the lines, in order.

    Raises:
        ValueError: If the file cannot be read, or a line is not JSON or has another shape.
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


def parse_json(text: str | bytes, shape: Any, source: str, cure: str) -> Any:
    """Reads JSON from a string.

    Args:
        text: JSON; bytes are decoded as UTF-8.
        shape: The shape of its value.
        source: The name of the text's source, with which the error begins.
        cure: A sentence for the error that says how to mend the text.

    Returns:
        The value.

    Raises:
        ValueError: If the text is not JSON, or has another shape.

    Example:

    >>> parse_json('{"epoch": 1.5}', {"epoch": int}, "metrics.jsonl", "Mend it.")
    Traceback (most recent call last):
    ...
    ValueError: metrics.jsonl cannot be read: 'epoch' must be a whole number, but is 1.5. Mend it.
    """
    try:
        value = json.loads(_decoded(text), object_pairs_hook=_without_repetition)
        reason = _fault(value, shape, "it")
    except json.JSONDecodeError as error:
        raise _broken(source, _explained(error) if text.strip() else "it is empty", cure) from error
    except (ValueError, RecursionError) as error:
        raise _broken(source, str(error), cure) from error
    if reason:
        raise _broken(source, reason, cure)
    return value


def to_json(value: Any, indent: int | None = None) -> str:
    """Returns a value as standard JSON, in which a number that is not finite is `null`.

    Args:
        value: Dictionaries, lists, tuples, strings, numbers, booleans and `None`.
        indent: Spaces per level; `None` for one line.

    Example:

    >>> to_json({"loss": float("nan"), "epoch": 1})
    '{"loss": null, "epoch": 1}'
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _explained(error: json.JSONDecodeError) -> str:
    line = f"line {error.lineno}, " if "\n" in error.doc.strip() else ""
    return f"in {line}column {error.colno}: {error.msg}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _broken(source: object, reason: str, cure: str) -> ValueError:
    return ValueError(f"{source} cannot be read: {reason}. {cure}")


def _content(path: Any, cure: str) -> bytes:
    try:
        if isinstance(path, Path) and path.exists():
            # Reading a pipe would wait for its writer.
            if not path.is_file():
                raise _broken(path, "it is not a regular file", cure)
            if path.stat().st_size > MOST_BYTES:
                raise _broken(path, f"it has {path.stat().st_size:,} bytes", cure)
        return path.read_bytes()
    except OSError as error:
        raise _broken(path, error.strerror or str(error), cure) from error


def _decoded(text: str | bytes) -> str:
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8-sig")  # some editors begin with a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"its byte {error.start + 1} is not UTF-8") from error


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has {repeated!r} twice")
    return value


def _is_json(line: bytes) -> bool:
    try:
        json.loads(_decoded(line))
    except (ValueError, RecursionError):
        return False
    return True


def _fault(value: Any, shape: Any, location: str) -> str | None:
    """Returns a clause about the first fault of a value; `None` for a value of the shape."""
    if isinstance(shape, tuple):
        faults = [_fault(value, each, location) for each in shape]
        one_of = " or ".join(map(_in_words, shape))
        return None if None in faults else _not(one_of, value, location)
    if isinstance(shape, dict) and isinstance(value, dict):
        return _fault_of_fields(value, shape, location)
    if isinstance(shape, list) and isinstance(value, list):
        return _fault_of_items(value, shape, location)
    return None if _is_simple(value, shape) else _not(_in_words(shape), value, location)


def _fault_of_fields(value: dict, shape: dict, location: str) -> str | None:
    if str in shape:
        shape = dict.fromkeys(value, shape[str])
    for name, of_field in shape.items():
        if name not in value and not isinstance(name, OptionalField):
            return f"{location} has no {str(name)!r}"
        fault = name in value and _fault(value[name], of_field, _inside(location, str(name)))
        if fault:
            return fault
    return None


def _fault_of_items(value: list, shape: list, location: str) -> str | None:
    if len(shape) > 1 and len(shape) != len(value):
        return f"{location} must have {len(shape)} items, but has {len(value)}"
    shapes = shape if len(shape) > 1 else shape * len(value)
    faults = (
        _fault(item, of_item, _inside(location, number))
        for number, (item, of_item) in enumerate(zip(value, shapes, strict=True))
    )
    return next(filter(None, faults), None)


def _inside(location: str, name: str | int) -> str:
    """Returns the location of a field or an item, such as `'blocks'[3]['name']`."""
    return repr(name) if location == "it" and isinstance(name, str) else f"{location}[{name!r}]"


def _is_simple(value: Any, shape: Any) -> bool:
    if shape is None or shape is object:
        return shape is object or value is None
    if shape in (int, float, _AnyNumber):
        kind = int if shape is int else (int, float)
        is_number = isinstance(value, kind) and not isinstance(value, bool)
        return is_number and (shape is not float or math.isfinite(value))
    return isinstance(shape, type) and isinstance(value, shape)


def _in_words(shape: Any) -> str:
    if isinstance(shape, dict):
        return "an object"
    return "a list" if isinstance(shape, list) else _WORDS[shape]


def _not(wanted: str, value: Any, location: str) -> str:
    text = repr(value)
    return f"{location} must be {wanted}, but is {text if len(text) <= 60 else text[:60] + '...'}"
