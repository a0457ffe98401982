"""/v1/responses as the official client sees it: text in, text out, whole and as the events of a stream."""

import http.client
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest

from neuromas.network.sampling import Decoding
from neuromas.network.turns import Ask
from neuromas.tasks.cells import conversation
from served import PATTERN, make_app, running, serving_network

NETWORK = serving_network()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running(make_app(NETWORK)) as found:
        yield found


@pytest.fixture
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def post(address: str, body: dict[str, Any]) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    connection.request("POST", "/v1/responses", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def offline(text: str, seed: int = 0, decoding: Decoding | None = None) -> str:
    how = decoding or Decoding(greedy=True)
    return NETWORK.forward([Ask(replace(PATTERN, text=text), range(1), seed, how)])[0].answer


def test_a_response_is_the_offline_answer_with_what_it_cost(client: openai.OpenAI) -> None:
    found = client.responses.create(model="net", input="1+1")
    trace = NETWORK.forward([Ask(replace(PATTERN, text="1+1"), range(1), 0, Decoding(greedy=True))])[0].trace()
    assert (found.output_text, found.object) == (offline("1+1"), "response")
    assert found.usage is not None and found.usage.input_tokens == trace.prompt_tokens
    assert found.usage.output_tokens == trace.generated_tokens
    hidden = trace.generated_tokens - trace.calls[-1].generated_tokens
    assert found.usage.output_tokens_details.reasoning_tokens == hidden


def test_instructions_and_turns_become_one_question(client: openai.OpenAI) -> None:
    turns: Any = [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "2", "annotations": []}]},
        {"role": "user", "content": [{"type": "input_text", "text": "3"}]},
    ]
    said = [("system", "Add."), ("user", "1"), ("assistant", "2"), ("user", "3")]
    found = client.responses.create(model="net", instructions="Add.", input=turns)
    assert found.output_text == offline(conversation(said)) and found.instructions == "Add."
    first = client.responses.create(model="net", input="1")
    back: Any = [{"role": "user", "content": "1"}, *(item.model_dump() for item in first.output)]
    again = client.responses.create(model="net", input=[*back, {"role": "user", "content": "2"}])
    assert again.output_text == offline(conversation([("user", "1"), ("assistant", first.output_text), ("user", "2")]))


def test_settings_reach_the_network_and_a_cut_answer_is_incomplete(client: openai.OpenAI) -> None:
    found = client.responses.create(model="net", input="1+1", temperature=0.8, top_p=0.9, extra_body={"seed": 11})
    assert found.output_text == offline("1+1", 11, Decoding(temperature=0.8, top_p=0.9))
    assert (found.temperature, found.top_p) == (0.8, 0.9)
    short = client.responses.create(model="net", input="1+1", max_output_tokens=2)
    assert short.status == "incomplete" and short.incomplete_details is not None
    assert short.incomplete_details.reason == "max_output_tokens" and short.output[0].status == "incomplete"
    assert offline("1+1").startswith(short.output_text)
    mark = offline("1+1")[len("So: ") + 2]
    stopped = client.responses.create(model="net", input="1+1", extra_body={"stop": mark})
    assert stopped.status == "completed" and stopped.incomplete_details is None and mark not in stopped.output_text[4:]


EVENTS = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.incomplete",  # the network of these tests writes until its limit
]


def test_a_stream_has_the_official_events_and_adds_up_to_the_answer(client: openai.OpenAI) -> None:
    events: list[Any] = list(client.responses.create(model="net", input="2+2", stream=True))
    assert list(dict.fromkeys(event.type for event in events)) == EVENTS
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(deltas) > 2 and "".join(deltas) == offline("2+2") == events[-1].response.output_text
    assert events[0].response.status == "in_progress" and events[-1].response.usage.output_tokens > 0
    mark = offline("2+2")[len("So: ") + 2]
    whole = list(client.responses.create(model="net", input="2+2", stream=True, extra_body={"stop": mark}))
    assert whole[-1].type == "response.completed"
    with client.responses.stream(model="net", input="2+2", extra_body={"stop": mark}) as helped:  # it checks the order
        assert helped.get_final_response().output_text == whole[-1].response.output_text


def test_events_have_their_names_and_nodes_are_heard_when_asked(address: str) -> None:
    body = {"model": "net", "input": "2+2", "stream": True, "neuromas": {"messages": True}}
    status, text = post(address, body)
    blocks = [block.split("\n") for block in text.strip().split("\n\n")]
    data = [json.loads(lines[1].removeprefix("data: ")) for lines in blocks]
    assert status == 200 and [lines[0] for lines in blocks] == [f"event: {event['type']}" for event in data]
    turns = [event["turn"]["node"] for event in data if event["type"] == "neuromas.turn"]
    assert turns == list(NETWORK.topology.nodes)
    assert json.loads(post(address, body | {"stream": False})[1])["neuromas"]["traces"][0][0]["node"] == turns[0]


NOTHING: dict[str, Any] = {
    "background": False, "include": [], "instructions": None, "max_output_tokens": None, "max_tool_calls": None,
    "metadata": {}, "parallel_tool_calls": True, "previous_response_id": None, "prompt": None, "store": True,
    "reasoning": {"effort": None, "summary": None}, "service_tier": "auto", "stream": False, "temperature": None,
    "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": None,
    "truncation": "disabled", "user": None, "conversation": None, "stream_options": None, "moderation": None,
    "context_management": None, "prompt_cache_options": None, "prompt_cache_retention": None, "n": 1,
}  # fmt: skip


@pytest.mark.parametrize("field", NOTHING)
def test_what_asks_for_nothing_is_taken(field: str, address: str) -> None:
    for value in (NOTHING[field], None):
        assert post(address, {"model": "net", "input": "1", field: value})[0] == 200


ASKS: dict[str, Any] = {
    "tools": [{"type": "web_search"}],
    "previous_response_id": "resp_1",
    "conversation": "c",
    "background": True,
    "include": ["reasoning.encrypted_content"],
    "reasoning": {"effort": "high"},
    "text": {"format": {"type": "json_object"}},
    "top_logprobs": 3,
    "truncation": "auto",
    "n": 2,
    "tool_choice": "required",
}


@pytest.mark.parametrize("field", ASKS)
def test_what_asks_for_more_is_refused_by_name(field: str, address: str) -> None:
    status, text = post(address, {"model": "net", "input": "1", field: ASKS[field]})
    assert status == 400 and json.loads(text)["error"]["param"] == field


@pytest.mark.parametrize(
    ("input", "param"),
    [
        (None, "input"),
        ([], "input"),
        (7, "input"),
        ([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}], "input.0.content.0.image_url"),
        ([{"type": "function_call_output", "call_id": "1", "output": "x"}], "input.0.call_id"),
        ([{"role": "tool", "content": "x"}], "input.0.role"),
    ],
)
def test_input_that_is_no_text_is_refused_where_it_stands(input: Any, param: str, address: str) -> None:
    status, text = post(address, {"model": "net", "input": input})
    assert status == 400 and json.loads(text)["error"]["param"] == param, text


def test_a_fault_before_the_first_event_is_a_status(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="tokens"):
        client.responses.create(model="net", input="1" * 4000, stream=True)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="other", input="1")
