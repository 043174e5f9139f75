"""Format of a gradient log: tags, version, headers and directories. Imports no framework."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from reszoo.gradients.log.packed_layers import (
    PACKED_LAYERS,
    PACKED_PATHS,
    layers_in,
    pack_layers,
    unpack_layers,
)
from reszoo.json_files import OptionalField, parse_json, to_json

PLUGIN_NAME = "gradient_flow"
TAG = "gradient_flow"
VARIABLES_TAG = "gradient_flow_variables"
HISTOGRAMS_TAG = "gradient_flow_histograms"
ALARMS_TAG = "gradient_flow/alarms"
FINDINGS_TAG = "gradient_flow/findings"
TABLES_PLUGIN = "gradient_flow_tables"
LOSS_TAGS = (
    f"{TAG}/loss",
    "loss",
)  # of the scalar beside the recorded steps, the first that is there
EPOCH_TAG = f"{TAG}/epoch"  # of a scalar at the first step of each epoch
GRADIENTS_DIRECTORY = "gradients"  # of the log, in the work directory of a training
FILE_PREFIX = "events.out.tfevents."
FORMAT_VERSION = 1

_HEADER = {
    "version": int,
    "blocks": [
        {
            "name": str,
            OptionalField("shortcut"): str,
            OptionalField("stops_gradient"): bool,
            OptionalField("parent"): (str, None),
            OptionalField("trainable_weights"): int,
            OptionalField("layers"): PACKED_LAYERS,
        }
    ],
    **PACKED_PATHS,
    "statistics": [str],
    OptionalField("tested_alarms"): [{"alarm": str}],
}
_SOURCE = "The log's header"
_CURE = "Record the run again, or delete the file."


def is_tag_of(found: str, tag: str) -> bool:
    """Returns whether a tag equals a plain tag, with or without a digest of its header.

    Args:
        found: The tag of a tensor.
        tag: The plain tag.

    Example:

    >>> [is_tag_of(found, "flow") for found in ("flow", "flow@f00", "flow/norm")]
    [True, True, False]
    """
    return found == tag or found.startswith(f"{tag}@")


def tag_of(header: Mapping, others: Iterable[str]) -> str:
    """Returns the tag that only files with this header have in a directory.

    Numbers at the ends of layers' names count for nothing: Keras gives another one to a layer
    without a name each time that a model is built.

    Args:
        header: The header of a new file.
        others: The texts of the headers under the plain tag in the directory.

    Example:

    >>> tag_of({"version": 1, "blocks": []}, [])
    'gradient_flow'
    """
    content = header_text(header)
    identity = _identity(content)
    if _identity(next(iter(others), content)) == identity:
        return TAG
    return f"{TAG}@{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def header_text(header: Mapping) -> str:
    """Returns the JSON text of a header, with the layers of blocks in their short form.

    Args:
        header: The header as `parse_header` returns it.
    """
    return to_json({**header, **pack_layers(header["blocks"])})


def _identity(content: str) -> str:
    """Returns what tells a header from others; of one that cannot be read, its whole text."""
    try:
        header = parse_header(content)
    except ValueError:
        return content
    for block in header["blocks"]:
        for _, layer in layers_in(block):
            layer["name"] = layer["name"] and re.sub(r"_\d+$", "", layer["name"])
    return to_json(header)


def parse_header(content: bytes | str) -> dict:
    """Reads the header of a log.

    Args:
        content: The JSON text in a log's summary metadata.

    Returns:
        A dictionary with at least `blocks`, a list of dictionaries with a `name` and what else
        `describe_blocks` gives, and `statistics`, a list of names; also `tested_alarms`, a list of
        dictionaries with the kind of the `alarm` and its limits, if the recorder wrote it. Numbers
        that are not finite are `None`.

    Raises:
        ValueError: If the text is not a header of a log, or is one of a newer version.

    Example:

    >>> parse_header('{"version": 1, "blocks": [{"name": "a"}], "statistics": ["b"]}')["blocks"]
    [{'name': 'a'}]
    """
    version = parse_json(content, {"version": int}, _SOURCE, _CURE)["version"]
    if version != FORMAT_VERSION:
        raise ValueError(
            f"The log is of format {version}, and this version of reszoo reads format "
            f"{FORMAT_VERSION}. Install the version of reszoo that recorded it."
        )
    header = parse_json(content, _HEADER, _SOURCE, _CURE)
    try:
        header["blocks"] = unpack_layers(header["blocks"], header.pop("paths", []))
    except ValueError as error:
        raise ValueError(f"{_SOURCE} cannot be read: {error}. {_CURE}") from error
    _check_names("block", [block["name"] for block in header["blocks"]])
    _check_names("statistic", header["statistics"])
    return json.loads(to_json(header))


def parse_table_header(content: bytes | str) -> dict[str, Any]:
    """Reads the header of a table in a log: the names of its `rows` and `columns`.

    Args:
        content: The JSON text in the table's summary metadata.

    Raises:
        ValueError: If the text is not a header of a table.
    """
    return parse_json(content, {"rows": [str], "columns": [str]}, _SOURCE, _CURE)


def log_directories(log_dir: str) -> tuple[str, str]:
    """Returns the two directories that a log can be in: the given one, and that of a training.

    Args:
        log_dir: A recorder's `log_dir`, or the work directory of a training.

    Example:

    >>> log_directories("runs/digits")
    ('runs/digits', 'runs/digits/gradients')
    """
    return log_dir, os.path.join(log_dir, GRADIENTS_DIRECTORY)


def _check_names(kind: str, names: list[str]) -> None:
    if not names:
        raise ValueError(f"{_SOURCE} cannot be read: it names no {kind}. {_CURE}")
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"{_SOURCE} cannot be read: it names two {kind}s {repeated!r}. {_CURE}")
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{_SOURCE} cannot be read: {name!r} is not UTF-8. {_CURE}") from error
