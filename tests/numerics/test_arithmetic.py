"""Subnormal numbers count as zero where a model computes, forward and backward, and nowhere else."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from helpers import FirstCharacter, make_backbone, make_network, questions
from neuromas.config import TrainConfig
from neuromas.network.cpu import flushed, flushing
from neuromas.train import update
from neuromas.train.step import train_step


def flushes() -> bool:
    """Whether this thread takes subnormal numbers for zero, in Python and in torch."""
    assert bool((torch.full((8,), 1e-30) * 1e-10 == 0.0).all()) == flushing()
    return flushing()


with flushed():
    if not flushes():
        pytest.skip("this processor does not flush subnormal numbers", allow_module_level=True)


def test_the_state_of_the_thread_is_put_back_also_after_an_error_and_by_the_outermost_alone() -> None:
    assert not flushes()
    with pytest.raises(KeyError), flushed():
        with flushed():
            assert flushes()
        assert flushes(), "still within the outer one"
        raise KeyError
    assert not flushes()


def test_a_pass_of_the_backbone_and_the_way_back_flush() -> None:
    network = make_network("2", make_backbone())
    forward, backward = [], []
    layers: Any = network.backbone.model.model.layers
    layers[0].register_forward_hook(lambda *_: forward.append(flushes()))
    for stack in network.adapters.stacks():
        stack.register_hook(lambda gradient: backward.append(flushes()))
    optimizer = torch.optim.AdamW(network.adapters.stacks(), lr=1e-3)
    config = TrainConfig(questions=4, rollouts=4)
    train_step(network, optimizer, FirstCharacter("".join(map(chr, range(64)))), questions(4), config, step=1, seed=0)
    assert forward and all(forward)
    assert backward and all(backward)
    assert not flushes()


def test_a_backward_pass_flushes() -> None:
    seen, weight = [], torch.ones(3, requires_grad=True)
    weight.register_hook(lambda gradient: seen.append(flushes()))
    update.backward(weight.sum(), step=1)
    assert seen == [True] and not flushes()


LOADED = """
import torch
torch.set_num_threads(2)
from neuromas import Backbone
from neuromas.network.cpu import flushed
Backbone.load("tiny", device="cpu")
with flushed():
    inside = torch.full((1 << 20,), 1e-30) * 1e-10
print(int((inside != 0).sum()))
import numpy  # warns at import in a thread that flushes
numpy.finfo(numpy.float32)
"""


@pytest.mark.slow
def test_every_thread_flushes_once_a_backbone_was_loaded_and_numpy_finds_nothing_changed() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:numpy", "-c", LOADED], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0\n", "numbers that the second thread left"
