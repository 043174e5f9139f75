"""The same gradients by `torch.autograd.grad`, written by hand, for the tests to compare with."""

import numpy as np
import torch

from reszoo import ResidualBlock
from tests.gradients.expected import (
    StepByHand,
    expected_statistics,
    expected_weight_statistics,
)


def forward(layers, x):
    """Returns the output of a chain of layers, and at each block `x` twice, `s(x)`, `f(x)`, `y`."""
    places = {}
    for layer in layers:
        if not isinstance(layer, ResidualBlock):
            x = layer(x)
            continue
        to_skip, to_branch = x.clone(), x.clone()
        if not x.requires_grad:
            to_skip.requires_grad_()
            to_branch.requires_grad_()
        skip, branch = layer.shortcut(to_skip), layer.branch(to_branch)
        y = skip + branch
        places[layer.name] = (to_skip, to_branch, skip, branch, y)
        x = layer.activation(y)
    return x, places


def gradients_of(total, tensors):
    """Returns the gradient of a scalar at each tensor, zero where there is none."""
    tensors = list(tensors)
    found = torch.autograd.grad(total, tensors, retain_graph=True, materialize_grads=True)
    return [gradient.float().numpy(force=True) for gradient in found]


def path_gradients(model, x, loss_of):
    """Returns `g_skip`, `g_branch` and `g_y` of each block of a chain of layers, by block name."""
    logits, places = forward(model.layers, torch.as_tensor(x))
    loss = loss_of(logits)
    return {
        name: gradients_of(loss, (to_skip, to_branch, y))
        for name, (to_skip, to_branch, _, _, y) in places.items()
    }


def weight_gradients(model, x, loss_of):
    """Returns the gradient of each trainable weight, an array."""
    logits, _ = forward(model.layers, torch.as_tensor(x))
    return gradients_of(loss_of(logits), [v.value for v in model.trainable_variables])


def training_by_hand(model, optimizer, batches, loss_of):
    """Trains a model, and returns the statistics of each step: step, block, name, value."""
    steps = []
    for x, labels in batches:

        def loss(logits, labels=labels):
            return loss_of(torch.as_tensor(labels), logits)

        gradients = path_gradients(model, x, loss)
        of_weights = weight_gradients(model, x, loss)
        value = loss(forward(model.layers, torch.as_tensor(x))[0])
        variables = model.trainable_variables
        before = [variable.numpy().copy() for variable in variables]
        with torch.no_grad():
            optimizer.apply([torch.as_tensor(g) for g in of_weights], variables)
        weights = {
            id(variable): (old, gradient, variable.numpy() - old)
            for variable, old, gradient in zip(variables, before, of_weights, strict=True)
        }
        of_blocks = {
            name: {
                **expected_statistics(*gradients[name]),
                **expected_weight_statistics(model.get_layer(name), weights),
            }
            for name in gradients
        }
        steps.append(StepByHand(value.item(), of_blocks))
    return steps


def assert_same(first, second):
    """Asserts that two lists of arrays are the same, bit for bit."""
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
