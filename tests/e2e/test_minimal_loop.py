"""recipes/minimal_loop.py: short, made of the public API alone, and the library's own method."""

import ast
import copy
import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import neuromas
from neuromas.config import TrainConfig
from neuromas.train.step import train_step

FILE = Path(__file__).parents[2] / "recipes/minimal_loop.py"


@pytest.fixture(scope="module")
def loop() -> Any:
    spec = importlib.util.spec_from_file_location("minimal_loop", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_short_and_uses_exported_names_alone() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    nodes = list(ast.walk(ast.parse(text)))
    imported = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    assert imported == ["torch", "neuromas"]
    assert not [node for node in nodes if isinstance(node, ast.ImportFrom)]
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    used = {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "nm"}
    assert used <= set(neuromas.__all__)


def test_it_trains_and_shows_what_it_did(loop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    untrained, _ = loop.build()
    network = loop.main(steps=2, questions=2, rollouts=4, test=2)
    out = capsys.readouterr().out
    rewards = [float(line.split()[-1]) for line in out.splitlines() if line.startswith("step ")]
    assert len(rewards) == 2
    assert all(math.isfinite(reward) for reward in rewards)
    assert out.count("floors on these 2 questions") == 2
    before, after = untrained.adapters.stacks(), network.adapters.stacks()
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_its_steps_are_those_of_the_library(loop: Any) -> None:
    network, task = loop.build()
    twin = copy.copy(network)
    twin.adapters = copy.deepcopy(network.adapters)
    # `answer` draws the random numbers of step 0, which the library takes for a step of a warm start.
    config = TrainConfig(rollouts=4, micro_tokens=10**6).model_copy(update={"warm_start": -1})
    # AdamW divides by gradients, and so makes much of the rounding of those near 0; SGD does not.
    optimizers = [torch.optim.SGD(n.adapters.stacks(), lr=10.0) for n in (network, twin)]
    pool = task.questions("train")
    untrained = copy.deepcopy(network.adapters)
    for seed in (1, 2, 3):
        batch = pool[4 * seed : 4 * seed + 4]
        reward = loop.train_step(network, optimizers[0], task, batch, rollouts=4, clip=config.clip, seed=seed)
        theirs = train_step(twin, optimizers[1], task, batch, config, step=0, seed=seed).metrics
        assert reward == pytest.approx(theirs.reward)
        for mine, other in zip(network.adapters.stacks(), twin.adapters.stacks(), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)
    moved = [
        float((a - b).detach().abs().max()) for a, b in zip(untrained.stacks(), network.adapters.stacks(), strict=True)
    ]
    assert min(moved) > 1e-4, "the steps changed every tensor"


def test_a_replay_gives_the_log_probabilities_of_each_call_in_the_order_asked_for(loop: Any) -> None:
    network, task = loop.build()
    traces = network.answer(task.questions("train")[:2], greedy=False, seed=1, rollouts=2)
    calls = [call for trace in traces for call in trace.calls][::-1]
    replayed = network.replay(calls)
    assert [len(part) for part in replayed] == [len(call.completion_ids) for call in calls]
    for call, part in zip(calls, replayed, strict=True):
        torch.testing.assert_close(part.detach(), torch.tensor(call.logprobs), rtol=1e-4, atol=1e-4)
