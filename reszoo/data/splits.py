"""Names of splits, as folders, files and data sets have them."""

import re
from collections.abc import Collection

# By what they are for; the first of several names counts, where a data set has them all.
SPLIT_NAMES = {
    "train": ("train", "training", "trainset", "trn"),
    "test": ("test", "testing", "testset", "tst", "holdout"),
    "validation": (
        "validation",
        "valid",
        "val",
        "validate",
        "validating",
        "valset",
        "dev",
        "devel",
        "development",
        "eval",
        "evaluation",
        "evaluate",
    ),
}
_ROLES = {name: role for role, names in SPLIT_NAMES.items() for name in names}


def role_named(name: str) -> str | None:
    """Returns what a split is for: `"train"`, `"test"` or `"validation"`; `None` if it is none.

    Args:
        name: The whole of its name, in any case.

    Example:

    >>> role_named("Training"), role_named("VALID"), role_named("cat")
    ('train', 'validation', None)
    """
    return _ROLES.get(name.lower())


def roles_within(name: str) -> set[str]:
    """Returns what splits are for whose names are words within another name.

    Args:
        name: Of a file or folder.

    Example:

    >>> roles_within("imagenet-Train-00001-of-01024"), roles_within("latest_contest")
    ({'train'}, set())
    """
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name))
    return {_ROLES[word.lower()] for word in words if word.lower() in _ROLES}


def tested_role(roles: Collection[str]) -> str | None:
    """Returns what is tested on: `"test"`, or `"validation"` where there is none.

    Args:
        roles: What there is.
    """
    return next((role for role in ("test", "validation") if role in roles), None)
