"""What the tests of the plugin share."""

import json

import numpy as np
import pytest


@pytest.fixture
def unpack():
    """Reads the packed form, independently of the code under test."""
    return _unpack


def _unpack(packed):
    length = int.from_bytes(packed[:4], "little")
    header = json.loads(packed[4 : 4 + length])
    count, at = header["steps"], 4 + length
    assert at % 8 == 0
    steps = np.frombuffer(packed, "<f8", count, at)
    wall_times = np.frombuffer(packed, "<f8", count, at + 8 * count)
    values = np.frombuffer(packed, "<f4", offset=at + 16 * count)
    shape = (len(header["statistics"]), len(header["blocks"]), count)
    return header, steps, wall_times, values.reshape(shape)
