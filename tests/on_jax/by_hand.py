"""The same gradients by `jax.grad`, written out by hand, for the tests to compare with."""

import jax
import jax.numpy as jnp
import keras
import numpy as np

from reszoo import ResidualBlock
from tests.gradients.expected import (
    StepByHand,
    expected_statistics,
    expected_weight_statistics,
)


def forward(layers, x, steps):
    """Returns the output of a chain of layers, with steps added at each block: skip, branch, y."""
    for layer in layers:
        if not isinstance(layer, ResidualBlock):
            x = layer(x)
            continue
        skip, branch, output = steps.get(layer.name, (0.0, 0.0, 0.0))
        y = layer.shortcut(x + skip) + layer.branch(x + branch) + output
        x = layer.activation(y)
    return x


def path_gradients(model, x, loss_of):
    """Returns `g_skip`, `g_branch` and `g_y` of each block of a chain of layers, by block name."""
    inputs = {}
    y = jnp.asarray(x)
    for layer in model.layers:
        if isinstance(layer, ResidualBlock):
            after = layer.shortcut(y) + layer.branch(y)
            inputs[layer.name] = (jnp.zeros_like(y), jnp.zeros_like(y), jnp.zeros_like(after))
        y = layer(y)

    def loss(steps):
        return loss_of(forward(model.layers, jnp.asarray(x), steps))

    gradients = jax.grad(loss)(inputs)
    return {name: [np.asarray(g) for g in of_block] for name, of_block in gradients.items()}


def weight_gradients(model, x, loss_of):
    """Returns the gradient of each trainable weight."""

    def loss(values):
        mapping = list(zip(model.trainable_variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return loss_of(forward(model.layers, jnp.asarray(x), {}))

    return jax.grad(loss)([variable.value for variable in model.trainable_variables])


def training_by_hand(model, optimizer, batches, loss_of):
    """Trains a model eagerly, and returns the statistics of each step: step, block, name, value."""
    steps = []
    for x, labels in batches:

        def loss(logits, labels=labels):
            return loss_of(labels, logits)

        gradients = path_gradients(model, x, loss)
        of_weights = weight_gradients(model, x, loss)
        value = loss(forward(model.layers, jnp.asarray(x), {}))
        variables = model.trainable_variables
        before = [np.asarray(variable.value) for variable in variables]
        optimizer.apply(of_weights, variables)
        weights = {
            id(variable): (old, np.asarray(gradient), np.asarray(variable.value) - old)
            for variable, old, gradient in zip(variables, before, of_weights, strict=True)
        }
        of_blocks = {
            name: {
                **expected_statistics(*gradients[name]),
                **expected_weight_statistics(model.get_layer(name), weights),
            }
            for name in gradients
        }
        steps.append(StepByHand(value, of_blocks))
    return steps
