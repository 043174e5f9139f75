"""Images in folders, one folder per class: splits, unreadable files and fingerprints."""

import hashlib
import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from absl import logging

from reszoo.data.class_folders import (
    Classes,
    all_files,
    check_not_empty,
    images_by_split,
    within,
)
from reszoo.data.contents import Contents, counted, fingerprint_of
from reszoo.data.images import check_image, reason_of
from reszoo.data.left_out import LeftOut

TEST_SHARE = 0.2
CHANNELS = 3


def folder_examples(
    path: str | Path, corrupt_images: int = 0
) -> tuple[dict[str, tuple[list[bytes], list[int]]], Contents]:
    """Returns the images of a folder, split into training and test examples.

    `path` has one folder per class; or folders `train` and `test`, or `train` and `validation`
    where there is no `test`, with one folder per class in each. `reszoo.data.splits` has all names
    that these folders may have, in any case.

    Without such folders about a fifth of every class becomes the test split, by a hash of the name:
    an image is tested if the first 8 bytes of the SHA-256 of its path in the folder of its class
    are below a fifth of 2^64. At least one image of a class is tested, and at least one is not.
    So an image stays in its split when others are added.

    Subfolders of the folder of a class belong to the class, and links are followed. Every image is
    decoded once, so that unreadable ones are found before training. Files that are left out are
    counted and named in warnings.

    Args:
        path: The folder.
        corrupt_images: The most unreadable images that are left out.

    Returns:
        Paths and labels of the files of `"train"` and `"test"`, and the contents.

    Raises:
        ValueError: If the folder does not exist, a class is empty or too small, the splits have
            different classes, it is not clear which folders are classes, or more than
            `corrupt_images` images cannot be read.
    """
    root = Path(path).expanduser().absolute()
    if not root.is_dir():
        raise ValueError(f"There is no folder {root}. Give one that has one folder per class.")
    left_out = LeftOut(str(root))
    by_class = images_by_split(root, left_out)
    fingerprints, unreadable = _fingerprints(
        [f for classes in by_class.values() for f in all_files(classes)]
    )
    _leave_out(by_class, unreadable, root, left_out)
    left_out.report()
    _check_not_too_many(unreadable, corrupt_images)
    for classes in by_class.values():
        check_not_empty(classes, root)
    if len(by_class) == 1:
        by_class = _split(by_class["train"], root)
    _report_copies(by_class, root, fingerprints)
    splits = {name: _flat(classes) for name, classes in by_class.items()}
    return splits, _contents(by_class, root, fingerprints)


def _fingerprints(files: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Decodes all files, in parallel; returns fingerprints, and reasons of the unreadable ones."""

    def examine(file: str) -> tuple[str, str]:
        try:
            contents = Path(file).read_bytes()
            return fingerprint_of(len(contents), [check_image(contents)]), ""
        except (OSError, ValueError) as error:
            return "", reason_of(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(zip(files, pool.map(examine, files), strict=True))
    fingerprints = {file: fingerprint for file, (fingerprint, _) in found if fingerprint}
    return fingerprints, {file: reason for file, (_, reason) in found if reason}


def _leave_out(
    by_class: dict[str, Classes], unreadable: dict[str, str], root: Path, left_out: LeftOut
) -> None:
    for file, reason in unreadable.items():
        left_out.add(f"that cannot be read, since {reason}", within(root, file))
    for classes in by_class.values():
        for name, files in classes.items():
            classes[name] = [file for file in files if file not in unreadable]


def _check_not_too_many(unreadable: dict[str, str], allowed: int) -> None:
    if len(unreadable) > allowed:
        first, reason = next(iter(unreadable.items()))
        raise ValueError(
            f"{len(unreadable)} images cannot be read, the first is {first} ({reason}). Mend or "
            "remove them, or allow for more by corrupt_images."
        )


def _split(by_class: Classes, root: Path) -> dict[str, Classes]:
    splits: dict[str, Classes] = {"train": {}, "test": {}}
    for name, files in by_class.items():
        if len(files) < 2:
            raise ValueError(
                f"A class must have at least two images, one to train and one to test, but "
                f"{name!r} has {len(files)}."
            )
        hashes = {file: _name_hash(root / name, file) for file in files}
        least, *others = sorted(files, key=lambda file: hashes[file])
        tested = {least, *(file for file in others[:-1] if hashes[file] < TEST_SHARE)}
        splits["test"][name] = [file for file in files if file in tested]
        splits["train"][name] = [file for file in files if file not in tested]
    return splits


def _name_hash(folder: Path, file: str) -> float:
    """Returns the hash of the path of a file within a folder, as a number in [0, 1)."""
    # File systems differ in how they compose letters with accents.
    name = unicodedata.normalize("NFC", within(folder, file))
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _report_copies(by_class: dict[str, Classes], root: Path, fingerprints: dict[str, str]) -> None:
    """Warns of images that are in both splits, or in several classes, byte for byte."""
    classes_of: dict[str, set[str]] = {}
    for classes in by_class.values():
        for name, files in classes.items():
            for file in files:
                classes_of.setdefault(fingerprints[file], set()).add(name)
    trained = {fingerprints[file] for file in all_files(by_class["train"])}
    files = [file for classes in by_class.values() for file in all_files(classes)]
    both = [file for file in all_files(by_class["test"]) if fingerprints[file] in trained]
    several = [file for file in files if len(classes_of[fingerprints[file]]) > 1]
    for found, what in (
        (both, "test images are training images too, byte for byte, so that the test says less"),
        (several, "images are, byte for byte, in several classes"),
    ):
        if found:
            names = [within(root, file) for file in found]
            logging.warning("In %s %s.", root, counted(names, what))


def _contents(by_class: dict[str, Classes], root: Path, fingerprints: dict[str, str]) -> Contents:
    def of_split(classes: Classes) -> dict[str, str]:
        files = all_files(classes)
        return {within(root, file): fingerprints[file] for file in files}

    return Contents(
        class_names=tuple(by_class["train"]),
        counts={split: tuple(map(len, c.values())) for split, c in by_class.items()},
        train=of_split(by_class["train"]),
        test=of_split(by_class["test"]),
    )


def _flat(classes: Classes) -> tuple[list[bytes], list[int]]:
    files = [os.fsencode(file) for file in all_files(classes)]
    labels = [label for label, files in enumerate(classes.values()) for _ in files]
    return files, labels
