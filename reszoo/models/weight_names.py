"""Names of weights: here, in torchvision, timm, keras.applications and KerasHub.

Names are found by walking the layers, not from the variables' paths, which lose their block once a
model has been saved and loaded.
"""

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import numpy as np

from reszoo.layers import Chain

_BLOCK = re.compile(r"stage(\d+)_block(\d+)(_preactivation)?$")
_TORCH_LEAF = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def named_weights(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns each weight of a model by its name in reszoo's own files.

    Args:
        model: A model made of `reszoo.layers` and Keras layers.

    Returns:
        Names such as `stage1_block1/branch/conv1/kernel`, each with its variable.

    Example:

    >>> from reszoo import ResNet18
    >>> list(named_weights(ResNet18(width=8)))[:2]
    ['stem/conv1/kernel', 'stem/norm1/gamma']
    """
    return dict(_walk(model, ""))


def _walk(layer: keras.layers.Layer, prefix: str) -> Iterator[tuple[str, keras.Variable]]:
    children = _children(layer)
    below = {id(v) for child in children.values() for v in child.weights}
    for variable in layer.weights:
        if id(variable) not in below:
            yield prefix + variable.name, variable
    for name, child in children.items():
        yield from _walk(child, f"{prefix}{name}/")


def _children(layer: keras.layers.Layer) -> dict[str, keras.layers.Layer]:
    if isinstance(layer, keras.Model):
        return {child.name: child for child in layer.layers}
    if isinstance(layer, Chain):
        return {child.name: child for child in layer.layers}
    return {
        attribute: value
        for attribute, value in vars(layer).items()
        if isinstance(value, keras.layers.Layer) and not attribute.startswith("_")
    }


BlockNaming = Callable[[int, int], str]


@dataclass(frozen=True)
class Scheme:
    """Names and layout of the weights in another library.

    Attributes:
        name: Name of the library.
        key: Returns the other library's name for one of ours, as `named_weights` gives them, or
            `None` if it has none; its second argument is all of our names.
        torch: Whether kernels are laid out as in torch, output channels first.
        marker: Regular expression of a name that occurs only in this scheme, by which it is
            recognized; `None` if it is only taken where it is given.

    Example:

    >>> caffe = Scheme("caffe", lambda name, names: name.replace("/", "_"), torch=True)
    >>> caffe.key("stem/conv1/kernel", frozenset())
    'stem_conv1_kernel'
    """

    name: str
    key: Callable[[str, frozenset[str]], str | None]
    torch: bool = False
    marker: str | None = None

    def decode(self, array: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Returns the other library's array in our layout, for a variable of that shape."""
        if not self.torch or not name.endswith("/kernel"):
            return array
        if len(shape) == 2 and array.ndim > 2 and set(array.shape[2:]) == {1}:
            array = array.reshape(array.shape[:2])
        return np.moveaxis(array, (0, 1), (-1, -2)) if array.ndim >= 2 else array

    def encode(self, array: np.ndarray, name: str, names: frozenset[str]) -> np.ndarray:
        """Returns our array in the other library's layout."""
        if not self.torch or not name.endswith("/kernel"):
            return array
        array = np.moveaxis(array, (-1, -2), (0, 1))
        if _is_pointwise_convolution(name, names):
            array = array[..., None, None]
        return np.ascontiguousarray(array)


def _is_pointwise_convolution(name: str, names: frozenset[str]) -> bool:
    """Returns whether timm has a 1x1 convolution where we have a dense layer."""
    if "squeeze_excitation" in name:
        return True
    return name.startswith("logits") and _is_preactivation(names)


def _is_preactivation(names: frozenset[str]) -> bool:
    return any(name.startswith("postactivation/") for name in names)


def _torchvision_key(name: str, names: frozenset[str]) -> str | None:
    module, *inner, leaf = name.split("/")
    block = _BLOCK.match(module)
    if module == "stem":
        theirs = _deep_stem(inner[0]) if "stem/conv3/kernel" in names else _norm_as("bn", inner[0])
    elif module == "logits":
        theirs = "fc"
    elif block and not block[3]:
        inside = _torch_shortcut(inner) if inner[0] == "shortcut" else _torch_branch(inner, "bn")
        theirs = inside and f"layer{block[1]}.{int(block[2]) - 1}.{inside}"
    else:
        return None
    return theirs and _torch_leaf(theirs, leaf)


def _timm_v2_key(name: str, names: frozenset[str]) -> str | None:
    module, *inner, leaf = name.split("/")
    block = _BLOCK.match(module)
    theirs = {"postactivation": "norm", "logits": "head.fc"}.get(module)
    if module == "stem" and inner == ["conv1"] and "stem/conv3/kernel" not in names:
        theirs = "stem.conv"
    elif block:
        if block[3]:
            inside = "norm1"
        elif inner[0] == "shortcut":
            inside = "downsample.conv" if inner[-1] == "conv" else None
        else:
            inside = _torch_branch(inner, "norm")
        theirs = inside and f"stages.{int(block[1]) - 1}.blocks.{int(block[2]) - 1}.{inside}"
    return theirs and _torch_leaf(theirs, leaf)


def _timm_key(name: str, names: frozenset[str]) -> str | None:
    return (_timm_v2_key if _is_preactivation(names) else _torchvision_key)(name, names)


def _torch_leaf(theirs: str, leaf: str) -> str | None:
    return f"{theirs}.{_TORCH_LEAF[leaf]}" if leaf in _TORCH_LEAF else None


def _norm_as(norm: str, name: str) -> str | None:
    return name.replace("norm", norm) if re.match(r"(conv|norm)\d$", name) else None


def _deep_stem(name: str) -> str:
    positions = {"conv1": 0, "norm1": 1, "conv2": 3, "norm2": 4, "conv3": 6}
    return "bn1" if name == "norm3" else f"conv1.{positions[name]}"


def _torch_branch(inner: list[str], norm: str) -> str | None:
    match inner:
        case ["branch", "squeeze_excitation", dense]:
            return {"squeeze": "se.fc1", "excite": "se.fc2"}[dense]
        case ["branch", layer]:
            return _norm_as(norm, layer)
    return None


def _torch_shortcut(inner: list[str]) -> str | None:
    positions = {"conv": 0, "norm": 1}
    if inner[-1] not in positions:
        return None
    # In the D networks there is an average pool before the projection.
    return f"downsample.{positions[inner[-1]] + ('after_pool' in inner)}"


def _keras_key(block_name: BlockNaming) -> Callable[[str, frozenset[str]], str | None]:
    """Returns the naming of keras.applications or KerasHub, which differ in the blocks' names."""

    def key(name: str, names: frozenset[str]) -> str | None:
        module, *inner, leaf = name.split("/")
        block = _BLOCK.match(module)
        theirs = {"postactivation": "post_bn", "logits": "predictions"}.get(module)
        if module == "stem":
            theirs = re.sub(r"(conv|norm)(\d)$", _keras_stem, inner[0])
        elif block:
            inside = _keras_block(block, inner, _is_preactivation(names), block_name)
            theirs = inside and block_name(int(block[1]), int(block[2])) + inside
        return theirs and f"{theirs}/{leaf}"

    return key


def _keras_stem(match: re.Match[str]) -> str:
    return f"conv{match[2]}_{'conv' if match[1] == 'conv' else 'bn'}"


def _keras_block(
    block: re.Match[str], inner: list[str], preactivation: bool, block_name: BlockNaming
) -> str | None:
    before = "pre_activation_bn" if block_name is _hub_block else "preact_bn"
    if block[3]:
        return before
    if inner[0] == "shortcut":
        return {"conv": "0_conv", "norm": "0_bn"}.get(inner[-1])
    match = re.match(r"branch/(conv|norm)(\d)$", "/".join(inner))
    if match is None:
        return None
    if match[1] == "conv":
        return f"{match[2]}_conv"
    # The norm before the second convolution has the number of the first.
    number = int(match[2]) - preactivation
    return f"{number}_bn" if number else before


def _applications_block(stage: int, block: int) -> str:
    return f"conv{stage + 1}_block{block}_"


def _hub_block(stage: int, block: int) -> str:
    return f"stack{stage - 1}_block{block - 1}_"


def _onnx_key(name: str, names: frozenset[str]) -> str | None:
    """Returns the name that `onnx_files` gives a weight by its place."""
    module, *inner, leaf = name.split("/")
    block = _BLOCK.match(module)
    if module in ("stem", "logits"):
        return ".".join((module, *inner, leaf))
    if block is None or block[3] or not re.match(r"(conv|norm)\d?$", inner[-1]):
        return None
    place = f"block{_numbers_of_blocks(names)[module]}.{inner[0]}"
    return f"{place}.{inner[-1]}.{leaf}" if inner[0] == "branch" else f"{place}.{inner[-1]}1.{leaf}"


@functools.lru_cache(maxsize=1)
def _numbers_of_blocks(names: frozenset[str]) -> dict[str, int]:
    """Returns the number of each block in the network, by its name."""
    modules = {name.split("/")[0] for name in names}
    found = [match for match in map(_BLOCK.match, modules) if match and not match[3]]
    ordered = sorted(found, key=lambda block: (int(block[1]), int(block[2])))
    return {match[0]: number for number, match in enumerate(ordered, start=1)}


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("reszoo", lambda name, names: name, marker=r"stage1_block1/branch/"),
        Scheme("torchvision", _torchvision_key, True, r"layer1\.0\.conv1\.weight$"),
        Scheme("timm", _timm_key, True, r"(stages\.0\.blocks|layer1)\.0\.conv1\.weight$"),
        Scheme(
            "keras_applications", _keras_key(_applications_block), marker=r"conv2_block1_1_conv/"
        ),
        Scheme("keras_hub", _keras_key(_hub_block), marker=r"stack0_block0_1_conv/"),
        Scheme("onnx", _onnx_key, marker=r"block1\.branch\.conv1\.kernel$"),
    )
}


def scheme_of(keys: list[str]) -> Scheme:
    """Returns the scheme of some names of weights.

    Args:
        keys: All names in a source of weights.

    Returns:
        The scheme whose marker is among the names.

    Raises:
        ValueError: If the names belong to no scheme.

    Example:

    >>> scheme_of(["layer1.0.conv1.weight"]).name
    'torchvision'
    """
    for scheme in SCHEMES.values():
        if scheme.marker and any(re.match(scheme.marker, key) for key in keys):
            return scheme
    raise ValueError(
        f"These weights are named like no ResNet of {', '.join(SCHEMES)}. The first names are "
        f"{sorted(keys)[:5]}. Give load_weights a scheme, a function that returns their name for "
        "one of reszoo.models.named_weights(model)."
    )
