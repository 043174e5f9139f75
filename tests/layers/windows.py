"""Windows over an array of any number of spatial axes, written out in NumPy."""

import itertools

import numpy as np


def padded(x, sizes, strides, rates, padding, value=0.0):
    """Returns an array of float64 with the padding that is named.

    `"same"` is TensorFlow's: as little as makes ceil(size / stride) windows, the odd pixel at the
    end.
    """
    widths = [(0, 0)]
    for pixels, size, stride, rate in zip(x.shape[1:-1], sizes, strides, rates, strict=True):
        span = rate * (size - 1) + 1
        total = {
            "symmetric": span - 1,
            "same": max((-(-pixels // stride) - 1) * stride + span - pixels, 0),
            "valid": 0,
        }[padding]
        widths.append((total // 2, total - total // 2))
    return np.pad(x.astype("float64"), [*widths, (0, 0)], constant_values=value)


def taps(x, sizes, strides, rates):
    """Yields each place in a window, with the pixels that are there in all windows."""
    spans = [rate * (size - 1) for size, rate in zip(sizes, rates, strict=True)]
    for tap in itertools.product(*map(range, sizes)):
        along = [
            slice(rate * place, pixels - span + rate * place, stride)
            for place, rate, span, stride, pixels in zip(
                tap, rates, spans, strides, x.shape[1:-1], strict=True
            )
        ]
        yield tap, x[(slice(None), *along)]
