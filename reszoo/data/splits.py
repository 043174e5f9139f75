"""Names of splits in folders, files and data sets, and the role of each."""

import re
from collections.abc import Collection

# Names by role. Where a data set of TensorFlow Datasets has several, the first one counts.
SPLIT_NAMES = {
    "train": ("train", "training", "trainset", "trn"),
    "test": ("test", "testing", "testset", "tst", "holdout", "t10k"),
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
    """Returns the role of a split, `"train"`, `"test"` or `"validation"`; `None` for other names.

    Args:
        name: The whole name, in any case.

    Example:

    >>> role_named("Training"), role_named("VALID"), role_named("cat")
    ('train', 'validation', None)
    """
    return _ROLES.get(name.lower())


def roles_within(name: str) -> set[str]:
    """Returns the roles of the splits whose names are words in a longer name.

    Args:
        name: The name of a file or folder.

    Example:

    >>> roles_within("imagenet-Train-00001-of-01024"), roles_within("latest_contest")
    ({'train'}, set())
    """
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name))
    return {_ROLES[word.lower()] for word in words if word.lower() in _ROLES}


def tested_role(roles: Collection[str]) -> str | None:
    """Returns the role that is tested: `"test"`, or else `"validation"`, or else `None`.

    Args:
        roles: The roles that a data set has.
    """
    return next((role for role in ("test", "validation") if role in roles), None)
