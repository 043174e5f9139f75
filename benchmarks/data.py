"""How many images a second the pipeline gives, beside what a training step takes.

    python benchmarks/data.py --config=configs/digits_resnet18.py --rounds=5

Every round reads one epoch, then trains as many steps on one batch; printed are the medians with
their spread, and the ratio of the two rates in the same round. Above 1 the step never waits.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import runpy
import time

import keras
import numpy as np
import tensorflow as tf

from reszoo.models import create_model
from reszoo.training.loop import train_step
from reszoo.training.run import create_pipeline


def seconds(function):
    """Returns the CPU and wall seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    function()
    return time.process_time() - cpu, time.perf_counter() - wall


def make_step(config, pipeline):
    """Returns a compiled training step of the configured model."""
    options = config.model.to_dict()
    name, classes = options.pop("name"), pipeline.source.num_classes
    model = create_model(name, num_classes=classes, input_shape=pipeline.image_shape, **options)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    model.optimizer.build(model.trainable_variables)
    return tf.function(train_step(model, config.batch_size), autograph=False)


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="configs/digits_resnet18.py")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config = runpy.run_path(options.config)["get_config"]()
    pipeline = create_pipeline(config)
    step, batch = make_step(config, pipeline), next(iter(pipeline.train_batches(0)))
    step(*batch)
    images = pipeline.steps_per_epoch * config.batch_size

    def read(epoch):
        for _ in pipeline.train_batches(epoch):
            pass

    def train():
        for _ in range(pipeline.steps_per_epoch):
            sums = step(*batch)
        sums.numpy()

    read(0)
    rows = np.array(
        [[seconds(lambda e=epoch: read(e)), seconds(train)] for epoch in range(options.rounds)]
    )
    for column, clock in enumerate(("CPU", "wall")):
        rates = images / rows[:, :, column]
        for name, rate in zip(("pipeline", "step"), rates.T, strict=True):
            low, median, high = np.percentile(rate, [25, 50, 75])
            print(f"{name:9} {median:9.0f} images a {clock} second ({low:.0f}-{high:.0f})")
        print(f"ratio     {np.median(rates[:, 0] / rates[:, 1]):9.1f}")


if __name__ == "__main__":
    main()
