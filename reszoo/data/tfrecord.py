"""Images in TFRecord files: splits by file names, names of classes, checks of labels."""

import itertools
import os
import re
from collections.abc import Collection, Sequence

import tensorflow as tf
from absl import logging

from reszoo.data.contents import Contents, counted
from reszoo.data.images import check_regular, reason_of
from reszoo.data.left_out import LeftOut, is_hidden
from reszoo.data.splits import roles_within, tested_role
from reszoo.data.tfrecord_index import Records
from reszoo.files import as_path

NAME_FILES = ("labels.txt", "label.labels.txt")
# Endings of files that describe or index the TFRecord files beside them.
BESIDE = (".crc", ".csv", ".idx", ".index", ".json", ".md", ".md5", ".pbtxt", ".sha256", ".txt")


def split_files(pattern: str) -> dict[str, list[str]]:
    """Returns the files of the training split and of the test split.

    Files that are left out are counted and named in warnings.

    Args:
        pattern: One pattern of paths, or a folder. The names of the files, or else of the folders
            that they are in, must have the split as a word: `train`, and `test` or else
            `validation`, or another name of these in `reszoo.data.splits`. Or two patterns with a
            comma between them, for training and for testing. `gs://` works where TensorFlow reads
            it.

    Raises:
        ValueError: If a split has no files, or the splits share a file.
    """
    patterns = pattern.split(",")
    if len(patterns) > 2:
        raise ValueError(
            f"There must be one pattern, or two with a comma between them, but got {pattern!r}."
        )
    left_out = LeftOut(pattern)
    first, *second = (_glob(part, left_out) for part in patterns)
    splits = {"train": first, "test": second[0]} if second else _by_name(first, left_out)
    left_out.report()
    _check_split_files(splits, pattern)
    return splits


def check_corrupt(splits: Sequence[Records], allowed: int) -> None:
    """Warns of records that cannot be read, and raises if there are too many.

    Args:
        splits: The records of each split.
        allowed: The most records that may be left out.

    Raises:
        ValueError: If more records cannot be read.
    """
    left_out, first, number = LeftOut("the records"), "", 0
    for file in (file for records in splits for file in records.files):
        faults = [(f"record {index} of", reason) for index, reason in file.unreadable.items()]
        if file.damage:
            faults.append((f"all from record {len(file.labels)} on of", file.damage))
        elif not file.labels:
            left_out.add("files without a record", file.name)
        for records_of, reason in faults:
            left_out.add(f"that cannot be read: {reason}", f"{records_of} {file.name}")
            first = first or f"{records_of} {file.name} ({reason})"
            number += 1
    left_out.report()
    if number > allowed:
        raise ValueError(
            f"{number} records cannot be read, the first is {first}. Mend them, or allow for more "
            "by corrupt_images."
        )


def class_names(files: Sequence[str]) -> tuple[str, ...]:
    """Returns the lines of `labels.txt` or `label.labels.txt` beside the files, if there is one.

    Args:
        files: Files of one folder.

    Raises:
        ValueError: If it cannot be read, or a line between others is empty.
    """
    folder = os.path.dirname(files[0])
    for path in (os.path.join(folder, name) for name in NAME_FILES):
        if tf.io.gfile.exists(path):
            try:
                text = as_path(path).read_bytes().decode("utf-8-sig", "replace")
            except OSError as error:
                raise ValueError(f"{path} cannot be read ({reason_of(error)}).") from error
            names = tuple(line.strip() for line in text.rstrip().splitlines())
            if "" in names:
                raise ValueError(
                    f"Line {names.index('') + 1} of {path} is empty, but every line must be the "
                    "name of a class, in the order of the labels."
                )
            return names
    return ()


def check_labels(
    splits: dict[str, Records], names: Sequence[str]
) -> tuple[int, tuple[str, ...], tuple[int, ...]]:
    """Returns the first label, the names of the classes, and how many training examples each has.

    Labels may begin with 0 or, as Model Garden's of ImageNet do, with 1.

    Args:
        splits: The records of `"train"` and `"test"`.
        names: The names of the classes; empty if they are not known.

    Raises:
        ValueError: If a label is out of range, a class has no training example, or a split has no
            example.
    """
    for split, records in splits.items():
        if not records.labels:
            raise ValueError(f"No {split} example of {_files_in_words(records)} can be read.")
    trained = splits["train"].labels
    lowest = min(min(records.labels) for records in splits.values())
    first = int(lowest == 1 and (not names or max(trained) == len(names)))
    count = len(names) or max(trained) - first + 1
    for split, records in splits.items():
        wrong = sorted(label for label in records.labels if not 0 <= label - first < count)
        if wrong:
            raise ValueError(
                f"{records.labels[wrong[0]]} {split} examples of {_files_in_words(records)} have "
                f"the label {wrong[0]}, but labels must be {first} to {first + count - 1}."
            )
    # A wrong label may mean more classes than memory has room for, so names are made after this.
    missing = next((n for n in range(count) if first + n not in trained), None)
    if missing is not None:
        name = f" ({names[missing]!r})" if names else ""
        record = _record_of_highest_label(splits["train"], trained)
        raise ValueError(
            f"Every class must have training examples, but none has the label {first + missing}"
            f"{name}, of {count} classes. The highest label is {max(trained)}, which {record} has "
            "first."
        )
    names = tuple(names) or tuple(str(label) for label in range(first, first + count))
    return first, names, tuple(trained[first + index] for index in range(count))


def _files_in_words(records: Records) -> str:
    more = len(records.files) - 1
    return records.files[0].name + f" and {more} more files" * bool(more)


def _record_of_highest_label(records: Records, labels: Collection[int]) -> str:
    """Returns the first record with the highest of the labels, in words."""
    highest = max(labels)
    file = next(file for file in records.files if highest in file.used_labels())
    return f"record {file.labels.index(highest)} of {file.name}"


def record_contents(
    splits: dict[str, Records], first: int, class_names: tuple[str, ...]
) -> Contents:
    """Returns the contents of a data set; images that are in both splits are named in a warning.

    Args:
        splits: The records of `"train"` and `"test"`.
        first: The label of the first class, 0 or 1.
        class_names: The names of the classes, in the order of their labels.
    """
    _report_copies(splits)
    folders = {os.path.dirname(f.name) for records in splits.values() for f in records.files}
    # A data set may be moved: a folder that all files share is no part of their names.
    name_of = str if len(folders) > 1 else os.path.basename

    def of_split(records: Records) -> dict[str, str]:
        return {name_of(file.name): file.fingerprint for file in records.files}

    labels = range(first, first + len(class_names))
    return Contents(
        class_names,
        {split: tuple(r.labels.get(n, 0) for n in labels) for split, r in splits.items()},
        train=of_split(splits["train"]),
        test=of_split(splits["test"]),
    )


def _report_copies(splits: dict[str, Records]) -> None:
    trained = {n for file in splits["train"].files for n in file.used_fingerprints()}
    both = [
        f"record {index} of {file.name}"
        for file in splits["test"].files
        for index, n in enumerate(file.fingerprints)
        if n in trained and index not in file.unreadable
    ]
    if both:
        logging.warning(
            "%s.",
            counted(
                both,
                "test images are training images too, byte for byte, so that the test says less",
            ),
        )


def _glob(pattern: str, left_out: LeftOut) -> list[str]:
    """Returns the files of a pattern or a folder that may hold records."""
    is_folder = tf.io.gfile.isdir(pattern)
    files = tf.io.gfile.glob(os.path.join(pattern, "*") if is_folder else pattern)
    if is_folder:
        files += [
            file
            for folder in files
            if roles_within(os.path.basename(folder)) and tf.io.gfile.isdir(folder)
            for file in tf.io.gfile.glob(os.path.join(folder, "*"))
        ]
    return sorted(file for file in files if _may_hold_records(file, is_folder, left_out))


def _may_hold_records(file: str, is_listed: bool, left_out: LeftOut) -> bool:
    name = os.path.basename(file)
    if is_hidden(name):
        left_out.add("hidden files", file)
        return False
    if name in NAME_FILES:
        return False
    if name.lower().endswith(BESIDE):
        left_out.add("files that describe others by their ending", file)
        return False
    try:
        check_regular(file)
    except ValueError:
        if not (is_listed and os.path.isdir(file)):
            left_out.add("that are no regular files", file)
        return False
    except OSError as error:
        left_out.add(f"that cannot be read: {error.strerror}", file)
        return False
    return True


def _by_name(files: list[str], left_out: LeftOut) -> dict[str, list[str]]:
    by_role: dict[str, list[str]] = {}
    for file in files:
        folder, name = os.path.split(file)
        roles = roles_within(name) or roles_within(os.path.basename(folder))
        if len(roles) > 1:
            raise ValueError(
                f"The name of {file} has several splits: {' and '.join(sorted(roles))}. Give two "
                "patterns with a comma between them, for training and for testing."
            )
        if roles:
            by_role.setdefault(roles.pop(), []).append(file)
        else:
            left_out.add("files whose names say no split", file)
    tested = tested_role(by_role) or "test"
    for file in by_role.get("validation", []) if tested == "test" else []:
        left_out.add("files of validation, since those of test are tested", file)
    return {"train": by_role.get("train", []), "test": by_role.get(tested, [])}


def _check_split_files(splits: dict[str, list[str]], pattern: str) -> None:
    for name, files in splits.items():
        if not files:
            raise ValueError(
                f"There is no file of {name} examples in {pattern!r}. Give a pattern whose files "
                "have train, and test or validation, in their names; or two patterns with a comma "
                "between them, for training and for testing."
            )
    both = set(splits["train"]) & set(splits["test"])
    if both:
        raise ValueError(
            f"The splits must share no file, but {counted(both, 'files')} in {pattern!r} are in "
            "both. Give patterns that share none."
        )
    for files in splits.values():
        _report_missing(files)


def _report_missing(files: list[str]) -> None:
    """Warns of missing shards, by names such as train-00003-of-00005."""
    sets: dict[tuple[str, str, str], set[int]] = {}
    for file in files:
        match = re.fullmatch(r"(.*?)(\d+)-of-(\d+)(.*)", file)
        if match:
            sets.setdefault((match[1], match[3], match[4]), set()).add(int(match[2]))
    for (begin, total, end), parts in sets.items():
        number = int(total) - sum(part < int(total) for part in parts)
        if number > 0:
            first = next(n for n in itertools.count() if n not in parts)
            name = f"{begin}{first:0{len(total)}}-of-{total}{end}"
            logging.warning(
                "%d of %d files are not there, the first is %s.", number, int(total), name
            )
