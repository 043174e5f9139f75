"""What descriptions of networks have in common: a call may change any field for one model."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

Description = TypeVar("Description")


def changed(description: Description, changes: Mapping[str, Any]) -> Description:
    """Returns a description with some of its fields changed.

    Args:
        description: A dataclass with a field `name`.
        changes: The new values of fields.

    Returns:
        Another description.

    Raises:
        ValueError: If there is no such field.
    """
    fields = [field.name for field in dataclasses.fields(description)]
    for name in changes:
        if name not in fields:
            near = difflib.get_close_matches(name, fields) or fields
            raise ValueError(f"{description.name} has no option {name!r}. Did you mean: {near}?")
    return dataclasses.replace(description, **changes)
