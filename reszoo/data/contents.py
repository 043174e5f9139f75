"""Contents of a data set by name, and the differences from an earlier state."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Any

NAMES_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Contents:
    """Names and fingerprints of the examples of a data set.

    Args:
        class_names: The names of the classes, in the order of their labels.
        counts: Number of examples of each class, by split; one number for all classes together,
            where counting by class would mean reading the whole data set.
        train: Fingerprints of the files (or else whole splits) of the training examples, by name.
            Files of different content have different fingerprints.
        test: The same for the test examples.

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
        """SHA-256 of all fields, in hexadecimal digits."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def contents_from(fields: dict[str, Any]) -> Contents:
    """Returns the contents of a data set from the fields of a JSON object.

    Args:
        fields: The result of `dataclasses.asdict`, before or after JSON.
    """
    return Contents(
        class_names=tuple(fields["class_names"]),
        counts={split: tuple(counts) for split, counts in fields["counts"].items()},
        train=dict(fields["train"]),
        test=dict(fields["test"]),
    )


def changes(before: Contents, now: Contents) -> list[str]:
    """Returns the changes of a data set in words, with counts and the first names.

    Args:
        before: The earlier contents.
        now: The present contents.
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
    """Returns the names of test files whose content was trained on before, under any name.

    Args:
        before: The contents of the data set when it was trained on.
        now: The contents of the data set that would be tested.
    """
    trained = set(before.train.values())
    return sorted(
        name
        for name, fingerprint in now.test.items()
        if fingerprint in trained and before.test.get(name) != fingerprint
    )


def counted(names: Collection[str], what: str) -> str:
    """Returns a count and the first names, such as `2 files (a, b)`.

    Args:
        names: All names; the alphabetically first are shown.
        what: A noun phrase that follows the count.

    Example:

    >>> counted({"d", "c", "b", "a"}, "added")
    '4 added (a, b, c, ...)'
    """
    more = ", ..." if len(names) > NAMES_SHOWN else ""
    return f"{len(names)} {what} ({', '.join(sorted(names)[:NAMES_SHOWN])}{more})"


def fingerprint_of(size: int, numbers: Sequence[int]) -> str:
    """Returns the fingerprint of a file.

    Args:
        size: Size of the file in bytes.
        numbers: Fingerprints of its images, and their labels where the file has them.
    """
    digest = hashlib.sha256(",".join(map(str, numbers)).encode()).hexdigest()
    return f"{size}:{digest[:16]}"
