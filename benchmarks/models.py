"""The models compared with their peers: forward pass, training step and peak memory, in one run.

    python benchmarks/models.py --model=resnet50v1 --image_size=64 --batch=8 --rounds=10 --memory
    python benchmarks/models.py --small
    python benchmarks/models.py --grouped
    python benchmarks/models.py --smoke

Peers are keras.applications, KerasHub and torchvision, as far as they are installed and have the
model; `torch_last` is torchvision's with the channels last in memory. Every round runs each of them
once, in a new random order, on the same batch in float32. The output has the median, its quartiles,
and the median over the rounds of the ratio to reszoo in the same round (above 1: reszoo is faster),
for CPU and for wall seconds; and the convolutions' arithmetic as a share of the machine's
matrix-product rate, measured in the same run. Peak memory is that of a process that trains this
model alone; `--remat` adds this project's model with `remat=True`. `TF_ENABLE_ONEDNN_OPTS=0` or `1`
in the environment chooses TensorFlow's kernels.

`--small` varies batch, width and XLA on small images, and times one convolution of each stage;
`--grouped` compares `reszoo.layers.Convolution` with `keras.layers.Conv2D` at 32 groups.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import functools
import importlib.util
import sys

import keras
import numpy as np
import tensorflow as tf
from peers import import_torchvision
from timing import (
    interleaved,
    machine,
    own_peak_memory,
    peak_memory,
    print_table,
    seconds_of,
)

from reszoo.layers import Convolution
from reszoo.models import create_model

CLASSES = 100
HUB = {
    "resnet18": ([2, 2, 2, 2], "basic_block"),
    "resnet50": ([3, 4, 6, 3], "bottleneck_block"),
}
APPLICATIONS = {"resnet50v1": "ResNet50", "resnet50v2_keras": "ResNet50V2"}
TORCHVISION = ("resnet18", "resnet50")


def new_reszoo(options, **of_model):
    """Returns this project's model."""
    shape = (options.image_size, options.image_size, 3)
    return create_model(options.model, num_classes=CLASSES, input_shape=shape, **of_model)


def new_applications(options):
    """Returns keras.applications' model."""
    return getattr(keras.applications, APPLICATIONS[options.model])(
        weights=None,
        input_shape=(options.image_size, options.image_size, 3),
        classes=CLASSES,
        classifier_activation=None,
    )


def new_hub(options):
    """Returns KerasHub's model, with a head."""
    import keras_hub

    blocks, block_type = HUB[options.model]
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=blocks,
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=block_type,
        image_shape=(options.image_size, options.image_size, 3),
    )
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.input, keras.layers.Dense(CLASSES)(x))


def keras_steps(new_model, options):
    """Returns the forward pass and the training step of a Keras model, as functions."""
    keras.utils.set_random_seed(0)
    model = new_model(options)
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(model.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    x, y = (tf.constant(value) for value in batch(options))

    @functools.partial(tf.function, jit_compile=options.jit)
    def forward():
        return tf.reduce_sum(model(x, training=False))

    @functools.partial(tf.function, jit_compile=options.jit)
    def train():
        with tf.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True))
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return {"forward": lambda: forward().numpy(), "train": lambda: train().numpy()}


def torch_steps(memory_format, options):
    """Returns the forward pass and the training step of torchvision's model, as functions."""
    import torch

    layout = {"memory_format": getattr(torch, memory_format)}
    model = getattr(import_torchvision().models, options.model)(num_classes=CLASSES).to(**layout)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    images, labels = batch(options)
    x = torch.tensor(np.moveaxis(images, -1, 1)).contiguous(**layout)
    y = torch.tensor(labels)

    def forward():
        model.eval()
        with torch.no_grad():
            return float(model(x).sum())

    def train():
        model.train()
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return {"forward": forward, "train": train}


VARIANTS = {
    "reszoo": functools.partial(keras_steps, new_reszoo),
    "reszoo_remat": functools.partial(keras_steps, functools.partial(new_reszoo, remat=True)),
    "applications": functools.partial(keras_steps, new_applications),
    "keras_hub": functools.partial(keras_steps, new_hub),
    "torchvision": functools.partial(torch_steps, "contiguous_format"),
    "torch_last": functools.partial(torch_steps, "channels_last"),
}


def available(options):
    """Returns the names of the variants that are installed and have the model."""
    torchvision = options.model in TORCHVISION and importlib.util.find_spec("torchvision")
    has = {
        "reszoo": True,
        "reszoo_remat": options.remat,
        "applications": options.model in APPLICATIONS,
        "keras_hub": options.model in HUB and importlib.util.find_spec("keras_hub"),
        "torchvision": torchvision,
        "torch_last": torchvision,
    }
    return [name for name, present in has.items() if present]


def batch(options):
    """Returns one batch of random images and labels."""
    generator = np.random.default_rng(0)
    shape = (options.batch, options.image_size, options.image_size, 3)
    images = generator.normal(size=shape).astype("float32")
    return images, generator.integers(0, CLASSES, options.batch)


def matrix_product_rate(size=1024, rounds=10):
    """Returns the machine's best float32 matrix-product rate, in operations a CPU second.

    Operations are multiplications and additions, each counted as one.
    """
    a = tf.random.normal((size, size))
    product = tf.function(lambda: tf.reduce_sum(a @ a))
    product()
    return 2 * size**3 / min(seconds_of(lambda: product().numpy())[0] for _ in range(rounds))


def arithmetic(model):
    """Returns the multiplications and additions of a forward pass of one image."""
    total = 0

    def counted(self, x, kernel, padding):
        nonlocal total
        y = convolve(self, x, kernel, padding)
        total += 2 * int(np.prod(kernel.shape[:-1])) * int(np.prod(y.shape[1:]))
        return y

    convolve, Convolution._convolve = Convolution._convolve, counted
    try:
        model(np.zeros((1, *model.input_shape[1:]), "float32"))
    finally:
        Convolution._convolve = convolve
    return total


def compare(options):
    """Compares the model with its peers."""
    names = available(options)
    runs = {name: VARIANTS[name](options) for name in names}
    rate, work = matrix_product_rate(), options.batch * arithmetic(new_reszoo(options))
    print(f"matrix products reach {rate / 1e9:.1f} GFLOP a CPU second")
    # A training step multiplies three times: forward, for the input's and the weights' gradient.
    for kind, times in (("forward", 1), ("train", 3)):
        seconds = interleaved({name: runs[name][kind] for name in names}, options.rounds)
        notes = {
            name: f"{times * work / rate / np.median(rows[:, 0]):.0%} of the rate"
            for name, rows in seconds.items()
        }
        print_table(kind, seconds, dict.fromkeys(names, "reszoo"), notes)
    if options.memory:
        for name in names:
            arguments = [*sys.argv[1:], "--only", name]
            print(f"{name:14}peak memory {peak_memory(__file__, arguments):6.0f} MiB")


def small(options):
    """Varies batch, width and XLA for ResNet-18 with the small stem on small images."""
    rate = matrix_product_rate()
    print(f"matrix products reach {rate / 1e9:.1f} GFLOP a CPU second")
    cases = [(64, 16, False), (64, 64, False), (64, 256, False), (16, 64, False), (64, 64, True)]
    for width, images, jit in cases if not options.smoke else [(8, 4, False)]:
        options.batch, options.jit = images, jit

        def new_model(options, width=width):
            shape = (options.image_size, options.image_size, 3)
            options = {"input_shape": shape, "stem": "cifar", "width": width}
            return create_model("resnet18", num_classes=CLASSES, **options)

        train = keras_steps(new_model, options)["train"]
        rows = interleaved({"train": train}, options.rounds)["train"]
        cpu, wall = np.median(rows, axis=0)
        work = 3 * images * arithmetic(new_model(options))
        print(
            f"width {width:3}, batch {images:3}, {'XLA' if jit else 'no XLA':6}: "
            f"{cpu:.3f} CPU s ({wall:.3f} wall), {cpu / images * 1e3:.2f} CPU ms an image, "
            f"{work / rate / cpu:.0%} of the rate",
            flush=True,
        )
    stages(options, rate)


def stages(options, rate):
    """Prints the share of the rate that a 3x3 convolution of each stage reaches, each way."""
    cases = [(64, 1), (128, 2), (256, 4), (512, 8)] if not options.smoke else [(8, 1)]
    for channels, strides in cases:
        size = options.image_size // strides
        x = tf.random.normal((64, size, size, channels))
        kernel = tf.random.normal((3, 3, channels, channels))
        ways = {
            "forward": lambda x, kernel: tf.nn.conv2d(x, kernel, 1, "SAME"),
            "to the input": lambda x, kernel: tf.raw_ops.Conv2DBackpropInput(
                input_sizes=x.shape, filter=kernel, out_backprop=x, strides=[1] * 4, padding="SAME"
            ),
            "to the kernel": lambda x, kernel: tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=kernel.shape, out_backprop=x, strides=[1] * 4, padding="SAME"
            ),
        }
        runs = {
            way: functools.partial(lambda run, x, kernel: run(x, kernel).numpy(), run, x, kernel)
            for way, run in ways.items()
        }
        work = 2 * 64 * size**2 * 9 * channels**2
        shares = {
            way: work / rate / np.median(rows[:, 0])
            for way, rows in interleaved(runs, options.rounds).items()
        }
        shown = ", ".join(f"{way} {share:.0%}" for way, share in shares.items())
        print(f"64 x {size}x{size}x{channels}: {shown} of the rate", flush=True)


def grouped(options):
    """Compares a 3x3 convolution of 32 groups with Keras's, forward and backward."""
    channels, size = (128, 28) if not options.smoke else (64, 4)
    x = tf.random.normal((options.batch, size, size, channels))
    layers = {
        "reszoo": Convolution(channels, 3, groups=32),
        "keras": keras.layers.Conv2D(channels, 3, padding="same", groups=32, use_bias=False),
    }
    runs = {}
    for name, layer in layers.items():
        layer.build(x.shape)

        @tf.function
        def step(layer=layer):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer(x) ** 2)
            return tape.gradient(loss, layer.kernel.value)

        runs[name] = lambda step=step: step().numpy()
    seconds = interleaved(runs, options.rounds)
    print_table("32 groups", seconds, dict.fromkeys(runs, "reszoo"))


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--image_size", type=int, help="pixels; 64, or 8 with --small")
    parser.add_argument("--batch", type=int, default=8, help="images")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--jit", action="store_true", help="compile the Keras steps with XLA")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too")
    parser.add_argument("--remat", action="store_true", help="also with remat=True")
    parser.add_argument("--small", action="store_true", help="what helps on small images")
    parser.add_argument("--grouped", action="store_true", help="grouped convolutions")
    parser.add_argument("--smoke", action="store_true", help="everything, tiny, to see it run")
    parser.add_argument("--only", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.smoke:
        options.image_size, options.batch, options.rounds = 32, 2, 2
    options.image_size = options.image_size or (8 if options.small else 64)
    if options.only:
        train = VARIANTS[options.only](options)["train"]
        for _ in range(3):
            train()
        print(own_peak_memory())
        return
    print(machine())
    print(f"{options.image_size}x{options.image_size}, {options.rounds} rounds")
    if options.smoke or not (options.small or options.grouped):
        print(f"{options.model}, batch {options.batch}, {'XLA' if options.jit else 'no XLA'}")
        compare(options)
    if options.smoke or options.grouped:
        grouped(options)
    if options.smoke or options.small:
        small(options)


if __name__ == "__main__":
    main()
