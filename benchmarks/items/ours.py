"""This project on a workload: a layer through `Network.sample` and `replay`, a network through `train_step`.

Variant `apart`, of layers only: the same code node by node instead of one call for all nodes. Variant `vllm`: rollouts
by vLLM in a process of its own, as `sampling.engine` has it; every repeat hands over the adapters that the one before
updated. Its memory is `engine_peak_bytes`.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch

from benchmarks.items import measure
from benchmarks.work import Work
from benchmarks.workloads import Spec, network, questions, spec_of
from neuromas.config import TrainConfig
from neuromas.network.forward import Network
from neuromas.network.generate import Completion, replay
from neuromas.network.packed import Group
from neuromas.network.sampling import stream_key
from neuromas.network.vllm.engine import VllmEngine, VllmSettings
from neuromas.tasks.base import Split, Task
from neuromas.train.batching import micro_batches, room_beside
from neuromas.train.objectives import policy_gradient_loss
from neuromas.train.step import train_step
from neuromas.train.update import backward, update
from neuromas.types import Grade, Question


class Layer:
    """Nodes side by side: one `generate` for all of them, one `replay` for each micro-batch, one step."""

    def __init__(self, work: Work, net: Network, optimizer: torch.optim.Optimizer, args: Any) -> None:
        self.work, self.net, self.optimizer = work, net, optimizer
        self.budget, self.apart = args.micro_tokens, args.variant == "apart"
        self.tokens, G = work.nodes[0].tokens, work.rollouts
        self.groups = [
            Group(net.adapters.index[node.id], prefix, node.own_ids[p * G : (p + 1) * G])
            for node in work.nodes
            for p, prefix in enumerate(node.prefix_ids)
        ]
        self.keys = [stream_key(0, g, row) for g in range(len(self.groups)) for row in range(G)]

    def rollout(self) -> list[Completion]:
        G, P, net = self.work.rollouts, self.work.questions, self.net
        step = P if self.apart else len(self.groups)
        done: list[Completion] = []
        for g in range(0, len(self.groups), step):
            keys = self.keys[g * G : (g + step) * G]
            done += net.sample(self.groups[g : g + step], keys, self.tokens, net.decoding)
        return done

    def update(self, done: list[Completion]) -> None:
        G, net = self.work.rollouts, self.net
        self.optimizer.zero_grad(set_to_none=True)
        for picked in self._micro_batches():
            ids = [done[g * G + row].ids for g, rows in picked for row in rows]
            groups = [
                replace(self.groups[g], own_ids=[self.groups[g].own_ids[row] for row in rows]) for g, rows in picked
            ]
            logprobs, _ = replay(net.backbone, net.adapters, groups, ids, net.decoding.temperature)
            spread = measure.advantages(len(ids)).repeat_interleave(self.tokens)
            backward(policy_gradient_loss(logprobs, spread, self.work.questions * G), step=1)
        update(net.adapters, self.optimizer, clip=1.0, step=1)

    def _micro_batches(self) -> Iterable[list[tuple[int, list[int]]]]:
        """Groups and their rows, by number, to replay at once; divided as `train.step` divides them."""
        P, N = self.work.questions, len(self.work.nodes)
        whole = list(range(self.work.rollouts))
        if self.apart:
            return [[(g, whole) for g in range(n * P, (n + 1) * P)] for n in range(N)]
        own = lambda g, row: len(self.groups[g].own_ids[row]) + self.tokens
        prefix = lambda g: len(self.groups[g].prefix_ids)
        parts = [
            (g, rows)
            for g in range(len(self.groups))
            for rows in micro_batches(whole, lambda row, g=g: own(g, row), room_beside(prefix(g), self.budget))
        ]
        return micro_batches(parts, lambda part: prefix(part[0]) + sum(own(part[0], r) for r in part[1]), self.budget)


class Alternating(Task):
    """Rewards 1, 0, 1, 0 … so that no group of rollouts is equal and every row is trained."""

    name, version, max_answer_tokens = "benchmark", 1, 1

    def __init__(self) -> None:
        self._graded = 0

    def questions(self, split: Split) -> list[Question]:
        return []

    def grade(self, question: Question, text: str) -> Grade:
        self._graded += 1
        return Grade(float(self._graded % 2), text)


def engaged(args: Any, work: Work, net: Network) -> Network:
    """The network, sampled by vLLM in the variant of that name."""
    if args.variant == "vllm":
        settings = VllmSettings(len(net.topology.nodes), max(map(len, net.topology.layers)), work.rank, 512, work.rows)
        net.engine = VllmEngine(net.backbone, settings)
    return net


def run_layer(args: Any, work: Work, spec: Spec) -> tuple[measure.Laps, Network, torch.optim.Optimizer]:
    net = engaged(args, work, network(spec, work.dtype))
    optimizer = torch.optim.AdamW(net.adapters.stacks(), lr=1e-6, weight_decay=0.0)
    engine = net.engine if isinstance(net.engine, VllmEngine) else None
    layer, laps = Layer(work, net, optimizer, args), measure.Laps(engine and engine.pid)
    for _ in range(args.warmup + args.repeats):
        done = laps.timed("rollout", layer.rollout)
        assert all(len(c.ids) == work.nodes[0].tokens for c in done)
        laps.timed("update", lambda done=done: layer.update(done))
    return laps, net, optimizer


def run_network(args: Any, work: Work, spec: Spec) -> tuple[measure.Laps, Network, torch.optim.Optimizer]:
    net, batch = engaged(args, work, network(spec, work.dtype)), questions(spec)
    optimizer = torch.optim.AdamW(net.adapters.stacks(), lr=1e-6, weight_decay=0.0)
    settings, laps = TrainConfig(rollouts=work.rollouts, micro_tokens=args.micro_tokens), measure.Laps()
    for _ in range(args.warmup + args.repeats):
        metrics = train_step(net, optimizer, Alternating(), batch, settings, step=1, seed=0).metrics
        assert metrics.generated_tokens == work.sampled_tokens
        laps.rollout.append(measure.Lap(metrics.seconds["sample"], None))
        laps.update.append(measure.Lap(metrics.seconds["backward"] + metrics.seconds["update"], None))
    return laps, net, optimizer


def main() -> None:
    args = measure.options()
    work: Work = args.work
    run = run_layer if work.topology == "layer" else run_network
    laps, net, _optimizer = run(args, work, spec_of(work))
    held = {"resident_bytes": measure.resident_bytes(), "parameters_per_node": net.adapters.parameters_per_adapter}
    if isinstance(net.engine, VllmEngine):
        held["engine_peak_bytes"] = measure.peak_bytes(net.engine.pid)
        net.engine.close()
    measure.report(laps, args, **held)


if __name__ == "__main__":
    main()
