"""CoLLM-CC: parallel actors without messages, and a centralised critic while training. Liu et al., arXiv 2601.21972.

1. Every actor answers the question on its own: N calls, none of which reads another.
2. The team gets one reward r. Ours is the grade of the majority of the N answers, the very thing that is measured at
   test time; the paper's tasks have rewards of their own for joint answers.
3. The critic, the backbone with an adapter and a scalar head of its own, reads the actors' prompt: V(question).
4. Advantage A = r - V, normalised over the batch, the same for every actor. Policy gradient for the actors; squared
   error, weighted by 0.6, for the critic.

At test time the critic is dropped and the majority of the N greedy answers counts: N calls. The paper's learning rate
(5e-6) and temperature (0.6) are the defaults of this method. Its top-p of 0.6 is not used: the replay differentiates
the policy that was sampled. One question is one turn here, so the critic's history is the prompt.

Legend: P question, G rollout, L sampled token (all rows concatenated), E width of the hidden state.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from neuromas.baselines.chat import ANSWER, Chat, Dialogue, Parse, answer
from neuromas.baselines.trained.team import Team, TeamRunConfig, create_adapters, score
from neuromas.baselines.vote import elect
from neuromas.config import Section
from neuromas.network.backbone import Backbone
from neuromas.network.generate import last_states
from neuromas.network.packed import Group
from neuromas.network.sampling import stream_key
from neuromas.network.turns import asks_of
from neuromas.results import NodeMetrics
from neuromas.tasks.base import Task
from neuromas.tasks.reward import graded
from neuromas.train.batching import micro_batches
from neuromas.train.metrics import Tally, sampling_metrics
from neuromas.train.objectives import policy_gradient_loss, without_verdicts
from neuromas.train.preferences import critic_advantages, critic_loss
from neuromas.train.schedule import Schedule, learning_rate
from neuromas.train.step import StepResult
from neuromas.train.update import backward, update
from neuromas.types import Question, Trace, Utterance

CRITIC = "critic"


class CollmConfig(Section):
    """The table [collm]."""

    actors: int = Field(default=3, ge=1)
    """Actors, and calls a question."""
    value_weight: float = Field(default=0.6, ge=0)
    """Weight of the critic's squared error."""


class CollmRunConfig(TeamRunConfig):
    """Settings of a run of CoLLM-CC."""

    paper: ClassVar = {"train": {"learning_rate": 5e-6}, "sampling": {"temperature": 0.6}}
    collm: CollmConfig = CollmConfig()

    @property
    def calls(self) -> int:
        return self.collm.actors


class Collm(Team):
    """N actors and their vote. Ties go to the first actor's answer; an answer that cannot be read has no vote."""

    title, method = "CoLLM-CC", "collm-cc"

    def __init__(self, chat: Chat, actors: int, parse: Parse, width: int) -> None:
        """width: size of the backbone's hidden state, which the critic's head reads. The head starts at V = 0."""
        super().__init__(chat, actor_names(actors))
        self.parse = parse
        device = self.adapters.stacks()[0].device
        sizes = {"critic.weight": width, "critic.bias": 1}
        self.extras = {name: nn.Parameter(torch.zeros(size, device=device)) for name, size in sizes.items()}

    @classmethod
    def create(cls, config: CollmRunConfig, backbone: Backbone, task: Task) -> "Collm":
        """The untrained team. A critic's adapter lies in the actors' bank."""
        actors = config.collm.actors
        chat = create_adapters([*actor_names(actors), CRITIC], config, backbone, task)
        return cls(chat, actors, task.parse, backbone.output.layer.weight.shape[1])  # type: ignore[union-attr]

    def dialogue(self, question: Question) -> Dialogue:
        answers = yield [replace(answer(role, ANSWER), role=role) for role in self.roles]
        return answers[elect([self.parse(question, text) for text in answers])]

    def value(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """V [P] of prompts given as token ids; differentiable in the critic's adapter and head."""
        critic = self.adapters.index[CRITIC]
        states_PE = last_states(self.backbone, self.adapters, [Group(critic, list(ids), [[]]) for ids in prompts])
        return states_PE.float() @ self.extras["critic.weight"] + self.extras["critic.bias"]


def actor_names(actors: int) -> list[str]:
    """The roles that answer."""
    return [f"actor {i}" for i in range(1, actors + 1)]


class CollmTraining:
    """Every step samples, then updates all actors and the critic once."""

    def __init__(self, config: CollmRunConfig, out: Path, system: Collm, task: Task) -> None:
        self.config, self.system, self.task = config, system, task
        self.schedule = Schedule(task.questions("train"), config)

    def rate(self, step: int) -> float:
        return learning_rate(self.config, step)

    def step(self, optimizer: torch.optim.Optimizer, step: int, baseline: float) -> StepResult:
        """One update from `train.questions` × `train.rollouts` joint answers. baseline: not read, for V replaces it."""
        start, team, t = time.perf_counter(), self.system, self.config.train
        questions, G = self.schedule.questions(step), t.rollouts

        # 1. and 2. Joint answers, on policy, and the team's reward for each.
        asks = asks_of(questions, G, self.config.seed, team.decoding)
        dialogues = [(ask.question, g, team.dialogue(ask.question)) for ask in asks for g in ask.rollouts]
        traces = team.sample(dialogues, stream_key(self.config.seed, "step", step), step)
        grades = graded(
            self.task, [q for q in questions for _ in range(G)], [trace.answer for trace in traces], abstain=True
        )
        kept_PG = torch.tensor([not g.abstained for g in grades]).view(len(questions), G)
        rewards_PG = without_verdicts(torch.tensor([g.reward for g in grades]).view(len(questions), G), kept_PG)
        sampled = time.perf_counter()

        # 3. The critic reads what the actors read.
        optimizer.zero_grad(set_to_none=True)
        prompts = [traces[p * G].calls[0].prefix_ids for p in range(len(questions))]
        device = team.backbone.device
        values_P = team.value(prompts)
        value_loss = critic_loss(values_P, rewards_PG.to(device))
        backward(self.config.collm.value_weight * value_loss, step)

        # 4. Actors: policy gradient with the critic's advantages.
        advantages_PG = critic_advantages(rewards_PG.to(device), values_P) * kept_PG.to(device)
        gap = self._actors(traces, advantages_PG.flatten().tolist(), step)
        norms_N = update(team.adapters, optimizer, t.clip, step, extras=team.extras.values(), traces=traces)

        metrics = replace(
            sampling_metrics(Tally.of(traces, grades, rewards_PG), step),
            value=values_P.mean().item(),
            value_loss=value_loss.item(),
            logprob_gap=gap,
            nodes=self._node_metrics(traces, dict(zip(team.adapters.names, norms_N.tolist(), strict=True))),
            seconds={"sample": round(sampled - start, 4), "update": round(time.perf_counter() - sampled, 4)},
        )
        return StepResult(metrics, traces, grades)

    def _actors(self, traces: Sequence[Trace], advantages: Sequence[float], step: int) -> float:
        """Gradients of all actors' calls; the largest |replayed - sampled| log-probability."""
        gap = 0.0
        rows = [
            (Utterance.of(call), call.logprobs, advantage)
            for trace, advantage in zip(traces, advantages, strict=True)
            for call in trace.calls
            if advantage != 0
        ]
        for part in micro_batches(rows, lambda row: row[0].tokens, self.config.train.micro_tokens):
            scores = score(self.system, [example for example, _, _ in part], self.system.decoding.temperature)
            weights = [torch.full_like(s, advantage) for s, (_, _, advantage) in zip(scores, part, strict=True)]
            backward(policy_gradient_loss(torch.cat(scores), torch.cat(weights), len(traces)), step)
            for replayed, (_, sampled, _) in zip(scores, part, strict=True):
                gap = max(gap, (replayed.detach().cpu() - torch.tensor(sampled)).abs().max().item())
        return gap

    def _node_metrics(self, traces: Sequence[Trace], norms: dict[str, float]) -> dict[str, NodeMetrics]:
        """The metrics of each actor, and the gradient norm of the critic."""
        out: dict[str, NodeMetrics] = {}
        for n, role in enumerate(self.system.roles):
            calls = [trace.calls[n] for trace in traces]
            tokens = sum(len(c.completion_ids) for c in calls)
            entropy = sum(sum(c.entropies) for c in calls) / tokens
            out[role] = NodeMetrics(entropy=entropy, length=tokens / len(calls), gradient_norm=norms[role])
        return out | {CRITIC: NodeMetrics(gradient_norm=norms[CRITIC])}
