"""Training from a configuration: the loop, optimizers, devices, checkpoints."""

from reszoo.training.config_file import read_config as read_config
from reszoo.training.loop import fit as fit
from reszoo.training.modes.evaluate import evaluate_run as evaluate_run
from reszoo.training.modes.export import export_run as export_run
from reszoo.training.modes.predict import predict_run as predict_run
from reszoo.training.run import prepare as prepare
from reszoo.training.state import RunError as RunError
from reszoo.training.state import TrainingState as TrainingState
