"""The blocks of a model, and what a reader of the log is told about each."""

import math
import re

import keras

from reszoo.layers import ResidualBlock, StopGradSkip


def find_blocks(model: keras.Model) -> dict[str, ResidualBlock]:
    """Returns the residual blocks of a model, nested ones too, in the order of its layers.

    Args:
        model: A built model, or any layer.

    Returns:
        The blocks by name. A name that occurs twice is led by its parents' names.

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
            "Build it from reszoo.ResidualBlock or take one of reszoo.models."
        )
    names = [path[-1] for path, _ in paths.values()]
    return {
        path[-1] if names.count(path[-1]) == 1 else "/".join(path): block
        for path, block in paths.values()
    }


def _walk(layer, path, found):
    for child in layer._flatten_layers(include_self=False, recursive=False):
        child_path = (*path, child.name)
        if isinstance(child, ResidualBlock):
            found.setdefault(id(child), (child_path, child))
        _walk(child, child_path, found)


def describe_blocks(blocks: dict[str, ResidualBlock]) -> list[dict]:
    """Returns what the log says about each block: enough to draw the network.

    Args:
        blocks: Blocks by name.

    Returns:
        For each block a dictionary of JSON values: `name`; `shortcut`, the name of its class in
        words (`"identity"`, `"projection"`, `"zero pad"`, ...); `strides` of the branch, in
        pixels; `stops_gradient`, whether no gradient passes the skip; `parent`, the name of the
        block that it lies in, or `None`;
        `trainable_weights`, their number.
    """
    inside = {
        id(inner): name
        for name, block in blocks.items()
        for inner in block._flatten_layers(include_self=False)
        if isinstance(inner, ResidualBlock)
    }
    return [
        {
            "name": name,
            "shortcut": _shortcut_in_words(block.shortcut),
            "strides": getattr(block.branch, "strides", 1),
            "stops_gradient": isinstance(block.shortcut, StopGradSkip),
            "parent": inside.get(id(block)),
            "trainable_weights": sum(math.prod(w.shape) for w in block.trainable_weights),
        }
        for name, block in blocks.items()
    ]


def _shortcut_in_words(shortcut):
    if isinstance(shortcut, StopGradSkip):
        inner = shortcut.shortcut
        return "identity" if inner is None else _shortcut_in_words(inner)
    words = re.findall("[A-Z][^A-Z]*", type(shortcut).__name__) or [type(shortcut).__name__]
    return " ".join(words).lower().removesuffix(" shortcut")
