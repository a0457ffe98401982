"""A model behind an OpenAI-compatible endpoint: what it is asked, what it may answer, and who may use it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from helpers import CHATML, byte_tokenizer, make_backbone
from neuromas.compare.spec import Spec
from neuromas.errors import BackboneError, ConfigError
from neuromas.evaluate.baselines import BASELINES, load_baseline
from neuromas.evaluate.baselines.chat import Chat
from neuromas.evaluate.baselines.direct import Spoken, untrained
from neuromas.evaluate.baselines.endpoint import EndpointChat
from neuromas.network.backbone import Backbone, load_frozen
from neuromas.network.endpoint import KEY, Call, Endpoint
from neuromas.network.forward import Limits, Network
from neuromas.network.prompt import PromptTemplate, structure, words
from neuromas.network.sampling import Decoding
from neuromas.network.topology import Topology
from neuromas.tasks import load_task
from neuromas.types import Message, Question

SECRET = "sk-very-secret"
QUESTION = Question("q", "What is 1+1?", "2", instruction="Reply with a number.", answer_prefix="It is ")
CALL = Call("Answer.", "What is 1+1?", 8, 0.0, 1.0, 7)

Answer = tuple[int, Any, dict[str, str]]  # status, body (text as it is, else JSON), headers
Script = Callable[[dict[str, Any], int], Answer]  # (what was asked, how often anything was asked before) → the answer


def completion(text: str | None, finish: str = "stop", **usage: Any) -> Answer:
    used = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14} | usage
    message = {"role": "assistant", "content": text}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "usage": used}
    return 200, body | {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}, {}


class Fake:
    """An endpoint that answers by a script and remembers what it was asked."""

    def __init__(self, script: Script) -> None:
        self.script, self.asked, self.keys = script, list[dict[str, Any]](), list[str | None]()
        self.running = self.most = 0
        self.lock = threading.Lock()

    @property
    def texts(self) -> list[tuple[str, str]]:
        return [(a["messages"][0]["content"], a["messages"][1]["content"]) for a in self.asked]


@contextmanager
def faking(script: Script) -> Iterator[tuple[Fake, str]]:
    """The endpoint, and its name as a backbone."""
    fake = Fake(script)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with fake.lock:
                before = len(fake.asked)
                fake.asked.append(body)
                fake.keys.append(self.headers.get("Authorization"))
                fake.running += 1
                fake.most = max(fake.most, fake.running)
            try:
                status, answer, headers = fake.script(body, before)
            finally:
                with fake.lock:
                    fake.running -= 1
            data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake, f"openai:http://127.0.0.1:{server.server_address[1]}/v1#org/model"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_words_of_a_call_are_those_of_a_local_chat_prompt() -> None:
    tokenizer = byte_tokenizer(CHATML)
    template = PromptTemplate(tokenizer, "chat", 4096)
    topology = Topology.parse("2-1@first")
    for node in topology.nodes:
        at = topology.position(node)
        said = [(f"Message from node {u}", f"I am {u}") for u in at.upstream]
        prompt = template.render(
            at, QUESTION, [Message(u, text) for u, (_, text) in zip(at.upstream, said, strict=True)], 8
        )
        read = tokenizer.decode(prompt.prefix_ids + prompt.own_ids)
        turns = [f"system\n{structure(at)}", f"user\n{words(at, QUESTION, said)}"]
        begun = QUESTION.answer_prefix if at.is_output else ""
        assert read == "".join(f"<|im_start|>{turn}<|im_end|>\n" for turn in turns) + "<|im_start|>assistant\n" + begun


def test_an_untrained_network_as_a_dialogue_is_the_network() -> None:
    backbone, limits, how = make_backbone(style="plain"), Limits(5, 5), Decoding(temperature=0.9)
    topology = Topology.parse("2-1+skip")
    network = Network.create(topology, backbone, limits=limits, decoding=how)
    for greedy in (True, False):
        (mine,) = Spoken(Chat(backbone, limits, how), topology).answer([QUESTION], greedy=greedy, seed=3)
        (theirs,) = network.answer([QUESTION], greedy=greedy, seed=3)
        assert mine.answer == theirs.answer and mine.sequential_calls == theirs.sequential_calls == 3
        assert [(c.node, c.text) for c in mine.calls] == [(c.node, c.text) for c in theirs.calls]


def test_messages_go_along_the_edges_and_tokens_are_the_endpoints_own() -> None:
    def script(asked: dict[str, Any], before: int) -> Answer:
        system = asked["messages"][0]["content"]
        return completion("two" if "final answer" in system else f"heard {system[12:15]}", completion_tokens=before + 1)

    with faking(script) as (fake, name):
        chat = EndpointChat(Endpoint(name), Limits(7, 9))
        (trace,) = untrained(chat, "2").answer([QUESTION])
    assert [c.node for c in trace.calls] == ["1.1", "1.2", "out"]
    system, user = fake.texts[2]
    assert system.startswith("You are node out") and user == (
        "What is 1+1?\nReply with a number.\nMessage from node 1.1: heard 1.1\nMessage from node 1.2: heard 1.2"
    )
    assert all("number" not in user for _, user in fake.texts[:2]), "the instruction is the answering node's alone"
    assert trace.answer == "two", "no prefix is put before what the model did not begin with it"
    assert (trace.prompt_tokens, trace.generated_tokens) == (33, 1 + 2 + 3)
    assert trace.sequential_tokens == 2 + 3 and trace.sequential_calls == 2
    assert [a["max_tokens"] for a in fake.asked] == [7, 7, 9]
    assert {a["model"] for a in fake.asked} == {"org/model"} and {a["temperature"] for a in fake.asked} == {0.0}


def test_each_sample_has_a_seed_of_its_own_and_the_same_one_again() -> None:
    with faking(lambda asked, before: completion("2")) as (fake, name):
        chat = EndpointChat(Endpoint(name), Limits(7, 9), Decoding(temperature=0.7, top_p=0.9))
        for _ in range(2):
            untrained(chat, "1").answer([QUESTION], greedy=False, seed=1, rollouts=2)
    seeds = [a["seed"] for a in fake.asked]
    assert len(set(seeds)) == 4 and sorted(seeds[:4]) == sorted(seeds[4:]) and max(seeds) < 2**31
    assert {(a["temperature"], a["top_p"]) for a in fake.asked} == {(0.7, 0.9)}


@pytest.mark.parametrize("name", [n for n, e in BASELINES.items() if not e.listed])
def test_every_baseline_that_only_writes_runs_on_an_endpoint(name: str) -> None:
    task = load_task("compositional", train_size=20, validation_size=10, test_size=10)
    with faking(lambda asked, before: completion("1: 2. The answer is 3")) as (fake, backbone):
        system = load_baseline(name, load_frozen(backbone), task, Limits(20, 20))
        traces = system.answer(task.questions("test")[:2])
    assert len(traces) == 2 and sum(len(t.calls) for t in traces) == len(fake.asked)
    assert all(t.generated_tokens == 3 * len(t.calls) for t in traces) and backbone in system.name


def test_calls_run_side_by_side_up_to_the_limit() -> None:
    gate = threading.Barrier(3)

    def script(asked: dict[str, Any], before: int) -> Answer:
        gate.wait(timeout=20)
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
        ((404, {"error": {"message": "no model"}}, {}), "'org/model'"),
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


@pytest.mark.parametrize("name", [f"openai:http://me:{SECRET}@host/v1#m", f"openai:http://host/v1?key={SECRET}#m"])
def test_a_key_in_a_name_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(BackboneError, match=KEY) as told:
        Endpoint(name)
    assert SECRET not in str(told.value)


def test_what_needs_weights_or_log_probabilities_says_so() -> None:
    name = "openai:http://127.0.0.1:1/v1#m"
    with pytest.raises(BackboneError, match="neither be trained nor score text"):
        Backbone.load(name)
    task = load_task("compositional", train_size=20, validation_size=10, test_size=10)
    with pytest.raises(ConfigError, match="log-probabilities"):
        load_baseline("logit", load_frozen(name), task, Limits())
    with pytest.raises(ConfigError, match="no device, dtype or style"):
        load_frozen(name, device="cpu")
    shared = {"backbone": {"name": name}, "tasks": [{"name": "compositional"}]}
    with pytest.raises(ConfigError, match=r"systems\.net is trained"):
        Spec.make({**shared, "systems": {"net": {"topology": "2"}}})
    with pytest.raises(ConfigError, match="log-probabilities"):
        Spec.make({**shared, "systems": {"logit": {}}})
    assert Spec.make({**shared, "systems": {"moa": {}}}).backbone.name == name
