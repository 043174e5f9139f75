"""Every configuration runs, as far as it goes without its data: narrow, on made-up images."""

import json
import runpy
import struct
from pathlib import Path

import keras
import pytest
import requests
import tensorflow_datasets as tfds
from PIL import Image

from reszoo.data import load_source
from reszoo.training import prepare
from reszoo.training.config import complete
from reszoo.training.optimizers import create_learning_rate

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))
# Others train the same layers on the same kind of data.
ONLY_PREPARED = (
    "cifar10_resnet18",
    "cifar10_wrn",
    "digits_resnet18",
    "fashion_mnist_resnet20",
    "imagenet_resnet50",
)


def load(name, *arguments):
    path = Path(__file__).parents[1] / "configs" / f"{name}.py"
    return complete(runpy.run_path(str(path))["get_config"](*arguments))


@pytest.fixture
def photos(tmp_path):
    for name in ("cat", "dog"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for index in range(10):
            Image.new("RGB", (40, 50), (20 * index,) * 3).save(folder / f"{index}.jpg")
    return tmp_path / "photos"


@pytest.fixture
def idx_files(tmp_path):
    folder = tmp_path / "idx"
    folder.mkdir()
    for split, number in (("train", 40), ("t10k", 16)):
        images = struct.pack(">4B3I", 0, 0, 8, 3, number, 28, 28) + bytes(range(196)) * 4 * number
        labels = struct.pack(">4BI", 0, 0, 8, 1, number) + bytes(n % 10 for n in range(number))
        (folder / f"{split}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(labels)
    return folder


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS])
def test_a_narrow_run_of_each_configuration(name, photos, idx_files, tmp_path, monkeypatch):
    # A network that answers: what is downloaded is `mock_data`'s.
    monkeypatch.setattr(requests, "head", lambda url, timeout: requests.Response())
    config = load(name)
    small = {"model.width": 4, "batch_size": 8, "epochs": 1, "recording.every_steps": 1}
    if "image_size" in config.data:
        small["data.image_size"] = 32
    if config.crop.test_image_size:
        small["crop.test_image_size"] = 48
    if name == "finetune_folder":
        small |= {"data.name": f"folder:{photos}", "model.weights": ""}
    if config.data.name.startswith("idx:"):
        small["data.name"] = f"idx:{idx_files}"
    if config.data.name in ("digits", "mnist5k"):
        small |= {"batch_size": 720, "data.image_size": 16}
    config.update_from_flattened_dict({k: v for k, v in small.items() if k != "data.image_size"})
    config.data.image_size = small.get("data.image_size")
    with tfds.testing.mock_data(num_examples=16):
        run = prepare(config, tmp_path / "run")
        layers = [layer.name for layer in run.model.layers]
        assert ("normalization" in layers) == bool(config.data.mean)
        assert run.model.output_shape[-1] == run.pipeline.source.num_classes
        if name in ONLY_PREPARED:
            run.lock.release()
            return
        run.train()
    [line] = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] >= 1
    assert run.results.model_file.exists()


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS])
def test_a_configuration_names_only_fields_that_there_are(name):
    known = load("digits_resnet18").to_dict()
    for part, fields in load(name).to_dict().items():
        if isinstance(fields, dict) and part != "model":
            assert set(fields) <= set(known[part])


def rates(config, steps_per_epoch, epochs):
    schedule = create_learning_rate(
        config.optimizer.learning_rate,
        round(config.optimizer.warmup_epochs * steps_per_epoch),
        config.epochs * steps_per_epoch,
        **config.schedule.to_dict(),
    )
    return [float(schedule(round(epoch * steps_per_epoch))) for epoch in epochs]


def test_the_rates_are_the_papers():
    found = rates(load("cifar10_resnet", "56"), 390, [0, 82, 83, 123, 124, 164])
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    found = rates(load("cifar10_wrn"), 390, [0, 59, 60, 119, 120, 159, 160, 199])
    assert found == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008])
    found = rates(load("imagenet_resnet50"), 312, [5, 29, 30, 59, 60, 79, 80, 89])
    assert found == pytest.approx([1.6, 1.6, 0.16, 0.16, 0.016, 0.016, 0.0016, 0.0016])
    found = rates(load("imagenet_resnet18"), 5004, [0, 29, 30, 59, 60, 89])
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    found = rates(load("imagenet_resnet50_rsb_a3"), 625, [5, 52.5, 100])
    assert found == pytest.approx([0.008, 0.004, 0], abs=1e-6)


def test_the_depth_of_a_cifar_network():
    configs = {depth: load("cifar10_resnet", depth) for depth in ("20", "110")}
    assert [config.model.name for config in configs.values()] == ["resnet20", "resnet110"]
    assert [config.optimizer.warmup_epochs for config in configs.values()] == [0.0, 1.0]
    assert configs["20"].epochs * 390 == 64_350
    with pytest.raises(ValueError, match="must be one of 20, 32, 44, 56, 110, but got '19'"):
        load("cifar10_resnet", "19")


# The constants of mnist5k are those of all 60,000 images of MNIST.
@pytest.mark.parametrize(
    ("name", "tolerance"), [("mnist5k_resnet18", 0.005), ("fashion_mnist_resnet20", 5e-5)]
)
def test_the_normalization_is_that_of_the_images(name, tolerance):
    config = load(name)
    folder = Path(config.data.name.removeprefix("idx:"))
    if config.data.name.startswith("idx:") and not folder.is_dir():
        pytest.skip("needs the package dataset-fashion-mnist of Debian")
    source = load_source(config.data.name)
    [images] = source.train.map(lambda image, _: image).batch(source.train_examples)
    pixels = keras.ops.convert_to_numpy(images)
    assert pixels.mean() / 255 == pytest.approx(config.data.mean[0], abs=tolerance)
    assert pixels.std() / 255 == pytest.approx(config.data.std[0], abs=tolerance)
