"""Gradients of reversible blocks on the backend of KERAS_BACKEND, beside those of stored ones.

Run as a program; prints the largest relative difference of gradients and of averages.
"""

import contextlib

import keras
import numpy as np
from keras import ops

from reszoo.layers import ReversibleBlock, ReversibleChain, stored_activations

BACKEND = keras.backend.backend()


def chain():
    def branch():
        norm, dropout = keras.layers.BatchNormalization(), keras.layers.Dropout(0.3, seed=1)
        return [norm, keras.layers.Dense(4, "tanh"), dropout, keras.layers.Dense(4)]

    layer = ReversibleChain([ReversibleBlock(branch(), branch()) for _ in range(2)])
    layer.build((None, 8))
    return layer


def on_jax(layer, x):
    import jax

    def loss(trainable, x):
        others = [variable.value for variable in layer.non_trainable_variables]
        y, others = layer.stateless_call(trainable, others, x, training=True)
        return ops.sum(ops.sin(y) * y), others

    trainable = [variable.value for variable in layer.trainable_variables]
    differentiated = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (_, others), (of_weights, of_x) = differentiated(trainable, x)
    return [of_x, *of_weights], others


def on_torch(layer, x):
    x = ops.convert_to_tensor(x).requires_grad_()
    y = layer(x, training=True)
    ops.sum(ops.sin(y) * y).backward()
    gradients = [x.grad, *[variable.value.grad for variable in layer.trainable_variables]]
    layer.zero_grad()
    return gradients, [variable.value for variable in layer.non_trainable_variables]


def numbers(stored):
    keras.utils.set_random_seed(0)
    layer, x = chain(), np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
    with stored_activations() if stored else contextlib.nullcontext():
        found = {"jax": on_jax, "torch": on_torch}[BACKEND](layer, x)
    return [[ops.convert_to_numpy(value) for value in values] for values in found]


def main():
    for got, expected in zip(numbers(False), numbers(True), strict=True):
        differences = [
            np.linalg.norm(g - e) / max(np.linalg.norm(e), 1e-12)
            for g, e in zip(got, expected, strict=True)
        ]
        print(len(differences), max(differences))


if __name__ == "__main__":
    main()
