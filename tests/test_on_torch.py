"""The tests of `tests/on_torch` pass, in a process with Keras on PyTorch."""

from tests.children import run_tests


def test_everything_on_torch():
    run_tests("torch")
