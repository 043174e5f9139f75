"""Trains a model: `python train.py --config=configs/digits_resnet18.py --workdir=DIR`.

Any field of the configuration can be set: `--config.epochs=3`. Running again in the same work
directory goes on where the last run stopped.
"""

import os
import sys

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "The configuration, a Python file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run, local or gs://.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval", "export", "predict"], "What to do.")
_IMAGES = flags.DEFINE_list("images", [], "Image files to predict.")
_FORMAT = flags.DEFINE_list("format", ["savedmodel"], "What to export: savedmodel,onnx,tflite.")


def main(argv: list[str]) -> None:
    """Runs the configuration that the flags give."""
    del argv
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Not at the top: a mistyped flag should not have to wait for TensorFlow.
    from reszoo import training

    config, workdir = _CONFIG.value, _WORKDIR.value
    try:
        if _MODE.value == "train":
            run = training.prepare(config, workdir)
        elif _MODE.value == "eval":
            training.evaluate_run(config, workdir)
        elif _MODE.value == "export":
            training.export_run(config, workdir, _FORMAT.value)
        else:
            training.predict_run(config, workdir, _IMAGES.value)
    except (ValueError, OSError) as error:
        _fail(error)
    if _MODE.value == "train":
        _train(run, training.RunError)


def _train(run, run_error):
    try:
        run.train()
    except run_error as error:
        _fail(error)
    except KeyboardInterrupt:
        _fail("stopped; run the same command again to go on.")


def parse_flags(argv: list[str]) -> list[str]:
    """Returns what is left of the command line, or ends the program with one line."""
    try:
        rest = flags.FLAGS(argv)
        _CONFIG.value.lock()  # raises if the file could not be read
    except (flags.Error, AttributeError, ImportError, KeyError, OSError, ValueError) as error:
        _fail(_explain(error))
    if len(rest) > 1:
        _fail(f"there is no argument {rest[1]!r}; options start with --, see --help.")
    if flags.FLAGS["verbosity"].using_default_value:
        logging.set_verbosity(logging.WARNING)
    return rest


def _explain(error):
    """Returns the reason; a field that is missing comes as an error within an error."""
    reason = error.args[0] if error.args else error
    if "Traceback" in str(reason):  # of a configuration that refuses its argument
        return str(reason).strip().splitlines()[-1]
    if isinstance(reason, KeyError):
        reason = reason.args[0]
    elif not isinstance(error, KeyError):
        return error
    return f"the configuration has no field {reason}"


def _fail(reason):
    sys.exit(f"train.py: {' '.join(str(reason).split())}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=parse_flags)
