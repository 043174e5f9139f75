import runpy
from pathlib import Path

import pytest

from reszoo.training.config import complete
from reszoo.training.optimizers import create_learning_rate

CONFIG = Path(__file__).parents[2] / "configs" / "digits_resnet18.py"


def test_the_digits_configuration_names_every_field_that_has_a_default():
    config = runpy.run_path(str(CONFIG))["get_config"]()
    assert complete(config).to_dict() == config.to_dict()


def test_the_cifar_configuration_is_complete_and_its_optimizer_can_be_made():
    config = complete(runpy.run_path(str(CONFIG.parent / "cifar10_resnet18.py"))["get_config"]())
    rate = create_learning_rate(0.1, 0, 350 * 390, **config.schedule.to_dict())
    found = [float(rate(epoch * 390)) for epoch in (0, 149, 150, 249, 250, 349)]
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
