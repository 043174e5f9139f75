"""Tests of a trained model."""

import os
from typing import Any

from ml_collections import ConfigDict

from reszoo.files import as_path
from reszoo.names import printable
from reszoo.training.callbacks.confusion_counts import ConfusionCounts
from reszoo.training.config import checked
from reszoo.training.confusion import ClassFigures, worst_classes, write_confusion
from reszoo.training.data_description import check_not_trained_on, describe_data
from reszoo.training.loop import evaluate
from reszoo.training.modes.trained_model import check_fits, load_model
from reszoo.training.pipeline import create_pipeline
from reszoo.training.workdir import CONFUSION_FILE


def evaluate_run(config: ConfigDict, workdir: str | os.PathLike) -> dict[str, float]:
    """Tests the model of a run, prints its figures, and returns them.

    The confusion matrix is written to `confusion.csv` in the work directory, and up to five classes
    with the lowest accuracy are printed.

    Args:
        config: The configuration of the run.
        workdir: Its work directory.

    Raises:
        ValueError: If the configuration is not valid, there is no model, the model does not fit the
            data, or a test image was trained on.
    """
    config = checked(config)
    model, pipeline = load_model(workdir), create_pipeline(config)
    check_fits(model, describe_data(pipeline), workdir)
    check_not_trained_on(as_path(workdir), describe_data(pipeline))
    names = pipeline.source.class_names
    confusion = ConfusionCounts(len(names))
    figures = evaluate(model, pipeline, callbacks=[confusion])
    for name, value in figures.items():
        print(f"test {name.replace('_', ' ')}: {value:.4f}")
    counts: Any = confusion.counts
    for of_class in worst_classes(counts, names):
        print(_line(of_class))
    path = as_path(workdir) / CONFUSION_FILE
    write_confusion(path, counts, names)
    print(f"confusion matrix: {path}")
    return figures


def _line(of_class: ClassFigures) -> str:
    return (
        f"class {printable(of_class.name)}: {of_class.accuracy:.2%} of {of_class.examples}, "
        f"the others mostly taken for {printable(of_class.taken_for or 'none')}"
    )
