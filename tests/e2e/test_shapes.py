"""Models of other shapes than Llama's go the whole way: trained, resumed, grown, asked, served, exported to PEFT."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

import neuromas as nm
from helpers import byte_tokenizer, plain_logits
from mechanisms import MECHANISMS, model_of
from neuromas.network.generate import replay
from neuromas.network.packed import Group
from neuromas.network.turns import Ask
from served import PATTERN, make_app, running

SHAPES = {
    "linear attention": "plain", "sinks": "plain", "softcap": "plain", "state space": "plain",
    "logit scaling": "packed", "Conv1D": "packed",
}  # fmt: skip
SETTINGS = {
    "train.questions": 2, "train.rollouts": 2, "train.validation_questions": 2, "train.start_questions": 2,
    "sampling.message_tokens": 4, "sampling.answer_tokens": 4, "adapter.rank": 2, "train.learning_rate": 1e-2,
    "backbone.device": "cpu", "train.entropy": 0.01,
}  # fmt: skip
IDS = [72, 105, 33, 10, 200, 7, 7, 91, 14]


def folder_of(mechanism: str, out: Path) -> Path:
    _, kind, changes = MECHANISMS[mechanism]
    long = {"n_positions": 1024} if kind == "gpt2" else {"max_position_embeddings": 1024}
    model_of(kind, changes | long).save_pretrained(out)
    byte_tokenizer().save_pretrained(out)
    return out


def stacks(run: Path) -> list[torch.Tensor]:
    return list(nm.load(run, "last").network.adapters.stacks())


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", SHAPES)
def test_a_model_of_another_shape_goes_the_whole_way(mechanism: str, tmp_path: Path) -> None:
    base = folder_of(mechanism, tmp_path / "base")
    options: dict[str, Any] = {
        "topology": "2",
        "task": "compositional",
        "settings": SETTINGS | {"backbone.name": str(base)},
    }
    run = nm.train(**options, steps=3, out=tmp_path / "run")
    assert run.network.backbone.proof.path == SHAPES[mechanism]
    assert run.start is not None and run.network.backbone.proof.line in run.start.backbone
    assert max(run.metrics.column("logprob_gap")[1:]) < 1e-3

    options |= {"steps": 3, "out": tmp_path / "again"}
    nm.train(**options, on_step=lambda metrics: metrics.step < 2)
    nm.train(**options, resume=True)
    for resumed, whole in zip(stacks(tmp_path / "again"), stacks(run.folder), strict=True):
        assert torch.equal(resumed, whole)
    untrained = [torch.count_nonzero(stack) == 0 for stack in stacks(run.folder)]
    assert not any(untrained), "entropy alone moves every adapter"

    trace = run.ask("(a(3+5)*b(2*7))")
    assert len(trace.calls) == 3
    assert isinstance(run.network, nm.Network)
    with running(make_app(run.network)) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        said = client.chat.completions.create(model="net", messages=[{"role": "user", "content": "1+1"}])
    asked = Ask(replace(PATTERN, text="1+1"), range(1), 0, nm.Decoding(greedy=True))
    assert said.choices[0].message.content == run.network.forward([asked])[0].answer
    grown = run.grow("2-2", out=tmp_path / "grown", steps=1)
    assert isinstance(grown.network, nm.Network) and len(grown.network.topology.nodes) == 5

    shared = run.export(tmp_path / "shared")
    node = run.network.topology.nodes[0]
    peft = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), shared / "best" / "nodes" / node
    ).eval()
    with torch.no_grad():
        expected = plain_logits(peft, IDS)[:-1].log_softmax(-1).gather(1, torch.tensor(IDS[1:])[:, None])[:, 0]
        network = nm.load(shared, backbone=str(base)).network
        group = Group(network.adapters.index[node], IDS[:1], [[]])
        mine, _ = replay(network.backbone, network.adapters, [group], [IDS[1:]], 1.0)
    torch.testing.assert_close(mine, expected, atol=2e-4, rtol=2e-4)
