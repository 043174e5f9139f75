"""Gain of the chosen convolutions and batch normalization over the plain ones, on each backend.

    python benchmarks/kernels.py --rounds=7
    KERAS_BACKEND=jax python benchmarks/kernels.py --cases 64 16 --rounds=3
    python benchmarks/kernels.py --smoke

Training steps of `train_on_batch` of three copies of a network: as it is; with the backend's plain
convolutions; and with Keras's batch normalization. Every round runs one step of each, in a new
random order; a ratio is to the network as it is, so that above 1 the choice is the faster.
`TF_ENABLE_ONEDNN_OPTS=0` or `1` in the environment chooses TensorFlow's kernels, `--jit` XLA.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import contextlib
from unittest import mock

import keras
import numpy as np
from timing import interleaved, machine, print_table

from reszoo.layers.batch_normalization import EPSILON, MOMENTUM
from reszoo.layers.normalization import NORMS
from reszoo.models import create_model

# Network, pixels, images and options, by the name of the case.
CASES = {
    "64": ("resnet18", 64, 8, {}),
    "32": ("resnet18", 32, 32, {"stem": "cifar"}),
    "16": ("resnet18", 16, 64, {"stem": "cifar", "width": 16}),
    "8": ("resnet18", 8, 64, {"stem": "cifar"}),
    "resnet50": ("resnet50", 128, 8, {}),
    "smoke": ("resnet18", 8, 2, {"stem": "cifar", "width": 4}),
}


def plain_convolutions():
    """Returns a context in which layers call the backend's plain convolution."""
    return mock.patch("reszoo.layers.convolution.cpu_convolution", return_value=None)


def kerass_normalization():
    """Returns a context in which networks are built with Keras's batch normalization."""

    def norm(**options):
        return keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, **options)

    return mock.patch.dict(NORMS, {"batch": norm})


WAYS = {
    "as it is": contextlib.nullcontext,
    "plain convolutions": plain_convolutions,
    "Keras's normalization": kerass_normalization,
}


def new_step(case, jit, way):
    """Returns a training step, traced while a way is in place."""
    name, pixels, images, options = CASES[case]
    generator = np.random.default_rng(0)
    x = generator.normal(size=(images, pixels, pixels, 3)).astype("float32")
    y = generator.integers(0, 100, images)
    keras.utils.set_random_seed(0)
    with WAYS[way]():
        model = create_model(name, num_classes=100, input_shape=x.shape[1:], **options)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.01, 0.9), loss, jit_compile=jit)
        model.train_on_batch(x, y)
        # On PyTorch nothing is traced: the way must be in place in every step.
    if keras.backend.backend() != "torch":
        return lambda: model.train_on_batch(x, y)

    def step():
        with WAYS[way]():
            model.train_on_batch(x, y)

    return step


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES][:-1])
    parser.add_argument("--jit", action="store_true", help="compile the steps with XLA")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--smoke", action="store_true", help="tiny, to see it run")
    options = parser.parse_args()
    if options.smoke:
        options.cases, options.rounds = ["smoke"], 1
    jit = options.jit or keras.backend.backend() == "jax"
    print(machine())
    for case in options.cases:
        name, pixels, images, _ = CASES[case]
        steps = {way: new_step(case, jit, way) for way in WAYS}
        seconds = interleaved(steps, options.rounds, warmup=1)
        title = f"{name}, {pixels}x{pixels}, batch {images}"
        print()
        print_table(title, seconds, dict.fromkeys(steps, "as it is"))


if __name__ == "__main__":
    main()
