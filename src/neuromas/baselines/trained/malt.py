"""MALT: a generator, a verifier and a refiner, trained from a search tree. Motwani et al. 2024, arXiv 2412.01928.

1. Search. For every training question the generator writes b answers, the verifier b critiques of each, the refiner b
   answers for each critique: b³ trajectories (27 for b = 3), b + b² + b³ calls (39). Only the last ones are graded.
2. Values. A leaf is worth its reward, a node the mean of its children. Worth over 0.5 is labelled good.
3. SFT. Every role imitates its own good outputs.
4. DPO. Verifier and refiner learn to prefer good outputs to bad ones with the same parent. The reference is the state
   after SFT.

At test time one greedy chain, 3 calls; or the vote of three sampled ones, 9 calls (`neuromas eval RUN --votes 3`).
The prompts are ours. The tree is sampled once, from the untrained adapters, as in the paper.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from pydantic import Field

from neuromas.baselines.chat import Chat, Dialogue, Note, Request
from neuromas.baselines.trained.team import Team, TeamRunConfig, create_adapters, drawn, score
from neuromas.baselines.trained.tree import Pair, good_examples, levels, preference_pairs
from neuromas.config import Section
from neuromas.errors import CheckpointError, ConfigError
from neuromas.files import append_json_line, read_json_lines, read_object, write_json
from neuromas.network.backbone import Backbone
from neuromas.network.sampling import stream_key
from neuromas.results import NodeMetrics, StepMetrics
from neuromas.tasks.base import Task
from neuromas.tasks.reward import graded
from neuromas.train.batching import micro_batches
from neuromas.train.metrics import Tally, sampling_metrics
from neuromas.train.objectives import without_verdicts
from neuromas.train.preferences import dpo_loss, dpo_margins, sft_loss
from neuromas.train.schedule import Schedule, learning_rate
from neuromas.train.step import StepResult
from neuromas.train.update import backward, update
from neuromas.types import Grade, Question, Utterance

ROLES = GENERATOR, VERIFIER, REFINER = ("generator", "verifier", "refiner")
GENERATE = "Answer the question."
VERIFY = "Check the proposed answer. Say in a few words what is right or wrong about it."
REFINE = "Read the proposed answer and what was said about it. Give the best answer."


class MaltConfig(Section):
    """The table [malt]: `search` steps sample trees, `sft` steps imitate, the rest of the run is DPO."""

    search: int = Field(default=25, ge=1)
    """First steps, which sample a tree for each of `train.questions` questions and train nothing."""
    sft: int = Field(default=40, ge=0)
    """Steps of SFT after them. The rest of `train.steps` is DPO."""
    branching: int = Field(default=3, ge=1)
    """Children of every node, b: b³ trajectories and b + b² + b³ calls a question."""
    batch: int = Field(default=16, ge=1)
    """Examples of each role (in DPO: pairs) a step; all of them where there are fewer."""
    beta: float = Field(default=0.1, gt=0)
    """DPO's β."""
    dpo_scale: float = Field(default=0.1, gt=0)
    """Learning rate of DPO as a multiple of `train.learning_rate`."""


class MaltRunConfig(TeamRunConfig):
    """Settings of a run of MALT."""

    malt: MaltConfig = MaltConfig()

    @property
    def calls(self) -> int:
        return len(ROLES)

    @property
    def samples(self) -> int:
        """The calls of all trees, in answers of one chain: a tree of 39 calls counts as 13 rollouts."""
        b = self.malt.branching
        return self.malt.search * self.train.questions * (b + b**2 + b**3) // self.calls

    def check(self) -> None:
        """Raises `ConfigError` where no step is left for DPO, and as for any team."""
        super().check()
        if self.malt.search + self.malt.sft > self.train.steps:
            raise ConfigError(
                f"train.steps is {self.train.steps}, but malt.search ({self.malt.search}) and malt.sft "
                f"({self.malt.sft}) need more; raise train.steps (what is left over is DPO) or lower them"
            )


class Malt(Team):
    """The chain of three. `search` samples a tree: the same with several children a node."""

    title, method, votes = "MALT", "malt", 3

    def __init__(self, chat: Chat) -> None:
        super().__init__(chat, ROLES)

    @classmethod
    def create(cls, config: MaltRunConfig, backbone: Backbone, task: Task) -> "Malt":
        """The untrained team."""
        return cls(create_adapters(ROLES, config, backbone, task))

    def dialogue(self, question: Question) -> Dialogue:
        return self.search(1)

    def search(self, branching: int) -> Dialogue:
        """The calls of a tree, level by level; siblings side by side. Returns the first refined answer."""
        children = range(1, branching + 1)
        answers = yield [_say(GENERATOR, f"{i}", GENERATE) for i in children]
        first = {f"{i}": ("Proposed answer", a) for i, a in zip(children, answers, strict=True)}
        critiques = yield [_say(VERIFIER, f"{i}.{j}", VERIFY, first[i]) for i in first for j in children]
        places = [f"{i}.{j}" for i in first for j in children]
        second = {ij: ("Check", c) for ij, c in zip(places, critiques, strict=True)}
        refined = yield [
            _say(REFINER, f"{ij}.{k}", REFINE, first[ij.split(".")[0]], second[ij]) for ij in second for k in children
        ]
        return refined[0]


def _say(role: str, place: str, ask: str, *notes: Note) -> Request:
    return Request(f"{role} {place}", ask, notes, answering=role != VERIFIER, role=role)


# -- training ----------------------------------------------------------------------------------------------


class MaltTraining:
    """Steps 1 … `search` sample trees, the next `sft` ones imitate, the rest prefer."""

    def __init__(self, config: MaltRunConfig, out: Path, system: Malt, task: Task) -> None:
        self.config, self.out, self.system, self.task = config, out, system, task
        self.schedule = Schedule(task.questions("train"), config)
        self._reference: dict[str, list[list[float]]] | None = None

    def _phase(self, step: int) -> tuple[str, int]:
        """The phase that a step belongs to, and its number there (from 1)."""
        m = self.config.malt
        if step <= m.search:
            return "search", step
        if step <= m.search + m.sft:
            return "sft", step - m.search
        return "dpo", step - m.search - m.sft

    def rate(self, step: int) -> float:
        """The learning rate: each phase has a warm-up of its own; 0 while searching."""
        phase, k = self._phase(step)
        return {"search": 0.0, "sft": 1.0, "dpo": self.config.malt.dpo_scale}[phase] * learning_rate(self.config, k)

    def step(self, optimizer: torch.optim.Optimizer, step: int, baseline: float) -> StepResult:
        """One step of the phase that it belongs to. baseline: not read; it belongs to another method."""
        start = time.perf_counter()
        phase, k = self._phase(step)
        if phase == "search":
            result = self._search(step)
        elif phase == "sft":
            result = self._imitate(optimizer, step, k)
        else:
            result = self._prefer(optimizer, step, k)
        seconds = {phase: round(time.perf_counter() - start, 4)}
        return replace(result, metrics=replace(result.metrics, phase=phase, seconds=seconds))

    def _search(self, step: int) -> StepResult:
        """A tree for each question of the step; written to trees.jsonl."""
        b, questions = self.config.malt.branching, self.schedule.questions(step)
        dialogues = [(question, g, self.system.search(b)) for g, question in enumerate(questions)]
        traces = self.system.sample(dialogues, stream_key(self.config.seed, "search", step), step)
        leaves = b**3
        texts = [q.answer_prefix + c.text for q, t in zip(questions, traces, strict=True) for c in t.calls[-leaves:]]
        grades = graded(self.task, [q for q in questions for _ in range(leaves)], texts, abstain=True)
        rewards_PG = torch.tensor([g.reward for g in grades], dtype=torch.float64).view(len(questions), leaves)
        rewards_PG = without_verdicts(rewards_PG, torch.tensor([not g.abstained for g in grades]).view_as(rewards_PG))
        for trace, rewards in zip(traces, rewards_PG.tolist(), strict=True):
            calls = [[c.node, c.prefix_ids, c.own_ids, c.completion_ids] for c in trace.calls]
            record = {"step": step, "question": trace.question_id, "rewards": rewards, "calls": calls}
            append_json_line(self.out / "trees.jsonl", record)
        worth = [Grade(reward, None) for reward in rewards_PG.mean(1).tolist()]
        return StepResult(sampling_metrics(Tally.of(traces, grades, rewards_PG), step), traces, worth)

    @cached_property
    def _learned(self) -> tuple[dict[str, list[Utterance]], dict[str, list[Pair]]]:
        """The examples and the pairs of all trees, by role. Raises `CheckpointError` when some trees are missing."""
        trees, want = read_json_lines(self.out / "trees.jsonl"), self.config.malt.search * self.schedule.size
        if len(trees) != want:
            raise CheckpointError(f"{self.out / 'trees.jsonl'} holds {len(trees)} trees, not {want}; start a new run")
        imitated: dict[str, list[Utterance]] = {role: [] for role in ROLES}
        compared: dict[str, list[Pair]] = {role: [] for role in (VERIFIER, REFINER)}
        for tree in trees:
            examples = [Utterance(node.split()[0], *ids) for node, *ids in tree["calls"]]
            for role, nodes in zip(ROLES, levels(examples, tree["rewards"], self.config.malt.branching), strict=True):
                imitated[role] += good_examples(nodes)
                if role in compared:
                    compared[role] += preference_pairs(nodes)
        return imitated, compared

    def _imitate(self, optimizer: torch.optim.Optimizer, step: int, k: int) -> StepResult:
        """Cross-entropy on a batch of each role's good outputs; every role has a mean of its own."""
        pools, _ = self._learned
        size, seed = self.config.malt.batch, self.config.seed
        batch = {r: drawn(items, size, k, seed, "sft", r) for r, items in pools.items() if items}
        tokens = {role: sum(len(e.completion_ids) for e in examples) for role, examples in batch.items()}
        losses = dict.fromkeys(batch, 0.0)
        optimizer.zero_grad(set_to_none=True)
        for role, examples in batch.items():
            for part in micro_batches(examples, lambda e: e.tokens, self.config.train.micro_tokens):
                loss = sft_loss(torch.cat(score(self.system, part)), tokens[role])
                losses[role] += backward(loss, step)
        nodes = {
            role: NodeMetrics(loss=losses[role], examples=len(batch[role]), pool=len(pools[role])) for role in batch
        }
        return self._update(optimizer, step, nodes)

    def _prefer(self, optimizer: torch.optim.Optimizer, step: int, k: int) -> StepResult:
        """DPO on a batch of the verifier's and of the refiner's pairs."""
        if k == 1:  # the state after SFT: the reference, and no momentum of the other objective
            optimizer.state.clear()
            self._reference = self._refer()
            write_json(self.out / "reference.json", self._reference)
        if self._reference is None:
            self._reference = read_object(self.out / "reference.json")
        nodes: dict[str, NodeMetrics] = {}
        optimizer.zero_grad(set_to_none=True)
        for role, pairs in self._learned[1].items():
            if pairs:
                pool = list(zip(pairs, self._reference[role], strict=True))
                batch = drawn(pool, self.config.malt.batch, k, self.config.seed, "dpo", role)
                nodes[role] = replace(self._compare(batch, step), pool=len(pairs))
        return self._update(optimizer, step, nodes)

    def _compare(self, batch: Sequence[tuple[Pair, list[float]]], step: int) -> NodeMetrics:
        """Add the gradients of one role's pairs; returns its metrics."""
        total, margins = 0.0, list[float]()
        for part in micro_batches(batch, lambda b: b[0][0].tokens + b[0][1].tokens, self.config.train.micro_tokens):
            good, bad = self._totals([pair for pair, _ in part])
            reference_B2 = torch.tensor([reference for _, reference in part], device=good.device)
            margins_B = dpo_margins(good, bad, reference_B2[:, 0], reference_B2[:, 1])
            total += backward(dpo_loss(margins_B, self.config.malt.beta, len(batch)), step)
            margins += margins_B.tolist()
        n = len(batch)
        preferred = sum(margin > 0 for margin in margins) / n
        return NodeMetrics(loss=total, examples=n, margin=sum(margins) / n, preferred=preferred)

    def _totals(self, pairs: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities of the good and of the bad completions, summed over tokens; each [B]."""
        scores = score(self.system, [example for pair in pairs for example in pair])
        totals = torch.stack([s.sum() for s in scores]).view(-1, 2)
        return totals[:, 0], totals[:, 1]

    @torch.no_grad()
    def _refer(self) -> dict[str, list[list[float]]]:
        """Log-probabilities of all pairs with the present adapters, (good, bad) by role."""
        budget = self.config.train.micro_tokens
        return {
            role: [
                pair
                for part in micro_batches(pairs, lambda p: p[0].tokens + p[1].tokens, budget)
                for pair in torch.stack(self._totals(part), 1).tolist()
            ]
            for role, pairs in self._learned[1].items()
        }

    def _update(self, optimizer: torch.optim.Optimizer, step: int, nodes: dict[str, NodeMetrics]) -> StepResult:
        """Update the roles that have metrics, i.e. something to learn from, and no other."""
        if nodes:
            bank, clip = self.system.adapters, self.config.train.clip
            norms_N = update(bank, optimizer, clip, step, only=nodes, extras=self.system.extras.values())
            nodes = {
                role: replace(metrics, gradient_norm=norms_N[bank.index[role]].item())
                for role, metrics in nodes.items()
            }
        return StepResult(StepMetrics(step=step, nodes=nodes), [], [])
