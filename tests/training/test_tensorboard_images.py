import io

import numpy as np
import pytest

from reszoo.training.tensorboard_images import draw_confusion, draw_examples
from tests.odd_names import ODD_NAMES

NAMES = tuple("0123456789")


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def test_each_example_has_the_name_of_its_class_or_of_those_mixed():
    images, labels = np.zeros((40, 8, 8, 1)), np.arange(40) % 10
    assert titles(draw_examples(images, labels, NAMES)) == [*"0123456789" * 2, *"0123"]
    mixed = np.array([[0.25, 0, 0.75], [0, 1, 0]])
    assert titles(draw_examples(images[:2], mixed, ["a", "b", "c" * 20])) == [
        "c" * 10 + "… 75%\na 25%",
        "b",
    ]


def test_normalized_images_are_drawn_within_the_range():
    images = np.array([-2.0, 0.0, 2.0]).reshape(1, 1, 3, 1)
    figure = draw_examples(images, np.array([0]), NAMES)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array().ravel(), [0, 0.5, 1])


@pytest.mark.parametrize(("classes", "numbers", "names"), [(3, 5, 3), (30, 0, 30), (60, 0, 0)])
def test_many_classes_have_no_room_for_numbers_or_names(classes, numbers, names):
    counts = np.diag(np.full(classes, 9))
    counts[0, 1] = counts[1, 0] = 1
    figure = draw_confusion(counts, [f"class {index}" for index in range(classes)])
    axis = figure.axes[0]
    assert len(axis.texts) == numbers
    assert len([text for text in axis.get_yticklabels() if "class" in text.get_text()]) == names
    assert axis.get_title("left") == f"{9 * classes:,} of {9 * classes + 2:,} test images right"
    np.testing.assert_allclose(axis.images[0].get_array()[0, :2], [0.9, 0.1])


def test_names_of_classes_are_text_whatever_is_in_them():
    """Drawn without a warning, which here is an error."""
    labels = np.arange(len(ODD_NAMES))
    images = np.zeros((len(ODD_NAMES), 2, 2, 1))
    for figure in (
        draw_examples(images, labels, ODD_NAMES),
        draw_examples(images[-20:], labels[-20:], ODD_NAMES),
        draw_confusion(np.eye(len(ODD_NAMES), dtype=int), ODD_NAMES),
    ):
        figure.savefig(io.BytesIO())
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels[:3] == ["$a_$", r"$\frac{$", "_a"]
    mixed = draw_examples(images[:1], np.eye(len(ODD_NAMES))[:1] / 2 + 0.01, ODD_NAMES)
    assert mixed.axes[0].get_title().startswith("$a_$ 51%\n")
