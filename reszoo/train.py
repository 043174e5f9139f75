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

from reszoo.training.terminal import (
    flush,
    is_terminal,
    open_standard_descriptors,
    write_warnings_plainly,
)

STOPPED = "stopped; run the same command again to go on."
_CONFIG = flags.DEFINE_string("config", None, "The configuration, a Python file or a recipe.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run, local or gs://.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval", "export", "predict"], "What to do.")
_IMAGES = flags.DEFINE_list("images", [], "Image files to predict.")
_FORMAT = flags.DEFINE_list("format", ["savedmodel"], "What to export: savedmodel,onnx,tflite.")
_FOLD = flags.DEFINE_bool("fold", False, "Whether to export batch normalizations folded.")

# Options that only one mode reads.
_MODE_OF = {"fold": "export", "format": "export", "images": "predict"}
_FIELD = re.compile(r"--?(no)?config\.([^=]*)(?:=(.*))?", flags=re.DOTALL)


def main(argv: list[str]) -> None:
    """Trains, evaluates, exports or predicts, as the flags say.

    Args:
        argv: The name of the program, then fields of the configuration as `name=text`.
    """
    from reszoo.training.freed_memory import keep_freed_memory
    from reszoo.training.quiet_start import HeldMessages

    open_standard_descriptors()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keep_freed_memory(os.environ)
    held = HeldMessages()
    try:
        with _interrupts_end_it_at_once(held):
            config = _read_config([tuple(field.split("=", 1)) for field in argv[1:]])
            failures = _start_tensorflow(held)
        _run(config, held, failures)
    except KeyboardInterrupt:
        held.release()
        sys.exit(f"{_over_ctrl_c()}train.py: {STOPPED}")


def _read_config(fields: list[tuple[str, ...]]) -> Any:
    """Returns the configuration, checked as far as that needs no TensorFlow."""
    try:
        from reszoo.training.config_file import read_config_without_keras
    except ImportError as error:
        _fail(f"{error}. Install what train.py needs with pip install 'reszoo[tensorflow]'.")
    pairs: Any = fields
    try:
        return read_config_without_keras(_CONFIG.value or "", pairs)
    except (ValueError, OSError) as error:
        _fail(error)


def _start_tensorflow(held: Any) -> Any:
    """Imports TensorFlow, whose messages are held back; returns the module of failures."""
    if flags.FLAGS.verbosity < logging.INFO:
        held.hold()
    if is_terminal(sys.stderr):
        print("Starting TensorFlow ...", file=sys.stderr)
        flush(sys.stderr)
    try:
        from reszoo.training import check_backend

        check_backend()
        from reszoo.training import failures
    except ImportError as error:  # without TensorFlow, or what comes with it
        held.show()
        _fail(error)
    return failures


def _run(config: Any, held: Any, failures: Any) -> None:
    try:
        _in_mode(_MODE.value, config, held)
    except failures.FAILURES as error:
        held.show()
        _fail(failures.in_one_line(error))
    held.release()


def _in_mode(mode: str, config: Any, held: Any) -> None:
    from reszoo import training
    from reszoo.training.callbacks.first_batch import FirstBatch

    workdir: Any = _WORKDIR.value
    if mode == "train":
        run = training.prepare(config, workdir)
        run.callbacks.in_order.append(FirstBatch(held.release))
        run.train()
    elif mode == "eval":
        training.evaluate_run(config, workdir)
    elif mode == "export":
        training.export_run(config, workdir, _FORMAT.value, _FOLD.value)
    else:
        training.predict_run(config, workdir, _IMAGES.value)


@contextlib.contextmanager
def _interrupts_end_it_at_once(held: Any) -> Iterator[None]:
    """Ends the program at an interrupt; during an import it would become another error."""

    def end(number: int, frame: Any) -> None:
        held.release()
        if sys.stderr is not None:
            print(f"{_over_ctrl_c()}train.py: {STOPPED}", file=sys.stderr)
        flush(sys.stderr)
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
    except (flags.Error, ValueError) as error:
        from reszoo.training.flag_errors import in_a_sentence

        _fail(in_a_sentence(error))
    if len(rest) > 1:
        _fail(f"there is no argument {rest[1]!r}; options start with --, see --help.")
    if not _CONFIG.value:
        _fail("--config must be given, such as --config=configs/digits_resnet18.py.")
    if not _WORKDIR.value:
        _fail("--workdir must be given, the directory of the run, such as --workdir=runs/digits.")
    for name, mode in _MODE_OF.items():
        flag = flags.FLAGS[name]
        if mode != _MODE.value and not flag.using_default_value and flag.value is not False:
            _fail(f"--{name} needs --mode={mode}.")
    if flags.FLAGS["verbosity"].using_default_value:
        logging.set_verbosity(logging.WARNING)
    if flags.FLAGS.verbosity < logging.INFO:
        write_warnings_plainly()
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


def _over_ctrl_c() -> str:
    """Returns what has a line written over the ^C of a terminal."""
    return "\r" if is_terminal(sys.stderr) else ""


def _fail(reason: object) -> NoReturn:
    sys.exit(f"train.py: {' '.join(str(reason).split())}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
