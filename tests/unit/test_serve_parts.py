"""Parts of the server: asks that differ in one pass, the rule for conversations, cutting and streaming text."""

import random
from typing import Any

import pytest
import torch

from helpers import forward, make_network, questions
from neuromas.network.forward import Network
from neuromas.network.sampling import Decoding, draw
from neuromas.network.turns import Ask
from neuromas.serve.faults import of_validation
from neuromas.serve.job import Delta, Done, Event, Job, NodeDone, cut, held_back
from neuromas.serve.responder import responder_of
from neuromas.serve.schema import ChatRequest, CompletionRequest, Extension
from neuromas.types import Question, Trace
from served import PATTERN, serving_network

ONE = CompletionRequest(model="net", prompt="")
GREEDY, WARM, NUCLEUS = Decoding(greedy=True), Decoding(temperature=0.7), Decoding(temperature=1.5, top_p=0.4)


def test_rows_that_choose_differently_draw_as_they_do_alone() -> None:
    logits, uniform = torch.randn(6, 300), torch.rand(6, dtype=torch.float64)
    hows = [NUCLEUS, GREEDY, WARM, GREEDY, NUCLEUS, WARM]
    together = draw(logits, uniform, hows)
    alone = [draw(logits[b : b + 1], uniform[b : b + 1], how) for b, how in enumerate(hows)]
    for mixed, single in zip(together, zip(*alone, strict=True), strict=True):
        assert torch.equal(mixed, torch.cat(single))


def run(network: Network, asks: list[Ask]) -> list[Trace]:
    return [rollout.trace() for rollout in network.forward(asks)]


def test_an_ask_gets_the_same_traces_whatever_else_is_in_its_pass() -> None:
    network = make_network("2-1", tokens=8)
    asked = [Question("asked", text, "") for text in ("1+1", "2+22", "1+1", "")]  # one id: nothing counts on
    asks = [
        Ask(asked[0], range(1), 5, GREEDY),
        Ask(asked[1], range(3), 6, WARM),
        Ask(asked[2], range(2), 7, NUCLEUS),
        Ask(asked[3], range(1, 2), 8, WARM),
    ]
    together = [(t.rollout, [c.completion_ids for c in t.calls]) for t in run(network, asks)]
    alone = [(t.rollout, [c.completion_ids for c in t.calls]) for ask in asks for t in run(network, [ask])]
    assert together == alone
    offline = forward(network, [asked[1]], rollouts=3, seed=6, decoding=WARM)
    assert [t.answer for t in offline] == [t.answer for t in run(network, asks)][1:4]


def test_a_listener_hears_every_node_and_may_end_a_turn() -> None:
    network = make_network("2", tokens=6)

    class Curt:
        def __init__(self) -> None:
            self.said_by: list[str] = []

        def wrote(self, rollout: int, node: str, ids: list[int]) -> bool:
            return node != "1.2" or len(ids) < 2

        def said(self, rollout: int, call: object) -> None:
            self.said_by.append(call.node)  # type: ignore[attr-defined]

    curt = Curt()
    whole = run(network, [Ask(questions(1)[0], range(1), 0, WARM)])[0]
    ended = run(network, [Ask(questions(1)[0], range(1), 0, WARM, listener=curt)])[0]
    assert curt.said_by == ["1.1", "1.2", "out"]
    assert len(whole.calls[1].completion_ids) > 2
    assert ended.calls[1].completion_ids == whole.calls[1].completion_ids[:2] and ended.calls[1].truncated
    assert ended.calls[0].completion_ids == whole.calls[0].completion_ids


@pytest.mark.parametrize(
    "turns, question",
    [
        ([("user", "2+2?")], "2+2?"),
        ([("system", "Be brief."), ("user", "2+2?")], "Be brief.\n2+2?"),
        (
            [("user", "2+2?"), ("assistant", "4"), ("developer", "Be brief."), ("user", "And 3?")],
            "Be brief.\nUser: 2+2?\nAssistant: 4\nUser: And 3?",
        ),
        ([("developer", "Be brief."), ("user", "2+2?")], "Be brief.\n2+2?"),
        ([("user", [{"type": "text", "text": ""}, {"type": "text", "text": "2+2?"}])], "2+2?"),
        ([("system", "a"), ("system", "b")], "a\nb"),
        ([("assistant", "4")], "Assistant: 4"),
    ],
)
def test_a_conversation_becomes_the_question_of_the_rule(turns: list, question: str) -> None:
    messages = [{"role": role, "content": text} for role, text in turns]
    assert ChatRequest(model="net", messages=messages).questions == [question]


def test_text_is_cut_before_the_first_stop_and_its_beginning_is_held_back() -> None:
    assert cut("ab\ncd;e", [";", "\n"]) == ("ab", True)
    assert cut("abc", [";"]) == ("abc", False)
    assert held_back("abEN", ["END"]) == "ab" and held_back("abENd", ["END"]) == "abENd"


@pytest.mark.parametrize("stop", [(), ("e",), ("\x9c", "aa")])
@pytest.mark.parametrize("limit", [None, 3])
def test_what_streams_adds_up_to_the_answer_and_to_every_message(stop: tuple[str, ...], limit: int | None) -> None:
    network = serving_network(tokens=12)
    responder = responder_of(network, network.backbone, PATTERN)
    for seed in range(3):
        events: list[Event] = []
        request = CompletionRequest(
            model="net", prompt="", n=2, max_tokens=limit, stop=list(stop), stream=True,
            neuromas=Extension(messages=True),
        )  # fmt: skip
        question = Question("asked", random.choice("abc") * seed, "", answer_prefix="So: ")
        job = Job(question, request, seed, WARM, 3, "out", network.backbone.template.decode, events.append)
        responder.run([job])
        done = [event for event in events if isinstance(event, Done)]
        assert [event.choice for event in done] == [3, 4]
        offline = forward(network, [question], rollouts=2, seed=seed, decoding=WARM)
        for k, (answer, trace) in enumerate(zip((event.answer for event in done), offline, strict=True)):
            pieces = "".join(e.text for e in events if isinstance(e, Delta) and (e.choice, e.node) == (3 + k, None))
            assert pieces == answer.text
            last = trace.calls[-1]
            ids = last.completion_ids[:limit]
            expected, stopped = cut(network.backbone.template.decode(ids), stop)
            assert answer.text == "So: " + expected
            ended = stopped or (len(ids) == len(last.completion_ids) and not last.truncated)
            assert answer.finish_reason == ("stop" if ended else "length")
            for call in trace.calls[:-1]:
                said = [e.text for e in events if isinstance(e, Delta) and (e.choice, e.node) == (3 + k, call.node)]
                assert "".join(said) == call.text
        turns = [(e.choice, e.turn.node) for e in events if isinstance(e, NodeDone)]
        assert sorted(turns) == [(c, n) for c in (3, 4) for n in ("1.1", "1.2", "2.1", "out")]


def test_one_failing_question_does_not_spoil_its_batch() -> None:
    network = serving_network()
    responder = responder_of(network, network.backbone, PATTERN)
    events: dict[str, list[Event]] = {"short": [], "long": []}
    jobs = [
        Job(Question("asked", text, ""), ONE, 0, GREEDY, 0, "out", network.backbone.template.decode, heard.append)
        for text, heard in (("1", events["short"]), ("1" * 600, events["long"]))
    ]
    responder.run(jobs)
    assert [type(e).__name__ for e in events["short"] + events["long"]] == ["Done", "Fault"]
    assert events["long"][0].code == "context_length_exceeded"  # type: ignore[union-attr]


def test_a_bug_is_told_to_the_job_it_belongs_to_and_to_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    network = serving_network()
    responder = responder_of(network, network.backbone, PATTERN)
    plain = network.forward

    def broken(asks: list[Ask]) -> object:
        if any(ask.question.text == "poison" for ask in asks):
            raise RuntimeError("a bug")
        return plain(asks)

    monkeypatch.setattr(network, "forward", broken)
    events: list[tuple[str, Event]] = []
    jobs = [
        Job(
            Question("asked", t, ""), ONE, 0, GREEDY, 0, "out", network.backbone.template.decode,
            lambda e, t=t: events.append((t, e)),
        )
        for t in ("a", "poison", "b")
    ]  # fmt: skip
    responder.run(jobs)
    assert [(t, type(e).__name__) for t, e in events] == [("a", "Done"), ("poison", "Fault"), ("b", "Done")]
    assert events[1][1].status == 500  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "error, status_code, param",
    [
        ({"type": "extra_forbidden", "loc": ("body", "tools"), "msg": ""}, "unsupported_parameter", "tools"),
        ({"type": "missing", "loc": ("body", "messages"), "msg": ""}, "missing_required_parameter", "messages"),
        ({"type": "json_invalid", "loc": ("body", 3), "msg": "", "ctx": {"error": "x"}}, "invalid_json", "3"),
        ({"type": "int_type", "loc": ("body", "n"), "msg": "Value error, no"}, "invalid_value", "n"),
    ],
)
def test_a_wrong_field_is_told_in_the_form_of_the_api(error: dict[str, Any], status_code: str, param: str) -> None:
    fault = of_validation([error])
    body = fault.body()["error"]
    assert (fault.status, body["code"], body["type"]) == (400, status_code, "invalid_request_error")
    assert param in body["message"] or status_code == "invalid_json"


def test_a_field_that_does_not_exist_is_told_before_what_follows_from_it() -> None:
    wrong = {"type": "missing", "loc": ("body", "messages"), "msg": ""}
    fault = of_validation([wrong, {"type": "extra_forbidden", "loc": ("body", "mesages"), "msg": ""}])
    assert (fault.code, fault.param) == ("unsupported_parameter", "mesages")
