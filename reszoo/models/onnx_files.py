"""Weights in ONNX files, by their places in the graph.

An exporter folds batch normalizations into the convolutions before them and gives the results names
of its own. What is left of a network's names is its structure: the paths from each fork to its
addition.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# Operations on a path that have no weights.
_WITHOUT_WEIGHTS = frozenset(
    re.findall(
        r"\w+",
        """
        AveragePool Cast Celu Clip Dropout Elu Erf Flatten Gelu GlobalAveragePool HardSigmoid
        HardSwish Identity LeakyRelu LogSoftmax MaxPool Mish Pad ReduceMean Relu Reshape Selu
        Sigmoid Softmax Softplus Softsign Squeeze Tanh Transpose Unsqueeze
        """,
    )
)


@dataclass(frozen=True, eq=False)
class _Place:
    """A tensor in the graph: the layers and blocks on its way from the input.

    Attributes:
        before: The place from which it follows; `None` for the graph's input.
        weights: The weights of the layer that leads here, by their names in Keras.
        paths: The two paths of the block that leads here, branch and shortcut, each a list of
            layers' weights.
    """

    before: "_Place | None" = None
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    paths: "tuple[list[_Place], list[_Place]] | None" = None

    def way(self) -> Iterator["_Place"]:
        """Yields the places back to the input."""
        place = self
        while place is not None:
            yield place
            place = place.before


def read_onnx(path: Path) -> dict[str, np.ndarray]:
    """Returns the weights of a residual network in an ONNX file.

    Args:
        path: Path of a local file.

    Returns:
        The arrays, laid out as in Keras, by their places: `stem.conv1.kernel`,
        `block1.branch.conv1.bias`, `block3.shortcut.conv1.kernel`, `logits.kernel`; blocks are
        counted over the whole network.

    Raises:
        ValueError: If the file cannot be read, has weights in other files, or is not a chain of
            convolutions and residual blocks.
    """
    try:
        import onnx
    except ImportError as error:
        raise ValueError(f"Reading {str(path)!r} needs pip install onnx.") from error
    try:
        # Weights in other files could be any file of this machine.
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} is no ONNX file that can be read ({type(error).__name__}). Export it "
            "again."
        ) from error
    return dict(_named(_Graph(graph, str(path)).output()))


class _Graph:
    """The graph of an ONNX file, walked from its input to its output."""

    def __init__(self, graph: Any, where: str):
        self.graph = graph
        self.where = where
        self.constants = {tensor.name: self._array(tensor) for tensor in graph.initializer}
        self.places: dict[str, _Place] = {
            value.name: _Place() for value in graph.input if value.name not in self.constants
        }

    def output(self) -> _Place:
        """Returns the place of the graph's output."""
        for node in self.graph.node:
            self._visit(node)
        if len(self.graph.output) != 1 or self.graph.output[0].name not in self.places:
            raise ValueError(
                f"The network in {self.where!r} must have one output, but has "
                f"{[value.name for value in self.graph.output]}. Export it with its logits alone."
            )
        return self.places[self.graph.output[0].name]

    def _visit(self, node: Any) -> None:
        if node.op_type == "Constant":
            self._add_constant(node)
            return
        constants = [self.constants.get(name) for name in node.input]
        data = [self.places[name] for name in node.input if name in self.places]
        if not data:
            if node.op_type == "Identity" and constants[0] is not None:
                self.constants[node.output[0]] = constants[0]
            return  # computed from the images' shape or from constants
        step = _STEPS.get(node.op_type, _pass if node.op_type in _WITHOUT_WEIGHTS else None)
        place = step(node, data, constants) if step else None
        if place is None:
            raise ValueError(
                f"The network in {self.where!r} has an operation {node.op_type} ({node.name!r}) "
                "that is none of a chain of convolutions and residual blocks. Give its weights as "
                "a dictionary, with a scheme of their names."
            )
        self.places[node.output[0]] = place

    def _add_constant(self, node: Any) -> None:
        for attribute in node.attribute:
            if attribute.name == "value":
                self.constants[node.output[0]] = self._array(attribute.t)

    def _array(self, tensor: Any) -> np.ndarray:
        from onnx import TensorProto, numpy_helper

        if tensor.data_location == TensorProto.EXTERNAL:
            raise ValueError(
                f"The weight {tensor.name!r} in {self.where!r} is in another file, which could be "
                "any of this machine, and is not read. Export the network as one file."
            )
        try:
            return numpy_helper.to_array(tensor)
        except Exception as error:
            raise ValueError(
                f"The weight {tensor.name!r} in {self.where!r} cannot be read: {error}. Export the "
                "network again."
            ) from error


Constants = list[np.ndarray | None]


def _pass(node: Any, data: list[_Place], constants: Constants) -> _Place | None:
    return data[0] if len(data) == 1 else None


def _convolution(node: Any, data: list[_Place], constants: Constants) -> _Place | None:
    kernel = constants[1]
    if len(data) > 1 or kernel is None:
        return None
    weights = {"kernel": np.moveaxis(kernel, (0, 1), (-1, -2))}
    if len(constants) > 2 and constants[2] is not None:
        weights["bias"] = constants[2]
    return _Place(data[0], weights)


def _normalization(node: Any, data: list[_Place], constants: Constants) -> _Place | None:
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    if len(data) > 1 or any(value is None for value in constants[1:5]):
        return None
    weights: Any = dict(zip(names, constants[1:5], strict=True))
    # Another number that is added to the variance is the same as another variance.
    epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
    shift = np.float64(epsilon) - 1e-5
    weights["moving_variance"] = (weights["moving_variance"] + shift).astype(
        weights["moving_variance"].dtype
    )
    return _Place(data[0], weights)


def _dense(node: Any, data: list[_Place], constants: Constants) -> _Place | None:
    attributes = {a.name: a for a in node.attribute}
    scales = [attributes[name].f for name in ("alpha", "beta") if name in attributes]
    kernel = constants[1]
    if len(data) > 1 or kernel is None or any(scale != 1.0 for scale in scales):
        return None
    turned = "transB" in attributes and attributes["transB"].i
    weights = {"kernel": kernel.T if turned else kernel}
    if len(constants) > 2 and constants[2] is not None:
        weights["bias"] = constants[2]
    return _Place(data[0], weights)


def _addition(node: Any, data: list[_Place], constants: Constants) -> _Place | None:
    if len(data) == 2:
        return _block(*data)
    bias, place = next(c for c in constants if c is not None), data[0]
    # The bias of the layer before, as an operation of its own.
    if place.before is None or "kernel" not in place.weights or "bias" in place.weights:
        return None
    if bias.size != place.weights["kernel"].shape[-1]:
        return None
    return _Place(place.before, {**place.weights, "bias": bias.reshape(-1)})


def _block(first: _Place, second: _Place) -> _Place | None:
    """Returns the place after an addition; the path with fewer layers is the shortcut."""
    on_first = set(map(id, first.way()))
    fork = next((place for place in second.way() if id(place) in on_first), None)
    if fork is None:
        return None
    paths = [_between(fork, end) for end in (first, second)]
    shortcut, branch = sorted(paths, key=len)
    if len(shortcut) == len(branch) or any(place.paths for path in paths for place in path):
        return None
    return _Place(fork, paths=(branch, shortcut))


def _between(fork: _Place, end: _Place) -> list[_Place]:
    path = []
    for place in end.way():
        if place is fork:
            break
        path.append(place)
    return path[::-1]


_STEPS: dict[str, Callable[[Any, list[_Place], Constants], _Place | None]] = {
    "Add": _addition,
    "BatchNormalization": _normalization,
    "Conv": _convolution,
    "Gemm": _dense,
    "MatMul": _dense,
}


def _named(output: _Place) -> Iterator[tuple[str, np.ndarray]]:
    number, between = 0, []
    for place in list(output.way())[-2::-1]:
        if place.paths is None:
            between.append(place)
            continue
        yield from _named_path(f"after_block{number}" if number else "stem", between)
        number, between = number + 1, []
        for name, path in zip(("branch", "shortcut"), place.paths, strict=True):
            yield from _named_path(f"block{number}.{name}", path)
    *others, head = between or [_Place()]
    yield from _named_path(f"after_block{number}", others)
    yield from ((f"logits.{leaf}", array) for leaf, array in head.weights.items())


def _named_path(prefix: str, path: list[_Place]) -> Iterator[tuple[str, np.ndarray]]:
    convolutions = norms = 0
    for place in path:
        is_convolution = "kernel" in place.weights
        convolutions, norms = convolutions + is_convolution, norms + (not is_convolution)
        kind = f"conv{convolutions}" if is_convolution else f"norm{norms}"
        yield from ((f"{prefix}.{kind}.{leaf}", array) for leaf, array in place.weights.items())
