"""GPTSwarm: agents as the nodes of a graph whose edges are learned, and nothing else. Zhuge et al. 2024, 2402.16823."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from neuromas.baselines.chat import ANSWER, MIXED, Chat, Dialogue, Parse, answer, at_least, converse, numbered
from neuromas.baselines.fitted import FitProgress, Fitted, FittedState, training_order
from neuromas.baselines.vote import elect
from neuromas.errors import ConfigError
from neuromas.tasks.base import Task
from neuromas.tasks.reward import graded
from neuromas.types import Question

READ = (
    "Answers of others to the question are given; some may be wrong. Use what is right in them and answer it yourself."
)
DECIDE = "Several answers to the question are given; some may be wrong. Decide on one final answer."

Edge = tuple[int, int]  # (who speaks, who reads), agents from 0


class GPTSwarm(Fitted):
    """`agents` nodes that each answer after reading those with an edge to them, then a decision over all answers.

    Calls: agents + 1 when a call decides, agents when they vote; one after the other as many as the longest path of the
    graph has nodes, and the decision. Every ordered pair of agents is a possible edge with a logit, from 0 (p = 0.5).
    Answers are made with the edges of p > 0.5, so before `fit` there is none. All agents are one backbone, so they are
    sampled always.
    """

    title = "gptswarm"
    greedy_name = MIXED

    def __init__(self, chat: Chat, parse: Parse, agents: int = 10, decide: Literal["call", "vote"] = "call") -> None:
        """Raises ConfigError for an unknown `decide` or fewer than two agents."""
        super().__init__(chat)
        at_least(2, agents=agents)
        if decide not in ("call", "vote"):
            raise ConfigError(f"decide is {decide!r}: the swarm decides by a 'call' or by a 'vote'; choose one")
        self.parse, self.agents, self.decide = parse, agents, decide
        self.possible = [(a, b) for a in range(agents) for b in range(agents) if a != b]
        self.logits = torch.zeros(len(self.possible), dtype=torch.float64)
        self.trainable_parameters = len(self.possible)

    def dialogue(self, question: Question) -> Dialogue:
        return self.on_graph(question, self.edges())

    def on_graph(self, question: Question, edges: Sequence[Edge]) -> Dialogue:
        """The dialogue of one question on a given graph, level by level."""
        answered: dict[int, str] = {}
        reads = {b: [a for a in range(self.agents) if (a, b) in edges] for b in range(self.agents)}
        while len(answered) < self.agents:
            ready = [b for b in range(self.agents) if b not in answered and all(a in answered for a in reads[b])]
            replies = yield [
                answer(
                    f"agent-{b + 1}",
                    READ if reads[b] else ANSWER,
                    *((f"Answer of agent {a + 1}", answered[a]) for a in reads[b]),
                    sampled=True,
                )
                for b in ready
            ]
            answered |= zip(ready, replies, strict=True)
        answers = [answered[b] for b in range(self.agents)]
        if self.decide == "vote":
            return answers[elect([self.parse(question, text) for text in answers])]
        (final,) = yield [answer("decide", DECIDE, *numbered("Answer", answers))]
        return final

    def edges(self) -> list[Edge]:
        """The graph that answers: every edge of p > 0.5 that closes no cycle with those before it."""
        kept: list[Edge] = []
        for edge, logit in zip(self.possible, self.logits.tolist(), strict=True):
            if logit > 0 and not closes_cycle(kept, edge):
                kept.append(edge)
        return kept

    def fit(
        self,
        task: Task,
        iterations: int = 200,
        batch: int = 4,
        rate: float = 0.1,
        seed: int = 0,
        progress: FitProgress | None = None,
    ) -> None:
        """Learn the logits by REINFORCE with Adam: `batch` sampled graphs an iteration, each on one training question.

        The utility of a graph is the reward of its answer, without a baseline, as published. rate: learning rate.
        """
        at_least(1, iterations=iterations, batch=batch)
        questions = training_order(task, iterations * batch, seed)
        logits = self.logits.clone().requires_grad_()
        adam = torch.optim.Adam([logits], lr=rate)
        for step in range(iterations):
            asked = questions[step * batch : (step + 1) * batch]
            graphs = [self.sample(logits.detach(), np.random.default_rng([seed, step, i])) for i in range(batch)]
            rows = [
                (q, step * batch + i, self.on_graph(q, [edge for edge, on in graph if on]))
                for i, (q, graph) in enumerate(zip(asked, graphs, strict=True))
            ]
            traces = converse(self.chat, rows, greedy=True, seed=seed)
            utility = [grade.reward for grade in graded(task, asked, [trace.answer for trace in traces])]
            self.count(traces, utility)
            adam.zero_grad()
            self.loss(logits, graphs, utility).backward()
            adam.step()
            if progress is not None:
                progress((step + 1) * batch, len(questions))
        self.logits, self.fit_task = logits.detach(), task.name

    def sample(self, logits: torch.Tensor, rng: np.random.Generator) -> list[tuple[Edge, bool]]:
        """A random acyclic graph: each edge that would close no cycle, and whether it was drawn (Bernoulli)."""
        drawn: list[tuple[Edge, bool]] = []
        kept: list[Edge] = []
        chances = zip(self.possible, logits.sigmoid().tolist(), rng.random(len(self.possible)), strict=True)
        for edge, p, u in chances:
            if closes_cycle(kept, edge):
                continue
            drawn.append((edge, bool(u < p)))
            if u < p:
                kept.append(edge)
        return drawn

    def loss(
        self, logits: torch.Tensor, graphs: Sequence[Sequence[tuple[Edge, bool]]], utility: Sequence[float]
    ) -> torch.Tensor:
        """-mean(utility · log p(graph)), a scalar; an edge that could not be drawn has no probability.

        logits: one for each possible edge.
        """
        place = {edge: i for i, edge in enumerate(self.possible)}
        terms = [
            u * torch.stack([logsigmoid(logits[place[e]] if on else -logits[place[e]]) for e, on in graph]).sum()
            for u, graph in zip(utility, graphs, strict=True)
        ]
        return -torch.stack(terms).mean()

    def state(self) -> FittedState:
        return {"agents": self.agents, "logits": self.logits.tolist(), "edges": self.edges()}

    def restore(self, state: FittedState) -> None:
        self.check(state, agents=self.agents)
        self.logits = torch.tensor(state["logits"], dtype=torch.float64)


def closes_cycle(edges: Sequence[Edge], new: Edge) -> bool:
    """True where a path leads from the new edge's reader back to its speaker."""
    reached, ahead = set[int](), [new[1]]
    while ahead:
        node = ahead.pop()
        if node == new[0]:
            return True
        if node not in reached:
            reached.add(node)
            ahead += [b for a, b in edges if a == node]
    return False
