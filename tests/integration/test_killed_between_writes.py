"""A run that is killed between any two of its writes goes on to what it would have come to.

One run is trained, and before each of its writes what is there is copied: that is what a kill at
that moment leaves.
"""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import ClassVar

import keras
import pytest

import reszoo.gradients
from reszoo import ResidualBlock
from reszoo.gradients.log import LogWriter
from reszoo.training import loggers, model, prepare
from reszoo.training.callbacks import logging
from reszoo.training.checkpoint_files import BEST_FILE, read_arrays
from reszoo.training.config import complete
from reszoo.training.event_files import EventFiles
from reszoo.training.modes.trained_model import load_model
from tests.training import tiny

EPOCHS = 2
WRITES = {"os.rename", "os.remove", "os.link", "os.mkdir"}


def config():
    config = complete(tiny.get_config())
    changes = {"epochs": EPOCHS, "recording.every_steps": 2, "checkpoint.keep": 1}
    changes |= {"checkpoint.every_steps": 4, "optimizer.learning_rate": 0.02}
    config.update_from_flattened_dict({**changes, "loggers": ("wandb",)})
    return config


def network(config, pipeline):
    """A network that is traced in a moment."""
    return keras.Sequential(
        [
            keras.Input(pipeline.image_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
            ResidualBlock([keras.layers.Dense(4)], name="block"),
            keras.layers.Dense(pipeline.source.num_classes),
        ]
    )


class Kept:
    """A logger that keeps what it is sent."""

    sent: ClassVar[list] = []

    def __init__(self, workdir, config, run_id):
        self.run_id = run_id or "new"

    def log(self, step, figures):
        self.sent.append(step)

    def close(self):
        pass


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "create_network", network)
        patch.setitem(loggers.LOGGERS, "wandb", Kept)
        patch.setattr(logging, "check_logger", lambda name: None)
        yield


class Copies:
    """Copies a directory before each write into it, as far as it differs from the copy before.

    Python tells of its writes by an audit hook, which can be switched off but not removed; those of
    TensorFlow are seen by the functions that ask for them.
    """

    def __init__(self, directory, target):
        self.directory, self.target = str(directory), target
        self.known, self.seen = set(), set()
        self.active = False
        self.within = True
        sys.addaudithook(self._hear)

    def _hear(self, event, arguments):
        if not self.active or (event not in WRITES and event != "open"):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if str(arguments[0]).startswith(self.directory):
            self.take(f"{event} {Path(str(arguments[0])).name}")

    def take(self, name):
        if not self.active or not self.within or not os.path.exists(self.directory):
            return
        self.active = False
        self.seen.add(name.split(" ", 1)[1])
        digest = self._digest()
        if digest not in self.known:
            shutil.copytree(self.directory, self.target / f"{len(self.known):02} {name}")
        self.known.add(digest)
        self.active = True

    def _digest(self):
        digest = hashlib.sha256()
        for path in sorted(Path(self.directory).rglob("*")):
            # What is half-written would differ each time, and stays behind with another write.
            if ".partial" in path.name:
                continue
            digest.update(f"{path}\n".encode() + (path.read_bytes() if path.is_file() else b""))
        return digest.hexdigest()


@pytest.fixture(scope="module")
def copies(tmp_path_factory, _quick):
    """Work directories as a kill at any moment leaves them, beside `whole` without a kill."""
    directory = tmp_path_factory.mktemp("copies")
    taken = Copies(directory / "whole", directory)
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, what in (
            (LogWriter, "flush", "gradients"),
            (EventFiles, "writing", "scalars"),
        ):
            before = getattr(owner, name)

            def telling(*arguments, before=before, what=what, **named):
                taken.take(f"write {what}")
                return before(*arguments, **named)

            patch.setattr(owner, name, telling)
        keras.utils.clear_session(free_memory=False)
        taken.active = True
        run = prepare(config(), directory / "whole")
        run.callbacks.in_order.insert(0, OnlyLastEpoch(taken))
        run.train()
        taken.active = False
    return taken


class OnlyLastEpoch(keras.callbacks.Callback):
    """Leaves out the epochs before the last, in which no other writes are made."""

    def __init__(self, copies):
        super().__init__()
        self.copies = copies

    def on_epoch_begin(self, epoch, logs=None):
        self.copies.within = epoch == EPOCHS - 1


def result(workdir):
    """Returns all that a run comes to."""
    checkpoints = workdir / "checkpoints"
    newest, best = (
        read_arrays(p) for p in (max(checkpoints.glob("step-*")), checkpoints / BEST_FILE)
    )
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((workdir / "summary.json").read_text())
    written = ("config.json", "confusion.csv", "data.json", "loggers.json")
    return {
        "checkpoint": {name: array.tobytes() for name, array in newest.items()},
        "best": {name: array.tobytes() for name, array in best.items()},
        "model": [w.tobytes() for w in load_model(workdir).get_weights()],
        "metrics": [{**line, "images_per_second": None} for line in lines],
        "summary": {**summary, "train_seconds": None, "images_per_second": None},
        "log": reszoo.gradients.load(str(workdir)).to_csv(),
        **{name: (workdir / name).read_bytes() for name in written},
        "left over": [path.name for path in workdir.rglob("*.partial*")],
    }


def test_every_kind_of_write_was_seen(copies):
    assert {
        "config.partial.json",
        "data.partial.json",
        "provenance.jsonl",
        "metrics.partial.jsonl",
        "loggers.partial.json",
        "step-000000-000000000.partial.npz",  # before the first step
        "step-000001-000000004.partial.npz",  # within an epoch
        "step-000002-000000000.partial.npz",  # after it
        "step-000001-000000004.npz",  # which is no longer kept
        "best.partial.npz",
        "metrics.jsonl",
        "scalars",
        "gradients",
        "model.partial.keras",
        "confusion.partial.csv",
        "summary.partial.json",
    } <= copies.seen


def test_it_goes_on_to_the_same_from_wherever_it_was_killed(copies):
    expected = result(copies.target / "whole")
    for workdir in sorted(copies.target.glob("[0-9]*")):
        keras.utils.clear_session(free_memory=False)
        run = prepare(config(), workdir)
        if not run.callbacks.checkpoints.files:  # it begins anew; training shows no more
            assert (run.state.epoch, run.state.batch) == (0, 0), workdir.name
            run.lock.release()
            continue
        run.train()
        found = result(workdir)
        differing = [name for name in expected if found[name] != expected[name]]
        assert not differing, workdir.name
