"""One of two processes that train one model together: a script with the log's directory."""

import sys
from pathlib import Path

import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from tests.gradients.dense import BATCH, BATCHES, LOSS, dense_model, sgd
from tests.on_torch.test_loops import loop


def step_with(model, optimizer):
    parallel = DistributedDataParallel(model)

    def step(x, labels):
        model.zero_grad()
        LOSS(labels, parallel(x)).backward()
        if isinstance(optimizer, torch.optim.Optimizer):
            optimizer.step()
        else:
            variables = model.trainable_variables
            with torch.no_grad():
                optimizer.apply([variable.value.grad for variable in variables], variables)

    return step


def main(directory, rank):
    # A file instead of a port, which another process may take.
    store = f"file://{Path(directory) / 'processes'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    part = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    batches = [(x[part], labels[part]) for x, labels in BATCHES]
    for kind in ("torch", "keras"):
        model = dense_model()
        optimizer = sgd()
        if kind == "torch":
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        loop(model, step_with(model, optimizer), batches, Path(directory) / kind)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
