"""The summary of a run: a table for the terminal, and the file `summary.json`."""

import dataclasses
import math
import os
import shlex
import statistics
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from reszoo.data import Pipeline
from reszoo.files import as_path, write_whole
from reszoo.json_files import to_json
from reszoo.names import clipped, printable
from reszoo.training.confusion import ClassFigures
from reszoo.training.gradients_summary import gradients_in_words

COLUMNS = 80  # of a terminal
NAMES = 16  # columns of the names of rows
LETTERS = 25  # of a class name; each may be two columns wide


def summarize(
    model: keras.Model,
    pipeline: Pipeline,
    data: str,
    epochs: Sequence[dict[str, Any]],
    worst: Sequence[ClassFigures] = (),
    gradients: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns the summary of a run.

    | key | meaning |
    |---|---|
    | `model`, `parameters`, `trainable_parameters` | name and sizes of the model |
    | `data`, `classes`, `train_images`, `test_images`, `image_shape` | the data set |
    | `epochs`, `steps`, `batch_size` | length of the training |
    | `test_accuracy`, `test_top5_accuracy`, `test_loss` | after the last epoch |
    | `best_test_accuracy`, `best_epoch` | the first epoch of the best test accuracy |
    | `train_seconds` | time of the training steps, over all starts; without tests and start-up |
    | `images_per_second` | training images; the median of the epochs |
    | `worst_classes` | classes with mistakes, the worst first |
    | `gradients` | what `reszoo.training.gradients_summary` has of them; `None` if not recorded |

    Args:
        model: The trained model.
        pipeline: The batches of the run.
        data: Name of the data set.
        epochs: The lines of the metrics file, by name of figure.
        worst: Classes that `reszoo.training.confusion.worst_classes` returned.
        gradients: The summary of the gradient log, if there is one.
    """
    last = epochs[-1]
    best = max(epochs, key=lambda line: line["test_accuracy"])
    return {
        "model": model.name,
        "parameters": model.count_params(),
        "trainable_parameters": sum(math.prod(weight.shape) for weight in model.trainable_weights),
        "data": data,
        "classes": pipeline.source.num_classes,
        "train_images": pipeline.source.train_examples,
        "test_images": pipeline.source.test_examples,
        "image_shape": list(pipeline.image_shape),
        "epochs": last["epoch"],
        "steps": last["step"],
        "batch_size": pipeline.batch_size,
        "test_accuracy": last["test_accuracy"],
        "test_top5_accuracy": last["test_top5_accuracy"],
        "test_loss": last["test_loss"],
        "best_test_accuracy": best["test_accuracy"],
        "best_epoch": best["epoch"],
        **_speed(epochs, pipeline.steps_per_epoch * pipeline.batch_size),
        "worst_classes": [
            dataclasses.asdict(of_class) | {"accuracy": of_class.accuracy} for of_class in worst
        ],
        "gradients": gradients,
    }


def _speed(epochs: Sequence[Mapping[str, Any]], images_per_epoch: int) -> dict[str, float]:
    rates = [line["images_per_second"] for line in epochs]
    # No rate is known of an epoch whose run was stopped between its last batch and its test.
    known = [rate for rate in rates if rate > 0]
    median = statistics.median(known) if known else 0.0
    seconds = (
        sum(images_per_epoch / (rate if rate > 0 else median) for rate in rates) if known else 0.0
    )
    return {"train_seconds": seconds, "images_per_second": median}


def write_summary(path: str | os.PathLike, summary: dict[str, Any]) -> None:
    """Writes a summary as JSON.

    Args:
        path: The file.
        summary: A summary that `summarize` returned.
    """
    write_whole(as_path(path), to_json(summary, indent=2) + "\n")


def as_table(summary: dict[str, Any], workdir: str | os.PathLike, columns: float = COLUMNS) -> str:
    """Returns a summary as lines that fit a terminal, but for commands, which are not broken.

    Args:
        summary: A summary that `summarize` returned.
        workdir: The work directory, for the commands that show more.
        columns: The number of columns of the terminal, of which 80 are used at most.
    """
    gradients, directory = summary["gradients"], shlex.quote(str(workdir))
    rows = {
        "model": _sizes(summary),
        "data": _data(summary),
        "training": f"{summary['epochs']:,} epoch{'s' * (summary['epochs'] != 1)}, "
        f"{summary['steps']:,} steps, "
        f"batches of {summary['batch_size']:,} images",
        "test accuracy": f"{summary['test_accuracy']:.2%} after the last epoch; "
        f"at best {summary['best_test_accuracy']:.2%}, after epoch {summary['best_epoch']}",
        "top-5 accuracy": f"{summary['test_top5_accuracy']:.2%}",
        "worst classes": ", ".join(
            f"{clipped(printable(of_class['name']), LETTERS)} ({of_class['accuracy']:.1%})"
            for of_class in summary["worst_classes"]
        ),
        "speed": f"{_time(summary['train_seconds'])} of training steps, "
        f"{summary['images_per_second']:,.0f} images/s",
        "gradients": gradients_in_words(gradients) if gradients else "",
    }
    commands = {
        "report": f"python -m reszoo.report {directory}" if gradients else "",
        "TensorBoard": f"tensorboard --logdir {directory}",
    }
    room = max(int(min(columns, COLUMNS)) - NAMES, NAMES)
    lines = [_row(name, text, room) for name, text in rows.items() if text]
    return "\n".join([*lines, *(f"{n:<{NAMES}}{text}" for n, text in commands.items() if text)])


def _sizes(summary: Mapping[str, Any]) -> str:
    parameters, trained = summary["parameters"], summary["trainable_parameters"]
    return f"{summary['model']}, {parameters:,} parameters, {trained:,} of them trained"


def _data(summary: Mapping[str, Any]) -> str:
    shape = "x".join(map(str, summary["image_shape"]))
    return (
        f"{summary['data']}: {summary['train_images']:,} training and "
        f"{summary['test_images']:,} test images of {shape}, {summary['classes']:,} classes"
    )


def _row(name: str, text: str, room: int) -> str:
    # A letter two columns wide counts as two.
    wide = "".join(f"{each}\0" if _is_wide(each) else each for each in text)
    lines = textwrap.wrap(wide, room, break_long_words=False, break_on_hyphens=False)
    rows = (f"{'' if index else name:<{NAMES}}{line}" for index, line in enumerate(lines))
    return "\n".join(rows).replace("\0", "")


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def _time(seconds: float) -> str:
    """Returns a time in its two largest units."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
