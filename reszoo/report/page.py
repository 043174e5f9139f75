"""The Gradient Flow page with its data embedded, for a browser or a notebook."""

import base64
import gzip
import hashlib
import html
import importlib.resources
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from reszoo.files import as_path
from reszoo.gradients import read_findings, records
from reszoo.gradients.alarm_log import Finding
from reszoo.gradients.log import HISTOGRAMS_TAG
from reszoo.gradients.log.event_files import log_directory
from reszoo.gradients.log.packed_layers import pack_layers
from reszoo.gradients.log.reader import epoch_starts, losses, tensors
from reszoo.json_files import to_json
from reszoo.tensorboard import recording as recordings
from reszoo.tensorboard.beside import last_test_accuracy
from reszoo.tensorboard.path_lengths import path_lengths_of

# Recorded steps of a run in the page; the table beside it has all.
MOST_STEPS = 1_000
# And of these with their histograms, which are larger.
MOST_HISTOGRAMS = 80

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
</head>
<body>
<script type="application/json" id="gradient-flow-data">{data}</script>
<script type="module">{script}</script>
</body>
</html>
"""


@dataclass(frozen=True)
class Page:
    """HTML page with a representation for notebooks.

    Attributes:
        content: The page as HTML.
    """

    content: str

    def _repr_html_(self) -> str:
        # The frame keeps the page's styles, address and scripts apart from the notebook's.
        return (
            f'<iframe srcdoc="{html.escape(self.content)}" '
            'sandbox="allow-scripts allow-downloads allow-modals" '
            'style="width: 100%; height: 860px; border: 0"></iframe>'
        )


def show(log: str | Sequence[str]) -> Page:
    """Returns the Gradient Flow page of runs for a notebook: the last line of a cell shows it.

    Args:
        log: A recorder's `log_dir` or a training's workdir, or several of them to compare.

    Raises:
        ValueError: If there is no log, or it has no recorded step.

    Example:

    >>> import tempfile
    >>> from reszoo.gradients.log import LogWriter
    >>> log_dir = tempfile.mkdtemp()
    >>> LogWriter(log_dir, [{"name": "block1"}], ["skip_share"], 0).write(0, [[0.5]], {})
    >>> show(log_dir).content[:15]
    '<!DOCTYPE html>'
    """
    return Page(page([log] if isinstance(log, str | os.PathLike) else log))


def page(log_dirs: Sequence[str]) -> str:
    """Returns the Gradient Flow page of runs, as HTML that needs no other file and no network.

    A run whose log cannot be read is named in the page, with the reason.

    Args:
        log_dirs: Recorders' `log_dir`s, or trainings' workdirs.

    Raises:
        ValueError: If no log can be read and has a recorded step.
    """
    names = run_names(log_dirs)
    runs = [_run(name, str(log_dir)) for name, log_dir in zip(names, log_dirs, strict=True)]
    if all("error" in run for run in runs):
        raise ValueError(runs[0]["error"])
    script = importlib.resources.files("reszoo.tensorboard").joinpath("static/index.js").read_text()
    return _PAGE.format(
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        title=html.escape(f"Gradient flow: {', '.join(names)}"),
        # In JSON the escape is the same character, and no string can end the HTML element.
        data=to_json({"runs": runs}).replace("<", "\\u003c"),
        script=script,
    )


def run_names(log_dirs: Sequence[str]) -> list[str]:
    """Returns the names of runs: those of their directories, or the whole paths if two are equal.

    Args:
        log_dirs: Recorders' `log_dir`s, or trainings' workdirs.

    Raises:
        ValueError: If a directory is given twice, or a training and the log in it.

    Example:

    >>> run_names(["runs/a", "runs/b"]), run_names(["x/a", "y/a"])
    (['a', 'b'], ['x/a', 'y/a'])
    """
    given = [str(log_dir) for log_dir in log_dirs]
    if len(given) > 1:
        _check_given_once(given)
    names = [as_path(log_dir).resolve().name for log_dir in given]
    return names if len(set(names)) == len(names) else given


def _check_given_once(given: Sequence[str]) -> None:
    logs = [as_path(log_directory(log_dir)).resolve() for log_dir in given]
    for log in logs:
        same = [name for name, other in zip(given, logs, strict=True) if other == log]
        if len(same) > 1:
            spelled = " and ".join(map(repr, dict.fromkeys(same)))
            directories = {as_path(name).resolve() for name in same}
            several = "are one directory" if len(directories) == 1 else "have one log"
            found = several if len(set(same)) > 1 else "is given more than once"
            raise ValueError(f"Each run must be given once, but {spelled} {found}.")


def _run(name: str, log_dir: str) -> dict[str, Any]:
    """Returns the data of a run in the form of the answers of TensorBoard's server."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            described = _described(name, log_dir)
        except ValueError as error:
            described = {"run": name, "error": str(error)}
    for warning in caught:
        warnings.warn(warning.message, stacklevel=3)
    return {**described, "notes": list(dict.fromkeys(str(each.message) for each in caught))}


def _described(name: str, log_dir: str) -> dict[str, Any]:
    recording = recording_of(log_dir)
    alarms = _alarms(log_dir)
    shown = recordings.select_steps(
        recording, 0, recording.steps[-1], MOST_STEPS, [alarm["step"] for alarm in alarms]
    )
    return {
        "run": name,
        "last_step": int(recording.steps[-1]),
        **pack_layers(recording.blocks),
        "statistics": recordings.describe_statistics(recording.statistics),
        "alarms": alarms,
        "tested_alarms": recording.tested_alarms,
        "path_lengths": path_lengths_of(log_dir),
        "test_accuracy": last_test_accuracy(log_dir),
        "loss": _loss(log_dir, shown.steps),
        "histograms": _histograms(log_dir),
        "epochs": recordings.describe_epochs(epoch_starts(log_dir)),
        "packed": _compressed(recordings.pack(shown, len(recording.steps))),
    }


def recording_of(log_dir: str) -> recordings.Recording:
    """Returns a log's recording, under whichever headers.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir.

    Raises:
        ValueError: If there is no log, or it has no recorded step.
    """
    # The records of a file share one header, whose text is long.
    texts: dict[int, tuple[Any, str]] = {}
    parts: dict[str, tuple[dict, list]] = {}
    for record in records(log_dir):
        header = {
            "blocks": record.blocks,
            "statistics": record.statistics,
            "tested_alarms": record.tested_alarms,
        }
        if id(record.blocks) not in texts:
            texts[id(record.blocks)] = record.blocks, to_json(header)
        _, points = parts.setdefault(texts[id(record.blocks)][1], (header, []))
        points.append((record.step, record.wall_time, record.values))
    if not parts:
        raise ValueError(f"The log in {log_dir!r} has no recorded step yet.")
    return recordings.join([recordings.stack(*part) for part in parts.values()])


def _histograms(log_dir: str) -> str | None:
    """Returns the packed histograms of some steps; `None` if there are none."""
    parts: dict[str, tuple[dict, list]] = {}
    kept, number = _evenly(tensors(log_dir, HISTOGRAMS_TAG))
    for event, header, values in kept:
        content = to_json(header)
        _, points = parts.setdefault(content, (recordings.histograms_header(content), []))
        points.append((event.step, event.wall_time, values))
    if not parts:
        return None
    joined = recordings.join([recordings.stack(*part) for part in parts.values()])
    return _compressed(recordings.pack(joined, number))


def _evenly(histograms: Iterable[tuple]) -> tuple[list[tuple], int]:
    """Returns `MOST_HISTOGRAMS` at most, with the first and the last, and the number of all.

    All of a long run may be more than fits into memory.
    """
    kept, every, number, last = [], 1, 0, []
    for number, histogram in enumerate(histograms, start=1):
        last = [histogram]
        if (number - 1) % every == 0:
            kept.append(histogram)
        if len(kept) > MOST_HISTOGRAMS:
            kept, every = kept[::2], 2 * every
    if not last or kept[-1] is last[0]:
        return kept, number
    return [*(kept if len(kept) < MOST_HISTOGRAMS else kept[::2]), *last], number


def _compressed(packed: bytes) -> str:
    return base64.b64encode(gzip.compress(packed, mtime=0)).decode()


def _loss(log_dir: str, steps: np.ndarray) -> dict[str, list]:
    """Returns the loss at the page's steps; of a log without any of them, at evenly spaced ones."""
    found = losses(log_dir)
    shown = {step: found[step] for step in map(int, steps) if step in found}
    spaced = dict(list(found.items())[:: len(found) // MOST_STEPS + 1])
    return recordings.describe_loss(shown or spaced)


def _alarms(log_dir: str) -> list[dict[str, Any]]:
    """Returns the alarms of a run, by step."""
    found = [asdict(finding) for finding in _findings(log_directory(log_dir))]
    return sorted(found, key=lambda alarm: (alarm["step"], alarm["wall_time"]))


def _findings(log_dir: str) -> list[Finding]:
    try:
        return read_findings(log_dir)
    except ValueError as error:
        warnings.warn(f"The alarms of the run are left out. {error}", stacklevel=4)
        return []
