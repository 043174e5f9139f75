"""Inference as users run it: `predict`, an exported SavedModel and an ONNX file, beside peers.

    python benchmarks/inference.py --model=resnet50 --rounds=5
    python benchmarks/inference.py --smoke

Each is a way to get the logits of a batch as an array: `predict` of Keras, the function of a
SavedModel loaded by TensorFlow, a session of ONNX Runtime, and torchvision's model within
`torch.inference_mode`, with the channels second or last (`torch_last`) in memory. Every round runs
each of them once, in a new random order, on the same batch in float32; ratios are to `predict` of
reszoo (above 1: reszoo's `predict` is faster). What is not installed is left out by name. "folded"
is `predict` of the same network with its batch normalizations folded into the convolutions.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import importlib.util
import tempfile

import keras
import numpy as np
import tensorflow as tf
from models import CLASSES, HUB, batch, new_hub, new_reszoo
from peers import import_torchvision
from timing import interleaved, machine, print_table

from reszoo.models import fold_normalization

PACKAGES = {"keras_hub": "keras_hub", "torchvision": "torchvision", "ONNX": "onnxruntime"}


def keras_ways(name, new_model, options):
    """Returns the ways to run a Keras model, functions of images, by name."""
    keras.utils.set_random_seed(0)
    model = new_model(options)
    ways = {f"{name} predict": predict(model)}
    ways[f"{name} SavedModel"] = saved_model(model)
    if is_installed("ONNX"):
        ways[f"{name} ONNX"] = onnx(model)
    return ways


def predict(model):
    """Returns `predict` of a Keras model, all images in one batch."""
    return lambda x: model.predict(x, batch_size=len(x), verbose=0)


def saved_model(model):
    """Returns the function of an exported SavedModel."""
    with tempfile.TemporaryDirectory() as directory:
        model.export(directory, verbose=False)
        exported = tf.saved_model.load(directory)
    return lambda x: exported.serve(tf.constant(x)).numpy()


def onnx(model):
    """Returns the function of an exported ONNX file."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/model.onnx"
        model.export(path, format="onnx", verbose=False)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda x: session.run(None, {given.name: x})[0]


def torch_ways(options):
    """Returns the ways to run torchvision's model, functions of images, by name."""
    import torch

    layouts = {"torchvision": torch.contiguous_format, "torch_last": torch.channels_last}
    ways = {}
    for name, layout in layouts.items():
        model = getattr(import_torchvision().models, options.model)(num_classes=CLASSES)
        model = model.eval().to(memory_format=layout)

        @torch.inference_mode()
        def run(x, model=model, layout=layout):
            images = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=layout)
            return model(images).numpy()

        ways[name] = run
    return ways


def is_installed(name):
    """Returns whether the package of a way is installed."""
    return importlib.util.find_spec(PACKAGES[name]) is not None


def all_ways(options):
    """Returns all ways to run the model, functions of images, by name."""
    ways = keras_ways("reszoo", new_reszoo, options)
    ways["reszoo folded"] = predict(fold_normalization(new_reszoo(options)))
    if is_installed("keras_hub"):
        ways |= keras_ways("keras_hub", new_hub, options)
    if is_installed("torchvision"):
        ways |= torch_ways(options)
    return ways


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="resnet18", choices=HUB)
    parser.add_argument("--image_size", type=int, default=224, help="pixels")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32], help="images")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--smoke", action="store_true", help="everything, tiny, to see it run")
    options = parser.parse_args()
    if options.smoke:
        options.image_size, options.batches, options.rounds = 32, [2], 2
    print(machine())
    print(f"{options.model}, {options.image_size}x{options.image_size}, {options.rounds} rounds")
    missing = [name for name in PACKAGES if not is_installed(name)]
    if missing:
        print(f"not installed, left out: {', '.join(missing)}")
    ways = all_ways(options)
    for size in options.batches:
        options.batch = size
        x = np.ascontiguousarray(batch(options)[0])
        runs = {name: lambda run=run, x=x: run(x) for name, run in ways.items()}
        seconds = interleaved(runs, options.rounds)
        print_table(f"batch {size}", seconds, dict.fromkeys(runs, "reszoo predict"))


if __name__ == "__main__":
    main()
