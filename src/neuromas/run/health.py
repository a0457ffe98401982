"""Signs in the metrics that training goes wrong: what was seen, and what to try. See docs/metrics.md."""

from collections.abc import Sequence
from typing import Any

Lines = Sequence[dict[str, Any]]

_WINDOW = 10  # steps that are judged
_SOLVED = 0.95  # accuracy from which sameness is no fault
_CHECKS = 2  # validations over which silencing is judged


def collapse_warnings(metrics: Lines) -> list[str]:
    """What the lines of `metrics.jsonl` tell of a collapse at their end. Empty when nothing does."""
    steps = [m for m in metrics if "equal_reward_groups" in m]
    if not steps:
        return []
    found = [*_answers(steps[-_WINDOW:]), *_entropies(steps), *_growth(steps)]
    return found + _silences([m["validation"]["silenced"] for m in steps if m.get("validation", {}).get("silenced")])


def _mean(lines: Lines, key: str) -> float:
    return sum(m[key] for m in lines) / len(lines)


def _answers(recent: Lines) -> list[str]:
    """Equal rewards, a constant answer, answers that cannot be read."""
    out: list[str] = []
    equal, top, parsed = (_mean(recent, k) for k in ("equal_reward_groups", "top_answer_share", "parse_rate"))
    if equal > 0.8 and _mean(recent, "accuracy") < _SOLVED:
        out.append(
            f"in {equal:.0%} of the questions every rollout got the same reward: little is left "
            "to learn from; lower the learning rate, raise train.entropy or train.kl, or set train.balanced"
        )
    constant = {m["top_answer"] for m in recent}
    if top > 0.9 and len(constant) == 1 and None not in constant:
        out.append(
            f"the answer {recent[-1]['top_answer']!r} makes up {top:.0%} of all answers: the "
            "network has collapsed to a constant; go back to an earlier checkpoint and raise train.kl, set "
            "train.balanced or lower the learning rate"
        )
    if parsed < 0.8:
        out.append(f"only {parsed:.0%} of the answers could be read; raise sampling.answer_tokens")
    return out


def _entropies(steps: Lines) -> list[str]:
    """Nodes that have stopped exploring before the task was solved: less than a twentieth of their first entropy."""
    first, recent = steps[:5], steps[-_WINDOW:]
    if len(steps) < 2 * _WINDOW or _mean(recent, "accuracy") >= _SOLVED:
        return []
    of = lambda lines, node: sum(m["nodes"][node]["entropy"] for m in lines) / len(lines)
    both = [
        n
        for n in recent[-1].get("nodes", {})
        if all("entropy" in m.get("nodes", {}).get(n, {}) for m in [*first, *recent])
    ]
    fell = {n: (of(first, n), of(recent, n)) for n in both}
    return [
        f"the entropy of node {node} fell from {before:.2f} to {now:.3f} nats a token while accuracy is "
        f"{_mean(recent, 'accuracy'):.0%}: it says the same every time and explores no more; raise train.entropy or "
        "train.kl, lower the learning rate, or go back to an earlier checkpoint"
        for node, (before, now) in fell.items()
        if now < before / 20
    ]


def _growth(steps: Lines) -> list[str]:
    """Three windows or more after it has grown, a network is not half as good as its parent was, nor on its way there.

    Judged by validation, which asks the same questions in every stage.
    """
    stage = lambda m: m.get("stage", 0)
    since = [m for m in steps if stage(m) == stage(steps[-1])]
    before = [m for m in steps if stage(m) < stage(steps[-1])]
    sizes = [len(lines[-1].get("nodes", {})) for lines in (before, since) if lines]
    if len(sizes) < 2 or sizes[0] >= sizes[1] or len(since) < 3 * _WINDOW:
        return []
    checks, after = ([m["validation"]["accuracy"] for m in lines if "validation" in m] for lines in (before, since))
    if not checks or len(after) < _CHECKS or after[-1] >= checks[-1] / 2 or after[-1] > 1.2 * after[-2]:
        return []
    lost = (
        f"growing from {sizes[0]} to {sizes[1]} nodes after step {before[-1]['step']} has cost what was learned: "
        f"validation accuracy was {checks[-1]:.2f} and is {after[-1]:.2f}. Where it fell at once, readers meet more "
        'messages than they learned to read: grow by less, or by groups side by side ("8-4/2"); where it fell later, '
        "lower the stage's learning_rate"
    )
    return [lost]


def _silences(checks: Lines) -> list[str]:
    """Messages that nobody heeds, and nodes whose messages are heeded and do no good."""
    recent = checks[-_CHECKS:]
    if len(recent) < _CHECKS:
        return []
    n = recent[-1]["n"]
    if all(check["all"]["changed"] == 0 for check in recent):
        ignored = (
            f"messages are ignored: withholding all of them changed none of {n} validation answers; let only the first "
            'layer see the question (topology "…@first"), choose questions that one call cannot answer, or use one node'
        )
        return [ignored]
    out: list[str] = []
    for node in recent[-1]["nodes"]:
        of = [check["nodes"].get(node, {"changed": 1.0, "cost": 1.0}) for check in recent]
        if all(x["changed"] == 0 for x in of):
            out.append(
                f"node {node} is ignored: withholding its message changed none of {n} validation answers; "
                'try train.estimator = "counterfactual", or leave the node out'
            )
        elif all(x["cost"] <= 0 for x in of):
            out.append(
                f"node {node} is dead weight: without its message {n} validation answers were no worse "
                f"({of[-1]['changed']:.0%} of them changed); it may repeat a sibling or mislead. "
                'Try train.estimator = "counterfactual", raise train.entropy, or leave the node out'
            )
    return out
