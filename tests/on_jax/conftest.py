"""Settings of the tests on JAX, which have a process of their own."""

import os

import keras
import pytest

if keras.backend.backend() == "jax":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Before JAX starts: several devices on one machine, for what runs on several.
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
else:
    collect_ignore_glob = ["*"]


@pytest.fixture(autouse=True)
def _fresh_keras():
    """Gives every test the same seed, the float32 policy and one device."""
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    keras.distribution.set_distribution(None)
