"""A server of a small random network in a thread of the tests' own process."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI

from helpers import make_backbone, make_network
from neuromas.network.forward import Network
from neuromas.serve.app import create_app
from neuromas.serve.config import ListenConfig, ServeConfig
from neuromas.serve.connections import BoundedServer
from neuromas.serve.record import Record
from neuromas.serve.responder import responder_of
from neuromas.serve.server import listen
from neuromas.types import Question

# A result of final.json and a row of summary.json, as JSON.
RESULT = {
    "task": "t", "task_version": 1, "split": "test", "decoding": "greedy", "system": "net", "n": 9, "seeds": 2,
    "accuracy": 0.75, "ci95": [0.4, 0.9], "parse_rate": 1.0, "calls": 4.005208333, "sequential_calls": 2.0,
    "generated_tokens": 20.0, "prompt_tokens": 40.0, "trainable_parameters": 9,
    "floors": {"chance": 0.1, "majority": 0.2, "best_constant": 0.3, "constant_answer": "3"},
}  # fmt: skip
ROW = RESULT | {
    "comparison": "All", "backbone": "tiny", "about": "", "control_for": [], "reference": False, "samples": 0,
    "matched_samples": True, "learning_rate": None, "validation_by_rate": {}, "notes": [], "versus_reference": None,
}  # fmt: skip
PATTERN = Question("asked", "", "", instruction="Say it.", answer_prefix="So: ")


def serving_network(tokens: int = 6, **changes: Any) -> Network:
    return make_network("2-1", make_backbone(style="plain", **changes), tokens=tokens)


def make_app(network: Network, *, record: Record | None = None, **settings: Any) -> FastAPI:
    config = ServeConfig(**{"batch_rows": 64, "seconds": 60.0, "body_bytes": 20_000} | settings)
    return create_app(responder_of(network, network.backbone, PATTERN), "net", 7, record, config)


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """The address of the app, which is shut down in order at the end."""
    bound = listen(ListenConfig(port=0))
    server = BoundedServer(app, connections=64, seconds=60.0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
