"""Contents of a data set: its examples by name, and what has changed in them since."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Any

NAMES_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Contents:
    """The examples of a data set, as far as they can be told apart.

    Args:
        class_names: The names of the classes, in the order of their labels.
        counts: Number of examples of each class, by split; one number, of all classes together,
            where counting them would mean reading all of a data set.
        train: What the training examples are in: files, or else whole splits. For each name a mark,
            which differs where what is in it differs.
        test: The same of the test examples.

    Example:

    >>> before = Contents(("a", "b"), {}, {"a/0.png": "60:1f", "b/1.png": "70:2e"}, {})
    >>> now = Contents(("a", "b"), {}, {"a/0.png": "60:1f"}, {"b/2.png": "70:2e"})
    >>> before.digest == now.digest
    False
    >>> changes(before, now)
    ['train: 1 removed (b/1.png)', 'test: 1 added (b/2.png)']
    >>> trained_on(before, now)
    ['b/2.png']
    """

    class_names: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    train: dict[str, str]
    test: dict[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 of all of it, in hexadecimal digits."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def contents_from(fields: dict[str, Any]) -> Contents:
    """Returns the contents of a data set that were written as JSON.

    Args:
        fields: What `dataclasses.asdict` gave.
    """
    return Contents(
        class_names=tuple(fields["class_names"]),
        counts={split: tuple(counts) for split, counts in fields["counts"].items()},
        train=dict(fields["train"]),
        test=dict(fields["test"]),
    )


def changes(before: Contents, now: Contents) -> list[str]:
    """Returns what has changed in a data set, in words, with counts and the first names.

    Args:
        before: What it was.
        now: What it is.
    """
    texts = []
    if before.class_names != now.class_names:
        was, has = ", ".join(before.class_names[:9]), ", ".join(now.class_names[:9])
        texts.append(
            f"classes: {len(now.class_names)} ({has}) instead of {len(before.class_names)} ({was})"
        )
    for split in ("train", "test"):
        was, has = getattr(before, split), getattr(now, split)
        kinds = {
            "added": has.keys() - was.keys(),
            "removed": was.keys() - has.keys(),
            "changed": {name for name in was.keys() & has.keys() if was[name] != has[name]},
        }
        if any(kinds.values()):
            parts = [counted(names, kind) for kind, names in kinds.items() if names]
            texts.append(f"{split}: {', '.join(parts)}")
    if not texts and before.counts != now.counts:
        texts.append(f"examples of each class: {now.counts} instead of {before.counts}")
    return texts


def trained_on(before: Contents, now: Contents) -> list[str]:
    """Returns what is tested now but was trained on before, under whatever name.

    Args:
        before: The data set that was trained on.
        now: The one that would be tested.
    """
    marks = set(before.train.values())
    return sorted(
        name for name, mark in now.test.items() if mark in marks and before.test.get(name) != mark
    )


def counted(names: Collection[str], what: str) -> str:
    """Returns how many of something there are, and the first of their names.

    Args:
        names: The names.
        what: What they are.

    Example:

    >>> counted({"d", "c", "b", "a"}, "added")
    '4 added (a, b, c, ...)'
    """
    more = ", ..." if len(names) > NAMES_SHOWN else ""
    return f"{len(names)} {what} ({', '.join(sorted(names)[:NAMES_SHOWN])}{more})"


def mark_of(size: int, numbers: Sequence[int]) -> str:
    """Returns the mark of something with a size, and with numbers that tell its parts apart.

    Args:
        size: In bytes.
        numbers: Such as the fingerprints of its images.
    """
    digest = hashlib.sha256(",".join(map(str, numbers)).encode()).hexdigest()
    return f"{size}:{digest[:16]}"
