"""The library on a pretend accelerator: nothing mixes host and device, and decoding waits for it at looks only."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from torch import Tensor
from torch.utils import checkpoint

import neuromas as nm
from accelerator import DEVICE, Accelerator, WrongPlace
from helpers import byte_tokenizer, forward, make_network, plain_model, questions, ragged_groups, run_config
from mechanisms import MECHANISMS, model_of
from neuromas.cli import main
from neuromas.network import generate as generating
from neuromas.network.backbone import Backbone
from neuromas.network.generate import generate, replay
from neuromas.network.packed import PackedPass
from neuromas.network.passes import SharedPrefixPass
from neuromas.network.plain import PlainPass
from neuromas.network.sampling import Decoding
from neuromas.network.turns import Ask
from served import PATTERN, make_app, running


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    """The accelerator, under which the decoding loop is known; threads that begin meanwhile are under it too."""
    mode = Accelerator()

    def loop(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **keywords: Any) -> Any:
            with mode.decoding():
                return function(*args, **keywords)

        return run

    monkeypatch.setattr(generating, "draw", loop(generating.draw))
    monkeypatch.setattr(Backbone, "logits", loop(Backbone.logits))
    about = lambda x: {"shape": x.shape, "dtype": x.dtype}  # C asks for it, so devices would be told wrongly
    monkeypatch.setitem(vars(checkpoint)["_allowed_determinism_checks_to_fns"], "default", about)
    for path in (SharedPrefixPass, PlainPass):
        monkeypatch.setattr(path, "next", loop(path.next))

    def run_thread(self: threading.Thread) -> None:
        with mode:
            began(self)

    began = threading.Thread.run
    monkeypatch.setattr(threading.Thread, "run", run_thread)
    with mode:
        yield mode
    assert not mode.faults


def completions(backbone: Backbone, tokens: int = 20) -> list[list[int]]:
    bank = make_network("1-1", backbone).adapters.to(backbone.device)
    groups = ragged_groups()
    rows = range(sum(len(group.own_ids) for group in groups))
    how = Decoding(temperature=0.9)
    return [one.ids for one in generate(backbone, bank, groups, list(rows), tokens, how)]


def gradients(backbone: Backbone, of: list[list[int]]) -> list[Tensor]:
    bank = make_network("1-1", backbone).adapters.to(backbone.device)
    logprobs, entropies = replay(backbone, bank, ragged_groups(), of, 0.9, entropy_gradient=True)
    (logprobs.sum() + entropies.sum()).backward()
    return [p.grad.cpu() for p in bank.stacks() if p.grad is not None]


def test_what_a_card_refuses_is_refused_with_the_line(card: Accelerator) -> None:
    there = torch.zeros(3, device=DEVICE)
    assert there.device == DEVICE and torch.zeros(3).device.type == "cpu" and (there + 1)[1:].device == DEVICE
    with pytest.raises(WrongPlace, match=r"add mixes .*test_accelerator\.py:\d+: _ = there \+ torch\.ones\(3\)"):
        _ = there + torch.ones(3)
    with pytest.raises(WrongPlace, match="numpy"):
        there.numpy()
    assert (there + torch.ones(3).to("xpu")).sum().item() == 3  # reading is no fault outside the loop
    weight = torch.nn.Parameter(there)
    (weight * 2).sum().backward()
    assert weight.grad is not None and weight.grad.device == DEVICE
    for read in (lambda: there.sum().item(), lambda: there[there > 0], lambda: there.cpu(), lambda: bool(there[0])):
        with card.decoding(), pytest.raises(WrongPlace, match="waits for the device"):
            read()
    assert len(card.faults) == 6
    card.faults.clear()


def test_a_planted_read_in_the_loop_is_found(card: Accelerator, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = on_card(plain_model())
    repeat = PackedPass.repeat

    def spoiled(self: PackedPass) -> Tensor:
        self.prefix_len_U.max().item()
        return repeat(self)

    monkeypatch.setattr(PackedPass, "repeat", spoiled)
    with pytest.raises(WrongPlace, match=r"item reads .*network/passes\.py:\d+: position = self\._batch\.repeat\(\)"):
        completions(backbone)
    card.faults.clear()


def test_a_planted_tensor_of_the_host_is_found(card: Accelerator, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = on_card(plain_model())
    monkeypatch.setattr(PackedPass, "repeat", lambda self: torch.zeros(len(self._own_row), dtype=torch.long))
    with pytest.raises(WrongPlace, match="mixes tensors of the device and of the host"):
        completions(backbone)
    card.faults.clear()


def on_card(model: Any) -> Backbone:
    return Backbone("pretend", model.to(DEVICE), byte_tokenizer(), "compact")


SLOW = [
    pytest.param(kind, marks=pytest.mark.slow)
    for kind in ("MLA", "softcap", "state space", "convolution", "linear attention")
]


@pytest.mark.parametrize("kind", ["window", *SLOW])
def test_both_paths_say_the_same_there(card: Accelerator, kind: str) -> None:
    path, architecture, changes = MECHANISMS[kind]
    there, here = on_card(model_of(architecture, changes)), model_of(architecture, changes)
    found = completions(there)
    grads = gradients(there, found)
    host = Backbone("host", here, byte_tokenizer(), "compact")
    assert there.proof.path == host.proof.path == path
    assert found == completions(host)
    for mine, theirs in zip(grads, gradients(host, found), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-3, atol=2e-5)


def test_long_messages_are_attended_to_there_in_blocks(card: Accelerator) -> None:
    model = plain_model(max_position_embeddings=1024)
    there = on_card(plain_model(max_position_embeddings=1024))
    long = [[(7 * i + r) % 256 for i in range(300)] for r in range(6)]
    grads = gradients(there, long)
    for mine, theirs in zip(grads, gradients(Backbone("host", model, byte_tokenizer(), "compact"), long), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-3, atol=2e-4)


SETTINGS = {"topology": "1", "backbone__name": "tiny", "backbone__device": "xpu", "train__steps": 2}


@pytest.mark.slow
def test_a_run_trains_there_as_it_does_here(card: Accelerator, tmp_path: Path) -> None:
    there = nm.train(run_config(**SETTINGS, train__kl=0.01, train__entropy=0.01), out=tmp_path / "there")
    here = nm.train(
        run_config(**SETTINGS | {"backbone__device": "cpu"}, train__kl=0.01, train__entropy=0.01), out=tmp_path / "here"
    )
    assert (there.network.backbone.device, here.network.backbone.device) == (DEVICE, torch.device("cpu"))
    for mine, theirs in zip(there.metrics[1:], here.metrics[1:], strict=True):
        assert mine.reward == theirs.reward
        for node, figures in mine.nodes.items():
            expected = {key: value for key, value in asdict(theirs.nodes[node]).items() if value is not None}
            assert {key: getattr(figures, key) for key in expected} == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.slow
def test_a_run_grows_is_looked_into_served_and_loaded_there(card: Accelerator, tmp_path: Path) -> None:
    run = nm.train(run_config(**SETTINGS, train__estimator="critic"), out=tmp_path / "run")
    assert run.network.backbone.device == DEVICE
    grown = run.grow("1-1", out=tmp_path / "grown")
    assert grown.evaluate("test", limit=4).n == 4
    again = nm.load(tmp_path / "grown")
    assert isinstance(again.network, nm.Network)
    assert forward(again.network, questions(2), rollouts=1, seed=0)
    main(["inspect", str(tmp_path / "grown"), "--limit", "8"])
    (tmp_path / "recipe.toml").write_text('topology = "2"\ntask.name = "compositional"\nbackbone.device = "xpu"\n')
    main(["plan", str(tmp_path / "recipe.toml")])
    run.export(tmp_path / "exported")
    with running(make_app(again.network)) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        said = client.chat.completions.create(model="net", messages=[{"role": "user", "content": "1+1"}])
    asked = Ask(replace(PATTERN, text="1+1"), range(1), 0, Decoding(greedy=True))
    assert said.choices[0].message.content == again.network.forward([asked])[0].answer
