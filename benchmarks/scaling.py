"""A cost model of training on several devices, compared with measured steps of 1 to 3 processes.

    python benchmarks/scaling.py --width=32 --batch=16 --steps=20

Every process gets one core of this machine in turn and `--batch` images a step, so that n processes
do n times the work: a step takes what the busiest core computes, and the all-reduce of the
gradients. The model is

    step(n) = compute * ceil(n / cores) + 2 (n - 1) / n * bytes / bandwidth + 2 (n - 1) * latency

a ring's traffic, and no overlap of the two. `compute` is the step of one process; `bandwidth` and
`latency` come from bare all-reduces of two sizes between two processes. Nothing in it is fitted to
the steps that it is compared with. Efficiency is compute over step. Then the model is printed to
1,024 devices, for ResNet-50 on devices and a network that are given by `--device_seconds`,
`--gigabytes_per_second` and `--microseconds`: arithmetic, not a measurement.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import json
import math
import socket
import subprocess
import sys
import time
from pathlib import Path

SMALL_MEGABYTES, LARGE_MEGABYTES = 0.004, 32
RESNET50_WEIGHTS = 25_557_032
IMAGE_SIZE = 32


def all_reduce_seconds(devices, size, bandwidth, latency):
    """Returns the seconds of a ring's all-reduce of `size` bytes; `bandwidth` in bytes a second."""
    return 2 * (devices - 1) / devices * size / bandwidth + 2 * (devices - 1) * latency


def step_seconds(compute, devices, cores, size, network):
    """Returns the seconds of a step; `network` is bandwidth and latency."""
    return compute * math.ceil(devices / cores) + all_reduce_seconds(devices, size, *network)


def measure_here(options):
    """Prints the median seconds of a step, or of an all-reduce, in one process."""
    os.sched_setaffinity(0, {options.core})
    import numpy as np
    import tensorflow as tf

    from reszoo.training.strategy import create_strategy

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    strategy = create_strategy("multi_worker" if "TF_CONFIG" in os.environ else "cpu")
    run = all_reduce(strategy, options) if options.megabytes else training_step(strategy, options)
    seconds = []
    for _ in range(options.steps + 3):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    print(json.dumps(np.percentile(seconds[3:], [25, 50, 75]).tolist()))


def all_reduce(strategy, options):
    """Returns a function that adds up the given number of megabytes over all processes."""
    import tensorflow as tf

    numbers = tf.ones(int(options.megabytes * 2**20 / 4))

    @tf.function
    def run():
        def replica():
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, numbers)[0]

        return strategy.reduce(tf.distribute.ReduceOp.MEAN, strategy.run(replica), axis=None)

    return lambda: run().numpy()


def training_step(strategy, options):
    """Returns a function that runs a training step on this process's batch."""
    import keras
    import tensorflow as tf

    from reszoo.training.steps import train_step

    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = new_model(options)
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
        model.optimizer.build(model.trainable_variables)
    step = train_step(model, options.batch * strategy.num_replicas_in_sync)
    images = tf.random.normal((options.batch, IMAGE_SIZE, IMAGE_SIZE, 3))
    labels = tf.zeros(options.batch, tf.int32)

    @tf.function
    def run():
        sums = strategy.run(step, args=(images, labels))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)

    return lambda: run().numpy()


def measured(options, processes, megabytes=0.0):
    """Returns the quartiles of the seconds, as the first of several processes prints them."""
    ports = []
    for _ in range(processes):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            ports.append(free.getsockname()[1])
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    started = []
    for index in range(processes):
        environment = dict(os.environ)
        if processes > 1:
            task = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        core = sorted(os.sched_getaffinity(0))[index % os.cpu_count()]
        sizes = [f"--width={options.width}", f"--batch={options.batch}", f"--steps={options.steps}"]
        command = [sys.executable, __file__, *sizes, f"--core={core}", f"--megabytes={megabytes}"]
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        )
    answers = [process.communicate()[0] for process in started]
    return json.loads(answers[0].splitlines()[-1])


def new_model(options):
    """Returns the model that is trained, not compiled."""
    from reszoo.models import create_model

    shape = (IMAGE_SIZE, IMAGE_SIZE, 3)
    return create_model(
        "resnet18", num_classes=10, input_shape=shape, stem="cifar", width=options.width
    )


def compare(options):
    """Prints measured steps and the cost model's."""
    size = 4 * sum(math.prod(w.shape) for w in new_model(options).trainable_variables)
    cores = os.cpu_count()
    small, large = (measured(options, 2, size)[1] for size in (SMALL_MEGABYTES, LARGE_MEGABYTES))
    latency = small / 2
    bandwidth = LARGE_MEGABYTES * 2**20 / (large - small)
    print(
        f"ResNet-18, width {options.width}, {IMAGE_SIZE}x{IMAGE_SIZE}, {options.batch} images a "
        f"process and step, gradients of {size / 2**20:.1f} MiB, {cores} cores, one a process\n"
        f"all-reduce between two: {bandwidth / 1e6:.0f} MB/s, {latency * 1e3:.2f} ms latency"
    )
    print(f"{'processes':>9}{'step, s (quartiles)':>28}{'model, s':>10}{'measured/model':>16}")
    compute = None
    for processes in (1, 2, 3):
        low, median, high = measured(options, processes)
        compute = compute or median
        expected = step_seconds(compute, processes, cores, size, (bandwidth, latency))
        quartiles = f"{median:.3f} ({low:.3f}-{high:.3f})"
        print(f"{processes:9}{quartiles:>28}{expected:10.3f}{median / expected:16.2f}", flush=True)


def extrapolate(options):
    """Prints the cost model for up to 1,024 devices."""
    network = options.gigabytes_per_second * 1e9, options.microseconds * 1e-6
    size = 4 * RESNET50_WEIGHTS
    print(
        f"\nResNet-50 by the model: {options.device_seconds} s a step and device, "
        f"{options.gigabytes_per_second} GB/s and {options.microseconds} us between neighbours"
    )
    print(f"{'devices':>7}{'MB a device':>13}{'all-reduce, s':>15}{'step, s':>9}{'efficiency':>12}")
    for devices in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024):
        moved = 2 * (devices - 1) / devices * size
        reduce = all_reduce_seconds(devices, size, *network)
        step = options.device_seconds + reduce
        share = options.device_seconds / step
        print(f"{devices:7}{moved / 1e6:13.0f}{reduce:15.4f}{step:9.4f}{share:12.1%}")


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=32, help="filters of the first stage")
    parser.add_argument("--batch", type=int, default=16, help="images a process and step")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device_seconds", type=float, default=0.1, help="step of one device")
    parser.add_argument("--gigabytes_per_second", type=float, default=10.0)
    parser.add_argument("--microseconds", type=float, default=10.0, help="latency of a message")
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--megabytes", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.core is not None:
        measure_here(options)
        return
    compare(options)
    extrapolate(options)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
