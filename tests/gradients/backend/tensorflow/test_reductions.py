"""Sums over tensors are NumPy's in float64, of any shape and dtype, with and without XLA."""

import numpy as np
import pytest
import tensorflow as tf

from reszoo.gradients.backend.tensorflow import reductions
from reszoo.gradients.backend.tensorflow.reductions import (
    over_finite,
    products,
    squares,
    traced_once,
)

# Fewer examples than pieces, as many, some left over; and none.
BATCHES = [0, 1, 8, 33]
JITS = {"graph": False, "XLA": True}


def random(batch, dtype="float32"):
    values = np.random.default_rng(batch).normal(size=(2, batch, 3, 5)).astype("float32")
    return [tf.cast(x, dtype) for x in values]


def of_unknown_shape(function, dtype, jit):
    """Returns a traced function, whose tensors have no shape before it runs."""
    signature = [tf.TensorSpec((None, 3, 5), dtype)] * 2
    return tf.function(function, input_signature=signature, jit_compile=jit)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("jit", JITS.values(), ids=JITS)
def test_products_and_squares_are_summed(jit, batch, dtype):
    x, y = random(batch, dtype)

    def sums(x, y):
        return tf.concat([squares([x, y]), [products(x, y)]], axis=0)

    taken, _ = of_unknown_shape(lambda x, y: over_finite(sums, [x, y]), dtype, jit)(x, y)
    taken = taken[2], taken[:2]
    x, y = (np.asarray(tensor, np.float64) for tensor in (x, y))
    assert [tensor.dtype for tensor in taken] == [tf.float64] * 2
    np.testing.assert_allclose(taken[0], np.sum(x * y), rtol=0, atol=1e-6 * x.size)
    np.testing.assert_allclose(taken[1], [np.sum(x * x), np.sum(y * y)], rtol=1e-6)


@pytest.mark.parametrize("features", [2**16, 2**16 + 3])
@pytest.mark.parametrize("jit", JITS.values(), ids=JITS)
def test_sums_over_large_tensors_are_accurate(jit, features):
    x, y = np.random.default_rng(0).normal(size=(2, 33, features)).astype("float32")
    squared, multiplied = tf.function(lambda x, y: (squares([x]), products(x, y)), jit_compile=jit)(
        x, y
    )
    x, y = x.astype(np.float64), y.astype(np.float64)
    np.testing.assert_allclose(squared, [np.sum(x * x)], rtol=5e-7)
    assert abs(multiplied - np.sum(x * y)) < 1e-8 * np.linalg.norm(x) * np.linalg.norm(y)


@pytest.mark.parametrize("gpu", [False, True], ids=["no GPU", "as on a GPU"])
@pytest.mark.parametrize("jit", JITS.values(), ids=JITS)
def test_values_that_are_not_finite_are_counted_and_left_out(jit, gpu, monkeypatch):
    monkeypatch.setattr(reductions, "has_gpu", lambda: gpu)
    x, y = (tensor.numpy() for tensor in random(8))
    x[0, 1, 2], x[7, 0, 0], y[3, 2, 1] = np.nan, np.inf, -np.inf

    @tf.function(jit_compile=jit)
    def sums(*tensors):
        return over_finite(lambda *tensors: squares(tensors), tensors)

    taken, left_out = sums(x, y, tf.constant(5.0))
    of_finite = [np.sum(np.where(np.isfinite(z), z, 0).astype(np.float64) ** 2) for z in (x, y)]
    np.testing.assert_allclose(taken, [*of_finite, 25], rtol=1e-6)
    np.testing.assert_array_equal(left_out, [2, 1, 0])


FACTORS = {"tiny": 1e-37, "1e-23": 1e-23, "1e-18": 1e-18, "1e18": 1e18, "huge": 3e37}


@pytest.mark.parametrize("gpu", [False, True], ids=["no GPU", "as on a GPU"])
@pytest.mark.parametrize("jit", JITS.values(), ids=JITS)
def test_squares_that_float32_cannot_hold_are_summed(jit, gpu, monkeypatch):
    monkeypatch.setattr(reductions, "has_gpu", lambda: gpu)

    def sums(x, y):
        return tf.concat([squares([x, y]), [products(x, y)]], axis=0)

    taken = of_unknown_shape(lambda x, y: over_finite(sums, [x, y]), tf.float32, jit)
    for of_x in FACTORS.values():
        for of_y in (of_x, 1.0, 0.0):
            x, y = random(8)
            x, y = x * of_x, y * of_y
            found, left_out = taken(x, y)
            x, y = (tensor.numpy().astype(np.float64) for tensor in (x, y))
            expected = [np.sum(x * x), np.sum(y * y), np.sum(x * y)]
            scale = np.linalg.norm(x) * np.linalg.norm(y)
            np.testing.assert_allclose(found[:2], expected[:2], rtol=1e-6)
            assert abs(found[2] - expected[2]) <= 1e-6 * scale
            np.testing.assert_array_equal(left_out, [0, 0])


@pytest.mark.parametrize("jit", JITS.values(), ids=JITS)
def test_among_values_that_float32_cannot_square_others_are_counted(jit):
    x = np.array([3e38, -1e-37, np.nan, 1e30, -np.inf], "float32")
    taken, left_out = tf.function(
        lambda x: over_finite(lambda x: squares([x]), [x]), jit_compile=jit
    )(x)
    np.testing.assert_allclose(taken, [np.sum(x[[0, 1, 3]].astype(np.float64) ** 2)], rtol=1e-7)
    np.testing.assert_array_equal(left_out, [2])


@pytest.mark.parametrize("jit", JITS.values(), ids=JITS)
def test_float64_is_summed_as_such(jit):
    x = np.array([3e-100, 4e-100])
    taken, _ = tf.function(lambda x: over_finite(lambda x: squares([x]), [x]), jit_compile=jit)(x)
    np.testing.assert_allclose(np.sqrt(taken), [5e-100], rtol=1e-15)


def test_a_long_sum_of_equal_values_is_accurate():
    x = tf.fill([10_000_000], 0.1)
    for jit in (False, True):
        taken, _ = tf.function(lambda x: over_finite(lambda x: squares([x]), [x]), jit_compile=jit)(
            x
        )
        np.testing.assert_allclose(taken, [1e7 * np.float64(np.float32(0.1)) ** 2], rtol=2e-6)


def test_what_is_traced_once_is_one_node_of_a_graph_at_each_call():
    traces = []

    @traced_once
    def scaled(x):
        traces.append(x.shape)
        return 2 * x

    @tf.function
    def all_of(x, y):
        return scaled(x), scaled(y), scaled(x[0])

    x, y = random(3)
    for taken, expected in zip(all_of(x, y), (2 * x, 2 * y, 2 * x[0]), strict=True):
        np.testing.assert_array_equal(taken, expected)
    kinds = [op.type for op in all_of.get_concrete_function(x, y).graph.get_operations()]
    assert kinds.count("PartitionedCall") == 3
    assert "Mul" not in kinds
    assert traces == [tf.TensorShape(None)]


def test_what_is_traced_once_is_compiled_where_it_is_called():
    x, _ = random(3)
    compiled = tf.function(traced_once(lambda x: 2 * x), jit_compile=True)
    np.testing.assert_array_equal(compiled(x), 2 * x)
    kinds = [op.type for op in compiled.get_concrete_function(x).graph.get_operations()]
    assert "PartitionedCall" not in kinds
