"""The provenance of a result: command, versions and devices, one line for each start."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

from reszoo.files import append_text, as_path
from reszoo.json_files import to_json

PACKAGES = ("reszoo", "keras", "tensorflow", "tensorflow-datasets", "numpy", "ml_collections")


def write_provenance(path: str | os.PathLike, seed: int) -> None:
    """Appends the provenance to a file, as one line of JSON."""
    path = as_path(path)
    # An incomplete line of a killed process stays on its own line.
    is_cut = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
    append_text(path, "\n" * is_cut + to_json(provenance(seed)) + "\n")


def provenance(seed: int) -> dict[str, Any]:
    """Returns the command, the time, the versions of packages, the git revision and the devices.

    Example:

    >>> provenance(seed=3)["seed"]
    3
    """
    devices = tf.config.list_logical_devices()
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "seed": seed,
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "machine": f"{platform.system()} {platform.machine()}",
        "devices": [device.name.removeprefix("/device:") for device in devices],
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Returns the git revision of this source, with `+` if files differ; `None` outside of git."""
    here = Path(__file__).parent
    try:
        revision, changes = (
            subprocess.run(
                ["git", *command], cwd=here, capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision + "+" * bool(changes)
