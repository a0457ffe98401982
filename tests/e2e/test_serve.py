"""`neuromas serve` and `neuromas watch` as processes: from a run folder to answers, and to an end in order."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import openai
import pytest

from benchmarks.load import Server, serving
from helpers import run_config
from neuromas.cli import main
from neuromas.network.forward import Network
from neuromas.run.build import load_run
from neuromas.run.loop import train

ASKED = "(a(1+1)+b(1*0))"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run on the embedded backbone."""
    out = tmp_path_factory.mktemp("runs") / "first"
    train(run_config(topology="2", train__steps=2, sampling__message_tokens=12, sampling__answer_tokens=12), out)
    return out


@pytest.fixture
def server(run: Path) -> Iterator[Server]:
    """One that answers one question after the other, so that questions wait."""
    with serving(str(run), "--threads", "1", "--batch-rows", "1") as found:
        yield found


def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0, timeout=60)


def offline(run: Path, n: int = 1, seed: int = 0, greedy: bool = True) -> list[str]:
    """What `neuromas ask` says."""
    network, task, _ = load_run(run)
    assert isinstance(network, Network)
    question = replace(task.questions("test")[0], id="asked", text=ASKED, answer="", metadata={})
    return [trace.answer for trace in network.answer([question], greedy=greedy, seed=seed, rollouts=n)]


def test_a_run_is_served_streamed_and_ended_with_every_accepted_question_answered(run: Path, server: Server) -> None:
    ask = {"model": "first", "messages": [{"role": "user", "content": ASKED}]}
    whole = client(server).chat.completions.create(**ask)
    stream = client(server).chat.completions.create(**ask, stream=True)
    pieces = "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)
    assert [whole.choices[0].message.content] == [pieces] == offline(run)

    found: list[list[str | None]] = []

    def sampled() -> None:
        answer = client(server).chat.completions.create(**ask, n=16, seed=5)
        found.append([choice.message.content for choice in answer.choices])

    threads = [threading.Thread(target=sampled) for _ in range(10)]
    for thread in threads:
        thread.start()
    while server.metric("neuromas_questions_accepted_total") < 12:
        time.sleep(0.01)
    assert server.metric("neuromas_questions_answered_total") < 12, "nothing waits any more; the test says nothing"
    farewell = server.terminate()
    for thread in threads:
        thread.join()
    assert found == [offline(run, 16, 5, greedy=False)] * 10
    assert farewell == "questions: 12 accepted, 12 answered, 0 dropped"
    assert server.process.returncode == 0


def command(*args: str) -> list[str]:
    return [sys.executable, "-c", "from neuromas.cli import main; main()", *args]


@pytest.mark.slow
def test_a_run_is_watched_without_a_model(run: Path) -> None:
    with subprocess.Popen(
        command("watch", str(run), "--port", "0", "--no-browser"), stdout=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        assert process.stdout is not None
        address = process.stdout.readline().split("first: ")[1].split("/ (page)")[0]
        with urllib.request.urlopen(f"{address}/run", timeout=60) as answer:
            told = json.load(answer)
        assert (told["name"], told["model"], told["step"], told["finished"]) == ("first", None, 2, True)
        with urllib.request.urlopen(f"{address}/openapi.json", timeout=60) as answer:
            assert set(json.load(answer)["paths"]) == {"/run", "/run/metrics", "/run/samples"}
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    "args, words",
    [
        (("serve", "RUN", "--host", "0.0.0.0"), "NEUROMAS_API_KEY"),
        (("watch", "RUN", "--host", "0.0.0.0"), "NEUROMAS_API_KEY"),
        (("serve", "RUN", "--api-key", "two words"), "blanks"),
        (("serve", "logit"), "writes nothing"),
        (("serve", "nowhere"), "neither a run folder nor a baseline"),
        (("watch", "nowhere"), "not a run folder"),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_remedy(
    run: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], words: str
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*(str(run) if arg == "RUN" else arg for arg in args), "--port", "0"])
    assert end.value.code == 2 and words in capsys.readouterr().err


def test_a_port_in_use_is_refused_with_a_remedy(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit) as end:
        main(["serve", str(run), "--port", str(taken.getsockname()[1])])
    assert end.value.code == 2 and "choose another --port" in capsys.readouterr().err
