"""Everything `neuromas inspect` finds out about a network, as plain data; figures are explained in docs/metrics.md."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from neuromas.analysis import distinct, messages, shapley
from neuromas.analysis.interventions import Intervention, plan, untrained
from neuromas.analysis.passes import Pass, Passes
from neuromas.errors import ConfigError
from neuromas.evaluate.stats import Floats, Paired, holm, mcnemar, paired_bootstrap, wilson
from neuromas.network.forward import Network
from neuromas.tasks.base import Split, Task
from neuromas.types import Question

EXAMPLES = 3  # traces kept of right, and of wrong answers
Watch = Callable[[int, int], None]  # called with (passes done, all of them)


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    questions: int = 256  # the first so many of the split
    exact: int = 6  # hidden nodes up to which Shapley values are exact: 2^n passes
    orders: int = 4  # random orders of joining for each question in larger networks


@dataclass(frozen=True)
class Findings:
    """record: all figures. raw: the questions' ids, then a line for each pass with the reward of every question."""

    record: dict[str, Any]
    raw: list[dict[str, Any]]


def study(
    network: Network,
    task: Task,
    split: Split = "test",
    sizes: Sizes | None = None,
    *,
    decodings: Sequence[str] = ("greedy", "sampled"),
    seed: int = 0,
    watch: Watch | None = None,
) -> Findings:
    """Undisturbed, disturbed in every way, in coalitions, and untrained; once for each decoding.

    Raises ConfigError for a network of one node and for too few questions.
    """
    sizes = sizes or Sizes()
    asked = task.questions(split)[: sizes.questions]
    _check(network, task, split, asked)
    todo, count = plan(network), 0
    total = len(decodings) * (2 + len(todo) + _coalitions(network, sizes))

    def step() -> None:
        nonlocal count
        count += 1
        if watch is not None:
            watch(count, total)

    raw: list[dict[str, Any]] = [{"questions": [q.id for q in asked]}]
    found: dict[str, Any] = {}
    for decoding in decodings:
        how: dict[str, Any] = {"greedy": decoding == "greedy", "seed": seed, "watch": step}
        passes = Passes(network, task, asked, **how)
        before = Passes(untrained(network), task, asked, **how).undisturbed
        keep = lambda rewards, decoding=decoding, **what: raw.append(
            {"decoding": decoding, **what, "rewards": rewards.tolist()}
        )
        found[decoding] = _of_one(passes, todo, sizes, keep) | {"untrained": _said(before, passes)}
        keep(before.rewards, kind="untrained")
    record = {
        "system": network.name, "backbone": network.backbone.name, "topology": network.topology.to_dict(),
        "task": task.name, "task_version": task.version, "split": split, "n": len(asked), "seed": seed, "seeds": 1,
        "trainable_parameters": network.trainable_parameters, "floors": asdict(task.floors(split, len(asked))),
        "decodings": found,
    }  # fmt: skip
    return Findings(record, raw)


def _check(network: Network, task: Task, split: Split, asked: Sequence[Question]) -> None:
    if len(network.topology.nodes) < 2:
        raise ConfigError(f"{network.name} is one node: it has no messages to look into; inspect a network of several")
    if len(asked) < distinct.FOLDS or len({q.answer for q in asked}) < 2:
        raise ConfigError(
            f"{len(asked)} {split} questions of {task.name} are too few: {distinct.FOLDS} with two different answers "
            "are needed; raise --limit or the split's size"
        )


def _of_one(passes: Passes, todo: Sequence[Intervention], sizes: Sizes, keep: Callable[..., None]) -> dict[str, Any]:
    plain = passes.undisturbed
    keep(plain.rewards, kind="undisturbed")
    rows = [_row(passes, what, keep) for what in todo]
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
    return {
        "undisturbed": plain.summary(),
        "interventions": rows,
        "values": _values(passes, rows, sizes, keep),
        **_said(plain, passes),
        "examples": _examples(plain),
    }


# -- interventions --------------------------------------------------------------------------------------------


def _row(passes: Passes, what: Intervention, keep: Callable[..., None]) -> dict[str, Any]:
    done = passes.disturbed(what)
    label = {"kind": what.kind, "scope": what.target.scope, "target": what.target.label}
    keep(done.rewards, **label)
    row = label | {"units": [list(u) if isinstance(u, tuple) else u for u in what.target.units]}
    row |= {"accuracy": float(done.rewards.mean()), "ci95": list(wilson(done.rewards.sum(), len(done.rewards)))}
    row |= difference(done.rewards, passes.undisturbed.rewards)
    if what.kind == "another's":
        row["follows"] = passes.follows_donor(done)
    return row


def difference(mine: Floats, plain: Floats) -> dict[str, Any]:
    """Mean difference over the same questions, its bootstrap interval, and p: McNemar's for rewards of 0 or 1."""
    paired = paired_bootstrap((mine - plain).tolist())
    binary = bool(((mine == 0) | (mine == 1)).all() and ((plain == 0) | (plain == 1)).all())
    p = mcnemar(int((mine > plain).sum()), int((plain > mine).sum())) if binary else paired.p
    return {"difference": paired.difference, "difference_ci95": list(paired.ci95), "p": p}


# -- the value of nodes ---------------------------------------------------------------------------------------


def _coalitions(network: Network, sizes: Sizes) -> int:
    """Passes that the Shapley values take."""
    hidden = len(network.topology.nodes) - 1
    return 2**hidden - 1 if hidden <= sizes.exact else 1 + sizes.orders * (hidden - 1)


def _values(passes: Passes, rows: Sequence[dict[str, Any]], sizes: Sizes, keep: Callable[..., None]) -> dict[str, Any]:
    """Each hidden node's worth, and what that makes it. Where not every node reads the question, absent nodes might
    leave others with nothing to read, so coalitions are then formed by blanking."""
    topology, hidden, plain = passes.network.topology, passes.hidden, passes.undisturbed.rewards
    blank = topology.question != topology.nodes
    known: dict[frozenset[str], Floats] = {frozenset(hidden): plain}

    def of(coalition: frozenset[str]) -> Floats:
        if coalition not in known:
            known[coalition] = passes.coalition(lambda _: coalition, blank=blank)
            keep(known[coalition], kind="coalition", present=sorted(coalition))
        return known[coalition]

    if len(hidden) <= sizes.exact:
        values = shapley.exact(hidden, of)
    else:
        ids = [q.id for q in passes.questions]
        mixed = lambda present: passes.coalition(present, blank=blank)
        values = shapley.sampled(hidden, ids, mixed, plain, sizes.orders, passes.seed)
    kind = "blanked" if blank else "silenced"
    alone = {row["target"]: row for row in rows if row["kind"] == kind and row["scope"] == "node"}
    nodes: dict[str, Any] = {}
    for node in hidden:
        share = values.of(node)
        loss = [-x for x in alone[node]["difference_ci95"][::-1]]
        nodes[node] = {"cost": -alone[node]["difference"], "cost_ci95": loss, "shapley": share.difference}
        nodes[node] |= {"shapley_ci95": list(share.ci95), "verdict": verdict(loss, share)}
    spare = [n for n in hidden if nodes[n]["verdict"] == "replaceable"]
    together = lambda *gone: plain - of(frozenset(hidden) - set(gone))
    for node in spare:
        nodes[node]["partners"] = [
            other
            for other in spare
            if other != node
            and paired_bootstrap((together(node, other) - together(node) - together(other)).tolist()).ci95[0] > 0
        ]
    return {"absent": kind, "orders": values.orders, "nobody": float(values.nobody_P.mean()), "nodes": nodes}


def verdict(cost_ci95: Sequence[float], share: Paired) -> str:
    """What a node is, by the intervals of what its absence costs and of its Shapley value.

    needed: its absence costs accuracy. harmful: its absence raises it. replaceable: its absence costs nothing that can
    be told from 0, but its Shapley value is above 0: others stand in for it. idle: neither can be told from 0.
    """
    if cost_ci95[0] > 0:
        return "needed"
    if cost_ci95[1] < 0:
        return "harmful"
    return "replaceable" if share.ci95[0] > 0 else "idle"


# -- what nodes say -------------------------------------------------------------------------------------------


def _said(done: Pass, passes: Passes) -> dict[str, Any]:
    """Distinctness of every layer's siblings, statistics, and parts of a question."""
    said, layers = done.said(), passes.network.topology.layers
    apart = [
        distinct.as_dict(
            depth,
            layer,
            distinct.distinctness([[said[node][q.id] for node in layer] for q in done.questions], passes.seed),
        )
        for depth, layer in enumerate(layers, start=1)
        if len(layer) > 1
    ]
    found = {"distinctness": apart, "messages": messages.statistics(done), "parts": messages.parts(done)}
    return found | {"accuracy": float(done.rewards.mean()), "ci95": list(wilson(done.rewards.sum(), len(done.rewards)))}


def specialised(trained: dict[str, Any], untrained: dict[str, Any]) -> str:
    """Whether a layer's siblings came to differ: yes, no, or as before training.

    yes: the lower end of its interval is above the 95th percentile with random labels and above the upper end of the
    untrained network's interval. no: not above the former.
    """
    low = trained["ci95"][0]
    if low <= trained["null_95"]:
        return "no"
    return "yes" if low > untrained["ci95"][1] else "not more than before training"


def _examples(done: Pass) -> list[dict[str, Any]]:
    """The first traces with a right answer, and the first with a wrong one."""
    kept: list[dict[str, Any]] = []
    for right in (True, False):
        some = [
            {
                "question": question.text,
                "answer": question.answer,
                "reply": trace.answer,
                "reward": grade.reward,
                "messages": [{"node": c.node, "text": c.text, "truncated": c.truncated} for c in trace.calls],
            }
            for question, trace, grade in zip(done.questions, done.traces, done.grades, strict=True)
            if (grade.reward == 1) == right
        ]
        kept += some[:EXAMPLES]
    return kept
