"""What `serve` and `watch` share: checks of the address, and how a system is asked."""

import importlib.util
import socket
import threading
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from neuromas.errors import ConfigError
from neuromas.types import Question

if TYPE_CHECKING:
    from neuromas.cli.systems import Loaded
    from neuromas.serve.engine import Engine
    from neuromas.serve.record import Record

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_EXAMPLES = 8  # questions that the page offers


def need_server() -> None:
    """Raises ConfigError where the extra is not installed."""
    missing = [m for m in ("fastapi", "uvicorn", "prometheus_client") if importlib.util.find_spec(m) is None]
    if missing:
        raise ConfigError(f"serving needs {', '.join(missing)}; install with: pip install -e '.[serve]'")


def check_address(host: str, key: str | None) -> None:
    """Raises ConfigError where others could ask without a key."""
    if key is None and host not in LOOPBACK:
        raise ConfigError(
            f"host {host!r} can be reached from other machines; set NEUROMAS_API_KEY, or listen on 127.0.0.1"
        )
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError(
            "the key holds blanks or characters beyond ASCII, which a header cannot carry; choose another"
        )


def engine_of(loaded: "Loaded", system: str, recipe: Path | None) -> "Engine":
    """The system as the server asks it: as `neuromas ask` does."""
    from neuromas.baselines import BASELINES
    from neuromas.network.backbone import Backbone
    from neuromas.serve.engine import Engine

    if system == "logit":
        raise ConfigError("logit scores a task's options and writes nothing; serve `direct` or a run folder")
    if not isinstance(loaded.backbone, Backbone):
        raise ConfigError(
            f"the backbone of {loaded.system.name} is an endpoint, whose context window and tokens a server here does "
            "not know; ask it with `neuromas ask`, or ask the endpoint itself"
        )
    pattern = Question("asked", "", "")
    if system not in BASELINES or recipe is not None:
        pattern = replace(loaded.task.questions("test")[0], id="asked", text="", answer="", metadata={})
    return Engine(loaded.system, loaded.backbone, pattern)


def record_of(loaded: "Loaded", system: str, model: str, engine: "Engine", weights: Path | None) -> "Record":
    """What the page tells of the system. weights: the checkpoint that answers; None: of a baseline."""
    from neuromas.run.checkpoint import step_of
    from neuromas.serve.record import Record

    folder = None if weights is None else Path(system)
    examples = [question.text for question in loaded.task.questions("test")[:_EXAMPLES]]
    topology = engine.network.topology if engine.network else None
    return Record(model, folder, model, topology, examples, None if weights is None else step_of(weights))


def show_address(bound: socket.socket, model: str, key: str | None) -> None:
    """Where the server is, once it can be reached."""
    print(
        f"{model}: {_url(bound)}/ (page), {_url(bound)}/v1 (OpenAI's API); {_locked(key)}. Ctrl-C ends it.", flush=True
    )


def show_page(bound: socket.socket, run: str, key: str | None) -> str:
    """Where the page is, once it can be reached; its address."""
    print(f"{run}: {_url(bound)}/ (page); {_locked(key)}. Ctrl-C ends it.", flush=True)
    return _url(bound) + "/"


def open_page(page: str) -> None:
    """Show it in the person's browser, where there is one; late enough that the server answers."""
    threading.Timer(0.5, webbrowser.open, (page,)).start()


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _locked(key: str | None) -> str:
    return "a key is needed" if key else "no key is needed"
