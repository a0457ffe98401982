"""How well vLLM and this library's own sampling agree, token by token: python tools/engine_agreement.py --out FILE

Processor seconds are of both processes together, and mean something on a machine that does other things besides.
The adapters of an untrained network are filled with noise, so that its nodes differ. Greedy: the same questions by
both; every call that read the same and says something else is reported at its first differing token, with the
trainer's log-probabilities of both tokens there (their difference is what rounding had to bridge). Sampled: vLLM's
log-probabilities against the trainer's replay of the same tokens, as training compares them.

NEUROMAS_VLLM_PYTHON names the Python that has vLLM.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch

from neuromas.files import write_json
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Limits, Network
from neuromas.network.generate import replay
from neuromas.network.packed import Group
from neuromas.network.vllm.engine import Settings, VllmEngine
from neuromas.tasks import load_task
from neuromas.train.mismatch import Mismatch
from neuromas.types import NodeCall, Trace


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    asked = load_task(args.task).questions("train")[: args.questions]
    layers, nodes = network.topology.layers, network.topology.nodes
    engine = VllmEngine(
        backbone, Settings(len(nodes), max(map(len, layers)), args.rank, 1024, start_seconds=3600, call_seconds=7200)
    )

    found: dict[str, Any] = {**vars(args), "out": None, **engine.versions, "trainer_torch": torch.__version__}
    own, own_seconds = timed(network, asked, True, engine.pid)
    network.engine = engine
    network.answer(asked[:1])  # what is compiled or set up at the first call is in no figure
    theirs, their_seconds = timed(network, asked, True, engine.pid)
    again, _ = timed(network, asked[::-1], True, engine.pid)
    found["greedy"] = {
        "equal_traces": sum(a.answer == b.answer and said(a) == said(b) for a, b in zip(own, theirs, strict=True)),
        "traces": len(own),
        "equal_in_another_order": sum(said(a) == said(b) for a, b in zip(theirs, again[::-1], strict=True)),
        "tokens": sum(t.generated_tokens for t in own),
        "cpu_seconds": {"built-in": own_seconds, "vllm": their_seconds},
        "partings": [p for a, b in zip(own, theirs, strict=True) for p in partings(network, a, b)],
    }
    sampled, _ = timed(network, asked, False, engine.pid)
    found["sampled"] = mismatch(network, sampled) | {"tokens": sum(t.generated_tokens for t in sampled)}
    engine.close()
    print(json.dumps(found, default=str))
    if args.out:
        write_json(args.out, json.loads(json.dumps(found, default=str)))


def timed(network: Network, asked: list[Any], greedy: bool, pid: int) -> tuple[list[Trace], float]:
    """Traces, and the processor seconds of this process and of `pid`."""
    spent = lambda: time.process_time() + cpu_seconds(pid)
    start = spent()
    traces = network.answer(asked, greedy=greedy, seed=3)
    return traces, round(spent() - start, 2)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def said(trace: Trace) -> list[list[int]]:
    return [call.completion_ids for call in trace.calls]


def partings(network: Network, own: Trace, theirs: Trace) -> list[dict[str, Any]]:
    """Where calls with equal prompts part; those that read what another had said differently are no news."""
    out: list[dict[str, Any]] = []
    for a, b in zip(own.calls, theirs.calls, strict=True):
        if a.prefix_ids + a.own_ids == b.prefix_ids + b.own_ids and a.completion_ids != b.completion_ids:
            pairs = enumerate(zip(a.completion_ids, b.completion_ids, strict=False))
            t = next(t for t, (x, y) in pairs if x != y)
            mine, other = (logprob(network, a, [*a.completion_ids[:t], call.completion_ids[t]]) for call in (a, b))
            at = {"question": own.question_id, "node": a.node, "token": t, "built_in": mine, "vllm": other}
            out.append(at | {"top2_gap": mine - other})
    return out


@torch.no_grad()
def logprob(network: Network, call: NodeCall, ids: list[int]) -> float:
    """The trainer's log-probability of the last of `ids`, untempered."""
    group = Group(network.adapters.index[call.node], call.prefix_ids, [call.own_ids])
    return replay(network.backbone, network.adapters, [group], [ids], 1.0)[0][-1].item()


@torch.no_grad()
def mismatch(network: Network, traces: list[Trace]) -> dict[str, Any]:
    found = Mismatch(2.0)
    index = network.adapters.index
    for trace in traces:
        calls = sorted(trace.calls, key=lambda call: index[call.node])
        groups = [Group(index[call.node], call.prefix_ids, [call.own_ids]) for call in calls]
        ids = [call.completion_ids for call in calls]
        own_L, _ = replay(network.backbone, network.adapters, groups, ids, network.decoding.temperature)
        found.weights(own_L, torch.tensor([x for call in calls for x in call.logprobs]))
    return found.figures()


if __name__ == "__main__":
    main()
