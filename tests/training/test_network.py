import keras
import numpy as np
import pytest
from ml_collections import ConfigDict

from reszoo import ResNet18, load_weights, save_weights
from reszoo.data import Pipeline, load_source
from reszoo.models import create_model
from reszoo.training.config import complete
from reszoo.training.network import create_network, with_normalization

PIPELINE = Pipeline(load_source("synthetic"), batch_size=64)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def network(mean=(), std=(), **model):
    model = {"name": "resnet18", "width": 4, "stem": "cifar", **model}
    return create_network(
        complete(ConfigDict({"model": model, "data": {"mean": mean, "std": std}})), PIPELINE
    )


def images():
    return np.random.default_rng(0).uniform(size=(2, 16, 16, 3)).astype("float32")


def test_normalization_is_that_of_the_images_before(tmp_path):
    normalizing, plain = network(MEAN, STD), network()
    assert load_weights(plain, normalizing) == []
    expected = plain((images() - np.array(MEAN)) / np.array(STD))
    np.testing.assert_allclose(normalizing(images()), expected, rtol=1e-4, atol=1e-5)
    assert normalizing.name == plain.name
    normalizing.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(images()), normalizing(images()))
    assert load_weights(plain, tmp_path / "model.keras") == []


def test_other_models_are_normalized_too():
    model = create_model("residual_mlp", num_classes=3, input_shape=(4, 4, 3))
    assert with_normalization(model, MEAN, STD)(np.ones((2, 4, 4, 3))).shape == (2, 3)


def test_normalization_is_in_single_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    layer = network(MEAN, STD).get_layer("normalization")
    assert layer.compute_dtype == "float32"


@pytest.mark.parametrize(
    ("mean", "std"), [((0.5,), (0.2,)), (MEAN, ()), ((), STD), (MEAN, (0.1, 0.0, 0.1))]
)
def test_normalizations_that_do_not_fit(mean, std):
    with pytest.raises(ValueError, match=r"data\.mean and data\.std must be 3 numbers each"):
        network(mean, std)


def test_weights_for_other_classes_leave_a_new_head(tmp_path, caplog):
    source = ResNet18(num_classes=3, input_shape=(16, 16, 3), stem="cifar", width=4)
    save_weights(source, tmp_path / "weights.safetensors")
    model = network(weights=str(tmp_path / "weights.safetensors"))
    assert "Head left as initialised" in caplog.text
    first, other = (m.get_layer("stem").get_weights() for m in (model, source))
    np.testing.assert_array_equal(first[0], other[0])
    assert model.output_shape == (None, 10)


def test_a_frozen_network_trains_its_head_alone():
    model = network(MEAN, STD, frozen=True)
    assert [weight.path for weight in model.trainable_weights] == ["logits/kernel", "logits/bias"]


def test_weights_that_are_not_there():
    with pytest.raises(ValueError, match=r"There is no file 'none.safetensors'"):
        network(weights="none.safetensors")
