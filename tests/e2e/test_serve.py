"""`neuromas serve` and `neuromas watch` as processes: from a run folder to answers, and to an end in order."""

import asyncio
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

from benchmarks.load import Probe, Server, load, serving
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


class Hostile:
    """Two clients that want to keep a server busy: one with a megabyte of `stop`, one with halves of bodies."""

    def __init__(self, port: int) -> None:
        self.port, self.over, self.sent = port, threading.Event(), [0, 0]
        self.threads = [threading.Thread(target=self._stops), threading.Thread(target=self._halves)]

    def __enter__(self) -> "Hostile":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _stops(self) -> None:
        body = {"model": "first", "messages": [{"role": "user", "content": ASKED}], "stop": "a" * 1_000_000}
        data = json.dumps(body | {"stream": True}).encode()
        while not self.over.is_set():
            self._send(data, len(data), 0)

    def _halves(self) -> None:
        held: list[socket.socket | None] = []
        while not self.over.is_set():
            held.append(self._send(b"{" * 10, 1000, 1))
            self.over.wait(0.05)

    def _send(self, body: bytes, length: int, which: int) -> socket.socket | None:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        try:
            client = socket.create_connection(("127.0.0.1", self.port), timeout=5)
            client.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + body)
            if which == 0:
                assert client.recv(12) in (b"HTTP/1.1 400", b"")
        except OSError:  # the server has ended
            return None
        self.sent[which] += 1
        return client


@pytest.mark.slow
def test_hostile_clients_keep_nobody_waiting_and_no_end_from_coming(run: Path) -> None:
    questions = [f"(a({n}+1)+b(1*0))" for n in range(1, 9)]
    network, task, _ = load_run(run)
    pattern = replace(task.questions("test")[0], id="asked", answer="", metadata={})
    probes = [
        Probe({"model": "first", "messages": [{"role": "user", "content": text}]}, [trace.answer])
        for text in questions
        for trace in network.answer([replace(pattern, text=text)])
    ]
    with serving(str(run), "--threads", "1") as server:
        asyncio.run(load(server.port, probes, 64, 4))
        alone = asyncio.run(load(server.port, probes, 64, 10))
        with Hostile(server.port) as hostile:
            beside = asyncio.run(load(server.port, probes, 64, 10))
            print(alone.to_dict(), beside.to_dict(), hostile.sent)
            told: list[str] = []
            start = time.monotonic()

            def end() -> None:
                time.sleep(2)
                told.append(server.terminate())

            ending = threading.Thread(target=end)
            ending.start()
            last = asyncio.run(load(server.port, probes, 64, 60))
            ending.join()
            seconds = time.monotonic() - start
            print(seconds, last.to_dict(), told)
        assert min(hostile.sent) > 20
    p50, p99 = (beside.to_dict()[name] / alone.to_dict()[name] for name in ("p50_seconds", "p99_seconds"))
    assert p50 < 2 and p99 < 3
    for tally in (alone, beside, last):
        assert tally.seconds and (tally.wrong, tally.broken, tally.other) == ([], 0, [])
    assert seconds < 20
    accepted, answered, dropped = (int(part.split()[0]) for part in told[0].removeprefix("questions: ").split(", "))
    assert (accepted, dropped) == (answered, 0)
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
        (("serve", "nowhere"), "neither a run folder, nor an export on the hub"),
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
