"""The tests of `tests/on_jax` pass, in a process with Keras on JAX."""

from tests.children import run_tests


def test_everything_on_jax():
    run_tests("jax")
