"""Self-Refine, Self-Check and MoA make the calls of their definitions, in order, reading what they should."""

import pytest

from neuromas.baselines import moa, self_check, self_refine
from neuromas.baselines.chat import ANSWER
from neuromas.baselines.moa import MixtureOfAgents
from neuromas.baselines.self_check import SelfCheck, StepwiseSelfCheck, confidence, read_verdict, split_steps
from neuromas.baselines.self_refine import SelfRefine
from neuromas.errors import ConfigError
from scripted import ASKED, SHOWN, Heard, Script, parse, solve

# -- self-refine -------------------------------------------------------------------------------------------


def test_self_refine_answers_and_then_criticises_and_revises_in_one_call() -> None:
    script = Script({"draft": "3", "revise-1": "2"})
    trace = solve(SelfRefine(script.chat()))
    assert script.heard == [
        Heard("draft", ANSWER, ASKED, "It is "),
        Heard("revise-1", self_refine.FUSED, f"{ASKED}\nAnswer so far: It is 3", "It is "),
    ]
    assert trace.answer == "It is 2"
    assert (len(trace.calls), trace.sequential_calls, trace.generated_tokens) == (2, 2, 4)


def test_self_refine_in_general_takes_one_call_and_two_a_round() -> None:
    script = Script({"draft": "5", "critique-1": "too much", "revise-1": "4", "critique-2": "again", "revise-2": "2"})
    trace = solve(SelfRefine(script.chat(), rounds=2, fused=False))
    so_far = "\nAnswer so far: It is "
    assert script.heard == [
        Heard("draft", ANSWER, ASKED, "It is "),
        Heard("critique-1", self_refine.CRITIQUE, f"{SHOWN}{so_far}5"),
        Heard("revise-1", self_refine.REVISE, f"{ASKED}{so_far}5\nCritique: too much", "It is "),
        Heard("critique-2", self_refine.CRITIQUE, f"{SHOWN}{so_far}4"),
        Heard("revise-2", self_refine.REVISE, f"{ASKED}{so_far}4\nCritique: again", "It is "),
    ]
    assert trace.answer == "It is 2"
    assert len(trace.calls) == trace.sequential_calls == 1 + 2 * 2


# -- self-check --------------------------------------------------------------------------------------------


def test_the_cheap_self_check_solves_checks_and_revises() -> None:
    script = Script({"solve": "3", "check": "one too many", "revise": "2"})
    trace = solve(SelfCheck(script.chat()))
    assert script.heard == [
        Heard("solve", ANSWER, ASKED, "It is "),
        Heard("check", self_check.CHECK, f"{SHOWN}\nAnswer: It is 3"),
        Heard("revise", self_check.REVISE, f"{ASKED}\nAnswer: It is 3\nCheck: one too many", "It is "),
    ]
    assert trace.answer == "It is 2"
    assert len(trace.calls) == trace.sequential_calls == 3


STEPWISE = {
    "solve-1": "Step 1: one is 1\nStep 2: 1+1=2", "conclude-1": "2",
    "solve-2": "It must be three.", "conclude-2": "3",
    "target-1.1": "the first number", "target-1.2": "the sum", "target-2.1": "a guess",
    "collect-1.1": "Fact 1", "collect-1.2": "Step 1", "collect-2.1": "nothing",
    "regenerate-1.1": "it is 1", "regenerate-1.2": "1+1 is 2", "regenerate-2.1": "it is 2",
    "compare-1.1": "Supports", "compare-1.2": "Supports.", "compare-2.1": "Contradicts",
}  # fmt: skip


def test_the_stepwise_self_check_works_every_step_out_again_from_what_it_relies_on() -> None:
    script = Script(STEPWISE)
    trace = solve(StepwiseSelfCheck(script.chat(), parse, samples=2))
    heard = {h.stage: h for h in script.heard}
    facts = "\nFact 1: What is 1+1?"
    steps = "\nStep 1: one is 1\nStep 2: 1+1=2"
    assert heard["solve-1"] == Heard("solve-1", self_check.SOLVE, SHOWN)
    assert heard["conclude-2"] == Heard(
        "conclude-2", self_check.CONCLUDE, f"{ASKED}\nSolution: It must be three.", "It is "
    )
    assert heard["target-1.1"] == Heard("target-1.1", self_check.TARGET, f"{SHOWN}\nStep 1: one is 1")
    assert heard["target-1.2"] == Heard("target-1.2", self_check.TARGET, SHOWN + steps)
    assert heard["collect-1.2"] == Heard("collect-1.2", self_check.COLLECT, facts + steps)
    regenerate = self_check.REGENERATE
    assert heard["regenerate-1.1"] == Heard("regenerate-1.1", regenerate, f"{facts}\nTarget: the first number")
    assert heard["regenerate-1.2"] == Heard("regenerate-1.2", regenerate, "\nStep 1: one is 1\nTarget: the sum")
    assert heard["regenerate-2.1"] == Heard("regenerate-2.1", regenerate, f"{facts}\nTarget: a guess")
    assert heard["compare-1.2"] == Heard("compare-1.2", self_check.COMPARE, "\nFirst: 1+1 is 2\nSecond: 1+1=2")
    order = [h.stage.split("-")[0] for h in script.heard]
    assert list(dict.fromkeys(order)) == ["solve", "conclude", "target", "collect", "regenerate", "compare"]
    assert trace.answer == "It is 2"
    assert (len(trace.calls), trace.sequential_calls) == (2 * 2 + 4 * 3, 6)


def test_a_contradicted_solution_loses_against_a_supported_one_that_came_later() -> None:
    swapped = {
        **STEPWISE,
        "conclude-1": "3",
        "conclude-2": "2",
        "compare-1.1": "Contradicts",
        "compare-2.1": "Supports",
    }
    assert solve(StepwiseSelfCheck(Script(swapped).chat(), parse, samples=2)).answer == "It is 2"
    equal = {**swapped, "compare-1.1": "Supports"}
    assert solve(StepwiseSelfCheck(Script(equal).chat(), parse, samples=2)).answer == "It is 3"


def test_a_solution_without_steps_is_not_checked_and_still_votes() -> None:
    script = Script({"solve-1": "", "conclude-1": "2"})
    trace = solve(StepwiseSelfCheck(script.chat(), parse, samples=1))
    assert (trace.answer, len(trace.calls), trace.sequential_calls) == ("It is 2", 2, 2)


def test_golden_confidence_of_a_solution() -> None:
    """2σ(-0.5·contradictions - 0.2·unrelated)."""
    assert confidence([]) == confidence(["supports", "supports"]) == 1
    assert confidence(["contradicts"]) == pytest.approx(0.755081, abs=1e-6)
    assert confidence(["unrelated"]) == pytest.approx(0.900332, abs=1e-6)
    assert confidence(["contradicts", "unrelated", "unrelated", "supports"]) == pytest.approx(0.578101, abs=1e-6)


@pytest.mark.parametrize(
    "text, verdict",
    [
        ("Supports", "supports"), ("It contradicts the second.", "contradicts"), ("Unrelated", "unrelated"),
        ("SUPPORT", "supports"), ("They do not contradict; the first supports it", "supports"),
        ("it is not supported", "unrelated"), ("", "unrelated"), ("hm", "unrelated"),
    ],
)  # fmt: skip
def test_what_a_comparison_says_is_read(text: str, verdict: str) -> None:
    assert read_verdict(text) == verdict


def test_steps_are_lines_or_sentences_and_the_last_holds_the_rest() -> None:
    assert split_steps("Step 1: a\n\n2. b\nc", 5) == ["a", "b", "c"]
    assert split_steps("First a. Then b! So c", 5) == ["First a.", "Then b!", "So c"]
    assert split_steps("a\nb\nc\nd", 2) == ["a", "b c d"]
    assert split_steps(" \n", 3) == []
    assert split_steps("3.5 is it", 3) == ["3.5 is it"]


# -- mixture of agents -------------------------------------------------------------------------------------


def test_moa_synthesises_the_answers_of_its_proposers() -> None:
    script = Script({"propose-1.1": "2", "propose-1.2": "3", "propose-1.3": "4", "aggregate": "2"})
    trace = solve(MixtureOfAgents(script.chat()))
    seen = "\nAnswer 1: It is 2\nAnswer 2: It is 3\nAnswer 3: It is 4"
    assert script.heard == [
        *(Heard(f"propose-1.{i}", ANSWER, ASKED, "It is ") for i in (1, 2, 3)),
        Heard("aggregate", moa.AGGREGATE, ASKED + seen, "It is "),
    ]
    assert trace.answer == "It is 2"
    assert (len(trace.calls), trace.sequential_calls) == (1 * 3 + 1, 2)


def test_later_rounds_of_moa_read_the_round_before_and_no_other() -> None:
    replies = {"propose-1.1": "7", "propose-1.2": "8", "propose-2.1": "5", "propose-2.2": "6", "aggregate": "2"}
    script = Script(replies)
    trace = solve(MixtureOfAgents(script.chat(), rounds=2, agents=2))
    first, second = "\nAnswer 1: It is 7\nAnswer 2: It is 8", "\nAnswer 1: It is 5\nAnswer 2: It is 6"
    assert script.heard[2:] == [
        Heard("propose-2.1", moa.IMPROVE, ASKED + first, "It is "),
        Heard("propose-2.2", moa.IMPROVE, ASKED + first, "It is "),
        Heard("aggregate", moa.AGGREGATE, ASKED + second, "It is "),
    ]
    assert (len(trace.calls), trace.sequential_calls) == (2 * 2 + 1, 3)


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("agents", [1, 4])
def test_the_calls_of_moa_are_rounds_times_agents_and_one(rounds: int, agents: int) -> None:
    script = Script(lambda prompt: "2")
    trace = solve(MixtureOfAgents(script.chat(), rounds=rounds, agents=agents))
    assert len(trace.calls) == len(script.heard) == rounds * agents + 1
    assert trace.sequential_calls == rounds + 1


def test_impossible_settings_are_refused_with_a_remedy() -> None:
    chat = Script({}).chat()
    for make in (
        lambda: SelfRefine(chat, rounds=0),
        lambda: MixtureOfAgents(chat, agents=0),
        lambda: StepwiseSelfCheck(chat, parse, samples=0),
    ):
        with pytest.raises(ConfigError, match="is 0: this baseline needs 1 or more; raise"):
            make()
