r"""Images per second of the pipeline, compared with those of the training step.

    python benchmarks/data.py --config=configs/digits_resnet18.py --rounds=5
    python benchmarks/data.py --config=configs/imagenet_resnet18.py --photos=256 --batch=16 \
        --steps=1 --rounds=3

Every round reads one epoch, then trains some steps on one batch, by default as many as an epoch
has. The output has the medians with their spread, and the ratio of the two rates in the same round;
above 1 the step never waits. `--photos` replaces the configured data set by that number of
generated JPEGs of 500 x 375 pixels in TFRecord files, of about 110 KB each, as ImageNet's.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import io
import runpy
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image, ImageFilter
from timing import CLOCKS, machine, quartiles, seconds_of

from reszoo.training.config import complete
from reszoo.training.network import create_network
from reszoo.training.pipeline import create_pipeline
from reszoo.training.steps import train_step


def make_photos(folder, count):
    """Writes TFRecord files of smoothed noise, as JPEGs; returns their mean size in bytes."""
    generator, sizes = np.random.default_rng(0), []
    for split, examples in (("train", count), ("validation", 8)):
        with tf.io.TFRecordWriter(str(Path(folder) / f"{split}-00000-of-00001")) as writer:
            for index in range(examples):
                noise = Image.fromarray(generator.integers(0, 256, (375, 500, 3)).astype("uint8"))
                file = io.BytesIO()
                noise.filter(ImageFilter.GaussianBlur(0.8)).save(file, "JPEG", quality=90)
                sizes.append(file.tell())
                feature = {
                    "image/encoded": tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[file.getvalue()])
                    ),
                    "image/class/label": tf.train.Feature(
                        int64_list=tf.train.Int64List(value=[index % 8])
                    ),
                }
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())
    return np.mean(sizes)


def make_step(config, pipeline):
    """Returns a compiled training step of the configured model."""
    model = create_network(config, pipeline)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    model.optimizer.build(model.trainable_variables)
    return tf.function(train_step(model, config.batch_size), autograph=False)


def configured(options, folder):
    """Returns the configuration that the command line asks for."""
    config = complete(runpy.run_path(options.config)["get_config"]())
    config.batch_size = options.batch or config.batch_size
    if options.photos:
        size = make_photos(folder, options.photos)
        os.environ["XDG_CACHE_HOME"] = folder
        config.data.name = f"tfrecord:{folder}/*-of-*"
        print(f"{options.photos} made-up photos of {size / 1000:.0f} KB in the mean")
    keras.config.set_dtype_policy(config.dtype)
    return config


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="configs/digits_resnet18.py")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=int, default=0)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--steps", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = configured(options, folder)
        start = time.perf_counter()
        pipeline = create_pipeline(config)
        print(f"the data set was opened in {time.perf_counter() - start:.1f} s")
        measure(config, pipeline, options.rounds, options.steps or pipeline.steps_per_epoch)


def measure(config, pipeline, rounds, steps):
    """Prints the rates of the pipeline and of the step."""
    step, batch = make_step(config, pipeline), next(iter(pipeline.train_batches(0)))
    step(*batch)
    images = config.batch_size * np.array([pipeline.steps_per_epoch, steps])

    def read(epoch):
        for _ in pipeline.train_batches(epoch):
            pass

    def train():
        for _ in range(steps):
            sums = step(*batch)
        sums.numpy()

    read(0)
    rows = np.array(
        [[seconds_of(lambda e=epoch: read(e)), seconds_of(train)] for epoch in range(rounds)]
    )
    print(machine())
    for column, clock in enumerate(CLOCKS):
        rates = images / rows[:, :, column]
        for name, rate in zip(("pipeline", "step"), rates.T, strict=True):
            print(f"{name:9} {quartiles(rate, 1)} images a {clock} second")
        print(f"ratio     {np.median(rates[:, 0] / rates[:, 1]):9.1f}")


if __name__ == "__main__":
    main()
