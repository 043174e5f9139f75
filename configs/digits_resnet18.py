"""ResNet-18 on scikit-learn's scanned digits; needs no network."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the configuration."""
    config = ConfigDict()

    config.data = ConfigDict()
    config.data.name = "digits"
    config.data.image_size = 16  # pixels; the scans have 8
    config.data.shift_pixels = 1
    config.data.flip = False  # a mirrored digit is no digit

    config.model = ConfigDict()
    config.model.name = "resnet18"
    config.model.stem = "cifar"
    config.model.width = 16
    config.model.shortcut = "projection"

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-3
    config.optimizer.warmup_epochs = 1.0

    config.recording = ConfigDict()
    config.recording.every_steps = 10  # 0: off

    config.epochs = 12
    config.batch_size = 64
    config.seed = 0
    config.dtype = "float32"  # or "mixed_bfloat16", "mixed_float16"
    config.jit_compile = False
    return config
