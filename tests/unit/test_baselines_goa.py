"""Graph-of-Agents: scores rank the answers, which are refined down and up the ranking and pooled."""

import pytest

from neuromas.baselines import goa
from neuromas.baselines.goa import GraphOfAgents, relevance, split_confidence
from neuromas.errors import ConfigError
from scripted import ASKED, SHOWN, Heard, Script, solve

PROPOSALS = {"propose-1": "5. Confidence: 0.9", "propose-2": "2 (confidence: 80%)", "propose-3": "7"}
# agent 1 judges 2 and 3; agent 2 judges 1 and 3; agent 3 judges 1 and 2
SCORES = {"score-1": "0.9, 0.1", "score-2": "0.6, 0.4", "score-3": "Answer 1: 0.3, Answer 2: 0.7"}
# relevance before normalising: 1 → (.6+.3)/2 = .45; 2 → (.9+.7)/2 = .8; 3 → (.1+.4)/2 = .25; so 2, 1, 3
JUDGE = f"{goa.SCORE} 2 numbers, separated by commas."


def test_goa_with_mean_pooling_is_what_its_definition_says() -> None:
    refined = {"down-1": "4", "down-3": "3", "up-2": "2!", "up-1": "2?", "pool": "2"}
    script = Script({**PROPOSALS, **SCORES, **refined})
    trace = solve(GraphOfAgents(script.chat()))
    say = lambda i, r, text: f"\nAnswer {i}, relevance {r}: It is {text}"
    assert script.heard == [
        *(Heard(f"propose-{i}", goa.PROPOSE, ASKED, "It is ") for i in (1, 2, 3)),
        Heard("score-1", JUDGE, f"{SHOWN}\nAnswer 1: It is 2\nAnswer 2: It is 7"),
        Heard("score-2", JUDGE, f"{SHOWN}\nAnswer 1: It is 5\nAnswer 2: It is 7"),
        Heard("score-3", JUDGE, f"{SHOWN}\nAnswer 1: It is 5\nAnswer 2: It is 2"),
        # down: the second of the ranking (1) reads the first (2), the third (3) reads both, as they were
        Heard("down-1", goa.DOWN, f"{ASKED}\nYour answer: It is 5{say(2, '0.53', 2)}", "It is "),
        Heard("down-3", goa.DOWN, f"{ASKED}\nYour answer: It is 7{say(2, '0.53', 2)}{say(1, '0.30', 5)}", "It is "),
        # up: the first and the second read those below them, as revised
        Heard("up-2", goa.UP, f"{ASKED}\nYour answer: It is 2{say(1, '0.30', 4)}{say(3, '0.17', 3)}", "It is "),
        Heard("up-1", goa.UP, f"{ASKED}\nYour answer: It is 4{say(3, '0.17', 3)}", "It is "),
        Heard("pool", goa.POOL, ASKED + say(2, "0.53", "2!") + say(1, "0.30", "2?") + say(3, "0.17", "3"), "It is "),
    ]
    assert trace.answer == "It is 2"
    assert (len(trace.calls), trace.sequential_calls) == (4 * 3 - 1, 5)


def test_goa_with_max_pooling_refines_only_the_best_answer_upwards_and_returns_it() -> None:
    script = Script({**PROPOSALS, **SCORES, "down-1": "4", "down-3": "3", "up-2": "2!"})
    trace = solve(GraphOfAgents(script.chat(), pool="max"))
    assert [h.stage for h in script.heard[6:]] == ["down-1", "down-3", "up-2"]
    assert trace.answer == "It is 2!"
    assert (len(trace.calls), trace.sequential_calls) == (3 * 3, 4)


@pytest.mark.parametrize("agents", [2, 3, 5])
def test_the_calls_of_goa_follow_its_formulas(agents: int) -> None:
    for pool, calls in (("mean", 4 * agents - 1), ("max", 3 * agents)):
        script = Script(lambda prompt: "2")  # no judge can be read, so all are worth the same and none drops out
        trace = solve(GraphOfAgents(script.chat(), agents=agents, pool=pool))
        assert len(trace.calls) == len(script.heard) == calls


def test_answers_of_little_relevance_drop_out_and_save_calls() -> None:
    scores = {"score-1": "1.0, 0.0", "score-2": "0.96, 0.04", "score-3": "0.5, 0.5"}
    script = Script({**PROPOSALS, **scores, "down-1": "4", "up-2": "2", "pool": "2"})
    solve(GraphOfAgents(script.chat()))
    assert [h.stage for h in script.heard[6:]] == ["down-1", "up-2", "pool"]
    assert "It is 7" not in script.heard[-1].user


def test_the_only_answer_left_is_final_as_it_was_proposed_without_its_confidence() -> None:
    scores = {"score-1": "0, 1", "score-2": "0, 1", "score-3": "?"}
    script = Script({**PROPOSALS, **scores})
    trace = solve(GraphOfAgents(script.chat()))
    assert trace.answer == "It is 7"
    assert len(trace.calls) == 6


def test_equal_scores_are_ranked_by_confidence() -> None:
    proposals = {"propose-1": "5. Confidence: 0.3", "propose-2": "7", "propose-3": "2. Confidence: 70%"}
    unread = {"score-1": "?", "score-2": "?", "score-3": "?"}
    script = Script({**proposals, **unread, "down-1": "4", "down-2": "3", "up-3": "9"})
    trace = solve(GraphOfAgents(script.chat(), pool="max"))
    assert [h.stage for h in script.heard[6:]] == ["down-1", "down-2", "up-3"]
    assert trace.answer == "It is 9"


def test_relevance_is_what_readable_judges_say_on_average() -> None:
    assert relevance(["0.9, 0.1", "0.6, 0.4", "0.3 0.7"]) == pytest.approx([0.45 / 1.5, 0.8 / 1.5, 0.25 / 1.5])
    assert relevance(["0.2, 0.2", "?", "7, 3"]) == pytest.approx([0, 0.5, 0.5]), "normalised; out of range is unread"
    assert relevance(["1", "1, 0, 0", ""]) == pytest.approx([1 / 3] * 3), "a score for each other agent, or none"
    assert relevance(["0, 0", "0, 0", "0, 0"]) == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    "text, answer, confidence",
    [
        ("B. Confidence: 0.9", "B", 0.9), ("7, confidence 80%", "7", 0.8), ("B", "B", 0.0), ("B Confidence:", "B", 0.0),
        ("B\nConfidence: 1.", "B", 1.0), ("B confidence 55", "B", 0.55), ("B (Confidence: .25)", "B", 0.25),
        ("B confidence 1%", "B", 0.01), ("Confidence 0.5 in B", "Confidence 0.5 in B", 0.0),
    ],
)  # fmt: skip
def test_a_confidence_at_the_end_is_read_and_taken_off(text: str, answer: str, confidence: float) -> None:
    assert split_confidence(text) == (answer, pytest.approx(confidence))


def test_goa_refuses_settings_it_cannot_run_with() -> None:
    with pytest.raises(ConfigError, match="agents is 1: this baseline needs 2"):
        GraphOfAgents(Script({}).chat(), agents=1)
    with pytest.raises(ConfigError, match="pool is 'median'.*'mean' or 'max'"):
        GraphOfAgents(Script({}).chat(), pool="median")  # type: ignore[arg-type]
