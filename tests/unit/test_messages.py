"""Statistics of messages, and which part of a question a message reports."""

import pytest

from neuromas.analysis.messages import parts, reports, statistics
from neuromas.analysis.passes import Pass
from neuromas.tasks.compositional import Compositional
from neuromas.types import Grade, NodeCall, Question, Trace

TRUTH = {"statements": {"a": "a3+5=8", "b": "b2*7=4", "r": "8*4=2"}}
QUESTION = Question("q", "(a(3+5)*b(2*7))", "2", metadata=TRUTH)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a3+5=8;", {"a": True}),
        ("a3+5=7;", {"a": False}),
        ("a2*7=4;", {"a": False}),  # b's work under a's name
        ("3+5=8", {"a": True}),  # known by its operation
        ("2*7=5", {"b": False}),
        ("8*4=2", {"r": True}),
        ("7*4=8", {"r": False}),  # the root's, with wrong parts
        ("a3+5=8;b2*7=4;8*4=2", {"a": True, "b": True, "r": True}),
        ("a3+5=7;a3+5=8;", {"a": False}),  # the first statement counts
        ("the answer is 2", {}),
        ("", {}),
        ("(a(3+5)*b(2*7))", {}),
    ],
)
def test_a_message_reports_the_parts_that_it_states(text: str, told: dict[str, bool]) -> None:
    assert reports(text, QUESTION) == told


def test_every_statement_of_the_task_is_recognised_as_right() -> None:
    task = Compositional(depth=3, operators="+*-", train_size=0, validation_size=0, test_size=50)
    for question in task.questions("test"):
        for part, statement in question.metadata["statements"].items():
            assert reports(statement + ";", question)[part]


def a_pass(*rows: tuple[str, str, bool], question: Question = QUESTION) -> Pass:
    """One pass whose question n got the messages (1.1's, 1.2's, whether the former was cut off)."""
    asked = [Question(f"q{n}", question.text, question.answer, metadata=question.metadata) for n in range(len(rows))]
    call = lambda node, text, cut: NodeCall(node, [1], [], list(text.encode()), [], [0.5, 1.5], text, cut, 2)
    traces = [
        Trace(q.id, 0, [call("1.1", a, cut), call("1.2", b, False)], "", 1, sequential_tokens=1)
        for q, (a, b, cut) in zip(asked, rows, strict=True)
    ]
    return Pass(asked, traces, [Grade(1.0, "2") for _ in rows])


def test_statistics_are_those_of_the_calls() -> None:
    found = statistics(a_pass(("aa", "x", True), ("aa", "yyy", False), ("bbbb", "", False), (" ", "z", False)))
    assert found["1.1"].to_dict() == pytest.approx(
        {
            "length": 2.25,
            "truncated": 0.25,
            "empty": 0.25,
            "distinct": 0.75,
            "text_entropy": 1.5,
            "entropy": 1.0,
            "dropped": 2,
        }
    )
    assert found["1.2"].text_entropy == 2


def test_parts_are_shares_of_messages_and_right_ones_are_shares_of_those() -> None:
    found = parts(a_pass(("a3+5=8;", "hm", False), ("a3+5=7;", "b2*7=4;", False), ("b2*7=4;", "hm", False)))
    assert found is not None
    assert found["1.1"].none == 0
    first = found["1.1"].parts["a"]
    assert (first.share, first.right, first.n) == (2 / 3, 0.5, 2)
    assert found["1.1"].parts["b"].right == 1
    assert found["1.2"].none == 2 / 3
    assert parts(a_pass(("x", "y", False), question=Question("q", "?", "1"))) is None
