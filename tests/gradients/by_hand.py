"""The same gradients by a `tf.GradientTape` written out by hand, for the tests to compare with."""

import keras
import tensorflow as tf

from reszoo import ResidualBlock
from tests.gradients.expected import (
    StepByHand,
    expected_statistics,
    expected_weight_statistics,
)


class _InTraining(keras.layers.Layer):
    """Calls a function as a model's training step would, so that normalizations use the batch."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x, training=None):
        return self.function(x)


def path_gradients(model, x, loss_of):
    """Returns `g_skip`, `g_branch` and `g_y` of each block of a chain of layers, by block name."""
    tensors = {}

    def forward(x):
        for layer in model.layers:
            if not isinstance(layer, ResidualBlock):
                x = layer(x)
                continue
            to_skip, to_branch = tf.identity(x), tf.identity(x)
            y = layer.shortcut(to_skip) + layer.branch(to_branch)
            tensors[layer.name] = (to_skip, to_branch, y)
            x = layer.activation(y)
        return x

    x = tf.convert_to_tensor(x)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        loss = loss_of(_InTraining(forward)(x, training=True))
    gradients = {}
    for name, of_block in tensors.items():
        of_block = tape.gradient(loss, of_block, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        gradients[name] = [gradient.numpy() for gradient in of_block]
    return gradients


def training_by_hand(model, optimizer, batches, loss_of):
    """Trains a model eagerly, and returns the statistics of each step: step, block, name, value."""
    steps = []
    for x, labels in batches:
        gradients = path_gradients(model, x, lambda logits, labels=labels: loss_of(labels, logits))
        variables = model.trainable_variables
        before = [variable.numpy() for variable in variables]
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(x, training=True))
        of_weights = tape.gradient(loss, variables)
        optimizer.apply(of_weights, variables)
        weights = {
            id(variable): (old, gradient.numpy(), variable.numpy() - old)
            for variable, old, gradient in zip(variables, before, of_weights, strict=True)
        }
        of_blocks = {
            name: {
                **expected_statistics(*gradients[name]),
                **expected_weight_statistics(model.get_layer(name), weights),
            }
            for name in gradients
        }
        steps.append(StepByHand(loss.numpy(), of_blocks))
    return steps
