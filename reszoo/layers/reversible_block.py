"""Residual blocks whose input is recomputed from their output in the backward pass."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from reszoo.keras_internals import values_as_stored
from reszoo.layers.chain import Chain
from reszoo.layers.coupling import Coupling
from reszoo.layers.recomputation import (
    after,
    differentiated,
    stores_activations,
    with_gradient,
)
from reszoo.layers.remat import check_no_weight
from reszoo.layers.residual_block import Path, ResidualBlock
from reszoo.layers.shapes import Tensor


@keras.saving.register_keras_serializable(package="reszoo")
class ReversibleChain(Chain):
    """Applies reversible blocks one after the other, and keeps only the output of the last.

    In the backward pass the input of each block is recomputed from its output: the last block's
    from the output of the chain, and every other block's from what the block after it recomputed.
    So the activations of one block at a time are in memory, whatever the number of blocks. Each
    branch is computed twice.

    Normalizations update their averages in the forward pass only, and random layers such as dropout
    draw the same numbers again. Gradients are those of the same layers in a `Chain`, up to rounding
    errors: the recomputed inputs differ from the original ones by some, which grow with the number
    of blocks.

    Args:
        layers: `ReversibleBlock`s; also a `ResidualBlock` whose branch is a `Coupling`, with an
            identity shortcut and no activation.

    Call arguments:
        x: A tensor with an even number of channels, which are its last axis.

    Input shape:
        `(..., channels)`.

    Output shape:
        That of the input.

    Raises:
        ValueError: If another kind of layer is given, or one that adds a loss in its call; when
            called, if the input has a mask, or two blocks share a layer that changes in training.

    Reference:
        Gomez et al. 2017, "The reversible residual network: Backpropagation without storing
        activations".

    Example:

    >>> def dense():
    ...     return [keras.layers.Dense(2, activation="tanh")]
    >>> chain = ReversibleChain([ReversibleBlock(dense(), dense()) for _ in range(3)])
    >>> chain(keras.ops.ones((1, 4))).shape
    TensorShape([1, 4])
    """

    def __init__(self, layers: Sequence[keras.layers.Layer], **kwargs: Any):
        super().__init__(layers, **kwargs)
        for layer in self.layers:
            _check_reversible(layer)

    @property
    def steps(self) -> list[ResidualBlock]:
        """The residual blocks that it consists of, two for each `ReversibleBlock`."""
        return [step for layer in self.layers for step in getattr(layer, "steps", [layer])]

    def inverse(self, y: Tensor, training: bool = False) -> Tensor:
        """Returns the input that leads to an output, up to rounding errors.

        Args:
            y: The output.
            training: Whether the layers are run as in training.

        Example:

        >>> chain = ReversibleChain([ReversibleBlock(None, None)])
        >>> chain.inverse(chain(keras.ops.convert_to_tensor([[1.0, 2.0]]))).numpy().tolist()
        [[1.0, 2.0]]
        """
        for step in reversed(self.steps):
            y = ops.subtract(y, ops.cast(step.branch(y, training=training), y.dtype))
        return y

    def call(self, x: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            raise ValueError(
                f"{self.name!r} got an input with a mask, which reversible blocks do not take. Put "
                "a layer before it that has none, or use ResidualBlocks."
            )
        if stores_activations():
            for step in self.steps:
                x = step(x, training=training)
            return x
        return _Run(self.steps, training)(x)


@keras.saving.register_keras_serializable(package="reszoo")
class ReversibleBlock(ReversibleChain):
    """Couples two halves of the channels: `y1 = x1 + F(x2)`, `y2 = x2 + G(y1)`.

    The block's input follows from its output, `x2 = y2 - G(y1)` and `x1 = y1 - F(x2)`, without an
    inverse of `F` or `G`. It is recomputed so in the backward pass. A block alone keeps its output;
    put several into a `ReversibleChain`, which keeps only the last one's.

    It consists of two `ResidualBlock`s with identity shortcuts, named after it with `_f` and `_g`:
    the branch of the first is `(F(x2), 0)`, of the second `(0, G(y1))`. A gradient recorder and
    `reszoo.gradients.check` treat them like any others.

    Args:
        branch_f: A Keras layer, a list of them, or `None` for the identity: `F`, which takes and
            returns one half of the channels.
        branch_g: `G`, in the same way.

    Call arguments:
        x: A tensor with an even number of channels, which are its last axis.

    Input shape:
        `(..., channels)`.

    Output shape:
        That of the input.

    Raises:
        ValueError: When built, if the number of channels is odd, or a branch changes the shape.

    Reference:
        Gomez et al. 2017, "The reversible residual network: Backpropagation without storing
        activations", equations 6 and 7.

    Example:

    >>> from reszoo import BasicBranch
    >>> block = ReversibleBlock(BasicBranch(8), BasicBranch(8), name="block1")
    >>> block(keras.ops.ones((1, 8, 8, 16))).shape
    TensorShape([1, 8, 8, 16])
    >>> [step.name for step in block.steps]
    ['block1_f', 'block1_g']
    """

    arguments = ("branch_f", "branch_g")

    def __init__(self, branch_f: Path, branch_g: Path, **kwargs: Any):
        dtype = kwargs.get("dtype")
        branches = [
            Coupling(branch_f, "first", dtype=dtype),
            Coupling(branch_g, "second", dtype=dtype),
        ]
        super().__init__([ResidualBlock(branch, dtype=dtype) for branch in branches], **kwargs)
        for step, letter in zip(self.steps, "fg", strict=True):
            step.name = f"{self.name}_{letter}"

    @property
    def branch_f(self) -> keras.layers.Layer:
        """`F`, which writes the first half."""
        return self.steps[0].branch.branch

    @property
    def branch_g(self) -> keras.layers.Layer:
        """`G`, which writes the second half."""
        return self.steps[1].branch.branch


class _Run:
    """One run of steps `y = x + f(x)` whose inputs are `x = y - f(y)`.

    Args:
        steps: The steps, first to last.
        training: Whether they are run as in training.
    """

    def __init__(self, steps: Sequence[ResidualBlock], training: bool | None):
        self._steps = [(step, step.variables) for step in steps]
        self._training = training
        self._variables = list({id(v): v for _, of in self._steps for v in of}.values())
        self._changed = {}

    def __call__(self, x: Tensor) -> Tensor:
        values = values_as_stored(self._variables)
        y, *new = with_gradient(self._forward, self._backward, [x, *values])
        for variable, value in zip(self._changed.values(), new, strict=True):
            variable.assign(value)
        return y

    def _forward(self, x: Tensor, *values: Tensor) -> list[Tensor]:
        self._changed = {}
        mapping = zip(self._variables, values, strict=True)
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            for step, variables in self._steps:
                before = [scope.get_current_value(variable) for variable in variables]
                x = ops.add(x, self._branch(step, x))
                for variable, value in zip(variables, before, strict=True):
                    if scope.get_current_value(variable) is not value:
                        _check_unchanged(variable, self._changed)
                        self._changed[id(variable)] = variable
                _check_no_loss(step, scope)
                check_no_weight(list(self._changed.values()), step)
        return [x, *map(scope.get_current_value, self._changed.values())]

    def _backward(
        self, y: Tensor, gradient: Tensor, values: Sequence[Tensor]
    ) -> list[Tensor | None]:
        value_of = dict(zip(map(id, self._variables), values, strict=True))
        of_values = dict.fromkeys(value_of)
        for step, variables in reversed(self._steps):
            mapping = [(variable, value_of[id(variable)]) for variable in variables]
            y, gradient, of_weights = self._step_back(step, y, gradient, mapping)
            for weight, of_weight in zip(step.trainable_variables, of_weights, strict=True):
                before = of_values[id(weight)]
                of_values[id(weight)] = of_weight if before is None else before + of_weight
        return [gradient, *of_values.values()]

    def _step_back(
        self,
        step: ResidualBlock,
        y: Tensor,
        gradient: Tensor,
        mapping: Sequence[tuple[keras.Variable, Tensor]],
    ) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
        """Returns a step's input, and the gradients of its input and its weights."""
        weights, trainable = step.trainable_variables, set(map(id, step.trainable_variables))
        others = [(v, value) for v, value in mapping if id(v) not in trainable]
        value_of = {id(variable): value for variable, value in mapping}

        def run(y: Tensor, *of_weights: Tensor) -> tuple[Tensor, Tensor]:
            with keras.StatelessScope([*others, *zip(weights, of_weights, strict=True)]):
                # The branch does not read the half of `y` that it changed.
                shortcut, to_branch = step.fork(y)
                branch = self._branch(step, to_branch)
                shortcut = ops.subtract(shortcut, ops.stop_gradient(branch))
                y = step.activation(step.merge(shortcut, branch))
                return y, ops.stop_gradient(shortcut)

        tensors = [after(y, [gradient]), *(value_of[id(weight)] for weight in weights)]
        x, (gradient, *of_weights) = differentiated(run, tensors, gradient)
        return after(x, of_weights), gradient, of_weights

    def _branch(self, step: ResidualBlock, x: Tensor) -> Tensor:
        return ops.cast(step.branch(x, training=self._training), x.dtype)


def _check_reversible(layer: keras.layers.Layer) -> None:
    if isinstance(layer, ReversibleChain) or (
        type(layer) is ResidualBlock
        and isinstance(layer.branch, Coupling)
        and type(layer.shortcut) is keras.layers.Identity
        and layer.activation is keras.activations.linear
        and not layer.remat
    ):
        return
    raise ValueError(
        "A ReversibleChain takes ReversibleBlocks, or ResidualBlocks of a Coupling with an "
        f"identity shortcut and neither activation nor remat, but got {layer.name!r} of type "
        f"{type(layer).__name__}, whose input does not follow from its output, or is kept."
    )


def _check_unchanged(variable: keras.Variable, changed: dict[int, keras.Variable]) -> None:
    if id(variable) in changed:
        raise ValueError(
            f"{variable.path!r} changes in several reversible blocks, so it cannot be restored for "
            "each of them. Give each block a normalization or dropout layer of its own."
        )


def _check_no_loss(step: ResidualBlock, scope: keras.StatelessScope) -> None:
    if scope.losses:
        raise ValueError(
            f"A layer in the reversible block {step.name!r} adds a loss of its activations, whose "
            "gradient cannot be computed there. Remove its activity_regularizer or add_loss, or "
            "use ResidualBlocks."
        )
