"""Layers of blocks in a short form, in which each path that many blocks have stands once.

The blocks of a network are often alike but for the beginnings of their layers' names. So a block
has the common beginning of the names and the numbers of its two paths in a list of all paths.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reszoo.json_files import OptionalField, to_json

PATHS = ("skip", "branch")
_FIELDS = ("name", "kind", "shape", "parameters", "activation")
_INTEGER, _STRING = (int, None), (str, None)

# Shapes of a block's packed layers and of the list of paths, as `reszoo.json_files` explains them.
PACKED_LAYERS = ({"prefix": str, "skip": int, "branch": int, "activation": _STRING}, None)
PACKED_PATHS = {OptionalField("paths"): [[[_STRING, str, ([_INTEGER], None), _INTEGER, _STRING]]]}


def pack_layers(blocks: Sequence[Mapping[str, Any]]) -> dict[str, list]:
    """Returns descriptions of blocks with their layers in the short form.

    Args:
        blocks: Descriptions with or without `layers`, as `describe_blocks` gives them.

    Returns:
        The `blocks` and, if one of them has layers, the `paths` to which they refer.

    Example:

    >>> conv = {"kind": "Conv2D", "shape": [8, 8, 4], "parameters": 36, "activation": None}
    >>> layers = {"skip": [], "branch": [{"name": "a_conv1", **conv}], "activation": None}
    >>> packed = pack_layers([{"name": "a", "layers": layers}])
    >>> packed["blocks"][0]["layers"]
    {'prefix': 'a_conv1', 'skip': 0, 'branch': 1, 'activation': None}
    >>> packed["paths"]
    [[], [['', 'Conv2D', [8, 8, 4], 36, None]]]
    """
    numbers: dict[str, int] = {}
    paths: list[list] = []

    def number_of(layers: Sequence[Mapping], prefix: str) -> int:
        path = [_row(layer, len(prefix)) for layer in layers]
        number = numbers.setdefault(to_json(path), len(paths))
        paths.extend([path] if number == len(paths) else [])
        return number

    def packed(layers: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if layers is None:
            return None
        prefix = _common_beginning(layers)
        of_paths = {path: number_of(layers[path], prefix) for path in PATHS}
        return {"prefix": prefix, **of_paths, "activation": layers["activation"]}

    shortened = [
        {**block, "layers": packed(block["layers"])} if "layers" in block else dict(block)
        for block in blocks
    ]
    return {"blocks": shortened, **({"paths": paths} if paths else {})}


def unpack_layers(
    blocks: Sequence[Mapping[str, Any]], paths: Sequence[Sequence]
) -> list[dict[str, Any]]:
    """Returns descriptions of blocks with their layers in full.

    Args:
        blocks: Descriptions with layers in the short form.
        paths: The paths to which they refer.

    Raises:
        ValueError: If there is no such path.
    """

    def unpacked(layers: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if layers is None:
            return None
        of_paths = {path: _path(paths, layers[path], layers["prefix"]) for path in PATHS}
        return {**of_paths, "activation": layers["activation"]}

    return [
        {**block, "layers": unpacked(block["layers"])} if "layers" in block else dict(block)
        for block in blocks
    ]


def layers_in(block: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the layers of a block, each with its path; none if they are not known.

    Args:
        block: The description of a block, with its layers in full.
    """
    layers = block.get("layers") or dict.fromkeys(PATHS, ())
    for path in PATHS:
        for layer in layers[path]:
            yield path, layer


def _common_beginning(layers: Mapping[str, Any]) -> str:
    names = [each["name"] for path in PATHS for each in layers[path] if each["name"] is not None]
    first, last = min(names, default=""), max(names, default="")
    alike = itertools.takewhile(
        lambda letters: letters[0] == letters[1], zip(first, last, strict=False)
    )
    return first[: len(list(alike))]


def _row(layer: Mapping[str, Any], begin: int) -> list:
    name, *others = (layer[field] for field in _FIELDS)
    return [None if name is None else name[begin:], *others]


def _path(paths: Sequence[Sequence], number: int, prefix: str) -> list[dict[str, Any]]:
    if not 0 <= number < len(paths):
        raise ValueError(f"a block refers to path {number} of {len(paths)}")
    rows = [dict(zip(_FIELDS, row, strict=True)) for row in paths[number]]
    return [{**row, "name": None if row["name"] is None else prefix + row["name"]} for row in rows]
