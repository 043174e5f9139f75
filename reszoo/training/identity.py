"""The identity of a run: the fields and data that must not change when it is resumed."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from reszoo.training.config import complete, flat

# Fields that may differ in a resumed run: its length, its speed, and what is recorded.
MAY_CHANGE = (
    "best",
    "checkpoint",
    "epochs",
    "jit_compile",
    "loggers",
    "nonfinite",
    "recording",
    "steps_per_loop",
    "strategy",
    "tensorboard",
)


@dataclasses.dataclass(frozen=True)
class Identity:
    """The configuration and the data of a run; written into each of its checkpoints.

    Args:
        fields: The fields of the configuration that must not change, in their sections.
        data: The digest of the data; empty if not known.
    """

    fields: dict[str, Any]
    data: str = ""

    def check_same(self, found: "Identity", where: str) -> None:
        """Checks that another identity is of the same run.

        Args:
            found: The other identity. Fields that it lacks have their defaults; data are compared
                only if both digests are known.
            where: The file that holds it, for the error.

        Raises:
            ValueError: If it is of another run.
        """
        before, now = _complete(found.fields), _complete(self.fields)
        for field in sorted(before.keys() | now.keys()):
            if before.get(field) != now.get(field) and field.split(".")[0] not in MAY_CHANGE:
                raise ValueError(
                    f"{where} holds a run with {field}={before.get(field)!r}, but now it is "
                    f"{now.get(field)!r}. Give another workdir, or the same configuration."
                )
        if self.data and found.data and self.data != found.data:
            raise ValueError(
                f"{where} holds a run of other data: {now.get('data.name')!r} has changed since. "
                "Give another workdir, or the data as they were."
            )


def identity_of(config: ConfigDict, data: str = "") -> Identity:
    """Returns the identity of a run; `data` is the digest of its data."""
    fields = config.to_dict()
    return Identity({name: fields[name] for name in fields if name not in MAY_CHANGE}, data)


def identity_to_json(identity: Identity) -> str:
    """Returns an identity as JSON."""
    return json.dumps(dataclasses.asdict(identity), sort_keys=True)


def identity_from_json(text: str) -> Identity:
    """Reads an identity from JSON.

    Args:
        text: JSON that `identity_to_json` returned.

    Raises:
        ValueError: If the text is not such JSON.
    """
    try:
        identity = Identity(**json.loads(text))
        _complete(identity.fields)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"it says of the run: {text[:80]!r}") from error
    return identity


def _complete(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all fields by their full names, with defaults for those of later versions."""
    # By way of JSON, which has lists in place of tuples.
    return flat(json.loads(json.dumps(complete(ConfigDict(fields)).to_dict())))
