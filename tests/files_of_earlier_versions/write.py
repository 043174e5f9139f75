"""Writes small files of this version, for the tests of later ones: models, a log, a finished run.

    python -m tests.files_of_earlier_versions.write

They go into a directory named after the version, with what the present code makes of them. Write
them once for each release; what is there already must not be written again.
"""

import functools
import shutil
import socket
import sys
import tempfile
import zipfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import reszoo
from reszoo import layers
from reszoo.gradients import GradientRecorder, Vanishing, load, load_variables
from reszoo.training import prepare
from reszoo.training.config import complete
from tests.training import tiny

HERE = Path(__file__).parent
SETS = ("paths", "weights", "forward", "distribution", "noise_scale", "variables", "histograms")


def main() -> None:
    directory = HERE / reszoo.__version__
    directory.mkdir()
    write_models(directory / "models")
    write_log(directory / "gradients")
    write_run(directory / "run")
    for path in directory.rglob("*.keras"):
        compress(path)
    for path in directory.rglob("events.out.tfevents.*"):
        path.rename(path.with_name(path.name.replace(socket.gethostname(), "host")))
    (directory / "run" / "lock").unlink()


def compress(path):
    """Writes an archive anew, a tenth of the size: Keras stores its members as they are."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def models():
    """Yields models that have every layer and every option between them."""
    small = {"num_classes": 3, "input_shape": (8, 8, 3), "width": 2, "blocks": (1, 1)}
    cifar = {**small, "stem": "cifar"}
    resnet18 = functools.partial(reszoo.ResNet18, **cifar)
    yield "group_norm", resnet18(norm="group", activation="gelu", squeeze_excitation=2)
    yield "stop_gradient", resnet18(shortcut="stop_gradient", drop_path=0.5, branch_scale=0.5)
    yield "stop_skip", resnet18(gate="stop_skip", shortcut="zero_pad", norm="sync_batch")
    yield "gated", resnet18(shortcut="gated", norm=None)
    yield "exclusive", resnet18(gate="exclusive", shortcut="dropout")
    yield "half_both", resnet18(gate="half_both", shortcut="always_projection")
    yield "layer_norm", resnet18(norm=keras.layers.LayerNormalization, shortcut="constant_scale")
    yield "plain", resnet18(shortcut="none", gate="scale_branch", zero_init_last_scale=True)
    yield "resnet50d", reszoo.models.ResNet50D(**small, output_stride=4)
    yield "resnet18v2", reszoo.models.ResNet18V2(**cifar, gate="scale_skip")
    yield "resnet50v2_keras", reszoo.models.ResNet50V2Keras(**small, gate="stop_branch_input")
    yield "residual_mlp", reszoo.models.ResidualMLP(input_shape=(6,), width=4, blocks=2)
    yield "own", own()


def own():
    """Returns a model of layers that somebody assembled."""
    x = inputs = keras.Input((8, 8, 3))
    block = functools.partial(layers.ResidualBlock, activation="relu")
    x = block(layers.BasicBranch(4), layers.StopGradSkip(layers.ProjectionShortcut(4)))(x)
    bottleneck = layers.BottleneckBranch(3, 2, expansion=2, norm=keras.layers.LayerNormalization)
    x = block(bottleneck, layers.ZeroPadShortcut(6, 2))(x)
    gated = layers.GatedShortcut(layers.Gate(6, initial_bias=-1.0))
    x = block([layers.Convolution(6, 3, groups=2), layers.LearnedScale(0.5)], gated)(x)
    pools = [layers.AveragePool(), layers.GradientScale(0.5)]
    x = block(pools, [layers.MaxPool(), layers.ConstantScale(0.5)])(x)
    inner = block([keras.layers.Dense(6)], layers.ZeroShortcut(6), name="inner")
    x = block([inner, layers.StopGradient(), layers.DropPath(0.5)])(x)
    x = layers.ExclusiveGatedBlock(layers.Chain([keras.layers.Dense(6)]), layers.Gate(6))(x)
    x = block([layers.GroupNorm(), layers.SqueezeExcitation(2)])(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def outputs_and_gradients(model, inputs):
    """Returns what a model says of inputs, and the gradient that comes back to them."""
    inputs = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = model(inputs)
        loss = tf.reduce_sum(tf.sin(outputs))
    return outputs.numpy(), tape.gradient(loss, inputs).numpy()


def write_models(directory):
    directory.mkdir()
    rng = np.random.default_rng(0)
    values, missing = {}, {value for value in vars(layers).values() if isinstance(value, type)}
    for name, model in models():
        missing -= {type(layer) for layer in model._flatten_layers()}
        for variable in model.variables:
            # Every number differs from what a new model has.
            if np.issubdtype(keras.backend.standardize_dtype(variable.dtype), np.floating):
                drawn = rng.normal(0.3, 0.2, variable.shape).clip(0.05, 0.95)
                variable.assign(drawn.round(2))
        inputs = rng.normal(size=(1, *model.input_shape[1:])).astype("float32").round(2)
        outputs, gradients = outputs_and_gradients(model, inputs)
        assert np.isfinite(outputs).all()
        model.save(directory / f"{name}.keras")
        values |= {f"{name}_inputs": inputs, f"{name}_outputs": outputs}
        values[f"{name}_gradients"] = gradients
    assert not missing, f"No model has a layer of {missing}."
    np.savez_compressed(directory / "values.npz", **values)


def write_log(directory):
    keras.utils.set_random_seed(0)
    block = functools.partial(reszoo.ResidualBlock, [keras.layers.Dense(2)])
    model = keras.Sequential(
        [keras.Input((2,)), block(name="first"), block(reszoo.StopGradSkip(), name="second")]
    )
    model.compile("adam", "mse")
    alarms = [Vanishing(fraction=1e9)]  # goes off at once
    recorder = GradientRecorder(str(directory), every_steps=2, statistics=SETS, alarms=alarms)
    x = np.random.default_rng(0).normal(size=(20, 2))
    model.fit(x, x[:, ::-1], batch_size=4, shuffle=False, verbose=0, callbacks=[recorder])
    load(str(directory)).to_csv(directory / "values.csv", index=False)
    load_variables(str(directory)).to_csv(directory / "variables.csv", index=False)


def write_run(directory):
    """Writes a run of two epochs, and the figures of a third in a copy of it."""
    sys.argv = ["train.py", "--config=tiny.py", "--workdir=run"]
    config = complete(tiny.get_config())
    config.update_from_flattened_dict(
        {"epochs": 2, "recording.every_steps": 5, "model.width": 2, "checkpoint.keep": 1}
    )
    prepare(config, directory).train()
    config.epochs = 3
    with tempfile.TemporaryDirectory() as copies:
        copy = Path(copies) / "run"
        shutil.copytree(directory, copy)
        prepare(config, copy).train()
        load(str(copy)).to_csv(directory / "gradients_of_three_epochs.csv", index=False)
        shutil.copy(copy / "metrics.jsonl", directory / "metrics_of_three_epochs.jsonl")


if __name__ == "__main__":
    main()
