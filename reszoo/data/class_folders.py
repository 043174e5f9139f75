"""Search of a folder for splits, classes and the images of each class."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from reszoo.data.left_out import LeftOut, is_hidden
from reszoo.data.splits import role_named, roles_within, tested_role

IMAGE_SUFFIXES = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp")

# Paths of image files, by the name of their class.
Classes = dict[str, list[str]]


def images_by_split(root: Path, left_out: LeftOut) -> dict[str, Classes]:
    """Returns the files of each class, by split; only `"train"` where there are no splits.

    Args:
        root: The folder of the data set.
        left_out: Collects the files that are not returned.

    Raises:
        ValueError: If it is not clear which folders are splits and which are classes, or a class
            has no images.
    """
    folders, files = _visible(root, root, left_out)
    splits = _split_folders(root, folders)
    if not splits:
        return {"train": _files_by_class(root, root, left_out)}
    tested, used = tested_role(splits) or "test", {folder.name for folder in splits.values()}
    by_class = {
        "train": _files_by_class(splits.pop("train"), root, left_out),
        "test": _files_by_class(splits.pop(tested), root, left_out),
    }
    for role, folder in splits.items():
        # They are only counted, so that what is left out inside of them goes unreported.
        for file in _images(folder, root, LeftOut(role)):
            left_out.add(f"{role} images, since {tested} images are tested", within(root, file))
    for name in set(folders) - used:
        left_out.add("folders beside those of the splits", name)
    for file in files:
        left_out.add("files beside the folders of the splits", within(root, file))
    _check_same_classes(root, by_class)
    return by_class


def _split_folders(root: Path, folders: list[str]) -> dict[str, Path]:
    """Returns the folder of each split; nothing if the folders are classes."""
    nested = [name for name in folders if _has_folders(root / name)]
    by_role = _by_role(nested, _role_as_set) or _by_words(root, nested, len(folders))
    if not by_role:
        if folders and all(map(role_named, folders)):
            raise ValueError(
                f"The folders {', '.join(folders)} of {root} have the names of splits, but no "
                "folders in them. Put one folder per class into each."
            )
        return {}
    return _checked_roles(root, by_role)


def _by_words(root: Path, nested: list[str], number: int) -> dict[str, list[str]]:
    """Returns the folders of splits by words in their names, such as `seg_train` and `seg_test`.

    Beside other folders they must have the same classes, since a class may be called `steam_train`.
    """
    by_role = _by_role(nested, roles_within)
    tested = tested_role(by_role)
    is_all = sum(map(len, by_role.values())) == number
    if "train" not in by_role:
        return {}
    if is_all or not tested:
        return by_role if is_all else {}
    both = [*by_role["train"], *by_role[tested]]
    if len({frozenset(_folders(root / name)) for name in both}) > 1:
        raise ValueError(
            f"The folders {', '.join(both)} of {root} have the names of splits, but not the same "
            "folders in them, so it is unclear which are the classes. Name the splits train and "
            "test, with one folder per class in each, or rename the classes."
        )
    return by_role


def _role_as_set(name: str) -> set[str]:
    role = role_named(name)
    return {role} if role else set()


def _by_role(names: list[str], roles_of: Callable[[str], set[str]]) -> dict[str, list[str]]:
    by_role = {}
    for name in names:
        roles = roles_of(name)
        if len(roles) == 1:
            by_role.setdefault(roles.pop(), []).append(name)
    return by_role


def _checked_roles(root: Path, by_role: dict[str, list[str]]) -> dict[str, Path]:
    for role, names in by_role.items():
        if len(names) > 1:
            raise ValueError(
                f"{' and '.join(names)} in {root} are both names of the {role} split. Keep one."
            )
    if "train" not in by_role or not tested_role(by_role):
        there = ", ".join(names[0] for names in by_role.values())
        lacking = "train" if "train" not in by_role else "test or validation"
        raise ValueError(
            f"{root} has the split {there}, but no {lacking}. Give both, with one folder per class "
            "in each; or one folder per class without splits, and a fifth becomes the test split."
        )
    return {role: root / names[0] for role, names in by_role.items()}


def _files_by_class(folder: Path, root: Path, left_out: LeftOut) -> Classes:
    classes, files = _visible(folder, root, left_out)
    for file in files:
        left_out.add("files beside the folders of classes", within(root, file))
    if len(classes) < 2:
        hint = f" Did you mean {folder / classes[0]}?" if classes else ""
        raise ValueError(
            f"{folder} must have one folder per class, of at least two classes, but has "
            f"{len(classes)} folders.{hint}"
        )
    _check_names(folder, classes)
    _check_no_unknown_splits(folder, classes)
    by_class = {name: _images(folder / name, root, left_out) for name in classes}
    if not all(by_class.values()):
        left_out.report()
    check_not_empty(by_class, folder)
    return by_class


def _check_names(folder: Path, classes: list[str]) -> None:
    for name in classes:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"The name of a class must be UTF-8, but that of the folder {name!r} in {folder} "
                "is not UTF-8. Rename it."
            ) from error


def _check_no_unknown_splits(folder: Path, classes: list[str]) -> None:
    shared = set.intersection(*({n.lower() for n in _folders(folder / name)} for name in classes))
    if len(shared) > 1:
        raise ValueError(
            f"All folders in {folder} ({', '.join(classes[:4])}{', ...' * (len(classes) > 4)}) "
            f"have the same folders ({', '.join(sorted(shared)[:4])}), so that it is not clear "
            "which are the classes. Name splits train and test, with one folder per class in each; "
            "or put the images of a class straight into its folder."
        )


def _visible(folder: str | Path, root: Path, left_out: LeftOut) -> tuple[list[str], list[str]]:
    """Returns the names of the folders and the paths of the files in a folder, none hidden."""
    folders: list[str] = []
    files: list[str] = []
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


def _folders(folder: Path) -> list[str]:
    return _visible(folder, folder, LeftOut(""))[0]


def _has_folders(folder: Path) -> bool:
    return bool(_folders(folder))


def _images(folder: Path, root: Path, left_out: LeftOut) -> list[str]:
    """Returns the image files in a folder and its subfolders, each once."""
    real = os.path.realpath(folder)
    # A link to a parent folder would never end, and would lead to images of other classes.
    seen = {real, *map(str, Path(real).parents)}
    return sorted(_walked(folder, real, root, seen, left_out))


def _walked(
    folder: str | Path, real: str, root: Path, seen: set[str], left_out: LeftOut
) -> Iterator[str]:
    """Yields image files; `real` is the folder with its links resolved, as are those in `seen`."""
    folders, files = _visible(folder, root, left_out)
    for path in (*files, *(os.path.join(folder, name) for name in folders)):
        is_link = os.path.islink(path)
        target = os.path.realpath(path) if is_link else os.path.join(real, os.path.basename(path))
        if target in seen:
            left_out.add("links to what is there already", within(root, path))
            continue
        seen.add(target)
        if os.path.isdir(path):
            yield from _walked(path, target, root, seen, left_out)
        elif _is_image(path, root, left_out):
            yield path


def _is_image(path: str, root: Path, left_out: LeftOut) -> bool:
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
        by_class: The files of each class.
        folder: The folder of the classes, for the error.

    Raises:
        ValueError: If a class has none.
    """
    empty = [name for name, files in by_class.items() if not files]
    if empty:
        raise ValueError(
            f"The class {empty[0]!r} in {folder} must have an image that can be read "
            f"({', '.join(IMAGE_SUFFIXES)}), but has none. Put images there, or remove its folder."
        )


def _check_same_classes(root: Path, by_class: dict[str, Classes]) -> None:
    differing = set(by_class["train"]) ^ set(by_class["test"])
    if differing:
        raise ValueError(
            f"The splits of {root} must have the same classes, but {sorted(differing)[0]!r} is "
            "in one only. Give both the same folders."
        )


def within(root: str | Path, path: str | Path) -> str:
    """Returns a path relative to a folder, with `/` on every system.

    Args:
        root: The folder.
        path: A path that begins with that of the folder.
    """
    return str(path).removeprefix(str(root)).lstrip(os.sep).replace(os.sep, "/")


def all_files(classes: Classes) -> list[str]:
    """Returns the files of all classes, one class after the other.

    Args:
        classes: The files of each class.
    """
    return [file for files in classes.values() for file in files]
