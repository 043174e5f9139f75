"""The run of `configs/digits_resnet18.py`, with a network that is traced in a moment."""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

CONFIG = Path(__file__).parents[2] / "configs" / "digits_resnet18.py"


def get_config() -> ConfigDict:
    config = runpy.run_path(str(CONFIG))["get_config"]()
    config.data.image_size = 8
    config.model.blocks = (1, 1)
    config.model.width = 4
    config.batch_size = 256
    config.tensorboard.examples = False
    config.tensorboard.graph = False
    return config
