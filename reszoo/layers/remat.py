"""Paths of a block that are run again in the backward pass, so that no activation is kept."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from reszoo.keras_internals import call_context, hand_on_mask, in_call_context, values_as_stored
from reszoo.layers.recomputation import recomputed, stores_activations
from reszoo.layers.shapes import Tensor


def recomputing(function: Callable, layer: keras.layers.Layer) -> Callable:
    """Returns a function of the same result, of which only the arguments are kept for its gradient.

    What layers change in a call, such as averages of normalizations and seeds of dropout, is
    changed once, and has its old values when they run again.

    Args:
        function: Takes tensors and returns a sequence of tensors; it runs sublayers of the layer.
        layer: The layer, built.

    Raises:
        ValueError: When called, if a sublayer adds a loss, or changes a variable that is not the
            layer's, or a weight that has a gradient.
    """

    def run(*inputs: Tensor) -> Sequence[Tensor]:
        if stores_activations():
            return function(*inputs)
        variables, context, changed = layer.variables, call_context(), []

        def stateless(*tensors: Tensor) -> tuple[Sequence[Tensor], list[Tensor]]:
            mapping = zip(variables, tensors[len(inputs) :], strict=True)
            with in_call_context(context), keras.StatelessScope(mapping, True) as scope:
                before = list(map(scope.get_current_value, variables))
                outputs = function(*map(hand_on_mask, inputs, tensors))
            _check(scope, layer)
            after = list(map(scope.get_current_value, variables))
            changed[:] = [
                v for v, old, new in zip(variables, before, after, strict=True) if new is not old
            ]
            check_no_weight(changed, layer)
            return outputs, list(map(scope.get_current_value, changed))

        outputs, values = recomputed(stateless, [*inputs, *values_as_stored(variables)])
        for variable, value in zip(changed, values, strict=True):
            variable.assign(value)
        return outputs

    return run


def check_no_weight(changed: Sequence[keras.Variable], layer: keras.layers.Layer) -> None:
    """Checks that no weight that has a gradient is changed in a call that is run again.

    Backends differ in whether the gradient of what is assigned passes to the old value.

    Args:
        changed: The variables that are changed.
        layer: The layer that is called.

    Raises:
        ValueError: If one is.
    """
    weights = {id(weight) for weight in layer.trainable_variables}
    names = [variable.path for variable in changed if id(variable) in weights]
    if names:
        raise ValueError(
            f"A layer in {layer.name!r} changes the weight {names[0]!r} in its call, as "
            "keras.layers.SpectralNormalization does, so that its gradient would be another one "
            "where activations are recomputed. Remove it, or use a ResidualBlock of remat=False."
        )


def _check(scope: Any, layer: keras.layers.Layer) -> None:
    if scope.losses:
        raise ValueError(
            f"A layer in {layer.name!r} adds a loss of its activations, whose gradient is lost "
            "where they are recomputed. Remove its activity_regularizer or add_loss, or give "
            "remat=False."
        )
    if not set(scope.state_mapping) <= set(map(id, layer.variables)):
        raise ValueError(
            f"A layer in {layer.name!r} changes a variable that belongs to no layer in it, such as "
            "the global seed of keras.random, which would be changed twice where activations are "
            "recomputed. Make it an attribute of the layer, such as a keras.random.SeedGenerator, "
            "or give remat=False."
        )
