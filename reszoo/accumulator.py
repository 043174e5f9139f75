"""Sums over replicas of a TensorFlow strategy."""

from collections.abc import Sequence

import tensorflow as tf


class Accumulator:
    """Sums that are added up on the device, over replicas and calls of a block, in float64.

    It must be created in the scope of the model's strategy. Like a metric's variables, its variable
    is local to each replica, so that adding to it needs no communication, and is not a weight of
    the model.

    Args:
        shape: The shape of the sums.
        maximum: Whether to keep the largest value instead of the sum. Each replica then has its own
            row, since replicas can only be summed.
    """

    def __init__(self, shape: Sequence[int], maximum: bool = False):
        self.maximum = maximum
        if maximum:
            shape = [tf.distribute.get_strategy().num_replicas_in_sync, *shape]
        self.variable = tf.Variable(
            tf.zeros(shape, tf.float64),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
            name="gradient_sums",
        )

    def add(self, sums: tf.Tensor, turn: tuple[tf.Tensor, tf.Tensor] | None = None) -> None:
        """Adds sums. Called on each replica.

        Args:
            sums: Numbers of the accumulator's shape.
            turn: Whether they are used at all, and whether they replace the previous sums; if it is
                `None` they are added.
        """
        before, is_maximum = self.variable.value(), self.maximum
        if is_maximum:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            sums = tf.one_hot(replica, self.variable.shape[0], dtype=sums.dtype)[:, None] * sums
        total = tf.maximum(before, sums) if is_maximum else before + sums
        if turn is not None:
            is_taken, is_new = turn
            total = tf.where(is_taken, tf.where(is_new, sums, total), before)
        self.variable.assign(total)

    def put(self, rows: Sequence[Sequence[int]], sums: tf.Tensor) -> None:
        """Replaces some rows by sums. Called on each replica.

        Args:
            rows: Positions of the rows, of shape `(rows, 1)`.
            sums: The new rows, in the order of `rows`.
        """
        self.variable.assign(tf.tensor_scatter_nd_update(self.variable.value(), rows, sums))
