"""The identity of a run: what has to stay as it is while the run goes on from its checkpoints."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from reszoo.training.config import complete, flat

# What may differ when a run is taken up again: how long, how fast, and what is looked at.
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
        fields: The fields of the configuration that have to stay, in their sections.
        data: The digest of the data; empty where it is not known.
    """

    fields: dict[str, Any]
    data: str = ""

    def check_same(self, found: "Identity", where: str) -> None:
        """Makes sure that what was found is of the same run.

        Args:
            found: The identity that was found; what it does not know differs from nothing.
            where: The file that it was found in, for the error.

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
    """Returns the identity of a run."""
    fields = config.to_dict()
    return Identity({name: fields[name] for name in fields if name not in MAY_CHANGE}, data)


def identity_to_json(identity: Identity) -> str:
    """Returns an identity as JSON."""
    return json.dumps(dataclasses.asdict(identity), sort_keys=True)


def identity_from_json(text: str) -> Identity:
    """Returns the identity that was written as JSON.

    Args:
        text: What `identity_to_json` returned.

    Raises:
        ValueError: If it is something else.
    """
    try:
        identity = Identity(**json.loads(text))
        _complete(identity.fields)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"it says of the run: {text[:80]!r}") from error
    return identity


def _complete(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all fields by their full names, with defaults for those of later versions."""
    # Through JSON, for what was read from there has no tuples.
    return flat(json.loads(json.dumps(complete(ConfigDict(fields)).to_dict())))
