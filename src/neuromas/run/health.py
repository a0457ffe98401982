"""Signs in the metrics that training goes wrong: what was seen, and what to try. See docs/metrics.md."""

from collections.abc import Sequence

from neuromas.results import MessageCost, Silenced, StepMetrics

Steps = Sequence[StepMetrics]

_WINDOW = 10  # steps that are judged
_SOLVED = 0.95  # accuracy from which sameness is no fault
_CHECKS = 2  # validations over which silencing is judged


def collapse_warnings(metrics: Steps) -> list[str]:
    """Warnings of a collapse at the end of a run's metrics; empty when nothing points to one."""
    steps = [m for m in metrics if m.reward is not None]
    if not steps:
        return []
    silenced = [m.validation.silenced for m in steps if m.validation and m.validation.silenced]
    warnings = [*_answers(steps[-_WINDOW:]), *_entropies(steps), *_growth(steps)]
    return warnings + _silences([check for check in silenced if check.n])


def _mean(steps: Steps, name: str) -> float:
    return sum(getattr(m, name) for m in steps) / len(steps)


def _answers(recent: Steps) -> list[str]:
    """Equal rewards, a constant answer, answers that cannot be read."""
    out: list[str] = []
    equal, top, parsed = (_mean(recent, k) for k in ("equal_reward_groups", "top_answer_share", "parse_rate"))
    if equal > 0.8 and _mean(recent, "accuracy") < _SOLVED:
        out.append(
            f"in {equal:.0%} of the questions every rollout got the same reward: little is left "
            "to learn from; lower the learning rate, raise train.entropy or train.kl, or set train.balanced"
        )
    constant = {m.top_answer for m in recent}
    if top > 0.9 and len(constant) == 1 and None not in constant:
        out.append(
            f"the answer {recent[-1].top_answer!r} makes up {top:.0%} of all answers: the "
            "network has collapsed to a constant; go back to an earlier checkpoint and raise train.kl, set "
            "train.balanced or lower the learning rate"
        )
    if parsed < 0.8:
        out.append(f"only {parsed:.0%} of the answers could be read; raise sampling.answer_tokens")
    return out


def _entropies(steps: Steps) -> list[str]:
    """Nodes that have stopped exploring before the task was solved: less than a twentieth of their first entropy."""
    first, recent = steps[:5], steps[-_WINDOW:]
    if len(steps) < 2 * _WINDOW or _mean(recent, "accuracy") >= _SOLVED:
        return []
    fell: dict[str, tuple[float, float]] = {}
    for node in recent[-1].nodes:
        early, late = ([m.nodes[node].entropy for m in part if node in m.nodes] for part in (first, recent))
        early, late = [x for x in early if x is not None], [x for x in late if x is not None]
        if (len(early), len(late)) == (len(first), len(recent)):
            fell[node] = sum(early) / len(early), sum(late) / len(late)
    return [
        f"the entropy of node {node} fell from {before:.2f} to {now:.3f} nats a token while accuracy is "
        f"{_mean(recent, 'accuracy'):.0%}: it says the same every time and explores no more; raise train.entropy or "
        "train.kl, lower the learning rate, or go back to an earlier checkpoint"
        for node, (before, now) in fell.items()
        if now < before / 20
    ]


def _growth(steps: Steps) -> list[str]:
    """Three windows or more after it has grown, a network is not half as good as its parent was, nor on its way there.

    Judged by validation, which asks the same questions in every stage.
    """
    stage = steps[-1].stage or 0
    since = [m for m in steps if (m.stage or 0) == stage]
    before = [m for m in steps if (m.stage or 0) < stage]
    sizes = [len(part[-1].nodes) for part in (before, since) if part]
    if len(sizes) < 2 or sizes[0] >= sizes[1] or len(since) < 3 * _WINDOW:
        return []
    checks, after = ([m.validation.accuracy for m in part if m.validation] for part in (before, since))
    if not checks or len(after) < _CHECKS or after[-1] >= checks[-1] / 2 or after[-1] > 1.2 * after[-2]:
        return []
    lost = (
        f"growing from {sizes[0]} to {sizes[1]} nodes after step {before[-1].step} has cost what was learned: "
        f"validation accuracy was {checks[-1]:.2f} and is {after[-1]:.2f}. Where it fell at once, readers meet more "
        'messages than they learned to read: grow by less, or by groups side by side ("8-4/2"); where it fell later, '
        "lower the stage's learning_rate"
    )
    return [lost]


def _silences(checks: Sequence[Silenced]) -> list[str]:
    """Messages that nobody heeds, and nodes whose messages are heeded and do no good."""
    recent = checks[-_CHECKS:]
    if len(recent) < _CHECKS:
        return []
    n = recent[-1].n
    if all(check.all is not None and check.all.changed == 0 for check in recent):
        ignored = (
            f"messages are ignored: withholding all of them changed none of {n} validation answers; let only the first "
            'layer see the question (topology "…@first"), choose questions that one call cannot answer, or use one node'
        )
        return [ignored]
    out: list[str] = []
    for node in recent[-1].nodes:
        costs = [check.nodes.get(node, MessageCost(1.0, 1.0)) for check in recent]
        if all(cost.changed == 0 for cost in costs):
            out.append(
                f"node {node} is ignored: withholding its message changed none of {n} validation answers; "
                'try train.estimator = "counterfactual", or leave the node out'
            )
        elif all(cost.cost <= 0 for cost in costs):
            out.append(
                f"node {node} is dead weight: without its message {n} validation answers were no worse "
                f"({costs[-1].changed:.0%} of them changed); it may repeat a sibling or mislead. "
                'Try train.estimator = "counterfactual", raise train.entropy, or leave the node out'
            )
    return out
