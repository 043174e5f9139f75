"""Convolutions of any groups, strides and padding on PyTorch, against sums written out in NumPy."""

import numpy as np
import pytest
from keras import ops

from reszoo.layers import Convolution
from reszoo.layers.shapes import per_axis
from tests.layers.windows import padded, taps


@pytest.mark.parametrize("padding", ["symmetric", "same", "valid"])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "strides": 2},
        {"kernel_size": (3, 5), "strides": (2, 1), "groups": 2},
        {"kernel_size": (3, 3), "dilation_rate": (1, 2), "groups": 4},
    ],
    ids=str,
)
def test_a_convolution_is_the_sum_over_its_taps(options, padding):
    layer = Convolution(8, padding=padding, **options)
    sizes = [per_axis("", "", getattr(layer, name), 2) for name in layer.sizes]
    x = np.random.default_rng(0).normal(size=(2, 8, 9, 4)).astype("float32")
    y = ops.convert_to_numpy(layer(x))
    kernel = ops.convert_to_numpy(layer.kernel)
    groups = zip(*(np.split(a, layer.groups, -1) for a in (x, kernel)), strict=True)
    expected = [
        sum(seen @ part[tap] for tap, seen in taps(padded(group, *sizes, padding), *sizes))
        for group, part in groups
    ]
    np.testing.assert_allclose(y, np.concatenate(expected, -1), rtol=1e-4, atol=1e-5)
