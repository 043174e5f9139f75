"""One of the processes of a training; run by `test_strategy.py`, alone and with `TF_CONFIG`."""

import sys
from pathlib import Path

import keras
import numpy as np

import reszoo
from reszoo.data import Pipeline, load_source
from reszoo.distribution import is_chief
from reszoo.training import TrainingState, fit
from reszoo.training.callbacks.checkpoints import Checkpoints
from reszoo.training.callbacks.confusion_counts import ConfusionCounts
from reszoo.training.optimizers import create_learning_rate, create_optimizer
from reszoo.training.strategy import check_same_place, create_strategy


def main(workdir):
    strategy = create_strategy()
    pipeline = Pipeline(load_source("digits"), batch_size=96, shift_pixels=1)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        # Not "batch": each process would normalize by its own images.
        model = reszoo.create_model(
            "resnet18",
            num_classes=10,
            input_shape=(8, 8, 1),
            stem="cifar",
            blocks=(1, 1),
            width=4,
            norm="sync_batch",
        )
        rate = create_learning_rate(0.05, 2, 2 * pipeline.steps_per_epoch)
        optimizer = create_optimizer("sgd", rate, variables=model.trainable_variables)
        model.compile(optimizer, steps_per_execution=strategy.num_replicas_in_sync)
        confusion = ConfusionCounts(10)
    state = TrainingState()
    checkpoints = Checkpoints(workdir / "checkpoints", model, state, writes=is_chief(strategy))
    check_same_place(strategy, [state.epoch, state.batch])
    groups = ("paths", "weights", "forward")
    recorder = reszoo.GradientRecorder(str(workdir / "gradients"), 5, groups)
    callbacks = [recorder, confusion, checkpoints]
    logs = fit(model, pipeline, epochs=2, state=state, callbacks=callbacks, strategy=strategy)
    del logs["images_per_second"]
    if is_chief(strategy):
        weights = {f"weight{i}": w for i, w in enumerate(model.get_weights())}
        replicas = strategy.num_replicas_in_sync
        counts = {"counts": confusion.counts}
        np.savez(workdir / "result.npz", replicas=replicas, **weights, **counts, **logs)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
