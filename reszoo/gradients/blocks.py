"""Residual blocks of a model, and their description in the log."""

import math
import re
from collections.abc import Mapping
from typing import Any

import keras

from reszoo.gradients.block_layers import describe_layers
from reszoo.gradients.found_block import FoundBlock
from reszoo.keras_internals import sublayers
from reszoo.layers import Chain, Convolution, ResidualBlock, StopGradSkip
from reszoo.layers.symbolic import strides_of


def find_blocks(model: keras.Model) -> dict[str, ResidualBlock]:
    """Returns the residual blocks of a model, nested ones included, in the order of its layers.

    Args:
        model: A built model, or any layer.

    Returns:
        The blocks by name. A name that occurs twice has its parents' names in front of it.

    Raises:
        ValueError: If there is no residual block.

    Example:

    >>> from reszoo.models import ResNet18
    >>> list(find_blocks(ResNet18(10, (32, 32, 3), "cifar", width=4)))[:3]
    ['stage1_block1', 'stage1_block2', 'stage2_block1']
    """
    paths = {}
    _walk(model, (), paths)
    if not paths:
        raise ValueError(
            f"The model {model.name!r} has no residual block, so there is no gradient to record. "
            "Build it from reszoo.ResidualBlock, take one of reszoo.models, or have "
            "the additions of a functional model recorded: "
            "GradientRecorder(..., blocks=reszoo.gradients.instrument(model))."
        )
    names = [path[-1] for path, _ in paths.values()]
    return {
        path[-1] if names.count(path[-1]) == 1 else "/".join(path): block
        for path, block in paths.values()
    }


def _walk(
    layer: keras.layers.Layer,
    path: tuple[str, ...],
    found: dict[int, tuple[tuple[str, ...], ResidualBlock]],
) -> None:
    for child in sublayers(layer, recursive=False):
        child_path = (*path, child.name)
        if isinstance(child, ResidualBlock):
            found.setdefault(id(child), (child_path, child))
        _walk(child, child_path, found)


def found_in(model: keras.Model, blocks: Mapping[str, ResidualBlock | FoundBlock]) -> list[Any]:
    """Returns the graphs and the calls of layers in which some of a model's blocks were found.

    Args:
        model: A model, or any layer.
        blocks: Blocks by name.

    Returns:
        Each once; none for the blocks that are layers.

    Raises:
        ValueError: If `blocks` is empty, or a block does not belong to this model.
    """
    if not blocks:
        raise ValueError("There is no block to record: blocks is empty. Leave it out to have all.")
    layers = {id(layer) for layer in (model, *sublayers(model))}
    searched = {}
    for name, block in blocks.items():
        owner = block.found_in.owner if isinstance(block, FoundBlock) else block
        if id(owner) not in layers:
            raise ValueError(
                f"The block {name!r} is not of the model {model.name!r} that is trained, but of "
                "another one. Give blocks=reszoo.gradients.instrument(model) of the very model."
            )
        if isinstance(block, FoundBlock):
            searched[id(block.found_in)] = block.found_in
    return list(searched.values())


def describe_blocks(blocks: Mapping[str, ResidualBlock | FoundBlock]) -> list[dict]:
    """Returns the description of each block in the log: enough to draw the network.

    Args:
        blocks: Blocks by name.

    Returns:
        For each block a dictionary of JSON values: `name`; `shortcut`, the name of its class in
        words (`"identity"`, `"projection"`, `"zero pad"`, `"average pool and
        projection"`, ...); `strides` of the branch, in pixels; `stops_gradient`, whether no
        gradient passes the skip; `parent`, the name of the block that contains it, or `None`;
        `trainable_weights`, their number; `layers` along its paths, as `describe_layers` gives
        them.
    """
    inside = {name: {id(part) for part in _parts(block)} for name, block in blocks.items()}
    return [
        {
            "name": name,
            **(_described_as_found(block) if isinstance(block, FoundBlock) else _described(block)),
            "parent": _innermost(block, inside),
            "trainable_weights": sum(math.prod(w.shape) for w in block.trainable_variables),
            "layers": describe_layers(block),
        }
        for name, block in blocks.items()
    ]


def _described(block: ResidualBlock) -> dict:
    return {
        "shortcut": _shortcut_in_words(block.shortcut),
        "strides": _strides_of_branch(block),
        "stops_gradient": isinstance(block.shortcut, StopGradSkip),
    }


def _strides_of_branch(block: ResidualBlock) -> int:
    """Returns the stride of a block's branch, the largest of all axes; 1 where it has none."""
    shape = (block.get_build_config() or {}).get("input_shape")
    if not shape:  # one that was never built, which a trial call would build
        return 1
    try:
        x = keras.KerasTensor(shape, block.compute_dtype)
        return int(max(strides_of(block.branch, x), default=1))
    except (TypeError, ValueError):
        return 1


def _described_as_found(block: FoundBlock) -> dict:
    return {
        "shortcut": block.shortcut_in_words,
        "strides": block.strides,
        "stops_gradient": False,
    }


def layers_of(block: ResidualBlock | FoundBlock) -> list[keras.layers.Layer]:
    """Returns the layers in a block, with the layers nested in them.

    Args:
        block: A `ResidualBlock`, or a block that is found.

    Returns:
        The layers on its two paths and the layers inside of these.
    """
    if not isinstance(block, FoundBlock):
        return sublayers(block)
    layers = [part for part in block.operations if isinstance(part, keras.layers.Layer)]
    return [part for layer in layers for part in (layer, *sublayers(layer))]


def _parts(block: ResidualBlock | FoundBlock) -> list:
    """Returns the layers in a block, and the parts of a block that is found."""
    return [*layers_of(block), *(block.parts if isinstance(block, FoundBlock) else [])]


def _innermost(block: ResidualBlock | FoundBlock, inside: Mapping[str, set[int]]) -> str | None:
    """Returns the name of the smallest block that contains a block, or `None`."""
    places = block.places if isinstance(block, FoundBlock) else [block]
    around = [name for name, parts in inside.items() if any(id(place) in parts for place in places)]
    return min(around, key=lambda name: len(inside[name]), default=None)


def _shortcut_in_words(shortcut: keras.layers.Layer) -> str:
    if isinstance(shortcut, StopGradSkip):
        inner = shortcut.shortcut
        return "identity" if inner is None else _shortcut_in_words(inner)
    if type(shortcut) is Chain:  # not its subclasses, such as a projection
        return " and ".join(_shortcut_in_words(layer) for layer in shortcut.layers) or "identity"
    if isinstance(shortcut, Convolution):
        return "projection"
    words = re.findall("[A-Z][^A-Z]*", type(shortcut).__name__) or [type(shortcut).__name__]
    return " ".join(words).lower().removesuffix(" shortcut")
