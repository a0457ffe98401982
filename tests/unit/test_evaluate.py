"""Evaluation counts honestly; a vote is a majority; blanked messages are not heard."""

import pytest

from helpers import FirstCharacter, make_backbone, make_network, plain_model, questions
from neuromas.baselines.chat import Chat
from neuromas.baselines.direct import direct
from neuromas.baselines.vote import Vote
from neuromas.evaluate.run import evaluate
from neuromas.evaluate.stats import wilson
from neuromas.network.forward import Limits
from neuromas.tasks import parsing
from neuromas.tasks.base import Task
from neuromas.types import Grade, NodeCall, Question, Trace


def call(node: str = "out", text: str = "", prompt: int = 3, said: int = 2) -> NodeCall:
    return NodeCall(node, [1] * prompt, [], [1] * said, [0.0] * said, [0.0] * said, text, False)


class Scripted:
    """Gives the answers of a script: question id -> replies, one for each rollout."""

    name, trainable_parameters = "scripted", 17

    def __init__(self, script: dict[str, list[str]]) -> None:
        self.script, self.asked = script, []

    def answer(self, questions, *, greedy=True, seed=0, rollouts=1, **options) -> list[Trace]:
        self.asked.append((len(questions), greedy, seed, rollouts, options))
        return [
            Trace(
                q.id,
                g,
                [call("a"), call("out", self.script[q.id][g])],
                self.script[q.id][g],
                2,
                0.5,
                sequential_tokens=3,
            )
            for q in questions
            for g in range(rollouts)
        ]


class Letters(Task):
    """Right when the reply is the answer; "?" cannot be read."""

    name, version, max_answer_tokens, answer_choices = "letters", 3, 1, ("A", "B", "C", "D")
    gold = "AABCDAAB"

    def questions(self, split):
        gold = {"train": "BBBBA", "validation": self.gold[:4], "test": self.gold}[split]
        return [Question(f"{split}-{i}", f"item {i}", g) for i, g in enumerate(gold)]

    def grade(self, question: Question, text: str) -> Grade:
        return Grade(0.0, None) if text == "?" else Grade(float(text == question.answer), text)


def test_golden_wilson_intervals() -> None:
    """Published values (Newcombe 1998, method 3) and the ends."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)
    assert wilson(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_intervals_of_means_over_seeds_are_not_those_of_the_nearest_whole_number() -> None:
    low, high = wilson(2.5, 10)  # by hand: z² / n = 0.38415, so (0.25 + 0.19207 ± √(0.07203 + 0.03689)) / 1.38415
    assert (low, high) == pytest.approx((0.0809, 0.5578), abs=1e-4)
    assert wilson(2, 10) < (low, high) < wilson(3, 10)


def test_every_figure_of_an_evaluation_is_counted_from_the_replies() -> None:
    replies = ["A", "B", "B", "?", "A", "A", "?", "B"]  # right: 0, 2, 5, 7
    system = Scripted({f"test-{i}": [r] for i, r in enumerate(replies)})
    found = evaluate(system, Letters(), "test", seed=5, greedy=False)
    assert system.asked == [(8, False, 5, 1, {})]
    assert found.result.to_dict() == {
        "system": "scripted", "task": "letters", "task_version": 3, "split": "test", "decoding": "sampled",
        "n": 8, "seeds": 1, "seed": 5, "accuracy": 0.5, "ci95": list(wilson(4, 8)), "parse_rate": 0.75,
        "top_answer": {"answer": "A", "share": 3 / 8}, "calls": 2.0, "sequential_calls": 2.0,
        "generated_tokens": 4.0, "sequential_tokens": 3.0, "prompt_tokens": 6.0, "dropped_tokens": 0.0,
        "trainable_parameters": 17,
        "floors": {"chance": 0.25, "majority": 2 / 8, "best_constant": 4 / 8, "constant_answer": "A"},
    }  # fmt: skip
    assert [r.reward for r in found.records] == [1, 0, 1, 0, 0, 1, 0, 1]
    assert found.records[3].to_dict() == {
        "id": "test-3", "answer": "C", "parsed": None, "reward": 0.0, "reply": "?", "calls": 2,
        "sequential_calls": 2, "generated_tokens": 4, "sequential_tokens": 3, "prompt_tokens": 6, "dropped_tokens": 0,
        "messages": [{"node": n, "text": t, "truncated": False} for n, t in (("a", ""), ("out", "?"))],
    }  # fmt: skip


def test_answers_with_nothing_behind_their_thoughts_are_counted() -> None:
    replies = ["<think>A?</think>A", "<think>B?", "B", "<think>C? A", "", "A", "A", "B"]
    found = evaluate(Scripted({f"test-{i}": [r] for i, r in enumerate(replies)}), Letters(), "test").result
    assert found.thoughts_cut == 2 / 8 and found.answers_cut is None
    assert "25% of the answers have nothing behind their thoughts" in str(found)


def test_answers_that_commit_to_several_are_counted() -> None:
    class YesNo(Letters):
        def grade(self, question: Question, text: str) -> Grade:
            return Grade(0.0, parsing.yes_no(text), ambiguous=parsing.both(text))

    replies = ["yes", "no", "yes and no", "maybe", "yes or no", "no", "no", "no"]
    found = evaluate(Scripted({f"test-{i}": [r] for i, r in enumerate(replies)}), YesNo(), "test").result
    assert found.ambiguous == 2 / 8 and found.parse_rate == 5 / 8
    assert "25% of the answers commit to several at once" in str(found)


def test_a_limit_asks_the_first_questions_and_measures_their_own_floor() -> None:
    system = Scripted({f"test-{i}": ["A"] for i in range(8)})
    result = evaluate(system, Letters(), "test", 3).result
    assert (result.n, result.accuracy, result.decoding) == (3, 2 / 3, "greedy")
    assert (result.floors.best_constant, result.floors.constant_answer) == (2 / 3, "A")


def test_progress_is_told_and_changes_no_figure() -> None:
    class Long(Letters):
        gold = "ABCD" * 40

    system = Scripted({f"test-{i}": ["A"] for i in range(160)})
    seen: list[tuple[int, int]] = []
    shown = evaluate(system, Long(), "test", progress=lambda *x: seen.append(x))
    assert seen == [(64, 160), (128, 160), (160, 160)]
    assert shown.result == evaluate(system, Long(), "test").result


# -- vote --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "replies, winner",
    [
        (["A", "B", "B", "C", "A"], "A"),  # a tie goes to the answer that came first
        (["B", "A", "A", "C", "B"], "B"),
        (["C", "B", "A", "A", "A"], "A"),
        (["?", "?", "?", "B", "?"], "B"),  # the unreadable have no vote
        (["?", "?", "?", "?", "?"], "?"),
        (["a1", "x2", "y1", "x2", "z1"], "a1"),  # equal as understood, unlike as written: the first of them
    ],
)
def test_a_vote_takes_the_most_frequent_readable_answer_and_ties_go_to_the_first(replies, winner: str) -> None:
    parse = lambda q, text: None if text == "?" else text[-1]
    (trace,) = Vote(Scripted({"q0": replies}), 5, parse).answer(questions(1))
    assert trace.answer == winner


def test_a_vote_counts_all_its_calls_and_tokens_and_always_samples() -> None:
    system = Scripted({f"q{i}": list("ABCABC") for i in range(2)})
    vote = Vote(system, 3, lambda q, text: text)
    traces = vote.answer(questions(2), greedy=True, seed=8, rollouts=2)
    assert system.asked == [(2, False, 8, 6, {})]
    assert [(t.question_id, t.rollout) for t in traces] == [("q0", 0), ("q0", 1), ("q1", 0), ("q1", 1)]
    for trace in traces:
        assert len(trace.calls) == 6
        assert (trace.generated_tokens, trace.prompt_tokens, trace.sequential_calls) == (12, 18, 2)
        assert trace.sequential_tokens == 3, "votes run side by side: the longest counts"
        assert trace.seconds == 1.5
    assert vote.trainable_parameters == 17
    assert vote.name == "scripted, vote of 3"


def test_a_vote_over_a_real_network_is_reproducible() -> None:
    network = make_network("1")
    vote = Vote(network, 4, lambda q, text: text[:1] or None)
    one, two = (vote.answer(questions(3), seed=1) for _ in range(2))
    assert [t.answer for t in one] == [t.answer for t in two]
    assert [len(t.calls) for t in one] == [8, 8, 8]


# -- networks ----------------------------------------------------------------------------------------------


def test_blanked_messages_are_written_but_not_heard() -> None:
    network = make_network("2-1")
    heard = network.answer(questions(4))
    deaf = network.answer(questions(4), blank=("1.1", "1.2"))
    template = network.backbone.template
    for a, b in zip(heard, deaf, strict=True):
        assert [c.node for c in a.calls] == [c.node for c in b.calls]
        assert a.message("1.1") == b.message("1.1") != ""
        own = next(c for c in b.calls if c.node == "2.1").own_ids
        assert template.decode(own) == "1.1:\n1.2:\n>"
    assert any(a.message("2.1") != b.message("2.1") for a, b in zip(heard, deaf, strict=True))


def test_sequential_tokens_are_those_of_the_longest_call_of_each_layer() -> None:
    network = make_network("2-1", tokens=9)
    for trace in network.answer(questions(6), greedy=False, seed=2, rollouts=2):
        said = {call.node: len(call.completion_ids) for call in trace.calls}
        assert trace.sequential_tokens == max(said["1.1"], said["1.2"]) + said["2.1"] + said["out"]
        assert trace.sequential_tokens < trace.generated_tokens


def test_evaluation_passes_blank_on_to_the_network() -> None:
    network, task = make_network("1"), FirstCharacter("abc")
    found = evaluate(network, task, "test", 2, blank=("1.1",))
    for trace in found.traces:
        assert network.backbone.template.decode(trace.calls[1].own_ids) == "1.1:\nA"


def test_the_direct_baseline_is_the_bare_backbone() -> None:
    system = direct(Chat(make_backbone(), Limits(4, 4)))
    (trace,) = system.answer(questions(1))
    ids, plain = list(trace.calls[0].prefix_ids), plain_model()
    for token in trace.calls[0].completion_ids:
        from helpers import plain_logits

        assert plain_logits(plain, ids)[-1].argmax() == token
        ids.append(token)
    assert system.trainable_parameters == 0
    assert len(trace.calls) == trace.sequential_calls == 1
