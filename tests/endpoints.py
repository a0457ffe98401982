"""A fake OpenAI-compatible endpoint that answers by a script."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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
