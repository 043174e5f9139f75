"""Cost of recording: a training step with and without it, interleaved in one run.

    python benchmarks/recording.py --model=resnet18 --batch=32 --rounds=15

Every round runs one step of each variant, in a new random order. The output has the median step,
its quartiles, and the median over the rounds of the ratio to the plain step of the same round, for
CPU and for wall time. "every 100 steps" is 99 steps that are not due and one that is, from the
ratios. Peak memory is that of a process that trains by this variant alone; that of "never due"
records its first step, 0, and so has both graphs. "plain again" is the plain step of another copy
of the model: its ratio shows the noise of the machine. "torch hooks", where torchvision is
installed, is compared with torchvision's own plain step.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import functools
import importlib.util
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf
from models import import_torchvision
from timing import interleaved, machine, own_peak_memory, peak_memory, print_table, ratio

from reszoo.gradients import GradientRecorder
from reszoo.models import create_model

NEVER = 10**9


def plain_step(model):
    """Returns the training step that all variants share."""
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True))
        variables = model.trainable_variables
        model.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return step


def without(options):
    """Returns a step without any recording."""
    model = new_model(options)
    return tf.function(plain_step(model), jit_compile=options.jit)


def recorded(options, every_steps):
    """Returns a step with the recorder, the callback's calls included, as `fit` runs it."""
    model = new_model(options)
    plain = tf.function(plain_step(model), jit_compile=options.jit)
    recorder = GradientRecorder(tempfile.mkdtemp(), every_steps)
    callbacks = keras.callbacks.CallbackList([recorder], model=model)
    callbacks.on_train_begin()
    step = tf.function(recorder.recorded(plain_step(model), asks=False), jit_compile=options.jit)

    def run(images, labels):
        callbacks.on_train_batch_begin(0)
        loss = (step if recorder.due else plain)(images, labels)
        callbacks.on_train_batch_end(0)
        return loss

    return run


def second_tape(options):
    """Returns a step and a second tape over the same batch, for the gradients of block outputs."""
    model = new_model(options)
    step = tf.function(plain_step(model), jit_compile=options.jit)
    blocks = [layer for layer in model.layers if layer.name.startswith("stage")]
    outputs = keras.Model(model.inputs, [model.output, *(block.output for block in blocks)])
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @functools.partial(tf.function, jit_compile=options.jit)
    def norms(images, labels):
        with tf.GradientTape() as tape:
            logits, *of_blocks = outputs(images, training=True)
            loss = loss_of(labels, logits)
        return tf.stack([tf.norm(g) for g in tape.gradient(loss, of_blocks)])

    def run(images, labels):
        norms(images, labels).numpy()
        return step(images, labels)

    return run


def histograms(options):
    """Returns a step and a `tf.summary.histogram` of every weight's gradient."""
    model = new_model(options)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    writer = tf.summary.create_file_writer(tempfile.mkdtemp())

    @functools.partial(tf.function, jit_compile=options.jit)
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True))
        variables = model.trainable_variables
        gradients = tape.gradient(loss, variables)
        model.optimizer.apply(gradients, variables)
        return loss, gradients

    def run(images, labels):
        loss, gradients = step(images, labels)
        with writer.as_default(step=0):
            for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
                tf.summary.histogram(variable.path, gradient)
        writer.flush()
        return loss

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

    def run(images, labels):
        x = torch.tensor(np.ascontiguousarray(np.moveaxis(images.numpy(), -1, 1)))
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), torch.tensor(labels.numpy()))
        loss.backward()
        if hooks:
            for weight in model.parameters():
                weight.grad.norm().item(), weight.norm().item()
        optimizer.step()
        return loss.detach()

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
    "plain": without,
    "plain again": without,
    "never due": lambda options: recorded(options, NEVER),
    "every step": lambda options: recorded(options, 1),
    "second tape": second_tape,
    "histograms": histograms,
    "torch": lambda options: torch_step(options, hooks=False),
    "torch hooks": lambda options: torch_step(options, hooks=True),
}
# The baseline of a variant's ratio; "plain" for all others.
BASELINES = {"torch": "torch", "torch hooks": "torch"}


def available():
    """Returns the names of the variants whose packages are installed."""
    if importlib.util.find_spec("torchvision"):
        return list(VARIANTS)
    return [name for name in VARIANTS if name not in BASELINES]


def new_model(options):
    """Returns a compiled model, with the same weights at every call."""
    keras.utils.set_random_seed(0)
    shape = (options.image_size, options.image_size, 3)
    model = create_model(
        options.model, num_classes=100, input_shape=shape, stem="cifar", width=options.width
    )
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), jit_compile=options.jit)
    model.optimizer.build(model.trainable_variables)
    return model


def batch(options):
    """Returns one batch of random images and labels."""
    generator = np.random.default_rng(0)
    shape = (options.batch, options.image_size, options.image_size, 3)
    images = generator.normal(size=shape).astype("float32")
    return tf.constant(images), tf.constant(generator.integers(0, 100, options.batch))


def steps(options, names):
    """Returns a function that runs a step to its end, by variant, all on the same batch."""
    images, labels = batch(options)

    def run_of(name):
        run = VARIANTS[name](options)
        return lambda: run(images, labels).numpy()

    return {name: run_of(name) for name in names}


def print_every_100(seconds):
    """Prints the ratio of 99 steps that are not due and one that is."""
    if not {"plain", "never due", "every step"} <= seconds.keys():
        return
    cpu, wall = (
        0.99 * ratio(seconds["never due"], seconds["plain"], column)
        + 0.01 * ratio(seconds["every step"], seconds["plain"], column)
        for column in (0, 1)
    )
    print(f"every 100 steps: {cpu:.3f} of the CPU time, {wall:.3f} of the wall time")


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--width", type=int, default=64, help="filters of the first stage")
    parser.add_argument("--image_size", type=int, default=32, help="pixels")
    parser.add_argument("--batch", type=int, default=32, help="images")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--jit", action="store_true", help="compile the step with XLA")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too")
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=available())
    parser.add_argument("--only", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        run = steps(options, [options.only])[options.only]
        for _ in range(3):
            run()
        print(own_peak_memory())
        return
    print(machine())
    print(
        f"{options.model}, width {options.width}, {options.image_size}x{options.image_size}, batch "
        f"{options.batch}, {'XLA' if options.jit else 'no XLA'}, {options.rounds} rounds"
    )
    seconds = interleaved(steps(options, options.variants), options.rounds, warmup=3)
    baselines = {name: BASELINES.get(name, "plain") for name in options.variants}
    print_table("a step", seconds, baselines)
    print_every_100(seconds)
    for name in options.variants if options.memory else ():
        arguments = [*sys.argv[1:], "--only", name]
        print(f"{name:14}peak memory {peak_memory(__file__, arguments):6.0f} MiB")


if __name__ == "__main__":
    main()
