"""Fields of configurations that several studies train by: digits, Fashion-MNIST and CIFAR-10."""

from typing import Any

from reszoo.studies.trained_cell import fashion_mnist

Fields = dict[str, Any]

_SHORT: Fields = {
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.1,
    # Every one: then a single kind of step is traced, which is what takes the time here.
    "recording.every_steps": 1,
    "recording.statistics": ("paths",),
    "tensorboard.graph": False,
    "tensorboard.examples": False,
}


def blocks_of(depth: int) -> int:
    """Number of blocks in each of the three stages of a CIFAR ResNet with so many layers.

    Args:
        depth: Number of layers, 6n + 2.

    Example:

    >>> [blocks_of(depth) for depth in (8, 20, 56, 110)]
    [1, 3, 9, 18]
    """
    return (depth - 2) // 6


def on_digits(epochs: int, seed: int) -> Fields:
    """Returns fields for a training of seconds on scikit-learn's digits, 8x8 pixels.

    Args:
        epochs: Number of epochs.
        seed: Seed of the training.
    """
    return _SHORT | {
        "data.name": "digits",
        "data.image_size": 8,
        "optimizer.warmup_epochs": min(1.0, epochs / 2),
        "epochs": epochs,
        "seed": seed,
    }


def on_fashion_mnist(seed: int) -> Fields:
    """Returns fields for one epoch on Fashion-MNIST, shrunk to 14x14 pixels.

    Args:
        seed: Seed of the training.
    """
    return _SHORT | {
        "data.name": fashion_mnist(),
        "data.image_size": 14,
        "optimizer.warmup_epochs": 0.2,
        "batch_size": 128,
        "epochs": 1,
        "seed": seed,
    }


def on_cifar10(depth: int, seed: int) -> Fields:
    """Returns fields of `configs/cifar10_resnet.py`, the published setting. Not run here.

    Args:
        depth: Number of layers of the ResNet.
        seed: Seed of the training.
    """
    return {
        "data.name": "tfds:cifar10",
        "data.shift_pixels": 4,
        "data.flip": True,
        "data.mean": (0.4914, 0.4822, 0.4465),
        "data.std": (1.0, 1.0, 1.0),
        "model.name": "resnet20",
        "model.blocks": (blocks_of(depth),) * 3,
        "model.shortcut": "zero_pad",
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.1,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 1e-3,
        "optimizer.warmup_epochs": 1.0 if depth >= 110 else 0.0,
        "schedule.name": "step",
        "schedule.boundaries": (32_000, 48_000),
        "recording.every_steps": 8_000,
        "recording.statistics": ("paths",),
        "epochs": 165,
        "batch_size": 128,
        "seed": seed,
    }
