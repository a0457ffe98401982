"""An endpoint as a backbone: this project's own server, and the commands."""

import json
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from endpoints import completion, faking
from neuromas.baselines.direct import untrained
from neuromas.baselines.endpoint import EndpointChat
from neuromas.cli import main
from neuromas.network.endpoint import Call, Endpoint
from neuromas.network.forward import Limits
from neuromas.network.prompt import words
from neuromas.network.topology import Topology
from neuromas.network.wording import Words
from neuromas.types import Question
from served import PATTERN, make_app, running, serving_network

NETWORK = serving_network(max_position_embeddings=2048)
QUESTION = Question("q", "1+1?", "2", instruction="A number.", answer_prefix="It is ")


def test_an_untrained_network_runs_on_a_served_network_and_hears_what_that_one_says() -> None:
    topology = Topology.parse("2")
    with running(make_app(NETWORK)) as address:
        chat = EndpointChat(Endpoint(f"openai:{address}/v1#net"), Limits(6, 6))
        (trace,) = untrained(chat, "2").answer([QUESTION])
        first, again, other = (
            untrained(chat, "2").answer([QUESTION], greedy=False, seed=seed)[0] for seed in (1, 1, 2)
        )
    heard: dict[str, str] = {}
    for call in trace.calls:
        at = topology.position(call.node)
        wording = Words.of(None, "chat").at(at, 6)
        asked = words(at, QUESTION, [heard[u] for u in at.upstream], wording)
        (offline,) = NETWORK.answer([replace(PATTERN, text=f"{wording.ask}\n{asked}")])
        assert call.text == offline.answer
        assert (call.prompt_tokens, call.generated_tokens) == (offline.prompt_tokens, offline.generated_tokens)
        heard[call.node] = call.text
    assert trace.answer == heard["out"]
    said = [[c.text for c in t.calls] for t in (first, again, other)]
    assert said[0] == said[1] != said[2], "a seed is honoured by an endpoint that knows seeds"


def test_a_full_queue_is_waited_out() -> None:
    calls = [Call("Say it.", f"{n}+1?", 6, 0.0, 1.0, n) for n in range(12)]
    with running(make_app(NETWORK, queue=1, batch_rows=1)) as address:
        replies = Endpoint(f"openai:{address}/v1#net", at_once=12, retries=30).complete(calls)
        with urllib.request.urlopen(f"{address}/metrics") as page:
            lines = dict(line.rsplit(" ", 1) for line in page.read().decode().splitlines() if line[0] != "#")
    offline = NETWORK.answer([replace(PATTERN, text=f"{c.system}\n{c.user}") for c in calls])
    assert [r.text for r in replies] == [t.answer for t in offline]
    assert float(lines["neuromas_questions_refused_total"]) > 0, "nothing was refused; the test says nothing"


def test_the_commands_take_an_endpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    with faking(lambda asked, before: completion("so 3")) as (fake, name):
        how = ["--options", "topology=2-2", "--backbone", name]
        main(["eval", "untrained", "--task", "compositional", "--limit", "3", "--json", str(file), *how])
        figures = json.loads(file.read_text(encoding="utf-8"))
        assert len(fake.asked) == 3 * 5 == 3 * figures["calls"]
        main(["ask", "untrained", "1+1?", "--options", "topology=1", "--backbone", name])
        assert len(fake.asked) == 15 + 2
    assert (figures["parse_rate"], figures["generated_tokens"], figures["prompt_tokens"]) == (1.0, 15.0, 55.0)
    assert name in figures["system"] and figures["trainable_parameters"] == 0
    shown = capsys.readouterr().out
    assert "so 3" in shown and "3 tokens" in shown and "log-prob" not in shown


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["train", "--backbone"], "neither be trained"),
        (["eval", "logit", "--task", "compositional", "--backbone"], "log-probabilities"),
        (["ask", "moa", "1+1?", "--prompts", "--backbone"], "--prompts"),
        (["serve", "moa", "--port", "0", "--backbone"], "ask it with `neuromas ask`"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_done_on_an_endpoint_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([*command, "openai:http://127.0.0.1:1/v1#m"])
    assert ended.value.code == 2 and says in capsys.readouterr().err
