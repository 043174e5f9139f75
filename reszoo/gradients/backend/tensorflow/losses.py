"""Losses that the backward passes of a step start from."""

from typing import Any

import tensorflow as tf

from reszoo.accumulator import Accumulator

# Passes of a step whose losses are kept.
MOST_PASSES = 8


class Losses:
    """Losses of the passes of recorded batches, added up on the device over replicas and batches.

    It must be created in the scope of the model's strategy.
    """

    def __init__(self):
        # For each pass the loss, and the number of batches and replicas in which it is known.
        self.sums = Accumulator([MOST_PASSES, 2])

    def of_pass(
        self, number: tf.Tensor | float, loss: tf.Tensor, scale: tf.Tensor | float
    ) -> tf.Tensor:
        """Returns what the loss of a pass adds to the sums.

        Args:
            number: The number of the pass, from 1.
            loss: A scalar.
            scale: The factor of the loss, times the number of batches of an update.
        """
        loss = loss / tf.cast(scale, tf.float64)
        is_of_pass = tf.range(1, MOST_PASSES + 1, dtype=tf.float64) == number
        added = tf.stack([loss, tf.ones_like(loss)])
        # A loss that is not finite must not reach the other rows.
        return tf.where(is_of_pass[:, None], added, tf.zeros_like(added))


def differentiated(target: Any, output_gradients: Any) -> tf.Tensor | None:
    """Returns the scalar whose gradient a tape is asked for; `None` if that is not known.

    Args:
        target: The `target` of the tape's gradient.
        output_gradients: Its `output_gradients`; `None` for the gradient of the sum of all targets.

    Returns:
        A float64 scalar, which no tape differentiates.
    """
    targets = [x for x in tf.nest.flatten(target) if _is_real(x)]
    factors = [1.0] * len(targets)
    if output_gradients is not None:
        factors = tf.nest.flatten(output_gradients)
        # The gradient from a tensor on is not that of the tensor's own sum.
        if len(factors) != len(targets) or any(x.shape.rank != 0 for x in targets):
            return None
    if not targets:
        return None
    products = [
        tf.reduce_sum(tf.cast(tf.stop_gradient(x), tf.float64)) * tf.cast(factor, tf.float64)
        for x, factor in zip(targets, factors, strict=True)
    ]
    return tf.add_n(products)


def _is_real(x: Any) -> bool:
    return tf.is_tensor(x) and x.dtype.is_floating
