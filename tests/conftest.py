"""Settings that every test shares."""

import gc
import os

# Before TensorFlow starts: quiet start-up, and the same sums in the same order on every machine.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import pytest
import tensorflow as tf

# Two devices on one machine, for what runs on several.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

# What the imports made stays for good, and is not searched for garbage after every file.
gc.collect()
gc.freeze()


def pytest_make_parametrize_id(val, argname):
    """Names a case of bytes by its argument alone.

    Compressed and serialized bytes differ from process to process (the time in gzip's header, the
    order of a message's map), and processes that share the tests must agree on their names.
    """
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def _fresh_keras():
    """Gives every test the same seed, the float32 policy and names that count from zero."""
    keras.config.set_dtype_policy("float32")
    # Without the search for garbage, which takes seconds once many steps have been traced.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(autouse=True, scope="module")
def _free_memory():
    """Frees what the tests of a file have left."""
    yield
    keras.utils.clear_session()
