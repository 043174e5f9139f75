"""Loading and saving weights: exactly, whole or not at all, and with errors that list."""

import logging

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from reszoo.models import (
    Scheme,
    create_model,
    freeze_backbone,
    load_weights,
    named_weights,
    save_weights,
)
from reszoo.models.weight_names import SCHEMES

safetensors = pytest.importorskip(
    "safetensors.numpy", reason="safetensors is not installed (extra: weights)"
)


def tiny(name="resnet18", **options):
    options = {"num_classes": 3, "input_shape": (32, 32, 3), "width": 8} | options
    model = create_model(name, **options)
    rng = np.random.default_rng(len(model.weights))
    for weight in model.weights:
        weight.assign(rng.uniform(0.1, 1.0, weight.shape))
    return model


def fresh(name="resnet18", **options):
    options = {"num_classes": 3, "input_shape": (32, 32, 3), "width": 8} | options
    return create_model(name, **options)


def assert_same_weights(first, second):
    second = named_weights(second)
    for name, weight in named_weights(first).items():
        np.testing.assert_array_equal(weight, second[name], err_msg=name)


def images(channels=3):
    return np.random.default_rng(0).normal(size=(2, 32, 32, channels)).astype("float32")


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("resnet18", "reszoo"),
        ("resnet18", "torchvision"),
        ("resnet50d", "timm"),
        ("seresnet50", "timm"),
        ("resnet50v2", "timm"),
        ("wide_resnet16_8", "timm"),
        ("residual_mlp", "reszoo"),
    ],
)
def test_saved_and_loaded_bit_for_bit(name, format, tmp_path):
    options = {"width": 8} if name == "residual_mlp" else {}
    model, path = tiny(name, **options), tmp_path / "weights.safetensors"
    save_weights(model, path, format=format)
    other = fresh(name, **options)
    scheme = format if format != "timm" else None
    assert load_weights(other, path, scheme) == []
    assert_same_weights(model, other)
    assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]


def test_names_are_torchvisions(tmp_path):
    save_weights(tiny(), tmp_path / "weights.safetensors", format="torchvision")
    arrays = safetensors.load_file(tmp_path / "weights.safetensors")
    assert arrays["conv1.weight"].shape == (8, 3, 7, 7)
    assert arrays["layer2.0.downsample.0.weight"].shape == (16, 8, 1, 1)
    assert arrays["layer4.1.bn2.running_var"].shape == (64,)
    assert arrays["fc.weight"].shape == (3, 64)


@pytest.mark.parametrize("shortcut", ["stop_gradient", "constant_scale", "none"])
def test_names_do_not_depend_on_what_wraps_the_shortcut(shortcut, tmp_path):
    model = tiny(shortcut=shortcut)
    save_weights(model, tmp_path / "weights.safetensors", format="torchvision")
    other = fresh(shortcut=shortcut)
    load_weights(other, tmp_path / "weights.safetensors")
    assert_same_weights(model, other)


def test_a_saved_and_loaded_model_keeps_its_names(tmp_path):
    model = tiny("resnet50d", drop_path=0.1, squeeze_excitation=4)
    model.save(tmp_path / "model.keras")
    other = fresh("resnet50d", squeeze_excitation=4)
    assert load_weights(other, tmp_path / "model.keras") == []
    assert_same_weights(other, model)


def test_a_mismatch_lists_everything_and_changes_nothing(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(tiny(), path, format="torchvision")
    arrays = safetensors.load_file(path)
    del arrays["layer1.0.bn1.bias"]
    arrays["layer1.0.bn3.bias"] = np.zeros(8, "float32")
    arrays["layer3.0.conv1.weight"] = np.zeros((5, 16, 3, 3), "float32")
    safetensors.save_file(arrays, path)
    model = fresh()
    before = model.get_weights()
    with pytest.raises(ValueError, match="nothing was changed") as error:
        load_weights(model, path)
    message = str(error.value)
    assert "Missing (1): stage1_block1/branch/norm1/beta" in message
    assert "Unexpected (1): layer1.0.bn3.bias" in message
    assert (
        "Wrongly shaped (1): stage3_block1/branch/conv1/kernel is (3, 3, 16, 5), expected "
        "(3, 3, 16, 32)" in message
    )
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_head_for_other_classes_stays_as_initialised_and_that_is_said(caplog):
    source, model = tiny(), fresh(num_classes=7)
    head = model.get_layer("logits").get_weights()
    with caplog.at_level(logging.WARNING):
        notes = load_weights(model, source)
    assert notes == ["Head left as initialised: the source has none for as many classes."]
    assert notes[0] in caplog.text
    for old, new in zip(head, model.get_layer("logits").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(
        model.get_layer("stage4_block2").get_weights()[0],
        source.get_layer("stage4_block2").get_weights()[0],
    )


def test_a_head_without_a_bias_is_one_with_a_bias_of_zeros(tmp_path):
    small = {"blocks": (1,), "head_bias": False}
    source, path = tiny(**small), tmp_path / "weights.safetensors"
    save_weights(source, path, format="torchvision")
    np.testing.assert_array_equal(safetensors.load_file(path)["fc.bias"], np.zeros(3))
    other = fresh(**small)
    assert load_weights(other, path) == []
    assert_same_weights(source, other)
    model = tiny(blocks=(1,))
    assert load_weights(model, source) == ["The source's head has no bias: the model's is zero."]
    np.testing.assert_allclose(model(images()), source(images()), rtol=1e-5)
    with pytest.raises(ValueError, match=r"Unexpected \(1\): logits/bias"):
        load_weights(other, tiny(blocks=(1,)))
    assert len(load_weights(fresh(num_classes=7, **small), model)) == 1
    assert len(load_weights(fresh(num_classes=7, blocks=(1,)), source)) == 1


def theirs_of(model):
    """Returns a model's weights with names of one's own, laid out as in torch."""
    arrays = {}
    for name, weight in named_weights(model).items():
        array = np.asarray(weight)
        if name.endswith("kernel"):
            array = np.moveaxis(array, (-1, -2), (0, 1))
        arrays[f"net.{name.replace('/', '.').upper()}"] = array
    return arrays


def test_weights_of_any_name_are_taken_with_a_scheme(tmp_path):
    source = tiny("resnet50d", blocks=(1, 1))
    scheme = Scheme("mine", lambda name, names: f"net.{name.replace('/', '.').upper()}", torch=True)
    arrays = theirs_of(source)
    safetensors.save_file(arrays | {}, tmp_path / "weights.safetensors")
    for given in (arrays, {f"module.{key}": arrays[key] for key in arrays}, {"state_dict": arrays}):
        other = fresh("resnet50d", blocks=(1, 1))
        assert load_weights(other, given, scheme) == []
        assert_same_weights(source, other)
    assert load_weights(other, tmp_path / "weights.safetensors", scheme) == []
    with pytest.raises(ValueError, match=r"named like no ResNet.*Give load_weights a scheme"):
        load_weights(other, arrays)


@pytest.mark.parametrize("convert", [np.asarray, tf.constant, tf.Variable, keras.Variable, list])
def test_a_dictionary_of_arrays_of_any_kind_is_taken(convert):
    source, other = tiny(blocks=(1,)), fresh(blocks=(1,))
    weights = {name: np.asarray(v) for name, v in named_weights(source).items()}
    arrays = {
        name: array.tolist() if convert is list else convert(array)
        for name, array in weights.items()
    }
    assert load_weights(other, arrays) == []
    assert_same_weights(source, other)
    renamed = {f"a.{name}": array for name, array in weights.items()}
    fresh_again = fresh(blocks=(1,))
    assert load_weights(fresh_again, renamed, lambda name: f"a.{name}") == []
    assert_same_weights(source, fresh_again)


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        (lambda name: "same", "the name 'same', which another weight has"),
        (lambda name: 3, "the name 3, which is no string"),
        (lambda name: None, r"Missing \(\d+\)"),
        ("caffe", "or a function that returns"),
    ],
)
def test_a_scheme_that_names_no_weight_of_its_own_is_refused(scheme, message):
    model = fresh(blocks=(1,))
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        load_weights(model, dict(named_weights(model)), scheme)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"w": None}, "'w' in the dictionary"),
        ({"w": "text"}, "'w' in the dictionary"),
        ({"w": [[1.0], [1.0, 2.0]]}, "'w' in the dictionary"),
        ({3: np.zeros(2)}, "must be strings, but the dictionary has 3"),
        ({"w": np.array([1.0, np.nan])}, "in the dictionary are not finite: w"),
        ({"w": np.zeros(3, bool)}, "must be of floating-point"),
        ({}, "named like no ResNet"),
    ],
)
def test_a_dictionary_of_other_things_is_refused(entry, message):
    with pytest.raises(ValueError, match=message):
        load_weights(fresh(blocks=(1,)), entry)


def test_a_model_without_a_head_leaves_out_the_sources():
    source, model = tiny(), fresh(num_classes=0)
    assert load_weights(model, source) == ["The source's head was left out: the model has none."]
    features = keras.Model(source.input, source.get_layer("pool").output)
    np.testing.assert_array_equal(model(images()), features(images()))


def test_a_grey_image_gives_what_three_equal_channels_gave():
    source, model = tiny(), fresh(input_shape=(32, 32, 1))
    notes = load_weights(model, source)
    assert notes == ["First convolution adapted from 3 to 1 image channels."]
    grey = images(1)
    np.testing.assert_allclose(model(grey), source(np.repeat(grey, 3, -1)), rtol=1e-4)


def test_more_channels_of_one_value_give_what_three_gave():
    source, model = tiny(), fresh(input_shape=(32, 32, 6))
    load_weights(model, source)
    grey = images(1)
    np.testing.assert_allclose(
        model(np.repeat(grey, 6, -1)), source(np.repeat(grey, 3, -1)), rtol=1e-4
    )


def test_keras_applications_h5(tmp_path):
    """The layout of the files that keras.applications downloads, with biases and its epsilon."""
    rng = np.random.default_rng(0)
    theirs = keras.applications.ResNet50(
        weights=None, input_shape=(32, 32, 3), classes=3, classifier_activation=None
    )
    for weight in theirs.weights:
        weight.assign(rng.uniform(0.1, 0.2, weight.shape))
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.attrs["layer_names"] = [layer.name for layer in theirs.layers]
        for layer in theirs.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = names
            for name, weight in zip(names, layer.weights, strict=True):
                group[name] = np.asarray(weight)
    model = create_model("resnet50v1", num_classes=3, input_shape=(32, 32, 3))
    assert load_weights(model, tmp_path / "weights.h5") == []
    np.testing.assert_allclose(model(images()), theirs(images()), rtol=1e-4)


def test_hugging_face_hub_from_the_local_cache(tmp_path, monkeypatch):
    constants = pytest.importorskip(
        "huggingface_hub.constants", reason="huggingface_hub is not installed (extra: weights)"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--timm--resnet18.a1_in1k"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    source, model = tiny(), fresh()
    save_weights(source, snapshot / "model.safetensors", format="timm")
    assert load_weights(model, "hf://timm/resnet18.a1_in1k") == []
    assert_same_weights(source, model)
    with pytest.raises(ValueError, match=r"hf://timm/resnet34.a1_in1k' could not be had"):
        load_weights(model, "hf://timm/resnet34.a1_in1k")
    with pytest.raises(ValueError, match="hf://OWNER/NAME"):
        load_weights(model, "hf://resnet18")


def test_keras_hub_preset(tmp_path):
    keras_hub = pytest.importorskip(
        "keras_hub", reason="keras-hub is not installed (extra: references)"
    )
    backbone = keras_hub.models.ResNetBackbone(
        [64], [7], [64, 128], [1, 1], [1, 2], "basic_block", image_shape=(32, 32, 3)
    )
    backbone.save_to_preset(tmp_path / "backbone")
    options = {"width": 64, "blocks": (1, 1)}
    model = fresh(num_classes=0, **options)
    assert load_weights(model, f"keras_hub://{tmp_path / 'backbone'}") == []
    pooled = keras.layers.GlobalAveragePooling2D()(backbone(images()))
    np.testing.assert_allclose(model(images()), pooled, rtol=1e-4, atol=1e-5)

    classifier = keras_hub.models.ResNetImageClassifier(backbone=backbone, num_classes=3)
    classifier.save_to_preset(tmp_path / "classifier")
    model = fresh(**options)
    assert load_weights(model, f"keras_hub://{tmp_path / 'classifier'}") == []
    np.testing.assert_allclose(model(images()), classifier(images()), rtol=1e-4, atol=1e-5)


def test_a_frozen_backbones_batch_norms_stay_as_they_are_in_training():
    model = tiny()
    freeze_backbone(model)
    before = {name: np.array(weight) for name, weight in named_weights(model).items()}
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images(), np.array([0, 1]), epochs=2, verbose=0)
    changed = {
        name
        for name, weight in named_weights(model).items()
        if np.any(before[name] != np.array(weight))
    }
    assert changed == {"logits/kernel", "logits/bias"}
    np.testing.assert_array_equal(model(images(), training=True), model(images(), training=False))


def test_freezing_without_a_head_is_refused():
    with pytest.raises(ValueError, match="no head"):
        freeze_backbone(fresh(num_classes=0))


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    save_weights(tiny(), path)
    old = path.read_bytes()

    def fail(arrays, partial, metadata):
        partial.write_bytes(old[:100])
        raise OSError("No space left on device")

    monkeypatch.setattr(safetensors, "save_file", fail)
    with pytest.raises(OSError, match="No space"):
        save_weights(fresh(), path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "path", "format", "message"),
    [
        ({}, "weights.pt", "torchvision", "safetensors"),
        ({}, "weights.safetensors", "caffe", '"timm"'),
        ({"gate": "exclusive"}, "weights.safetensors", "torchvision", "stage1_block1/gate"),
        ({"preactivation": True}, "weights.safetensors", "torchvision", "no name for"),
        ({"norm": None}, "weights.safetensors", "torchvision", "no bias, but 20 of .* norm="),
        ({"norm": None}, "weights.safetensors", "timm", "no bias, but 20 of"),
        ({"norm": None, "preactivation": True}, "w.safetensors", "timm", "no bias, but 20 of"),
        ({"norm": "group"}, "weights.safetensors", "torchvision", "are not standardized"),
        ({"norm": "group"}, "weights.safetensors", "timm", "are not standardized"),
    ],
)
def test_what_cannot_be_saved_is_refused(options, path, format, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save_weights(fresh(**options), tmp_path / path, format=format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.safetensors", None, "There is no file"),
        ("weights.onnx", b"", "is no ONNX file: it holds nothing"),
        ("weights.tflite", b"", "is none of"),
        ("weights.safetensors", b"not a header", "no safetensors file"),
        ("weights.h5", b"not hdf5", "no HDF5 file"),
    ],
)
def test_sources_that_cannot_be_read(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_weights(fresh(), tmp_path / name)


def test_weights_named_like_nothing_known_are_refused(tmp_path):
    safetensors.save_file({"blocks.0.w": np.zeros(3, "float32")}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"blocks\.0\.w"):
        load_weights(fresh(), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="no scheme"):
        load_weights(fresh(), tmp_path / "w.safetensors", scheme="caffe")


def test_keras_3_weight_files_say_what_to_do(tmp_path):
    fresh().save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError, match="give that model as source"):
        load_weights(fresh(), tmp_path / "model.weights.h5")


def test_schemes_give_each_weight_a_name_of_its_own():
    for name, schemes in (
        ("resnet50d", ("torchvision", "timm", "keras_hub")),
        ("resnet50v2_keras", ("keras_applications",)),
    ):
        names = frozenset(named_weights(fresh(name)))
        for scheme in schemes:
            keys = [SCHEMES[scheme].key(name, names) for name in names]
            assert None not in keys
            assert len(set(keys)) == len(names)


def test_weights_can_be_loaded_inside_a_distribution_strategy():
    source = tiny()
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = fresh()
        load_weights(model, source)
    assert_same_weights(source, model)


@pytest.mark.parametrize("options", [{}, {"squeeze_excitation": 2}, {"shortcut": "gated"}])
def test_a_frozen_model_is_frozen_after_loading_and_its_optimizer_fits(tmp_path, options):
    model = create_model("resnet18", num_classes=2, input_shape=(16, 16, 3), width=4, **options)
    freeze_backbone(model)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [weight.path for weight in loaded.trainable_variables] == [
        "logits/kernel",
        "logits/bias",
    ]
    assert len(loaded.optimizer.variables) == len(model.optimizer.variables)
