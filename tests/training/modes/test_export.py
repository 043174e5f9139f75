import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from reszoo.data import load_source
from reszoo.models import ResNet
from reszoo.training import export_run
from reszoo.training.modes import export


def digits(number):
    images, _ = next(iter(load_source("digits").test.batch(number)))
    return images.numpy()


def test_the_saved_model_answers_the_same(config, workdir):
    path = export_run(config, workdir)["savedmodel"]
    exported = tf.saved_model.load(path)
    model = keras.models.load_model(workdir / "model.keras")
    np.testing.assert_allclose(exported.serve(digits(7)), model(digits(7)), rtol=1e-4, atol=1e-5)


def test_the_onnx_model_answers_the_same(config, workdir, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = export_run(config, workdir, ["onnx"])["onnx"]
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(None, {session.get_inputs()[0].name: digits(7)})
    model = keras.models.load_model(workdir / "model.keras")
    np.testing.assert_allclose(found, model(digits(7)), rtol=1e-4, atol=1e-5)
    assert f"onnx: {path}, logits differ by" in capsys.readouterr().out


def test_the_tflite_model_answers_the_same_about_one_image(config, workdir):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    path = export_run(config, workdir, ["tflite"])["tflite"]
    interpreter = litert.Interpreter(str(path))
    answer = interpreter.get_signature_runner("serving_default")
    (name,) = answer.get_input_details()
    (found,) = answer(**{name: digits(1)}).values()
    model = keras.models.load_model(workdir / "model.keras")
    np.testing.assert_allclose(found, model(digits(1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_resnet_of_mixed_precision_is_exported_in_every_format(config, tmp_path, policy):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("ai_edge_litert")
    keras.config.set_dtype_policy(policy)
    resnet = ResNet("tiny", "one block", (1,), stem="cifar", width=4)
    model = resnet(num_classes=10, input_shape=(8, 8, 1))
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")
    paths = export_run(config, tmp_path, ["savedmodel", "onnx", "tflite"])
    assert {path.name for path in (tmp_path / "export").iterdir()} == {
        "savedmodel",
        "model.onnx",
        "model.tflite",
    }
    # Again: what is there is replaced.
    assert export_run(config, tmp_path, ["savedmodel"])["savedmodel"] == paths["savedmodel"]


@pytest.fixture
def resnet(tmp_path):
    """A residual network in the work directory, its normalizations as after a training."""
    network = ResNet("tiny", "one block", (1,), stem="cifar", width=4)
    model = network(num_classes=10, input_shape=(8, 8, 1))
    for weight in model.weights:
        weight.assign(np.random.default_rng(0).uniform(0.2, 1.0, weight.shape))
    model.save(tmp_path / "model.keras")
    return model


def test_a_folded_model_answers_the_same(config, tmp_path, resnet, capsys):
    exported = tf.saved_model.load(export_run(config, tmp_path, fold=True)["savedmodel"])
    np.testing.assert_allclose(exported.serve(digits(7)), resnet(digits(7)), rtol=1e-4)
    assert len(exported.variables) == len(resnet.weights) - 3 * 4 + 3
    assert "folded: 3 batch normalizations, logits differ by" in capsys.readouterr().out


def test_a_folded_model_that_answers_differently_is_not_written(
    config, tmp_path, resnet, monkeypatch
):
    monkeypatch.setattr(export, "fold_normalization", keras.models.clone_model)
    with pytest.raises(ValueError, match=r"^The logits of the folded model differ by up to"):
        export_run(config, tmp_path, fold=True)
    assert not (tmp_path / "export").exists()


def test_a_model_that_answers_differently_is_not_written(config, workdir, monkeypatch):
    off = export.FORMATS["savedmodel"].answers
    wrong = export.Format("savedmodel", "tf_saved_model", lambda *given: off(*given) + 0.01)
    monkeypatch.setitem(export.FORMATS, "savedmodel", wrong)
    with pytest.raises(ValueError, match=r"differ by up to 0\.01"):
        export_run(config, workdir)
    assert not list((workdir / "export").iterdir())


def test_bad_formats(config, workdir, monkeypatch):
    with pytest.raises(ValueError, match=r"no format .h5.\. Give savedmodel, onnx, tflite"):
        export_run(config, workdir, ["h5"])
    with pytest.raises(ValueError, match="no format to export to"):
        export_run(config, workdir, [])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"onnxruntime, which is missing.*reszoo\[export\]"):
        export_run(config, workdir, ["onnx"])
    assert not (workdir / "export").exists()
