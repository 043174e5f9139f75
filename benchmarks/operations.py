"""Time of a training step by TensorFlow's operations, from its profiler.

    python benchmarks/operations.py --model=resnet18 --image_size=128
    python benchmarks/operations.py --smoke

On one thread, so that the times of operations add up to that of the step: a step with SGD and
momentum on random images in float32. The operations that take longest are listed by their kind, and
the rest as one. `TF_ENABLE_ONEDNN_OPTS=0` or `1` in the environment chooses TensorFlow's kernels.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import collections
import re
import tempfile
from pathlib import Path

import tensorflow as tf
from models import keras_steps, new_reszoo
from timing import machine, markdown_table

SHOWN = 12
# An operation's event is its name, a colon, and its kind; other events are of the runtime.
EVENT = re.compile(r"[^:]+:(\w+)$")


def events(directory):
    """Returns the name and the seconds of each event of a profile."""
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    for path in Path(directory).rglob("*.xplane.pb"):
        for plane in XSpace.FromString(path.read_bytes()).planes:
            for line in plane.lines:
                for event in line.events:
                    yield plane.event_metadata[event.metadata_id].name, event.duration_ps / 1e12


def seconds_by_kind(step, steps):
    """Returns the seconds of a step, and the number of operations, by the operation's kind."""
    with tempfile.TemporaryDirectory() as directory:
        tf.profiler.experimental.start(directory)
        for _ in range(steps):
            step()
        tf.profiler.experimental.stop()
        seconds, numbers = collections.Counter(), collections.Counter()
        for name, duration in events(directory):
            if found := EVENT.match(name):
                seconds[found[1]] += duration / steps
                numbers[found[1]] += 1 / steps
    # A call of a function is an event like its operations.
    calls = [kind for kind in seconds if kind.startswith("__inference")]
    for kind in calls:
        del seconds[kind], numbers[kind]
    return seconds, numbers


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--image_size", type=int, default=128, help="pixels")
    parser.add_argument("--batch", type=int, default=8, help="images")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="tiny, to see it run")
    options = parser.parse_args()
    options.jit = False
    if options.smoke:
        options.image_size, options.batch, options.steps = 32, 2, 1
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    print(machine())
    size = options.image_size
    print(f"{options.model}, {size}x{size}, batch {options.batch}, {options.steps} steps, 1 thread")
    step = keras_steps(new_reszoo, options)["train"]
    for _ in range(3):
        step()
    print_operations(*seconds_by_kind(step, options.steps))


def print_operations(seconds, numbers):
    """Prints the kinds that take longest, and the rest as one."""
    if not seconds:
        raise SystemExit("The profile has no operations: TensorFlow has another format of it.")
    total, number = sum(seconds.values()), sum(numbers.values())
    rows = [(kind, numbers[kind], own) for kind, own in seconds.most_common(SHOWN)]
    rest = number - sum(row[1] for row in rows), total - sum(row[2] for row in rows)
    rows += [("others", *rest), ("all", number, total)]
    cells = [(k, f"{n:.0f}", f"{own * 1e3:.1f}", f"{own / total:.0%}") for k, n, own in rows]
    print(markdown_table([("operation", "number", "ms a step", "share"), *cells]))


if __name__ == "__main__":
    main()
