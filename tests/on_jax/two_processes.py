"""One of two processes that train one model together: a script with directory, port and rank."""

import sys
from pathlib import Path

import jax
import keras
import numpy as np

import reszoo
from tests.gradients.dense import BATCH, BATCHES, LOSS, dense_model, sgd
from tests.on_jax.test_loops import loop


def train_in_fit(log_dir, batches):
    model = dense_model()
    model.compile(sgd(), LOSS)
    x, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    recorder = reszoo.GradientRecorder(log_dir, 1)
    model.fit(x, labels, len(batches[0][0]), shuffle=False, verbose=0, callbacks=[recorder])


def train_in_loop(log_dir, batches, distribution):
    mesh = distribution.device_mesh.backend_mesh
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    put = jax.make_array_from_process_local_data
    loop(dense_model(), log_dir, [(put(rows, x), put(rows, labels)) for x, labels in batches])


def main(directory, port, rank):
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=rank)
    devices = jax.devices()
    distribution = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    keras.distribution.set_distribution(distribution)
    keras.utils.set_random_seed(0)  # JAX tests that the processes begin with the same values
    part = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    batches = [(x[part], labels[part]) for x, labels in BATCHES]
    train_in_loop(directory / "loop", batches, distribution)
    train_in_fit(directory / "fit", batches)
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
