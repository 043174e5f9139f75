import csv

import keras
import numpy as np
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from reszoo.data import Pipeline, load_source
from reszoo.training.confusion import ConfusionCounts, worst_classes, write_confusion
from reszoo.training.loop import evaluate

COUNTS = np.array([[8, 0, 2], [0, 10, 0], [1, 4, 5]])


def test_the_counts_are_those_of_scikit_learn(workdir):
    model = keras.models.load_model(workdir / "model.keras")
    source = load_source("digits")
    confusion = ConfusionCounts(10)
    # The last batch has 60 images of 100.
    for _ in range(2):
        evaluate(model, Pipeline(source, batch_size=100), callbacks=[confusion])
    images, labels = next(iter(source.test.batch(360)))
    answers = model.predict(images, verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(confusion.counts, sklearn_confusion_matrix(labels, answers))


def test_the_worst_classes_come_first_and_those_without_a_mistake_not_at_all():
    worst = worst_classes(COUNTS, ["cat", "dog", "cow"])
    assert [(of.name, of.accuracy, of.taken_for) for of in worst] == [
        ("cow", 0.5, "dog"),
        ("cat", 0.8, "cow"),
    ]
    assert [of.name for of in worst_classes(COUNTS, ["cat", "dog", "cow"], number=1)] == ["cow"]
    assert worst_classes(np.diag([3, 0]), ["cat", "dog"]) == []


def test_the_file_has_names_with_commas_whole(tmp_path):
    write_confusion(tmp_path / "confusion.csv", COUNTS, ["cat, tabby", "dog", "cow"])
    with (tmp_path / "confusion.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["true class", "cat, tabby", "dog", "cow"]
    assert rows[1] == ["cat, tabby", "8", "0", "2"]
    assert rows[3] == ["cow", "1", "4", "5"]
