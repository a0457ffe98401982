"""Tests the statement about capacity (docs/theory.md): error against trainable parameters, one policy and networks.

usage: python -m studies.capacity.study DIR [joint] [supervised] [longer]

All methods run by default; a study that is started again goes on where it stopped.

- joint: trained as the paper does, from the final reward, on studies/capacity/recipe.toml.
- supervised: every call imitates the right statement (a single call: the right answer), modulo 7, which the backbone
  has never seen. Nothing has to be explored, so this comes closer to a test of capacity.
- longer: the same with four times as many questions.

Within a method every system sees the same number of questions and rollouts. Families: `single` answers in one call;
`scratchpad` is one adapter that writes to itself (as many calls as the network of three nodes); `network` has an
adapter for each node. Each (family, topology, rank) gets its own learning rate: the better sampled accuracy on
validation with the first seed. Every training is a line of DIR/points.jsonl, with its answers to every test question.
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from neuromas.config import RunConfig
from neuromas.evaluate.run import evaluate
from neuromas.files import append_json_line, read_json_lines
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Network
from neuromas.network.generate import replay
from neuromas.network.packed import Group
from neuromas.run.build import build
from neuromas.tasks.base import Task
from neuromas.train.schedule import Schedule, learning_rate
from neuromas.types import Message, Question
from studies.shared import start, train_network

RECIPE = Path(__file__).with_name("recipe.toml")
SEEDS, TEST, VALIDATION = (0, 1, 2), 512, 256
RATES = {"joint": (2e-3, 8e-3), "supervised": (2e-3, 8e-3), "longer": (2e-3, 4e-3)}
SUPERVISED: dict[str, Any] = {"task.options": {"depth": 2, "modulus": 7, "seed": 2}, "train.steps": 160}
SUPERVISED |= {"train.questions": 16, "train.rollouts": 2}  # imitation has no rollouts; two is the least accepted


@dataclass(frozen=True)
class Shape:
    """One system of the sweep."""

    family: str
    topology: str
    rank: int
    tied: bool = False


JOINT = [
    *(Shape("single", "single", r) for r in (1, 8, 64)),
    *(Shape("scratchpad", "1-1+skip", r, tied=True) for r in (1, 8, 64)),
    *(Shape("network", t, r) for t in ("2", "2-2") for r in (1, 4, 16)),
]
IMITATED = [
    *(Shape("single", "single", r) for r in (1, 4, 16, 64)),
    *(Shape("scratchpad", "1-1+skip", r, tied=True) for r in (1, 4, 16, 64)),
    *(Shape("network", t, r) for t in ("2", "2-2") for r in (1, 4, 16)),
]
SHAPES = {"joint": JOINT, "supervised": IMITATED, "longer": [s for s in IMITATED if s.topology != "2-2"]}
SAYS = {  # the part that each node states when it imitates; "=" is the bare answer
    "single": {"out": "="},
    "1-1+skip": {"1.1": "a", "2.1": "b", "out": "r"},
    "2": {"1.1": "a", "1.2": "b", "out": "r"},
    "2-2": {"1.1": "a", "1.2": "b", "2.1": "a", "2.2": "b", "out": "r"},
}


def main(out: Path, methods: list[str]) -> None:
    backbone = start(out)
    for method in methods:
        for shape, rate, seed in trainings(out, method):
            print(f"{method} {shape.topology} rank {shape.rank} rate {rate:g} seed {seed}", flush=True)
            append_json_line(out / "points.jsonl", point(out, method, shape, rate, seed, backbone))


def trainings(out: Path, method: str) -> Iterator[tuple[Shape, float, int]]:
    """Trainings that are still to be done: the first seed at every rate, then the others at the rate chosen."""
    key = lambda line: (line["method"], line["topology"], line["rank"], line["rate"], line["seed"])
    for later in (False, True):
        for shape in SHAPES[method]:
            rates = (chosen_rate(points(out), method, shape),) if later else RATES[method]
            for seed in SEEDS[1:] if later else SEEDS[:1]:
                for rate in rates:
                    if (method, shape.topology, shape.rank, rate, seed) not in map(key, points(out)):
                        yield shape, rate, seed


def points(out: Path) -> list[dict[str, Any]]:
    return read_json_lines(out / "points.jsonl")


def chosen_rate(lines: list[dict[str, Any]], method: str, shape: Shape) -> float:
    """The rate of the best sampled accuracy on validation with the first seed; the smaller one on a tie."""
    cell = (method, shape.topology, shape.rank, SEEDS[0])
    mine = [p for p in lines if (p["method"], p["topology"], p["rank"], p["seed"]) == cell]
    return max(mine, key=lambda p: (p["validation"], -p["rate"]))["rate"]


def config_of(method: str, shape: Shape, rate: float, seed: int) -> RunConfig:
    """The recipe with the settings of a method, system, rate and seed."""
    changes: dict[str, Any] = {} if method == "joint" else dict(SUPERVISED)
    if method == "longer":
        changes["train.steps"] *= 4
    changes |= {"topology": shape.topology, "adapter.rank": shape.rank, "adapter.tied": shape.tied, "seed": seed}
    return RunConfig.load(RECIPE, **changes, **{"train.learning_rate": rate})


def point(out: Path, method: str, shape: Shape, rate: float, seed: int, backbone: Backbone) -> dict[str, Any]:
    """Train and measure one system; a line of points.jsonl."""
    config = config_of(method, shape, rate, seed)
    if method == "joint":
        folder = out / "runs" / f"{shape.topology}_r{shape.rank}_lr{rate:g}_s{seed}"
        network, task = train_network(config, folder, backbone)
    else:
        network, task = build(config, backbone)
        assert isinstance(network, Network)
        imitate(network, task, config)
    ask = lambda split, n, greedy: evaluate(network, task, split, n, greedy=greedy, seed=seed)
    evaluations = {"sampled": ask("test", TEST, False), "greedy": ask("test", TEST, True)}
    line = {"method": method, **asdict(shape), "rate": rate, "seed": seed, "samples": samples(method, config)}
    line |= {"trainable_parameters": network.trainable_parameters, "calls": len(network.topology.nodes)}
    line |= {"validation": ask("validation", VALIDATION, False).result.accuracy, "n": TEST}
    line |= {"floors": evaluations["greedy"].result.to_dict()["floors"]}
    for decoding, evaluation in evaluations.items():
        line[decoding] = evaluation.result.accuracy
        line[f"{decoding}_rights"] = "".join(str(int(r.reward)) for r in evaluation.records)
    return line


def samples(method: str, config: RunConfig) -> int:
    """Rollouts, or imitated questions, that a training sees."""
    t = config.train
    return t.steps * t.questions * (t.rollouts if method == "joint" else 1)


def imitate(network: Network, task: Task, config: RunConfig) -> None:
    """Train every node to say the right statement, given the right messages, by maximum likelihood."""
    optimizer = torch.optim.AdamW(network.adapters.stacks(), betas=config.train.betas, weight_decay=0.0)
    schedule = Schedule(task.questions("train"), config)
    end = min(network.backbone.end_ids)
    for step in range(1, config.train.steps + 1):
        optimizer.param_groups[0]["lr"] = learning_rate(config, step)
        optimizer.zero_grad(set_to_none=True)
        groups, ids = lesson(network, schedule.questions(step), end)
        logprobs, _ = replay(network.backbone, network.adapters, groups, ids, 1.0)
        (-logprobs.sum() / config.train.questions).backward()
        torch.nn.utils.clip_grad_norm_(network.adapters.stacks(), config.train.clip)
        optimizer.step()


def lesson(network: Network, questions: list[Question], end: int) -> tuple[list[Group], list[list[int]]]:
    """Prompts of every node with the right messages in them, and the ids of the right completions."""
    template, says = network.backbone.template, SAYS[network.topology.name]
    groups: list[Group] = []
    ids: list[list[int]] = []
    for node in sorted(network.topology.nodes, key=network.adapters.index.__getitem__):
        position = network.topology.position(node)
        for question in questions:
            texts = {n: statement(question, part) for n, part in says.items()}
            messages = [Message(u, texts[u]) for u in position.upstream]
            prompt = template.render(position, question, messages, reserve=16)
            groups.append(Group(network.adapters.index[node], prompt.prefix_ids, [prompt.own_ids]))
            ids.append([*template.encode(texts[node]), end])
    return groups, ids


def statement(question: Question, part: str) -> str:
    """The right statement of a part, such as `a3+5=1;`; of the root, such as `1*4=4`; the bare answer for "="."""
    if part == "=":
        return question.answer
    return question.metadata["statements"][part] + ("" if part == "r" else ";")


if __name__ == "__main__":
    if len(sys.argv) < 2 or set(sys.argv[2:]) - SHAPES.keys():
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:] or list(SHAPES))
