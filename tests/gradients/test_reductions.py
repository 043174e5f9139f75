"""Sums over tensors are NumPy's in float64, of any shape and dtype, with and without XLA."""

import numpy as np
import pytest
import tensorflow as tf

from reszoo.gradients import reductions
from reszoo.gradients.reductions import over_finite, products, squares, traced_once

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
def test_products_and_squares_are_summed_in_float32(jit, batch, dtype):
    x, y = random(batch, dtype)
    taken = of_unknown_shape(lambda x, y: (products(x, y), squares([x, y])), dtype, jit)(x, y)
    x, y = (np.asarray(tensor, np.float64) for tensor in (x, y))
    assert [tensor.dtype for tensor in taken] == [tf.float32] * 2
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


def test_a_sum_that_overflows_is_infinite_and_nothing_is_left_out():
    taken, left_out = over_finite(lambda x: squares([x]), [tf.fill([4], 1e30)])
    np.testing.assert_array_equal(taken, [np.inf])
    np.testing.assert_array_equal(left_out, [0])


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
