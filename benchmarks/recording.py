"""Cost of recording: a training step of `fit` with and without it, interleaved in one run.

    python benchmarks/recording.py --model=resnet18 --batch=32 --rounds=15
    KERAS_BACKEND=jax python benchmarks/recording.py --width=16 --memory

It measures the backend of Keras that `KERAS_BACKEND` names. Every round runs one step of each
variant, in a new random order. The output has the median step, its quartiles, and the median over
the rounds of the ratio to the plain step of the same round, for CPU and for wall time.

"not due" is a step of a recorder that records only the first step, "every step" is recorded, and
"plain again" is the plain step of another copy of the model: its ratio shows the noise of the
machine. "every 100 steps" is 99 steps that are not due and one that is, from the ratios. "First
step" traces and compiles, and runs; that of a later fit is its median over three fits. Peak memory
is that of a process that trains by this variant alone; that of "not due" has both graphs.

`--variants` has other ways to see gradients, on TensorFlow: "second tape" over the same batch, and
"histograms" of every weight's gradient. "torch hooks", where torchvision is installed, is compared
with torchvision's own plain step, "torch".
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import functools
import sys
import tempfile

import keras
import numpy as np
from peers import import_torchvision
from timing import (
    interleaved,
    machine,
    own_peak_memory,
    peak_memory,
    print_table,
    ratio,
    seconds_of,
)

from reszoo.gradients import GradientRecorder
from reszoo.models import create_model

NEVER = 10**9
LATER_FITS = 3


class Fit:
    """Training steps of a model, run one by one as `fit` runs them.

    Args:
        options: The command line's options.
        every_steps: Distance of the recorded steps; `None` for no recorder.
    """

    def __init__(self, options, every_steps=None):
        recorders = [GradientRecorder(tempfile.mkdtemp(), every_steps)] if every_steps else []
        self.model = new_model(options)
        self.callbacks = keras.callbacks.CallbackList(recorders, model=self.model)
        self.batch = batch(options)
        self.callbacks.on_train_begin()

    def __call__(self):
        self.callbacks.on_train_batch_begin(0)
        loss = self.model.train_on_batch(*self.batch)
        self.callbacks.on_train_batch_end(0)
        return loss

    def first_step_of_a_later_fit(self):
        """Returns the CPU seconds of the first step of another fit."""
        self.callbacks.on_train_end()
        self.callbacks.on_train_begin()
        return seconds_of(self)[0]


def second_tape(options):
    """Returns a step and a second tape over the same batch, for the gradients of block outputs."""
    import tensorflow as tf

    model = new_model(options)
    images, labels = map(tf.constant, batch(options))
    blocks = [layer for layer in model.layers if layer.name.startswith("stage")]
    outputs = keras.Model(model.inputs, [model.output, *(block.output for block in blocks)])
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @functools.partial(tf.function, jit_compile=options.jit)
    def norms():
        with tf.GradientTape() as tape:
            logits, *of_blocks = outputs(images, training=True)
            loss = loss_of(labels, logits)
        return tf.stack([tf.norm(g) for g in tape.gradient(loss, of_blocks)])

    def run():
        norms().numpy()
        return model.train_on_batch(images, labels)

    return run


def histograms(options):
    """Returns a step and a `tf.summary.histogram` of every weight's gradient."""
    import tensorflow as tf

    model = new_model(options)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    images, labels = map(tf.constant, batch(options))
    writer = tf.summary.create_file_writer(tempfile.mkdtemp())

    @functools.partial(tf.function, jit_compile=options.jit)
    def step():
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True))
        variables = model.trainable_variables
        gradients = tape.gradient(loss, variables)
        model.optimizer.apply(gradients, variables)
        return loss, gradients

    def run():
        loss, gradients = step()
        with writer.as_default(step=0):
            for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
                tf.summary.histogram(variable.path, gradient)
        writer.flush()
        return loss.numpy()

    return run


def torch_step(options, hooks):
    """Returns a step of torchvision's model; with hooks, they read the gradients of each path.

    The hooks take the norms of the gradients at both ends of each block and of its branch, their
    cosine, and the norm of each weight's gradient: what the default sets record, one transfer a
    value, as hooks on modules do it.
    """
    import torch

    torch.manual_seed(0)
    model = getattr(import_torchvision().models, options.model)(num_classes=100)
    # The stem for small images, as in the Keras model.
    model.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = torch.nn.Identity()
    if hooks:
        _hook_blocks(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    images, labels = batch(options)
    x = torch.tensor(np.ascontiguousarray(np.moveaxis(images, -1, 1)))
    y = torch.tensor(labels)

    def run():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        if hooks:
            for weight in model.parameters():
                weight.grad.norm().item(), weight.norm().item()
        optimizer.step()
        return loss.item()

    return run


def _hook_blocks(model):
    import torch

    def observe(block, gradients_in, gradients_out):
        (total,), (output,) = gradients_in, gradients_out
        branch = block.branch_gradient
        skip = total - branch
        for gradient in (skip, branch, total, output):
            gradient.norm().item()
        torch.sum(skip * branch).item()

    def observe_branch(block, _, gradients_in, __):
        block.branch_gradient = gradients_in[0]

    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        for block in stage:
            block.relu.inplace = False
            block.register_full_backward_hook(observe)
            block.conv1.register_full_backward_hook(functools.partial(observe_branch, block))


VARIANTS = {
    "plain": Fit,
    "plain again": Fit,
    "not due": lambda options: Fit(options, NEVER),
    "every step": lambda options: Fit(options, 1),
    "second tape": second_tape,
    "histograms": histograms,
    "torch": lambda options: torch_step(options, hooks=False),
    "torch hooks": lambda options: torch_step(options, hooks=True),
}
# Those that each backend has.
OF_RECORDING = ("plain", "plain again", "not due", "every step")
# The baseline of a variant's ratio; "plain" for all others.
BASELINES = {"torch": "torch", "torch hooks": "torch"}


def new_model(options):
    """Returns a compiled model, with the same weights at every call."""
    keras.utils.set_random_seed(0)
    shape = (options.image_size, options.image_size, 3)
    model = create_model(
        options.model, num_classes=100, input_shape=shape, stem="cifar", width=options.width
    )
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=options.jit or keras.backend.backend() == "jax",
    )
    model.optimizer.build(model.trainable_variables)
    return model


def batch(options):
    """Returns one batch of random images and labels."""
    generator = np.random.default_rng(0)
    shape = (options.batch, options.image_size, options.image_size, 3)
    images = generator.normal(size=shape).astype("float32")
    return images, generator.integers(0, 100, options.batch)


def measure(options):
    """Prints the table of all variants."""
    runs = {name: VARIANTS[name](options) for name in options.variants}
    first = {name: f"{seconds_of(run)[0]:.1f}" for name, run in runs.items()}
    seconds = interleaved(runs, options.rounds)
    later = {
        name: f"{np.median([run.first_step_of_a_later_fit() for _ in range(LATER_FITS)]):.3f}"
        for name, run in runs.items()
        if isinstance(run, Fit)
    }
    columns = {"first step, CPU s": first, "first step of a later fit": later}
    if options.memory:
        columns["peak memory, MiB"] = {
            name: f"{peak_memory(__file__, [*sys.argv[1:], '--only', name]):.0f}" for name in runs
        }
    baselines = {name: BASELINES.get(name, "plain") for name in runs}
    print_table("a step", seconds, baselines, columns=columns)
    print_every_100(seconds)


def print_every_100(seconds):
    """Prints the ratio of 99 steps that are not due and one that is."""
    if not {"plain", "not due", "every step"} <= seconds.keys():
        return
    cpu, wall = (
        0.99 * ratio(seconds["not due"], seconds["plain"], column)
        + 0.01 * ratio(seconds["every step"], seconds["plain"], column)
        for column in (0, 1)
    )
    print(f"\nevery 100 steps: {cpu:.3f} of the CPU time, {wall:.3f} of the wall time")


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--width", type=int, default=64, help="filters of the first stage")
    parser.add_argument("--image_size", type=int, default=32, help="pixels")
    parser.add_argument("--batch", type=int, default=32, help="images")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--jit", action="store_true", help="compile the step; JAX always does")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too")
    parser.add_argument("--smoke", action="store_true", help="tiny, to see it run")
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=OF_RECORDING)
    parser.add_argument("--only", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.smoke:
        options.width, options.image_size, options.batch, options.rounds = 4, 8, 4, 2
    if options.only:
        run = VARIANTS[options.only](options)
        for _ in range(3):
            run()
        print(own_peak_memory())
        return
    print(machine())
    print(
        f"{options.model}, width {options.width}, {options.image_size}x{options.image_size}, batch "
        f"{options.batch}, {'compiled' if options.jit else 'as by default'}, {options.rounds} "
        "rounds; seconds are medians, with the quartiles\n",
        flush=True,
    )
    measure(options)


if __name__ == "__main__":
    main()
