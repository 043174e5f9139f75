"""The residual block: a fork, two paths and a merge."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from reszoo.keras_internals import hand_on_mask
from reszoo.layers.chain import Chain
from reszoo.layers.configured import Configured
from reszoo.layers.convolution import Convolution
from reszoo.layers.remat import recomputing
from reszoo.layers.shapes import SPATIAL_AXES, Shape, Tensor, joined
from reszoo.layers.shortcuts import ProjectionShortcut
from reszoo.layers.symbolic import build, output_of

# Replaces an unknown size when the paths' shapes are compared; odd, so that strides differ in it.
_PROBE_SIZE = 97

Path = keras.layers.Layer | Sequence[keras.layers.Layer] | None


@keras.saving.register_keras_serializable(package="reszoo")
class ResidualBlock(Configured):
    """Adds a shortcut to a branch, `y = activation(shortcut(x) + branch(x))`.

    It is not limited to images: the paths can be any layers whose outputs have the same shape, so a
    branch can be Dense layers, attention, or residual blocks (a longer skip around shorter ones).

    A gradient recorder observes the block at two methods, which it replaces by its own: `fork`,
    where `x` splits and the gradients of the two paths are summed, and `merge`, where the paths are
    added. The block's name is its label in every plot.

    Args:
        branch: A Keras layer, a list of them (applied one after the other), or `None` for the
            identity.
        shortcut: A Keras layer, a list of them, or `None` for the identity.
        activation: Activation after the addition, anything `keras.activations.get` takes; `None`
            for none.
        remat: Whether the paths are run again in the backward pass, so that of the block only its
            input is kept for it. It takes less memory and more time; gradients are the same.

    Call arguments:
        x: A tensor of any shape that both paths take.

    Input shape:
        Any that both paths take, for example `(batch, height, width, channels)`.

    Output shape:
        That of both paths.

    Raises:
        ValueError: When built, if the paths end in different shapes; when called with `remat`, if a
            layer adds a loss of its activations.

    Reference:
        He et al. 2015, "Deep residual learning for image recognition", section 3.1, equations 1
        and 2; Chen et al. 2016, "Training deep nets with sublinear memory cost", for `remat`.

    Example:

    >>> from reszoo import BasicBranch, ProjectionShortcut
    >>> block = ResidualBlock(
    ...     BasicBranch(16, strides=2), ProjectionShortcut(16, strides=2), activation="relu"
    ... )
    >>> block(keras.ops.ones((1, 8, 8, 3))).shape
    TensorShape([1, 4, 4, 16])
    """

    arguments = ("branch", "shortcut", "activation", "remat")

    def __init__(
        self,
        branch: Path,
        shortcut: Path = None,
        activation: str | Callable | None = None,
        remat: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.branch = as_layer(branch, "branch", self)
        self.shortcut = as_layer(shortcut, "shortcut", self)
        self.activation = keras.activations.get(activation)
        self.remat = remat
        self.supports_masking = True

    def fork(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns `x` for the shortcut and `x` for the branch."""
        # Two tensors, so that the gradients of each path are summed before they are added here.
        return x, hand_on_mask(x, ops.copy(x))

    def merge(self, shortcut: Tensor, branch: Tensor) -> Tensor:
        """Returns the sum of the two paths."""
        return ops.add(shortcut, branch)

    def build(self, input_shape: Shape) -> None:
        x = self._input(input_shape)
        for path in (self.branch, self.shortcut):
            build(path, x)
        self._check_paths_meet(tuple(input_shape))

    def call(self, x: Tensor) -> Tensor:
        paths = recomputing(self.paths, self) if self.remat else self.paths
        return self.activation(self.merge(*paths(*self.fork(x))))

    def paths(self, to_shortcut: Tensor, to_branch: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the ends of the two paths, which are added, given their beginnings."""
        return self.shortcut(to_shortcut), self.branch(to_branch)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(output_of(self.branch, self._input(input_shape)).shape)

    def _check_paths_meet(self, input_shape: Shape) -> None:
        shortcut, branch = self._path_shapes(input_shape)
        if _same(shortcut, branch) and None in input_shape[1:]:
            # Different strides give equal shapes for an unknown image size, but not for a number.
            input_shape = (input_shape[0], *(size or _PROBE_SIZE for size in input_shape[1:]))
            try:
                shortcut, branch = self._path_shapes(input_shape)
            except Exception:
                return  # These layers do not accept the size, so there is nothing to compare.
        if not _same(shortcut, branch):
            raise ValueError(
                f"The two paths of {self.name!r} cannot be added: for an input of shape "
                f"{input_shape} the shortcut {self.shortcut.name!r} ends in shape {shortcut} and "
                f"the branch {self.branch.name!r} in shape {branch}. {_fix(input_shape, branch)}"
            )

    def _path_shapes(self, input_shape: Shape) -> tuple[Shape, Shape]:
        x = self._input(input_shape)
        return tuple(output_of(self.shortcut, x).shape), tuple(output_of(self.branch, x).shape)

    def _input(self, shape: Shape) -> keras.KerasTensor:
        return keras.KerasTensor(shape, self.compute_dtype)


def as_layer(path: Path, argument: str, owner: keras.layers.Layer) -> keras.layers.Layer:
    """Returns a path as one layer.

    Args:
        path: A layer, a list of layers, or `None` for the identity.
        argument: The argument's name, for the error.
        owner: The layer that takes it; what is made here has its dtype.

    Raises:
        ValueError: If it is something else.
    """
    if path is None:
        return keras.layers.Identity(dtype=_dtype_of(owner))
    if isinstance(path, keras.layers.Layer):
        return path
    if isinstance(path, Sequence) and not isinstance(path, str):
        return Chain(path, dtype=_dtype_of(owner))
    raise ValueError(
        f"{type(owner).__name__} takes a Keras layer, a list of them or None as {argument}, but "
        f"got {path!r} of type {type(path).__name__}. For example: ResidualBlock(BasicBranch(64))."
    )


def _dtype_of(owner: keras.layers.Layer) -> str | None:
    """Returns a layer's dtype for the layers made for it; `None` where it depends on the path."""
    policy = owner.dtype_policy
    return None if isinstance(policy, keras.dtype_policies.DTypePolicyMap) else policy.name


def _same(first: Shape, second: Shape) -> bool:
    return len(first) == len(second) and all(
        a == b or a is None or b is None for a, b in zip(first, second, strict=True)
    )


def _fix(input_shape: Shape, branch: Shape) -> str:
    """Returns a sentence naming the shortcut that leads from `input_shape` to `branch`."""
    for shortcut, call in _candidates(input_shape, branch):
        if tuple(shortcut.compute_output_shape(input_shape)) == branch:
            return f"Use shortcut={call}."
    return "Give a shortcut that ends in the branch's shape."


def _candidates(input_shape: Shape, branch: Shape) -> Iterator[tuple[keras.layers.Layer, str]]:
    """Yields shortcuts that may lead from one shape to another, each with the call that makes it.

    They are tried on the input's shape before one is advised.
    """
    sizes: Any = list(zip(input_shape[1:-1], branch[1:-1], strict=False))
    filters = branch[-1]
    if len(branch) != len(input_shape) or not filters or not all(map(all, sizes)):
        return
    if len(sizes) in SPATIAL_AXES:
        for rounded in (round, math.ceil, math.floor):
            strides = joined([max(1, rounded(size / out)) for size, out in sizes])
            given = "" if strides == 1 else f", strides={strides}"
            call = f"ProjectionShortcut({filters}{given})"
            yield ProjectionShortcut(filters, strides), call
        yield from _unpadded_convolutions(sizes, filters)
    yield keras.layers.Dense(filters), f"keras.layers.Dense({filters})"


def _unpadded_convolutions(
    sizes: list[tuple[int, int]], filters: int
) -> Iterator[tuple[keras.layers.Layer, str]]:
    """Yields the convolution without padding of the smallest kernel, if there is one."""
    strides = [max(1, size // out) for size, out in sizes]
    kernel: list[Any] = [
        next((k for k in (1, 3, 5, 7, 2, 4) if (size - k) // step + 1 == out and size >= k), None)
        for (size, out), step in zip(sizes, strides, strict=True)
    ]
    if None not in kernel:
        size, step = joined(kernel), joined(strides)
        call = f'Convolution({filters}, {size}, strides={step}, padding="valid")'
        yield Convolution(filters, size, step, padding="valid"), call
