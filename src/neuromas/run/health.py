"""Signs in the metrics that training goes wrong: what was seen, and what to try. See docs/metrics.md."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from neuromas.results import MessageCost, Silenced, StepMetrics

Steps = Sequence[StepMetrics]

_WINDOW = 10  # steps that are judged; a stage of fewer has not had its chance
_CUT = 0.5  # share of messages that end at the token limit, from which it is worth a word
_SOLVED = 0.95  # accuracy from which sameness is no fault
_CHECKS = 2  # validations over which silencing is judged
_NAMED = 4  # nodes of a layer that a warning names


@dataclass(frozen=True)
class Sign:
    """One warning. Those of one kind and layer say the same of another moment."""

    kind: str  # as docs/metrics.md calls it
    layer: str  # of the nodes that it is about; empty for the whole network
    text: str


def signs(metrics: Steps) -> list[Sign]:
    """The signs of a collapse at the end of a run's metrics, the nodes of a layer together.

    Judged by the present stage alone, and only once it has lasted for as many steps as are judged.
    """
    steps = [m for m in metrics if m.reward is not None]
    stage = (steps[-1].stage or 0) if steps else 0
    since = [m for m in steps if (m.stage or 0) == stage]
    if len(since) < _WINDOW:
        return []
    silenced = [m.validation.silenced for m in since if m.validation and m.validation.silenced]
    right = any(m.validation.accuracy > 0 for m in since if m.validation)
    found = [*_answers(since[-_WINDOW:]), *_entropies(steps, since[-_WINDOW:]), *_growth(steps)]
    return found + _silences([check for check in silenced if check.n], right)


def _mean(steps: Steps, name: str) -> float:
    return sum(getattr(m, name) for m in steps) / len(steps)


def _answers(recent: Steps) -> list[Sign]:
    """Groups all wrong, groups all alike, a constant answer, answers that cannot be read."""
    out: list[Sign] = []
    equal, top, parsed = (_mean(recent, k) for k in ("equal_reward_groups", "top_answer_share", "parse_rate"))
    accuracy = _mean(recent, "accuracy")
    known = all(m.wrong_groups is not None for m in recent)
    wrong = _mean(recent, "wrong_groups") if known else equal - accuracy  # early files: no fewer than that
    if wrong > 0.8:
        text = (
            f"in {wrong:.0%} of the questions every rollout was wrong: nothing tells what to do instead. Ask "
            "easier questions first ([[stages]] with promote), raise train.rollouts, imitate right rollouts first "
            "(train.warm_start), begin from an adapter (adapter.init_from), or change the prompt or the instruction"
        )
        out.append(Sign("groups all wrong", "", text))
    elif equal > 0.8 and accuracy < _SOLVED:
        text = (
            f"in {equal:.0%} of the questions every rollout got the same reward, and not because all were wrong: the "
            "network is sure of its answers and little is left to learn from; lower the learning rate, raise "
            "train.entropy or train.kl, or set train.balanced"
        )
        out.append(Sign("groups all alike", "", text))
    constant = {m.top_answer for m in recent}
    if top > 0.9 and len(constant) == 1 and None not in constant:
        text = (
            f"the answer {recent[-1].top_answer!r} makes up {top:.0%} of all answers: the "
            "network has collapsed to a constant; go back to an earlier checkpoint and raise train.kl, set "
            "train.balanced or lower the learning rate"
        )
        out.append(Sign("constant answer", "", text))
    if parsed < 0.8 and _mean(recent[_WINDOW // 2 :], "parse_rate") < 0.8:
        text = f"only {parsed:.0%} of the answers could be read; raise sampling.answer_tokens"
        out.append(Sign("unreadable", "", text))
    return out + _cuts(recent)


def _cuts(recent: Steps) -> list[Sign]:
    """Messages that seldom come to an end within their limit, while the task is not solved."""
    cut = [m.messages_cut for m in recent if m.messages_cut is not None]
    if not cut or sum(cut) / len(cut) <= _CUT or _mean(recent, "accuracy") >= _SOLVED:
        return []
    share = f"{sum(cut) / len(cut):.0%} of the messages were cut by their token limit, so what comes last is missing"
    advice = "raise sampling.message_tokens, or ask for less: [prompt] hidden may name {words}"
    return [Sign("messages cut", "", f"{share}; {advice}")]


def _entropies(steps: Steps, recent: Steps) -> list[Sign]:
    """Nodes that stopped exploring, or write more and more at random, before the task was solved."""
    first, accuracy = steps[:5], _mean(recent, "accuracy")
    if len(steps) < 2 * _WINDOW or accuracy >= _SOLVED:
        return []
    moved: dict[str, tuple[float, float]] = {}
    for node in recent[-1].nodes:
        early, late = ([m.nodes[node].entropy for m in part if node in m.nodes] for part in (first, recent))
        early, late = [x for x in early if x is not None], [x for x in late if x is not None]
        if (len(early), len(late)) == (len(first), len(recent)):
            moved[node] = sum(early) / len(early), sum(late) / len(late)

    def entropies(nodes: list[str]) -> tuple[float, float]:
        """Their means, early and late, in nats a token."""
        early, late = zip(*(moved[node] for node in nodes), strict=True)
        return sum(early) / len(early), sum(late) / len(late)

    def fell(nodes: list[str]) -> str:
        before, now = entropies(nodes)
        return (
            f"the entropy of {_named(nodes)} fell from {before:.2f} to {now:.3f} nats a token while accuracy is "
            f"{accuracy:.0%}: the same is said every time and nothing explored; raise train.entropy or "
            "train.kl, lower the learning rate, or go back to an earlier checkpoint"
        )

    def rose(nodes: list[str]) -> str:
        before, now = entropies(nodes)
        return (
            f"the entropy of {_named(nodes)} rose from {before:.2f} to {now:.2f} nats a token and the reward did not "
            f"({_mean(first, 'reward'):.2f}, now {_mean(recent, 'reward'):.2f}): messages dissolve into noise; lower "
            "train.entropy, raise train.kl, or lower the learning rate"
        )

    found = _by_layer("fallen entropy", (n for n, (before, now) in moved.items() if now < before / 20), fell)
    if _mean(recent, "reward") <= _mean(first, "reward") + 0.05:
        up = (n for n, (before, now) in moved.items() if now > max(1.5 * before, before + 0.3))
        found += _by_layer("rising entropy", up, rose)
    return found


def _by_layer(kind: str, nodes: Iterable[str], text: Callable[[list[str]], str]) -> list[Sign]:
    """A sign for each layer that some of `nodes` stand in, by what their ids say."""
    layers: dict[str, list[str]] = {}
    for node in nodes:
        layers.setdefault(node.rpartition(".")[0] or node, []).append(node)
    return [Sign(kind, layer, text(members)) for layer, members in layers.items()]


def _named(nodes: list[str]) -> str:
    if len(nodes) == 1:
        return f"node {nodes[0]}"
    more = ", …" if len(nodes) > _NAMED else ""
    return f"{len(nodes)} nodes of layer {nodes[0].rpartition('.')[0]} ({', '.join(nodes[:_NAMED])}{more})"


def _growth(steps: Steps) -> list[Sign]:
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
    return [Sign("lost by growing", "", lost)]


def _silences(checks: Sequence[Silenced], right: bool) -> list[Sign]:
    """Messages that nobody heeds, and, where any answer was right, nodes whose messages are heeded and do no good."""
    recent = checks[-_CHECKS:]
    if len(recent) < _CHECKS:
        return []
    n = recent[-1].n
    if all(check.all is not None and check.all.changed == 0 for check in recent):
        ignored = (
            f"messages are ignored: withholding all of them changed none of {n} validation answers; let only the first "
            'layer see the question (topology "…@first"), choose questions that one call cannot answer, or use one node'
        )
        return [Sign("messages ignored", "", ignored)]
    costs = {node: [c.nodes.get(node, MessageCost(1.0, 1.0)) for c in recent] for node in recent[-1].nodes}
    ignored = [node for node, of in costs.items() if all(cost.changed == 0 for cost in of)]
    idle = [node for node, of in costs.items() if right and all(cost.cost <= 0 for cost in of)]
    useless = [node for node in idle if node not in ignored]

    def unheard(nodes: list[str]) -> str:
        is_, it = ("is", "its message") if len(nodes) == 1 else ("are", "the message of each")
        return (
            f"{_named(nodes)} {is_} ignored: withholding {it} changed none of {n} validation answers; "
            'try train.estimator = "counterfactual", or leave the node out'
        )

    def no_good(nodes: list[str]) -> str:
        is_, it = ("is", "its message") if len(nodes) == 1 else ("are", "the message of each")
        changed = max(costs[node][-1].changed for node in nodes)
        return (
            f"{_named(nodes)} {is_} dead weight: without {it} {n} validation answers were no worse "
            f"({changed:.0%} of them changed); it may repeat a sibling or mislead. "
            'Try train.estimator = "counterfactual", raise train.entropy, or leave the node out'
        )

    return _by_layer("node ignored", ignored, unheard) + _by_layer("dead weight", useless, no_good)
