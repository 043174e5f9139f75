"""Exports of a trained model for use without Keras."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import absl.logging
import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from reszoo.files import is_stored
from reszoo.keras_internals import sublayers
from reszoo.models import fold_normalization
from reszoo.training.config import checked
from reszoo.training.data_description import describe_data
from reszoo.training.modes.trained_model import check_fits, load_model
from reszoo.training.pipeline import create_pipeline
from reszoo.training.workdir import EXPORT_DIRECTORY

# Largest difference of logits, as a share of the largest logit: sums have another order.
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of exported models.

    Args:
        file: Name of the exported file or directory.
        name_in_keras: Keras's name of the format.
        answers: A function that loads an exported model and returns its logits of images.
        packages: Modules that the format needs beside TensorFlow.
        float32_only: Whether the model must compute in float32.
    """

    file: str
    name_in_keras: str
    answers: Callable[[Path, np.ndarray], np.ndarray]
    packages: tuple[str, ...] = ()
    float32_only: bool = False


def export_run(
    config: ConfigDict,
    workdir: str | os.PathLike,
    formats: Sequence[str] = ("savedmodel",),
    fold: bool = False,
) -> dict[str, Path]:
    """Exports the model of a run, and checks that the exported model gives the same logits.

    | format | file or directory in `export/` of the work directory | needs |
    |---|---|---|
    | `"savedmodel"` | `savedmodel/`, for TensorFlow and TensorFlow Serving | nothing more |
    | `"onnx"` | `model.onnx`, for ONNX Runtime | `reszoo[export]` |
    | `"tflite"` | `model.tflite`, for LiteRT (TensorFlow Lite) | `reszoo[export]` |

    All formats take float32 images in batches of any size. The check compares the logits of a batch
    of test images; a model that fails it is not written. A model trained in mixed precision is
    exported to ONNX and TFLite with float32 arithmetic, and compared with that.

    Args:
        config: The configuration of the run.
        workdir: Its work directory.
        formats: Names of formats, from the table.
        fold: Whether batch normalizations are folded into the convolutions before them, by
            `reszoo.models.fold_normalization`. The logits of the folded model are compared too.

    Returns:
        The path of the exported model, for each format.

    Raises:
        ValueError: If there is no model, a format is unknown, a package is missing, or a folded or
            exported model gives other logits.
    """
    config = checked(config)
    _check(formats)
    if is_stored(workdir):
        raise ValueError(
            f"Nothing is exported to {workdir}. Copy model.keras to a directory, and give that."
        )
    model = load_model(workdir)
    pipeline = create_pipeline(config)
    check_fits(model, describe_data(pipeline), workdir)
    images = next(iter(pipeline.test_batches()))[0].numpy()
    model = _folded(model, images) if fold else model
    directory = Path(workdir) / EXPORT_DIRECTORY
    directory.mkdir(exist_ok=True)
    paths = {}
    for name in formats:
        paths[name], difference = _export(model, name, images, directory)
        print(f"{name}: {paths[name]}, logits differ by {difference:.1g} at most")
    return paths


def _check(formats: Sequence[str]) -> None:
    if not formats:
        raise ValueError(f"There is no format to export to. Give {', '.join(FORMATS)}.")
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"There is no format {name!r}. Give {', '.join(FORMATS)}.")
        for package in FORMATS[name].packages:
            if importlib.util.find_spec(package) is None:
                raise ValueError(
                    f"The format {name!r} needs the package {package.replace('_', '-')}, which is "
                    'missing. Install it with: pip install "reszoo[export]"'
                )


def _export(
    model: keras.Model, name: str, images: np.ndarray, directory: Path
) -> tuple[Path, float]:
    """Returns the path of the exported model, and the largest difference of its logits."""
    form = FORMATS[name]
    model = _in_float32(model) if form.float32_only else model
    expected = model(images, training=False)
    path = directory / form.file
    with tempfile.TemporaryDirectory(dir=directory) as partial, _without_noise():
        written = Path(partial) / form.file
        model.export(written, format=form.name_in_keras, verbose=False)
        found = form.answers(written, images)
        difference = _difference(
            f"model exported to {name!r}", np.float32(expected), np.float32(found)
        )
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(written, path)
    return path, difference


def _folded(model: keras.Model, images: np.ndarray) -> keras.Model:
    """Returns the model with folded normalizations, after comparing it with the model."""
    folded = fold_normalization(model)
    answers = [np.float32(_in_float32(one)(images, training=False)) for one in (model, folded)]
    difference = _difference("folded model", *answers)
    print(
        f"folded: {_normalizations(model) - _normalizations(folded)} batch normalizations, ", end=""
    )
    print(f"logits differ by {difference:.1g} at most")
    return folded


def _normalizations(model: keras.Model) -> int:
    return sum(isinstance(part, keras.layers.BatchNormalization) for part in sublayers(model))


def _difference(model: str, expected: Any, found: Any) -> float:
    difference = float(np.max(np.abs(expected - found)))
    # A comparison that a NaN fails.
    if not difference <= TOLERANCE * max(1, np.max(np.abs(expected))):
        raise ValueError(
            f"The logits of the {model} differ by up to {difference}, so it was not written."
        )
    return difference


def _in_float32(model: keras.Model) -> keras.Model:
    """Returns a model with the same weights that computes in float32."""
    text = json.dumps(keras.saving.serialize_keras_object(model))
    for policy in ("mixed_float16", "mixed_bfloat16"):
        text = text.replace(f'"{policy}"', '"float32"')
    same = keras.saving.deserialize_keras_object(json.loads(text))
    same.set_weights(model.get_weights())
    return same


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
    """Suppresses messages of the converters about gradients, which are not exported."""
    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Keras 3.15 asks NumPy whether it still has `np.object`, for tf2onnx.
            warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)
            yield
    finally:
        absl.logging.set_verbosity(verbosity)


def _answers_of_savedmodel(path: Path, images: np.ndarray) -> np.ndarray:
    exported = tf.saved_model.load(path)  # its function does not keep its variables alive
    return exported.serve(images)


def _answers_of_onnx(path: Path, images: np.ndarray) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (answers,) = session.run(None, {session.get_inputs()[0].name: images})
    return answers


def _answers_of_tflite(path: Path, images: np.ndarray) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    (argument,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(argument["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(argument["index"], images)
    interpreter.invoke()
    return interpreter.get_tensor(result["index"])


FORMATS = {
    "savedmodel": Format("savedmodel", "tf_saved_model", _answers_of_savedmodel),
    "onnx": Format(
        "model.onnx", "onnx", _answers_of_onnx, ("onnxruntime", "tf2onnx"), float32_only=True
    ),
    "tflite": Format(
        "model.tflite", "litert", _answers_of_tflite, ("ai_edge_litert",), float32_only=True
    ),
}
