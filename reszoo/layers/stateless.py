"""Calls without state that say whether layers run as in training."""

import inspect
from typing import Any

import keras

from reszoo.keras_internals import call_told


class StatelessLayer(keras.layers.Layer):
    """A layer whose `stateless_call` takes `training`, as its call does, and tells those in it.

    Keras's own hands it on to `call`, which must have such an argument then.
    """

    def stateless_call(self, *variables_and_inputs: Any, **options: Any) -> Any:
        """Calls the layer with values of its variables that are given; it has no side effects.

        Args:
            *variables_and_inputs: The values of the trainable and of the other variables, and the
                inputs.
            **options: `training`, `return_losses`, and arguments of the layer's call.

        Returns:
            The outputs, the values of the other variables after the call, and losses if asked for.
        """
        if "training" in inspect.signature(self.call).parameters:
            return super().stateless_call(*variables_and_inputs, **options)
        with call_told(self, options.pop("training", None)):
            return super().stateless_call(*variables_and_inputs, **options)
