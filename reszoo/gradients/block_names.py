"""Names of the residual blocks inside of layers."""

from collections.abc import Iterable, Sequence

import keras

from reszoo.gradients.located import Located
from reszoo.keras_internals import sublayers


def name_blocks(found: Sequence[Located]) -> None:
    """Sets the names of blocks.

    The only block of a layer has the layer's name. Of several, each has the layer's name and one of
    `attention`, `cross_attention` and `feedforward`, or the name of a layer on its branch. In a
    model's own `call` it is named by that layer alone; in the graph of a functional model, by the
    layer that adds.

    Args:
        found: All blocks of a model, in the order of their sums.
    """
    of_layer = {}
    for located in found:
        of_layer.setdefault(id(located.layer), []).append(located)
    for blocks in of_layer.values():
        for located, label in zip(blocks, _labels(blocks), strict=True):
            within = [located.layer.name, *label]
            if len(located.names) == 1:  # the model itself
                within = label or within
            located.name = "/".join(within)
            located.names = (*located.names[1:], *label) or (located.name,)


def _labels(blocks: Sequence[Located]) -> list[list[str]]:
    """Returns what is added to the name of a layer for each of its blocks, one string or none."""
    owner = blocks[0].layer
    if isinstance(owner, keras.Function):
        return [[located.adds_in.name] for located in blocks]
    if len(blocks) == 1 and len(blocks[0].names) > 1:
        return [[]]
    attends = [_attention(owner, located.branch_layers) for located in blocks]
    if not any(attends):
        return [[_main(located.branch_layers).name] for located in blocks]
    others = "feedforward" if attends.count(None) == 1 else None
    kinds = [of_attention or others for of_attention in attends]
    return [
        [kind if kind and kinds.count(kind) == 1 else _main(located.branch_layers).name]
        for kind, located in zip(kinds, blocks, strict=True)
    ]


def _attention(owner: keras.layers.Layer, layers: Iterable[keras.layers.Layer]) -> str | None:
    """Returns `"attention"` or `"cross_attention"` if one of a layer's layers is one."""
    for layer in layers:
        attributes = " ".join(name for name, value in vars(owner).items() if value is layer)
        for part in (layer, *sublayers(layer)):
            words = f"{attributes} {layer.name} {part.name} {type(part).__name__}".lower()
            if "attention" in words or "attn" in words:
                return "cross_attention" if "cross" in words else "attention"
    return None


def _main(layers: Sequence[keras.layers.Layer]) -> keras.layers.Layer:
    """Returns the layer with the most weights."""
    return max(layers, key=lambda layer: layer.count_params() if layer.built else 0)
