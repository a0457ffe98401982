"""`neuromas inspect` on planted networks, whose nodes are scripts: what was planted is what is reported."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers import IM_END, forward, make_network
from neuromas.analysis.findings import Findings, InterventionEffect, PassRewards
from neuromas.analysis.interventions import KINDS, Intervention, dealt_out, donors, plan, swaps, targets
from neuromas.analysis.passes import Passes
from neuromas.analysis.report import content, draw, edge_costs, summarise_findings, write_report
from neuromas.analysis.study import Sizes, study, verdict
from neuromas.errors import ConfigError
from neuromas.evaluate.render import Table
from neuromas.evaluate.stats import holm
from neuromas.files import read_json_lines
from neuromas.network import forward as forward_pass
from neuromas.network.forward import Limits, Network
from neuromas.network.generate import Completion
from neuromas.network.topology import Topology
from neuromas.tasks.base import Split, Task
from neuromas.types import Grade, Question

Voice = Callable[[str, str, dict[str, str]], str]  # (whose adapter, question, messages by sender) → what is said


class Sums(Task):
    """`7+5` → 12; all 100 sums of two digits."""

    name, version, max_answer_tokens = "sums", 1, 8

    def questions(self, split: Split) -> list[Question]:
        return [Question(f"{a}+{b}", f"{a}+{b}", str(a + b)) for a in range(10) for b in range(10)]

    def grade(self, question: Question, text: str) -> Grade:
        return Grade(float(text == question.answer), text or None)


def planted(monkeypatch: pytest.MonkeyPatch, topology: Any, voice: Voice) -> Network:
    """A network whose nodes say what `voice` says; without training (B = 0) all say "hm"."""

    def generate(
        _backbone: Any, bank: Any, groups: Sequence[Any], _keys: Any, limit: int, _how: Any, **_rest: Any
    ) -> list[Completion]:
        trained = any(bool(stack.any()) for stack in bank.B.values())
        replies: list[Completion] = []
        for group in groups:
            for own in group.own_ids:
                prompt = bytes([*group.prefix_ids, *own]).decode()
                head, *lines = prompt.split("\n")
                heard = dict(line.split(":", 1) for line in lines[:-1])
                said = voice(bank.names[group.adapter], head.split(":")[1], heard) if trained else "hm"
                ids = [*said.encode(), IM_END]
                assert len(ids) <= limit
                replies.append(Completion(ids, [0.0] * len(ids), [0.0] * len(ids), False))
        return replies

    network = make_network(topology)
    network.limits = Limits(16, 16, 512)
    monkeypatch.setattr(forward_pass, "generate", generate)
    return network


def useless_essential_redundant(speaker: str, question: str, heard: dict[str, str]) -> str:
    """1.1 is useless, 1.2 essential, 1.3 and 1.4 are redundant; the output adds up what they say, and nothing else."""
    first, second = question.split("+")
    if speaker != "out":
        return {"1.1": "well", "1.2": f"first {first}"}.get(speaker, f"second {second}")
    number = lambda sender: re.sub(r"\D", "", heard.get(sender, ""))
    a, b = number("1.2"), number("1.3") or number("1.4")
    return str(int(a) + int(b)) if a and b else "?"


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Findings:
    network = planted(monkeypatch, "4", useless_essential_redundant)
    return study(network, Sums(), sizes=Sizes(100), decodings=["greedy"]).findings


def row(of: Findings, kind: str, target: str) -> InterventionEffect:
    rows = of.decodings["greedy"].interventions
    (match,) = [r for r in rows if (r.kind, r.target) == (kind, target)]
    return match


def test_one_useless_one_essential_and_two_redundant_nodes_are_reported_as_such(found) -> None:
    nodes = found.decodings["greedy"].values.nodes
    assert {n: v.verdict for n, v in nodes.items()} == {
        "1.1": "idle", "1.2": "needed", "1.3": "replaceable", "1.4": "replaceable"
    }  # fmt: skip
    assert nodes["1.3"].partners == ["1.4"] and nodes["1.4"].partners == ["1.3"]
    assert {n: v.cost for n, v in nodes.items()} == {"1.1": 0, "1.2": 1, "1.3": 0, "1.4": 0}
    shapley = {n: v.shapley for n, v in nodes.items()}
    assert shapley == pytest.approx({"1.1": 0, "1.2": 2 / 3, "1.3": 1 / 6, "1.4": 1 / 6})
    assert found.decodings["greedy"].values.nobody == 0


@pytest.mark.slow
def test_the_shares_of_a_large_planted_network_are_estimated_from_random_orders(monkeypatch) -> None:
    network = planted(monkeypatch, "4", useless_essential_redundant)
    of = study(network, Sums(), sizes=Sizes(100, exact=2, orders=4), decodings=["greedy"]).findings
    values = of.decodings["greedy"].values
    assert values.orders == 4
    for node, share in {"1.1": 0, "1.2": 2 / 3, "1.3": 1 / 6, "1.4": 1 / 6}.items():
        low, high = values.nodes[node].shapley_ci95
        assert low - 0.03 <= share <= high + 0.03
        assert high - low < 0.2
    assert sum(v.shapley for v in values.nodes.values()) == pytest.approx(1)
    assert [v.verdict for v in values.nodes.values()] == ["idle", "needed", "replaceable", "replaceable"]


def test_the_report_says_in_short_what_was_planted(found, monkeypatch) -> None:
    text = "\n".join(summarise_findings(found))
    assert (
        "The answer rests on messages: with all of them blanked accuracy changes by −100.0 (−100.0 to −100.0)." in text
    )
    assert "Needed: 1.2. Replaceable: 1.3 (by 1.4), 1.4 (by 1.3). Idle: 1.1.\nDid" in text
    assert re.search(r"layer 1 specialise\? Yes: .* 1\.\d\d of 2\.00 bits; .* 0\.0\d at most .* it was 0\.00\.", text)
    deaf = planted(monkeypatch, "2", lambda speaker, _question, _heard: "9" if speaker == "out" else "same")
    text = " ".join(summarise_findings(study(deaf, Sums(), sizes=Sizes(60), decodings=["greedy"]).findings))
    assert "Messages make no difference that can be told from none" in text and "Idle: 1.1, 1.2." in text
    assert "layer 1 specialise? No" in text
    misled = planted(monkeypatch, "2", lambda _who, _question, heard: "?" if heard.get("1.1") else "9")
    text = summarise_findings(study(misled, Sums(), sizes=Sizes(100), decodings=["greedy"]).findings)[0]
    assert "Messages mislead: with all of them blanked accuracy changes by +10.0" in text


def test_each_intervention_has_the_effect_that_the_script_gives_it(found) -> None:
    assert found.decodings["greedy"].undisturbed.accuracy == 1
    for kind in KINDS:
        assert row(found, kind, "1.1").accuracy == 1
        assert row(found, kind, "1.1").p == 1
    assert row(found, "silenced", "1.2").accuracy == row(found, "blanked", "1.2").accuracy == 0
    assert row(found, "shuffled", "1.2").accuracy < 0.3  # right where the other question begins alike
    assert row(found, "shuffled", "1.4").accuracy == 1  # 1.3 is believed first
    assert row(found, "shuffled", "1.3").accuracy < 0.3
    assert row(found, "another's", "layer 1").accuracy == 0
    assert row(found, "another's", "layer 1").follows == 1
    assert row(found, "silenced", "1.2").p_holm < 1e-6
    assert row(found, "swapped", "1.3 ↔ 1.4").accuracy == 1
    assert row(found, "swapped", "1.1 ↔ 1.2").accuracy == 0
    assert row(found, "silenced", "1.2").difference_ci95 == (-1, -1)
    rows = found.decodings["greedy"].interventions
    assert [r.p_holm for r in rows] == holm([r.p for r in rows])


def test_messages_without_difference_count_as_none_and_the_untrained_network_is_measured_beside(found) -> None:
    (layer,) = found.decodings["greedy"].distinctness
    (before,) = found.decodings["greedy"].untrained.distinctness
    assert before.bits == pytest.approx(0, abs=0.02)
    assert before.same == 1
    assert 1.4 < layer.bits < 1.7  # 1.1 and 1.2 are known for sure, 1.3 and 1.4 are not told apart: 1.5 bits
    assert layer.most == 2
    assert layer.p < 0.01
    assert layer.specialised(before) == "yes"
    assert found.decodings["greedy"].untrained.accuracy == 0


def relayed(speaker: str, question: str, heard: dict[str, str]) -> str:
    """1.1 → 2.1 → out carries the sum; 1.2 and 2.2 babble, so of the edges only those two matter."""
    if speaker == "1.1":
        return str(sum(map(int, question.split("+"))))
    if speaker == "2.1":
        return heard.get("1.1", "") or "?"
    return heard.get("2.1", "") or "?" if speaker == "out" else "tick"


def test_the_edges_that_carry_the_answer_are_found(monkeypatch, tmp_path: Path) -> None:
    network = planted(monkeypatch, "2-2", relayed)
    of = study(network, Sums(), sizes=Sizes(60), decodings=["greedy"]).findings
    costs = edge_costs(of.decodings["greedy"], network.topology)
    assert {edge for edge, cost in costs.items() if cost > 0.5} == {("1.1", "2.1"), ("2.1", "out")}
    assert costs.keys() == set(network.topology.edges)
    assert re.search(r"One layer blanked: layer 1 −100\.0 \(.*\); layer 2 −100\.0 \(", summarise_findings(of)[0])
    for kind in ("silenced", "blanked", "shuffled"):
        assert row(of, kind, "1.1 → 2.1").accuracy < 0.3
        assert row(of, kind, "1.1 → 2.2").accuracy == 1
    assert write_report(of, tmp_path).read_text(encoding="utf-8").count("| 1.1 → 2.1 |") == 4
    assert (tmp_path / "network_greedy.png").stat().st_size > 1000
    drawn: dict[str, Any] = {}
    monkeypatch.setattr("neuromas.analysis.report.save", lambda *_args, **how: drawn.update(how))
    draw(of, "greedy", tmp_path / "network.png")
    wide = {edge for edge, width in drawn["edge_widths"].items() if width > 3}
    assert wide == {("1.1", "2.1"), ("2.1", "out")}
    assert drawn["edge_widths"].keys() == set(network.topology.edges)
    assert drawn["values"]["2.1"] == 1 and drawn["values"]["2.2"] == 0


def test_where_not_every_node_reads_the_question_coalitions_are_formed_by_blanking(monkeypatch) -> None:
    def voice(speaker: str, question: str, heard: dict[str, str]) -> str:
        if speaker == "1.1":  # with its adapter the output cannot add: it does not see the question
            return str(sum(map(int, question.split("+")))) if question else "?"
        return heard.get("1.1") or "?"

    network = planted(monkeypatch, "2@first", voice)
    of = study(network, Sums(), sizes=Sizes(50), decodings=["greedy"]).findings
    values = of.decodings["greedy"].values
    assert values.absent == "blanked"
    assert {n: (v.verdict, v.shapley) for n, v in values.nodes.items()} == {
        "1.1": ("needed", 1), "1.2": ("idle", 0)
    }  # fmt: skip
    done = {(r.kind, r.target) for r in of.decodings["greedy"].interventions}
    assert ("silenced", "layer 1") not in done  # the output would have nothing to read
    assert ("blanked", "layer 1") in done and ("silenced", "1.1") in done


# -- what is done to messages ---------------------------------------------------------------------------------


def test_deliver_changes_one_edge_and_leaves_the_others() -> None:
    network = make_network("2-1")
    asked = Sums().questions("test")[:4]
    seen: set[tuple[str, int, str, str]] = set()

    def deliver(question: str, rollout: int, sender: str, reader: str, text: str) -> str:
        seen.add((question, rollout, sender, reader))
        return "NEW" if (sender, reader) == ("1.1", "2.1") else text

    traces = forward(network, asked, rollouts=2, seed=0, deliver=deliver)
    assert seen == {(q.id, g, a, b) for q in asked for g in (0, 1) for a, b in network.topology.edges}
    for trace in traces:
        calls = {c.node: bytes(c.own_ids).decode(errors="replace") for c in trace.calls}
        assert "1.1:NEW\n" in calls["2.1"]
        assert "NEW" not in calls["out"]


def test_messages_that_are_delivered_as_they_are_change_nothing() -> None:
    network, asked = make_network("2-1"), Sums().questions("test")[:6]
    plain = network.answer(asked, greedy=False, seed=3)
    same = network.answer(asked, greedy=False, seed=3, deliver=lambda _q, _g, _s, _r, text: text)
    assert [t.to_dict() | {"seconds": 0} for t in plain] == [t.to_dict() | {"seconds": 0} for t in same]


def test_shuffling_leaves_no_message_in_its_place_and_a_donor_has_another_answer() -> None:
    asked = Sums().questions("test")
    for given in dealt_out(asked, ["a", "b"], seed=0).values():
        assert sorted(given) == sorted(given.values())
        assert all(question != other for question, other in given.items())
    assert dealt_out(asked, ["a", "b"], 0)["a"] != dealt_out(asked, ["a", "b"], 0)["b"]
    assert all(q.answer != donor.answer for q, donor in zip(asked, donors(asked, 0).values(), strict=True))


@pytest.mark.parametrize(
    ("topology", "labels"),
    [
        ("1", ["1.1"]),
        ("2", ["1.1", "1.2", "layer 1"]),
        ("1-1", ["1.1", "2.1", "all messages"]),
        ("2-1", ["1.1", "1.2", "2.1", "layer 1", "all messages"]),
        ("1-1+skip", ["1.1", "2.1", "all messages", "1.1 → 2.1", "1.1 → out"]),
    ],
)
def test_each_set_of_messages_is_disturbed_once(topology: str, labels: list[str]) -> None:
    assert [t.label for t in targets(Topology.parse(topology))] == labels


def test_swapping_leaves_the_network_as_it_was_and_spares_nodes_of_one_adapter() -> None:
    network = make_network("2")
    before = dict(network.adapters.index)
    asked = Sums().questions("test")[:8]
    passes = Passes(network, Sums(), asked, greedy=True, seed=0)
    plain = passes.undisturbed
    (pair, *_) = [t for t in swaps(network) if t.label == "1.1 ↔ 1.2"]
    done = passes.disturbed(Intervention("swapped", pair))
    assert [t.message("1.1") for t in done.traces] != [t.message("1.1") for t in plain.traces]
    assert network.adapters.index == before
    assert [t.answer for t in passes.run().traces] == [t.answer for t in plain.traces]
    assert not any(what.kind == "swapped" for what in plan(make_network("2", tied=True)))


def test_a_verdict_follows_from_the_two_intervals() -> None:
    assert verdict((0.1, 0.3), (0.1, 0.2)) == "needed"
    assert verdict((-0.3, -0.1), (-0.2, 0.1)) == "harmful"
    assert verdict((-0.1, 0.1), (0.01, 0.2)) == "replaceable"
    assert verdict((0.0, 0.0), (0.0, 0.0)) == "idle"


def test_what_cannot_be_inspected_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="is one node: it has no messages"):
        study(make_network("single"), Sums())
    with pytest.raises(ConfigError, match="3 test questions of sums are too few: 5 with two different answers"):
        study(make_network("2"), Sums(), sizes=Sizes(3))


def test_the_report_names_every_figure_and_survives_hostile_messages(monkeypatch, tmp_path: Path) -> None:
    hostile = "<b>|\x1b[2J"
    voice = lambda speaker, _question, _heard: "0" if speaker == "out" else hostile
    of = study(planted(monkeypatch, "2", voice), Sums(), sizes=Sizes(20), decodings=["greedy"]).findings
    again = Findings.from_dict(json.loads(json.dumps(of.to_dict())))
    assert again == of
    text = write_report(again, tmp_path).read_text(encoding="utf-8")
    assert "<b>" not in text and "\x1b" not in text
    assert "−0.0" not in text
    for needed in ("n = 20", "best constant", "Wilson", "Idle", "random labels", "In short"):
        assert needed in text
    heads = {head for block in content(again) if isinstance(block, Table) for head in block.head}
    assert {"Shapley", "follows", "untrained", "cut off"} <= heads


@pytest.mark.parametrize("name", ["inspect_tiny_compositional_2", "inspect_tiny_compositional_2-2"])
def test_published_findings_are_read_and_reported_as_they_were(name: str, tmp_path: Path) -> None:
    kept = Path(__file__).parents[2] / "docs" / "results" / name
    record = json.loads((kept / "findings.json").read_text(encoding="utf-8"))
    findings = Findings.from_dict(record)
    assert json.dumps(findings.to_dict()) == json.dumps(record)  # as text: the keys keep their order too
    report = write_report(findings, tmp_path).read_text(encoding="utf-8").splitlines()
    effects = [line for line in (kept / "report.md").read_text(encoding="utf-8").splitlines() if "| blanked |" in line]
    assert len(effects) >= 6 and set(effects) <= set(report)
    for line in read_json_lines(kept / "raw.jsonl")[1:]:
        assert json.dumps(PassRewards.from_dict(line).to_dict()) == json.dumps(line)
