"""The same gradients by a `tf.GradientTape` written out by hand, for the tests to compare with."""

import keras
import numpy as np
import tensorflow as tf

from reszoo import ResidualBlock


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


def expected_statistics(skip, branch, output):
    """Returns path statistics of three gradients, in float64, with NumPy alone."""
    skip, branch, output = (g.astype(np.float64).ravel() for g in (skip, branch, output))
    norms = {
        "skip_gradient_norm": np.linalg.norm(skip),
        "branch_gradient_norm": np.linalg.norm(branch),
        "input_gradient_norm": np.linalg.norm(skip + branch),
        "output_gradient_norm": np.linalg.norm(output),
    }
    together = norms["skip_gradient_norm"] * norms["branch_gradient_norm"]
    return {
        **norms,
        "skip_branch_cosine": skip @ branch / together if together else np.nan,
        "skip_share": norms["skip_gradient_norm"]
        / (norms["skip_gradient_norm"] + norms["branch_gradient_norm"]),
        "gradient_gain": norms["input_gradient_norm"] / norms["output_gradient_norm"],
        "skip_gradient_rms": norms["skip_gradient_norm"] / np.sqrt(skip.size),
        "output_gradient_rms": norms["output_gradient_norm"] / np.sqrt(output.size),
    }


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
        steps.append(
            {
                name: {
                    **expected_statistics(*gradients[name]),
                    **_expected_weight_statistics(model.get_layer(name), weights),
                }
                for name in gradients
            }
        )
    return steps


def _expected_weight_statistics(block, weights):
    of_block = [weights[id(variable)] for variable in block.trainable_variables]
    norms = [
        np.sqrt(sum(np.sum(np.square(array, dtype=np.float64)) for array in arrays))
        for arrays in zip(*of_block, strict=True)
    ]
    return dict(zip(("weight_norm", "weight_gradient_norm", "update_norm"), norms, strict=True))
