"""Saves a run after every epoch, and takes it up again."""

from pathlib import Path

import keras
import tensorflow as tf

CHECKPOINTS_KEPT = 2


class Checkpoints(keras.callbacks.Callback):
    """Saves the model, its optimizer and the number of epochs done after every epoch.

    What is saved is enough to go on as if there had been no interruption, bit for bit. A
    checkpoint appears under its name only when it is complete.

    Args:
        directory: Where the checkpoints are; the last two are kept.
        model: A compiled model whose optimizer is built.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd")
    >>> model.optimizer.build(model.trainable_variables)
    >>> Checkpoints("/tmp/no_checkpoints_here", model).restore()
    0
    """

    def __init__(self, directory: str | Path, model: keras.Model):
        super().__init__()
        self._epochs_done = tf.Variable(0, dtype=tf.int64, trainable=False)
        # Plain lists rather than the model itself: nothing that a callback hangs onto a layer
        # can then get into a checkpoint.
        checkpoint = tf.train.Checkpoint(
            epochs_done=self._epochs_done,
            model=[variable.value for variable in model.variables],
            optimizer=[variable.value for variable in model.optimizer.variables],
        )
        self._manager = tf.train.CheckpointManager(
            checkpoint, str(directory), max_to_keep=CHECKPOINTS_KEPT
        )

    def restore(self) -> int:
        """Loads the last checkpoint, if there is one.

        Returns:
            The number of epochs done; 0 if there is no checkpoint.

        Raises:
            ValueError: If the checkpoint is damaged or is that of another model.
        """
        latest = self._manager.latest_checkpoint
        if latest is None:
            return 0
        try:
            self._manager.checkpoint.restore(latest).assert_consumed()
        except (AssertionError, IndexError, ValueError, tf.errors.OpError) as error:
            raise ValueError(
                f"The checkpoint {latest} cannot be loaded into this model "
                f"({type(error).__name__}): it is damaged, or was written by another model. "
                "Use another workdir, or delete this one to start afresh."
            ) from error
        return int(self._epochs_done)

    def on_epoch_end(self, epoch, logs=None):
        self._epochs_done.assign(epoch + 1)
        self._manager.save(checkpoint_number=epoch + 1)
