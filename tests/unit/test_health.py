"""Collapse is seen in the metrics, and only where it is; each warning says what was seen and what to try."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from helpers import FirstCharacter, make_network, questions
from neuromas.results import Silenced, StepMetrics
from neuromas.run.folder import read_metrics
from neuromas.run.health import signs
from neuromas.train.ablation import silencing

METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"
SILENCED = {
    "n": 32,
    "all": {"cost": 0.5, "changed": 0.8},
    "nodes": {"1.1": {"cost": 0.2, "changed": 0.4}, "1.2": {"cost": 0.3, "changed": 0.5}},
}


def warnings(lines: list[dict[str, Any]]) -> list[str]:
    return [sign.text for sign in signs([StepMetrics.from_dict(line) for line in lines])]


def validation(accuracy: float) -> dict[str, Any]:
    top = {"answer": "7", "share": 0.3}
    kept = {"accuracy": accuracy, "ci95": [0.4, 0.8], "n": 128, "parse_rate": 1.0, "top_answer": top}
    return kept | {"silenced": copy.deepcopy(SILENCED)}


def run(steps: int = 40, check_every: int = 10) -> list[dict[str, Any]]:
    """Lines of a healthy run that has not solved its task."""
    lines: list[dict[str, Any]] = [{"step": 0, "validation": validation(0.3)}]
    for step in range(1, steps + 1):
        node = {"entropy": 1.0 - 0.5 * step / steps}
        line: dict[str, Any] = {
            "step": step,
            "equal_reward_groups": 0.3,
            "reward": 0.6,
            "accuracy": 0.6,
            "parse_rate": 1.0,
        }
        line |= {"top_answer": "7", "top_answer_share": 0.3, "nodes": {n: dict(node) for n in ("1.1", "1.2", "out")}}
        if step % check_every == 0:
            line["validation"] = validation(0.6)
        lines.append(line)
    return lines


def last(lines: list[dict[str, Any]], count: int, **changes: Any) -> list[dict[str, Any]]:
    return [*lines[:-count], *({**line, **changes} for line in lines[-count:])]


def with_silence(lines: list[dict[str, Any]], checks: int, node: str, **figures: float) -> list[dict[str, Any]]:
    lines = copy.deepcopy(lines)
    for line in [line for line in lines if "validation" in line][-checks:]:
        silenced = line["validation"]["silenced"]
        (silenced["all"] if node == "all" else silenced["nodes"][node]).update(figures)
    return lines


def never_right(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for line in (line for line in lines if "validation" in line):
        line["validation"]["accuracy"] = 0.0
    return lines


def test_a_healthy_run_has_no_warning() -> None:
    assert warnings(run()) == []
    assert warnings([]) == []


def with_entropy(value: float, since: int = -10, **changes: Any) -> list[dict[str, Any]]:
    """Node 1.2's entropy is `value` from a line on; before that it is 1 and falls to 0.75."""
    lines = run()
    for line in lines[since:]:
        line["nodes"]["1.2"]["entropy"] = value
    return last(lines, 10, **changes)


def all_silenced(checks: int, **figures: float) -> list[dict[str, Any]]:
    lines = run()
    for node in ("all", "1.1", "1.2"):
        lines = with_silence(lines, checks, node, **figures)
    return lines


def grown(
    accuracy: float, steps: int = 30, before: tuple[str, ...] = ("1.1", "out"), previous: float = 0.25, checks: int = 10
) -> list[dict[str, Any]]:
    """A run that ends with `steps` steps of three nodes: on validation `previous` all along, and `accuracy` at last."""
    lines = last(run(60, checks), steps, stage=1)
    for line in lines[1:-steps]:
        line["nodes"] = {node: line["nodes"][node] for node in before}
    for line in (m for m in lines[-steps:] if "validation" in m):
        line["validation"]["accuracy"] = previous
    lines[-1]["validation"]["accuracy"] = accuracy
    return lines


# the row of docs/metrics.md -> (lines that show the sign, what its warning says, lines that just do not show it)
SIGNS: dict[str, tuple[Any, tuple[str, ...], list[Any]]] = {
    "groups all wrong": (
        last(run(), 10, equal_reward_groups=0.9, wrong_groups=0.82, accuracy=0.1),
        (
            "82% of the questions every rollout was wrong",
            "easier questions",
            "train.rollouts",
            "train.warm_start",
            "prompt",
        ),
        [
            last(run(), 10, equal_reward_groups=0.8, wrong_groups=0.79, accuracy=0.1),
            last(run(), 10, equal_reward_groups=0.8, accuracy=0.1),  # early files tell no more
            last(run(9), 9, equal_reward_groups=1.0, wrong_groups=1.0),  # no chance yet
            last(last(run(), 10, equal_reward_groups=1.0, wrong_groups=1.0), 9, stage=1),
        ],
    ),
    "groups all alike": (
        last(run(), 10, equal_reward_groups=0.82, wrong_groups=0.3),
        ("82% of the questions", "sure of its answers", "lower the learning rate", "train.entropy", "train.balanced"),
        [last(run(), 10, equal_reward_groups=0.79), last(run(), 10, equal_reward_groups=1.0, accuracy=0.96)],
    ),
    "constant answer": (
        last(run(), 10, top_answer_share=0.92),
        ("'7' makes up 92%", "earlier checkpoint", "train.kl", "train.balanced", "lower the learning rate"),
        [
            last(run(), 10, top_answer_share=0.89),
            last(last(run(), 10, top_answer_share=0.92), 1, top_answer="8"),
            last(run(), 10, top_answer_share=0.92, top_answer=None),
        ],
    ),
    "unreadable": (
        last(run(), 10, parse_rate=0.78),
        ("78% of the answers could be read", "sampling.answer_tokens"),
        [
            last(run(), 10, parse_rate=0.81),
            last(run(), 1, parse_rate=0.0),
            last(last(run(), 10, parse_rate=0.5), 5, parse_rate=0.9),  # it is learning to
        ],
    ),
    "messages cut": (
        last(run(), 10, messages_cut=0.52),
        ("52% of the messages were cut", "sampling.message_tokens", "{words}"),
        [last(run(), 10, messages_cut=0.5), last(run(), 10, messages_cut=1.0, accuracy=0.96)],
    ),
    "fallen entropy": (
        with_entropy(0.045),
        ("node 1.2 fell from 0.96 to 0.045 nats", "60%", "train.entropy", "earlier checkpoint"),
        [
            with_entropy(0.05),
            with_entropy(0.01, accuracy=0.96),
            with_entropy(0.01, since=1),  # it never had more
            with_entropy(0.01, since=-9),
            with_entropy(0.001)[:1] + with_entropy(0.001)[-19:],
        ],
    ),
    "rising entropy": (
        with_entropy(1.5, reward=0.6),
        ("node 1.2 rose from 0.96 to 1.50 nats", "0.60, now 0.60", "train.entropy", "train.kl"),
        [with_entropy(1.43), with_entropy(1.5, reward=0.66), with_entropy(1.5, accuracy=0.96)],
    ),
    "lost by growing": (
        grown(0.29),
        (
            "from 2 to 3 nodes after step 30",
            "was 0.60 and is 0.29",
            "grow by less",
            "groups side by side",
            "learning_rate",
        ),
        [
            grown(0.31, previous=0.31),
            grown(0.29, previous=0.24),  # on its way
            grown(0.29, steps=29),
            grown(0.29, checks=30),  # measured once since
            grown(0.29, before=("1.1", "1.2", "out")),
            last(grown(0.6), 20, reward=0.1),  # harder questions alone
        ],
    ),
    "messages ignored": (
        all_silenced(2, changed=0.0, cost=0.0),
        ("withholding all of them changed none of 32", "@first", "use one node"),
        [all_silenced(1, changed=0.0, cost=0.0)],
    ),
    "node ignored": (
        with_silence(run(), 2, "1.1", changed=0.0, cost=0.0),
        ("node 1.1 is ignored", "none of 32", "counterfactual", "leave the node out"),
        [with_silence(run(), 1, "1.1", changed=0.0, cost=0.0), with_silence(run(), 2, "1.1", changed=0.03)],
    ),
    "dead weight": (
        with_silence(run(), 2, "1.2", changed=0.25, cost=0.0),
        ("node 1.2 is dead weight", "25% of them", "counterfactual", "leave the node out"),
        [
            with_silence(run(), 1, "1.2", cost=-0.03),
            with_silence(run(), 2, "1.2", cost=0.01),
            never_right(with_silence(run(), 2, "1.2", changed=0.25, cost=0.0)),  # nothing to be lost
        ],
    ),
}


@pytest.mark.parametrize("sign", SIGNS)
def test_each_sign_of_collapse_gives_one_warning_that_says_what_to_try_and_only_beyond_its_threshold(sign: str) -> None:
    seen, parts, unseen = SIGNS[sign]
    (warning,) = warnings(seen)
    for part in parts:
        assert part in warning, warning
    for lines in unseen:
        assert warnings(lines) == []


def test_the_documented_warnings_are_these() -> None:
    text = METRICS.read_text(encoding="utf-8").split("### Warnings of a collapse")[1].split("\n## ")[0]
    assert re.findall(r"^\| ([a-z ]+) \|", text, re.MULTILINE) == ["warning", *SIGNS]


def test_warnings_are_printed_at_each_validation_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    from neuromas.cli.training import TrainingView

    seen, *_ = SIGNS["dead weight"]
    with TrainingView(40) as progress:
        for line in seen:
            progress(StepMetrics.from_dict(line))
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("warning:") == 1  # at the second of the two validations
    assert "warning: node 1.2 is dead weight" in shown


def test_lines_of_methods_without_nodes_or_silencing_are_understood() -> None:
    bare = [{k: v for k, v in line.items() if k not in ("nodes", "validation")} for line in run()[1:]]
    assert warnings(bare) == []


def test_silencing_is_what_an_evaluation_with_blanked_messages_finds() -> None:
    network, task, asked = make_network("2-1"), FirstCharacter("".join(map(chr, range(110)))), questions(8)
    traces = network.answer(asked)
    found = silencing(network, task, asked, traces)
    grade = lambda traces: [task.grade(q, t.answer) for q, t in zip(asked, traces, strict=True)]
    before = grade(traces)
    assert found.n == 8 and found.all is not None
    assert found.nodes.keys() == {"1.1", "1.2", "2.1"}
    costs = [((node,), cost) for node, cost in found.nodes.items()] + [(network.topology.nodes[:-1], found.all)]
    for silent, cost in costs:
        after = grade(network.answer(asked, blank=silent))
        assert cost.cost == pytest.approx(sum(a.reward - b.reward for a, b in zip(before, after, strict=True)) / 8)
        assert cost.changed == sum(a.parsed != b.parsed for a, b in zip(before, after, strict=True)) / 8
    assert found.all.changed > 0
    assert any(cost.cost for cost in found.nodes.values())


def test_a_network_without_hidden_nodes_has_nobody_to_silence() -> None:
    network, asked = make_network("single"), questions(3)
    assert silencing(network, FirstCharacter("1"), asked, network.answer(asked)) == Silenced()


def test_the_nodes_of_a_layer_share_a_warning_which_names_four_of_them() -> None:
    lines = run()
    many = {f"1.{k}": {"cost": 0.0, "changed": 0.25} for k in range(1, 7)} | {"2.1": {"cost": 0.0, "changed": 0.25}}
    for line in (line for line in lines if "validation" in line):
        line["validation"]["silenced"]["nodes"] = many
    wide, deep = warnings(lines)
    assert wide.startswith("6 nodes of layer 1 (1.1, 1.2, 1.3, 1.4, …) are dead weight: without the message of each")
    assert deep.startswith("node 2.1 is dead weight")


def test_a_warning_is_said_once_however_many_validations_show_it(capsys: pytest.CaptureFixture[str]) -> None:
    from neuromas.cli.training import TrainingView

    lines = last(run(60), 40, top_answer_share=0.95)
    with TrainingView(60) as view:
        for line in lines:
            view(StepMetrics.from_dict(line))
    assert capsys.readouterr().out.count("warning:") == 1


ROOT = METRICS.parents[1]
PUBLISHED = {  # run -> the warnings that it deserves, each with the step at which it is first seen
    # nothing is wrong with them
    "docs/results/smollm2_arithmetic_1-1": {},
    "docs/results/smollm2_arithmetic_1-1_first": {},
    # stood at 0.72 sampled from step 11 on, with four of five groups of equal rewards
    "docs/results/smollm2_arithmetic_single": {"groups all alike": 21},
    # a third to a half of the answers readable at first, nearly all at the end; after ten steps the first is there
    "docs/results/smollm2_navigate_1-1": {},
    "docs/results/smollm2_navigate_2-2": {"unreadable": 10},
    # 2.1 did no good before it grew and after it, which are two networks and one measurement each
    "docs/results/smollm2_navigate_grown": {},
    # "Yes" to 95 % of the questions at steps 11 to 20 and to 98 % at 51 to 60, where four of five groups are alike
    "docs/results/smollm2_navigate_single": {"constant answer": 16, "groups all alike": 59},
    # two steps
    "tests/data/version_0_1_0/run": {},
    "tests/data/version_0_1_0/grown": {},
}


def test_every_published_run_is_judged_below() -> None:
    found = [*ROOT.glob("docs/results/**/metrics.jsonl"), *ROOT.glob("tests/data/**/metrics.jsonl")]
    assert {path.parent.relative_to(ROOT).as_posix() for path in found} == PUBLISHED.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_over_a_published_run_each_warning_comes_where_it_should_and_nowhere_else(name: str) -> None:
    metrics, first = read_metrics(ROOT / name), dict[str, int]()
    for count in range(1, len(metrics) + 1):
        for sign in signs(metrics[:count]):
            first.setdefault(sign.kind, metrics[count - 1].step)
    assert first == PUBLISHED[name]
