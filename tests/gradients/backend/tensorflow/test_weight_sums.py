"""Sums of weights, of which vectors are taken together, are NumPy's of each by itself."""

import numpy as np
import pytest
import tensorflow as tf

from reszoo.gradients.backend.tensorflow.weight_sums import gradient_sums, update_sums

SHAPES = [(3, 3, 2, 4), (), (7,), (5,), (5,), (5,), (4,), (4,)]
STACK_SIZES = [1, 1, 1, 3, 2]


def random(seed):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=shape).astype("float32") for shape in SHAPES]


def sum_of_squares(x):
    return np.sum(np.where(np.isfinite(x), x, 0).astype(np.float64) ** 2)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "XLA"])
def test_gradients_are_summed_each_by_itself(jit, dtype):
    gradients = random(0)
    gradients[0][1, 2, 0, 3], gradients[4][1:3], gradients[7][0] = np.nan, np.inf, -np.inf
    gradients = [g.astype(dtype) for g in gradients]
    function = tf.function(lambda *tensors: gradient_sums(tensors, STACK_SIZES), jit_compile=jit)
    squares, left_out = np.transpose(function(*gradients))
    np.testing.assert_allclose(squares, [sum_of_squares(g) for g in gradients], rtol=1e-6)
    np.testing.assert_array_equal(left_out, [1, 0, 0, 0, 2, 0, 0, 1])


def test_updates_are_summed_each_by_itself():
    before, after = random(0), random(1)
    of_weights, of_updates = update_sums(before, after, STACK_SIZES)
    np.testing.assert_allclose(of_weights, [sum_of_squares(old) for old in before], rtol=1e-6)
    updates = [new - old for old, new in zip(before, after, strict=True)]
    np.testing.assert_allclose(
        of_updates, [sum_of_squares(update) for update in updates], rtol=1e-6
    )


def test_weights_may_all_be_vectors_of_one_size_or_all_differ():
    same, different = tf.ones((3, 5)), [tf.ones(1), tf.ones(2), tf.ones(3)]
    np.testing.assert_array_equal(gradient_sums(tf.unstack(same), [3]), [[5, 0]] * 3)
    np.testing.assert_array_equal(gradient_sums(different, [1, 1, 1]), [[1, 0], [2, 0], [3, 0]])
