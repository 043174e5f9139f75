"""Images in folders, one folder a class."""

import hashlib
import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from absl import logging

from reszoo.data.contents import Contents, counted, mark_of
from reszoo.data.images import check_image, reason_of
from reszoo.data.left_out import LeftOut, is_hidden
from reszoo.data.splits import role_named, roles_within, tested_role

IMAGE_SUFFIXES = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp")
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
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"There is no folder {root}. Give one that has one folder a class.")
    left_out = LeftOut(str(root))
    by_class = _classes_of_splits(root, left_out)
    marks, unreadable = _marks([f for classes in by_class.values() for f in _all_files(classes)])
    _leave_out(by_class, unreadable, root, left_out)
    left_out.report()
    _check_not_too_many(unreadable, corrupt_images)
    for classes in by_class.values():
        _check_not_empty(classes, root)
    if len(by_class) == 1:
        by_class = _split(by_class["train"], root)
    _report_copies(by_class, root, marks)
    splits = {name: _flat(classes) for name, classes in by_class.items()}
    return splits, _contents(by_class, root, marks)


def _classes_of_splits(root, left_out):
    """Returns the files of each class, by split; of `"train"` alone where there are no splits."""
    folders, _ = _visible(root, root, left_out)
    splits = _split_folders(root, folders)
    if not splits:
        return {"train": _files_by_class(root, root, left_out)}
    tested = tested_role(splits)
    by_class = {
        "train": _files_by_class(splits.pop("train"), root, left_out),
        "test": _files_by_class(splits.pop(tested), root, left_out),
    }
    for role, folder in splits.items():
        # They are counted, and what they leave out themselves is of no interest.
        for file in _all_files(_files_by_class(folder, root, LeftOut(role))):
            left_out.add(f"{role} images, since {tested} images are tested", _within(root, file))
    _leave_out_beside(root, folders, splits, left_out)
    _check_same_classes(root, by_class)
    return by_class


def _split_folders(root, folders):
    """Returns the folder of each split; nothing if the folders are those of classes."""
    nested = [name for name in folders if _has_folders(root / name)]
    by_role = _by_role(nested, lambda name: {role_named(name)} - {None})
    if not by_role and len(nested) == len(folders):
        by_role = _by_role(nested, roles_within)
        if sum(map(len, by_role.values())) < len(folders) or "train" not in by_role:
            by_role = {}
    if not by_role:
        if folders and all(map(role_named, folders)):
            raise ValueError(
                f"The folders {', '.join(folders)} of {root} are splits by their names, but have "
                "no folders of classes. Put one folder a class into each."
            )
        return {}
    return _checked_roles(root, by_role)


def _by_role(names, roles_of):
    by_role = {}
    for name in names:
        roles = roles_of(name)
        if len(roles) == 1:
            by_role.setdefault(roles.pop(), []).append(name)
    return by_role


def _checked_roles(root, by_role):
    for role, names in by_role.items():
        if len(names) > 1:
            raise ValueError(
                f"{' and '.join(names)} in {root} both have a name for {role} images. Keep one."
            )
    if "train" not in by_role or not tested_role(by_role):
        there = ", ".join(names[0] for names in by_role.values())
        lacking = "train" if "train" not in by_role else "test or validation"
        raise ValueError(
            f"{root} has {there}, but no {lacking}, with folders of classes. Give both, or a "
            "folder that has one folder a class, of which a fifth is tested."
        )
    return {role: root / names[0] for role, names in by_role.items()}


def _leave_out_beside(root, folders, others, left_out):
    used = {"train", "test"} | {path.name for path in others.values()}
    for name in folders:
        if not role_named(name) and not roles_within(name) and name not in used:
            left_out.add("folders beside those of the splits", name)


def _files_by_class(folder, root, left_out):
    classes, files = _visible(folder, root, left_out)
    for file in files:
        left_out.add("files beside the folders of classes", _within(root, file))
    if len(classes) < 2:
        hint = f" Is it {folder / classes[0]} that has them?" if classes else ""
        raise ValueError(
            f"{folder} has {len(classes)} folders, but at least two classes are needed, with one "
            f"folder each.{hint}"
        )
    _check_no_unknown_splits(folder, classes)
    by_class = {name: _images(folder / name, root, left_out) for name in classes}
    if not any(by_class.values()):
        left_out.report()
    _check_not_empty(by_class, folder)
    return by_class


def _check_no_unknown_splits(folder, classes):
    shared = set.intersection(*({n.lower() for n in _folders(folder / name)} for name in classes))
    if len(shared) > 1:
        raise ValueError(
            f"All folders in {folder} ({', '.join(classes[:4])}{', ...' * (len(classes) > 4)}) "
            f"have the same folders ({', '.join(sorted(shared)[:4])}), so that it is not clear "
            "which are the classes. Name splits train and test, with one folder a class in each; "
            "or put the images of a class straight into its folder."
        )


def _visible(folder, root, left_out):
    """Returns the names of the folders and the files in a folder, without those that are hidden."""
    folders, files = [], []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        left_out.add("folders that cannot be opened", _within(root, folder))
        return [], []
    for entry in entries:
        if is_hidden(entry.name):
            left_out.add("hidden files and folders", _within(root, entry.path))
        elif entry.is_dir():
            folders.append(entry.name)
        else:
            files.append(entry.path)
    return folders, files


def _folders(folder):
    return _visible(folder, folder, LeftOut(""))[0]


def _has_folders(folder):
    return bool(_folders(folder))


def _images(folder, root, left_out):
    """Returns the files of images in a folder and in those within it, each once."""
    real = folder.resolve()
    # A link to a folder that this one is in would have no end, and images of other classes.
    return sorted(_walked(folder, root, {str(real), *map(str, real.parents)}, left_out))


def _walked(folder, root, seen, left_out):
    folders, files = _visible(folder, root, left_out)
    for path in (*files, *(os.path.join(folder, name) for name in folders)):
        name, real = _within(root, path), os.path.realpath(path)
        if real in seen:
            left_out.add("links to what is there already", name)
            continue
        seen.add(real)
        if os.path.isdir(path):
            yield from _walked(path, root, seen, left_out)
        elif not os.path.isfile(path):
            left_out.add("that are no regular files, or lead nowhere", name)
        elif (suffix := os.path.splitext(path)[1].lower()) in IMAGE_SUFFIXES:
            yield path
        else:
            ending = f"that end in {suffix}" if suffix else "without an ending"
            left_out.add(f"files {ending}, not in {', '.join(IMAGE_SUFFIXES)}", name)


def _check_not_empty(by_class, folder):
    empty = [name for name, files in by_class.items() if not files]
    if empty:
        raise ValueError(
            f"There is no image ({', '.join(IMAGE_SUFFIXES)}) of the class {empty[0]!r} in "
            f"{folder} that can be read. Remove its folder, or put images there."
        )


def _check_same_classes(root, by_class):
    differing = set(by_class["train"]) ^ set(by_class["test"])
    if differing:
        raise ValueError(
            f"The classes of training and testing in {root} differ in {sorted(differing)[0]!r}. "
            "Give both the same folders."
        )


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
        left_out.add(f"that cannot be read, since {reason}", _within(root, file))
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
    name = unicodedata.normalize("NFC", _within(folder, file))
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _report_copies(by_class, root, marks):
    """Names images that are the same byte for byte, where that matters."""
    classes_of = {}
    for classes in by_class.values():
        for name, files in classes.items():
            for file in files:
                classes_of.setdefault(marks[file], set()).add(name)
    trained = {marks[file] for file in _all_files(by_class["train"])}
    files = [file for classes in by_class.values() for file in _all_files(classes)]
    both = [file for file in _all_files(by_class["test"]) if marks[file] in trained]
    several = [file for file in files if len(classes_of[marks[file]]) > 1]
    for found, what in (
        (both, "test images are training images too, byte for byte, so that the test says less"),
        (several, "images are, byte for byte, in several classes"),
    ):
        if found:
            names = [_within(root, file) for file in found]
            logging.warning("In %s %s.", root, counted(names, what))


def _contents(by_class, root, marks):
    def of_split(classes):
        files = _all_files(classes)
        return {_within(root, file): marks[file] for file in files}

    return Contents(
        class_names=tuple(by_class["train"]),
        counts={split: tuple(map(len, c.values())) for split, c in by_class.items()},
        **{split: of_split(classes) for split, classes in by_class.items()},
    )


def _within(root, path):
    return os.path.relpath(path, root).replace(os.sep, "/")


def _all_files(classes):
    return [file for files in classes.values() for file in files]


def _flat(classes):
    files = [os.fsencode(file) for file in _all_files(classes)]
    labels = [label for label, files in enumerate(classes.values()) for _ in files]
    return files, labels
