import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from reszoo.training.strategy import create_strategy

HERE = Path(__file__).parent


def test_one_device_is_the_default_strategy():
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has GPUs")
    assert create_strategy() is tf.distribute.get_strategy()


def test_a_named_device():
    strategy = create_strategy(["CPU:0"])
    assert strategy.num_replicas_in_sync == 1
    assert strategy.run(lambda: tf.constant(1).device) == strategy.run(
        lambda: tf.constant(2).device
    )


def test_a_device_that_is_not_there():
    with pytest.raises(ValueError, match=r"no device CPU:7. This machine has CPU:0"):
        create_strategy(["CPU:7"])


def test_two_devices_train_like_one():
    done = subprocess.run(
        [sys.executable, str(HERE / "two_devices.py")],
        cwd=HERE.parents[1],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "two devices agree with one" in done.stdout
