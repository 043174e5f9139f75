"""Training steps of reversible blocks, and the memory of one.

Run as a program it prints the memory, in MiB, that the process needs for one step beyond what it
has before. Arguments: the way of keeping activations, and numbers of blocks, channels, pixels and
examples.
"""

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from reszoo.layers import BasicBranch, Chain, ReversibleBlock, ReversibleChain

# Of a step: stored in the forward pass, each block's computed again (keras.remat), or inverted.
WAYS = ("stored", "remat", "reversible")


def network(way: str, blocks: int, channels: int) -> Chain:
    """Returns reversible blocks of two basic branches each.

    Args:
        way: How they keep activations, one of `WAYS`.
        blocks: Number of blocks.
        channels: Number of channels, of which each branch writes one half.
    """
    keras.utils.set_random_seed(0)
    reversible = [
        ReversibleBlock(BasicBranch(channels // 2), BasicBranch(channels // 2), name=f"block{i}")
        for i in range(blocks)
    ]
    if way == "reversible":
        return ReversibleChain(reversible)
    stored = [Chain(block.steps) for block in reversible]
    if way == "remat":
        for block in stored:
            block.call = keras.remat(functools.partial(_in_training, block.layers))
    return Chain(stored)


def _in_training(layers: Sequence[keras.layers.Layer], x: tf.Tensor) -> tf.Tensor:
    # Computed again, a layer does not know by itself that it is in training.
    for layer in layers:
        x = layer(x, training=True)
    return x


def training_step(layer: Chain, shape: tuple[int, ...]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a compiled step of gradient descent that takes any number of examples.

    Args:
        layer: The blocks.
        shape: Shape of one example.
    """
    layer.build((None, *shape))

    @tf.function(input_signature=[tf.TensorSpec((None, *shape))], autograph=False)
    def step(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(layer(x, training=True) ** 2)
        weights = [weight.value for weight in layer.trainable_variables]
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(1e-3 * tf.convert_to_tensor(gradient))
        return loss

    return step


def step_memory(way: str, blocks: int, channels: int, pixels: int, examples: int) -> float:
    """Returns the memory of one step in MiB, measured in a process of its own.

    Args:
        way: How activations are kept, one of `WAYS`.
        blocks: Number of blocks.
        channels: Number of channels.
        pixels: Height and width of the images.
        examples: Number of images.

    Raises:
        OSError: If the process fails, for example because the system is not Linux.
    """
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "-1",
        # With GNU's C library, freed tensors are returned to the system at once; oneDNN keeps them.
        "MALLOC_MMAP_THRESHOLD_": str(2**17),
        "TF_ENABLE_ONEDNN_OPTS": "0",
    }
    numbers = map(str, (blocks, channels, pixels, examples))
    command = [sys.executable, "-m", "reszoo.studies.step_memory", way, *numbers]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    if finished.returncode:
        reason = finished.stderr.strip().splitlines()[-1:] or ["no message"]
        raise OSError(f"The memory of a step cannot be measured: {reason[0]}")
    return float(finished.stdout.split()[-1])


def main(arguments: list[str]) -> None:
    """Prints the memory of one step.

    Args:
        arguments: Way, blocks, channels, pixels, examples.
    """
    way, (blocks, channels, pixels, examples) = arguments[0], map(int, arguments[1:])
    shape = (pixels, pixels, channels)
    step = training_step(network(way, blocks, channels), shape)
    x = tf.random.normal((examples, *shape))
    step(x[:1])  # traces and prepares the function, which takes memory too
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is in use
    before = _in_kilobytes("VmRSS")
    step(x).numpy()
    print((_in_kilobytes("VmHWM") - before) / 1024)


def _in_kilobytes(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise OSError(f"/proc/self/status has no {field}.")
    return int(found[1])


if __name__ == "__main__":
    main(sys.argv[1:])
