"""Training from a configuration: the loop, optimizers, devices, checkpoints."""

from reszoo.training.loop import fit as fit
from reszoo.training.run import prepare as prepare
