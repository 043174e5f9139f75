"""Models that are built by their first batch."""

from collections.abc import Callable
from typing import Any

import keras

from reszoo.keras_internals import sublayers
from reszoo.layers import ResidualBlock
from reszoo.layers.symbolic import symbolic_call


def build_from(model: keras.Model, batch: Callable[[], Any]) -> bool:
    """Builds a model for batches of a kind, as `fit` would with the first of them.

    It is called symbolically, so no batch is consumed, no seed is used and no average is updated.

    Args:
        model: The model, built or not.
        batch: Returns a batch as `fit` takes it, of `keras.KerasTensor`.

    Returns:
        Whether the model is built now. It is not if it cannot be called symbolically, such as a
        model that runs eagerly and reads the values of a batch.
    """
    if model.built and has_all_weights(model):
        return True
    try:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(batch())
        symbolic_call(model, x)
    except Exception:  # a call that a user wrote for other tensors may raise any error
        pass
    return is_built(model)


def is_built(model: keras.Model) -> bool:
    """Returns whether a model has its weights.

    Args:
        model: Any model. It stays unbuilt itself if its training step calls only its parts.
    """
    if not model.built:
        return has_all_weights(model)
    # Keras's own `build` marks a subclassed model as built, with or without weights in its layers.
    # A layer that is never called may stay without weights.
    return all(part.built for part in sublayers(model) if isinstance(part, ResidualBlock))


def has_all_weights(model: keras.Model) -> bool:
    """Returns whether a model has layers, all of which have their weights.

    Args:
        model: Any model, built or not.
    """
    parts = sublayers(model)
    return bool(parts) and all(part.built for part in parts)


def check_compiled(model: keras.Model) -> None:
    """Refuses a model without an optimizer.

    Args:
        model: Any model.

    Raises:
        ValueError: If it has none.
    """
    if getattr(model, "optimizer", None) is None:
        raise ValueError(
            f"The model {model.name!r} has no optimizer. Call model.compile(optimizer, ...) "
            "before recording its gradients."
        )


def check_built(model: keras.Model) -> None:
    """Refuses a model that has no weights yet.

    Args:
        model: Any model.

    Raises:
        ValueError: If it is not built.
    """
    if not (is_built(model) or (model.built and model.trainable_variables)):
        raise ValueError(
            f"The model {model.name!r} is not built, so it has no weights to observe. Call it "
            "on a batch, or model.build(input_shape), before the first recorded step."
        )
