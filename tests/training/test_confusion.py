import csv

import numpy as np

from reszoo.training.confusion import worst_classes, write_confusion

COUNTS = np.array([[8, 0, 2], [0, 10, 0], [1, 4, 5]])


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
