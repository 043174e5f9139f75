"""Stochastic gradient descent whose update is one operation a weight."""

from typing import Any

import keras

from reszoo.keras_internals import is_traced_for_xla, position_of_weight


@keras.saving.register_keras_serializable(package="reszoo")
class SGD(keras.optimizers.SGD):
    """Gradient descent with momentum, as Keras's, updated by one kernel of TensorFlow.

    Keras's update is eight operations a weight, each of which reads and writes the whole weight; it
    takes a good part of a step where images are small. The kernel makes the same update, to
    rounding. Its arguments, variables and configuration are Keras's, and so is the update where
    there is no such kernel: of sparse gradients, without momentum, and under XLA, which makes one
    loop of the operations by itself.

    Reference:
        Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning",
        section 2.

    Example:

    >>> weight = keras.Variable([1.0])
    >>> SGD(0.5, momentum=0.5, nesterov=True).apply([keras.ops.ones(1)], [weight])
    >>> weight.numpy()
    array([0.25], dtype=float32)
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        import tensorflow as tf

        if not self.momentum or isinstance(gradient, tf.IndexedSlices) or is_traced_for_xla():
            super().update_step(gradient, variable, learning_rate)
            return
        moment: Any = self.momentums[position_of_weight(self, variable)]
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=moment.value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
            momentum=tf.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )
