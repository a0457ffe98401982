"""Clients that load a server of this project, light enough to leave the machine to the server."""

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Probe:
    """A request and its right answer."""

    body: dict[str, Any]
    answers: list[str]  # of its choices


@dataclass
class Tally:
    """Counts of what clients received."""

    seconds: list[float] = field(default_factory=list[float])  # of each right answer
    wrong: list[tuple[Probe, list[str]]] = field(default_factory=list[tuple[Probe, list[str]]])
    refused: int = 0  # 429 with Retry-After
    unserved: int = 0  # the connection ended before an answer began, or 503
    broken: int = 0  # an answer began and did not end
    other: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])

    def to_dict(self) -> dict[str, Any]:
        """Counts, and the median and 99th percentile of the seconds."""
        ordered = sorted(self.seconds)
        quantile = lambda share: (
            round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 4) if ordered else None
        )
        return {
            "right": len(ordered), "wrong": len(self.wrong), "refused": self.refused, "broken": self.broken,
            "unserved": self.unserved, "other": len(self.other),
            "p50_seconds": quantile(0.5), "p99_seconds": quantile(0.99),
        }  # fmt: skip


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None

    async def ask(self, probe: Probe) -> tuple[int, dict[str, str], bytes]:
        """Status, headers, body. Raises ConnectionError, whose argument is True where the answer had begun."""
        if self.reader is None:
            self.reader, self.writer = await asyncio.open_connection(HOST, self.port)
        body = json.dumps(probe.body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        self.writer.write(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        begun = False
        try:
            status, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            begun = True
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
            data = await self._body(headers)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.reader = None
            raise ConnectionError(begun) from error
        if headers.get("connection") == "close":
            self.writer.close()
            self.reader = None
        return int(status.split()[1]), headers, data

    async def _body(self, headers: dict[str, str]) -> bytes:
        assert self.reader is not None
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        data = b""
        while size := int(await self.reader.readline(), 16):
            data += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readline()
        return data


def answers_of(data: bytes, stream: bool) -> list[str]:
    """Texts of the choices. Raises ValueError where a stream did not come to its end."""
    if not stream:
        return [choice["message"]["content"] for choice in json.loads(data)["choices"]]
    events = [line.removeprefix("data: ") for line in data.decode().split("\n\n") if line]
    if events[-1] != "[DONE]":
        raise ValueError(events[-1])
    texts: dict[int, str] = {}
    for event in map(json.loads, events[:-1]):
        for choice in event["choices"]:
            texts[choice["index"]] = texts.get(choice["index"], "") + (choice["delta"].get("content") or "")
    return [texts[i] for i in sorted(texts)]


async def load(port: int, probes: list[Probe], clients: int, seconds: float) -> Tally:
    """Let `clients` ask one probe after the other until the time is over or the server is gone."""
    tally, end = Tally(), time.perf_counter() + seconds

    async def one(number: int) -> None:
        client, turn = Client(port), number
        while time.perf_counter() < end:
            probe = probes[turn % len(probes)]
            turn += clients
            start = time.perf_counter()
            try:
                status, headers, data = await client.ask(probe)
            except ConnectionRefusedError:
                return
            except ConnectionError as error:
                tally.broken += error.args == (True,)
                tally.unserved += error.args != (True,)
                continue
            if status == 200:
                answers = answers_of(data, bool(probe.body.get("stream")))
                if answers == probe.answers:
                    tally.seconds.append(time.perf_counter() - start)
                else:
                    tally.wrong.append((probe, answers))
            elif status == 429 and int(headers.get("retry-after", 0)) > 0:
                tally.refused += 1
                await asyncio.sleep(0.05)
            elif status == 503:
                tally.unserved += 1
            else:
                tally.other.append((status, data))

    await asyncio.gather(*(one(k) for k in range(clients)))
    return tally


@dataclass
class Server:
    """A server in a process of its own."""

    process: "subprocess.Popen[str]"
    port: int

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.split()[0] == name)

    def terminate(self) -> str:
        """Send SIGTERM; returns the last line that the server prints."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=120)[0].strip().splitlines()[-1]


@contextmanager
def serving(run: str, *options: str) -> Iterator[Server]:
    """A running `neuromas serve RUN`, killed at the end. Its first line names the port."""
    command = [sys.executable, "-c", "from neuromas.cli import main; main()", "serve", run, "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = int(line.split("/ (page)")[0].rsplit(":", 1)[1])
        while True:  # the socket listens already; the first answer comes when the app has started
            with urllib.request.urlopen(f"http://{HOST}:{port}/healthz", timeout=60):
                break
        yield Server(process, port)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
