"""Settings of the tests on PyTorch, which have a process of their own."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Before Triton starts: its kernels run without a GPU.
os.environ.setdefault("TRITON_INTERPRET", "1")

import keras
import pytest

if keras.backend.backend() != "torch":
    collect_ignore_glob = ["*.py"]


@pytest.fixture(autouse=True)
def _fresh_keras():
    """Gives every test the same seed and the float32 policy."""
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
