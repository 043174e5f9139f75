"""Models that are built by their first batch."""

from typing import Any

import keras
import tensorflow as tf

from reszoo.keras_internals import sublayers
from reszoo.layers import ResidualBlock
from reszoo.layers.symbolic import symbolic_call


def build_for(model: keras.Model, iterator: Any) -> bool:
    """Builds a model for the batches of an iterator, as `fit` would with the first of them.

    It is called symbolically, so no batch is taken, no seed is used and no average is moved.

    Args:
        model: The model, built or not.
        iterator: The iterator that `fit` gives its train function.

    Returns:
        Whether it is built now. Not if it cannot be called symbolically, as one cannot that runs
        eagerly and looks at the values of a batch.
    """
    if model.built and has_all_weights(model):
        return True
    try:
        batch = tf.nest.map_structure(_symbolic, iterator.element_spec)
        x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        with model.distribute_strategy.scope():
            symbolic_call(model, x)
    except Exception:  # whatever is raised by a call that somebody wrote for other tensors
        pass
    return is_built(model)


def is_built(model: keras.Model) -> bool:
    """Returns whether a model has its weights.

    Args:
        model: The model. One whose training step calls its parts only stays unbuilt itself.
    """
    if not model.built:
        return has_all_weights(model)
    # Keras's own `build` marks a subclassed model as built, whatever is in it. A layer that is
    # never called may stay without weights.
    return all(part.built for part in sublayers(model) if isinstance(part, ResidualBlock))


def has_all_weights(model: keras.Model) -> bool:
    """Returns whether a model has layers, all of which have their weights.

    Args:
        model: The model.
    """
    parts = sublayers(model)
    return bool(parts) and all(part.built for part in parts)


def _symbolic(spec: tf.TensorSpec) -> keras.KerasTensor:
    return keras.KerasTensor(spec.shape, spec.dtype.name)
