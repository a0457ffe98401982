"""Measures how well vLLM and the built-in sampling agree, token by token.

usage: python -m studies.engines.agreement [--out FILE]

The adapters of an untrained network are filled with noise, so that its nodes differ. Greedy: both answer the same
questions; every call with the same prompt and another completion is reported at the first token that differs, with the
trainer's log-probabilities of both tokens (their difference is the gap that rounding had to bridge). Sampled: vLLM's
log-probabilities against the trainer's replay of the same tokens, as training compares them. Processor seconds are of
both processes together, so they mean something on a machine that is busy with other work.

NEUROMAS_VLLM_PYTHON names the Python that has vLLM.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.items.measure import cpu_seconds
from neuromas.files import write_json
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Limits, Network
from neuromas.network.generate import replay
from neuromas.network.packed import Group
from neuromas.network.vllm.engine import VllmEngine, VllmSettings
from neuromas.tasks import load_task
from neuromas.train.mismatch import Mismatch
from neuromas.types import NodeCall, Question, Trace
from studies.shared import arguments


def options() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--task", default="compositional")
    parser.add_argument("--topology", default="2-2")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32, help="of each message and of the answer")
    parser.add_argument("--noise", type=float, default=0.02, help="standard deviation of B")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    args = options()
    backbone = Backbone.load(args.backbone, device="cpu", dtype=args.dtype)
    network = Network.create(args.topology, backbone, rank=args.rank, limits=Limits(args.tokens, args.tokens))
    generator = torch.Generator().manual_seed(1)
    for stack in network.adapters.B.values():
        stack.data.copy_(torch.randn(stack.shape, generator=generator) * args.noise)
    questions = load_task(args.task).questions("train")[: args.questions]
    layers, nodes = network.topology.layers, network.topology.nodes
    patience = {"start_seconds": 3600, "call_seconds": 7200}
    engine = VllmEngine(backbone, VllmSettings(len(nodes), max(map(len, layers)), args.rank, 1024, **patience))

    result: dict[str, Any] = {**vars(args), "out": None, **engine.versions, "trainer_torch": torch.__version__}
    ours, our_seconds = timed(network, questions, True, engine.pid)
    network.engine = engine
    network.answer(questions[:1])  # compiling and setting up at the first call are not timed
    theirs, their_seconds = timed(network, questions, True, engine.pid)
    again, _ = timed(network, questions[::-1], True, engine.pid)
    ids = lambda trace: [call.completion_ids for call in trace.calls]
    pairs = list(zip(ours, theirs, strict=True))
    result["greedy"] = {
        "equal_traces": sum(a.answer == b.answer and ids(a) == ids(b) for a, b in pairs),
        "traces": len(ours),
        "equal_in_another_order": sum(ids(a) == ids(b) for a, b in zip(theirs, again[::-1], strict=True)),
        "tokens": sum(t.generated_tokens for t in ours),
        "cpu_seconds": {"built-in": our_seconds, "vllm": their_seconds},
        "partings": [p for a, b in pairs for p in partings(network, a, b)],
    }
    sampled, _ = timed(network, questions, False, engine.pid)
    result["sampled"] = mismatch(network, sampled) | {"tokens": sum(t.generated_tokens for t in sampled)}
    engine.close()
    print(json.dumps(result, default=str))
    if args.out:
        write_json(args.out, json.loads(json.dumps(result, default=str)))


def timed(network: Network, questions: list[Question], greedy: bool, pid: int) -> tuple[list[Trace], float]:
    """Traces, and the processor seconds of this process and of `pid`."""
    spent = lambda: time.process_time() + cpu_seconds(pid)
    start = spent()
    traces = network.answer(questions, greedy=greedy, seed=3)
    return traces, round(spent() - start, 2)


def partings(network: Network, ours: Trace, theirs: Trace) -> list[dict[str, Any]]:
    """First differing token of every call with equal prompts; a call that read another message may well differ."""
    out: list[dict[str, Any]] = []
    for a, b in zip(ours.calls, theirs.calls, strict=True):
        if a.prefix_ids + a.own_ids == b.prefix_ids + b.own_ids and a.completion_ids != b.completion_ids:
            pairs = enumerate(zip(a.completion_ids, b.completion_ids, strict=False))
            t = next(t for t, (x, y) in pairs if x != y)
            mine, other = (logprob(network, a, [*a.completion_ids[:t], call.completion_ids[t]]) for call in (a, b))
            parting = {"question": ours.question_id, "node": a.node, "token": t, "built_in": mine, "vllm": other}
            out.append(parting | {"top2_gap": mine - other})
    return out


@torch.no_grad()
def logprob(network: Network, call: NodeCall, ids: list[int]) -> float:
    """The trainer's log-probability of the last of `ids`, untempered."""
    group = Group(network.adapters.index[call.node], call.prefix_ids, [call.own_ids])
    return replay(network.backbone, network.adapters, [group], [ids], 1.0)[0][-1].item()


@torch.no_grad()
def mismatch(network: Network, traces: list[Trace]) -> dict[str, Any]:
    """Gaps between the engine's log-probabilities and the trainer's. Legend: L token of the traces."""
    measured = Mismatch(2.0)
    index = network.adapters.index
    for trace in traces:
        calls = sorted(trace.calls, key=lambda call: index[call.node])
        groups = [Group(index[call.node], call.prefix_ids, [call.own_ids]) for call in calls]
        ids = [call.completion_ids for call in calls]
        trainer_L, _ = replay(network.backbone, network.adapters, groups, ids, network.decoding.temperature)
        measured.weights(trainer_L, torch.tensor([x for call in calls for x in call.logprobs]))
    metrics = measured.metrics()
    assert metrics is not None, "there are calls to compare"
    return metrics.to_dict()


if __name__ == "__main__":
    main()
