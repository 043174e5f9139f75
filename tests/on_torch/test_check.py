"""Gradients are checked whatever PyTorch's settings around the check, which are put back."""

import contextlib

import numpy as np
import pytest
import torch
from keras import layers

from reszoo import ResidualBlock
from reszoo.gradients import check

X = torch.tensor(np.random.default_rng(0).normal(size=(3, 4)))


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, contextlib.nullcontext])
def test_gradients_are_there_in_every_context(around):
    with around():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        table = check(ResidualBlock([layers.Dense(4, "tanh")], name="b"), X.clone())
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
    assert table.candidate[table.reverse_mode_agrees].tolist() == ["sum"]


def test_random_numbers_are_the_same_in_every_run_and_go_on_afterwards():
    block = ResidualBlock([layers.Dense(4, "tanh"), layers.Dropout(0.5)], name="b")
    block(X)
    state = torch.random.get_rng_state()
    table = check(block, X, training=True)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert table.candidate[table.reverse_mode_agrees].tolist() == ["sum"]
