"""Command line of a run: `python -m reszoo.train --config=digits_resnet18 --workdir=DIR`.

The configuration is a Python file, or the name of a recipe that comes with the package. Any field
of it can be set: `--config.epochs=3`. The same command resumes a run that was stopped.
"""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging

STOPPED = "stopped; run the same command again to go on."
_CONFIG = flags.DEFINE_string("config", None, "The configuration, a Python file or a recipe.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run, local or gs://.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval", "export", "predict"], "What to do.")
_IMAGES = flags.DEFINE_list("images", [], "Image files to predict.")
_FORMAT = flags.DEFINE_list("format", ["savedmodel"], "What to export: savedmodel,onnx,tflite.")

_FIELD = re.compile(r"--?(no)?config\.([^=]*)(?:=(.*))?", flags=re.DOTALL)


def main(argv: list[str]) -> None:
    """Trains, evaluates, exports or predicts, as the flags say.

    Args:
        argv: The name of the program, then fields of the configuration as `name=text`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with _interrupts_end_it_at_once():
            # Imported here, so that an error in a flag does not wait for TensorFlow.
            try:
                from reszoo import training
            except ImportError as error:  # without TensorFlow, or what comes with it
                _fail(error)
        _run(training, [tuple(field.split("=", 1)) for field in argv[1:]])
    except KeyboardInterrupt:
        _fail(STOPPED)


def _run(training: Any, fields: list[tuple[str, ...]]) -> None:
    try:
        config, workdir = training.read_config(_CONFIG.value, fields), _WORKDIR.value
        if _MODE.value == "train":
            training.prepare(config, workdir).train()
        elif _MODE.value == "eval":
            training.evaluate_run(config, workdir)
        elif _MODE.value == "export":
            training.export_run(config, workdir, _FORMAT.value)
        else:
            training.predict_run(config, workdir, _IMAGES.value)
    except training.failures.FAILURES as error:
        _fail(training.failures.in_one_line(error))


@contextlib.contextmanager
def _interrupts_end_it_at_once() -> Iterator[None]:
    """Ends the program at an interrupt; during an import it would become another error."""

    def end(number: int, frame: Any) -> None:
        print(f"train.py: {STOPPED}", file=sys.stderr, flush=True)
        os._exit(1)

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def parse_flags(argv: list[str]) -> list[str]:
    """Returns the program and the fields on the command line; an error is one line."""
    try:
        rest, fields = _without_fields(flags.FLAGS.read_flags_from_files(argv, force_gnu=False))
        rest = flags.FLAGS(rest)
    except flags.Error as error:
        _fail(error)
    if len(rest) > 1:
        _fail(f"there is no argument {rest[1]!r}; options start with --, see --help.")
    if not _CONFIG.value:
        _fail("--config must be given, such as --config=configs/digits_resnet18.py.")
    if not _WORKDIR.value:
        _fail("--workdir must be given, the directory of the run, such as --workdir=runs/digits.")
    if flags.FLAGS["verbosity"].using_default_value:
        logging.set_verbosity(logging.WARNING)
    return [*rest, *fields]


def _without_fields(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the arguments without `--config.NAME=TEXT`, and those as `NAME=TEXT`."""
    rest, fields, arguments = [], [], list(argv)
    while arguments:
        argument = arguments.pop(0)
        found = _FIELD.fullmatch(argument)
        if argument == "--":
            return [*rest, argument, *arguments], fields
        if not found:
            rest.append(argument)
            continue
        negated, name, text = found.groups()
        if text is None and not negated and arguments and not arguments[0].startswith("--"):
            text = arguments.pop(0)
        fields.append(f"{name}={text if text is not None else not negated}")
    return rest, fields


def _fail(reason: object) -> NoReturn:
    sys.exit(f"train.py: {' '.join(str(reason).split())}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
