"""Everything that `neuromas inspect` finds out about a network; docs/metrics.md explains the numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from neuromas.analysis import distinct, messages, shapley
from neuromas.analysis.findings import (
    DecodingFindings,
    ExampleTrace,
    Findings,
    Inspection,
    InterventionEffect,
    MessageFindings,
    NodeValue,
    NodeValues,
    NodeVerdict,
    PassRewards,
)
from neuromas.analysis.interventions import Intervention, plan, untrained
from neuromas.analysis.passes import Pass, Passes
from neuromas.errors import ConfigError
from neuromas.evaluate.stats import Floats, Paired, holm, mcnemar, paired_bootstrap
from neuromas.network.forward import Network
from neuromas.results import Interval, MessageRecord
from neuromas.tasks.base import Split, Task
from neuromas.types import Question

EXAMPLES = 3  # Traces kept of right answers, and of wrong ones.
OnPass = Callable[[int, int], None]  # Called with the number of passes done, and of all passes.


@dataclass(frozen=True)
class Sizes:
    """The amount that is measured."""

    questions: int = 256  # Use only the first N questions of the split.
    exact: int = 6  # The most hidden nodes for which Shapley values are exact, which takes 2^n passes.
    orders: int = 4  # Random orders of joining for each question in larger networks.


def study(
    network: Network,
    task: Task,
    split: Split = "test",
    sizes: Sizes | None = None,
    *,
    decodings: Sequence[str] = ("greedy", "sampled"),
    seed: int = 0,
    on_pass: OnPass | None = None,
) -> Inspection:
    """Inspect a network: undisturbed, disturbed in every way, in coalitions, and untrained; once for each decoding.

    Raises ConfigError for a network of one node and for too few questions.
    """
    sizes = sizes or Sizes()
    questions = task.questions(split)[: sizes.questions]
    _check(network, task, split, questions)
    interventions, done = plan(network), 0
    total = len(decodings) * (2 + len(interventions) + _coalitions(network, sizes))

    def count() -> None:
        nonlocal done
        done += 1
        if on_pass is not None:
            on_pass(done, total)

    rewards: list[PassRewards] = []
    found: dict[str, DecodingFindings] = {}
    for decoding in decodings:
        options: dict[str, Any] = {"greedy": decoding == "greedy", "seed": seed, "on_pass": count}
        before = Passes(untrained(network), task, questions, **options).undisturbed
        one = _DecodingStudy(Passes(network, task, questions, **options), decoding, sizes, rewards)
        found[decoding] = one.findings(interventions, before)
    findings = Findings(
        system=network.name,
        backbone=network.backbone.name,
        topology=network.topology.to_dict(),
        task=task.name,
        task_version=task.version,
        split=split,
        n=len(questions),
        seed=seed,
        seeds=1,
        trainable_parameters=network.trainable_parameters,
        floors=task.floors(split, len(questions)),
        decodings=found,
    )
    return Inspection(findings, [question.id for question in questions], rewards)


def _check(network: Network, task: Task, split: Split, questions: Sequence[Question]) -> None:
    if len(network.topology.nodes) < 2:
        raise ConfigError(f"{network.name} is one node: it has no messages to look into; inspect a network of several")
    if len(questions) < distinct.FOLDS or len({question.answer for question in questions}) < 2:
        raise ConfigError(
            f"{len(questions)} {split} questions of {task.name} are too few: {distinct.FOLDS} with two different "
            "answers are needed; raise --limit or the split's size"
        )


def _coalitions(network: Network, sizes: Sizes) -> int:
    """The number of passes that the Shapley values take."""
    hidden = len(network.topology.nodes) - 1
    return 2**hidden - 1 if hidden <= sizes.exact else 1 + sizes.orders * (hidden - 1)


@dataclass(frozen=True)
class _DecodingStudy:
    """The study of a network with one way of decoding."""

    passes: Passes
    decoding: str
    sizes: Sizes
    kept: list[PassRewards]  # The rewards of every pass are added here.

    def keep(self, rewards: Floats, kind: str, **which: Any) -> None:
        self.kept.append(PassRewards(decoding=self.decoding, kind=kind, **which, rewards=rewards.tolist()))

    def findings(self, interventions: Sequence[Intervention], before: Pass) -> DecodingFindings:
        """All findings. before: the pass of the untrained network."""
        plain = self.passes.undisturbed
        self.keep(plain.rewards, "undisturbed")
        effects = [self.effect(intervention) for intervention in interventions]
        corrected = holm([effect.p for effect in effects])
        effects = [replace(effect, p_holm=p) for effect, p in zip(effects, corrected, strict=True)]
        values = self.values(effects)
        self.keep(before.rewards, "untrained")
        return DecodingFindings(
            **vars(self.messages(plain)),
            undisturbed=plain.score(),
            interventions=effects,
            values=values,
            examples=_examples(plain),
            untrained=self.messages(before),
        )

    def effect(self, intervention: Intervention) -> InterventionEffect:
        """The effect of one intervention; `p_holm` is corrected later."""
        done, target = self.passes.disturbed(intervention), intervention.target
        self.keep(done.rewards, intervention.kind, scope=target.scope, target=target.label)
        change = compare(done.rewards, self.passes.undisturbed.rewards)
        return InterventionEffect(
            kind=intervention.kind,
            scope=target.scope,
            target=target.label,
            units=list(target.units),
            accuracy=float(done.rewards.mean()),
            ci95=done.interval,
            difference=change.difference,
            difference_ci95=change.ci95,
            p=change.p,
            follows=self.passes.follows_donor(done) if intervention.kind == "another's" else None,
            p_holm=change.p,
        )

    def values(self, effects: Sequence[InterventionEffect]) -> NodeValues:
        """The worth of each hidden node.

        Coalitions are formed by blanking where not every node reads the question: the absence of a node might leave
        others with nothing to read.
        """
        passes, hidden, plain = self.passes, self.passes.hidden, self.passes.undisturbed.rewards
        topology = passes.network.topology
        blank = topology.question != topology.nodes
        known: dict[frozenset[str], Floats] = {frozenset(hidden): plain}

        def rewards_of(coalition: frozenset[str]) -> Floats:
            if coalition not in known:
                known[coalition] = passes.coalition(lambda _: coalition, blank=blank)
                self.keep(known[coalition], "coalition", present=sorted(coalition))
            return known[coalition]

        def loss(*gone: str) -> Floats:
            return plain - rewards_of(frozenset(hidden) - set(gone))

        def stand_in(node: str, other: str) -> bool:
            """True where both together cost more than the sum of what each costs alone."""
            return paired_bootstrap((loss(node, other) - loss(node) - loss(other)).tolist()).ci95[0] > 0

        if len(hidden) <= self.sizes.exact:
            values = shapley.exact(hidden, rewards_of)
        else:
            ids = [question.id for question in passes.questions]
            mixed = lambda present: passes.coalition(present, blank=blank)
            values = shapley.sampled(hidden, ids, mixed, plain, self.sizes.orders, passes.seed)
        absent = "blanked" if blank else "silenced"
        alone = {row.target: row for row in effects if row.kind == absent and row.scope == "node"}
        nodes = {node: _node_value(alone[node], values.of(node)) for node in hidden}
        spare = [node for node in hidden if nodes[node].verdict == "replaceable"]
        for node in spare:
            partners = [other for other in spare if other != node and stand_in(node, other)]
            nodes[node] = replace(nodes[node], partners=partners)
        return NodeValues(absent=absent, orders=values.orders, nobody=float(values.nobody_P.mean()), nodes=nodes)

    def messages(self, done: Pass) -> MessageFindings:
        """Distinctness of every layer's siblings, statistics of the messages, and the reported parts of questions."""
        texts = done.messages()
        layers = [
            distinct.distinctness(
                [[texts[node][question.id] for node in layer] for question in done.questions],
                self.passes.seed,
                layer=depth,
                nodes=layer,
            )
            for depth, layer in enumerate(self.passes.network.topology.layers, start=1)
            if len(layer) > 1
        ]
        return MessageFindings(
            distinctness=layers,
            messages=messages.statistics(done),
            parts=messages.parts(done),
            accuracy=float(done.rewards.mean()),
            ci95=done.interval,
        )


def compare(mine_P: Floats, plain_P: Floats) -> Paired:
    """The mean difference of two passes' rewards [P]: its bootstrap interval, and McNemar's p for rewards of 0 or 1."""
    paired = paired_bootstrap((mine_P - plain_P).tolist())
    if {*mine_P.tolist(), *plain_P.tolist()} <= {0, 1}:
        return replace(paired, p=mcnemar(int((mine_P > plain_P).sum()), int((plain_P > mine_P).sum())))
    return paired


def _node_value(alone: InterventionEffect, share: Paired) -> NodeValue:
    """A node's worth. alone: the effect of its absence. share: its Shapley value."""
    low, high = alone.difference_ci95
    return NodeValue(
        cost=-alone.difference,
        cost_ci95=(-high, -low),
        shapley=share.difference,
        shapley_ci95=share.ci95,
        verdict=verdict((-high, -low), share.ci95),
    )


def verdict(cost_ci95: Interval, shapley_ci95: Interval) -> NodeVerdict:
    """The verdict on a node, by the intervals of what its absence costs and of its Shapley value.

    needed: its absence costs accuracy. harmful: its absence raises it. replaceable: its absence costs nothing that can
    be told from 0, but its Shapley value is above 0: others stand in for it. idle: neither can be told from 0.
    """
    if cost_ci95[0] > 0:
        return "needed"
    if cost_ci95[1] < 0:
        return "harmful"
    return "replaceable" if shapley_ci95[0] > 0 else "idle"


def _examples(done: Pass) -> list[ExampleTrace]:
    """The first traces with a right answer, then the first with a wrong one."""
    examples = [
        ExampleTrace(
            question=question.text,
            answer=question.answer,
            reply=trace.answer,
            reward=grade.reward,
            messages=[MessageRecord(call.node, call.text, call.truncated) for call in trace.calls],
        )
        for question, trace, grade in zip(done.questions, done.traces, done.grades, strict=True)
    ]
    right = [example for example in examples if example.reward == 1]
    wrong = [example for example in examples if example.reward != 1]
    return right[:EXAMPLES] + wrong[:EXAMPLES]
