"""GPTSwarm: the graph decides who reads whom; its edges are learned by REINFORCE, and nothing else is."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from neuromas.baselines import gptswarm
from neuromas.baselines.chat import ANSWER
from neuromas.baselines.gptswarm import Edge, GPTSwarm, closes_cycle
from neuromas.errors import CheckpointError, ConfigError, TaskError
from neuromas.tasks.base import Task
from neuromas.types import Grade, Question
from scripted import ASKED, Heard, Script, parse, solve


class OnlyTraining(Task):
    """Right is "2"; asking for anything but training questions fails."""

    name, version, max_answer_tokens = "only-training", 1, 8

    def questions(self, split):
        assert split == "train", f"fitting read the {split} split"
        return [Question(f"t{i}", f"item {i}", "2") for i in range(5)]

    def grade(self, question: Question, text: str) -> Grade:
        return Grade(float(text == question.answer), text)


def swarm(script: Script, agents: int = 3, edges: tuple[Edge, ...] = (), **options) -> GPTSwarm:
    """A swarm whose logits keep just these edges."""
    made = GPTSwarm(script.chat(), parse, agents=agents, **options)
    made.logits = torch.tensor([2.0 if e in edges else -2.0 for e in made.possible], dtype=torch.float64)
    return made


# -- answering ---------------------------------------------------------------------------------------------


def test_an_unfitted_swarm_is_agents_that_do_not_read_each_other_and_a_decision() -> None:
    script = Script({**{f"agent-{i}": str(i) for i in range(1, 11)}, "decide": "2"})
    trace = solve(GPTSwarm(script.chat(), parse))
    assert script.heard == [
        *(Heard(f"agent-{i}", ANSWER, ASKED, "It is ") for i in range(1, 11)),
        Heard("decide", gptswarm.DECIDE, ASKED + "".join(f"\nAnswer {i}: It is {i}" for i in range(1, 11)), "It is "),
    ]
    assert trace.answer == "It is 2"
    assert (len(trace.calls), trace.sequential_calls) == (10 + 1, 2)


def test_agents_read_those_with_an_edge_to_them_level_by_level() -> None:
    script = Script({"agent-1": "1", "agent-2": "2", "agent-3": "3", "decide": "2"})
    trace = solve(swarm(script, edges=((2, 1), (2, 0), (1, 0))))
    from_3, from_2 = "\nAnswer of agent 3: It is 3", "\nAnswer of agent 2: It is 2"
    assert script.heard == [
        Heard("agent-3", ANSWER, ASKED, "It is "),
        Heard("agent-2", gptswarm.READ, ASKED + from_3, "It is "),
        Heard("agent-1", gptswarm.READ, ASKED + from_2 + from_3, "It is "),
        Heard("decide", gptswarm.DECIDE, f"{ASKED}\nAnswer 1: It is 1\nAnswer 2: It is 2\nAnswer 3: It is 3", "It is "),
    ]
    assert (len(trace.calls), trace.sequential_calls) == (4, 4)


def test_a_swarm_may_vote_instead_which_saves_the_deciding_call() -> None:
    script = Script({"agent-1": "?", "agent-2": "2", "agent-3": "3", "agent-4": "2"})
    trace = solve(swarm(script, agents=4, decide="vote"))
    assert trace.answer == "It is 2"
    assert (len(trace.calls), trace.sequential_calls) == (4, 1)


def test_edges_that_would_close_a_cycle_are_left_out() -> None:
    made = swarm(Script({}), edges=((0, 1), (1, 2), (2, 0), (2, 1)))
    assert made.edges() == [(0, 1), (1, 2)]
    everything = GPTSwarm(Script({}).chat(), parse, agents=6)
    everything.logits += 1
    assert acyclic(everything.edges(), 6)
    assert len(everything.edges()) == 15, "all that an acyclic graph can have"


def acyclic(edges: list[Edge], agents: int) -> bool:
    matrix = np.zeros((agents, agents))
    for a, b in edges:
        matrix[a, b] = 1
    return not np.linalg.matrix_power(matrix, agents).any()


def test_closing_a_cycle_is_noticed_over_any_distance() -> None:
    chain = [(0, 1), (1, 2), (2, 3)]
    assert closes_cycle(chain, (3, 0))
    assert closes_cycle(chain, (2, 1))
    assert not closes_cycle(chain, (0, 3))
    assert not closes_cycle([], (1, 0))


# -- learning ----------------------------------------------------------------------------------------------


def test_sampled_graphs_are_acyclic_and_as_likely_as_their_logits_say() -> None:
    made = GPTSwarm(Script({}).chat(), parse, agents=4)
    logits = torch.linspace(-2, 2, 12, dtype=torch.float64)
    graphs = [made.sample(logits, np.random.default_rng(i)) for i in range(2000)]
    assert all(acyclic([e for e, on in graph if on], 4) for graph in graphs)
    first = np.mean([dict(graph)[made.possible[0]] for graph in graphs])
    assert first == pytest.approx(1 / (1 + math.exp(2)), abs=0.03)


def test_the_expected_gradient_of_the_loss_is_that_of_the_expected_utility() -> None:
    """By enumerating all graphs of three agents: E[∇loss] = -∇E[utility]."""
    made = GPTSwarm(Script({}).chat(), parse, agents=3)
    logits = torch.tensor([0.3, -0.5, 1.0, 0.1, -1.2, 0.7], dtype=torch.float64, requires_grad=True)
    utility = lambda edges: float(len(edges) == 2) + 0.5 * ((2, 0) in edges)
    outcomes = {}
    for uniform in itertools.product((0.0, 1.0), repeat=6):  # 0: drawn wherever it can be; 1: not
        graph = made.sample(torch.zeros(6), _Fixed(uniform))
        outcomes[tuple(graph)] = graph
    value = torch.zeros((), dtype=torch.float64)
    expected_gradient = torch.zeros(6, dtype=torch.float64)
    for graph in outcomes.values():
        p = torch.stack([torch.sigmoid(logits[made.possible.index(e)] * (1 if on else -1)) for e, on in graph]).prod()
        u = utility([e for e, on in graph if on])
        value = value + p * u
        (gradient,) = torch.autograd.grad(made.loss(logits, [graph], [u]), logits, allow_unused=True)
        expected_gradient += p.detach() * gradient
    assert sum(1 for _ in outcomes) == 25, "labelled acyclic graphs of three nodes"
    torch.testing.assert_close(expected_gradient, -torch.autograd.grad(value, logits)[0])


class _Fixed:
    """Stands for a random generator that draws given numbers."""

    def __init__(self, numbers) -> None:
        self.random = lambda n: np.array(numbers)


def reads_agent_2(prompt: str) -> str:
    return "2" if "Answer of agent 2" in prompt else "0"


def test_fitting_finds_the_edge_that_makes_answers_right_and_counts_what_it_took() -> None:
    """Only an agent that reads agent 2 is right, and of two unlike votes the first wins: agent 1 must read agent 2."""
    made = GPTSwarm(Script(reads_agent_2).chat(), parse, agents=2, decide="vote")
    made.fit(OnlyTraining(), iterations=30, batch=4, seed=1)
    assert made.edges() == [(1, 0)]
    assert (made.fit_cost.questions, made.fit_cost.calls) == (120, 240)
    assert made.fit_cost.generated_tokens == 480
    assert 0 < made.fit_cost.reward < 120
    (trace,) = made.answer([Question("new", "item", "2")])
    assert trace.answer == "2"
    assert made.fit_cost.calls == 240, "answering is not fitting"
    assert made.trainable_parameters == 2


def test_the_first_step_of_adam_moves_each_drawn_edge_by_the_learning_rate() -> None:
    made = GPTSwarm(Script(lambda prompt: "2").chat(), parse, agents=3)
    made.fit(OnlyTraining(), iterations=1, batch=1, rate=0.1)
    drawn = dict(made.sample(torch.zeros(6), np.random.default_rng([0, 0, 0])))
    want = [0.1 * (1 if drawn[e] else -1) if e in drawn else 0.0 for e in made.possible]
    assert made.logits.tolist() == pytest.approx(want, abs=1e-6)


def test_fitting_is_a_function_of_the_seed() -> None:
    fits = []
    for seed in (1, 1, 2):
        made = GPTSwarm(Script(reads_agent_2).chat(), parse, agents=3, decide="vote")
        made.fit(OnlyTraining(), iterations=5, seed=seed)
        fits.append(made.logits.tolist())
    assert fits[0] == fits[1] != fits[2]


def test_a_saved_swarm_answers_as_before_and_other_states_are_refused(tmp_path: Path) -> None:
    made = GPTSwarm(Script(reads_agent_2).chat(), parse, agents=2, decide="vote")
    made.fit(OnlyTraining(), iterations=20, seed=1)
    made.save(tmp_path / "state.json")
    other = GPTSwarm(Script(reads_agent_2).chat(), parse, agents=2)
    other.load(tmp_path / "state.json")
    assert other.logits.tolist() == made.logits.tolist()
    assert other.edges() == made.edges() != []
    assert (other.fit_cost, other.fit_task) == (made.fit_cost, "only-training")
    with pytest.raises(CheckpointError, match="fitted with agents 2, not 3"):
        GPTSwarm(Script({}).chat(), parse, agents=3).load(tmp_path / "state.json")
    other.chat.name = "another"
    with pytest.raises(CheckpointError, match="backbone 'scripted', not 'another'"):
        other.load(tmp_path / "state.json")
    for damaged in ("", "[]", "{}", (tmp_path / "state.json").read_text()[:-40]):
        (tmp_path / "damaged.json").write_text(damaged)
        with pytest.raises(CheckpointError, match="cannot be read; delete it and fit again"):
            made.load(tmp_path / "damaged.json")


def test_a_task_without_training_questions_cannot_be_fitted_on() -> None:
    class Empty(OnlyTraining):
        def questions(self, split):
            return []

    with pytest.raises(TaskError, match="no train questions to fit on"):
        GPTSwarm(Script({}).chat(), parse).fit(Empty())


def test_impossible_swarms_are_refused() -> None:
    with pytest.raises(ConfigError, match="agents is 1: this baseline needs 2"):
        GPTSwarm(Script({}).chat(), parse, agents=1)
    with pytest.raises(ConfigError, match="decide is 'judge'"):
        GPTSwarm(Script({}).chat(), parse, decide="judge")  # type: ignore[arg-type]
