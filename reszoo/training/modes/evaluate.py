"""Tests the model of a finished run."""

from pathlib import Path

from ml_collections import ConfigDict

from reszoo.files import as_path
from reszoo.names import printable
from reszoo.training.config import checked
from reszoo.training.confusion import (
    CONFUSION_FILE,
    ConfusionCounts,
    worst_classes,
    write_confusion,
)
from reszoo.training.data_description import check_not_trained_on, signature_of
from reszoo.training.loop import evaluate
from reszoo.training.modes.trained_model import check_fits, load_model
from reszoo.training.run import create_pipeline


def evaluate_run(config: ConfigDict, workdir: str | Path) -> dict[str, float]:
    """Tests the model of a run, prints its figures, and returns them.

    The confusion matrix goes to `confusion.csv` in the work directory, and up to five classes that
    the model does worst on are printed.

    Args:
        config: The configuration of the run.
        workdir: Its work directory.

    Raises:
        ValueError: If the configuration is not one, there is no model, it does not fit the
            data, or a test image was trained on.
    """
    config = checked(config)
    model, pipeline = load_model(workdir), create_pipeline(config)
    check_fits(model, signature_of(pipeline), workdir)
    check_not_trained_on(as_path(workdir), signature_of(pipeline))
    names = pipeline.source.class_names
    confusion = ConfusionCounts(len(names))
    figures = evaluate(model, pipeline, callbacks=[confusion])
    for name, value in figures.items():
        print(f"test {name.replace('_', ' ')}: {value:.4f}")
    for of_class in worst_classes(confusion.counts, names):
        print(_line(of_class))
    path = as_path(workdir) / CONFUSION_FILE
    write_confusion(path, confusion.counts, names)
    print(f"confusion matrix: {path}")
    return figures


def _line(of_class):
    return (
        f"class {printable(of_class.name)}: {of_class.accuracy:.2%} of {of_class.examples}, "
        f"the others mostly taken for {printable(of_class.taken_for)}"
    )
