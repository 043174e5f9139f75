import json
import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from ml_collections import ConfigDict
from PIL import Image

from reszoo.data import load_source
from reszoo.training import evaluate_run, export_run, predict_run
from reszoo.training.defaults import complete
from reszoo.training.optimizers import create_learning_rate
from reszoo.training.provenance import write_provenance

CONFIG = Path(__file__).parents[2] / "configs" / "digits_resnet18.py"


@pytest.fixture
def config():
    return complete(ConfigDict({"data": {"name": "digits"}, "batch_size": 100, "seed": 0}))


@pytest.fixture
def workdir(tmp_path):
    """A work directory with a model that knows the digits somewhat: a linear one."""
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=["accuracy"])
    images, labels = next(iter(load_source("digits").train.batch(1437)))
    model.fit(images, labels, epochs=5, verbose=0)
    model.save(tmp_path / "model.keras")
    return tmp_path


def test_evaluating_gives_keras_own_figures(config, workdir, capsys):
    figures = evaluate_run(config, workdir)
    model = keras.models.load_model(workdir / "model.keras")
    images, labels = next(iter(load_source("digits").test.batch(360)))
    loss, accuracy = model.evaluate(images, labels, verbose=0)
    assert figures["loss"] == pytest.approx(loss, rel=1e-4)
    assert figures["accuracy"] == pytest.approx(accuracy)
    assert f"test accuracy: {accuracy:.4f}" in capsys.readouterr().out


def test_the_exported_model_answers_the_same(config, workdir):
    exported = tf.saved_model.load(export_run(config, workdir))
    model = keras.models.load_model(workdir / "model.keras")
    images, _ = next(iter(load_source("digits").test.batch(7)))
    np.testing.assert_allclose(exported.serve(images), model(images), rtol=1e-4, atol=1e-5)


def test_predicting_images(config, workdir, capsys):
    images, labels = next(iter(load_source("digits").test.batch(20)))
    files = [str(workdir / f"{index}.png") for index in range(20)]
    for file, image in zip(files, images.numpy(), strict=True):
        Image.fromarray((image[..., 0] * 255).round().astype("uint8")).save(file)
    answers = predict_run(config, workdir, files)
    right = [name == str(label) for (name, _), label in zip(answers, labels.numpy(), strict=True)]
    assert np.mean(right) > 0.7
    assert f"{files[0]}: {answers[0][0]} ({answers[0][1]:.1%})" in capsys.readouterr().out


def test_what_is_missing(config, workdir, tmp_path):
    with pytest.raises(ValueError, match="Train first"):
        evaluate_run(config, tmp_path / "none")
    with pytest.raises(ValueError, match="Give --images"):
        predict_run(config, workdir, [])
    with pytest.raises(ValueError, match=r"none.png cannot be read"):
        predict_run(config, workdir, ["none.png"])


def test_provenance_says_what_ran(tmp_path):
    for seed in (1, 2):
        write_provenance(tmp_path / "provenance.jsonl", seed)
    first, second = map(json.loads, (tmp_path / "provenance.jsonl").read_text().splitlines())
    assert (first["seed"], second["seed"]) == (1, 2)
    assert first["packages"]["tensorflow"] == tf.__version__
    assert "CPU:0" in first["devices"]
    assert first["command"]


def test_the_digits_configuration_names_every_field_that_has_a_default():
    config = runpy.run_path(str(CONFIG))["get_config"]()
    assert complete(config).to_dict() == config.to_dict()


def test_the_cifar_configuration_is_complete_and_its_optimizer_can_be_made():
    config = complete(runpy.run_path(str(CONFIG.parent / "cifar10_resnet18.py"))["get_config"]())
    rate = create_learning_rate(0.1, 0, 350 * 390, **config.schedule.to_dict())
    found = [float(rate(epoch * 390)) for epoch in (0, 149, 150, 249, 250, 349)]
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
