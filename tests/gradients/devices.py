"""The two devices that tests of several replicas share."""

import functools

import tensorflow as tf


@functools.cache
def two_devices():
    """Returns one strategy for all tests: what one sums up, another of the process would mix up."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
