"""The packed form, read independently of the code under test."""

import json

import numpy as np


def unpack(packed):
    """Returns header, steps, wall times and values (statistics, blocks, steps)."""
    length = int.from_bytes(packed[:4], "little")
    header = json.loads(packed[4 : 4 + length])
    count, at = header["steps"], 4 + length
    assert at % 8 == 0
    steps = np.frombuffer(packed, "<f8", count, at)
    wall_times = np.frombuffer(packed, "<f8", count, at + 8 * count)
    values = np.frombuffer(packed, "<f4", offset=at + 16 * count)
    shape = (len(header["statistics"]), len(header["blocks"]), count)
    return header, steps, wall_times, values.reshape(shape)
