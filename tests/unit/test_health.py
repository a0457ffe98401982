"""Collapse is seen in the metrics, and only where it is; each warning says what was seen and what to try."""

import copy
from typing import Any

import pytest

from helpers import FirstCharacter, make_network, questions
from neuromas.train.health import collapse_warnings
from neuromas.train.silence import silencing

SILENCED = {
    "n": 32,
    "all": {"cost": 0.5, "changed": 0.8},
    "nodes": {"1.1": {"cost": 0.2, "changed": 0.4}, "1.2": {"cost": 0.3, "changed": 0.5}},
}


def run(steps: int = 40, check_every: int = 10) -> list[dict[str, Any]]:
    """Lines of a healthy run that has not solved its task."""
    lines: list[dict[str, Any]] = [{"step": 0, "validation": {"accuracy": 0.3, "silenced": copy.deepcopy(SILENCED)}}]
    for step in range(1, steps + 1):
        node = {"entropy": 1.0 - 0.5 * step / steps}
        line: dict[str, Any] = {"step": step, "equal_reward_groups": 0.3, "accuracy": 0.6, "parse_rate": 1.0}
        line |= {"top_answer": "7", "top_answer_share": 0.3, "nodes": {n: dict(node) for n in ("1.1", "1.2", "out")}}
        if step % check_every == 0:
            line["validation"] = {"accuracy": 0.6, "silenced": copy.deepcopy(SILENCED)}
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


def test_a_healthy_run_has_no_warning() -> None:
    assert collapse_warnings(run()) == []
    assert collapse_warnings([]) == []


def only(lines: list[dict[str, Any]], *parts: str) -> None:
    (warning,) = collapse_warnings(lines)
    for part in parts:
        assert part in warning, warning


def test_constant_unreadable_and_equally_rewarded_answers_are_reported() -> None:
    only(last(run(), 10, top_answer_share=0.95), "'7' makes up 95%", "earlier checkpoint")
    only(last(run(), 10, parse_rate=0.5), "50% of the answers could be read", "sampling.answer_tokens")
    only(last(run(), 10, equal_reward_groups=0.9), "90% of the questions", "train.entropy")
    assert collapse_warnings(last(run(), 10, equal_reward_groups=1.0, accuracy=1.0)) == []


def test_a_node_whose_entropy_has_collapsed_is_named_unless_the_task_is_solved() -> None:
    lines = run()
    for line in lines[-10:]:
        line["nodes"]["1.2"]["entropy"] = 0.01
    only(lines, "node 1.2 fell from 0.96 to 0.010 nats", "60%", "train.entropy")
    assert collapse_warnings(last(lines, 10, accuracy=0.97)) == []
    for line in lines[1:]:
        line["nodes"]["1.2"]["entropy"] = 0.01  # it never had more
    assert collapse_warnings(lines) == []


def test_messages_that_nobody_heeds_are_reported_once_for_all() -> None:
    nothing = {"changed": 0.0, "cost": 0.0}
    lines = with_silence(
        with_silence(with_silence(run(), 2, "all", **nothing), 2, "1.1", **nothing), 2, "1.2", **nothing
    )
    only(lines, "withholding all of them changed none of 32", "@first")


def test_a_node_that_is_ignored_is_told_from_one_that_does_no_good() -> None:
    only(with_silence(run(), 2, "1.1", changed=0.0, cost=0.0), "node 1.1 is ignored", "none of 32", "counterfactual")
    only(
        with_silence(run(), 2, "1.2", changed=0.25, cost=-0.03),
        "node 1.2 is dead weight",
        "25% of them",
        "leave the node out",
    )


@pytest.mark.parametrize("figures", [{"changed": 0.0, "cost": 0.0}, {"cost": 0.0}])
def test_one_validation_is_not_enough_to_call_a_node_dead(figures: dict[str, float]) -> None:
    assert collapse_warnings(with_silence(run(), 1, "1.1", **figures)) == []


def test_lines_of_methods_without_nodes_or_silencing_are_understood() -> None:
    bare = [{k: v for k, v in line.items() if k not in ("nodes", "validation")} for line in run()[1:]]
    assert collapse_warnings(bare) == []


def test_silencing_is_what_an_evaluation_with_blanked_messages_finds() -> None:
    network, task, asked = make_network("2-1"), FirstCharacter("".join(map(chr, range(110)))), questions(8)
    traces = network.answer(asked)
    found = silencing(network, task, asked, traces)
    grade = lambda traces: [task.grade(q, t.answer) for q, t in zip(asked, traces, strict=True)]
    before = grade(traces)
    assert found["n"] == 8
    assert found["nodes"].keys() == {"1.1", "1.2", "2.1"}
    for name, silent in [(n, (n,)) for n in found["nodes"]] + [("all", network.topology.nodes[:-1])]:
        after = grade(network.answer(asked, blank=silent))
        figures = found["all"] if name == "all" else found["nodes"][name]
        assert figures["cost"] == pytest.approx(
            sum(a.reward - b.reward for a, b in zip(before, after, strict=True)) / 8
        )
        assert figures["changed"] == sum(a.parsed != b.parsed for a, b in zip(before, after, strict=True)) / 8
    assert found["all"]["changed"] > 0
    assert any(figures["cost"] for figures in found["nodes"].values())


def test_a_network_without_hidden_nodes_has_nobody_to_silence() -> None:
    network, asked = make_network("single"), questions(3)
    assert silencing(network, FirstCharacter("1"), asked, network.answer(asked)) == {}
