"""The workloads by name. Run as a program, this file writes one (a name, or a `Spec` as JSON) for the items to read.

W       3 nodes in one layer that nobody reads, 4 Navigate questions, 8 rollouts, 32 tokens, SmolLM2-135M
W-3     NeuroMAS-3 ("1-1"), as many questions, rollouts and tokens for each of its nodes
W-7     NeuroMAS-7 ("2-2-2")
W-small W with 1 question and 16 tokens, for trying things out
W-tiny  the demonstration's network on the embedded backbone: "2", all linear layers, 8 questions × 8 rollouts

The prompts of deeper layers hold sampled messages. They are sampled once, when the workload is written, from the
same adapters and random streams that this project's item uses, so all items read prompts of the same length.
"""

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.problems import ALL_LINEAR
from benchmarks.work import NodeWork, Work
from neuromas.network.adapters import ATTENTION_TARGETS
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Limits, Network
from neuromas.network.loading import locate
from neuromas.network.turns import asks_of
from neuromas.tasks import load_task
from neuromas.types import Question, Trace


@dataclass(frozen=True)
class Spec:
    """A workload before its prompts are known."""

    name: str
    topology: str  # of hidden layers; the output node follows
    backbone: str = "smollm2-135m"
    layer_only: bool = False  # the first layer's nodes alone; nobody reads them
    questions: int = 4
    rollouts: int = 8
    tokens: int = 32
    answer_tokens: int | None = None  # None: `tokens`
    rank: int = 8
    targets: tuple[str, ...] = ATTENTION_TARGETS
    task: str = "bbh/navigate"
    prompt_tokens: int | None = None  # pad questions so that prompts have about this length; None: as they are


SPECS = {
    "W": Spec("W", "3", layer_only=True),
    "W-3": Spec("W-3", "1-1"),
    "W-7": Spec("W-7", "2-2-2"),
    "W-small": Spec("W-small", "3", layer_only=True, questions=1, tokens=16),
    "W-tiny": Spec(
        "W-tiny",
        "2",  # the network of the demonstration; its nodes write statements of 8 tokens
        backbone="tiny",
        questions=8,
        tokens=8,
        answer_tokens=6,
        targets=ALL_LINEAR,
        task="compositional",
    ),
}


def spec_of(work: Work) -> Spec:
    fields: dict[str, Any] = {**work.spec, "targets": tuple(work.spec["targets"])}
    return Spec(**fields)


def questions(spec: Spec) -> list[Question]:
    """The first training questions of the task; invented ones of Navigate's form where its files are missing."""
    if spec.task == "compositional":
        return load_task(spec.task, depth=2).questions("train")[: spec.questions]
    if os.environ.get("NEUROMAS_DATA"):
        drawn = load_task(spec.task).questions("train")[: spec.questions]
    else:
        drawn = [_walk(number) for number in range(spec.questions)]
    if spec.prompt_tokens is None:
        return drawn
    size = round(2.65 * (spec.prompt_tokens - 42))  # characters; the template and the position take 42 tokens
    return [replace(q, text=(q.text + " Take 1 step." * size)[:size]) for q in drawn]


def _walk(number: int) -> Question:
    steps = " ".join(f"Take {1 + (number + k) % 9} steps {'forward' if k % 2 else 'left'}." for k in range(3))
    text = f"If you follow these instructions, do you return to the starting point? Always face forward. {steps}"
    return Question(id=f"walk-{number}", text=text, answer="No", instruction="Answer with only Yes or No.")


def network(spec: Spec, dtype: str) -> Network:
    """The network of a workload. Its adapters are small and not zero, and the end token ends nothing."""
    backbone = Backbone.load(spec.backbone, device="cpu", dtype=dtype)
    backbone.end_ids = frozenset()
    limits = Limits(spec.tokens, spec.answer_tokens or spec.tokens)
    made = Network.create(spec.topology, backbone, rank=spec.rank, targets=spec.targets, limits=limits)
    generator = torch.Generator().manual_seed(1)
    for stack in made.adapters.B.values():
        stack.data.copy_(torch.randn(stack.shape, generator=generator) * 0.02)
    return made


def write(spec: Spec, dtype: str) -> Work:
    """A workload with its prompts."""
    net = network(spec, dtype)
    batch = questions(spec)
    work = Work(
        name=spec.name,
        model=locate(spec.backbone),
        backbone=spec.backbone,
        dtype=dtype,
        topology="layer" if spec.layer_only else spec.topology,
        rollouts=spec.rollouts,
        rank=spec.rank,
        targets=list(spec.targets),
        spec=asdict(spec),
    )
    if spec.layer_only:
        positions = [net.topology.position(node) for node in net.topology.layers[0]]
        prompt = lambda position, question: net.backbone.template.render(position, question, [], spec.tokens)
        silent = [[] for _ in range(spec.questions * spec.rollouts)]
        nodes = [NodeWork(p.id, 1, spec.tokens, [prompt(p, q).prefix_ids for q in batch], silent) for p in positions]
    else:
        rollouts = net.forward(asks_of(batch, spec.rollouts, 0, net.decoding, step=1))
        nodes = list(recorded(net, [rollout.trace() for rollout in rollouts], spec.rollouts))
    return replace(work, nodes=nodes)


def recorded(net: Network, traces: list[Trace], rollouts: int) -> Iterable[NodeWork]:
    """The work of each node: the prompts that it read in `traces`."""
    for n, node in enumerate(net.topology.nodes):
        calls = [trace.calls[n] for trace in traces]
        assert all(call.node == node for call in calls)
        position = net.topology.position(node)
        tokens = net.limits.of(position.is_output)
        assert all(len(call.completion_ids) == tokens for call in calls), "the end token ended a row"
        prefixes = [call.prefix_ids for call in calls[::rollouts]]
        yield NodeWork(node, position.layer, tokens, prefixes, [call.own_ids for call in calls])


if __name__ == "__main__":
    which, dtype, path = sys.argv[1:]
    spec = SPECS[which] if which in SPECS else Spec(**json.loads(which))
    write(spec, dtype).save(Path(path))
