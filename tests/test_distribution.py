"""One process writes, whatever the backend calls it."""

import sys
from types import SimpleNamespace

import keras
import pytest

from reszoo.distribution import is_chief


@pytest.fixture
def backend(monkeypatch):
    """Replaces the backend of Keras and the module by which it knows its processes."""

    def replace(name, module, **members):
        monkeypatch.setattr(keras.backend, "backend", lambda: name)
        parents = module.split(".")[:-1]
        for parent in parents:
            monkeypatch.setitem(sys.modules, parent, SimpleNamespace(__path__=[]))
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(**members))

    return replace


@pytest.mark.parametrize("number", [0, 1])
def test_of_the_processes_of_jax_the_first_writes(backend, number):
    backend("jax", "jax", process_index=lambda: number)
    assert is_chief() == (number == 0)


@pytest.mark.parametrize("rank", [None, 0, 1])
def test_of_the_processes_of_torch_that_of_rank_0_writes(backend, rank):
    backend(
        "torch",
        "torch.distributed",
        is_available=lambda: True,
        is_initialized=lambda: rank is not None,
        get_rank=lambda: rank,
    )
    assert is_chief() == (rank != 1)


def test_torch_without_distributed_has_one_process(backend):
    backend("torch", "torch.distributed", is_available=lambda: False)
    assert is_chief()


def resolver(task, number, jobs=("worker",)):
    return SimpleNamespace(
        cluster_resolver=SimpleNamespace(
            task_type=task, task_id=number, cluster_spec=lambda: SimpleNamespace(jobs=jobs)
        )
    )


@pytest.mark.parametrize(
    ("strategy", "writes"),
    [
        (resolver("chief", 0), True),
        (resolver("worker", 0), True),
        (resolver("worker", 1), False),
        (resolver("worker", 0, ("chief", "worker")), False),
        (resolver(None, None), True),
    ],
)
def test_of_the_tasks_of_a_cluster_the_chief_writes(strategy, writes):
    assert is_chief(strategy) is writes
