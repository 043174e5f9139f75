"""Images in TFRecord files, as TensorFlow's Model Garden and TensorFlow Datasets write them."""

import itertools
import os
import re
from collections.abc import Sequence

import tensorflow as tf
from absl import logging

from reszoo.data.contents import Contents, counted
from reszoo.data.images import check_regular
from reszoo.data.left_out import LeftOut, is_hidden
from reszoo.data.splits import roles_within, tested_role
from reszoo.data.tfrecord_index import Records

NAME_FILES = ("labels.txt", "label.labels.txt")
# What lies beside records, as their index or their description.
BESIDE = (".crc", ".csv", ".idx", ".index", ".json", ".md", ".md5", ".pbtxt", ".sha256", ".txt")


def split_files(pattern: str) -> dict[str, list[str]]:
    """Returns the files of training and of testing; what is left out is named in a warning.

    Args:
        pattern: One pattern, or a folder, whose files' names, or else the names of the folders that
            they are in, say which is which: `train`, and `test` or else `validation`, as words
            within the name; `reszoo.data.splits` has other words for these. Or two patterns with
            a comma between: those of training and those of testing. `gs://` works as far as
            TensorFlow reads it.

    Raises:
        ValueError: If there are no files of one of them, or one file is of both.
    """
    patterns = pattern.split(",")
    if len(patterns) > 2:
        raise ValueError(f"Give one pattern, or two with a comma between, but got {pattern!r}.")
    left_out = LeftOut(pattern)
    found = [_glob(part, left_out) for part in patterns]
    if len(patterns) == 2:
        splits = dict(zip(("train", "test"), found, strict=True))
    else:
        splits = _by_name(found[0], left_out)
    left_out.report()
    _check_split_files(splits, pattern)
    return splits


def check_corrupt(splits: Sequence[Records], allowed: int) -> None:
    """Names what cannot be read, and raises if it is too much.

    Args:
        splits: The records.
        allowed: How many records may be left out.

    Raises:
        ValueError: If more cannot be read.
    """
    left_out, first, number = LeftOut("the records"), "", 0
    for file in (file for records in splits for file in records.files):
        places = [(f"record {place} of", why) for place, why in file.unreadable.items()]
        if file.damage:
            places.append((f"all from record {len(file.labels)} on of", file.damage))
        elif not file.labels:
            left_out.add("files without a record", file.name)
        for place, why in places:
            left_out.add(f"that cannot be read: {why}", f"{place} {file.name}")
            first = first or f"{place} {file.name} ({why})"
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
        files: The files.

    Raises:
        ValueError: If a line between others is empty, so that it is not clear what is counted.
    """
    folder = os.path.dirname(files[0])
    for path in (os.path.join(folder, name) for name in NAME_FILES):
        if tf.io.gfile.exists(path):
            with tf.io.gfile.GFile(path, "rb") as file:
                text = file.read().decode("utf-8-sig", "replace")
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
        splits: The records of training and testing.
        names: The names, if they are known.

    Raises:
        ValueError: If a label is out of range, a class has no training example, or a split has no
            example.
    """
    for split, records in splits.items():
        if not records.labels:
            raise ValueError(f"No {split} example in {records.files[0].name} and its like is left.")
    trained = splits["train"].labels
    lowest = min(min(records.labels) for records in splits.values())
    first = int(lowest == 1 and (not names or max(trained) == len(names)))
    count = len(names) or max(trained) - first + 1
    for split, records in splits.items():
        wrong = sorted(label for label in records.labels if not 0 <= label - first < count)
        if wrong:
            raise ValueError(
                f"{records.labels[wrong[0]]} {split} examples in {records.files[0].name} and its "
                f"like have the label {wrong[0]}, but labels are {first} to {first + count - 1}."
            )
    # There may be more classes than memory has room for their names, if a label is wrong.
    missing = next((n for n in range(count) if first + n not in trained), None)
    if missing is not None:
        name = f" ({names[missing]!r})" if names else ""
        place = _place_of(splits["train"], trained)
        raise ValueError(
            f"No training example has the label {first + missing}{name}, of {count} classes; the "
            f"highest label is {max(trained)}, first that of {place}. Give a set that "
            "has examples of every class."
        )
    names = tuple(names) or tuple(str(label) for label in range(first, first + count))
    return first, names, tuple(trained[first + index] for index in range(count))


def _place_of(records, labels):
    """Returns where the highest of the labels is found first."""
    highest = max(labels)
    file = next(file for file in records.files if highest in file.used_labels())
    return f"record {file.labels.index(highest)} of {file.name}"


def record_contents(
    splits: dict[str, Records], first: int, class_names: tuple[str, ...]
) -> Contents:
    """Returns what is in some records; images that are in both splits are named in a warning.

    Args:
        splits: The records of training and testing.
        first: The first label.
        class_names: Names of the classes.
    """
    _report_copies(splits)
    folders = {os.path.dirname(f.name) for records in splits.values() for f in records.files}
    # Where the set as a whole lies says nothing of what it is.
    place = (lambda name: name) if len(folders) > 1 else os.path.basename

    def of_split(records):
        return {place(file.name): file.mark for file in records.files}

    labels = range(first, first + len(class_names))
    return Contents(
        class_names,
        {split: tuple(r.labels.get(n, 0) for n in labels) for split, r in splits.items()},
        **{split: of_split(records) for split, records in splits.items()},
    )


def _report_copies(splits):
    trained = {n for file in splits["train"].files for n in file.used_fingerprints()}
    both = [
        f"record {place} of {file.name}"
        for file in splits["test"].files
        for place, n in enumerate(file.fingerprints)
        if n in trained and place not in file.unreadable
    ]
    if both:
        logging.warning(
            "%s.",
            counted(
                both,
                "test images are training images too, byte for byte, so that the test says less",
            ),
        )


def _glob(pattern, left_out):
    """Returns the files that a pattern matches, or those in a folder, that may hold records."""
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


def _may_hold_records(file, is_listed, left_out):
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


def _by_name(files, left_out):
    by_role = {}
    for file in files:
        folder, name = os.path.split(file)
        roles = roles_within(name) or roles_within(os.path.basename(folder))
        if len(roles) > 1:
            raise ValueError(
                f"The name of {file} is that of {' and '.join(sorted(roles))} examples. Give two "
                "patterns with a comma between, for training and testing."
            )
        if roles:
            by_role.setdefault(roles.pop(), []).append(file)
        else:
            left_out.add("files whose names say no split", file)
    tested = tested_role(by_role) or "test"
    for file in by_role.get("validation", []) if tested == "test" else []:
        left_out.add("files of validation, since those of test are tested", file)
    return {"train": by_role.get("train", []), "test": by_role.get(tested, [])}


def _check_split_files(splits, pattern):
    for name, files in splits.items():
        if not files:
            raise ValueError(
                f"There is no file of {name} examples in {pattern!r}. Give a pattern whose files "
                "have train, and test or validation, in their names; or two patterns with a comma "
                "between, for training and testing."
            )
    both = set(splits["train"]) & set(splits["test"])
    if both:
        raise ValueError(
            f"{counted(both, 'files')} in {pattern!r} would be trained on and tested. Give "
            "patterns that share no file."
        )
    for files in splits.values():
        _report_missing(files)


def _report_missing(files):
    """Names the sets of which a part is missing, by names such as train-00003-of-00005."""
    sets = {}
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
