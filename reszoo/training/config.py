"""What a run does where its configuration says nothing."""

import copy
from typing import Any

from ml_collections import ConfigDict

DEFAULTS = {
    "strategy": "auto",
    "steps_per_loop": 1,
    "data": {"corrupt_images": 0, "flip": False, "crop": False, "mean": (), "std": ()},
    "crop": {"min_area": 0.08, "max_ratio": 4 / 3, "test_share": 0.875, "test_image_size": 0},
    "augmentation": {
        "label_smoothing": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
        "rand_augment": 0,
        "rand_augment_strength": 0.5,
        "random_erasing": 0.0,
    },
    "model": {"weights": "", "frozen": False},
    "loss": {"name": "categorical_crossentropy", "class_weights": (), "target_threshold": 0.0},
    "optimizer": {
        "momentum": 0.9,
        "weight_decay": 0.0,
        "warmup_epochs": 0.0,
        "clip_norm": 0.0,
        "ema_momentum": 0.0,
        "accumulation_steps": 1,
    },
    "schedule": {"name": "cosine", "boundaries": (), "factor": 0.1, "power": 1.0},
    "checkpoint": {"every_steps": 0, "keep": 2},
    "best": {"figure": "val_accuracy", "patience": 0},
    "loggers": (),
    "tensorboard": {
        "examples": True,
        "graph": True,
        "confusion_every_epochs": 0,
        "profile_steps": (),
    },
    "nonfinite": {"action": "stop", "rate_factor": 0.5, "roll_backs": 3},
}


def complete(config: ConfigDict) -> ConfigDict:
    """Returns a configuration with defaults for the fields that it leaves out.

    Args:
        config: The configuration; it is not changed.

    Returns:
        Another configuration.

    Example:

    >>> complete(ConfigDict({"checkpoint": {"keep": 5}})).checkpoint.to_dict()
    {'every_steps': 0, 'keep': 5}
    """
    return ConfigDict(_merged(DEFAULTS, config.to_dict()))


def _merged(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(defaults)
    for name, value in given.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merged(merged[name], value) if both else value
    return merged


def flat(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the fields of fields under one name each.

    Args:
        fields: Some of which may be dictionaries themselves.
        prefix: Put before each name.

    Example:

    >>> flat({"epochs": 3, "data": {"name": "digits"}})
    {'epochs': 3, 'data.name': 'digits'}
    """
    found = {}
    for name, value in fields.items():
        inner = (
            flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
        found |= inner
    return found
