"""The two devices that tests of several replicas share."""

from reszoo.training.strategy import spread_over


def two_devices():
    """Returns one strategy for all tests: what one sums up, another of the process would mix up."""
    return spread_over(["CPU:0", "CPU:1"])
