"""Layers, models, log, alarms, report and page work where TensorFlow is not installed."""

from tests.hiding import run_without

HIDDEN = ["tensorflow", "tensorflow_datasets"]


def test_all_but_training_works_without_tensorflow(tmp_path):
    code = "import runpy\nrunpy.run_path('tests/without_tensorflow.py', run_name='__main__')"
    done = run_without(HIDDEN, code, str(tmp_path), KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stdout + done.stderr


def test_on_another_backend_nothing_imports_tensorflow():
    rooms = "reszoo.models, reszoo.gradients, reszoo.report.page, reszoo.tensorboard.plugin"
    done = run_without(
        [], f"import sys, {rooms}\nprint('tensorflow' in sys.modules)", KERAS_BACKEND="jax"
    )
    assert done.stdout == "False\n", done.stderr


def test_the_layers_are_known_to_keras_whichever_is_imported_first():
    known = (
        "from keras.src.saving.object_registration import GLOBAL_CUSTOM_OBJECTS\n"
        "print('reszoo>ResidualBlock' in GLOBAL_CUSTOM_OBJECTS)"
    )
    looked_for = "import importlib.util, reszoo\nimportlib.util.find_spec('keras')\nimport keras"
    for imports in ("import keras, reszoo", looked_for):
        done = run_without([], f"{imports}\n{known}", KERAS_BACKEND="jax")
        assert done.stdout == "True\n", done.stderr


def test_reading_a_configuration_imports_no_keras():
    code = "import sys, reszoo.training.config_file\nprint('keras' in sys.modules)"
    done = run_without([], code, KERAS_BACKEND="jax")
    assert done.stdout == "False\n", done.stderr


def test_without_a_backend_one_sentence_says_what_to_install():
    done = run_without(HIDDEN, "from reszoo import ResidualBlock", KERAS_BACKEND="tensorflow")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "pip install 'reszoo[tensorflow]'" in last
    assert "KERAS_BACKEND" in last


def test_train_without_tensorflow_is_one_line_that_says_what_to_install(tmp_path):
    code = "import runpy\nrunpy.run_path('train.py', run_name='__main__')"
    arguments = ["--config=configs/digits_resnet18.py", f"--workdir={tmp_path / 'run'}"]
    done = run_without(HIDDEN, code, *arguments, KERAS_BACKEND="jax")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("train.py: ")
    assert line.endswith("pip install 'reszoo[tensorflow]'.")
