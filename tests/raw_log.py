"""Log files with anything in them, as no recorder would write them."""

import json

import numpy as np
import tensorflow as tf
from tensorflow.compat.v1 import Event, SessionLog

from reszoo.gradients.log import PLUGIN_NAME, TAG


def write_raw(path, *headers, values=None, step=0):
    """An event file with anything in it: a start, and a record for each header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensor = tf.make_tensor_proto(np.full((1, 1), 0.5, np.float32) if values is None else values)
    with tf.io.TFRecordWriter(str(path)) as file:
        start = SessionLog(status=SessionLog.START)
        file.write(Event(file_version="brain.Event:2").SerializeToString())
        file.write(Event(step=step, session_log=start).SerializeToString())
        for offset, header in enumerate(headers):
            event = Event(step=step + offset)
            value = event.summary.value.add(tag=TAG, tensor=tensor)
            value.metadata.data_class = 2  # DATA_CLASS_TENSOR
            value.metadata.plugin_data.plugin_name = PLUGIN_NAME
            value.metadata.plugin_data.content = header
            file.write(event.SerializeToString())
    return path


def header(blocks=({"name": "a"},), statistics=("s",), **changes):
    fields = {"version": 1, "blocks": blocks, "statistics": statistics, **changes}
    return json.dumps(fields).encode()
