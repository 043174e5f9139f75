"""Folders of images: which of them are splits, which are classes, and what is in them."""

import os
from pathlib import Path

from reszoo.data.left_out import LeftOut, is_hidden
from reszoo.data.splits import role_named, roles_within, tested_role

IMAGE_SUFFIXES = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp")

# The files of each class.
Classes = dict[str, list[str]]


def images_by_split(root: Path, left_out: LeftOut) -> dict[str, Classes]:
    """Returns the files of each class, by split; of `"train"` alone where there are no splits.

    Args:
        root: The folder of all.
        left_out: Notes what is not among them.

    Raises:
        ValueError: If it is not clear which folders are splits and which are classes, or a class
            has no images.
    """
    folders, files = _visible(root, root, left_out)
    splits = _split_folders(root, folders)
    if not splits:
        return {"train": _files_by_class(root, root, left_out)}
    tested, used = tested_role(splits), {folder.name for folder in splits.values()}
    by_class = {
        "train": _files_by_class(splits.pop("train"), root, left_out),
        "test": _files_by_class(splits.pop(tested), root, left_out),
    }
    for role, folder in splits.items():
        # They are counted, and what they leave out themselves is of no interest.
        for file in _images(folder, root, LeftOut(role)):
            left_out.add(f"{role} images, since {tested} images are tested", within(root, file))
    for name in set(folders) - used:
        left_out.add("folders beside those of the splits", name)
    for file in files:
        left_out.add("files beside the folders of the splits", within(root, file))
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


def _files_by_class(folder, root, left_out):
    classes, files = _visible(folder, root, left_out)
    for file in files:
        left_out.add("files beside the folders of classes", within(root, file))
    if len(classes) < 2:
        hint = f" Is it {folder / classes[0]} that has them?" if classes else ""
        raise ValueError(
            f"{folder} has {len(classes)} folders, but at least two classes are needed, with one "
            f"folder each.{hint}"
        )
    _check_names(folder, classes)
    _check_no_unknown_splits(folder, classes)
    by_class = {name: _images(folder / name, root, left_out) for name in classes}
    if not all(by_class.values()):
        left_out.report()
    check_not_empty(by_class, folder)
    return by_class


def _check_names(folder, classes):
    for name in classes:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"The name of the folder {name!r} in {folder} is not UTF-8, but it must be the "
                "name of a class. Rename it."
            ) from error


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
        left_out.add("folders that cannot be opened", within(root, folder))
        return [], []
    for entry in entries:
        if is_hidden(entry.name):
            left_out.add("hidden files and folders", within(root, entry.path))
        elif os.path.isdir(entry.path):
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
    real = os.path.realpath(folder)
    # A link to a folder that this one is in would have no end, and images of other classes.
    seen = {real, *map(str, Path(real).parents)}
    return sorted(_walked(folder, real, root, seen, left_out))


def _walked(folder, real, root, seen, left_out):
    """Yields the files of images; `real` is the folder without links, and `seen` is done."""
    folders, files = _visible(folder, root, left_out)
    for path in (*files, *(os.path.join(folder, name) for name in folders)):
        is_link = os.path.islink(path)
        place = os.path.realpath(path) if is_link else os.path.join(real, os.path.basename(path))
        if place in seen:
            left_out.add("links to what is there already", within(root, path))
            continue
        seen.add(place)
        if os.path.isdir(path):
            yield from _walked(path, place, root, seen, left_out)
        elif _is_image(path, root, left_out):
            yield path


def _is_image(path, root, left_out):
    suffix = os.path.splitext(path)[1].lower()
    if not os.path.isfile(path):
        left_out.add("that are no regular files, or lead nowhere", within(root, path))
    elif suffix not in IMAGE_SUFFIXES:
        ending = f"that end in {suffix}" if suffix else "without an ending"
        known = ", ".join(IMAGE_SUFFIXES)
        left_out.add(f"files {ending}, not in {known}", within(root, path))
    else:
        return True
    return False


def check_not_empty(by_class: Classes, folder: Path) -> None:
    """Checks that every class has images.

    Args:
        by_class: The files of each.
        folder: Where they are, for the error.

    Raises:
        ValueError: If one has none.
    """
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


def within(root: str | Path, path: str | Path) -> str:
    """Returns the name of a path within a folder, with `/` on every system.

    Args:
        root: The folder.
        path: The path, which begins with that of the folder.
    """
    return str(path).removeprefix(str(root)).lstrip(os.sep).replace(os.sep, "/")


def all_files(classes: Classes) -> list[str]:
    """Returns the files of all classes, one class after the other.

    Args:
        classes: The files of each.
    """
    return [file for files in classes.values() for file in files]
