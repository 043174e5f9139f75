"""Training from a configuration: the loop, optimizers, devices, checkpoints.

A run, from its configuration to its trained model:

- `config`: every field with its values and default; `config_file` reads files and the command line
- `run`: `prepare` returns a `Run`, whose `train` trains for the epochs that are left
- `resume`: continuation from a work directory; `results`: the files of a finished run
- `workdir`: names of the files in a work directory; `lock`: one run at a time there
- `identity`: fields and data that must not change when a run is resumed
- `announcement`: what a run says before its first step; `quiet_start`, `terminal`, `flag_errors`:
  what its command shows of messages, warnings and errors in flags
- `freed_memory`: variables of the environment that TensorFlow's memory depends on
- `failures`: errors as one line; `provenance`: command, versions and devices of each start

Parts of a run:

- `pipeline`, `network`, `model`: batches, network, compiled model
- `losses`, `optimizers`: losses, optimizers and learning rates by name
- `strategy`: the devices it runs on

The loop:

- `loop`: `fit` and `evaluate`; `loop_checks`: the checks before them
- `steps`: steps of training and testing, on the devices
- `state`: position of a training; `averages`: averaged weights, for tests and saving
- `callbacks/`: progress, records, checkpoints and early ends, one class in each file

Files:

- `checkpoint_files`, `metrics_file`, `event_files`: writing and reading of each
- `confusion`, `summary`, `data_description`: `confusion.csv`, `summary.json`, `data.json`;
  `gradients_summary`: the gradients in the summary
- `tensorboard_images`: pictures; `loggers`: Weights & Biases and MLflow

`modes/`: uses of a trained model: evaluate, export, predict.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reszoo.training.callbacks.loop_callback import LoopCallback as LoopCallback
    from reszoo.training.config_file import read_config as read_config
    from reszoo.training.loop import fit as fit
    from reszoo.training.modes.evaluate import evaluate_run as evaluate_run
    from reszoo.training.modes.export import export_run as export_run
    from reszoo.training.modes.predict import predict_run as predict_run
    from reszoo.training.run import prepare as prepare
    from reszoo.training.state import RunError as RunError
    from reszoo.training.state import TrainingState as TrainingState

_MODULES = {
    "LoopCallback": "callbacks.loop_callback",
    "read_config": "config_file",
    "fit": "loop",
    "evaluate_run": "modes.evaluate",
    "export_run": "modes.export",
    "predict_run": "modes.predict",
    "prepare": "run",
    "RunError": "state",
    "TrainingState": "state",
}


def __getattr__(name: str) -> Any:
    # A mistake in a configuration should not wait until TensorFlow is imported.
    if name not in _MODULES:
        raise AttributeError(f"module 'reszoo.training' has no attribute {name!r}")
    check_backend()
    return getattr(importlib.import_module(f"reszoo.training.{_MODULES[name]}"), name)


def check_backend() -> None:
    """Checks that Keras runs on TensorFlow.

    Raises:
        ImportError: If it runs on another backend, or TensorFlow cannot be imported.
    """
    from reszoo.installed import without_tensorflow

    try:
        importlib.import_module("tensorflow")
    except ImportError as error:
        raise ImportError(without_tensorflow("reszoo.training and train.py train")) from error
    backend = importlib.import_module("keras").backend.backend()
    if backend != "tensorflow":
        raise ImportError(
            f"reszoo.training and train.py train with TensorFlow, but the backend of Keras is "
            f"{backend!r}. Set the environment variable KERAS_BACKEND to tensorflow."
        )
