"""AgentNet: routers execute, forward or split within bounds; successes are remembered and found again."""

from pathlib import Path

import pytest

from neuromas.baselines import agentnet
from neuromas.baselines.agentnet import Agent, AgentNet, Experience, Move, similarity
from neuromas.baselines.chat import ANSWER
from neuromas.errors import CheckpointError, ConfigError
from neuromas.tasks.base import Task
from neuromas.types import Grade, Question
from scripted import ASKED, QUESTION, SHOWN, Heard, Script, solve

ALL = "EXECUTE to answer it yourself, FORWARD and an agent's number to pass it on, or SPLIT"


def team(script: Script, start: int = 0, **options) -> AgentNet:
    """A team whose agent `start` (from 0) gets the question first."""
    made = AgentNet(script.chat(), **options)
    made.agents[start].ability = 0.9
    return made


# -- routes ------------------------------------------------------------------------------------------------


def test_the_most_able_agent_routes_and_may_answer_itself() -> None:
    script = Script({"route-1": "EXECUTE", "execute-1": "2"})
    made = team(script, start=1)
    made.agents[2] = Agent(ability=0.7, tried=4, right=3)
    trace = solve(made)
    route, execute = script.heard
    assert (route.stage, route.user, route.begun) == ("route-1", SHOWN, "")
    others = "agent 1, ability 0.6, 0 of 0 right; agent 3, ability 0.7, 3 of 4 right"
    assert route.ask.startswith(f"You are agent 2 of a team (ability 0.9). Others: {others}.")
    assert ALL in route.ask
    assert execute == Heard("execute-1", ANSWER, ASKED, "It is ")
    assert trace.answer == "It is 2"
    assert len(trace.calls) == trace.sequential_calls == 2


def test_a_forwarded_question_goes_to_the_agent_named_who_sees_it_as_it_was() -> None:
    script = Script({"route-1": "FORWARD to agent 3.", "route-2": "I will EXECUTE it.", "execute-2": "2"})
    trace = solve(team(script))
    assert script.heard[1].ask.startswith("You are agent 3 of a team (ability 0.6). Others: agent 2,")
    assert "agent 1," not in script.heard[1].ask, "who was visited is not offered again"
    assert script.heard[1].user == SHOWN
    assert [c.node for c in trace.calls] == ["route-1", "route-2", "execute-2"]


def test_a_split_question_takes_the_part_worked_out_along() -> None:
    script = Script({"route-1": "SPLIT, rest to 2", "part-1": "1 is one", "route-2": "EXECUTE", "execute-2": "2"})
    trace = solve(team(script))
    part = "\nPart worked out by agent 1: 1 is one"
    assert script.heard[1] == Heard("part-1", agentnet.PART, SHOWN)
    assert script.heard[2].user == SHOWN + part
    assert script.heard[3] == Heard("execute-2", ANSWER, ASKED + part, "It is ")
    assert trace.answer == "It is 2"


@pytest.mark.parametrize("agents, hops", [(2, 5), (3, 5), (7, 5), (7, 2), (3, 1)])
def test_splitting_as_long_as_it_can_a_team_makes_the_calls_of_its_formula(agents: int, hops: int) -> None:
    script = Script(lambda prompt: "SPLIT")
    trace = solve(AgentNet(script.chat(), agents=agents, hops=hops))
    assert len(trace.calls) == len(script.heard) == 2 * min(agents, hops) - 1
    assert trace.sequential_calls == len(trace.calls)
    assert trace.calls[-1].node == f"execute-{min(agents, hops)}"


def test_after_three_forwards_a_router_is_not_offered_another_and_one_is_read_as_execute() -> None:
    script = Script(lambda prompt: "FORWARD")
    trace = solve(AgentNet(script.chat(), agents=7, hops=6))
    assert [c.node for c in trace.calls] == ["route-1", "route-2", "route-3", "route-4", "execute-4"]
    assert all("FORWARD" in h.ask for h in script.heard[:3])
    assert "FORWARD" not in script.heard[3].ask
    assert "SPLIT" in script.heard[3].ask


@pytest.mark.parametrize(
    "reply, may_forward, decision",
    [
        ("EXECUTE", True, ("execute", None)), ("forward 3", True, ("forward", 2)), ("Split: 2", True, ("split", 1)),
        ("no idea", True, ("execute", None)), ("", True, ("execute", None)), ("FORWARD 3", False, ("execute", None)),
        ("FORWARD 9", True, ("forward", 2)), ("FORWARD", True, ("forward", 2)), ("SPLIT 1", False, ("split", 2)),
        ("3 should FORWARD 2", True, ("forward", 1)), ("FORWARD " + "9" * 5000, True, ("forward", 2)),
    ],
)  # fmt: skip
def test_a_routers_reply_is_read_and_the_ablest_stands_in_for_who_cannot_be_reached(
    reply, may_forward, decision
) -> None:
    made = AgentNet(Script({}).chat(), agents=4)
    made.agents[2].ability = 1.0
    assert made.read(reply, [1, 2], may_forward) == decision


def test_a_worn_out_edge_is_not_offered() -> None:
    script = Script({"route-1": "FORWARD 2", "execute-2": "2", "route-2": "EXECUTE"})
    made = team(script)
    made.weights[0][1] = 0.3
    made.weights[2] = [0.1, 0.1, 1.0]
    trace = solve(made)
    assert "agent 2" not in script.heard[0].ask
    assert [c.node for c in trace.calls] == ["route-1", "execute-2"], "agent 3 has nobody left to pass it to"


# -- memories ----------------------------------------------------------------------------------------------


def test_router_and_executor_read_the_three_memories_most_like_the_question() -> None:
    script = Script({"route-1": "EXECUTE", "execute-1": "2"})
    made = team(script)
    made.agents[0].memories = [
        Experience("What is blue?", "execute", "sky"),
        Experience("Name a colour", "execute", "red"),
        Experience("What is 1+2?", "execute", "3"),
        Experience("What is 1+1+1?", "forward", "2"),
        Experience("What is 1+1 then?", "execute", "two"),
    ]
    made.agents[1].memories = [Experience(QUESTION.text, "execute", "of another agent")]
    solve(made)
    router, executor = (h.user.split("\n") for h in script.heard)
    assert router[1:] == [
        "Earlier question and decision: What is 1+1+1? -> FORWARD 2",
        "Earlier question and decision: What is 1+1 then? -> EXECUTE",
        "Earlier question and decision: What is 1+2? -> EXECUTE",
    ]
    assert executor[2:] == [
        "Earlier question and right answer: What is 1+1 then? -> two",
        "Earlier question and right answer: What is 1+2? -> 3",
        "Earlier question and right answer: What is blue? -> sky",
    ]


def test_similarity_is_the_cosine_of_counts_of_words() -> None:
    assert similarity("a b b", "a b b") == pytest.approx(1)
    assert similarity("A b", "a c") == pytest.approx(0.5)
    assert similarity("1+1", "1*1") == pytest.approx(4 / 5)
    assert similarity("a", "b") == similarity("", "b") == 0


# -- learning ----------------------------------------------------------------------------------------------


def test_after_a_success_the_route_is_strengthened_and_everyone_remembers() -> None:
    made = AgentNet(Script({}).chat(), memories=2)
    route = [Move(0, "forward", "2", 1), Move(1, "split", "half", 2), Move(2, "execute", "It is 2")]
    made.learn(QUESTION, route, success=True)
    assert [a.memories for a in made.agents] == [
        [Experience(QUESTION.text, "forward", "2")],
        [Experience(QUESTION.text, "split", "half")],
        [Experience(QUESTION.text, "execute", "It is 2")],
    ]
    assert [a.ability for a in made.agents] == pytest.approx([0.6, 0.7, 0.7]), "who only forwarded did not work"
    assert [(a.tried, a.right) for a in made.agents] == [(0, 0), (1, 1), (1, 1)]
    assert (made.weights[0][1], made.weights[1][2], made.weights[0][2]) == pytest.approx((1.1, 1.1, 1.0))
    for answer in "ab":
        made.learn(QUESTION, [Move(2, "execute", answer)], success=True)
    assert [m.text for m in made.agents[2].memories] == ["a", "b"], "the oldest memory gives way"


def test_after_a_failure_the_route_is_weakened_and_nothing_is_remembered() -> None:
    made = AgentNet(Script({}).chat())
    made.learn(QUESTION, [Move(0, "forward", "2", 1), Move(1, "execute", "It is 3")], success=False)
    assert all(a.memories == [] and a.ability == 0.6 for a in made.agents)
    assert (made.agents[1].tried, made.agents[1].right) == (1, 0)
    assert made.weights[0][1] == pytest.approx(0.9)


def test_abilities_and_weights_stay_within_bounds() -> None:
    made = AgentNet(Script({}).chat())
    for success in (True, False):
        for _ in range(40):
            made.learn(QUESTION, [Move(0, "split", "", 1), Move(1, "execute", "")], success)
        assert made.weights[0][1] == (2.0 if success else 0.1)
    assert made.agents[1].ability == 2.0


class Sums(Task):
    """Questions with the answer in them; only the training split may be read."""

    name, version, max_answer_tokens = "sums", 1, 8

    def questions(self, split):
        assert split == "train", f"fitting read the {split} split"
        return [Question(f"t{i}", f"item {i}", str(i % 2)) for i in range(6)]

    def grade(self, question: Question, text: str) -> Grade:
        return Grade(float(text == question.answer), text)


def routine(prompt: str) -> str:
    return "EXECUTE" if "of a team" in prompt else "1"


def test_the_labelled_pass_remembers_right_answers_and_counts_what_it_took() -> None:
    made = AgentNet(Script(routine).chat())
    made.fit(Sums(), questions=6, batch=4)
    memories = [m for a in made.agents for m in a.memories]
    assert sorted(m.question for m in memories) == ["item 1", "item 3", "item 5"]
    assert {(m.action, m.text) for m in memories} == {("execute", "1")}
    assert (sum(a.tried for a in made.agents), sum(a.right for a in made.agents)) == (6, 3)
    cost = made.fit_cost
    assert (cost.questions, cost.calls, cost.generated_tokens, cost.reward) == (6, 12, 6 * (8 + 2), 3)
    made.answer([Question("new", "item", "1")])
    assert made.fit_cost.calls == 12, "answering is not fitting"


def test_a_saved_team_is_the_same_team_and_others_are_refused(tmp_path: Path) -> None:
    made = AgentNet(Script(routine).chat())
    made.fit(Sums(), questions=12, batch=2, seed=3)
    made.weights[0][1] = 0.5
    made.save(tmp_path / "team.json")
    other = AgentNet(Script(routine).chat())
    other.load(tmp_path / "team.json")
    assert (other.agents, other.weights, other.fit_cost) == (made.agents, made.weights, made.fit_cost)
    with pytest.raises(CheckpointError, match="fitted with count 3, not 4"):
        AgentNet(Script({}).chat(), agents=4).load(tmp_path / "team.json")
    with pytest.raises(CheckpointError, match="cannot be read; delete it and fit again"):
        other.load(tmp_path / "none.json")


def test_impossible_teams_are_refused() -> None:
    with pytest.raises(ConfigError, match="agents is 1: this baseline needs 2"):
        AgentNet(Script({}).chat(), agents=1)
    with pytest.raises(ConfigError, match="hops is 0"):
        AgentNet(Script({}).chat(), hops=0)
