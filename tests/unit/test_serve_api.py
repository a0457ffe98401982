"""The server as clients see it: the official openai client, bad requests, limits, keys, leaving early."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest

from neuromas.network.forward import Network
from neuromas.network.sampling import Decoding
from neuromas.network.turns import Ask
from served import PATTERN, make_app, running, serving_network

NETWORK = serving_network()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running(make_app(NETWORK)) as found:
        yield found


@pytest.fixture
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def post(address: str, body: Any, path: str = "/v1/chat/completions", **headers: str) -> tuple[int, Any, Any]:
    """Status, JSON, headers."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, data, {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text), answer.headers


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "net", "messages": [{"role": "user", "content": text}], **more}


def offline(text: str, n: int = 1, seed: int = 0, decoding: Decoding | None = None) -> list[str]:
    question = replace(PATTERN, text=text)
    how = decoding or Decoding(greedy=True)
    return [rollout.answer for rollout in serving_network().forward([Ask(question, range(n), seed, how)])]


def test_chat_gives_the_offline_answer_with_what_it_cost(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(**ask("1+1"))
    assert [c.message.content for c in found.choices] == offline("1+1")
    trace = NETWORK.forward([Ask(replace(PATTERN, text="1+1"), range(1), 0, Decoding(greedy=True))])[0].trace()
    assert found.usage is not None and found.usage.completion_tokens == trace.generated_tokens
    assert found.usage.prompt_tokens == trace.prompt_tokens


def test_sampling_parameters_reach_the_network_and_a_seed_gives_the_offline_answers(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(**ask("1+1", n=3, seed=11, temperature=0.8, top_p=0.9))
    expected = offline("1+1", 3, 11, Decoding(temperature=0.8, top_p=0.9))
    assert [c.message.content for c in found.choices] == expected and len(set(expected)) > 1
    again = client.chat.completions.create(**ask("1+1", n=3))  # n > 1 samples, with a seed that is told
    assert [c.message.content for c in again.choices] == offline("1+1", 3, again.neuromas["seed"], NETWORK.decoding)


def test_a_stream_adds_up_to_the_answer_and_tells_every_nodes_message_when_asked(client: openai.OpenAI) -> None:
    body = ask("2+2", stream=True, stream_options={"include_usage": True})
    chunks = list(client.chat.completions.create(**body, extra_body={"neuromas": {"messages": True}}))
    text = "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)
    assert [text] == offline("2+2")
    assert sum(bool(c.delta.content) for chunk in chunks for c in chunk.choices) > 2  # as it comes
    turns = [chunk.neuromas["turn"] for chunk in chunks if "turn" in chunk.neuromas]
    whole = client.chat.completions.create(**ask("2+2"), extra_body={"neuromas": {"messages": True}})
    assert turns == whole.neuromas["traces"][0]
    assert [turn["node"] for turn in turns] == list(NETWORK.topology.nodes)
    assert chunks[-1].usage == whole.usage


def test_details_hold_prompts_and_tokens_with_log_probabilities(client: openai.OpenAI) -> None:
    body = ask("2+2", logprobs=True)
    found = client.chat.completions.create(**body, extra_body={"neuromas": {"details": True}})
    last = found.neuromas["traces"][0][-1]
    call = NETWORK.forward([Ask(replace(PATTERN, text="2+2"), range(1), 0, Decoding(greedy=True))])[0].trace().calls[-1]
    assert "2+2" in last["prompt"] and last["text"] == call.text
    assert [t["token"] for t in last["tokens"]] == [NETWORK.backbone.template.decode([i]) for i in call.completion_ids]
    assert [t["logprob"] for t in last["tokens"]] == pytest.approx(call.logprobs)
    assert found.choices[0].logprobs is not None and found.choices[0].logprobs.content is not None
    assert [t.logprob for t in found.choices[0].logprobs.content] == [t["logprob"] for t in last["tokens"]]


def test_completions_answer_each_prompt(client: openai.OpenAI) -> None:
    found = client.completions.create(model="net", prompt=["1", "22"], n=2, seed=3, temperature=1.0)
    expected = offline("1", 2, 3, Decoding()) + offline("22", 2, 3, Decoding())
    assert [(c.index, c.text) for c in found.choices] == list(enumerate(expected))


def test_max_tokens_and_stop_cut_the_answer(client: openai.OpenAI) -> None:
    (whole,) = offline("1+1")
    short = client.chat.completions.create(**ask("1+1", max_tokens=2)).choices[0]
    assert short.finish_reason == "length"
    assert whole.startswith(short.message.content or "-") and len(short.message.content or "") < len(whole)
    mark = whole[len("So: ") + 2]
    stopped = client.chat.completions.create(**ask("1+1", stop=mark)).choices[0]
    assert stopped.finish_reason == "stop"
    assert stopped.message.content == "So: " + whole.removeprefix("So: ").split(mark)[0]


def test_a_whole_number_may_be_written_as_a_float(address: str) -> None:
    status, body, _ = post(address, ask("1+1", n=2.0, seed=11.0, temperature=1))
    assert status == 200
    assert [c["message"]["content"] for c in body["choices"]] == offline("1+1", 2, 11, Decoding())


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [m.id for m in client.models.list()] == ["net"]
    assert client.models.retrieve("net").created == 7
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


@pytest.mark.parametrize(
    "change, param, word",
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "does not support"),
        ({"response_format": {"type": "json_object"}}, "response_format", "does not support"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "does not support"),
        ({"tool_choice": "required"}, "tool_choice", "does not support"),
        ({"top_k": 5}, "top_k", "does not support"),
        ({"repetition_penalty": True}, "repetition_penalty", "does not support"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "at most 4"),
        ({"stop": [1]}, "stop.0", "valid string"),
        ({"stop": 1}, "stop", "valid string"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content", "at least 1"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
            "messages.0.content.0.text",
            "str",
        ),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content", "string"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "missing"),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [1]}]}, "messages.0.tool_calls", "support"),
        ({"temperature": 2.5}, "temperature", "less than or equal to 2"),
        ({"temperature": "1"}, "temperature", "number"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"n": 17}, "n", "16"),
        ({"n": 1.5}, "n", "integer"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation", "only false"),
        ({"stream_options": {"include_obfuscation": 0}}, "stream_options.include_obfuscation", "boolean"),
        ({"max_tokens": 0}, "max_tokens", "greater"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "0"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0", "user"),
        ({"messages": [{"role": "user", "content": "1" * 700}]}, "messages", "context window"),
        ({"messages": [{"role": "user", "content": "1" * 15000}]}, "messages", "characters"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages.0.content", "surrogate"),
        ({"\udfff": 1}, None, "surrogate"),
        ({"model": "gpt"}, "model", "does not exist"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_request_names_the_parameter_and_the_reason(
    address: str, change: dict[str, Any], param: str | None, word: str, stream: bool
) -> None:
    status, body, _ = post(address, ask("1", stream=stream) | change)
    assert status == (404 if "model" in change else 400)
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert word in body["error"]["message"]
    assert param is None or body["error"]["param"] == param


ASK_NOTHING: list[dict[str, Any]] = [
    *({name: None} for name in ("guided_json", "extra_body", "moderation", "anything", "chat_template_kwargs")),
    *({name: False} for name in ("ignore_eos", "include_stop_str_in_output", "use_beam_search", "echo")),
    *({name: False} for name in ("continue_final_message", "early_stopping", "return_token_ids")),
    {"bad_words": [], "stop_token_ids": [], "priority": 0, "mirostat": 0, "typical_p": 1.0, "include_reasoning": True},
    *({name: True} for name in ("skip_special_tokens", "add_generation_prompt")),
    *({name: 1} for name in ("best_of", "length_penalty", "repetition_penalty")),
    *({name: 0} for name in ("min_tokens", "min_p", "top_k")),
    {"prompt_cache_retention": "24h"},
    {"tools": []}, {"tools": None, "tool_choice": None}, {"tool_choice": "auto", "parallel_tool_calls": True},
    {"response_format": {"type": "text"}}, {"response_format": None}, {"logit_bias": None}, {"logit_bias": {}},
    {"functions": [], "function_call": "none"}, {"modalities": ["text"]}, {"audio": None, "prediction": None},
    {"reasoning_effort": None, "verbosity": None, "web_search_options": None}, {"top_k": -1, "min_p": 0.0},
    {"repetition_penalty": 1.0}, {"frequency_penalty": 0, "presence_penalty": None, "top_logprobs": 0},
    {"n": None, "seed": None, "stop": None, "stream": None, "stream_options": None, "max_tokens": None, "user": None},
    {"seed": -1}, {"seed": 10**30}, {"stop": ["no such text"]}, {"logprobs": False, "n": 1}, {"logprobs": None},
    {"tool_choice": "none", "max_completion_tokens": None, "metadata": None, "top_logprobs": None},
    *({"messages": [{"role": "user", "content": "1+1", "name": name}]} for name in (None, "bob")),
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "1+1"}]}]},
    {"store": False, "metadata": {}, "prompt_cache_key": "k", "service_tier": "auto"}, {"stop": []}, {"stop": ""},
]  # fmt: skip


@pytest.mark.parametrize("change", ASK_NOTHING, ids=str)
def test_a_chat_field_that_asks_for_nothing_changes_nothing(address: str, change: dict[str, Any]) -> None:
    status, body, _ = post(address, ask("1+1") | change)
    assert status == 200, body
    assert body["choices"][0]["message"]["content"] == offline("1+1")[0]


COMPLETION = [
    {"logprobs": None}, {"echo": False}, {"echo": None}, {"best_of": 1}, {"best_of": None}, {"suffix": None},
    {"suffix": ""}, {"logit_bias": {}}, {"logit_bias": None}, {"prompt": ["1+1"]},
    {"n": 1, "best_of": 1, "temperature": 0, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0, "seed": None},
]  # fmt: skip


@pytest.mark.parametrize("change", COMPLETION, ids=str)
def test_a_completion_field_that_asks_for_nothing_changes_nothing(address: str, change: dict[str, Any]) -> None:
    status, body, _ = post(address, {"model": "net", "prompt": "1+1"} | change, "/v1/completions")
    assert status == 200, body
    assert body["choices"][0]["text"] == offline("1+1")[0]


@pytest.mark.parametrize(
    "change, param",
    [({"logprobs": 1}, "logprobs"), ({"logprobs": 0}, "logprobs"), ({"echo": True}, "echo"),
     ({"best_of": 2}, "best_of"), ({"suffix": "x"}, "suffix"), ({"prompt": [1, 2]}, "prompt.0"),
     ({"prompt": [[1, 2]]}, "prompt.0")],
)  # fmt: skip
def test_a_completion_field_that_asks_for_more_is_refused_by_name(address: str, change: Any, param: str) -> None:
    status, body, _ = post(address, {"model": "net", "prompt": "1+1"} | change, "/v1/completions")
    assert (status, body["error"]["param"]) == (400, param), body


def test_a_body_may_begin_with_the_mark_of_its_encoding(address: str) -> None:
    status, body, _ = post(address, b"\xef\xbb\xbf" + json.dumps(ask("1+1")).encode())
    assert (status, body["choices"][0]["message"]["content"]) == (200, offline("1+1")[0])


def test_what_an_answer_holds_can_be_sent_back(address: str) -> None:
    said = {"role": "assistant", "content": None, "tool_calls": [], "reasoning_content": "hm", "refusal": None}
    said |= {"annotations": [], "audio": None, "function_call": None}
    turn = {"role": "user", "content": "1+1"}
    sent = [post(address, ask("x") | {"messages": [turn, back, turn]}) for back in (said, {**said, "content": ""})]
    assert [status for status, _, _ in sent] == [200, 200]
    assert sent[0][1]["choices"] == sent[1][1]["choices"], "thoughts are not shown to the network"


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 9000, b"\xff", b'"x"', b"null", b'{"model": NaN}'])
def test_a_body_that_is_no_request_gets_400_in_the_apis_shape(address: str, data: bytes) -> None:
    status, body, _ = post(address, data)
    assert status == 400 and body["error"]["message"]


def test_a_body_too_large_gets_413_whether_it_says_so_or_not(address: str) -> None:
    assert post(address, b" " * 20_001)[0] == 413
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    pieces = iter([b" " * 15_000, b" " * 15_000])
    connection.request(
        "POST", "/v1/completions", pieces, {"Content-Type": "application/json"}, encode_chunked=True
    )  # fmt: skip
    assert connection.getresponse().status == 413


def test_unknown_paths_and_methods_get_the_apis_shape(address: str) -> None:
    assert post(address, b"", "/v1/nothing")[1]["error"]["code"] == "unknown_url"
    assert post(address, b"", "/healthz")[:2][0] == 405


def test_a_server_without_a_key_answers_to_loopback_names_only(address: str) -> None:
    assert post(address, ask("1"), Host="evil.example:80")[0] == 403
    assert post(address, ask("1"), Host="localhost:80")[0] == 200


def test_with_a_key_only_the_right_one_is_served() -> None:
    with running(make_app(NETWORK, api_key="secret")) as address:
        for wrong in ({}, {"Authorization": "Bearer secreT"}, {"Authorization": "Basic secret"}):
            status, body, headers = post(address, ask("1"), **wrong)
            assert (status, body["error"]["code"]) == (401, "invalid_api_key")
            assert headers["WWW-Authenticate"] == "Bearer"
        assert post(address, ask("1"), Authorization="Bearer secret", Host="evil.example")[0] == 200


class Slow:
    """Makes a network's passes wait until they are let go."""

    def __init__(self, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.sizes, plain = threading.Event(), list[int](), network.forward

        def forward(asks: list[Ask]) -> Any:
            self.sizes.append(len(asks))
            self.go.wait(30)
            return plain(asks)

        monkeypatch.setattr(network, "forward", forward)


def test_a_full_queue_gives_429_and_what_waited_is_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    network = serving_network()
    slow = Slow(network, monkeypatch)
    with running(make_app(network, queue=3)) as address:
        found: list[tuple[int, Any, Any]] = []
        threads = [threading.Thread(target=lambda k=k: found.append(post(address, ask(str(k))))) for k in range(4)]
        threads[0].start()
        while not slow.sizes:
            time.sleep(0.01)
        for thread in threads[1:]:
            thread.start()
        while waiting(address) < 3:
            time.sleep(0.01)
        refused = post(address, ask("x", stream=True))
        assert refused[0] == 429
        assert refused[1]["error"]["code"] == "queue_full" and int(refused[2]["Retry-After"]) > 0
        slow.go.set()
        for thread in threads:
            thread.join()
    assert [status for status, _, _ in found] == [200] * 4
    assert sorted(b["choices"][0]["message"]["content"] for _, b, _ in found) == sorted(
        offline(str(k))[0] for k in range(4)
    )
    assert slow.sizes == [1, 3]


def waiting(address: str) -> int:
    """Questions in the queue."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return int(float(next(x for x in lines if x.startswith("neuromas_questions_waiting ")).split()[1]))


def test_time_that_is_up_gives_503_and_the_question_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    network = serving_network()
    slow = Slow(network, monkeypatch)
    app = make_app(network, seconds=0.2)
    with running(app) as address:
        status, body, headers = post(address, ask("1"))
        assert (status, body["error"]["code"]) == (503, "timeout") and "Retry-After" in headers
        slow.go.set()
    assert app.state.metrics.summary() == "questions: 1 accepted, 0 answered, 1 dropped"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_is_dropped_and_harms_nobody(monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    network = serving_network()
    slow = Slow(network, monkeypatch)
    app = make_app(network)
    with running(app) as address:
        others = [threading.Thread(target=post, args=(address, ask("1"))) for _ in range(2)]
        others[0].start()
        while not slow.sizes:
            time.sleep(0.01)
        leaver = http.client.HTTPConnection(address.removeprefix("http://"))
        leaver.request(
            "POST", "/v1/chat/completions", json.dumps(ask("22", stream=stream)), {"Content-Type": "application/json"}
        )
        while not waiting(address):
            time.sleep(0.01)
        leaver.close()
        others[1].start()
        time.sleep(0.3)
        slow.go.set()
        for thread in others:
            thread.join()
    assert app.state.metrics.summary() == "questions: 3 accepted, 2 answered, 1 dropped"


def test_a_shutdown_finishes_what_was_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    network = serving_network()
    slow = Slow(network, monkeypatch)
    found: list[int] = []
    app = make_app(network)
    with running(app) as address:
        threads = [threading.Thread(target=lambda: found.append(post(address, ask("1"))[0])) for _ in range(5)]
        for thread in threads:
            thread.start()
        while app.state.metrics.summary() != "questions: 5 accepted, 0 answered, 0 dropped":
            time.sleep(0.01)
        threading.Timer(0.5, slow.go.set).start()
    for thread in threads:
        thread.join()
    assert found == [200] * 5
