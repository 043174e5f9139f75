"""Images in folders, one folder a class."""

import hashlib
import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from absl import logging

from reszoo.data.class_folders import all_files, check_not_empty, images_by_split, within
from reszoo.data.contents import Contents, counted, mark_of
from reszoo.data.images import check_image, reason_of
from reszoo.data.left_out import LeftOut

TEST_SHARE = 0.2
CHANNELS = 3


def folder_examples(
    path: str | Path, corrupt_images: int = 0
) -> tuple[dict[str, tuple[list[bytes], list[int]]], Contents]:
    """Returns the files of a folder of images, split into training and test examples.

    `path` has one folder a class; or folders `train` and `test`, or `train` and `validation` where
    there is no `test`, with one folder a class each. `reszoo.data.splits` has the names that these
    may have, in any case.

    In the first case about a fifth of every class, at least one image, are the test examples: those
    for whose name within the folder of the class the first 8 bytes of the SHA-256 are below a
    fifth of 2^64, but at least one image and not all of them. So an image stays where it is when
    others are added.

    Folders within the folder of a class belong to the class; links are followed. Every image is
    decoded once, so that what cannot be read is known before training. What is left out is named in
    a warning.

    Args:
        path: The folder.
        corrupt_images: How many images that cannot be read are left out.

    Returns:
        The names and labels of the files of `"train"` and `"test"`, and the contents.

    Raises:
        ValueError: If a folder is missing, a class is empty or too small, the splits differ in
            their classes, it is not clear which folders are classes, or more images cannot be read.
    """
    root = Path(path).expanduser().absolute()
    if not root.is_dir():
        raise ValueError(f"There is no folder {root}. Give one that has one folder a class.")
    left_out = LeftOut(str(root))
    by_class = images_by_split(root, left_out)
    marks, unreadable = _marks([f for classes in by_class.values() for f in all_files(classes)])
    _leave_out(by_class, unreadable, root, left_out)
    left_out.report()
    _check_not_too_many(unreadable, corrupt_images)
    for classes in by_class.values():
        check_not_empty(classes, root)
    if len(by_class) == 1:
        by_class = _split(by_class["train"], root)
    _report_copies(by_class, root, marks)
    splits = {name: _flat(classes) for name, classes in by_class.items()}
    return splits, _contents(by_class, root, marks)


def _marks(files):
    """Decodes all files, in parallel; returns the mark of each, or why it cannot be read."""

    def mark(file):
        try:
            contents = Path(file).read_bytes()
            return mark_of(len(contents), [check_image(contents)]), ""
        except (OSError, ValueError) as error:
            return "", reason_of(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(zip(files, pool.map(mark, files), strict=True))
    marks = {file: mark for file, (mark, _) in found if mark}
    return marks, {file: reason for file, (mark, reason) in found if not mark}


def _leave_out(by_class, unreadable, root, left_out):
    for file, reason in unreadable.items():
        left_out.add(f"that cannot be read, since {reason}", within(root, file))
    for classes in by_class.values():
        for name, files in classes.items():
            classes[name] = [file for file in files if file not in unreadable]


def _check_not_too_many(unreadable, allowed):
    if len(unreadable) > allowed:
        first, reason = next(iter(unreadable.items()))
        raise ValueError(
            f"{len(unreadable)} images cannot be read, the first is {first} ({reason}). Mend or "
            "remove them, or allow for more by corrupt_images."
        )


def _split(by_class, root):
    splits = {"train": {}, "test": {}}
    for name, files in by_class.items():
        if len(files) < 2:
            raise ValueError(
                f"The class {name!r} has {len(files)} image, but at least two are needed: one to "
                "train and one to test."
            )
        places = {file: _place(root / name, file) for file in files}
        least, *others = sorted(files, key=places.get)
        tested = {least, *(file for file in others[:-1] if places[file] < TEST_SHARE)}
        splits["test"][name] = [file for file in files if file in tested]
        splits["train"][name] = [file for file in files if file not in tested]
    return splits


def _place(folder, file):
    """Returns a number in [0, 1) that the name of a file within a folder gives."""
    # File systems differ in how they compose letters with accents.
    name = unicodedata.normalize("NFC", within(folder, file))
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _report_copies(by_class, root, marks):
    """Names images that are the same byte for byte, where that matters."""
    classes_of = {}
    for classes in by_class.values():
        for name, files in classes.items():
            for file in files:
                classes_of.setdefault(marks[file], set()).add(name)
    trained = {marks[file] for file in all_files(by_class["train"])}
    files = [file for classes in by_class.values() for file in all_files(classes)]
    both = [file for file in all_files(by_class["test"]) if marks[file] in trained]
    several = [file for file in files if len(classes_of[marks[file]]) > 1]
    for found, what in (
        (both, "test images are training images too, byte for byte, so that the test says less"),
        (several, "images are, byte for byte, in several classes"),
    ):
        if found:
            names = [within(root, file) for file in found]
            logging.warning("In %s %s.", root, counted(names, what))


def _contents(by_class, root, marks):
    def of_split(classes):
        files = all_files(classes)
        return {within(root, file): marks[file] for file in files}

    return Contents(
        class_names=tuple(by_class["train"]),
        counts={split: tuple(map(len, c.values())) for split, c in by_class.items()},
        **{split: of_split(classes) for split, classes in by_class.items()},
    )


def _flat(classes):
    files = [os.fsencode(file) for file in all_files(classes)]
    labels = [label for label, files in enumerate(classes.values()) for _ in files]
    return files, labels
