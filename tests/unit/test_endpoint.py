"""A model behind an OpenAI-compatible endpoint: retries, hostile answers, keys and names."""

import threading
import time
from typing import Any

import pytest

from endpoints import Answer, completion, faking
from neuromas.errors import BackboneError
from neuromas.network.endpoint import KEY, Call, Endpoint

SECRET = "sk-very-secret"
CALL = Call("Answer.", "What is 1+1?", 8, 0.0, 1.0, 7)


def test_calls_run_side_by_side_up_to_the_limit() -> None:
    gate = threading.Barrier(3)

    def script(asked: dict[str, Any], before: int) -> Answer:
        gate.wait(timeout=20)
        time.sleep(0.2)  # where more were let in, they would be here by now
        return completion(asked["messages"][1]["content"])

    with faking(script) as (fake, name):
        calls = [Call("s", str(n), 8, 0.0, 1.0, n) for n in range(9)]
        assert [r.text for r in Endpoint(name, at_once=3).complete(calls)] == [str(n) for n in range(9)]
    assert fake.most == 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_call_is_tried_again_until_it_is_answered(status: int) -> None:
    refused: Answer = (status, {"error": {"message": "busy"}}, {"Retry-After-Ms": "5"})
    with faking(lambda asked, before: completion("2") if before == 3 else refused) as (fake, name):
        (reply,) = Endpoint(name, retries=3).complete([CALL])
    assert reply.text == "2" and len(fake.asked) == 4


def test_a_call_that_takes_too_long_is_tried_again() -> None:
    gate = threading.Event()

    def script(asked: dict[str, Any], before: int) -> Answer:
        if before == 0:
            gate.wait(20)
        return completion("2")

    with faking(script) as (fake, name):
        (reply,) = Endpoint(name, seconds=1.0, retries=2).complete([CALL])
        gate.set()
    assert reply.text == "2" and len(fake.asked) == 2


def test_a_refusal_is_told_with_the_remedy_and_never_with_the_key() -> None:
    def script(asked: dict[str, Any], before: int) -> Answer:
        return 401, {"error": {"message": f"no such key: {SECRET}\x1b[31m"}}, {}

    with faking(script) as (fake, name), pytest.raises(BackboneError) as told:
        Endpoint(name, key=SECRET, retries=3).complete([CALL])
    assert len(fake.asked) == 1, "a refusal is final"
    assert fake.keys == [f"Bearer {SECRET}"]
    assert KEY in str(told.value) and "no such key: [key]" in str(told.value)
    assert SECRET not in str(told.value) and "\x1b" not in str(told.value) and told.value.__cause__ is None


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((200, "<html>hello</html>", {"Content-Type": "text/html"}), "no chat completion"),
        ((200, "{", {}), "no chat completion"),
        ((200, {"choices": []}, {}), "choices, usage"),
        ((200, {"choices": [{"message": {"content": 3}}], "usage": None}, {}), "usage"),
        (completion("2", completion_tokens=-1), "usage.completion_tokens"),
        ((404, {"error": {"message": "no model"}}, {}), "check the address and the model's name ('org/model')"),
        ((400, {"error": {"message": "context length is 5"}}, {}), "context length is 5"),
        ((500, "boom", {"X-Should-Retry": "false"}), "try again later"),
    ],
)
def test_garbage_becomes_one_clear_error(answer: Answer, says: str) -> None:
    with faking(lambda asked, before: answer) as (_, name), pytest.raises(BackboneError, match="127.0.0.1") as told:
        Endpoint(name, retries=0).complete([CALL] * 3)
    assert says in str(told.value) and "\n" not in str(told.value)


def test_an_empty_message_is_empty_and_a_cut_one_is_marked() -> None:
    with faking(lambda asked, before: completion(None, "length")) as (_, name):
        (reply,) = Endpoint(name).complete([CALL])
    assert (reply.text, reply.truncated) == ("", True)


def test_the_key_comes_from_its_own_variable_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "meant-for-another-address")
    with faking(lambda asked, before: completion("2")) as (fake, name):
        Endpoint.load(name).complete([CALL])
        monkeypatch.setenv(KEY, SECRET)
        Endpoint.load(name).complete([CALL])
    assert fake.keys == ["Bearer none", f"Bearer {SECRET}"]


def test_an_endpoint_that_is_not_there_is_named() -> None:
    with pytest.raises(BackboneError, match="check that it is running"):
        Endpoint("openai:http://127.0.0.1:1/v1#m", retries=0).complete([CALL])


@pytest.mark.parametrize(
    "name",
    [
        "openai:",
        "openai:http://host/v1",
        "openai:ftp://host/v1#m",
        "openai:host#m",
        "openai:http://#m",
        "openai:http://h:x/#m",
    ],
)
def test_a_name_that_is_no_address_is_refused(name: str) -> None:
    with pytest.raises(BackboneError, match="write openai:http://host:port/v1#model"):
        Endpoint(name)


@pytest.mark.parametrize(
    "name",
    [
        f"openai:http://me:{SECRET}@host/v1#m",
        f"openai:http://{SECRET}@host/v1#m",
        f"openai:http://host/v1?key={SECRET}#m",
    ],
)
def test_a_key_in_a_name_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(BackboneError, match=KEY) as told:
        Endpoint(name)
    assert SECRET not in str(told.value)
