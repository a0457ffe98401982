"""What a client sends is bounded, in size, in number and in time; nothing that it sends keeps the others waiting."""

import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from neuromas.serve import connections
from neuromas.serve.config import ServeConfig
from neuromas.serve.connections import BoundedServer, Connection, Repetitions
from neuromas.serve.guard import _is_loopback  # pyright: ignore[reportPrivateUsage]
from neuromas.serve.job import held_back
from neuromas.serve.server import listen, run
from served import make_app, running, serving_network

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running(make_app(serving_network(), body_bytes=MEGABYTE)) as address:
        yield address


def answered(address: str, body: bytes, path: str = "/v1/chat/completions", **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    connection.request("POST", path, body, {"Content-Type": "application/json"} | headers)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def chat(**more: Any) -> bytes:
    return json.dumps({"model": "net", "messages": [{"role": "user", "content": "1"}]} | more).encode()


def filled(part: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    """A chat request of about a megabyte."""
    start, end = b'{"model":"net","messages":[' + before, after + b"]}"
    return start + b",".join([part] * ((MEGABYTE - 100) // (len(part) + 1))) + end


BODIES: dict[str, Callable[[], bytes]] = {
    "messages that are none": lambda: filled(b"1"),
    "empty messages": lambda: filled(b"{}"),
    "parts that are none": lambda: filled(b"1", b'{"role":"user","content":[', b"]}"),
    "messages of parts that are none": lambda: filled(b'{"role":"user","content":[' + b"1," * 900 + b"1]}"),
    "unknown fields": lambda: chat(**{str(i): 1 for i in range(60_000)}),
    "metadata": lambda: chat(metadata={str(i): 1 for i in range(60_000)}),
    "a stop": lambda: chat(stop="a" * 1_000_000, stream=True),
    "many stops": lambda: chat(stop=["a"] * 200_000),
    "a user": lambda: chat(user="a" * 1_000_000),
    "a model": lambda: chat(model="a" * 1_000_000),
    "a seed": lambda: chat(seed=0).replace(b'"seed": 0', b'"seed": ' + b"9" * 1_000_000),
    "nesting": lambda: filled(b"1", b"[" * 400_000, b"]" * 400_000)[:MEGABYTE],
    "a question": lambda: chat(messages=[{"role": "user", "content": "a" * 1_000_000}]),
}


@pytest.mark.parametrize("what", BODIES)
def test_a_megabyte_of_anything_is_refused_at_once_and_shortly(address: str, what: str) -> None:
    start = time.perf_counter()
    status, told = answered(address, BODIES[what]())
    assert status == 400
    assert len(json.dumps(told)) < 400
    assert time.perf_counter() - start < 2  # 12 to 70 s before


def test_what_may_be_the_beginning_of_a_stop_is_held_back() -> None:
    for text, stops, kept in (
        ("abc", ["cd"], "ab"),
        ("abc", ["bcd", "c!"], "a"),
        ("abc", [], "abc"),
        ("aab", ["ab!"], "a"),
        ("abc", ["c"], "abc"),  # a whole one is cut elsewhere
        ("", ["x"], ""),
    ):
        assert held_back(text, stops) == kept, (text, stops)
    start = time.perf_counter()
    held_back("a" * 1_000_000, ["a" * 255 + "b"] * 4)
    assert time.perf_counter() - start < 0.1


@pytest.mark.parametrize(
    "host, ours",
    [
        *[(host, True) for host in ("localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]", "[::1]:80")],
        *[(host, False) for host in ("[::1].evil", "[::1]:80.evil", "localhost.evil", "localhost:80.evil", "::1", "")],
        *[(host, False) for host in ("evil:80", "[evil]", "127.0.0.1.evil:80", "localhost:80:80", "[::1", "[[::1]]")],
    ],
)
def test_only_names_of_this_machine_are_this_machine(host: str, ours: bool) -> None:
    assert _is_loopback(host) is ours


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/", "/metrics"])
def test_head_is_answered_like_get_without_the_body(address: str, path: str) -> None:
    found = []
    for method in ("GET", "HEAD"):
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
        connection.request(method, path)
        response = connection.getresponse()
        found.append((response.status, response.headers["content-type"], bool(response.read())))
    assert found == [(200, found[0][1], True), (200, found[0][1], False)]


@pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_web_pages_of_others_can_send_is_refused(address: str, kind: str) -> None:
    status, told = answered(address, chat(), **{"Content-Type": kind})
    assert (status, told["error"]["code"]) == (400, "invalid_content_type")
    assert answered(address, chat(), **{"Content-Type": "Application/JSON; charset=utf-8"})[0] == 200


# -- time --------------------------------------------------------------------------------------------------

HALVES = {
    "nothing": b"",
    "half a head": b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n",
    "half a body": b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 1000\r\n\r\n{",
    "half a chunk": b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
}


def open_to(address: str, sent: bytes) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)), timeout=20)
    client.sendall(sent)
    return client


def ended(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_client_that_does_not_go_on_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SECONDS", dict.fromkeys(connections.SECONDS, 0.5))
    with running(make_app(serving_network())) as address:
        clients = [open_to(address, sent) for sent in HALVES.values()]
        assert all(map(ended, clients))
        assert answered(address, chat())[0] == 200


def test_a_client_that_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.SECONDS, "answer", 0.5)
    app = make_app(serving_network())

    @app.get("/large")
    async def large() -> str:  # pyright: ignore[reportUnusedFunction]
        return "x" * (32 << 20)

    with running(app) as address:
        client = open_to(address, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(2.5)
        received = 0
        while part := _part(client):
            received += len(part)
        assert 0 < received < 32 << 20


def _part(client: socket.socket) -> bytes:
    try:
        return client.recv(1 << 20)
    except ConnectionResetError:
        return b""


def test_a_shutdown_cuts_what_was_not_read_whole() -> None:
    with running(make_app(serving_network())) as address:
        clients = [open_to(address, sent) for sent in HALVES.values()]
        assert answered(address, chat())[0] == 200
        start = time.monotonic()
    assert time.monotonic() - start < 5
    assert all(map(ended, clients))


def test_more_connections_than_there_may_be_push_out_those_that_ask_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(make_app(serving_network())) as address:
        monkeypatch.setattr(Connection, "most", 4)
        silent = [open_to(address, b"") for _ in range(12)]
        assert answered(address, chat())[0] == 200
        assert sum(map(ended, silent[:8])) == 8
        busy = [open_to(address, HALVES["half a body"]) for _ in range(4)]
        time.sleep(0.2)
        refused = open_to(address, b"")
        assert refused.recv(100).startswith(b"HTTP/1.1 503 ")
        for client in busy:
            client.close()


def test_connections_fit_into_the_files_that_may_be_open() -> None:
    script = "from neuromas.serve.connections import _fitting; print(_fitting(10), _fitting(512))"
    command = ["bash", "-c", 'ulimit -n 120; exec "$0" -c "$1"', sys.executable, script]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout == "10 24\n", done.stderr


# -- the log -----------------------------------------------------------------------------------------------


def test_lines_of_the_log_that_repeat_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    kept: list[str] = []
    repetitions = Repetitions()

    def log(text: str, *args: object) -> None:
        record = logging.LogRecord("x", logging.WARNING, "", 0, text, args, None)
        if repetitions.filter(record):
            kept.append(record.getMessage())

    for n in range(5):
        log("client %d left", n)
    log("other")
    now = 61.0
    log("client %d left", 9)
    now = 122.0
    log("client %d left", 10)
    assert kept == ["client 0 left", "other", "client 9 left (4 more such lines were left out)", "client 10 left"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_server_starts_ends_it(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Its address is printed before uvicorn listens to signals, and `kill %1` may follow at once."""
    config = ServeConfig(port=0)
    begin, late = BoundedServer.run, threading.Timer(20, signal.raise_signal, (signal.SIGTERM,))

    def told_before(server: BoundedServer, **options: Any) -> None:
        signal.raise_signal(number)
        begin(server, **options)

    monkeypatch.setattr(BoundedServer, "run", told_before)
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)}
    start = time.monotonic()
    late.start()
    try:
        run(make_app(serving_network()), listen(config), config)
    finally:
        late.cancel()
        for name, handler in before.items():
            signal.signal(name, handler)
    assert time.monotonic() - start < 15
