"""Images in folders, one folder a class."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from reszoo.data.images import decode_image

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
TEST_SHARE = 0.2
CHANNELS = 3


def folder_examples(
    path: str | Path, corrupt_images: int = 0
) -> tuple[dict[str, tuple[list[str], list[int]]], tuple[str, ...]]:
    """Returns the files of a folder of images, split into training and test examples.

    `path` has one folder a class, or `train` and `test` (or `val`) with one folder a class each.
    In the first case a fifth of every class, at least one image, are the test examples; always the
    same ones. Every image is decoded once, so that what cannot be read is known before training.

    Args:
        path: The folder.
        corrupt_images: How many images that cannot be read are left out, with a warning that
            names them.

    Returns:
        The files and labels of `"train"` and `"test"`, and the names of the classes.

    Raises:
        ValueError: If a folder is missing, a class is empty or too small, the splits differ in
            their classes, or more images cannot be read.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"There is no folder {root}. Give one that has one folder a class.")
    test = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    if (root / "train").is_dir() and test:
        by_class = {"train": _files_by_class(root / "train"), "test": _files_by_class(test)}
        _check_same_classes(root, by_class)
        left = [corrupt_images]
        by_class = {name: _readable(files, left) for name, files in by_class.items()}
    else:
        by_class = _split(_readable(_files_by_class(root), [corrupt_images]))
    splits = {name: _flat(files) for name, files in by_class.items()}
    return splits, tuple(by_class["train"])


def decode(file: tf.Tensor) -> tf.Tensor:
    """Returns the image in a file, `(height, width, 3)` of `uint8`; gray and alpha become RGB.

    Args:
        file: Its name.
    """
    return decode_image(tf.io.read_file(file), CHANNELS)


def _files_by_class(folder):
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    if len(classes) < 2:
        raise ValueError(
            f"{folder} has {len(classes)} folders, but at least two classes are needed, with one "
            "folder each."
        )
    by_class = {
        path.name: sorted(
            str(file) for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES
        )
        for path in classes
    }
    _check_not_empty(by_class, folder)
    return by_class


def _check_not_empty(by_class, folder):
    empty = [name for name, files in by_class.items() if not files]
    if empty:
        raise ValueError(
            f"There is no image ({', '.join(IMAGE_SUFFIXES)}) of the class {empty[0]!r} in "
            f"{folder}. Remove its folder, or put images there."
        )


def _check_same_classes(root, by_class):
    differing = set(by_class["train"]) ^ set(by_class["test"])
    if differing:
        raise ValueError(
            f"The classes of training and testing in {root} differ in {sorted(differing)[0]!r}. "
            "Give both the same folders."
        )


def _readable(by_class, left):
    """Returns the files without those that cannot be read; `left[0]` of them are forgiven."""
    corrupt = _corrupt([file for files in by_class.values() for file in files])
    for file in corrupt:
        logging.warning("The image %s cannot be read, and is left out.", file)
    left[0] -= len(corrupt)
    if left[0] < 0:
        raise ValueError(
            f"{len(corrupt)} images cannot be read, the first is {corrupt[0]}. Mend or remove "
            "them, or allow for more by data.corrupt_images."
        )
    kept = {name: [f for f in files if f not in corrupt] for name, files in by_class.items()}
    _check_not_empty(kept, "the folder that can be read")
    return kept


def _corrupt(files):
    """Decodes all files, in parallel; returns those that fail, in order."""

    def can_read(file):
        # An error within a map ends the whole data set, so that errors are dropped from one each.
        alone = tf.data.Dataset.from_tensors(file).map(decode).ignore_errors()
        return alone.reduce(tf.constant(False), lambda *_: tf.constant(True))

    results = tf.data.Dataset.from_tensor_slices(files).map(can_read, tf.data.AUTOTUNE)
    read = np.fromiter(results.as_numpy_iterator(), bool, len(files))
    return [file for file, good in zip(files, read, strict=True) if not good]


def _split(by_class):
    train, test = {}, {}
    for name, files in by_class.items():
        count = max(1, round(TEST_SHARE * len(files)))
        if count >= len(files):
            raise ValueError(
                f"The class {name!r} has {len(files)} image, but at least two are needed: one to "
                "train and one to test."
            )
        order = np.random.default_rng(0).permutation(len(files))
        test[name] = [files[index] for index in sorted(order[:count])]
        train[name] = [files[index] for index in sorted(order[count:])]
    return {"train": train, "test": test}


def _flat(by_class):
    files = [file for files in by_class.values() for file in files]
    labels = [label for label, files in enumerate(by_class.values()) for _ in files]
    return files, labels
