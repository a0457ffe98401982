"""MALT and CoLLM-CC make the calls of their definitions with their roles' adapters; a tree has the values it should."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers import FirstCharacter, make_backbone, questions, run_config
from neuromas.baselines.chat import converse
from neuromas.baselines.trained import malt
from neuromas.baselines.trained.collm import CRITIC, Collm, actor_names
from neuromas.baselines.trained.malt import ROLES, Malt
from neuromas.baselines.trained.team import drawn
from neuromas.baselines.trained.tree import Node, good_examples, levels, preference_pairs
from neuromas.baselines.vote import Vote
from neuromas.config import RunConfig
from neuromas.errors import ConfigError
from neuromas.run.folder import saved_config
from neuromas.train.batching import micro_batches, room_beside
from neuromas.types import Utterance
from scripted import ASKED, QUESTION, SHOWN, Heard, Script, parse, solve


def bank(*roles: str) -> Any:
    """Names and numbers of adapters, without weights."""
    return SimpleNamespace(index={role: n for n, role in enumerate(roles)}, names=list(roles), parameters_per_adapter=5)


# -- MALT's calls ------------------------------------------------------------------------------------------


def test_malt_generates_verifies_and_refines_in_three_calls() -> None:
    script = Script({"generator 1": "3", "verifier 1.1": "one too many", "refiner 1.1.1": "2"}, bank=bank(*ROLES))
    trace = solve(Malt(script.chat()))
    assert script.heard == [
        Heard("generator 1", malt.GENERATE, ASKED, "It is ", "generator"),
        Heard("verifier 1.1", malt.VERIFY, f"{SHOWN}\nProposed answer: It is 3", "", "verifier"),
        Heard(
            "refiner 1.1.1", malt.REFINE,
            f"{ASKED}\nProposed answer: It is 3\nCheck: one too many", "It is ", "refiner",
        ),
    ]  # fmt: skip
    assert trace.answer == "It is 2"
    assert len(trace.calls) == trace.sequential_calls == 3


def test_three_votes_of_malt_are_nine_calls_on_chains_of_three() -> None:
    script = Script(lambda prompt: "2", bank=bank(*ROLES))
    trace = Vote(Malt(script.chat()), 3, parse).answer([QUESTION])[0]
    assert (len(trace.calls), trace.sequential_calls) == (9, 3)
    assert [call.node.split()[0] for call in trace.calls] == list(ROLES) * 3
    assert not any(p.greedy for p in script.passes), "three greedy chains would be one"


def tree(branching: int) -> tuple[Script, list[Heard]]:
    """A search in which every reply names its place, so that a prompt tells whom it reads."""
    places = [(i, j, k) for i in range(1, 4) for j in range(1, 4) for k in range(1, 4)]
    names = {f"generator {i}": f"g{i}" for i, _, _ in places}
    names |= {f"verifier {i}.{j}": f"v{i}{j}" for i, j, _ in places}
    names |= {f"refiner {i}.{j}.{k}": f"r{i}{j}{k}" for i, j, k in places}
    script = Script(names, bank=bank(*ROLES))
    system = Malt(script.chat())
    (trace,) = converse(system.chat, [(QUESTION, 0, system.search(branching))], greedy=False, seed=0)
    assert [call.text for call in trace.calls] == [names[call.node] for call in trace.calls]
    assert trace.answer == "It is r111"
    return script, script.heard


def test_the_search_of_a_question_makes_27_trajectories_in_39_calls_of_three_stages() -> None:
    script, heard = tree(3)
    assert [(len(p.groups), sum(len(g.own_ids) for g in p.groups)) for p in script.passes] == [(1, 3), (1, 9), (1, 27)]
    assert [h.role for h in heard] == ["generator"] * 3 + ["verifier"] * 9 + ["refiner"] * 27
    assert [h.stage for h in heard[3:12]] == [f"verifier {i}.{j}" for i in (1, 2, 3) for j in (1, 2, 3)]
    for h in heard[3:12]:
        assert h.user == f"{SHOWN}\nProposed answer: It is g{h.stage[9]}"
    assert len({h.stage for h in heard[12:]}) == 27
    for h in heard[12:]:
        i, j, _ = h.stage.split()[1].split(".")
        assert h.user == f"{ASKED}\nProposed answer: It is g{i}\nCheck: v{i}{j}"


def test_a_tree_of_two_children_has_eight_trajectories() -> None:
    assert [h.role for h in tree(2)[1]] == ["generator"] * 2 + ["verifier"] * 4 + ["refiner"] * 8


# -- MALT's values -----------------------------------------------------------------------------------------


def labelled(rewards: str, branching: int) -> list[list[Node]]:
    """A tree whose i-th call said token i; rewards as 0s and 1s of its leaves."""
    counts = [branching, branching**2, branching**3]
    roles = [role for role, n in zip(ROLES, counts, strict=True) for _ in range(n)]
    return levels(
        [Utterance(r, [0], [], [i]) for i, r in enumerate(roles)], [float(r) for r in rewards if r != " "], branching
    )


def test_values_labels_and_pairs_of_a_small_tree_are_those_computed_by_hand() -> None:
    """Calls 0, 1: answers. 2, 3 check 0; 4, 5 check 1. 6 … 13: two refinements for each check."""
    answers, checks, refined = labelled("11 10 01 00", 2)
    assert [n.value for n in refined] == [1, 1, 1, 0, 0, 1, 0, 0]
    assert [n.value for n in checks] == [1, 0.5, 0.5, 0]
    assert [n.value for n in answers] == [0.75, 0.25]
    assert [n.parent for n in checks] == [0, 0, 1, 1]
    assert [n.parent for n in refined] == [0, 0, 1, 1, 2, 2, 3, 3]
    said = lambda examples: [e.completion_ids[0] for e in examples]
    assert said(good_examples(answers)) == [0]
    assert said(good_examples(checks)) == [2], "a value of exactly 0.5 is no positive"
    assert said(good_examples(refined)) == [6, 7, 8, 11]
    pairs = lambda nodes: [(a.completion_ids[0], b.completion_ids[0]) for a, b in preference_pairs(nodes)]
    assert pairs(checks) == [(2, 3)], "4 and 5 are both bad: nothing to prefer"
    assert pairs(refined) == [(8, 9), (11, 10)], "6 is better than 9, but answers another check"


def test_a_node_of_the_full_tree_is_worth_the_mean_of_its_children() -> None:
    answers, checks, refined = labelled("110 100 000 111 110 011 000 000 001", 3)
    assert (len(answers), len(checks), len(refined)) == (3, 9, 27)
    assert [n.value for n in answers] == pytest.approx([(2 / 3 + 1 / 3 + 0) / 3, (1 + 2 / 3 + 2 / 3) / 3, 1 / 9])
    for level, below in ((answers, checks), (checks, refined)):
        for i, node in enumerate(level):
            children = [n.value for n in below if n.parent == i]
            assert len(children) == 3
            assert node.value == pytest.approx(sum(children) / 3)
    assert [n.good for n in answers] == [False, True, False]
    assert {n.example.node for n in refined} == {"refiner"}
    assert len(preference_pairs(checks)) == 1 * 2  # 110 against 100 and 000; below the second answer all are good
    assert len(preference_pairs(refined)) == 2 + 2 + 0 + 0 + 2 + 2 + 0 + 0 + 2


def test_what_said_the_same_makes_no_pair() -> None:
    same, other = Utterance("verifier", [0], [1], [7]), Utterance("verifier", [0], [1], [8])
    nodes = [Node(same, 1.0, 0), Node(same, 0.0, 0), Node(other, 0.0, 0)]
    assert preference_pairs(nodes) == [(same, other)]


# -- CoLLM-CC's calls --------------------------------------------------------------------------------------


def collm(script: Script, actors: int) -> Collm:
    chat = script.chat()
    chat.bank.stacks = lambda: [SimpleNamespace(device="cpu")]
    return Collm(chat, actors, parse, width=4)


@pytest.mark.parametrize("actors", [1, 3, 4])
def test_collm_asks_every_actor_once_and_none_reads_another(actors: int) -> None:
    roles = actor_names(actors)
    script = Script(dict.fromkeys(roles, "2"), bank=bank(*roles, CRITIC))
    trace = solve(collm(script, actors))
    assert script.heard == [Heard(role, "Answer the question.", ASKED, "It is ", role) for role in roles]
    assert len(script.passes) == 1
    assert (len(trace.calls), trace.sequential_calls) == (actors, 1)


def test_collm_answers_with_the_majority_and_ties_go_to_the_first_actor() -> None:
    roles = actor_names(3)
    for said, want in (("3 2 2", "2"), ("3 4 5", "3"), ("? 2 4", "2"), ("2 5 5", "5")):
        script = Script(dict(zip(roles, said.split(), strict=True)), bank=bank(*roles, CRITIC))
        assert solve(collm(script, 3)).answer == f"It is {want}"


def test_the_critic_is_never_called_at_test_and_its_weights_are_not_counted() -> None:
    roles = actor_names(2)
    script = Script(lambda prompt: "2", bank=bank(*roles, CRITIC))
    system = collm(script, 2)
    system.answer(questions(5), greedy=False, rollouts=3)
    assert {group.adapter for p in script.passes for group in p.groups} == {0, 1}
    assert system.trainable_parameters == 2 * 5
    real = Collm.create(run_config(method="collm-cc"), make_backbone(), FirstCharacter("1"))
    answers = [t.answer for t in real.answer(questions(3))]
    for stack in real.adapters.stacks():
        stack.data[real.adapters.index[CRITIC]] = float("nan")
    assert [t.answer for t in real.answer(questions(3))] == answers


# -- batches -----------------------------------------------------------------------------------------------


def test_an_epoch_draws_every_example_once_and_depends_on_the_address_alone() -> None:
    items = list(range(12))
    epochs = [[x for k in range(e * 3 + 1, e * 3 + 4) for x in drawn(items, 4, k, 0, "sft")] for e in range(2)]
    assert all(sorted(e) == items for e in epochs)
    assert epochs[0] != epochs[1]
    assert drawn(items, 4, 5, 0, "sft") == drawn(items, 4, 5, 0, "sft") != drawn(items, 4, 5, 1, "sft")
    assert sorted(drawn([1, 2], 4, 3, 0)) == [1, 2], "no more than there are"


def test_micro_batches_keep_order_and_size() -> None:
    assert list(micro_batches([3, 3, 9, 1, 1], lambda n: n, 6)) == [[3, 3], [9], [1, 1]]
    assert list(micro_batches([], lambda n: 1, 6)) == []


def test_rows_take_what_a_prefix_leaves_or_a_quarter_of_its_length() -> None:
    assert [room_beside(prefix, 4096) for prefix in (0, 96, 3276, 3277, 4096, 8192)] == [
        4096,
        4000,
        820,
        819,
        1024,
        2048,
    ]


# -- settings ----------------------------------------------------------------------------------------------


def test_the_papers_values_are_defaults_of_collm_alone_and_can_be_changed() -> None:
    config = RunConfig.make({"method": "collm-cc"})
    assert (config.train.learning_rate, config.sampling.temperature, config.collm.value_weight) == (5e-6, 0.6, 0.6)
    changed = RunConfig.make({"method": "collm-cc", "train": {"learning_rate": 0.1}, "sampling": {"top_p": 0.5}})
    assert (changed.train.learning_rate, changed.sampling.temperature) == (0.1, 0.6)
    assert RunConfig.make(changed.model_dump(mode="json")) == changed
    other = RunConfig.make({"method": "malt"})
    assert (other.train.learning_rate, other.sampling.temperature) == (1e-3, 1.0)


@pytest.mark.parametrize(
    "settings, named",
    [
        ({"topology": "1-1"}, "topology is '1-1', which method 'malt' does not use"),
        ({"train": {"kl": 0.1}}, "train.kl"),
        ({"train": {"warm_start": 3}}, "train.warm_start"),
        ({"adapter": {"tied": True}}, "adapter.tied"),
        ({"train": {"steps": 30}, "malt": {"search": 20, "sft": 20}}, "train.steps is 30, but malt.search"),
        ({"malt": {"leaves": 3}}, "malt.leaves: no such setting"),
        ({"malt": {"beta": 0}}, "malt.beta is 0"),
        ({"collm": {"actors": 2}}, "[collm] has settings of method 'collm-cc', but method is 'malt'; set method ="),
        ({"method": "neuromas", "malt": {"sft": 1}}, "[malt] has settings of method 'malt', but method is 'neuromas'"),
        ({"method": "dpo"}, "method is 'dpo', which is none; there are neuromas, malt, collm-cc"),
        ({"method": "direct"}, "method is 'direct', which is none"),
        ({"method": ["malt"]}, "method is \"['malt']\""),
        ({"train": "fast", "method": "collm-cc"}, "train is 'fast'"),
    ],
)
def test_settings_that_a_method_does_not_use_or_that_contradict_it_are_refused(settings: dict, named: str) -> None:
    with pytest.raises(ConfigError) as error:
        RunConfig.make({"method": "malt"} | settings)
    assert named in str(error.value)


def test_settings_as_version_0_1_0_wrote_them_are_read() -> None:
    """Its config.json files hold the tables of all methods, whatever the method was."""
    tables: dict[str, Any] = {
        "malt": {"search": 25, "sft": 40, "branching": 3, "batch": 16, "beta": 0.1, "dpo_scale": 0.1},
        "collm": {"actors": 3, "value_weight": 0.6},
    }
    old: dict[str, Any] = tables | {"method": "neuromas", "train": {"steps": 9, "decay": "constant"}}
    assert RunConfig.make(old) == RunConfig.make({"train": {"steps": 9}})
    assert RunConfig.make(tables | {"method": "collm-cc"}) == RunConfig.make({"method": "collm-cc"})


RESULTS = sorted((Path(__file__).parents[2] / "docs" / "results").rglob("config.json"))


@pytest.mark.parametrize("file", RESULTS, ids=lambda p: p.parent.name)
def test_published_runs_are_read(file: Path) -> None:
    assert saved_config(file.parent).train.steps > 0


def test_there_are_published_runs() -> None:
    assert RESULTS
