"""Training from a configuration: the loop, optimizers, devices, checkpoints.

A run, from its configuration to its trained model:

- `config`: every field with its values and default; `config_file` reads files and the command line
- `run`: `prepare`, which makes a `Run`, which trains until it is done
- `resume`: it goes on from its work directory; `results`: what it leaves at its end
- `workdir`: names of the files in a work directory; `lock`: one run at a time there
- `identity`: what must stay the same while a run goes on from its checkpoints
- `failures`: errors as one line; `provenance`: command, versions and devices of each start

What it is made of:

- `pipeline`, `network`, `model`: its batches, its network, and that compiled
- `losses`, `optimizers`: losses, optimizers and learning rates by name
- `strategy`: the devices it runs on

The loop:

- `loop`: `fit` and `evaluate`; `loop_checks`: what is checked before
- `steps`: steps of training and testing, on the devices
- `state`: where a training is; `averages`: averaged weights, while they are tested and saved
- `callbacks/`: what shows, records, saves and ends a training, a class a file

Files:

- `checkpoint_files`, `metrics_file`, `event_files`: how each is written and read
- `confusion`, `summary`, `data_description`: `confusion.csv`, `summary.json`, `data.json`
- `tensorboard_images`: pictures; `loggers`: Weights & Biases and MLflow

`modes/`: what is done with a trained model: evaluate, export, predict.
"""

from reszoo.training.callbacks.loop_callback import LoopCallback as LoopCallback
from reszoo.training.config_file import read_config as read_config
from reszoo.training.loop import fit as fit
from reszoo.training.modes.evaluate import evaluate_run as evaluate_run
from reszoo.training.modes.export import export_run as export_run
from reszoo.training.modes.predict import predict_run as predict_run
from reszoo.training.run import prepare as prepare
from reszoo.training.state import RunError as RunError
from reszoo.training.state import TrainingState as TrainingState
